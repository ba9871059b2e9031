"""Answers of language models, of any shape and length: read or refused by a named reason."""

import json
from typing import Any

from calm import EXAMPLES, calm, fuzz, void
from hypothesis import strategies as st
from odd import DEEP, JSON, JSON_TEXT, LONG, NASTY, TEXT, damaged

from talkplay_hf.catalog.names import NameFinder
from talkplay_hf.catalog.schema import Catalog
from talkplay_hf.conversations.checks.answers import Limits, judge_answer
from talkplay_hf.conversations.checks.json_text import find_values
from talkplay_hf.conversations.checks.parse import parse_answer
from talkplay_hf.conversations.checks.reply_claims import ReplyReader
from talkplay_hf.conversations.checks.text_leaks import find_leaks, names_in
from talkplay_hf.conversations.pieces import Piece
from talkplay_hf.conversations.quality.judge import parse_ratings

SAID = [
    {"role": "user", "content": "Play something calm"},
    {"role": "music", "content": "wt000001"},
    {"role": "assistant", "content": "Here is one."},
]
WHOLE = json.dumps(SAID * 3).encode()
ITEM = st.fixed_dictionaries(
    {"role": st.sampled_from(["user", "music", "assistant", "Assistant ", "music/track"]) | JSON},
    optional={"content": TEXT | JSON, "track_id": TEXT | JSON, "tool": JSON},
)
MARKS = st.sampled_from(["[", "{", '"', "'", "“", "\\", "```json\n", "//", "/*", ",", ":", "\n"])
HEAPS = st.builds(
    lambda mark, other, times: (mark + other) * times,
    *(MARKS, MARKS | NASTY, st.sampled_from([100, 3_000, 30_000])),
)
ANSWER = (
    st.lists(ITEM, max_size=6).map(lambda items: json.dumps(items, ensure_ascii=False))
    | st.lists(ITEM, max_size=6).map(repr)
    | st.lists(ITEM, max_size=3).map(lambda items: "\n".join(map(json.dumps, items)))
    | damaged(WHOLE).map(lambda raw: raw.decode("utf-8", "surrogateescape"))
    | JSON_TEXT
    | DEEP
    | HEAPS
    | LONG
)
RATING = st.builds(
    lambda values, tail: json.dumps(values) + tail,
    st.dictionaries(
        st.sampled_from(["fit", "flow", "music_fit", "naturalness", "x"]),
        st.integers(-1, 9) | JSON,
    ),
    st.sampled_from(["", "\n", "```", " because"]),
)


@EXAMPLES
def test_any_answer_is_parsed(examples: int) -> None:
    def check(text: str) -> None:
        calm(find_values, text)
        calm(parse_answer, text)
        calm(parse_ratings, text)

    fuzz(examples, check, text=ANSWER | RATING)


@EXAMPLES
def test_any_answer_gets_a_verdict(world: Catalog, examples: int) -> None:
    ids = world.track_ids[:4]
    tracks = {track_id: world.track(track_id) for track_id in ids}
    piece = Piece("p-0", "p", "train", 0, tuple(ids[:3]), tuple(ids[3:]))
    reader = ReplyReader(tracks.values())
    names = [word for one in tracks.values() for word in (one.title, one.artist, one.track_id)]

    def check(text: str, finish: str | None) -> None:
        calm(judge_answer, text, piece, tracks, Limits(), finish_reason=finish)
        reply = text[:4_000]
        calm(reader.wrong_name, reply, ids[:1], (reply[:300],))
        calm(find_leaks, reply, ids, names_in(tracks))

    words = st.sampled_from([*names, " by ", " - ", '"', "“", "”", "'", ". ", " from "])
    claims = st.lists(words | NASTY, max_size=30).map("".join)
    many = st.builds(lambda word, times: word * times, words, st.sampled_from([200, 2_000]))
    finishes = st.none() | st.sampled_from(["stop", "length"]) | NASTY
    fuzz(examples, check, text=ANSWER | claims | many, finish=finishes)


@EXAMPLES
def test_names_are_found_in_any_text(world: Catalog, examples: int) -> None:
    finder = NameFinder(world)
    names: list[Any] = [world.track_at(row).title for row in range(5)]
    words = st.sampled_from([*names, " by ", " not ", " like ", '"', " ", "the "])
    many = st.builds(lambda word, times: word * times, words, st.sampled_from([300, 5_000]))
    texts = TEXT | HEAPS | many | st.lists(words | NASTY, max_size=20).map("".join)
    fuzz(examples, lambda text: void(calm(finder.find, text[:100_000])), text=texts)
