"""Introductions of tracks, and phrases that only tests are written with."""

import dataclasses
from collections import Counter
from itertools import pairwise
from random import Random

import pytest

from talkplay_hf.catalog.constraints import satisfied
from talkplay_hf.catalog.leakage import check_conversations
from talkplay_hf.catalog.schema import Catalog, Conversation, Playlist, Track
from talkplay_hf.catalog.splits import cold_tracks
from talkplay_hf.conversations.simulation.options import SimulatorOptions
from talkplay_hf.conversations.simulation.phrasing import Phrasing, phrase_book
from talkplay_hf.conversations.simulation.simulator import simulate
from talkplay_hf.errors import ConfigError, LeakageError


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    """Forty tracks; the last ten stand in the test playlist alone."""
    tracks = [
        Track(f"t{n}", f"Song {n}", f"Band {n // 3}", tags=("jazz", "slow")) for n in range(40)
    ]
    lists = [
        Playlist("a", tuple(f"t{n}" for n in range(30))),
        Playlist("b", tuple(f"t{n}" for n in range(20, 40))),
    ]
    made = Catalog.from_tracks(tracks, lists)
    splits = made.playlists.append_column("split", [["train", "test"]])
    return Catalog(made.tracks, splits)


def introductions(made: list[Conversation]) -> list[Conversation]:
    return [one for one in made if one.messages[0].role == "system"]


def test_introductions_take_the_share_that_is_asked_for_and_all_tracks_in_turn(
    catalog: Catalog,
) -> None:
    made = simulate(catalog, count=100, options=SimulatorOptions(introductions=0.6))
    found = introductions(made)
    assert len(found) == 60
    assert all((one.split, one.playlist_id) == ("train", None) for one in found)
    plays = Counter(m.track_id for one in found for m in one.messages if m.role == "music")
    assert len(plays) == 40
    assert max(plays.values()) - min(plays.values()) <= 8


def test_an_introduction_asks_for_what_is_true_of_its_track(catalog: Catalog) -> None:
    for one in introductions(simulate(catalog, count=60, options=options(0.9))):
        for asked, music in pairwise(one.messages):
            if asked.role != "user":
                continue
            track = catalog.track(str(music.track_id))
            assert music.source == "catalog"
            assert asked.constraints
            assert satisfied(asked.constraints, track)
            assert track.artist in asked.content or track.title in asked.content


def options(share: float, **more: object) -> SimulatorOptions:
    return dataclasses.replace(SimulatorOptions(introductions=share), **more)  # type: ignore[arg-type]


def test_cold_tracks_are_introduced_unless_they_are_left_out(catalog: Catalog) -> None:
    cold = {catalog.track_ids[row] for row, is_cold in enumerate(cold_tracks(catalog)) if is_cold}
    assert len(cold) == 10
    for with_cold in (True, False):
        made = simulate(catalog, count=50, options=options(0.8, introduce_cold=with_cold))
        played = {m.track_id for one in introductions(made) for m in one.messages}
        assert bool(played & cold) == with_cold
        check_conversations(catalog, made)


def test_a_cold_track_leaks_where_it_is_not_introduced(catalog: Catalog) -> None:
    made = simulate(catalog, count=50, options=options(0.8))
    disguised = [
        dataclasses.replace(
            one, messages=tuple(dataclasses.replace(m, source="playlist") for m in one.messages)
        )
        for one in introductions(made)
    ]
    with pytest.raises(LeakageError, match="cold track"):
        check_conversations(catalog, disguised)


def test_without_introductions_and_held_out_phrases_nothing_changes(catalog: Catalog) -> None:
    plain = simulate(catalog, count=30)
    mixed = simulate(catalog, count=30, options=options(0.0, held_out_phrases=0.0))
    assert plain == mixed


def test_phrases_kept_for_tests_are_said_in_tests_alone() -> None:
    sides = {}
    for test in (False, True):
        said = Phrasing("en", Random(0), held_out=0.3, test=test)
        sides[test] = {said.pick("openers") for _ in range(400)}
    assert sides[False].isdisjoint(sides[True])
    assert sides[False] | sides[True] == set(phrase_book("en")["openers"])
    assert len(sides[True]) / len(phrase_book("en")["openers"]) == pytest.approx(0.3, abs=0.15)


def test_a_purpose_with_all_phrases_on_one_side_keeps_speaking() -> None:
    for held_out in (0.001, 0.999):
        for test in (False, True):
            assert Phrasing("en", Random(0), held_out=held_out, test=test).say("openers", np="x")


def test_conversations_of_the_split_test_speak_in_other_openers(catalog: Catalog) -> None:
    plain = SimulatorOptions(small_talk=0, activity=0, similar=0, track=0, correction=0)
    made = simulate(catalog, count=200, options=dataclasses.replace(plain, held_out_phrases=0.3))
    heads = {
        split: {one.messages[0].content.split()[0].casefold() for one in made if one.split == split}
        for split in ("train", "test")
    }
    assert heads["train"] != heads["test"]


def test_nothing_but_introductions_is_refused() -> None:
    with pytest.raises(ConfigError, match="introductions 1"):
        SimulatorOptions(introductions=1.0)
