"""Artefacts of an older or newer format are refused by name; caches of another version are not
used. There is one format so far, so there is nothing to migrate."""

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest
from catalog.mpd_slices import playlist, write_slice
from safetensors import safe_open
from safetensors.torch import save_file
from transformers import LlamaForCausalLM

from talkplay_hf import __version__
from talkplay_hf.catalog import mpd_parts
from talkplay_hf.catalog.schema import Catalog
from talkplay_hf.cli import main
from talkplay_hf.conversations.dataset import load_conversations
from talkplay_hf.errors import ArtifactError
from talkplay_hf.evaluation.cache import ChunkStore
from talkplay_hf.features.store import load_features
from talkplay_hf.hub import files
from talkplay_hf.hub.verify import verify_folder
from talkplay_hf.recommend.recommender import Recommender
from talkplay_hf.tokens.config import TalkPlayConfig
from talkplay_hf.tokens.index import CatalogIndex
from talkplay_hf.tokens.tokenizer import TalkPlayTokenizer

OLDER, NEWER = 0, 2
# how a folder of each kind is opened
READ: dict[str, Callable[[Path], object]] = {
    "catalog": Catalog.load,
    "features": load_features,
    "conversations": load_conversations,
    "tokenizer": lambda folder: verify_folder(folder, kind="tokenizer"),
    "model": Recommender.from_pretrained,
}


@pytest.fixture(scope="module")
def artefacts(
    world_folder: Path,
    features_folder: Path,
    conversations_folder: Path,
    tokenizer_folder: Path,
    tiny_model: LlamaForCausalLM,
    tokenizer: TalkPlayTokenizer,
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, Path]:
    """A folder of each kind, with its manifest."""
    model = tmp_path_factory.mktemp("formats") / "model"
    tiny_model.save_pretrained(model)
    tokenizer.save_pretrained(model)
    files.refresh_manifest(model)
    return {
        "catalog": world_folder, "features": features_folder, "tokenizer": tokenizer_folder,
        "conversations": conversations_folder, "model": model,
    }  # fmt: skip


def say(path: Path, version: object) -> None:
    """Write another format version into a JSON file."""
    values = json.loads(path.read_text(encoding="utf-8"))
    values["format_version"] = version
    path.write_text(json.dumps(values), encoding="utf-8")


def check(message: str, version: object) -> None:
    """The message says what was found, what can be read, who wrote it and what to do."""
    assert f"format_version {version}" in message
    assert f"talkplay_hf {__version__} reads {files.FORMAT_VERSION}" in message
    assert f"written by talkplay_hf {__version__}" in message
    wanted = "pip install --upgrade talkplay-hf" if version == NEWER else "again with this version"
    assert wanted in message


@pytest.mark.parametrize("version", [OLDER, NEWER, None, "1"])
@pytest.mark.parametrize("kind", READ)
def test_a_folder_of_another_format_is_refused_by_name(
    kind: str, version: object, artefacts: dict[str, Path], tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(artefacts[kind], tmp_path / kind))
    assert READ[kind](folder) is not None or kind == "tokenizer"
    say(folder / files.MANIFEST, version)
    with pytest.raises(ArtifactError) as caught:
        READ[kind](folder)
    assert str(folder / files.MANIFEST) in str(caught.value)
    check(str(caught.value), version)


@pytest.mark.parametrize("version", [OLDER, NEWER])
def test_the_config_of_a_tokenizer_is_refused_by_name(
    version: int, artefacts: dict[str, Path], tmp_path: Path
) -> None:
    path = tmp_path / files.TALKPLAY_CONFIG
    shutil.copy(artefacts["tokenizer"] / files.TALKPLAY_CONFIG, path)
    say(path, version)
    with pytest.raises(
        ArtifactError, match=f"{files.TALKPLAY_CONFIG}: has format_version {version}"
    ):
        TalkPlayConfig.load(path)


@pytest.mark.parametrize("version", [OLDER, NEWER])
def test_a_catalogue_index_is_refused_by_name(
    version: int, artefacts: dict[str, Path], tmp_path: Path
) -> None:
    source, path = artefacts["tokenizer"] / files.CATALOG_INDEX, tmp_path / files.CATALOG_INDEX
    with safe_open(source, framework="pt") as handle:
        facts = json.loads(handle.metadata()["catalog_index"])
        tensors = {name: handle.get_tensor(name) for name in handle.keys()}  # noqa: SIM118
    told = json.dumps(facts | {"format_version": version})
    save_file(tensors, path, {"catalog_index": told})
    with pytest.raises(ArtifactError, match=f"{files.CATALOG_INDEX}: has format_version {version}"):
        CatalogIndex.load(path)


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        (("stats", "{}"), "catalog"),
        (("embed", "{}", "OUT"), "catalog"),
        (("tokenize", "CATALOG", "{}", "OUT"), "features"),
        (("report", "{}", "--catalog", "CATALOG"), "conversations"),
        (("chat", "{}", "--once", "jazz"), "model"),
    ],
)
def test_commands_say_it_in_one_line(
    words: tuple[str, ...],
    kind: str,
    artefacts: dict[str, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = Path(shutil.copytree(artefacts[kind], tmp_path / kind))
    say(folder / files.MANIFEST, NEWER)
    places = {"{}": folder, "OUT": tmp_path / "out", "CATALOG": artefacts["catalog"]}
    assert main([str(places.get(word, word)) for word in words]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    check(line, NEWER)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("change", [{"format_version": NEWER}, {"talkplay_hf": "0.0.9"}])
def test_a_part_of_an_import_by_another_version_is_made_again(
    change: dict[str, object], tmp_path: Path
) -> None:
    source = write_slice(tmp_path / "slices", [playlist(pid) for pid in range(3)])
    part = mpd_parts.make_part(source, tmp_path / "work")
    record = part / mpd_parts.PART_RECORD
    whole = record.read_bytes()
    record.write_text(json.dumps(json.loads(whole) | change), encoding="utf-8")
    with pytest.raises(ArtifactError, match="another version"):
        mpd_parts.part_record(part)
    assert mpd_parts.make_part(source, tmp_path / "work") == part
    assert asdict(mpd_parts.part_record(part))["talkplay_hf"] == __version__
    assert record.read_bytes() == whole


def test_a_cache_of_another_version_is_another_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import numpy as np

    from talkplay_hf.evaluation import cache

    ChunkStore(tmp_path, "model", {"a": 1}).write("000000", {"ids": np.arange(3)})
    assert ChunkStore(tmp_path, "model", {"a": 1}).read("000000") is not None
    monkeypatch.setattr(cache, "__version__", "9.9.9")
    assert ChunkStore(tmp_path, "model", {"a": 1}).read("000000") is None
