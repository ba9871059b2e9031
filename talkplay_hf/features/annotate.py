"""What the sound of a catalog tells: lyrics, captions, tempo and key, as a table to join."""

import contextlib
import hashlib
import json
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, astuple, dataclass
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from talkplay_hf import __version__
from talkplay_hf.catalog.schema import Catalog
from talkplay_hf.errors import ConfigError, InputError
from talkplay_hf.features.caption import Captioner
from talkplay_hf.features.rhythm import RATE, estimate_rhythm
from talkplay_hf.features.shards import Failure, Processes
from talkplay_hf.features.sound import Clip, clip_names, load_sound
from talkplay_hf.features.transcribe import Transcriber
from talkplay_hf.hub import files
from talkplay_hf.hub.held import held

SHARD_TRACKS = 64
GROUP = 64  # shards a row group
TYPES = {
    "lyrics": pa.string(),
    "language": pa.string(),
    "instrumental": pa.bool_(),
    "caption": pa.string(),
    "tempo": pa.float64(),
    "key": pa.string(),
    "key_confidence": pa.float64(),
}


@dataclass(frozen=True)
class Annotations:
    """What an annotation run did.

    Args:
        path (`Path`): The table.
        tracks (`int`): Tracks in it.
        without_audio (`int`): Tracks of the catalog that name no local audio file.
        failures (`list[Failure]`): Tracks whose file could not be used.
    """

    path: Path
    tracks: int
    without_audio: int
    failures: list[Failure]


# A sample rate in Hz, and what makes the values of the columns out of a sound of that rate.
_Listener = tuple[int, Callable[[np.ndarray], tuple[Any, ...]]]


@dataclass(frozen=True)
class _Job:
    """One kind of listening: which columns it fills, from which part of the file."""

    columns: tuple[str, ...]
    clip: Clip
    load: Callable[[], _Listener]


def annotate(
    catalog: Catalog,
    out: str | Path,
    *,
    lyrics: Transcriber | None = None,
    caption: Captioner | None = None,
    rhythm: bool = False,
    device: str | None = None,
    on_error: str = "skip",
    progress: Callable[[str, int, int], None] | None = None,
) -> Annotations:
    """Listen to the audio files of a catalog and write what was heard as a Parquet table.

    The table has `track_id` and the columns that were asked for; `talkplay import --join` brings
    them into a catalog. Tracks without an audio file are left out, those that fail too; the
    failures stand beside it in `<name>.failures.parquet`. The work is done in shards of
    64 tracks in a folder beside the table: a run that was interrupted goes on, and several
    processes (`accelerate launch`) share the shards. The bytes are the same either way.

    Args:
        catalog (`Catalog`): The catalog; audio paths are relative to its folder.
        out (`str` or `Path`): The Parquet file to write.
        lyrics (`Transcriber`, *optional*): Adds `lyrics`, `language` and `instrumental`.
        caption (`Captioner`, *optional*): Adds `caption`.
        rhythm (`bool`): Adds `tempo`, `key` and `key_confidence`, from 30 seconds of the middle.
        device (`str`, *optional*): Where models run; the process's GPU, else the CPU.
        on_error (`str`): `"skip"` counts a file that cannot be used, `"stop"` raises.
        progress (`Callable`, *optional*): Called with (what, done, total).

    Raises:
        ConfigError: If nothing is asked for, or `on_error` is something else.
        InputError: If no track has an audio file, or one cannot be used and `on_error` is `"stop"`.
    """
    out = Path(out)
    if on_error not in ("skip", "stop"):
        raise ConfigError(f"on_error is 'skip' or 'stop', not {on_error!r}")
    if out.is_dir() or out.suffix.lower() != ".parquet":
        raise InputError(f"{out}: name a file to write that ends in .parquet")
    processes = Processes(device)
    jobs = _jobs(lyrics, caption, rhythm, processes)
    names = clip_names(catalog)
    if not any(names):
        raise InputError(
            "no track of the catalog names a local audio file in its column 'audio'; bring them in "
            "with `talkplay import CATALOG NEW --audio-dir FOLDER`"
        )
    asked = [part and asdict(part) for part in (lyrics, caption)]
    identity = json.dumps([__version__, asked, rhythm, catalog.track_ids, names])
    digest = hashlib.sha256(identity.encode()).hexdigest()[:16]
    work = out.parent / f".{out.name}.{digest}"
    starts = range(0, len(catalog), SHARD_TRACKS)
    with held(out) if processes.rank == 0 else contextlib.nullcontext():
        for number, start in enumerate(starts):
            if number % processes.count != processes.rank:
                continue
            if progress is not None and processes.rank == 0:
                progress("listening to tracks", start, len(catalog))
            path = work / f"{number:06d}.parquet"
            if not path.exists():
                rows = range(start, min(start + SHARD_TRACKS, len(catalog)))
                table = _shard(catalog, names, rows, jobs, on_error)
                work.mkdir(parents=True, exist_ok=True)
                _write_aside(path, [table])
        processes.wait()
        paths = [work / f"{number:06d}.parquet" for number in range(len(starts))]
        failures = [failure for path in paths for failure in _failures(path)]
        done = sum(pq.read_metadata(path).num_rows for path in paths) - len(failures)
        processes.wait()
        if failures and on_error == "stop":  # in shards of an earlier run, which went on
            _stop_at(failures[0])
        if processes.rank == 0:
            _write_aside(out, _groups(paths))
            _write_failures(out.with_suffix(".failures.parquet"), failures)
            shutil.rmtree(work)
            if progress is not None:
                progress("listening to tracks", len(catalog), len(catalog))
        processes.wait()
    return Annotations(out, done, names.count(None), failures)


def _jobs(
    lyrics: Transcriber | None, caption: Captioner | None, rhythm: bool, processes: Processes
) -> list[_Job]:
    def loading(model: Any, values: Callable[[Any], tuple[Any, ...]]) -> Callable[[], _Listener]:
        @cache
        def load() -> _Listener:
            rate, hear = model.load(processes.device)
            return rate, lambda sound: values(hear(sound))

        return load

    jobs = []
    if lyrics is not None:
        columns: tuple[str, ...] = ("lyrics", "language", "instrumental")
        jobs.append(_Job(columns, Clip("start", None), loading(lyrics, astuple)))
    if caption is not None:
        clip = Clip(caption.clip_start, caption.clip_seconds)
        jobs.append(_Job(("caption",), clip, loading(caption, lambda text: (text,))))
    if rhythm:
        columns = ("tempo", "key", "key_confidence")
        jobs.append(_Job(columns, Clip(), lambda: (RATE, lambda s: astuple(estimate_rhythm(s)))))
    if not jobs:
        raise ConfigError("nothing to annotate: ask for lyrics, captions or rhythm")
    return jobs


def _shard(
    catalog: Catalog, names: list[str | None], rows: range, jobs: list[_Job], on_error: str
) -> pa.Table:
    root = catalog.root or Path()
    found: list[dict[str, Any]] = []
    for row in rows:
        name = names[row]
        if name is None:
            continue
        entry: dict[str, Any] = {"track_id": catalog.track_ids[row], "row": row}
        try:
            for job in jobs:
                rate, hear = job.load()
                values = hear(load_sound(root / name, rate, job.clip))
                entry |= zip(job.columns, values, strict=True)
        except (InputError, OSError) as error:
            if on_error == "stop":
                _stop_at(Failure(row, entry["track_id"], str(error)))
            entry |= {"failure": str(error)}
        found.append(entry)
    schema = pa.schema(
        [("track_id", pa.string()), ("row", pa.int64()), ("failure", pa.string())]
        + [(name, TYPES[name]) for job in jobs for name in job.columns]
    )
    return pa.Table.from_pylist(found, schema=schema)


def _stop_at(failure: Failure) -> NoReturn:
    raise InputError(f"track {failure.track_id!r} in row {failure.row}: {failure.reason}") from None


def _failures(path: Path) -> list[Failure]:
    table = pq.read_table(path, columns=["row", "track_id", "failure"])
    return [Failure(*entry.values()) for entry in table.to_pylist() if entry["failure"] is not None]


def _groups(paths: list[Path]) -> Iterator[pa.Table]:
    """The annotated rows of the shards, a row group at a time."""
    for at in range(0, len(paths), GROUP):
        tables = [pq.read_table(path) for path in paths[at : at + GROUP]]
        table = pa.concat_tables(tables)
        table = table.filter(pc.is_null(table["failure"]))
        yield table.drop_columns(["row", "failure"]).combine_chunks()


def _write_failures(path: Path, failures: list[Failure]) -> None:
    path.unlink(missing_ok=True)
    if failures:
        _write_aside(path, [pa.Table.from_pylist([asdict(failure) for failure in failures])])


def _write_aside(path: Path, tables: Iterable[pa.Table]) -> None:
    """Write a Parquet file aside, a row group a table, and rename it."""
    tables = iter(tables)
    first = next(tables)
    aside = path.with_name(f".{path.name}.aside")
    with pq.ParquetWriter(aside, first.schema, compression="zstd") as writer:
        writer.write_table(first)
        for table in tables:
            writer.write_table(table)
    files.put_in_place(aside, path)
