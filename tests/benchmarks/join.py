"""Seconds and peak memory of `import --join` at the size of the Million Playlist Dataset.

Run with `python tests/benchmarks/join.py --tracks 2000000 --rows 1000000`.
"""

import argparse
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from talkplay_hf.catalog.join import join_table
from talkplay_hf.catalog.schema import PLAYLIST_SCHEMA, Catalog

HIT_BY_ID = 0.7  # share of the rows; half of the others hit by title and artist


def peak() -> float:
    """Peak memory of this process in GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def make_catalog(tracks: int) -> Catalog:
    numbers = range(tracks)
    table = pa.table(
        {
            "track_id": [f"spotify:track:{n:022d}" for n in numbers],
            "title": [f"Song Número {n} (feat. Someone)" for n in numbers],
            "artist": [f"Artist {n % 300_000}" for n in numbers],
        }
    )
    return Catalog(table, PLAYLIST_SCHEMA.empty_table())


def write_table(path: Path, tracks: int, rows: int) -> None:
    generator = np.random.default_rng(0)
    at = generator.integers(0, tracks, rows)
    draw = generator.random(rows)
    by_id = draw < HIT_BY_ID
    known = draw < (1 + HIT_BY_ID) / 2
    table = pa.table(
        {
            "track_id": [f"{n:022d}" if hit else f"x{n}" for n, hit in zip(at, by_id, strict=True)],
            "title": [
                f"SONG NUMERO {n}" if hit else f"Other {n}"
                for n, hit in zip(at, known, strict=True)
            ],
            "artist": [f"artist {n % 300_000}" for n in at],
            "tags": pa.array([[f"tag {n % 50}", f"tag {n % 7}"] for n in at]),
            "popularity": generator.random(rows),
            "release_date": [f"{1950 + n % 70}-05-01" for n in at],
            "lyrics": ["la la love " * 40] * rows,
            "energy": generator.random(rows),
            "label": [f"label {n % 1000}" for n in at],
        }
    )
    pq.write_table(table, path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tracks", type=int, default=2_000_000)
    parser.add_argument("--rows", type=int, default=1_000_000)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "table.parquet"
        write_table(path, args.tracks, args.rows)
        catalog = make_catalog(args.tracks)
        print(f"{'':24}{'seconds':>10}{'CPU':>10}{'peak GB':>10}")
        print(f"{'catalog and table made':24}{'':>20}{peak():>10.2f}")
        start, busy = time.perf_counter(), time.process_time()
        _, report = join_table(catalog, path)
        wall, cpu = time.perf_counter() - start, time.process_time() - busy
        print(f"{'join':24}{wall:>10.1f}{cpu:>10.1f}{peak():>10.2f}")
        print(report.summary())


if __name__ == "__main__":
    main()
