"""Near-duplicate playlists, against a comparison of all pairs of sets."""

from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from talkplay_hf.catalog import near_duplicates
from talkplay_hf.catalog.membership import Membership
from talkplay_hf.catalog.near_duplicates import near_duplicate_groups, near_duplicate_pairs

TRACKS = 40
# Few common tracks and many rare ones, repeats and empty playlists among them.
PLAYLISTS = st.lists(
    st.lists(st.one_of(st.integers(0, 5), st.integers(0, TRACKS - 1)), max_size=45), max_size=14
)


def membership_of(lists: list[list[int]], n_tracks: int = TRACKS) -> Membership:
    starts = np.cumsum([0, *map(len, lists)]).astype(np.int64)
    rows = np.array([row for one in lists for row in one], dtype=np.int32)
    return Membership(starts, rows, n_tracks)


def shared_if_near(a: list[int], b: list[int]) -> int:
    """The tracks that two playlists share, or 0 where neither holds half of the other."""
    one, other = set(a), set(b)
    shared = len(one & other)
    return shared if shared and (shared >= len(one) / 2 or shared >= len(other) / 2) else 0


def groups_by_hand(lists: list[list[int]]) -> list[int]:
    groups = list(range(len(lists)))
    for a in range(len(lists)):
        for b in range(a):
            if shared_if_near(lists[a], lists[b]):
                joined = {groups[a], groups[b]}
                groups = [min(joined) if one in joined else one for one in groups]
    numbers = {group: number for number, group in enumerate(dict.fromkeys(groups))}
    return [numbers[group] for group in groups]


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch):
    """Chunks so small that a handful of playlists needs several, and short prefixes."""
    monkeypatch.setattr(near_duplicates, "CHUNK", 40)
    monkeypatch.setattr(near_duplicates, "PAIRS", 3)
    monkeypatch.setattr(near_duplicates, "STEP", 4)


@given(PLAYLISTS, PLAYLISTS)
@settings(max_examples=60)
def test_the_pairs_are_those_of_all_comparisons(a: list[list[int]], b: list[list[int]]):
    expected = [
        [i, j, shared]
        for i, one in enumerate(a)
        for j, other in enumerate(b)
        if (shared := shared_if_near(one, other))
    ]
    assert near_duplicate_pairs(membership_of(a), membership_of(b)).tolist() == expected


@given(PLAYLISTS)
@settings(max_examples=120)
def test_the_groups_are_those_of_all_comparisons(lists: list[list[int]]):
    assert near_duplicate_groups(membership_of(lists)).tolist() == groups_by_hand(lists)


def test_the_groups_of_long_playlists_are_those_of_all_comparisons():
    rng = np.random.default_rng(0)
    lists = [rng.choice(TRACKS, size=rng.integers(15, 19), replace=False) for _ in range(60)]
    found = near_duplicate_groups(membership_of([one.tolist() for one in lists])).tolist()
    assert found == groups_by_hand([one.tolist() for one in lists])


def test_half_of_the_smaller_one_is_enough():
    lists = membership_of([[0, 1, 2, 3], [2, 3, 4, 5, 6, 7], [3, 4, 8, 9, 10], []])
    assert near_duplicate_pairs(lists.select(np.array([0])), lists).tolist() == [
        [0, 0, 4],
        [0, 1, 2],
    ]
    assert near_duplicate_groups(lists).tolist() == [0, 0, 1, 2]


def test_repeats_of_a_track_count_once():
    lists = membership_of([[0, 0, 0, 1, 2], [0, 3, 4]])
    assert len(near_duplicate_pairs(lists, lists)) == 2
    assert near_duplicate_groups(lists).tolist() == [0, 1]


def test_one_track_joins_all_that_hold_it():
    sizes = Counter(near_duplicate_groups(membership_of([[7]] + [[7, n, n + 1, n + 2, n + 3, n + 4]
                    for n in range(10, 30)])).tolist())  # fmt: skip
    assert sizes == {0: 21}


def test_no_playlists_have_no_groups():
    assert near_duplicate_groups(membership_of([])).tolist() == []
    assert near_duplicate_pairs(membership_of([]), membership_of([[1]])).shape == (0, 3)


@pytest.mark.realdata
def test_the_groups_of_real_playlists_are_those_of_all_comparisons(
    real_data: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(near_duplicates, "CHUNK", 200_000)
    monkeypatch.setattr(near_duplicates, "STEP", 16)
    table = pq.read_table(real_data / "corpus" / "playlists.parquet", columns=["tracks"])
    numbers: dict[str, int] = {}
    lists = [
        [numbers.setdefault(track_id, len(numbers)) for track_id in one]
        for one in table["tracks"].to_pylist()
        if len(one) < 300
    ][:400]
    members = membership_of(lists, len(numbers))
    found = near_duplicate_groups(members).tolist()
    assert found == groups_by_hand(lists)
    assert 1 < max(Counter(found).values()) < len(lists)
