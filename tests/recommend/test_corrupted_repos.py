"""Damaged and hostile model folders: one error each that names the file, and no code is run."""

import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import load_file, save_file

from talkplay_hf.errors import ArtifactError
from talkplay_hf.hub import files
from talkplay_hf.recommend.recommender import Recommender

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
CONFIG, TEMPLATE = "config.json", "chat_template.jinja"
OBJECTS = (
    *(CONFIG, "generation_config.json", "tokenizer.json", "tokenizer_config.json", INDEX),
    *(files.TALKPLAY_CONFIG, files.CODEBOOK_HEALTH),
)
NEEDED = (
    *(CONFIG, "tokenizer.json", "tokenizer_config.json", WEIGHTS),
    *(files.TALKPLAY_CONFIG, files.CODEBOOKS, files.TOKEN_CATALOG),
)
TENSORS = (WEIGHTS, files.CODEBOOKS)
TABLES = (files.TOKEN_CATALOG, files.CODEBOOK_LABELS)
COUNTED = (*OBJECTS, *TENSORS, *TABLES, files.CATALOG_INDEX, files.EXAMPLES, TEMPLATE)
Damage = Callable[[Path], None]


class Canary:
    """Unpickled, it makes a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


@pytest.fixture(scope="module")
def sound(recommender: Recommender, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sound") / "model"
    recommender.save_pretrained(folder)
    return folder


def refused(folder: Path, *names: str) -> str:
    """Load a damaged folder; the message, which is one line and names one of the files."""
    with pytest.raises(ArtifactError) as raised:
        Recommender.from_pretrained(folder, device="cpu")
    message = str(raised.value)
    assert "\n" not in message
    # "Recommender(model, tokenizer)" names no file
    assert any(f"{folder / name}:" in message or f"has no {name}" in message for name in names)
    assert not (folder.parent / "canary").exists()
    return message


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    rng = np.random.default_rng(len(content))
    content[rng.integers(len(content))] ^= 1 << rng.integers(8)
    path.write_bytes(bytes(content))


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def lose_the_last_bytes(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-5])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def grow(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\0")


def garble(path: Path) -> None:
    path.write_bytes(np.random.default_rng(0).bytes(path.stat().st_size))


def pickled(path: Path) -> None:
    path.write_bytes(pickle.dumps(Canary(path.parent.parent / "canary")))


def missing(path: Path) -> None:
    path.unlink()


def as_list(path: Path) -> None:
    path.write_text("[1, 2]", encoding="utf-8")


def nested(path: Path) -> None:
    path.write_text('{"a":' * 50_000, encoding="utf-8")


def as_number(path: Path) -> None:
    path.write_text("9" * 10_000, encoding="utf-8")


def oversize_header(path: Path) -> None:
    path.write_bytes((1 << 62).to_bytes(8, "little") + path.read_bytes()[8:])


def long_header(path: Path) -> None:
    path.write_bytes((90 << 20).to_bytes(8, "little") + path.read_bytes()[8:])


def test_the_canary_sings(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    pickled(tmp_path / "in" / "file")
    pickle.loads((tmp_path / "in" / "file").read_bytes())
    assert (tmp_path / "canary").is_dir()


# --- with a manifest: any change at all ------------------------------------------------------


@pytest.mark.parametrize(
    "damage", [flip, truncate, lose_the_last_bytes, grow, garble, pickled], ids=lambda d: d.__name__
)
@pytest.mark.parametrize("name", COUNTED)
def test_with_a_manifest_every_change_is_found(
    sound: Path, tmp_path: Path, name: str, damage: Damage
) -> None:
    folder = Path(shutil.copytree(sound, tmp_path / "model"))
    assert set(files.read_manifest(folder, "model")["files"]) == set(COUNTED)
    before = (folder / name).read_bytes()
    damage(folder / name)
    assert (folder / name).read_bytes() != before
    assert f"{folder / name}: is not the file" in refused(folder, name)


@pytest.mark.parametrize(
    "damage", [truncate, empty, garble, pickled, as_list, nested], ids=lambda d: d.__name__
)
def test_a_damaged_manifest_is_named(sound: Path, tmp_path: Path, damage: Damage) -> None:
    folder = Path(shutil.copytree(sound, tmp_path / "model"))
    damage(folder / files.MANIFEST)
    refused(folder, files.MANIFEST)


# --- without one: what is not sound in itself ------------------------------------------------


@pytest.fixture
def folder(sound: Path, tmp_path: Path) -> Path:
    """A sound model folder without a manifest."""
    folder = Path(shutil.copytree(sound, tmp_path / "model"))
    (folder / files.MANIFEST).unlink()
    return folder


def test_without_damage_it_loads(folder: Path, recommender: Recommender) -> None:
    assert Recommender.from_pretrained(folder, device="cpu").rank("a song", 1)


@pytest.mark.parametrize("name", NEEDED)
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    refused(folder, name)


@pytest.mark.parametrize(
    "damage",
    [truncate, empty, garble, pickled, as_list, nested, as_number],
    ids=lambda d: d.__name__,
)
@pytest.mark.parametrize("name", OBJECTS)
def test_json_that_is_none_or_something_else_is_named(
    folder: Path, name: str, damage: Damage
) -> None:
    damage(folder / name)
    refused(folder, name)


@pytest.mark.parametrize("text", ["{}", "[1]", "[", ""])
def test_examples_that_are_no_texts_are_named(folder: Path, text: str) -> None:
    (folder / files.EXAMPLES).write_text(text, encoding="utf-8")
    refused(folder, files.EXAMPLES)


@pytest.mark.parametrize(
    "damage",
    [truncate, lose_the_last_bytes, empty, grow, garble, pickled, oversize_header, long_header],
    ids=lambda d: d.__name__,
)
@pytest.mark.parametrize("name", TENSORS)
def test_damaged_tensors_are_named(folder: Path, name: str, damage: Damage) -> None:
    damage(folder / name)
    refused(folder, name)


@pytest.mark.parametrize(
    "damage",
    [truncate, lose_the_last_bytes, empty, garble, pickled],
    ids=lambda d: d.__name__,
)
@pytest.mark.parametrize("name", TABLES)
def test_damaged_tables_are_named(folder: Path, name: str, damage: Damage) -> None:
    damage(folder / name)
    refused(folder, name)


@pytest.mark.parametrize("text", ["", "{% for", "{{ messages[0].content", "\x00\xff", "fixed text"])
def test_a_template_that_does_not_write_the_chat_is_named(folder: Path, text: str) -> None:
    (folder / TEMPLATE).write_text(text, encoding="latin-1")
    refused(folder, TEMPLATE)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("<start_of_music>", ""),
        ("<|lyrics-", "<|audio-"),
        ('message["content"] | trim', '""'),
        ("codes[0]", "codes[9]"),
        ("codes[0] | int", "''.__class__.__mro__"),
        ("{%- endgeneration %}", ""),
    ],
)
def test_a_template_that_was_changed_is_named(folder: Path, old: str, new: str) -> None:
    text = (folder / TEMPLATE).read_text(encoding="utf-8")
    assert old in text
    (folder / TEMPLATE).write_text(text.replace(old, new), encoding="utf-8")
    refused(folder, TEMPLATE)


# --- weights ---------------------------------------------------------------------------------


def change_weights(folder: Path, change: Callable[[dict[str, np.ndarray]], None]) -> None:
    (folder / INDEX).unlink()
    tensors = load_file(folder / WEIGHTS)
    change(tensors)
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})


@pytest.mark.parametrize("name", ["model.norm.weight", "model.embed_tokens.weight"])
def test_a_weight_that_is_missing_would_be_random_and_is_refused(folder: Path, name: str) -> None:
    change_weights(folder, lambda tensors: tensors.pop(name).fill(0))
    assert "missing" in refused(folder, WEIGHTS)


def test_a_weight_without_a_place_is_refused(folder: Path) -> None:
    change_weights(folder, lambda tensors: tensors.update(other=np.zeros(3, np.float32)))
    assert "other" in refused(folder, WEIGHTS)


@pytest.mark.parametrize("name", ["model.norm.weight", "model.layers.0.mlp.up_proj.weight"])
def test_a_weight_of_another_shape_is_refused(folder: Path, name: str) -> None:
    change_weights(folder, lambda tensors: tensors.update({name: tensors[name][:-1].copy()}))
    refused(folder, WEIGHTS)


def test_a_weight_of_whole_numbers_is_refused(folder: Path) -> None:
    name = "model.norm.weight"
    change_weights(folder, lambda tensors: tensors.update({name: tensors[name].astype(np.int64)}))
    refused(folder, WEIGHTS)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "pytorch_model-00001-of-00002.bin", "x.pt"])
def test_pickled_weights_are_never_read(folder: Path, name: str) -> None:
    (folder / INDEX).unlink()
    (folder / WEIGHTS).unlink()
    pickled(folder / name)
    assert "convert them to safetensors" in refused(folder, name)


def test_pickles_beside_the_weights_are_not_touched(folder: Path) -> None:
    for name in ("pytorch_model.bin", "training_args.bin", "optimizer.pt"):
        pickled(folder / name)
    Recommender.from_pretrained(folder, device="cpu")
    assert not (folder.parent / "canary").exists()


@pytest.mark.parametrize(
    "name",
    [
        *("../model.safetensors", "/etc/passwd", "..\\model.safetensors", "C:model.safetensors"),
        *("pytorch_model.bin", "none.safetensors", files.CODEBOOKS, "", 3, None),
    ],
)
@pytest.mark.parametrize("alone", [True, False])
def test_an_index_that_leads_elsewhere_is_named(folder: Path, name: object, alone: bool) -> None:
    values = files.read_json(folder / INDEX)
    first = min(values["weight_map"])
    values["weight_map"][first] = name
    files.write_json(folder / INDEX, values)
    if alone:
        (folder / WEIGHTS).rename(folder / "model-00001-of-00001.safetensors")
    shutil.copyfile(folder / files.CODEBOOKS, folder.parent / WEIGHTS)
    refused(folder, INDEX, WEIGHTS, "none.safetensors")


@pytest.mark.parametrize("value", [{}, [], None, {"x": WEIGHTS}])
def test_an_index_of_other_weights_is_named(folder: Path, value: object) -> None:
    files.write_json(folder / INDEX, {"metadata": {}, "weight_map": value})
    refused(folder, INDEX)


# --- configs ---------------------------------------------------------------------------------


def change_json(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(files.read_json(path) | changes), encoding="utf-8")


@pytest.mark.parametrize(
    "changes",
    [
        {"vocab_size": 2_000_000_000},
        {"hidden_size": 1 << 40},
        {"intermediate_size": 1 << 40},
        {"num_hidden_layers": 10**12},
        {"num_hidden_layers": -1},
        {"num_hidden_layers": 7},
        {"num_attention_heads": 0},
        {"head_dim": 1 << 40},
        {"hidden_size": 64},
        {"hidden_size": "large"},
        {"vocab_size": 3},
        {"vocab_size": None},
        {"model_type": "gpt2"},
        {"model_type": "t5"},
        {"model_type": "bert"},
        {"model_type": None},
        {"model_type": "never_heard_of"},
        {"hidden_act": "no_such_function"},
    ],
    ids=str,
)
def test_a_config_of_another_model_is_refused_without_taking_the_memory(
    folder: Path, changes: dict[str, Any]
) -> None:
    change_json(folder / CONFIG, **changes)
    refused(folder, CONFIG, WEIGHTS, "")


def test_room_is_made_for_no_more_than_the_weights_can_fill(folder: Path) -> None:
    change_json(folder / CONFIG, num_hidden_layers=200)
    assert "describes a model of" in refused(folder, CONFIG)
    change_json(folder / CONFIG, num_hidden_layers=10**9)
    assert "more than the weights are for" in refused(folder, CONFIG)


@pytest.mark.parametrize("model_type", ["llama", "never_heard_of"])
@pytest.mark.parametrize("name", [CONFIG, "tokenizer_config.json"])
def test_code_that_comes_with_a_model_is_never_run(
    folder: Path, model_type: str, name: str
) -> None:
    canary = folder.parent / "canary"
    code = f"import os\nos.mkdir({str(canary)!r})\nclass Evil: pass\n"
    (folder / "evil.py").write_text(code, encoding="utf-8")
    autos = ("AutoConfig", "AutoModel", "AutoModelForCausalLM")
    auto_map: dict[str, Any] = dict.fromkeys(autos, "evil.Evil")
    auto_map["AutoTokenizer"] = ["evil.Evil", "evil.Evil"]
    change_json(folder / name, auto_map=auto_map)
    change_json(folder / CONFIG, model_type=model_type)
    if model_type == "llama":
        Recommender.from_pretrained(folder, device="cpu")
    else:
        refused(folder, CONFIG)
    assert not canary.exists()


def test_adapters_of_elsewhere_are_refused(folder: Path) -> None:
    adapter = {"base_model_name_or_path": "someone/else", "peft_type": "LORA"}
    files.write_json(folder / "adapter_config.json", adapter)
    assert "merge them" in refused(folder, "adapter_config.json")


@pytest.mark.parametrize(
    "changes",
    [
        {"format_version": 2},
        {"unknown": 1},
        {"codes": [1 << 40] * 5},
        {"codes": [8, 8, 8, 8]},
        {"codes": 8},
        {"codes": [[8]] * 5},
        {"codes": [1.5] * 5},
        {"modalities": [["a"]] * 5},
        {"modalities": ["a", "b", "c", "d", "e"]},
        {"lookup_weights": [-1] * 5},
        {"missing": "guess"},
        {"codebook_hash": "0" * 64},
        {"codebook_hash": None},
    ],
    ids=str,
)
def test_a_tokenizer_config_of_something_else_is_named(
    folder: Path, changes: dict[str, Any]
) -> None:
    change_json(folder / files.TALKPLAY_CONFIG, **changes)
    refused(folder, files.TALKPLAY_CONFIG, "tokenizer.json", files.CODEBOOKS)


@pytest.mark.parametrize(
    "changes", [{"eos_token": None}, {"pad_token": None}, {"eos_token": "a new token"}], ids=str
)
def test_a_tokenizer_without_an_end_of_turn_is_refused(
    folder: Path, changes: dict[str, Any]
) -> None:
    change_json(folder / "tokenizer_config.json", **changes)
    assert "tokenizer_config.json" in refused(folder, "tokenizer_config.json", CONFIG)


@pytest.mark.parametrize("key", ["token_catalog_file", "codebooks_file", "tokenizer_file"])
def test_a_tokenizer_that_names_files_elsewhere_is_refused(folder: Path, key: str) -> None:
    change_json(folder / "tokenizer_config.json", **{key: "/etc/passwd"})
    refused(folder, "tokenizer_config.json")


@pytest.mark.parametrize(
    "changes",
    [{"model": {}}, {"model": {"type": "BPE"}}, {"added_tokens": []}, {"added_tokens": [1]}],
    ids=str,
)
def test_a_tokenizer_that_its_library_refuses_is_named(
    folder: Path, changes: dict[str, Any]
) -> None:
    change_json(folder / "tokenizer.json", **changes)
    refused(folder, "tokenizer.json", files.TALKPLAY_CONFIG)


# --- the catalogue ---------------------------------------------------------------------------


def change_catalog(folder: Path, change: Callable[[pa.Table], pa.Table]) -> None:
    path = folder / files.TOKEN_CATALOG
    pq.write_table(change(pq.read_table(path)), path)


def with_codes(codes: pa.Array) -> Callable[[pa.Table], pa.Table]:
    return lambda table: table.drop_columns("codes").append_column("codes", codes)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda table: table.drop_columns("codes"), "codes"),
        (lambda table: table.drop_columns("track_id"), "track_id"),
        (lambda table: pa.concat_tables([table, table]), "stands twice"),
        (lambda table: table.slice(0, 0), "has no tracks"),
        (with_codes(pa.array([[999] * 5] * 60)), "beyond the codebooks"),
        (with_codes(pa.array([[-1] * 5] * 60)), "beyond the codebooks"),
        (with_codes(pa.array([[0] * 4] * 60)), "4 codes a track"),
        (with_codes(pa.array([[0] * 5] * 59 + [[0] * 4])), "cannot be read"),
        (with_codes(pa.array([["0"] * 5] * 60)), "cannot be read"),
        (with_codes(pa.array([[0, None, 0, 0, 0]] * 60)), "cannot be read"),
        (with_codes(pa.array([0] * 60)), "cannot be read"),
    ],
)
def test_a_catalogue_that_does_not_fit_is_named(
    folder: Path, change: Callable[[pa.Table], pa.Table], told: str
) -> None:
    (folder / files.CATALOG_INDEX).unlink()
    change_catalog(folder, change)
    message = refused(folder, files.TOKEN_CATALOG)
    assert told in message
