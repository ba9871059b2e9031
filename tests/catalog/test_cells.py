"""Reading single cells."""

import json
from datetime import date, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from talkplay_hf.catalog.cells import Cells


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ("1999", "1999"),
        (1999.0, "1999"),
        ("2012-06", "2012-06"),
        ("2019-06-14", "2019-06-14"),
        ("2019/6/4", "2019-06-04"),
        ("20190614", "2019-06-14"),
        ("2019-06-14T10:20:30+02:00", "2019-06-14"),
        ("1560500000", "2019-06-14"),
        ("03/04/1999", "1999"),
        ("June 14, 2019", "2019"),
        ("2019-02-31", "2019"),
        (date(2001, 2, 3), "2001-02-03"),
        (datetime(2001, 2, 3, 4, 5), "2001-02-03"),
        ("0000", None),
        ("soon", None),
        ("", None),
    ],
)
def test_date(cell: object, expected: str | None) -> None:
    assert Cells().date(cell) == expected


@pytest.mark.parametrize(
    ("cell", "mode", "expected"),
    [
        ("0", "1", "C major"),
        (8, 0, "G# minor"),
        ("10.0", "0.0", "A# minor"),
        ("C#", "Minor", "C# minor"),
        ("6", None, "F#"),
        ("-1", "1", None),
        ("12", "1", None),
        ("E flat minor", "1", "E flat minor"),
        (None, "1", None),
    ],
)
def test_key(cell: object, mode: object, expected: str | None) -> None:
    assert Cells().key(cell, mode) == expected


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ("pop, hip hop", ["pop", "hip hop"]),
        ("pop;rock, hard", ["pop", "rock, hard"]),
        ("r&b|soul|", ["r&b", "soul"]),
        ('["a, b", "c"]', ["a, b", "c"]),
        ("['a', \"b's\", 3]", ["a", "b's", "3"]),
        ("[pop, rock]", ["pop", "rock"]),
        ("[]", []),
        ("[" * 5000 + "]" * 5000, []),
        (["x", None, " y "], ["x", "y"]),
        (None, []),
    ],
)
def test_items(cell: object, expected: list[str]) -> None:
    assert Cells().items(cell) == expected


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ("love:2 you:1", "love love you"),
        ("25:2,3:1", "25 25 3"),
        ("alone a:b:2 :", "alone a:b a:b :"),
        ("", None),
    ],
)
def test_bag_of_words(cell: str, expected: str | None) -> None:
    assert Cells().lyrics(cell, bag=True) == expected


def test_a_bag_of_words_cannot_fill_the_memory() -> None:
    assert len(Cells().lyrics("a:999999 " * 999, bag=True) or "") <= 200_000


def test_artist_lists_are_joined_and_names_in_brackets_stay() -> None:
    cells = Cells()
    assert cells.artist("['Ann', 'Bob']") == "Ann, Bob"
    assert cells.artist("[:SITD:]") == "[:SITD:]"


@given(st.lists(st.text()))
def test_json_lists_keep_their_items(items: list[str]) -> None:
    cells = Cells()
    kept = [text for text in map(cells.text, items) if text is not None]
    assert cells.items(json.dumps(items)) == kept
