"""Baselines rank by what they may know, and by nothing else."""

import sys

import numpy as np
import pyarrow as pa
import pytest

from talkplay_hf.catalog.schema import Catalog, Message, Playlist, Track
from talkplay_hf.errors import InputError, MissingExtraError
from talkplay_hf.evaluation.baselines import (
    BASELINES,
    BM25Ranker,
    ModelRanker,
    PopularityRanker,
    RandomRanker,
    chat_text,
    make_baseline,
    track_documents,
)
from talkplay_hf.recommend.recommender import Recommender


@pytest.fixture
def catalog() -> Catalog:
    return Catalog.from_tracks(
        [
            Track("t0", "Silver Harbour", "Mira Vale", album="Tides", tags=("folk", "calm")),
            Track("t1", "Neon Parade", "The Static", release_date="1987-03-01", tags=("synth",)),
            Track("t2", "Quiet Engine", "Mira Vale"),
        ],
        [
            Playlist("p0", ("t1", "t0")),
            Playlist("p1", ("t1", "gone")),
            Playlist("p2", ("t2", "t2", "t2")),
        ],
    )


def user(text: str) -> tuple[Message, ...]:
    return (Message("user", text),)


def test_the_model_ranks_played_tracks_only_where_they_are_candidates(
    recommender: Recommender, world: Catalog
) -> None:
    history = (
        Message("user", "play jazz"),
        Message("music", track_id=world.track_ids[3]),
        Message("user", "another"),
    )
    for exclude_played in (True, False):
        ranker = ModelRanker(recommender, world, len(world), exclude_played=exclude_played)
        (scores,) = ranker.scores([history])
        absent = np.flatnonzero(scores == -np.inf).tolist()
        assert absent == ([3] if exclude_played else [])


def test_random_ties_everything(catalog: Catalog) -> None:
    scores = RandomRanker(catalog).scores([user("a"), user("b")])
    assert scores.shape == (2, 3)
    assert len(np.unique(scores)) == 1


def test_popularity_ignores_held_out_playlists(catalog: Catalog) -> None:
    assert PopularityRanker(catalog, held_out=()).scores([user("x")])[0].tolist() == [1, 2, 3]
    assert PopularityRanker(catalog, held_out={"p2"}).scores([user("x")])[0].tolist() == [1, 2, 0]


def test_popularity_counts_only_what_trains(catalog: Catalog) -> None:
    split = pa.array(["train", "validation", "test"])
    divided = Catalog(catalog.tracks, catalog.playlists.append_column("split", split))
    assert PopularityRanker(divided, held_out=()).scores([user("x")])[0].tolist() == [1, 1, 0]
    assert not PopularityRanker(divided, held_out={"p0"}).scores([user("x")]).any()


def test_documents_leave_out_missing_fields(catalog: Catalog) -> None:
    assert track_documents(catalog) == [
        "Silver Harbour by Mira Vale from Tides folk calm",
        "Neon Parade by The Static synth 1987",
        "Quiet Engine by Mira Vale",
    ]


@pytest.mark.parametrize(
    ("query", "row"), [("play neon PARADE please", 1), ("something of 1987", 1), ("folk!", 0)]
)
def test_bm25_finds_title_year_and_tag(catalog: Catalog, query: str, row: int) -> None:
    scores = BM25Ranker(catalog).scores([user("no match here"), user(query)])
    assert scores[1].argmax() == row
    assert np.count_nonzero(scores[1]) == 1


def test_bm25_ties_what_it_cannot_tell_apart(catalog: Catalog) -> None:
    scores = BM25Ranker(catalog).scores([user(""), user("zzz unheard"), user("Mira")])
    assert not scores[:2].any()
    assert scores[2, 1] == 0
    assert (scores[2, [0, 2]] > 0).all()


def test_bm25_survives_a_catalog_without_words() -> None:
    catalog = Catalog.from_tracks([Track("a", "X", "Y")])
    assert BM25Ranker(catalog).scores([user("X by Y")]).tolist() == [[0.0]]


def test_the_last_turn_alone_forgets_what_was_said_before(catalog: Catalog) -> None:
    history = (
        Message("system", "quiet"),
        Message("user", "synth"),
        Message("music", track_id="t1"),
        Message("assistant", "A parade."),
        Message("user", "folk"),
    )
    assert chat_text(history) == "synth\nA parade.\nfolk"
    assert chat_text(history, last_turn=True) == "folk"
    whole = make_baseline("bm25", catalog, ()).scores([history])[0]
    last = make_baseline("bm25-last-turn", catalog, ()).scores([history])[0]
    assert (whole > 0).tolist() == [True, True, False]
    assert (last > 0).tolist() == [True, False, False]


def test_every_baseline_can_be_made_and_no_other(catalog: Catalog) -> None:
    for name in BASELINES:
        assert make_baseline(name, catalog, ()).scores([user("hello")]).shape == (1, 3)
    with pytest.raises(InputError, match="'bm26': must be one of random, popularity"):
        make_baseline("bm26", catalog, ())


def test_the_missing_extra_is_named(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bm25s", None)
    with pytest.raises(MissingExtraError, match=r"pip install talkplay-hf\[eval\]"):
        make_baseline("bm25", catalog, ())
