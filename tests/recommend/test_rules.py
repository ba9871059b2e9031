"""Rules at run time: what they allow, how they combine, how they read, what they refuse."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from talkplay_hf.catalog.constraints import OPERATORS, Constraint
from talkplay_hf.catalog.importer import import_table
from talkplay_hf.catalog.matcher import ConstraintMatcher
from talkplay_hf.catalog.schema import Catalog, Track
from talkplay_hf.cli.arguments import Parser, rule_flag
from talkplay_hf.errors import InputError, NoTrackError
from talkplay_hf.recommend.rule_set import RuleSet
from talkplay_hf.recommend.rules import (
    Among,
    AtMost,
    Flag,
    Meets,
    Not,
    Rule,
    Rules,
    Where,
    as_rule,
    parse_rule,
)

TRACKS = [
    Track(
        f"t{n}",
        f"Title {n}",
        ("Ann", "Bob", "ANN", "The Band")[n % 4],
        album=("One", "Two", None)[n % 3],
        release_date=str(1980 + n) if n % 5 else None,
        tags=(("jazz",), ("rock", "Jazz", "jazz"), ())[n % 3],
        tempo=60.0 + n,
        extra={
            "explicit": (True, False, None)[n % 3],
            "live": (1, 0)[n % 2],
            "cover": ("Yes", "no", None)[n % 3],
            "unknown": None,
        },
    )
    for n in range(24)
]
CATALOG = Catalog.from_tracks(TRACKS)
MATCHER = ConstraintMatcher(CATALOG)
EVERY = list(range(len(TRACKS)))


def allowed(rules: Rules, played: Sequence[int] = ()) -> list[int]:
    mask = RuleSet(MATCHER, rules).mask(played)
    return EVERY if mask is None else np.flatnonzero(mask).tolist()


def even(table: pa.Table) -> list[bool]:
    return [row % 2 == 0 for row in range(len(table))]


LEAVES: st.SearchStrategy[Rule] = st.one_of(
    st.builds(
        lambda field, op, value: Meets(Constraint(field, op, value)),
        st.sampled_from(["year", "tempo", "artist", "tags", "album"]),
        st.sampled_from(OPERATORS),
        st.sampled_from(["1990", "70", "1e9"]),
    ),
    st.sampled_from(["tags is jazz", "tags not rock", "artist is ann", "album not one"]).map(
        parse_rule
    ),
    st.sampled_from(["explicit", "live", "cover", "unknown"]).map(Flag),
    st.sets(st.sampled_from([track.track_id for track in TRACKS])).map(Among),
    st.builds(
        AtMost,
        st.sampled_from(["artist", "tags", "album"]),
        st.integers(1, 3),
        st.none() | st.integers(1, 4),
    ),
    st.just(Where(even)),
)
RULES = st.recursive(
    LEAVES,
    lambda rules: st.one_of(
        st.builds(lambda a, b: a & b, rules, rules),
        st.builds(lambda a, b: a | b, rules, rules),
        st.builds(lambda a: ~a, rules),
    ),
    max_leaves=6,
)
PLAYED = st.lists(st.sampled_from(EVERY), max_size=6)


def allows(rule: Rule, row: int, played: Sequence[int]) -> bool:
    """A rule on one track, in plain Python."""
    track = TRACKS[row]
    if isinstance(rule, Meets):
        return rule.constraint.satisfied_by(track)
    if isinstance(rule, Flag):
        return track.get(rule.column) in (True, 1, "Yes")
    if isinstance(rule, Among):
        return track.track_id in set(rule.track_ids)
    if isinstance(rule, Where):
        return row % 2 == 0
    if isinstance(rule, AtMost):

        def values(one: int) -> set[str]:
            value = TRACKS[one].get(rule.column)
            several = value if isinstance(value, tuple) else [value] if value else []
            return {text.casefold() for text in several}

        window = played[-rule.last :] if rule.last else played
        return all(sum(text in values(p) for p in window) < rule.times for text in values(row))
    if isinstance(rule, Not):
        return not allows(rule.rule, row, played)
    parts = [allows(part, row, played) for part in rule.rules]  # type: ignore[attr-defined]
    return all(parts) if rule.word == "and" else any(parts)  # type: ignore[attr-defined]


@settings(max_examples=150, deadline=None)
@given(st.lists(RULES, max_size=3), PLAYED)
def test_a_mask_is_the_rules_on_every_track(rules: list[Rule], played: list[int]):
    expected = [row for row in EVERY if all(allows(rule, row, played) for rule in rules)]
    try:
        assert allowed(rules, played) == expected
    except NoTrackError:
        by_chat = any(rule.by_chat for rule in rules)
        fixed = [rule for rule in rules if not rule.by_chat]
        assert not expected
        assert by_chat or not any(all(allows(rule, row, ()) for rule in fixed) for row in EVERY)


@settings(max_examples=50, deadline=None)
@given(RULES, RULES, RULES, PLAYED)
def test_rules_combine_as_sets_do(a: Rule, b: Rule, c: Rule, played: list[int]):
    def same(left: Rule, right: Rule) -> None:
        masks = [rule.mask(MATCHER, played).tolist() for rule in (left, right)]
        assert masks[0] == masks[1]

    same(~~a, a)
    same(~(a & b), ~a | ~b)
    same(~(a | b), ~a & ~b)
    same(a & (b | c), (a & b) | (a & c))
    same(a & b, b & a)
    same(a | (a & b), a)
    assert not (a & ~a).mask(MATCHER, played).any()
    assert (a | ~a).mask(MATCHER, played).all()


COLUMN = st.sampled_from(["year", "tags", "artist", "My Column", "is", "c_1"])
VALUE = st.text(st.characters(exclude_categories=["Cs"]), max_size=8) | st.sampled_from(
    ["not x", "is y", '"z"', "NOT", "a >= b", " ", "x at most 2", "nothing"]
)


@settings(max_examples=150, deadline=None)
@given(
    st.one_of(
        st.builds(Constraint, COLUMN, st.sampled_from(["is", "not"]), VALUE).map(Meets),
        st.builds(
            Constraint,
            COLUMN,
            st.sampled_from(["lt", "le", "gt", "ge"]),
            st.floats(allow_nan=False).map(repr),
        ).map(Meets),
        st.builds(Flag, COLUMN),
        st.builds(AtMost, COLUMN, st.integers(1, 9), st.none() | st.integers(1, 9)),
    ),
    st.integers(0, 2),
)
def test_what_is_printed_can_be_read(rule: Rule, negations: int):
    for _ in range(negations):
        rule = ~rule
    assert parse_rule(str(rule)) == rule


@pytest.mark.parametrize(
    ("text", "field", "op", "value"),
    [
        ("year >= 1990", "year", "ge", "1990"),
        ("year<1990", "year", "lt", "1990"),
        ("  year  le  1990 ", "year", "le", "1990"),
        ("tempo > 99.5", "tempo", "gt", "99.5"),
        ("artist = The Band", "artist", "is", "The Band"),
        ("artist == The Band", "artist", "is", "The Band"),
        ("artist != The Band", "artist", "not", "The Band"),
        ("artist IS  NOT The Band", "artist", "not", "The Band"),
        ("artist is Now or Not", "artist", "is", "Now or Not"),
        ("artist is AC = DC", "artist", "is", "AC = DC"),
        ('artist is "not The Band"', "artist", "is", "not The Band"),
        ('artist is "Weird Al" Yankovic', "artist", "is", '"Weird Al" Yankovic'),
        ('title is "', "title", "is", '"'),
        ("is live is true", "is live", "is", "true"),
    ],
)
def test_texts_are_read(text: str, field: str, op: str, value: str):
    assert parse_rule(text) == Meets(Constraint(field, op, value))


def test_texts_without_a_value_are_read():
    assert parse_rule("explicit") == Flag("explicit")
    assert parse_rule("is live") == Flag("is live")
    assert parse_rule("not explicit") == Not(Flag("explicit"))
    assert parse_rule("NOT year >= 1990") == Not(parse_rule("year >= 1990"))
    assert parse_rule("artist at most 2") == AtMost("artist", 2)
    assert parse_rule("album At Most 1 in the last 5") == AtMost("album", 1, 5)


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", "not", "not ", ">= 1990", "year >=", "artist is", "artist is not", "= =", "!="),
        *("year >= new", "artist at most", "artist at most two", "artist at most 0"),
        *("artist at most 1 in last 0", 'artist is "a" b"', "artist at most 1 in 5"),
    ],
)
def test_what_is_no_rule_is_refused(text: str):
    with pytest.raises(InputError) as caught:
        parse_rule(text)
    assert "rule" in str(caught.value) or "constraint" in str(caught.value)


def test_a_rule_can_be_given_in_many_ways():
    jazz = [row for row in EVERY if row % 3 < 2]
    assert allowed("tags is jazz") == jazz
    assert allowed(Constraint("tags", "is", "jazz")) == jazz
    assert allowed(["tags is jazz", even]) == [row for row in jazz if row % 2 == 0]
    assert allowed(even) == EVERY[::2]
    assert allowed(Among(["t3", "t1", "elsewhere"])) == [1, 3]
    assert allowed(~Among(track.track_id for track in TRACKS[4:])) == [0, 1, 2, 3]
    assert allowed(["year >= 1990", "year < 1993"]) == [11, 12]
    assert allowed(parse_rule("year < 1982") | "year > 2002" | even) == sorted({1, 23, *EVERY[::2]})


@pytest.mark.parametrize("rule", [None, 5, b"year >= 1990", ["year >= 1990"]])
def test_what_is_neither_is_refused(rule: object):
    with pytest.raises(InputError, match="must be a Rule, a Constraint, a text or a function"):
        as_rule(rule)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="several ids"):
        Among("t3")


def test_a_missing_flag_is_off_but_not_false():
    assert allowed("explicit") == EVERY[::3]
    assert allowed("not explicit") == [row for row in EVERY if row % 3]
    assert allowed("explicit is false") == EVERY[1::3]
    assert allowed("live") == EVERY[::2]
    assert allowed("not live") == EVERY[1::2]
    assert allowed("cover") == EVERY[::3]
    assert allowed("not unknown") == EVERY


def test_a_column_that_is_no_flag_is_refused():
    with pytest.raises(InputError, match=r"'not tempo'|'tempo'.*tempo is no flag, it holds 60.0"):
        RuleSet(MATCHER, "not tempo")


@pytest.mark.parametrize("rule", ["yaer >= 1990", "not yaer", "yaer at most 2"])
def test_an_unknown_column_is_refused_with_those_that_are_known(rule: str):
    said = r"rule '.*yaer.*': .*no column 'yaer'; it has track_id, .*live.*, year"
    with pytest.raises(InputError, match=said):
        RuleSet(MATCHER, rule)


def test_a_function_may_give_arrow_and_its_nulls_are_left_out():
    nulls = Where(lambda table: pc.equal(table["album"], "One"))
    assert allowed(nulls) == EVERY[::3]
    assert allowed(lambda table: pc.less(table["tempo"], 63.0).combine_chunks()) == [0, 1, 2]


@pytest.mark.parametrize(
    "bad",
    [
        lambda table: np.ones(3, dtype=bool),
        lambda table: np.ones(len(table)),
        lambda table: True,
        lambda table: table["album"],
        lambda table: np.ones((len(table), 1), dtype=bool),
    ],
)
def test_a_function_must_give_one_boolean_a_track(bad: object):
    with pytest.raises(InputError, match=r"rule 'mine': gives .* must give bool of shape \(24,\)"):
        RuleSet(MATCHER, Where(bad, "mine"))  # type: ignore[arg-type]


def test_an_artist_is_played_at_most_so_often():
    ann = [row for row in EVERY if row % 2 == 0]
    ann = [row for row in ann if TRACKS[row].artist != "The Band"]
    others = [row for row in EVERY if row not in ann]
    assert allowed("artist at most 1", [0]) == others
    assert allowed("artist at most 2", [0]) == EVERY
    assert allowed("artist at most 2", [0, 1, 2]) == others
    assert allowed("artist at most 1 in last 1", [0, 1]) == [r for r in EVERY if r % 4 != 1]
    assert allowed("album at most 1", [2]) == EVERY


def test_what_does_not_depend_on_the_chat_is_made_once():
    calls = []

    def condition(table: pa.Table) -> list[bool]:
        calls.append(len(table))
        return even(table)

    assert [(AtMost() | Where(condition)).by_chat, (~Where(condition)).by_chat] == [True, False]
    rules = RuleSet(MATCHER, [condition, AtMost() | ~Where(condition), ~AtMost() | condition])
    assert len(calls) == 3
    first = rules.mask([])
    assert first is None or first.any()
    rules.mask([1, 3])
    assert len(calls) == 3


def test_nothing_ruled_out_is_none():
    assert RuleSet(MATCHER).mask([0]) is None
    assert RuleSet(MATCHER, []).mask() is None
    assert RuleSet(MATCHER, "tempo > 0").mask() is None
    diverse = RuleSet(MATCHER, AtMost())
    assert diverse.mask([]) is None
    assert diverse.mask([0]) is not None


def test_a_shared_mask_cannot_be_written_to():
    mask = RuleSet(MATCHER, "tags is jazz").mask()
    assert mask is not None
    with pytest.raises(ValueError, match="read-only"):
        mask[0] = False


def test_a_rule_that_leaves_nothing_says_so():
    with pytest.raises(NoTrackError, match=r"^rule 'year >= 2050' leaves none of 24 tracks$"):
        RuleSet(MATCHER, ["tempo > 0", "year >= 2050"][1:])
    with pytest.raises(NoTrackError) as caught:
        RuleSet(
            MATCHER, parse_rule("tags is rock") & "year < 1985" & "artist is The Band" & "explicit"
        )
    assert str(caught.value) == (
        "rule 'artist is The Band' leaves none of 2 tracks that are left by "
        "tags is rock and year < 1985"
    )
    rules = RuleSet(MATCHER, ["artist at most 1 in last 3", "artist is bob"])
    assert str(rules) == "artist is bob and artist at most 1 in last 3"
    with pytest.raises(NoTrackError) as caught:
        rules.mask([0, 5])
    assert str(caught.value) == (
        "rule 'artist at most 1 in last 3' leaves none of 6 tracks that are left by "
        "artist is bob, after 2 were played"
    )


def test_the_command_line_takes_rules(capsys: pytest.CaptureFixture[str]):
    parser = Parser(prog="talkplay")
    rule_flag(parser)
    assert parser.parse_args([]).rule == []
    given = parser.parse_args(["--rule", "year >= 1990", "--rule", "not explicit"]).rule
    assert given == [parse_rule("year >= 1990"), ~Flag("explicit")]
    with pytest.raises(SystemExit):
        parser.parse_args(["--rule", "year >="])
    assert "rule 'year >=': cannot be read" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.realdata
def test_the_rules_on_real_tracks(real_data: Path, tmp_path: Path):
    import_table(real_data / "spotify_songs.csv", tmp_path / "catalog")
    catalog = Catalog.load(tmp_path / "catalog")
    matcher = ConstraintMatcher(catalog)
    texts = ["year >= 1990", "year < 2000", "tags is rock", "artist not Nirvana", "tempo <= 120"]
    rules = RuleSet(matcher, [*texts, "artist at most 1 in last 2"])
    first = rules.mask()
    assert first is not None
    rows = np.flatnonzero(first)
    constraints = [rule.constraint for rule in map(parse_rule, texts) if isinstance(rule, Meets)]
    expected = [
        all(constraint.satisfied_by(catalog.track_at(row)) for constraint in constraints)
        for row in range(0, len(catalog), 37)
    ]
    assert first[::37].tolist() == expected
    assert 100 < len(rows) < 5_000
    artists = np.array(catalog.column("artist"))
    second = rules.mask(rows[:2].tolist())
    assert second is not None
    gone = np.isin(np.char.lower(artists), np.char.lower(artists[rows[:2]]))
    assert (second == (first & ~gone)).all()
    with pytest.raises(NoTrackError, match=r"leaves none of [0-9,]+ tracks"):
        RuleSet(matcher, [*texts, "year >= 2050"])


def test_a_rule_that_is_turned_around_thousands_of_times_is_refused():
    assert str(parse_rule("not Not  not explicit")) == "not not not explicit"
    assert str(parse_rule("not " * 9 + "explicit")) == "not " * 9 + "explicit"
    with pytest.raises(InputError, match="10 times not"):
        parse_rule("not " * 10 + "explicit")
    with pytest.raises(InputError, match=r"rule 'not not .* 5,000 times not"):
        parse_rule("not " * 5_000 + "explicit")


@pytest.mark.parametrize("text", ["artist at most " + "9" * 5_000, "a" * 9_999 + " at most x"])
def test_a_long_rule_is_refused_in_a_short_line(text: str):
    with pytest.raises(InputError) as refused:
        parse_rule(text)
    assert len(str(refused.value)) < 400
