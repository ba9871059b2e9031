"""A few seconds of sound for a track of the demo world, synthesised from its factors.

The audio modality of the demo world is computed from these clips and the demo plays them, so tempo,
key, mode, instrument and genre can be heard and measured.
"""

import wave
from collections.abc import Sequence
from pathlib import Path

import numpy as np

SAMPLE_RATE = 16_000
SECONDS = 5.0

# instrument: (weights of the first harmonics, attack s, decay s)
TIMBRES: dict[str, tuple[tuple[float, ...], float, float]] = {
    "piano": ((1.0, 0.5, 0.25, 0.12, 0.06), 0.005, 0.7),
    "saxophone": ((1.0, 0.8, 0.7, 0.5, 0.35, 0.2), 0.05, 1.6),
    "acoustic guitar": ((1.0, 0.7, 0.4, 0.3, 0.15), 0.004, 0.45),
    "banjo": ((0.8, 1.0, 0.7, 0.5, 0.4, 0.3), 0.002, 0.2),
    "synthesizer": ((1.0, 0.5, 0.33, 0.25, 0.2, 0.17, 0.14), 0.08, 2.0),
    "drum machine": ((1.0, 0.0, 0.3), 0.002, 0.15),
    "electric guitar": ((1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4), 0.005, 1.2),
    "drums": ((1.0, 0.4, 0.6), 0.002, 0.18),
    "bass": ((1.0, 0.3, 0.1), 0.01, 0.6),
    "organ": ((1.0, 0.9, 0.0, 0.7, 0.0, 0.5), 0.02, 3.0),
    "violin": ((1.0, 0.7, 0.6, 0.4, 0.3, 0.25), 0.12, 2.5),
}
# genre: (kick, snare, hat) hits on the eight half-beats of a bar
DRUMS: dict[str, tuple[str, str, str]] = {
    "jazz": ("x.......", "...x...x", "x.xxx.xx"),
    "folk": ("x...x...", "........", "..x...x."),
    "techno": ("x.x.x.x.", "..x...x.", ".x.x.x.x"),
    "metal": ("xxxxxxxx", "..x...x.", "x.x.x.x."),
    "hip hop": ("x..x.x..", "..x...x.", "xxxxxxxx"),
    "soul": ("x...x.x.", "..x...x.", "x.x.x.x."),
    "reggae": ("....x...", "....x...", ".x.x.x.x"),
    "rock": ("x...x...", "..x...x.", "xxxxxxxx"),
}
DRUM_LEVEL = 0.5
CHORDS = (0, 5, 7, 0)


def render_clip(
    *, tempo: float, key: int, major: bool, instrument: str, genre: str, seed: Sequence[int]
) -> np.ndarray:
    """Synthesise a clip.

    Args:
        tempo (`float`): Beats per minute.
        key (`int`): Pitch class of the tonic, 0 (C) to 11 (B).
        major (`bool`): Major or minor.
        instrument (`str`): The lead, one of `TIMBRES` (else a plain tone).
        genre (`str`): Picks the drum pattern of `DRUMS` (else no drums).
        seed (`Sequence[int]`): Seed of the melody and the noise.

    Returns:
        `np.ndarray` of shape `[samples]`, dtype float32, mono at `SAMPLE_RATE`, peak 0.8.
    """
    rng = np.random.default_rng(list(seed))
    samples = int(SECONDS * SAMPLE_RATE)
    sound = np.zeros(samples + SAMPLE_RATE)
    half_beat = 30.0 / tempo
    third = 4 if major else 3
    harmonics, attack, decay = TIMBRES.get(instrument, ((1.0,), 0.01, 0.5))
    scale = (0, 2, third, 5, 7, 9 if major else 8)
    for step in range(int(SECONDS / half_beat)):
        start = int(step * half_beat * SAMPLE_RATE)
        chord = CHORDS[(step // 8) % len(CHORDS)]
        if step % 8 == 0:
            for interval in (0, third, 7):
                note = _tone(48 + key + chord + interval, 8 * half_beat, (1.0, 0.3), 0.05, 1.5)
                _add(sound, start, 0.18 * note)
        if step % 4 == 0:
            _add(sound, start, 0.35 * _tone(36 + key + chord, 4 * half_beat, (1.0, 0.4), 0.01, 0.5))
        if rng.random() < 0.7:
            pitch = 60 + key + chord + int(rng.choice(scale))
            _add(sound, start, 0.4 * _tone(pitch, 3 * half_beat, harmonics, attack, decay))
        if genre in DRUMS:
            for pattern, hit in zip(DRUMS[genre], (_kick, _snare, _hat), strict=True):
                if pattern[step % 8] == "x":
                    _add(sound, start, DRUM_LEVEL * hit(rng))
    sound = sound[:samples]
    sound[-800:] *= np.linspace(1, 0, 800)
    return np.asarray(0.8 * sound / np.abs(sound).max(), dtype=np.float32)


def write_wav(path: Path, clip: np.ndarray) -> None:
    """Write a mono float clip in [-1, 1] as 16-bit WAV."""
    # given a path, `wave` stumbles over a file that cannot be opened once more when it is collected
    with path.open("wb") as file, wave.open(file, "wb") as handle:
        handle.setnchannels(1)
        handle.setsampwidth(2)
        handle.setframerate(SAMPLE_RATE)
        handle.writeframes((clip * 32767).astype("<i2").tobytes())


def _add(sound: np.ndarray, start: int, note: np.ndarray) -> None:
    end = min(len(sound), start + len(note))
    if start < end:
        sound[start:end] += note[: end - start]


def _tone(
    pitch: int, seconds: float, harmonics: Sequence[float], attack: float, decay: float
) -> np.ndarray:
    time = np.arange(int(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    frequency = 440.0 * 2 ** ((pitch - 69) / 12)
    wave_sum = np.zeros_like(time)
    for number, weight in enumerate(harmonics, start=1):
        if weight and number * frequency < SAMPLE_RATE / 2:
            wave_sum += weight * np.sin(2 * np.pi * number * frequency * time)
    envelope = np.minimum(time / attack, 1.0) * np.exp(-time / decay)
    envelope[-80:] *= np.linspace(1, 0, len(envelope[-80:]))
    return np.asarray(wave_sum * envelope / sum(harmonics))


def _kick(rng: np.random.Generator) -> np.ndarray:
    time = np.arange(int(0.15 * SAMPLE_RATE)) / SAMPLE_RATE
    return np.asarray(np.sin(2 * np.pi * (50 * time - 3 * np.exp(-40 * time))) * np.exp(-20 * time))


def _snare(rng: np.random.Generator) -> np.ndarray:
    time = np.arange(int(0.12 * SAMPLE_RATE)) / SAMPLE_RATE
    return np.asarray(0.6 * rng.standard_normal(len(time)) * np.exp(-30 * time))


def _hat(rng: np.random.Generator) -> np.ndarray:
    time = np.arange(int(0.05 * SAMPLE_RATE)) / SAMPLE_RATE
    noise = np.diff(rng.standard_normal(len(time) + 1))
    return np.asarray(0.25 * noise * np.exp(-90 * time))
