"""From features to a tokenizer folder."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from safetensors.numpy import load_file, save_file
from transformers import PreTrainedTokenizerBase

from talkplay_hf.catalog.schema import MODALITIES, PLAYLIST_SCHEMA, Catalog
from talkplay_hf.errors import ArtifactError, InputError
from talkplay_hf.hub import files
from talkplay_hf.tokens.codebooks import (
    MAX_CODES,
    encode_tracks,
    fit_codebook,
    health,
    label_codes,
)
from talkplay_hf.tokens.config import MISSING_POLICIES, TalkPlayConfig, check_codes
from talkplay_hf.tokens.tokenizer import TalkPlayTokenizer

Vectors = tuple[np.ndarray, np.ndarray]
LEFT_OUT = ("lyrics", "caption")


def load_base_tokenizer(base: str) -> PreTrainedTokenizerBase:
    """Load the tokenizer of a base model by Hub id or folder.

    Raises:
        ArtifactError: If it cannot be loaded.
    """
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(base)
    except (OSError, ValueError, KeyError) as error:
        first = str(error).strip().splitlines()[0]
        raise ArtifactError(f"the tokenizer of {base!r} cannot be loaded: {first}") from None


def tokenize(
    catalog: Catalog,
    modalities: dict[str, Vectors],
    out: str | Path,
    *,
    base: PreTrainedTokenizerBase,
    base_name: str,
    codes: int = MAX_CODES,
    missing: str = "reserve",
    examples: Sequence[str] = (),
    seed: int = 0,
    made_from: dict[str, str] | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> dict[str, Any]:
    """Fit the codebooks of a catalog and write its tokenizer folder.

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
    codebooks = []
    for number, (rows, present) in enumerate(vectors):
        codebooks.append(
            fit_codebook(
                rows, present, limit=codes, reserve=missing == "reserve", seed=seed + number
            )
        )
        if progress is not None:
            progress("fitting codebooks", number + 1, len(MODALITIES))
    track_codes = encode_tracks(codebooks, vectors, missing=missing)
    report = health(track_codes, [book.size for book in codebooks], MODALITIES)
    with files.staged_folder(out, "tokenizer") as aside:
        save_file(
            {name: book.centroids for name, book in zip(MODALITIES, codebooks, strict=True)},
            aside / files.CODEBOOKS,
        )
        write_token_catalog(catalog, track_codes, aside / files.TOKEN_CATALOG)
        labels = label_codes(
            track_codes,
            MODALITIES,
            [row or [] for row in catalog.column("tags")],
            catalog.track_ids,
            np.array([value or 0.0 for value in catalog.column("popularity")]),
            progress,
        )
        pq.write_table(pa.Table.from_pylist(list(labels)), aside / files.CODEBOOK_LABELS)
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


def write_token_catalog(catalog: Catalog, codes: np.ndarray, path: Path) -> None:
    """Write `catalog.parquet` of a tokenizer folder: codes, display metadata, columns for rules."""
    table = catalog.tracks.drop_columns(LEFT_OUT)
    column = pa.FixedSizeListArray.from_arrays(pa.array(codes.ravel(), pa.int32()), codes.shape[1])
    pq.write_table(table.append_column("codes", column), path, compression="zstd")


def read_token_catalog(path: str | Path) -> tuple[Catalog, np.ndarray]:
    """Read `catalog.parquet` of a tokenizer folder.

    Returns:
        `tuple[Catalog, np.ndarray]`: The tracks (no playlists) and their codes, int32
        `[n, modalities]`.

    Raises:
        ArtifactError: If the file is damaged or has no codes.
    """
    try:
        table = pq.read_table(path)
        column = table["codes"].combine_chunks()
        codes = np.asarray(column.flatten()).reshape(table.num_rows, -1).astype(np.int32)
    except (pa.ArrowException, OSError, KeyError, ValueError) as error:
        raise ArtifactError(f"{path}: cannot be read ({error})") from None
    return Catalog(table.drop_columns("codes"), PLAYLIST_SCHEMA.empty_table()), codes


def load_centroids(path: str | Path) -> dict[str, np.ndarray]:
    """Read `codebooks.safetensors`: centroids `[clusters, d]` float32 by modality."""
    return load_file(path)


def catalog_texts(catalog: Catalog) -> Iterable[str]:
    """The catalog's own text, for training a small tokenizer: titles, artists, albums, tags."""
    for name in ("title", "artist", "album"):
        yield from (text for text in catalog.column(name) if text)
    for tags in catalog.column("tags"):
        yield " ".join(tags or ())
