"""What was read of a conversation is not read again, and nothing wrong is remembered."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from chatting import REQUEST, CountedTokens, assert_same, ids_of, played
from transformers import DynamicCache, LlamaForCausalLM

from talkplay_hf.recommend.answers import Recommendation
from talkplay_hf.recommend.memory import ConversationMemory
from talkplay_hf.recommend.recommender import Recommender
from talkplay_hf.tokens.tokenizer import TalkPlayTokenizer

Chat = list[dict[str, Any]]
SHORT: dict[str, Any] = {"max_new_tokens": 5}


@pytest.fixture
def remembering(tiny_model: LlamaForCausalLM, tokenizer: TalkPlayTokenizer) -> Recommender:
    return Recommender(tiny_model, tokenizer, remember=2)


@pytest.fixture(scope="module")
def forgetful(tiny_model: LlamaForCausalLM, tokenizer: TalkPlayTokenizer) -> Recommender:
    return Recommender(tiny_model, tokenizer, remember=0)


def go_on(chat: Chat, answer: Recommendation, request: str) -> Chat:
    music = [{"role": "music", "track_id": track} for track in ids_of(answer)]
    reply = {"role": "assistant", "content": answer.reply}
    return [*chat, *music, reply, {"role": "user", "content": request}]


def read_by(recommender: Recommender, chat: Chat, **options: Any) -> tuple[int, Recommendation]:
    """Tokens that the first forward pass of an answer reads, and the answer."""
    with CountedTokens(recommender.model) as counted:
        answer = recommender.chat(chat, **SHORT, **options)
    return counted.read[0], answer


@pytest.mark.parametrize("strategy", ["sample", "rank"])
def test_a_turn_reads_only_what_is_new(
    remembering: Recommender, forgetful: Recommender, strategy: str
) -> None:
    chat: Chat = [{"role": "user", "content": REQUEST}]
    before = 0
    for turn in range(4):
        options = {"strategy": strategy, "seed": turn}
        read, answer = read_by(remembering, chat, **options)
        everything, wanted = read_by(forgetful, chat, **options)
        assert_same(answer, wanted)
        # the strategy "rank" opens the block as well
        length = len(remembering.prompt_ids(chat)) + (strategy == "rank")
        assert everything == length
        assert read <= length - before
        before = length
        chat = go_on(chat, answer, f"another one {turn}")


def test_a_change_of_strategy_between_turns_is_no_matter(
    remembering: Recommender, forgetful: Recommender
) -> None:
    chat: Chat = [{"role": "user", "content": REQUEST}]
    for turn, strategy in enumerate(["rank", "sample", "rank", "sample"]):
        options = {"strategy": strategy, "seed": turn, "tracks": 2}
        _, answer = read_by(remembering, chat, **options)
        assert_same(answer, read_by(forgetful, chat, **options)[1])
        chat = go_on(chat, answer, "more")


def test_short_conversations_do_not_push_each_other_out(
    remembering: Recommender, forgetful: Recommender
) -> None:
    chats: list[Chat] = [[{"role": "user", "content": text}] for text in ("hi", "jazz")]
    before = [0, 0]
    for turn in range(3):
        for number, chat in enumerate(chats):
            read, answer = read_by(remembering, chat, seed=turn)
            assert_same(answer, read_by(forgetful, chat, seed=turn)[1])
            length = len(remembering.prompt_ids(chat))
            assert read <= length - before[number]
            before[number] = length
            chats[number] = go_on(chat, answer, "go on")


def test_a_conversation_that_branches_is_answered_from_where_it_does(
    remembering: Recommender, forgetful: Recommender
) -> None:
    first: Chat = [{"role": "user", "content": REQUEST}]
    _, answer = read_by(remembering, first, seed=0)
    trunk = go_on(first, answer, "")[:-1]
    shared = len(remembering.prompt_ids([*trunk, {"role": "user", "content": "x"}])) - 8
    for text in ("louder please", "softer please", "louder please"):
        branch = [*trunk, {"role": "user", "content": text}]
        read, answer = read_by(remembering, branch, seed=1)
        assert_same(answer, read_by(forgetful, branch, seed=1)[1])
        assert read < len(remembering.prompt_ids(branch)) - shared // 2


def test_a_forged_history_is_read_from_where_it_differs(
    remembering: Recommender, forgetful: Recommender
) -> None:
    chat: Chat = [{"role": "user", "content": REQUEST}]
    for turn in range(2):
        _, answer = read_by(remembering, chat, seed=turn)
        chat = go_on(chat, answer, "more")
    other = next(t for t in remembering.track_ids if t not in {m.get("track_id") for m in chat})
    chat[1] = {"role": "music", "track_id": other}
    read, answer = read_by(remembering, chat, seed=3)
    everything, wanted = read_by(forgetful, chat, seed=3)
    assert_same(answer, wanted)
    ids = remembering.prompt_ids(chat)
    block = remembering.tokenizer.block_ids(remembering.codes(other))
    assert read >= len(ids) - ids.index(block[0]) - len(block)
    assert read < everything


def test_the_oldest_of_too_many_conversations_is_forgotten(remembering: Recommender) -> None:
    texts = ["one thing", "quite another", "a third matter"]
    answers = [read_by(remembering, [{"role": "user", "content": t}], seed=0)[1] for t in texts]
    new = {}
    for text, answer in list(zip(texts, answers, strict=True))[::-1]:
        chat = go_on([{"role": "user", "content": text}], answer, "more")
        new[text] = len(remembering.prompt_ids(chat)) - read_by(remembering, chat, seed=0)[0]
    # of the first one only the system message is known, from the others
    assert new["one thing"] < min(new["quite another"], new["a third matter"])


@pytest.mark.parametrize("after", [0, 3, 9])
def test_a_turn_that_fails_leaves_nothing_wrong_behind(
    remembering: Recommender, forgetful: Recommender, after: int
) -> None:
    chat: Chat = [{"role": "user", "content": REQUEST}]
    passes = 0

    def fail(*_: object) -> None:
        nonlocal passes
        passes += 1
        if passes > after:
            raise RuntimeError("out of memory")

    # the first layer has taken the token in by then, the second has not
    hook = remembering.model.model.layers[1].register_forward_pre_hook(fail)
    try:
        with pytest.raises(RuntimeError, match="out of memory"):
            remembering.chat(chat, seed=0, **SHORT)
    finally:
        hook.remove()
    _, answer = read_by(remembering, chat, seed=0)
    assert_same(answer, read_by(forgetful, chat, seed=0)[1])
    chat = go_on(chat, answer, "more")
    assert_same(read_by(remembering, chat, seed=1)[1], read_by(forgetful, chat, seed=1)[1])


@pytest.mark.parametrize("strategy", ["sample", "rank"])
@pytest.mark.parametrize("taken", [0, 1, 2, 4])
def test_a_stream_that_is_closed_early_leaves_nothing_wrong_behind(
    remembering: Recommender, forgetful: Recommender, strategy: str, taken: int
) -> None:
    chat = played(remembering.track_ids[0])
    options = {"strategy": strategy, "seed": 0, **SHORT}
    stream = remembering.stream(chat, **options)
    for _ in range(taken):
        next(stream)
    assert isinstance(stream, Iterator)
    stream.close()  # type: ignore[attr-defined]
    assert_same(remembering.chat(chat, **options), forgetful.chat(chat, **options))


# --- the memory itself -----------------------------------------------------------------------


def cache_of(length: int, value: float = 0.0) -> DynamicCache:
    cache = DynamicCache()
    for layer in range(2):
        states = torch.full((1, 1, length, 4), value)
        cache.update(states, states, layer)
    return cache


def test_the_longest_common_beginning_is_recalled() -> None:
    memory = ConversationMemory(3)
    memory.keep([1, 2, 3, 4], 3, cache_of(4, 1.0))
    memory.keep([1, 2, 9, 9, 9], 4, cache_of(5, 2.0))
    for ids, wanted, value in (
        ([1, 2, 3, 8, 8], 3, 1.0),
        ([1, 2, 9, 9, 8], 4, 2.0),
        ([1, 2, 3, 4], 3, 1.0),
        ([1, 7, 7], 1, 1.0),
    ):
        read, cache = memory.recall(ids)
        assert read == wanted
        assert cache is not None
        assert cache.get_seq_length() == wanted
        assert float(cache.layers[1].values.max()) == value
    assert memory.recall([5, 6]) == (0, None)
    assert memory.recall([1]) == (0, None)


def test_what_is_recalled_can_grow_without_changing_what_is_kept() -> None:
    memory = ConversationMemory(1)
    memory.keep([1, 2, 3], 2, cache_of(3))
    cache = memory.recall([1, 2, 3, 4])[1]
    assert cache is not None
    states = torch.ones(1, 1, 1, 4)
    for layer in range(2):
        cache.update(states, states, layer)
        cache.layers[layer].keys += 1
    again = memory.recall([1, 2, 3, 4])[1]
    assert again is not None
    assert again.get_seq_length() == 3
    assert not again.layers[0].keys.any()


def test_a_later_state_takes_the_place_of_the_earlier_one() -> None:
    memory = ConversationMemory(2)
    memory.keep([7, 1, 1], 2, cache_of(3))
    memory.keep([7, 2, 2], 2, cache_of(3))
    # the answer of the first conversation came back in other words
    memory.keep([7, 1, 5, 5], 4, cache_of(4))
    assert memory.recall([7, 2, 2, 0])[0] == 3
    assert memory.recall([7, 1, 5, 5, 0])[0] == 4


def test_a_memory_of_none_keeps_nothing() -> None:
    memory = ConversationMemory(0)
    memory.keep([1, 2, 3], 2, cache_of(3))
    assert memory.recall([1, 2, 3]) == (0, None)
