"""A run in memory, for tests of one encoder, and a catalog whose tracks have given audio files."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from talkplay_hf.catalog.schema import Catalog, Track
from talkplay_hf.errors import InputError
from talkplay_hf.features.store import ModalityVectors, absent


class MemoryRun:
    device, seed = "cpu", 0

    def __init__(self, fit_on: np.ndarray, earlier: Mapping[str, np.ndarray] | None = None) -> None:
        self.fit_on, self.earlier = fit_on, earlier
        self.kept: dict[str, np.ndarray] = {}
        self.failures: dict[int, str] = {}

    def map_tracks(self, inputs, encode, *, load=None, batch_size=32) -> ModalityVectors:
        loaded = {}
        for row, item in enumerate(inputs):
            try:
                if item is not None:
                    loaded[row] = load(item) if load else item
            except (InputError, OSError) as error:
                self.failures[row] = str(error)
        rows = list(loaded)
        if not rows:
            return absent(len(inputs))
        made = [
            encode([loaded[row] for row in rows[at : at + batch_size]])
            for at in range(0, len(rows), batch_size)
        ]
        present = np.isin(np.arange(len(inputs)), rows)
        vectors = np.zeros((len(inputs), made[0].shape[1]), dtype=np.float32)
        vectors[present] = np.concatenate(made)
        return ModalityVectors(vectors, present)

    def fitted(self):
        return self.earlier

    def keep(self, arrays, *, seen=None) -> None:
        self.kept = dict(arrays)

    def progress(self, what, done, total) -> None: ...


def catalog_of(folder: Path | None, names: list[str | None]) -> Catalog:
    """A catalog whose tracks have these audio files."""
    tracks = [Track(str(n), "T", "x", audio=name) for n, name in enumerate(names)]
    made = Catalog.from_tracks(tracks)
    return Catalog(made.tracks, made.playlists, root=folder)
