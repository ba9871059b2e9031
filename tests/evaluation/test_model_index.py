"""Figures in a model card: the Hub's own parser reads them, and the rest of the card stays."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import ModelCard
from huggingface_hub.repocard_data import model_index_to_eval_results

from talkplay_hf.errors import ArtifactError, InputError
from talkplay_hf.evaluation.model_index import add_results, eval_results
from talkplay_hf.recommend.recommender import Recommender

BODY = "\n# A model\n\nText with --- and `code`.\n\n| a | b |\n| --- | --- |\n\nümlaut…\n"
FRONT = "license: mit\ntags:\n- music\nlibrary_name: transformers\nown_key: 3\n"


def figure(value: float, half: float | None = 0.01) -> dict[str, Any]:
    low, high = (None, None) if half is None else (value - half, value + half)
    return {"value": value, "low": low, "high": high, "n": 205}


def report(mrr: float = 0.3, half: float | None = 0.01) -> dict[str, Any]:
    return {
        "catalog_kind": "catalog",
        "conversations": 57,
        "turns": 205,
        "candidates": 300,
        "k": 100,
        "exclude_played": True,
        "seed": 0,
        "hashes": {"model": "a" * 64, "catalog": None, "conversations": "c" * 64},
        "ranking": {
            "talkplay": {"mrr": figure(mrr, half), "hit@10": figure(0.6, half)},
            "bm25": {"mrr": figure(0.2), "hit@10": figure(0.7)},
            "popularity": {"mrr": figure(0.1), "hit@10": figure(0.1)},
        },
        "fit": {"talkplay": {"all": figure(0.8)}, "label": {"all": figure(1.0)}},
    }


def card_in(folder: Path, front: str = FRONT, body: str = BODY) -> Path:
    path = folder / "README.md"
    path.write_bytes(f"---\n{front}---\n{body}".encode())
    return path


def test_results_come_back_from_the_card_as_they_went_in(tmp_path: Path) -> None:
    path = card_in(tmp_path)
    add_results(tmp_path, report(), "CPCD test")
    assert ModelCard.load(path).data.eval_results == eval_results(report(), "CPCD test")


def test_the_front_matter_is_a_model_index_that_the_hub_parses(tmp_path: Path) -> None:
    path = card_in(tmp_path)
    add_results(tmp_path, report(), "CPCD test")
    front = yaml.safe_load(path.read_text(encoding="utf-8").split("---\n")[1])
    name, results = model_index_to_eval_results(front["model-index"])
    assert name == tmp_path.name
    by_type = {one.metric_type: one for one in results}
    assert by_type.keys() == {"mrr", "hit@10", "request_fit"}
    mrr = by_type["mrr"]
    assert mrr.metric_value == 0.3
    assert mrr.metric_name == "MRR (95 % interval 0.290 to 0.310)"
    assert mrr.metric_args == {
        "turns": 205, "low": 0.29, "high": 0.31, "best_baseline": "bm25",
        "best_baseline_value": 0.2,
    }  # fmt: skip
    assert (mrr.task_type, mrr.dataset_name, mrr.dataset_type) == (
        "text-generation", "CPCD test", "cpcd-test",
    )  # fmt: skip
    assert mrr.dataset_args["candidates"] == 300
    assert mrr.dataset_args["sha256"] == {"model": "a" * 64, "conversations": "c" * 64}
    # the label and chance are no baselines
    assert by_type["request_fit"].metric_args == {"turns": 205, "low": 0.79, "high": 0.81}


def test_the_rest_of_the_card_is_kept(tmp_path: Path) -> None:
    path = card_in(tmp_path)
    add_results(tmp_path, report(), "CPCD")
    text = path.read_bytes().decode()
    assert text.endswith("\n---\n" + BODY)
    front = yaml.safe_load(text.split("---\n")[1])
    del front["model-index"]
    assert front == yaml.safe_load(FRONT)


def test_new_figures_replace_those_of_the_same_dataset_and_no_others(tmp_path: Path) -> None:
    path = card_in(tmp_path)
    add_results(tmp_path, report(0.3), "CPCD")
    add_results(tmp_path, report(0.4), "Simulator")
    add_results(tmp_path, report(0.5), "CPCD")
    found = ModelCard.load(path).data.eval_results
    mrr = {one.dataset_name: one.metric_value for one in found if one.metric_type == "mrr"}
    assert mrr == {"Simulator": 0.4, "CPCD": 0.5}
    assert len(found) == 6


def test_the_same_report_gives_the_same_card(tmp_path: Path) -> None:
    path = card_in(tmp_path)
    add_results(tmp_path, report(), "CPCD")
    once = path.read_bytes()
    add_results(tmp_path, report(), "CPCD")
    assert path.read_bytes() == once


def test_a_figure_without_interval_claims_none(tmp_path: Path) -> None:
    mrr = eval_results(report(half=None), "CPCD")[0]
    assert mrr.metric_name == "MRR"
    assert not {"low", "high"} & mrr.metric_args.keys()


def test_a_card_without_front_matter_gets_one(tmp_path: Path) -> None:
    path = tmp_path / "README.md"
    path.write_text("# Mine\n\nwords\n", encoding="utf-8")
    add_results(tmp_path, report(), "CPCD")
    assert path.read_text(encoding="utf-8").endswith("---\n# Mine\n\nwords\n")
    assert ModelCard.load(path).data.eval_results == eval_results(report(), "CPCD")


def test_line_ends_of_another_system_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "README.md"
    path.write_bytes(b"---\r\nlicense: mit\r\n---\r\n# A\r\n\r\nwords\r\n")
    add_results(tmp_path, report(), "CPCD")
    assert path.read_bytes().endswith(b"# A\r\n\r\nwords\r\n")
    assert ModelCard.load(path).data.license == "mit"


def test_a_folder_without_card_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"README\.md: no such file"):
        add_results(tmp_path, report(), "CPCD")
    assert not list(tmp_path.iterdir())


def test_a_model_folder_without_card_gets_one(recommender: Recommender, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    recommender.save_pretrained(folder)
    (folder / "README.md").unlink()
    add_results(folder, report(), "CPCD")
    (result, *_) = ModelCard.load(folder / "README.md").data.eval_results
    assert result.dataset_name == "CPCD"
    assert Recommender.from_pretrained(folder).track_ids == recommender.track_ids


@pytest.mark.parametrize(
    "front", ["a: [\n", "- a list\n", "model-index:\n- results: wrong\n", "tags: {a\n"]
)
def test_a_card_that_cannot_be_read_stays_as_it_is(tmp_path: Path, front: str) -> None:
    path = card_in(tmp_path, front)
    before = path.read_bytes()
    with pytest.raises(ArtifactError, match="front matter"):
        add_results(tmp_path, report(), "CPCD")
    assert path.read_bytes() == before


def test_a_card_that_is_no_text_stays_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "README.md"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ArtifactError, match=r"README\.md: cannot be read \('utf-8' codec"):
        add_results(tmp_path, report(), "CPCD")
    assert path.read_bytes() == b"\xff\xfe"


def test_a_report_without_the_model_and_a_name_without_letters_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no figures of the model"):
        eval_results({"ranking": {"bm25": {}}}, "CPCD")
    with pytest.raises(InputError, match="needs a letter"):
        eval_results(report(), " – ")
