"""The chat page of talkplay_hf: ask for music in words, get a track with its player and a reply."""
