"""The parts of the Million Playlist Dataset made one catalog.

Only the ids of the tracks and the memberships, as integers, are held in memory; text goes from the
parts to the catalog a few thousand rows at a time.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from talkplay_hf.catalog.columns import Reject, record_text
from talkplay_hf.catalog.membership import Membership
from talkplay_hf.catalog.mpd import CHALLENGE_FILE, SLICE_PLAYLISTS, SLICE_TRACKS
from talkplay_hf.catalog.mpd_parts import part_record
from talkplay_hf.catalog.provenance import PROVENANCE, with_provenance
from talkplay_hf.catalog.schema import PLAYLIST_SCHEMA, PLAYLISTS, TRACK_SCHEMA, TRACKS
from talkplay_hf.catalog.split_draw import CHALLENGE, SplitOptions, SplitReport, draw_splits
from talkplay_hf.catalog.splits import cold_of
from talkplay_hf.hub import files, shards

Progress = Callable[[str, int, int], None]

_OF_SLICE = ("pid", "place", "rows")
_TRACKS = pa.schema(
    [
        *TRACK_SCHEMA,
        *(one for one in SLICE_TRACKS if one.name not in TRACK_SCHEMA.names),
        pa.field("cold", pa.bool_()),
        pa.field(PROVENANCE, pa.string()),
    ]
)
_PLAYLISTS = pa.schema(
    [
        *PLAYLIST_SCHEMA,
        *(one for one in SLICE_PLAYLISTS if one.name not in (*PLAYLIST_SCHEMA.names, *_OF_SLICE)),
        pa.field("split", pa.string()),
        pa.field(PROVENANCE, pa.string()),
    ]
)
_REJECTS = pa.schema(
    {"source": pa.string(), "row": pa.int64(), "reason": pa.string(), "record": pa.string()}
)
# Rows of a row group: some 15 MB of either table.
_TRACK_GROUP, _PLAYLIST_GROUP, _REJECT_GROUP = 65_536, 10_000, 10_000


class Merge:
    """Takes the parts in order, then splits the playlists, then writes the catalog.

    Args:
        parts (`list[Path]`): The folders of the parts, that of the challenge set last.

    Attributes:
        counts (`Counter[str]`): The counts of all parts, see `mpd.COUNTED`.
        doubles (`list[list[Reject]]`): For each part taken, the playlists whose pid stands in an
            earlier part: they are left out.
    """

    def __init__(self, parts: list[Path]) -> None:
        self.parts = parts
        self.counts: Counter[str] = Counter()
        self.doubles: list[list[Reject]] = []
        self._part_of: dict[int, int] = {}  # by pid, without the challenge set
        self._track_rows: dict[str, int] = {}
        # For each part: which playlists stay, with their ids, dates and tracks; which tracks are
        # new with it.
        self._kept: list[pa.Array] = []
        self._ids: list[pa.Array] = []
        self._created: list[pa.Array] = []
        self._lengths: list[np.ndarray] = []
        self._rows: list[np.ndarray] = []
        self._new: list[pa.Array] = []

    @property
    def n_playlists(self) -> int:
        """Playlists taken so far."""
        return sum(map(len, self._ids))

    @property
    def n_tracks(self) -> int:
        """Distinct tracks of them."""
        return len(self._track_rows)

    @property
    def n_entries(self) -> int:
        """Entries of them, repeats included."""
        return int(sum(lengths.sum() for lengths in self._lengths))

    def add_next(self) -> None:
        """Take the next part."""
        part = self.parts[len(self._kept)]
        self.counts.update(part_record(part).counts)
        columns = ["pid", "place", "name", "created_at", "rows"]
        table = pq.read_table(part / files.PLAYLISTS, columns=columns)
        kept, ids = self._keep(part, table)
        table = table.filter(kept)
        lists = table["rows"].combine_chunks()
        rows = lists.flatten().to_numpy()
        track_ids = pq.read_table(part / files.TRACKS, columns=["track_id"])["track_id"]
        used = np.zeros(len(track_ids), dtype=bool)
        used[rows] = True
        before, known = len(self._track_rows), self._track_rows
        merged = np.zeros(len(track_ids), dtype=np.int32)
        merged[used] = [
            known.setdefault(track_id, len(known))
            for track_id in track_ids.filter(pa.array(used)).to_pylist()
        ]
        self._kept.append(kept)
        self._ids.append(ids)
        self._created.append(table["created_at"].combine_chunks())
        self._lengths.append(lists.value_lengths().to_numpy().astype(np.int64))
        self._rows.append(merged[rows])
        self._new.append(pa.array(used & (merged >= before)))

    def _keep(self, part: Path, table: pa.Table) -> tuple[pa.Array, pa.Array]:
        """Which playlists of a part stay, as a mask, and their ids."""
        pids: list[int] = table["pid"].to_pylist()
        doubles = []
        kept = [True] * len(pids)
        if part.name == CHALLENGE_FILE:
            ids = [f"challenge-{pid}" if pid in self._part_of else str(pid) for pid in pids]
        else:
            ids = list(map(str, pids))
            for at, pid in enumerate(pids):
                first = self._part_of.setdefault(pid, len(self._kept))
                if first == len(self._kept):
                    continue
                kept[at] = False
                row = table.slice(at, 1).drop_columns("rows").to_pylist()[0]
                reason = f"playlist {pid}: the pid stands in {self.parts[first].name} already"
                doubles.append(Reject(part.name, row.pop("place"), reason, record_text(row)))
        self.doubles.append(doubles)
        self.counts["rejected_playlists"] += len(doubles)
        mask = pa.array(kept, pa.bool_())
        return mask, pa.array(ids, pa.string()).filter(mask)

    def split(self, options: SplitOptions) -> tuple[np.ndarray, np.ndarray, SplitReport | None]:
        """Split the playlists; those of the challenge set are a split of their own.

        Returns:
            `tuple[np.ndarray, np.ndarray, SplitReport]`: The split of each playlist, str
            `[playlists]`; whether each track is cold, bool `[tracks]`; the report of the draw, or
            `None` where there was nothing to draw.
        """
        lengths = np.concatenate(self._lengths)
        starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        rows = np.concatenate(self._rows)
        self._rows.clear()
        drawn = sum(
            len(ids)
            for part, ids in zip(self.parts, self._ids, strict=True)
            if part.name != CHALLENGE_FILE
        )
        labels = np.full(len(lengths), CHALLENGE, dtype="<U10")
        report = None
        if drawn:
            lists = Membership(starts[: drawn + 1], rows[: starts[drawn]], self.n_tracks)
            created = pa.chunked_array(self._created).slice(0, drawn)
            # The order that `split_catalog` draws in, so that both draw the same.
            order = pc.sort_indices(pa.chunked_array(self._ids).slice(0, drawn)).to_numpy()
            labels[:drawn], report = draw_splits(lists, created, options, order=order)
        lists = Membership(starts, rows, self.n_tracks)
        return labels, cold_of(lists, labels), report

    def write(
        self,
        folder: Path,
        labels: np.ndarray,
        cold: np.ndarray,
        progress: Progress,
        license: str | None = None,
    ) -> None:
        """Write the tables of the catalog into a (staged) folder."""
        tracks = self._iter_tracks(cold, license)
        _write(folder, TRACKS, _TRACKS, tracks, _TRACK_GROUP)
        playlists = self._iter_playlists(labels, progress)
        _write(folder, PLAYLISTS, _PLAYLISTS, playlists, _PLAYLIST_GROUP)
        if any(map(self.rejects, range(len(self.parts)))):
            rejects = self._iter_rejects()
            _write(folder, Path(files.REJECTS).stem, _REJECTS, rejects, _REJECT_GROUP)

    def _iter_tracks(self, cold: np.ndarray, license: str | None) -> Iterator[pa.Table]:
        start = 0
        for part, new in zip(self.parts, self._new, strict=True):
            table = pq.read_table(part / files.TRACKS).filter(new)
            end = start + table.num_rows
            table = table.append_column("cold", pa.array(cold[start:end]))
            if license is not None:
                table = table.append_column("license", pa.repeat(license, len(table)))
            yield with_provenance(table, part.name)
            start = end

    def _iter_playlists(self, labels: np.ndarray, progress: Progress) -> Iterator[pa.Table]:
        start = 0
        for number, (part, kept, ids) in enumerate(
            zip(self.parts, self._kept, self._ids, strict=True), 1
        ):
            table = pq.read_table(part / files.PLAYLISTS).filter(kept)
            track_ids = pq.read_table(part / files.TRACKS, columns=["track_id"])["track_id"]
            lists = table["rows"].combine_chunks()
            starts = np.concatenate([[0], np.cumsum(lists.value_lengths().to_numpy())])
            members = track_ids.combine_chunks().take(lists.flatten())
            end = start + table.num_rows
            columns = {
                "playlist_id": ids,
                "track_ids": pa.ListArray.from_arrays(starts.astype(np.int32), members),
                "split": pa.array(labels[start:end], pa.string()),
            }
            for name, values in columns.items():
                table = table.append_column(name, values)
            yield with_provenance(table, part.name)
            start = end
            progress("writing", number, len(self.parts))

    def rejects(self, part: int) -> list[Reject]:
        """What was not taken of a part, by its number, in the order of rows."""
        rejects = [*part_record(self.parts[part]).rejects, *self.doubles[part]]
        return sorted(rejects, key=lambda one: one.row)

    def _iter_rejects(self) -> Iterator[pa.Table]:
        for part in range(len(self.parts)):
            yield pa.Table.from_pylist(list(map(asdict, self.rejects(part))), schema=_REJECTS)


def _write(
    folder: Path, name: str, schema: pa.Schema, tables: Iterable[pa.Table], group: int
) -> None:
    """Write tables as one, with row groups of about `group` rows."""
    with shards.TableWriter(folder, name, schema) as writer:
        waiting: list[pa.Table] = []
        for table in tables:
            waiting.append(_conform(table, schema))
            if sum(one.num_rows for one in waiting) >= group:
                writer.write(pa.concat_tables(waiting))
                waiting.clear()
        if waiting:
            writer.write(pa.concat_tables(waiting))


def _conform(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """The columns of a schema, null where the table has none."""
    columns = [
        table[column.name]
        if column.name in table.column_names
        else pa.nulls(table.num_rows, column.type)
        for column in schema
    ]
    return pa.Table.from_arrays(columns, schema=schema)
