"""`talkplay evaluate`: its flags and what its report says."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from talkplay_hf.catalog.schema import Catalog
from talkplay_hf.cli import main
from talkplay_hf.recommend.recommender import Recommender

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def evaluate(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    recommender: Recommender,
    world_folder: Path,
    conversations_folder: Path,
) -> Run:
    """Evaluate one conversation; exit status, stdout, stderr."""
    monkeypatch.setattr(Recommender, "from_pretrained", lambda name: recommender)

    def run(*flags: object, catalog: Path = world_folder) -> tuple[int, str, str]:
        arguments = ["evaluate", "model", conversations_folder, "--catalog", catalog]
        arguments += ["--split", "train", "--limit", 1, *flags]
        try:
            status = main([str(argument) for argument in arguments])
        except SystemExit as stop:
            status = int(stop.code or 0)
        return status, *capsys.readouterr()

    return run


def refused(result: tuple[int, str, str], text: str) -> None:
    status, out, err = result
    assert (status, out) == (2, "")
    assert text in err
    assert len(err.strip().splitlines()) == 1


def test_the_report_says_that_the_catalog_is_the_demo_world(evaluate: Run, tmp_path: Path) -> None:
    out = tmp_path / "new" / "report.json"
    status, text, _ = evaluate("--out", out)
    assert status == 0
    assert "fictional demo world" in text
    assert "beam search of width" in text
    assert json.loads(out.read_text())["catalog_kind"] == "demo world"


def test_any_other_catalog_is_a_catalog(evaluate: Run, world: Catalog, tmp_path: Path) -> None:
    world.save(tmp_path / "catalog", {})
    status, text, _ = evaluate("--json", catalog=tmp_path / "catalog")
    assert status == 0
    assert json.loads(text)["catalog_kind"] == "catalog"


def test_negative_turns_are_ranked_on_request(evaluate: Run) -> None:
    assert json.loads(evaluate("--json")[1])["ranking_with_negatives"] == {}
    assert json.loads(evaluate("--json", "--negatives")[1])["ranking_with_negatives"]


def test_the_report_file_is_checked_before_the_work(
    evaluate: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def never(name: str) -> None:
        raise AssertionError("the model was loaded")

    monkeypatch.setattr(Recommender, "from_pretrained", never)
    (tmp_path / "file").write_text("")
    refused(evaluate("--out", tmp_path), "is a folder; name a file")
    refused(evaluate("--out", tmp_path / "file" / "report.json"), "not a folder that can be")
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    refused(evaluate("--out", tmp_path / "new" / "report.json"), "not a folder that can be")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_negative_number_of_samples_is_refused(evaluate: Run) -> None:
    refused(evaluate("--matching", -1), "--matching")
