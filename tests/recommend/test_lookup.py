"""The lookup against a reading of paper 4.4 that tries all 31 subsets in order."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from talkplay_hf.errors import InputError
from talkplay_hf.recommend.lookup import WeightedLookup

WEIGHTS = (25, 16, 9, 4, 1)
SIZES = (3, 3, 2, 3, 2)
ROW = st.tuples(*(st.integers(0, size - 1) for size in SIZES))


def subsets(weights: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Non-empty sets of modalities by falling sum of weights; ties: the earliest modality first."""
    every = [c for n in range(1, 6) for c in combinations(range(5), n)]
    return sorted(
        every, key=lambda c: (-sum(weights[m] for m in c), [m not in c for m in range(5)])
    )


def naive(
    codes: np.ndarray,
    query: tuple[int, ...],
    weights: tuple[int, ...],
    missing: tuple[int | None, ...],
    allowed: np.ndarray,
) -> tuple[list[int], tuple[int, ...], bool]:
    rows = [row for row in range(len(codes)) if allowed[row]]
    exact = [row for row in rows if tuple(codes[row]) == query]
    if exact:
        return exact, (0, 1, 2, 3, 4), True
    for subset in subsets(weights):
        if any(query[m] == missing[m] for m in subset):
            continue
        found = [row for row in rows if all(codes[row][m] == query[m] for m in subset)]
        if found:
            return found, subset, False
    return [], (), False


@settings(deadline=None, max_examples=300)
@given(
    rows=st.lists(ROW, min_size=1, max_size=25),
    query=ROW,
    reserve=st.booleans(),
    weights=st.one_of(st.just(WEIGHTS), st.tuples(*[st.integers(1, 4)] * 5)),
    data=st.data(),
)
def test_equals_trying_every_subset_in_order(
    rows: list[tuple[int, ...]],
    query: tuple[int, ...],
    reserve: bool,
    weights: tuple[int, ...],
    data: st.DataObject,
) -> None:
    codes = np.array(rows, dtype=np.int32)
    mask = data.draw(st.lists(st.booleans(), min_size=len(rows), max_size=len(rows)))
    missing = tuple(size - 1 if reserve else None for size in SIZES)
    lookup = WeightedLookup(codes, SIZES, weights, missing)
    for allowed in (None, np.array(mask)):
        match = lookup.find(query, allowed)
        everyone = np.ones(len(rows), dtype=bool)
        wanted = naive(codes, query, weights, missing, everyone if allowed is None else allowed)
        assert (match.rows.tolist(), match.modalities, match.exact) == wanted


def lookup_of(*rows: tuple[int, ...], missing: int | None = None) -> WeightedLookup:
    return WeightedLookup(np.array(rows), (4,) * 5, WEIGHTS, [missing] * 5)


def test_playlist_alone_beats_semantic_and_metadata_of_the_same_sum() -> None:
    match = lookup_of((2, 1, 1, 2, 2), (1, 2, 2, 2, 2)).find((1, 1, 1, 1, 1))
    assert match.rows.tolist() == [1]
    assert match.modalities == (0,)


def test_a_missing_code_never_counts_alone_but_does_in_an_exact_match() -> None:
    lookup = lookup_of((0, 1, 2, 3, 3), (1, 1, 1, 1, 1), missing=3)
    assert lookup.find((2, 2, 0, 3, 3)).rows.tolist() == []
    assert lookup.find((2, 1, 0, 3, 3)).rows.tolist() == [0, 1]
    assert lookup.find((0, 1, 2, 3, 3)).exact


def test_drawing_is_from_the_bucket_and_repeats_with_the_seed() -> None:
    match = lookup_of(*[(0, 0, 0, 0, 0)] * 4, (1, 1, 1, 1, 1)).find((0, 0, 0, 0, 0))
    rng = np.random.default_rng(0)
    drawn = [match.draw(rng) for _ in range(60)]
    assert set(drawn) == {0, 1, 2, 3}
    again = np.random.default_rng(0)
    assert [match.draw(again) for _ in range(60)] == drawn
    assert match.draw(None) == 0


def test_where_nothing_matches_nothing_is_drawn() -> None:
    match = lookup_of((0, 0, 0, 0, 0)).find((1, 1, 1, 1, 1))
    assert match.draw(np.random.default_rng(0)) is None
    assert match.draw(None) is None


@pytest.mark.parametrize(
    "query", [(), (0,) * 4, (0,) * 6, (4, 0, 0, 0, 0), (0, 0, 0, 0, -1), (0, 0, 99, 0, 0)]
)
def test_a_query_that_does_not_fit_is_refused(query: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="do not fit"):
        lookup_of((0, 0, 0, 0, 0)).find(query)
