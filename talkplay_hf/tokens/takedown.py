"""Taking tracks out of a tokenizer or model folder; codebooks and weights stay as they are."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from talkplay_hf.catalog.schema import Catalog
from talkplay_hf.catalog.takedown import choose_tracks, find_mentions, names_any, take_rows
from talkplay_hf.errors import ArtifactError
from talkplay_hf.hub import files
from talkplay_hf.tokens.build import write_labels
from talkplay_hf.tokens.folder import copy_folder, read_tokens, refresh, write_tokens

# written anew here, or of the model and its vocabulary, in which any word may stand
_NOT_LOOKED_INTO = re.compile(
    r"(catalog|codebook_labels)\.parquet|chat_template\.jinja|model.*\.json"
    r"|(examples|manifest|talkplay_config|codebook_health)\.json"
    r"|(config|generation_config|tokenizer|tokenizer_config|special_tokens_map)\.json"
)


def remove_tracks(
    folder: str | Path,
    track_ids: Iterable[str],
    out: str | Path,
    *,
    missing_ok: bool = False,
) -> dict[str, Any]:
    """Take tracks out of a tokenizer or model folder.

    The model can no longer recommend them: their rows leave the catalogue, and index, labels,
    health and examples are made anew. Codebooks, vocabulary and weights keep their bytes.
    Checkpoints of a training run are left out, since each has a catalogue of its own.

    A takedown reaches what is written from now on. What was pushed to the Hub before stays in the
    history of the repository until that is squashed (`HfApi.super_squash_history`). Weights that
    were trained on conversations which name a track, and a small vocabulary that was learnt from
    the texts of the catalogue, still know the name; only training again without the track ends
    that.

    Args:
        folder (`str` or `Path`): A tokenizer or model folder.
        track_ids (`Iterable[str]`): The tracks to take out.
        out (`str` or `Path`): The folder to write; may be the same folder.
        missing_ok (`bool`): Pass over ids that the catalogue does not have.

    Returns:
        `dict[str, Any]`: How many tracks were `removed`, ids were `unknown` and tracks are `left`,
        how many `examples` went because they name a removed track, and under `mentions` the other
        files that name one by id, title or artist, for a person to look at. Names that a remaining
        track has too do not count.

    Raises:
        ArtifactError: If the folder is damaged or of another kind, or `out` is something else.
        InputError: If an id is unknown, or no track would be left. Nothing is written then.
    """
    held = read_tokens(folder)
    files.check_target(out, held.kind)
    gone, unknown = choose_tracks(track_ids, held.catalog, held.folder, missing_ok=missing_ok)
    keep = np.array([one not in gone for one in held.catalog.track_ids])
    left = Catalog(take_rows(held.catalog.tracks, keep), held.catalog.playlists)
    codes, known = held.codes[keep], held.known[keep]
    words = gone | _names(held.catalog, keep)
    examples = _examples(held.folder)
    kept = [text for text in examples if not names_any(text, words)]
    with files.staged_folder(out, held.kind) as aside:
        copy_folder(held.folder, aside, out)
        write_tokens(aside, held, left, codes, known, held.config)
        write_labels(aside, left, codes, held.config.modalities)
        files.write_json(aside / files.EXAMPLES, kept)
        refresh(aside, out)
        mentions = find_mentions(aside, words, without=_NOT_LOOKED_INTO)
    return {
        "removed": len(gone),
        "unknown": len(unknown),
        "left": len(left),
        "examples": len(examples) - len(kept),
        "mentions": mentions,
    }


def _names(catalog: Catalog, keep: np.ndarray) -> set[str]:
    """The titles and artists that only the tracks not kept have."""
    found: tuple[set[str], set[str]] = (set(), set())
    for name in ("title", "artist"):
        for stays, text in zip(keep.tolist(), catalog.column(name), strict=True):
            found[stays].add(text.casefold())
    return found[False] - found[True]


def _examples(folder: Path) -> list[str]:
    path = folder / files.EXAMPLES
    values = files.read_json(path) if path.exists() else []
    if not isinstance(values, list):
        raise ArtifactError(f"{path}: is not a list of texts")
    return [str(text) for text in values]
