"""Answers: constraints and strategies, several tracks, batches and streams."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from chatting import REQUEST, answer_with, assert_same, ids_of, played
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from transformers import LlamaForCausalLM

from talkplay_hf.errors import InputError, NoTrackError
from talkplay_hf.recommend import answering
from talkplay_hf.recommend.lookup import WeightedLookup
from talkplay_hf.recommend.reader import AnswerReader
from talkplay_hf.recommend.recommender import Recommender
from talkplay_hf.recommend.rules import AtMost
from talkplay_hf.tokens.build import write_token_catalog
from talkplay_hf.tokens.tokenizer import TalkPlayTokenizer

SHORT: dict[str, Any] = {"max_new_tokens": 4}
WAYS = [(c, s) for c in ("catalog", "grammar", "none") for s in ("sample", "rank")]
CHATS = ["hi", "a very long wish: " + "calm and slow, " * 12, "hi"]


@pytest.fixture(scope="module")
def twins(
    tiny_model: LlamaForCausalLM,
    recommender: Recommender,
    tokenizer_folder: Any,
    tmp_path_factory: pytest.TempPathFactory,
) -> Recommender:
    """A catalogue in which every tuple of codes is that of twelve tracks."""
    codes = np.array([recommender.codes(track) for track in recommender.track_ids])
    path = tmp_path_factory.mktemp("twins") / "catalog.parquet"
    write_token_catalog(recommender.catalog, np.repeat(codes[::12], 12, axis=0), path)
    tokenizer = TalkPlayTokenizer.from_pretrained(tokenizer_folder)
    tokenizer.init_kwargs["token_catalog_file"] = str(path)
    return Recommender(tiny_model, tokenizer)


def test_a_track_that_is_read_has_the_log_probability_of_its_codes(
    recommender: Recommender,
) -> None:
    tokenizer, codes = recommender.tokenizer, recommender.codes(recommender.track_ids[7])
    every = np.array([recommender.codes(track) for track in recommender.track_ids])
    lookup = WeightedLookup(every, tokenizer.config.codes, (25, 16, 9, 4, 1), [None] * 5)
    reader = AnswerReader(tokenizer, lookup, recommender.catalog, None)
    mask = np.ones(len(every), dtype=bool)
    reader.play(recommender.rank("calm", 1)[0])
    block = tokenizer.block_ids(codes)
    took = [reader.take(token, -(2.0**at), mask) for at, token in enumerate(block)]
    assert took == [False] * 6 + [True]
    assert reader.blocks == 2
    assert reader.answer().scores[1] == -(2 + 4 + 8 + 16 + 32)
    # the end of a block without its beginning
    assert not reader.take(tokenizer.end_of_music_id, -1.0, mask)
    assert reader.blocks == 2


# --- constraints and strategies --------------------------------------------------------------


@pytest.mark.parametrize(("constraint", "strategy"), WAYS)
@pytest.mark.parametrize("tracks", [1, 3])
def test_every_way_answers_within_the_catalogue(
    recommender: Recommender, constraint: str, strategy: str, tracks: int
) -> None:
    options = {"constraint": constraint, "strategy": strategy, "tracks": tracks, **SHORT}
    answer = recommender.chat(REQUEST, seed=0, **options)
    names = ids_of(answer)
    assert set(names) <= set(recommender.track_ids)
    assert len(set(names)) == len(names) <= tracks
    assert len(answer.codes) == len(answer.scores) == len(answer.matched) == len(names)
    assert_same(recommender.chat(REQUEST, seed=0, **options), answer)
    if constraint == "catalog" or strategy == "rank":
        assert len(names) == answer.blocks == tracks
        assert answer.codes == tuple(map(recommender.codes, names))
        assert all(len(matched) == 5 for matched in answer.matched)
    if constraint == "grammar":
        assert answer.blocks == tracks
        assert not answer.malformed


@pytest.mark.parametrize(("constraint", "strategy"), WAYS[:4])
def test_tracks_of_one_tuple_can_all_be_played(
    twins: Recommender, constraint: str, strategy: str
) -> None:
    left = 5
    chat = played(*twins.track_ids[left:])
    options = {"constraint": constraint, "strategy": strategy, **SHORT}
    answer = twins.chat(chat, tracks=left, seed=0, **options)
    if constraint == "catalog" or strategy == "rank":
        assert sorted(ids_of(answer)) == sorted(twins.track_ids[:left])
        assert len(set(answer.codes)) == 1


def test_more_tracks_than_there_are_play_all_of_them(recommender: Recommender) -> None:
    chat = played(*recommender.track_ids[4:])
    for strategy in ("sample", "rank"):
        answer = recommender.chat(chat, tracks=1000, strategy=strategy, seed=0, **SHORT)
        assert sorted(ids_of(answer)) == sorted(recommender.track_ids[:4])


def test_the_model_plays_no_more_than_was_asked_for(
    recommender: Recommender, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocks = [recommender.tokenizer.block_ids(recommender.codes(t)) for t in recommender.track_ids]
    answer_with([token for block in blocks[:5] for token in block], monkeypatch)
    answer = recommender.chat(REQUEST, constraint="none", tracks=2, max_new_tokens=40)
    assert answer.codes == tuple(map(recommender.codes, recommender.track_ids[:2]))
    assert answer.blocks == 5


def test_a_track_of_earlier_may_come_again_but_not_twice(twins: Recommender) -> None:
    chat = played(*twins.track_ids)
    for constraint, strategy in WAYS:
        options = {"constraint": constraint, "strategy": strategy, **SHORT}
        answer = twins.chat(chat[-4:], tracks=13, exclude_played=False, seed=0, **options)
        assert len(set(ids_of(answer))) == len(ids_of(answer))
        if constraint == "catalog":
            assert len(ids_of(answer)) == 13
    whole = twins.chat(chat[-4:], tracks=60, exclude_played=False, seed=0, **SHORT)
    assert sorted(ids_of(whole)) == sorted(twins.track_ids)


# --- rules -----------------------------------------------------------------------------------

RULES = st.lists(
    st.sampled_from(
        [
            "year >= 1990",
            "not explicit",
            "tempo > 100",
            "genre is soul",
            "mood not dark",
            "artist at most 1",
            "album at most 2 in last 3",
            "artist at most 1 in last 1",
        ]
    ),
    max_size=3,
    unique=True,
)


def meets(recommender: Recommender, rule: str, before: Sequence[str], track_id: str) -> bool:
    track = recommender.track(track_id)
    if "at most" in rule:
        field, rest = rule.split(" at most ")
        times, _, last = rest.partition(" in last ")
        recent = before[-int(last) :] if last else before
        return [recommender.track(t).get(field) for t in recent].count(track.get(field)) < int(
            times
        )
    return {
        "year >= 1990": (track.year or 0) >= 1990,
        "not explicit": not track.extra["explicit"],
        "tempo > 100": (track.tempo or 0) > 100,
        "genre is soul": track.extra["genre"] == "soul",
        "mood not dark": track.extra["mood"] != "dark",
    }[rule]


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    rules=RULES,
    way=st.sampled_from(WAYS),
    tracks=st.integers(1, 4),
    seed=st.integers(0, 99),
    before=st.lists(st.integers(0, 59), max_size=4, unique=True),
    exclude=st.booleans(),
)
def test_every_track_that_is_played_meets_the_rules(
    recommender: Recommender,
    rules: list[str],
    way: tuple[str, str],
    tracks: int,
    seed: int,
    before: list[int],
    exclude: bool,
) -> None:
    known = [recommender.track_ids[row] for row in before]
    options = {"constraint": way[0], "strategy": way[1], "tracks": tracks, "rules": rules}
    try:
        answer = recommender.chat(
            played(*known), seed=seed, exclude_played=exclude, max_new_tokens=1, **options
        )
    except NoTrackError:
        assume(False)
    names = ids_of(answer)
    for at, name in enumerate(names):
        for rule in rules:
            assert meets(recommender, rule, [*known, *names[:at]], name), rule
    assert not (exclude and set(names) & set(known))
    assert len(set(names)) == len(names)


@pytest.mark.parametrize(("constraint", "strategy"), WAYS)
@pytest.mark.parametrize("batch", [False, True])
def test_artists_differ_within_one_answer(
    recommender: Recommender, constraint: str, strategy: str, batch: bool
) -> None:
    artists = {track.artist for track in map(recommender.track, recommender.track_ids)}
    options: dict[str, Any] = {"constraint": constraint, "strategy": strategy, **SHORT}
    options |= {"tracks": 9, "rules": AtMost("artist")}
    if batch:
        # in the second chat fewer artists are left
        chats = [REQUEST, played(*recommender.track_ids[:9])]
        answers = recommender.chat_batch(chats, seeds=[0, 1], **options)
    else:
        answers = [recommender.chat(REQUEST, seed=0, **options)]
    for answer in answers:
        names = [track.artist for track in answer.tracks]
        assert len(set(names)) == len(names)
    if constraint == "catalog" or strategy == "rank":
        assert len(answers[0].tracks) == len(artists) < 9


def test_where_rules_leave_none_of_the_best_others_are_played(
    recommender: Recommender, monkeypatch: pytest.MonkeyPatch
) -> None:
    options: dict[str, Any] = {"strategy": "rank", "tracks": 6, "rules": AtMost("artist"), **SHORT}
    wanted = recommender.chat(REQUEST, **options)
    monkeypatch.setattr(answering, "_choice", lambda turn: 1)
    assert_same(recommender.chat(REQUEST, **options), wanted)
    assert len(wanted.tracks) == 6
    assert_same(recommender.chat_batch([REQUEST], **options)[0], wanted)


def test_a_rule_that_leaves_nothing_says_so(recommender: Recommender) -> None:
    for call in (recommender.chat, recommender.rank):
        with pytest.raises(NoTrackError, match=r"rule 'year >= 3000' leaves none of 60 tracks"):
            call(REQUEST, rules="year >= 3000")
        with pytest.raises(InputError, match="no column 'colour'"):
            call(REQUEST, rules="colour is red")
    ids = recommender.track_ids
    soul = [t for t in ids if recommender.track(t).extra["genre"] == "soul"]
    with pytest.raises(NoTrackError, match=r"that the rules allow \(genre is soul\)"):
        recommender.chat(played(*soul), rules="genre is soul")


# --- batches ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("constraint", "strategy"), WAYS)
def test_a_chat_of_a_batch_is_answered_as_alone(
    recommender: Recommender, constraint: str, strategy: str
) -> None:
    options: dict[str, Any] = {"constraint": constraint, "strategy": strategy, "tracks": 2}
    chats = [*CHATS, played(recommender.track_ids[3])]
    seeds = [4, 5, 6, 7]
    together = recommender.chat_batch(chats, seeds=seeds, max_new_tokens=5, **options)
    for chat, seed, answer in zip(chats, seeds, together, strict=True):
        assert_same(answer, recommender.chat(chat, seed=seed, max_new_tokens=5, **options))


def test_a_chat_with_fewer_tracks_left_is_answered_as_alone(recommender: Recommender) -> None:
    """One answer of a batch has to stop playing before the others."""
    artist = recommender.track(recommender.track_ids[0]).artist
    others = [t for t in recommender.track_ids if recommender.track(t).artist != artist]
    for order in (1, -1):
        chats = [REQUEST, played(*others)][::order]
        options: dict[str, Any] = {"tracks": 3, "rules": AtMost("artist"), **SHORT}
        together = recommender.chat_batch(chats, seeds=[1, 2], **options)
        assert sorted(len(answer.tracks) for answer in together) == [1, 3]
        for chat, seed, answer in zip(chats, [1, 2], together, strict=True):
            assert_same(answer, recommender.chat(chat, seed=seed, **options))


def test_a_reply_is_no_longer_for_what_others_play(recommender: Recommender) -> None:
    """Where an answer can play fewer tracks, it is not given their tokens for its reply."""
    chats = [REQUEST, played(*recommender.track_ids[1:])]
    together = recommender.chat_batch(chats, seeds=[1, 2], tracks=3, **SHORT)
    assert [len(answer.tracks) for answer in together] == [3, 1]
    for chat, seed, answer in zip(chats, [1, 2], together, strict=True):
        assert_same(answer, recommender.chat(chat, seed=seed, tracks=3, **SHORT))


def test_a_batch_may_be_empty_and_needs_a_seed_for_each(recommender: Recommender) -> None:
    assert recommender.chat_batch([]) == []
    with pytest.raises(InputError, match="1 seeds for 2 chats"):
        recommender.chat_batch([REQUEST, REQUEST], seeds=[1])
    for batch in (recommender.chat_batch, recommender.rank_batch):
        with pytest.raises(InputError, match="several chats"):
            batch(REQUEST)


# --- streams ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("constraint", "strategy"), WAYS[:4])
@pytest.mark.parametrize("tracks", [1, 3])
def test_a_stream_gives_the_tracks_and_then_a_growing_reply(
    recommender: Recommender, constraint: str, strategy: str, tracks: int
) -> None:
    options = {"constraint": constraint, "strategy": strategy, "tracks": tracks, "seed": 1}
    steps = list(recommender.stream(REQUEST, max_new_tokens=12, **options))
    assert all(one != other for one, other in pairwise(steps))
    assert steps[0].tracks
    assert not steps[0].reply
    counts = [len(step.tracks) for step in steps]
    assert counts == sorted(counts)
    for one, other in pairwise(steps):
        assert other.reply.startswith(one.reply)
        if one.reply:
            assert len(one.tracks) == len(steps[-1].tracks)
    assert len({step.reply for step in steps}) > 3
    assert_same(steps[-1], recommender.chat(REQUEST, max_new_tokens=12, **options))


def test_a_chat_that_cannot_be_used_is_refused_before_the_stream_begins(
    recommender: Recommender,
) -> None:
    with pytest.raises(InputError):
        recommender.stream([])
    with pytest.raises(InputError):
        recommender.stream(REQUEST, tracks=0)


def test_a_character_of_several_tokens_comes_in_one_piece(
    recommender: Recommender, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = recommender.tokenizer
    text = "Viel Spaß 🎷🎺 damit"
    words = tokenizer.encode(text)
    assert len(tokenizer.encode("🎷")) > 1
    block = tokenizer.block_ids(recommender.codes(recommender.track_ids[0]))
    answer_with([*block, *words, tokenizer.eos_token_id], monkeypatch)
    replies = [step.reply for step in recommender.stream(REQUEST, max_new_tokens=99)]
    assert replies[-1] == text
    assert all(text.startswith(reply) for reply in replies)
    assert len(replies) == len(set(replies)) > 8
    # cut in the middle of a character, the end shows that something is missing
    cut = [*block, *words[: len(tokenizer.encode("Viel Spaß 🎷")) - 1]]
    answer_with(cut, monkeypatch)
    last = recommender.chat(REQUEST, max_new_tokens=99).reply
    assert last.startswith("Viel Spaß")
    assert last.endswith("\N{REPLACEMENT CHARACTER}")
