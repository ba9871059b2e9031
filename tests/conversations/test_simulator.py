"""Simulated conversations: what they ask for is what they get."""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from talkplay_hf.catalog.constraints import satisfied
from talkplay_hf.catalog.schema import Catalog, Conversation, Message, Playlist, Track
from talkplay_hf.catalog.splits import playlist_splits
from talkplay_hf.conversations.simulator import simulate, suggest_openers
from talkplay_hf.errors import InputError


def spotify_like(count: int = 40) -> Catalog:
    """Tracks with numeric descriptors and tags, as a table of real songs has."""
    rng = np.random.default_rng(0)
    genres = ("pop", "rock", "latin")
    tracks = [
        Track(
            f"s{n}",
            f"Title{n} (feat. Someone)",
            f"Artist {n % 7}",
            release_date=f"{1975 + n}-0{1 + n % 9}",
            tags=(genres[n % 3], f"{genres[n % 3]} {n % 2}"),
            tempo=float(rng.uniform(60, 200)),
            lyrics="ocean ocean waves" if n == 5 else None,
            extra={
                name: float(rng.random())
                for name in (
                    "valence", "energy", "danceability", "acousticness", "instrumentalness",
                    "liveness",
                )
            },
        )
        for n in range(count)
    ]  # fmt: skip
    lists = [
        Playlist(f"l{n}", tuple(f"s{i}" for i in rng.permutation(count)[:12])) for n in range(12)
    ]
    return Catalog.from_tracks(tracks, lists)


def bare(count: int = 20, *, playlists: bool = True) -> Catalog:
    """Nothing but ids, titles and artists."""
    tracks = [Track(f"b{n}", f"Name{n}", f"Singer {n % 4}") for n in range(count)]
    lists = [Playlist(f"l{n}", tuple(f"b{i}" for i in range(n, n + 6))) for n in range(12)]
    return Catalog.from_tracks(tracks, lists if playlists else [])


def turns(conversation: Conversation) -> Iterator[tuple[Message, Message, Message]]:
    messages = conversation.messages
    for at in range(0, len(messages), 3):
        user, music, assistant = messages[at : at + 3]
        yield user, music, assistant


def check(conversations: list[Conversation], catalog: Catalog) -> int:
    """What holds for every conversation; the number of negative tracks."""
    members = {p.playlist_id: set(p.track_ids) for p in catalog.iter_playlists()}
    splits = playlist_splits(catalog)
    negatives = 0
    for one in conversations:
        assert len(one.messages) % 3 == 0
        assert one.messages
        if one.playlist_id is not None:
            assert one.split == splits[one.playlist_id]
        played = []
        for user, music, assistant in turns(one):
            assert (user.role, music.role, assistant.role) == ("user", "music", "assistant")
            assert user.content
            assert assistant.content
            assert music.content == ""
            assert music.track_id is not None
            track = catalog.track(music.track_id)
            assert satisfied(user.constraints, track), (user, track)
            assert "{" not in user.content + assistant.content
            if music.source == "playlist":
                played.append(music.track_id)
                if one.playlist_id is not None:
                    assert music.track_id in members[one.playlist_id]
            else:
                assert music.source == "negative"
                negatives += 1
                if one.playlist_id is not None:
                    assert music.track_id not in members[one.playlist_id]
        assert len(set(played)) == len(played)
        assert one.messages[-2].source == "playlist"
    return negatives


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_every_track_meets_its_request(world: Catalog, seed: int):
    made = simulate(world, count=60, seed=seed)
    assert len(made) == 60
    assert check(made, world) > 0


@pytest.mark.parametrize("seed", range(4))
def test_real_like_columns(seed: int):
    catalog = spotify_like()
    made = simulate(catalog, count=80, seed=seed)
    assert check(made, catalog) > 0
    asked = {c.field for one in made for m in one.messages for c in m.constraints}
    assert {"artist", "tags", "year", "tempo", "energy"} <= asked
    assert asked & {"valence", "acousticness", "danceability", "instrumentalness", "liveness"}


def test_no_optional_column_is_needed():
    catalog = bare()
    made = simulate(catalog, count=60)
    check(made, catalog)
    assert {c.field for one in made for m in one.messages for c in m.constraints} == {"artist"}


@pytest.mark.parametrize("catalog", [bare(playlists=False), bare(1, playlists=False)])
def test_without_playlists_there_are_sessions_that_train(catalog: Catalog):
    made = simulate(catalog, count=30)
    check(made, catalog)
    assert {one.playlist_id for one in made} == {None}
    assert {one.split for one in made} == {"train"}


def test_playlists_of_unknown_tracks_do_not_count():
    catalog = bare(playlists=False)
    lists = pa.table({"playlist_id": ["p", "q"], "track_ids": [["gone"], ["b1", "gone", "b2"]]})
    catalog = Catalog(catalog.tracks, lists)
    made = simulate(catalog, count=10)
    check(made, catalog)
    assert {one.playlist_id for one in made} == {"q"}


def test_an_empty_catalog_is_refused():
    with pytest.raises(InputError, match="no track"):
        simulate(Catalog.from_tracks([]), count=3)


def test_the_seed_decides(world: Catalog):
    made = [simulate(world, count=20, seed=seed) for seed in (0, 0, 1)]
    assert made[0] == made[1]
    assert {one.messages for one in made[0]}.isdisjoint({one.messages for one in made[2]})


def test_ids_are_unique_and_every_playlist_has_its_turn(world: Catalog):
    count = world.playlists.num_rows
    made = simulate(world, count=count)
    assert len({one.conversation_id for one in made}) == count
    assert {one.playlist_id for one in made} == set(playlist_splits(world))


def test_turns_bound_the_length(world: Catalog):
    for one in simulate(world, count=40, turns=(2, 4)):
        kept = [m for m in one.messages if m.source == "playlist"]
        assert 2 <= len(kept) <= 4


def test_titles_are_named_only_when_wanted():
    catalog = bare()
    titles = {track.track_id: track.title for track in map(catalog.track, catalog.track_ids)}

    def share(conversations: list[Conversation]) -> float:
        named = [
            f"{titles[music.track_id or '']} " in f"{reply.content} ".translate(
                str.maketrans(".,!?:;\"'()", " " * 10)
            )
            for one in conversations
            for _, music, reply in turns(one)
        ]  # fmt: skip
        return sum(named) / len(named)

    for seed in range(3):
        assert share(simulate(catalog, count=60, title_share=0.0, seed=seed)) == 0
    assert share(simulate(catalog, count=60, title_share=1.0)) > 0.95
    assert 0.3 < share(simulate(catalog, count=60, title_share=0.5)) < 0.7


def test_requests_are_not_all_alike(world: Catalog):
    texts = [m.content for one in simulate(world, count=100) for m in one.messages[:1]]
    assert len(set(texts)) > 70


def test_braces_and_very_long_names_are_said_as_they_are():
    tracks = [
        Track(f"x{n}", f"{{title}} {n} {{0}}", "{artist} " + "long " * 100, tags=("{np}", "t{}"))
        for n in range(12)
    ]
    catalog = Catalog.from_tracks(tracks, [Playlist("p", tuple(t.track_id for t in tracks))])
    made = simulate(catalog, count=60)
    for one in made:
        for user, music, reply in turns(one):
            assert satisfied(user.constraints, catalog.track(music.track_id or ""))
            assert max(len(user.content), len(reply.content)) < 700


def test_openers_fit_the_catalog(world: Catalog):
    openers = suggest_openers(world, count=5)
    assert len(openers) == len(set(openers)) == 5
    assert all(text.startswith("Play ") for text in openers)
    assert openers == suggest_openers(world, count=5)
    assert suggest_openers(bare(1), count=3)


# --- what is held out -------------------------------------------------------------------------


def test_conversations_that_train_play_no_cold_track():
    tracks = [Track(f"t{n}", f"Song {n}", f"Band {n % 4}", tags=("jazz",)) for n in range(40)]
    lists = [
        Playlist(f"p{n}", tuple(f"t{(n * 3 + k) % 30}" for k in range(6)), name="x")
        for n in range(10)
    ]
    lists.append(Playlist("held", tuple(f"t{n}" for n in range(28, 40))))
    lists.append(Playlist("out", tuple(f"t{n}" for n in range(10))))
    catalog = Catalog.from_tracks(tracks, lists)
    labels = ["train"] * 10 + ["test", "excluded"]
    table = catalog.playlists.append_column("split", pa.array(labels))
    catalog = Catalog(catalog.tracks, table)
    cold = {f"t{n}" for n in range(30, 40)}
    made = simulate(catalog, count=120)
    played = {
        split: {m.track_id for c in made if c.split == split for m in c.messages if m.track_id}
        for split in ("train", "test")
    }
    assert not played["train"] & cold
    assert played["test"] & cold
    assert {c.split for c in made} == {"train", "test"}
