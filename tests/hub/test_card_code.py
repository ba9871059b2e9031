"""The code in every card runs as it stands there, with the folder in the place of the repo."""

import re
import shutil
from pathlib import Path
from typing import Any

import datasets
import pytest
import transformers
from transformers import LlamaForCausalLM

from talkplay_hf.features.repo import pack_features
from talkplay_hf.hub.cards import card
from talkplay_hf.hub.cards.parts import PLACE
from talkplay_hf.tokens.tokenizer import TalkPlayTokenizer


def run_code(folder: Path) -> list[dict[str, Any]]:
    """The names that each code block of the card of a folder leaves behind."""
    blocks = re.findall(r"```python\n(.*?)```", card(folder), re.DOTALL)
    assert blocks
    found = []
    for block in blocks:
        names: dict[str, Any] = {}
        exec(block.replace(PLACE, str(folder)), names)
        found.append(names)
    return found


@pytest.fixture
def cached_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


@pytest.fixture(scope="module")
def model_folder(
    tiny_model: LlamaForCausalLM,
    tokenizer: TalkPlayTokenizer,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    folder = tmp_path_factory.mktemp("code") / "model"
    tiny_model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_the_code_of_a_model_card_recommends_tracks(
    model_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    transformers.set_seed(0)
    package, pipeline, plain = run_code(model_folder)
    assert package["answer"].tracks
    assert pipeline["answer"]["tracks"]
    assert plain["answers"].shape[0] == 8
    assert len(plain["tracks"]) == 60
    said = capsys.readouterr().out
    first = package["answer"].tracks[0]
    assert f"{first.title} by {first.artist}" in said


def test_the_plain_code_finds_a_track_that_the_model_names(
    model_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tokenizer = TalkPlayTokenizer.from_pretrained(model_folder)
    block = re.findall(r"```python\n(.*?)```", card(model_folder), re.DOTALL)[-1]
    import pyarrow.parquet as pq
    import torch

    row = pq.read_table(model_folder / "catalog.parquet").to_pylist()[7]

    def names_it(model: Any, input_ids: torch.Tensor, **_: Any) -> torch.Tensor:
        answer = torch.tensor([tokenizer.block_ids(row["codes"])])
        return torch.cat([input_ids, answer], dim=1)

    # the weights are random, so the answer of a trained model stands in
    monkeypatch.setattr(LlamaForCausalLM, "generate", names_it)
    exec(block.replace(PLACE, str(model_folder)), {})
    assert f"{row['title']} by {row['artist']}" in capsys.readouterr().out


def test_the_code_of_a_tokenizer_card_writes_and_reads_a_track(tokenizer_folder: Path) -> None:
    ours, plain = run_code(tokenizer_folder)
    tokens = ours["tokenizer"].convert_ids_to_tokens(ours["ids"])
    assert ours["tokenizer"].parse_blocks(ours["ids"]) == [tuple(plain["chat"][1]["codes"])]
    text = plain["tokenizer"].apply_chat_template(plain["chat"], tokenize=False)
    assert "".join(tokens) in text


@pytest.mark.usefixtures("cached_here")
def test_the_code_of_a_catalog_card_loads_tracks_and_playlists(
    world_folder: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "catalog"
    shutil.copytree(world_folder, folder)
    (folder / "README.md").write_text(card(folder), encoding="utf-8")
    (names,) = run_code(folder)
    assert len(names["tracks"]) == 60
    assert {"playlist_id", "track_ids"} <= set(names["playlists"].column_names)


@pytest.mark.usefixtures("cached_here")
def test_the_code_of_a_features_card_loads_vectors(features_folder: Path, tmp_path: Path) -> None:
    (opened,) = run_code(features_folder)
    assert len(opened["track_ids"]) == 60
    folder = tmp_path / "packed"
    pack_features(features_folder, folder)
    (folder / "README.md").write_text(card(folder), encoding="utf-8")
    (names,) = run_code(folder)
    assert names["audio"].column_names == ["track_id", "vector"]


@pytest.mark.usefixtures("cached_here")
def test_the_code_of_a_conversations_card_loads_the_splits(conversations_folder: Path) -> None:
    (names,) = run_code(conversations_folder)
    assert sum(split.num_rows for split in names["conversations"].values()) == 40
