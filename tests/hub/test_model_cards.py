"""The card of a model or tokenizer folder says what it is, how it was made and what it may do."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from huggingface_hub import ModelCard

from talkplay_hf.errors import ArtifactError
from talkplay_hf.evaluation.model_index import add_results
from talkplay_hf.hub.cards import card, write_card
from talkplay_hf.hub.cards.seal import is_ours

REPORT: dict[str, Any] = {
    "base_model": "scratch", "parameters": 551_808, "steps": 3400, "tokens_seen": 3_638_510,
    "precision": "fp32", "seed": 0, "versions": {"torch": "2.13.0"},
    "arguments": {"playlist_share": 0.05, "early_stopping_patience": None},
    "best": {"metric": "eval_loss", "step": 3200, "value": 0.4},
    "last": {"train": {"loss": 0.31}, "eval": {"conversations_loss": 0.41234}},
    "optimization": {"learning_rate": 0.001, "optim": "adamw_torch", "max_steps": None},
    "data": {
        "fingerprint": "f" * 64,
        "train": {"conversations": {"rows": 1000, "tokens": 20_000, "label_tokens": 900}},
    },
}  # fmt: skip
HEALTH = {
    "tracks": 3, "distinct_tuples": 2, "largest_bucket": 2, "collision_rate": 2 / 3,
    "modalities": {
        "playlist": {"codes": 256, "used": 200, "perplexity": 101.25, "largest_share": 0.125},
        "audio": {"codes": 64, "used": 64, "perplexity": 60.0, "training": {"never": 3}},
    },
}  # fmt: skip
Make = Callable[..., Path]


def write(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value), encoding="utf-8")


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Makes a model folder of the files that its card reads; `None` leaves one out."""

    def folder(
        base: str = "scratch",
        *,
        missing: str = "impute",
        report: Any = REPORT,
        health: Any = HEALTH,
        examples: Any = ("Play jazz", "Play rock"),
        licenses: tuple[str | None, ...] = (None, None, None),
        weights: bool = True,
    ) -> Path:
        out = tmp_path / "my model"
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir()
        config = {
            "base": base, "modalities": ["playlist", "audio"], "codes": [256, 64],
            "missing": missing, "made_from": {"catalog": "c" * 64}, "talkplay_hf": "0.1.0",
        }  # fmt: skip
        write(out / "talkplay_config.json", config)
        if weights:
            write(out / "config.json", {"transformers_version": "5.23.0"})
            write(out / "training_report.json", report | {"base_model": base})
        write(out / "codebook_health.json", health)
        write(out / "examples.json", examples)
        columns = {
            "track_id": ["a", "b", "c"], "codes": [[0, 1]] * 3, "cold": [False, True, False],
            "license": pa.array(licenses, pa.string()),
        }  # fmt: skip
        pq.write_table(pa.table(columns), out / "catalog.parquet")
        return out

    return folder


def test_a_card_tells_codes_tracks_and_training(make: Make) -> None:
    text = card(make())
    for line in (
        "# my model",
        "| playlist | 256 | 200 | 56 | 101.2 | 12.5% |  |  |",
        "| audio | 64 | 64 | 0 | 60.0 |  |  | 3 |",
        "The catalogue has 3 tracks. They have 2 different blocks",
        "66.7% of the tracks share theirs",
        "| base | a small Llama from scratch |",
        "| tokens seen | 3,638,510 |",
        "| learning_rate | 0.001 |",
        "| playlist_share | 0.05 |",
        "| weights of step | 3,200, the best by eval_loss |",
        "| validation loss of the conversations, last | 0.4123 |",
        "| train | conversations | 1,000 | 20,000 | 900 |",
        f"| SHA-256 of the catalog | {'c' * 64} |",
        f"| fingerprint of the training rows | {'f' * 64} |",
        "1 of the tracks are cold",
        "talkplay_hf 0.1.0, transformers 5.23.0, torch 2.13.0",
        "arXiv:2502.13713",
        "it has not been measured",
    ):
        assert line in text
    assert "early_stopping_patience" not in text


def test_the_front_matter_says_how_the_hub_shows_and_runs_it(make: Make) -> None:
    data = ModelCard(card(make("HuggingFaceTB/SmolLM2-135M"), datasets=["me/talks"])).data
    assert (data.library_name, data.pipeline_tag) == ("transformers", "text-generation")
    assert data.base_model == "HuggingFaceTB/SmolLM2-135M"
    assert data.datasets == ["me/talks"]
    assert {"music", "recommendation", "talkplay"} <= set(data.tags)
    assert data.to_dict()["widget"][1] == {
        "messages": [{"role": "user", "content": "Play rock"}], "example_title": "Play rock",
    }  # fmt: skip


def test_languages_come_from_the_training_report(make: Make) -> None:
    text = card(make(report=REPORT | {"data": {"languages": ["fr", "en"]}}))
    assert ModelCard(text).data.language == ["en", "fr"]
    assert "conversations in en, fr" in text
    assert ModelCard(card(make())).data.language is None


def test_a_revision_of_the_base_is_named(make: Make) -> None:
    report = REPORT | {"base_revision": "abc123"}
    assert "| revision of the base | abc123 |" in card(make("me/base", report=report))


@pytest.mark.parametrize(("missing", "said"), [("impute", "its likeliest"), ("reserve", "own")])
def test_a_card_tells_what_becomes_of_a_missing_modality(
    make: Make, missing: str, said: str
) -> None:
    line = next(line for line in card(make(missing=missing)).splitlines() if "lacks has" in line)
    assert said in line


@pytest.mark.parametrize(
    ("base", "named"), [("scratch", None), ("me/base", "me/base"), ("/runs/some/base", None)]
)
def test_only_a_base_of_the_hub_is_named_as_such(make: Make, base: str, named: str | None) -> None:
    text = card(make(base))
    assert ModelCard(text).data.base_model == named
    assert "/runs" not in text


def test_a_card_tells_no_place_of_this_machine(make: Make) -> None:
    folder = make()
    assert str(folder.parent) not in card(folder)


def test_the_same_folder_gives_the_same_card(make: Make) -> None:
    folder = make()
    assert card(folder) == card(folder)
    assert write_card(folder)
    once = (folder / "README.md").read_bytes()
    assert write_card(folder)
    assert (folder / "README.md").read_bytes() == once


def test_a_card_that_a_person_edited_is_left_alone(make: Make) -> None:
    folder = make()
    write_card(folder)
    path = folder / "README.md"
    edited = path.read_text(encoding="utf-8").replace("## Limits", "## Limits, and my own words")
    path.write_text(edited, encoding="utf-8")
    assert not write_card(folder)
    assert path.read_text(encoding="utf-8") == edited
    path.write_bytes(b"\xff\xfe nothing of ours")
    assert not write_card(folder)


def figures(value: float) -> dict[str, Any]:
    figure = {"value": value, "low": value - 0.01, "high": value + 0.01, "n": 205}
    other = {"value": 0.2, "low": 0.1, "high": 0.3, "n": 205}
    return {
        "catalog_kind": "catalog", "conversations": 57, "candidates": 3, "exclude_played": True,
        "ranking": {"talkplay": {"mrr": figure}, "bm25": {"mrr": other}},
    }  # fmt: skip


def test_figures_stand_in_a_table_and_survive_a_new_card(make: Make) -> None:
    folder = make()
    write_card(folder, license="mit")
    add_results(folder, figures(0.3), "People | talk")
    line = "| MRR | 0.3000 | 0.2900 to 0.3100 | 205 | bm25 | 0.2000 |"
    path = folder / "README.md"
    text = path.read_text(encoding="utf-8")
    assert is_ours(text)
    assert "### People \\| talk\n\n3 candidate tracks; 57 conversations; played" in text
    assert line in text
    assert "it has not been measured" not in text
    again = card(folder, repo_id="me/some-repo")
    assert line in again
    assert ModelCard(again).data.eval_results[0].metric_value == 0.3
    # so does the licence that was given once
    assert ModelCard(again).data.license == "mit"


def test_figures_added_to_an_edited_card_do_not_make_it_ours(make: Make) -> None:
    folder = make()
    write_card(folder)
    path = folder / "README.md"
    path.write_text(path.read_text(encoding="utf-8").replace("# my model", "# Mine"))
    add_results(folder, figures(0.3), "Talks")
    text = path.read_text(encoding="utf-8")
    assert not is_ours(text)
    assert "# Mine" in text
    assert ModelCard(text).data.eval_results[0].metric_value == 0.3


@pytest.mark.parametrize("how", ["tracks", "results"])
def test_the_demo_world_is_named_as_fictional(make: Make, how: str) -> None:
    real, invented = (None,) * 3, ("CC0-1.0 (generated; not real music)",) * 3
    folder = make(licenses=invented if how == "tracks" else real)
    write_card(folder)
    if how == "results":
        assert "fictional" not in (folder / "README.md").read_text(encoding="utf-8")
        add_results(folder, figures(0.3) | {"catalog_kind": "demo world"}, "Demo")
    text = (folder / "README.md").read_text(encoding="utf-8")
    assert "**The catalogue is fictional.**" in text
    assert "no figure on it is a statement about real music" in text


def test_a_tokenizer_has_a_card_of_its_own(make: Make) -> None:
    text = card(make(weights=False))
    data = ModelCard(text).data
    assert (data.library_name, data.pipeline_tag) == ("transformers", None)
    assert "widget" not in data.to_dict()
    assert "It has no weights" in text
    assert "Recommender" not in text
    assert "## Training" not in text


def test_code_in_the_card_loads_the_repo(make: Make) -> None:
    folder = make()
    assert 'from_pretrained("me/some-repo")' in card(folder, repo_id="me/some-repo")
    assert 'from_pretrained("path/or/repo")' in card(folder)
    # what is no name of a repo cannot become code
    assert 'from_pretrained("path/or/repo")' in card(folder, repo_id='me/x")\nimport os')


def test_the_picture_of_the_losses_is_shown_where_it_is(make: Make) -> None:
    folder = make()
    assert "training_curves.png" not in card(folder)
    (folder / "training_curves.png").write_bytes(b"")
    assert "](training_curves.png)" in card(folder)


@pytest.mark.parametrize(
    ("base", "given", "license", "said"),
    [
        ("scratch", None, "unknown", "unknown, nobody has stated one"),
        ("scratch", "MIT", "mit", "Licence of this model: MIT"),
        ("me/base", None, "unknown", "see the licence of me/base"),
        ("HuggingFaceTB/SmolLM2-135M-Instruct", None, "apache-2.0", "that of its base"),
        ("meta-llama/Llama-3.2-1B-Instruct", None, "llama3.2", "**Built with Llama**"),
        ("meta-llama/Llama-3.2-1B-Instruct", "mit", "mit", "so the terms of the [Llama 3.2"),
        ("google/gemma-3-1b-it", None, "gemma", "ai.google.dev/gemma/terms"),
    ],
)
def test_licences_are_those_given_or_known(
    make: Make, base: str, given: str | None, license: str, said: str
) -> None:
    text = card(make(base), license=given)
    assert ModelCard(text).data.license == license
    assert said in text


def test_licences_of_the_tracks_are_counted(make: Make) -> None:
    text = card(make(licenses=("CC-BY-4.0", "CC0-1.0", "CC0-1.0")))
    assert "CC0-1.0 (2 tracks), CC-BY-4.0 (1 tracks)" in text


def test_a_folder_of_something_else_has_no_card(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="no artefact folder"):
        card(tmp_path)
