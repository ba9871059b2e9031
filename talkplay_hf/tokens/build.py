"""From features to a tokenizer folder."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from safetensors.numpy import load_file, save_file
from transformers import PreTrainedTokenizerBase

from talkplay_hf.catalog.schema import MODALITIES, PLAYLIST_SCHEMA, Catalog
from talkplay_hf.catalog.splits import cold_tracks
from talkplay_hf.errors import ArtifactError, InputError, first_line
from talkplay_hf.hub import files
from talkplay_hf.tokens.codebooks import (
    MAX_CODES,
    encode_tracks,
    fit_codebook,
    known_codes,
    label_codes,
)
from talkplay_hf.tokens.config import DEFAULT_MISSING, MISSING_POLICIES, TalkPlayConfig, check_codes
from talkplay_hf.tokens.health import distortion, health, training_counts
from talkplay_hf.tokens.index import CatalogIndex
from talkplay_hf.tokens.tokenizer import TalkPlayTokenizer

Vectors = tuple[np.ndarray, np.ndarray]
Progress = Callable[[str, int, int], None]
LEFT_OUT = ("lyrics", "caption")
CODES, KNOWN = "codes", "codes_known"


def load_base_tokenizer(base: str) -> PreTrainedTokenizerBase:
    """Load the tokenizer of a base model by Hub id or folder.

    Raises:
        ArtifactError: If it cannot be loaded.
    """
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(base)
    except (OSError, ValueError, KeyError) as error:
        first = first_line(error)
        raise ArtifactError(f"the tokenizer of {base!r} cannot be loaded: {first}") from None


def tokenize(
    catalog: Catalog,
    modalities: dict[str, Vectors],
    out: str | Path,
    *,
    base: PreTrainedTokenizerBase,
    base_name: str,
    codes: int = MAX_CODES,
    missing: str = DEFAULT_MISSING,
    examples: Sequence[str] = (),
    seed: int = 0,
    made_from: dict[str, str] | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Fit the codebooks of a catalog and write its tokenizer folder.

    The codebooks see no cold track (paper 3.3); these are encoded with what was fitted on the rest.

    Args:
        catalog (`Catalog`): The catalog.
        modalities (`dict[str, tuple]`): `(vectors [n, d], present [n])` by modality, rows in
            catalog order.
        out (`str` or `Path`): The folder to make.
        base (`PreTrainedTokenizerBase`): The tokenizer to grow.
        base_name (`str`): What it is, for the record.
        codes (`int`): Upper bound of K (paper: 1024); smaller catalogues get smaller codebooks.
        missing (`str`): `"reserve"` or `"impute"`, see `TalkPlayConfig`.
        examples (`Sequence[str]`): Opening requests that fit the catalogue, for a demo page.
        seed (`int`): Seed of K-means.
        made_from (`dict[str, str]`, *optional*): SHA-256 of the inputs, by name.
        progress (`Callable`, *optional*): Called with (what, done, total).

    Returns:
        `dict[str, Any]`: The codebook health report, also written to `codebook_health.json`.

    Raises:
        InputError: If an option is out of range or the vectors do not belong to the catalog.
    """
    if missing not in MISSING_POLICIES:
        raise InputError(f"missing {missing!r}: must be one of {MISSING_POLICIES}")
    check_codes(codes)
    vectors = [modalities[name] for name in MODALITIES]
    if any(len(rows) != len(catalog) for rows, _ in vectors):
        raise InputError("the features were made from another catalog; run `talkplay embed` again")
    fit_on = ~cold_tracks(catalog)
    codebooks = [
        fit_codebook(
            rows,
            present,
            fit_on=fit_on,
            limit=codes,
            reserve=missing == "reserve",
            seed=seed + number,
            progress=named_progress(progress, f"K-means of {name}"),
        )
        for number, (name, (rows, present)) in enumerate(zip(MODALITIES, vectors, strict=True))
    ]
    track_codes = encode_tracks(
        codebooks,
        vectors,
        missing=missing,
        fit_on=fit_on,
        seed=seed,
        progress=named_progress(progress, "imputing codes"),
    )
    known = known_codes([present for _, present in vectors], fit_on)
    report = health(
        track_codes,
        [book.size for book in codebooks],
        MODALITIES,
        distortions=[
            distortion(rows, np.flatnonzero(known[:, m]), track_codes[:, m], book.centroids)
            for m, (book, (rows, _)) in enumerate(zip(codebooks, vectors, strict=True))
        ],
        training=training_counts(catalog),
    )
    with files.staged_folder(out, "tokenizer") as aside:
        save_file(
            {name: book.centroids for name, book in zip(MODALITIES, codebooks, strict=True)},
            aside / files.CODEBOOKS,
        )
        write_token_catalog(catalog, track_codes, aside / files.TOKEN_CATALOG, known)
        index = CatalogIndex(track_codes, [book.size for book in codebooks])
        index.save(aside / files.CATALOG_INDEX)
        write_labels(aside, catalog, track_codes, MODALITIES, progress)
        files.write_json(aside / files.CODEBOOK_HEALTH, report)
        files.write_json(aside / files.EXAMPLES, list(examples))
        config = TalkPlayConfig(
            codes=tuple(book.size for book in codebooks),
            base=base_name,
            base_vocab_size=len(base),
            codebook_hash=files.sha256_file(aside / files.CODEBOOKS),
            catalog_hash=files.sha256_file(aside / files.TOKEN_CATALOG),
            missing=missing,
            made_from=made_from or {},
        )
        files.write_json(aside / files.TALKPLAY_CONFIG, config.to_dict())
        tokenizer = TalkPlayTokenizer.grow(base, config.music_tokens)
        tokenizer.attach(aside)
        tokenizer.save_pretrained(aside)
    return report


def write_token_catalog(
    catalog: Catalog, codes: np.ndarray, path: Path, known: np.ndarray | None = None
) -> None:
    """Write `catalog.parquet` of a tokenizer folder: codes, display metadata, columns for rules.

    Args:
        catalog (`Catalog`): The tracks.
        codes (`np.ndarray` of shape `[n, modalities]`, int32): Their codes.
        path (`Path`): The file to write.
        known (`np.ndarray` of shape `[n, modalities]`, bool, *optional*): Which codes come from a
            vector that the codebooks were fitted on, see `known_codes`.
    """
    table = catalog.tracks.drop_columns(LEFT_OUT)
    table = table.append_column(CODES, _rows_of(codes, pa.int32()))
    if known is not None:
        table = table.append_column(KNOWN, _rows_of(known, pa.bool_()))
    pq.write_table(table, path, compression="zstd")


def _rows_of(values: np.ndarray, kind: pa.DataType) -> pa.FixedSizeListArray:
    return pa.FixedSizeListArray.from_arrays(pa.array(values.ravel(), kind), values.shape[1])


def write_labels(
    folder: Path,
    catalog: Catalog,
    codes: np.ndarray,
    modalities: Sequence[str],
    progress: Progress | None = None,
) -> None:
    """Write `codebook_labels.parquet` of a (staged) folder, see `label_codes`."""
    labels = label_codes(
        codes,
        modalities,
        catalog.tracks["tags"],
        catalog.track_ids,
        pc.fill_null(catalog.tracks["popularity"], 0.0).to_numpy(),
        progress,
    )
    pq.write_table(pa.Table.from_pylist(list(labels)), folder / files.CODEBOOK_LABELS)


def read_token_catalog(path: str | Path) -> tuple[Catalog, np.ndarray]:
    """Read `catalog.parquet` of a tokenizer folder.

    Returns:
        `tuple[Catalog, np.ndarray]`: The tracks (no playlists) and their codes, int32
        `[n, modalities]`.

    Raises:
        ArtifactError: If the file is damaged, or has no codes or no tracks.
    """
    try:
        # `pq.read_table`, `np.asarray` of an Arrow array and `empty_table` would each import a
        # large package first, which takes longer than all the rest
        with pq.ParquetFile(path) as file:
            table = file.read([name for name in file.schema_arrow.names if name != KNOWN])
        if not len(table):
            raise ArtifactError(f"{path}: has no tracks")
        column = table[CODES].combine_chunks()
        # neither numbers with nulls in them, nor fractions, nor text
        found = np.from_dlpack(column.flatten())
        codes = found.astype(np.int32, casting="same_kind").reshape(table.num_rows, -1)
    except (pa.ArrowException, OSError, KeyError, ValueError, TypeError, AttributeError) as error:
        raise ArtifactError(f"{path}: cannot be read ({first_line(error)})") from None
    no_playlists = pa.Table.from_batches([], schema=PLAYLIST_SCHEMA)
    return Catalog(table.drop_columns([CODES]), no_playlists), codes


def read_fitting_catalog(path: str | Path, sizes: Sequence[int]) -> tuple[Catalog, np.ndarray]:
    """Read `catalog.parquet` of a tokenizer folder, and check it against the codebooks.

    Args:
        path (`str` or `Path`): The file.
        sizes (`Sequence[int]`): Codebook size K per modality.

    Returns:
        `tuple[Catalog, np.ndarray]`: As `read_token_catalog` gives.

    Raises:
        ArtifactError: If the file is missing or damaged, or does not fit the codebooks.
    """
    if not Path(path).is_file():
        raise ArtifactError(f"{Path(path).parent}: has no {Path(path).name}")
    try:
        catalog, codes = read_token_catalog(path)
    except InputError as error:
        raise ArtifactError(f"{path}: {error}") from None
    if codes.shape[1] != len(sizes):
        raise ArtifactError(f"{path}: has {codes.shape[1]} codes a track, not {len(sizes)}")
    if ((codes < 0) | (codes >= np.asarray(sizes))).any():
        raise ArtifactError(f"{path}: has codes beyond the codebooks")
    return catalog, codes


def read_known_codes(path: str | Path, codes: np.ndarray) -> np.ndarray:
    """Which codes of a `catalog.parquet` come from a vector that the codebooks were fitted on.

    Returns:
        `np.ndarray` of shape `[n, modalities]`, bool: All true where the file does not say.

    Raises:
        ArtifactError: If the column is damaged.
    """
    try:
        if KNOWN not in pq.read_schema(path).names:
            return np.ones(codes.shape, dtype=bool)
        column = pq.read_table(path, columns=[KNOWN])[KNOWN].combine_chunks()
    except (pa.ArrowException, OSError) as error:
        raise ArtifactError(f"{path}: cannot be read ({first_line(error)})") from None
    lists = pa.types.is_list(column.type) or pa.types.is_fixed_size_list(column.type)
    flat = column.flatten() if lists else column
    if not pa.types.is_boolean(flat.type) or len(flat) != codes.size:
        raise ArtifactError(f"{path}: {KNOWN} is not one true or false for each of {CODES}")
    known = flat.to_numpy(zero_copy_only=False)
    return np.asarray(known.reshape(codes.shape).astype(bool))


def load_centroids(path: str | Path) -> dict[str, np.ndarray]:
    """Read `codebooks.safetensors`: centroids `[clusters, d]` float32 by modality."""
    centroids: dict[str, np.ndarray] = load_file(path)
    return centroids


def catalog_texts(catalog: Catalog) -> Iterable[str]:
    """The catalog's own text, for training a small tokenizer: titles, artists, albums, tags."""
    for name in ("title", "artist", "album"):
        yield from (text for text in catalog.column(name) if text)
    for tags in catalog.column("tags"):
        yield " ".join(tags or ())


def named_progress(progress: Progress | None, what: str) -> Callable[[int, int], None] | None:
    """What calls `progress` with a name for what is done, or `None` where nobody listens."""
    return None if progress is None else lambda done, total: progress(what, done, total)
