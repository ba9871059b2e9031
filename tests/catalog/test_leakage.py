"""What is held out must not get into what trains."""

from dataclasses import replace
from typing import Any

import pyarrow as pa
import pytest

from talkplay_hf.catalog.leakage import (
    HeldOut,
    check_conversations,
    check_splits,
)
from talkplay_hf.catalog.schema import Catalog, Conversation, Message, Playlist, Track
from talkplay_hf.catalog.splits import SplitOptions, cold_tracks, with_splits
from talkplay_hf.conversations.simulation.simulator import simulate
from talkplay_hf.errors import LeakageError, TalkPlayError

TRACKS = [Track(f"t{n}", f"T{n}", "x") for n in range(20)]
LISTS = {
    "train": [0, 1, 2, 3],
    "validation": [4, 5, 6, 7],
    "test": [8, 9, 10, 11],
    "challenge": [0, 12],
    "excluded": [8, 9, 13, 14],
}


def catalog(
    changes: dict[str, list[int]] | None = None, ids: dict[str, str] | None = None
) -> Catalog:
    """A catalog of one playlist a split, which has the name of its split."""
    lists = {**LISTS, **(changes or {})}
    playlists = [
        Playlist((ids or {}).get(name, name), tuple(f"t{n}" for n in rows))
        for name, rows in lists.items()
    ]
    made = Catalog.from_tracks(TRACKS, playlists)
    return Catalog(made.tracks, made.playlists.append_column("split", pa.array(list(lists))))


def conversation(split: str, playlist_id: str | None, *plays: int, **values: Any) -> Conversation:
    messages = [Message("music", track_id=f"t{n}", **values) for n in plays]
    return Conversation("talk", (Message("user", "hi"), *messages), playlist_id, split)


def test_a_leak_is_an_error_of_the_package():
    assert issubclass(LeakageError, TalkPlayError)


def test_a_clean_split_passes():
    check_splits(catalog())
    check_splits(Catalog.from_tracks(TRACKS))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (
            {"train": [11, 10, 9, 8, 8]},
            r"train playlist 'train' \(4 .*test playlist 'test' .*the same",
        ),
        (
            {"train": [8, 9, 1, 2, 3]},
            r"'train' \(5 tracks\) and .* 'test' \(4 .*have 2 tracks in co",
        ),
        (
            {"validation": [11, 10, 9, 5]},
            r"validation playlist 'validation' .*'test' .*have 3 tracks",
        ),
        (
            {"train": [4]},
            r"train playlist 'train' \(1 .*validation playlist 'validation' .* 1 tracks",
        ),
    ],
)
def test_a_held_out_playlist_that_lives_on_is_named(changes: dict[str, list[int]], says: str):
    with pytest.raises(LeakageError, match=says):
        check_splits(catalog(changes))
    check_splits(catalog(changes), near_duplicates=False)


def test_further_pairs_are_counted():
    with pytest.raises(LeakageError, match="and 1 more pair;"):
        check_splits(catalog({"train": [8, 9], "validation": [10, 11]}))


def test_less_than_half_in_common_passes():
    check_splits(catalog({"train": [8, 1, 2, 3]}))


@pytest.mark.parametrize("held_out", ["validation", "test", "challenge"])
def test_an_id_on_both_sides_is_named(held_out: str):
    twice = catalog(ids={held_out: "p7", "train": "p7"})
    for near_duplicates in (True, False):
        with pytest.raises(
            LeakageError, match=f"'p7' is of {held_out} in row . and of train in row 0"
        ):
            check_splits(twice, near_duplicates=near_duplicates)


@pytest.mark.parametrize("method", ["chronological", "random"])
def test_drawn_splits_pass(method: str):
    """Twenty pairs of near-duplicates: a draw that did not look at them would split some."""
    lists = [(f"t{n // 2}", f"s{n}") for n in range(40)]
    tracks = [Track(name, name, "x") for name in sorted({name for one in lists for name in one})]
    made = Catalog.from_tracks(
        tracks,
        [
            Playlist(f"p{n}", one, None, None, f"2020-01-{n % 9 + 1:02d}")
            for n, one in enumerate(lists)
        ],
    )
    options = SplitOptions(method=method, test=8, validation=4)
    drawn = with_splits(made, options)
    assert set(drawn.playlists["split"].to_pylist()) >= {"train", "validation", "test"}
    check_splits(drawn)
    kept = with_splits(made, replace(options, near_duplicates="keep"))
    check_splits(kept, near_duplicates=False)
    with pytest.raises(LeakageError):
        check_splits(kept)


def test_conversations_of_their_own_split_pass():
    check_conversations(
        catalog(),
        [
            conversation("train", "train", 0, 1, 13),
            conversation("train", None, 0, 5),
            conversation("validation", "validation", 4),
            conversation("validation", "train", 1),
            conversation("test", "test", 8),
            conversation("test", "elsewhere", 9),
            conversation("challenge", "challenge", 12),
        ],
    )


@pytest.mark.parametrize("held_out", ["validation", "test", "challenge", "excluded"])
def test_a_training_conversation_about_a_held_out_playlist_is_named(held_out: str):
    leak = conversation("train", held_out, 0)
    says = f"train conversation 'talk' is from the {held_out} playlist '{held_out}', and 1 more con"
    with pytest.raises(LeakageError, match=says):
        check_conversations(catalog(), [conversation("train", "train", 0), leak, leak])


@pytest.mark.parametrize("held_out", ["test", "challenge"])
def test_a_checkpoint_is_not_chosen_on_test_playlists(held_out: str):
    with pytest.raises(
        LeakageError, match=f"validation conversation 'talk' is from the {held_out}"
    ):
        check_conversations(catalog(), [conversation("validation", held_out, 0)])


@pytest.mark.parametrize("split", ["train", "validation"])
def test_a_playlist_that_the_catalog_lacks_fails(split: str):
    with pytest.raises(LeakageError, match="'elsewhere', which the catalog lacks"):
        check_conversations(catalog(), [conversation(split, "elsewhere", 0)])


@pytest.mark.parametrize("source", ["playlist", "negative", None])
def test_a_training_conversation_plays_no_cold_track(source: str | None):
    leak = conversation("train", None, 1, 10, source=source)
    with pytest.raises(LeakageError, match="'talk' plays the cold track 't10'"):
        check_conversations(catalog(), [leak])
    check_conversations(catalog(), [replace(leak, split="test")])


def test_simulated_conversations_keep_to_their_playlists(world: Catalog):
    assert not cold_tracks(world).any()
    check_conversations(world, simulate(world, count=60))


def test_a_leak_has_a_reason_to_count_it_under():
    held_out = HeldOut(catalog())
    reasons = {
        "held_out_playlist": conversation("train", "test", 0),
        "unknown_playlist": conversation("validation", "elsewhere", 0),
        "cold_track": conversation("train", None, 10),
    }
    for reason, one in reasons.items():
        leak = held_out.leak(one)
        assert leak is not None
        assert leak.reason == reason
    assert held_out.leak(conversation("train", "train", 0)) is None
