"""Imports of made-up slices, and what came of them."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from mpd_slices import write_slice

from talkplay_hf.catalog.mpd_import import MpdReport, import_mpd
from talkplay_hf.catalog.schema import Catalog


def run(folder: Path, **options: Any) -> tuple[MpdReport, Catalog]:
    """Import the files in `folder / "mpd"` and read the catalog back."""
    report = import_mpd(folder / "mpd", folder / "out", workers=1, **options)
    return report, Catalog.load(folder / "out")


def run_one(folder: Path, playlists: Sequence[Any]) -> tuple[MpdReport, Catalog]:
    """The same with one slice of these playlists."""
    write_slice(folder / "mpd", playlists)
    return run(folder)


def rejects(folder: Path) -> list[tuple[str, int, str]]:
    table = pq.read_table(folder / "out" / "rejects.parquet")
    assert table.column_names == ["source", "row", "reason", "record"]
    rows = table.to_pylist()
    assert all(isinstance(json.loads(row["record"]), dict) for row in rows)
    return [(row["source"], row["row"], row["reason"]) for row in rows]


def members(catalog: Catalog) -> dict[str, list[int]]:
    """The numbers of the tracks of each playlist."""
    return {
        one.playlist_id: [int(track_id) for track_id in one.track_ids]
        for one in catalog.iter_playlists()
    }


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}
