"""The report as JSON values and as text."""

import json
from dataclasses import replace
from typing import Any

import pytest

from talkplay_hf.evaluation.metrics.intervals import Figure
from talkplay_hf.evaluation.report import Difference, EvaluationReport


@pytest.fixture
def report() -> EvaluationReport:
    figure = Figure(0.5, 0.25, 0.75, 12)
    alone = Figure(0.125, None, None, 3)
    metrics = {"mrr": figure, "hit@1": alone, "ndcg@10": figure}
    return EvaluationReport(
        conversations=4,
        turns=12,
        candidates=300,
        k=100,
        ranking_options={
            "strategy": "beam",
            "constraint": "catalog",
            "beam_width": 256,
            "draws": 100,
            "temperature": 1.0,
            "top_p": 0.9,
            "names": False,
        },
        seed=3,
        bootstrap_seed=4,
        resamples=1000,
        exclude_played=True,
        skipped={"no_request": 0, "played_before": 2},
        hashes={"model": None, "catalog": "c", "conversations": "d"},
        ranking={"talkplay": metrics, "bm25": metrics},
        ranking_with_negatives={},
        differences={"bm25": {"mrr": Difference(0.25, 0.125, 0.5, 12, 0.03)}},
        fit={"talkplay": {"all": figure, "macro": figure, "genre": alone}},
        mrr_by_turn={"talkplay": {1: figure, 12: alone}},
        hit_curve={"talkplay": {1: alone, 10: figure}},
        slices={"cold": {"talkplay": metrics, "bm25": metrics}},
        lists={"talkplay": {"coverage@10": 0.5, "popularity_rank@10": 123.4}},
        replies={"talkplay": {"title": figure, "distinct-1": 0.25}, "label": {"title": alone}},
        examples=[],
    )


def test_values_are_plain_json_under_the_contracts_names(report: EvaluationReport) -> None:
    values: dict[str, Any] = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert {
        "format_version", "talkplay_hf", "catalog_kind", "conversations", "turns", "candidates",
        "k", "ranking_options", "seed", "resamples", "exclude_played", "skipped", "hashes",
        "ranking", "ranking_with_negatives", "differences", "fit", "mrr_by_turn", "hit_curve",
        "slices", "lists", "replies", "examples",
    } <= set(values)  # fmt: skip
    assert values["ranking"]["bm25"]["hit@1"] == {
        "value": 0.125,
        "low": None,
        "high": None,
        "n": 3,
    }
    assert values["differences"]["bm25"]["mrr"]["p"] == 0.03
    assert set(values["mrr_by_turn"]["talkplay"]) == {"1", "12"}
    assert set(values["hit_curve"]["talkplay"]) == {"1", "10"}


def test_what_is_not_there_has_no_key(report: EvaluationReport) -> None:
    optional = {"matching", "training", "codebooks"}
    assert not optional & set(report.to_dict())
    full = replace(report, matching={"samples": 1}, training={"steps": 2}, codebooks={})
    assert optional < set(full.to_dict())


def table(report: EvaluationReport, title: str) -> list[list[str]]:
    """The rows of a table of the text, as cells."""
    blocks = report.summary().split("\n\n")
    (lines,) = [block.splitlines() for block in blocks if block.startswith(title)]
    assert len({len(line) for line in lines}) == 1
    return [line.split() for line in lines]


def test_the_text_has_the_key_columns(report: EvaluationReport) -> None:
    assert table(report, "ranking") == [
        ["ranking", "mrr", "hit@1"],
        ["talkplay", "0.500", "[0.250,", "0.750]", "0.125", "[-,", "-]"],
        ["bm25", "0.500", "[0.250,", "0.750]", "0.125", "[-,", "-]"],
    ]
    assert table(report, "talkplay minus")[1] == ["bm25", "0.250", "[0.125,", "0.500]*"]
    # only the first ten turns fit
    assert table(report, "MRR by turn")[0] == ["MRR", "by", "turn", "turn", "1"]
    assert table(report, "the lists")[1] == ["talkplay", "0.500", "123"]
    assert table(report, "replies")[2] == ["label", "0.125", "-"]
    assert table(report, "MRR by kind")[0][-1] == "cold"


def test_the_text_tells_the_conditions(report: EvaluationReport) -> None:
    text = report.summary()
    assert "12 turns of 4 conversations; seed 3" in text
    assert "turns left out: 2 played before" in text
    assert "talkplay ranks by beam search of width 256 within the catalog" in text
    assert "ranks" not in replace(report, ranking_options={}).summary().split("\n\n")[0].replace(
        "ranks beyond", ""
    )
