"""The best model by validation loss, and when to stop looking for a better one."""

from collections.abc import Collection
from typing import Any

from transformers import (
    EarlyStoppingCallback,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from trl import SFTConfig

from talkplay_hf.errors import ConfigError
from talkplay_hf.training.arguments import TalkPlayArguments
from talkplay_hf.training.runs import METRIC


class EarlyStopping(EarlyStoppingCallback):  # type: ignore[misc]
    """Early stopping with several validation sets: it looks at the one that holds the metric.

    Without this, it says at every other set that it is disabled, which it is not.
    """

    def on_evaluate(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        metrics: dict[str, float],
        **kwargs: Any,
    ) -> None:
        """Count an evaluation without a better loss."""
        if args.metric_for_best_model in metrics:
            super().on_evaluate(args, state, control, metrics, **kwargs)


def evaluation_callbacks(
    arguments: TalkPlayArguments, config: SFTConfig, validation: Collection[str]
) -> list[TrainerCallback]:
    """Settle what "best" means, and make the callback of early stopping if it is asked for.

    The best model is the one with the lowest `eval_conversations_loss`, unless
    `metric_for_best_model` names the loss of another validation set.

    Args:
        arguments (`TalkPlayArguments`): With `early_stopping_patience`.
        config (`SFTConfig`): Changed in place: `metric_for_best_model`, `greater_is_better`.
        validation (`Collection[str]`): The names of the validation sets; empty without any.

    Returns:
        `list[TrainerCallback]`: Callbacks for the trainer.

    Raises:
        ConfigError: If evaluation, early stopping or the best model is asked for and there is
            nothing to evaluate on, or the metric is not one of the validation losses.
    """
    patience = arguments.early_stopping_patience
    asked = {
        "load_best_model_at_end": config.load_best_model_at_end,
        "early_stopping_patience": patience is not None,
        "save_strategy: best": config.save_strategy == "best",
        "metric_for_best_model": config.metric_for_best_model is not None,
    }
    wants = next((name for name, on in asked.items() if on), None)
    evaluates = config.eval_strategy != "no" or config.eval_on_start
    if (wants or evaluates) and not validation:
        name = wants or ("eval_strategy" if config.eval_strategy != "no" else "eval_on_start")
        raise ConfigError(
            f"{name}: needs conversations of the split validation, and there are none; make more "
            "(talkplay synthesize --count), or train without: --eval_strategy no "
            "--load_best_model_at_end false"
        )
    if wants and config.eval_strategy == "no":
        raise ConfigError(f"{wants}: needs eval_strategy: steps (with eval_steps) or epoch")
    strategies = (config.eval_strategy, config.save_strategy)
    if (
        config.load_best_model_at_end
        and strategies == ("steps", "steps")
        and config.eval_steps != config.save_steps
    ):
        # the best would be known, and have no checkpoint to come from
        raise ConfigError(
            f"load_best_model_at_end: the model is evaluated every {config.eval_steps} steps and "
            f"saved every {config.save_steps}; make save_steps and eval_steps equal, or set "
            "save_strategy: best"
        )
    if not validation:
        return []
    losses = [f"eval_{name}_loss" for name in sorted(validation)]
    metric = config.metric_for_best_model
    # TRL fills in "loss", which is there only with a single validation set
    if metric in (None, "loss", "eval_loss"):
        metric = METRIC
    metric = metric if metric.startswith("eval_") else f"eval_{metric}"
    if metric not in losses:
        raise ConfigError(
            f"metric_for_best_model {config.metric_for_best_model!r}: must be one of "
            f"{', '.join(losses)}"
        )
    if config.eval_strategy != "no":
        config.metric_for_best_model = metric
        config.greater_is_better = False
    if patience is None:
        return []
    # a run that goes on must remember how long it has waited
    config.restore_callback_states_from_checkpoint = True
    return [EarlyStopping(early_stopping_patience=patience)]
