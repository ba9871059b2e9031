"""A catalog's tokenizer from its features: made, extended by tracks, or with finished codebooks."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from talkplay_hf.catalog.schema import Catalog
from talkplay_hf.conversations.dataset import load_conversations
from talkplay_hf.conversations.simulation.simulator import suggest_openers
from talkplay_hf.errors import ArtifactError
from talkplay_hf.hub import files
from talkplay_hf.tokens.config import DEFAULT_MISSING, SCRATCH, TalkPlayConfig

Progress = Callable[[str, int, int], None]
BASE_VOCABULARY = 1200


def make_tokenizer(
    catalog: Catalog,
    features: str | Path,
    out: str | Path,
    *,
    base: str = SCRATCH,
    base_vocabulary: int = BASE_VOCABULARY,
    conversations: str | Path | None = None,
    codes: int = 1024,
    missing: str = DEFAULT_MISSING,
    made_from: dict[str, str] | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Codebooks and tokenizer of a catalog, grown from a base model's or from a small one.

    Args:
        catalog (`Catalog`): The catalog.
        features (`str` or `Path`): Its features folder.
        out (`str` or `Path`): The tokenizer folder to make.
        base (`str`): Base model id or folder; `"scratch"` trains a small byte-level BPE.
        base_vocabulary (`int`): Tokens of that BPE, at most.
        conversations (`str` or `Path`, *optional*): Conversations whose text a small BPE learns.
        codes (`int`): Upper bound of the codebook size.
        missing (`str`): Policy for missing modalities, see `TalkPlayConfig`.
        made_from (`dict[str, str]`, *optional*): SHA-256 of the inputs, by name; those of the
            catalog and the features when left out.
        seed (`int`): Seed of K-means and the example requests.
        progress (`Callable`, *optional*): Called with (what, done, total).

    Returns:
        `dict[str, Any]`: The codebook health report.

    Raises:
        ArtifactError: If the features were made from other tracks.
        LeakageError: If an encoder of the features was fitted on what the catalog holds out.
    """
    from talkplay_hf.features.fitted import check_fitted
    from talkplay_hf.tokens.bpe import train_bpe
    from talkplay_hf.tokens.build import catalog_texts, load_base_tokenizer, tokenize

    vectors = _vectors(features, catalog)
    check_fitted(features, catalog)
    if base == SCRATCH:
        texts = list(catalog_texts(catalog))
        if conversations is not None:
            for conversation in load_conversations(conversations, ["train"]):
                texts += [m.content for m in conversation.messages if m.content]
        tokenizer = train_bpe(texts, vocab_size=base_vocabulary)
    else:
        tokenizer = load_base_tokenizer(base)
    return tokenize(
        catalog,
        vectors,
        out,
        base=tokenizer,
        base_name=base,
        codes=codes,
        missing=missing,
        examples=suggest_openers(catalog, seed=seed),
        seed=seed,
        made_from=made_from
        or {"catalog": catalog.fingerprint, "features": features_identity(features)},
        progress=progress,
    )


def extend_tokenizer(
    catalog: Catalog,
    features: str | Path,
    folder: str | Path,
    out: str | Path,
    *,
    recode: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Add tracks to a tokenizer or model folder, see `add_tracks`; nothing is fitted again.

    Args:
        catalog (`Catalog`): The tracks to add.
        features (`str` or `Path`): Their features folder, made by `embed(..., like=)`.
        folder (`str` or `Path`): The tokenizer or model folder.
        out (`str` or `Path`): The folder to write; may be the same folder.
        recode (`bool`): Give tracks that are there already new codes too.
        progress (`Callable`, *optional*): Called with (what, done, total).

    Returns:
        `dict[str, Any]`: `added`, `updated` and the codebook `health`.

    Raises:
        ArtifactError: If the features were not made like those of the folder, or of other tracks.
    """
    from talkplay_hf.tokens.extend import add_tracks

    vectors = _vectors_like(features, catalog, folder)
    return add_tracks(folder, catalog, vectors, out, recode=recode, progress=progress)


def encode_tokenizer(
    catalog: Catalog,
    features: str | Path,
    folder: str | Path,
    out: str | Path,
    *,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Make a tokenizer folder of another catalog with the codebooks of a folder, see
    `encode_catalog`; nothing is fitted again.

    Args:
        catalog (`Catalog`): The other catalog.
        features (`str` or `Path`): Its features folder, made by `embed(..., like=)`.
        folder (`str` or `Path`): The tokenizer or model folder that has the codebooks.
        out (`str` or `Path`): The tokenizer folder to make.
        progress (`Callable`, *optional*): Called with (what, done, total).

    Returns:
        `dict[str, Any]`: The codebook health report.

    Raises:
        ArtifactError: If the features were not made like those of the folder, or of other tracks.
    """
    from talkplay_hf.tokens.extend import encode_catalog

    return encode_catalog(
        folder,
        catalog,
        _vectors_like(features, catalog, folder),
        out,
        examples=suggest_openers(catalog),
        progress=progress,
    )


def _vectors_like(features: str | Path, catalog: Catalog, folder: str | Path) -> dict[str, Any]:
    """The vectors of a catalog's tracks, if the encoders are those of a folder's codebooks."""
    vectors = _vectors(features, catalog)
    if (Path(folder) / files.TALKPLAY_CONFIG).exists():
        wanted = TalkPlayConfig.load(Path(folder) / files.TALKPLAY_CONFIG).made_from.get("features")
        like = files.read_manifest(features, "features")["made_from"].get("like")
        if wanted is not None and wanted not in (like, features_identity(features)):
            raise ArtifactError(
                f"{features}: was not made like the features of {folder}; make it with "
                "`talkplay embed --like` and the features folder that the codebooks come from"
            )
    return vectors


def _vectors(features: str | Path, catalog: Catalog) -> dict[str, Any]:
    """The vectors of a catalog's tracks: `(vectors [n, d], present [n])` by modality."""
    from talkplay_hf.features.store import load_features

    track_ids, modalities = load_features(features)
    if track_ids != catalog.track_ids:
        raise ArtifactError(
            f"{features}: was made from other tracks than the catalog; run `talkplay embed` again"
        )
    return {name: (made.vectors, made.present) for name, made in modalities.items()}


def features_identity(features: str | Path) -> str:
    """SHA-256 that identifies a features folder by its content."""
    return files.content_hash(files.read_manifest(features, "features"))
