"""The block decoder finds the beams of `generate`, whatever goes through the model together."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_decoders import (
    CODES,
    DEPTH,
    VOCABULARY,
    block_log_probs,
    generated_beams,
    random_codes,
    random_prompt,
    tiny_decoder,
)
from transformers import PreTrainedModel

from talkplay_hf.recommend.decoding import beams
from talkplay_hf.recommend.decoding.beams import RankedCodes, beam_search
from talkplay_hf.tokens.allowed import Allowed
from talkplay_hf.tokens.index import CatalogIndex

SIZES = (CODES,) * DEPTH
CLOSE = 1e-4


@pytest.fixture(scope="module")
def model() -> PreTrainedModel:
    return tiny_decoder()


@pytest.fixture(scope="module")
def codes() -> np.ndarray:
    return random_codes(np.random.default_rng(0), 400)


@pytest.fixture(scope="module")
def index(codes: np.ndarray) -> CatalogIndex:
    return CatalogIndex(codes, SIZES)


def as_dict(ranked: RankedCodes) -> dict[tuple[int, ...], float]:
    found = dict(zip(map(tuple, ranked.codes.tolist()), ranked.scores.tolist(), strict=True))
    assert len(found) == len(ranked.codes)
    assert (np.diff(ranked.scores) <= 0).all()
    return found


def assert_same(
    ranked: RankedCodes, wanted: dict[tuple[int, ...], float], close: float = CLOSE
) -> None:
    found = as_dict(ranked)
    assert found.keys() == wanted.keys()
    assert max(abs(found[one] - wanted[one]) for one in wanted) <= close


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("llama", {}),
        ("llama", {"tie_word_embeddings": True, "num_key_value_heads": 4}),
        ("llama", {"num_key_value_heads": 1, "attention_bias": True}),
        ("mistral", {}),
        ("qwen2", {"tie_word_embeddings": True}),
        ("qwen3", {}),
    ],
)
def test_beams_and_scores_are_those_of_generate(
    kind: str, options: dict[str, Any], attention: str, codes: np.ndarray, index: CatalogIndex
) -> None:
    model = tiny_decoder(kind, attn_implementation=attention, **options)
    prompt = random_prompt(np.random.default_rng(1), 17)
    for width in (2, 9):
        ranked = beam_search(model, [prompt], VOCABULARY, index, width=width)
        assert_same(ranked[0], generated_beams(model, prompt, codes, width))


def test_one_beam_is_the_greedy_block(
    model: PreTrainedModel, codes: np.ndarray, index: CatalogIndex
) -> None:
    prompt = random_prompt(np.random.default_rng(1), 17)
    ranked = beam_search(model, [prompt], VOCABULARY, index, width=1)[0]
    left = codes
    for level in range(DEPTH):
        tokens = VOCABULARY.offsets[level] + np.unique(left[:, level])
        written = (np.array(VOCABULARY.offsets[:level]) + ranked.codes[0, :level]).tolist()
        with torch.no_grad():
            logits = model(torch.tensor([prompt + written])).logits[0, -1]
        best = int(tokens[logits[tokens].argmax()] - VOCABULARY.offsets[level])
        assert ranked.codes[0, level] == best
        left = left[left[:, level] == best]


def test_half_precision_agrees_loosely(codes: np.ndarray, index: CatalogIndex) -> None:
    prompt = random_prompt(np.random.default_rng(1), 17)
    half = tiny_decoder().to(torch.bfloat16)
    found = as_dict(beam_search(half, [prompt], VOCABULARY, index, width=9)[0])
    exact = block_log_probs(tiny_decoder(), prompt, np.array(list(found)))
    assert max(abs(found[one] - exact[one]) for one in found) < 1.0


def test_a_head_in_one_piece_gives_the_same_scores(
    model: PreTrainedModel, codes: np.ndarray, index: CatalogIndex
) -> None:
    class Wrapped(torch.nn.Module):
        def __init__(self, head: torch.nn.Module) -> None:
            super().__init__()
            self.head = head

        def forward(self, hidden: torch.Tensor) -> torch.Tensor:
            return self.head(hidden)

    prompt = random_prompt(np.random.default_rng(1), 17)
    other = tiny_decoder()
    other.set_output_embeddings(Wrapped(other.get_output_embeddings()))
    ranked = beam_search(other, [prompt], VOCABULARY, index, width=9)[0]
    assert_same(ranked, as_dict(beam_search(model, [prompt], VOCABULARY, index, width=9)[0]))


def test_a_width_above_the_number_of_nodes_is_exact(
    model: PreTrainedModel, codes: np.ndarray, index: CatalogIndex
) -> None:
    prompt = random_prompt(np.random.default_rng(2), 11)
    ranked = beam_search(model, [prompt], VOCABULARY, index, width=1000)[0]
    assert_same(ranked, block_log_probs(model, prompt, codes))


@pytest.mark.parametrize("tracks", [1, 3])
def test_fewer_tracks_than_beams(model: PreTrainedModel, tracks: int) -> None:
    codes = random_codes(np.random.default_rng(3), tracks)
    prompt = random_prompt(np.random.default_rng(3), 9)
    index = CatalogIndex(codes, SIZES)
    ranked = beam_search(model, [prompt], VOCABULARY, index, width=8)[0]
    assert len(ranked.codes) == tracks
    assert_same(ranked, generated_beams(model, prompt, codes, 8))
    assert_same(ranked, block_log_probs(model, prompt, codes))


def test_without_a_catalogue_any_block_is_good(model: PreTrainedModel) -> None:
    prompt = random_prompt(np.random.default_rng(4), 9)
    ranked = beam_search(model, [prompt], VOCABULARY, None, width=7)[0]
    assert ranked.codes.shape == (7, DEPTH)
    assert ((ranked.codes >= 0) & (ranked.codes < CODES)).all()
    assert_same(ranked, block_log_probs(model, prompt, ranked.codes))


def test_free_beams_are_those_of_generate_without_a_constraint(model: PreTrainedModel) -> None:
    prompt = random_prompt(np.random.default_rng(4), 9)
    ranked = beam_search(model, [prompt], VOCABULARY, None, width=7, free=True)[0]
    tokens = ranked.codes + np.array(VOCABULARY.offsets[:-1])
    assert tokens.min() < VOCABULARY.offsets[0]
    assert_same(ranked, generated_beams(model, prompt, None, 7))


@pytest.mark.parametrize("rows", [beams.ROWS_AT_A_TIME, 12])
def test_chats_of_different_length_together_equal_each_alone(
    model: PreTrainedModel,
    codes: np.ndarray,
    index: CatalogIndex,
    rows: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(beams, "ROWS_AT_A_TIME", rows)
    rng = np.random.default_rng(5)
    prompts = [random_prompt(rng, length) for length in (23, 4, 1, 16, 31)]
    for prompt, ranked in zip(
        prompts, beam_search(model, prompts, VOCABULARY, index, width=6), strict=True
    ):
        assert_same(ranked, generated_beams(model, prompt, codes, 6))


@pytest.mark.parametrize("rows", [beams.ROWS_AT_A_TIME, 12])
def test_all_turns_of_dialogues_together_equal_each_alone(
    model: PreTrainedModel,
    codes: np.ndarray,
    index: CatalogIndex,
    rows: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(beams, "ROWS_AT_A_TIME", rows)
    rng = np.random.default_rng(6)
    prompts = []
    for turns in (5, 3):
        dialogue: list[int] = []
        for _ in range(turns):
            dialogue = dialogue + random_prompt(rng, int(rng.integers(3, 9)))
            prompts.append(dialogue)
    rng.shuffle(prompts)
    for prompt, ranked in zip(
        prompts, beam_search(model, prompts, VOCABULARY, index, width=5), strict=True
    ):
        assert_same(ranked, generated_beams(model, prompt, codes, 5))


def test_each_chat_is_given_its_own_allowed_tracks(
    model: PreTrainedModel, codes: np.ndarray, index: CatalogIndex
) -> None:
    rng = np.random.default_rng(7)
    first = random_prompt(rng, 8)
    prompts = [first, first + random_prompt(rng, 5), first, random_prompt(rng, 12)]
    masks = [rng.random(len(codes)) < share for share in (0.5, 0.1, 0.5)] + [None]
    masks[1][:] = False
    masks[1][:4] = True
    found = beam_search(
        model, prompts, VOCABULARY, index, width=6, allowed=Allowed.of(index, masks)
    )
    for prompt, mask, ranked in zip(prompts, masks, found, strict=True):
        allowed = codes if mask is None else codes[mask]
        assert_same(ranked, generated_beams(model, prompt, allowed, 6))


@settings(max_examples=12, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    tracks=st.integers(1, 60),
    width=st.integers(2, 12),
    lengths=st.lists(st.integers(1, 12), min_size=1, max_size=4),
)
def test_any_catalogue_width_and_chats_give_the_beams_of_generate(
    seed: int, tracks: int, width: int, lengths: list[int]
) -> None:
    rng = np.random.default_rng(seed)
    model = tiny_decoder(num_hidden_layers=1)
    codes = random_codes(rng, tracks)
    prompts = [random_prompt(rng, length) for length in lengths]
    found = beam_search(model, prompts, VOCABULARY, CatalogIndex(codes, SIZES), width=width)
    for prompt, ranked in zip(prompts, found, strict=True):
        assert_same(ranked, generated_beams(model, prompt, codes, width))
