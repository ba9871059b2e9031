"""The four ways to rank, against teacher forcing of every track."""

import copy
from itertools import groupby
from typing import Any

import numpy as np
import pytest
import torch
from chatting import REQUEST, played
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import LlamaForCausalLM

from talkplay_hf.errors import InputError, NoTrackError
from talkplay_hf.recommend.answers import ScoredTrack
from talkplay_hf.recommend.decoding.fallback import score_tuples
from talkplay_hf.recommend.grammar import MusicVocabulary
from talkplay_hf.recommend.recommender import Recommender
from talkplay_hf.tokens.tokenizer import TalkPlayTokenizer

STRATEGIES = ("beam", "exact", "sampling", "expansion")
WAYS = [
    {"strategy": strategy, "constraint": constraint}
    for strategy in STRATEGIES
    for constraint in ("catalog", "grammar", "none")
    if strategy != "exact" or constraint == "catalog"
]
CLOSE = 1e-4


def ids_of(ranking: list[ScoredTrack]) -> list[str]:
    return [scored.track.track_id for scored in ranking]


def forced(recommender: Recommender, chat: Any, **history: Any) -> dict[tuple[int, ...], float]:
    """The log-probability of each tuple's five tokens, each read whole after the chat."""
    prompt = [*recommender.prompt_ids(chat, **history), recommender.tokenizer.start_of_music_id]
    scores = {}
    offsets = recommender.tokenizer.code_offsets[:-1]
    for codes in set(map(recommender.codes, recommender.track_ids)):
        tokens = (offsets + np.array(codes)).tolist()
        with torch.inference_mode():
            logits = recommender.model(torch.tensor([prompt + tokens])).logits[0].double()
        log_probs = logits[len(prompt) - 1 : -1].log_softmax(dim=-1)
        scores[codes] = float(log_probs.gather(1, torch.tensor(tokens)[:, None]).sum())
    return scores


def assert_like(ranking: list[ScoredTrack], other: list[ScoredTrack]) -> None:
    """The same tracks with scores as close as sums of floats are."""
    assert dict(zip(ids_of(ranking), (s.codes for s in ranking), strict=True)) == dict(
        zip(ids_of(other), (s.codes for s in other), strict=True)
    )
    found = {scored.track.track_id: scored.score for scored in other}
    for scored in ranking:
        assert scored.score == pytest.approx(found[scored.track.track_id], abs=CLOSE)


# --- order, ties, names ----------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("k", [1, 7, 10_000])
def test_a_ranking_has_its_order_and_its_names(
    recommender: Recommender, way: dict[str, str], k: int
) -> None:
    # without constraint a random model writes no block, and nothing is found
    found = recommender.rank(REQUEST, k=k, seed=3, draws=30, **way)
    keys = [(-round(scored.score, 4), scored.track.track_id) for scored in found]
    assert keys == sorted(keys)
    assert len(set(ids_of(found))) == len(found)
    modalities = recommender.tokenizer.config.modalities
    for scored in found:
        own = recommender.codes(scored.track.track_id)
        same = [a == b for a, b in zip(scored.codes, own, strict=True)]
        assert scored.matched
        assert set(scored.matched) <= {
            m for m, equal in zip(modalities, same, strict=True) if equal
        }
        if all(same):
            assert scored.matched == tuple(modalities)
    if way["constraint"] == "catalog" and way["strategy"] != "sampling":
        least = 60 if way["strategy"] in ("beam", "exact") else 1
        assert len(found) >= min(k, least)
    assert recommender.rank(REQUEST, k=k, seed=3, draws=30, **way) == found


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("k", [1, 4])
def test_k_ends_after_a_whole_group_of_ties(
    recommender: Recommender, way: dict[str, str], k: int
) -> None:
    everything = recommender.rank(REQUEST, k=1000, seed=3, **way)
    some = recommender.rank(REQUEST, k=k, seed=3, **way)
    assert ids_of(some) == ids_of(everything)[: len(some)]
    assert len(some) >= min(k, len(everything))
    levels = [round(scored.score, 4) for scored in everything]
    if some:
        assert some[-1].score == pytest.approx(everything[len(some) - 1].score, abs=CLOSE)
        assert levels[len(some) - 1] not in levels[len(some) :]
        # the groups before the last one do not make up k tracks
        assert len([level for level in levels if level > levels[len(some) - 1]]) < k


def test_tracks_of_one_tuple_are_in_the_order_of_their_ids(recommender: Recommender) -> None:
    found = recommender.rank(REQUEST, k=60)
    groups = [list(group) for _, group in groupby(found, key=lambda scored: scored.codes)]
    assert max(map(len, groups)) > 1
    assert len(groups) == len({scored.codes for scored in found})
    for group in groups:
        assert ids_of(group) == sorted(ids_of(group))


def test_tuples_that_differ_by_rounding_alone_are_in_the_order_of_their_tracks(
    tiny_model: LlamaForCausalLM, tokenizer: TalkPlayTokenizer
) -> None:
    model = copy.deepcopy(tiny_model)
    first, end = tokenizer.code_offsets[[0, -1]].tolist()
    torch.manual_seed(0)
    for part in (model.get_input_embeddings(), model.get_output_embeddings()):
        with torch.no_grad():
            noise = 3e-7 * torch.randn(end - first, part.weight.shape[1])
            part.weight[first:end] = part.weight[first] + noise
    alike = Recommender(model, tokenizer)
    for strategy in ("beam", "exact"):
        found = alike.rank(REQUEST, k=60, strategy=strategy)
        assert len({scored.score for scored in found}) > 1
        assert ids_of(found) == sorted(alike.track_ids)
    assert ids_of(alike.rank(REQUEST, k=1, strategy="exact")) == sorted(alike.track_ids)


# --- scores ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "way", [{"strategy": "beam", "beam_width": 1000}, {"strategy": "exact"}], ids=str
)
@pytest.mark.parametrize("share", [1, 3, 30])
def test_a_wide_beam_and_the_exact_ranking_are_those_of_teacher_forcing(
    recommender: Recommender, way: dict[str, Any], share: int
) -> None:
    left = recommender.track_ids[::share]
    heard = [track for track in recommender.track_ids if track not in left]
    wanted = forced(recommender, REQUEST, history=heard)
    found = recommender.rank(REQUEST, k=60, history=heard, **way)
    assert sorted(ids_of(found)) == sorted(left)
    for scored in found:
        assert scored.codes == recommender.codes(scored.track.track_id)
        assert scored.score == pytest.approx(wanted[scored.codes], abs=CLOSE)


def test_the_best_of_an_exact_ranking_are_the_best_of_all(recommender: Recommender) -> None:
    everything = recommender.rank(REQUEST, k=60, strategy="exact")
    for k in (1, 4, 20):
        some = recommender.rank(REQUEST, k=k, strategy="exact")
        assert_like(some, everything[: len(some)])


@pytest.mark.parametrize("constraint", ["catalog", "grammar"])
def test_sampled_blocks_have_the_scores_of_the_model(
    recommender: Recommender, constraint: str
) -> None:
    found = recommender.rank(
        REQUEST, k=60, strategy="sampling", constraint=constraint, draws=40, seed=0
    )
    prompt = [*recommender.prompt_ids(REQUEST), recommender.tokenizer.start_of_music_id]
    codes = np.array([scored.codes for scored in found])
    words = MusicVocabulary.of(recommender.tokenizer)
    wanted = score_tuples(recommender.model, prompt, codes, words)
    np.testing.assert_allclose([scored.score for scored in found], wanted, atol=CLOSE)
    seeds = [
        ids_of(recommender.rank(REQUEST, strategy="sampling", draws=5, seed=seed))
        for seed in range(5)
    ]
    assert len(set(map(tuple, seeds))) > 1


def test_expansion_goes_by_what_is_shared_with_the_sampled_block(recommender: Recommender) -> None:
    found = recommender.rank(REQUEST, k=60, strategy="expansion", seed=1)
    assert len({scored.codes for scored in found}) == 1
    assert recommender.codes(found[0].track.track_id) == found[0].codes
    assert len(found[0].matched) == 5
    weights = dict(zip(recommender.tokenizer.config.modalities, (25, 16, 9, 4, 1), strict=True))
    sums = [sum(weights[name] for name in scored.matched) for scored in found]
    assert sums == sorted(sums, reverse=True)
    assert len(set(sums)) > 2


# --- what is allowed -------------------------------------------------------------------------


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    way=st.sampled_from(WAYS),
    rules=st.sets(
        st.sampled_from(["not explicit", "year >= 1990", "tempo > 100", "artist at most 1"])
    ),
    rows=st.sets(st.integers(0, 59), max_size=5),
    exclude=st.booleans(),
    k=st.integers(1, 80),
)
def test_every_ranked_track_is_allowed(
    recommender: Recommender,
    way: dict[str, str],
    rules: set[str],
    rows: set[int],
    exclude: bool,
    k: int,
) -> None:
    known = [recommender.track_ids[row] for row in sorted(rows)]
    artists = {recommender.track(track).artist for track in known}
    legal = {
        track.track_id
        for track in map(recommender.track, recommender.track_ids)
        if not (exclude and track.track_id in known)
        and not ("not explicit" in rules and track.extra["explicit"])
        and not ("year >= 1990" in rules and (track.year or 0) < 1990)
        and not ("tempo > 100" in rules and not (track.tempo or 0) > 100)
        and not ("artist at most 1" in rules and track.artist in artists)
    }

    def rank() -> set[str]:
        found = recommender.rank(
            played(*known),
            k=k,
            rules=sorted(rules),
            exclude_played=exclude,
            seed=0,
            draws=20,
            **way,
        )
        return {scored.track.track_id for scored in found}

    if legal:
        assert rank() <= legal
    else:
        with pytest.raises(NoTrackError):
            rank()


def test_when_all_is_played_there_is_nothing_to_rank(recommender: Recommender) -> None:
    with pytest.raises(NoTrackError, match="every track of the catalogue was played already"):
        recommender.rank(played(*recommender.track_ids))


@pytest.mark.parametrize(
    "options",
    [
        {"k": 0},
        {"strategy": "guess"},
        {"constraint": "some"},
        {"strategy": "exact", "constraint": "none"},
        {"beam_width": 0},
        {"draws": 0},
        {"temperature": float("nan")},
        {"top_p": 0.0},
    ],
)
def test_an_impossible_option_is_an_input_error(
    recommender: Recommender, options: dict[str, Any]
) -> None:
    with pytest.raises(InputError):
        recommender.rank(REQUEST, **options)
    with pytest.raises(InputError):
        recommender.continue_playlist(recommender.track_ids[:2], **options)


# --- several at once -------------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
def test_the_turns_of_dialogues_together_are_ranked_as_alone(
    recommender: Recommender, way: dict[str, str]
) -> None:
    dialogues = [played(*recommender.track_ids[:3]), played(recommender.track_ids[9])]
    chats = [
        dialogue[: at + 1]
        for dialogue in dialogues
        for at, message in enumerate(dialogue)
        if message["role"] == "user"
    ]
    seeds = list(range(len(chats)))
    together = recommender.rank_batch(chats, k=5, seeds=seeds, draws=20, **way)
    assert len(together) == len(chats) == 6
    for chat, seed, ranking in zip(chats, seeds, together, strict=True):
        assert_like(ranking, recommender.rank(chat, k=5, seed=seed, draws=20, **way))
    assert recommender.rank_batch([]) == []


def test_where_oldest_turns_give_way_the_others_are_ranked_as_alone(
    tiny_model: LlamaForCausalLM,
    tokenizer: TalkPlayTokenizer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    recommender = Recommender(tiny_model, tokenizer)
    dialogue = played(*recommender.track_ids[:8])
    chats = [dialogue[: 3 * turn + 1] for turn in range(9)]
    whole = recommender.prompt_ids(dialogue)
    monkeypatch.setattr(tiny_model.config, "max_position_embeddings", len(whole) // 2)
    together = recommender.rank_batch(chats, k=5)
    for chat, ranking in zip(chats, together, strict=True):
        prompt = recommender.prompt_ids(chat, room=7)
        assert len(prompt) + 7 <= len(whole) // 2
        assert_like(ranking, recommender.rank(chat, k=5))
        words = MusicVocabulary.of(tokenizer)
        codes = np.array([scored.codes for scored in ranking])
        wanted = score_tuples(tiny_model, [*prompt, words.start], codes, words)
        np.testing.assert_allclose([s.score for s in ranking], wanted, atol=CLOSE)
