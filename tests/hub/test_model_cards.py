"""The card of a model says what it is and how it was made."""

from typing import Any

import pytest
from huggingface_hub import ModelCard

from talkplay_hf.hub.model_cards import model_card


def config(base: str = "scratch", missing: str = "impute") -> dict[str, Any]:
    return {"base": base, "modalities": ["playlist", "audio"], "codes": [256, 64],
            "missing": missing}  # fmt: skip


REPORT = {
    "parameters": 551_808, "steps": 3400, "tokens_seen": 3_638_510, "precision": "fp32", "seed": 0,
    "arguments": {"playlist_share": 0.05, "early_stopping_patience": None},
}  # fmt: skip


def test_a_card_tells_codes_tracks_and_training() -> None:
    text = model_card("my model", config(), REPORT, tracks=27_082)
    assert "# my model" in text
    assert "| playlist | 256 |" in text
    assert "27,082 tracks" in text
    assert "| tokens seen | 3,638,510 |" in text
    assert "| playlist_share | 0.05 |" in text
    assert "early_stopping_patience" not in text


@pytest.mark.parametrize(("missing", "said"), [("impute", "likeliest code"), ("reserve", "own")])
def test_a_card_tells_what_becomes_of_a_missing_modality(missing: str, said: str) -> None:
    assert said in model_card("m", config(missing=missing), REPORT, tracks=2)


@pytest.mark.parametrize(
    ("base", "named"), [("scratch", None), ("me/base", "me/base"), ("/runs/some/base", None)]
)
def test_only_a_base_of_the_hub_is_named_as_such(base: str, named: str | None) -> None:
    text = model_card("m", config(base), REPORT, tracks=2)
    assert ModelCard(text).data.base_model == named
    assert "/runs" not in text
