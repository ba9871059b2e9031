"""Whatever an evaluation names, its page explains."""

import numpy as np
import pyarrow as pa

from talkplay_hf.catalog.schema import Catalog, Message, Playlist, Track
from talkplay_hf.evaluation.baselines.registry import BASELINES
from talkplay_hf.evaluation.metrics.slices import turn_slices
from talkplay_hf.evaluation.page.glossary import SYSTEMS, slice_meaning
from talkplay_hf.evaluation.turns import Turn


def test_every_baseline_is_explained() -> None:
    assert set(BASELINES) <= set(SYSTEMS)


def test_every_kind_of_turn_is_explained() -> None:
    lists = [Playlist("p0", ("t0",)), Playlist("p1", ("t1",))]
    plain = Catalog.from_tracks([Track(f"t{n}", "a", "b") for n in range(3)], lists)
    splits = pa.array(["train", "test"])
    catalog = Catalog(plain.tracks, plain.playlists.append_column("split", splits))
    before = Message("music", track_id="t0", source="negative")
    turns = [
        Turn("c", 1 + row % 2, (before, Message("user", "more")), (row,), (), False)
        for row in range(3)
    ]
    kinds = turn_slices(turns, catalog, {"audio": np.zeros(3, dtype=bool)})
    assert len(kinds) == 7
    assert {kind for kind in kinds if not slice_meaning(kind)} == set()
