"""Checkpoints: which are complete, where training starts, room on the disk, and a full disk."""

import errno
import json
import resource
import shutil
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from random_llama import random_llama
from safetensors import SafetensorError
from safetensors.torch import save_file
from transformers import EarlyStoppingCallback, Trainer
from trl import ModelConfig, SFTConfig
from two_processes import run_in_two_processes

from talkplay_hf.errors import ArtifactError, ConfigError
from talkplay_hf.training.arguments import TalkPlayArguments, parse_recipe
from talkplay_hf.training.runs.best import evaluation_callbacks
from talkplay_hf.training.runs.checkpoints import (
    check_space,
    defect,
    last_complete,
    prepare,
    saving,
)
from talkplay_hf.training.runs.plan import training_plan

ARGUMENTS = TalkPlayArguments(tokenizer="t", conversations="c", catalog="k")
ROWS = Dataset.from_dict({"input_ids": [[1, 2, 3, 4]] * 8, "labels": [[-100, 2, 3, 4]] * 8})


def sft_config(folder: Path, **values: Any) -> SFTConfig:
    defaults = {
        "output_dir": str(folder),
        "max_steps": 3,
        "save_steps": 1,
        "per_device_train_batch_size": 2,
        "report_to": "none",
        "disable_tqdm": True,
        "use_cpu": True,
        "bf16": False,
        "activation_checkpointing": False,
    }
    return SFTConfig(**{**defaults, **values})


def plan_of(
    config: SFTConfig,
    arguments: TalkPlayArguments = ARGUMENTS,
    model: str = "scratch",
    rows: str = "abc",
) -> dict[str, Any]:
    base = ModelConfig(model_name_or_path=model)
    return training_plan(arguments, config, base, rows=rows, codebook_hash="abc")


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three checkpoints of a trainer, and the plan beside them. Copy before changing."""
    folder = tmp_path_factory.mktemp("written") / "m-checkpoints"
    config = sft_config(folder)
    assert prepare(folder, config, plan_of(config)) is None
    Trainer(model=random_llama(300), args=config, train_dataset=ROWS).train()
    return folder


@pytest.fixture
def folder(written: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(written, tmp_path / "m-checkpoints"))


NEEDED = ("model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth")


def test_the_last_complete_checkpoint_is_found(folder: Path):
    assert last_complete(folder) == folder / "checkpoint-3"
    assert last_complete(folder / "nothing") is None


@pytest.mark.parametrize("name", [*NEEDED, "trainer_state.json"])
def test_a_checkpoint_without_one_of_its_files_is_not_complete(folder: Path, name: str):
    (folder / "checkpoint-3" / name).unlink()
    assert defect(folder / "checkpoint-3") is not None
    assert last_complete(folder) == folder / "checkpoint-2"


@given(st.sampled_from([*NEEDED, "trainer_state.json", "training_args.bin"]), st.floats(0, 0.9999))
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
def test_a_checkpoint_with_a_file_cut_off_anywhere_is_not_complete(
    folder: Path, name: str, share: float
):
    path = folder / "checkpoint-3" / name
    whole = path.read_bytes()
    assert defect(folder / "checkpoint-3") is None
    # the last byte of a JSON file is a line break
    path.write_bytes(whole[: int(share * (len(whole) - 2))])
    assert name in str(defect(folder / "checkpoint-3"))
    path.write_bytes(whole)


def test_a_state_of_another_step_is_not_complete(folder: Path):
    shutil.copy(folder / "checkpoint-2" / "trainer_state.json", folder / "checkpoint-3")
    assert "step 2" in str(defect(folder / "checkpoint-3"))


def test_weights_without_an_optimizer_cannot_be_gone_on_from(tmp_path: Path):
    config = sft_config(tmp_path / "c", max_steps=1, save_only_model=True)
    Trainer(model=random_llama(300), args=config, train_dataset=ROWS).train()
    assert defect(tmp_path / "c" / "checkpoint-1") == "holds no state of the optimizer"


def test_every_shard_that_the_index_names_must_be_there(folder: Path):
    checkpoint = folder / "checkpoint-3"
    (checkpoint / "model.safetensors").unlink()
    model = random_llama(300)
    model.save_pretrained(checkpoint, max_shard_size="10KB")
    shards = sorted(checkpoint.glob("model-*.safetensors"))
    assert len(shards) > 1
    assert defect(checkpoint) is None
    shards[0].unlink()
    assert shards[0].name in str(defect(checkpoint))


def saved(path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    torch.save({"state": torch.zeros(3)}, path)


def test_checkpoints_of_adapters_fsdp_and_deepspeed_are_known(folder: Path):
    def changed(step: int, drop: tuple[str, ...]) -> Path:
        path = folder / f"checkpoint-{step}"
        for name in drop:
            (path / name).unlink()
        return path

    adapter = changed(1, ("model.safetensors",))
    save_file({"a": torch.zeros(3)}, adapter / "adapter_model.safetensors")
    assert defect(adapter) is None

    sharded = changed(2, ("model.safetensors", "optimizer.pt"))
    for name in ("pytorch_model_fsdp_0", "optimizer_0"):
        (sharded / name).mkdir()
        (sharded / name / "__0_0.distcp").write_bytes(b"x")
        assert defect(sharded) is not None
        (sharded / name / ".metadata").write_bytes(b"x")
    assert defect(sharded) is None
    (sharded / "optimizer_0" / ".metadata").unlink()
    assert "optimizer_0" in str(defect(sharded))

    deepspeed = changed(3, ("model.safetensors", "optimizer.pt", "scheduler.pt"))
    saved(deepspeed / "global_step3" / "zero_pp_rank_0_mp_rank_00_optim_states.pt")
    assert "weights" in str(defect(deepspeed))
    (deepspeed / "latest").write_text("global_step3")
    assert defect(deepspeed) is None
    (deepspeed / "latest").write_text("global_step4")
    assert "global_step4" in str(defect(deepspeed))


def test_every_process_must_have_left_its_random_state(folder: Path):
    plan = json.loads((folder / "plan.json").read_text())
    (folder / "plan.json").write_text(json.dumps({**plan, "world_size": 2}))
    for number in (2, 3):
        checkpoint = folder / f"checkpoint-{number}"
        (checkpoint / "rng_state.pth").rename(checkpoint / "rng_state_0.pth")
        saved(checkpoint / "rng_state_1.pth")
    assert last_complete(folder) == folder / "checkpoint-3"
    (folder / "checkpoint-3" / "rng_state_1.pth").unlink()
    assert last_complete(folder) == folder / "checkpoint-2"


@pytest.mark.parametrize("asked", [None, False, "false"])
def test_checkpoints_are_not_overwritten_by_a_new_start(folder: Path, asked: Any):
    config = sft_config(folder, resume_from_checkpoint=asked)
    with pytest.raises(ConfigError, match="--resume_from_checkpoint true, or remove"):
        prepare(folder, config, plan_of(config))
    assert last_complete(folder) == folder / "checkpoint-3"


@pytest.mark.parametrize("asked", [True, "true", "True"])
def test_training_goes_on_from_the_last_complete_checkpoint(
    folder: Path, asked: Any, capsys: pytest.CaptureFixture[str]
):
    (folder / "checkpoint-3" / "optimizer.pt").write_bytes(b"cut off")
    config = sft_config(folder, resume_from_checkpoint=asked)
    assert prepare(folder, config, plan_of(config)) == folder / "checkpoint-2"
    assert not (folder / "checkpoint-3").exists()
    assert "checkpoint-3: is not complete (optimizer.pt is cut off)" in capsys.readouterr().out


def test_without_a_complete_checkpoint_training_starts_from_the_beginning(
    folder: Path, capsys: pytest.CaptureFixture[str]
):
    for number in (1, 2, 3):
        (folder / f"checkpoint-{number}" / "trainer_state.json").unlink()
    config = sft_config(folder, resume_from_checkpoint="true")
    assert prepare(folder, config, plan_of(config)) is None
    assert last_complete(folder) is None
    assert "from the beginning" in capsys.readouterr().out
    # nothing is there now, so that nothing can be overwritten
    assert prepare(folder, sft_config(folder), plan_of(config)) is None


def test_a_run_without_checkpoints_leaves_no_plan(tmp_path: Path):
    config = sft_config(tmp_path / "c", save_strategy="no")
    assert prepare(tmp_path / "c", config, plan_of(config)) is None
    assert not (tmp_path / "c").exists()


def test_a_checkpoint_can_be_named(folder: Path):
    start = folder / "checkpoint-3"
    config = sft_config(folder, resume_from_checkpoint=str(start))
    assert prepare(folder, config, plan_of(config)) == start


def test_a_named_checkpoint_must_be_complete(folder: Path):
    (folder / "checkpoint-3" / "model.safetensors").write_bytes(b"")
    config = sft_config(folder, resume_from_checkpoint=str(folder / "checkpoint-3"))
    with pytest.raises(ArtifactError, match=r"checkpoint-3: .* model.safetensors is empty"):
        prepare(folder, config, plan_of(config))


@pytest.mark.parametrize("name", ["yes", "some/where", "m-checkpoints"])
def test_a_name_that_is_no_checkpoint_is_refused(folder: Path, name: str):
    config = sft_config(folder, resume_from_checkpoint=name)
    with pytest.raises(ConfigError, match="true, false or the path"):
        prepare(folder, config, plan_of(config))


def test_newer_checkpoints_are_not_written_into(folder: Path):
    config = sft_config(folder, resume_from_checkpoint=str(folder / "checkpoint-2"))
    with pytest.raises(ConfigError, match="checkpoint-3: is in the way"):
        prepare(folder, config, plan_of(config))
    shutil.rmtree(folder / "checkpoint-3")
    assert prepare(folder, config, plan_of(config)) == folder / "checkpoint-2"


def test_checkpoints_of_a_folder_without_a_plan_are_refused(folder: Path):
    (folder / "plan.json").unlink()
    config = sft_config(folder, resume_from_checkpoint="true")
    with pytest.raises(ConfigError, match=r"holds no plan\.json"):
        prepare(folder, config, plan_of(config))


@pytest.mark.parametrize(
    "change",
    [
        {"max_steps": 4},
        {"learning_rate": 1e-3},
        {"seed": 7},
        {"per_device_train_batch_size": 1},
        {"lr_scheduler_type": "cosine"},
    ],
)
def test_another_training_does_not_go_on_there(folder: Path, change: dict[str, Any]):
    config = sft_config(folder, resume_from_checkpoint="true", **change)
    with pytest.raises(ConfigError) as raised:
        prepare(folder, config, plan_of(config))
    named = str(raised.value).split("what differs: ")[1].split(". Take")[0]
    assert named.startswith(f"{next(iter(change))} (was ")
    assert named.count("(was") == 1


def test_other_losses_bases_and_data_are_other_trainings(folder: Path):
    config = sft_config(folder, resume_from_checkpoint="true")
    for name, plan in (
        ("self_similarity_weight", plan_of(config, replace(ARGUMENTS, self_similarity_weight=0.5))),
        ("model_name_or_path", plan_of(config, model="other/base")),
        ("rows", plan_of(config, rows="def")),
    ):
        with pytest.raises(ConfigError, match=rf"what differs: {name} \(was"):
            prepare(folder, config, plan)


def test_what_does_not_shape_a_training_may_change(folder: Path):
    config = sft_config(
        folder,
        resume_from_checkpoint="true",
        logging_steps=7,
        save_total_limit=2,
        save_steps=2,
        dataloader_num_workers=1,
        per_device_eval_batch_size=3,
        report_to="tensorboard",
        run_name="again",
    )
    moved = replace(ARGUMENTS, tokenizer="elsewhere/t", threads=2)
    assert prepare(folder, config, plan_of(config, moved)) == folder / "checkpoint-3"


def test_a_disk_that_is_too_small_is_refused_before_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    model = random_llama(300)
    size = 4 * sum(p.numel() for p in model.parameters())
    out = tmp_path / "far" / "m"

    def check(free: int, **values: Any) -> None:
        usage = shutil.disk_usage("/")._replace(free=free)
        monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
        check_space(tmp_path / "c", out, model, sft_config(tmp_path / "c", **values), 8)

    # a checkpoint is the weights and two moments; the model comes after them
    for needed, values in (
        (1 * size, {"save_strategy": "no"}),
        (10 * size, {"max_steps": 3}),
        (7 * size, {"max_steps": 30, "save_total_limit": 1}),
        (4 * size, {"max_steps": 30, "save_total_limit": 3, "save_steps": 20.0 + 10}),
        (4 * size, {"max_steps": 30, "save_only_model": True, "save_steps": 10}),
        (7 * size, {"max_steps": -1, "num_train_epochs": 2, "save_strategy": "epoch"}),
    ):
        check(needed, **values)
        with pytest.raises(ConfigError, match=r"needs about .* are free; free some"):
            check(needed - 1, **values)


def test_checkpoints_that_are_there_need_no_more_room(
    folder: Path, monkeypatch: pytest.MonkeyPatch
):
    model = random_llama(300)
    size = 4 * sum(p.numel() for p in model.parameters())
    usage = shutil.disk_usage("/")._replace(free=2 * size)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    check_space(folder, folder.parent / "m", model, sft_config(folder, max_steps=3), 8)


WRITERS: dict[str, Callable[[Path], None]] = {
    "torch": lambda path: torch.save({"a": torch.zeros(100_000)}, path),
    "safetensors": lambda path: save_file({"a": torch.zeros(100_000)}, path),
    "text": lambda path: path.write_text("x" * 400_000) and None,
}


@pytest.mark.parametrize("writer", WRITERS)
def test_a_full_disk_is_one_error_that_names_what_can_be_used(folder: Path, writer: str):
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(ArtifactError) as raised, saving(folder):
            WRITERS[writer](folder / "file")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)
    assert "the disk is full" in str(raised.value)
    assert f"{folder / 'checkpoint-3'} is complete" in str(raised.value)


def test_no_space_left_is_said_without_a_checkpoint_too(tmp_path: Path):
    with pytest.raises(ArtifactError, match="make room and start again"), saving(tmp_path / "c"):
        raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("mat1 and mat2 shapes cannot be multiplied"),
        RuntimeError("PytorchStreamReader failed reading zip archive"),
        FileNotFoundError(errno.ENOENT, "gone"),
        SafetensorError("Error while deserializing header"),
        ConfigError("ours"),
    ],
)
def test_other_errors_pass_as_they_are(error: Exception, tmp_path: Path):
    with pytest.raises(type(error)) as raised, saving(tmp_path):
        raise error
    assert raised.value is error


def test_the_best_model_is_by_the_loss_of_the_conversations(tmp_path: Path):
    config = sft_config(tmp_path, eval_strategy="steps", eval_steps=1, load_best_model_at_end=True)
    assert evaluation_callbacks(ARGUMENTS, config, ["conversations", "playlists"]) == []
    assert config.metric_for_best_model == "eval_conversations_loss"
    assert config.greater_is_better is False


def test_the_best_model_can_be_by_another_loss(tmp_path: Path):
    config = sft_config(tmp_path, eval_strategy="steps", metric_for_best_model="playlists_loss")
    evaluation_callbacks(ARGUMENTS, config, ["conversations", "playlists"])
    assert config.metric_for_best_model == "eval_playlists_loss"


def test_early_stopping_makes_its_callback(tmp_path: Path):
    config = sft_config(tmp_path, eval_strategy="epoch", save_strategy="epoch")
    patient = replace(ARGUMENTS, early_stopping_patience=3)
    (callback,) = evaluation_callbacks(patient, config, ["conversations"])
    assert isinstance(callback, EarlyStoppingCallback)
    assert callback.early_stopping_patience == 3
    assert config.restore_callback_states_from_checkpoint


PATIENT = replace(ARGUMENTS, early_stopping_patience=3)
EVALUATED = {"eval_strategy": "steps", "eval_steps": 1}


@pytest.mark.parametrize(
    ("arguments", "values", "sets", "words"),
    [
        (PATIENT, EVALUATED, [], "early_stopping_patience: needs conversations of the split"),
        (PATIENT, {}, ["conversations"], "early_stopping_patience: needs eval_strategy"),
        (ARGUMENTS, EVALUATED, [], "eval_strategy: needs conversations of the split"),
        (
            ARGUMENTS,
            {**EVALUATED, "load_best_model_at_end": True},
            [],
            "load_best_model_at_end: needs conversations",
        ),
        (
            ARGUMENTS,
            {**EVALUATED, "load_best_model_at_end": True, "save_steps": 2},
            ["conversations"],
            "load_best_model_at_end: .* every 1 steps and saved every 2",
        ),
        (
            ARGUMENTS,
            {**EVALUATED, "metric_for_best_model": "mrr"},
            ["conversations"],
            "metric_for_best_model 'mrr': must be one of eval_conversations_loss",
        ),
        (
            ARGUMENTS,
            {**EVALUATED, "metric_for_best_model": "playlists_loss"},
            ["conversations"],
            "metric_for_best_model 'playlists_loss'",
        ),
    ],
)
def test_what_cannot_be_evaluated_is_refused(
    arguments: TalkPlayArguments,
    values: dict[str, Any],
    sets: list[str],
    words: str,
    tmp_path: Path,
):
    with pytest.raises(ConfigError, match=words):
        evaluation_callbacks(arguments, sft_config(tmp_path, **values), sets)


def test_strategies_that_do_not_fit_are_refused_by_the_recipe():
    argv = ["--tokenizer", "t", "--conversations", "c", "--catalog", "k", "--bf16", "false"]
    with pytest.raises(ConfigError, match="load_best_model_at_end requires"):
        parse_recipe([*argv, "--load_best_model_at_end", "true", "--eval_strategy", "no"])


@pytest.mark.slow
def test_two_processes_start_from_the_same_checkpoint(tmp_path: Path):
    script = tmp_path / "run.py"
    script.write_text(
        "import sys, json, shutil\n"
        "from pathlib import Path\n"
        "from trl import SFTConfig\n"
        "from talkplay_hf.training.runs.checkpoints import prepare\n"
        "folder = Path(sys.argv[1])\n"
        "config = SFTConfig(output_dir=str(folder), use_cpu=True, bf16=False, report_to='none',\n"
        "    resume_from_checkpoint='true')\n"
        "start = prepare(folder, config, {'world_size': config.world_size})\n"
        "(folder / f'seen-{config.process_index}').write_text(start.name)\n"
    )
    folder = tmp_path / "c"
    for step in (1, 2):
        checkpoint = folder / f"checkpoint-{step}"
        checkpoint.mkdir(parents=True)
        save_file({"a": torch.zeros(1)}, checkpoint / "model.safetensors")
        for name in ("optimizer.pt", "scheduler.pt", "rng_state_0.pth", "rng_state_1.pth"):
            saved(checkpoint / name)
        (checkpoint / "trainer_state.json").write_text(json.dumps({"global_step": step}))
    (folder / "plan.json").write_text('{"world_size": 2}')
    (folder / "checkpoint-2" / "rng_state_1.pth").unlink()
    run_in_two_processes(script, folder)
    assert [(folder / f"seen-{n}").read_text() for n in (0, 1)] == ["checkpoint-1"] * 2
    assert not (folder / "checkpoint-2").exists()
