"""Whatever the weights and the way of decoding: well-formed blocks of allowed tracks, and text."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from answers import (
    PAD,
    SIZES,
    WORDS,
    Codes,
    Watched,
    answers,
    blocks_of,
    prompts,
    tiny_llama,
)
from transformers import LlamaForCausalLM

from talkplay_hf.recommend.grammar import CatalogLogitsProcessor, MusicGrammarLogitsProcessor
from talkplay_hf.tokens.allowed import Allowed
from talkplay_hf.tokens.index import CatalogIndex

MODES: dict[str, dict[str, Any]] = {
    "greedy": {"do_sample": False},
    "sampling": {"do_sample": True, "temperature": 1.5},
    "nucleus": {"do_sample": True, "top_p": 0.9},
    "top-k": {"do_sample": True, "top_k": 3},
    "samples": {"do_sample": True, "num_return_sequences": 5},
    "beams": {"do_sample": False, "num_beams": 4, "num_return_sequences": 4},
    "beam sampling": {"do_sample": True, "num_beams": 4, "num_return_sequences": 2},
    "early stopping": {"do_sample": False, "num_beams": 3, "early_stopping": True},
    "no cache": {"do_sample": True, "use_cache": False},
    "static cache": {"do_sample": True, "cache_implementation": "static"},
    "static cache, beams": {"num_beams": 3, "cache_implementation": "static"},
}
# of one prompt at a time
ASSISTED: dict[str, Callable[[], dict[str, Any]]] = {
    "prompt lookup": lambda: {"do_sample": False, "prompt_lookup_num_tokens": 6},
    "prompt lookup, sampling": lambda: {"do_sample": True, "prompt_lookup_num_tokens": 3},
    "assistant": lambda: {"do_sample": False, "assistant_model": tiny_llama(99)},
    "assistant, sampling": lambda: {"do_sample": True, "assistant_model": tiny_llama(99)},
}
CATALOG = np.array([[0, 1, 2], [0, 1, 2], [0, 2, 4], [3, 0, 0], [3, 1, 1], [3, 1, 2], [2, 2, 2]])
INDEX = CatalogIndex(CATALOG, SIZES)


def known(mask: np.ndarray) -> Counter[Codes]:
    return Counter(tuple(codes) for codes in CATALOG[mask].tolist())


@pytest.fixture(scope="module")
def model() -> LlamaForCausalLM:
    return tiny_llama(1, 0.1)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("tracks", "place"), [(1, "first"), (2, "anywhere")])
def test_grammar_gives_well_formed_blocks(
    model: LlamaForCausalLM, mode: str, tracks: int, place: str
) -> None:
    watched = Watched(MusicGrammarLogitsProcessor(WORDS, tracks=tracks, place=place))
    found = answers(model, watched, prompts(6, 0), **MODES[mode])
    assert len(found) >= 6
    for answer in found:
        blocks_of(answer, tracks=tracks, place=place)
    assert watched.lost == 0


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("tracks", "place"), [(1, "anywhere"), (3, "first")])
def test_the_catalogue_gives_allowed_tracks_each_once(
    model: LlamaForCausalLM, mode: str, tracks: int, place: str
) -> None:
    masks = [np.isin(np.arange(7), own) for own in ([0, 1, 2], [3, 4, 5, 6], [0, 3, 6])]
    watched = Watched(
        CatalogLogitsProcessor(
            WORDS, INDEX, tracks=tracks, place=place, allowed=Allowed.of(INDEX, masks)
        )
    )
    rows = prompts(3, 1)
    found = answers(model, watched, rows, **MODES[mode])
    # dead beams are left out, so which chat an answer is of is known for the others only
    assert len(found) >= 3
    each = len(found) // 3 if len(found) % 3 == 0 and "beam" not in mode else None
    for number, answer in enumerate(found):
        got = Counter(blocks_of(answer, tracks=tracks, place=place))
        fits = [not got - known(mask) for mask in masks]
        assert fits[number // each] if each else any(fits)
    assert watched.lost == 0


@pytest.mark.parametrize("mode", ASSISTED)
def test_drafts_of_an_assistant_are_checked(model: LlamaForCausalLM, mode: str) -> None:
    watched = Watched(CatalogLogitsProcessor(WORDS, INDEX, tracks=2))
    for row in prompts(2, 2):
        (answer,) = answers(model, watched, [row], **ASSISTED[mode]())
        assert not Counter(blocks_of(answer, tracks=2)) - known(np.ones(7, dtype=bool))
    assert watched.lost == 0


@pytest.mark.parametrize("mode", ["prompt lookup", "assistant"])
def test_drafts_do_not_change_what_greedy_decoding_gives(mode: str) -> None:
    model, processor = tiny_llama(3), CatalogLogitsProcessor(WORDS, INDEX, tracks=2)
    for row in prompts(2, 3):
        plain = answers(model, processor, [row], do_sample=False)
        assert answers(model, processor, [row], **ASSISTED[mode]()) == plain


def test_a_batch_gives_what_single_prompts_give() -> None:
    model, rows = tiny_llama(4, 0.1), prompts(4, 4)
    processor = CatalogLogitsProcessor(WORDS, INDEX, tracks=2, place="anywhere")
    together = answers(model, processor, rows, do_sample=False)
    for row, both in zip(rows, together, strict=True):
        (alone,) = answers(model, processor, [row], do_sample=False)
        assert [token for token in both if token != PAD] == alone


def test_in_place_gives_the_same(model: LlamaForCausalLM) -> None:
    for mode in ("sampling", "beams"):
        pair = [
            answers(
                model,
                CatalogLogitsProcessor(WORDS, INDEX, tracks=2, in_place=in_place),
                prompts(4, 5),
                **MODES[mode],
            )
            for in_place in (False, True)
        ]
        assert pair[0] == pair[1]


def test_beams_over_more_tracks_than_there_are_stay_alive() -> None:
    """Beams that lead nowhere go on with a score of minus infinity and are never returned."""
    index = CatalogIndex(CATALOG[-1:], SIZES)
    watched = Watched(CatalogLogitsProcessor(WORDS, index))
    found = answers(tiny_llama(5), watched, prompts(2, 6), num_beams=6, num_return_sequences=6)
    assert found
    assert {tuple(blocks_of(answer, tracks=1)) for answer in found} == {((2, 2, 2),)}
    assert watched.lost == 0


def test_a_listening_history_counts_as_blocks() -> None:
    model, history = tiny_llama(6), [tuple(codes) for codes in CATALOG[[0, 3]].tolist()]
    row = [1, 7, 5, 25]
    for codes in history:
        row += [WORDS.start, *(np.array(codes) + WORDS.offsets[:-1]).tolist(), WORDS.end]
    processor = CatalogLogitsProcessor(WORDS, INDEX, tracks=4)
    (answer,) = answers(model, processor, [row], do_sample=True)
    got = Counter(blocks_of([*row[4:], *answer], tracks=4))
    assert sum(got.values()) == 4
    assert not got - known(np.ones(7, dtype=bool))


@pytest.mark.slow
def test_20000_answers_are_all_well_formed_and_of_the_catalogue() -> None:
    rng = np.random.default_rng(0)
    wanted, count, seed = 20_000, 0, 0
    while count < wanted:
        catalog = rng.integers(0, SIZES, (rng.integers(1, 30), 3))
        index = CatalogIndex(catalog, SIZES)
        mask = rng.random(len(catalog)) < 0.5
        mask[0] = True
        everything = Counter(tuple(codes) for codes in catalog[mask].tolist())
        model = tiny_llama(seed, float(rng.choice([0.02, 0.1, 1.0])))
        for options in [*MODES.values(), *(make() for make in ASSISTED.values())]:
            alone = "assistant_model" in options or "prompt_lookup_num_tokens" in options
            rows = prompts(1 if alone else 100, seed)
            tracks, place = int(rng.integers(1, 4)), str(rng.choice(["first", "anywhere"]))
            for inside in (False, True):
                processor = MusicGrammarLogitsProcessor(WORDS, tracks=tracks, place=place)
                if inside:
                    processor = CatalogLogitsProcessor(
                        WORDS, index, tracks=tracks, place=place, allowed=Allowed.of(index, [mask])
                    )
                watched = Watched(processor)
                for answer in answers(model, watched, rows, seed=seed, **options):
                    count += 1
                    limit = min(tracks, int(mask.sum())) if inside else tracks
                    got = Counter(blocks_of(answer, tracks=limit, place=place))
                    assert not inside or not got - everything
                assert watched.lost == 0
            seed += 1


@pytest.mark.slow
def test_a_compiled_model_gives_the_same() -> None:
    model, processor = tiny_llama(7), CatalogLogitsProcessor(WORDS, INDEX, tracks=2)
    options = {"do_sample": False, "cache_implementation": "static"}
    plain = answers(model, processor, prompts(3, 7), **options)
    model.forward = torch.compile(model.forward, backend="aot_eager")
    assert answers(model, processor, prompts(3, 7), **options) == plain
