"""Text vectors without a download: tf-idf, then truncated SVD."""

from collections.abc import Sequence

import numpy as np
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer

from talkplay_hf.catalog.schema import Catalog
from talkplay_hf.features.cooccurrence import unit_rows
from talkplay_hf.features.store import ModalityVectors


def semantic_texts(catalog: Catalog) -> list[str]:
    """One document a track: its tags, the words of each joined by underscores."""
    return [
        " ".join("_".join(tag.casefold().split()) for tag in tags or ())
        for tags in catalog.column("tags")
    ]


def metadata_texts(catalog: Catalog) -> list[str]:
    """One document a track: title, artist (also as one whole term), album, year."""
    rows = zip(
        catalog.column("title"),
        catalog.column("artist"),
        catalog.column("album"),
        catalog.column("year"),
        strict=True,
    )
    return [
        " ".join(
            [
                title,
                artist,
                "artist_" + "_".join(artist.casefold().split()),
                album or "",
                f"year_{year} decade_{year // 10}" if year else "",
            ]
        )
        for title, artist, album, year in rows
    ]


def lyrics_texts(catalog: Catalog) -> list[str]:
    """One document a track: its lyrics."""
    return [lyrics or "" for lyrics in catalog.column("lyrics")]


def text_vectors(texts: Sequence[str], *, dim: int = 128, seed: int = 0) -> ModalityVectors:
    """Tf-idf with sublinear term frequency, then truncated SVD, rows of length 1.

    Args:
        texts (`Sequence[str]`): One document a track; an empty one is a missing modality.
        dim (`int`): Dimensions at most.
        seed (`int`): Seed of the randomised SVD.
    """
    present = np.array([bool(text.strip()) for text in texts], dtype=bool)
    empty = ModalityVectors(np.zeros((len(texts), 1), np.float32), np.zeros(len(texts), bool))
    if not present.any():
        return empty
    vectorizer = TfidfVectorizer(
        sublinear_tf=True,
        token_pattern=r"(?u)[^\s.,;:!?()\[\]\"]+",
        max_features=200_000,
        dtype=np.float32,
    )
    try:
        matrix = vectorizer.fit_transform(texts)
    except ValueError:  # nothing but punctuation in every document
        return empty
    present &= np.asarray(matrix.getnnz(axis=1)) > 0
    rank = min(dim, matrix.shape[1] - 1, int(present.sum()) - 1)
    if rank < 1:
        return ModalityVectors(unit_rows(matrix[:, :1].toarray()), present)
    reduced = TruncatedSVD(rank, random_state=seed).fit_transform(matrix)
    return ModalityVectors(unit_rows(reduced), present)
