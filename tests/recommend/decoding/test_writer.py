"""The writer writes what `generate` does."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from tiny_decoders import (
    CODES,
    DEPTH,
    VOCABULARY,
    random_codes,
    random_prompt,
    tiny_decoder,
)
from transformers import DynamicCache, LogitsProcessorList, PreTrainedModel

from talkplay_hf.recommend.decoding.writer import write
from talkplay_hf.recommend.grammar.constraints import processors
from talkplay_hf.tokens.index import CatalogIndex

INDEX = CatalogIndex(random_codes(np.random.default_rng(0), 50), (CODES,) * DEPTH)
LIMIT = 16


@pytest.fixture(scope="module", params=["llama", "gpt_neox", "gpt2"])
def model(request: pytest.FixtureRequest) -> PreTrainedModel:
    options = {} if request.param == "llama" else {"num_key_value_heads": 4}
    return tiny_decoder(request.param, **options)


def rules(constraint: str) -> LogitsProcessorList:
    return processors(VOCABULARY, constraint, INDEX, [None])


def written(
    model: PreTrainedModel,
    rows: Sequence[Sequence[int]],
    constraint: str,
    *,
    seeds: Sequence[int] | None = None,
    limit: int = LIMIT,
) -> list[list[tuple[int, float]]]:
    steps = write(
        model,
        rows,
        rules(constraint),
        cache=DynamicCache(config=model.config),
        read=0,
        limit=limit,
        end_of_turn=VOCABULARY.end_of_turn,
        rngs=[np.random.default_rng(seed) for seed in seeds] if seeds else None,
    )
    found: list[list[tuple[int, float]]] = [[] for _ in rows]
    for step in steps:
        for row, one in zip(found, step, strict=True):
            row += [one] if one is not None else []
    return found


def prompt(seed: int, length: int = 11) -> list[int]:
    return random_prompt(np.random.default_rng(seed), length)[:-1]


def tokens(row: list[tuple[int, float]]) -> list[int]:
    return [token for token, _ in row]


@pytest.mark.parametrize("constraint", ["none", "grammar", "catalog"])
def test_greedy_is_that_of_generate(model: PreTrainedModel, constraint: str) -> None:
    for seed in range(2):
        ids = torch.tensor([prompt(seed)])
        output = model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            do_sample=False,
            max_new_tokens=LIMIT,
            eos_token_id=VOCABULARY.end_of_turn,
            pad_token_id=VOCABULARY.end_of_turn,
            logits_processor=rules(constraint),
        )[0, ids.shape[1] :].tolist()
        (row,) = written(model, [prompt(seed)], constraint)
        assert tokens(row) == output
        with torch.no_grad():
            logits = model(torch.tensor([[*prompt(seed), *output]])).logits[0].double()
        log_probs = logits[ids.shape[1] - 1 : -1].log_softmax(-1)
        wanted = log_probs.gather(1, torch.tensor(output)[:, None])[:, 0]
        np.testing.assert_allclose([score for _, score in row], wanted, atol=1e-4)


@pytest.mark.parametrize("seeds", [None, [3, 4, 5, 6]])
def test_a_row_of_a_batch_is_written_as_alone(
    model: PreTrainedModel, seeds: list[int] | None
) -> None:
    rows = [prompt(seed, length) for seed, length in ((0, 4), (1, 30), (2, 12), (3, 12))]
    together = written(model, rows, "catalog", seeds=seeds)
    for number, row in enumerate(rows):
        own = [seeds[number]] if seeds else None
        (alone,) = written(model, [row], "catalog", seeds=own)
        assert tokens(alone) == tokens(together[number])
        np.testing.assert_allclose(
            [score for _, score in alone], [score for _, score in together[number]], atol=1e-4
        )


def test_a_row_that_has_ended_says_no_more(model: PreTrainedModel) -> None:
    ends = {0: 3, 1: 9}

    def ending(ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        out = torch.full_like(scores, -torch.inf)
        out[:, 5] = 0.0
        for row, at in ends.items():
            if ids.shape[1] >= 6 + at:
                out[row, VOCABULARY.end_of_turn] = 1.0
        return out

    steps = list(
        write(
            model,
            [prompt(0, 7), prompt(1, 5)],
            ending,
            cache=DynamicCache(config=model.config),
            read=0,
            limit=99,
            end_of_turn=VOCABULARY.end_of_turn,
            rngs=None,
        )
    )
    assert len(steps) == ends[1] + 1
    assert [step[0] is None for step in steps] == [at > ends[0] for at in range(len(steps))]
    assert steps[-1][1] is not None
    assert steps[-1][1][0] == VOCABULARY.end_of_turn


def test_what_was_read_is_not_read_again(model: PreTrainedModel) -> None:
    row = prompt(0, 20)
    (wanted,) = written(model, [row], "grammar")
    for read in (1, 9, len(row) - 1):
        cache = DynamicCache(config=model.config)
        with torch.no_grad():
            model(torch.tensor([row[:read]]), past_key_values=cache, use_cache=True)
        steps = write(
            model,
            [row],
            rules("grammar"),
            cache=cache,
            read=read,
            limit=LIMIT,
            end_of_turn=VOCABULARY.end_of_turn,
            rngs=None,
        )
        found = [one for (one,) in steps if one is not None]
        assert tokens(found) == tokens(wanted)
        assert cache.get_seq_length() == len(row) + len(found) - 1


def test_nothing_is_written_where_there_is_no_room(model: PreTrainedModel) -> None:
    assert written(model, [prompt(0)], "none", limit=0) == [[]]
    assert len(written(model, [prompt(0)], "catalog", limit=1)[0]) == 1
