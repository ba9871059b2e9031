"""`talkplay doctor`: every look tells what it found, and what to do where something is wrong."""

import argparse
import json
import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from loopback import LoopbackHub

from talkplay_hf.cli import doctor
from talkplay_hf.errors import TalkPlayError

REPOSITORY = Path(__file__).parent.parent
Facts = dict[str, Any]
Look = Callable[[], Facts]


@pytest.fixture
def look(capsys: pytest.CaptureFixture[str]) -> Look:
    """What the doctor finds, as JSON, whether or not it has to complain."""

    def run() -> Facts:
        capsys.readouterr()
        try:
            doctor.run_doctor(argparse.Namespace(json=True))
            complained = False
        except TalkPlayError:
            complained = True
        facts: Facts = json.loads(capsys.readouterr().out)
        assert complained == (facts["problems"] > 0)
        return facts

    return run


def one(facts: Facts, name: str) -> dict[str, str]:
    (found,) = [check for check in facts["checks"] if check["name"] == name]
    return dict(found)


def test_extras_are_those_of_the_project_with_their_packages() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))["project"]
    extras = project["optional-dependencies"]
    assert {*doctor.EXTRAS, "dev"} == set(extras)
    for extra, (packages, _) in doctor.EXTRAS.items():
        named = {re.split(r"[\[<>=]", line)[0] for line in extras[extra]}
        # gradio is there in any case, and its own extra brings the package
        assert set(packages) == ({"mcp"} if extra == "mcp" else named)


def test_a_sound_machine_has_no_problem_and_every_note_says_what_to_do(look: Look) -> None:
    facts = look()
    assert facts["problems"] == 0
    assert {check["status"] for check in facts["checks"]} <= {"ok", "note"}
    assert all(check["do"] for check in facts["checks"] if check["status"] == "note")
    assert one(facts, "packages")["found"].startswith("torch 2.")
    assert "HF_HUB_OFFLINE" in one(facts, "Hub")["found"]


def test_text_has_a_line_for_each_check_and_its_advice_below(
    capsys: pytest.CaptureFixture[str],
) -> None:
    doctor.run_doctor(argparse.Namespace(json=False))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("talkplay_hf ")
    starts = {line[:8].strip() for line in lines[1:]}
    assert starts <= {"ok", "note", ""}
    assert any(line.startswith("        -> unset HF_HUB_OFFLINE") for line in lines)


def test_packages_out_of_range_or_absent_are_problems(
    look: Look, monkeypatch: pytest.MonkeyPatch
) -> None:
    import importlib.metadata

    real = importlib.metadata.version

    def version(name: str) -> str:
        if name == "trl":
            return "0.9.0"
        if name in ("orjson", "gensim"):
            raise importlib.metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    facts = look()
    assert facts["problems"] == 2
    assert one(facts, "trl")["found"].startswith("0.9.0 is installed")
    assert one(facts, "trl")["do"].startswith("pip install 'trl")
    assert one(facts, "orjson")["status"] == "problem"
    gensim = one(facts, "extra features")
    assert gensim["status"] == "note"
    assert "no gensim" in gensim["found"]
    assert "talkplay-hf[features]" in gensim["do"]


def test_a_gpu_that_torch_does_not_see_is_a_problem(
    look: Look, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    found = one(look(), "GPU")
    assert found["status"] == "problem"
    assert torch.__version__ in found["found"]
    assert found["do"]


def test_more_threads_than_cores_are_noted(look: Look, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4096)
    found = one(look(), "threads")
    assert found["status"] == "note"
    assert "OMP_NUM_THREADS" in found["do"]


def test_a_disk_without_room_and_a_closed_folder_are_problems(
    look: Look, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "ROOM", 10**18)
    assert look()["problems"] == 3
    monkeypatch.setattr(doctor.os, "access", lambda *_: False)
    assert "cannot be written to" in one(look(), "working folder")["found"]


def test_the_token_is_named_by_its_owner_and_never_shown(look: Look, hub: LoopbackHub) -> None:
    facts = look()
    assert one(facts, "Hub")["status"] == "ok"
    assert one(facts, "Hub token")["found"] == "there is one, of me"
    assert "hf_me" not in json.dumps(facts)


def test_a_refused_token_is_a_problem_and_none_a_note(
    look: Look, hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_of_nobody_at_all")
    facts = look()
    assert one(facts, "Hub token")["status"] == "problem"
    assert "401" in one(facts, "Hub token")["found"]
    assert "hf_of_nobody" not in json.dumps(facts)
    monkeypatch.delenv("HF_TOKEN")
    assert one(look(), "Hub token")["status"] == "note"


def test_a_hub_that_cannot_be_reached_is_a_note(
    look: Look, hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    found = one(look(), "Hub")
    assert found["status"] == "note"
    assert "127.0.0.1:9" in found["found"]
    assert "HF_HUB_OFFLINE=1" in found["do"]
