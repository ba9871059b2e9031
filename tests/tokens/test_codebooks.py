"""Codebooks: how large, what for, and what a missing modality gets."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from talkplay_hf.tokens import codebooks
from talkplay_hf.tokens.codebooks import (
    choose_size,
    encode_tracks,
    fit_codebook,
    label_codes,
)


def clusters(
    tracks: int, groups: int, *, dim: int = 8, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Tight groups far from one another: (vectors, group of each)."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(groups, dim)) * 10
    group = np.arange(tracks) % groups
    return (centres[group] + 0.01 * rng.normal(size=(tracks, dim))).astype(np.float32), group


@settings(deadline=None, max_examples=300)
@given(present=st.integers(0, 50_000), distinct=st.integers(0, 50_000), power=st.integers(1, 11))
def test_size_is_the_largest_power_of_two_within_all_bounds(
    present: int, distinct: int, power: int
) -> None:
    limit = 1 << power
    size = choose_size(present, distinct, limit=limit)
    bound = max(2, min(limit, max(8, present // 8), distinct))
    assert size & (size - 1) == 0
    assert size <= bound < 2 * size


@pytest.mark.parametrize("reserve", [True, False])
def test_every_present_track_gets_its_nearest_centroid(reserve: bool) -> None:
    vectors, _ = clusters(96, 7)
    present = np.arange(96) % 5 > 0
    book = fit_codebook(vectors, present, limit=8, reserve=reserve, seed=0)
    codes = encode_tracks([book], [(vectors, present)], missing="reserve")[:, 0]
    distance = np.linalg.norm(vectors[:, None] - book.centroids[None], axis=2)
    assert book.size == 8
    assert len(book.centroids) == (7 if reserve else 8)
    np.testing.assert_array_equal(codes[present], distance.argmin(axis=1)[present])


def test_groups_far_apart_become_the_codes() -> None:
    vectors, group = clusters(64, 4)
    book = fit_codebook(vectors, np.ones(64, dtype=bool), limit=4, reserve=False, seed=0)
    codes = book.encode(vectors)
    assert len({(int(a), int(b)) for a, b in zip(codes, group, strict=True)}) == 4


def test_the_reserved_code_is_for_missing_alone() -> None:
    vectors, _ = clusters(64, 20)
    present = np.arange(64) % 4 > 0
    book = fit_codebook(vectors, present, limit=8, reserve=True, seed=0)
    codes = encode_tracks([book], [(vectors, present)], missing="reserve")[:, 0]
    assert book.size == 8
    assert set(codes[~present].tolist()) == {book.size - 1}
    assert codes[present].max() < book.size - 1


def test_the_same_seed_gives_the_same_codebook() -> None:
    vectors = np.random.default_rng(0).normal(size=(200, 6)).astype(np.float32)
    present = np.ones(200, dtype=bool)
    one, two, other = (
        fit_codebook(vectors, present, reserve=True, seed=seed).centroids for seed in (3, 3, 4)
    )
    np.testing.assert_array_equal(one, two)
    assert not np.array_equal(one, other)


def test_tracks_without_the_modality_do_not_move_the_centroids() -> None:
    vectors, _ = clusters(64, 3)
    present = np.arange(64) < 40
    noisy = vectors.copy()
    noisy[~present] = 1e6
    books = [fit_codebook(v, present, reserve=True, seed=0) for v in (vectors, noisy)]
    np.testing.assert_array_equal(books[0].centroids, books[1].centroids)


@pytest.mark.parametrize("reserve", [True, False])
def test_fewer_distinct_vectors_than_codes(reserve: bool) -> None:
    vectors = np.repeat(np.eye(3, dtype=np.float32), 40, axis=0)
    present = np.ones(120, dtype=bool)
    book = fit_codebook(vectors, present, limit=1024, reserve=reserve, seed=0)
    codes = encode_tracks([book], [(vectors, present)], missing="reserve")[:, 0]
    assert book.size == 2
    assert codes.min() >= 0
    assert codes.max() < book.size - reserve


@pytest.mark.parametrize("missing", ["reserve", "impute"])
@pytest.mark.parametrize("tracks", [1, 20])
def test_a_modality_that_no_track_has(missing: str, tracks: int) -> None:
    vectors, none = np.zeros((tracks, 4), dtype=np.float32), np.zeros(tracks, dtype=bool)
    book = fit_codebook(vectors, none, reserve=missing == "reserve", seed=0)
    codes = encode_tracks([book], [(vectors, none)], missing=missing)[:, 0]
    assert book.size == 2
    assert np.isfinite(book.centroids).all()
    assert set(codes.tolist()) == {book.size - 1 if missing == "reserve" else 0}


def test_tracks_outside_fit_on_do_not_move_the_centroids_but_get_codes() -> None:
    vectors, _ = clusters(64, 20)
    seen = np.arange(64) < 48
    changed = vectors.copy()
    changed[~seen] += 5
    present = np.ones(64, dtype=bool)
    books = [
        fit_codebook(v, present, fit_on=seen, limit=8, reserve=True, seed=0)
        for v in (vectors, changed)
    ]
    np.testing.assert_array_equal(books[0].centroids, books[1].centroids)
    assert books[0].size == 8
    codes = encode_tracks(books[:1], [(vectors, present)], missing="reserve", fit_on=seen)
    assert codes.max() < books[0].size - 1


def test_labels_name_what_sets_a_code_apart() -> None:
    codes = np.array([[0], [0], [1], [1]])
    tags = [["music", "jazz"], ["music", "jazz"], ["music", "rock"], ["music", "rock"]]
    rows = label_codes(
        codes, ["semantic"], pa.array(tags), ["a", "b", "c", "d"], np.array([1.0, 2, 4, 3])
    )
    assert [(row["code"], row["tracks"]) for row in rows] == [(0, 2), (1, 2)]
    assert [row["tags"][0] for row in rows] == ["jazz", "rock"]
    assert [row["examples"] for row in rows] == [["b", "a"], ["c", "d"]]


def test_labels_of_tracks_with_few_tags_or_none() -> None:
    codes = np.array([[0, 1], [0, 0], [1, 0], [1, 0]])
    tags = pa.array([["b", "a"], None, [], [None, "a"]], pa.list_(pa.string()))
    rows = label_codes(codes, ["semantic", "audio"], tags, list("wxyz"), np.zeros(4))
    found = {(row["modality"], row["code"]): (row["tags"], row["examples"]) for row in rows}
    assert found == {
        ("semantic", 0): (["b", "a"], ["w", "x"]),
        ("semantic", 1): (["a"], ["y", "z"]),
        ("audio", 0): (["a"], ["x", "y", "z"]),
        ("audio", 1): (["b", "a"], ["w"]),
    }


def test_a_codebook_of_a_draw_of_the_tracks_is_as_near_as_one_of_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(40, 6))
    vectors = (centres[rng.integers(0, 40, 6_000)] + 0.5 * rng.normal(size=(6_000, 6))).astype("f4")
    present, fit_on = rng.random(6_000) < 0.9, rng.random(6_000) < 0.9

    def fit() -> np.ndarray:
        book = fit_codebook(vectors, present, fit_on=fit_on, limit=16, reserve=False, seed=1)
        return book.centroids

    def spread(centroids: np.ndarray) -> float:
        return float(((vectors[:, None] - centroids) ** 2).sum(axis=2).min(axis=1).mean())

    monkeypatch.setattr(codebooks, "FITTED_PER_CODE", 10_000)
    whole = fit()
    monkeypatch.setattr(codebooks, "FITTED_PER_CODE", 100)
    drawn = fit()
    np.testing.assert_array_equal(drawn, fit())
    assert not np.array_equal(whole, drawn)
    assert spread(drawn) < 1.05 * spread(whole)
    vectors[~(present & fit_on)] = 1e6
    np.testing.assert_array_equal(drawn, fit())
