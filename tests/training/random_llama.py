"""Models that are made, not loaded."""

from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM


def random_llama(vocabulary: int, **options: Any) -> LlamaForCausalLM:
    """A Llama of one layer and random weights, the same each time.

    Args:
        vocabulary (`int`): Its tokens.
        options: What `LlamaConfig` takes.
    """
    torch.manual_seed(0)
    small = {
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
    }
    return LlamaForCausalLM(LlamaConfig(vocab_size=vocabulary, **small | options))
