"""`recipes/check.py`: a model against the expected figures of its recipe."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

RECIPES = Path(__file__).parents[2] / "recipes"
MRR = {
    "name": "MRR",
    "file": "evaluation",
    "key": "ranking.talkplay.mrr.value",
    "value": 0.25,
    "tolerance": 0.02,
}
LOSS = {
    "name": "validation loss",
    "file": "report",
    "key": "evaluation.eval_conversations_loss",
    "value": 0.4,
    "tolerance": 0.1,
}


def write(path: Path, value: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")
    return path


def recipe(folder: Path, **changes: Any) -> Path:
    expected = {
        "format_version": 1,
        "recipe": "mine",
        "hardware": "CPU",
        "data": "demo world",
        "seeds": [0],
        "measured": True,
        "figures": {"sft.yaml": [MRR, LOSS], "other.yaml": [{**LOSS, "value": 9.0}]},
    }
    write(folder / "mine" / "expected.json", {**expected, **changes})
    return folder / "mine"


def model(folder: Path, loss: float = 0.4) -> Path:
    report = {"evaluation": {"eval_conversations_loss": loss}}
    return write(folder / "model" / "training_report.json", report).parent


def evaluation(folder: Path, mrr: float | None = 0.25) -> Path:
    return write(folder / "e.json", {"ranking": {"talkplay": {"mrr": {"value": mrr}}}})


def check(*arguments: Path) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, str(RECIPES / "check.py"), *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("off", [0.0, 0.0199, -0.0199])
def test_figures_within_tolerance_pass(off: float, tmp_path: Path):
    code, text = check(recipe(tmp_path), model(tmp_path), evaluation(tmp_path, 0.25 + off))
    assert code == 0, text
    assert "MRR" in text
    assert "OUTSIDE" not in text


@pytest.mark.parametrize(
    ("loss", "mrr"), [(0.4, 0.275), (0.4, 0.225), (0.51, 0.25), (float("nan"), 0.25)]
)
def test_one_figure_outside_fails(loss: float, mrr: float, tmp_path: Path):
    code, text = check(recipe(tmp_path), model(tmp_path, loss), evaluation(tmp_path, mrr))
    assert code == 1, text
    assert text.count("OUTSIDE") == 1


def test_without_an_evaluation_the_report_alone_is_compared(tmp_path: Path):
    code, text = check(recipe(tmp_path), model(tmp_path))
    assert code == 0, text
    assert "no evaluation given" in text


def test_a_yaml_file_names_its_own_figures(tmp_path: Path):
    code, text = check(recipe(tmp_path) / "other.yaml", model(tmp_path))
    assert code == 1, text
    assert "9 ± 0.1" in text


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"measured": False, "reason": "nobody has eight GPUs"}, "nobody has eight GPUs"),
        ({"figures": {"with.yaml": [LOSS]}}, "no figures of sft.yaml, but of with.yaml"),
        ({"figures": {"sft.yaml": [{**LOSS, "key": "evaluation.gone"}]}}, "has no evaluation.gone"),
        ({"figures": {"sft.yaml": [{**LOSS, "key": "evaluation"}]}}, "is no number"),
        ({"figures": {"sft.yaml": [MRR]}}, "name its JSON file"),
    ],
)
def test_expected_figures_that_cannot_be_compared_are_bad_input(
    changes: dict[str, Any], word: str, tmp_path: Path
):
    code, text = check(recipe(tmp_path, **changes), model(tmp_path))
    assert code == 2, text
    assert word in text
    assert "Traceback" not in text


def test_missing_and_broken_files_are_bad_input(tmp_path: Path):
    good = recipe(tmp_path)
    assert check(tmp_path / "gone", model(tmp_path))[0] == 2
    assert check(good, tmp_path / "gone")[0] == 2
    assert check(good, model(tmp_path), tmp_path / "gone.json")[0] == 2
    assert check(good, model(tmp_path), write(tmp_path / "cut.json", "{"))[0] == 2
    assert check(good, model(tmp_path), write(tmp_path / "list.json", "[]"))[0] == 2
    assert check(good, model(tmp_path), evaluation(tmp_path, None))[0] == 2
