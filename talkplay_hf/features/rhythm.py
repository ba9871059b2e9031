"""Tempo and key of a sound, estimated by librosa (paper A.1: tempo and key estimates)."""

from dataclasses import dataclass

import numpy as np

from talkplay_hf.catalog.cells import PITCHES
from talkplay_hf.features.sound import import_librosa

RATE = 22_050
# Probe-tone ratings of Krumhansl and Kessler (1982), from the tonic upwards.
MAJOR = (6.35, 2.23, 3.48, 2.33, 4.38, 4.09, 2.52, 5.19, 2.39, 3.66, 2.29, 2.88)
MINOR = (6.33, 2.68, 3.52, 5.38, 2.60, 3.53, 2.54, 4.75, 3.98, 2.69, 3.34, 3.17)


@dataclass(frozen=True)
class Rhythm:
    """Tempo and key of a track.

    Args:
        tempo (`float`): Beats per minute. Half or twice the beat that a listener taps is a common
            error.
        key (`str`): Such as `"G# minor"`, written with sharps.
        key_confidence (`float`): Correlation with the profile of the key, -1 to 1.
    """

    tempo: float
    key: str
    key_confidence: float


def estimate_rhythm(sound: np.ndarray) -> Rhythm:
    """Tempo and key of a sound.

    Args:
        sound (`np.ndarray` of shape `[samples]`, float32): Mono sound at 22,050 Hz.

    Raises:
        MissingExtraError: If librosa is not installed.
    """
    return Rhythm(estimate_tempo(sound), *estimate_key(sound))


def estimate_tempo(sound: np.ndarray) -> float:
    """Beats per minute: the strongest period of the onset strength, near 120 where in doubt."""
    librosa = import_librosa("tempo and key need")
    onset = librosa.onset.onset_strength(y=sound, sr=RATE)
    return float(librosa.feature.tempo(onset_envelope=onset, sr=RATE)[0])


def estimate_key(sound: np.ndarray) -> tuple[str, float]:
    """The key by the Krumhansl-Schmuckler algorithm.

    The mean of the chroma energy (CENS, tuned to the sound) is correlated with the 24 key
    profiles; the best is the key.

    Returns:
        `tuple[str, float]`: The key, such as `"G# minor"`, and its correlation, -1 to 1.
    """
    librosa = import_librosa("tempo and key need")
    return key_of(librosa.feature.chroma_cens(y=sound, sr=RATE).mean(axis=1))


def key_of(chroma: np.ndarray) -> tuple[str, float]:
    """The key whose profile fits a chroma vector of shape `[12]` (from C) best, and how well.

    Flat chroma fits all of them equally: it gives C major with confidence 0.
    """
    if not np.ptp(chroma) > 0:
        return "C major", 0.0
    keys, scores = [], []
    for mode, profile in (("major", MAJOR), ("minor", MINOR)):
        for tonic, name in enumerate(PITCHES):
            keys.append(f"{name} {mode}")
            scores.append(np.corrcoef(chroma, np.roll(profile, tonic))[0, 1])
    best = int(np.argmax(scores))
    return keys[best], float(scores[best])
