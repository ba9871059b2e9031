"""`talkplay evaluate`: its flags and what its report says."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from huggingface_hub import ModelCard
from loopback import LoopbackHub
from transformers import LlamaForCausalLM

from talkplay_hf.catalog.schema import MODALITIES, Catalog, Conversation
from talkplay_hf.cli import main
from talkplay_hf.conversations.dataset import save_conversations
from talkplay_hf.errors import HubError
from talkplay_hf.evaluation.evaluate import DEFAULT_BASELINES
from talkplay_hf.evaluation.systems import ModelSource
from talkplay_hf.features.shards import Processes
from talkplay_hf.hub import files
from talkplay_hf.recommend.recommender import Recommender

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def model_folder(tokenizer_folder: Path, tmp_path: Path) -> Path:
    """The files beside the weights; the weights themselves are not loaded."""
    return Path(shutil.copytree(tokenizer_folder, tmp_path / "model"))


@pytest.fixture
def evaluate(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    recommender: Recommender,
    world_folder: Path,
    conversations_folder: Path,
    model_folder: Path,
) -> Run:
    """Evaluate one conversation; exit status, stdout, stderr."""
    monkeypatch.setattr(Recommender, "from_pretrained", lambda name, device=None: recommender)

    def run(
        *flags: object, catalog: Path = world_folder, model: str | Path = model_folder
    ) -> tuple[int, str, str]:
        arguments = ["evaluate", model, conversations_folder, "--catalog", catalog]
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


def test_of_a_model_on_the_hub_no_pickle_is_fetched(
    hub: LoopbackHub, tokenizer_folder: Path
) -> None:
    contents = {path.name: path.read_bytes() for path in tokenizer_folder.iterdir()}
    more = {"pytorch_model.bin": b"pickle", files.TRAINING_REPORT: b'{"steps": 3}'}
    hub.put("me/songs", contents | more)
    source = ModelSource("me/songs", Processes())
    assert source.side_file(files.TRAINING_REPORT) == {"steps": 3}
    assert source.folder is not None
    assert not (source.folder / "pytorch_model.bin").exists()
    with pytest.raises(HubError, match="me/none"):
        ModelSource("me/none", Processes()).folder  # noqa: B018


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
    def never(name: str, device: str | None = None) -> None:
        raise AssertionError("the model was loaded")

    monkeypatch.setattr(Recommender, "from_pretrained", never)
    (tmp_path / "file").write_text("")
    refused(evaluate("--out", tmp_path), "is a folder; name a file")
    refused(evaluate("--out", tmp_path / "file" / "report.json"), "not a folder that can be")
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    refused(evaluate("--out", tmp_path / "new" / "report.json"), "not a folder that can be")
    monkeypatch.undo()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "model"]


def test_a_report_replaces_a_report_and_nothing_else(evaluate: Run, tmp_path: Path) -> None:
    folder = tmp_path / "report"
    assert evaluate("--report", folder, "--out", tmp_path / "report.json")[0] == 0
    written = (folder / "report.json").read_text()
    assert written == (tmp_path / "report.json").read_text()
    report = json.loads(written)
    assert report["catalog_kind"] == "demo world"
    assert report["codebooks"] == json.loads(
        (tmp_path / "model" / "codebook_health.json").read_text()
    )
    assert report["hashes"]["model"]
    assert {"report.md", "index.html", "manifest.json"} <= {p.name for p in folder.iterdir()}
    (folder / "old.txt").write_text("")
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    assert evaluate("--report", folder)[0] == 0
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == {
        name: content for name, content in before.items() if name != "old.txt"
    }
    refused(evaluate("--report", tmp_path / "model"), "name a new folder to write the report to")


def test_only_the_named_baselines_are_compared(evaluate: Run) -> None:
    report = json.loads(evaluate("--json", "--baseline", "bm25", "random")[1])
    assert list(report["ranking"]) == ["talkplay", "bm25", "random"]
    refused(evaluate("--baseline", "telepathy"), "must be one of random, popularity")
    refused(evaluate("--baseline", "dense"), "encoder")


def test_all_baselines_are_those_that_have_their_sources(evaluate: Run) -> None:
    # the dense ones would be refused first
    refused(evaluate("--baseline", "all", "--two-tower", "nowhere"), "nowhere")
    refused(evaluate("--baseline", "dense"), "encoder")


def test_all_baselines_leave_out_those_that_have_nothing_to_learn_from(
    evaluate: Run, conversations: list[Conversation], tmp_path: Path
) -> None:
    tested = [replace(one, split="test") for one in conversations[:2]]
    save_conversations(tmp_path / "tested", tested, {})
    status, text, _ = evaluate(
        "--baseline", "all", "--train-conversations", tmp_path / "tested", "--json"
    )
    assert status == 0
    assert set(json.loads(text)["ranking"]) == {"talkplay", *DEFAULT_BASELINES}


def test_figures_go_into_the_card_of_the_model(evaluate: Run, model_folder: Path) -> None:
    (model_folder / "README.md").unlink()
    refused(evaluate("--card", "demo dialogues"), "README.md")
    (model_folder / "README.md").write_text("# a model\n\nMade with care.\n", encoding="utf-8")
    assert evaluate("--card", "demo dialogues")[0] == 0
    card = ModelCard((model_folder / "README.md").read_text(encoding="utf-8"))
    assert "Made with care." in card.text
    assert {result.dataset_name for result in card.data.eval_results} == {"demo dialogues"}
    refused(evaluate("--card", "?!", "--out", model_folder / "r.json"), "needs a letter")
    assert not (model_folder / "r.json").exists()
    refused(evaluate("--card", "x", model="none"), "name one")


def test_baselines_need_no_model(evaluate: Run) -> None:
    report = json.loads(evaluate("--json", "--baseline", "random", model="none")[1])
    assert list(report["ranking"]) == ["random"]
    refused(evaluate("--replies", "3", model="none"), "name one")


def test_kept_rankings_give_the_same_report(evaluate: Run, tmp_path: Path) -> None:
    first = evaluate("--json", "--cache", tmp_path / "cache")
    assert first[0] == 0
    assert len(list((tmp_path / "cache").glob("*/*.safetensors"))) > 3
    assert evaluate("--json", "--cache", tmp_path / "cache") == first


def test_replies_and_matching_are_measured_on_request(evaluate: Run) -> None:
    plain = json.loads(evaluate("--json")[1])
    assert plain["replies"] == {}
    assert "matching" not in plain
    report = json.loads(evaluate("--json", "--replies", 2, "--matching", 3)[1])
    assert set(report["replies"]) <= {"talkplay", "label"}
    assert report["matching"]["samples"] == 3


def test_a_model_folder_tells_which_codes_are_a_tracks_own(
    model_folder: Path, world: Catalog
) -> None:
    known = ModelSource(model_folder, Processes()).known(world)
    assert tuple(known) == MODALITIES
    lyrics = [text is not None for text in world.column("lyrics")]
    assert False in lyrics
    assert known["lyrics"].tolist() == lyrics
    (model_folder / "catalog.parquet").unlink()
    assert ModelSource(model_folder, Processes()).known(world) == {}


@pytest.mark.slow
def test_two_processes_write_the_report_of_one(
    tiny_model: LlamaForCausalLM,
    model_folder: Path,
    world_folder: Path,
    conversations_folder: Path,
    tmp_path: Path,
) -> None:
    tiny_model.save_pretrained(model_folder)
    arguments = ["talkplay_hf.cli", "evaluate", model_folder, conversations_folder]
    arguments += ["--catalog", world_folder, "--split", "train", "--replies", 3, "--limit", 20]
    arguments += ["--baseline", "bm25", "last-track"]

    def run(*launch: object, out: str) -> str:
        command = [sys.executable, *launch, "-m", *arguments]
        command += ["--out", tmp_path / f"{out}.json", "--cache", tmp_path / out]
        done = subprocess.run(
            [str(part) for part in command],
            capture_output=True,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    alone = run(out="one")
    launch = ("-m", "torch.distributed.run", "--nproc_per_node", 2, "--standalone")
    # printed once, the same
    assert run(*launch, out="two") == alone
    assert (tmp_path / "one.json").read_bytes() == (tmp_path / "two.json").read_bytes()
    kept = [
        {path.relative_to(tmp_path / out) for path in (tmp_path / out).glob("*/*.safetensors")}
        for out in ("one", "two")
    ]
    assert kept[0] == kept[1]
    assert sum(path.parts[0].startswith("bm25-") for path in kept[1]) > 1
