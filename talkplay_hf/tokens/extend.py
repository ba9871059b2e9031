"""Adding tracks to a finished tokenizer or model folder: new codes, same codebooks."""

import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from talkplay_hf import __version__
from talkplay_hf.catalog.schema import PLAYLIST_SCHEMA, Catalog
from talkplay_hf.errors import ArtifactError, InputError
from talkplay_hf.hub import files
from talkplay_hf.tokens.build import (
    LEFT_OUT,
    load_centroids,
    read_known_codes,
    read_token_catalog,
    write_token_catalog,
)
from talkplay_hf.tokens.codebooks import Codebook
from talkplay_hf.tokens.config import TalkPlayConfig
from talkplay_hf.tokens.health import health
from talkplay_hf.tokens.index import CatalogIndex
from talkplay_hf.tokens.missing import impute

Vectors = tuple[np.ndarray, np.ndarray]


def add_tracks(
    folder: str | Path,
    catalog: Catalog,
    modalities: Mapping[str, Vectors],
    out: str | Path,
    *,
    progress: Callable[[str, int, int], None] | None = None,
) -> dict[str, Any]:
    """Give tracks codes from finished codebooks, and write the folder with them in it.

    Nothing is fitted again: codebooks, vocabulary and weights stay as they are, so that a model
    recommends the new tracks at once. A track that is there already keeps its codes and takes the
    new metadata; a column that the new table has no values in keeps the old ones.

    Args:
        folder (`str` or `Path`): A tokenizer or model folder.
        catalog (`Catalog`): The tracks to add.
        modalities (`Mapping[str, tuple]`): `(vectors [n, d], present [n])` by modality, rows in
            catalog order, from the encoders that the codebooks were made from.
        out (`str` or `Path`): The folder to write; may be the same folder.
        progress (`Callable`, *optional*): Called with (what, done, total).

    Returns:
        `dict[str, Any]`: How many tracks were `added`, how many were there and `updated`, and
        the codebook `health`, also written to `codebook_health.json`. Its distortion and its
        occurrences in training stay those of the codebooks' own training.

    Raises:
        ArtifactError: If the folder is damaged or of another kind, or the vectors come from other
            encoders.
        InputError: If the vectors do not belong to the catalog, or a column has values of another
            kind than the one of the same name in the folder.
    """
    folder = Path(folder)
    kind = files.folder_kind(folder) if folder.is_dir() else None
    if kind not in ("tokenizer", "model"):
        raise ArtifactError(f"{folder}: is not a tokenizer or model folder")
    files.check_target(out, kind)
    config = TalkPlayConfig.load(folder / files.TALKPLAY_CONFIG)
    codebooks = _codebooks(folder, config)
    vectors = _vectors(folder, catalog, modalities, config, codebooks)
    old, old_codes = read_token_catalog(folder / files.TOKEN_CATALOG)
    old_known = read_known_codes(folder / files.TOKEN_CATALOG, old_codes)

    rows = np.array([row for row, one in enumerate(catalog.track_ids) if one not in old], dtype=int)
    codes = np.tile(np.array(config.codes, dtype=np.int32) - 1, (len(catalog), 1))
    for m, (book, (values, present)) in enumerate(zip(codebooks, vectors, strict=True)):
        has = rows[present[rows]]
        if len(has):
            codes[has, m] = book.encode(values, has)
        if progress is not None:
            progress("encoding tracks", m + 1, len(codebooks))
    if config.missing == "impute":
        impute(
            codes,
            rows,
            vectors,
            [book.centroids for book in codebooks],
            old_codes,
            old_known,
            progress=None
            if progress is None
            else lambda done, total: progress("imputing codes", done, total),
        )
    merged = _merge(old, catalog, rows)
    all_codes = np.concatenate([old_codes, codes[rows]])
    # a code that no codebook was fitted with is passed on to no other track
    known = np.concatenate([old_known, np.zeros((len(rows), len(codebooks)), dtype=bool)])
    report = _health(folder, all_codes, config)
    with files.staged_folder(out, kind) as aside:
        shutil.copytree(
            folder,
            aside,
            dirs_exist_ok=True,
            ignore=shutil.ignore_patterns("checkpoint-*", files.TOKEN_CATALOG),
        )
        write_token_catalog(merged, all_codes, aside / files.TOKEN_CATALOG, known)
        CatalogIndex(all_codes, config.codes).save(aside / files.CATALOG_INDEX)
        files.write_json(aside / files.CODEBOOK_HEALTH, report)
        grown = replace(
            config,
            catalog_hash=files.sha256_file(aside / files.TOKEN_CATALOG),
            made_from={**config.made_from, "added": catalog.fingerprint},
            talkplay_hf=__version__,
        )
        files.write_json(aside / files.TALKPLAY_CONFIG, grown.to_dict())
    return {"added": len(rows), "updated": len(catalog) - len(rows), "health": report}


def _codebooks(folder: Path, config: TalkPlayConfig) -> list[Codebook]:
    """The codebooks of a folder, in the order of the config."""
    path = folder / files.CODEBOOKS
    if not path.exists():
        raise ArtifactError(f"{folder}: has no {files.CODEBOOKS}")
    if files.sha256_file(path) != config.codebook_hash:
        raise ArtifactError(f"{path}: is not the file that {files.TALKPLAY_CONFIG} names")
    centroids = load_centroids(path)
    pairs = zip(config.modalities, config.codes, strict=True)
    return [Codebook(centroids[name], size) for name, size in pairs]


def _vectors(
    folder: Path,
    catalog: Catalog,
    modalities: Mapping[str, Vectors],
    config: TalkPlayConfig,
    codebooks: list[Codebook],
) -> list[Vectors]:
    """The vectors in the order of the config, checked against catalog and codebooks."""
    vectors = []
    for name, book in zip(config.modalities, codebooks, strict=True):
        if name not in modalities:
            raise InputError(f"the features have no modality {name!r}, which {folder} has")
        values, present = modalities[name]
        if len(values) != len(catalog):
            raise InputError(
                f"{name}: {len(values)} vectors for {len(catalog)} tracks; the features were made "
                "from another catalog"
            )
        expected = book.centroids.shape[1]
        # a modality that no track has may come with any width
        if present.any() and values.shape[1] != expected:
            raise ArtifactError(
                f"{name}: the vectors have {values.shape[1]} dimensions, the codebooks of {folder} "
                f"{expected}; make the features with `talkplay embed --like FEATURES`, where "
                "FEATURES is the folder that the codebooks were made from"
            )
        vectors.append((values, present))
    return vectors


def _merge(old: Catalog, new: Catalog, rows: np.ndarray) -> Catalog:
    """The old tracks with new metadata where there is any, then the new tracks."""
    before, after = old.tracks.drop_columns(LEFT_OUT), new.tracks.drop_columns(LEFT_OUT)
    own = np.arange(len(old))
    replaced = np.array(
        [len(old) + new.row(one) if one in new else row for row, one in enumerate(old.track_ids)],
        dtype=np.int64,
    )
    columns = {}
    for name in dict.fromkeys([*before.column_names, *after.column_names]):
        left, right = _values(before, name), _values(after, name)
        first = own if right is None else replaced
        both = _stack(name, left, right, len(old), len(new))
        columns[name] = both.take(pa.array(np.concatenate([first, len(old) + rows])))
    return Catalog(pa.table(columns), PLAYLIST_SCHEMA.empty_table())


def _values(table: pa.Table, name: str) -> pa.ChunkedArray | None:
    """A column, or `None` where it is absent or has no values."""
    if name not in table.column_names or table[name].null_count == table.num_rows:
        return None
    return table[name]


def _stack(
    name: str,
    left: pa.ChunkedArray | None,
    right: pa.ChunkedArray | None,
    n_left: int,
    n_right: int,
) -> pa.ChunkedArray:
    """Two columns one below the other, nulls where one is `None`."""
    kinds = [column.type for column in (left, right) if column is not None] or [pa.null()]
    for kind in kinds if _family(kinds[0]) == _family(kinds[-1]) else ():
        try:
            chunks = [
                chunk
                for column, n in ((left, n_left), (right, n_right))
                for chunk in ([pa.nulls(n, kind)] if column is None else column.cast(kind).chunks)
            ]
        except pa.ArrowException:
            continue
        return pa.chunked_array(chunks, kind)
    raise InputError(
        f"the column {name!r} holds {kinds[1]} in the tracks to add and {kinds[0]} in the folder; "
        "rename it or convert it"
    )


def _family(kind: pa.DataType) -> str:
    """Which types may stand in one column; numbers must not become text unasked."""
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        return "number"
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return "text"
    return "list" if pa.types.is_list(kind) or pa.types.is_large_list(kind) else str(kind)


def _health(folder: Path, codes: np.ndarray, config: TalkPlayConfig) -> dict[str, Any]:
    """The health of all codes; what only the training data tells is taken from the folder."""
    report = health(codes, config.codes, config.modalities)
    path = folder / files.CODEBOOK_HEALTH
    if path.exists():
        before = files.read_json(path)
        if not isinstance(before, dict) or "modalities" not in before:
            raise ArtifactError(f"{path}: is not a codebook health report")
        for name, values in report["modalities"].items():
            report["modalities"][name] = {**before["modalities"].get(name, {}), **values}
    return report
