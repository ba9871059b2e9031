"""Checkpoints that a run can go on from: which are complete, whose they are, and room for them."""

import contextlib
import errno
import json
import math
import re
import shutil
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from transformers import PreTrainedModel
from trl import SFTConfig

from talkplay_hf.errors import ArtifactError, ConfigError, first_line
from talkplay_hf.hub import files
from talkplay_hf.training.runs.plan import PLAN, check_plan

STATE = "trainer_state.json"
NAME = re.compile(r"checkpoint-(\d+)")
RESUME = "--resume_from_checkpoint true"

WEIGHTS = (
    *("model.safetensors", "model.safetensors.index.json", "adapter_model.safetensors"),
    *("pytorch_model_fsdp.bin", "pytorch_model_fsdp_0", "latest"),
)
OPTIMIZER = ("optimizer.pt", "optimizer.bin", "optimizer_0", "latest")
# DeepSpeed keeps the schedule with its own states
SCHEDULE = ("scheduler.pt", "latest")
ZIPPED = (".pt", ".pth", ".bin")

DISK_FULL = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)
# the writers of safetensors and torch do not raise an OSError, and torch's does not say why
DISK_FULL_TEXT = re.compile(
    rf"os error ({'|'.join(map(str, DISK_FULL))})\b|iostream error|unexpected pos|StreamWriter"
)


def checkpoints(folder: Path) -> list[Path]:
    """The checkpoints of a folder, complete or not, in the order of their steps."""
    if not folder.is_dir():
        return []
    found = [path for path in folder.iterdir() if NAME.fullmatch(path.name) and path.is_dir()]
    return sorted(found, key=_step)


def _step(checkpoint: Path) -> int:
    return int(checkpoint.name.rpartition("-")[2])


def last_complete(folder: Path) -> Path | None:
    """The last checkpoint that training can go on from.

    `Trainer` writes checkpoints in place, so that the one with the highest number may be
    half-written.

    Args:
        folder (`Path`): The folder with the checkpoints, of which `plan.json` says how many
            processes wrote them.

    Returns:
        `Path`, *optional*: The checkpoint, or `None` where there is no complete one.
    """
    processes = _processes(folder)
    complete = [path for path in checkpoints(folder) if defect(path, processes) is None]
    return complete[-1] if complete else None


def defect(checkpoint: Path, processes: int = 1) -> str | None:
    """What keeps training from going on from a checkpoint.

    Headers and lengths are read, not the tensors, and nothing is unpickled. Checkpoints of one
    process, DDP, FSDP (full and sharded), DeepSpeed and of adapters are known.

    Args:
        checkpoint (`Path`): The folder of the checkpoint.
        processes (`int`): How many processes wrote it.

    Returns:
        `str`, *optional*: The first thing found wrong, or `None`.
    """
    if not checkpoint.is_dir():
        return "no such folder"
    for path in sorted(path for path in checkpoint.rglob("*") if path.is_file()):
        wrong = _file_defect(path)
        if wrong:
            return f"{path.relative_to(checkpoint)} {wrong}"
    names = {path.name for path in checkpoint.iterdir()}
    for what, choices in (
        ("weights", WEIGHTS),
        ("state of the optimizer", OPTIMIZER),
        ("state of the schedule", SCHEDULE),
    ):
        if names.isdisjoint(choices):
            return f"holds no {what}"
    if "latest" in names:
        # DeepSpeed names the folder of its states there, after it has written them
        tag = (checkpoint / "latest").read_text(encoding="utf-8").strip()
        if not tag or not any((checkpoint / tag).glob("*_states.pt")):
            return f"holds no states of DeepSpeed under {tag!r}"
    for name in ("pytorch_model_fsdp_0", "optimizer_0"):
        if name in names and not (checkpoint / name / ".metadata").is_file():
            return f"{name} holds no .metadata"
    ranks = [f"_{rank}" for rank in range(processes)] if processes > 1 else [""]
    for rank in ranks:
        if f"rng_state{rank}.pth" not in names:
            return f"holds no rng_state{rank}.pth"
    try:
        state = json.loads((checkpoint / STATE).read_text(encoding="utf-8"))
    except OSError:
        return f"holds no {STATE}"
    except ValueError:
        return f"{STATE} is cut off"
    step = state.get("global_step") if isinstance(state, dict) else None
    if NAME.fullmatch(checkpoint.name) and step != _step(checkpoint):
        return f"{STATE} is of step {step}"
    return None


def _file_defect(path: Path) -> str | None:
    if path.stat().st_size == 0 and path.suffix != ".txt":
        return "is empty"
    if path.suffix == ".safetensors":
        try:
            with safe_open(path, framework="numpy"):
                pass
        except (SafetensorError, OSError):
            return "is cut off"
    elif path.name.endswith(".safetensors.index.json"):
        try:
            shards = set(json.loads(path.read_text(encoding="utf-8"))["weight_map"].values())
        except (ValueError, KeyError, AttributeError):
            return "is cut off"
        missing = sorted(shard for shard in shards if not (path.parent / shard).is_file())
        if missing:
            return f"names {missing[0]}, which is missing"
    elif path.suffix in ZIPPED:
        try:
            zipfile.ZipFile(path).close()
        except (zipfile.BadZipFile, OSError):
            return "is cut off"
    return None


def done_at(checkpoint: Path) -> tuple[int, int]:
    """The optimizer steps and tokens that were done when a complete checkpoint was written."""
    state = files.read_json(checkpoint / STATE)
    return int(state["global_step"]), int(state["num_input_tokens_seen"])


def prepare(folder: Path, config: SFTConfig, plan: Mapping[str, Any]) -> Path | None:
    """Decide where training starts, before it starts.

    To be called by all processes. The plan is kept as `plan.json` beside the checkpoints.
    Half-written checkpoints after the one that training goes on from are removed, by the first
    process, with a line said.

    Args:
        folder (`Path`): The folder of the checkpoints of this run.
        config (`SFTConfig`): With `resume_from_checkpoint`: left out (start anew), true (the last
            complete checkpoint, or the beginning where there is none), or the path of one.
        plan (`Mapping[str, Any]`): What shapes the training, see `training_plan`.

    Returns:
        `Path`, *optional*: The checkpoint to go on from, or `None` to start from the beginning.

    Raises:
        ConfigError: If checkpoints are there and nothing says to go on from them, if they are of
            another plan, or if newer ones than the one that is named are there.
        ArtifactError: If the checkpoint that is named cannot be gone on from.
    """
    with config.main_process_first(local=False, desc="looking for checkpoints"):
        return _prepare(folder, config, json.loads(json.dumps(plan)))


def _prepare(folder: Path, config: SFTConfig, plan: dict[str, Any]) -> Path | None:
    first = config.process_index == 0
    resume = config.resume_from_checkpoint
    named = str(resume or "false")
    found = checkpoints(folder)
    if named.lower() == "false":
        if found:
            raise ConfigError(
                f"{folder}: holds checkpoints up to {found[-1].name}; go on from them with "
                f"{RESUME}, or remove the folder to start anew"
            )
        start = None
    elif named.lower() == "true":
        if found:
            check_plan(folder, plan)
        start = last_complete(folder)
    else:
        start = Path(named)
        _check_named(start, found, plan)
    if not first:
        return start
    for path in found:
        if start is None or _step(path) > _step(start):
            print(f"{path.name}: is not complete ({defect(path, plan['world_size'])}); removed")
            shutil.rmtree(path)
    if start is not None:
        print(f"going on from {start}")
    elif named.lower() == "true":
        print(f"{folder}: holds no complete checkpoint; starting from the beginning")
    if config.save_strategy != "no":
        files.write_json(folder / PLAN, plan)
    return start


def _check_named(start: Path, found: list[Path], plan: Mapping[str, Any]) -> None:
    if not NAME.fullmatch(start.name):
        raise ConfigError(
            f"resume_from_checkpoint {str(start)!r}: must be true, false or the path of a "
            "checkpoint-<step> folder"
        )
    wrong = defect(start, _processes(start.parent))
    if wrong:
        raise ArtifactError(f"{start}: cannot be gone on from: {wrong}")
    check_plan(start.parent, plan)
    newer = [path for path in found if _step(path) > _step(start)]
    other = [path for path in found if path.parent.resolve() != start.parent.resolve()]
    if newer or other:
        # training would write into them, and a kill leave old and new files in one checkpoint
        raise ConfigError(
            f"{(newer or other)[-1]}: is in the way of going on from {start}; move or remove it"
        )


def _processes(folder: Path) -> int:
    path = folder / PLAN
    return int(files.read_json(path).get("world_size", 1)) if path.exists() else 1


def check_space(
    folder: Path, out: Path, model: PreTrainedModel, config: SFTConfig, rows: int
) -> None:
    """Check that the disk has room for the checkpoints and the model, before any training.

    A checkpoint holds the weights that are trained and, with Adam, their two moments; while one is
    written the one that it replaces is still there, and so is the best one.

    Args:
        folder (`Path`): The folder of the checkpoints.
        out (`Path`): The model folder, on the same disk.
        model (`PreTrainedModel`): The model, with its adapters if it has any.
        config (`SFTConfig`): The training arguments.
        rows (`int`): Training rows, all processes together.

    Raises:
        ConfigError: If there is less space than needed.
    """
    sizes = [
        (getattr(p, "ds_numel", p.numel()) * p.element_size(), p.requires_grad)
        for p in model.parameters()
    ]
    whole = sum(size for size, _ in sizes)
    trained = sum(size for size, on in sizes if on)
    # a lower bound: quantised and factored optimizers keep less
    optimizer = str(getattr(config.optim, "value", config.optim))
    adam = "adam" in optimizer and "bit" not in optimizer and not config.save_only_model
    checkpoint = (trained if hasattr(model, "peft_config") else whole) + 2 * trained * adam
    count = _saves(config, rows)
    if config.save_total_limit:
        count = min(count, config.save_total_limit + 1 + bool(config.load_best_model_at_end))
    there = sum(
        path.stat().st_size
        for each in checkpoints(folder)
        for path in each.rglob("*")
        if path.is_file()
    )
    needed = max(0, count * checkpoint - there) + whole
    free = _free(out)
    if needed > free:
        raise ConfigError(
            f"{out}: training needs about {_size(needed)} of disk space ({count} checkpoints of "
            f"{_size(checkpoint)} and the model of {_size(whole)}), {_size(free)} are free; free "
            "some, keep fewer checkpoints (save_total_limit), or write to another disk"
        )


def _saves(config: SFTConfig, rows: int) -> int:
    """How many checkpoints a run writes if none is removed."""
    batch = int(config.per_device_train_batch_size * config.world_size)
    an_epoch = max(1, math.ceil(math.ceil(rows / batch) / config.gradient_accumulation_steps))
    steps = config.max_steps if config.max_steps > 0 else an_epoch * config.num_train_epochs
    every = {
        "no": math.inf,
        # the best one, and the one before it
        "best": steps / 2,
        "epoch": an_epoch,
        "steps": config.save_steps if config.save_steps >= 1 else config.save_steps * steps,
    }
    strategy = str(getattr(config.save_strategy, "value", config.save_strategy))
    return math.ceil(steps / every[strategy]) if every[strategy] < math.inf else 0


def _free(path: Path) -> int:
    """Free bytes where a path is or is going to be."""
    there = next(one for one in (path, *path.absolute().parents) if one.exists())
    return shutil.disk_usage(there).free


def _size(size: float) -> str:
    unit = next((unit for unit in ("kB", "MB", "GB") if (size := size / 1000) < 1000), "TB")
    return f"{size if unit != 'TB' else size / 1000:.1f} {unit}"


@contextlib.contextmanager
def saving(folder: Path) -> Iterator[None]:
    """Turn a full disk inside the block into one error that says what can still be used.

    Args:
        folder (`Path`): The folder of the checkpoints.

    Raises:
        ArtifactError: If something could not be written because the disk is full, a quota is used
            up or a file may not grow further.
    """
    try:
        yield
    except (OSError, RuntimeError, SafetensorError) as error:
        full = (
            error.errno in DISK_FULL
            if isinstance(error, OSError)
            else DISK_FULL_TEXT.search(str(error))
        )
        if not full:
            raise
        free = _size(_free(folder))
        last = last_complete(folder)
        rest = (
            f"{last} is complete: make room and go on from it with {RESUME}"
            if last
            else "no complete checkpoint is there yet: make room and start again"
        )
        first = first_line(error)
        raise ArtifactError(
            f"{folder}: saving failed, the disk is full or a limit on files is reached ({free} "
            f"free; {first}). {rest}"
        ) from error
