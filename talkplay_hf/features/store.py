"""The features folder: one safetensors file a modality, with the track order."""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open

from talkplay_hf.catalog.schema import MODALITIES
from talkplay_hf.errors import ArtifactError, InputError, first_line
from talkplay_hf.hub import files

TRACK_ORDER = "track_ids.json"
FAILURES = "failures.parquet"
BLOCK = 4096  # rows that are read or written at once


@dataclass(frozen=True)
class ModalityVectors:
    """The vectors of one modality.

    Args:
        vectors (`np.ndarray` of shape `[n, d]`, float32): One row a track; rows of tracks without
            the modality are zero. It may lie in a file (`np.memmap`): slices of it are then read
            from disk.
        present (`np.ndarray` of shape `[n]`, bool): Which tracks have the modality.

    Raises:
        InputError: If the shapes do not fit or a present row has a value that is not finite.
    """

    vectors: np.ndarray
    present: np.ndarray

    def __post_init__(self) -> None:
        if self.vectors.ndim != 2 or self.present.shape != self.vectors.shape[:1]:
            raise InputError(
                f"vectors {self.vectors.shape} and present {self.present.shape} do not fit"
            )
        for start, block in blocks(self.vectors):
            bad = ~np.isfinite(block).all(axis=1) & self.present[start : start + len(block)]
            if bad.any():
                row = start + int(np.argmax(bad))
                raise InputError(f"row {row}: the vector has a value that is not finite")


def absent(n: int) -> ModalityVectors:
    """The vectors of a modality that no track has."""
    return ModalityVectors(np.zeros((n, 1), dtype=np.float32), np.zeros(n, dtype=bool))


def blocks(vectors: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Walk over `[n, d]` in blocks of rows, as (first row, block)."""
    for start in range(0, len(vectors), BLOCK):
        yield start, vectors[start : start + BLOCK]


def _header(shape: tuple[int, int]) -> bytes:
    """The head of a vectors file; the vectors follow it, then the mask."""
    size = 4 * shape[0] * shape[1]
    vectors = {"dtype": "F32", "shape": list(shape), "data_offsets": [0, size]}
    present = {"dtype": "BOOL", "shape": [shape[0]], "data_offsets": [size, size + shape[0]]}
    header = json.dumps({"vectors": vectors, "present": present}, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header


def write_vectors(
    path: str | Path, rows: Iterable[np.ndarray], shape: tuple[int, int], present: np.ndarray
) -> None:
    """Write a vectors file block by block, so that it never sits in memory.

    Args:
        path (`str` or `Path`): The safetensors file to write.
        rows (`Iterable[np.ndarray]`): Consecutive blocks `[b, d]`, float32.
        shape (`tuple[int, int]`): `(n, d)` of the whole.
        present (`np.ndarray` of shape `[n]`, bool): Which rows are present. It is read after
            the last block, so `rows` may fill it.
    """
    with Path(path).open("wb") as handle:
        for part in file_parts(rows, shape, present):
            handle.write(part)


def file_parts(
    rows: Iterable[np.ndarray], shape: tuple[int, int], present: np.ndarray
) -> Iterator[bytes | memoryview]:
    """What a vectors file consists of, in order, see `write_vectors`."""
    yield _header(shape)
    for block in rows:
        yield np.ascontiguousarray(block, dtype="<f4").data
    yield np.ascontiguousarray(present, dtype=bool).data


def create_vectors(path: str | Path, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Make a vectors file of zeros, for rows that come in any order.

    Returns:
        `tuple[np.ndarray, np.ndarray]`: Its vectors `[n, d]` and its mask `[n]`, to be filled in
        place; `n` and `d` are at least 1.
    """
    head, size = _header(shape), 4 * shape[0] * shape[1]
    with Path(path).open("wb") as handle:
        handle.write(head)
        handle.truncate(len(head) + size + shape[0])
    vectors = np.memmap(path, "<f4", mode="r+", offset=len(head), shape=shape)
    present = np.memmap(path, bool, mode="r+", offset=len(head) + size, shape=shape[:1])
    return vectors, present


def open_vectors(path: str | Path) -> ModalityVectors:
    """Open a vectors file; its rows stay on disk until they are used.

    Raises:
        ArtifactError: If the file is missing, damaged, or holds values that are not finite.
    """
    path = Path(path)
    try:
        with safe_open(path, framework="numpy") as handle:  # checks the header and the length
            present = handle.get_tensor("present")
            part = handle.get_slice("vectors")
            shape, kind = tuple(part.get_shape()), part.get_dtype()
        if kind != "F32" or len(shape) != 2:
            raise ArtifactError(f"{path}: vectors are {kind} {shape}, not F32 [n, d]")
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            begin = json.loads(file.read(length))["vectors"]["data_offsets"][0]
        vectors: np.ndarray
        if 0 in shape:
            vectors = np.zeros(shape, dtype=np.float32)  # nothing cannot be mapped
        else:
            vectors = np.memmap(path, "<f4", mode="r", offset=8 + length + begin, shape=shape)
        return ModalityVectors(vectors, present)
    except (SafetensorError, OSError, KeyError) as error:
        raise ArtifactError(f"{path}: cannot be read ({first_line(error)})") from None
    except InputError as error:
        raise ArtifactError(f"{path}: {error}") from None


def save_vectors(path: str | Path, made: ModalityVectors) -> None:
    """Write a vectors file from vectors that may themselves lie in a file."""
    n, d = made.vectors.shape
    write_vectors(path, (block for _, block in blocks(made.vectors)), (n, d), made.present)


def write_track_order(folder: Path, track_ids: Sequence[str]) -> None:
    """Write which row is which track into a (staged) features folder."""
    (folder / TRACK_ORDER).write_text(json.dumps(list(track_ids)), encoding="utf-8")


def load_features(folder: str | Path) -> tuple[list[str], dict[str, ModalityVectors]]:
    """Open a features folder; vectors stay on disk until they are used.

    Returns:
        `tuple[list[str], dict[str, ModalityVectors]]`: The track order, and the vectors of each
        modality in the order of the paper.

    Raises:
        ArtifactError: If the folder is of another kind or a file is missing or damaged.
    """
    folder = Path(folder)
    files.read_manifest(folder, "features")
    track_ids: list[str] = files.read_json(folder / TRACK_ORDER)
    modalities = {}
    for name in MODALITIES:
        path = folder / f"{name}.safetensors"
        modalities[name] = open_vectors(path)
        rows = len(modalities[name].present)
        if rows != len(track_ids):
            raise ArtifactError(f"{path}: has {rows} rows, {TRACK_ORDER} has {len(track_ids)}")
    return track_ids, modalities
