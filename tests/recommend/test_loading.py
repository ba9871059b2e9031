"""The model folder that a recommender is loaded from, and what does not belong together."""

import copy
import logging
import re
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from chatting import REQUEST, assert_same, ids_of
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM

from talkplay_hf.errors import ArtifactError, InputError, TalkPlayError
from talkplay_hf.hub import files
from talkplay_hf.recommend.recommender import Recommender
from talkplay_hf.tokens.build import write_token_catalog
from talkplay_hf.tokens.index import CatalogIndex
from talkplay_hf.tokens.tokenizer import TalkPlayTokenizer


@pytest.fixture(scope="module")
def model_folder(
    tiny_model: LlamaForCausalLM,
    tokenizer: TalkPlayTokenizer,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    folder = tmp_path_factory.mktemp("model")
    model = copy.deepcopy(tiny_model)
    model.config.talkplay_codebook_hash = tokenizer.config.codebook_hash
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_a_saved_folder_answers_as_before(recommender: Recommender, model_folder: Path) -> None:
    loaded = Recommender.from_pretrained(model_folder, device="cpu")
    options = {"seed": 3, "max_new_tokens": 20}
    assert_same(loaded.chat(REQUEST, **options), recommender.chat(REQUEST, **options))
    assert loaded.examples == recommender.examples
    assert loaded.examples


def test_the_folder_loads_without_this_package(model_folder: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(model_folder)
    tokenizer = AutoTokenizer.from_pretrained(model_folder)
    assert type(model) is LlamaForCausalLM
    assert len(tokenizer) == model.config.vocab_size
    assert not type(tokenizer).__module__.startswith("talkplay_hf")


@pytest.mark.slow
def test_the_folder_loads_where_this_package_cannot_be_imported(model_folder: Path) -> None:
    code = (
        "import sys; sys.modules['talkplay_hf'] = None\n"
        "from transformers import AutoModelForCausalLM, AutoTokenizer\n"
        f"folder = {str(model_folder)!r}\n"
        "model = AutoModelForCausalLM.from_pretrained(folder)\n"
        "tokenizer = AutoTokenizer.from_pretrained(folder)\n"
        "ids = tokenizer.apply_chat_template([{'role': 'user', 'content': 'hi'}],"
        " add_generation_prompt=True, return_tensors='pt')\n"
        "print(model.generate(**ids, max_new_tokens=3).shape)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_processors_are_used_as_the_page_says(model_folder: Path) -> None:
    page = (Path(__file__).parents[2] / "recipes" / "python.md").read_text(encoding="utf-8")
    (code,) = [
        block
        for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL)
        if "CatalogLogitsProcessor(" in block
    ]
    names: dict[str, Any] = {}
    exec(code.replace("demo/model", str(model_folder)), names)
    assert [len(blocks) for blocks in names["blocks"]] == [2, 2]
    for codes in names["blocks"]:
        first, end = names["index"].ranges(torch.tensor(codes))
        assert (end > first).all()


def copied(model_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(model_folder, tmp_path / "model"))


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        (files.TALKPLAY_CONFIG, Path.unlink),
        (files.TALKPLAY_CONFIG, truncate),
        (files.CODEBOOKS, Path.unlink),
        (files.CODEBOOKS, truncate),
        (files.TOKEN_CATALOG, Path.unlink),
        (files.TOKEN_CATALOG, truncate),
        ("config.json", Path.unlink),
        ("config.json", truncate),
        ("model.safetensors", Path.unlink),
        ("model.safetensors", truncate),
        ("tokenizer.json", Path.unlink),
        ("tokenizer.json", truncate),
        ("tokenizer_config.json", truncate),
    ],
)
def test_a_missing_or_damaged_file_is_an_artefact_error(
    model_folder: Path, tmp_path: Path, name: str, damage: Callable[[Path], None]
) -> None:
    folder = copied(model_folder, tmp_path)
    damage(folder / name)
    with pytest.raises(ArtifactError) as raised:
        Recommender.from_pretrained(folder, device="cpu")
    assert str(raised.value).strip()
    assert "\n" not in str(raised.value)


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="nowhere"):
        Recommender.from_pretrained(tmp_path / "nowhere")


def change_config(folder: Path, **changes: Any) -> None:
    path = folder / files.TALKPLAY_CONFIG
    files.write_json(path, files.read_json(path) | changes)


def test_other_codebooks_are_refused_by_name(model_folder: Path, tmp_path: Path) -> None:
    folder = copied(model_folder, tmp_path)
    change_config(folder, codebook_hash="f" * 64)
    with pytest.raises(ArtifactError, match=r"trained with the codebooks .*ffffffffffff"):
        Recommender.from_pretrained(folder, device="cpu")


def test_a_plain_tokenizer_is_refused(tiny_model: LlamaForCausalLM, model_folder: Path) -> None:
    plain = AutoTokenizer.from_pretrained(model_folder)
    with pytest.raises(ArtifactError, match=r"TalkPlayTokenizer\.from_pretrained"):
        Recommender(tiny_model, plain)


def test_another_vocabulary_is_refused(
    tiny_model: LlamaForCausalLM, tokenizer: TalkPlayTokenizer
) -> None:
    small = copy.deepcopy(tiny_model)
    small.resize_token_embeddings(len(tokenizer) - 1)
    with pytest.raises(ArtifactError, match=f"the tokenizer {len(tokenizer)}"):
        Recommender(small, tokenizer)


@pytest.mark.parametrize(
    "change",
    [
        {"format_version": 99},
        {"codes": [4, 4, 4, 4, 4]},
        {"unknown": 1},
        {"codes": [4, 4, 4, 4], "modalities": ["a", "b", "c", "d"], "lookup_weights": [4, 3, 2, 1]},
    ],
)
def test_a_config_of_something_else_is_refused(
    model_folder: Path, tmp_path: Path, change: dict[str, Any]
) -> None:
    folder = copied(model_folder, tmp_path)
    change_config(folder, **change)
    with pytest.raises(TalkPlayError):
        Recommender.from_pretrained(folder, device="cpu")


@pytest.mark.parametrize(
    "codes",
    [
        np.full((60, 5), 9, dtype=np.int32),
        np.full((60, 5), -1, dtype=np.int32),
        np.zeros((60, 4), dtype=np.int32),
    ],
)
def test_a_token_catalog_of_other_codebooks_is_refused(
    model_folder: Path, tmp_path: Path, recommender: Recommender, codes: np.ndarray
) -> None:
    folder = copied(model_folder, tmp_path)
    write_token_catalog(recommender.catalog, codes, folder / files.TOKEN_CATALOG)
    with pytest.raises(ArtifactError, match=r"catalog\.parquet"):
        Recommender.from_pretrained(folder, device="cpu")


def test_a_grown_catalogue_can_be_swapped_in(
    model_folder: Path, tmp_path: Path, recommender: Recommender
) -> None:
    """The codebooks are the identity; the catalogue may change under them."""
    folder = copied(model_folder, tmp_path)
    write_token_catalog(
        recommender.catalog, np.zeros((60, 5), dtype=np.int32), folder / files.TOKEN_CATALOG
    )
    swapped = Recommender.from_pretrained(folder, device="cpu")
    assert len(swapped.rank(REQUEST, k=1)) == 60
    assert swapped.chat(REQUEST, seed=0).codes == ((0, 0, 0, 0, 0),)


# --- the index of the catalogue --------------------------------------------------------------


def best(recommender: Recommender) -> list[str]:
    return [scored.track.track_id for scored in recommender.rank(REQUEST, k=10)]


def test_an_index_that_fits_is_read_and_not_made_anew(
    model_folder: Path, recommender: Recommender, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (model_folder / files.CATALOG_INDEX).exists()
    monkeypatch.setattr(CatalogIndex, "__init__", None)
    assert best(Recommender.from_pretrained(model_folder, device="cpu")) == best(recommender)


def test_an_absent_index_is_made_anew(
    model_folder: Path, tmp_path: Path, recommender: Recommender
) -> None:
    folder = copied(model_folder, tmp_path)
    (folder / files.CATALOG_INDEX).unlink()
    assert best(Recommender.from_pretrained(folder, device="cpu")) == best(recommender)


def test_a_damaged_index_is_made_anew_and_told(
    model_folder: Path,
    tmp_path: Path,
    recommender: Recommender,
    caplog: pytest.LogCaptureFixture,
) -> None:
    folder = copied(model_folder, tmp_path)
    truncate(folder / files.CATALOG_INDEX)
    with caplog.at_level(logging.WARNING, "talkplay_hf"):
        loaded = Recommender.from_pretrained(folder, device="cpu")
    assert f"made anew: {folder / files.CATALOG_INDEX}" in caplog.text
    assert best(loaded) == best(recommender)


def test_the_index_of_another_catalogue_is_not_used(
    model_folder: Path, tmp_path: Path, recommender: Recommender
) -> None:
    folder = copied(model_folder, tmp_path)
    codes = np.array([recommender.codes(track) for track in recommender.track_ids])
    other = CatalogIndex(codes[::-1].copy(), recommender.tokenizer.config.codes)
    other.save(folder / files.CATALOG_INDEX)
    assert best(Recommender.from_pretrained(folder, device="cpu")) == best(recommender)


# --- 8-bit integers --------------------------------------------------------------------------


def test_int8_answers_with_scores_near_those_of_floats(
    model_folder: Path, recommender: Recommender
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        small = Recommender.from_pretrained(model_folder, int8=True)
        answer = small.chat(REQUEST, seed=0, max_new_tokens=4)
    assert set(ids_of(answer)) <= set(small.track_ids)
    kinds = {type(part).__module__ for part in small.model.modules()}
    assert any("quantized.dynamic" in kind for kind in kinds)
    exact = {s.codes: s.score for s in recommender.rank(REQUEST, k=60)}
    found = {s.codes: s.score for s in small.rank(REQUEST, k=60)}
    differences = np.array([found[codes] - exact[codes] for codes in exact])
    assert found.keys() == exact.keys()
    assert 0 < np.abs(differences).max() < 0.5
    assert {p.dtype for p in recommender.model.parameters()} == {torch.float32}


@pytest.mark.parametrize("device", ["cuda", "cuda:1", "mps"])
def test_int8_is_for_a_cpu(model_folder: Path, device: str) -> None:
    with pytest.raises(InputError, match="int8 runs on a CPU"):
        Recommender.from_pretrained(model_folder, device=device, int8=True)
