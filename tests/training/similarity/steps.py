"""Optimizer steps of the stock SFTTrainer on a tiny model, with every gradient kept.

Run under `torchrun` as `steps.py TOKENIZER OUT CASES` it makes the steps of several cases in each
process; `CASES` is a JSON file of lists of keyword arguments for `take_steps`, by name.
"""

import os

os.environ["OMP_NUM_THREADS"] = "1"

import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from torch.distributed.tensor import DTensor
from transformers import LlamaConfig, LlamaForCausalLM, TrainerCallback
from transformers.distributed import DistributedConfig
from trl import SFTConfig, SFTTrainer

from talkplay_hf.tokens.tokenizer import TalkPlayTokenizer
from talkplay_hf.training.similarity.callback import SelfSimilarityCallback
from talkplay_hf.training.similarity.loss import self_similarity_loss

Gradients = dict[str, torch.Tensor]


def small_model(
    tokenizer: TalkPlayTokenizer, *, tied: bool = True, dtype: str = "float32"
) -> LlamaForCausalLM:
    """A Llama of random weights."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        tie_word_embeddings=tied,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return LlamaForCausalLM(config).to(getattr(torch, dtype))


def make_rows(tokenizer: TalkPlayTokenizer, count: int = 16) -> Dataset:
    """Rows of unlike length and share of labels, so that a wrong average over them shows."""
    generator = torch.Generator().manual_seed(0)
    rows: dict[str, list[list[int]]] = {"input_ids": [], "labels": []}
    for number in range(count):
        length = 6 + (7 * number) % 19
        ids = torch.randint(len(tokenizer), (length,), generator=generator).tolist()
        unlabelled = 1 + (3 * number) % 5
        rows["input_ids"].append(ids)
        rows["labels"].append([-100] * unlabelled + ids[unlabelled:])
    return Dataset.from_dict(rows)


@dataclass
class Steps(TrainerCallback):
    """The gradients of all parameters as the optimizer gets them, step by step, and the logs."""

    gradients: list[Gradients] = field(default_factory=list)
    log: list[dict[str, Any]] = field(default_factory=list)
    sharded: bool = False

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        whole = {
            name: p.grad.full_tensor() if isinstance(p.grad, DTensor) else p.grad.clone()
            for name, p in kwargs["model"].named_parameters()
            if p.grad is not None
        }
        self.gradients.append(whole)
        self.sharded = isinstance(kwargs["model"].get_input_embeddings().weight, DTensor)


class LossTermTrainer(SFTTrainer):
    """A trainer that brings the self-similarity loss in through the loss."""

    similarity: SelfSimilarityCallback

    def compute_loss(self, model: Any, *args: Any, **kwargs: Any) -> Any:
        loss = super().compute_loss(model, *args, **kwargs)
        if self.similarity.in_loss and model.training:
            loss = loss + self.similarity.loss_term(
                self.accelerator.unwrap_model(model), self.current_gradient_accumulation_steps
            )
        return loss


class ForceLossTerm(TrainerCallback):
    """Asks for the route that DeepSpeed needs."""

    def __init__(self, similarity: SelfSimilarityCallback) -> None:
        self.similarity = similarity

    def on_train_begin(self, *args: Any, **kwargs: Any) -> None:
        self.similarity.in_loss = True


def take_steps(
    tokenizer: TalkPlayTokenizer,
    out: Path,
    *,
    weight: float | None,
    batch: int,
    accumulation: int,
    rows: int = 16,
    tied: bool = True,
    dtype: str = "float32",
    base: Path | None = None,
    in_loss: bool = False,
    clip: float = 0.0,
    **options: Any,
) -> Steps:
    """One epoch at learning rate 0, so that all steps are taken at the same weights.

    With `base`, a folder of the model, it is sharded over two processes by FSDP2, as transformers
    does at load, since accelerate has none on CPUs.
    """
    if base:
        both = DistributedConfig(fsdp_size=2)
        model = LlamaForCausalLM.from_pretrained(base, distributed_config=both)
    else:
        model = small_model(tokenizer, tied=tied, dtype=dtype)
    config: dict[str, Any] = {
        "num_train_epochs": 1,
        "per_device_train_batch_size": batch,
        "gradient_accumulation_steps": accumulation,
        "train_sampling_strategy": "sequential",
        "learning_rate": 0.0,
        "max_grad_norm": clip,
        "bf16": False,
        "activation_checkpointing": False,
        "activation_offloading": False,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "use_cpu": True,
        "dataset_kwargs": {"skip_prepare_dataset": True},
    }
    trainer = LossTermTrainer(
        model=model,
        args=SFTConfig(output_dir=str(out), **config | options),
        train_dataset=make_rows(tokenizer, rows),
        processing_class=tokenizer,
    )
    trainer.similarity = SelfSimilarityCallback(tokenizer, weight or 0.0)
    if weight is not None:
        trainer.similarity.install(trainer)
    if in_loss:
        trainer.add_callback(ForceLossTerm(trainer.similarity))
    steps = Steps()
    trainer.add_callback(steps)
    trainer.train()
    steps.log = trainer.state.log_history
    return steps


def by_hand(
    tokenizer: TalkPlayTokenizer, rows: range, *, weight: float, tied: bool = True
) -> Gradients:
    """The gradients of a step over some rows in float64: one row at a time, by autograd alone."""
    model = small_model(tokenizer, tied=tied, dtype="float64")
    chosen = make_rows(tokenizer, rows.stop).select(rows)
    labels = sum(label != -100 for row in chosen["labels"] for label in row)
    for row in chosen:
        ids, wanted = torch.tensor([row["input_ids"]]), torch.tensor([row["labels"]])
        logits = model(input_ids=ids).logits[0, :-1]
        loss = torch.nn.functional.cross_entropy(logits, wanted[0, 1:], reduction="sum") / labels
        loss.backward()
    similarity = SelfSimilarityCallback(tokenizer).targets
    (weight * self_similarity_loss(model.get_input_embeddings().weight, similarity)).backward()
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def distance(found: Gradients, wanted: Gradients) -> float:
    """The largest difference of a parameter's gradients, relative to the wanted one."""
    assert found.keys() == wanted.keys()
    return max(
        float((found[name].double() - wanted[name].double()).norm() / wanted[name].norm().double())
        for name in wanted
    )


def main() -> None:
    tokenizer_folder, out, cases = sys.argv[1:]
    torch.set_num_threads(1)
    tokenizer = TalkPlayTokenizer.from_pretrained(tokenizer_folder)
    rank = os.environ["RANK"]
    # before there is a process group, in which only the first process writes
    for tied in (True, False):
        small_model(tokenizer, tied=tied).save_pretrained(Path(out) / f"base-{tied}-{rank}")
    for name, options in json.loads(Path(cases).read_text()).items():
        if options.pop("sharded", False):
            options["base"] = Path(out) / f"base-{options['tied']}-{rank}"
        steps = take_steps(tokenizer, Path(out) / "run", **options)
        kept = (steps.gradients, steps.log, steps.sharded)
        torch.save(kept, Path(out) / f"{name}-{rank}.pt")


if __name__ == "__main__":
    main()
