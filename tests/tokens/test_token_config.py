"""`talkplay_config.json` says what it can be, and refuses the rest by name."""

import json
from pathlib import Path
from typing import Any

import pytest

from talkplay_hf.errors import ArtifactError, ConfigError
from talkplay_hf.tokens.config import TalkPlayConfig


def values(**changes: Any) -> dict[str, Any]:
    base = {
        "codes": [4, 2, 2, 8, 2],
        "base": "some/model",
        "base_vocab_size": 100,
        "codebook_hash": "a" * 64,
        "catalog_hash": "b" * 64,
    }
    return base | changes


def test_round_trip_through_json(tmp_path: Path) -> None:
    config = TalkPlayConfig.from_dict(
        values(missing="impute", lookup_weights=[5, 4, 3, 2, 1], made_from={"catalog": "c" * 64})
    )
    path = tmp_path / "talkplay_config.json"
    path.write_text(json.dumps(config.to_dict()), encoding="utf-8")
    assert TalkPlayConfig.load(path) == config


def test_music_tokens_stand_in_id_order() -> None:
    tokens = TalkPlayConfig.from_dict(values()).music_tokens
    assert tokens[:4] == ["<start_of_music>", "<end_of_music>", "<|playlist-0|>", "<|playlist-1|>"]
    assert tokens[6:8] == ["<|semantic-0|>", "<|semantic-1|>"]
    assert tokens[-1] == "<|audio-1|>"
    assert len(tokens) == len(set(tokens)) == 2 + 4 + 2 + 2 + 8 + 2


def test_only_reserve_has_a_code_for_missing() -> None:
    assert TalkPlayConfig.from_dict(values(missing="reserve")).missing_code(3) == 7
    assert TalkPlayConfig.from_dict(values(missing="impute")).missing_code(3) is None


def test_an_unknown_key_is_named() -> None:
    with pytest.raises(ConfigError, match="unknown key colour"):
        TalkPlayConfig.from_dict(values(colour="red"))


def test_a_missing_key_is_named() -> None:
    without = values()
    del without["codebook_hash"]
    with pytest.raises(ConfigError, match="codebook_hash"):
        TalkPlayConfig.from_dict(without)


@pytest.mark.parametrize(
    "changes",
    [
        {"codes": [4, 2, 2, 8]},
        {"codes": []},
        {"codes": [4, 2, 2, 8, 0]},
        {"codes": [4, 2, 2, 8, -2]},
        {"codes": [4, 2, 2, 8, 2.5]},
        {"codes": [4, 2, 2, 8, "2"]},
        {"codes": [4, 2, 2, 8, True]},
        {"codes": 4},
        {"lookup_weights": [25, 16, 9, 4]},
        {"lookup_weights": [25, 16, 9, 4, 0]},
        {"modalities": ["playlist", "semantic", "metadata", "lyrics"]},
        {"modalities": ["audio", "semantic", "metadata", "lyrics", "audio"]},
        {"missing": "guess"},
    ],
)
def test_an_impossible_value_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        TalkPlayConfig.from_dict(values(**changes))


def test_another_format_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "talkplay_config.json"
    path.write_text(json.dumps(values(format_version=99)), encoding="utf-8")
    with pytest.raises(ArtifactError, match="format_version 99"):
        TalkPlayConfig.load(path)


@pytest.mark.parametrize("text", ["", "[1, 2]", '"text"', "{"])
def test_a_damaged_file_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "talkplay_config.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ArtifactError, match=r"talkplay_config\.json"):
        TalkPlayConfig.load(path)
    with pytest.raises(ArtifactError, match="no such file"):
        TalkPlayConfig.load(tmp_path / "none.json")
