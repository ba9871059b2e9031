"""Codes of finished codebooks for more tracks, or for another catalogue."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from talkplay_hf.catalog.cells import is_number, is_text
from talkplay_hf.catalog.schema import PLAYLIST_SCHEMA, Catalog
from talkplay_hf.catalog.splits import cold_tracks
from talkplay_hf.errors import ArtifactError, InputError
from talkplay_hf.hub import files
from talkplay_hf.hub.cards import write_card
from talkplay_hf.tokens.build import LEFT_OUT, Progress, Vectors, named_progress, write_labels
from talkplay_hf.tokens.codebooks import Codebook, known_codes
from talkplay_hf.tokens.config import TalkPlayConfig
from talkplay_hf.tokens.folder import HeldTokens, copy_folder, read_tokens, refresh, write_tokens
from talkplay_hf.tokens.missing import impute

TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")


def add_tracks(
    folder: str | Path,
    catalog: Catalog,
    modalities: Mapping[str, Vectors],
    out: str | Path,
    *,
    recode: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Give tracks codes from finished codebooks, and write the folder with them in it.

    Nothing is fitted again: codebooks, vocabulary and weights stay as they are, so that a model
    recommends the new tracks at once. A track that is there already takes the new metadata and
    keeps its codes; a column that the new table has no values in keeps the old ones. The labels of
    the codes are those of all tracks.

    Args:
        folder (`str` or `Path`): A tokenizer or model folder.
        catalog (`Catalog`): The tracks to add.
        modalities (`Mapping[str, tuple]`): `(vectors [n, d], present [n])` by modality, rows in
            catalog order, from the encoders that the codebooks were made from.
        out (`str` or `Path`): The folder to write; may be the same folder.
        recode (`bool`): Give tracks that are there already new codes too, from their new vectors.
            A model that was trained on their old codes has to find them under other ones.
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
    held = read_tokens(folder)
    files.check_target(out, held.kind)
    vectors = _vectors(held.folder, catalog, modalities, held.config, held.codebooks)
    is_new = np.array([one not in held.catalog for one in catalog.track_ids], dtype=bool)
    rows = np.arange(len(catalog)) if recode else np.flatnonzero(is_new)
    codes = _encode(held, vectors, rows, progress)
    all_codes, new = held.codes.copy(), np.flatnonzero(is_new)
    # a code that no codebook was fitted with is passed on to no other track
    known = np.concatenate([held.known, np.zeros((len(new), len(held.codebooks)), dtype=bool)])
    if recode:
        again = [held.catalog.row(catalog.track_ids[row]) for row in np.flatnonzero(~is_new)]
        all_codes[again], known[again] = codes[~is_new], False
    all_codes = np.concatenate([all_codes, codes[new]])
    merged = _merge(held.catalog, catalog, new)
    config = replace(held.config, made_from={**held.config.made_from, "added": catalog.fingerprint})
    with files.staged_folder(out, held.kind) as aside:
        copy_folder(held.folder, aside, out)
        report = write_tokens(aside, held, merged, all_codes, known, config)
        write_labels(aside, merged, all_codes, config.modalities, progress)
        refresh(aside, out)
    return {"added": len(new), "updated": len(catalog) - len(new), "health": report}


def encode_catalog(
    folder: str | Path,
    catalog: Catalog,
    modalities: Mapping[str, Vectors],
    out: str | Path,
    *,
    examples: Sequence[str] = (),
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Give the tracks of another catalog codes from finished codebooks, as a folder of their own.

    What comes out is a tokenizer folder without weights that holds these tracks alone. A model that
    was trained with the codebooks recommends them after `swap_catalog`.

    A missing modality is imputed from the tracks of `folder`, which the codebooks were fitted on.
    Tracks that are added to the new folder later are imputed from its own.

    Args:
        folder (`str` or `Path`): The tokenizer or model folder that has the codebooks.
        catalog (`Catalog`): The other catalog.
        modalities (`Mapping[str, tuple]`): As for `add_tracks`.
        out (`str` or `Path`): The tokenizer folder to make.
        examples (`Sequence[str]`): Opening requests that fit the catalog, for a demo page.
        progress (`Callable`, *optional*): Called with (what, done, total).

    Returns:
        `dict[str, Any]`: The codebook health report, as for `add_tracks`.

    Raises:
        ArtifactError: As for `add_tracks`.
        InputError: If the catalog has no tracks, or the vectors do not belong to it.
    """
    if not len(catalog):
        raise InputError("the catalog has no tracks, so there is nothing to give codes")
    held = read_tokens(folder)
    files.check_target(out, "tokenizer")
    vectors = _vectors(held.folder, catalog, modalities, held.config, held.codebooks)
    codes = _encode(held, vectors, np.arange(len(catalog)), progress)
    known = known_codes([present for _, present in vectors], ~cold_tracks(catalog))
    made_from = {**held.config.made_from, "catalog": catalog.fingerprint}
    made_from.pop("added", None)
    with files.staged_folder(out, "tokenizer") as aside:
        for name in (*TOKENIZER_FILES, files.CODEBOOKS):
            if not (held.folder / name).is_file():
                raise ArtifactError(f"{held.folder}: has no {name}")
            shutil.copyfile(held.folder / name, aside / name)
        config = replace(held.config, made_from=made_from)
        report = write_tokens(aside, held, catalog, codes, known, config)
        write_labels(aside, catalog, codes, config.modalities, progress)
        files.write_json(aside / files.EXAMPLES, list(examples))
        write_card(aside, title=Path(out).name)
        files.refresh_manifest(aside)
    return report


def _encode(
    held: HeldTokens, vectors: Sequence[Vectors], rows: np.ndarray, progress: Progress | None
) -> np.ndarray:
    """The codes of some rows of new vectors, int32 `[n, modalities]`; other rows are undefined."""
    codes = np.tile(np.array(held.config.codes, dtype=np.int32) - 1, (len(vectors[0][1]), 1))
    for m, (book, (values, present)) in enumerate(zip(held.codebooks, vectors, strict=True)):
        has = rows[present[rows]]
        if len(has):
            codes[has, m] = book.encode(values, has)
        if progress is not None:
            progress("encoding tracks", m + 1, len(held.codebooks))
    if held.config.missing == "impute":
        impute(
            codes,
            rows,
            vectors,
            [book.centroids for book in held.codebooks],
            held.codes,
            held.known,
            progress=named_progress(progress, "imputing codes"),
        )
    return codes


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
    if is_number(kind):
        return "number"
    if is_text(kind):
        return "text"
    return "list" if pa.types.is_list(kind) or pa.types.is_large_list(kind) else str(kind)
