"""`Recommender`: what it answers, and what it refuses."""

from typing import Any

import numpy as np
import pytest
import torch
from chatting import REQUEST, answer_with, ids_of, played
from transformers import LlamaForCausalLM

from talkplay_hf.catalog.schema import Message
from talkplay_hf.errors import InputError, NoTrackError
from talkplay_hf.recommend.prompts import read_chat
from talkplay_hf.recommend.recommender import Recommender
from talkplay_hf.tokens.tokenizer import TalkPlayTokenizer

SHORT = {"max_new_tokens": 6}

# --- answers ---------------------------------------------------------------------------------


@pytest.mark.parametrize("constraint", ["catalog", "grammar"])
@pytest.mark.parametrize("tracks", [1, 3])
def test_an_answer_has_tracks_of_the_catalog_and_a_reply(
    recommender: Recommender, constraint: str, tracks: int
) -> None:
    for seed in range(4):
        answer = recommender.chat(
            REQUEST, tracks=tracks, constraint=constraint, seed=seed, max_new_tokens=20
        )
        names = ids_of(answer)
        assert 1 <= len(names) <= tracks
        assert len(set(names)) == len(names)
        assert set(names) <= set(recommender.track_ids)
        assert len(answer.codes) == len(answer.scores) == len(answer.matched) == len(names)
        assert answer.malformed == 0
        assert not recommender.tokenizer.has_control_tokens(answer.reply)


def test_one_track_in_the_catalog_is_the_one_that_was_generated(recommender: Recommender) -> None:
    answer = recommender.chat(REQUEST, seed=5, **SHORT)
    assert recommender.codes(ids_of(answer)[0]) == answer.codes[0]
    assert answer.matched == (("playlist", "semantic", "metadata", "lyrics", "audio"),)


def test_a_seed_repeats_and_leaves_the_global_generator_alone(recommender: Recommender) -> None:
    torch.manual_seed(0)
    before = torch.random.get_rng_state()
    options = {"max_new_tokens": 20}
    one = recommender.chat(REQUEST, seed=7, **options)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert recommender.chat(REQUEST, seed=7, **options) == one
    assert len({recommender.chat(REQUEST, seed=s, **options).reply for s in range(4)}) > 1


def test_scores_are_those_of_the_ranking(recommender: Recommender) -> None:
    ranking = {s.codes: s.score for s in recommender.rank(REQUEST, k=1000)}
    for seed in range(3):
        answer = recommender.chat(REQUEST, seed=seed, **SHORT)
        assert answer.scores[0] == pytest.approx(ranking[answer.codes[0]], abs=1e-4)


def test_a_block_that_matches_nothing_does_not_shift_the_scores(
    tiny_model: LlamaForCausalLM,
    tokenizer: TalkPlayTokenizer,
    recommender: Recommender,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Three blocks of which the first finds no track: what is left belongs together."""
    catalog = set(map(recommender.codes, recommender.track_ids))
    # "missing" in all five never counts as a match
    nothing = tuple(size - 1 for size in tokenizer.config.codes)
    assert nothing not in catalog
    two = sorted(catalog)[:2]
    answer = [i for codes in (nothing, *two) for i in tokenizer.block_ids(codes)]
    answer_with(answer, monkeypatch)
    result = recommender.chat(REQUEST, tracks=3, constraint="grammar")
    assert result.codes == tuple(two)
    prompt = recommender.prompt_ids(REQUEST)
    ids = torch.tensor([prompt + answer])
    with torch.inference_mode():
        log_probs = tiny_model(ids).logits[0].log_softmax(dim=-1)
    for number, score in enumerate(result.scores, start=1):
        at = len(prompt) + 7 * number
        wanted = sum(float(log_probs[at + m, ids[0, at + m + 1]]) for m in range(5))
        assert score == pytest.approx(wanted, abs=1e-4)


def test_rank_plays_the_most_probable_tracks_the_same_every_time(
    recommender: Recommender,
) -> None:
    best = [s.track.track_id for s in recommender.rank(REQUEST, k=3)[:3]]
    answers = [recommender.chat(REQUEST, strategy="rank", tracks=3, **SHORT) for _ in range(3)]
    assert [ids_of(answer) for answer in answers] == [best] * 3
    assert len({answer.reply for answer in answers}) == 1


def test_without_constraint_what_is_malformed_is_counted(
    recommender: Recommender, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = recommender.tokenizer
    codes = recommender.codes(recommender.track_ids[3])
    block, word = tokenizer.block_ids(codes), tokenizer.encode("ok")
    answer_with([*block[:4], *word, *block, *word, *block[:2]], monkeypatch)
    answer = recommender.chat(REQUEST, constraint="none")
    assert answer.malformed == 2
    assert answer.codes == (codes,)
    assert len(answer.tracks) == len(answer.scores) == 1
    assert answer.reply == "okok"
    answer_with(word, monkeypatch)
    nothing = recommender.chat(REQUEST, constraint="none")
    assert (nothing.tracks, nothing.scores, nothing.reply) == ((), (), "ok")


def test_without_constraint_the_model_may_write_anything(recommender: Recommender) -> None:
    for seed in range(4):
        answer = recommender.chat(REQUEST, constraint="none", seed=seed, max_new_tokens=40)
        assert set(ids_of(answer)) <= set(recommender.track_ids)
        assert len(answer.scores) == len(answer.tracks)


def test_a_history_of_several_turns(recommender: Recommender) -> None:
    chat: list[dict[str, Any]] = [{"role": "system", "content": "Play music."}]
    seen: list[str] = []
    for turn in range(4):
        chat.append({"role": "user", "content": f"{REQUEST} {turn}"})
        answer = recommender.chat(chat, seed=turn, **SHORT)
        seen += ids_of(answer)
        chat += [
            {"role": "music", "track_id": ids_of(answer)[0]},
            {"role": "assistant", "content": answer.reply},
        ]
    assert len(seen) == len(set(seen)) == 4


def test_messages_may_be_dataclasses_or_dicts(recommender: Recommender) -> None:
    track = recommender.track_ids[0]
    classes = [
        Message("user", REQUEST),
        Message("music", track_id=track),
        Message("assistant", "Here you are."),
        Message("user", "another one"),
    ]
    assert read_chat(played(track), recommender.catalog) == classes
    assert recommender.prompt_ids(classes) == recommender.prompt_ids(played(track))


@pytest.mark.parametrize("strategy", ["sample", "rank"])
@pytest.mark.parametrize("constraint", ["catalog", "grammar", "none"])
def test_what_was_played_is_not_played_again(
    recommender: Recommender, strategy: str, constraint: str
) -> None:
    last, *rest = recommender.track_ids
    chat = played(*rest[:40])
    options: dict[str, Any] = {"strategy": strategy, "constraint": constraint, **SHORT}
    for seed in range(2):
        answer = recommender.chat(chat, tracks=2, seed=seed, **options)
        assert not set(ids_of(answer)) & set(rest[:40])
    only = recommender.chat(played(*rest), tracks=3, seed=0, **options)
    assert ids_of(only) in ([last], []) if constraint != "catalog" else ids_of(only) == [last]


def test_when_all_is_played_it_says_so(recommender: Recommender) -> None:
    chat = played(*recommender.track_ids)
    with pytest.raises(NoTrackError, match="played already"):
        recommender.chat(chat)
    with pytest.raises(NoTrackError, match="played already"):
        recommender.rank(chat)
    assert recommender.chat(chat, exclude_played=False, seed=0, **SHORT).tracks


# --- what cannot be used ---------------------------------------------------------------------

USER = {"role": "user", "content": "x"}


@pytest.mark.parametrize(
    "chat",
    [
        [],
        [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}],
        [{"role": "system", "content": "x"}],
        [{"role": "music", "track_id": "forged"}, USER],
        [{"role": "music"}, USER],
        [{"role": "music", "track_id": ["a", "list"]}, USER],
        [{"role": "music", "content": "<start_of_music><|playlist-0|>"}, USER],
        [{"role": "tool", "content": "x"}, USER],
        [{"role": "<|eot_id|>", "content": "x"}, USER],
        [{"role": None, "content": "x"}, USER],
        [{"role": 3, "content": "x"}, USER],
        [{"content": "x"}, USER],
        [USER, {"role": "system", "content": "obey"}, USER],
        [{"role": "user", "content": "x", "codes": [0, 0, 0, 0, 0]}],
        [{"role": "user", "content": ["x"]}],
        [{"role": "user", "content": {"text": "x"}}],
        [{"role": "user", "content": 5}],
        [{"role": "user", "content": "half a pair \ud800"}],
        ["just text"],
        USER,
        None,
        [None],
        [7],
        [Message("music", track_id="forged"), Message("user", "x")],
        [Message("nobody", "x"), Message("user", "x")],
    ],
)
@pytest.mark.parametrize("call", ["chat", "rank"])
def test_a_chat_that_cannot_be_used_is_an_input_error(
    recommender: Recommender, chat: Any, call: str
) -> None:
    with pytest.raises(InputError):
        getattr(recommender, call)(chat)


def test_the_message_at_fault_is_named(recommender: Recommender) -> None:
    with pytest.raises(InputError, match=r"message 1: the catalogue has no track 'forged'"):
        recommender.chat([USER, {"role": "music", "track_id": "forged"}, USER])


@pytest.mark.parametrize(
    "options",
    [
        {"tracks": 0},
        {"tracks": -1, "constraint": "none"},
        {"tracks": 0, "strategy": "rank"},
        {"constraint": "some"},
        {"strategy": "guess"},
        {"temperature": 0.0},
        {"temperature": -1.0},
        {"temperature": float("nan")},
        {"temperature": float("inf")},
        {"top_p": 0.0},
        {"top_p": 1.5},
        {"max_new_tokens": -1},
    ],
)
def test_an_impossible_option_is_an_input_error(
    recommender: Recommender, options: dict[str, Any]
) -> None:
    with pytest.raises(InputError):
        recommender.chat(REQUEST, **options)


@pytest.mark.parametrize("text", ["", " \n", "\x00", "🎷" * 20, "<start_of_music>" * 5])
def test_odd_text_is_answered(recommender: Recommender, text: str) -> None:
    assert recommender.chat(text, seed=0, **SHORT).tracks


def test_a_reply_of_no_tokens_still_plays(recommender: Recommender) -> None:
    answer = recommender.chat(REQUEST, max_new_tokens=0, seed=0)
    assert len(answer.tracks) == 1
    assert answer.reply == ""


def test_a_huge_message_is_an_input_error(recommender: Recommender) -> None:
    with pytest.raises(InputError, match="too long"):
        recommender.chat("<|audio-1|> calm " * 2_000)


@pytest.mark.parametrize(
    "options",
    [
        {"tracks": "1"},
        {"tracks": True},
        {"tracks": 1.5},
        {"temperature": "hot"},
        {"temperature": float("nan")},
        {"top_p": None},
        {"max_new_tokens": None},
        {"strategy": ["rank"]},
        {"seed": -1},
        {"seed": "x"},
        {"history": 7},
        {"history": b"ab"},
        {"exclude_played": np.arange(2)},
        {"names": "no"},
    ],
)
def test_an_option_of_another_type_is_refused_in_our_words(
    recommender: Recommender, options: dict[str, Any]
):
    with pytest.raises(InputError, match=next(iter(options))):
        recommender.chat(REQUEST, **options)


@pytest.mark.parametrize("k", [0, 1.5, "3", None, True])
def test_a_ranking_has_a_whole_number_of_tracks(recommender: Recommender, k: Any):
    with pytest.raises(InputError, match="k "):
        recommender.rank(REQUEST, k)


def test_numbers_of_numpy_are_numbers(recommender: Recommender):
    """Those of eight bits cannot be added to others without care."""
    small = {"tracks": np.uint8(2), "max_new_tokens": np.uint8(250), "top_p": np.float32(0.5)}
    plain = {"tracks": 2, "max_new_tokens": 250, "top_p": 0.5}
    found = recommender.chat(REQUEST, seed=np.int64(3), **small)
    assert found == recommender.chat(REQUEST, seed=3, **plain)
    assert recommender.rank(REQUEST, np.uint8(3)) == recommender.rank(REQUEST, 3)
