"""A features folder as it lies in a dataset repo: one Parquet table a modality.

`load_dataset(repo, "semantic")` reads such a table. Its columns are `track_id` and `vector`, null
where the track lacks the modality. The other files of the folder lie beside, so that
`unpack_features` gives the folder back byte for byte.
"""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa

from talkplay_hf.catalog.schema import MODALITIES
from talkplay_hf.errors import ArtifactError
from talkplay_hf.features.store import (
    TRACK_ORDER,
    ModalityVectors,
    file_parts,
    load_features,
    write_vectors,
)
from talkplay_hf.hub import files, shards
from talkplay_hf.hub.packed import (
    PACKED,
    check_hash,
    copy_files,
    read_packed_manifest,
    write_packed_manifest,
)

KIND = "features"
# Vectors of a row group, in bytes: what is held in memory, and what a stream reads first.
GROUP_BYTES = 32_000_000
# A null of a column takes as much memory as a vector, so that a small file could fill it.
MOST_DIMENSIONS = 1 << 16


def pack_features(folder: str | Path, out: str | Path) -> None:
    """Make the dataset repo of a features folder, atomically and row group by row group.

    Vectors of tracks without the modality become null. Where such a row is not all zeros, or the
    file has its parts in another order, it comes back as `features.store` writes it today; the
    manifest then has the hash of that.

    Args:
        folder (`str` or `Path`): The features folder.
        out (`str` or `Path`): The folder to make. It has the tables `playlist`, `semantic`,
            `metadata`, `lyrics` and `audio` as `hub.shards` writes them, with the columns
            `track_id` (string) and `vector` (float32 `[d]`), and the other files of the folder.

    Raises:
        ArtifactError: If the folder is no features folder, packed already or damaged, or `out` is
            something else.
    """
    folder = Path(folder)
    manifest = files.read_manifest(folder, KIND)
    if PACKED in manifest:
        raise ArtifactError(
            f"{folder}: is packed already, as it lies on the Hub; unpack it with "
            "talkplay_hf.features.repo.unpack_features"
        )
    track_ids, modalities = load_features(folder)
    named: dict[str, str] = manifest["files"]
    with files.staged_folder(out, KIND) as aside:
        tables: list[Path] = []
        for modality, made in modalities.items():
            name, width = _file(modality), made.vectors.shape[1]
            if not 0 < width <= MOST_DIMENSIONS:
                raise ArtifactError(
                    f"{folder / name}: has vectors of {width} dimensions; 1 to {MOST_DIMENSIONS} "
                    "can be packed"
                )
            sha = _pack(aside, modality, track_ids, made)
            if sha != named.get(name):
                check_hash(folder / name, named.get(name), folder)
                named[name] = sha
            tables += shards.table_paths(aside, modality)
        copy_files(folder, named.keys() - set(map(_file, MODALITIES)), aside)
        write_packed_manifest(aside, manifest, tables)


def unpack_features(folder: str | Path, out: str | Path) -> None:
    """Make the features folder of a dataset repo again, atomically and piece by piece.

    Args:
        folder (`str` or `Path`): The repo's files, as `pack_features` makes them.
        out (`str` or `Path`): The features folder to make.

    Raises:
        ArtifactError: If a file is missing or damaged, or what comes out is not what was packed.
    """
    folder = Path(folder)
    manifest, _ = read_packed_manifest(folder, KIND)
    named = manifest["files"]
    track_ids = files.read_json(folder / TRACK_ORDER)
    if not isinstance(track_ids, list):
        raise ArtifactError(f"{folder / TRACK_ORDER}: is not a list of track ids")
    with files.staged_folder(out, KIND) as aside:
        copy_files(folder, named.keys() - set(map(_file, MODALITIES)), aside)
        for modality in MODALITIES:
            _unpack(folder, modality, track_ids, aside / _file(modality))
        for name in sorted(named.keys() - {files.CARD}):
            check_hash(aside / name, named[name], folder)
        files.write_json(aside / files.MANIFEST, manifest)


def _file(modality: str) -> str:
    return f"{modality}.safetensors"


def _pack(folder: Path, modality: str, track_ids: list[str], made: ModalityVectors) -> str:
    """Write one table; return the SHA-256 of the vectors file that will come out of it."""
    shape = made.vectors.shape
    schema = pa.schema([("track_id", pa.string()), ("vector", pa.list_(pa.float32(), shape[1]))])

    def written(writer: shards.TableWriter) -> Iterator[np.ndarray]:
        for start in range(0, shape[0], _rows(shape[1])):
            rows = slice(start, start + _rows(shape[1]))
            present = made.present[rows]
            block = np.where(present[:, None], made.vectors[rows], np.float32(0))
            vectors = pa.FixedSizeListArray.from_arrays(
                pa.array(block.reshape(-1)), shape[1], mask=pa.array(~present)
            )
            writer.write(pa.Table.from_arrays([pa.array(track_ids[rows]), vectors], schema=schema))
            yield block

    digest = hashlib.sha256()
    # numbers that are all different make no dictionary, and their bounds tell nothing
    with shards.TableWriter(
        folder, modality, schema, use_dictionary=False, write_statistics=["track_id"]
    ) as writer:
        for part in file_parts(written(writer), shape, made.present):
            digest.update(part)
    return digest.hexdigest()


def _unpack(folder: Path, modality: str, track_ids: list[str], path: Path) -> None:
    """Write one vectors file from its table."""
    where = f"{folder}: {modality}"
    kind = shards.read_schema(folder, modality)
    if kind.names != ["track_id", "vector"] or not (
        pa.types.is_fixed_size_list(kind.types[1])
        and pa.types.is_float32(kind.types[1].value_type)
        and 0 < kind.types[1].list_size <= MOST_DIMENSIONS
    ):
        raise ArtifactError(f"{where}: has not the columns track_id and vector (float32 [d])")
    width, present = kind.types[1].list_size, np.zeros(len(track_ids), dtype=bool)

    def rows() -> Iterator[np.ndarray]:
        start = 0
        for batch in shards.iter_batches(folder, modality, _rows(width)):
            end = start + len(batch)
            if (
                not batch.schema.equals(kind)
                or batch["track_id"].to_pylist() != track_ids[start:end]
            ):
                raise ArtifactError(f"{where}: row {start}: is not as {TRACK_ORDER} says")
            present[start:end] = batch["vector"].is_valid()
            block = np.zeros((len(batch), width), dtype=np.float32)
            block[present[start:end]] = (
                batch["vector"].flatten().to_numpy(zero_copy_only=False).reshape(-1, width)
            )
            yield block
            start = end
        if start != len(track_ids):
            raise ArtifactError(f"{where}: has {start} rows, {TRACK_ORDER} has {len(track_ids)}")

    write_vectors(path, rows(), (len(track_ids), width), present)


def _rows(width: int) -> int:
    """Rows of a row group."""
    return max(1, min(GROUP_BYTES // (4 * width), 1 << 16))
