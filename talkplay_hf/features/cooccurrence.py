"""Playlist co-occurrence vectors: truncated SVD of positive PMI."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from sklearn.utils.extmath import randomized_svd

from talkplay_hf.catalog.membership import Membership
from talkplay_hf.catalog.schema import Catalog
from talkplay_hf.catalog.splits import training_playlists
from talkplay_hf.features.shards import ShardedRun
from talkplay_hf.features.store import ModalityVectors, absent

BLOCK = 8_192
# Ordered pairs of tracks in a playlist that are counted at most, of 8 bytes each.
PAIRS = 1 << 27


@dataclass(frozen=True)
class PpmiSvd:
    """Vectors from which tracks share playlists, learnt from the training playlists only.

    The paper trains item2vec; factorising positive pointwise mutual information is its matrix
    counterpart (Levy and Goldberg, 2014) and needs no extra dependency. A track in no training
    playlist, or only alone in one, lacks the modality. Where the playlists have more than 134
    million pairs of tracks (about 30,000 playlists of 66), each is cut at random into pieces, see
    `in_pieces`, so that the matrix of pairs stays at 1 GB.

    Args:
        dim (`int`): Dimensions at most (paper: 128).
    """

    modalities: ClassVar[tuple[str, ...]] = ("playlist",)

    dim: int = 128

    def encode(self, catalog: Catalog, modality: str, run: ShardedRun) -> ModalityVectors:
        """The playlist vectors, `[n, dim]`, rows of length 1."""
        train = training_playlists(catalog)
        run.keep({}, seen=train.tracks())
        incidence = in_pieces(train, PAIRS, run.seed).incidence()
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


def in_pieces(lists: Membership, most: int, seed: int) -> Membership:
    """Cut long playlists at random into equal pieces, as long as fit into a number of pairs.

    A pair of tracks of a playlist stays together with the same chance as any other pair of it, and
    no track is left alone. Pieces have two tracks at least, however many pairs that makes.

    Args:
        lists (`Membership`): The playlists.
        most (`int`): Ordered pairs of entries at most. Playlists that have no more stay as they
            are.
        seed (`int`): Seed of the cuts.
    """
    lengths = lists.lengths
    if (lengths * (lengths - 1)).sum() <= most:
        return lists
    low, high = 2, int(lengths.max()) + 1
    while high - low > 1:  # the longest pieces that fit lie from `low` to below `high`
        middle = (low + high) // 2
        sizes = _piece_sizes(lengths, middle)
        low, high = (middle, high) if (sizes * (sizes - 1)).sum() <= most else (low, middle)
    sizes = _piece_sizes(lengths, low)
    owner = np.repeat(np.arange(len(lists)), lengths)
    order = np.lexsort((np.random.default_rng(seed).random(len(owner)), owner))
    starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    return Membership(starts, lists.rows[order], lists.n_tracks)


def _piece_sizes(lengths: np.ndarray, shortest: int) -> np.ndarray:
    """The lengths of the pieces of playlists, as many of each as `shortest` allows."""
    pieces = np.maximum(lengths // shortest, 1)
    number = np.arange(pieces.sum()) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    base, left = np.repeat(lengths // pieces, pieces), np.repeat(lengths % pieces, pieces)
    return np.asarray(base + (number < left))


def unit_rows(vectors: np.ndarray) -> np.ndarray:
    """Scale the rows of `[n, d]` to length 1 (zero rows stay zero), as float32."""
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(norms, 1e-12), dtype=np.float32)
