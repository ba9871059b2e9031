"""The vectors of one encoder, and a catalog whose tracks have given audio files."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from sharded_run import make_run

from talkplay_hf.catalog.schema import Catalog, Track
from talkplay_hf.features.encoders import Encoder
from talkplay_hf.features.shards import ShardedRun
from talkplay_hf.features.store import ModalityVectors


def encoded(
    encoder: Encoder, catalog: Catalog, **options: Any
) -> tuple[ModalityVectors, ShardedRun]:
    """The audio vectors of a catalog, and what their run gathered."""
    with TemporaryDirectory() as work:
        run = make_run(Path(work), len(catalog), **options)
        return encoder.encode(catalog, "audio", run), run


def catalog_of(folder: Path | None, names: list[str | None]) -> Catalog:
    """A catalog whose tracks have these audio files."""
    tracks = [Track(str(n), "T", "x", audio=name) for n, name in enumerate(names)]
    made = Catalog.from_tracks(tracks)
    return Catalog(made.tracks, made.playlists, root=folder)
