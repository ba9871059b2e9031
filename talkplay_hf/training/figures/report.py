"""The report of a training: the same input gives the same bytes; timings go to the terminal."""

import importlib.metadata
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from trl import ModelConfig, SFTConfig

from talkplay_hf.hub import files
from talkplay_hf.training.arguments import TalkPlayArguments
from talkplay_hf.training.figures.curves import Log, best
from talkplay_hf.training.runs.plan import base_name

REPORT = files.TRAINING_REPORT
PACKAGES = ("torch", "transformers", "trl", "peft", "accelerate")
# arguments that say where things are or how fast they go, not what they are
FOLDERS = ("tokenizer", "conversations", "catalog", "threads")
# TRL's keys that say how the weights were moved
OPTIMIZATION = (
    *("learning_rate", "lr_scheduler_type", "warmup_steps", "optim", "weight_decay"),
    *("max_grad_norm", "per_device_train_batch_size", "gradient_accumulation_steps"),
    *("num_train_epochs", "max_steps", "max_length", "packing"),
)
# timings, and the mean loss since the last start
VOLATILE = ("runtime", "per_second", "flos", "seconds", "train_loss")


def without_volatile(figures: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out what depends on when and how often a training was started.

    So the same input gives the same bytes, also where a run was stopped and went on.
    """
    return {k: v for k, v in figures.items() if not any(word in k for word in VOLATILE)}


def last_losses(log: Log) -> dict[str, dict[str, float]]:
    """The last value of every loss, and of every similarity figure, in training and evaluation."""
    found: dict[str, dict[str, float]] = {"train": {}, "eval": {}}
    for entry in log:
        for key, value in without_volatile(entry).items():
            if "loss" in key or "similarity" in key:
                where = "eval" if key.startswith("eval_") else "train"
                found[where][key.removeprefix("eval_")] = value
    return found


def training_report(
    arguments: TalkPlayArguments,
    config: SFTConfig,
    model_config: ModelConfig,
    *,
    parameters: tuple[int, int],
    data: Mapping[str, Any],
    log: Log,
    steps: int,
    tokens: int,
    evaluation: Mapping[str, Any],
    geometry: Mapping[str, Mapping[str, float]],
) -> dict[str, Any]:
    """Everything worth knowing about a training that does not depend on when and where it ran.

    Args:
        arguments (`TalkPlayArguments`): Our keys.
        config (`SFTConfig`): TRL's keys.
        model_config (`ModelConfig`): The base model.
        parameters (`tuple[int, int]`): Of the model that is saved, and how many were trained.
        data (`Mapping[str, Any]`): What became of the data.
        log (`Sequence[Mapping[str, Any]]`): The trainer's log.
        steps (`int`): Optimizer steps done.
        tokens (`int`): Tokens of their rows, those of all processes.
        evaluation (`Mapping[str, Any]`): Figures of the model that is saved.
        geometry (`Mapping[str, Mapping[str, float]]`): Of the token embeddings at `start` and
            `end`.

    Returns:
        `dict[str, Any]`: JSON values; no times and no paths.
    """
    return {
        "format_version": files.FORMAT_VERSION,
        "arguments": {k: v for k, v in asdict(arguments).items() if k not in FOLDERS},
        "base_model": base_name(model_config),
        "base_revision": model_config.model_revision,
        "best": best(log, config.metric_for_best_model),
        "data": dict(data),
        "effective_self_similarity_weight": arguments.effective_weight,
        "evaluation": without_volatile(evaluation),
        "geometry": {when: dict(figures) for when, figures in geometry.items()},
        "last": last_losses(log),
        "log": [without_volatile(entry) for entry in log],
        "optimization": {name: _plain(getattr(config, name)) for name in OPTIMIZATION},
        "parameters": parameters[0],
        "precision": "bf16" if config.bf16 else "fp16" if config.fp16 else "fp32",
        "seed": config.seed,
        "steps": steps,
        "tokens_seen": tokens,
        "trained_parameters": parameters[1],
        "versions": versions(),
        "world_size": config.world_size,
    }


def _plain(value: Any) -> Any:
    # names of schedules and optimizers are members of enumerations
    return getattr(value, "value", value)


def versions() -> dict[str, str]:
    """Versions of the packages that the figures depend on, of those that are installed."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def summary(
    report: Mapping[str, Any],
    seconds: float,
    callback_seconds: float = 0.0,
    before: tuple[int, int] = (0, 0),
) -> str:
    """A few lines for the terminal, with the timings.

    Args:
        report (`Mapping[str, Any]`): The report.
        seconds (`float`): Wall-clock seconds since the last start.
        callback_seconds (`float`): Of these a step's in the self-similarity callback.
        before (`tuple[int, int]`): Steps and tokens that were done at the last start.
    """
    steps, tokens = report["steps"] - before[0], report["tokens_seen"] - before[1]
    lines = [
        f"trained {steps:,} steps in {_duration(seconds)}, {tokens:,} tokens "
        f"({tokens / max(seconds, 1e-9):,.0f} a second), {report['precision']}"
        + (f", {report['world_size']} processes" if report["world_size"] > 1 else "")
        + (f"; {report['steps']:,} steps in all" if before[0] else "")
    ]
    if callback_seconds:
        lines.append(
            f"self-similarity: {callback_seconds * 1000:.1f} ms a step, "
            f"{callback_seconds * steps / max(seconds, 1e-9):.1%} of the time"
        )
    for where, figures in report["last"].items():
        if figures:
            values = ", ".join(f"{name} {value:.4f}" for name, value in sorted(figures.items()))
            lines.append(f"last {where}: {values}")
    if report["best"]:
        found = report["best"]
        lines.append(f"best: {found['metric']} {found['value']:.4f} at step {found['step']:,}")
    return "\n".join(lines)


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
