"""Decoders of random weights, and beam search by `generate` for comparison."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from talkplay_hf.recommend.grammar import MusicVocabulary

TEXT, CODES, DEPTH = 30, 12, 5
OFFSETS = tuple(TEXT + 2 + CODES * level for level in range(DEPTH + 1))
VOCABULARY = MusicVocabulary(TEXT, TEXT + 1, OFFSETS, 1, (0,), OFFSETS[-1])
# rows of the model that stand for no token
PADDING = 6


def tiny_decoder(kind: str = "llama", **options: Any) -> PreTrainedModel:
    """A causal language model of random weights that attends to what it reads."""
    settings = {
        "vocab_size": VOCABULARY.size + PADDING,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "sliding_window": None,
        "initializer_range": 0.3,
        "tie_word_embeddings": False,
        "pad_token_id": None,
        "bos_token_id": None,
        "eos_token_id": None,
    }
    torch.manual_seed(0)
    config = AutoConfig.for_model(kind, **{**settings, **options})
    attention = options.get("attn_implementation", "sdpa")
    return AutoModelForCausalLM.from_config(config, attn_implementation=attention).eval()


def random_prompt(rng: np.random.Generator, length: int) -> list[int]:
    """Text that ends with `<start_of_music>`."""
    return [*rng.integers(2, TEXT, length - 1).tolist(), VOCABULARY.start]


def random_codes(rng: np.random.Generator, tracks: int) -> np.ndarray:
    """Codes of a catalogue, some of them with the same beginning."""
    codes = rng.integers(0, CODES, (tracks, DEPTH))
    codes[: tracks // 2, :2] %= 3
    return codes


def generated_beams(
    model: PreTrainedModel, prompt: Sequence[int], codes: np.ndarray | None, width: int
) -> dict[tuple[int, ...], float]:
    """Beams of `generate` with their scores, within a dict trie of a catalogue if there is one."""
    trie: dict[int, Any] = {}
    for row in [] if codes is None else codes + np.array(OFFSETS[:-1]):
        node = trie
        for token in row.tolist():
            node = node.setdefault(token, {})

    def next_tokens(_: int, ids: torch.Tensor) -> list[int]:
        if codes is None:
            return list(range(VOCABULARY.size))
        node = trie
        for token in ids[len(prompt) :].tolist():
            node = node.get(token, {})
        # every beam has to be given something, also those that stand for none
        return list(node) or [0]

    ids = torch.tensor([list(prompt)])
    output = model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        prefix_allowed_tokens_fn=next_tokens,
        num_beams=width,
        num_return_sequences=width,
        do_sample=False,
        length_penalty=0.0,
        early_stopping=True,
        max_new_tokens=DEPTH,
        pad_token_id=0,
        return_dict_in_generate=True,
        output_scores=True,
    )
    tuples = (output.sequences[:, len(prompt) :].numpy() - np.array(OFFSETS[:-1])).tolist()
    scores = output.sequences_scores.tolist()
    return {tuple(one): score for one, score in zip(tuples, scores, strict=True) if score > -1e8}


def block_log_probs(
    model: PreTrainedModel, prompt: Sequence[int], codes: np.ndarray
) -> dict[tuple[int, ...], float]:
    """Log-probability of the tokens of each tuple, each read whole after the prompt."""
    tokens = torch.from_numpy(codes) + torch.tensor(OFFSETS[:-1])
    ids = torch.cat([torch.tensor([list(prompt)]).expand(len(codes), -1), tokens], dim=1)
    with torch.no_grad():
        logits = model(ids).logits[:, -DEPTH - 1 : -1].double()
    scores = logits.log_softmax(-1).gather(2, tokens[..., None]).sum((1, 2))
    return {tuple(row): float(score) for row, score in zip(codes.tolist(), scores, strict=True)}
