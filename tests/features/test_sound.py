"""Sound from audio files of several formats."""

import importlib.util
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from talkplay_hf.errors import ConfigError, InputError, MissingExtraError
from talkplay_hf.features.sound import Clip, import_librosa, load_sound, windows

soundfile = pytest.importorskip("soundfile")

FORMATS = {
    "pcm16.wav": "PCM_16", "pcm24.wav": "PCM_24", "pcm8.wav": "PCM_U8", "float.wav": "FLOAT",
    "double.wav": "DOUBLE", "a.flac": "PCM_16", "a.mp3": "MPEG_LAYER_III", "a.ogg": "VORBIS",
}  # fmt: skip


def tone(seconds: float, rate: int, frequency: float = 440.0) -> np.ndarray:
    return 0.5 * np.sin(2 * np.pi * frequency * np.arange(round(seconds * rate)) / rate)


def pitch(sound: np.ndarray, rate: int) -> float:
    spectrum = np.abs(np.fft.rfft(sound * np.hanning(len(sound))))
    return float(spectrum.argmax() * rate / len(sound))


@pytest.mark.parametrize("rate", [8_000, 44_100, 48_000])
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("name", FORMATS)
def test_every_format_rate_and_channel_count_gives_the_same_tone(
    name: str, channels: int, rate: int, tmp_path: Path
):
    sound = np.repeat(tone(3.0, rate)[:, None], channels, axis=1)
    soundfile.write(tmp_path / name, sound, rate, subtype=FORMATS[name])
    made = load_sound(tmp_path / name, 16_000)
    assert made.dtype == np.float32
    assert made.ndim == 1
    assert abs(len(made) / 16_000 - 3.0) < 0.06  # lossy formats pad
    assert pitch(made, 16_000) == pytest.approx(440, abs=1)
    assert np.abs(made).max() == pytest.approx(0.5, abs=0.06)


@pytest.mark.parametrize("kind", ["a.wav", "a.flac", "a.mp3", "a.ogg"])
@pytest.mark.parametrize(
    ("start", "frequency"), [("start", 300), ("middle", 500), (8.5, 700), (60.0, 700)]
)
def test_only_the_clip_is_read(kind: str, start: str | float, frequency: float, tmp_path: Path):
    parts = [tone(seconds, 22_050, f) for seconds, f in ((3, 300), (4, 500), (3, 700))]
    soundfile.write(tmp_path / kind, np.concatenate(parts), 22_050)
    made = load_sound(tmp_path / kind, 22_050, Clip(start, 1.5))
    assert len(made) == round(1.5 * 22_050)
    assert pitch(made, 22_050) == pytest.approx(frequency, abs=2)


@given(
    total=st.integers(0, 10_000),
    seconds=st.one_of(st.none(), st.floats(0.01, 500)),
    start=st.one_of(st.sampled_from(["start", "middle"]), st.floats(0, 2_000)),
)
def test_a_clip_lies_in_the_file_and_is_as_long_as_it_can_be(
    total: int, seconds: float | None, start: str | float
):
    first, count = Clip(start, seconds).frames(total, 100)
    assert first >= 0
    assert first + count <= total
    assert count == (total if seconds is None else min(total, round(seconds * 100)))


@given(st.integers(1, 500), st.integers(1, 60))
def test_windows_cover_the_sound(length: int, window: int):
    parts = windows(np.arange(length), window)
    assert set(np.concatenate(parts)) == set(range(length))
    assert all(len(part) == min(window, length) for part in parts)
    assert len(parts) == -(-length // window)


@pytest.mark.parametrize("start", ["end", -1.0, float("nan")])
def test_a_clip_elsewhere_is_refused(start: str | float):
    with pytest.raises(ConfigError, match="clip"):
        Clip(start)


@pytest.mark.parametrize("seconds", [0.0, -2.0, float("nan")])
def test_a_clip_without_length_is_refused(seconds: float):
    with pytest.raises(ConfigError, match="seconds long"):
        Clip("middle", seconds)


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("gone", "no such audio file"),
        ("folder", "no such audio file"),
        ("empty", "cannot be decoded"),
        ("text", "cannot be decoded"),
        ("header only", "holds 0.00 s"),
        ("half a second", "holds 0.50 s"),
        ("silent", "is silent"),
        ("nan", "not finite"),
    ],
)
def test_a_file_that_cannot_be_used_is_named(kind: str, reason: str, tmp_path: Path):
    path = tmp_path / "bad.wav"
    if kind == "folder":
        path.mkdir()
    elif kind in ("empty", "text"):
        path.write_bytes(b"" if kind == "empty" else b"no sound here " * 100)
    elif kind != "gone":
        sound = tone(0.5 if kind == "half a second" else 2.0, 16_000)
        if kind == "silent":
            sound[:] = 1e-5
        if kind == "nan":
            sound[77] = np.nan
        soundfile.write(path, sound[: 0 if kind == "header only" else None], 16_000, "FLOAT")
    with pytest.raises(InputError, match=reason) as caught:
        load_sound(path, 16_000)
    assert str(path) in str(caught.value)


def cut_short(path: Path) -> Path:
    """Half of the bytes of a file of 20 seconds."""
    rng = np.random.default_rng(0)
    soundfile.write(path, 0.3 * rng.standard_normal(16_000 * 20), 16_000)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path


@pytest.mark.parametrize("kind", ["a.wav", "a.mp3", "a.ogg"])
def test_a_file_that_was_cut_short_gives_what_is_there(kind: str, tmp_path: Path):
    made = load_sound(cut_short(tmp_path / kind), 16_000, Clip("start", None))
    assert 8 < len(made) / 16_000 < 12


@pytest.mark.skipif(shutil.which("ffmpeg") is not None, reason="ffmpeg may read it")
def test_a_flac_file_that_was_cut_short_is_named(tmp_path: Path):
    with pytest.raises(InputError, match=r"a\.flac: cannot be decoded"):
        load_sound(cut_short(tmp_path / "a.flac"), 16_000)


@pytest.mark.skipif(shutil.which("ffmpeg") is not None, reason="ffmpeg reads M4A here")
def test_without_ffmpeg_an_m4a_file_says_what_it_needs(tmp_path: Path):
    path = tmp_path / "a.m4a"
    path.write_bytes(b"\x00\x00\x00\x20ftypM4A \x00\x00\x00\x00M4A mp42isom" + bytes(5000))
    with pytest.raises(InputError, match="ffmpeg"):
        load_sound(path, 16_000)


def test_without_the_packages_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    soundfile.write(tmp_path / "a.wav", tone(2, 16_000), 16_000)
    monkeypatch.setitem(sys.modules, "soxr", None)
    with pytest.raises(MissingExtraError, match=r"talkplay-hf\[audio\]"):
        load_sound(tmp_path / "a.wav", 16_000)
    monkeypatch.setitem(sys.modules, "librosa", None)
    with pytest.raises(MissingExtraError, match=r"rhythm needs librosa: .*talkplay-hf\[audio\]"):
        import_librosa("rhythm needs")


def test_without_another_decoder_a_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "audioread", None)
    (tmp_path / "a.wav").write_bytes(b"no sound here " * 100)
    with pytest.raises(InputError, match=r"a\.wav: cannot be decoded \(.+\)"):
        load_sound(tmp_path / "a.wav", 16_000)


def test_real_music_is_read_from_opus():
    found = importlib.util.find_spec("immich_memories_music")
    if found is None or found.origin is None:
        pytest.skip("the package immich-memories-music with real music files is not installed")
    files = sorted(Path(found.origin).parent.glob("tracks/*/*.opus"))
    assert len(files) >= 20
    for path in files[:2]:
        made = load_sound(path, 24_000, Clip("middle", 5))
        assert len(made) == 5 * 24_000
        assert 0.01 < np.sqrt((made**2).mean()) < 0.7
