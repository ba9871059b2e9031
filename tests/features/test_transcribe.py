"""Lyrics from sound."""

from pathlib import Path

import numpy as np
import pytest
from tiny_audio_models import save_clap, save_whisper

from talkplay_hf.errors import ConfigError
from talkplay_hf.features.transcribe import Lyrics, Transcriber, is_instrumental

VERSE = "the river runs below the town and nobody remembers your name"
SOUND = (0.1 * np.random.default_rng(0).standard_normal(16_000 * 70)).astype(np.float32)


@pytest.mark.parametrize("seconds", [3, 30, 70])
@pytest.mark.parametrize("german", [False, True])
def test_words_and_language_are_kept(german: bool, seconds: int, tmp_path: Path):
    model = save_whisper(tmp_path, says=VERSE, german=german)
    rate, hear = Transcriber(str(model), batch_size=2).load()
    assert rate == 16_000
    assert hear(SOUND[: rate * seconds]) == Lyrics(VERSE, "de" if german else "en", False)


def test_no_speech_and_loops_are_instrumentals(tmp_path: Path):
    for folder, says, speech in (("a", VERSE, False), ("b", "thank you " * 6, True)):
        model = save_whisper(tmp_path / folder, says=says, speech=speech)
        assert Transcriber(str(model)).load()[1](SOUND) == Lyrics(None, None, True)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "♪ ♪ ♪",
        "[Music] (upbeat music)",
        "*soft piano plays* [instrumental break] la la",
        "Thank you.",
        "Oh, oh, oh, oh, oh, oh, oh, oh.",
        "I'm going to the beach. " * 7,
        "Thanks for watching, and please like this video!",
        "Subtitles by the Amara.org community",
        "ありがとう",
        "はい、はい、はい、はい、はい、はい、はい",
    ],
)
def test_what_whisper_writes_without_a_voice_is_instrumental(text: str):
    assert is_instrumental(text)


@pytest.mark.parametrize(
    "text",
    [
        VERSE,
        "(ooh) the night is young and so are we",
        "Oh oh oh, take me home, oh oh oh, to the place where I belong",
        " ".join([VERSE, "hold me now hold me now", VERSE, "hold me now hold me now"]),
        "we subscribe to love and to the morning " + VERSE + " and here it comes again at last",
        "君の名前を呼んでいるよ今夜",
        "Ніч така місячна зоряна ясная",
    ],
)
def test_lyrics_with_a_chorus_are_not(text: str):
    assert not is_instrumental(text)


def test_a_model_that_is_no_whisper_is_refused(tmp_path: Path):
    with pytest.raises(ConfigError, match="absent"):
        Transcriber(str(tmp_path / "absent")).load()
    with pytest.raises(ConfigError, match="clap"):
        Transcriber(str(save_clap(tmp_path / "clap"))).load()
