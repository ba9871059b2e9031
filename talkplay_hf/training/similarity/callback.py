"""`SelfSimilarityCallback`: the self-similarity loss for the stock `SFTTrainer` (paper 4.3)."""

import time
from collections import deque
from typing import Any

import torch
from torch.distributed.tensor import DTensor, distribute_tensor
from transformers import (
    PreTrainedModel,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from talkplay_hf.errors import ConfigError
from talkplay_hf.tokens.tokenizer import TalkPlayTokenizer
from talkplay_hf.training.similarity.geometry import geometry
from talkplay_hf.training.similarity.loss import (
    ModalityTarget,
    add_self_similarity_gradient,
    modality_targets,
    self_similarity_loss,
)

# steps that `cost` looks back on
RECENT = 100


class SelfSimilarityCallback(TrainerCallback):  # type: ignore[misc]
    """Adds λ times the gradient of the self-similarity loss, once an optimizer step.

    A callback cannot change the loss value, but `on_step_begin` comes after `zero_grad` and before
    the first micro-batch: what is put into `.grad` there adds up with the gradient of the
    cross-entropy, before clipping, whatever the accumulation and the number of processes (each of
    them adds the same, and DDP takes the mean). FSDP2 (`fsdp_version: 2`) works: the embedding is
    gathered and every process keeps its shard. With fp16 the loss scale is applied. The logged
    `loss` stays that of the trainer.

    DeepSpeed keeps gradients of its own and ignores `.grad`. There the trainer has to add
    `loss_term` to the loss of each micro-batch; one that does says so by `trainer_adds_loss = True`
    before training, and reads `in_loss`, which is set when training begins. ZeRO-3 splits the
    embedding and is refused.

    Only the input embeddings take part. Where the output head is tied they are the same rows; an
    untied head learns from the cross-entropy alone.

    Training logs get `self_similarity`, evaluations `eval_self_similarity`, `eval_spearman` and
    `eval_overlap_at_10` (see `geometry`), all of the weights as they are at that moment. Several
    validation sets are evaluated on the same weights, so each set's log holds the same figures.
    Reporters see them if this callback comes before: use `install`. With plain `callbacks=[...]`
    training is the same, and the figures are in `trainer.state.log_history`.

    Args:
        tokenizer (`TalkPlayTokenizer`): Where the centroids and token rows come from.
        weight (`float`): λ of the total loss (paper: 0.1); 0 only logs.

    Attributes:
        targets (`list[ModalityTarget]`): What the embeddings are compared with.
        trainer_adds_loss (`bool`): Whether the trainer adds `loss_term` when `in_loss` is set.
        in_loss (`bool`): Whether the loss has to come in through `loss_term`, and not here.

    Raises:
        ConfigError: At the start of training, if the embedding is frozen, has too few rows, or is
            kept in a way that the gradient cannot be added to.
    """

    def __init__(self, tokenizer: TalkPlayTokenizer, weight: float = 0.1) -> None:
        self.weight = weight
        self.targets = modality_targets(tokenizer)
        self.trainer_adds_loss = False
        self.in_loss = False
        self._readable = True
        self._buffer: torch.Tensor | None = None
        self._evaluated: tuple[Any, dict[str, float]] | None = None
        self._own: deque[Any] = deque(maxlen=RECENT)
        self._steps: deque[float] = deque(maxlen=RECENT)
        self._began = 0.0

    def install(self, trainer: Trainer) -> "SelfSimilarityCallback":
        """Put this callback before the others of a trainer, so that reporters see its figures."""
        trainer.callback_handler.callbacks.insert(0, self)
        return self

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: PreTrainedModel,
        **kwargs: Any,
    ) -> None:
        """Check that the gradient can be added, and move the targets to the device."""
        weight = model.get_input_embeddings().weight
        deepspeed = getattr(args, "deepspeed_plugin", None)
        rows = max((target.end for target in self.targets), default=0)
        self._readable = weight.ndim == 2 and len(weight) >= rows
        self.in_loss = bool(self.weight and deepspeed)
        self._buffer = None
        if self.weight:
            self._check(weight, deepspeed, rows)
        device = weight.device
        self.targets = [
            ModalityTarget(target.name, target.start, target.similarity.to(device))
            for target in self.targets
        ]

    def _check(self, weight: torch.Tensor, deepspeed: Any, rows: int) -> None:
        without = "or set self_similarity_weight: 0"
        if deepspeed and deepspeed.zero_stage == 3:
            raise ConfigError(
                "DeepSpeed ZeRO-3 splits the token embedding, so the self-similarity loss cannot "
                f"be computed; use ZeRO-2 or FSDP2, {without}"
            )
        if deepspeed and not self.trainer_adds_loss:
            raise ConfigError(
                "DeepSpeed keeps gradients of its own, so a callback cannot add the "
                "self-similarity loss to them; use TalkPlayTrainer, which adds it to the loss, "
                f"DDP or FSDP2, {without}"
            )
        if not weight.requires_grad:
            raise ConfigError(
                "the self-similarity loss trains the token embedding, which is frozen; with LoRA "
                f"set lora_modules_to_save / modules_to_save to embed_tokens, {without}"
            )
        if weight.ndim != 2:
            raise ConfigError(
                "FSDP version 1 flattens the token embedding, so the self-similarity loss cannot "
                f"be computed; set fsdp_version: 2, {without}"
            )
        if len(weight) < rows:
            raise ConfigError(
                f"the token embedding has {len(weight)} rows, the music tokens go up to row "
                f"{rows}: grow the vocabulary before training (grow_vocabulary)"
            )

    def on_step_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: PreTrainedModel,
        optimizer: Any = None,
        **kwargs: Any,
    ) -> None:
        """Put λ∇L into the gradient of the embedding."""
        self._began = time.perf_counter()
        if not self.weight or self.in_loss:
            return
        weight = model.get_input_embeddings().weight
        events = _events(weight)
        scale: float | torch.Tensor = self.weight
        scaler = getattr(optimizer, "scaler", None)
        if scaler is not None:
            # by its own method, which leaves the scale on the device
            scale = self.weight * scaler.scale(torch.ones((), device=weight.device))
        self._add(weight, scale)
        if events:
            events[1].record()
        self._own.append(events or time.perf_counter() - self._began)

    @torch.no_grad()
    def _add(self, weight: torch.Tensor, scale: float | torch.Tensor) -> None:
        if weight.grad is None:
            # the one of the last step is free again; a new one would cost half as much as the rest
            if self._buffer is None:
                self._buffer = torch.zeros_like(weight)
            weight.grad = self._buffer.zero_()
        if isinstance(weight, DTensor):
            full = weight.full_tensor()
            grad = torch.zeros_like(full)
            add_self_similarity_gradient(full, grad, self.targets, scale)
            weight.grad += distribute_tensor(
                grad, weight.device_mesh, weight.placements, src_data_rank=None
            )
        else:
            add_self_similarity_gradient(weight, weight.grad, self.targets, scale)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Take the time of the step."""
        self._steps.append(time.perf_counter() - self._began)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Let go of the buffer."""
        self._buffer = None

    def loss_term(self, model: PreTrainedModel, accumulation_steps: int) -> torch.Tensor:
        """What a trainer adds to the loss of each micro-batch when `in_loss` is set.

        Add it to a loss that is summed, not averaged, over micro-batches and averaged over
        processes, as that of `SFTTrainer.compute_loss` is, and in training only. For a logged loss
        that stays the cross-entropy, add `term - term.detach()`.

        Args:
            model (`PreTrainedModel`): The model that is trained.
            accumulation_steps (`int`): Micro-batches of this optimizer step:
                `trainer.current_gradient_accumulation_steps`, which is smaller at the end of an
                epoch.

        Returns:
            `torch.Tensor`: λ / `accumulation_steps` times the loss; a scalar, differentiable.
        """
        weight = model.get_input_embeddings().weight
        # half precision would lose most of the differences
        with torch.autocast(weight.device.type, enabled=False):
            return self.weight / accumulation_steps * self_similarity_loss(weight, self.targets)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: PreTrainedModel,
        logs: dict[str, Any],
        **kwargs: Any,
    ) -> None:
        """Log the loss beside the others, and the geometry at evaluation."""
        evaluation = any(key.startswith("eval_") for key in logs)
        if not self._readable or not (evaluation or "loss" in logs):
            return
        weight = model.get_input_embeddings().weight.detach()
        if evaluation:
            figures = self._evaluate(weight, state)
        else:
            figures = {"self_similarity": self._loss(_whole(weight))}
        logs |= figures
        if state.log_history:
            state.log_history[-1] |= figures

    def _evaluate(self, weight: torch.Tensor, state: TrainerState) -> dict[str, float]:
        # a second validation set comes with the same weights
        local = weight.to_local() if isinstance(weight, DTensor) else weight
        now = (state.global_step, local.data_ptr(), local._version)
        if self._evaluated is None or self._evaluated[0] != now:
            whole = _whole(weight)
            shape = geometry(whole, self.targets)
            figures = {"eval_self_similarity": self._loss(whole)}
            for key in ("spearman", "overlap_at_10"):
                if key in shape:
                    figures[f"eval_{key}"] = round(shape[key], 6)
            self._evaluated = (now, figures)
        return self._evaluated[1]

    def _loss(self, weight: torch.Tensor) -> float:
        with torch.no_grad():
            return round(float(self_similarity_loss(weight, self.targets)), 6)

    def cost(self) -> dict[str, float]:
        """What the gradient costs, as a mean over the last 100 optimizer steps.

        Returns:
            `dict[str, float]`: `seconds`, an optimizer step's time in this callback, and `share`,
            its part of the step's whole time, without logging, evaluation and saving. Both are 0
            where nothing was added here.
        """
        if not self._own or not self._steps:
            return {"seconds": 0.0, "share": 0.0}
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        own = [
            one if isinstance(one, float) else one[0].elapsed_time(one[1]) / 1e3
            for one in self._own
        ]
        seconds = sum(own) / len(own)
        return {"seconds": seconds, "share": seconds * len(self._steps) / sum(self._steps)}


def _whole(weight: torch.Tensor) -> torch.Tensor:
    """The embedding itself, gathered where it is sharded; all processes have to call this."""
    return weight.full_tensor() if isinstance(weight, DTensor) else weight


def _events(weight: torch.Tensor) -> tuple[torch.cuda.Event, torch.cuda.Event] | None:
    """A recorded and an open event on CUDA, where the host does not wait for the kernels."""
    if not weight.is_cuda:
        return None
    start = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
    end = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
    start.record()
    return start, end
