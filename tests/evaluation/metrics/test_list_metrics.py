"""Figures of whole lists agree with their definitions."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from talkplay_hf.errors import InputError
from talkplay_hf.evaluation.metrics.lists import (
    artist_diversity,
    catalog_coverage,
    exposure,
    gini,
    list_metrics,
    mean_popularity_rank,
)

ROWS = np.array([[0, 1, 2], [0, 3, -1], [-1, -1, -1], [0, 1, 4]])


def test_padding_is_not_shown_and_counts_are_over_the_catalog() -> None:
    assert exposure(ROWS, 6).tolist() == [3, 2, 1, 1, 1, 0]
    assert catalog_coverage(ROWS, 6) == 5 / 6


@given(st.lists(st.integers(0, 50), min_size=1, max_size=30).filter(any))
def test_gini_is_half_the_relative_mean_difference(counts: list[int]) -> None:
    n, mean = len(counts), sum(counts) / len(counts)
    between = sum(abs(a - b) for a in counts for b in counts) / n**2
    assert gini(counts) == pytest.approx(between / (2 * mean), abs=1e-12)


def test_gini_of_equal_and_of_single_exposure() -> None:
    assert gini([4, 4, 4]) == pytest.approx(0)
    assert gini([0, 0, 0, 7]) == pytest.approx(3 / 4)


def test_popularity_ranks_begin_at_one_and_ties_share_theirs() -> None:
    popularity = [10.0, 5, 5, 5, 1]  # ranks 1, 3, 3, 3, 5
    assert mean_popularity_rank(np.array([[0]]), popularity) == 1
    assert mean_popularity_rank(np.array([[0, 2], [4, -1]]), popularity) == 3
    assert mean_popularity_rank(np.array([[0, 1, 2, 3, 4]]), popularity) == 3
    with pytest.raises(InputError, match="NaN"):
        mean_popularity_rank(np.array([[0]]), [1.0, np.nan])


def test_artist_diversity_is_the_mean_over_lists_that_hold_something() -> None:
    artists = ["a", "a", "b", "c", "a"]
    # two artists of three, two of two, nothing, one of three
    assert artist_diversity(ROWS, artists) == pytest.approx((2 / 3 + 1 + 1 / 3) / 3)


def test_all_figures_are_named_by_the_length_of_the_lists() -> None:
    figures = list_metrics(ROWS, [5.0, 4, 3, 2, 1, 0], list("aabcad"))
    assert figures == {
        "coverage@3": 5 / 6,
        "gini@3": gini([3, 2, 1, 1, 1, 0]),
        "popularity_rank@3": (3 * 1 + 2 * 2 + 3 + 4 + 5) / 8,
        "artists@3": pytest.approx((2 / 3 + 1 + 1 / 3) / 3),
    }


def test_lists_that_do_not_fit_the_catalog_are_refused() -> None:
    with pytest.raises(InputError, match="hold no track"):
        catalog_coverage(np.array([[-1, -1]]), 3)
    with pytest.raises(InputError, match="row 4 of a catalog of 3"):
        artist_diversity(ROWS, ["a", "b", "c"])
