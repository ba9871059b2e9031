"""K-means block by block: what it finds, in which memory, and the same as scikit-learn."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cluster import KMeans

from talkplay_hf.errors import InputError
from talkplay_hf.tokens import kmeans as module
from talkplay_hf.tokens.kmeans import count_distinct, kmeans, nearest


def points(rows: int, dim: int, *, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(rows, dim)).astype(np.float32)


def brute(vectors: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    """Squared distances in float64, `[n, clusters]`."""
    return ((vectors[:, None].astype(np.float64) - centroids[None]) ** 2).sum(axis=2)


@pytest.mark.parametrize("passes", [1, 3, 30])
def test_the_same_start_gives_the_centroids_of_scikit_learn(passes: int) -> None:
    x = points(3000, 6)
    start = x[:20].copy()
    ours = kmeans(x, 20, init=start, max_iter=passes, tol=0)
    theirs = KMeans(20, init=start, n_init=1, max_iter=passes, tol=0).fit(x)
    np.testing.assert_allclose(ours.centroids, theirs.cluster_centers_, atol=1e-4)
    assert ours.inertia == pytest.approx(theirs.inertia_, rel=1e-5)


def test_the_size_of_a_block_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    x = points(700, 5)
    whole = kmeans(x, 12, seed=1)
    monkeypatch.setattr(module, "BLOCK", 64)
    parts = kmeans(x, 12, seed=1)
    np.testing.assert_allclose(whole.centroids, parts.centroids, atol=1e-5)
    assert whole.iterations == parts.iterations


@settings(deadline=None, max_examples=60)
@given(
    rows=st.integers(1, 60),
    dim=st.integers(1, 5),
    clusters=st.integers(1, 60),
    distinct=st.integers(1, 10),
    seed=st.integers(0, 5),
)
def test_inertia_is_that_of_the_nearest_centroids_and_centroids_are_means(
    rows: int, dim: int, clusters: int, distinct: int, seed: int
) -> None:
    clusters = min(clusters, rows)
    x = points(distinct, dim, seed=seed)[np.arange(rows) % distinct]
    found = kmeans(x, clusters, seed=seed, tol=0)
    distances = brute(x, found.centroids)
    assert found.inertia == pytest.approx(distances.min(axis=1).sum(), abs=1e-4 * rows)
    # no worse than one cluster, and nothing left where each distinct vector can have its own
    assert found.inertia <= ((x - x.mean(axis=0)) ** 2).sum() + 1e-3
    if clusters >= min(distinct, rows):
        assert found.inertia < 1e-4


def test_a_cluster_that_runs_empty_takes_a_far_row() -> None:
    x = np.array([[0.0], [1.0], [10.0], [11.0]], dtype=np.float32)
    start = np.array([[0.5], [10.5], [1000.0]], dtype=np.float32)
    found = kmeans(x, 3, init=start)
    assert found.inertia == pytest.approx(0.5, rel=1e-4)
    assert len(np.unique(nearest(x, found.centroids)[0])) == 3


def test_only_the_named_rows_count() -> None:
    x = points(400, 4)
    rows = np.flatnonzero(np.arange(400) % 3 > 0)
    wild = x.copy()
    wild[np.arange(400) % 3 == 0] = 1e6
    np.testing.assert_array_equal(
        kmeans(x, 9, rows=rows).centroids, kmeans(wild, 9, rows=rows).centroids
    )
    np.testing.assert_array_equal(kmeans(x, 9, rows=rows).centroids, kmeans(x[rows], 9).centroids)


def test_a_mapped_file_gives_the_same_as_the_array(tmp_path: Path) -> None:
    x = points(500, 7)
    np.save(tmp_path / "x.npy", x)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    np.testing.assert_array_equal(kmeans(mapped, 8).centroids, kmeans(x, 8).centroids)


def test_far_from_the_origin_the_codes_are_still_the_nearest() -> None:
    x = points(300, 4) + np.float32(3000)
    centroids = x[:40]
    codes, distances = nearest(x, centroids)
    expected = brute(x, centroids)
    np.testing.assert_array_equal(codes, expected.argmin(axis=1))
    np.testing.assert_allclose(distances, expected.min(axis=1), atol=1e-3)


def test_it_stops_early_and_tells_its_passes() -> None:
    x = np.repeat(np.eye(3, dtype=np.float32) * 50, 20, axis=0)
    seen: list[tuple[int, int]] = []
    found = kmeans(x, 3, max_iter=40, progress=lambda done, total: seen.append((done, total)))
    assert found.iterations < 5
    assert seen == [(i + 1, 40) for i in range(found.iterations)] + [(40, 40)]


def test_counting_distinct_rows_stops_at_the_bound() -> None:
    x = np.array([[0.0], [-0.0], [1.0], [2.0], [2.0]], dtype=np.float32)
    assert count_distinct(x, np.arange(5), 10) == 3
    assert count_distinct(x, np.arange(5), 2) == 2
    assert count_distinct(x, np.array([3, 4]), 10) == 1


@pytest.mark.parametrize(
    ("shape", "clusters", "init", "said"),
    [
        ((5,), 2, None, "two dimensions"),
        ((5, 2), 6, None, "6 clusters of 5"),
        ((5, 2), 0, None, "0 clusters"),
        ((5, 2), 2, (2, 3), "init"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(
    shape: tuple[int, ...], clusters: int, init: tuple[int, ...] | None, said: str
) -> None:
    start = None if init is None else np.zeros(init, dtype=np.float32)
    with pytest.raises(InputError, match=said):
        kmeans(np.zeros(shape, dtype=np.float32), clusters, init=start)


def test_encoding_vectors_of_other_dimensions_is_refused() -> None:
    with pytest.raises(InputError, match="3 dimensions"):
        nearest(points(4, 2), points(2, 3))
