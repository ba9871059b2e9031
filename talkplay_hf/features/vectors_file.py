"""Vectors that were made elsewhere: Parquet, NumPy or safetensors files."""

import json
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from tokenize import TokenError
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from safetensors import SafetensorError, safe_open

from talkplay_hf.errors import InputError, first_line
from talkplay_hf.features.shards import Failure
from talkplay_hf.features.store import BLOCK, ModalityVectors, absent, create_vectors, open_vectors

# One row of a file: its track id (`None` where it has none), its vector or what is wrong with it.
_Row = tuple[Any, np.ndarray | str]


def read_vectors(
    path: str | Path,
    track_ids: Sequence[str],
    *,
    into: Path,
    fail: Callable[[Failure], None],
) -> tuple[ModalityVectors, int]:
    """Read vectors that were made elsewhere into catalog order, block by block.

    The file is one of:

    - Parquet with the columns `track_id` and `vector` (a list of numbers), rows in any order;
    - `.npy`: an array `[n, d]` in catalog order;
    - `.npz` with `vectors [n, d]`, and maybe `present [n]` and `track_ids [n]`;
    - safetensors with `vectors [n, d]`, and maybe `present [n]` and `track_ids` (a JSON list as
      uint8).

    Without track ids the rows are in catalog order. A track without a row lacks the modality.

    Args:
        path (`str` or `Path`): The file.
        track_ids (`Sequence[str]`): The catalog's track ids.
        into (`Path`): The vectors file to write; the result lies in it.
        fail (`Callable`): Called with each row that cannot be used: a second vector of a track, a
            wrong dimension, a value that is not finite, no id.

    Returns:
        `tuple[ModalityVectors, int]`: The vectors, and how many rows are of tracks that the
        catalog does not have.

    Raises:
        InputError: If the file cannot be read, or its shape does not fit.
    """
    path = Path(path)
    rows_of = {track_id: row for row, track_id in enumerate(track_ids)}
    target: tuple[np.ndarray, np.ndarray] | None = None
    unknown = 0
    try:
        for at, (track_id, vector) in enumerate(_rows(path, track_ids)):
            row = rows_of.get(track_id)
            if track_id is not None and row is None:
                unknown += 1
                continue
            reason = vector if isinstance(vector, str) else ""
            if row is None:
                reason = "no track id"
            elif not isinstance(vector, str):
                if target is None:
                    target = create_vectors(into, (len(track_ids), len(vector)))
                reason = _problem(vector, target[0].shape[1], bool(target[1][row]))
                if not reason:
                    target[0][row], target[1][row] = vector, True
            if reason:
                fail(Failure(row, str(track_id or ""), f"{path}: row {at}: {reason}"))
    except InputError:
        raise
    except (
        pa.ArrowException, SafetensorError, zipfile.BadZipFile, zlib.error,
        OSError, EOFError, ValueError, KeyError, TypeError, OverflowError, MemoryError,
        # of the header of a .npy file, which is read as a literal of Python
        SyntaxError, TokenError, RecursionError,
    ) as error:  # fmt: skip
        raise InputError(f"{path}: cannot be read ({first_line(error)})") from None
    if target is None:
        return absent(len(track_ids)), unknown
    del target  # flushes
    return open_vectors(into), unknown


def _problem(vector: np.ndarray, dim: int, filled: bool) -> str:
    if filled:
        return "a second vector of this track"
    if len(vector) != dim:
        return f"{len(vector)} dimensions, the first vector has {dim}"
    return "" if np.isfinite(vector).all() else "a value that is not finite"


def _rows(path: Path, track_ids: Sequence[str]) -> Iterator[_Row]:
    """The rows of a file; those that are not present are left out."""
    if path.suffix == ".parquet":
        return _parquet_rows(path)
    if path.suffix == ".npy":
        array = np.lib.format.open_memmap(path, mode="r")
        return _array_rows(path, array, array.shape, track_ids, None, None)
    if path.suffix == ".npz":
        if not zipfile.is_zipfile(path):  # NumPy would take other kinds of file too
            raise InputError(f"{path}: cannot be read (not a whole .npz archive)")
        with np.load(path, allow_pickle=False) as arrays:
            found = dict(arrays)
        array = found["vectors"]
        ids = found["track_ids"].tolist() if "track_ids" in found else None
        return _array_rows(path, array, array.shape, track_ids, ids, found.get("present"))
    if path.suffix == ".safetensors":
        return _safetensors_rows(path, track_ids)
    raise InputError(f"{path}: vectors come as .parquet, .npy, .npz or .safetensors")


def _parquet_rows(path: Path) -> Iterator[_Row]:
    with pq.ParquetFile(path, pre_buffer=False) as file:
        for name in ("track_id", "vector"):
            if name not in file.schema_arrow.names:
                raise InputError(f"{path}: has no column {name!r}")
        kind = file.schema_arrow.field("vector").type
        if not (pa.types.is_list(kind) or pa.types.is_large_list(kind)
                or pa.types.is_fixed_size_list(kind)):  # fmt: skip
            raise InputError(f"{path}: the column 'vector' is {kind}, not a list of numbers")
        for batch in file.iter_batches(BLOCK, columns=["track_id", "vector"]):
            ids = batch["track_id"].cast(pa.string()).to_pylist()
            lists = batch["vector"]
            lengths = pc.fill_null(pc.list_value_length(lists), 0).to_numpy()
            values = pc.list_flatten(lists).cast(pa.float32(), safe=False)
            numbers = values.to_numpy(zero_copy_only=False).astype(np.float32)
            ends = np.cumsum(lengths)
            for track_id, end, length in zip(ids, ends, lengths, strict=True):
                yield track_id, numbers[end - length : end] if length else "no vector"


def _safetensors_rows(path: Path, track_ids: Sequence[str]) -> Iterator[_Row]:
    with safe_open(path, framework="numpy") as handle:
        names = set(handle.keys())
        part = handle.get_slice("vectors")
        if part.get_dtype() not in ("F64", "F32", "F16"):
            raise InputError(f"{path}: vectors are {part.get_dtype()}; write them as F32")
        ids = None
        if "track_ids" in names:
            ids = json.loads(handle.get_tensor("track_ids").tobytes())
        present = handle.get_tensor("present") if "present" in names else None
        yield from _array_rows(path, part, tuple(part.get_shape()), track_ids, ids, present)


def _array_rows(
    path: Path,
    vectors: Any,
    shape: tuple[int, ...],
    track_ids: Sequence[str],
    ids: Sequence[str] | None,
    present: np.ndarray | None,
) -> Iterator[_Row]:
    if len(shape) != 2 or shape[1] == 0:
        raise InputError(f"{path}: vectors are {list(shape)}, not [n, d]")
    if ids is None and shape[0] != len(track_ids):
        raise InputError(
            f"{path}: {shape[0]} rows for {len(track_ids)} tracks; give the rows a `track_ids`"
        )
    names = list(track_ids) if ids is None else ids
    if not isinstance(names, list) or not all(isinstance(name, str | None) for name in names):
        raise InputError(f"{path}: its track ids are not a list of texts")
    here = np.ones(shape[0], dtype=bool) if present is None else present.astype(bool)
    if here.shape != shape[:1]:
        raise InputError(f"{path}: `present` is {list(here.shape)}, not [{shape[0]}]")
    if len(names) != shape[0]:
        raise InputError(f"{path}: {shape[0]} vectors, {len(names)} track ids")
    for start in range(0, shape[0], BLOCK):
        block = np.asarray(vectors[start : min(start + BLOCK, shape[0])])
        if block.dtype.kind not in "fiu":
            raise InputError(f"{path}: vectors are {block.dtype}, not numbers")
        for row, vector in enumerate(block.astype(np.float32), start=start):
            if here[row]:
                yield names[row], vector
