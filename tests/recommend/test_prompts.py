"""What a model reads of a chat, a listening history and a playlist."""

from typing import Any

import numpy as np
import pytest
from chatting import REQUEST, ids_of, played

from talkplay_hf.catalog.schema import Message
from talkplay_hf.errors import InputError
from talkplay_hf.recommend.prompts import chat_prompt, playlist_prompt, read_chat
from talkplay_hf.recommend.recommender import Recommender
from talkplay_hf.tokens.tokenizer import TalkPlayTokenizer
from talkplay_hf.training.rows.encode import RowReport, draw_continuations

SYSTEM = {"role": "system", "content": "Only jazz."}


def blocks_of(recommender: Recommender, ids: list[int]) -> list[tuple[int, ...] | None]:
    return recommender.tokenizer.parse_blocks(ids)


def test_a_long_history_loses_its_oldest_turns_alone(recommender: Recommender) -> None:
    tracks = [recommender.track_ids[n % 50] for n in range(400)]
    chat = [{"role": "system", "content": "Only jazz."}, *played(*tracks, then="the last word")]
    calls = 0
    encode = recommender.tokenizer.chat_ids

    def counted(*arguments: Any) -> list[int]:
        nonlocal calls
        calls += 1
        return encode(*arguments)

    recommender.tokenizer.chat_ids = counted  # type: ignore[method-assign]
    try:
        ids = recommender.prompt_ids(chat)
    finally:
        del recommender.tokenizer.chat_ids
    limit = recommender.model.config.max_position_embeddings
    text = recommender.tokenizer.decode(ids)
    assert len(ids) <= limit
    assert calls < 20
    assert "Only jazz." in text
    assert "the last word" in text
    blocks = recommender.tokenizer.parse_blocks(ids)
    assert blocks == [recommender.codes(track) for track in tracks[-len(blocks) :]]
    turn = (len(ids) - 60) // len(blocks)
    assert len(ids) > limit - 300 - turn
    assert recommender.chat(chat, seed=0, max_new_tokens=4).tracks


def test_a_greeting_before_the_first_request_gives_way_too(recommender: Recommender) -> None:
    greeting = {"role": "assistant", "content": "Good evening, what would you like? " * 12}
    user = {"role": "user", "content": REQUEST}
    messages = read_chat([greeting, user], recommender.catalog)
    whole = chat_prompt(messages, recommender.tokenizer, recommender.codes, 10_000)
    short = recommender.prompt_ids(REQUEST)
    assert len(whole) > 2 * len(short)
    cut = chat_prompt(messages, recommender.tokenizer, recommender.codes, len(short))
    assert cut == short
    with pytest.raises(InputError, match=f"{len(short)} tokens, {len(short) - 1} fit"):
        chat_prompt(messages, recommender.tokenizer, recommender.codes, len(short) - 1)


# --- a listening history ---------------------------------------------------------------------


@pytest.mark.parametrize("first", [[], [SYSTEM]])
def test_a_history_goes_before_the_first_request(
    recommender: Recommender, first: list[dict[str, Any]]
) -> None:
    heard = recommender.track_ids[:3]
    chat = [*first, *played(recommender.track_ids[5])]
    messages = read_chat(chat, recommender.catalog, heard)
    kinds = [message.role for message in messages]
    assert kinds[len(first) : len(first) + 4] == ["music", "music", "music", "user"]
    ids = recommender.prompt_ids(chat, history=heard)
    wanted = [*heard, recommender.track_ids[5]]
    assert blocks_of(recommender, ids) == [recommender.codes(track) for track in wanted]
    start, user = recommender.tokenizer.start_of_music_id, recommender.tokenizer.decode(ids)
    assert ids.index(start) < len(recommender.tokenizer(user.split(REQUEST)[0])["input_ids"])


def test_what_was_heard_counts_as_played(recommender: Recommender) -> None:
    *heard, left = recommender.track_ids
    answer = recommender.chat(REQUEST, history=heard, seed=0, max_new_tokens=2)
    assert ids_of(answer) == [left]
    ranked = recommender.rank(REQUEST, k=60, history=heard)
    assert [scored.track.track_id for scored in ranked] == [left]
    again = recommender.rank(REQUEST, k=60, history=heard, exclude_played=False)
    assert len(again) == 60


def test_too_long_a_history_loses_its_oldest_tracks(recommender: Recommender) -> None:
    heard = [recommender.track_ids[n % 60] for n in range(400)]
    ids = recommender.prompt_ids(REQUEST, history=heard)
    blocks = blocks_of(recommender, ids)
    limit = recommender.model.config.max_position_embeddings - 160
    assert limit - 7 < len(ids) <= limit
    assert blocks == [recommender.codes(track) for track in heard[-len(blocks) :]]
    assert REQUEST in recommender.tokenizer.decode(ids)


def test_a_history_gives_way_before_what_was_said(recommender: Recommender) -> None:
    heard, said = recommender.track_ids[:300], recommender.track_ids[40:43]
    messages = read_chat(played(*said), recommender.catalog, heard)
    least = recommender.prompt_ids(played(*said))
    limit = len(least) + 20
    ids = chat_prompt(messages, recommender.tokenizer, recommender.codes, limit)
    assert blocks_of(recommender, ids)[-3:] == [recommender.codes(track) for track in said]
    assert len(blocks_of(recommender, ids)) in (4, 5)


@pytest.mark.parametrize("history", [["forged"], [7], "forged", [None]])
def test_a_history_of_unknown_tracks_is_an_input_error(
    recommender: Recommender, history: Any
) -> None:
    for call in (recommender.chat, recommender.rank, recommender.prompt_ids):
        with pytest.raises(InputError, match="history"):
            call(REQUEST, history=history)


# --- playlists -------------------------------------------------------------------------------


def test_a_playlist_reads_as_in_training(
    recommender: Recommender, tokenizer: TalkPlayTokenizer
) -> None:
    ids_of_tracks = recommender.track_ids
    codes = {track: recommender.codes(track) for track in ids_of_tracks}
    playlists = [np.arange(4, 4 + size, dtype=np.int32) for size in (2, 3, 9)]
    report = RowReport()
    rows = draw_continuations(playlists, tokenizer, codes, report, label_tokens=300)
    compared = 0
    for ids, labels in rows:
        # the model is asked where the first track that counts stands
        asked = int(np.flatnonzero(labels != -100)[0])
        blocks = tokenizer.parse_blocks(ids[:asked].tolist())
        by_codes = {code: track for track, code in codes.items()}
        tracks = [by_codes[block] for block in blocks]
        prompt = playlist_prompt(tracks, recommender.catalog, tokenizer, recommender.codes, 999)
        assert prompt == ids[:asked].tolist()
        compared += len(tracks)
    assert compared > 10


def test_a_playlist_is_continued_from_its_prompt(recommender: Recommender) -> None:
    heard = recommender.track_ids[:5]
    found = recommender.continue_playlist(heard, k=4)
    assert len(found) >= 4
    assert not {scored.track.track_id for scored in found} & set(heard)
    again = recommender.continue_playlist(heard, k=100, exclude_played=False, strategy="exact")
    assert {scored.track.track_id for scored in again} == set(recommender.track_ids)
    whole = {scored.track.track_id: scored.score for scored in again}
    for scored in found:
        assert scored.score == pytest.approx(whole[scored.track.track_id], abs=1e-4)


@pytest.mark.parametrize("strategy", ["beam", "exact", "sampling", "expansion"])
def test_rules_hold_for_what_continues_a_playlist(recommender: Recommender, strategy: str) -> None:
    heard = recommender.track_ids[:5]
    found = recommender.continue_playlist(
        heard, k=60, rules="artist at most 1", strategy=strategy, seed=0
    )
    artists = {recommender.track(track).artist for track in heard}
    assert found
    assert not {scored.track.artist for scored in found} & artists


def test_too_long_a_playlist_loses_its_oldest_tracks(recommender: Recommender) -> None:
    heard = [recommender.track_ids[n % 60] for n in range(500)]
    tokenizer, codes = recommender.tokenizer, recommender.codes
    prompt = playlist_prompt(heard, recommender.catalog, tokenizer, codes, 500)
    blocks = blocks_of(recommender, prompt)
    assert 493 < len(prompt) <= 500
    assert blocks == [codes(track) for track in heard[-len(blocks) :]]
    assert recommender.continue_playlist(heard, k=1, exclude_played=False)
    with pytest.raises(InputError, match="too long: 20 tokens fit"):
        playlist_prompt(heard, recommender.catalog, tokenizer, codes, 20)


@pytest.mark.parametrize("track_ids", [[], "a text", ["forged"], [None]])
def test_a_playlist_that_cannot_be_continued_is_an_input_error(
    recommender: Recommender, track_ids: Any
) -> None:
    with pytest.raises(InputError):
        recommender.continue_playlist(track_ids)


def test_messages_come_back_as_they_were_given(recommender: Recommender) -> None:
    assert read_chat("hi", recommender.catalog) == [Message("user", "hi")]
