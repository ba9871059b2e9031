"""The runner of mutants, as CONTRIBUTING.md has it, on a handful of them."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

RUN = Path(__file__).with_name("run.py")
MODULE = "talkplay_hf/recommend/grammar/vocabulary.py"


@pytest.mark.slow
def test_mutants_of_a_small_module_are_run_and_noticed(tmp_path: Path) -> None:
    out = tmp_path / "mutants.jsonl"
    command = [sys.executable, str(RUN), MODULE, "--tests", "tests/recommend/grammar"]
    done = subprocess.run(
        [*command, "--out", str(out), "--sample", "8"],
        cwd=RUN.parents[2], capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    found = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    assert len(found) == 8
    assert MODULE in done.stdout
    # the tests are good enough to see nearly all changes there
    assert sum(one["result"] == "killed" for one in found) >= 6, done.stdout
