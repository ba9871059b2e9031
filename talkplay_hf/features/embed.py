"""From a catalog folder to a features folder with the embedded default encoders."""

from collections.abc import Callable
from pathlib import Path

from talkplay_hf.catalog.schema import Catalog
from talkplay_hf.features.audio import audio_vectors
from talkplay_hf.features.cooccurrence import playlist_vectors
from talkplay_hf.features.store import ModalityVectors, save_features
from talkplay_hf.features.text import lyrics_texts, metadata_texts, semantic_texts, text_vectors


def embed(
    catalog: Catalog,
    out: str | Path,
    *,
    dim: int = 128,
    seed: int = 0,
    progress: Callable[[str, int, int], None] | None = None,
) -> dict[str, ModalityVectors]:
    """Compute the five modalities of a catalog and write them as a features folder.

    Playlist co-occurrence by PMI + SVD over the training playlists; tags, metadata and lyrics by
    tf-idf + SVD; audio from WAV clips or numeric descriptor columns.

    Args:
        catalog (`Catalog`): The catalog.
        out (`str` or `Path`): The features folder to make.
        dim (`int`): Dimensions of the playlist and text vectors, at most.
        seed (`int`): Seed of the randomised SVDs.
        progress (`Callable`, *optional*): Called with (what, done, total).

    Returns:
        `dict[str, ModalityVectors]`: The vectors by modality, in the order of the paper.
    """

    def step(number: int) -> None:
        if progress is not None:
            progress("embedding modalities", number, 5)

    step(0)
    modalities = {"playlist": playlist_vectors(catalog, dim=dim, seed=seed)}
    for number, (name, texts) in enumerate(
        (
            ("semantic", semantic_texts(catalog)),
            ("metadata", metadata_texts(catalog)),
            ("lyrics", lyrics_texts(catalog)),
        ),
        start=1,
    ):
        step(number)
        modalities[name] = text_vectors(texts, dim=dim, seed=seed)
    step(4)
    modalities["audio"], source = audio_vectors(catalog, progress=progress)
    encoders = dict.fromkeys(("semantic", "metadata", "lyrics"), f"tfidf-svd-{dim}") | {
        "playlist": f"ppmi-svd-{dim}",
        "audio": source,
    }
    save_features(
        out,
        catalog.track_ids,
        modalities,
        {"catalog": catalog.fingerprint},
        encoders=encoders,
        options={"dim": dim, "seed": seed},
    )
    step(5)
    return modalities
