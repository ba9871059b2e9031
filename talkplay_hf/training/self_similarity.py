"""The self-similarity loss (paper 5, Eq. 2) and its callback for the stock `SFTTrainer`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import (
    PreTrainedModel,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from talkplay_hf.errors import ConfigError
from talkplay_hf.tokens.build import load_centroids
from talkplay_hf.tokens.tokenizer import TalkPlayTokenizer


@dataclass(frozen=True)
class ModalityTarget:
    """What the embeddings of one modality's tokens should look alike.

    Args:
        start (`int`): Embedding row of code 0.
        similarity (`torch.Tensor` of shape `[k, k]`, float32): Cosine matrix of the centroids. A
            code that is reserved for "missing" has no centroid and takes no part.
    """

    start: int
    similarity: torch.Tensor


def modality_targets(tokenizer: TalkPlayTokenizer) -> list[ModalityTarget]:
    """The targets of all modalities with at least two centroids."""
    centroids = load_centroids(tokenizer.side_file("codebooks_file"))
    targets = []
    for number, name in enumerate(tokenizer.config.modalities):
        if len(centroids[name]) > 1:
            unit = torch.nn.functional.normalize(torch.from_numpy(centroids[name]), dim=1)
            targets.append(ModalityTarget(int(tokenizer.code_offsets[number]), unit @ unit.T))
    return targets


def self_similarity_loss(weight: torch.Tensor, targets: Sequence[ModalityTarget]) -> torch.Tensor:
    """Mean absolute difference between the cosine matrices of centroids and token embeddings.

    Eq. 2 of the paper, within a modality, averaged over modalities.

    Args:
        weight (`torch.Tensor` of shape `[vocabulary, d]`): The embedding matrix.
        targets (`Sequence[ModalityTarget]`): One per modality.

    Returns:
        `torch.Tensor`: A scalar, in the dtype of `weight`.
    """
    losses = []
    for target in targets:
        k = len(target.similarity)
        unit = torch.nn.functional.normalize(weight[target.start : target.start + k], dim=1)
        losses.append((target.similarity.to(unit) - unit @ unit.T).abs().mean())
    return torch.stack(losses).mean() if losses else weight.new_zeros(())


@torch.no_grad()
def add_self_similarity_gradient(
    weight: torch.Tensor, grad: torch.Tensor, targets: Sequence[ModalityTarget], scale: float
) -> torch.Tensor:
    """Add `scale` times the gradient of `self_similarity_loss` to `grad` in place.

    The analytic gradient; cheaper than autograd through the k × k products.

    Args:
        weight (`torch.Tensor` of shape `[vocabulary, d]`): The embedding matrix.
        grad (`torch.Tensor` of shape `[vocabulary, d]`): Its gradient; changed in place.
        targets (`Sequence[ModalityTarget]`): One per modality.
        scale (`float`): The weight λ of the loss.

    Returns:
        `torch.Tensor`: The loss itself, a scalar.
    """
    total = weight.new_zeros((), dtype=torch.promote_types(weight.dtype, torch.float32))
    for target in targets:
        k = len(target.similarity)
        rows = weight[target.start : target.start + k].to(total.dtype)
        norms = rows.norm(dim=1, keepdim=True).clamp_min(1e-12)
        unit = rows / norms
        difference = unit @ unit.T - target.similarity.to(unit)
        total += difference.abs().mean()
        toward = (2.0 / k**2) * (difference.sign() @ unit)
        gradient = (toward - unit * (unit * toward).sum(dim=1, keepdim=True)) / norms
        grad[target.start : target.start + k] += (scale / len(targets) * gradient).to(grad)
    return total / max(1, len(targets))


class SelfSimilarityCallback(TrainerCallback):  # type: ignore[misc]
    """Adds λ times the gradient of the self-similarity loss, once an optimizer step.

    A callback cannot change the loss value, but `on_step_begin` comes after `zero_grad` and before
    the first micro-batch: what is put into `.grad` there adds up with the gradient of the
    cross-entropy, before clipping, whatever the accumulation. The figure is logged as
    `self_similarity`.

    Args:
        tokenizer (`TalkPlayTokenizer`): Where the centroids and token rows come from.
        weight (`float`): λ of the total loss (paper: 0.1); 0 only logs.

    Raises:
        ConfigError: At the start of training, if the embedding is frozen or sharded.
    """

    def __init__(self, tokenizer: TalkPlayTokenizer, weight: float = 0.1) -> None:
        self.weight = weight
        self._targets = modality_targets(tokenizer)

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: PreTrainedModel,
        **kwargs: Any,
    ) -> None:
        """Check that the gradient can be added and move the targets to the device."""
        embedding = model.get_input_embeddings().weight
        if self.weight and not embedding.requires_grad:
            raise ConfigError(
                "the self-similarity loss trains the token embedding, which is frozen; with LoRA "
                "set modules_to_save=['embed_tokens'], or set self_similarity_weight: 0"
            )
        if getattr(args, "deepspeed", None) or type(embedding.data).__name__ == "DTensor":
            raise ConfigError(
                "the self-similarity loss cannot be added to a sharded embedding; use DDP, or set "
                "self_similarity_weight: 0"
            )
        self._targets = [
            ModalityTarget(target.start, target.similarity.to(embedding.device))
            for target in self._targets
        ]

    def on_step_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: PreTrainedModel,
        **kwargs: Any,
    ) -> None:
        """Put λ∇L into the gradient of the embedding."""
        if not self.weight:
            return
        embedding = model.get_input_embeddings().weight
        if embedding.grad is None:
            embedding.grad = torch.zeros_like(embedding)
        add_self_similarity_gradient(embedding, embedding.grad, self._targets, self.weight)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: PreTrainedModel,
        logs: dict[str, Any],
        **kwargs: Any,
    ) -> None:
        """Log the loss beside the others."""
        with torch.no_grad():
            loss = self_similarity_loss(model.get_input_embeddings().weight.detach(), self._targets)
        prefix = "eval_" if any(key.startswith("eval_") for key in logs) else ""
        logs[f"{prefix}self_similarity"] = round(float(loss), 6)
        if state.log_history:
            state.log_history[-1] |= {f"{prefix}self_similarity": round(float(loss), 6)}
