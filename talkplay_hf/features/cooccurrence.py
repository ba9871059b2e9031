"""Playlist co-occurrence vectors: truncated SVD of positive PMI."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from sklearn.utils.extmath import randomized_svd

from talkplay_hf.catalog.schema import Catalog
from talkplay_hf.catalog.splits import training_playlists
from talkplay_hf.features.encoders import Run
from talkplay_hf.features.store import ModalityVectors, absent

BLOCK = 8_192


@dataclass(frozen=True)
class PpmiSvd:
    """Vectors from which tracks share playlists, learnt from the training playlists only.

    The paper trains item2vec; factorising positive pointwise mutual information is its matrix
    counterpart (Levy and Goldberg, 2014) and needs no extra dependency. A track in no training
    playlist, or only alone in one, lacks the modality. The matrix of pairs takes about 30 KB a
    playlist of 66 tracks: 3 GB for 100,000 of them; for a million take item2vec.

    Args:
        dim (`int`): Dimensions at most (paper: 128).
    """

    modalities: ClassVar[tuple[str, ...]] = ("playlist",)

    dim: int = 128

    def encode(self, catalog: Catalog, modality: str, run: Run) -> ModalityVectors:
        """The playlist vectors, `[n, dim]`, rows of length 1."""
        train = training_playlists(catalog)
        run.keep({}, seen=train.tracks())
        incidence = train.incidence()
        counts = (incidence.T @ incidence).tocsr()
        counts.setdiag(0)
        counts.eliminate_zeros()
        degree = np.asarray(counts.sum(axis=1, dtype=np.float64)).ravel()
        present = degree > 0
        if not present.any():
            return absent(len(catalog))
        # the context distribution is smoothed by 0.75, as in word2vec
        context = degree**0.75
        scale = context.sum() / np.maximum(degree, 1.0)
        for start in range(0, len(degree), BLOCK):
            first, last = counts.indptr[start], counts.indptr[min(start + BLOCK, len(degree))]
            pairs = slice(first, last)
            lengths = np.diff(counts.indptr[start : start + BLOCK + 1])
            pmi = np.log(
                counts.data[pairs]
                * np.repeat(scale[start : start + BLOCK], lengths)
                / context[counts.indices[pairs]]
            )
            counts.data[pairs] = np.maximum(pmi, 0.0)
        counts.eliminate_zeros()
        rank = max(1, min(self.dim, int(present.sum()) - 1))
        left, singular, _ = randomized_svd(counts, rank, random_state=run.seed)
        return ModalityVectors(unit_rows(left * np.sqrt(singular)), present)


def unit_rows(vectors: np.ndarray) -> np.ndarray:
    """Scale the rows of `[n, d]` to length 1 (zero rows stay zero), as float32."""
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(norms, 1e-12), dtype=np.float32)
