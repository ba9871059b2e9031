"""Packing: several rows in one, where the model keeps them apart.

Rows are packed by TRL, best fit first (`bfd`). Its collator then gives the model `position_ids`
that start anew with every document and no attention mask, and its trainer turns the cache off;
from these transformers builds a mask that keeps documents apart. With a cache it does not.
"""

from pathlib import Path

import torch
from datasets import Dataset
from transformers import PreTrainedModel
from trl import SFTConfig
from trl.data_utils import pack_dataset

from talkplay_hf.errors import ConfigError

STRATEGY = "bfd"
# of the spread of the logits; leaking documents differ by about as much as the spread
TOLERANCE = 0.02


def check_packing(config: SFTConfig, model: PreTrainedModel) -> None:
    """Refuse packing where documents would see each other or be cut.

    Flash attention is trusted with `position_ids`, since it cannot be tried on every device. With
    any other attention two short documents are given to the model as the trainer would, once with
    another first document, which must not change what the model says about the second.

    Args:
        config (`SFTConfig`): TRL's training arguments.
        model (`PreTrainedModel`): The model, in training or in evaluation mode; it is left so.

    Raises:
        ConfigError: If packing is asked for and not safe; the message names the attention
            implementation or the option.
    """
    if not config.packing:
        if config.eval_packing:
            raise ConfigError("eval_packing: needs packing: true as well")
        return
    if config.packing_strategy != STRATEGY:
        raise ConfigError(
            f"packing_strategy {config.packing_strategy!r}: cuts rows, and music blocks with "
            f"them; use {STRATEGY!r}"
        )
    attention = str(model.config._attn_implementation)
    if "flash" in attention:
        return
    if _partitioned(model):
        raise ConfigError(
            f"packing with attn_implementation {attention!r} cannot be tried on a model whose "
            "weights are spread over processes; use flash_attention_2, or packing: false"
        )
    if documents_leak(model):
        raise ConfigError(
            f"packing: with attn_implementation {attention!r} packed documents of "
            f"{type(model).__name__} see each other; use sdpa or flash_attention_2, or packing: "
            "false"
        )


def documents_leak(model: PreTrainedModel) -> bool:
    """Whether the first of two packed documents changes the logits of the second.

    Args:
        model (`PreTrainedModel`): The model, in training or in evaluation mode; it is left so.
    """
    length = 8
    ids = torch.arange(1, 2 * length + 1) % model.config.get_text_config().vocab_size
    other = ids.clone()
    other[:length] = ids[:length].flip(0)
    positions = torch.arange(length).repeat(2)
    training = model.training
    model.eval()
    with torch.no_grad():
        first, second = (
            model(
                input_ids=one[None].to(model.device),
                position_ids=positions[None].to(model.device),
                use_cache=False,
            )
            .logits[0, length:]
            .float()
            for one in (ids, other)
        )
    model.train(training)
    return bool((first - second).abs().max() > TOLERANCE * first.std())


def _partitioned(model: PreTrainedModel) -> bool:
    return any(hasattr(weight, "ds_id") or weight.is_meta for weight in model.parameters())


def pack(rows: Dataset, max_length: int, path: Path) -> Dataset:
    """Pack rows best fit first into a new Arrow file.

    Args:
        rows (`Dataset`): Rows of at most `max_length` tokens, all columns lists of one value a
            token.
        max_length (`int`): Tokens of a packed row at most.
        path (`Path`): The file to write.

    Returns:
        `Dataset`: The packed rows, with `seq_lengths`: the lengths of the rows in each.
    """
    packed: Dataset = pack_dataset(
        rows, max_length, STRATEGY, {"cache_file_name": str(path), "load_from_cache_file": False}
    )
    return packed
