"""The lookup against a reading of paper 4.4 that tries all 31 subsets in order."""

import sys
from collections.abc import Sequence
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from talkplay_hf.errors import ConfigError, InputError, MissingExtraError
from talkplay_hf.recommend.lookup import Ranking, WeightedLookup
from talkplay_hf.recommend.lookup.counts import Split, count_matches
from talkplay_hf.tokens.index import CatalogIndex

WEIGHTS = (25, 16, 9, 4, 1)
SIZES = (3, 3, 2, 3, 2)
ROW = st.tuples(*(st.integers(0, size - 1) for size in SIZES))
Group = tuple[bool, tuple[int, ...], list[int]]


def subsets(weights: Sequence[int]) -> list[tuple[int, ...]]:
    """Non-empty sets of modalities by falling sum of weights; ties: the earliest modality first."""
    depth = len(weights)
    every = [c for n in range(1, depth + 1) for c in combinations(range(depth), n)]
    return sorted(
        every, key=lambda c: (-sum(weights[m] for m in c), [m not in c for m in range(depth)])
    )


def naive(
    codes: np.ndarray,
    query: Sequence[int],
    weights: Sequence[int],
    missing: Sequence[int | None],
    allowed: np.ndarray | None,
) -> list[Group]:
    """All tracks in order: exact, subset, rows."""
    rows = [row for row in range(len(codes)) if allowed is None or allowed[row]]
    groups: list[Group] = []

    def take(exact: bool, subset: tuple[int, ...]) -> None:
        found = [row for row in rows if all(codes[row][m] == query[m] for m in subset)]
        if found:
            groups.append((exact, subset, found))
            rows[:] = [row for row in rows if row not in found]

    take(True, tuple(range(len(query))))
    for subset in subsets(weights):
        if not any(query[m] == missing[m] for m in subset):
            take(False, subset)
    return groups


def agrees(
    lookup: WeightedLookup, query: Sequence[int], allowed: np.ndarray | None, wanted: list[Group]
) -> None:
    match = lookup.find(query, allowed)
    exact, modalities, rows = wanted[0] if wanted else (False, (), [])
    assert (match.exact, match.modalities, match.rows.tolist()) == (exact, modalities, rows)
    every = [(subset, row) for _, subset, found in wanted for row in found]
    for k in (1, 3, len(every) + 2):
        ranking = lookup.top(query, k, allowed)
        assert listed(lookup, ranking) == every[:k]
        shuffled = lookup.top(query, k, allowed, np.random.default_rng(k))
        assert shuffled.groups.tolist() == ranking.groups.tolist()
        assert set(listed(lookup, shuffled)) <= set(every)
        assert len(set(shuffled.rows.tolist())) == min(k, len(every))


def listed(lookup: WeightedLookup, ranking: Ranking) -> list[tuple[tuple[int, ...], int]]:
    pairs = zip(ranking.groups.tolist(), ranking.rows.tolist(), strict=True)
    return [(lookup.subsets[group], row) for group, row in pairs]


@settings(deadline=None, max_examples=80)
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
        agrees(lookup, query, allowed, naive(codes, query, weights, missing, allowed))


@settings(deadline=None, max_examples=40)
@given(sizes=st.lists(st.sampled_from([1, 2, 3, 255, 256]), min_size=1, max_size=6), data=st.data())
def test_other_modalities_and_sizes_equal_it_too(sizes: list[int], data: st.DataObject) -> None:
    weights = data.draw(st.tuples(*[st.integers(1, 9)] * len(sizes)))
    seed = data.draw(st.integers(0, 1000))
    # only the last codes of a codebook, where an overflow of the type would show
    rng = np.random.default_rng(seed)
    codes = np.array(sizes) - 1 - rng.integers(0, np.minimum(sizes, 2), (12, len(sizes)))
    lookup = WeightedLookup(codes, sizes, weights, [None] * len(sizes))
    for query in (codes[0].tolist(), [0] * len(sizes)):
        agrees(lookup, query, None, naive(codes, query, weights, [None] * len(sizes), None))


def catalogue(kind: str, tracks: int = 70_000) -> tuple[np.ndarray, np.ndarray]:
    """Codes of many tracks, and queries: tracks with none to all of their codes replaced."""
    rng = np.random.default_rng(5)
    if kind == "few":
        codes = rng.integers(0, 2, (12, 5))
    elif kind == "random":
        codes = rng.integers(0, 64, (tracks, 5))
    else:
        popular = 1 / np.arange(1, 65)
        codes = rng.choice(64, size=(tracks, 5), p=popular / popular.sum())
        # lists of several chunks
        codes[rng.random(tracks) < 0.97, 0] = 0
        codes[rng.random(tracks) < 0.97, 3] = 63
    queries = codes[rng.integers(0, len(codes), 120)]
    others = codes[rng.integers(0, len(codes), 120)]
    # the rarest of all, so that buckets of frequent codes are reached
    others[::3] = 62
    queries = np.where(rng.random((120, 5)) < np.arange(120)[:, None] / 120, others, queries)
    # no track has code 64: only the frequent codes match, in buckets of several chunks
    queries[[0, 60]] = [[0, 64, 64, 63, 64], [0, 64, 64, 64, 64]]
    return codes, queries


def brute(codes: np.ndarray, query: np.ndarray, missing: int | None) -> list[Group]:
    """The naive order by one pass over all tracks."""
    equal = codes == query
    marks = (equal & (query != (-1 if missing is None else missing))) @ (1 << np.arange(5))
    exact = equal.all(axis=1)
    groups: list[Group] = []
    if exact.any():
        groups.append((True, (0, 1, 2, 3, 4), np.flatnonzero(exact).tolist()))
    for subset in subsets(WEIGHTS):
        found = np.flatnonzero((marks == sum(1 << m for m in subset)) & ~exact)
        if len(found):
            groups.append((False, subset, found.tolist()))
    return groups


@pytest.mark.parametrize("missing", [None, 63])
@pytest.mark.parametrize("kind", ["random", "skewed"])
def test_long_lists_equal_one_pass_over_all_tracks(kind: str, missing: int | None) -> None:
    codes, queries = catalogue(kind)
    lookup = WeightedLookup(codes, (65,) * 5, WEIGHTS, [missing] * 5)
    for query in queries[::6]:
        wanted = brute(codes, query, missing)
        match = lookup.find(query.tolist())
        assert (match.exact, match.modalities) == wanted[0][:2]
        assert match.rows.tolist() == wanted[0][2]
        every = [(subset, row) for _, subset, rows in wanted for row in rows]
        for k in (10, 5_000):
            assert listed(lookup, lookup.top(query.tolist(), k)) == every[:k]


@pytest.mark.parametrize("kind", ["few", "random", "skewed"])
def test_numba_gives_what_numpy_gives(kind: str) -> None:
    pytest.importorskip("numba")
    codes, queries = catalogue(kind)
    allowed = np.random.default_rng(0).random(len(codes)) < 0.5
    for missing in (None, 63):
        plain, compiled = (
            WeightedLookup(codes, (65,) * 5, WEIGHTS, [missing] * 5, compiled=on)
            for on in (False, True)
        )
        for query in queries[::6].tolist():
            for mask in (None, allowed, ~allowed & False):
                a, b = plain.find(query, mask), compiled.find(query, mask)
                assert (a.exact, a.modalities) == (b.exact, b.modalities)
                assert a.rows.dtype == b.rows.dtype == np.int32
                assert np.array_equal(a.rows, b.rows)
                for rng in (False, True):
                    for k in (2, 200):
                        one, two = (
                            lookup.top(query, k, mask, np.random.default_rng(1) if rng else None)
                            for lookup in (plain, compiled)
                        )
                        assert np.array_equal(one.rows, two.rows)
                        assert np.array_equal(one.groups, two.groups)


def test_without_numba_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "numba", None)
    with pytest.raises(MissingExtraError, match=r"talkplay-hf\[speed\]"):
        WeightedLookup(np.zeros((1, 5), int), (4,) * 5, WEIGHTS, [None] * 5, compiled=True)


def test_the_sorted_keys_of_the_catalogue_index_serve_as_well() -> None:
    codes, queries = catalogue("skewed", 2_000)
    own = WeightedLookup(codes, (65,) * 5, WEIGHTS, [63] * 5)
    shared = WeightedLookup(
        codes, (65,) * 5, WEIGHTS, [63] * 5, index=CatalogIndex(codes, (65,) * 5)
    )
    for query in [*codes[:50].tolist(), *queries.tolist()]:
        assert own.find(query).rows.tolist() == shared.find(query).rows.tolist()
        assert own.find(query).modalities == shared.find(query).modalities


def lookup_of(*rows: tuple[int, ...], missing: int | None = None) -> WeightedLookup:
    return WeightedLookup(np.array(rows), (4,) * 5, WEIGHTS, [missing] * 5)


def test_playlist_alone_beats_semantic_and_metadata_of_the_same_sum() -> None:
    lookup = lookup_of((2, 1, 1, 2, 2), (1, 2, 2, 2, 2))
    assert lookup.subsets == tuple(subsets(WEIGHTS))
    match = lookup.find((1, 1, 1, 1, 1))
    assert match.rows.tolist() == [1]
    assert match.modalities == (0,)


def test_a_missing_code_never_counts_alone_but_does_in_an_exact_match() -> None:
    lookup = lookup_of((0, 1, 2, 3, 3), (1, 1, 1, 1, 1), missing=3)
    assert lookup.find((2, 2, 0, 3, 3)).rows.tolist() == []
    assert lookup.find((2, 1, 0, 3, 3)).rows.tolist() == [0, 1]
    assert lookup.find((0, 1, 2, 3, 3)).exact


def test_tracks_that_differ_only_in_what_they_miss_rank_after_the_exact_match() -> None:
    lookup = lookup_of(
        (0, 1, 2, 0, 0), (0, 1, 2, 3, 3), (0, 1, 2, 1, 1), (3, 3, 3, 3, 3), missing=3
    )
    ranking = lookup.top((0, 1, 2, 3, 3), 10)
    assert ranking.rows.tolist() == [1, 0, 2]
    assert [lookup.subsets[group] for group in ranking.groups] == [
        (0, 1, 2, 3, 4),
        (0, 1, 2),
        (0, 1, 2),
    ]


def test_drawing_is_from_the_bucket_and_repeats_with_the_seed() -> None:
    match = lookup_of(*[(0, 0, 0, 0, 0)] * 4, (1, 1, 1, 1, 1)).find((0, 0, 0, 0, 0))
    rng = np.random.default_rng(0)
    drawn = [match.draw(rng) for _ in range(60)]
    assert set(drawn) == {0, 1, 2, 3}
    again = np.random.default_rng(0)
    assert [match.draw(again) for _ in range(60)] == drawn
    assert match.draw(None) == 0


def test_ties_are_shuffled_over_the_whole_bucket_and_repeat_with_the_seed() -> None:
    lookup = lookup_of(*[(0, 0, 0, 0, 0)] * 6, (0, 0, 0, 0, 1))
    firsts = {
        int(lookup.top((0,) * 5, 1, None, np.random.default_rng(seed)).rows[0])
        for seed in range(60)
    }
    assert firsts == set(range(6))
    one, two = (lookup.top((0,) * 5, 7, None, np.random.default_rng(3)) for _ in range(2))
    assert one.rows.tolist() == two.rows.tolist()
    assert one.rows.tolist()[-1] == 6


def test_partial_ties_are_shuffled_over_the_whole_bucket_too() -> None:
    # the bucket is met by comparing codes, since a better one holds a track
    lookup = lookup_of((0, 0, 0, 0, 1), *[(0, 0, 0, 1, 1)] * 6)
    seconds = {
        int(lookup.top((0,) * 5, 2, None, np.random.default_rng(seed)).rows[1])
        for seed in range(60)
    }
    assert seconds == set(range(1, 7))


@pytest.mark.parametrize("compiled", [False, True])
def test_an_exact_match_is_not_ranked_again_as_a_partial_one(compiled: bool) -> None:
    if compiled:
        pytest.importorskip("numba")
    codes = np.array([[0] * 5] * 3 + [[0, 1, 1, 1, 1]] * 2)
    lookup = WeightedLookup(codes, (4,) * 5, WEIGHTS, [None] * 5, compiled=compiled)
    for seed in range(10):
        rows = lookup.top((0,) * 5, 5, None, np.random.default_rng(seed)).rows.tolist()
        assert (set(rows[:3]), set(rows[3:])) == ({0, 1, 2}, {3, 4})


def test_where_nothing_matches_nothing_is_drawn() -> None:
    lookup = lookup_of((0, 0, 0, 0, 0))
    match = lookup.find((1, 1, 1, 1, 1))
    assert match.draw(np.random.default_rng(0)) is None
    assert match.draw(None) is None
    assert lookup.top((1, 1, 1, 1, 1), 5).rows.tolist() == []


def test_what_was_found_cannot_damage_the_lookup() -> None:
    lookup = lookup_of((0, 0, 0, 0, 0), (0, 1, 1, 1, 1))
    for query in ((0, 0, 0, 0, 0), (0, 2, 2, 2, 2)):
        with pytest.raises(ValueError, match="read-only"):
            lookup.find(query).rows[:] = 7


@pytest.mark.parametrize(
    "query", [(), (0,) * 4, (0,) * 6, (4, 0, 0, 0, 0), (0, 0, 0, 0, -1), (0, 0, 99, 0, 0)]
)
def test_a_query_that_does_not_fit_is_refused(query: tuple[int, ...]) -> None:
    lookup = lookup_of((0, 0, 0, 0, 0))
    for look in (lookup.find, lambda q: lookup.top(q, 1)):
        with pytest.raises(InputError, match="do not fit"):
            look(query)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"weights": (1, 2)}, "same modalities"),
        ({"weights": (1, 2, 3, 4, 0)}, "positive"),
        ({"sizes": (3,) * 5}, "beyond"),
        ({"sizes": (2**13,) * 5}, "index holds 62"),
        (
            {
                "sizes": (4, 4, 4, 4, 3),
                "index": CatalogIndex(np.zeros((2, 5), dtype=int), (4, 4, 4, 4, 3)),
            },
            "beyond",
        ),
    ],
)
def test_arguments_that_do_not_fit_are_refused(changed: dict[str, object], message: str) -> None:
    arguments = {"sizes": (4,) * 5, "weights": WEIGHTS, "missing": [None] * 5, **changed}
    with pytest.raises((ConfigError, InputError), match=message):
        WeightedLookup(np.full((2, 5), 3), **arguments)


def test_up_to_eight_modalities_are_looked_up() -> None:
    codes = np.array([[0] * 8, [0] * 7 + [1]])
    lookup = WeightedLookup(codes, (100,) * 8, range(8, 0, -1), [None] * 8)
    assert lookup.find([2] * 7 + [1]).modalities == (7,)
    # the catalogue rows, and beside each the seven other codes
    assert lookup.nbytes - CatalogIndex(codes, (100,) * 8).nbytes == 2 * 8 * (4 + 7)
    with pytest.raises(InputError, match="9 modalities"):
        WeightedLookup(np.zeros((2, 9), dtype=int), (2,) * 9, [1] * 9, [None] * 9)


def test_less_than_one_track_is_refused() -> None:
    lookup = lookup_of((0, 0, 0, 0, 0))
    with pytest.raises(InputError, match="k 0"):
        lookup.top((0,) * 5, 0)


def test_matches_are_counted_by_what_they_share_warm_and_cold() -> None:
    lookup = lookup_of((0, 0, 0, 0, 0), (1, 1, 1, 1, 1), (1, 1, 1, 1, 0), (2, 2, 2, 2, 2))
    warm = np.array([True, False, True, True])
    same = [[0] * 5, [0] * 5, [1] * 5]
    queries = np.array([*same, [1, 1, 1, 1, 2], [3, 3, 3, 3, 1], [3] * 5])
    counts = count_matches(lookup, queries, warm)
    assert counts.queries == 6
    assert counts.exact == Split(warm=2, cold=1)
    assert counts.partial == {(0, 1, 2, 3): Split(0, 1), (4,): Split(0, 1)}
    assert list(counts.partial) == [(0, 1, 2, 3), (4,)]
    assert counts.none == 1
    assert counts.distinct == Split(1, 1)
    assert counts.tracks == Split(3, 1)
    drawn = {
        count_matches(lookup, queries, warm, rng=np.random.default_rng(seed)).partial[0, 1, 2, 3]
        for seed in range(20)
    }
    assert drawn == {Split(0, 1), Split(1, 0)}
    with pytest.raises(InputError, match="warm"):
        count_matches(lookup, queries, warm[:3])


@pytest.mark.parametrize("odd", [None, 0.0, 0.5, float("nan"), "0", [0], 10**400, b"0"])
def test_a_query_of_anything_but_whole_numbers_is_refused(odd: object) -> None:
    lookup = WeightedLookup(np.zeros((3, 2), dtype=np.int64), (4, 4), (2, 1), (None, None))
    query = [0, odd]
    for call in (lookup.find, lambda one: lookup.top(one, 1)):
        with pytest.raises(InputError):
            call(query)  # type: ignore[arg-type]


@pytest.mark.parametrize("query", [None, 7, object(), [[0], [0, 1]]])
def test_what_is_no_query_at_all_is_refused(query: object) -> None:
    lookup = WeightedLookup(np.zeros((3, 2), dtype=np.int64), (4, 4), (2, 1), (None, None))
    with pytest.raises(InputError):
        lookup.find(query)  # type: ignore[arg-type]
