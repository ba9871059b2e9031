"""Reading single cells."""

import json
import time
from datetime import date, datetime
from pathlib import Path

import pytest
from csv_imports import run
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
        ("1560500000000", "2019-06-14"),
        ("2019-05-00", "2019-05"),
        ("2019-00-05", "2019"),
        ("1999-00-00", "1999"),
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
    ("cell", "expected"),
    [
        ("2019-06-14T10:20:30+02:00", "2019-06-14T08:20:30"),
        ("2019-06-14 10:20", "2019-06-14T10:20:00"),
        ("2019-06-14T00:00:00", "2019-06-14"),
        ("1560500000500", "2019-06-14T08:13:20"),
        ("2019-06", "2019-06"),
    ],
)
def test_a_date_keeps_its_time_where_it_is_asked_for(cell: str, expected: str) -> None:
    assert Cells().date(cell, time=True) == expected


def test_seconds_since_1970_are_read_in_utc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "America/New_York")
    time.tzset()
    try:
        assert Cells().date("1560470400") == "2019-06-14"
    finally:
        monkeypatch.undo()
        time.tzset()


def test_text_keeps_its_lines_only_where_it_may_have_some() -> None:
    assert Cells().text(" a\r\nb\rc  d\n", lines=True) == "a\nb\nc  d"
    assert Cells().text(" a\r\nb\rc  d\n") == "a b c d"


@pytest.mark.parametrize("cell", [None, float("nan"), float("inf")])
def test_a_cell_without_a_value_is_no_literal_text(cell: object) -> None:
    assert Cells().text(cell, literal=True) is None


def test_bytes_that_are_no_utf8_are_read_as_far_as_they_are() -> None:
    assert Cells().text(b"Bj\xf6rk") == "Bj\N{REPLACEMENT CHARACTER}rk"


@pytest.mark.parametrize(
    ("cell", "expected", "unreadable"),
    [
        ("-1.5e2", -150.0, 0),
        (".5", 0.5, 0),
        (7, 7.0, 0),
        ("1e999", None, 1),
        ("1_000", None, 1),
        ("fast", None, 1),
        ("NA", None, 0),
        (None, None, 0),
    ],
)
def test_number(cell: object, expected: float | None, unreadable: int) -> None:
    cells = Cells()
    assert cells.number(cell) == expected
    assert cells.unreadable == unreadable


def test_columns_of_an_import_are_read_by_what_they_hold(tmp_path: Path) -> None:
    (tmp_path / "x  y.mp3").write_bytes(b"")
    text = 'track_id,title,artist,audio,key,notes\na,None,A,"x  y.mp3 ",6,"one\ntwo"\nb,T,NA,,C,\n'
    _, catalog = run(tmp_path, text)
    one, two = catalog.track("a"), catalog.track("b")
    assert (one.title, one.key) == ("None", "F#")
    # the file was found, with both spaces in its name
    assert str(one.audio).endswith(".mp3")
    assert one.extra["notes"] == "one\ntwo"
    assert (two.artist, two.audio, two.key) == ("NA", None, "C")


def test_playlists_keep_the_time_they_were_made_at(tmp_path: Path) -> None:
    text = "track_id,title,artist,playlist,playlist_created_at\na,T,A,p,2019-06-14T10:20:30Z\n"
    _, catalog = run(tmp_path, text)
    assert next(catalog.iter_playlists()).created_at == "2019-06-14T10:20:30"


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
        ("[pop, rock", ["[pop", "rock"]),
        ("pop, rock]", ["pop", "rock]"]),
        ("[]", []),
        ("[" * 5000 + "]" * 5000, []),
        ("[" * 90 + '"a"' + "]" * 90, ["a"]),
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


def test_lyrics_with_colons_are_no_bag_of_words() -> None:
    assert Cells().lyrics("at 10:30 love:2") == "at 10:30 love:2"


def test_a_bag_of_words_cannot_fill_the_memory() -> None:
    assert len(Cells().lyrics("a:999999 " * 999, bag=True) or "") <= 200_000


@pytest.mark.parametrize("depth", range(400, 1000, 50))
def test_lists_in_lists_end_no_process(depth: int):
    """How deep Python goes depends on its version and on who calls."""
    assert isinstance(Cells().items("[" * depth + "1" + "]" * depth), list)
    assert isinstance(Cells().items('[{"a":' * depth + "1" + "}]" * depth), list)


def test_artist_lists_are_joined_and_names_in_brackets_stay() -> None:
    cells = Cells()
    assert cells.artist("['Ann', 'Bob']") == "Ann, Bob"
    assert cells.artist("[:SITD:]") == "[:SITD:]"


@given(st.lists(st.text()))
def test_json_lists_keep_their_items(items: list[str]) -> None:
    cells = Cells()
    kept = [text for text in map(cells.text, items) if text is not None]
    assert cells.items(json.dumps(items)) == kept
