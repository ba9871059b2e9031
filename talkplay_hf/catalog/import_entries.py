"""What every import shares: tracks and playlists in the making, and limits on their text."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from talkplay_hf.catalog.cells import LYRICS_LENGTH
from talkplay_hf.catalog.columns import Reject
from talkplay_hf.errors import InputError
from talkplay_hf.hub import files

TEXT_LENGTH = 1_000
TEXT_LENGTHS = {"title": TEXT_LENGTH, "artist": TEXT_LENGTH, "album": TEXT_LENGTH}
TEXT_LENGTHS |= {"lyrics": LYRICS_LENGTH, "caption": LYRICS_LENGTH}
# Positions in another table: they mean nothing here and would leak held-out playlists.
MEMBERSHIP_COLUMNS = frozenset({"playlists", "playlistids"})
_CONTROL_LIKE = re.compile(r"<\|[^<>|\s]{1,64}\|>|<(?:start|end)_of_music>")
_PLAYLIST_FIELDS = {
    "name": "playlist_name",
    "description": "playlist_description",
    "created_at": "playlist_created_at",
}


@dataclass
class TrackEntry:
    """A track in the making: the number of its first row, its values, the rows that agree."""

    row: int
    values: dict[str, Any]
    rows: list[int]


@dataclass
class PlaylistEntry:
    """A playlist in the making: its values, its tracks, its rows in either table."""

    values: dict[str, Any] = field(default_factory=dict)
    members: dict[str, float | None] = field(default_factory=dict)
    rows: list[int] = field(default_factory=list)
    second_rows: list[int] = field(default_factory=list)

    def describe(self, about: Mapping[str, Any]) -> None:
        """Add what a row says about the playlist; what was said first stays."""
        for name, standard in _PLAYLIST_FIELDS.items():
            if self.values.get(name) is None:
                self.values[name] = about.get(standard)

    def add(self, track_id: str, position: float | None) -> bool:
        """Add a track at a position, or else after those that have one, unless it is there."""
        new = track_id not in self.members
        if new:
            self.members[track_id] = position
        return new

    @property
    def track_ids(self) -> list[str]:
        """The track ids in order; of equal positions the one that was added first."""

        def place(track_id: str) -> tuple[bool, float]:
            position = self.members[track_id]
            return position is None, position or 0.0

        return sorted(self.members, key=place)


def check_on_error(on_error: str) -> None:
    """Raise an `InputError` unless it is `"skip"` or `"stop"`."""
    if on_error not in ("skip", "stop"):
        raise InputError(f"on_error: {on_error!r} is neither skip nor stop")


def make_id(title: str, artist: str) -> str:
    """The id of a track that has none of its own."""
    text = f"{title.casefold()}\x00{artist.casefold()}"
    return "t" + hashlib.sha256(text.encode()).hexdigest()[:20]


def union(first: Sequence[str], more: Sequence[str]) -> list[str]:
    """Tags in order of first sight, each once whatever its case."""
    found: dict[str, str] = {}
    for tag in (*first, *more):
        found.setdefault(tag.casefold(), tag)
    return list(found.values())


def cut_texts(values: dict[str, Any]) -> int:
    """Cut the texts of a track to the longest allowed, in place; return how many were longer."""
    cut = 0
    for name, length in TEXT_LENGTHS.items():
        if len(values.get(name) or "") > length:
            values[name] = values[name][:length].rstrip()
            cut += 1
    tags = values.get("tags") or ()
    cut += sum(len(tag) > TEXT_LENGTH for tag in tags)
    values["tags"] = [tag[:TEXT_LENGTH].rstrip() for tag in tags] or None
    return cut


def is_control_like(values: Mapping[str, Any]) -> bool:
    """Whether a track has text that looks like a control token."""
    texts = [values.get(name) or "" for name in TEXT_LENGTHS] + list(values.get("tags") or ())
    return any(_CONTROL_LIKE.search(text) for text in texts)


def write_rejects(folder: Path, rejects: Sequence[Reject]) -> None:
    """Add rows to `rejects.parquet` in a (staged) folder; without any, there is no such file."""
    if not rejects:
        return
    path = folder / files.REJECTS
    rows = sorted(rejects, key=lambda one: (one.source, one.row))
    table = pa.Table.from_pylist([asdict(one) for one in rows])
    if path.exists():
        table = pa.concat_tables([pq.read_table(path), table], promote_options="permissive")
        path.unlink()  # it may be a link to the file of another folder
    pq.write_table(table, path, compression="zstd")
