"""The rules that a conversation must keep, one by one, and what holds for all verdicts."""

import json
import string
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from talkplay_hf.catalog.schema import Track
from talkplay_hf.conversations.checks.answers import (
    REPAIRS,
    Limits,
    judge_answer,
    messages_of,
)
from talkplay_hf.conversations.checks.reply_claims import ReplyReader
from talkplay_hf.conversations.checks.text_leaks import find_leaks, telling_ids
from talkplay_hf.conversations.checks.verdict import REASONS, Turn, Verdict
from talkplay_hf.conversations.pieces import Piece
from talkplay_hf.errors import ConfigError

NAMES = {
    "4ckuS4Nj4FZ7i3Def3Br8W": ("Hello", "Adele", "25"),
    "0B8QzDH7YWih85V5SEMnyJ": ("Sprawl II (Mountains Beyond Mountains)", "Arcade Fire", "Sub"),
    "0PXp9QxBfSKGGpWUNaws2X": ("1999 - 2019 Remaster", "Prince", "1999"),
    "0H8XeaJunhvpBdBFIYi6Sh": ("Here I Am (feat. Drake)", "Rick Ross, Nelly", "Trilla"),
    "3LwYGYpsg5SQioMX5BwFAz": ("Home", "Edward Sharpe & The Magnetic Zeros", "Up From Below"),
    "0utl0iJy2weVl9WTkcEWHy": ("bad guy", "Billie Eilish", "bad guy"),
}  # fmt: skip
TRACKS = {
    one: Track(one, title, artist, album=album, tags=("pop", "soul"), lyrics="Hold me like a river")
    for one, (title, artist, album) in NAMES.items()
}
HELLO, SPRAWL, PRINCE, HERE, HOME, GUY = NAMES
PIECE = Piece("piece-1", (HELLO, SPRAWL, PRINCE, HERE), (HOME, GUY))
LIMITS = Limits()
USERS = ("Something calm, please", "More energy now!", "And a last one?", "Another, if you can")
REPLIES = (
    "Here is one with a big voice.", "This one builds slowly and then takes off.",
    "A synthesizer party, that's what you need.", "Let me play you a summer classic.",
)  # fmt: skip


LONG = " ".join(map(str, range(80)))
TEMPLATE = """Write a dialogue.
{"user": "Hi, do you have a sad folk song with a woman singing?"}
The assistant recommends a track that fits. ("Lovely. More, please!")"""


def answer(
    *tracks: str, users: tuple[str, ...] = USERS, replies: tuple[str, ...] = REPLIES
) -> list[dict[str, Any]]:
    items = []
    for user, track, reply in zip(users, tracks, replies, strict=False):
        items += [
            {"role": "user", "content": user},
            {"role": "music", "content": track},
            {"role": "assistant", "content": reply},
        ]
    return items


def judged(items: object, **options: Any) -> Verdict:
    text = items if isinstance(items, str) else json.dumps(items)
    return judge_answer(text, PIECE, TRACKS, options.pop("limits", LIMITS), **options)


def reasons(items: object, **options: Any) -> set[str]:
    verdict = judged(items, **options)
    assert bool(verdict.turns) == verdict.valid
    assert {problem.reason for problem in verdict.problems} <= set(REASONS)
    return {problem.reason for problem in verdict.problems}


def test_a_good_answer_is_kept_as_it_is() -> None:
    verdict = judged(answer(HELLO, HOME, SPRAWL))
    assert verdict == Verdict(tuple(map(Turn, USERS, (HELLO, HOME, SPRAWL), REPLIES)))


def test_both_orders_of_track_and_reply_give_the_same_turns_also_mixed() -> None:
    items = answer(HELLO, HOME, SPRAWL)
    swapped = [items[n] for n in (0, 2, 1, 3, 4, 5, 6, 8, 7)]
    assert judged(swapped) == judged(items)


@pytest.mark.parametrize(
    "limits",
    [{"min_turns": 0}, {"max_user": True}, {"max_reply": 2.5}, {"min_user": 700}, {"max_same": -1}],
)
def test_impossible_limits_are_refused(limits: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        Limits(**limits)


@pytest.mark.parametrize(
    ("items", "reason"),
    [
        (answer(HELLO, "4ckuS4Nj4FZ7i3Def3Br8X", SPRAWL), "unknown_track"),
        (answer(HELLO, "", SPRAWL), "unknown_track"),
        (answer(HELLO, "Hello Again", SPRAWL), "unknown_track"),
        (answer(HELLO, f"{SPRAWL}, {PRINCE}"), "unknown_track"),
        (answer(HELLO, SPRAWL, HELLO), "repeated_track"),
        (answer(HELLO, "Hello Again", "Hello Again"), "unknown_track"),
        ([*answer(HELLO, SPRAWL), {"role": "tool", "content": "x"}], "unknown_role"),
        (answer(HELLO), "too_few_tracks"),
        (answer(HELLO, HOME), "too_few_tracks"),
        (answer(HOME), "too_few_tracks"),
        (answer(HELLO, SPRAWL)[1:], "wrong_order"),
        (answer(HELLO, SPRAWL)[:1] + answer(HELLO, SPRAWL), "wrong_order"),
        (answer(HELLO, SPRAWL)[:4] + answer(HELLO, SPRAWL)[3:], "wrong_order"),
        (answer(HELLO, SPRAWL)[:3] + answer(HELLO, SPRAWL)[4:], "wrong_order"),
        ([answer(HELLO)[0]], "no_turns"),
        ([{"role": "assistant", "content": "Hi!"}, *answer(HELLO, SPRAWL)], "wrong_order"),
        (answer(HELLO, SPRAWL)[:2] + answer(SPRAWL)[1:], "several_tracks"),
        (answer(HELLO, SPRAWL, users=("Hi there", "  ")), "empty_text"),
        (answer(HELLO, SPRAWL, users=("Hi there", "?")), "text_too_short"),
        (answer(HELLO, SPRAWL, users=("Hi there", "x " * 301)), "text_too_long"),
        (answer(HELLO, SPRAWL, replies=("Sure thing", "y " * 501)), "text_too_long"),
        (answer(HELLO, SPRAWL, replies=(REPLIES[0] + REPLIES[1],) * 2), "repeated_text"),
        (answer(HELLO, SPRAWL, PRINCE, users=("Next!",) * 3), "repeated_text"),
        (answer(HELLO, SPRAWL, users=("Hi there", "and on " * 80)), "repeated_text"),
        (answer(HELLO, SPRAWL, users=("Hi there", f"not {HELLO}!")), "leaked_id"),
        (answer(HELLO, SPRAWL, users=("Hi there", "3kZC0ZmFWRrEHdUCmUqlvg")), "leaked_id"),
        (answer(HELLO, SPRAWL, users=("Hi there", "play spotify:x")), "leaked_id"),
        (answer(HELLO, SPRAWL, replies=("Sure thing", "Fine. <|audio-12|>")), "leaked_token"),
        (answer(HELLO, SPRAWL, replies=("Sure thing", "Fine. <end_of_music>")), "leaked_token"),
        (answer(HELLO, SPRAWL, replies=("Sure thing", "[INST] ok [/INST]")), "leaked_token"),
        (answer(HELLO, SPRAWL, replies=("Sure thing", "Assistant: here you go")), "leaked_format"),
        (answer(HELLO, SPRAWL, replies=("Sure thing", 'ok"}, {"role": "user"')), "leaked_format"),
        (answer(HELLO, SPRAWL, replies=("Sure thing", "Here is [song title]!")), "leaked_format"),
        (answer(HELLO, SPRAWL, replies=("Sure thing", "From the NEGATIVE SET")), "leaked_prompt"),
        (answer(HELLO, SPRAWL, users=("Hi there", "a\x00b and more")), "control_characters"),
        (answer(HELLO, SPRAWL, users=("Hi there", "half \ud83d of it")), "control_characters"),
        (answer(HELLO, SPRAWL, users=("Hi there", "part \ufffd of it")), "control_characters"),
        (answer(HELLO, SPRAWL, users=("Hi there", f"\ud83d {LONG}")), "control_characters"),
    ],
)  # fmt: skip
def test_a_broken_rule_is_refused_by_its_name(items: object, reason: str) -> None:
    assert reasons(items) == {reason}


def test_the_number_of_turns_has_limits() -> None:
    items = answer(HELLO, SPRAWL)
    assert reasons(items, limits=Limits(min_turns=3)) == {"too_few_turns"}
    assert reasons(answer(HELLO, SPRAWL, HERE), limits=Limits(max_turns=2)) == {"too_many_turns"}
    assert reasons(items, limits=Limits(min_turns=2, max_turns=2)) == set()
    assert "too_few_turns" in reasons(answer(HELLO), limits=Limits(min_turns=3))
    # one of three is less than half
    text, piece = json.dumps(answer(HELLO)), Piece("p", (HELLO, SPRAWL, PRINCE))
    problems = judge_answer(text, piece, TRACKS, LIMITS).problems
    assert [problem.reason for problem in problems] == ["too_few_tracks"]


def test_a_text_may_be_as_long_and_as_short_as_its_limits_say() -> None:
    limits = Limits(min_user=20, max_user=20, min_reply=20, max_reply=20)
    users = ("Something calm, pls!", "More energy now, ok!")
    replies = ("A broad, big voice..", "It builds and soars.")
    assert reasons(answer(HELLO, SPRAWL, users=users, replies=replies), limits=limits) == set()
    # what is too long ends the look at that turn alone
    long, leaking = (f"{users[0]}!", users[1]), (replies[0], "It <|builds|> soars.")
    items = answer(HELLO, SPRAWL, users=long, replies=leaking)
    assert reasons(items, limits=limits) == {"text_too_long", "leaked_token"}


def test_a_short_text_may_be_said_twice_and_a_text_may_sing_and_break() -> None:
    said = ("la " * 60, LONG, "One line.\nAnd another.", "Más\u200b, por\u00a0favor")
    for users in (("Next!",) * 2, *(("Hi there", text) for text in said)):
        assert reasons(answer(HELLO, SPRAWL, users=users)) == set()


@pytest.mark.parametrize(
    ("written", "repair"),
    [
        (f"spotify:track:{HELLO}", "id_form"),
        (f"https://open.spotify.com/track/{HELLO}?si=1234", "id_form"),
        (f' "{HELLO}"\n', "id_form"),
        (f"[{HELLO}]", "id_form"),
        (f"{HELLO} (Hello by Adele)", "id_form"),
        ("hello", "title_for_id"),
        ("Hello by Adele", "title_for_id"),
        ("Adele - Hello", "title_for_id"),
    ],
)
def test_a_track_in_another_form_is_mended(written: str, repair: str) -> None:
    verdict = judged(answer(written, SPRAWL))
    assert verdict.turns == judged(answer(HELLO, SPRAWL)).turns
    assert verdict.repairs == (repair,)
    assert repair in REPAIRS


def test_a_title_that_two_tracks_have_names_none() -> None:
    tracks = TRACKS | {HOME: Track(HOME, "Hello", "Lionel Richie")}
    text = json.dumps(answer("Hello", SPRAWL))
    verdict = judge_answer(text, PIECE, tracks, LIMITS)
    assert [problem.reason for problem in verdict.problems] == ["unknown_track"]
    text = json.dumps(answer("Hello by Adele", SPRAWL))
    assert judge_answer(text, PIECE, tracks, LIMITS).valid


def test_an_incomplete_last_turn_is_left_out_and_counted() -> None:
    good = answer(HELLO, SPRAWL)
    for tail in (
        [{"role": "user", "content": "Thanks, bye!"}],
        [{"role": "user", "content": "Thanks!"}, {"role": "assistant", "content": "Bye!"}],
        [{"role": "user", "content": "More?"}, {"role": "music", "content": PRINCE}],
    ):
        verdict = judged(good + tail)
        assert verdict.turns == judged(good).turns
        assert verdict.repairs == ("incomplete_end",)


def test_a_cut_answer_is_kept_when_its_complete_turns_keep_all_rules() -> None:
    text = json.dumps(answer(HELLO, SPRAWL, PRINCE))
    verdict = judged(text[:-5], finish_reason="length")
    assert len(verdict.turns) == 2
    assert set(verdict.repairs) == {"cut_off", "incomplete_end"}
    assert judged(text, finish_reason="length").repairs == ("cut_off",)
    assert judged(text, finish_reason="stop").repairs == ()
    assert reasons(text[: len(text) // 2]) == {"too_few_tracks"}


def test_last_turns_with_unwanted_tracks_are_left_out() -> None:
    verdict = judged(answer(HELLO, SPRAWL, HOME, GUY))
    assert [turn.track_id for turn in verdict.turns] == [HELLO, SPRAWL]
    assert verdict.repairs == ("ends_on_negative",)


def test_several_problems_are_all_told() -> None:
    items = answer(HELLO, HELLO, replies=("Fine", "See <|x|> the negative set"))
    assert reasons(items) == {
        "repeated_track", "text_too_short", "leaked_token", "leaked_prompt", "too_few_tracks"
    } - {"too_few_tracks"}  # fmt: skip


def test_ids_that_are_words_or_numbers_may_stand_in_a_text() -> None:
    tracks = {"7": Track("7", "Hello", "Adele"), "hello": Track("hello", "Home", "Sharpe")}
    piece = Piece("p", ("7", "hello"))
    items = answer("7", "hello", users=("hello, 7 songs please", "and a last one"))
    assert judge_answer(json.dumps(items), piece, tracks, LIMITS).valid
    for written in ('"7"', "id: 7", "track_id: 7", "spotify:track:7", "7?si=12"):
        items = answer(written, "hello")
        verdict = judge_answer(json.dumps(items), piece, tracks, LIMITS)
        assert verdict.repairs == ("id_form",), written


@pytest.mark.parametrize(("one", "found"), [("abcd-123", True), ("abc-123", False)])
def test_an_id_among_words_has_eight_characters(one: str, found: bool) -> None:
    text = json.dumps(answer(f"{one} as you like"))
    tracks = {one: Track(one, "Hello", "Adele")}
    assert judge_answer(text, Piece("p", (one,)), tracks, LIMITS).valid == found


def test_a_track_beside_the_id_is_the_same_or_the_message_is_refused() -> None:
    items = answer(HELLO, SPRAWL)
    items[1] = {"role": "music", "track_id": HELLO, "content": HELLO}
    assert reasons(items) == set()
    items[1]["content"] = PRINCE
    assert reasons(items) == {"several_tracks"}


def test_a_track_of_which_nothing_is_known_may_be_played() -> None:
    text = json.dumps(answer(HELLO, SPRAWL))
    assert judge_answer(text, PIECE, {HELLO: TRACKS[HELLO]}, LIMITS).valid


def test_ids_tell_that_no_text_holds_by_chance() -> None:
    ids = ("ab-12", "ab12", "12345678", "1234567", "abcdefgh", "blink-182")
    tracks = {one: Track(one, "First Date by blink-182", "") for one in ids}
    assert telling_ids(tracks) == ("ab-12", "12345678")
    assert [leak.reason for leak in find_leaks("play ab-12 now", ("ab-12",))] == ["leaked_id"]


RIGHT = (
    "You got it! \"Hello\" by Adele fits.",
    "Here's “Hello,” a piano ballad by the one and only Adele.",
    "*Hello* by **Adele**, loud and clear.",
    "hello by adele it is",
    "Adele - Hello",
    "Hello – Adele",
    "By popular demand, Adele's \"Hello\".",
    "It has that \"feel-good\" thing going on, by the way.",
    "Let's rock 'n' roll with 'em, a song by Adele driven by piano.",
    "Best heard by night: something by the same artist.",
    "It feels like home, by the sea.",
    "You said \"something calm\", and here it is.",
    "It is from the album \"25\" and was recorded by Adele.",
    "Inspired by Motown and produced by Greg Kurstin.",
    "She sings \"Hold me like a river\" and means it.",
    "It's perfect for a \"Sunday Morning\" playlist.",
    "Some smooth R&B by Adele for you.",
    "「Hello」、アデルの名曲です。",
    "Hello, sung by Adele with all her might.",
    "Adele – Hello, all tears.",
    "You'll love how it's sung by Adele, half whisper, half shout.",
    "Guitar - Piano - Strings: it has all of these.",
    "\"Wow\" is the right word for that chorus.",
    "It's the kind of \"Sunday Best\" soul that fills a room.",
)  # fmt: skip
WRONG = (
    "You got it! \"Rolling in the Deep\" by Adele fits.",
    "Here's Rolling in the Deep by Adele.",
    "Here's \"Rolling in the Deep\", a great song.",
    "\"Hello\" by Lionel Richie is a fine choice.",
    "Here's Hello by Lionel Richie.",
    "Hello - Lionel Richie",
    "Here's \"Here I Am\" for you.",
    "Let's go with bad guy by Billie Eilish.",
    "*Bad Guy* has a great bass line.",
    "How about Mountains Beyond Mountains? It soars.",
    "Adele's \"Someone Like You\" is softer.",
    "Try Home, it's warm.",
    "Playing Sprawl II now, from Arcade Fire.",
    "I recommend 1999 by Prince.",
    "Why? by Bronski Beat, that's what you need.",
    "I've lined up Velvet Staircase, performed by Anna Lindqvist.",
    "Here comes Broken Halo Avenue, sung by Adele.",
    "I've lined up Home, performed by Edward Sharpe.",
    "This is \"Hello\", sung by Billie Eilish.",
    "Here you go: Arcade Fire – Hello",
    "Arcade Fire - Hello, all tears.",
    "Now playing Home (Edward Sharpe & The Magnetic Zeros).",
    "Title: Home\nArtist: Edward Sharpe",
)  # fmt: skip


FREE = {
    HELLO: (
        'It turns on "Like A River" for good.',
        'I adore "the Long Road" for that.',
        "It is Hello by the sea, Lionel.",
        "It is Hello by night with Lionel.",
        'Here is "Hello" by A Dele.',
        "My mother's Home cooking beats all.",
        'It is "Hello by Adele" again.',
        'With its Hook "Night Falls" it wins.',
        "Velvet; by Anna it goes.",
        "There is hello by Lionel Richie.",
        "Try Velvet anthem by Anna Lind.",
        "Try Adele covers by Anna Lind.",
        "Try Velvet halls haunted by Anna Lind.",
        "Try the 80s by Anna Lind.",
        "It is for Anna! Soul by Adele.",
        "Try Arcade Fire by Anna Lind.",
        "So am I by Anna Lind.",
        "Hello - from the heart.",
        "Home",
        "It is Hello by the great",
        'I feel at "home" now.',
        "Hello (feat. Drake) by Adele is next.",
        "this was made in 1985 by Anna Lind.",
        "this is a gift of 1985 by Anna Lind.",
        "this is a Classic by Anna Lind.",
        "Hello - A Long Tale Of Seven Big Words",
        'I hear "Billie Eilish"',
        "It has Vocals performed by Anna Lind.",
        "Try Velvet, a staircase by Anna Lind.",
        "It is loud: here is home.",
        "Try Velvet halls crying by Anna Lind.",
        "It is like Home (a place) again.",
    ),
    SPRAWL: (
        'It is "Mountain Beyond Mountains" again.',
        'It is "SprawlII" again.',
        'It is "Sprawl Iii" again.',
    ),
    HERE: ("Here I Am (feat. Drake) by Rick Ross is next.",),
    HOME: ("Here is Home by The Zeros.",),
}
OTHERS = {
    HELLO: (
        'It turns on "A River" for good.',
        'I adore "All-night Train" for that.',
        'I adore "Road of Trials" for that.',
        "Here is Hello by the amazing Lionel Richie.",
        'Es kommt "Hello" von Lionel Richie.',
        "I think Arcade Fire's Home beats all.",
        "Well, Mountains Beyond Mountains soars.",
        "Sprawl II delivers.",
        'Here is "Una noche azul" for you.',
        'Here is "Noche azul" for you.',
        'There is a song called "all of it" somewhere.',
        "It is best by night, and Velvet Staircase by Anna Lind is next.",
        "Let's go with Velvet staircase by Anna Lind.",
        "Try Velvet in a long night by Anna Lind.",
        "Hello - Billie Eilish",
        "Adele - Velvet Staircase",
        "Velvet Staircase - Anna Lind",
        'It is "Helloo" again.',
        "Here is Hello by billie eilish.",
        "Here is Hello by the great billie eilish.",
        'Take "here i am" then.',
        "It is for a bad guy, so I recommend Sprawl II.",
        '"Hello" beats "Blue Rain".',
        'It is "somewhere else" by Lionel Richie.',
        "Sung by Adele at night, and Velvet Staircase by Anna Lind too.",
        "Hello (feat. Drake) by Lionel Richie is next.",
        "There is hello by Lionel, and Velvet Staircase by Anna Lind.",
        "we hear the Velvet Staircase by Anna Lind.",
        "we hear 1985 by Anna Lind.",
        "it is loud - Adele. Velvet - Adele",
        "Velvet Staircase - One Two Three Four Five Six",
        '"Hello by Adele" beats "Blue Rain".',
        'Her album "25" beats "Blue Rain".',
        'It has "Hold Me Like A River" and "Blue Rain".',
        'A "soft one" beats "Blue Rain".',
        'It has "Sunday Best" soul and "Blue Rain".',
        'The album "Night Falls" beats "Blue Rain".',
        "Velvet; by Anna, and Velvet Staircase by Anna Lind.",
        "Hello by Adele beats Velvet Staircase by Anna Lind.",
        "It has Vocals performed by Adele, and Velvet Staircase by Anna Lind.",
        "Hello - from the heart. Velvet - Adele",
        "Hello - Adele. Velvet - Adele",
        "Arcade Fire - Adele. Velvet - Adele",
    ),
    SPRAWL: (
        "There is sprawl ii by Lionel Richie.",
        "Sprawl II - Mountains Beyond Mountains. Velvet - Adele",
        'It is "Mountains Beyond Oceans" again.',
        '"SprawlII" beats "Blue Rain".',
    ),
    HERE: ("Here I Am (feat. Drake) by Lionel Richie is next.",),
    HOME: ("Here is Home by The Beatles.",),
}


@pytest.mark.parametrize("reply", RIGHT)
def test_a_reply_may_name_its_track_and_speak_freely(reply: str) -> None:
    assert reasons(answer(HELLO, SPRAWL, replies=(reply, REPLIES[1]))) == set()


@pytest.mark.parametrize("reply", WRONG)
def test_a_reply_that_names_another_track_is_refused(reply: str) -> None:
    assert reasons(answer(HELLO, SPRAWL, replies=(reply, REPLIES[1]))) == {"wrong_title"}


def test_what_stands_around_a_name_tells_whether_it_is_a_title() -> None:
    reader = ReplyReader(TRACKS.values())
    for heard, replies in FREE.items():
        assert {one: reader.wrong_name(one, [heard]) for one in replies} == dict.fromkeys(replies)
    for heard, replies in OTHERS.items():
        assert [one for one in replies if reader.wrong_name(one, [heard]) is None] == []


def test_a_title_that_the_user_said_is_wrong_only_where_it_is_offered() -> None:
    reader, said = ReplyReader(TRACKS.values()), ['I love "Purple Rain"']
    point = '"Purple Rain" is a good point, so take a ballad.'
    assert reader.wrong_name(point, [HELLO], said) is None
    assert reader.wrong_name(point, [HELLO]) == "Purple Rain"
    assert reader.wrong_name('Here is "Purple Rain" for you.', [HELLO], said) == "Purple Rain"
    other = 'It has the "Purple Rain" drama, and "Blue Rain" too.'
    assert reader.wrong_name(other, [HELLO], said) == "Blue Rain"
    known = "If you like Mountains Beyond Mountains, take this."
    assert reader.wrong_name(known, [HELLO], ["Mountains Beyond Mountains?"]) is None
    assert reader.wrong_name(known, [HELLO]) == "Mountains Beyond Mountains"


@pytest.mark.parametrize(
    "reply",
    ["Like \"Hello\" by Adele, but grander.", "Sprawl II by Arcade Fire soars.",
     "\"Mountains Beyond Mountains\" is a dream.", "\"Sprawl II\" by Arcade Fire follows."],
)  # fmt: skip
def test_earlier_tracks_and_parts_of_titles_may_be_named(reply: str) -> None:
    assert reasons(answer(HELLO, SPRAWL, replies=(REPLIES[0], reply))) == set()
    if "Sprawl" in reply or "Mountains" in reply:
        assert reasons(answer(HELLO, SPRAWL, replies=(reply, REPLIES[1]))) == {"wrong_title"}


def test_a_quoted_title_without_capitals_is_a_name_when_it_is_long() -> None:
    track = Track("other", "all the good girls", "Billie Eilish")
    tracks = {HELLO: TRACKS[HELLO], "other": track}
    for reply in ("Next is “all the good girls”, a staple.", 'I like "all the good girls" a lot.'):
        verdict = judge_answer(
            json.dumps(answer(HELLO, replies=(reply,))), Piece("p", (HELLO,), ("other",)), tracks,
            LIMITS,
        )  # fmt: skip
        assert [problem.reason for problem in verdict.problems] == ["wrong_title"]


def test_hidden_characters_of_a_title_may_come_back() -> None:
    track = Track("one", "Be Your Friend\u202c", "Vigiland")
    said = json.dumps(answer("one", replies=("Here's Be Your Friend\u202c by Vigiland.",)))
    assert judge_answer(said, Piece("p", ("one",)), {"one": track}, LIMITS).valid
    other = said.replace("u202c", "u202d")
    assert not judge_answer(other, Piece("p", ("one",)), {"one": track}, LIMITS).valid


def test_an_artist_may_have_by_in_the_name() -> None:
    track = Track("one", "Where Is My Mind?", "Trampled by Turtles")
    said = json.dumps(answer("one", replies=("Here's Trampled by Turtles at their best.",)))
    assert judge_answer(said, Piece("p", ("one",)), {"one": track}, LIMITS).valid


def test_a_guest_of_the_title_is_an_artist_of_it() -> None:
    for reply in ("Here I Am, sung by Drake.", "Drake - Here I Am", '"Here I Am" by Drake'):
        assert reasons(answer(HELLO, HERE, replies=(REPLIES[0], reply))) == set()


def test_a_title_is_written_without_its_guests_but_with_its_remix() -> None:
    track = Track("one", "Bounce (Deorro Remix) [feat. Big Nab]", "Orkestrated")
    items = answer("one", replies=("So this one's Bounce (Deorro Remix) by Orkestrated.",))
    assert judge_answer(json.dumps(items), Piece("p", ("one",)), {"one": track}, LIMITS).valid


def test_a_title_of_the_user_may_be_compared_with_but_not_offered() -> None:
    users = ("Play something like 'Yesterday' by The Beatles", USERS[1])
    compared = "If you like 'Yesterday' by The Beatles, this will touch you too."
    offered = "Here's 'Yesterday' by The Beatles for you."
    assert not reasons(answer(HELLO, SPRAWL, users=users, replies=(compared, REPLIES[1])))
    assert reasons(answer(HELLO, SPRAWL, users=users, replies=(offered, REPLIES[1])))
    assert reasons(answer(HELLO, SPRAWL, replies=(compared, REPLIES[1]))) == {"wrong_title"}


def test_users_may_name_any_title() -> None:
    users = ("Play something like 'Big Amount' by 2 Chainz", "Now \"Home\" or 'Here I Am'?")
    assert not reasons(answer(HELLO, SPRAWL, users=users))


def test_messages_put_the_track_before_the_reply_and_tell_its_source() -> None:
    messages = messages_of(judged(answer(HELLO, HOME, SPRAWL)).turns, PIECE)
    assert [message.role for message in messages] == ["user", "music", "assistant"] * 3
    assert [message.source for message in messages if message.role == "music"] == [
        "playlist", "negative", "playlist"
    ]  # fmt: skip
    told = [message.track_id or message.content for message in messages]
    assert told == [item["content"] for item in answer(HELLO, HOME, SPRAWL)]


def keeps_all_rules(verdict: Verdict) -> None:
    """The hard rules once more, in other words than those of the checks."""
    played = [turn.track_id for turn in verdict.turns]
    assert len(set(played)) == len(played)
    assert set(played) <= set(NAMES)
    assert played[-1] in PIECE.track_ids
    assert len(set(played) & set(PIECE.track_ids)) >= len(PIECE.track_ids) / 2
    for turn in verdict.turns:
        for text, most in ((turn.user, LIMITS.max_user), (turn.assistant, LIMITS.max_reply)):
            assert 0 < len(text) <= most
            assert text == text.strip()
            assert not any(one in text for one in NAMES)
            assert "<|" not in text
            assert "\x00" not in text
            text.encode()


TEXTS = st.one_of(
    st.text(max_size=30),
    st.sampled_from([*USERS, *REPLIES, *RIGHT, *WRONG, HELLO, "<|x|>", "", "a\x00"]),
    st.text(alphabet=string.ascii_letters + " \"'.,-by", min_size=5, max_size=80),
)
MESSAGES = st.builds(
    lambda role, content: {"role": role, "content": content},
    st.sampled_from(["user", "music", "assistant"]), TEXTS | st.sampled_from([*NAMES]),
)  # fmt: skip
TURNS = st.builds(
    lambda user, track, reply, flip: [
        {"role": "user", "content": user},
        *[{"role": "music", "content": track}, {"role": "assistant", "content": reply}][:: flip],
    ],
    TEXTS, st.sampled_from([*NAMES]), TEXTS, st.sampled_from([1, -1]),
)  # fmt: skip
CONVERSATIONS = st.lists(TURNS, min_size=2, max_size=5, unique_by=lambda turn: str(turn)).map(
    lambda turns: [item for turn in turns for item in turn]
)


@settings(max_examples=200, deadline=None)
@given(st.text() | st.lists(MESSAGES, max_size=9).map(json.dumps) | CONVERSATIONS.map(json.dumps))
def test_any_text_gets_a_verdict_and_what_is_kept_keeps_the_rules(text: str) -> None:
    verdict = judged(text)
    assert verdict.valid != bool(verdict.problems)
    assert {problem.reason for problem in verdict.problems} <= set(REASONS)
    assert set(verdict.repairs) <= set(REPAIRS)
    if verdict.valid:
        keeps_all_rules(verdict)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.sampled_from([*NAMES]), min_size=2, max_size=4, unique=True),
    st.lists(st.text(min_size=1, max_size=60), min_size=4, max_size=4, unique=True),
    st.lists(st.sampled_from([*REPLIES, *RIGHT]), min_size=4, max_size=4, unique=True),
)
def test_what_is_kept_is_kept_again_without_a_repair(
    tracks: list[str], users: list[str], replies: list[str]
) -> None:
    verdict = judged(answer(*tracks, users=tuple(users), replies=tuple(replies)))
    if not verdict.valid:
        return
    items = [
        {"role": message.role, "content": message.track_id or message.content}
        for message in messages_of(verdict.turns, PIECE)
    ]
    assert judged(items) == Verdict(verdict.turns)


@pytest.mark.parametrize(
    ("said", "copied"),
    [
        ("Hi, do you have a sad folk song with a woman singing?", True),
        ("hi - do you have a SAD folk song", True),
        ("The assistant recommends a track that fits.", True),
        ("Hi, do you have a sad jazz song with a woman singing?", False),
        ("Lovely. More, please!", False),
        ("Sad folk song with a", True),
        ("Folk song with a", False),
        ("And do you have a sad folk song with a woman singing?", False),
    ],
)
def test_a_text_is_no_sentence_of_the_prompt(said: str, copied: bool):
    users = (USERS[0], said, *USERS[2:])
    verdict = judged(answer(HELLO, SPRAWL, PRINCE, users=users), template=TEMPLATE)
    assert ("copied_prompt" in {problem.reason for problem in verdict.problems}) == copied
    replies = (REPLIES[0], said, *REPLIES[2:])
    verdict = judged(answer(HELLO, SPRAWL, PRINCE, replies=replies), template=TEMPLATE)
    assert ("copied_prompt" in {problem.reason for problem in verdict.problems}) == copied


def test_a_heading_of_the_prompt_is_nothing_that_anyone_says():
    verdict = judged(answer(HELLO, SPRAWL, users=("MUSIC PLAYLIST", USERS[1])))
    assert {problem.reason for problem in verdict.problems} == {"leaked_prompt"}
