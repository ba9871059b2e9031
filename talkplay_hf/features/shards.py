"""One modality's embedding run in fixed shards, so that a run that was killed goes on.

Every shard is a file of its own, written aside and renamed. What is left to do is what has no
whole file, whichever process had it; batches never cross a shard, so the bytes are the same
however often the run was interrupted and however many processes share it. Libraries that add up
in parallel may round otherwise on another number of threads, so that must stay the same too.
"""

import hashlib
import json
import os
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from talkplay_hf.errors import ArtifactError, ConfigError, InputError, LeakageError, first_line
from talkplay_hf.features.store import ModalityVectors, absent, open_vectors, write_vectors
from talkplay_hf.hub import files

SHARD_TRACKS = 1024


@dataclass(frozen=True)
class Failure:
    """A track whose vector could not be made.

    Args:
        row (`int`, *optional*): Its row in the catalog, where it is known.
        track_id (`str`): Its id.
        reason (`str`): Why.
    """

    row: int | None
    track_id: str
    reason: str


class Processes:
    """The processes of this run: one, or as many as `accelerate launch` or `torchrun` started.

    Args:
        device (`str`, *optional*): Where models run; the process's own GPU, else the CPU, when
            left out. Of several processes each has its own GPU, unless this is `"cpu"`.

    Raises:
        ConfigError: If the processes that were started do not find each other.
    """

    def __init__(self, device: str | None = None) -> None:
        self._device = device
        self._state: Any = None
        started = int(os.environ.get("WORLD_SIZE", "1"))
        if started > 1:
            import torch
            from accelerate import PartialState

            # without a GPU the processes stay apart unless told that they are on the CPU;
            # one of them may fit a whole-catalogue encoder for hours while the others wait
            on_cpu = device == "cpu" or not torch.cuda.is_available()
            try:
                self._state = PartialState(cpu=on_cpu, timeout=timedelta(days=7))
            except ValueError as error:  # WORLD_SIZE alone, as a job scheduler may leave it
                raise ConfigError(
                    f"the environment speaks of {started} processes, which cannot meet "
                    f"({first_line(error)}); start them with `accelerate launch`, or unset "
                    "WORLD_SIZE"
                ) from None
            if self.count != started:
                raise ConfigError(
                    f"{started} processes were started but {self.count} found each other; start "
                    "one process, or see `accelerate env`"
                )

    @property
    def rank(self) -> int:
        """The number of this process."""
        return int(self._state.process_index) if self._state else 0

    @property
    def count(self) -> int:
        """How many there are."""
        return int(self._state.num_processes) if self._state else 1

    @cached_property
    def device(self) -> str:
        """The device of this process."""
        if self._state:
            return str(self._state.device)
        import torch

        if self._device:
            try:
                torch.empty(0, device=self._device)
            except (RuntimeError, AssertionError) as error:
                first = first_line(error)
                raise ConfigError(f"device {self._device!r} cannot be used: {first}") from None
            return self._device
        if torch.cuda.is_available():
            return "cuda"
        return "mps" if torch.backends.mps.is_available() else "cpu"

    def wait(self) -> None:
        """Wait until every process is here."""
        if self._state:
            self._state.wait_for_everyone()


@dataclass
class ShardedRun:
    """What an encoder may ask of the run of one modality, with its shards in a work folder.

    Args:
        modality (`str`): The modality.
        track_ids (`Sequence[str]`): The catalog's track ids.
        work (`Path`): The work folder of this modality; it belongs to one set of options.
        seed (`int`): Seed of everything that draws.
        fit_on (`np.ndarray` of shape `[n]`, bool): Tracks that a trained part may see.
        processes (`Processes`): The processes that share the run.
        stop (`bool`): Stop at the first track that fails instead of counting it.
        earlier (`Mapping[str, np.ndarray]`, *optional*): What an earlier run kept.
        report (`Callable`, *optional*): Called with (what, done, total).

    What it gathers: the `failures`, the arrays that were `kept` and the tracks `seen` by the fit,
    further `facts` for the manifest, and the last vectors that lie `on_disk`, with their file.
    """

    modality: str
    track_ids: Sequence[str]
    work: Path
    seed: int
    fit_on: np.ndarray
    processes: Processes
    stop: bool = False
    earlier: Mapping[str, np.ndarray] | None = None
    report: Callable[[str, int, int], None] | None = None
    failures: list[Failure] = field(default_factory=list)
    kept: dict[str, np.ndarray] = field(default_factory=dict)
    seen: np.ndarray | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    on_disk: tuple[ModalityVectors, Path] | None = None

    @property
    def device(self) -> str:
        """Where a model should run."""
        return self.processes.device

    def fitted(self) -> dict[str, np.ndarray] | None:
        """What an earlier run kept, where this run applies it to other tracks; else `None`."""
        return dict(self.earlier) if self.earlier is not None else None

    def keep(self, arrays: Mapping[str, np.ndarray], *, seen: np.ndarray | None = None) -> None:
        """Keep what was fitted beside the vectors, as `<modality>.encoder.safetensors`.

        Args:
            arrays (`Mapping[str, np.ndarray]`): What was fitted; may be empty.
            seen (`np.ndarray` of shape `[n]`, bool, *optional*): The tracks that the fit saw;
                `fit_on` when left out. Its hash goes into the manifest.

        Raises:
            LeakageError: If the fit saw a track outside `fit_on`.
        """
        self.seen = (self.fit_on if seen is None else seen).copy()
        leaked = np.flatnonzero(self.seen & ~self.fit_on)
        if len(leaked):
            row = int(leaked[0])
            raise LeakageError(
                f"{self.modality}: the fit saw {len(leaked)} held-out tracks, the first is "
                f"{self.track_ids[row]!r} in row {row}; fit on `run.fit_on` only (paper 3.3)"
            )
        self.kept = {name: np.ascontiguousarray(value) for name, value in arrays.items()}

    def progress(self, what: str, done: int, total: int) -> None:
        """Tell how far the work is."""
        if self.report is not None and self.processes.rank == 0:
            self.report(what, done, total)

    def reject(self, row: int, reason: str) -> None:
        """Count a track whose input cannot be used, or stop the run, see `fail`."""
        self.fail(Failure(row, self.track_ids[row], reason))

    def fail(self, failure: Failure) -> None:
        """Count a track that failed, or stop the run.

        Raises:
            InputError: If the run stops at the first track that fails.
        """
        if self.stop:
            raise InputError(
                f"{self.modality}: track {failure.track_id!r} (row {failure.row}): {failure.reason}"
            )
        self.failures.append(failure)

    def map_tracks(
        self,
        inputs: Sequence[Any],
        encode: Callable[[list[Any]], np.ndarray],
        *,
        load: Callable[[Any], Any] | None = None,
        batch_size: int = 32,
    ) -> ModalityVectors:
        """Encode the inputs of all tracks in fixed batches, resumable shard by shard.

        Args:
            inputs (`Sequence`): Strings, paths or tuples of them, one a track, in catalog order;
                `None` where the modality is missing. Files are taken to stay the same while a
                run is unfinished.
            encode (`Callable`): From the loaded inputs of a batch to `[b, d]` float32.
            load (`Callable`, *optional*): From one input to what `encode` takes. What it raises
                (`InputError`, `OSError`) is counted against that track, or stops the run.
            batch_size (`int`): Tracks a batch.

        Raises:
            InputError: If a track fails and the run stops at that, or `encode` gives another
                number of rows than it got.
            ArtifactError: If shards differ in dimension.
        """
        if len(inputs) != len(self.track_ids):
            raise InputError(
                f"{self.modality}: {len(inputs)} inputs for {len(self.track_ids)} tracks"
            )
        folder = self.work / f"shards-{_inputs_hash(inputs, batch_size)}"
        folder.mkdir(parents=True, exist_ok=True)
        whole, merged = folder / "vectors.safetensors", folder / "failures.json"
        starts = range(0, len(inputs), SHARD_TRACKS)
        if not merged.exists():
            for number, start in enumerate(starts):
                if number % self.processes.count != self.processes.rank:
                    continue
                self.progress(f"{self.modality}: tracks", start, len(inputs))
                path = folder / f"{number:05d}.safetensors"
                part = inputs[start : start + SHARD_TRACKS]
                if not _is_whole(path, len(part)):
                    self._encode_shard(path, start, part, encode, load, batch_size)
        self.processes.wait()
        if self.processes.rank == 0 and not merged.exists():
            self._merge(folder, whole, merged, len(inputs))
        self.processes.wait()
        for row, reason in json.loads(merged.read_text(encoding="utf-8")):
            self.fail(Failure(row, self.track_ids[row], reason))
        self.progress(f"{self.modality}: tracks", len(inputs), len(inputs))
        self.on_disk = (open_vectors(whole), whole)
        return self.on_disk[0]

    def _encode_shard(
        self,
        path: Path,
        start: int,
        part: Sequence[Any],
        encode: Callable[[list[Any]], np.ndarray],
        load: Callable[[Any], Any] | None,
        batch_size: int,
    ) -> None:
        rows = [row for row, item in enumerate(part) if item is not None]
        found: list[tuple[int, np.ndarray]] = []
        failed: list[tuple[int, str]] = []
        for at in range(0, len(rows), batch_size):
            batch: list[tuple[int, Any]] = []
            for row in rows[at : at + batch_size]:
                try:
                    batch.append((row, load(part[row]) if load else part[row]))
                except (InputError, OSError) as error:
                    failed.append((start + row, str(error)))
            if not batch:
                continue
            vectors = np.asarray(encode([item for _, item in batch]), dtype=np.float32)
            if vectors.ndim != 2 or len(vectors) != len(batch):
                raise InputError(
                    f"{self.modality}: the encoder made vectors {vectors.shape} of "
                    f"{len(batch)} tracks"
                )
            for (row, _), vector in zip(batch, vectors, strict=True):
                if np.isfinite(vector).all():
                    found.append((row, vector))
                else:
                    failed.append((start + row, "the vector has a value that is not finite"))
            if failed and self.stop:
                self.fail(Failure(failed[0][0], self.track_ids[failed[0][0]], failed[0][1]))
        present = np.zeros(len(part), dtype=bool)
        made = np.zeros((len(part), len(found[0][1]) if found else 0), dtype=np.float32)
        for row, vector in found:
            made[row], present[row] = vector, True
        _write_shard(path, made, present, sorted(failed))

    def _merge(self, folder: Path, whole: Path, merged: Path, n: int) -> None:
        """Stream the shards into one file and record what failed."""
        paths = [folder / f"{number:05d}.safetensors" for number in range(-(-n // SHARD_TRACKS))]
        dims: dict[int, Path] = {}
        failed: list[Any] = []
        for path in paths:
            with safe_open(path, framework="numpy") as handle:
                width = handle.get_slice("vectors").get_shape()[1]
                failed += json.loads(handle.metadata()["failures"])
            if width and width not in dims:
                dims[width] = path
        if len(dims) > 1:
            (one, first), (two, second) = list(dims.items())[:2]
            raise ArtifactError(
                f"{self.modality}: {first} has {one} dimensions, {second} has {two}; one of them "
                "was made by another model. Delete the wrong one and run again"
            )
        present = np.zeros(n, dtype=bool)
        dim = next(iter(dims), 0)

        def rows() -> Iterator[np.ndarray]:
            for number, path in enumerate(paths):
                with safe_open(path, framework="numpy") as handle:
                    here = handle.get_tensor("present")
                    vectors = handle.get_tensor("vectors")
                present[number * SHARD_TRACKS :][: len(here)] = here
                yield vectors if dim and vectors.shape[1] else np.zeros((len(here), dim or 1))

        aside = whole.with_suffix(".aside")
        write_vectors(aside, rows() if dim else [absent(n).vectors], (n, dim or 1), present)
        files.put_in_place(aside, whole)
        files.write_text(merged, json.dumps(failed))
        for path in paths:
            path.unlink()


def _write_shard(
    path: Path, vectors: np.ndarray, present: np.ndarray, failed: list[tuple[int, str]]
) -> None:
    failures = json.dumps(failed)
    metadata = {"crc32": _checksum(vectors, present, failures), "failures": failures}
    files.write_bytes(path, save({"vectors": vectors, "present": present}, metadata))


def _is_whole(path: Path, rows: int) -> bool:
    """Whether a finished shard is there, undamaged."""
    if not path.exists():
        return False
    try:
        with safe_open(path, framework="numpy") as handle:
            vectors, present = handle.get_tensor("vectors"), handle.get_tensor("present")
            metadata = handle.metadata() or {}
    except (SafetensorError, OSError):
        return False
    crc = _checksum(vectors, present, metadata.get("failures", ""))
    return vectors.shape[:1] == present.shape == (rows,) and metadata.get("crc32") == crc


def _checksum(vectors: np.ndarray, present: np.ndarray, failures: str) -> str:
    """What a finished shard must match: a CRC-32 of all that it holds."""
    parts = (vectors.tobytes(), present.tobytes(), failures.encode())
    crc = 0
    for part in parts:
        crc = zlib.crc32(part, crc)
    return str(crc)


def _inputs_hash(inputs: Sequence[Any], batch_size: int) -> str:
    digest = hashlib.sha256(f"{batch_size} {SHARD_TRACKS}".encode())
    for item in inputs:
        digest.update(repr(item).encode() + b"\n")
    return digest.hexdigest()[:16]
