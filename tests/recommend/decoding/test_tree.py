"""A token tree gives what reading each branch alone would give, and a cache to go on from."""

from typing import Any

import numpy as np
import pytest
import torch
from tiny_decoders import TEXT, VOCABULARY, random_prompt, tiny_decoder
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedModel

from talkplay_hf.recommend.decoding.frontier import Frontier
from talkplay_hf.recommend.decoding.tree import TokenTree, why_unsupported

BLOCK = [VOCABULARY.offsets[level] + code for level, code in enumerate((3, 0, 7, 11, 5))]


@pytest.fixture(scope="module")
def model() -> PreTrainedModel:
    return tiny_decoder()


@torch.no_grad()
def plain_logits(model: PreTrainedModel, ids: list[int]) -> torch.Tensor:
    return model(torch.tensor([ids])).logits[0]


@pytest.mark.parametrize("kind", ["llama", "mistral", "qwen2", "qwen3"])
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_llama_like_models_are_supported(kind: str, attention: str) -> None:
    assert why_unsupported(tiny_decoder(kind, attn_implementation=attention)) is None


@pytest.mark.parametrize(
    ("kind", "options", "reason"),
    [
        ("mistral", {"sliding_window": 8}, "slides"),
        (
            "qwen2",
            {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 1},
            "slides",
        ),
        (
            "llama",
            {"rope_parameters": {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}},
            "dynamic",
        ),
    ],
)
def test_other_models_are_refused_by_name(kind: str, options: dict[str, Any], reason: str) -> None:
    assert reason in str(why_unsupported(tiny_decoder(kind, **options)))


def test_gpt2_and_flash_attention_are_refused_by_name() -> None:
    config = GPT2Config(n_layer=1, n_head=2, n_embd=8, vocab_size=20)
    assert "gpt2" in str(why_unsupported(GPT2LMHeadModel(config)))
    flash = tiny_decoder()
    flash.config._attn_implementation = "flash_attention_2"
    assert "flash_attention_2" in str(why_unsupported(flash))


def test_log_probs_are_over_the_full_vocabulary(model: PreTrainedModel) -> None:
    prompt = random_prompt(np.random.default_rng(0), 9)
    tree = TokenTree(model)
    hidden = tree.read([prompt])
    found = tree.log_probs(hidden[0], TEXT, TEXT + 5)
    wanted = plain_logits(model, prompt).log_softmax(-1)[:, TEXT : TEXT + 5]
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=0)


def test_what_is_read_in_parts_equals_what_is_read_at_once(model: PreTrainedModel) -> None:
    prompt = random_prompt(np.random.default_rng(0), 12)
    tree = TokenTree(model)
    tree.read([prompt[:7]])
    hidden = tree.read([prompt[7:]])
    whole = TokenTree(model).read([prompt])
    assert tree.columns == 12
    torch.testing.assert_close(hidden, whole[:, 7:], atol=1e-5, rtol=1e-5)


def test_tokens_that_branch_do_not_see_one_another(model: PreTrainedModel) -> None:
    prompt = random_prompt(np.random.default_rng(1), 9)
    tree = TokenTree(model)
    tree.read([prompt])
    chains = [[33, 45, 60], [34, 47, 58], [33, 46, 59]]
    hidden = tree.grow(
        torch.tensor(chains).view(1, -1),
        torch.arange(9, 12).repeat(3)[None],
        torch.ones(1, 9, 9, dtype=torch.bool),
        chain=3,
    )
    assert tree.columns == 18
    for chain, states in zip(chains, hidden.view(3, 3, -1), strict=True):
        wanted = plain_logits(model, prompt + chain)[9:]
        torch.testing.assert_close(
            model.get_output_embeddings()(states), wanted, atol=1e-4, rtol=1e-4
        )


def go_on(model: PreTrainedModel, tree: TokenTree, ids: list[int]) -> torch.Tensor:
    """Logits of further tokens, read on the cache of a tree as anyone would."""
    with torch.no_grad():
        return model(torch.tensor([ids]), past_key_values=tree.cache, use_cache=True).logits[0]


def test_the_cache_that_forget_leaves_continues_as_a_plain_forward(model: PreTrainedModel) -> None:
    prompt = random_prompt(np.random.default_rng(3), 14)
    tree = TokenTree(model)
    hidden = tree.read([prompt])
    frontier = Frontier.at(tree, torch.tensor([[len(prompt)]]), hidden)
    frontier.choose(torch.zeros(1, 1, 2, dtype=torch.int64), torch.tensor([[[33, 40]]]))
    frontier.feed()
    tree.forget(len(prompt))
    assert tree.columns == len(prompt)
    found = go_on(model, tree, BLOCK)
    wanted = plain_logits(model, prompt + BLOCK)[-len(BLOCK) :]
    torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-4)


def test_generate_goes_on_from_the_cache_of_a_tree(model: PreTrainedModel) -> None:
    prompt = random_prompt(np.random.default_rng(4), 14)
    tree = TokenTree(model)
    tree.read([prompt])
    tree.grow(
        torch.tensor([BLOCK]),
        torch.arange(14, 19)[None],
        torch.ones(1, 5, 14, dtype=torch.bool),
        chain=5,
    )
    ids = torch.tensor([[*prompt, *BLOCK, VOCABULARY.end]])
    settings = {"attention_mask": torch.ones_like(ids), "max_new_tokens": 6, "do_sample": False}
    found = model.generate(ids, past_key_values=tree.cache, pad_token_id=0, **settings)
    assert found.tolist() == model.generate(ids, pad_token_id=0, **settings).tolist()
