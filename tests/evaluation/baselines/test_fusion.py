"""Rankings are fused by their ranks, and ties share theirs."""

import numpy as np
import pytest

from talkplay_hf.evaluation.baselines.fusion import fuse


def test_scores_are_the_sums_of_reciprocal_ranks() -> None:
    fused = fuse([np.array([[9.0, 5.0, 1.0]]), np.array([[0.1, 0.3, 0.2]])])
    assert fused[0].tolist() == pytest.approx([1 / 61 + 1 / 63, 1 / 62 + 1 / 61, 1 / 63 + 1 / 62])


def test_ties_share_the_mean_of_their_ranks() -> None:
    fused = fuse([np.array([[2.0, 1.0, 1.0, 1.0, 0.0]])])[0]
    assert fused.tolist() == pytest.approx([1 / 61, 1 / 63, 1 / 63, 1 / 63, 1 / 65])


def test_tracks_that_are_tied_everywhere_stay_tied() -> None:
    draw = np.random.default_rng(0)
    kinds = draw.integers(4, size=50)
    rankings = [draw.normal(size=(3, 4))[:, kinds] for _ in range(3)]
    for row in fuse(rankings):
        assert len(np.unique(row)) == 4


def test_what_one_ranking_leaves_out_gets_nothing_from_it() -> None:
    absent = -np.inf
    fused = fuse([np.array([[1.0, absent, absent]]), np.array([[absent, 1.0, absent]])])[0]
    assert fused.tolist() == [1 / 61, 1 / 61, absent]
