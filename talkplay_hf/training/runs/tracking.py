"""Where the figures of a training go while it runs: trackio on this machine, or what is named."""

import importlib.util
import os
from datetime import datetime
from pathlib import Path

from trl import SFTConfig

from talkplay_hf.errors import ConfigError, MissingExtraError
from talkplay_hf.hub import files

PROJECT = "talkplay"
TRANSFORMERS_PROJECT = "huggingface"
RUN = "run.json"
# what `pip install talkplay-hf[tracking]` brings, and what is installed by its own name
IN_EXTRA = ("trackio", "tensorboard")
REPORTERS = (*IN_EXTRA, "wandb")


def default_reporter() -> str:
    """What `report_to` is when a recipe leaves it out: trackio if it is installed."""
    return "trackio" if importlib.util.find_spec("trackio") else "none"


def check_reporters(config: SFTConfig) -> list[str]:
    """The reporters that `report_to` names.

    Args:
        config (`SFTConfig`): With `report_to`.

    Returns:
        `list[str]`: The reporters; empty for none.

    Raises:
        ConfigError: If a reporter is not one of trackio, tensorboard and wandb.
        MissingExtraError: If the package of a reporter is not installed.
    """
    reporters = [name for name in config.report_to or [] if name != "none"]
    for name in reporters:
        if name not in REPORTERS:
            raise ConfigError(f"report_to {name!r}: must be none or one of {', '.join(REPORTERS)}")
        if not importlib.util.find_spec(name):
            package = "talkplay-hf[tracking]" if name in IN_EXTRA else name
            raise MissingExtraError(
                f"report_to {name}: {name} is not installed; install it with `pip install "
                f"{package}`, or set report_to: none"
            )
    return reporters


def resolve_reporters(config: SFTConfig, folder: Path, resumed: bool) -> None:
    """Settle where figures are reported to, and under which name.

    Trackio writes to a SQLite file on this machine (`TRACKIO_DIR`, else `trackio` in the cache of
    Hugging Face) and opens no connection; `trackio show --project talkplay` shows all runs.
    TensorBoard writes to `runs` beside the checkpoints. Weights & Biases sends figures away unless
    `WANDB_MODE=offline` is set. A run that goes on from a checkpoint keeps its name.

    Args:
        config (`SFTConfig`): Changed in place: `report_to`, `run_name`, `project`.
        folder (`Path`): The folder of the checkpoints, where the name is kept.
        resumed (`bool`): Whether training goes on from a checkpoint.

    Raises:
        TalkPlayError: See `check_reporters`.
    """
    reporters = check_reporters(config)
    config.report_to = reporters
    if not reporters:
        return
    if config.project == TRANSFORMERS_PROJECT:
        config.project = PROJECT
    os.environ.setdefault("WANDB_PROJECT", config.project)
    # or the first push of the model would make a Space of the figures
    config.trackio_static_space_id = config.trackio_static_space_id or False
    if "tensorboard" in reporters:
        os.environ.setdefault("TENSORBOARD_LOGGING_DIR", str(folder / "runs"))
    if config.run_name is None and config.process_index == 0:
        config.run_name = _run_name(folder, resumed, config.save_strategy != "no")


def _run_name(folder: Path, resumed: bool, keep: bool) -> str:
    """A name of its own for each training, and the same for all its starts."""
    kept = folder / RUN
    if resumed and kept.exists():
        return str(files.read_json(kept)["name"])
    out = folder.name.removesuffix("-checkpoints")
    name = f"{out} {datetime.now():%Y-%m-%d %H:%M:%S}"
    if keep:
        files.write_json(kept, {"name": name})
    return name
