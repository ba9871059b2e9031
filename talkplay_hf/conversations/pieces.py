"""Pieces of playlists: what one conversation is about, with its negative set (paper 3.2, A.1)."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Piece:
    """What one conversation is about.

    Args:
        piece_id (`str`): Its id, which the conversation takes over.
        track_ids (`tuple[str, ...]`): The tracks to recommend, each once.
        negative_ids (`tuple[str, ...]`): Similar tracks that the user does not want (paper A.1).
        playlist_id (`str`, *optional*): The playlist that it was cut from.
        split (`str`): The split of that playlist.
        intents (`tuple[str, ...]`): What the user should say and do in it, by the names of the
            intent taxonomy.
    """

    piece_id: str
    track_ids: tuple[str, ...]
    negative_ids: tuple[str, ...] = ()
    playlist_id: str | None = None
    split: str = "train"
    intents: tuple[str, ...] = ()
