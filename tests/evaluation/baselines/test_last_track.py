"""Co-occurrence follows the last track, and popularity fills in below."""

import numpy as np
import pytest
from small_catalog import played, user

from talkplay_hf.catalog.schema import Catalog, Playlist, Track
from talkplay_hf.evaluation.baselines.base import BaselineSources
from talkplay_hf.evaluation.baselines.cooccurrence import LastTrackRanker

CATALOG = Catalog.from_tracks(
    [Track(f"t{n}", f"Title {n}", f"Artist {n}") for n in range(6)],
    [
        Playlist("p0", ("t0", "t1", "t2")),
        Playlist("p1", ("t0", "t1")),
        Playlist("p2", ("t2", "t3", "t3")),
        Playlist("p3", ("t3", "t4")),
        Playlist("p4", ("t4",)),
    ],
)
POPULARITY = [2, 2, 2, 3, 2, 0]


@pytest.fixture(scope="module")
def ranker() -> LastTrackRanker:
    return LastTrackRanker(BaselineSources(CATALOG))


def test_the_cosine_is_that_of_the_playlists_of_two_tracks(ranker: LastTrackRanker) -> None:
    cosines = ranker.cosines([played("t0")])[0]
    assert cosines.tolist() == pytest.approx([1, 1, 1 / 2, 0, 0, 0])


def test_tracks_without_a_shared_playlist_follow_by_popularity(ranker: LastTrackRanker) -> None:
    scores = ranker.scores([played("t4", "t0")])[0]
    assert scores[[0, 1, 2]].min() > scores[[3, 4, 5]].max()
    assert scores[3] > scores[4] > scores[5]


@pytest.mark.parametrize("history", [user("hello"), played("nobody"), played("t5")])
def test_popularity_ranks_where_the_last_track_tells_nothing(
    ranker: LastTrackRanker, history: tuple
) -> None:
    scores = ranker.scores([history])[0]
    assert np.argsort(-scores, kind="stable").tolist() == [3, 0, 1, 2, 4, 5]
    assert len(np.unique(scores)) == len(np.unique(POPULARITY))


def test_only_the_last_of_several_tracks_counts(ranker: LastTrackRanker) -> None:
    alone, after = ranker.scores([played("t3"), played("t0", "t3")])
    assert np.array_equal(alone, after)


def test_a_held_out_playlist_is_not_counted() -> None:
    ranker = LastTrackRanker(BaselineSources(CATALOG, frozenset({"p2"})))
    assert ranker.cosines([played("t3")])[0].tolist() == pytest.approx([0, 0, 0, 1, 0.5**0.5, 0])


def test_a_catalog_without_playlists_is_all_tied() -> None:
    catalog = Catalog.from_tracks([Track("a", "A", "X"), Track("b", "B", "X")])
    scores = LastTrackRanker(BaselineSources(catalog)).scores([played("a"), user("hello")])
    assert scores.tolist() == [[0, 0], [0, 0]]
