"""Near-duplicate playlists: one holds at least half of the other's distinct tracks.

The overlap that makes a pair is half of the smaller playlist, rounded up, so a playlist without
tracks has no near-duplicate.
"""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
from scipy import sparse
from scipy.sparse.csgraph import connected_components

from talkplay_hf.catalog.membership import Membership

CHUNK = 1 << 24
"""Entries of a sparse product at most, unless one playlist alone has more."""

SHORT = 2
STEP = 16
PAIRS = 1 << 17


def near_duplicate_pairs(a: Membership, b: Membership) -> np.ndarray:
    """The pairs of a playlist of `a` and one of `b` that are near-duplicates.

    Meant for few against many: the smaller side is held as a matrix, the larger one goes through in
    chunks.

    Args:
        a (`Membership`): Some playlists.
        b (`Membership`): Others, over the same tracks.

    Returns:
        `np.ndarray` of shape `[pairs, 3]`, int64: the position in `a`, the position in `b`, and the
        distinct tracks that both hold; sorted.
    """
    if len(a) > len(b):
        pairs = near_duplicate_pairs(b, a)[:, [1, 0, 2]]
        return pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]
    found = [np.empty((0, 3), dtype=np.int64)]
    few = a.incidence()
    few_sizes, by_track = np.diff(few.indptr), few.T.tocsr()
    step = max(1, CHUNK // max(1, len(a)))
    for start in range(0, len(b), step):
        many = b.select(np.arange(start, min(start + step, len(b)))).incidence()
        shared = (many @ by_track).tocoo()
        smaller = np.minimum(np.diff(many.indptr)[shared.row], few_sizes[shared.col])
        near = 2 * shared.data >= smaller
        columns = (shared.col[near], shared.row[near] + start, shared.data[near])
        found.append(np.stack(columns, axis=1).astype(np.int64))
    pairs = np.concatenate(found)
    return pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]


def near_duplicate_groups(lists: Membership) -> np.ndarray:
    """Groups of playlists that are near-duplicates of each other, directly or by way of others.

    A playlist of `n` tracks can be half of a larger one only if that one holds `k` of its rarest
    `n // 2 + k` tracks (prefix filtering: Chaudhuri et al., 2006). Playlists that pass are compared
    in full.

    Args:
        lists (`Membership`): The playlists.

    Returns:
        `np.ndarray` of shape `[playlists]`, int64: the group of each playlist, numbered from 0 by
        the first playlist of each; a playlist without near-duplicates is a group of its own.
    """
    count = len(lists)
    whole = lists.incidence()
    sizes = np.diff(whole.indptr)
    edges = [_edges_of_short(whole, sizes)]
    # The smaller playlist of a pair is the one that stands first.
    by_size = np.argsort(sizes, kind="stable")
    by_size = by_size[sizes[by_size] > SHORT]
    ordered = whole[by_size]
    del whole
    edges += [by_size[pairs] for pairs in _joined(ordered)]
    ends = np.concatenate(edges)
    graph = sparse.coo_matrix(
        (np.ones(len(ends), dtype=np.int8), (ends[:, 0], ends[:, 1])), shape=(count, count)
    )
    return numbered(connected_components(graph, directed=False)[1])


def numbered(groups: np.ndarray) -> np.ndarray:
    """Groups `[n]` by number from 0, in the order in which they first stand."""
    return np.asarray(pa.array(groups).dictionary_encode().indices).astype(np.int64)


def _edges_of_short(whole: sparse.csr_matrix, sizes: np.ndarray) -> np.ndarray:
    """Edges `[edges, 2]` for the playlists of one or two tracks.

    Half of such a playlist is one track, so each playlist that holds a track of it is near to it:
    one edge from each to the first that holds the track says as much as all pairs.
    """
    owner = np.repeat(np.arange(len(sizes)), sizes)
    marked = np.zeros(whole.shape[1], dtype=bool)
    marked[whole.indices[sizes[owner] <= SHORT]] = True
    at = np.flatnonzero(marked[whole.indices])
    tracks, owners = whole.indices[at], owner[at]
    first = np.full(whole.shape[1], len(sizes))
    np.minimum.at(first, tracks, owners)
    return np.stack([first[tracks], owners], axis=1)


def _joined(ordered: sparse.csr_matrix) -> Iterator[np.ndarray]:
    """Yield the near-duplicate pairs `[pairs, 2]` among playlists in order of size, in chunks."""
    sizes = np.diff(ordered.indptr).astype(np.int64)
    frequency = np.bincount(ordered.indices, minlength=ordered.shape[1])
    need = 1 + sizes // STEP
    prefix = _rarest(ordered, frequency, sizes // 2 + need)
    # What a playlist costs is how often its prefix tracks stand anywhere.
    cost = np.cumsum(prefix @ frequency)
    start = 0
    while start < len(sizes):
        done = cost[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(cost, done + CHUNK, side="right")))
        larger = ordered[start:]
        shared = (larger @ prefix[start:stop].T.tocsr()).tocoo()
        first, second = shared.col + start, shared.row + start
        passed = (shared.data >= need[first]) & (second > first)
        first, second = first[passed], second[passed]
        for at in range(0, len(first), PAIRS):
            one, other = first[at : at + PAIRS], second[at : at + PAIRS]
            overlap = np.asarray(ordered[one].multiply(ordered[other]).sum(axis=1)).ravel()
            near = 2 * overlap >= sizes[one]
            yield np.stack([one[near], other[near]], axis=1)
        start = stop


def _rarest(
    matrix: sparse.csr_matrix, frequency: np.ndarray, lengths: np.ndarray
) -> sparse.csr_matrix:
    """The matrix with only the `lengths` rarest tracks of each row."""
    owner = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
    order = np.lexsort((matrix.indices, frequency[matrix.indices], owner))
    position = np.arange(len(order)) - matrix.indptr[:-1][owner]
    kept = np.sort(order[position < lengths[owner]])
    shape = matrix.shape
    return sparse.csr_matrix((matrix.data[kept], (owner[kept], matrix.indices[kept])), shape=shape)
