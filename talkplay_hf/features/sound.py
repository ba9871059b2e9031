"""Sound from audio files: any format, any sample rate, mono or stereo, as mono at a wanted rate.

libsndfile (package `soundfile`) reads WAV with all its sample formats, FLAC, MP3, Ogg Vorbis and
Ogg Opus, and jumps to the wanted part. What it does not know (M4A, AAC, WMA) is read by
`audioread`, which needs the program `ffmpeg` for these and has to decode from the beginning.
"""

import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from talkplay_hf.catalog.schema import Catalog
from talkplay_hf.errors import ConfigError, InputError, MissingExtraError

SILENCE = 1e-4  # of full scale: -80 dB
SHORTEST = 1.0
NEEDS_FFMPEG = (".m4a", ".mp4", ".aac", ".wma")


@dataclass(frozen=True)
class Clip:
    """Which part of a file is listened to.

    Args:
        start (`str` or `float`): `"middle"`, `"start"`, or seconds from the beginning. A clip that
            would run over the end begins sooner, so that it ends with the file.
        seconds (`float`, *optional*): How long it is; all of the file when `None`. A shorter file
            is taken whole.

    Raises:
        ConfigError: If `start` is something else or `seconds` is not positive.
    """

    start: str | float = "middle"
    seconds: float | None = 30.0

    def __post_init__(self) -> None:
        if isinstance(self.start, str):
            if self.start not in ("middle", "start"):
                raise ConfigError(
                    f"a clip starts at 'middle', 'start' or a number of seconds, not {self.start!r}"
                )
        elif not self.start >= 0:
            raise ConfigError(f"a clip cannot start at {self.start} seconds")
        if self.seconds is not None and not self.seconds > 0:
            raise ConfigError(f"a clip cannot be {self.seconds} seconds long")

    def frames(self, total: int, rate: int) -> tuple[int, int]:
        """First frame and number of frames of the clip in a file of `total` frames."""
        count = total if self.seconds is None else min(total, round(self.seconds * rate))
        last = total - count
        if self.start == "middle":
            return last // 2, count
        start = 0.0 if isinstance(self.start, str) else self.start
        return min(last, round(start * rate)), count


def load_sound(path: str | Path, rate: int, clip: Clip | None = None) -> np.ndarray:
    """Read a clip of an audio file as mono at the wanted sample rate.

    Channels are averaged; the rate is changed by `soxr` in high quality.

    Args:
        path (`str` or `Path`): The audio file.
        rate (`int`): The wanted sample rate in Hz.
        clip (`Clip`, *optional*): The part to read; 30 seconds from the middle when left out.

    Returns:
        `np.ndarray` of shape `[samples]`, float32, full scale at 1.

    Raises:
        InputError: If the file is missing, cannot be decoded, or the clip is empty, shorter than
            a second, silent, or has samples that are not finite.
        MissingExtraError: If the audio packages are not installed.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such audio file")
    soundfile, soxr = _packages()
    clip = clip or Clip()
    try:
        with soundfile.SoundFile(path) as handle:
            found = handle.samplerate
            start, count = clip.frames(handle.frames, found)
            handle.seek(start)
            sound = handle.read(count, dtype="float32", always_2d=True).mean(axis=1)
    except soundfile.LibsndfileError as error:
        sound, found = _read_otherwise(path, clip, str(error))
    if not np.isfinite(sound).all():
        raise InputError(f"{path}: has samples that are not finite")
    if len(sound) < SHORTEST * found:
        raise InputError(
            f"{path}: holds {len(sound) / found:.2f} s of sound; at least {SHORTEST:g} s are needed"
        )
    if np.abs(sound).max() < SILENCE:
        raise InputError(f"{path}: is silent")
    return np.asarray(soxr.resample(sound, found, rate), dtype=np.float32)


def can_read_sound() -> bool:
    """Whether the packages that read audio files are installed (extra `audio`)."""
    return find_spec("soundfile") is not None and find_spec("soxr") is not None


def _packages() -> tuple[Any, Any]:
    try:
        import soundfile
        import soxr
    except ImportError:
        raise MissingExtraError(
            "reading audio files needs soundfile and soxr: pip install 'talkplay-hf[audio]'"
        ) from None
    return soundfile, soxr


def import_librosa(what: str) -> Any:
    """Import librosa, or say which extra `what` needs.

    Raises:
        MissingExtraError: If librosa is not installed.
    """
    if "RANK" in os.environ:
        # librosa's compiled parts are cached by numba, and processes that fill one cache at the
        # same time can leave it in a state that crashes every later process
        cache = Path.home() / ".cache" / "talkplay_hf" / "numba" / os.environ["RANK"]
        os.environ.setdefault("NUMBA_CACHE_DIR", str(cache))
    try:
        return import_module("librosa")
    except ImportError:
        raise MissingExtraError(f"{what} librosa: pip install 'talkplay-hf[audio]'") from None


def _read_otherwise(path: Path, clip: Clip, why: str) -> tuple[np.ndarray, int]:
    """Read what libsndfile cannot, by the decoders that audioread finds."""
    try:
        audioread: Any = import_module("audioread")  # comes with librosa
    except ImportError:
        raise InputError(f"{path}: cannot be decoded ({why})") from None
    try:
        with audioread.audio_open(str(path)) as handle:
            rate, channels = handle.samplerate, handle.channels
            raw = b"".join(handle)
    except (audioread.DecodeError, OSError, EOFError) as error:
        reason = f"{why} {error}".strip()
        if path.suffix.casefold() in NEEDS_FFMPEG:
            reason += " Files of this kind need the program ffmpeg."
        raise InputError(f"{path}: cannot be decoded ({reason})") from None
    frames = np.frombuffer(raw[: len(raw) // (2 * channels) * 2 * channels], dtype="<i2")
    sound = frames.reshape(-1, channels).mean(axis=1, dtype=np.float32) / 32768
    start, count = clip.frames(len(sound), rate)
    return sound[start : start + count], rate


def windows(sound: np.ndarray, length: int) -> list[np.ndarray]:
    """Cut a sound into windows of equal length that cover all of it.

    The last window ends with the sound and overlaps the one before; a shorter sound is one window.
    """
    count = math.ceil(len(sound) / length)
    if count <= 1:
        return [sound]
    starts = np.linspace(0, len(sound) - length, count).round().astype(int)
    return [sound[start : start + length] for start in starts]


def clip_names(catalog: Catalog) -> list[str | None]:
    """The audio file of each track as the catalog names it; `None` where it has no local one."""
    return [
        name if name and "://" not in name and (catalog.root or Path(name).is_absolute()) else None
        for name in catalog.column("audio")
    ]


def clip_loader(catalog: Catalog, rate: int, clip: Clip) -> Callable[[str], np.ndarray]:
    """A function from what `clip_names` gives to the sound of the clip."""
    root = catalog.root or Path()
    return lambda name: load_sound(root / name, rate, clip)
