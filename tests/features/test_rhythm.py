"""Tempo and key."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from talkplay_hf.catalog.cells import PITCHES
from talkplay_hf.catalog.render import SAMPLE_RATE, render_clip
from talkplay_hf.features.rhythm import (
    MAJOR,
    MINOR,
    RATE,
    estimate_key,
    estimate_rhythm,
    estimate_tempo,
    key_of,
)
from talkplay_hf.features.sound import load_sound

librosa = pytest.importorskip("librosa")


def chord(*pitches: int, seconds: float = 4.0) -> np.ndarray:
    time = np.arange(int(22_050 * seconds)) / 22_050
    tones = [np.sin(2 * np.pi * 440 * 2 ** ((p - 69) / 12) * time) for p in pitches]
    return np.asarray(0.2 * sum(tones), dtype=np.float32)


def test_chords_of_c_major_are_c_major():
    cadence = [chord(60, 64, 67), chord(65, 69, 72), chord(67, 71, 74), chord(60, 64, 67)]
    key, confidence = estimate_key(np.concatenate(cadence))
    assert key == "C major"
    assert confidence > 0.8


@given(tonic=st.integers(0, 11), minor=st.booleans(), gain=st.floats(0.01, 100))
def test_the_profile_of_a_key_is_that_key(tonic: int, minor: bool, gain: float):
    profile = np.roll(MINOR if minor else MAJOR, tonic) * gain
    key, confidence = key_of(profile)
    assert key == f"{PITCHES[tonic]} {'minor' if minor else 'major'}"
    assert confidence == pytest.approx(1)


def test_flat_chroma_has_no_confidence():
    assert key_of(np.ones(12))[1] == 0
    assert key_of(np.zeros(12))[1] == 0


@pytest.mark.parametrize("tempo", [80.0, 120.0, 160.0])
def test_clicks_have_their_tempo(tempo: float):
    sound = np.zeros(22_050 * 15, dtype=np.float32)
    rng = np.random.default_rng(0)
    for beat in np.arange(0, 14.5, 60 / tempo):
        at = int(beat * 22_050)
        sound[at : at + 500] = 0.5 * rng.standard_normal(500)
    assert estimate_tempo(sound) == pytest.approx(tempo, rel=0.04)


def test_most_rendered_clips_have_their_key_and_a_tempo_of_the_right_family():
    rng = np.random.default_rng(1)
    keys, tempos = [], []
    for number in range(12):
        tempo, tonic, major = float(rng.uniform(70, 160)), int(rng.integers(12)), number % 2 == 0
        clip = render_clip(
            tempo=tempo, key=tonic, major=major, instrument="piano", genre="rock",
            seed=[1, number],
        )  # fmt: skip
        found = estimate_rhythm(librosa.resample(clip, orig_sr=SAMPLE_RATE, target_sr=RATE))
        keys.append(found.key == f"{PITCHES[tonic]} {'major' if major else 'minor'}")
        octave = np.log2(found.tempo / tempo)
        tempos.append(abs(octave - round(octave)) < 0.06)
    assert np.mean(keys) >= 0.75  # chance 0.04
    assert np.mean(tempos) >= 0.75  # chance 0.12


def test_real_music_has_the_key_and_tempo_that_it_was_made_for():
    found = importlib.util.find_spec("immich_memories_music")
    if found is None or found.origin is None:
        pytest.skip("the package immich-memories-music with real music files is not installed")
    tracks = Path(found.origin).parent / "tracks"
    # as its licence file states
    for name, tempo, key in (
        ("happy/happy_acoustic_1", 110, "E major"),
        ("tender/tender_electronic_1", 99, "C major"),
    ):
        rhythm = estimate_rhythm(load_sound(tracks / f"{name}.opus", 22_050))
        assert rhythm.tempo == pytest.approx(tempo, rel=0.04)
        assert rhythm.key == key
        assert rhythm.key_confidence > 0.5
