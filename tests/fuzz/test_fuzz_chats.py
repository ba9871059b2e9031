"""Chats, options, rules, codes and ids of any kind: an answer, or one clear refusal."""

from typing import Any

import numpy as np
import pytest
from calm import EXAMPLES, REFUSED, calm, fuzz, void
from hypothesis import strategies as st
from odd import NASTY, NUMBERS, ODD, TEXT

from talkplay_hf.catalog.matcher import ConstraintMatcher
from talkplay_hf.catalog.schema import Catalog, Message
from talkplay_hf.recommend.interop.grammars import answer_lark, answer_regex
from talkplay_hf.recommend.interop.served import ServedModel
from talkplay_hf.recommend.prompts import read_chat
from talkplay_hf.recommend.recommender import Recommender
from talkplay_hf.recommend.rule_set import RuleSet
from talkplay_hf.recommend.rules import parse_rule
from talkplay_hf.tokens.tokenizer import TalkPlayTokenizer

ROLE = st.sampled_from(["user", "assistant", "music", "system", "tool", "USER"])
IDS = st.sampled_from(["wt000001", "wt000002", "nobody"])
MESSAGE = (
    st.fixed_dictionaries(
        {"role": ROLE | ODD}, optional={"content": TEXT | ODD, "track_id": IDS | ODD}
    )
    | st.builds(Message, ROLE, TEXT, st.none() | IDS)
    | ODD
)
CHAT = TEXT | ODD | st.lists(MESSAGE, max_size=6) | st.lists(MESSAGE, max_size=3).map(tuple)
CODE = st.integers(-2, 40) | NUMBERS | ODD
CODES = st.lists(CODE, min_size=5, max_size=5) | st.lists(CODE, max_size=7) | ODD
# a function is a rule, and may raise what it likes
PLAIN_ODD = ODD.filter(lambda one: not callable(one))
COLUMN = st.sampled_from(["year", "tags", "artist", "title", "popularity", "nothing", "audio"])
SIGN = st.sampled_from([" is ", " not ", ">=", "<", "=", " at most ", " IS  NOT ", "!=", " in "])
RULE = (
    st.builds(
        lambda head, column, sign, value: head + column + sign + value,
        *(st.sampled_from(["", "", "not ", "NOT not "]), COLUMN | NASTY, SIGN),
        TEXT | NUMBERS.map(str) | st.sampled_from(["1 in last 2", "9" * 5_000, '"a', '"\\ud800"']),
    )
    | TEXT
    | st.integers(1, 4_000).map(lambda times: "not " * times + "explicit")
)


@pytest.fixture(scope="module")
def matcher(world: Catalog) -> ConstraintMatcher:
    return ConstraintMatcher(world)


@EXAMPLES
def test_any_chat_is_read_or_refused(world: Catalog, examples: int) -> None:
    def check(chat: Any, history: Any) -> None:
        messages = calm(read_chat, chat, world, history)
        if messages is not REFUSED:
            assert messages[-1].role == "user"
            assert all(isinstance(one.content, str) for one in messages)
            assert all(one.track_id in world for one in messages if one.role == "music")

    fuzz(examples, check, chat=CHAT, history=st.just(()) | st.lists(IDS | ODD) | ODD)


@EXAMPLES
def test_any_chat_becomes_a_prompt_or_is_refused(recommender: Recommender, examples: int) -> None:
    def check(chat: Any) -> None:
        calm(recommender.prompt_ids, chat)

    fuzz(examples, check, chat=TEXT | st.lists(MESSAGE, max_size=6))


@EXAMPLES
def test_any_option_is_taken_or_refused(recommender: Recommender, examples: int) -> None:
    names = ["tracks", "constraint", "strategy", "exclude_played", "rules", "temperature", "top_p"]
    values = PLAIN_ODD | st.sampled_from(["rank", "none", "grammar", 0, 1, 3, 0.5]) | RULE

    def check(options: dict[str, Any], seed: Any) -> None:
        options = {"max_new_tokens": 2, **options}
        # a whole number of tracks may be any; an answer of 60 blocks is a long one
        if isinstance(options.get("tracks"), int) and options["tracks"] > 3:
            options["tracks"] = 3
        calm(recommender.chat, "calm piano", seed=seed, **options)

    chosen = st.dictionaries(st.sampled_from(names), values, max_size=2)
    fuzz(examples, check, options=chosen, seed=st.none() | st.integers(0, 9) | ODD)


@EXAMPLES
def test_any_ranking_is_made_or_refused(recommender: Recommender, examples: int) -> None:
    names = ["strategy", "constraint", "beam_width", "draws", "temperature", "top_p", "rules"]
    values = (
        PLAIN_ODD | st.sampled_from(["beam", "exact", "sampling", "expansion", 1, 4, 0.5]) | RULE
    )

    def check(options: dict[str, Any], k: Any, seed: Any) -> None:
        options = {"beam_width": 4, "draws": 2, **options}
        for name in ("beam_width", "draws"):
            if isinstance(options[name], int) and options[name] > 8:
                options[name] = 8
        calm(recommender.rank, "calm piano", k, seed=seed, **options)

    chosen = st.dictionaries(st.sampled_from(names), values, max_size=2)
    seeds = st.none() | st.integers(0, 9) | ODD
    fuzz(examples, check, options=chosen, k=st.integers(-1, 9) | ODD, seed=seeds)


@EXAMPLES
def test_any_playlist_is_continued_or_refused(recommender: Recommender, examples: int) -> None:
    def check(tracks: Any) -> None:
        calm(recommender.continue_playlist, tracks, 2, beam_width=2)

    fuzz(examples, check, tracks=ODD | st.lists(IDS | ODD, max_size=4))


@EXAMPLES
def test_any_codes_are_looked_up_or_refused(recommender: Recommender, examples: int) -> None:
    lookup, sizes = recommender.lookup, recommender.tokenizer.config.codes

    def check(codes: Any, k: Any) -> None:
        found = [
            calm(lookup.find, codes),
            calm(lookup.top, codes, 3),
            calm(recommender.tokenizer.block_ids, codes),
        ]
        # all or none: a code is a whole number of the codebook, wherever it is given
        assert len({one is REFUSED for one in found}) == 1, (codes, found)
        if found[0] is not REFUSED:
            whole = [int(code) for code in codes]
            assert whole == list(codes)
            assert all(0 <= code < size for code, size in zip(whole, sizes, strict=True))
            calm(lookup.top, codes, k)

    ks = st.integers(-2, 80) | ODD
    near = st.tuples(*[st.integers(0, size - 1) for size in sizes])
    fuzz(examples, check, codes=CODES | near | near.map(np.array), k=ks)


@EXAMPLES
def test_any_ids_are_parsed(tokenizer: TalkPlayTokenizer, examples: int) -> None:
    size = len(tokenizer)
    served = ServedModel(tokenizer)
    start = tokenizer.start_of_music_id

    def check(ids: list[Any]) -> None:
        calm(served.read_ids, ids)
        whole = [token for token in ids if type(token) is int]
        calm(tokenizer.parse_blocks, whole)
        calm(tokenizer.text_of, [token for token in whole if 0 <= token < size])

    some = st.integers(start - 3, size + 3) | st.just(start)
    fuzz(examples, check, ids=st.lists(some, max_size=30) | st.lists(some | ODD, max_size=9))


@EXAMPLES
def test_any_answer_text_is_read(tokenizer: TalkPlayTokenizer, examples: int) -> None:
    served = ServedModel(tokenizer)
    block = tokenizer.decode(tokenizer.block_ids((0, 1, 0, 1, 0)))
    texts = st.lists(TEXT | st.just(block), max_size=4).map("".join)
    fuzz(examples, lambda text: void(calm(served.read_text, text)), text=texts)


@EXAMPLES
def test_any_rule_is_read_or_refused(matcher: ConstraintMatcher, examples: int) -> None:
    def check(rule: Any) -> None:
        if isinstance(rule, str):
            parsed = calm(parse_rule, rule)
            if parsed is not REFUSED:
                assert calm(parse_rule, str(parsed)) is not REFUSED
        force = calm(RuleSet, matcher, rule)
        if force is not REFUSED:
            calm(force.mask, (0, 1))

    fuzz(examples, check, rule=RULE | PLAIN_ODD | st.lists(RULE | PLAIN_ODD, max_size=3))


@EXAMPLES
def test_any_codes_make_a_grammar_or_are_refused(
    tokenizer: TalkPlayTokenizer, examples: int
) -> None:
    def check(codes: Any, tracks: Any, place: Any) -> None:
        calm(answer_regex, tokenizer.config, codes=codes, tracks=tracks, place=place)
        calm(answer_lark, tokenizer, codes=codes, tracks=tracks, place=place)

    arrays = st.lists(st.tuples(*[st.integers(-1, 40)] * 5), max_size=4).map(np.array)
    fuzz(
        examples,
        check,
        codes=st.none() | arrays | ODD,
        tracks=st.integers(-1, 3) | ODD.filter(lambda one: not isinstance(one, int)),
        place=st.sampled_from(["first", "anywhere"]) | ODD,
    )
