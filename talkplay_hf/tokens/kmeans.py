"""K-means over vectors that need not fit in memory: Lloyd's algorithm block by block."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from talkplay_hf.errors import InputError

BLOCK = 2048
MAX_ITER = 300
TOLERANCE = 1e-4
# a larger sample for k-means++ gains about a thousandth of explained variance
SAMPLE_PER_CLUSTER = 16
SMALLEST_SAMPLE = 8192
SAMPLE_BYTES = 1 << 28


@dataclass(frozen=True)
class KMeansResult:
    """What a run of K-means found.

    Args:
        centroids (`np.ndarray` of shape `[clusters, d]`, float32): Cluster centres.
        inertia (`float`): Sum of squared distances of the rows to their nearest centroid.
        iterations (`int`): Lloyd passes until it stopped.
    """

    centroids: np.ndarray
    inertia: float
    iterations: int


def kmeans(
    vectors: np.ndarray,
    clusters: int,
    *,
    rows: np.ndarray | None = None,
    init: np.ndarray | None = None,
    seed: int = 0,
    max_iter: int = MAX_ITER,
    tol: float = TOLERANCE,
    progress: Callable[[int, int], None] | None = None,
) -> KMeansResult:
    """Cluster rows by Lloyd's algorithm.

    Reads the rows in blocks, so a memory-mapped file larger than the memory will do. Starts from
    k-means++ on a seeded sample of the rows. Stops as scikit-learn's `KMeans` does: when no row
    changes its cluster, when the centroids move less than the tolerance, or after `max_iter`
    passes. A cluster that runs empty takes the row that is farthest from its centroid.

    Args:
        vectors (`np.ndarray` of shape `[n, d]`, float32): The vectors, in memory or mapped.
        clusters (`int`): Number of clusters.
        rows (`np.ndarray` of shape `[used]`, int, *optional*): The rows to cluster, ascending; all
            when left out.
        init (`np.ndarray` of shape `[clusters, d]`, *optional*): Centroids to start from, in place
            of k-means++.
        seed (`int`): Seed of the sample and of k-means++.
        max_iter (`int`): Lloyd passes at most.
        tol (`float`): Squared movement of all centroids at which to stop, relative to the mean
            variance of a dimension.
        progress (`Callable`, *optional*): Called with (passes done, passes at most).

    Returns:
        `KMeansResult`: Centroids, inertia and passes.

    Raises:
        InputError: If the shapes do not fit or there are fewer rows than clusters.
    """
    if vectors.ndim != 2:
        raise InputError(f"vectors of shape {vectors.shape}: must have two dimensions, [n, d]")
    rows = np.arange(len(vectors)) if rows is None else rows
    used = len(rows)
    if not 1 <= clusters <= used:
        raise InputError(f"{clusters} clusters of {used} vectors: there must be a vector for each")
    if init is not None and init.shape != (clusters, vectors.shape[1]):
        raise InputError(
            f"init of shape {init.shape}: must be {(clusters, vectors.shape[1])}, a row a cluster"
        )
    sample = _sample(vectors, clusters, rows, seed)
    allowed_move = tol * float(sample.var(axis=0, dtype=np.float64).mean())
    centroids = _plus_plus(sample, clusters, seed) if init is None else init.astype(np.float32)
    del sample
    labels = np.full(used, -1, dtype=np.int32)
    distances = np.empty(used, dtype=np.float32)
    for iteration in range(1, max_iter + 1):
        before = labels.copy()
        sums = np.zeros(centroids.shape, dtype=np.float64)
        _assign(vectors, rows, centroids, labels, distances, sums)
        counts = np.bincount(labels, minlength=clusters)
        _refill(vectors, rows, labels, distances, sums, counts)
        # identical rows can leave a cluster empty still: it stays where it is
        sums[counts == 0] = centroids[counts == 0]
        moved = (sums / np.maximum(counts, 1)[:, None]).astype(np.float32)
        step = float(((moved - centroids).astype(np.float64) ** 2).sum())
        centroids = moved
        if progress is not None:
            progress(iteration, max_iter)
        if step <= allowed_move or np.array_equal(before, labels):
            break
    if progress is not None:
        progress(max_iter, max_iter)
    _assign(vectors, rows, centroids, labels, distances, None)
    return KMeansResult(centroids, float(distances.sum(dtype=np.float64)), iteration)


def nearest(
    vectors: np.ndarray, centroids: np.ndarray, *, rows: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """The nearest centroid of each row.

    Args:
        vectors (`np.ndarray` of shape `[n, d]`, float32): The vectors, in memory or mapped.
        centroids (`np.ndarray` of shape `[clusters, d]`, float32): The centroids.
        rows (`np.ndarray` of shape `[used]`, int, *optional*): The rows to look at; all when left
            out.

    Returns:
        `tuple[np.ndarray, np.ndarray]`: Codes, int32 `[used]`, and squared distances, float32
        `[used]`.

    Raises:
        InputError: If the dimensions differ.
    """
    if vectors.ndim != 2 or vectors.shape[1] != centroids.shape[1]:
        raise InputError(
            f"vectors of shape {vectors.shape} do not fit centroids of {centroids.shape[1]} "
            "dimensions"
        )
    rows = np.arange(len(vectors)) if rows is None else rows
    used = len(rows)
    labels, distances = np.empty(used, dtype=np.int32), np.empty(used, dtype=np.float32)
    _assign(vectors, rows, centroids, labels, distances, None)
    return labels, distances


def blocks(vectors: np.ndarray, rows: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
    """Go through rows in blocks.

    Yields:
        `tuple[slice, np.ndarray]`: Positions among `rows`, and their vectors, float32
        `[block, d]`.
    """
    for start in range(0, len(rows), BLOCK):
        at = slice(start, min(start + BLOCK, len(rows)))
        yield at, np.asarray(vectors[rows[at]], dtype=np.float32)


def count_distinct(vectors: np.ndarray, rows: np.ndarray, most: int) -> int:
    """The number of distinct vectors among rows, counted up to `most`."""
    seen: set[bytes] = set()
    for _, block in blocks(vectors, rows):
        for row in block + np.float32(0):  # -0.0 equals 0.0
            seen.add(row.tobytes())
            if len(seen) >= most:
                return most
    return len(seen)


def _assign(
    vectors: np.ndarray,
    rows: np.ndarray,
    centroids: np.ndarray,
    labels: np.ndarray,
    distances: np.ndarray,
    sums: np.ndarray | None,
) -> None:
    """Write the nearest centroid and its squared distance; add the rows to the cluster sums."""
    # around the middle of the centroids the products stay small and float32 exact enough
    middle = centroids.mean(axis=0, dtype=np.float64).astype(np.float32)
    around = centroids - middle
    half_norms = 0.5 * (around**2).sum(axis=1)
    for at, block in blocks(vectors, rows):
        shifted = block - middle
        scores = shifted @ around.T
        scores -= half_norms
        best = scores.argmax(axis=1)
        labels[at] = best
        norms = np.einsum("nd,nd->n", shifted, shifted)
        distances[at] = np.maximum(norms - 2 * scores[np.arange(len(best)), best], 0)
        if sums is not None:
            ones = np.ones(len(best), dtype=np.float32)
            one_hot = sparse.csc_matrix(
                (ones, best, np.arange(len(best) + 1)), shape=(len(centroids), len(best))
            )
            sums += one_hot @ block


def _refill(
    vectors: np.ndarray,
    rows: np.ndarray,
    labels: np.ndarray,
    distances: np.ndarray,
    sums: np.ndarray,
    counts: np.ndarray,
) -> None:
    """Move the rows that are farthest from their centroids into the empty clusters, in place."""
    empty = np.flatnonzero(counts == 0)
    if not len(empty):
        return
    # whole sort, stable: the same rows on every machine when distances tie
    farthest = np.argsort(-distances, kind="stable")[: len(empty)]
    for cluster, position in zip(empty, farthest, strict=True):
        old = labels[position]
        if counts[old] < 2 or distances[position] == 0:
            continue
        vector = vectors[rows[position]].astype(np.float64)
        sums[old] -= vector
        sums[cluster] = vector
        counts[old] -= 1
        counts[cluster] = 1
        labels[position] = cluster


def _sample(vectors: np.ndarray, clusters: int, rows: np.ndarray, seed: int) -> np.ndarray:
    """A sample of the rows for k-means++, in row order."""
    fits = max(clusters, SAMPLE_BYTES // (4 * vectors.shape[1]))
    size = min(len(rows), max(SAMPLE_PER_CLUSTER * clusters, SMALLEST_SAMPLE), fits)
    drawn = np.random.default_rng(seed).choice(len(rows), size=size, replace=False)
    drawn.sort()
    return np.asarray(vectors[rows[drawn]], dtype=np.float32)


def _plus_plus(sample: np.ndarray, clusters: int, seed: int) -> np.ndarray:
    from sklearn.cluster import kmeans_plusplus

    centroids, _ = kmeans_plusplus(sample, clusters, random_state=seed)
    return np.asarray(centroids, dtype=np.float32)
