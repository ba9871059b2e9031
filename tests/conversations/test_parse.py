"""Reading the messages of an answer, whatever a language model wrote around them."""

import json
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from talkplay_hf.conversations.checks.json_text import MAX_CHARACTERS, find_values
from talkplay_hf.conversations.checks.parse import READ_REPAIRS, Parsed, parse_answer

ITEMS = [
    {"role": "user", "content": "Play something like 'Big Amount'"},
    {"role": "music", "content": "ID000001"},
    {"role": "assistant", "content": 'It\'s got a "feel-good" hook, {really}: [yes], it does.'},
    {"role": "user", "content": "Más, por favor 🎶"},
    {"role": "assistant", "content": "Line one.\nLine two."},
    {"role": "music", "content": "ID000002"},
]
TEXT = json.dumps(ITEMS)
SMART = (
    "[{“role”: “user”, “content”: “Play “Hello” now”}, {“role”: “music”, “content”: “ID000001”}]"
)


LINES = ",\n".join(map(json.dumps, ITEMS))
TURNS = [
    {"user": ITEMS[0]["content"], "music": "ID000001", "assistant": ITEMS[2]["content"]},
    {"user": ITEMS[3]["content"], "assistant": ITEMS[4]["content"], "music": "ID000002"},
]


def said(parsed: Parsed) -> list[tuple[str, str]]:
    assert not parsed.problems
    return [(one.role, one.content) for one in parsed.messages]


WANTED = [(item["role"], item["content"]) for item in ITEMS]


@pytest.mark.parametrize(
    ("text", "repairs"),
    [
        (TEXT, set()),
        (json.dumps(ITEMS, indent=2, ensure_ascii=False), set()),
        (json.dumps(ITEMS, separators=(",", ":")), set()),
        (TEXT[:-1], {"cut_off"}),
        (json.dumps({"turns": TURNS})[:-1] + ', "x":', {"cut_off"}),
        (json.dumps({"turns": TURNS})[:-1] + ', "x": tru', {"cut_off"}),
        (json.dumps({"turns": TURNS})[:-1] + ', "x": "ab', {"cut_off"}),
        (f"x{TEXT}", {"around"}),
        (f"<think>a</think>{TEXT[:70]}</think>{TEXT}", {"thoughts"}),
        (f"{TEXT}\n{TEXT[:-1]}", {"said_twice", "cut_off"}),
        (json.dumps({"answer": {"tags": ["x"], "messages": ITEMS}}), {"wrapped"}),
        (json.dumps({"count": 5, "messages": ITEMS}), {"wrapped"}),
        (json.dumps([{**turn, "mood": "calm"} for turn in TURNS]), {"wrapped", "more_keys"}),
        (TEXT.replace('"ID000001"', '"ID000001", "mood": null'), set()),
        (TEXT.replace('"role"', '"from"'), {"role_names"}),
        (TEXT.replace('"content"', '"value"'), {"role_names"}),
        (f"[{TEXT}, x y]", {"around"}),
        (f"```json\n{TEXT}\n```", {"around"}),
        (f"```\n{TEXT}\n```\nHope you [like] it {{really}}!", {"around"}),
        (f"Sure, here's the list: \n{TEXT}\nEnjoy!", {"around"}),
        (f"\ufeff{TEXT}", set()),
        (f"<think>A [list] of {{turns}}: {TEXT[:70]}</think>{TEXT}", {"thoughts"}),
        (json.dumps({"conversation": ITEMS}), {"wrapped"}),
        (json.dumps({"turns": TURNS}), set()),
        (json.dumps(TURNS), {"wrapped"}),
        (json.dumps({"title": "A talk", "tags": ["x"], "messages": ITEMS}), {"wrapped"}),
        (json.dumps([ITEMS[:3], ITEMS[3:]]), {"wrapped"}),
        (json.dumps([{"turn": 1, "messages": ITEMS[:3]}, {"messages": ITEMS[3:]}]), {"wrapped"}),
        ("\n".join(map(json.dumps, ITEMS)), {"wrapped"}),
        (",\n".join(map(json.dumps, ITEMS)), {"wrapped"}),
        (TEXT[:-1] + ",\n]", {"commas"}),
        (TEXT.replace('"}', '",}'), {"commas"}),
        (TEXT.replace("}, {", "} {"), {"commas"}),
        (repr(ITEMS), {"quotes"}),
        (TEXT[:-1] + "\n```\nDone.", {"brackets", "around"}),
        (TEXT.replace("\\n", "\n"), {"line_breaks"}),
        (TEXT.replace("It's", "It\\'s"), {"escapes"}),
        (TEXT.replace('\\"feel-good\\"', '"feel-good"'), {"quotes"}),
        (f"{TEXT}\n{TEXT}", {"said_twice"}),
        (TEXT.replace('"user"', '"Human"'), {"role_names"}),
        (TEXT.replace('"role"', '"from"').replace('"content"', '"value"'), {"role_names"}),
        (TEXT.replace('"music", "content"', '"music", "track_id"'), {"track_fields"}),
        (TEXT.replace('"ID000001"', '["ID000001"]'), {"track_fields"}),
        (TEXT.replace('"ID000001"', '{"id": "ID000001", "title": "X"}'), {"track_fields"}),
        (TEXT.replace('"ID000001"', '"ID000001", "mood": "calm"'), {"more_keys"}),
    ],
)  # fmt: skip
def test_an_answer_is_read_and_its_repairs_are_named(text: str, repairs: set[str]) -> None:
    parsed = parse_answer(text)
    assert said(parsed) == WANTED
    assert parsed.repairs - {"around"} == repairs - {"around"}
    assert repairs <= parsed.repairs


def test_curved_quotes_stand_for_quotes_of_json() -> None:
    assert said(parse_answer(SMART)) == [("user", "Play “Hello” now"), ("music", "ID000001")]


def test_keys_without_quotes_and_apostrophes_without_escapes_are_read() -> None:
    text = "[{role: 'user', content: 'it's fine'}, {role: 'music', content: 'ID000001'}]"
    assert said(parse_answer(text)) == [("user", "it's fine"), ("music", "ID000001")]

    parsed = parse_answer(f'[{{role: "user", content: "hi", {"k" * 40}: 1}}]')
    assert said(parsed) == [("user", "hi")]
    assert parsed.repairs == {"quotes", "more_keys"}


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ('"Vinyl, 7""', 'Vinyl, 7"'),
        (r"'\ud83d\ude00'", "\U0001f600"),
        (r"'\ud83d'", "\ud83d"),
        (r"'\U0010ffff \U00110000'", "\U0010ffff \\U00110000"),
    ],
)
def test_what_python_and_people_write_in_a_text_is_read(written: str, read: str) -> None:
    assert said(parse_answer(f'[{{"role": "user", "content": {written}}}]')) == [("user", read)]


def test_of_thoughts_nothing_is_left() -> None:
    assert parse_answer(f"<think>x</think>{TEXT}").repairs == {"thoughts"}


def test_roles_as_keys_make_a_turn_in_the_order_of_the_keys() -> None:
    text = json.dumps([{"user": "a b", "music": "ID000001", "assistant": "c d"}])
    assert said(parse_answer(text)) == [
        ("user", "a b"),
        ("music", "ID000001"),
        ("assistant", "c d"),
    ]


def test_a_track_beside_a_reply_makes_a_message_of_its_own() -> None:
    text = json.dumps([{"role": "assistant", "content": "Here", "track_id": "ID000001"}])
    assert said(parse_answer(text)) == [("assistant", "Here"), ("music", "ID000001")]


def test_a_number_that_names_a_track_is_its_id() -> None:
    for number in (17, -17):
        text = json.dumps([{"role": "music", "content": number}])
        assert said(parse_answer(text)) == [("music", str(number))]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "unparsable"),
        ("No.", "unparsable"),
        ("[]", "unparsable"),
        ("null", "unparsable"),
        ('{"error": [1, 2]}', "unparsable"),
        ('["user", "hello"]', "unparsable"),
        ("<think>" + TEXT, "unparsable"),
        ("user: hi\nassistant: hello", "unparsable"),
        (TEXT + " " * MAX_CHARACTERS, "unparsable"),
        (f"Draft: {json.dumps(ITEMS[:3])}\nFinal: {TEXT}", "two_lists"),
        (json.dumps({"draft": ITEMS[:3], "final": ITEMS}), "two_lists"),
        (TEXT.replace('"user"', '"tool"'), "unknown_role"),
        (TEXT.replace('"user"', "3"), "unknown_role"),
        (TEXT.replace('"ID000001"', "null"), "bad_message"),
        (TEXT.replace('"ID000001"', "[]"), "bad_message"),
        (TEXT.replace('"ID000001"', "1.5"), "bad_message"),
        (TEXT.replace('"ID000001"', '{"title": "X"}'), "bad_message"),
        (TEXT.replace('"ID000001"', '{"id": "A", "track_id": "B"}'), "bad_message"),
        (TEXT.replace("[{", "[[], {"), "bad_message"),
        (json.dumps([[*ITEMS[:3], 7], ITEMS[3:]]), "bad_message"),
        (json.dumps([*ITEMS[:3], {"messages": ITEMS[3:]}]), "bad_message"),
        (json.dumps([{"messages": ITEMS}, {"note": 1}]), "unparsable"),
        ("[[1], [2]]", "unparsable"),
        ('[{"a": 1}]', "unparsable"),
        ('[{"user": "hi"}]', "unparsable"),
        (TEXT.replace("}, {", "},, {", 1), "unparsable"),
        (TEXT.replace('"user", "content"', '"user" "content"'), "unknown_role"),
        (TEXT.replace('"ID000001"', '7 "mood": 1'), "two_lists"),
        (TEXT.replace('"role": ', '"role" '), "unparsable"),
        (TEXT.replace('"user"', '"user", "role": "user"'), "two_lists"),
        (TEXT.replace('"ID000001"', ":"), "two_lists"),
        (TEXT.replace('"ID000001"', f'"ID000001", {"k" * 41}: 1'), "two_lists"),
        (f"[{LINES}, x y]", "unparsable"),
        ('{"a": x y}, ' + LINES, "unparsable"),
        ('{"a": x y} ' + LINES, "unparsable"),
        ('"oops" ' + LINES, "unparsable"),
        (LINES + " ]", "unparsable"),
        (LINES + " {x y}", "unparsable"),
        (TEXT.replace('"Line one.\\nLine two."', "[1]"), "bad_message"),
        (TEXT.replace('"content": "Line', '"remark": "Line'), "bad_message"),
        (TEXT.replace("[{", "[7, {"), "bad_message"),
        (TEXT.replace('"user"', '"user", "track_id": "ID000001"'), "bad_message"),
        (TEXT[30:], "unparsable"),
        (TEXT[1:], "unparsable"),
        (TEXT.replace('"Line', '7 "Line'), "two_lists"),
        (TEXT + ', {"role": "user", "content": x y}', "unparsable"),
        (TEXT.replace('"ID000002"', "ID 2"), "unparsable"),
        (TEXT.replace('"ID000001"', '"ID000001", "id": "A", "track_id": "B"'), "bad_message"),
    ],
)  # fmt: skip
def test_what_could_mean_two_things_is_refused(text: str, reason: str) -> None:
    parsed = parse_answer(text)
    assert {problem.reason for problem in parsed.problems} == {reason}


def test_a_truncated_answer_keeps_exactly_its_complete_messages() -> None:
    ends = [TEXT.index("}, {", 0)]
    while (place := TEXT.find("}, {", ends[-1] + 1)) > 0:
        ends.append(place)
    for length in range(len(TEXT)):
        parsed = parse_answer(TEXT[:length])
        complete = sum(length > end for end in ends) + (length >= len(TEXT) - 1)
        assert [(m.role, m.content) for m in parsed.messages] == WANTED[:complete]
        assert bool(parsed.problems) == (complete == 0)
        assert complete == 0 or "cut_off" in parsed.repairs


def test_lists_are_read_to_seven_levels() -> None:
    assert [one.start for one in find_values("[" * 7 + "]" * 7)] == [0]
    assert [one.start for one in find_values("[" * 8 + "]" * 8)] == [1]
    keys = '{"a":'
    assert [one.start for one in find_values(keys * 6 + "[]" + "}" * 6)] == [0]
    assert [one.start for one in find_values(keys * 7 + "[]" + "}" * 7)] == [len(keys)]


def test_truncated_lines_keep_the_complete_ones() -> None:
    text = "\n".join(map(json.dumps, ITEMS))
    parsed = parse_answer(text[:-20])
    assert said(parsed) == WANTED[:-1]
    assert "cut_off" in parsed.repairs


@pytest.mark.parametrize(
    "unit",
    ["[", "{", '{"a":', '[{"', '[{"\\"', "[ ", '{"a":"', '[{"a":"\\"\\"', "'", "{'a':'b\"", "`",
     '[{"a":"x" y', '{"a":1}', '[{"role":"user","content":"', "\x00", "\ud800", "“", "<think>",
     '[{"role":"user"},', "[[", '[{"a":[', "\\", '{"role": "user", "content": "a" b', "[{a:"],
)  # fmt: skip
def test_reading_takes_time_in_proportion_to_the_text(unit: str) -> None:
    """At this size an algorithm whose time grows with the square would take hours."""
    text = unit * (MAX_CHARACTERS // len(unit))
    started = time.process_time()
    parse_answer(text)
    parse_answer(text * 17)
    assert time.process_time() - started < 5


JSON: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["role", "content", "track_id", "user", "music", "messages", "x"]),
            inner | st.sampled_from(["user", "music", "assistant", "ID000001"]),
            max_size=4,
        )
    ),
    max_leaves=20,
)


@settings(max_examples=150, deadline=None)
@given(st.text() | JSON.map(json.dumps) | JSON.map(repr) | st.text(alphabet="[]{}\"',:\\ “a1"))
def test_nothing_that_can_be_written_raises(text: str) -> None:
    parsed = parse_answer(text)
    assert parsed.messages or parsed.problems
    assert parsed.repairs <= set(READ_REPAIRS)
    assert all(one.role in ("user", "music", "assistant") for one in parsed.messages)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.text(max_size=60), min_size=1, max_size=5), st.booleans())
def test_any_texts_survive_json_and_python_spelling(texts: list[str], python: bool) -> None:
    items = [{"role": "user", "content": text} for text in texts]
    parsed = parse_answer(repr(items) if python else json.dumps(items))
    assert [one.content for one in parsed.messages] == texts
