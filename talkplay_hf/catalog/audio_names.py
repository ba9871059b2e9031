"""What an audio file says it is: by its name and folders, and by the tags inside it."""

import importlib.util
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from talkplay_hf.errors import InputError, first_line

_DISC = re.compile(r"(?:cd|disc|disk)[\s_-]*\d{1,2}", re.IGNORECASE)
_NUMBER = re.compile(r"(?:\d{1,2}-)?(\d{1,3})(\s*[-.)_]\s*|\s+)(?=\S)")


@dataclass(frozen=True)
class AudioName:
    """What may be a file's title, artist and album; each but the title may be unknown."""

    title: str
    artist: str | None
    album: str | None = None


def folders(path: str) -> list[str]:
    """The folders that a relative path leads through, without those of discs (`CD 1`)."""
    return [part for part in path.split("/")[:-1] if not _DISC.fullmatch(part)]


def stem(path: str) -> str:
    """The file name without its extension; underscores are spaces where it has no spaces."""
    name = Path(path).stem
    return (name if " " in name else name.replace("_", " ")).strip() or name


def without_number(name: str) -> str:
    """A file name without the track number that it starts with."""
    found = _NUMBER.match(name)
    return name[found.end() :] if found else name


def starts_with_number(name: str) -> bool:
    """Whether a file name starts with what can be a track number."""
    return _NUMBER.match(name) is not None


def possible_names(path: str) -> Iterator[AudioName]:
    """All that the path of a file can mean, likeliest first.

    `Artist - Title`, `Artist - Album - NN - Title`, and `NN Title` or `NN - Title` in a folder
    `Artist/Album`, `Artist` or `Artist - Album`, with or without the number.

    Args:
        path (`str`): Path relative to the folder of audio files.
    """
    around = folders(path)
    album = around[-1] if around else None
    makers = around[:-3:-1]  # the nearest two
    makers.sort(key=lambda name: name == album)  # Artist/Album before Artist
    if album and " - " in album:
        makers.insert(0, album.split(" - ")[0].strip())
    whole = stem(path)
    for name in dict.fromkeys((whole, without_number(whole))):
        first, mark, rest = name.partition(" - ")
        last = rest.rpartition(" - ")[2]
        if mark:
            yield AudioName(rest.strip(), first.strip(), album)
            if last != rest:
                yield AudioName(without_number(last).strip(), first.strip(), album)
        for maker in makers:
            yield AudioName(name, maker, album)
            if mark:
                yield AudioName(last.strip(), maker, album)


def name_of(path: str, *, numbered: bool) -> AudioName:
    """What the path of a file most likely means, without a catalog to compare with.

    Args:
        path (`str`): Path relative to the folder of audio files.
        numbered (`bool`): Whether a number in front is the track's, as where all files of a folder
            start with one.
    """
    around = folders(path)
    album = around[-1] if around else None
    artist = around[-2] if len(around) > 1 else None
    if album and artist is None and " - " in album:
        artist, _, album = (part.strip() for part in album.partition(" - "))
    name = stem(path)
    if numbered or re.match(r"0\d|\d-\d\d", name):
        name = without_number(name)
    first, mark, rest = name.partition(" - ")
    if not mark:
        return AudioName(name, artist, album)
    if artist is not None and first.strip().casefold() != artist.casefold():
        return AudioName(name, artist, album)  # "Symphony No. 5 - Allegro" in Artist/Album
    title = rest.rpartition(" - ")[2] if re.search(r" - \d{1,3} - ", name) else rest
    return AudioName(title.strip() or name, first.strip() or artist, album)


def can_read_tags() -> bool:
    """Whether the package that reads tags is installed (extra `audio`)."""
    return importlib.util.find_spec("tinytag") is not None


def read_tags(path: Path) -> dict[str, Any]:
    """The tags inside an audio file and its duration.

    Returns:
        `dict[str, Any]`: `title`, `artist`, `album`, `release_date`, `lyrics`, `tempo`, `key`,
        `license`, `isrc`, `language` (`str`), `tags` (`list[str]`), `track`, `disc` (`int`) and
        `duration_s` (`float`, seconds), those that the file has.

    Raises:
        InputError: If the file cannot be read; the message is the reason alone.
    """
    from tinytag import TinyTag, TinyTagException

    try:
        tag = TinyTag.get(path)
    except (TinyTagException, OSError) as error:
        raise InputError(f"the file cannot be read as audio ({first_line(error)})") from None
    other = tag.other
    artists = [tag.artist, *other.get("artist", [])]
    found: dict[str, Any] = {
        "title": tag.title,
        "artist": ", ".join(filter(None, artists)) or tag.albumartist,
        "album": tag.album,
        "release_date": tag.year,
        "tags": [one for one in (tag.genre, *other.get("genre", [])) if one],
        "duration_s": tag.duration,
        "track": tag.track,
        "disc": tag.disc,
    }
    for name, theirs in _OTHER.items():
        found[name] = next(iter(other.get(theirs, [])), None)
    return {name: value for name, value in found.items() if value}


_OTHER = {
    "lyrics": "lyrics",
    "tempo": "bpm",
    "key": "initial_key",
    "license": "license",
    "isrc": "isrc",
    "language": "language",
}
