"""Playlist vectors: PPMI + SVD and item2vec."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sharded_run import make_run

from talkplay_hf.catalog.membership import Membership
from talkplay_hf.catalog.schema import Catalog, Track
from talkplay_hf.catalog.splits import cold_tracks
from talkplay_hf.errors import MissingExtraError
from talkplay_hf.features import cooccurrence
from talkplay_hf.features.cooccurrence import PpmiSvd, in_pieces
from talkplay_hf.features.encoders import Encoder
from talkplay_hf.features.item2vec import Item2Vec
from talkplay_hf.features.shards import ShardedRun
from talkplay_hf.features.store import ModalityVectors


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


def run_of(catalog: Catalog, seed: int = 0) -> ShardedRun:
    return make_run(Path("unused"), len(catalog), fit_on=~cold_tracks(catalog), seed=seed)


def playlist_vectors(catalog: Catalog, *, dim: int = 128) -> ModalityVectors:
    return PpmiSvd(dim=dim).encode(catalog, "playlist", run_of(catalog))


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


SKIP_GRAM = Item2Vec(dim=8, window="whole", epochs=150, sample=0)


def test_item2vec_puts_tracks_that_share_playlists_closer():
    lists = [(list(np.random.default_rng(n).permutation(side)), "train")
             for n in range(10) for side in (ONE, TWO)]  # fmt: skip
    made = SKIP_GRAM.encode(catalog(lists), "playlist", run_of(catalog(lists)))
    similarity = made.vectors @ made.vectors.T
    inside = similarity[:5, :5][~np.eye(5, dtype=bool)]
    assert inside.min() > similarity[:5, 5:10].max()
    assert made.vectors.shape == (12, 8)
    assert np.allclose(np.linalg.norm(made.vectors[:10], axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("encoder", [PpmiSvd(dim=4), Item2Vec(dim=4), SKIP_GRAM])
def test_what_is_held_out_is_not_seen_and_has_no_vector(encoder: Encoder):
    held_out = [(["t10", "t11", "t0"], "test"), ([*TWO, "t10"], "validation")]
    made = catalog([*TRAIN, *held_out])
    run = run_of(made)
    vectors = encoder.encode(made, "playlist", run)
    plain = encoder.encode(catalog(TRAIN), "playlist", run_of(catalog(TRAIN)))
    assert np.array_equal(vectors.vectors, plain.vectors)
    assert vectors.present.tolist() == [True] * 10 + [False] * 2
    assert run.seen is not None
    assert not (run.seen & ~run.fit_on).any()
    assert not run.fit_on[11]


def test_item2vec_of_no_playlists_and_of_rare_tracks():
    for lists in ([], [(["t0"], "train")], [(ONE, "test")]):
        made = Item2Vec().encode(catalog(lists), "playlist", run_of(catalog(lists)))
        assert made.vectors.shape[0] == 12
        assert not made.present.any()
    rare = catalog([(["t0", "t1", "t2"], "train"), (["t0", "t1"], "train")])
    made = Item2Vec(dim=4, min_count=2).encode(rare, "playlist", run_of(rare))
    assert made.present.tolist() == [True, True] + [False] * 10


def test_without_gensim_the_extra_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "gensim.models", None)
    with pytest.raises(MissingExtraError, match=r"'item2vec' .*talkplay-hf\[features\]"):
        Item2Vec().encode(catalog(TRAIN), "playlist", run_of(catalog(TRAIN)))


SCRIPT = """
import sys
from pathlib import Path
sys.path[:0] = [sys.argv[1]]
from test_playlist_vectors import TRAIN, catalog, run_of
from talkplay_hf.features.item2vec import Item2Vec
made = catalog(TRAIN)
found = Item2Vec(dim=8).encode(made, "playlist", run_of(made))
print(found.vectors.tobytes().hex())
"""


def test_item2vec_gives_the_same_bytes_in_another_process_whatever_its_hash_seed():
    other = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(Path(__file__).parent)],
        env=os.environ | {"PYTHONHASHSEED": "7"},
        capture_output=True,
        check=True,
    ).stdout
    made = catalog(TRAIN)
    here = [Item2Vec(dim=8).encode(made, "playlist", run_of(made, seed)).vectors for seed in (0, 5)]
    assert bytes.fromhex(other.decode()) == here[0].tobytes()
    assert here[0].tobytes() != here[1].tobytes()


def count_pairs(lists: Membership) -> int:
    return int((lists.lengths * (lists.lengths - 1)).sum())


@given(lengths=st.lists(st.integers(0, 40), min_size=1, max_size=12), most=st.integers(0, 4_000))
def test_pieces_hold_every_entry_once_and_leave_no_track_alone(lengths: list[int], most: int):
    starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    rows = np.arange(starts[-1], dtype=np.int32)
    lists = Membership(starts, rows, len(rows) + 1)
    pieces = in_pieces(lists, most, seed=3)
    assert sorted(pieces.rows.tolist()) == rows.tolist()
    alone = [n for n in lengths if n == 1]
    assert (pieces.lengths == 1).sum() == len(alone)
    of = np.repeat(np.arange(len(lists)), lists.lengths)[pieces.rows]
    assert all(
        len(set(of[a:b])) <= 1 for a, b in zip(pieces.starts, pieces.starts[1:], strict=False)
    )
    assert count_pairs(pieces) <= most or pieces.lengths.max(initial=0) <= 3
    if count_pairs(lists) <= most:
        assert pieces is lists


def test_playlists_in_pieces_still_bring_their_tracks_together(monkeypatch: pytest.MonkeyPatch):
    rng = np.random.default_rng(0)
    drawn = [rng.choice(30, 20, replace=False) + 30 * (number % 4) for number in range(200)]
    lists = [([f"t{row}" for row in rows], "train") for rows in drawn]
    big = catalog(lists, tracks=120)
    whole = playlist_vectors(big, dim=8)
    monkeypatch.setattr(cooccurrence, "PAIRS", 200 * 20 * 4)
    cut = playlist_vectors(big, dim=8)
    assert not np.array_equal(whole.vectors, cut.vectors)
    assert np.array_equal(whole.present, cut.present)
    assert np.array_equal(cut.vectors, playlist_vectors(big, dim=8).vectors)
    group = np.arange(120) // 30
    similarity = cut.vectors @ cut.vectors.T
    np.fill_diagonal(similarity, -np.inf)
    assert (group[similarity.argmax(axis=1)] == group).all()
