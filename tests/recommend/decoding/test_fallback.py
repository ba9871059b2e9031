"""Models that take no branching tokens: the same answers, in other ways."""

import copy
import logging
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from tiny_decoders import (
    CODES,
    DEPTH,
    OFFSETS,
    VOCABULARY,
    block_log_probs,
    random_codes,
    random_prompt,
    tiny_decoder,
)
from transformers import (
    AutoModelForCausalLM,
    BloomConfig,
    GPT2Config,
    GPTNeoXConfig,
    PreTrainedModel,
)

from talkplay_hf.recommend.decoding.beams import beam_search
from talkplay_hf.recommend.decoding.fallback import (
    generate_beams,
    sample_rows,
    score_tuples,
)
from talkplay_hf.recommend.decoding.sampling import sample_blocks
from talkplay_hf.recommend.grammar.constraints import processors
from talkplay_hf.recommend.recommender import Recommender
from talkplay_hf.tokens.index import CatalogIndex
from talkplay_hf.tokens.tokenizer import TalkPlayTokenizer
from talkplay_hf.training.model.vocabulary import grow_vocabulary

REQUEST = "something calm for the evening"
TABLE = random_codes(np.random.default_rng(1), 40)
INDEX = CatalogIndex(TABLE, (CODES,) * DEPTH)
PROMPT = random_prompt(np.random.default_rng(0), 12)
CATALOG: set[tuple[int, ...]] = {tuple(row) for row in TABLE.tolist()}


# --- against the block decoder, on a model that both can run ---------------------------------


@pytest.fixture(scope="module")
def llama() -> PreTrainedModel:
    """A model with settings of its own for `generate`, none of which may count."""
    model = tiny_decoder()
    own = model.generation_config
    own.repetition_penalty, own.no_repeat_ngram_size, own.top_k, own.temperature = 1.7, 2, 3, 0.2
    own.eos_token_id, own.do_sample, own.min_p = [1, OFFSETS[2]], True, 0.3
    return model


@pytest.mark.parametrize("constraint", ["catalog", "grammar", "none"])
@pytest.mark.parametrize("width", [1, 6])
def test_beams_are_those_of_the_block_decoder(
    llama: PreTrainedModel, constraint: str, width: int
) -> None:
    rules = processors(VOCABULARY, constraint, INDEX, [None])
    found = generate_beams(llama, PROMPT, VOCABULARY, rules, width=width)
    index, free = (INDEX if constraint == "catalog" else None), constraint == "none"
    wanted = beam_search(llama, [PROMPT], VOCABULARY, index, width=width, free=free)[0]
    np.testing.assert_array_equal(found.codes, wanted.codes)
    np.testing.assert_allclose(found.scores, wanted.scores, atol=1e-4)


def test_more_beams_than_tracks_are_all_tracks(llama: PreTrainedModel) -> None:
    mask = np.arange(len(TABLE)) < 5
    rules = processors(VOCABULARY, "catalog", INDEX, [mask])
    found = generate_beams(llama, PROMPT, VOCABULARY, rules, width=12)
    wanted = block_log_probs(llama, PROMPT, TABLE[:5])
    assert {tuple(row) for row in found.codes.tolist()} == set(wanted)
    np.testing.assert_allclose(
        found.scores, [wanted[tuple(row)] for row in found.codes.tolist()], atol=1e-4
    )


def test_tuples_are_scored_as_alone(llama: PreTrainedModel) -> None:
    wanted = block_log_probs(llama, PROMPT, TABLE)
    found = score_tuples(llama, PROMPT, np.tile(TABLE, (4, 1)), VOCABULARY)
    np.testing.assert_allclose(found, [wanted[tuple(r)] for r in TABLE.tolist()] * 4, atol=1e-4)


@pytest.mark.parametrize("constraint", ["catalog", "grammar", "none"])
@pytest.mark.parametrize("after_blocks", [False, True])
def test_samples_have_their_scores_and_leave_the_global_generator_alone(
    llama: PreTrainedModel, constraint: str, after_blocks: bool
) -> None:
    # a playlist that is continued has blocks right before the next one
    block = [VOCABULARY.start, *(np.array(OFFSETS[:-1]) + TABLE[0]).tolist(), VOCABULARY.end]
    prompt = [*PROMPT[:-1], *(block if after_blocks else [])]
    before = torch.random.get_rng_state()
    options: dict[str, Any] = {"draws": 30, "temperature": 1.0, "top_p": 1.0}
    options["free"] = constraint == "none"
    rules = processors(VOCABULARY, constraint, INDEX, [None])
    drawn, again, other = (
        sample_rows(llama, prompt, VOCABULARY, rules, rng=np.random.default_rng(seed), **options)
        for seed in (3, 3, 4)
    )
    assert torch.equal(torch.random.get_rng_state(), before)
    assert drawn.tokens.shape == (30, DEPTH + 2)
    assert (drawn.tokens == again.tokens).all()
    assert (drawn.tokens != other.tokens).any()
    if constraint == "none":
        assert (drawn.tokens < VOCABULARY.size).all()
        assert len({*drawn.tokens[:, 0].tolist()}) > 5
        return
    codes = drawn.tokens[:, 1:-1] - np.array(OFFSETS[:-1])
    wanted = block_log_probs(llama, [*prompt, VOCABULARY.start], codes)
    np.testing.assert_allclose(
        drawn.scores, [wanted[tuple(row)] for row in codes.tolist()], atol=1e-4
    )
    inside = {tuple(row) for row in codes.tolist()} <= CATALOG
    assert inside == (constraint == "catalog")


@pytest.mark.parametrize("constraint", ["catalog", "grammar", "none"])
def test_draws_are_those_of_the_block_decoder(llama: PreTrainedModel, constraint: str) -> None:
    options: dict[str, Any] = {"draws": 20, "temperature": 1.0, "top_p": 0.9}
    rows = sample_rows(
        llama,
        PROMPT[:-1],
        VOCABULARY,
        processors(VOCABULARY, constraint, INDEX, [None]),
        free=constraint == "none",
        rng=np.random.default_rng(5),
        **options,
    )
    rng = np.random.default_rng(5)
    blocks = sample_blocks(
        llama, PROMPT[:-1], VOCABULARY, rng=rng, constraint=constraint, index=INDEX, **options
    )
    # a row that has ended its turn draws no more, a branch does
    ended = rows.tokens == VOCABULARY.end_of_turn
    same = (rows.tokens == blocks.tokens) | (ended.cumsum(1) > 1)
    assert same.all()
    whole = ~ended.any(1)
    np.testing.assert_allclose(rows.scores[whole], blocks.scores[whole], atol=1e-4)


# --- a whole recommender ---------------------------------------------------------------------


@pytest.fixture(scope="module", params=["gpt2", "gpt_neox"])
def recommender(request: pytest.FixtureRequest, tokenizer: TalkPlayTokenizer) -> Recommender:
    shape: dict[str, Any] = {"vocab_size": tokenizer.config.base_vocab_size}
    if request.param == "gpt2":
        config = GPT2Config(n_embd=32, n_layer=2, n_head=2, n_positions=2048, **shape)
    else:
        config = GPTNeoXConfig(
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=48,
            tie_word_embeddings=True,
            **shape,
        )
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config)
    grow_vocabulary(model, tokenizer)
    return Recommender(model, tokenizer)


def test_a_model_without_a_limit_of_positions_answers(tokenizer: TalkPlayTokenizer) -> None:
    config = BloomConfig(
        vocab_size=tokenizer.config.base_vocab_size, hidden_size=32, n_layer=2, n_head=2
    )
    model = AutoModelForCausalLM.from_config(config)
    grow_vocabulary(model, tokenizer)
    alibi = Recommender(model, tokenizer)
    assert alibi.chat(REQUEST, seed=0, max_new_tokens=2).tracks
    assert alibi.rank(REQUEST, k=2, beam_width=4)


def test_a_warning_says_once_why_the_block_decoder_is_not_used(
    recommender: Recommender, caplog: pytest.LogCaptureFixture
) -> None:
    kind = recommender.model.config.model_type
    with caplog.at_level(logging.WARNING, "talkplay_hf"):
        other = Recommender(copy.copy(recommender.model), recommender.tokenizer)
        other.chat(REQUEST, seed=0, max_new_tokens=1)
        other.rank(REQUEST, k=2, beam_width=4)
    told = [record for record in caplog.records if "block decoder" in record.getMessage()]
    assert len(told) == 1
    assert f"models of type '{kind}'" in told[0].getMessage()


def test_beams_and_the_exact_ranking_are_those_of_teacher_forcing(
    recommender: Recommender,
) -> None:
    words = recommender.tokenizer
    prompt = [*recommender.prompt_ids(REQUEST), words.start_of_music_id]
    beam = recommender.rank(REQUEST, k=60, beam_width=60)
    exact = recommender.rank(REQUEST, k=60, strategy="exact")
    assert len(exact) == 60
    for found in (beam, exact):
        assert {s.track.track_id for s in found} == set(recommender.track_ids)
        for scored in found[::9]:
            block = words.block_ids(scored.codes)[1:-1]
            with torch.no_grad():
                logits = recommender.model(torch.tensor([prompt + block])).logits[0].double()
            log_probs = logits[len(prompt) - 1 : -1].log_softmax(-1)
            score = float(log_probs.gather(1, torch.tensor(block)[:, None]).sum())
            assert scored.score == pytest.approx(score, abs=1e-4)


@pytest.mark.parametrize("strategy", ["beam", "exact", "sampling", "expansion"])
@pytest.mark.parametrize("constraint", ["catalog", "grammar", "none"])
def test_every_way_of_ranking_works(
    recommender: Recommender, strategy: str, constraint: str
) -> None:
    if (strategy, constraint) in (("exact", "grammar"), ("exact", "none")):
        return
    options: dict[str, Any] = {"strategy": strategy, "constraint": constraint, "seed": 1}
    options |= {"k": 4, "beam_width": 8, "draws": 12}
    found = recommender.rank(REQUEST, **options)
    assert found == recommender.rank(REQUEST, **options)
    after = recommender.continue_playlist(recommender.track_ids[:3], **options)
    if constraint != "none":
        assert found
        assert after
    heard = set(recommender.track_ids[:3])
    assert not {scored.track.track_id for scored in after} & heard
    if constraint == "catalog" and strategy != "expansion":
        for scored in [*found, *after]:
            assert scored.codes == recommender.codes(scored.track.track_id)


def test_seeds_repeat_while_other_threads_draw(recommender: Recommender) -> None:
    def drawn(seed: int) -> list[str]:
        found = recommender.rank(REQUEST, k=5, strategy="sampling", draws=4, seed=seed)
        return [scored.track.track_id for scored in found]

    seeds = [0, 1, 2] * 4
    with ThreadPoolExecutor(3) as threads:
        assert list(threads.map(drawn, seeds)) == [drawn(seed) for seed in (0, 1, 2)] * 4


@pytest.mark.parametrize("strategy", ["sample", "rank"])
@pytest.mark.parametrize("tracks", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_chat_batch_and_stream_work(recommender: Recommender, strategy: str, tracks: int) -> None:
    options: dict[str, Any] = {"strategy": strategy, "tracks": tracks, "max_new_tokens": 4}
    alone = [
        recommender.chat(text, seed=seed, **options) for seed, text in enumerate((REQUEST, "hi"))
    ]
    *_, streamed = recommender.stream(REQUEST, seed=0, **options)
    assert streamed == alone[0]
    for one, other in zip(
        recommender.chat_batch([REQUEST, "hi"], seeds=[0, 1], **options), alone, strict=True
    ):
        assert one.codes == other.codes
        assert one.reply == other.reply
        assert len(one.tracks) == tracks
    ranking = {s.codes: s.score for s in recommender.rank(REQUEST, k=60, strategy="exact")}
    for codes, score in zip(alone[0].codes[:1], alone[0].scores, strict=False):
        assert score == pytest.approx(ranking[codes], abs=1e-4)
