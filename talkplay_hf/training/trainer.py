"""A faster `SFTTrainer`: cross-entropy at label positions only, and what it is made of, logged."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel
from trl import SFTTrainer

from talkplay_hf.errors import ConfigError
from talkplay_hf.tokens.tokenizer import TalkPlayTokenizer
from talkplay_hf.training.rows.encode import IGNORED, PARTS
from talkplay_hf.training.similarity.callback import SelfSimilarityCallback

# what a label token is; what it belongs to is in `PARTS`
KINDS = ("music", "text")

Batch = dict[str, Any]
Collator = Callable[[Sequence[Batch]], Batch]


class TalkPlayTrainer(SFTTrainer):  # type: ignore[misc]
    """TRL's `SFTTrainer` with the same loss, computed where there are labels only.

    The stock trainer multiplies every position with the output head on a CPU; here the hidden
    states without a label are left out before it, which gives the same loss and gradient. The
    cross-entropy is logged by part as well: `loss_conversations`, `loss_playlists` (the two sums
    of Eq. 1 of the paper), `loss_music` and `loss_text`; with `eval_<set>_` before it in
    evaluation.

    Args:
        tokenizer (`TalkPlayTokenizer`): The grown tokenizer.
        self_similarity (`SelfSimilarityCallback`): Where the gradient of the embedding cannot be
            changed from outside (DeepSpeed), its loss is added here.
        kwargs: Those of `SFTTrainer`. Rows need the column `part`, one value of `PARTS` a token.

    Raises:
        ConfigError: If the recipe asks for a loss that is not plain cross-entropy, or metrics are
            to be made from logits.
    """

    data_collator: Collator
    _signature_columns: list[str]

    def __init__(
        self,
        *,
        tokenizer: TalkPlayTokenizer,
        self_similarity: SelfSimilarityCallback,
        **kwargs: Any,
    ) -> None:
        self._self_similarity = self_similarity
        self_similarity.trainer_adds_loss = True
        self._first_music = tokenizer.config.base_vocab_size
        # by mode: sums and counts of the cross-entropy by part, then by kind
        self._sums: dict[str, torch.Tensor] = {}
        if kwargs.get("compute_metrics") is not None:
            raise ConfigError("metrics from logits are not supported; leave compute_metrics out")
        super().__init__(processing_class=tokenizer, **kwargs)
        if self.aux_loss_enabled or self.label_smoother is not None or self.args.loss_type != "nll":
            raise ConfigError(
                "cross-entropy at label positions only knows no label smoothing, no other "
                "loss_type and no auxiliary loss of experts; set label_positions_only: false"
            )
        self.data_collator = _with_parts(self.data_collator)

    def _set_signature_columns_if_needed(self) -> None:
        super()._set_signature_columns_if_needed()
        if "part" not in self._signature_columns:
            self._signature_columns = [*self._signature_columns, "part"]

    def compute_loss(
        self,
        model: nn.Module,
        inputs: Batch,
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> torch.Tensor:
        """The mean cross-entropy of the labels, as `SFTTrainer.compute_loss` gives it."""
        if return_outputs:
            raise ConfigError("predictions from logits are not supported; call evaluate instead")
        mode = "train" if self.model.training else "eval"
        inputs = dict(inputs)
        parts = inputs.pop("part")[:, 1:]
        labels = inputs.pop("labels")[:, 1:]
        wanted = labels != IGNORED
        logits = _logits_where(model, self._plain(model), inputs, wanted)
        targets = labels[wanted]
        each = nn.functional.cross_entropy(logits.float(), targets, reduction="none")
        self._count(mode, each.detach(), parts[wanted], targets)
        with torch.no_grad():
            self._note(mode, inputs, logits, targets)
        count = len(targets) if num_items_in_batch is None else num_items_in_batch
        loss = each.sum() / torch.as_tensor(count, device=each.device).clamp(min=1)
        if self.args.average_tokens_across_devices and num_items_in_batch is not None:
            # the count is over all processes, whose gradients are averaged
            loss = loss * self.accelerator.num_processes
        if mode == "train" and self._self_similarity.in_loss:
            steps = (
                self.current_gradient_accumulation_steps if num_items_in_batch is not None else 1
            )
            term = self._self_similarity.loss_term(self._plain(model), steps)
            # the logged loss stays the cross-entropy, as where the callback adds the gradient
            loss = loss + term - term.detach()
        return loss

    def _plain(self, model: nn.Module) -> PreTrainedModel:
        return self.accelerator.unwrap_model(model)

    def _note(self, mode: str, inputs: Batch, logits: torch.Tensor, targets: torch.Tensor) -> None:
        """The figures that the stock trainer logs beside the loss."""
        right = (logits.argmax(dim=-1) == targets).sum()
        tokens = inputs["attention_mask" if "attention_mask" in inputs else "position_ids"]
        seen = tokens.sum() if "attention_mask" in inputs else torch.tensor(tokens.numel())
        local = torch.stack([right, right.new_tensor(len(targets)), seen.to(right)])
        right, count, seen = self.accelerator.reduce(local, "sum").tolist()
        self._metrics[mode]["mean_token_accuracy"].append(right / max(1, count))
        if mode == "train":
            self._total_train_tokens += int(seen)
        self._metrics[mode]["num_tokens"] = [self._total_train_tokens]

    def _count(
        self, mode: str, each: torch.Tensor, parts: torch.Tensor, targets: torch.Tensor
    ) -> None:
        """Add to the sums by part and kind."""
        groups = torch.stack([parts.long(), 2 + (targets < self._first_music).long()])
        sums = self._sums.setdefault(mode, torch.zeros(2, 4, device=each.device))
        for group in groups:
            sums[0].index_add_(0, group, each.float())
            sums[1].index_add_(0, group, torch.ones_like(each, dtype=torch.float32))

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log the cross-entropy by part beside the rest."""
        mode = "train" if self.model.training else "eval"
        loss = next((key for key in logs if key.endswith("loss")), None)
        if loss is not None and mode in self._sums:
            total, count = self.accelerator.reduce(self._sums.pop(mode), "sum").tolist()
            for name, value, many in zip((*PARTS, *KINDS), total, count, strict=True):
                if many:
                    logs[f"{loss}_{name}"] = value / many
        if loss is not None and mode == "eval" and "mean_token_accuracy" in self._metrics[mode]:
            # named after its validation set, or that of the last one would stand for all
            right = self._metrics[mode].pop("mean_token_accuracy")
            name = loss.removeprefix("eval_").removesuffix("loss")
            self._metrics[mode][f"{name}mean_token_accuracy"] = right
        super().log(logs, start_time)


def _logits_where(
    model: nn.Module, plain: PreTrainedModel, inputs: Batch, wanted: torch.Tensor
) -> torch.Tensor:
    """Logits `[n, vocabulary]` of the positions whose next token is a label."""

    def keep(head: nn.Module, states: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        return (states[0][:, :-1][wanted], *states[1:])

    hook = plain.get_output_embeddings().register_forward_pre_hook(keep)
    try:
        logits: torch.Tensor = model(**inputs, use_cache=False).logits
    finally:
        hook.remove()
    return logits


def _with_parts(collate: Collator) -> Collator:
    """Let a collator of TRL pass the column `part` on, laid out like the labels."""

    def with_parts(rows: Sequence[Batch]) -> Batch:
        batch = collate(rows)
        shape = batch["labels"].shape
        parts = torch.zeros(shape, dtype=torch.int8)
        if len(rows) == shape[0]:
            for at, row in enumerate(rows):
                parts[at, : len(row["part"])] = torch.tensor(row["part"], dtype=torch.int8)
        else:
            flat = torch.cat([torch.tensor(row["part"], dtype=torch.int8) for row in rows])
            parts[0, : len(flat)] = flat
        batch["part"] = parts
        return batch

    return with_parts
