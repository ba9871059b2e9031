"""The flat trie against a dictionary of prefixes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from talkplay_hf.tokens.index import CatalogIndex


@st.composite
def code_tables(draw: st.DrawFn) -> tuple[np.ndarray, list[int]]:
    """A table of codes with many duplicates, and the codebook sizes."""
    sizes = draw(st.lists(st.integers(1, 5), min_size=1, max_size=5))
    row = st.tuples(*(st.integers(0, size - 1) for size in sizes))
    rows = draw(st.lists(row, min_size=1, max_size=40))
    return np.array(rows, dtype=np.int32), sizes


def by_prefix(codes: np.ndarray, length: int) -> dict[tuple[int, ...], list[int]]:
    found: dict[tuple[int, ...], list[int]] = {}
    for row, code in enumerate(codes.tolist()):
        found.setdefault(tuple(code[:length]), []).append(row)
    return found


def nodes_of(index: CatalogIndex, prefixes: list[tuple[int, ...]]) -> list[int]:
    return index.find(np.array(prefixes).reshape(len(prefixes), -1)).tolist()


@settings(deadline=None, max_examples=60)
@given(code_tables())
def test_every_prefix_is_found_and_no_other(table: tuple[np.ndarray, list[int]]) -> None:
    codes, sizes = table
    index = CatalogIndex(codes, sizes)
    for length in range(1, len(sizes) + 1):
        known = by_prefix(codes, length)
        every = list(np.ndindex(*sizes[:length]))
        found = nodes_of(index, every)
        assert {p for p, node in zip(every, found, strict=True) if node >= 0} == set(known)
        assert sorted(n for n in found if n >= 0) == list(range(len(known)))


@settings(deadline=None, max_examples=60)
@given(code_tables())
def test_children_are_the_codes_that_go_on(table: tuple[np.ndarray, list[int]]) -> None:
    codes, sizes = table
    index = CatalogIndex(codes, sizes)
    for level in range(len(sizes)):
        prefixes = list(by_prefix(codes, level))
        # twice each, and one node that is none
        nodes = np.array([*nodes_of(index, prefixes), -1, *nodes_of(index, prefixes)])
        parents, children = index.children(level, nodes)
        got: dict[int, list[int]] = {at: [] for at in range(len(nodes))}
        for parent, child in zip(parents.tolist(), children.tolist(), strict=True):
            got[parent].append(int(index.codes[level][child]))
        longer = by_prefix(codes, level + 1)
        wanted = [sorted(p[-1] for p in longer if p[:-1] == prefix) for prefix in prefixes]
        assert list(got.values()) == [*wanted, [], *wanted]


@settings(deadline=None, max_examples=60)
@given(code_tables())
def test_leaves_hold_the_tracks_of_a_tuple(table: tuple[np.ndarray, list[int]]) -> None:
    codes, sizes = table
    index = CatalogIndex(codes, sizes)
    buckets = by_prefix(codes, len(sizes))
    leaves = nodes_of(index, list(buckets))
    for leaf, rows in zip(leaves, buckets.values(), strict=True):
        assert sorted(index.tracks(leaf).tolist()) == rows


@settings(deadline=None, max_examples=60)
@given(code_tables(), st.randoms(use_true_random=False))
def test_alive_are_the_prefixes_of_allowed_tracks(
    table: tuple[np.ndarray, list[int]], random: object
) -> None:
    codes, sizes = table
    index = CatalogIndex(codes, sizes)
    allowed = np.array([random.random() < 0.3 for _ in codes])  # type: ignore[attr-defined]
    for level, mask in enumerate(index.alive(allowed)):
        known = by_prefix(codes, level + 1)
        for node, rows in zip(nodes_of(index, list(known)), known.values(), strict=True):
            assert mask[node] == allowed[rows].any()


def test_codes_beyond_the_codebook_lead_nowhere() -> None:
    index = CatalogIndex(np.array([[0, 1], [1, 0]]), [2, 2])
    # counted through, (0, 2) is where (1, 0) stands, and (1, -1) where (0, 1) does
    assert nodes_of(index, [(0, 2), (1, -1), (2, 0), (-1, 3)]) == [-1, -1, -1, -1]


def test_step_keeps_a_lost_node_lost() -> None:
    index = CatalogIndex(np.array([[0, 0]]), [1, 1])
    assert index.step(1, np.array([-1, 0]), np.array([0, 0])).tolist() == [-1, 0]


@pytest.mark.parametrize("depth", [1, 5])
def test_one_track(depth: int) -> None:
    index = CatalogIndex(np.zeros((1, depth), dtype=np.int32), [1] * depth)
    assert index.tracks(0).tolist() == [0]
    assert index.depth == depth
