"""The second stage learns what the first cannot see, from conversations of other playlists."""

import numpy as np
import pytest
from small_catalog import user

from talkplay_hf.catalog.schema import Catalog, Conversation, Message, Playlist, Track
from talkplay_hf.errors import InputError
from talkplay_hf.evaluation.baselines.base import BaselineSources
from talkplay_hf.evaluation.baselines.named import NamedTracks
from talkplay_hf.evaluation.baselines.rerank import DEPTH, FEATURES, RerankRanker, candidates

# every name is a band's and a title, and people mean the band
NAMES = [f"name{n}" for n in range(30)]
CATALOG = Catalog.from_tracks(
    [Track(f"b{n}", f"tune{n}", name, tags=("music",)) for n, name in enumerate(NAMES)]
    + [Track(f"s{n}", name, f"someone{n}", tags=("music",)) for n, name in enumerate(NAMES)],
    [Playlist(f"p{n}", (f"b{n}", f"s{n}")) for n in range(30)],
)


def talk(number: int) -> Conversation:
    messages = (Message("user", f"play name{number}"), Message("music", track_id=f"b{number}"))
    return Conversation(f"c{number}", messages, f"p{number}")


SOURCES = BaselineSources(CATALOG, conversations=tuple(talk(n) for n in range(25)))


@pytest.fixture(scope="module")
def ranker() -> RerankRanker:
    return RerankRanker(SOURCES)


def test_it_learns_that_the_artist_is_meant(ranker: RerankRanker) -> None:
    asked = [user(f"play name{n}") for n in range(25, 30)]
    assert ranker.scores(asked).argmax(axis=1).tolist() == list(range(25, 30))


def test_scores_are_finite_and_ties_stay_ties(ranker: RerankRanker) -> None:
    scores = ranker.scores([user("hello"), user("")])
    assert np.isfinite(scores).all()
    assert len(np.unique(scores[1])) < len(CATALOG)


def test_the_features_are_those_that_are_named(ranker: RerankRanker) -> None:
    features, fused = ranker.first_stage.describe([user("play name3")])
    assert features.shape == (1, len(CATALOG), len(FEATURES))
    column = dict(zip(FEATURES, features[0].T, strict=True))
    assert np.flatnonzero(column["artist_named"]).tolist() == [3]
    assert np.flatnonzero(column["title_named"]).tolist() == [33]
    assert np.array_equal(column["first_stage"], fused[0])
    assert column["bm25_below_best"].max() == 0


@pytest.mark.slow
def test_held_out_playlists_and_their_conversations_change_nothing(ranker: RerankRanker) -> None:
    hidden = frozenset({"p28", "p29"})
    fewer = CATALOG.playlists.slice(0, 28)
    conversations = SOURCES.conversations
    wrong = Message("user", "play name1"), Message("music", track_id="s1")
    leak = Conversation("leak", wrong, "p28")
    without = RerankRanker(BaselineSources(Catalog(CATALOG.tracks, fewer), hidden, conversations))
    with_them = RerankRanker(BaselineSources(CATALOG, hidden, (*conversations, leak)))
    asked = [user("play name1"), user("some music")]
    assert np.array_equal(without.scores(asked), with_them.scores(asked))


def test_candidates_are_the_best_with_their_ties() -> None:
    scores = np.arange(300.0)
    assert candidates(scores).tolist() == list(range(300 - DEPTH, 300))
    scores[:150] = scores[100]
    assert len(candidates(scores)) == 300
    assert candidates(np.zeros(5)).tolist() == [0, 1, 2, 3, 4]


def test_too_few_conversations_are_refused() -> None:
    for conversations in ((), (talk(0),)):
        with pytest.raises(InputError, match="'rerank' needs training conversations"):
            RerankRanker(BaselineSources(CATALOG, conversations=conversations))


@pytest.mark.slow
def test_conversations_of_which_the_first_stage_finds_no_track_are_refused() -> None:
    catalog = Catalog.from_tracks(
        [Track(f"b{n}", f"tune{n}", f"name{n}") for n in range(300)],
        [Playlist(f"p{n}", (f"b{n}",)) for n in range(8)],
    )
    talks = tuple(
        Conversation(
            f"c{n}",
            (Message("user", "play tune7"), Message("music", track_id=f"b{250 + n}")),
            f"p{n}",
        )
        for n in range(8)
    )
    with pytest.raises(InputError, match="finds none of the tracks of 1 turns"):
        RerankRanker(BaselineSources(catalog, conversations=talks))


def test_names_are_found_as_whole_words() -> None:
    catalog = Catalog.from_tracks(
        [
            Track("a", "Sun", "The Blue; Mira Vale"),
            Track("b", "Sun Down", "Mira"),
            Track("c", "!!!", "Blue, The Reds"),
        ]
    )
    artists = NamedTracks(catalog, "artist").named(["The mira vale!", "something by the reds", ""])
    assert artists.tolist() == [[2, 1, 0], [0, 0, 2], [0, 0, 0]]
    titles = NamedTracks(catalog, "title").named(["sun down, sunny", "!!!"])
    assert titles.tolist() == [[1, 2, 0], [0, 0, 0]]
    assert not NamedTracks(catalog, "album").named(["sun"]).any()
