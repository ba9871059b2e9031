"""The matcher means the same as `satisfied`, on every kind of column."""

from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from talkplay_hf.catalog.constraints import OPERATORS, Constraint, satisfied
from talkplay_hf.catalog.matcher import FEW, ConstraintMatcher
from talkplay_hf.catalog.schema import PLAYLIST_SCHEMA, Catalog, Track

WORDS = ["Jazz", "jazz", "JAZZ ", "ß", "SS", "1", "1.0", "1e0", "120", "-0.0", "nan", "true", ""]
TEXT = st.one_of(st.sampled_from(WORDS), st.text(max_size=3))
# Arrow type and the values that it can hold
KINDS: dict[str, tuple[pa.DataType, st.SearchStrategy[Any]]] = {
    "text": (pa.string(), TEXT),
    "long text": (pa.large_string(), TEXT),
    "text by code": (pa.dictionary(pa.int8(), pa.string()), TEXT),
    "flag": (pa.bool_(), st.booleans()),
    "whole": (pa.int64(), st.integers(-2, 2)),
    "float": (pa.float64(), st.sampled_from([0.0, -0.0, 1.0, 120.0, 0.5, float("nan")])),
    "infinite": (pa.float32(), st.sampled_from([float("inf"), float("-inf"), 1.0])),
    "decimal": (pa.decimal128(4, 1), st.decimals(-2, 2, places=1)),
    "day": (pa.date32(), st.dates()),
    "bytes": (pa.binary(), st.sampled_from([b"1", b"jazz"])),
    "nothing": (pa.null(), st.none()),
    "list": (pa.list_(pa.string()), st.lists(st.none() | TEXT, max_size=3)),
    "list of codes": (pa.list_(pa.dictionary(pa.int8(), pa.string())), st.lists(TEXT, max_size=3)),
    "long list": (pa.large_list(pa.float64()), st.lists(st.sampled_from([1.0, 0.5]), max_size=3)),
    "pair": (pa.list_(pa.int8(), 2), st.lists(st.integers(-2, 2), min_size=2, max_size=2)),
    "lists": (pa.list_(pa.list_(pa.string())), st.lists(st.lists(TEXT, max_size=2), max_size=2)),
    "view": (pa.list_view(pa.string()), st.lists(TEXT, max_size=2)),
    "struct": (pa.struct([("a", pa.string())]), st.fixed_dictionaries({"a": TEXT})),
    "map": (pa.map_(pa.string(), pa.int8()), st.lists(st.tuples(TEXT, st.just(1)), max_size=2)),
}
DATES = st.sampled_from([None, "1999", "1999-05-01", "2004", "0120", "unknown", "n"])


@st.composite
def catalogs(draw: st.DrawFn) -> Catalog:
    """Tracks with one extra column of any kind, in one chunk or several, whole or sliced."""
    kind, values = KINDS[draw(st.sampled_from(sorted(KINDS)))]
    rows = draw(st.lists(st.none() | values, min_size=2, max_size=8))
    cut = draw(st.integers(0, len(rows) - 1))
    chunks = [pa.array(rows, kind).slice(0, cut), pa.array(rows, kind).slice(cut)]
    count = len(rows)
    table = pa.table(
        {
            "track_id": [str(row) for row in range(count)],
            "title": ["t"] * count,
            "artist": draw(st.lists(TEXT, min_size=count, max_size=count)),
            "release_date": pa.array(
                draw(st.lists(DATES, min_size=count, max_size=count)), pa.string()
            ),
            "tags": pa.array(
                draw(st.lists(st.none() | st.lists(TEXT), min_size=count, max_size=count)),
                pa.list_(pa.string()),
            ),
            "extra": pa.chunked_array(chunks, kind),
        }
    )
    return Catalog(table.slice(1) if draw(st.booleans()) else table, PLAYLIST_SCHEMA.empty_table())


@st.composite
def constraints(draw: st.DrawFn) -> Constraint:
    op = draw(st.sampled_from(OPERATORS))
    numbers = st.sampled_from(["1", "0", "-0.0", "1999", "1e3", "0.5", "inf", "120"])
    value = draw(TEXT | numbers if op in ("is", "not") else numbers)
    return Constraint(
        draw(st.sampled_from(["extra", "artist", "tags", "year", "no such column"])), op, value
    )


@settings(max_examples=100, deadline=None)
@given(catalogs(), st.lists(constraints(), max_size=3))
def test_the_mask_is_satisfied_on_every_track(catalog: Catalog, request: list[Constraint]):
    tracks = [catalog.track_at(row) for row in range(len(catalog))]
    mask = ConstraintMatcher(catalog).mask(request)
    assert mask.dtype == bool
    assert mask.tolist() == [satisfied(request, track) for track in tracks]


def test_many_values_are_matched_as_few_are():
    tracks = [Track(str(n), "t", f"artist {n % (2 * FEW)}", tempo=float(n)) for n in range(400)]
    matcher = ConstraintMatcher(Catalog.from_tracks(tracks))
    for bound in (FEW - 2, FEW, FEW + 2, 300):
        mask = matcher.mask([Constraint("tempo", "lt", str(bound))])
        assert mask.tolist() == [n < bound for n in range(400)]
    names = [f"ARTIST {n}" for n in range(FEW + 1)]
    assert matcher.holding("artist", names).tolist() == [
        n % (2 * FEW) <= FEW for n in range(len(tracks))
    ]
    assert not matcher.holding("artist", []).any()


def test_a_request_of_several_constraints():
    tracks = [
        Track("a", "A", "Ann", release_date="1991", tags=("Rock", "calm"), extra={"genre": "rock"}),
        Track("b", "B", "Bob", tags=("calm",), tempo=120.0, extra={"genre": "Jazz"}),
        Track("c", "C", "ann", release_date="2004-05", extra={"genre": None}),
    ]
    matcher = ConstraintMatcher(Catalog.from_tracks(tracks))
    assert matcher.mask([Constraint("artist", "is", "ANN")]).tolist() == [True, False, True]
    era = [Constraint("year", "ge", "1990"), Constraint("year", "lt", "2000")]
    assert matcher.mask(era).tolist() == [True, False, False]
    assert matcher.mask([]).tolist() == [True, True, True]
    assert matcher.distinct("genre") == ["rock", "Jazz"]
    assert sorted(matcher.distinct("tags")) == ["Rock", "calm"]
    assert matcher.columns[-1] == "year"


@pytest.mark.parametrize("value", ["Groß", "GROSS", "gross", "GROẞ"])
def test_spellings_that_differ_in_case_alone_are_one(value: str):
    tracks = [Track(name, "A", name) for name in ("Groß", "GROSS", "Gros")]
    matcher = ConstraintMatcher(Catalog.from_tracks(tracks))
    assert matcher.mask([Constraint("artist", "is", value)]).tolist() == [True, True, False]


@pytest.mark.parametrize("value", ["\udcff", "a\ud800"])
def test_half_of_a_surrogate_pair_meets_nothing(value: str):
    matcher = ConstraintMatcher(Catalog.from_tracks([Track("a", "A", "Ann")]))
    assert not matcher.mask([Constraint("artist", "is", value)]).any()
    assert matcher.mask([Constraint("artist", "not", value)]).all()
