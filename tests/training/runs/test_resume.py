"""A training that was stopped or killed ends with the weights and losses of one that was not."""

import json
import logging
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from talkplay_hf.errors import ArtifactError, ConfigError
from talkplay_hf.hub import files
from talkplay_hf.training.sft import main
from talkplay_hf.training.similarity.callback import SelfSimilarityCallback

HERE = Path(__file__).parent
RECIPE = HERE.parents[2] / "recipes" / "quickstart" / "sft.yaml"
STEPS = 20


class Stopped(Exception):
    """Stands for whatever ends a process in the middle of a step."""


@pytest.fixture(scope="module")
def arguments(world_folder: Path, tokenizer_folder: Path, talks: Path) -> list[str]:
    values: dict[str, Any] = {
        "config": RECIPE,
        "tokenizer": tokenizer_folder,
        "conversations": talks,
        "catalog": world_folder,
        "scratch_hidden_size": 32,
        "scratch_layers": 1,
        "scratch_heads": 2,
        "max_steps": STEPS,
        "threads": 1,
        "warmup_steps": 5,
        "logging_steps": 1,
        "per_device_train_batch_size": 1,
        "gradient_accumulation_steps": 2,
        "per_device_eval_batch_size": 8,
        "save_strategy": "steps",
        "save_steps": 10,
        "disable_tqdm": "true",
    }
    return [word for key, value in values.items() for word in (f"--{key}", str(value))]


def train(out: Path, arguments: list[str], *more: str) -> Path:
    assert main([*arguments, "--output_dir", str(out), *more]) == out
    return out


def at_each_step(patched: pytest.MonkeyPatch, act: Callable[[int], None]) -> None:
    """Do something before each optimizer step; it is told how many are done."""
    original = SelfSimilarityCallback.on_step_begin

    def on_step_begin(self: Any, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        act(state.global_step)
        original(self, args, state, control, **kwargs)

    patched.setattr(SelfSimilarityCallback, "on_step_begin", on_step_begin)


def train_until(step: int, out: Path, *words: str) -> None:
    """Train, and be stopped by an error in the middle of the step after this one."""

    def act(done: int) -> None:
        if done == step:
            raise Stopped

    with pytest.MonkeyPatch.context() as patched:
        at_each_step(patched, act)
        with pytest.raises(Stopped):
            train(out, [*words])


def weights(model: Path) -> dict[str, torch.Tensor]:
    return load_file(model / "model.safetensors")


def log(model: Path) -> list[dict[str, Any]]:
    report = json.loads((model / "training_report.json").read_text(encoding="utf-8"))
    return report["log"]


def assert_equal(one: Path, two: Path) -> None:
    first, second = weights(one), weights(two)
    assert first.keys() == second.keys()
    assert [name for name in first if not torch.equal(first[name], second[name])] == []
    assert log(one) == log(two)


@pytest.fixture(scope="module")
def unbroken(arguments: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(tmp_path_factory.mktemp("unbroken") / "m", arguments)


def test_a_stopped_run_goes_on_bit_by_bit(
    unbroken: Path,
    arguments: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    out = tmp_path / "m"
    train_until(13, out, *arguments)
    assert not out.exists()
    with pytest.raises(ConfigError, match="--resume_from_checkpoint true"):
        train(out, arguments)
    steps: list[int] = []
    at_each_step(monkeypatch, steps.append)
    train(out, arguments, "--resume_from_checkpoint", "true")
    assert steps == list(range(10, STEPS))
    assert "trained 10 steps in" in capsys.readouterr().out
    assert_equal(out, unbroken)
    assert [entry["step"] for entry in log(out) if "loss" in entry] == list(range(1, STEPS + 1))


def test_a_run_that_was_over_does_no_other_step(
    unbroken: Path, arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    # the last checkpoint was written, and then something happened to the model
    shutil.copytree(unbroken.parent / "m-checkpoints", tmp_path / "m-checkpoints")
    steps: list[int] = []
    at_each_step(monkeypatch, steps.append)
    train(tmp_path / "m", arguments, "--resume_from_checkpoint", "true")
    assert steps == []
    assert_equal(tmp_path / "m", unbroken)


def test_a_disk_that_fills_up_costs_only_what_came_after_the_last_checkpoint(
    unbroken: Path, arguments: list[str], tmp_path: Path
):
    out = tmp_path / "m"
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    def act(done: int) -> None:
        if done == 15:
            # room for the weights, not for the two moments of the optimizer
            size = (out.parent / "m-checkpoints/checkpoint-10/model.safetensors").stat().st_size
            resource.setrlimit(resource.RLIMIT_FSIZE, (size + size // 2, hard))

    try:
        with pytest.MonkeyPatch.context() as patched:
            at_each_step(patched, act)
            with pytest.raises(ArtifactError, match="checkpoint-10 is complete: make room"):
                train(out, arguments)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)
    assert not out.exists()
    train(out, arguments, "--resume_from_checkpoint", "true")
    assert_equal(out, unbroken)


def test_another_recipe_does_not_go_on_from_there(
    unbroken: Path, arguments: list[str], tmp_path: Path
):
    more = ("--resume_from_checkpoint", "true", "--max_steps", "30")
    with pytest.raises(ConfigError, match=r"max_steps \(was 20, is 30\)"):
        train(unbroken, arguments, *more)


EVALUATED = (
    *("--eval_strategy", "steps", "--eval_steps", "2", "--save_steps", "2"),
    *("--load_best_model_at_end", "true", "--max_steps", "10"),
    *("--early_stopping_patience", "9"),
)
TOO_FAST = ("--learning_rate", "0.5", "--lr_scheduler_type", "constant", "--warmup_steps", "0")


class Said(logging.Handler):
    """The warnings of a library."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


@pytest.fixture(scope="module")
def evaluated(arguments: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run at a rate at which the loss soon rises, so that its best step is not its last."""
    more = (*EVALUATED, *TOO_FAST)
    said = Said()
    logging.getLogger("transformers").addHandler(said)
    try:
        out = train(tmp_path_factory.mktemp("evaluated") / "m", arguments, *more)
    finally:
        logging.getLogger("transformers").removeHandler(said)
    files.write_text(out.parent / "warnings", "\n".join(said.lines))
    return out


def test_a_run_that_goes_well_warns_of_nothing(evaluated: Path):
    assert (evaluated.parent / "warnings").read_text(encoding="utf-8").strip() == ""


def test_the_model_with_the_lowest_validation_loss_is_kept(evaluated: Path):
    report = json.loads((evaluated / "training_report.json").read_text(encoding="utf-8"))
    losses = {
        entry["step"]: entry["eval_conversations_loss"]
        for entry in report["log"]
        if "eval_conversations_loss" in entry
    }
    best = min(losses, key=lambda step: losses[step])
    assert report["best"]["step"] == best
    assert best != 10
    checkpoints = evaluated.parent / "m-checkpoints"
    kept = load_file(checkpoints / f"checkpoint-{best}" / "model.safetensors")
    last = load_file(checkpoints / "checkpoint-10" / "model.safetensors")
    final = weights(evaluated)
    assert all(torch.equal(final[name], kept[name]) for name in kept)
    assert any(not torch.equal(final[name], last[name]) for name in last)


@pytest.mark.slow
def test_the_best_checkpoint_is_found_where_the_folder_was_moved(
    evaluated: Path, arguments: list[str], tmp_path: Path
):
    more = (*EVALUATED, *TOO_FAST)
    train_until(9, tmp_path / "m", *arguments, *more)
    (tmp_path / "m-checkpoints").rename(tmp_path / "n-checkpoints")
    train(tmp_path / "n", arguments, *more, "--resume_from_checkpoint", "true")
    assert_equal(tmp_path / "n", evaluated)


@pytest.mark.slow
def test_a_run_that_stops_early_stops_at_the_same_step_when_it_goes_on(
    arguments: list[str], tmp_path: Path
):
    more = (
        *EVALUATED,
        *TOO_FAST,
        *("--max_steps", "30", "--early_stopping_patience", "2"),
    )
    straight = train(tmp_path / "straight", arguments, *more)
    end = json.loads((straight / "training_report.json").read_text(encoding="utf-8"))["steps"]
    assert 4 < end < 30
    broken = tmp_path / "broken"
    train_until(end - 2, broken, *arguments, *more)
    train(broken, arguments, *more, "--resume_from_checkpoint", "true")
    assert_equal(broken, straight)
    shutil.rmtree(broken)
    train(broken, arguments, *more, "--resume_from_checkpoint", "true")
    assert_equal(broken, straight)


@pytest.fixture
def large(arguments: list[str], tmp_path: Path) -> list[str]:
    """A model that takes some milliseconds to write, with a checkpoint every second step."""
    return [
        *arguments,
        *("--output_dir", str(tmp_path / "m"), "--save_steps", "2", "--max_steps", "14"),
        *("--scratch_hidden_size", "256", "--per_device_train_batch_size", "1"),
        *("--gradient_accumulation_steps", "1", "--save_total_limit", "2"),
    ]


@pytest.mark.slow
def test_a_run_that_is_killed_five_times_while_it_saves_ends_bit_by_bit_equal(
    large: list[str], tmp_path: Path
):
    folder = tmp_path / "m-checkpoints"
    command = [sys.executable, str(HERE / "killed_run.py"), str(folder), "5", *large]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    lines = done.stdout.splitlines()
    kills = [json.loads(line.removeprefix("KILL ")) for line in lines if line.startswith("KILL ")]
    assert len(kills) == 5
    for kill in kills:
        # a kill in the last moment of a save may leave it complete; never less than before
        assert kill["after"] in (kill["before"], previous(kill["killed"]), kill["killed"])
    damaged = [kill for kill in kills if kill["after"] != kill["killed"]]
    assert len(damaged) >= 3
    assert all(f"{kill['killed']}: is not complete" in done.stdout for kill in damaged)
    goes_on = [line for line in lines if line.startswith("going on from")]
    assert [Path(line.split()[-1]).name for line in goes_on] == [
        kill["after"] for kill in kills if kill["after"]
    ]
    unbroken = train(tmp_path / "unbroken", large)
    assert_equal(tmp_path / "m", unbroken)


def previous(checkpoint: str) -> str | None:
    step = int(checkpoint.rpartition("-")[2]) - 2
    return f"checkpoint-{step}" if step else None
