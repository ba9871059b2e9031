"""Constraints: what meets what."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from talkplay_hf.catalog.constraints import Constraint, satisfied
from talkplay_hf.catalog.schema import Track
from talkplay_hf.errors import InputError

TRACK = Track(
    "a",
    "A",
    "Zo\u00eb STRASSE",
    release_date="1999-05-01",
    tags=("Hip Hop", "jazz"),
    tempo=120.0,
    extra={"explicit": True, "loudness": -3, "labels": ["indie"], "note": "n/a"},
)


@pytest.mark.parametrize(
    ("field", "op", "value", "met"),
    [
        ("artist", "is", "zo\u00eb stra\u00dfe", True),
        ("artist", "is", "zo\u00eb", False),
        ("artist", "not", "zo\u00eb", True),
        ("artist", "not", "ZO\u00cb STRASSE", False),
        ("tags", "is", "JAZZ", True),
        ("tags", "is", "hip", False),
        ("tags", "not", "jazz", False),
        ("tags", "not", "rock", True),
        ("labels", "is", "Indie", True),
        ("explicit", "is", "true", True),
        ("year", "is", "1999", True),
        ("year", "ge", "1999", True),
        ("year", "gt", "1999", False),
        ("year", "le", "1999", True),
        ("year", "lt", "1999", False),
        ("year", "lt", "1999.5", True),
        ("tempo", "gt", "119.9", True),
        ("tempo", "le", "120", True),
        ("tempo", "is", "120", True),
        ("tempo", "is", "120.0", True),
        ("tempo", "is", "12", False),
        ("loudness", "is", "-3", True),
        ("loudness", "is", "-3.0", False),
        ("loudness", "lt", "-2.5", True),
        # a missing value meets only "not"
        ("album", "is", "x", False),
        ("album", "not", "x", True),
        ("popularity", "lt", "5", False),
        ("popularity", "ge", "5", False),
        ("no such column", "gt", "0", False),
        ("no such column", "is", "", False),
        ("no such column", "not", "", True),
        # and so does a value that is no number where one is compared
        ("artist", "lt", "5", False),
        ("note", "ge", "5", False),
        ("tags", "gt", "0", False),
    ],
)
def test_operators(field: str, op: str, value: str, met: bool):
    assert Constraint(field, op, value).satisfied_by(TRACK) is met


def test_no_tags_are_missing():
    bare = Track("b", "B", "x")
    assert not Constraint("tags", "is", "jazz").satisfied_by(bare)
    assert Constraint("tags", "not", "jazz").satisfied_by(bare)


@pytest.mark.parametrize("op", ["", "IS", "eq", "contains"])
def test_an_unknown_operator_is_refused(op: str):
    with pytest.raises(InputError, match="operator"):
        Constraint("artist", op, "x")


@pytest.mark.parametrize("value", ["", "fast", "1,5", "nan"])
def test_numbers_are_needed_to_compare(value: str):
    with pytest.raises(InputError, match="must be a number"):
        Constraint("tempo", "gt", value)


def test_all_must_be_met():
    jazz, old = Constraint("tags", "is", "jazz"), Constraint("year", "lt", "1990")
    assert satisfied([], TRACK)
    assert satisfied([jazz], TRACK)
    assert not satisfied([jazz, old], TRACK)


@settings(max_examples=50, deadline=None)
@given(
    st.floats(allow_nan=False, allow_infinity=False),
    st.floats(allow_nan=False, allow_infinity=False),
)
def test_lt_and_ge_are_opposites_for_numbers(found: float, bound: float):
    track = Track("a", "A", "x", tempo=found)
    lt, ge, gt, le = (
        Constraint("tempo", op, repr(bound)).satisfied_by(track) for op in ("lt", "ge", "gt", "le")
    )
    assert lt is not ge
    assert gt is not le
    assert (lt or gt) is (found != bound)


@settings(max_examples=50, deadline=None)
@given(st.text(), st.text())
def test_is_and_not_are_opposites(found: str, value: str):
    track = Track("a", "A", found)
    met = [Constraint("artist", op, value).satisfied_by(track) for op in ("is", "not")]
    assert sorted(met) == [False, True]
    assert Constraint("artist", "is", found).satisfied_by(track)


@pytest.mark.parametrize(
    ("constraint", "text"),
    [
        (Constraint("year", "ge", "1990"), "year >= 1990"),
        (Constraint("tempo", "lt", "99.5"), "tempo < 99.5"),
        (Constraint("artist", "not", "The Band"), "artist not The Band"),
        (Constraint("tags", "is", "not jazz"), 'tags is "not jazz"'),
        (Constraint("title", "is", '"Heroes"'), 'title is "\\"Heroes\\""'),
        (Constraint("album", "is", ""), 'album is ""'),
        (Constraint("artist", "is", "Notable"), "artist is Notable"),
        (Constraint("artist", "is", "Not"), 'artist is "Not"'),
    ],
)
def test_a_constraint_reads_as_a_rule(constraint: Constraint, text: str):
    assert str(constraint) == text


def test_a_number_beyond_all_floats_meets_no_bound() -> None:
    track = Track("t", "T", "A", extra={"plays": 10**400})
    assert not Constraint("plays", "ge", "1").satisfied_by(track)


@pytest.mark.parametrize("parts", [("year", "is", 5), (None, "is", "x"), ("year", ["is"], "x")])
def test_a_constraint_is_made_of_texts(parts: tuple[object, ...]) -> None:
    with pytest.raises(InputError):
        Constraint(*parts)  # type: ignore[arg-type]
