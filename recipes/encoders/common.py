"""What the scripts here share: read a catalog folder, work in shards, write the table.

It needs numpy and pyarrow; `load_clip` needs soundfile and soxr too. Nothing of talkplay_hf.
"""

import argparse
import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

SHARD_TRACKS = 512


def parser(description: str, *, batch_size: int) -> argparse.ArgumentParser:
    """The arguments that every script has."""
    made = argparse.ArgumentParser(description=description)
    made.add_argument("catalog", type=Path, help="catalog folder")
    made.add_argument("out", type=Path, help="Parquet file to write")
    made.add_argument("--batch-size", type=int, default=batch_size, help="default: %(default)s")
    made.add_argument("--device", default="cuda", help="default: %(default)s")
    return made


def add_clip(made: argparse.ArgumentParser, seconds: float) -> None:
    """The argument of scripts that listen."""
    made.add_argument(
        "--seconds",
        type=float,
        default=seconds,
        help="length of the clip from the middle of each file; default: %(default)s",
    )


def read_tracks(catalog: Path, *columns: str) -> list[dict[str, Any]]:
    """The track id and these columns of a catalog's tracks."""
    path = catalog / "tracks.parquet"
    if not path.is_file():
        raise SystemExit(f"{path}: no such file; name a catalog folder")
    tracks: list[dict[str, Any]] = pq.read_table(path, columns=["track_id", *columns]).to_pylist()
    return tracks


def audio_files(catalog: Path, tracks: Sequence[dict[str, Any]]) -> list[str | None]:
    """The local audio file of each track, `None` where it has none."""
    names = [track.get("audio") for track in tracks]
    return [str(catalog / name) if name and "://" not in name else None for name in names]


def load_clip(path: str, rate: int, seconds: float) -> np.ndarray:
    """The middle of an audio file as mono float32 of exactly `seconds`; short files repeat."""
    import soundfile
    import soxr

    with soundfile.SoundFile(path) as handle:
        count = min(handle.frames, round(seconds * handle.samplerate))
        handle.seek((handle.frames - count) // 2)
        sound = handle.read(count, dtype="float32", always_2d=True).mean(axis=1)
        found = handle.samplerate
    if len(sound) < found or not np.isfinite(sound).all() or np.abs(sound).max() < 1e-4:
        raise ValueError("is shorter than a second, silent, or has values that are not finite")
    return np.resize(soxr.resample(sound, found, rate), round(seconds * rate)).astype(np.float32)


def unit_rows(vectors: np.ndarray) -> np.ndarray:
    """Scale the rows to length 1."""
    vectors = np.asarray(vectors, dtype=np.float32)
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def write_table(
    out: Path,
    column: str,
    track_ids: Sequence[str],
    items: Sequence[str | None],
    encode: Callable[[list[Any]], Sequence[Any]],
    *,
    load: Callable[[str], Any] | None = None,
    batch_size: int,
    options: dict[str, Any],
) -> None:
    """Encode the items of all tracks and write `track_id` and `column` as a Parquet file.

    Tracks whose item is `None` are left out, and those that `load` refuses, which are printed and
    counted. The shards lie in a folder beside the file until it is finished; a run with the same
    catalog and options goes on where one was interrupted, and gives the same bytes.
    """
    identity = [column, options, batch_size, list(track_ids), list(items)]
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True, default=str).encode()).hexdigest()
    work = out.parent / f".{out.name}.{digest[:16]}"
    work.mkdir(parents=True, exist_ok=True)
    starts = range(0, len(items), SHARD_TRACKS)
    paths = [work / f"{number:06d}.parquet" for number in range(len(starts))]
    for start, path in zip(starts, paths, strict=True):
        print(f"{start} of {len(items)} tracks", flush=True)
        if path.exists():
            continue
        found: dict[str, Any] = {}
        rows = [row for row in range(start, min(start + SHARD_TRACKS, len(items))) if items[row]]
        for at in range(0, len(rows), batch_size):
            batch = []
            for row in rows[at : at + batch_size]:
                try:
                    batch.append((track_ids[row], load(items[row]) if load else items[row]))
                except (OSError, RuntimeError, ValueError) as error:
                    print(f"row {row}, track {track_ids[row]}: {items[row]}: {error}", flush=True)
            if batch:
                made = encode([item for _, item in batch])
                found |= zip((track_id for track_id, _ in batch), made, strict=True)
        _write(path, [_table(column, found)])
    _write(out, (pq.read_table(path) for path in paths))
    shutil.rmtree(work)
    print(f"{pq.read_metadata(out).num_rows} of {len(items)} tracks written to {out}")


def write_heard(
    args: argparse.Namespace,
    column: str,
    load_encoder: Callable[[], Callable[[list[np.ndarray]], Any]],
    *,
    rate: int,
    options: dict[str, Any],
) -> None:
    """What `write_table` does, for a script that listens to the clips of a catalog.

    `load_encoder` loads the model, after the catalog has been found to be one.
    """
    tracks = read_tracks(args.catalog, "audio")
    write_table(
        args.out,
        column,
        [track["track_id"] for track in tracks],
        audio_files(args.catalog, tracks),
        load_encoder(),
        load=lambda path: load_clip(path, rate, args.seconds),
        batch_size=args.batch_size,
        options={**options, "seconds": args.seconds},
    )


def _table(column: str, found: dict[str, Any]) -> pa.Table:
    kind = pa.list_(pa.float32()) if column == "vector" else pa.string()
    values = [list(map(float, v)) if column == "vector" else v for v in found.values()]
    return pa.table(
        {"track_id": pa.array(list(found), pa.string()), column: pa.array(values, kind)}
    )


def _write(path: Path, tables: Iterator[pa.Table] | list[pa.Table]) -> None:
    aside = path.with_name(f".{path.name}.aside")
    writer = None
    for table in tables:
        writer = writer or pq.ParquetWriter(aside, table.schema, compression="zstd")
        writer.write_table(table)
    if writer is None:
        raise SystemExit("the catalog has no tracks")
    writer.close()
    aside.replace(path)
