"""Sampled blocks: distributed as the model says, within what is allowed."""

from collections import Counter

import numpy as np
import pytest
import torch
from scipy.stats import chisquare
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
from transformers import PreTrainedModel

from talkplay_hf.recommend.decoding import sampling
from talkplay_hf.recommend.decoding.sampling import SampledTokens, sample_blocks
from talkplay_hf.tokens.allowed import Allowed
from talkplay_hf.tokens.index import CatalogIndex

PROMPT = random_prompt(np.random.default_rng(0), 12)[:-1]
TABLE = random_codes(np.random.default_rng(1), 9)
INDEX = CatalogIndex(TABLE, (CODES,) * DEPTH)


@pytest.fixture(scope="module")
def model() -> PreTrainedModel:
    return tiny_decoder()


def sample(
    model: PreTrainedModel,
    constraint: str,
    draws: int,
    seed: int = 0,
    temperature: float = 1.0,
    top_p: float = 1.0,
    allowed: Allowed | None = None,
) -> SampledTokens:
    return sample_blocks(
        model,
        PROMPT,
        VOCABULARY,
        draws=draws,
        rng=np.random.default_rng(seed),
        temperature=temperature,
        top_p=top_p,
        constraint=constraint,
        index=INDEX,
        allowed=allowed,
    )


def codes_of(drawn: SampledTokens) -> np.ndarray:
    return drawn.tokens[:, 1:-1] - np.array(OFFSETS[:-1])


@pytest.mark.parametrize("constraint", ["catalog", "grammar"])
def test_blocks_are_well_formed_and_scored_over_the_whole_vocabulary(
    model: PreTrainedModel, constraint: str
) -> None:
    drawn = sample(model, constraint, 40)
    assert drawn.tokens.shape == (40, DEPTH + 2)
    assert (drawn.tokens[:, [0, -1]] == [VOCABULARY.start, VOCABULARY.end]).all()
    codes = codes_of(drawn)
    assert ((codes >= 0) & (codes < CODES)).all()
    wanted = block_log_probs(model, [*PROMPT, VOCABULARY.start], codes)
    np.testing.assert_allclose(
        drawn.scores, [wanted[tuple(row)] for row in codes.tolist()], atol=1e-4
    )
    if constraint == "catalog":
        assert {*map(tuple, codes.tolist())} <= {*map(tuple, TABLE.tolist())}


def test_only_allowed_tracks_are_drawn(model: PreTrainedModel) -> None:
    mask = np.arange(len(TABLE)) % 4 == 1
    drawn = sample(model, "catalog", 60, allowed=Allowed.of(INDEX, [mask]))
    assert {*map(tuple, codes_of(drawn).tolist())} == {*map(tuple, TABLE[mask].tolist())}


def test_tracks_are_drawn_as_often_as_their_tokens_are(model: PreTrainedModel) -> None:
    """Level by level, the probability of a token among those that lead to a track."""
    draws = 2000
    tuples = np.unique(TABLE, axis=0)
    chance = np.ones(len(tuples))
    for number, row in enumerate(tuples):
        for level in range(DEPTH):
            prefix = (row[:level] + np.array(OFFSETS[:level])).tolist()
            with torch.no_grad():
                logits = model(torch.tensor([[*PROMPT, VOCABULARY.start, *prefix]])).logits[0, -1]
            alike = tuples[(tuples[:, :level] == row[:level]).all(1)]
            options = torch.tensor(np.unique(alike[:, level]) + OFFSETS[level])
            own = logits[OFFSETS[level] + row[level]] - logits[options].logsumexp(-1)
            chance[number] *= float(own.double().exp())
    assert chance.sum() == pytest.approx(1.0, abs=1e-5)
    counts = Counter(map(tuple, codes_of(sample(model, "catalog", draws)).tolist()))
    observed = np.array([counts[tuple(row)] for row in tuples.tolist()])
    common = chance * draws >= 5
    expected = np.append(chance[common], chance[~common].sum() + 1e-9) * draws
    found = np.append(observed[common], observed[~common].sum())
    assert common.sum() > 2
    assert chisquare(found, expected * found.sum() / expected.sum()).pvalue > 1e-3


def test_a_low_temperature_or_a_small_nucleus_is_greedy(model: PreTrainedModel) -> None:
    for drawn in (
        sample(model, "grammar", 20, temperature=1e-4),
        sample(model, "grammar", 20, top_p=1e-9),
    ):
        assert len({*map(tuple, drawn.tokens.tolist())}) == 1
    assert len({*map(tuple, sample(model, "grammar", 20).tokens.tolist())}) > 10


def test_without_constraint_any_token_is_drawn_from_where_the_answer_begins(
    model: PreTrainedModel,
) -> None:
    drawn = sample(model, "none", 200)
    assert drawn.tokens.shape == (200, DEPTH + 2)
    assert len({*drawn.tokens[:, 0].tolist()}) > 5
    assert (drawn.tokens < VOCABULARY.size).all()
    with torch.no_grad():
        ids = torch.tensor(drawn.tokens[:5])
        whole = torch.cat([torch.tensor([PROMPT]).expand(5, -1), ids], dim=1)
        log_probs = model(whole).logits[:, len(PROMPT) : -2].double().log_softmax(-1)
    wanted = log_probs.gather(2, ids[:, 1:-1, None]).sum((1, 2))
    np.testing.assert_allclose(drawn.scores[:5], wanted, atol=1e-4)


def test_many_draws_are_made_in_parts(
    model: PreTrainedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = sample(model, "catalog", 7)
    monkeypatch.setattr(sampling, "DRAWS_AT_A_TIME", 3)
    parts = sample(model, "catalog", 7)
    assert parts.tokens.shape == whole.tokens.shape
    wanted = block_log_probs(model, [*PROMPT, VOCABULARY.start], codes_of(parts))
    found = [wanted[tuple(row)] for row in codes_of(parts).tolist()]
    np.testing.assert_allclose(parts.scores, found, atol=1e-4)
    again = sample(model, "catalog", 7)
    assert (again.tokens == parts.tokens).all()
    assert (sample(model, "grammar", 7, seed=1).tokens != sample(model, "grammar", 7).tokens).any()
