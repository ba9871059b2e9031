"""From a user's table to a catalog folder.

The table has one row per track, or one row per (track, playlist); a column with the playlist's id
or name tells which. Rows that cannot be taken go to `rejects.parquet` in the folder, with the
number of the row (the first row under the header is 1, blank lines do not count, so in a CSV
without line breaks inside cells row 1 stands on line 2), the reason and what the row held.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from talkplay_hf.catalog.cells import MISSING, Cells, extra_columns, parse_columns
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
from talkplay_hf.catalog.enrich import Enriched, check_sources, enrich, to_facts
from talkplay_hf.catalog.import_audio import bring_files, place_clip
from talkplay_hf.catalog.import_entries import (
    MEMBERSHIP_COLUMNS,
    PlaylistEntry,
    TrackEntry,
    cut_texts,
    is_control_like,
    make_id,
    union,
    write_rejects,
)
from talkplay_hf.catalog.import_report import ImportReport
from talkplay_hf.catalog.leakage import split_checked
from talkplay_hf.catalog.provenance import license_fact, with_provenance
from talkplay_hf.catalog.schema import PLAYLIST_SCHEMA, TRACK_SCHEMA, Catalog
from talkplay_hf.catalog.splits import SplitOptions
from talkplay_hf.errors import InputError
from talkplay_hf.hub import files

BLOCK = 10_000


def import_table(
    source: str | Path,
    out: str | Path,
    *,
    playlists: str | Path | None = None,
    columns: Mapping[str, str] | None = None,
    encoding: str | None = None,
    join: Sequence[str | Path] | str | Path = (),
    join_columns: Mapping[str, str] | None = None,
    audio_dir: str | Path | None = None,
    split: SplitOptions | None = None,
    license: str | None = None,
    on_error: str = "skip",
) -> ImportReport:
    """Make a catalog folder from a CSV or Parquet table.

    Rows of the same track are joined: the first value of each column, all tags, the highest
    popularity. In a table without playlist columns a repeated `track_id` is rejected instead.
    Columns that stand for nothing in a catalog are kept under their own names; where such a name
    is one of the catalog's, `source_` goes before it. The name of the file stands in the column
    `provenance` of tracks and playlists, unless the table has one of its own. A column of lyrics
    named `lyrics_bow` is read as a bag of words: `love:2 you:1` becomes `love love you`; where the
    bag counts word numbers, `25:2,3:1`, the numbers stand for the words (`25 25 3`), enough for
    tf-idf but no text to show.
    Playlists are held out for tests and validation, unless a column `split` of the table of
    playlists, or of (track, playlist) rows, says which, see `split_catalog`. Audio files that the
    table names by a path, relative to its folder or absolute, are copied into the catalog folder; a
    path without a file becomes null and is counted, URLs stay.

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
        join (`Sequence[str | Path]`): Tables of further columns of the tracks, see `join_table`.
        join_columns (`Mapping[str, str]`, *optional*): The same as `columns`, for those tables.
        audio_dir (`str` or `Path`, *optional*): A folder of audio files for the tracks that the
            first table names none of, see `find_audio`. They come by hard link, or are copied where
            that cannot be.
        split (`SplitOptions`, *optional*): How to split the playlists.
        license (`str`, *optional*): The licence of tracks of which no table says one.
        on_error (`str`): `"skip"` to reject bad rows and files and go on, `"stop"` to raise at the
            first.

    Returns:
        `ImportReport`: The counts and the columns used.

    Raises:
        InputError: If a file cannot be used, or no row of it, or as `on_error` says.
        ArtifactError: If `out` is a file, or a folder with something else in it.
        LeakageError: If a split of the user's own leaks, see `split_checked`.
    """
    given = {"source": source} if playlists is None else {"source": source, "playlists": playlists}
    check_sources(out, tables=list(given.values()), join=join, audio_dir=audio_dir)
    first = read_source(source, encoding)
    second = None if playlists is None else read_source(playlists, encoding)
    run = _Import(first, second, columns or {})
    split = split or SplitOptions()
    catalog = run.catalog(split, stop=on_error == "stop")
    enriched = enrich(
        catalog,
        join=join,
        audio_dir=audio_dir,
        columns=join_columns,
        encoding=encoding,
        license=license,
        on_error=on_error,
    )
    made_from = {name: files.sha256_file(path) for name, path in given.items()}
    options = {"columns": dict(columns or {}), "encoding": encoding, "split": asdict(split)}
    facts = {"options": options, **license_fact(license)}
    return run.write(out, catalog, enriched, made_from, facts)


class _Import:
    """One run: `first` is the table of tracks, `second` that of playlists."""

    def __init__(self, first: Source, second: Source | None, overrides: Mapping[str, str]) -> None:
        self.first, self.second = first, second
        self.cells = Cells()
        self.rejects = list(first.rejects)
        self.tracks: dict[str, TrackEntry] = {}
        self.playlists: dict[str, PlaylistEntry] = {}
        self.counts: Counter[str] = Counter()
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
            if normal(name) in MEMBERSHIP_COLUMNS:
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
            some = "; ".join(f"row {one.row}: {one.reason}" for one in self.rejects[:3])
            raise InputError(f"{source.path}: all {len(self.rejects)} rows are rejected ({some})")

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
            values["track_id"] = make_id(values["title"], values["artist"])
        track_id = values["track_id"]
        entry = self.tracks.get(track_id)
        if entry is None:
            self.tracks[track_id] = TrackEntry(row, values, [index])
            values["tags"] = union((), values["tags"])
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
                kept[name] = union(kept[name], value)
            elif name == "popularity" and None not in (value, kept[name]):
                kept[name] = max(value, kept[name])
            elif kept[name] is None:
                kept[name] = value
        return None

    def _add_pair(self, index: int, track_id: str, about: Mapping[str, Any]) -> None:
        entry = self._playlist(about)
        if entry is not None:
            entry.rows.append(index)
            kept = self.tracks[track_id].values["track_id"]  # one text for all its playlists
            self.counts["duplicate_pairs"] += not entry.add(kept, about.get("position"))

    def _playlist(self, about: Mapping[str, Any]) -> PlaylistEntry | None:
        playlist_id = about.get("playlist_id") or about.get("playlist_name")
        if playlist_id is None:
            return None
        entry = self.playlists.setdefault(playlist_id, PlaylistEntry())
        entry.describe(about)
        return entry

    def _read_playlists(self, source: Source) -> None:
        self.rejects += source.rejects
        parsed = dict(parse_columns(source, self.playlist_columns, self.cells))
        members = self.playlist_columns.get("track_ids")
        lists = _in_blocks(source, members[0]) if members else None
        for index in range(len(source.rows)):
            about = {name: cells[index] for name, cells in parsed.items()}
            entry = self._playlist(about)
            cell = next(lists) if lists else None
            if entry is None:
                self.rejects.append(source.reject(index, "playlist_id and name missing"))
                continue
            entry.second_rows.append(index)
            for track_id in self._members(cell):
                track = self.tracks.get(track_id)
                if track is None:
                    self.counts["unknown_playlist_tracks"] += 1
                # one text for all playlists that hold the track
                elif not entry.add(track.values["track_id"], about.get("position")):
                    self.counts["duplicate_pairs"] += 1

    def _members(self, cell: Any) -> list[str]:
        if isinstance(cell, list):
            return self.cells.items(cell)
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

    def _place_split(self) -> None:
        """Take a column `split` as the playlists', unless it varies within one."""
        groups = [entry.rows for entry in self.playlists.values() if entry.rows]
        for name in [name for name in self.of_tracks if normal(name) == "split"]:
            if groups and self.second is None and not varies(self.first, name, groups):
                self.of_tracks.remove(name)
                self.of_playlists.append(name)

    def _track_table(self) -> pa.Table:
        entries = [entry.values for entry in self.tracks.values()]
        self.counts["cut"] += sum(map(cut_texts, entries))
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

    def catalog(self, split: SplitOptions, *, stop: bool) -> Catalog:
        """Do the import, in memory.

        Raises:
            InputError: If no row can be taken, or one is rejected and `stop` is set.
        """
        self._read_tracks()
        if self.second is not None:
            self._read_playlists(self.second)
        if stop and self.rejects:
            first = min(self.rejects, key=lambda one: (one.source != self.first.path.name, one.row))
            raise InputError(f"{first.source}: row {first.row}: {first.reason}")
        self._find_clips()
        self._place_split()
        catalog = Catalog(self._track_table(), self._playlist_table())
        extra, of_playlists = len(catalog.extra_columns), catalog.playlists.num_columns
        # its own columns stand behind all of theirs
        catalog, self.split = split_checked(catalog, split)
        self.extra = catalog.extra_columns[:extra]
        self.playlist_extra = catalog.playlists.column_names[len(PLAYLIST_SCHEMA) : of_playlists]
        of_lists = self.first if self.second is None else self.second
        return Catalog(
            with_provenance(catalog.tracks, self.first.path.name),
            with_provenance(catalog.playlists, of_lists.path.name),
        )

    def write(
        self,
        out: str | Path,
        catalog: Catalog,
        enriched: Enriched,
        made_from: Mapping[str, str],
        told: Mapping[str, Any],
    ) -> ImportReport:
        """Write the folder, and report."""
        report = ImportReport(
            sources=[one.path.name for one in (self.first, self.second) if one is not None],
            tracks=len(catalog),
            playlists=catalog.playlists.num_rows,
            rows=len(self.first.rows) + len(self.first.rejects),
            held_out=catalog.playlists.num_rows - self.split.counts.get("train", 0),
            split=self.split,
            rejects=len(self.rejects),
            control_like=sum(is_control_like(entry.values) for entry in self.tracks.values()),
            control_characters=self.cells.control_characters,
            unreadable=self.cells.unreadable,
            columns=self.columns,
            playlist_columns=self.playlist_columns,
            extra=self.extra,
            playlist_extra=self.playlist_extra,
            dropped_columns=self.dropped,
            enriched=enriched.reports,
            **self.counts,
        )
        facts: dict[str, Any] = {"import": report.to_dict(), **told}
        del facts["import"]["enriched"]
        if enriched.reports:
            facts["enriched"] = to_facts(enriched)
        with files.staged_folder(out, "catalog") as aside:
            enriched.catalog.write(aside)
            bring_files(self.clips, aside)
            bring_files(enriched.clips, aside, link=True)
            write_rejects(aside, [*self.rejects, *enriched.rejects])
            enriched.catalog.write_manifest(aside, {**made_from, **enriched.made_from}, **facts)
        return report


def _in_blocks(source: Source, name: str) -> Iterator[Any]:
    """The values of a column of long lists, of which only some are Python objects at a time."""
    for start in range(0, len(source.rows), BLOCK):
        yield from replace(source, table=source.table.slice(start, BLOCK)).values(name)
