"""Whatever the weights: music blocks first, well-formed, of allowed tracks; then plain text."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import LlamaForCausalLM, LogitsProcessorList

from talkplay_hf.catalog.schema import Message
from talkplay_hf.errors import ConfigError, NoTrackError
from talkplay_hf.recommend.grammar import MusicGrammarLogitsProcessor, MusicVocabulary
from talkplay_hf.tokens.build import read_token_catalog
from talkplay_hf.tokens.index import CatalogIndex
from talkplay_hf.tokens.tokenizer import TalkPlayTokenizer
from talkplay_hf.training.model.base import scratch_model
from talkplay_hf.training.model.vocabulary import grow_vocabulary

STRATEGIES: dict[str, dict[str, Any]] = {
    "greedy": {"do_sample": False},
    "sampling": {"do_sample": True, "temperature": 1.5},
    "nucleus": {"do_sample": True, "top_p": 0.9},
    "beams": {"do_sample": False, "num_beams": 4, "num_return_sequences": 4},
}


@pytest.fixture(scope="module")
def vocabulary(tokenizer: TalkPlayTokenizer) -> MusicVocabulary:
    return MusicVocabulary.of(tokenizer)


@pytest.fixture(scope="module")
def codes(tokenizer: TalkPlayTokenizer) -> np.ndarray:
    return read_token_catalog(tokenizer.side_file("token_catalog_file"))[1]


@pytest.fixture(scope="module")
def index(codes: np.ndarray, tokenizer: TalkPlayTokenizer) -> CatalogIndex:
    return CatalogIndex(codes, tokenizer.config.codes)


def prompts(tokenizer: TalkPlayTokenizer) -> list[list[int]]:
    """Prompts of different length; one plays music already."""
    short = [Message("user", "hi")]
    long = [
        Message("user", "something loud and slow, please"),
        Message("music"),
        Message("assistant", "Here."),
        Message("user", "more"),
    ]
    return [tokenizer.chat_ids(short, []), tokenizer.chat_ids(long, [(0, 1, 2, 3, 1)])]


def answers(
    model: LlamaForCausalLM,
    tokenizer: TalkPlayTokenizer,
    processor: MusicGrammarLogitsProcessor,
    rows: Sequence[list[int]],
    **options: Any,
) -> list[list[int]]:
    """What the model writes after each prompt, in one left-padded batch."""
    width = max(map(len, rows))
    ids = torch.full((len(rows), width), tokenizer.pad_token_id)
    mask = torch.zeros_like(ids)
    for at, row in enumerate(rows):
        ids[at, width - len(row) :] = torch.tensor(row)
        mask[at, width - len(row) :] = 1
    torch.manual_seed(0)
    output = model.generate(
        ids,
        attention_mask=mask,
        logits_processor=LogitsProcessorList([processor]),
        max_new_tokens=32,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        **options,
    )
    return [row[width:].tolist() for row in output]


def check(tokenizer: TalkPlayTokenizer, answer: list[int], tracks: int) -> list[tuple[int, ...]]:
    """Assert the form of an answer and give the codes of its blocks."""
    end = tracks * 7
    blocks = tokenizer.parse_blocks(answer)
    assert len(blocks) == tracks
    assert None not in blocks
    assert answer[:end] == [i for b in blocks for i in tokenizer.block_ids(b or ())]
    text = answer[end:]
    if tokenizer.eos_token_id in text:
        at = text.index(tokenizer.eos_token_id)
        assert set(text[at + 1 :]) <= {tokenizer.pad_token_id}
        text = text[:at]
    assert not set(text) & set(tokenizer.added_tokens_decoder)
    return [block for block in blocks if block is not None]


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("tracks", [1, 3])
def test_catalog_mode_plays_allowed_tracks_only(
    tiny_model: LlamaForCausalLM,
    tokenizer: TalkPlayTokenizer,
    vocabulary: MusicVocabulary,
    index: CatalogIndex,
    codes: np.ndarray,
    strategy: str,
    tracks: int,
) -> None:
    rows = prompts(tokenizer)
    for share in (1, 5, 60):
        allowed = np.arange(len(codes)) % share == 0
        processor = MusicGrammarLogitsProcessor(
            vocabulary, len(tokenizer), tracks=tracks, index=index, allowed=allowed
        )
        known = {tuple(code) for code in codes[allowed].tolist()}
        for answer in answers(tiny_model, tokenizer, processor, rows, **STRATEGIES[strategy]):
            assert set(check(tokenizer, answer, tracks)) <= known


@settings(deadline=None, max_examples=8)
@given(seed=st.integers(0, 10_000), data=st.data())
def test_whatever_the_weights_and_the_allowed_tracks(
    tokenizer: TalkPlayTokenizer,
    vocabulary: MusicVocabulary,
    index: CatalogIndex,
    codes: np.ndarray,
    seed: int,
    data: st.DataObject,
) -> None:
    model = scratch_model(tokenizer, hidden_size=32, layers=1, heads=1, seed=seed)
    grow_vocabulary(model, tokenizer, cov_scale=100.0, seed=seed)
    some = data.draw(st.sets(st.integers(0, len(codes) - 1), min_size=1, max_size=4))
    allowed = np.isin(np.arange(len(codes)), list(some))
    processor = MusicGrammarLogitsProcessor(
        vocabulary, len(tokenizer), index=index, allowed=allowed
    )
    known = {tuple(code) for code in codes[allowed].tolist()}
    for answer in answers(model.eval(), tokenizer, processor, prompts(tokenizer), do_sample=True):
        assert set(check(tokenizer, answer, 1)) <= known


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_grammar_alone_gives_well_formed_blocks(
    tiny_model: LlamaForCausalLM,
    tokenizer: TalkPlayTokenizer,
    vocabulary: MusicVocabulary,
    strategy: str,
) -> None:
    processor = MusicGrammarLogitsProcessor(vocabulary, len(tokenizer), tracks=2)
    rows = prompts(tokenizer)
    for answer in answers(tiny_model, tokenizer, processor, rows, **STRATEGIES[strategy]):
        check(tokenizer, answer, 2)


def test_a_batch_gives_what_single_prompts_give(
    tiny_model: LlamaForCausalLM,
    tokenizer: TalkPlayTokenizer,
    vocabulary: MusicVocabulary,
    index: CatalogIndex,
) -> None:
    processor = MusicGrammarLogitsProcessor(vocabulary, len(tokenizer), index=index)
    rows = prompts(tokenizer)
    together = answers(tiny_model, tokenizer, processor, rows, do_sample=False)
    for row, both in zip(rows, together, strict=True):
        alone = answers(tiny_model, tokenizer, processor, [row], do_sample=False)[0]
        assert both[:7] == alone[:7]


def test_rows_in_any_state_are_what_they_are_alone(
    tokenizer: TalkPlayTokenizer, vocabulary: MusicVocabulary, index: CatalogIndex
) -> None:
    """No state is kept: rows may be at different places and come in any order."""
    processor = MusicGrammarLogitsProcessor(vocabulary, len(tokenizer), tracks=2, index=index)
    path, node = [], 0
    for level in range(index.depth):
        node = int(index.children(level, np.array([node]))[1][0])
        path.append(int(index.codes[level][node]))
    block = tokenizer.block_ids(path)
    prompt = prompts(tokenizer)[1]
    text = tokenizer.encode("ok")
    places = [prompt + (block * 2 + text)[:length] for length in range(16)]
    width = max(map(len, places))
    rows = torch.full((len(places), width), tokenizer.pad_token_id)
    for at, place in enumerate(places):
        rows[at, width - len(place) :] = torch.tensor(place)
    scores = torch.zeros(len(places), len(tokenizer))
    together = processor(rows, scores)
    assert (together > -torch.inf).any(dim=1).all()
    for at in torch.randperm(len(places)).tolist():
        alone = processor(torch.tensor([places[at]]), scores[:1])
        assert torch.equal(together[at], alone[0])
    legal = [set((row > -torch.inf).nonzero()[:, 0].tolist()) for row in together]
    for at, token in enumerate(block * 2):
        assert token in legal[at]
    assert legal[0] == legal[7] == {vocabulary.start}
    assert legal[6] == legal[13] == {vocabulary.end}
    assert not legal[14] & {vocabulary.start, vocabulary.end, *vocabulary.control}
    assert vocabulary.end_of_turn in legal[14]


def test_scores_are_a_copy_and_legal_ones_unchanged(
    tokenizer: TalkPlayTokenizer, vocabulary: MusicVocabulary
) -> None:
    processor = MusicGrammarLogitsProcessor(vocabulary, len(tokenizer))
    ids = torch.tensor([prompts(tokenizer)[0] + tokenizer.block_ids([0] * 5)])
    scores = torch.randn(1, len(tokenizer))
    before = scores.clone()
    after = processor(ids, scores)
    assert torch.equal(scores, before)
    legal = after > -torch.inf
    assert torch.equal(after[legal], scores[legal])


def test_rows_beyond_the_tokenizer_are_banned_in_every_state(
    tokenizer: TalkPlayTokenizer, vocabulary: MusicVocabulary, index: CatalogIndex
) -> None:
    width = len(tokenizer) + 42
    answer = tokenizer.block_ids([0] * 5) + tokenizer.encode("ok")
    prompt = prompts(tokenizer)[0]
    for processor in (
        MusicGrammarLogitsProcessor(vocabulary, width),
        MusicGrammarLogitsProcessor(vocabulary, width, index=index),
    ):
        for length in (0, 1, 7, 8):
            ids = torch.tensor([prompt + answer[:length]])
            legal = processor(ids, torch.zeros(1, width))[0] > -torch.inf
            assert legal.any()
            assert not legal[len(tokenizer) :].any()


def test_a_block_that_leads_nowhere_is_not_gone_on_with(
    tokenizer: TalkPlayTokenizer, vocabulary: MusicVocabulary
) -> None:
    only = CatalogIndex(np.array([[1, 1, 1, 1, 1]]), tokenizer.config.codes)
    processor = MusicGrammarLogitsProcessor(vocabulary, len(tokenizer), index=only)
    ids = prompts(tokenizer)[0] + tokenizer.block_ids([1, 2, 1, 1, 1])[:3]
    with pytest.raises(NoTrackError, match="no allowed track"):
        processor(torch.tensor([ids]), torch.zeros(1, len(tokenizer)))


@pytest.mark.parametrize("tracks", [0, -1])
def test_no_track_at_all_is_refused(
    tokenizer: TalkPlayTokenizer, vocabulary: MusicVocabulary, tracks: int
) -> None:
    with pytest.raises(ConfigError, match=f"tracks {tracks}"):
        MusicGrammarLogitsProcessor(vocabulary, len(tokenizer), tracks=tracks)


def test_allowed_needs_an_index_and_a_track(
    tokenizer: TalkPlayTokenizer, vocabulary: MusicVocabulary, index: CatalogIndex
) -> None:
    none = np.zeros(len(index.order), dtype=bool)
    with pytest.raises(ConfigError, match="index"):
        MusicGrammarLogitsProcessor(vocabulary, len(tokenizer), allowed=~none)
    with pytest.raises(NoTrackError):
        MusicGrammarLogitsProcessor(vocabulary, len(tokenizer), index=index, allowed=none)


def test_the_vocabulary_parts_do_not_overlap(
    tokenizer: TalkPlayTokenizer, vocabulary: MusicVocabulary
) -> None:
    assert vocabulary.depth == 5
    music = {vocabulary.start, vocabulary.end, *range(*vocabulary.offsets[:: vocabulary.depth])}
    assert len(music) == 2 + sum(tokenizer.config.codes)
    assert not music & set(vocabulary.control)
    assert vocabulary.end_of_turn not in vocabulary.control
    everything = music | set(vocabulary.control) | {vocabulary.end_of_turn}
    assert everything == set(tokenizer.added_tokens_decoder)
