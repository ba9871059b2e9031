"""Reporters: trackio on this machine by default, others by name, and no connection."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from trl import SFTConfig

from talkplay_hf.errors import ConfigError, MissingExtraError
from talkplay_hf.training.runs.tracking import default_reporter, resolve_reporters

HAS_TRACKIO = importlib.util.find_spec("trackio") is not None


def sft_config(folder: Path, **values: Any) -> SFTConfig:
    return SFTConfig(output_dir=str(folder), use_cpu=True, bf16=False, **values)


@pytest.fixture(autouse=True)
def kept_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WANDB_PROJECT", "TENSORBOARD_LOGGING_DIR"):
        # set and deleted, so that what is set later is taken back too
        monkeypatch.setenv(name, "x")
        monkeypatch.delenv(name)


def test_none_reports_nowhere(tmp_path: Path):
    config = sft_config(tmp_path, report_to="none")
    resolve_reporters(config, tmp_path / "m-checkpoints", resumed=False)
    assert config.report_to == []
    assert config.run_name is None
    assert not (tmp_path / "m-checkpoints").exists()


def test_trackio_is_the_default_where_it_is_installed(monkeypatch: pytest.MonkeyPatch):
    assert default_reporter() == ("trackio" if HAS_TRACKIO else "none")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert default_reporter() == "none"


@pytest.mark.parametrize(("name", "package"), [("trackio", "tracking"), ("wandb", "wandb")])
def test_a_missing_package_is_named_before_training(
    name: str, package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    config = sft_config(tmp_path, report_to=name)
    with pytest.raises(MissingExtraError, match=rf"pip install .*{package}"):
        resolve_reporters(config, tmp_path, resumed=False)


def test_an_unknown_reporter_is_refused(tmp_path: Path):
    with pytest.raises(ConfigError, match="report_to 'smoke_signals': must be none or one of"):
        resolve_reporters(sft_config(tmp_path, report_to="smoke_signals"), tmp_path, resumed=False)


def resolved(folder: Path, resumed: bool, **values: Any) -> SFTConfig:
    config = sft_config(folder, report_to="tensorboard", **values)
    resolve_reporters(config, folder, resumed)
    assert config.report_to == ["tensorboard"]
    return config


@pytest.fixture
def tensorboard() -> None:
    pytest.importorskip("tensorboard")


@pytest.mark.usefixtures("tensorboard")
def test_a_run_keeps_its_name_when_it_goes_on(tmp_path: Path):
    folder = tmp_path / "m-checkpoints"
    first = resolved(folder, resumed=False)
    assert first.run_name.startswith("m ")
    assert first.project == "talkplay"
    (folder / "run.json").write_text(json.dumps({"name": "m of yesterday"}))
    assert resolved(folder, resumed=True).run_name == "m of yesterday"
    assert resolved(folder, resumed=False).run_name != "m of yesterday"


@pytest.mark.usefixtures("tensorboard")
def test_names_of_the_recipe_are_kept(tmp_path: Path):
    config = resolved(tmp_path, resumed=False, run_name="mine", project="ours")
    assert (config.run_name, config.project) == ("mine", "ours")
    assert not (tmp_path / "run.json").exists()


@pytest.mark.usefixtures("tensorboard")
def test_a_run_without_checkpoints_leaves_no_file(tmp_path: Path):
    assert resolved(tmp_path / "c", resumed=False, save_strategy="no").run_name
    assert not (tmp_path / "c").exists()


OFFLINE = """
import socket, sys
from pathlib import Path

def refuse(*args, **kwargs):
    print("CONNECTION", args)
    raise OSError("no network")

socket.socket.connect = refuse
socket.getaddrinfo = refuse
from transformers import TrainerControl, TrainerState
from transformers.integrations import TrackioCallback
from trl import SFTConfig
from talkplay_hf.training.runs.tracking import resolve_reporters

folder = Path(sys.argv[1])
config = SFTConfig(output_dir=str(folder), use_cpu=True, bf16=False, report_to="trackio")
resolve_reporters(config, folder, resumed=False)
callback, state = TrackioCallback(), TrainerState()
for start in (1, 4):
    callback.on_train_begin(config, state, TrainerControl())
    for state.global_step in range(start, start + 3):
        callback.on_log(config, state, TrainerControl(), logs={"loss": 1.0 / state.global_step})
    callback.on_train_end(config, state, TrainerControl())
    callback.on_push_begin(config, state, TrainerControl(), model=None)
import sqlite3
store = next(Path(sys.argv[2]).glob("talkplay.db"))
rows = sqlite3.connect(store).execute("select run_name, metrics from metrics").fetchall()
print("ROWS", len(rows), len({name for name, _ in rows}))
"""


@pytest.mark.skipif(not HAS_TRACKIO, reason="trackio is not installed")
@pytest.mark.slow
def test_trackio_keeps_all_starts_of_a_run_together_and_opens_no_connection(tmp_path: Path):
    done = subprocess.run(
        [sys.executable, "-c", OFFLINE, str(tmp_path / "c"), str(tmp_path / "store")],
        env={**os.environ, "TRACKIO_DIR": str(tmp_path / "store")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "CONNECTION" not in done.stdout
    assert "ROWS 6 1" in done.stdout
