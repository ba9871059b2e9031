"""Tracks that a request names come first, where that is asked for."""

from collections import Counter
from itertools import pairwise
from typing import Any

import pytest
from chatting import REQUEST, assert_same, ids_of, played
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from talkplay_hf.catalog.names import NameFinder
from talkplay_hf.recommend.answers import ScoredTrack
from talkplay_hf.recommend.options import NAMED
from talkplay_hf.recommend.recommender import Recommender

STRATEGIES = ("beam", "exact", "sampling", "expansion")
SHORT: dict[str, Any] = {"max_new_tokens": 4}
CLOSE = 1e-4


@pytest.fixture(scope="module")
def artist(recommender: Recommender) -> str:
    """The artist of most tracks."""
    artists = Counter(recommender.catalog.column("artist"))
    name, tracks = artists.most_common(1)[0]
    assert tracks > 2
    return str(name)


def tracks_of(recommender: Recommender, artist: str) -> set[str]:
    names = recommender.catalog.column("artist")
    ids = recommender.track_ids
    return {track for track, name in zip(ids, names, strict=True) if name == artist}


def ranked(found: list[ScoredTrack]) -> list[str]:
    return [scored.track.track_id for scored in found]


# --- ranking ---------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", ["beam", "exact"])
@pytest.mark.parametrize("k", [1, 5, 20, 60])
def test_named_tracks_come_first_in_the_order_of_the_model_and_then_the_others(
    recommender: Recommender, artist: str, strategy: str, k: int
) -> None:
    request = f"Play something by {artist}."
    options: dict[str, Any] = {"strategy": strategy, "beam_width": 1000}
    plain = recommender.rank(request, k=60, **options)
    found = recommender.rank(request, k=k, names=True, **options)
    own = tracks_of(recommender, artist)
    first = [track for track in ranked(plain) if track in own]
    others = [track for track in ranked(plain) if track not in own]
    assert ranked(found) == [*first, *others][: len(found)]
    # no more than the last group of ties
    assert len([one for one in found if one.score > found[-1].score + CLOSE]) < k <= len(found)
    scores = {scored.track.track_id: scored.score for scored in plain}
    for scored in found:
        named = scored.track.track_id in own
        score = scores[scored.track.track_id] + NAMED * named
        assert scored.score == pytest.approx(score, abs=CLOSE)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_whoever_sorts_by_score_gets_the_named_tracks_first(
    recommender: Recommender, artist: str, strategy: str
) -> None:
    request = f"Play something by {artist}."
    found = recommender.rank(request, k=20, strategy=strategy, names=True, seed=1)
    own = tracks_of(recommender, artist)
    named = [track in own for track in ranked(found)]
    assert any(named)
    assert all(one.score > other.score - CLOSE for one, other in pairwise(found))
    if strategy in ("beam", "exact"):
        assert named == sorted(named, reverse=True)
        assert sum(named) == len(own)
    assert len(set(ranked(found))) == len(found)


def test_a_request_without_names_is_ranked_as_ever(recommender: Recommender) -> None:
    for strategy in STRATEGIES:
        options: dict[str, Any] = {"strategy": strategy, "seed": 3}
        assert recommender.rank(REQUEST, k=7, names=True, **options) == recommender.rank(
            REQUEST, k=7, **options
        )


def test_rules_and_played_tracks_hold_for_named_ones(recommender: Recommender, artist: str) -> None:
    own = sorted(tracks_of(recommender, artist))
    chat = played(own[0], then=f"more by {artist}")
    found = recommender.rank(chat, k=60, names=True)
    assert set(ranked(found)[: len(own) - 1]) == set(own[1:])
    assert own[0] not in ranked(found)
    found = recommender.rank(chat, k=60, names=True, rules=f"artist not {artist}")
    assert not set(own) & set(ranked(found))
    assert found == recommender.rank(chat, k=60, rules=f"artist not {artist}")


def test_only_the_last_message_names(recommender: Recommender, artist: str) -> None:
    chat = played(then=f"something by {artist}")
    chat += played(recommender.track_ids[0])[1:]
    assert recommender.rank(chat, k=9, names=True) == recommender.rank(chat, k=9)


def test_a_title_beats_its_artist(recommender: Recommender, artist: str) -> None:
    track = recommender.track(sorted(tracks_of(recommender, artist))[-1])
    found = recommender.rank(f"Play {track.title} by {track.artist}", k=5, names=True)
    assert found[0].track == track
    assert found[0].score > NAMED / 2 > found[1].score


def test_chats_that_are_ranked_together_keep_their_own_names(
    recommender: Recommender, artist: str
) -> None:
    chats: list[Any] = [f"a song by {artist}", REQUEST]
    chats.append(played(recommender.track_ids[5], then=f"not by {artist}"))
    chats.append(f"songs by {recommender.catalog.track_at(3).artist}")
    for k in (2, 10):
        together = recommender.rank_batch(chats, k=k, names=True)
        for chat, found in zip(chats, together, strict=True):
            alone = recommender.rank(chat, k=k, names=True)
            assert ranked(found) == ranked(alone)


@settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data(), k=st.integers(1, 60))
def test_without_the_option_names_are_nothing_special(
    recommender: Recommender, data: st.DataObject, k: int
) -> None:
    one = recommender.catalog.track_at(data.draw(st.integers(0, 59)))
    text = data.draw(st.sampled_from(["by {a}", "{t} by {a}", "not by {a}", "like {a}"]))
    request = text.format(a=one.artist, t=one.title)
    found = recommender.rank(request, k=k)
    assert found == recommender.rank(request, k=k, names=False)
    assert all(scored.score <= 0 for scored in found)
    first = recommender.rank(request, k=k, names=True)
    named = NameFinder(recommender.catalog).find(request)
    assert (first != found) <= bool(named)


# --- chat ------------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", ["sample", "rank"])
def test_an_answer_plays_what_is_named(
    recommender: Recommender, artist: str, strategy: str
) -> None:
    own = tracks_of(recommender, artist)
    for seed in range(4):
        options: dict[str, Any] = {"strategy": strategy, "seed": seed, "names": True, **SHORT}
        answer = recommender.chat(f"something by {artist}", **options)
        assert set(ids_of(answer)) <= own
        assert answer.scores[0] <= 0
        several = recommender.chat(f"something by {artist}", tracks=len(own) + 2, **options)
        assert set(ids_of(several)[: len(own)]) == own
        assert len(set(ids_of(several))) == len(own) + 2


def test_a_batch_plays_what_each_chat_names(recommender: Recommender, artist: str) -> None:
    chats = [f"something by {artist}", REQUEST]
    for strategy in ("sample", "rank"):
        options: dict[str, Any] = {"strategy": strategy, "names": True, **SHORT}
        together = recommender.chat_batch(chats, seeds=[1, 2], **options)
        for chat, seed, answer in zip(chats, (1, 2), together, strict=True):
            assert_same(answer, recommender.chat(chat, seed=seed, **options))
        assert set(ids_of(together[0])) <= tracks_of(recommender, artist)


@pytest.mark.parametrize("strategy", ["sample", "rank"])
def test_an_answer_to_a_request_without_names_is_as_ever(
    recommender: Recommender, strategy: str
) -> None:
    options: dict[str, Any] = {"strategy": strategy, "seed": 5, "tracks": 2, **SHORT}
    answer = recommender.chat(REQUEST, names=True, **options)
    assert_same(answer, recommender.chat(REQUEST, **options))


def test_rules_hold_for_the_named_tracks_of_an_answer(
    recommender: Recommender, artist: str
) -> None:
    own = tracks_of(recommender, artist)
    rule = f"artist not {artist}"
    for strategy in ("sample", "rank"):
        answer = recommender.chat(
            f"something by {artist}", rules=rule, names=True, strategy=strategy, seed=0, **SHORT
        )
        assert not set(ids_of(answer)) & own
        assert len(answer.tracks) == 1


def test_names_cost_nothing_where_they_are_off(
    recommender: Recommender, artist: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(NameFinder, "find")
    request = f"something by {artist}"
    assert recommender.rank(request, k=3)
    assert recommender.chat(request, seed=0, **SHORT).tracks
