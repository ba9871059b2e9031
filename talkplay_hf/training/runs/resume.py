"""What `Trainer` forgets when it goes on from a checkpoint, kept."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from torch.utils.data import Sampler
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_pt_utils import LengthGroupedSampler, get_length_grouped_indices


def make_resumable(trainer: Trainer) -> None:
    """Let a trainer go on from a checkpoint as if it had never stopped.

    `Trainer` alone restores weights, optimizer, schedule and random states. Three things it does
    not: the order of the rows with `train_sampling_strategy: group_by_length`, which is drawn from
    the random state at the start of an epoch, so that in the epoch that is gone on with other rows
    are seen twice or never; the count of tokens that TRL logs as `num_tokens`; and that training
    was over, at the last step or by early stopping, when the checkpoint was written: it would do
    another step.

    Of weights that are tied, checkpoints hold one, and `Trainer` warns that the other is missing.
    Here it does not.

    Args:
        trainer (`Trainer`): An `SFTTrainer`, stock or ours; changed in place, before training.
    """
    make = trainer._get_train_sampler

    def seeded(train_dataset: Dataset | None = None) -> Sampler[int] | None:
        sampler: Sampler[int] | None = make(train_dataset)
        if type(sampler) is not LengthGroupedSampler:
            return sampler
        # a whole number at the start of an epoch, with a fraction within
        return LengthSampler(sampler, trainer.args.seed, lambda: int(trainer.state.epoch or 0))

    run_epoch = trainer._run_epoch

    def unless_over(**options: Any) -> None:
        # the flag itself is cleared when training begins
        flags = trainer.state.stateful_callbacks.get("TrainerControl", {}).get("args", {})
        if options.get("resume_from_checkpoint") and flags.get("should_training_stop"):
            trainer.control.should_training_stop = True
        else:
            run_epoch(**options)

    warn = trainer._issue_warnings_after_load

    def warn_of_untied(loaded: Any) -> None:
        tied = trainer.model.all_tied_weights_keys
        loaded.missing_keys[:] = [key for key in loaded.missing_keys if key not in tied]
        warn(loaded)

    trainer._get_train_sampler = seeded
    trainer._run_epoch = unless_over
    trainer._issue_warnings_after_load = warn_of_untied
    trainer.add_callback(ResumedState(trainer))


class LengthSampler(Sampler[int]):
    """Rows of about the same length together, in an order that depends on seed and epoch alone.

    Args:
        sampler (`LengthGroupedSampler`): The lengths and the batch size.
        seed (`int`): Seed of the run.
        epoch (`Callable[[], int]`): Asked each time for the epoch that begins or goes on.
    """

    def __init__(self, sampler: LengthGroupedSampler, seed: int, epoch: Callable[[], int]) -> None:
        self._lengths = sampler.lengths
        self._batch = sampler.batch_size
        self._seed = seed
        self._epoch = epoch

    def __len__(self) -> int:
        return len(self._lengths)

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self._seed + self._epoch())
        return iter(get_length_grouped_indices(self._lengths, self._batch, generator=generator))


class ResumedState(TrainerCallback):  # type: ignore[misc]
    """Keeps TRL's count of tokens in the trainer's state, which checkpoints hold.

    `Trainer` notes the path of the best checkpoint, and forgets it where the folder was moved.

    Args:
        trainer (`Trainer`): The `SFTTrainer` that counts.
    """

    def __init__(self, trainer: Trainer) -> None:
        self._trainer = trainer

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Take up the count of the checkpoint, and the best one wherever the folder is now."""
        self._trainer._total_train_tokens = state.num_input_tokens_seen
        best = Path(args.output_dir) / f"checkpoint-{state.best_global_step}"
        if state.best_model_checkpoint is None and best.is_dir():
            state.best_model_checkpoint = str(best)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Note the count, before a checkpoint is written."""
        state.num_input_tokens_seen = self._trainer._total_train_tokens
