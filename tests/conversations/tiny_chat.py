"""A language model small enough for a test, saved as transformers saves one."""

from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

TEMPLATE = (
    "{% for m in messages %}{% if m.role == 'music' %}{{ raise_exception('no such role') }}"
    "{% endif %}<|{{ m.role }}|>{{ m.content }}<end>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def save_chat_model(folder: Path, context: int) -> None:
    """Save a byte-level Llama of random weights with a chat template, and with a generation config
    that would ruin every answer if it were heeded.

    Args:
        folder (`Path`): The folder to make.
        context (`int`): How many tokens its context holds.
    """
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Tokenizer(models.BPE({letter: at for at, letter in enumerate(alphabet)}, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<end>")
    tokenizer.add_special_tokens(
        {"additional_special_tokens": ["<|user|>", "<|assistant|>", "<|system|>", "<also-end>"]}
    )
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=context,
        initializer_range=0.3,
    )
    model = LlamaForCausalLM(config)
    ends = [tokenizer.eos_token_id, tokenizer.convert_tokens_to_ids("<also-end>")]
    model.generation_config = GenerationConfig(
        eos_token_id=ends,
        do_sample=True,
        temperature=0.01,
        top_k=1,
        repetition_penalty=9.0,
        suppress_tokens=list(range(200)),
        max_length=4,
    )
    model.save_pretrained(folder)
