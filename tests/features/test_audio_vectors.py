"""Audio vectors from clips and from descriptor columns."""

import struct
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from talkplay_hf.catalog.render import render_clip, write_wav
from talkplay_hf.catalog.schema import Catalog, Track
from talkplay_hf.features.audio import audio_vectors, clip_descriptors


def neighbours(folder: Path, factors: list[dict[str, Any]]) -> np.ndarray:
    """The clip nearest to each of several, by standardised descriptors."""
    names: list[str | None] = []
    for number, factor in enumerate(factors):
        clip = render_clip(
            **{"tempo": 100.0, "key": 2, "major": True, "instrument": "piano", "genre": ""}
            | factor,
            seed=[7, number],
        )
        names.append(f"{number}.wav")
        write_wav(folder / f"{number}.wav", clip)
    vectors = audio_vectors(with_clips(folder, names))[0].vectors
    distance = ((vectors[:, None] - vectors[None]) ** 2).sum(axis=-1)
    np.fill_diagonal(distance, np.inf)
    return np.asarray(distance.argmin(axis=1))


def test_clips_of_the_same_instrument_are_neighbours(tmp_path: Path):
    names = ["violin", "drum machine", "piano", "banjo"] * 5
    nearest = neighbours(
        tmp_path, [{"instrument": name, "tempo": 90.0 + n} for n, name in enumerate(names)]
    )
    right = [names[row] == names[other] for row, other in enumerate(nearest)]
    assert np.mean(right) >= 0.6  # chance 0.21


def test_clips_of_the_same_tempo_are_neighbours(tmp_path: Path):
    tempos = [70.0, 105.0, 150.0] * 6
    factors = [
        {"tempo": tempo, "genre": "rock", "instrument": ("piano", "banjo")[n % 2]}
        for n, tempo in enumerate(tempos)
    ]
    nearest = neighbours(tmp_path, factors)
    right = [tempos[row] == tempos[other] for row, other in enumerate(nearest)]
    assert np.mean(right) >= 0.7  # chance 0.29


def with_clips(folder: Path, names: list[str | None]) -> Catalog:
    tracks = [Track(str(n), "T", "x", audio=name) for n, name in enumerate(names)]
    return Catalog(Catalog.from_tracks(tracks).tracks, Catalog.from_tracks([]).playlists,
                   root=folder)  # fmt: skip


def good_wav(path: Path, seed: int) -> None:
    clip = render_clip(
        tempo=100, key=seed, major=True, instrument="piano", genre="jazz", seed=[seed]
    )
    write_wav(path, clip)


def broken_wav(path: Path, kind: str) -> None:
    good_wav(path, 3)
    content = path.read_bytes()
    if kind == "cut inside a sample":
        path.write_bytes(content[:60_001])
    elif kind == "header only":
        path.write_bytes(content[:44])
    elif kind == "text":
        path.write_text("no sound", encoding="utf-8")
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "float samples":
        path.write_bytes(content[:20] + struct.pack("<H", 3) + content[22:])
    elif kind == "8 bit":
        with wave.open(str(path), "wb") as handle:
            handle.setnchannels(1)
            handle.setsampwidth(1)
            handle.setframerate(16_000)
            handle.writeframes(bytes(80_000))
    elif kind == "too short":
        with wave.open(str(path), "wb") as handle:
            handle.setnchannels(1)
            handle.setsampwidth(2)
            handle.setframerate(16_000)
            handle.writeframes(bytes(2_000))
    elif kind == "folder":
        path.unlink()
        path.mkdir()
    elif kind == "gone":
        path.unlink()


@pytest.mark.parametrize(
    "kind",
    ["header only", "text", "empty", "float samples", "8 bit", "too short", "folder", "gone"],
)
def test_an_unreadable_clip_is_absent(kind: str, tmp_path: Path):
    for number in range(3):
        good_wav(tmp_path / f"{number}.wav", number)
    broken_wav(tmp_path / "3.wav", kind)
    names = ["0.wav", "1.wav", "2.wav", "3.wav", None, "https://example.org/4.wav"]
    made, source = audio_vectors(with_clips(tmp_path, names))
    assert source == "clips"
    assert made.present.tolist() == [True, True, True, False, False, False]
    assert np.isfinite(made.vectors).all()


def test_a_clip_that_was_cut_short_does_not_break_the_rest(tmp_path: Path):
    good_wav(tmp_path / "0.wav", 0)
    broken_wav(tmp_path / "1.wav", "cut inside a sample")
    made, _ = audio_vectors(with_clips(tmp_path, ["0.wav", "1.wav"]))
    assert made.present[0]
    assert np.isfinite(made.vectors).all()


def test_silence_and_stereo(tmp_path: Path):
    for name, channels in (("mono.wav", 1), ("stereo.wav", 2)):
        with wave.open(str(tmp_path / name), "wb") as handle:
            handle.setnchannels(channels)
            handle.setsampwidth(2)
            handle.setframerate(16_000)
            handle.writeframes(bytes(2 * channels * 40_000))
    mono, stereo = (clip_descriptors(tmp_path / name) for name in ("mono.wav", "stereo.wav"))
    assert mono is not None
    assert np.isfinite(mono).all()
    assert np.array_equal(mono, stereo)


def test_descriptor_columns_stand_in_for_clips():
    tracks = [
        Track(str(n), "T", "x", tempo=90.0 + n, extra={"energy": energy, "valence": 0.1 * n})
        for n, energy in enumerate([0.1, 0.5, None, 0.9])
    ]
    made, source = audio_vectors(Catalog.from_tracks(tracks))
    assert source == "descriptors"
    assert made.present.tolist() == [True, True, False, True]
    assert made.vectors.shape == (4, 3)
    found = made.vectors[made.present]
    assert np.allclose(found.mean(axis=0), 0, atol=1e-6)
    assert np.allclose(found.std(axis=0), 1, atol=1e-5)


def test_a_descriptor_column_of_text_is_left_out():
    tracks = [
        Track(str(n), "T", "x", extra={"mode": ("major", "minor")[n % 2], "energy": 0.2 * n})
        for n in range(4)
    ]
    made, source = audio_vectors(Catalog.from_tracks(tracks))
    assert source == "descriptors"
    assert made.vectors.shape == (4, 1)
    assert made.present.all()


def test_nothing_to_hear(world: Catalog):
    made, source = audio_vectors(world)  # tempo alone does not count
    assert source == "none"
    assert not made.present.any()
    assert len(made.vectors) == len(world)


def test_the_same_clips_give_the_same_vectors(audio_world: Catalog):
    (one, source), (two, _) = audio_vectors(audio_world), audio_vectors(audio_world)
    assert source == "clips"
    assert one.present.all()
    assert np.array_equal(one.vectors, two.vectors)
