"""A batch of token sequences in one cache, from which further tokens branch.

`generate` copies the prompt once a beam. Here a prompt is read once, and whatever branches from it
is fed as further tokens of the same sequence, each of which attends to a start of the sequence and
to its own ancestors only.
"""

from collections.abc import Sequence

import torch
from transformers import DynamicCache, PreTrainedModel

# decoders whose attention takes a mask of any form, and whose positions are what they are told
MODEL_TYPES = ("llama", "mistral", "qwen2", "qwen3")
ATTENTION = ("sdpa", "eager")
# rotary embeddings that depend on the longest position in the batch
LENGTH_DEPENDENT_ROPE = ("dynamic", "longrope")
# so many logits are held at a time, of that many tokens at least: what stays in the cache of a
# processor
LOGITS_ON_CPU, LOGITS_ON_GPU = 1 << 18, 1 << 26
TOKENS_AT_LEAST = 1024
# a head that cannot be cut up is given so many rows at a time
ROWS_OF_WHOLE_HEAD = 64


def why_unsupported(model: PreTrainedModel) -> str | None:
    """Why a model cannot be used with a `TokenTree`, or `None` where it can.

    Args:
        model (`PreTrainedModel`): A causal language model.
    """
    config = model.config
    if config.model_type not in MODEL_TYPES:
        return f"models of type {config.model_type!r} are not known to take branching tokens"
    if config._attn_implementation not in ATTENTION:
        return f"the attention {config._attn_implementation!r} takes no mask of branches"
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    if kinds != {"full_attention"} or (
        not getattr(config, "layer_types", None) and getattr(config, "sliding_window", None)
    ):
        return "its attention slides"
    rope = getattr(config, "rope_parameters", None) or {}
    if rope.get("rope_type") in LENGTH_DEPENDENT_ROPE:
        return f"its rotary embedding ({rope['rope_type']}) depends on the length"
    return None


class TokenTree:
    """Sequences in a cache, and tokens that branch from them.

    Args:
        model (`PreTrainedModel`): A model for which `why_unsupported` says nothing.
        cache (`DynamicCache`, *optional*): What the model has read of a single sequence already.

    Attributes:
        columns (`int`): Number of columns of the cache.
    """

    def __init__(self, model: PreTrainedModel, cache: DynamicCache | None = None) -> None:
        self._model = model
        self._decoder = model.get_decoder()
        self._head = model.get_output_embeddings()
        self.cache = DynamicCache(config=model.config) if cache is None else cache

    @property
    def columns(self) -> int:
        """Number of columns of the cache."""
        return int(self.cache.get_seq_length())

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        device: torch.device = self._model.device
        return device

    @torch.no_grad()
    def read(self, sequences: Sequence[Sequence[int]]) -> torch.Tensor:
        """Read sequences, or what follows those that were read.

        Shorter ones are padded on the right, where nothing attends to the padding.

        Args:
            sequences (`Sequence[Sequence[int]]`): Token ids of each sequence; only one where the
                cache holds something.

        Returns:
            `torch.Tensor` of shape `[sequences, longest, width]`: Hidden states.
        """
        longest = max(map(len, sequences))
        ids = torch.zeros(len(sequences), longest, dtype=torch.int64)
        for row, sequence in enumerate(sequences):
            ids[row, : len(sequence)] = torch.tensor(sequence, dtype=torch.int64)
        hidden: torch.Tensor = self._decoder(
            ids.to(self.device), past_key_values=self.cache, use_cache=True
        )[0]
        return hidden

    @torch.no_grad()
    def grow(
        self,
        tokens: torch.Tensor,
        positions: torch.Tensor,
        visible: torch.Tensor,
        *,
        chain: int = 1,
    ) -> torch.Tensor:
        """Feed tokens that branch from what is in the cache; each adds a column.

        Args:
            tokens (`torch.Tensor` of shape `[sequences, q]`, int64): The tokens.
            positions (`torch.Tensor` of shape `[sequences, q]`, int64): Their positions.
            visible (`torch.Tensor` of shape `[sequences, q, columns]`, bool): The columns that each
                attends to, besides its own.
            chain (`int`): So many tokens in a row follow one another: each attends to those
                before it in its chain.

        Returns:
            `torch.Tensor` of shape `[sequences, q, width]`: Hidden states.
        """
        count = tokens.shape[1]
        chains = torch.eye(count // chain, dtype=torch.bool, device=self.device)
        own = torch.kron(chains, chains.new_ones(chain, chain).tril())
        seen = torch.cat([visible, own.expand(len(tokens), -1, -1)], dim=-1)
        dtype = self._model.dtype
        mask = torch.zeros(seen.shape, dtype=dtype, device=self.device)
        mask.masked_fill_(~seen, torch.finfo(dtype).min)
        hidden: torch.Tensor = self._decoder(
            tokens,
            attention_mask=mask[:, None],
            position_ids=positions,
            past_key_values=self.cache,
            use_cache=True,
        )[0]
        return hidden

    @torch.no_grad()
    def log_probs(self, hidden: torch.Tensor, first: int, end: int) -> torch.Tensor:
        """Log-probabilities of a range of tokens, normalised over the full vocabulary.

        Args:
            hidden (`torch.Tensor` of shape `[rows, width]`): Hidden states.
            first (`int`): The first token of the range.
            end (`int`): One past its last.

        Returns:
            `torch.Tensor` of shape `[rows, end - first]`, float32.
        """
        if type(self._head) is not torch.nn.Linear:
            # a quantised or adapted head comes in one piece
            whole = [self._head(rows).float() for rows in torch.split(hidden, ROWS_OF_WHOLE_HEAD)]
            return torch.cat([logits[:, first:end] - _total(logits) for logits in whole])
        held = LOGITS_ON_CPU if hidden.device.type == "cpu" else LOGITS_ON_GPU
        step = max(TOKENS_AT_LEAST, held // max(1, len(hidden)))
        parts = [
            _total(self._logits(hidden, at, at + step))
            for at in range(0, len(self._head.weight), step)
        ]
        return self._logits(hidden, first, end) - _total(torch.cat(parts, dim=1))

    def _logits(self, hidden: torch.Tensor, first: int, end: int) -> torch.Tensor:
        bias = None if self._head.bias is None else self._head.bias[first:end]
        return torch.nn.functional.linear(hidden, self._head.weight[first:end], bias).float()

    def forget(self, columns: int) -> None:
        """Forget all but the first columns."""
        for layer in self.cache.layers:
            layer.keys, layer.values = layer.keys[..., :columns, :], layer.values[..., :columns, :]


def _total(logits: torch.Tensor) -> torch.Tensor:
    return torch.logsumexp(logits, dim=-1, keepdim=True)
