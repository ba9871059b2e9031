"""Captions of sound."""

from pathlib import Path

import numpy as np
import pytest
from tiny_audio_models import save_clap, save_qwen_audio, save_whisper

from talkplay_hf.errors import ConfigError
from talkplay_hf.features.caption import Captioner

SOUND = (0.1 * np.random.default_rng(0).standard_normal(16_000 * 30)).astype(np.float32)


def test_a_speech_model_that_was_trained_on_captions_writes_one(tmp_path: Path):
    model = save_whisper(tmp_path, says="a calm piano piece")
    rate, describe = Captioner(str(model), max_new_tokens=20).load()
    assert rate == 16_000
    assert describe(SOUND) == "a calm piano piece"


def test_an_empty_caption_is_none(tmp_path: Path):
    model = save_whisper(tmp_path, says="")
    assert Captioner(str(model), max_new_tokens=5).load()[1](SOUND) is None


def test_a_chat_model_is_asked_the_prompt(tmp_path: Path):
    model = save_qwen_audio(tmp_path)
    asked = [
        Captioner(str(model), prompt=prompt, max_new_tokens=12).load()
        for prompt in ("What is this?", "What is this?", "Zzzzzz")
    ]
    assert all(rate == 16_000 for rate, _ in asked)
    answers = [describe(SOUND[:48_000]) for _, describe in asked]
    assert answers[0]
    assert answers[0] == answers[1]
    assert answers[0] != answers[2]  # the prompt reaches the model, and only the answer comes back
    assert "What is this?" not in str(answers[0])
    assert answers[0] != asked[0][1](np.tile(SOUND[:100], 480))  # so does the sound


def test_a_model_that_cannot_write_is_refused(tmp_path: Path):
    with pytest.raises(ConfigError, match="clap"):
        Captioner(str(save_clap(tmp_path / "clap"))).load()
    with pytest.raises(ConfigError, match="absent"):
        Captioner(str(tmp_path / "absent")).load()
