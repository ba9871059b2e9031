"""The chat page: ask for music in words, get a track with its player and a reply.

Runs as `talkplay serve MODEL`, or as a Hugging Face Space (`python app.py`); see
`talkplay_space/start.py` for where the model comes from.
"""

from talkplay_space.start import from_environment, launch

__all__ = ["launch"]

if __name__ == "__main__":
    from_environment()
