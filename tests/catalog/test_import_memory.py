"""What the import of a table keeps of each entry of a playlist."""

import tracemalloc
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from talkplay_hf.catalog.importer import import_table
from talkplay_hf.catalog.splits import SplitOptions


def test_an_entry_of_a_playlist_takes_little_memory(tmp_path: Path) -> None:
    tracks, lists, length = 1_000, 300, 200
    ids = [f"{number:022d}" for number in range(tracks)]
    table = pa.table({"track_id": ids, "title": ids, "artist": ids})
    pq.write_table(table, tmp_path / "tracks.parquet")
    rows = np.random.default_rng(0)
    members = [[ids[row] for row in rows.permutation(tracks)[:length]] for _ in range(lists)]
    names = [f"p{number}" for number in range(lists)]
    pq.write_table(
        pa.table({"playlist_id": names, "track_ids": members}), tmp_path / "playlists.parquet"
    )
    del table, members
    tracemalloc.start()
    try:
        import_table(
            tmp_path / "tracks.parquet",
            tmp_path / "catalog",
            playlists=tmp_path / "playlists.parquet",
            split=SplitOptions(near_duplicates="keep"),
        )
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # a place in a dict takes 100 bytes, an id of its own would take 71 more
    assert peak / (lists * length) < 160
