"""Playlist files among audio files: M3U, PLS and XSPF."""

import posixpath
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit
from xml.etree import ElementTree
from xml.parsers import expat

from talkplay_hf.errors import InputError, first_line

PLAYLIST_EXTENSIONS = (".m3u", ".m3u8", ".pls", ".xspf")
_PLS_FILE = re.compile(r"\s*file([0-9]{1,9})\s*=\s*(.+?)\s*", re.IGNORECASE)
_DRIVE = re.compile(r"[A-Za-z]:[\\/]")


@dataclass(frozen=True)
class PlaylistFile:
    """What a playlist file says.

    Args:
        name (`str`): The name it gives itself, else its file name without extension.
        entries (`tuple[str, ...]`): Its files in order, relative to the folder of audio files where
            they lie in it; others (URLs, files elsewhere) as they stand.
    """

    name: str
    entries: tuple[str, ...]


def read_playlist_file(folder: Path, path: str) -> PlaylistFile:
    """Read a playlist file.

    Args:
        folder (`Path`): The folder of audio files.
        path (`str`): The file, relative to it.

    Raises:
        InputError: If it cannot be read or is no such file; the message is the reason alone.
    """
    try:
        raw = (folder / path).read_bytes()
    except OSError as error:
        raise InputError(f"the file cannot be read ({error.strerror})") from None
    if path.lower().endswith(".xspf"):
        name, locations = _read_xspf(raw)
    else:
        try:
            text = raw.decode("utf-8-sig")
        except UnicodeDecodeError:
            text = raw.decode("cp1252", errors="replace")
        if "\x00" in text:
            raise InputError("the file is no text")
        name, locations = _read_pls(text) if path.lower().endswith(".pls") else _read_m3u(text)
    entries = tuple(_resolve(folder, path, one) for one in locations)
    return PlaylistFile(name or Path(path).stem, entries)


def _read_m3u(text: str) -> tuple[str, list[str]]:
    lines = [line.strip() for line in text.splitlines()]
    names = [line[len("#PLAYLIST:") :].strip() for line in lines if line.startswith("#PLAYLIST:")]
    return "".join(names[:1]), [line for line in lines if line and not line.startswith("#")]


def _read_pls(text: str) -> tuple[str, list[str]]:
    found = [match for line in text.splitlines() if (match := _PLS_FILE.fullmatch(line))]
    return "", [match[2] for match in sorted(found, key=lambda match: int(match[1]))]


def _read_xspf(raw: bytes) -> tuple[str, list[str]]:
    try:
        _refuse_entities(raw)
        root = ElementTree.fromstring(raw)
    except (ElementTree.ParseError, expat.ExpatError, LookupError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"the file is not XML ({first_line(error)})") from None
    title = root.findtext("{*}title") or ""
    tracks = root.findall("{*}trackList/{*}track")
    found: Sequence[str | None] = [track.findtext("{*}location") for track in tracks]
    locations = [one.strip() for one in found if one and one.strip()]
    return title.strip(), [one if "://" in one else unquote(one) for one in locations]


def _refuse_entities(raw: bytes) -> None:
    """Refuse a document type, in which entities can be that grow or name other files.

    The parser is asked, and not the bytes, since the file may be in another encoding than UTF-8.
    """

    def stop(*_: object) -> None:
        raise InputError("the file declares XML entities, which no XSPF needs")

    parser = expat.ParserCreate()
    parser.StartDoctypeDeclHandler = stop
    parser.Parse(raw, True)


def _resolve(folder: Path, path: str, location: str) -> str:
    if location.lower().startswith("file:"):
        try:
            location = unquote(urlsplit(location).path)
        except ValueError:  # such as the half of an IPv6 address
            return location
    if "://" in location or _DRIVE.match(location):
        return location
    location = location.replace("\\", "/")
    if location.startswith("/"):
        for root in (folder.absolute(), folder.resolve()):  # the folder may be named by a link
            if location.startswith(f"{root.as_posix()}/"):
                return location[len(root.as_posix()) + 1 :]
        return location
    return posixpath.normpath(posixpath.join(posixpath.dirname(path), location))
