"""Audio vectors without a download: descriptors of a WAV clip, or numeric columns of the table."""

import wave
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from scipy.signal import stft

from talkplay_hf.catalog.schema import Catalog
from talkplay_hf.features.store import ModalityVectors

DESCRIPTOR_COLUMNS = (
    "danceability", "energy", "loudness", "mode", "speechiness", "acousticness",
    "instrumentalness", "liveness", "valence", "tempo",
)  # fmt: skip
MEL_BANDS = 24
TEMPO_LAGS = np.arange(60.0, 200.0, 10.0)


def audio_vectors(
    catalog: Catalog, *, progress: Callable[[str, int, int], None] | None = None
) -> tuple[ModalityVectors, str]:
    """Vectors from the catalog's clips, or from its numeric descriptors where it has no clips.

    Args:
        catalog (`Catalog`): The catalog; WAV paths are relative to its folder.
        progress (`Callable`, *optional*): Called with (what, done, total).

    Returns:
        `tuple[ModalityVectors, str]`: The standardised vectors, and which source was used:
        `"clips"`, `"descriptors"` or `"none"`.
    """
    paths = [
        catalog.root / path if path and catalog.root and "://" not in path else None
        for path in catalog.column("audio")
    ]
    rows: list[np.ndarray | None]
    if any(path is not None and path.suffix == ".wav" and path.exists() for path in paths):
        rows = []
        for done, path in enumerate(paths, start=1):
            rows.append(clip_descriptors(path) if path is not None else None)
            if progress is not None:
                progress("listening to clips", done, len(paths))
        return _standardise(rows), "clips"
    names = [
        name
        for name in DESCRIPTOR_COLUMNS
        if name in catalog.tracks.column_names
        and catalog.tracks[name].null_count < len(catalog)
        and _is_number(catalog.tracks.schema.field(name).type)
    ]
    if names and names != ["tempo"]:
        columns = [np.array(catalog.column(name), dtype=np.float64) for name in names]
        matrix = np.stack(columns, axis=1)
        rows = [row if np.isfinite(row).all() else None for row in matrix]
        return _standardise(rows), "descriptors"
    return _standardise([None] * len(catalog)), "none"


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))


def clip_descriptors(path: Path) -> np.ndarray | None:
    """Timbre, harmony and rhythm of a 16-bit WAV clip.

    Mean and spread of log band energies, mean chroma, and the autocorrelation of the onset
    strength at the lags of 60 to 190 beats per minute.

    Returns:
        `np.ndarray` of shape `[74]`, float64, or `None` where the file cannot be read.
    """
    try:
        with wave.open(str(path), "rb") as handle:
            rate, channels, width = (
                handle.getframerate(),
                handle.getnchannels(),
                handle.getsampwidth(),
            )
            raw = handle.readframes(handle.getnframes())
    except (OSError, EOFError, wave.Error):
        return None
    if width != 2 or rate < 4000:
        return None
    raw = raw[: len(raw) - len(raw) % (2 * channels)]  # a file that was cut short
    sound = np.frombuffer(raw, dtype="<i2").astype(np.float64).reshape(-1, channels).mean(axis=1)
    window, hop = 1024, 512
    if len(sound) < 16 * window:
        return None
    frequencies, _, spectrum = stft(sound / 32768, fs=rate, nperseg=window, noverlap=window - hop)
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


def _standardise(rows: Sequence[np.ndarray | None]) -> ModalityVectors:
    present = np.array([row is not None for row in rows], dtype=bool)
    width = next((len(row) for row in rows if row is not None), 1)
    vectors = np.stack([row if row is not None else np.zeros(width) for row in rows])
    if present.any():
        found = vectors[present]
        spread = found.std(axis=0)
        vectors[present] = (found - found.mean(axis=0)) / np.where(spread > 1e-9, spread, 1.0)
    return ModalityVectors(vectors.astype(np.float32), present)
