"""Settings files for transformers 4: nothing lost, and version 5 reads the same from them."""

import json
from pathlib import Path

import pytest
from transformers import AutoConfig, AutoTokenizer, LlamaConfig

from talkplay_hf.hub.older import CONFIG, TOKENIZER_CONFIG, write_for_older

ROPE = {
    "rope_type": "llama3",
    "rope_theta": 500_000.0,
    "factor": 32.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}


def read(folder: Path, name: str) -> dict[str, object]:
    values: dict[str, object] = json.loads((folder / name).read_text())
    return values


@pytest.mark.parametrize("rope", [ROPE, {"rope_type": "default", "rope_theta": 100_000.0}])
def test_positions_are_written_under_both_names(tmp_path: Path, rope: dict[str, object]) -> None:
    LlamaConfig(rope_parameters=rope).save_pretrained(tmp_path)
    write_for_older(tmp_path)
    values = read(tmp_path, CONFIG)
    assert values["rope_theta"] == rope["rope_theta"]
    wanted = {k: v for k, v in rope.items() if k != "rope_theta"} if len(rope) > 2 else None
    assert values.get("rope_scaling") == wanted
    assert AutoConfig.from_pretrained(tmp_path).rope_parameters == rope


def test_special_tokens_are_those_of_version_5(tmp_path: Path, tokenizer_folder: Path) -> None:
    plain = AutoTokenizer.from_pretrained(tokenizer_folder)
    plain.save_pretrained(tmp_path)
    write_for_older(tmp_path)
    values = read(tmp_path, TOKENIZER_CONFIG)
    assert not isinstance(values.get("extra_special_tokens"), list)
    assert values["additional_special_tokens"]
    assert values["model_input_names"] == ["input_ids", "attention_mask"]
    again = AutoTokenizer.from_pretrained(tmp_path)
    assert set(again.all_special_tokens) == set(plain.all_special_tokens)


def test_a_second_time_and_other_files_change_nothing(tmp_path: Path) -> None:
    write_for_older(tmp_path)
    assert not list(tmp_path.iterdir())
    LlamaConfig(rope_parameters=ROPE).save_pretrained(tmp_path)
    write_for_older(tmp_path)
    path = tmp_path / CONFIG
    before = path.read_bytes(), path.stat().st_mtime_ns
    write_for_older(tmp_path)
    assert (path.read_bytes(), path.stat().st_mtime_ns) == before
    layered = {"model_type": "x", "rope_parameters": {"full": {"rope_theta": 1.0}}}
    path.write_text(json.dumps(layered))
    write_for_older(tmp_path)
    assert read(tmp_path, CONFIG) == layered
