"""Playlist co-occurrence vectors."""

import numpy as np
import pyarrow as pa

from talkplay_hf.catalog.schema import Catalog, Track
from talkplay_hf.features.cooccurrence import playlist_vectors


def catalog(lists: list[tuple[list[str], str]], tracks: int = 12) -> Catalog:
    made = Catalog.from_tracks([Track(f"t{n}", f"T{n}", "x") for n in range(tracks)])
    table = pa.table(
        {
            "playlist_id": [f"p{n}" for n in range(len(lists))],
            "track_ids": pa.array([ids for ids, _ in lists], pa.list_(pa.string())),
            "split": pa.array([split for _, split in lists], pa.string()),
        }
    )
    return Catalog(made.tracks, table)


ONE, TWO = [f"t{n}" for n in range(5)], [f"t{n}" for n in range(5, 10)]
TRAIN = [(ONE, "train"), (ONE[:4], "train"), (TWO, "train"), (TWO[1:], "train")]


def test_tracks_that_share_playlists_are_closer():
    made = playlist_vectors(catalog(TRAIN), dim=4)
    similarity = made.vectors @ made.vectors.T
    inside = similarity[:4, :4][~np.eye(4, dtype=bool)]
    across = similarity[:5, 5:10]
    assert inside.min() > across.max()
    assert inside.mean() > across.mean() + 0.5
    assert np.allclose(np.linalg.norm(made.vectors[:10], axis=1), 1, atol=1e-5)


def test_held_out_playlists_change_nothing():
    plain = playlist_vectors(catalog(TRAIN))
    held_out = [(["t0", "t7", "t11"], "test"), ([*TWO, "t10"], "validation")]
    other = playlist_vectors(catalog([*TRAIN, *held_out]))
    assert np.array_equal(plain.vectors, other.vectors)
    assert np.array_equal(plain.present, other.present)
    trained = playlist_vectors(catalog([*TRAIN, (held_out[0][0], "train")]))
    assert not np.array_equal(plain.present, trained.present)


def test_cold_tracks_are_absent():
    lists = [
        *TRAIN,
        (["t10"], "train"),  # alone in its playlist
        (["t11", "t0"], "test"),
        (["t10", "unknown"], "train"),
        ([], "train"),
    ]
    made = playlist_vectors(catalog(lists))
    assert made.present.tolist() == [True] * 10 + [False] * 2
    assert not made.vectors[10:].any()


def test_without_playlists_every_track_is_cold():
    for lists in ([], [(ONE, "test")]):
        made = playlist_vectors(catalog(lists))
        assert not made.present.any()
        assert made.vectors.shape[0] == 12


def test_dimensions_and_seed(world: Catalog):
    made = playlist_vectors(world, dim=7)
    assert made.vectors.shape == (60, 7)
    assert made.vectors.dtype == np.float32
    again = playlist_vectors(world, dim=7)
    assert np.array_equal(made.vectors, again.vectors)
    assert playlist_vectors(catalog([(["t0", "t1"], "train")])).vectors.shape[1] == 1
