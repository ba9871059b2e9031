"""Audio vectors without a download: descriptors of the clips, or numeric columns of the table."""

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from scipy.io import wavfile
from scipy.signal import stft

from talkplay_hf.catalog.cells import is_number
from talkplay_hf.catalog.schema import Catalog
from talkplay_hf.errors import InputError, first_line
from talkplay_hf.features.shards import ShardedRun
from talkplay_hf.features.sound import can_read_sound, clip_names, load_sound
from talkplay_hf.features.store import ModalityVectors, absent

DESCRIPTOR_COLUMNS = (
    "danceability", "energy", "loudness", "mode", "speechiness", "acousticness",
    "instrumentalness", "liveness", "valence", "tempo",
)  # fmt: skip
RATE = 22_050
MEL_BANDS = 24
TEMPO_LAGS = np.arange(60.0, 200.0, 10.0)


@dataclass(frozen=True)
class Descriptors:
    """Vectors from the catalog's clips, or from its numeric columns where it has no clips.

    WAV is read as it is; other formats need the extra `audio`. Without it their clips count only
    where the catalog has no numeric columns to do with, and then say what is missing.

    They are standardised over the tracks of `run.fit_on`. Which columns were used (`columns`,
    `[10]` uint8, none for clips), the mean and the spread are kept, and a later run that should
    fit this one uses the same.
    """

    modalities: ClassVar[tuple[str, ...]] = ("audio",)

    def encode(self, catalog: Catalog, modality: str, run: ShardedRun) -> ModalityVectors:
        """The vectors of one modality for every track of a catalog, in catalog order.

        Raises:
            InputError: If the earlier run used columns that this catalog does not have.
        """
        fitted = run.fitted()
        if fitted is not None:
            used = fitted["columns"].astype(bool)
            columns = [name for name, use in zip(DESCRIPTOR_COLUMNS, used, strict=True) if use]
            gone = [name for name in columns if name not in _numeric_columns(catalog)]
            if gone:
                raise InputError(
                    f"the earlier audio vectors are made of the columns {', '.join(columns)}; "
                    f"this catalog has no numbers in {', '.join(gone)}"
                )
        else:
            columns = _sources(catalog)
        if columns:
            made = _column_vectors(catalog, columns)
        else:
            root = catalog.root or Path()
            made = run.map_tracks(
                clip_names(catalog), np.stack, load=lambda name: clip_descriptors(root / name)
            )
        used = np.array([name in columns for name in DESCRIPTOR_COLUMNS], dtype=np.uint8)
        return standardise(made, run, columns=used)


def standardise(made: ModalityVectors, run: ShardedRun, **facts: np.ndarray) -> ModalityVectors:
    """Bring every dimension to mean 0 and spread 1 over the tracks that a fit may see.

    Args:
        made (`ModalityVectors`): The vectors, `[n, d]`.
        run (`ShardedRun`): Gives `fit_on` and what was fitted before; keeps `mean` and `spread`,
            both `[d]` float64.
        facts (`np.ndarray`): What else to keep.
    """
    fitted = run.fitted()
    if fitted is None:
        fitted = {**_moments(made, run.fit_on), **facts}
        run.keep(fitted, seen=made.present & run.fit_on)
    width = len(fitted["mean"])
    if not made.present.any() or not width:
        return absent(len(made.present))
    if made.vectors.shape[1] != width:
        raise InputError(
            f"the audio vectors have {made.vectors.shape[1]} dimensions, those of the run that "
            f"they should fit have {width}"
        )
    vectors = (made.vectors - fitted["mean"]) / fitted["spread"]
    vectors[~made.present] = 0.0
    return ModalityVectors(vectors.astype(np.float32), made.present)


def _moments(made: ModalityVectors, fit_on: np.ndarray) -> dict[str, np.ndarray]:
    """Mean and spread of every dimension; empty where no track has the modality."""
    width = made.vectors.shape[1] if made.present.any() else 0
    found = made.vectors[made.present & fit_on].astype(np.float64)
    if not width or not len(found):
        return {"mean": np.zeros(width), "spread": np.ones(width)}
    spread = found.std(axis=0)
    return {"mean": found.mean(axis=0), "spread": np.where(spread > 1e-9, spread, 1.0)}


def _sources(catalog: Catalog) -> list[str]:
    """The columns to use; none where there are clips, or nothing at all."""
    root = catalog.root or Path()
    readable = can_read_sound()
    for name in clip_names(catalog):
        if name and (readable or _is_wav(name)) and (root / name).exists():
            return []
    columns = _numeric_columns(catalog)
    return columns if columns != ["tempo"] else []


def _is_wav(name: str | Path) -> bool:
    return Path(name).suffix.casefold() == ".wav"


def _numeric_columns(catalog: Catalog) -> list[str]:
    return [
        name
        for name in DESCRIPTOR_COLUMNS
        if name in catalog.tracks.column_names
        and catalog.tracks[name].null_count < len(catalog)
        and is_number(catalog.tracks.schema.field(name).type)
    ]


def _column_vectors(catalog: Catalog, columns: list[str]) -> ModalityVectors:
    values = [np.array(catalog.column(name), dtype=np.float64) for name in columns]
    matrix = np.stack(values, axis=1)
    present = np.asarray(np.isfinite(matrix).all(axis=1))
    return ModalityVectors(np.where(present[:, None], matrix, 0.0), present)


def clip_descriptors(path: str | Path) -> np.ndarray:
    """Timbre, harmony and rhythm of a clip.

    Mean and spread of log band energies, mean chroma, and the autocorrelation of the onset
    strength at the lags of 60 to 190 beats per minute.

    Args:
        path (`str` or `Path`): A WAV file of integer or float samples, which is read whole, or a
            file of another format, of which 30 seconds from the middle are read at 22,050 Hz.

    Returns:
        `np.ndarray` of shape `[74]`, float64.

    Raises:
        InputError: If the file cannot be read, is shorter than 16,384 samples or silent, or has a
            sample rate below 4,000 Hz.
        MissingExtraError: If the format is another one and the audio packages are not installed.
    """
    if _is_wav(path):
        rate, sound = _read_wav(path)
    else:
        rate, sound = RATE, load_sound(path, RATE).astype(np.float64)
    window, hop = 1024, 512
    if rate < 4000:
        raise InputError(f"{path}: a sample rate of {rate} Hz is too low; 4000 Hz are needed")
    if len(sound) < 16 * window:
        raise InputError(f"{path}: is too short ({len(sound)} samples; {16 * window} are needed)")
    if not np.isfinite(sound).all():
        raise InputError(f"{path}: has samples that are not finite")
    if not np.ptp(sound):
        raise InputError(f"{path}: is silent")
    frequencies, _, spectrum = stft(sound, fs=rate, nperseg=window, noverlap=window - hop)
    power = np.abs(spectrum) ** 2
    edges = np.geomspace(60, rate / 2, MEL_BANDS + 1)
    band = np.clip(np.searchsorted(edges, frequencies) - 1, -1, MEL_BANDS - 1)
    bands = np.stack([power[band == b].sum(axis=0) for b in range(MEL_BANDS)])
    log_bands = np.log(bands + 1e-8)
    audible = frequencies > 60
    pitch_class = np.round(12 * np.log2(frequencies[audible] / 440)).astype(int) % 12
    energy = np.bincount(pitch_class, weights=power[audible].sum(axis=1), minlength=12)
    chroma = energy / (energy.sum() + 1e-12)
    onset = np.maximum(np.diff(log_bands, axis=1), 0).sum(axis=0)
    onset -= onset.mean()
    auto = np.correlate(onset, onset, "full")[len(onset) - 1 :]
    lags = np.clip((60 / TEMPO_LAGS * rate / hop).astype(int), 1, len(auto) - 1)
    rhythm = auto[lags] / (auto[0] + 1e-12)
    return np.concatenate([log_bands.mean(axis=1), log_bands.std(axis=1), chroma, rhythm])


def _read_wav(path: str | Path) -> tuple[int, np.ndarray]:
    """Sample rate and mono sound of a WAV file, float64, full scale at 1."""
    try:
        with warnings.catch_warnings():  # chunks it does not know, files that were cut short
            warnings.simplefilter("ignore", wavfile.WavFileWarning)
            rate, samples = wavfile.read(path)
    except FileNotFoundError:
        raise InputError(f"{path}: no such audio file") from None
    except Exception as error:  # a damaged header can fail anywhere in the parser
        raise InputError(f"{path}: cannot be read as WAV ({first_line(error)})") from None
    sound = samples.astype(np.float64)
    if samples.dtype == np.uint8:
        sound = (sound - 128) / 128
    elif samples.dtype.kind == "i":
        sound /= 2.0 ** (8 * samples.dtype.itemsize - 1)
    return int(rate), sound.mean(axis=1) if sound.ndim == 2 else sound
