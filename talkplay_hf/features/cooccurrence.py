"""Playlist co-occurrence vectors: truncated SVD of positive PMI."""

from collections.abc import Sequence

import numpy as np
from scipy import sparse
from sklearn.utils.extmath import randomized_svd

from talkplay_hf.catalog.schema import Catalog
from talkplay_hf.catalog.splits import playlist_splits
from talkplay_hf.features.store import ModalityVectors


def playlist_vectors(catalog: Catalog, *, dim: int = 128, seed: int = 0) -> ModalityVectors:
    """Vectors from which tracks share playlists, learnt from the training playlists only.

    The paper trains item2vec; factorising positive pointwise mutual information is its matrix
    counterpart (Levy and Goldberg, 2014) and needs no extra dependency. A track in no training
    playlist, or only alone in one, is cold: its row is not present.

    Args:
        catalog (`Catalog`): The catalog.
        dim (`int`): Dimensions at most (paper: 128).
        seed (`int`): Seed of the randomised SVD.
    """
    splits = playlist_splits(catalog)
    n = len(catalog)
    lists = [
        sorted({catalog.row(track_id) for track_id in playlist.track_ids if track_id in catalog})
        for playlist in catalog.iter_playlists()
        if splits[playlist.playlist_id] == "train"
    ]
    incidence = _incidence(lists, n)
    counts = (incidence.T @ incidence).tocsr()
    counts.setdiag(0)
    counts.eliminate_zeros()
    degree = np.asarray(counts.sum(axis=1)).ravel()
    present = degree > 0
    if not present.any():
        return ModalityVectors(np.zeros((n, 1), dtype=np.float32), present)
    pairs = counts.tocoo()
    # the context distribution is smoothed by 0.75, as in word2vec
    context = degree**0.75
    pmi = np.log(pairs.data * context.sum() / (degree[pairs.row] * context[pairs.col]))
    keep = pmi > 0
    ppmi = sparse.csr_matrix((pmi[keep], (pairs.row[keep], pairs.col[keep])), shape=(n, n))
    rank = max(1, min(dim, int(present.sum()) - 1))
    left, singular, _ = randomized_svd(ppmi, rank, random_state=seed)
    return ModalityVectors(unit_rows(left * np.sqrt(singular)), present)


def _incidence(lists: Sequence[Sequence[int]], n: int) -> sparse.csr_matrix:
    lengths = [len(rows) for rows in lists]
    indices = np.array([row for rows in lists for row in rows], dtype=np.int64)
    indptr = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    data = np.ones(len(indices), dtype=np.float64)
    return sparse.csr_matrix((data, indices, indptr), shape=(len(lists), n))


def unit_rows(vectors: np.ndarray) -> np.ndarray:
    """Scale the rows of `[n, d]` to length 1 (zero rows stay zero), as float32."""
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(norms, 1e-12), dtype=np.float32)
