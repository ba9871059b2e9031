"""Turns are told apart by what is known of their track and by where they stand."""

from dataclasses import replace

import numpy as np
import pyarrow as pa

from talkplay_hf.catalog.schema import Catalog, Message, Playlist, Track
from talkplay_hf.evaluation.metrics.slices import turn_slices
from talkplay_hf.evaluation.turns import Turn

ASK = Message("user", "more")
TURN = Turn("c", 1, (ASK,), (0,), (), False)


def catalog(splits: list[str]) -> Catalog:
    tracks = [Track(f"t{n}", f"title {n}", "someone") for n in range(4)]
    lists = [Playlist("p0", ("t0",)), Playlist("p1", ("t0", "t1")), Playlist("p2", ("t2",))]
    plain = Catalog.from_tracks(tracks, lists)
    return Catalog(plain.tracks, plain.playlists.append_column("split", pa.array(splits)))


def test_slices_by_track_look_at_the_track_that_was_played() -> None:
    turns = [replace(TURN, labels=labels) for labels in [(0, 1), (1, 0), (2,), (3, 0)]]
    known = {
        "lyrics": np.array([True, False, True, False]),
        "audio": np.ones(4, dtype=bool),
    }
    slices = turn_slices(turns, catalog(["train", "test", "validation"]), known)
    assert {name: found.tolist() for name, found in slices.items()} == {
        "warm": [True, False, True, False],
        "cold": [False, True, False, False],
        "in no playlist": [False, False, False, True],
        "missing: lyrics": [False, True, False, True],
        "first turn": [True] * 4,
    }


def test_slices_by_place_in_the_conversation() -> None:
    kept, rejected = Message("music", track_id="t0"), Message("music", "", "t1", "negative")
    turns = [
        TURN,
        replace(TURN, number=2, history=(ASK, rejected, ASK)),
        replace(TURN, number=3, history=(ASK, rejected, ASK, kept, ASK)),
    ]
    slices = turn_slices(turns, catalog(["train"] * 3), {})
    assert {name: found.tolist() for name, found in slices.items()} == {
        "warm": [True] * 3,
        "first turn": [True, False, False],
        "later turns": [False, True, True],
        "direction change": [False, True, False],
    }
