"""Loss curves: what is read from a trainer's log, and the figures drawn from it."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from talkplay_hf.errors import MissingExtraError
from talkplay_hf.training.figures.curves import best, compare_curves, draw_curves, series, smoothed

LOG: list[dict[str, Any]] = [
    {"step": 1, "loss": 4.0, "loss_conversations": 3.0, "self_similarity": 0.5},
    {"step": 2, "loss": 3.0, "loss_conversations": 2.0, "self_similarity": 0.4},
    {"step": 2, "eval_conversations_loss": 2.5},
    {"step": 2, "eval_playlists_loss": 0.5},
    {"step": 4, "eval_conversations_loss": 2.1},
    {"step": 6, "eval_conversations_loss": 2.3},
]


def test_the_best_step_has_the_lowest_validation_loss_of_the_conversations():
    assert best(LOG) == {"metric": "eval_conversations_loss", "step": 4, "value": 2.1}


def test_the_first_of_two_equal_steps_is_best():
    twice = [*LOG, {"step": 9, "eval_conversations_loss": 2.1}]
    assert best(twice)["step"] == 4


def test_the_best_step_by_another_loss():
    assert best(LOG, "eval_playlists_loss")["value"] == 0.5


def test_a_loss_that_is_not_a_number_is_never_best():
    broken = [{"step": 1, "eval_conversations_loss": float("nan")}, *LOG]
    assert best(broken)["step"] == 4
    assert best(broken[:1]) is None


def test_without_validation_there_is_no_best_step():
    assert best(LOG[:2]) is None


def test_a_step_that_was_done_twice_counts_once():
    again = [*LOG, {"step": 2, "loss": 2.9}]
    steps, values = series(again, "loss")
    assert steps.tolist() == [1, 2]
    assert values.tolist() == [4.0, 2.9]


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=60), st.integers(1, 20))
def test_smoothing_stays_within_the_values_and_keeps_their_number(values: list[float], width: int):
    width = min(width, len(values))
    smooth = smoothed(np.array(values), width)
    assert len(smooth) == len(values)
    assert min(values) - 1e-9 <= smooth.min() <= smooth.max() <= max(values) + 1e-9


def test_smoothing_is_the_mean_of_the_neighbours():
    assert smoothed(np.array([0.0, 3.0, 6.0, 0.0]), 3).tolist() == [1.5, 3.0, 3.0, 3.0]


def long_log(points: int) -> list[dict[str, Any]]:
    rng = np.random.default_rng(0)
    return [
        {"step": n, "loss_conversations": 1 / n + rng.random(), "loss_playlists": 2.0}
        for n in range(1, points + 1)
    ]


@pytest.mark.parametrize("log", [LOG, LOG[:2], [], long_log(5), long_log(5000)])
def test_the_same_log_gives_the_same_picture(log: list[dict[str, Any]], tmp_path: Path):
    draw_curves(log, tmp_path / "a.png", "title")
    draw_curves(log, tmp_path / "b.png", "title")
    picture = (tmp_path / "a.png").read_bytes()
    assert picture.startswith(b"\x89PNG")
    assert picture == (tmp_path / "b.png").read_bytes()
    assert b"matplotlib" not in picture.lower()


def test_another_log_gives_another_picture(tmp_path: Path):
    draw_curves(LOG, tmp_path / "a.png")
    draw_curves(LOG[:-1], tmp_path / "b.png")
    assert (tmp_path / "a.png").read_bytes() != (tmp_path / "b.png").read_bytes()


def test_every_seed_is_drawn(tmp_path: Path):
    compare_curves({"with": [LOG, LOG[1:]], "without": LOG}, tmp_path / "a.png")
    compare_curves({"with": [LOG], "without": [LOG]}, tmp_path / "b.png")
    compare_curves({"with": LOG, "without": LOG}, tmp_path / "c.png")
    one, two, three = ((tmp_path / f"{name}.png").read_bytes() for name in "abc")
    assert one != two
    assert two == three


def test_a_missing_matplotlib_is_named_with_its_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingExtraError, match=r"talkplay-hf\[plots\]"):
        draw_curves(LOG, tmp_path / "a.png")


def test_reading_a_log_loads_neither_torch_nor_matplotlib():
    code = (
        "import sys, talkplay_hf.training.figures.curves as c; c.best([]); "
        "print([m for m in ('torch', 'matplotlib', 'transformers') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
