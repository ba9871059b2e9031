"""Codes for missing modalities: who may give one, and which one wins."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from talkplay_hf.tokens import missing as module
from talkplay_hf.tokens.codebooks import Codebook, encode_tracks
from talkplay_hf.tokens.missing import draw_donors, impute, similarities, vote

Modalities = list[tuple[np.ndarray, np.ndarray]]


def example(
    tracks: int, *, share: float = 0.7, seed: int = 0
) -> tuple[Modalities, list[np.ndarray], np.ndarray]:
    """Random vectors of three modalities, centroids, and the codes of present vectors."""
    rng = np.random.default_rng(seed)
    modalities, centroids, codes = [], [], []
    for dim, clusters in ((5, 6), (3, 4), (4, 8)):
        vectors = rng.normal(size=(tracks, dim)).astype(np.float32)
        present = rng.random(tracks) < share
        book = rng.normal(size=(clusters, dim)).astype(np.float32)
        modalities.append((vectors, present))
        centroids.append(book)
        codes.append(np.where(present, Codebook(book, clusters).encode(vectors), clusters - 1))
    return modalities, centroids, np.stack(codes, axis=1).astype(np.int32)


def reference(
    track: int, m: int, modalities: Modalities, centroids: list[np.ndarray], codes: np.ndarray
) -> int | None:
    """The rule said plainly, for one missing code; `None` where two codes are too near to call."""
    similarity = []
    for donor in range(len(codes)):
        if not modalities[m][1][donor]:
            continue
        total = 0.0
        for j, (vectors, present) in enumerate(modalities):
            if j != m and present[track] and present[donor]:
                a, b = vectors[track], centroids[j][codes[donor, j]]
                total += float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))
        similarity.append((total, donor))
    similarity.sort(key=lambda pair: (-pair[0], pair[1]))
    if not similarity or similarity[0][0] <= 0:
        return None
    if len(similarity) > 10 and similarity[9][0] - similarity[10][0] < 1e-5:
        return None
    votes: dict[int, float] = {}
    for total, donor in similarity[:10]:
        votes[int(codes[donor, m])] = votes.get(int(codes[donor, m]), 0) + max(total, 0)
    best = sorted(votes.values())[-2:]
    if len(best) == 2 and best[1] - best[0] < 1e-5:
        return None
    return max(votes, key=lambda code: votes[code])


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 10_000), share=st.sampled_from([0.3, 0.7, 0.95]))
def test_the_ten_most_similar_donors_vote(seed: int, share: float) -> None:
    modalities, centroids, codes = example(60, share=share, seed=seed)
    known = np.stack([present for _, present in modalities], axis=1)
    filled = codes.copy()
    impute(filled, np.arange(60), modalities, centroids, codes, known)
    np.testing.assert_array_equal(filled[known], codes[known])
    for track, m in zip(*np.nonzero(~known), strict=True):
        expected = reference(track, m, modalities, centroids, codes)
        if expected is not None:
            assert filled[track, m] == expected


def test_no_code_comes_from_a_track_that_the_codebooks_may_not_see() -> None:
    rng = np.random.default_rng(0)
    first = rng.normal(size=(40, 3)).astype(np.float32)
    second = rng.normal(size=(40, 3)).astype(np.float32)
    first[20:] = first[:20]  # the second half has twins of the first
    has = np.arange(40) >= 10
    modalities = [(first, np.ones(40, dtype=bool)), (second, has)]
    books = [Codebook(rng.normal(size=(8, 3)).astype(np.float32), 8) for _ in range(2)]
    seen = np.arange(40) < 20
    apart = encode_tracks(books, modalities, missing="impute", fit_on=seen)
    second_half = second.copy()
    second_half[20:] = rng.normal(size=(20, 3))
    changed = encode_tracks(
        books, [modalities[0], (second_half, has)], missing="impute", fit_on=seen
    )
    np.testing.assert_array_equal(apart[:10], changed[:10])
    assert not np.array_equal(apart[20:, 1], changed[20:, 1])


def test_a_track_like_no_donor_gets_their_most_frequent_code() -> None:
    vectors = np.zeros((6, 2), dtype=np.float32)
    lonely = np.arange(6) > 0
    first = (vectors, np.zeros(6, dtype=bool))
    second = (vectors, lonely)
    codes = np.array([[0, 0], [0, 1], [0, 2], [0, 2], [0, 3], [0, 2]], dtype=np.int32)
    known = np.stack([first[1], second[1]], axis=1)
    books = [np.ones((2, 2), dtype=np.float32), np.ones((4, 2), dtype=np.float32)]
    impute(codes, np.arange(6), [first, second], books, codes.copy(), known)
    assert codes[0, 1] == 2
    assert set(codes[:, 0].tolist()) == {0}


def test_weights_decide_and_the_nearest_breaks_a_tie() -> None:
    given_codes = np.array([5, 5, 7, 9])
    similarity = np.array(
        [[0.3, 0.3, 0.5, 0.1], [0.2, 0.2, 0.5, 0.1], [0.1, 0.2, 0.25, 0.25]], dtype=np.float32
    )
    assert vote(similarity, given_codes).tolist() == [5, 7, 5]
    tied = np.array([[0.25, 0.25, 0.5, 0.0]], dtype=np.float32)
    assert vote(tied, given_codes).tolist() == [7]


def test_beyond_a_bound_donors_are_drawn_by_the_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    known = np.arange(1000) % 2 == 0
    assert len(draw_donors(known, 0)) == 500
    monkeypatch.setattr(module, "MOST_DONORS", 100)
    drawn = draw_donors(known, 0)
    assert len(np.unique(drawn)) == 100
    assert known[drawn].all()
    np.testing.assert_array_equal(drawn, draw_donors(known, 0))
    assert not np.array_equal(drawn, draw_donors(known, 1))


def test_the_size_of_a_block_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    modalities, centroids, codes = example(50)
    known = np.stack([present for _, present in modalities], axis=1)
    whole = [s.copy() for _, s in similarities(np.arange(50), modalities, centroids, codes, known)]
    monkeypatch.setattr(module, "HOLES", 7)
    parts = [s.copy() for _, s in similarities(np.arange(50), modalities, centroids, codes, known)]
    np.testing.assert_allclose(np.concatenate(whole), np.concatenate(parts), atol=1e-6)
