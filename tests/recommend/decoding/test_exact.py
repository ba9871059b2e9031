"""Exact ranking is what scoring every track by a plain forward pass gives."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import LlamaConfig, LlamaForCausalLM

from talkplay_hf.errors import ConfigError
from talkplay_hf.recommend.decoding import exact
from talkplay_hf.recommend.decoding.exact import (
    ExactRanking,
    rank_exactly,
    rank_here,
)
from talkplay_hf.recommend.decoding.tree import TokenTree
from talkplay_hf.recommend.grammar import MusicVocabulary
from talkplay_hf.tokens.allowed import Allowed
from talkplay_hf.tokens.index import CatalogIndex

TEXT = 20
TIE = 1e-4
# a head of these weights gives nearly equal codes, or one code nearly all of the probability
FLAT, SHARP = 0.02, 0.4


def vocabulary_of(sizes: Sequence[int]) -> MusicVocabulary:
    """Text, then the codes, then two tokens that begin and end a block."""
    offsets = tuple(int(one) for one in TEXT + np.cumsum([0, *sizes]))
    return MusicVocabulary(offsets[-1], offsets[-1] + 1, offsets, 0, (), offsets[-1] + 2)


def tiny_llama(
    sizes: Sequence[int], head: float, width: int = 32, layers: int = 2
) -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=vocabulary_of(sizes).size,
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        tie_word_embeddings=False,
        # far from uniform attention, so that a token that attends to the wrong ones shows
        initializer_range=0.3,
    )
    model = LlamaForCausalLM(config).eval()
    torch.nn.init.normal_(model.lm_head.weight, std=head)
    return model


def brute_force(
    model: LlamaForCausalLM, prompt: Sequence[int], vocabulary: MusicVocabulary, codes: np.ndarray
) -> np.ndarray:
    """Log-probability of the code tokens of each row of `codes`."""
    return prefix_scores(model, prompt, vocabulary, codes)[:, -1]


@torch.inference_mode()
def prefix_scores(
    model: LlamaForCausalLM, prompt: Sequence[int], vocabulary: MusicVocabulary, codes: np.ndarray
) -> np.ndarray:
    """Log-probability of the first, the first two, ... codes of each row, each row read whole."""
    tokens = torch.from_numpy(codes) + torch.tensor(vocabulary.offsets[:-1])
    found = []
    for some in torch.split(tokens, 500):
        ids = torch.cat([torch.tensor([list(prompt)]).expand(len(some), -1), some], dim=1)
        logits = model(ids, logits_to_keep=codes.shape[1] + 1).logits[:, :-1]
        log_probs = logits.double().log_softmax(-1).gather(2, some[..., None])
        found.append(log_probs[..., 0].cumsum(1).numpy())
    return np.concatenate(found)


def chats(vocabulary: MusicVocabulary, seed: int = 0) -> list[list[int]]:
    """Three turns of a dialogue and a prompt of its own."""
    text = np.random.default_rng(seed).integers(1, TEXT, 40).tolist()
    start = vocabulary.start
    turns = [[*text[:4], start], [*text[:4], start, *text[4:9], start]]
    return [turns[1], [*text[20:31], start], turns[0], [*turns[1], *text[9:12], start]]


def check(
    ranking: ExactRanking,
    codes: np.ndarray,
    scores: np.ndarray,
    allowed: np.ndarray,
    k: int | None,
) -> None:
    """Assert that a ranking holds the tuples of the `k` most likely allowed tracks."""
    wanted = np.sort(scores[allowed])[::-1]
    if k is not None and k < len(wanted):
        wanted = wanted[wanted >= wanted[k - 1] - TIE]
    score_of = {tuple(row): score for row, score in zip(codes.tolist(), scores, strict=True)}
    copies = dict.fromkeys(score_of, 0)
    for row in codes[allowed].tolist():
        copies[tuple(row)] += 1
    found = [tuple(row) for row in ranking.codes.tolist()]
    assert len(set(found)) == len(found)
    expected = np.array([score_of[row] for row in found])
    np.testing.assert_allclose(ranking.scores, expected, atol=TIE / 4, rtol=0)
    assert (np.diff(ranking.scores) <= 0).all()
    mine = np.repeat(ranking.scores, [copies[row] for row in found])
    # the last of a group of ties can fall on either side of its edge
    short = min(len(mine), len(wanted))
    assert k is None or short >= min(k, int(allowed.sum()))
    np.testing.assert_allclose(mine[:short], wanted[:short], atol=TIE / 4, rtol=0)
    rest = np.concatenate([mine[short:], wanted[short:]])
    assert k is not None or not len(rest)
    assert (rest >= wanted[: k or 1][-1:] - 1.3 * TIE).all()


def inner_nodes(codes: np.ndarray) -> int:
    """How many prefixes there are to expand: the empty one, and all but the full tuples."""
    return 1 + sum(len(np.unique(codes[:, :m], axis=0)) for m in range(1, codes.shape[1]))


def scores_of(ranking: ExactRanking, codes: np.ndarray) -> np.ndarray:
    """The score of each row of `codes`; `-inf` where the ranking does not have it."""
    rows = zip(ranking.codes.tolist(), ranking.scores.tolist(), strict=True)
    table = {tuple(row): score for row, score in rows}
    return np.array([table.get(tuple(row), -np.inf) for row in codes.tolist()])


SIZES = (6, 4, 8, 2, 5)


@pytest.fixture(scope="module")
def models() -> dict[float, LlamaForCausalLM]:
    return {head: tiny_llama(SIZES, head) for head in (FLAT, SHARP)}


def catalogue(tracks: int, sizes: Sequence[int] = SIZES) -> np.ndarray:
    rng = np.random.default_rng(0)
    return np.stack([rng.integers(0, size, tracks) for size in sizes], axis=1)


catalogues = st.lists(
    st.tuples(*(st.integers(0, size - 1) for size in SIZES)), min_size=1, max_size=50
).flatmap(lambda rows: st.lists(st.sampled_from(rows), max_size=8).map(lambda more: rows + more))


@settings(max_examples=12)
@given(
    rows=catalogues,
    k=st.none() | st.integers(1, 70),
    head=st.sampled_from([FLAT, SHARP]),
    at_a_time=st.sampled_from([1, 3, 256]),
    data=st.data(),
)
def test_the_best_tracks_of_any_catalogue_are_those_of_teacher_forcing(
    models: dict[float, LlamaForCausalLM],
    rows: list[tuple[int, ...]],
    k: int | None,
    head: float,
    at_a_time: int,
    data: st.DataObject,
) -> None:
    codes = np.array(rows)
    vocabulary, index = vocabulary_of(SIZES), CatalogIndex(codes, SIZES)
    prompts = chats(vocabulary)
    drawn = st.none() | st.lists(st.booleans(), min_size=len(codes), max_size=len(codes))
    masks = [
        None if mask is None else np.array(mask) for mask in data.draw(st.tuples(*[drawn] * 4))
    ]
    allowed = None
    if any(mask is not None for mask in masks):
        allowed = Allowed.of(index, masks)
    found = rank_exactly(
        models[head], prompts, vocabulary, index, k=k, allowed=allowed, rows=at_a_time
    )
    for number, (prompt, ranking) in enumerate(zip(prompts, found, strict=True)):
        scores = brute_force(models[head], prompt, vocabulary, codes)
        mask = masks[number]
        mask = np.ones(len(codes), dtype=bool) if mask is None else mask
        check(ranking, codes, scores, mask, k)
        assert 1 <= ranking.expanded <= inner_nodes(codes[mask])


@pytest.mark.parametrize("k", [30, None])
@pytest.mark.parametrize("head", [FLAT, SHARP])
def test_little_memory_changes_the_order_of_the_search_and_not_its_result(
    models: dict[float, LlamaForCausalLM],
    head: float,
    k: int | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    codes = catalogue(100)
    vocabulary, index = vocabulary_of(SIZES), CatalogIndex(codes, SIZES)
    prompt = chats(vocabulary)[0]
    scores = brute_force(models[head], prompt, vocabulary, codes)
    monkeypatch.setattr(exact, "BYTES_OF_ANCESTORS", 0)
    found = rank_exactly(models[head], [prompt], vocabulary, index, k=k, rows=2)[0]
    check(found, codes, scores, np.ones(len(codes), dtype=bool), k)


def test_prefixes_less_likely_than_the_last_track_are_not_expanded(
    models: dict[float, LlamaForCausalLM],
) -> None:
    codes = catalogue(600)
    vocabulary, index = vocabulary_of(SIZES), CatalogIndex(codes, SIZES)
    prompt = chats(vocabulary)[0]
    found = rank_exactly(models[SHARP], [prompt], vocabulary, index, k=5, rows=1)[0]
    everything = rank_exactly(models[SHARP], [prompt], vocabulary, index, k=None)[0]
    assert everything.expanded == inner_nodes(codes)
    needed = 1
    log_probs = prefix_scores(models[SHARP], prompt, vocabulary, codes)
    for level in range(1, len(SIZES)):
        _, one_each = np.unique(codes[:, :level], axis=0, return_index=True)
        needed += int((log_probs[one_each, level - 1] >= found.scores[-1] - 1.2 * TIE).sum())
    assert found.expanded <= needed
    assert found.expanded < everything.expanded / 2


def test_the_tree_can_be_read_on_from_after_a_ranking(
    models: dict[float, LlamaForCausalLM],
) -> None:
    codes = catalogue(50)
    vocabulary, index = vocabulary_of(SIZES), CatalogIndex(codes, SIZES)
    first, second = sorted(chats(vocabulary), key=len)[:2]
    assert second[: len(first)] == first
    tree = TokenTree(models[SHARP])
    for prompt in (first, second):
        hidden = tree.read([prompt[tree.columns :]])
        found = rank_here(tree, hidden[0, -1], vocabulary, index, k=10)
        assert tree.columns == len(prompt)
        expected = rank_exactly(models[SHARP], [prompt], vocabulary, index, k=10)[0]
        np.testing.assert_array_equal(found.codes, expected.codes)
        np.testing.assert_allclose(found.scores, expected.scores, atol=TIE / 4)


def test_a_ranking_is_the_same_every_time(models: dict[float, LlamaForCausalLM]) -> None:
    codes = catalogue(300)
    vocabulary, index = vocabulary_of(SIZES), CatalogIndex(codes, SIZES)
    once, again = (
        rank_exactly(models[FLAT], chats(vocabulary), vocabulary, index, k=20) for _ in range(2)
    )
    for one, other in zip(once, again, strict=True):
        np.testing.assert_array_equal(one.codes, other.codes)
        np.testing.assert_array_equal(one.scores, other.scores)


def test_no_allowed_track_gives_an_empty_ranking(models: dict[float, LlamaForCausalLM]) -> None:
    codes = catalogue(20)
    vocabulary, index = vocabulary_of(SIZES), CatalogIndex(codes, SIZES)
    nothing = Allowed.of(index, [np.zeros(20, dtype=bool)])
    prompt = chats(vocabulary)[:1]
    found = rank_exactly(models[FLAT], prompt, vocabulary, index, k=3, allowed=nothing)[0]
    assert found.codes.shape == (0, 5)
    assert found.scores.shape == (0,)


@pytest.mark.parametrize(("k", "rows"), [(0, 1), (1, 0)])
def test_nothing_can_be_ranked_zero_at_a_time(
    models: dict[float, LlamaForCausalLM], k: int, rows: int
) -> None:
    vocabulary, index = vocabulary_of(SIZES), CatalogIndex(catalogue(20), SIZES)
    with pytest.raises(ConfigError, match="at least one"):
        rank_exactly(models[FLAT], chats(vocabulary), vocabulary, index, k=k, rows=rows)


def in_order(scores: np.ndarray) -> list[int]:
    """Tracks by falling score; those within `TIE` of the first of their group by their number."""
    best = np.lexsort((np.arange(len(scores)), -scores))
    order: list[int] = []
    at = 0
    while at < len(best):
        group = best[at:][scores[best[at:]] >= scores[best[at]] - TIE]
        order += sorted(group.tolist())
        at += len(group)
    return order


def certain_order(falling: np.ndarray, slack: float) -> bool:
    """Whether scores that are off by less than half of `slack` group in the same way."""
    at = 0
    while at < len(falling):
        below = falling[at] - falling
        if (np.abs(below - TIE) <= slack).any():
            return False
        at = int((below <= TIE).sum())
    return True


@pytest.mark.slow
@pytest.mark.parametrize("head", [FLAT, SHARP])
def test_two_thousand_tracks_are_ranked_as_by_teacher_forcing_in_a_hundred_chats_each(
    head: float,
) -> None:
    sizes = (32, 16, 16, 8, 32)
    codes = catalogue(2_000, sizes)
    codes[-100:] = codes[:100]
    vocabulary, index = vocabulary_of(sizes), CatalogIndex(codes, sizes)
    model = tiny_llama(sizes, head)
    prompts = [prompt for seed in range(25) for prompt in chats(vocabulary, seed)]
    rankings = rank_exactly(model, prompts, vocabulary, index, k=None)
    tops = rank_exactly(model, prompts, vocabulary, index, k=100)
    noise, certain = 0.0, 0
    for prompt, ranking, top in zip(prompts, rankings, tops, strict=True):
        exact_scores = brute_force(model, prompt, vocabulary, codes)
        found = scores_of(ranking, codes)
        apart = float(np.abs(found - exact_scores).max())
        assert apart <= TIE
        noise = max(noise, apart)
        mine, wanted = in_order(found), in_order(exact_scores)
        # rounding can decide whether two tracks tie, but only where their gap is about the limit
        slack = 2 * apart
        falling = np.sort(exact_scores)[::-1]
        edges = np.flatnonzero(falling[:-1] - falling[1:] > TIE + slack) + 1
        for first, end in zip([0, *edges], [*edges, len(falling)], strict=True):
            if certain_order(falling[first:end], slack):
                assert mine[first:end] == wanted[first:end]
                certain += end - first
            else:
                assert set(mine[first:end]) == set(wanted[first:end])
        shown = in_order(scores_of(top, codes))[:100]
        assert np.abs(np.sort(exact_scores[shown])[::-1] - falling[:100]).max() <= TIE
    print(f"greatest difference {noise:.1e}, order certain for {certain / 2_000 / 100:.1%}")
    assert certain > 0.95 * 2_000 * 100
