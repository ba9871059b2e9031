"""Reading the Million Playlist Dataset, one file at a time.

The dataset comes as files `mpd.slice.<first>-<last>.json` of a thousand playlists each; the
challenge set of RecSys 2018 as one `challenge_set.json` of the same kind.
"""

import json
import re
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa

from talkplay_hf.catalog.cells import Cells
from talkplay_hf.catalog.columns import Reject, record_text
from talkplay_hf.catalog.import_entries import TEXT_LENGTH
from talkplay_hf.catalog.titles import normalize_title
from talkplay_hf.errors import InputError, first_line

CHALLENGE_FILE = "challenge_set.json"
SLICE_PLAYLISTS = pa.schema(
    {
        "pid": pa.int64(),
        "place": pa.int32(),  # from 1, in the file
        "name": pa.string(),
        "description": pa.string(),
        "created_at": pa.string(),
        "rows": pa.list_(pa.int32()),  # of the slice's tracks
        "normalized_name": pa.string(),
        "num_followers": pa.int64(),
        "num_edits": pa.int64(),
        "collaborative": pa.bool_(),
        "num_holdouts": pa.int64(),
    }
)
SLICE_TRACKS = pa.schema(
    {
        "track_id": pa.string(),
        "title": pa.string(),
        "artist": pa.string(),
        "album": pa.string(),
        "duration_ms": pa.int64(),
        "artist_id": pa.string(),
        "album_id": pa.string(),
    }
)
COUNTED = (
    "rejected_playlists",
    "rejected_entries",
    "broken_files",
    "unknown_dates",
    "unreadable",
    "control_characters",
    "cut",
)

_SLICE_FILE = re.compile(r"mpd\.slice\.([0-9]+)-[0-9]+\.json")
_PLAYLISTS = re.compile(r'"playlists"\s*:\s*\[')
_BETWEEN = re.compile(r"[\s,]*")
_KINDS = {str: "text", bool: "a truth value", list: "a list", dict: "an object"}
# A date after this is no date of a playlist; milliseconds instead of seconds fall here too.
_LAST_TIME = int(datetime(2100, 1, 1, tzinfo=UTC).timestamp())
_INT64 = range(-(2**63), 2**63)


def find_files(source: str | Path) -> list[Path]:
    """The files of the dataset in a folder or in its folder `data`.

    Args:
        source (`str` or `Path`): The folder, or the path of a `challenge_set.json`.

    Returns:
        `list[Path]`: The slices in the order of their first playlists, then the challenge set;
        empty where there is neither.
    """
    source = Path(source)
    if source.is_file():
        return [source] if source.name == CHALLENGE_FILE else []
    folders = [source, source / "data"]
    slices = next(filter(None, map(_slices, folders)), [])
    challenge = [folder / CHALLENGE_FILE for folder in folders]
    return [*slices, *[path for path in challenge if path.is_file()][:1]]


def _slices(folder: Path) -> list[Path]:
    found = [(_SLICE_FILE.fullmatch(path.name), path) for path in folder.glob("mpd.slice.*.json")]
    return [path for _, _, path in sorted((int(m[1]), path.name, path) for m, path in found if m)]


def is_mpd(source: str | Path) -> bool:
    """Whether a path is a folder with slices or a challenge set, or a `challenge_set.json`."""
    return bool(find_files(source))


@dataclass(frozen=True)
class Slice:
    """What one file of the dataset holds.

    Args:
        playlists (`pyarrow.Table`): The playlists taken, columns of `SLICE_PLAYLISTS`.
        tracks (`pyarrow.Table`): Their distinct tracks in order of first appearance, columns of
            `SLICE_TRACKS`.
        rejects (`list[Reject]`): What was not taken. `row` is the place of the playlist in the
            file, from 1.
        counts (`dict[str, int]`): The counts named in `COUNTED`.
        sha256 (`str`): The SHA-256 of the file.
    """

    playlists: pa.Table
    tracks: pa.Table
    rejects: list[Reject]
    counts: dict[str, int]
    sha256: str


def read_slice(path: str | Path) -> Slice:
    """Read a slice or the challenge set.

    A playlist without a whole number as `pid`, or whose `tracks` are no list, is rejected, and so
    is one whose `pid` stands in the file before, or of which no track is left. An entry of a
    playlist needs a `track_uri`, a `track_name` and an `artist_name` that are text; else it alone
    is rejected. Anything else of a wrong type becomes null and is counted. Of a file that is
    broken off, the whole playlists before the break are taken.

    Raises:
        InputError: If the file cannot be read at all.
    """
    path = Path(path)
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    return _Reader(path, raw).read()


class _Reader:
    """One run over one file."""

    def __init__(self, path: Path, raw: bytes) -> None:
        self.raw = raw
        self.file = path.name
        self.is_challenge = path.name == CHALLENGE_FILE
        self.cells = Cells()
        self.rejects: list[Reject] = []
        self.counts = dict.fromkeys(COUNTED, 0)
        self.places: dict[int, int] = {}  # of the playlists by pid
        self.playlists: dict[str, list[Any]] = {name: [] for name in SLICE_PLAYLISTS.names}
        self.tracks: dict[str, list[Any]] = {name: [] for name in SLICE_TRACKS.names}
        self.track_rows: dict[str, int] = {}  # by URI as it stands and by id
        self.starts = array("i", [0])
        self.rows = array("i")

    def read(self) -> Slice:
        place = 0
        try:
            for place, playlist in enumerate(_iter_playlists(self.raw), 1):
                self._add_playlist(place, playlist)
        except _Broken as error:
            self.counts["broken_files"] += 1
            self._reject(place + 1, f"{error}; whole playlists before it: {place:,}", None)
        self.counts["control_characters"] = self.cells.control_characters
        rows = pa.ListArray.from_arrays(np.array(self.starts), np.array(self.rows))
        return Slice(
            pa.table({**self.playlists, "rows": rows}, schema=SLICE_PLAYLISTS),
            pa.table(self.tracks, schema=SLICE_TRACKS),
            self.rejects,
            self.counts,
            sha256(self.raw).hexdigest(),
        )

    def _reject(self, place: int, reason: str, record: Any) -> None:
        if not isinstance(record, dict):
            record = {} if record is None else {"value": record}
        # Lists and objects by their size: they may be long, or nested too deep to be written.
        short = {
            name: f"{_kind(value)} of {len(value)}" if isinstance(value, list | dict) else value
            for name, value in record.items()
        }
        self.rejects.append(Reject(self.file, place, reason, record_text(short)))

    def _add_playlist(self, place: int, playlist: Any) -> None:
        reason = _why_no_playlist(playlist) or self._why_again(playlist["pid"])
        if reason is None:
            self._add_entries(place, playlist["pid"], playlist["tracks"])
            # The challenge set has playlists of which only the name is given.
            if len(self.rows) == self.starts[-1] and not self.is_challenge:
                reason = f"playlist {playlist['pid']}: has no track that can be taken"
        if reason is not None:
            self.counts["rejected_playlists"] += 1
            self._reject(place, reason, playlist)
            return
        self.starts.append(len(self.rows))
        self.places[playlist["pid"]] = place
        name = self._text(playlist.get("name"))
        values = {
            "pid": playlist["pid"],
            "place": place,
            "name": name,
            "description": self._text(playlist.get("description")),
            "created_at": None if self.is_challenge else self._date(playlist.get("modified_at")),
            "normalized_name": None if name is None else normalize_title(name),
            "num_followers": self._number(playlist.get("num_followers")),
            "num_edits": self._number(playlist.get("num_edits")),
            "collaborative": self._truth(playlist.get("collaborative")),
            "num_holdouts": self._number(playlist.get("num_holdouts")),
        }
        for column, value in values.items():
            self.playlists[column].append(value)

    def _why_again(self, pid: int) -> str | None:
        first = self.places.get(pid)
        return None if first is None else f"playlist {pid}: the pid stands in row {first} already"

    def _add_entries(self, place: int, pid: int, entries: list[Any]) -> None:
        known, rows = self.track_rows, self.rows
        for position, entry in enumerate(entries):
            try:
                uri, title, artist = entry["track_uri"], entry["track_name"], entry["artist_name"]
                usable = type(uri) is type(title) is type(artist) is str
            except (KeyError, TypeError):
                usable = False
            row = known.get(uri) if usable else None
            if row is None and usable:
                row = self._add_track(uri, entry)
            if row is None:
                self.counts["rejected_entries"] += 1
                reason = f"playlist {pid}, position {position}: {_why_no_entry(entry)}"
                self._reject(place, reason, entry)
            else:
                rows.append(row)

    def _add_track(self, uri: str, entry: dict[str, Any]) -> int | None:
        """Take a track at its first appearance; return its row, or `None` without an id."""
        track_id = self.cells.text(uri.removeprefix("spotify:track:"), literal=True)
        if track_id is None:
            return None
        row = self.track_rows.get(track_id)
        if row is None:
            row = self.track_rows[track_id] = len(self.tracks["track_id"])
            values = {
                "track_id": track_id,
                "title": self._text(entry["track_name"]) or "",
                "artist": self._text(entry["artist_name"]) or "",
                "album": self._text(entry.get("album_name")),
                "duration_ms": self._number(entry.get("duration_ms")),
                "artist_id": self._uri(entry.get("artist_uri"), "spotify:artist:"),
                "album_id": self._uri(entry.get("album_uri"), "spotify:album:"),
            }
            for column, value in values.items():
                self.tracks[column].append(value)
        self.track_rows[uri] = row
        return row

    def _text(self, value: Any) -> str | None:
        if not isinstance(value, str):
            self.counts["unreadable"] += value is not None
            return None
        # Printable text has no control characters and no white space but spaces: most needs no
        # mending, and looking is ten times faster than doing it.
        if value.isprintable() and value and "  " not in value and value[0] != " " != value[-1]:
            text: str | None = value
        else:
            text = self.cells.text(value, literal=True)
        if text is not None and len(text) > TEXT_LENGTH:
            self.counts["cut"] += 1
            text = text[:TEXT_LENGTH].rstrip()
        return text

    def _uri(self, value: Any, prefix: str) -> str | None:
        text = self._text(value)
        return None if text is None else text.removeprefix(prefix) or None

    def _number(self, value: Any) -> int | None:
        if type(value) is int and value in _INT64:
            return value
        self.counts["unreadable"] += value is not None
        return None

    def _truth(self, value: Any) -> bool | None:
        if value is True or value == "true":
            return True
        if value is False or value == "false":
            return False
        self.counts["unreadable"] += value is not None
        return None

    def _date(self, value: Any) -> str | None:
        if type(value) is int and 0 < value < _LAST_TIME:
            return datetime.fromtimestamp(value, UTC).date().isoformat()
        self.counts["unknown_dates"] += 1
        return None


class _Broken(Exception):
    """A file cannot be read on: where and why."""


def _iter_playlists(raw: bytes) -> Iterator[Any]:
    try:
        document = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        yield from _salvage(raw, error)
        return
    playlists = document.get("playlists") if isinstance(document, dict) else None
    if not isinstance(playlists, list):
        raise _Broken("the file has no list of playlists")
    yield from playlists


def _salvage(raw: bytes, error: Exception) -> Iterator[Any]:
    """The playlists of a file that is not strictly JSON, one by one as far as they go.

    What is not UTF-8, and halves of surrogate pairs, become lone surrogates: the cells drop them.
    """
    text = raw.decode("utf-8", "surrogateescape")
    start = _PLAYLISTS.search(text)
    if start is None:
        raise _Broken(f"the file is not JSON ({first_line(error)})")
    decoder = json.JSONDecoder(strict=False)
    at = start.end()
    while True:
        at = _BETWEEN.match(text, at).end()  # type: ignore[union-attr]  # it matches anywhere
        if text.startswith("]", at):
            break
        try:
            playlist, at = decoder.raw_decode(text, at)
        except (ValueError, RecursionError) as broken:
            at, why = getattr(broken, "pos", at), getattr(broken, "msg", str(broken))
            raise _Broken(f"the file is broken at byte {_byte(text, at)} ({why})") from None
        yield playlist
    if not text.endswith("}", at, len(text.rstrip())):
        raise _Broken(f"the file ends early, at byte {len(raw)}")


def _byte(text: str, at: int) -> int:
    return len(text[:at].encode("utf-8", "surrogateescape"))


def _why_no_playlist(playlist: Any) -> str | None:
    if not isinstance(playlist, dict):
        return f"the playlist is {_kind(playlist)}, not an object"
    pid = playlist.get("pid")
    if type(pid) is not int or pid not in _INT64:
        return _not("pid", pid, "a whole number")
    tracks = playlist.get("tracks")
    if not isinstance(tracks, list):
        return f"playlist {pid}: {_not('tracks', tracks, 'a list')}"
    return None


def _why_no_entry(entry: Any) -> str:
    if not isinstance(entry, dict):
        return f"the track is {_kind(entry)}, not an object"
    for name in ("track_uri", "track_name", "artist_name"):
        if not isinstance(entry.get(name), str):
            return _not(name, entry.get(name), "text")
    return "track_uri is empty"


def _not(name: str, value: Any, wanted: str) -> str:
    return f"{name} is missing" if value is None else f"{name} is {_kind(value)}, not {wanted}"


def _kind(value: Any) -> str:
    return "null" if value is None else _KINDS.get(type(value), "a number")
