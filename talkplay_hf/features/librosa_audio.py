"""Audio vectors by librosa: descriptors of timbre, harmony and rhythm, without a model."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from talkplay_hf.catalog.schema import Catalog
from talkplay_hf.features.audio import standardise
from talkplay_hf.features.shards import ShardedRun
from talkplay_hf.features.sound import Clip, clip_loader, clip_names, import_librosa
from talkplay_hf.features.store import ModalityVectors

RATE = 22_050
MFCCS = 20


@dataclass(frozen=True)
class LibrosaDescriptors:
    """Audio vectors from librosa's descriptors of a clip, of any audio format.

    They are standardised over the tracks of `run.fit_on`; the mean and the spread are kept, and a
    later run that should fit this one uses the same.

    Args:
        clip_start (`str` or `float`): See `Clip`.
        clip_seconds (`float`, *optional*): See `Clip`.
    """

    modalities: ClassVar[tuple[str, ...]] = ("audio",)

    clip_start: str | float = "middle"
    clip_seconds: float | None = 30.0

    def encode(self, catalog: Catalog, modality: str, run: ShardedRun) -> ModalityVectors:
        """The vectors of every track, `[n, 112]`, in catalog order."""
        load = clip_loader(catalog, RATE, Clip(self.clip_start, self.clip_seconds))
        made = run.map_tracks(
            clip_names(catalog), np.stack, load=lambda name: sound_descriptors(load(name))
        )
        return standardise(made, run)


def sound_descriptors(sound: np.ndarray) -> np.ndarray:
    """Timbre, harmony and rhythm of a mono sound at 22,050 Hz.

    Mean and spread over time of 20 MFCCs, 7 bands of spectral contrast, centroid, bandwidth,
    roll-off, flatness, zero crossings, level (66); mean and spread of the chroma and the mean tonal
    centroid (30); the tempogram at 13 ratios of the tempo, mean and spread of the onset strength,
    and the tempo in octaves (16).

    Args:
        sound (`np.ndarray` of shape `[samples]`, float32): The sound.

    Returns:
        `np.ndarray` of shape `[112]`, float64.

    Raises:
        MissingExtraError: If librosa is not installed.
    """
    librosa = import_librosa("the encoder 'librosa' needs")
    feature = librosa.feature
    magnitude = np.abs(librosa.stft(sound))
    decibels = librosa.power_to_db(feature.melspectrogram(S=magnitude**2, sr=RATE))
    timbre = np.concatenate(
        [
            feature.mfcc(S=decibels, n_mfcc=MFCCS),
            feature.spectral_contrast(S=magnitude, sr=RATE),
            feature.spectral_centroid(S=magnitude, sr=RATE),
            feature.spectral_bandwidth(S=magnitude, sr=RATE),
            feature.spectral_rolloff(S=magnitude, sr=RATE),
            feature.spectral_flatness(S=magnitude),
            feature.zero_crossing_rate(sound)[:, : magnitude.shape[1]],
            feature.rms(S=magnitude),
        ]
    )
    chroma = feature.chroma_stft(S=magnitude**2, sr=RATE)
    onset = librosa.onset.onset_strength(S=decibels, sr=RATE)
    tempogram = feature.tempogram(onset_envelope=onset, sr=RATE)
    return np.concatenate(
        [
            timbre.mean(axis=1),
            timbre.std(axis=1),
            chroma.mean(axis=1),
            chroma.std(axis=1),
            feature.tonnetz(chroma=chroma).mean(axis=1),
            feature.tempogram_ratio(tg=tempogram, sr=RATE).mean(axis=1),
            [onset.mean(), onset.std()],
            np.log2(feature.tempo(tg=tempogram, sr=RATE)),
        ]
    ).astype(np.float64)
