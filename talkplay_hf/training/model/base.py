"""The model that training starts from: made from scratch, or loaded and checked."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.models.auto.tokenization_auto import get_tokenizer_config

from talkplay_hf.errors import ArtifactError, first_line
from talkplay_hf.tokens.tokenizer import TalkPlayTokenizer

# what transformers raises on files that are missing, damaged, or of something else
LOADING_ERRORS = (OSError, ValueError, KeyError, RuntimeError, ImportError, SafetensorError)


def scratch_model(
    tokenizer: TalkPlayTokenizer, *, hidden_size: int, layers: int, heads: int, seed: int
) -> LlamaForCausalLM:
    """A small Llama with random weights and the vocabulary that the tokenizer had before growth.

    The seed of the process is left as it is.

    Args:
        tokenizer (`TalkPlayTokenizer`): The grown tokenizer.
        hidden_size (`int`): Width.
        layers (`int`): Number of layers.
        heads (`int`): Attention heads; must divide the width.
        seed (`int`): Seed of the weights.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LlamaForCausalLM(
            LlamaConfig(
                vocab_size=tokenizer.config.base_vocab_size,
                hidden_size=hidden_size,
                intermediate_size=max(1, int(8 * hidden_size / 3 / 32)) * 32,
                num_hidden_layers=layers,
                num_attention_heads=heads,
                num_key_value_heads=heads,
                max_position_embeddings=2048,
                tie_word_embeddings=True,
                bos_token_id=tokenizer.bos_token_id,
                eos_token_id=tokenizer.eos_token_id,
                pad_token_id=tokenizer.pad_token_id,
            )
        )


def load_base(
    name: str,
    tokenizer: TalkPlayTokenizer,
    *,
    revision: str | None = None,
    dtype: str = "float32",
    attn_implementation: str | None = None,
) -> PreTrainedModel:
    """Load the base model and check that it belongs to the tokenizer; its vocabulary is not grown.

    Config and tokenizer are checked before the weights are read. A model that was trained with the
    same codebooks is a base like any other: training goes on from it, and `grow_vocabulary` leaves
    it as it is. Where a base comes without a tokenizer of its own, tokens cannot be compared and
    only the number of rows is checked. Code that comes with a model is never run.

    Args:
        name (`str`): Hub id or folder.
        tokenizer (`TalkPlayTokenizer`): The grown tokenizer.
        revision (`str`, *optional*): Branch, tag or commit on the Hub.
        dtype (`str`): Of the weights; float32 keeps master weights for mixed precision.
        attn_implementation (`str`, *optional*): Such as `"sdpa"`; the model's own choice when left
            out.

    Raises:
        ArtifactError: If the model cannot be loaded or weights are missing; if its tokenizer is not
            the one that was grown, or has music tokens already; if it has fewer rows than the base
            vocabulary; or if it was trained with other codebooks.
    """
    if name.startswith((".", "/", "~")) and not Path(name).is_dir():
        raise ArtifactError(f"the base model {name!r} cannot be loaded: no such folder")
    where: dict[str, Any] = {"revision": revision, "trust_remote_code": False}
    with _loading(name):
        config = AutoConfig.from_pretrained(name, **where)
    trained = already_grown(config, tokenizer, f"the base model {name!r}")
    check_rows(config.get_text_config().vocab_size, tokenizer, trained=trained)
    own = _own_tokenizer(name, where)
    if own is not None:
        _check_tokens(name, own, tokenizer, trained=trained)
    with _loading(name):
        model, info = AutoModelForCausalLM.from_pretrained(
            name,
            dtype=dtype,
            attn_implementation=attn_implementation,
            output_loading_info=True,
            **where,
        )
    missing = sorted(info["missing_keys"])
    if missing:
        raise ArtifactError(
            f"the base model {name!r} is not complete: {missing[0]} and {len(missing) - 1} more "
            "weights are missing and would start as random numbers"
        )
    loaded: PreTrainedModel = model
    return loaded


@contextlib.contextmanager
def _loading(name: str) -> Iterator[None]:
    try:
        yield
    except LOADING_ERRORS as error:
        first = first_line(error)
        raise ArtifactError(f"the base model {name!r} cannot be loaded: {first}") from None


def already_grown(
    config: PreTrainedConfig, tokenizer: TalkPlayTokenizer, name: str = "the model"
) -> bool:
    """Whether a model has the tokenizer's music tokens already, because it was grown before.

    Args:
        config (`PreTrainedConfig`): Of the model.
        tokenizer (`TalkPlayTokenizer`): The grown tokenizer.
        name (`str`): What the model is, for the error.

    Raises:
        ArtifactError: If it was grown with other codebooks.
    """
    found = getattr(config, "talkplay_codebook_hash", None)
    wanted = tokenizer.config.codebook_hash
    if found not in (None, wanted):
        raise ArtifactError(
            f"{name} is a TalkPlay model of other codebooks ({found[:12]}…; the tokenizer has "
            f"{wanted[:12]}…): go on training with the tokenizer of that model, or start from the "
            "model that it was made from"
        )
    return found is not None


def check_rows(rows: int, tokenizer: TalkPlayTokenizer, *, trained: bool = False) -> None:
    """Check the number of embedding rows of a base model.

    Args:
        rows (`int`): Rows; more than tokens in a padded vocabulary.
        tokenizer (`TalkPlayTokenizer`): The grown tokenizer.
        trained (`bool`): Whether the model has music tokens already, see `already_grown`.

    Raises:
        ArtifactError: If there are fewer rows than the base vocabulary has tokens, or, in a trained
            model, not one a token.
    """
    base, grown = tokenizer.config.base_vocab_size, len(tokenizer)
    if trained and rows != grown:
        raise ArtifactError(
            f"the base model is a TalkPlay model of {rows} tokens, the tokenizer has {grown}: "
            "they do not belong together"
        )
    if rows < base:
        raise ArtifactError(
            f"the base model has {rows} embedding rows, the tokenizer grew from {base} tokens: "
            "they do not belong together"
        )


def _own_tokenizer(name: str, where: dict[str, Any]) -> PreTrainedTokenizerBase | None:
    # where there are no tokenizer files, AutoTokenizer may make an empty one from the model's type
    if not get_tokenizer_config(name, **where):
        return None
    try:
        return AutoTokenizer.from_pretrained(name, **where)
    except Exception:  # of any kind: the tokenizers library raises plain ones
        return None


def _check_tokens(
    name: str, own: PreTrainedTokenizerBase, tokenizer: TalkPlayTokenizer, *, trained: bool
) -> None:
    theirs, ours = own.get_vocab(), tokenizer.get_vocab()
    music = tokenizer.config.music_tokens
    if not trained:
        already = [token for token in music if token in theirs]
        if already:
            raise ArtifactError(
                f"the tokenizer of the base model {name!r} already has {already[0]!r} and "
                f"{len(already) - 1} more music tokens, but its config names no codebooks; start "
                "from a base model that was not grown"
            )
        ours = {token: number for token, number in ours.items() if token not in set(music)}
    different = min(
        theirs.items() ^ ours.items(), key=lambda item: (item[1], item[0]), default=None
    )
    if different is not None:
        token = different[0]
        raise ArtifactError(
            f"the tokenizer of the base model {name!r} is not the one that the tokenizer folder "
            f"was grown from ({tokenizer.config.base}): token {token!r} is number "
            f"{theirs.get(token, 'none')} in the base and {ours.get(token, 'none')} in the folder; "
            "make the folder again with this base (talkplay tokenize --base)"
        )
