"""Titles of playlists in the form in which the Million Playlist Dataset compares them."""

import re

_MARKS = re.compile(r"[.,/#!$%^*;:{}=_`~()@]")


def normalize_title(title: str) -> str:
    """Normalise the title of a playlist as the Million Playlist Dataset does.

    Lower case; each of ``. , / # ! $ % ^ * ; : { } = _ ` ~ ( ) @`` becomes a space; white space
    becomes one space, with none at the ends. A title of such marks alone becomes `""`.

    Args:
        title (`str`): The title as its owner wrote it.
    """
    return " ".join(_MARKS.sub(" ", title.lower()).split())
