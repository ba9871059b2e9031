"""From a user's table to a catalog folder.

The table has one row per track, or one row per (track, playlist); a column with the playlist's id
or name tells which. Rows that cannot be taken go to `rejects.parquet` in the folder, with the
number of the row (the first row under the header is 1, blank lines do not count, so in a CSV
without line breaks inside cells row 1 stands on line 2), the reason and what the row held.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from talkplay_hf.catalog.cells import (
    LYRICS_LENGTH,
    MISSING,
    Cells,
    extra_columns,
    parse_columns,
)
from talkplay_hf.catalog.columns import (
    PLAYLIST_ALIASES,
    TRACK_ALIASES,
    Source,
    left_over,
    match_columns,
    normal,
    read_source,
    varies,
)
from talkplay_hf.catalog.import_audio import copy_clips, place_clip
from talkplay_hf.catalog.import_report import ImportReport
from talkplay_hf.catalog.schema import PLAYLIST_SCHEMA, TRACK_SCHEMA, Catalog
from talkplay_hf.catalog.splits import playlist_splits, with_splits
from talkplay_hf.errors import InputError
from talkplay_hf.hub import files

__all__ = ["ImportReport", "import_table"]

TEXT_LENGTH = 1_000
_LENGTHS = {"title": TEXT_LENGTH, "artist": TEXT_LENGTH, "album": TEXT_LENGTH}
_LENGTHS |= {"lyrics": LYRICS_LENGTH, "caption": LYRICS_LENGTH}
_CONTROL_LIKE = re.compile(r"<\|[^<>|\s]{1,64}\|>|<(?:start|end)_of_music>")
_PLAYLIST_FIELDS = {
    "name": "playlist_name",
    "description": "playlist_description",
    "created_at": "playlist_created_at",
}
_COUNTED = (
    "merged",
    "conflicts",
    "duplicate_pairs",
    "generated_ids",
    "cut",
    "unknown_playlist_tracks",
    "dropped_playlists",
    "missing_audio",
)
# Positions in another table: they mean nothing here and would leak held-out playlists.
_MEMBERSHIP = frozenset({"playlists", "playlistids"})


@dataclass
class _TrackEntry:
    """A track in the making: the number of its first row, its values, the rows that agree."""

    row: int
    values: dict[str, Any]
    rows: list[int]


@dataclass
class _PlaylistEntry:
    """A playlist in the making: its values, its tracks, its rows in either table."""

    values: dict[str, Any] = field(default_factory=dict)
    members: dict[str, tuple[bool, float, int]] = field(default_factory=dict)
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
            self.members[track_id] = (position is None, position or 0.0, len(self.members))
        return new

    @property
    def track_ids(self) -> list[str]:
        """The track ids in order."""
        return sorted(self.members, key=self.members.__getitem__)


def import_table(
    source: str | Path,
    out: str | Path,
    *,
    playlists: str | Path | None = None,
    columns: Mapping[str, str] | None = None,
    encoding: str | None = None,
) -> ImportReport:
    """Make a catalog folder from a CSV or Parquet table.

    Rows of the same track are joined: the first value of each column, all tags, the highest
    popularity. In a table without playlist columns a repeated `track_id` is rejected instead.
    Columns that stand for nothing in a catalog are kept under their own names; where such a name
    is one of the catalog's, `source_` goes before it. A column of lyrics named `lyrics_bow` is read
    as a bag of words: `love:2 you:1` becomes `love love you`; where the bag counts word numbers,
    `25:2,3:1`, the numbers stand for the words (`25 25 3`), enough for tf-idf but no text to show.
    A tenth of the playlists is held out for tests and a twentieth for validation, unless the table
    of playlists has a column `split` that says which, see `with_splits`. Audio files that the table
    names by a path, relative to its folder or absolute, are copied into the catalog folder; a path
    without a file becomes null and is counted, URLs stay.

    Args:
        source (`str` or `Path`): The table of tracks: `.csv`, `.tsv` (either with `.gz`) or
            `.parquet`.
        out (`str` or `Path`): The catalog folder to make.
        playlists (`str` or `Path`, *optional*): A table of playlists: one row each with a list of
            track ids, or one row per (playlist, track). Tracks that the first table lacks are left
            out and counted, and so are playlists of which no track is left.
        columns (`Mapping[str, str]`, *optional*): Standard column -> column of the table, where the
            guess is wrong. An empty string means that the table has no such column. The playlist
            columns belong to the table of playlists where there is one.
        encoding (`str`, *optional*): Encoding of a CSV; UTF-8 by default.

    Returns:
        `ImportReport`: The counts and the columns used.

    Raises:
        InputError: If a file cannot be used, or no row of it.
        ArtifactError: If `out` is a file, or a folder with something else in it.
    """
    given = {"source": source} if playlists is None else {"source": source, "playlists": playlists}
    for path in given.values():
        if Path(out).resolve() in Path(path).resolve().parents:
            raise InputError(f"{path}: lies in {out}, which would be replaced; name another folder")
    first = read_source(source, encoding)
    second = None if playlists is None else read_source(playlists, encoding)
    return _Import(first, second, columns or {}).write(
        out,
        {name: files.sha256_file(path) for name, path in given.items()},
        {"columns": dict(columns or {}), "encoding": encoding},
    )


class _Import:
    """One run: `first` is the table of tracks, `second` that of playlists."""

    def __init__(self, first: Source, second: Source | None, overrides: Mapping[str, str]) -> None:
        self.first, self.second = first, second
        self.cells = Cells()
        self.rejects = list(first.rejects)
        self.tracks: dict[str, _TrackEntry] = {}
        self.playlists: dict[str, _PlaylistEntry] = {}
        self.counts = dict.fromkeys(_COUNTED, 0)
        self.clips: dict[str, Path] = {}
        self.playlist_columns: dict[str, list[str]] = {}
        # What becomes of the columns that no standard column takes.
        self.of_tracks: list[str] = []
        self.of_playlists: list[str] = []
        self.dropped: list[str] = []
        self._match(overrides)

    def _match(self, overrides: Mapping[str, str]) -> None:
        known = {**TRACK_ALIASES, **PLAYLIST_ALIASES}
        for name in overrides:
            if name not in known:
                raise InputError(f"columns: {name!r} is no standard name; use {', '.join(known)}")
        if self.second is None and "track_ids" in overrides:
            raise InputError("columns: track_ids belongs to a table of playlists; give one")
        of_second = {} if self.second is None else PLAYLIST_ALIASES
        own = {name: wanted for name, wanted in overrides.items() if name not in of_second}
        self.columns = match_columns(self.first, TRACK_ALIASES, own)
        for name in ("title", "artist"):
            if name not in self.columns:
                raise InputError(
                    f"{self.first.path}: has no column for the {name}; say which it is with "
                    f"--column {name}=COLUMN; it has {', '.join(self.first.names)[:1000]}"
                )
        self.per_pair = "playlist_id" in self.columns or "playlist_name" in self.columns
        for name in left_over(self.first, self.columns):
            if normal(name) in _MEMBERSHIP:
                self.dropped.append(name)
            elif self.per_pair and normal(name).startswith("playlist"):
                self.of_playlists.append(name)
            else:
                self.of_tracks.append(name)
        if self.second is None:
            return
        theirs = {name: wanted for name, wanted in overrides.items() if name in of_second}
        self.playlist_columns = match_columns(self.second, PLAYLIST_ALIASES, theirs)
        found = self.playlist_columns
        names = ", ".join(self.second.names)[:1000]
        if "playlist_id" not in found and "playlist_name" not in found:
            raise InputError(f"{self.second.path}: has no column for playlist_id; it has {names}")
        if "track_ids" not in found and not self.per_pair:
            raise InputError(f"{self.second.path}: has no column for track_ids; it has {names}")

    def _read_tracks(self) -> None:
        source = self.first
        parsed = dict(parse_columns(source, self.columns, self.cells))
        tags = [
            [item for cell in row for item in self.cells.items(cell)]
            for row in zip(*map(source.values, self.columns.get("tags", [])), strict=True)
        ]
        parsed["tags"] = tags or [[] for _ in source.rows]
        standard = [name for name in TRACK_SCHEMA.names if name in parsed]
        for index, row in enumerate(source.rows):
            values = {name: parsed[name][index] for name in standard}
            reason = self._why_not(values)
            if reason is None:
                reason = self._add_track(index, row, values)
            if reason is not None:
                self.rejects.append(source.reject(index, reason))
            elif self.per_pair:
                about = {name: cells[index] for name, cells in parsed.items()}
                self._add_pair(index, values["track_id"], about)
        if not self.tracks:
            reasons = "; ".join(f"row {one.row}: {one.reason}" for one in self.rejects[:3])
            count = len(self.rejects)
            raise InputError(f"{source.path}: all {count} rows are rejected ({reasons})")

    def _why_not(self, values: Mapping[str, Any]) -> str | None:
        title, artist = values["title"], values["artist"]
        # A song may be called "None", but not when its artist is "None" too.
        gone = title in MISSING and artist in MISSING
        absent = [name for name in ("title", "artist") if gone or values[name] is None]
        if not absent:
            return None
        of = ", ".join(self.columns[name][0] for name in absent)
        return f"{' and '.join(absent)} missing (column {of})"

    def _add_track(self, index: int, row: int, values: dict[str, Any]) -> str | None:
        """Take a row, setting its `track_id` where it has none; return why not, if not."""
        generated = values.get("track_id") is None
        if generated:
            values["track_id"] = _make_id(values["title"], values["artist"])
        track_id = values["track_id"]
        entry = self.tracks.get(track_id)
        if entry is None:
            self.tracks[track_id] = _TrackEntry(row, values, [index])
            values["tags"] = _union((), values["tags"])
            self.counts["generated_ids"] += generated
            return None
        if not self.per_pair:
            what = "the same title and artist" if generated else f"track_id {track_id[:100]!r}"
            return f"{what} stands in row {entry.row} already"
        self.counts["merged"] += 1
        kept = entry.values
        if any(kept[name].casefold() != values[name].casefold() for name in ("title", "artist")):
            self.counts["conflicts"] += 1
            return None
        entry.rows.append(index)
        for name, value in values.items():
            if name == "tags":
                kept[name] = _union(kept[name], value)
            elif name == "popularity" and None not in (value, kept[name]):
                kept[name] = max(value, kept[name])
            elif kept[name] is None:
                kept[name] = value
        return None

    def _add_pair(self, index: int, track_id: str, about: Mapping[str, Any]) -> None:
        entry = self._playlist(about)
        if entry is not None:
            entry.rows.append(index)
            self.counts["duplicate_pairs"] += not entry.add(track_id, about.get("position"))

    def _playlist(self, about: Mapping[str, Any]) -> _PlaylistEntry | None:
        playlist_id = about.get("playlist_id") or about.get("playlist_name")
        if playlist_id is None:
            return None
        entry = self.playlists.setdefault(playlist_id, _PlaylistEntry())
        entry.describe(about)
        return entry

    def _read_playlists(self, source: Source) -> None:
        self.rejects += source.rejects
        parsed = dict(parse_columns(source, self.playlist_columns, self.cells))
        members = self.playlist_columns.get("track_ids")
        lists = source.values(members[0]) if members else None
        for index in range(len(source.rows)):
            about = {name: cells[index] for name, cells in parsed.items()}
            entry = self._playlist(about)
            if entry is None:
                self.rejects.append(source.reject(index, "playlist_id and name missing"))
                continue
            entry.second_rows.append(index)
            for track_id in self._members(lists[index]) if lists else ():
                if track_id not in self.tracks:
                    self.counts["unknown_playlist_tracks"] += 1
                elif not entry.add(track_id, about.get("position")):
                    self.counts["duplicate_pairs"] += 1

    def _members(self, cell: Any) -> list[str]:
        text = self.cells.text(cell)
        if text is None:
            return []
        if text in self.tracks:
            return [text]
        by_space = isinstance(cell, str) and not re.search(r"[\[;|,]", text)
        return text.split() if by_space else self.cells.items(cell)

    def _find_clips(self) -> None:
        for track_id, entry in self.tracks.items():
            cell = entry.values.get("audio")
            if cell is None or "://" in cell:
                continue
            placed = place_clip(cell, track_id, self.first.path.parent)
            entry.values["audio"] = None if placed is None else placed[0]
            if placed is None:
                self.counts["missing_audio"] += 1
            else:
                self.clips[placed[0]] = placed[1]

    def _track_table(self) -> pa.Table:
        entries = [entry.values for entry in self.tracks.values()]
        for values in entries:
            for name, length in _LENGTHS.items():
                if len(values.get(name) or "") > length:
                    values[name] = values[name][:length].rstrip()
                    self.counts["cut"] += 1
            self.counts["cut"] += sum(len(tag) > TEXT_LENGTH for tag in values["tags"])
            values["tags"] = [tag[:TEXT_LENGTH].rstrip() for tag in values["tags"]] or None
        table = pa.Table.from_pylist(entries, schema=TRACK_SCHEMA)
        rows = [entry.rows for entry in self.tracks.values()]
        taken = {*TRACK_SCHEMA.names, "year"}
        for name, column in extra_columns(self.first, self.of_tracks, rows, taken, self.cells):
            table = table.append_column(name, column)
        return table

    def _playlist_table(self) -> pa.Table:
        kept = {name: entry for name, entry in self.playlists.items() if entry.members}
        self.counts["dropped_playlists"] = len(self.playlists) - len(kept)
        rows = [
            {**entry.values, "playlist_id": playlist_id, "track_ids": entry.track_ids}
            for playlist_id, entry in kept.items()
        ]
        table = pa.Table.from_pylist(rows, schema=PLAYLIST_SCHEMA)
        taken = set(PLAYLIST_SCHEMA.names)
        groups = [entry.rows for entry in kept.values()]
        extras = [*extra_columns(self.first, self.of_playlists, groups, taken, self.cells)]
        if self.second is not None:
            groups = [entry.second_rows for entry in kept.values()]
            left = left_over(self.second, self.playlist_columns)
            # In a table of (playlist, track) rows, what varies is said about the tracks.
            varying = [name for name in left if varies(self.second, name, groups)]
            self.dropped += varying
            names = [name for name in left if name not in varying]
            extras += extra_columns(self.second, names, groups, taken, self.cells)
        for name, column in extras:
            if normal(name) == "split" and "split" not in table.column_names:
                name = "split"
            table = table.append_column(name, column)
        return table

    def write(
        self, out: str | Path, made_from: Mapping[str, str], options: Mapping[str, Any]
    ) -> ImportReport:
        """Do the import and write the folder."""
        self._read_tracks()
        if self.second is not None:
            self._read_playlists(self.second)
        self._find_clips()
        catalog = Catalog(self._track_table(), self._playlist_table())
        width = catalog.playlists.num_columns  # a split that is drawn stands behind all of theirs
        catalog = with_splits(catalog)
        sources = [self.first] if self.second is None else [self.first, self.second]
        report = ImportReport(
            sources=[source.path.name for source in sources],
            tracks=len(catalog),
            playlists=catalog.playlists.num_rows,
            rows=len(self.first.rows) + len(self.first.rejects),
            held_out=sum(split != "train" for split in playlist_splits(catalog).values()),
            rejects=len(self.rejects),
            control_like=sum(_is_control_like(entry.values) for entry in self.tracks.values()),
            control_characters=self.cells.control_characters,
            unreadable=self.cells.unreadable,
            columns=self.columns,
            playlist_columns=self.playlist_columns,
            extra=catalog.extra_columns,
            playlist_extra=catalog.playlists.column_names[len(PLAYLIST_SCHEMA) : width],
            dropped_columns=self.dropped,
            **self.counts,
        )
        with files.staged_folder(out, "catalog") as aside:
            catalog.write(aside)
            copy_clips(self.clips, aside)
            if self.rejects:
                rejects = sorted(self.rejects, key=lambda one: (one.source, one.row))
                table = pa.Table.from_pylist([asdict(one) for one in rejects])
                pq.write_table(table, aside / files.REJECTS, compression="zstd")
            facts = {"import": report.to_dict(), "options": dict(options)}
            catalog.write_manifest(aside, made_from, **facts)
        return report


def _make_id(title: str, artist: str) -> str:
    text = f"{title.casefold()}\x00{artist.casefold()}"
    return "t" + hashlib.sha256(text.encode()).hexdigest()[:20]


def _union(first: Sequence[str], more: Sequence[str]) -> list[str]:
    """Tags in order of first sight, each once whatever its case."""
    union: dict[str, str] = {}
    for tag in (*first, *more):
        union.setdefault(tag.casefold(), tag)
    return list(union.values())


def _is_control_like(values: Mapping[str, Any]) -> bool:
    texts = [values.get(name) or "" for name in _LENGTHS] + list(values["tags"] or ())
    return any(_CONTROL_LIKE.search(text) for text in texts)
