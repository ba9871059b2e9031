"""Further columns for the tracks of a catalog, out of other tables."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from talkplay_hf.catalog.cells import Cells, is_number, is_text, parse_columns
from talkplay_hf.catalog.columns import (
    PLAYLIST_ALIASES,
    TRACK_ALIASES,
    Source,
    left_over,
    match_columns,
    normal,
    read_source,
)
from talkplay_hf.catalog.import_entries import (
    MEMBERSHIP_COLUMNS,
    TEXT_LENGTH,
    TEXT_LENGTHS,
    union,
)
from talkplay_hf.catalog.join_report import JoinReport
from talkplay_hf.catalog.schema import TRACK_SCHEMA, Catalog, with_column
from talkplay_hf.catalog.track_match import TrackIndex
from talkplay_hf.errors import InputError

KEYS = ("track_id", "title", "artist")
BLOCK = 1 << 16  # rows that are Python objects at a time
UNMATCHED = 3


def join_table(
    catalog: Catalog,
    path: str | Path,
    *,
    columns: Mapping[str, str] | None = None,
    encoding: str | None = None,
    on_error: str = "skip",
) -> tuple[Catalog, JoinReport]:
    """Bring the columns of a table to the tracks of a catalog.

    A row belongs to the track with its track id (a prefix `spotify:track:` does not count); where
    there is none, to those with its title and artist, without case, accents and punctuation; where
    there are none either, to those with the same title but for guests and editions (`(feat. X)`,
    `- Remastered 2011`) and the same first artist. A row that fits several tracks goes to all.

    Values that the catalog has stay, and tags are united. Of several rows for a track the best
    match, then the first, gives each value; all of them give tags; the highest popularity counts.
    Columns that stand for nothing in a catalog come under their own names, `source_` before such as
    the catalog uses itself; where the catalog has the name with a type that does not fit, the new
    column is named `joined_<name>`. What the table says about playlists is left out.

    Args:
        catalog (`Catalog`): The catalog; it stays as it is.
        path (`str` or `Path`): The table: `.csv`, `.tsv` (either with `.gz`) or `.parquet`.
        columns (`Mapping[str, str]`, *optional*): Standard column -> column of the table, where the
            guess is wrong. An empty string means that the table has no such column.
        encoding (`str`, *optional*): Encoding of a CSV; UTF-8 by default.
        on_error (`str`): `"skip"` to count bad rows and cells and go on, `"stop"` to raise at the
            first.

    Returns:
        `tuple[Catalog, JoinReport]`: The grown catalog and what was done.

    Raises:
        InputError: If the table cannot be used, or has neither track ids nor titles and artists, or
            on a bad row with `on_error="stop"`.
    """
    source = read_source(path, encoding)
    return _Join(catalog, source, columns or {}, on_error == "stop").run()


class _Join:
    """One table on its way into a catalog."""

    def __init__(
        self, catalog: Catalog, source: Source, overrides: Mapping[str, str], stop: bool
    ) -> None:
        self.catalog, self.source, self.stop = catalog, source, stop
        self.tracks = catalog.tracks
        self.cells = Cells()
        self.rejects = list(source.rejects)
        self.filled: dict[str, int] = {}
        self.extra: dict[str, str] = {}
        self.cut = self.audio_paths = 0
        self.counts: dict[str, int] = {}
        # Which rows speak of which tracks, best first for each track; `_match` fills these.
        self.pair_rows = self.pair_tracks = np.empty(0, dtype=np.int64)
        for name in overrides:
            if name not in TRACK_ALIASES:
                known = ", ".join(TRACK_ALIASES)
                raise InputError(f"columns: {name!r} is no standard name; use {known}")
        self.columns = match_columns(source, TRACK_ALIASES, overrides)
        if "track_id" not in self.columns and not {"title", "artist"} <= set(self.columns):
            looked = "; ".join(f"{key}: {TRACK_ALIASES[key].replace(' ', ', ')}" for key in KEYS)
            raise InputError(
                f"{source.path}: has no column to find tracks by; looked for a track_id, or a "
                f"title and an artist ({looked}); it has {', '.join(source.names)[:1000]}"
            )

    def run(self) -> tuple[Catalog, JoinReport]:
        """Match the rows, fill the columns, report."""
        source = self.source
        wanted = {key: self.columns[key] for key in KEYS if key in self.columns}
        keys: dict[str, list[Any]] = dict.fromkeys(KEYS, [None] * len(source.rows))
        keys |= dict(parse_columns(source, wanted, self.cells))
        levels = self._match(keys)
        unmatched = [
            row
            for row in np.flatnonzero(levels == UNMATCHED).tolist()
            if not self._reject(row, keys)
        ]
        if self.stop and self.rejects:
            first = min(self.rejects, key=lambda one: one.row)
            raise InputError(f"{source.path}: row {first.row}: {first.reason}")
        used, self.pair_rows = np.unique(self.pair_rows, return_inverse=True)
        if len(used):
            self.source = replace(
                source, table=source.table.take(used), rows=np.asarray(source.rows)[used].tolist()
            )
            self._fill_standard()
            self._fill_extra()
        examples = [
            f"row {source.rows[row]}: "
            + " / ".join(str(keys[key][row])[:60] for key in KEYS if keys[key][row] is not None)
            for row in unmatched[:3]
        ]
        report = JoinReport(
            source=source.path.name,
            rows=len(source.rows) + len(source.rejects),
            **self.counts,
            unmatched=len(unmatched),
            unmatched_examples=examples,
            rejects=len(self.rejects),
            tracks=len(np.unique(self.pair_tracks)),
            filled=self.filled,
            columns=self.columns,
            extra=self.extra,
            dropped_columns=self._dropped(),
            cut=self.cut,
            control_characters=self.cells.control_characters,
            unreadable=self.cells.unreadable,
            audio_paths=self.audio_paths,
            rejected=self.rejects,
        )
        return self.catalog.with_tables(tracks=self.tracks), report

    def _match(self, keys: Mapping[str, list[Any]]) -> np.ndarray:
        """Pair rows with tracks, best match first for each track.

        Returns:
            `np.ndarray` of shape `[rows]`: How a row was matched: 0 by id, 1 by name, 2 by loose
            name, `UNMATCHED` not at all.
        """
        index = TrackIndex(self.tracks)
        ids, titles, artists = (pa.array(keys[key], pa.large_string()) for key in KEYS)
        found = np.full(len(ids), UNMATCHED)
        rows, tracks = [], []
        for level in range(UNMATCHED):
            left = np.flatnonzero(found == UNMATCHED)
            if level == 0:
                at, matched = index.by_id(ids)
            else:
                at, matched = index.by_name(titles.take(left), artists.take(left), loose=level == 2)
                at = left[at]
            found[at] = level
            rows.append(at)
            tracks.append(matched)
        self.pair_rows, self.pair_tracks = np.concatenate(rows), np.concatenate(tracks)
        order = np.lexsort((self.pair_rows, found[self.pair_rows], self.pair_tracks))
        self.pair_rows, self.pair_tracks = self.pair_rows[order], self.pair_tracks[order]
        names = ("by_id", "by_name", "by_loose_name")
        self.counts = {name: int((found == level).sum()) for level, name in enumerate(names)}
        return found

    def _reject(self, row: int, keys: Mapping[str, list[Any]]) -> bool:
        if keys["track_id"][row] is None and None in (keys["title"][row], keys["artist"][row]):
            reason = "has neither a track_id nor a title and an artist"
            self.rejects.append(self.source.reject(row, reason))
            return True
        return False

    def _dropped(self) -> list[str]:
        playlist = [name for name in self.columns if name in PLAYLIST_ALIASES and name not in KEYS]
        names = [self.columns[name][0] for name in playlist]
        for name in left_over(self.source, self.columns):
            about_playlists = bool(playlist) and normal(name).startswith("playlist")
            if about_playlists or normal(name) in MEMBERSHIP_COLUMNS:
                names.append(name)
        return names

    def _fill_standard(self) -> None:
        standard = {
            name: found
            for name, found in self.columns.items()
            if name in TRACK_SCHEMA.names and name not in KEYS
        }
        parsed: dict[str, list[pa.Array]] = {name: [] for name in standard}
        for start in range(0, len(self.source.rows), BLOCK):
            block = replace(
                self.source,
                table=self.source.table.slice(start, BLOCK),
                rows=self.source.rows[start : start + BLOCK],
            )
            for name, found in standard.items():
                parsed[name].append(self._parse(block, name, found))
        for name, arrays in parsed.items():
            column = pa.chunked_array(arrays)
            if name == "tags":
                self._unite_tags(column)
            elif name == "popularity":
                self._fill(name, *self._highest(column))
            else:
                self._fill(name, column, self._first(column))

    def _parse(self, block: Source, name: str, found: list[str]) -> pa.Array:
        cells, before = self.cells, self.cells.unreadable
        if name == "tags":
            rows = zip(*map(block.values, found), strict=True)
            lists = [union((), [tag for cell in row for tag in cells.items(cell)]) for row in rows]
            self.cut += sum(len(tag) > TEXT_LENGTH for tags in lists for tag in tags)
            lists = [[tag[:TEXT_LENGTH].rstrip() for tag in tags] for tags in lists]
            return pa.array(lists, pa.list_(pa.string()))
        ((_, values),) = parse_columns(block, {name: found}, cells)
        if self.stop and cells.unreadable > before:
            raw = block.values(found[0])
            bad = next(n for n, one in enumerate(values) if one is None and cells.text(raw[n]))
            raise InputError(
                f"{block.path}: row {block.rows[bad]}: {str(raw[bad])[:100]!r} in the column "
                f"{found[0]!r} cannot be read as {name}"
            )
        if name == "audio":
            self.audio_paths += sum(one is not None and "://" not in one for one in values)
            values = [one if one and "://" in one else None for one in values]
        longest = TEXT_LENGTHS.get(name)
        if longest is not None:
            self.cut += sum(one is not None and len(one) > longest for one in values)
            values = [one and one[:longest].rstrip() for one in values]
        kind = TRACK_SCHEMA.field(name).type
        return pa.array(values, pa.large_string() if kind == pa.string() else kind)

    def _first(self, column: pa.ChunkedArray) -> np.ndarray:
        """For each track the row of `column` with its value, or -1."""
        has = column.is_valid().to_numpy()[self.pair_rows]
        tracks, first = np.unique(self.pair_tracks[has], return_index=True)
        picks = np.full(self.tracks.num_rows, -1)
        picks[tracks] = self.pair_rows[has][first]
        return picks

    def _highest(self, column: pa.ChunkedArray) -> tuple[pa.ChunkedArray, np.ndarray]:
        """The highest value of each track, and where it stands."""
        values = column.to_numpy()[self.pair_rows]
        has = ~np.isnan(values)
        tracks, starts = np.unique(self.pair_tracks[has], return_index=True)
        picks = np.full(self.tracks.num_rows, -1)
        picks[tracks] = np.arange(len(tracks))
        highest = np.maximum.reduceat(values[has], starts) if len(starts) else values[:0]
        return pa.chunked_array([pa.array(highest, pa.float64())]), picks

    def _fill(self, name: str, column: pa.ChunkedArray, picks: np.ndarray) -> None:
        """Give tracks without a value in `name` the value at `picks`, -1 for none."""
        new = name not in self.tracks.column_names
        ours = _chunked(pa.nulls(len(picks), column.type)) if new else self.tracks[name]
        picks = np.where(ours.is_null().to_numpy(), picks, -1)
        count = int((picks >= 0).sum())
        if not count:
            return
        where = pa.array(picks, mask=picks < 0)
        chunks = [  # of a bounded size, so that no chunk of text grows beyond 2 GB
            column.take(where.slice(start, BLOCK)).cast(ours.type).combine_chunks()
            for start in range(0, len(where), BLOCK)
        ]
        theirs = pa.chunked_array(chunks)
        column = theirs if new else pc.coalesce(ours, theirs)
        self.tracks = with_column(self.tracks, name, column)
        self.filled[name] = count

    def _unite_tags(self, column: pa.ChunkedArray) -> None:
        some = pc.greater(pc.list_value_length(column), 0).to_numpy()[self.pair_rows]
        tracks, starts = np.unique(self.pair_tracks[some], return_index=True)
        if not len(tracks):
            return
        ours = self.tracks["tags"]
        united: list[list[str]] = []
        grown: list[int] = []
        ends = np.append(starts[1:], some.sum())
        rows = self.pair_rows[some]
        for start in range(0, len(tracks), BLOCK):
            block = slice(start, start + BLOCK)
            first = starts[block][0]
            theirs = column.take(rows[first : ends[block][-1]]).to_pylist()
            held = ours.take(tracks[block]).to_pylist()
            for n, tags in enumerate(held):
                more = theirs[starts[start + n] - first : ends[start + n] - first]
                both = union(tags or (), [tag for one in more for tag in one])
                if len(both) > len(tags or ()):
                    grown.append(start + n)
                    united.append(both)
        if not grown:
            return
        picks = np.arange(len(ours))
        picks[tracks[grown]] = len(ours) + np.arange(len(grown))
        pool = pa.chunked_array([*ours.chunks, pa.array(united, ours.type)])
        self.tracks = with_column(self.tracks, "tags", pool.take(pa.array(picks)))
        self.filled["tags"] = len(grown)

    def _fill_extra(self) -> None:
        dropped = set(self._dropped())
        for name in left_over(self.source, self.columns):
            if name in dropped:
                continue
            column = _chunked(self.cells.column(self.source, name))
            picks = self._first(column)
            if (picks < 0).all():
                continue
            ours = f"source_{name}" if name in (*TRACK_SCHEMA.names, "year") else name
            fitting = _fit(column, self.tracks, ours)
            while fitting is None:
                ours = f"joined_{ours}"
                fitting = _fit(column, self.tracks, ours)
            self._fill(ours, fitting, picks)
            self.extra[name] = ours


def _chunked(column: pa.Array | pa.ChunkedArray) -> pa.ChunkedArray:
    return column if isinstance(column, pa.ChunkedArray) else pa.chunked_array([column])


def _fit(column: pa.ChunkedArray, tracks: pa.Table, name: str) -> pa.ChunkedArray | None:
    """The column as it goes into `tracks` under a name, or `None` where the types do not fit."""
    if name not in tracks.column_names:
        return column
    kind = tracks.schema.field(name).type
    if column.type == kind:
        return column
    if not any(both(kind) and both(column.type) for both in (is_number, is_text)):
        return None
    try:
        return column.cast(kind)
    except pa.ArrowException:  # 0.5 among whole numbers
        return None
