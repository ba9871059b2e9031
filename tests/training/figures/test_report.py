"""The training report: the same bytes for the same training, and the lines for the terminal."""

import json
from pathlib import Path
from typing import Any

import pytest
from trl import ModelConfig, SFTConfig

from talkplay_hf.training.arguments import TalkPlayArguments
from talkplay_hf.training.figures.report import (
    last_losses,
    summary,
    training_report,
    without_volatile,
)

LOG: list[dict[str, Any]] = [
    {"step": 1, "loss": 3.0, "loss_music": 4.0, "self_similarity": 0.5, "num_tokens": 10.0},
    {"step": 2, "loss": 2.0, "loss_music": 3.0, "self_similarity": 0.4, "num_tokens": 25.0},
    {"step": 2, "eval_conversations_loss": 2.5, "eval_self_similarity": 0.4, "eval_runtime": 3.1},
    {"step": 2, "train_runtime": 9.9, "train_loss": 2.5, "total_flos": 1e9},
]


def report_of(folder: Path, **changes: Any) -> dict[str, Any]:
    arguments = TalkPlayArguments(
        tokenizer=str(folder / "t"),
        conversations=str(folder / "c"),
        catalog=str(folder / "k"),
        threads=len(str(folder)),
    )
    config = SFTConfig(
        output_dir=str(folder / "out"), use_cpu=True, bf16=False, report_to="none", seed=5
    )
    values: dict[str, Any] = {
        "parameters": (1000, 400),
        "data": {"train": {"rows": 3, "label_tokens": 12}},
        "log": LOG,
        "steps": 2,
        "tokens": 25,
        "evaluation": {"eval_conversations_loss": 2.5, "eval_samples_per_second": 7.0},
        "geometry": {"start": {"spearman": 0.0}, "end": {"spearman": 0.7}},
    }
    base = changes.pop("base", "scratch")
    return training_report(
        arguments, config, ModelConfig(model_name_or_path=base), **{**values, **changes}
    )


def test_the_same_training_gives_the_same_report_wherever_and_however_fast_it_ran(tmp_path: Path):
    slower = [
        {key: value * 2 if "runtime" in key else value for key, value in entry.items()}
        for entry in LOG
    ]
    (tmp_path / "elsewhere" / "base").mkdir(parents=True)
    (tmp_path / "base").mkdir()
    one = report_of(tmp_path, base=str(tmp_path / "base"))
    two = report_of(tmp_path / "elsewhere", base=str(tmp_path / "elsewhere" / "base"), log=slower)
    assert one == two
    text = json.dumps(one)
    assert str(tmp_path) not in text
    assert not any(word in text for word in ("runtime", "per_second", "flos"))


def test_the_report_says_what_was_trained(tmp_path: Path):
    report = report_of(tmp_path)
    assert report["best"] == {"metric": "eval_conversations_loss", "step": 2, "value": 2.5}
    assert report["last"]["train"] == {"loss": 2.0, "loss_music": 3.0, "self_similarity": 0.4}
    assert report["last"]["eval"] == {"conversations_loss": 2.5, "self_similarity": 0.4}
    assert report["tokens_seen"] == 25
    assert report["data"]["train"]["label_tokens"] == 12
    assert report["geometry"]["end"]["spearman"] == 0.7
    assert (report["world_size"], report["precision"], report["seed"]) == (1, "fp32", 5)
    assert report["versions"]["torch"].startswith("2.")
    assert report["arguments"]["init"] == "mean_covariance"
    assert (report["parameters"], report["trained_parameters"]) == (1000, 400)


def test_the_effective_weight_is_halved_in_the_papers_loss(tmp_path: Path):
    arguments = TalkPlayArguments("t", "c", "k", paper_loss=True, train_on_negatives=True)
    config = SFTConfig(output_dir=str(tmp_path), use_cpu=True, bf16=False, report_to="none")
    report = training_report(
        arguments,
        config,
        ModelConfig(model_name_or_path="scratch"),
        parameters=(1, 1),
        data={},
        log=[],
        steps=0,
        tokens=0,
        evaluation={},
        geometry={},
    )
    assert report["effective_self_similarity_weight"] == pytest.approx(0.05)
    assert report["arguments"]["self_similarity_weight"] == 0.1
    assert report["best"] is None


def test_timings_and_the_loss_since_the_last_start_are_left_out():
    figures = {"eval_loss": 1.0, "eval_runtime": 2.0, "train_loss": 3.0, "step": 4}
    assert without_volatile(figures) == {"eval_loss": 1.0, "step": 4}


def test_the_last_value_of_each_loss_counts():
    log = [{"step": 1, "loss": 3.0, "eval_playlists_loss_music": 5.0}, {"step": 2, "loss": 1.0}]
    assert last_losses(log) == {"train": {"loss": 1.0}, "eval": {"playlists_loss_music": 5.0}}


def test_the_summary_gives_speed_losses_and_the_best_step(tmp_path: Path):
    lines = summary(report_of(tmp_path), seconds=5.0, callback_seconds=0.005).splitlines()
    assert lines[0] == "trained 2 steps in 5 s, 25 tokens (5 a second), fp32"
    assert lines[1] == "self-similarity: 5.0 ms a step, 0.2% of the time"
    assert "last train: loss 2.0000, loss_music 3.0000" in lines[2]
    assert lines[-1] == "best: eval_conversations_loss 2.5000 at step 2"


def test_the_summary_of_a_run_that_went_on_counts_what_was_done_since(tmp_path: Path):
    report = report_of(tmp_path, steps=30, tokens=1000)
    lines = summary(report, 5.0, 0.005, before=(20, 900)).splitlines()
    assert lines[0] == "trained 10 steps in 5 s, 100 tokens (20 a second), fp32; 30 steps in all"
    assert lines[1] == "self-similarity: 5.0 ms a step, 1.0% of the time"


def test_the_summary_of_a_run_without_figures_is_one_line(tmp_path: Path):
    assert len(summary(report_of(tmp_path, log=[]), 0.0).splitlines()) == 1
