"""Audio vectors from clips and from descriptor columns."""

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from encoded import catalog_of, encoded
from scipy.io import wavfile
from sharded_run import make_run

from talkplay_hf.catalog.render import render_clip, write_wav
from talkplay_hf.catalog.schema import Catalog, Track
from talkplay_hf.errors import InputError
from talkplay_hf.features.audio import Descriptors, clip_descriptors, standardise
from talkplay_hf.features.shards import ShardedRun
from talkplay_hf.features.store import ModalityVectors

# descriptors 0, 30, 50, 60 and 73 of the clip `good_wav(path, 0)`
PINNED = [-9.582414115355505, 2.6113236671703492, 0.13729353064104963, -0.10892782079139422,
          0.5613138757692786]  # fmt: skip


def audio_vectors(catalog: Catalog, **options: Any) -> tuple[ModalityVectors, ShardedRun]:
    return encoded(Descriptors(), catalog, **options)


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
    vectors = audio_vectors(catalog_of(folder, names))[0].vectors
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
    elif kind == "too short":
        write_wav(path, np.zeros(1_000))
    elif kind == "silent":
        write_wav(path, np.zeros(40_000))
    elif kind == "folder":
        path.unlink()
        path.mkdir()
    elif kind == "gone":
        path.unlink()


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("header only", "is too short"),
        ("text", "cannot be read as WAV"),
        ("empty", "cannot be read as WAV"),
        ("float samples", "cannot be read as WAV"),
        ("silent", "is silent"),
        ("too short", "is too short"),
        ("folder", "cannot be read as WAV"),
        ("gone", "no such audio file"),
    ],
)
def test_a_clip_that_cannot_be_used_is_absent_and_named(kind: str, reason: str, tmp_path: Path):
    for number in range(3):
        good_wav(tmp_path / f"{number}.wav", number)
    broken_wav(tmp_path / "3.wav", kind)
    names = ["0.wav", "1.wav", "2.wav", "3.wav", None, "https://example.org/4.wav"]
    made, run = audio_vectors(catalog_of(tmp_path, names))
    assert not run.kept["columns"].any()
    assert made.present.tolist() == [True, True, True, False, False, False]
    assert np.isfinite(made.vectors).all()
    (failure,) = run.failures
    assert failure.row == 3
    assert failure.reason.startswith(f"{tmp_path / '3.wav'}: {reason}")


@pytest.mark.parametrize(
    ("rate", "sample", "reason"),
    [
        (2_000, 0.5, "a sample rate of 2000 Hz is too low; 4000 Hz are needed"),
        (16_000, np.nan, "has samples that are not finite"),
    ],
)
def test_sound_that_cannot_be_described_is_named(
    rate: int, sample: float, reason: str, tmp_path: Path
):
    wavfile.write(tmp_path / "a.wav", rate, np.full(40_000, sample, dtype=np.float32))
    with pytest.raises(InputError, match=rf"a\.wav: {reason}"):
        clip_descriptors(tmp_path / "a.wav")


def test_a_clip_that_was_cut_short_does_not_break_the_rest(tmp_path: Path):
    good_wav(tmp_path / "0.wav", 0)
    broken_wav(tmp_path / "1.wav", "cut inside a sample")
    made, _ = audio_vectors(catalog_of(tmp_path, ["0.wav", "1.wav"]))
    assert made.present[0]
    assert np.isfinite(made.vectors).all()


def test_the_descriptors_of_a_16_bit_clip_stay_as_they_are(tmp_path: Path):
    good_wav(tmp_path / "0.wav", 0)
    found = clip_descriptors(tmp_path / "0.wav")
    assert found.shape == (74,)
    assert found[[0, 30, 50, 60, 73]] == pytest.approx(PINNED, rel=1e-6)


@pytest.mark.parametrize("subtype", ["PCM_24", "PCM_32", "FLOAT", "DOUBLE", "PCM_U8"])
def test_other_wav_samples_give_the_same_descriptors(subtype: str, tmp_path: Path):
    soundfile = pytest.importorskip("soundfile")
    good_wav(tmp_path / "0.wav", 0)
    sound, rate = soundfile.read(tmp_path / "0.wav")
    soundfile.write(tmp_path / "1.wav", np.stack([sound, sound], axis=1), rate, subtype)
    one, two = (clip_descriptors(tmp_path / name) for name in ("0.wav", "1.wav"))
    # 8 bits leave noise in the quiet high bands
    assert np.abs(one - two)[:30].max() < (6 if subtype == "PCM_U8" else 1e-6)
    assert two[48:60] == pytest.approx(one[48:60], abs=0.01)


def test_the_standard_is_set_by_the_tracks_a_fit_may_see_and_kept():
    extra = [{"energy": value, "valence": 1 - value} for value in (0.1, 0.3, 0.5, 0.9)]
    tracks = [Track(str(n), "T", "x", extra=values) for n, values in enumerate(extra)]
    fit_on = np.array([True, True, True, False])
    made, run = audio_vectors(Catalog.from_tracks(tracks), fit_on=fit_on)
    assert made.present.all()
    assert np.allclose(made.vectors[:3].mean(axis=0), 0, atol=1e-6)
    assert np.allclose(made.vectors[:3].std(axis=0), 1, atol=1e-5)
    again, _ = audio_vectors(Catalog.from_tracks(tracks[3:]), earlier=run.kept)
    assert np.allclose(again.vectors[0], made.vectors[3])


def test_a_later_run_uses_the_columns_of_the_earlier_one():
    tracks = [Track(str(n), "T", "x", extra={"energy": 0.1 * n}) for n in range(3)]
    _, run = audio_vectors(Catalog.from_tracks(tracks))
    more = [Track("9", "T", "x", extra={"energy": 0.5, "valence": 0.5})]
    again, _ = audio_vectors(Catalog.from_tracks(more), earlier=run.kept)
    assert again.vectors.shape == (1, 1)
    with pytest.raises(InputError, match="energy"):
        audio_vectors(Catalog.from_tracks([Track("9", "T", "x")]), earlier=run.kept)


def test_vectors_of_another_width_than_the_earlier_ones_are_refused(tmp_path: Path):
    made = ModalityVectors(np.ones((2, 74), dtype=np.float32), np.ones(2, dtype=bool))
    earlier = {"mean": np.zeros(112), "spread": np.ones(112)}
    with pytest.raises(InputError, match=r"have 74 dimensions, those of the run .* have 112"):
        standardise(made, make_run(tmp_path, 2, earlier=earlier))


def test_a_later_run_listens_where_the_earlier_one_did(tmp_path: Path):
    for number in range(3):
        good_wav(tmp_path / f"{number}.wav", number)
    made, run = audio_vectors(catalog_of(tmp_path, ["0.wav", "1.wav", "2.wav"]))
    again, _ = audio_vectors(catalog_of(tmp_path, ["2.wav", None]), earlier=run.kept)
    assert again.present.tolist() == [True, False]
    assert np.allclose(again.vectors[0], made.vectors[2], atol=1e-6)


def test_descriptor_columns_stand_in_for_clips():
    tracks = [
        Track(str(n), "T", "x", tempo=90.0 + n, extra={"energy": energy, "valence": 0.1 * n})
        for n, energy in enumerate([0.1, 0.5, None, 0.9])
    ]
    made, run = audio_vectors(Catalog.from_tracks(tracks))
    assert run.kept["columns"].any()
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
    made, run = audio_vectors(Catalog.from_tracks(tracks))
    assert run.kept["columns"].any()
    assert made.vectors.shape == (4, 1)
    assert made.present.all()


def test_nothing_to_hear(world: Catalog):
    made, run = audio_vectors(world)  # tempo alone does not count
    assert not run.kept["columns"].any()
    assert not made.present.any()
    assert len(made.vectors) == len(world)


def test_the_same_clips_give_the_same_vectors(audio_world: Catalog):
    (one, _), (two, _) = audio_vectors(audio_world), audio_vectors(audio_world)
    assert one.present.all()
    assert np.array_equal(one.vectors, two.vectors)


@pytest.mark.parametrize("extension", ["flac", "ogg", "mp3"])
def test_clips_of_other_formats_are_described_too(tmp_path: Path, extension: str) -> None:
    soundfile = pytest.importorskip("soundfile")
    for number, tempo in enumerate((80.0, 160.0)):
        clip = render_clip(
            tempo=tempo, key=2, major=True, instrument="piano", genre="jazz", seed=[3, number]
        )
        write_wav(tmp_path / f"{number}.wav", clip)
        sound, rate = soundfile.read(tmp_path / f"{number}.wav")
        soundfile.write(tmp_path / f"{number}.{extension}", sound, rate)
    names: list[str | None] = [f"0.{extension}", f"1.{extension}", None]
    made, run = audio_vectors(catalog_of(tmp_path, names))
    assert made.present.tolist() == [True, True, False]
    assert not run.kept["columns"].any()
    wav, other = (clip_descriptors(tmp_path / f"0.{e}") for e in ("wav", extension))
    assert np.corrcoef(wav, other)[0, 1] > 0.98
