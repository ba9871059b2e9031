"""Simulated conversations: what they ask for is what they get, and options are kept to."""

import json
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from simulated import bare, check, spotify_like, turns

from talkplay_hf.catalog.constraints import satisfied
from talkplay_hf.catalog.importer import import_table
from talkplay_hf.catalog.schema import Catalog, Conversation, Playlist, Track
from talkplay_hf.catalog.splits import playlist_splits
from talkplay_hf.conversations.simulation.options import KINDS, SimulatorOptions
from talkplay_hf.conversations.simulation.phrasing import languages
from talkplay_hf.conversations.simulation.simulator import (
    iter_conversations,
    simulate,
    suggest_openers,
)
from talkplay_hf.errors import ConfigError, InputError


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
    asked = {c.field for one in made for m in one.messages for c in m.constraints}
    assert asked == {"artist", "title"}


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
    for one in simulate(world, count=40, options=SimulatorOptions(turns=(2, 4))):
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

    def made(title_share: float, seed: int = 0) -> list[Conversation]:
        options = SimulatorOptions(title_share=title_share, question=0.0)
        return simulate(catalog, count=60, options=options, seed=seed)

    for seed in range(3):
        assert share(made(0.0, seed)) == 0
    assert share(made(1.0)) > 0.95
    assert 0.3 < share(made(0.5)) < 0.7


def test_without_titles_in_replies_nobody_asks_for_one():
    catalog = bare()
    titles = {track.title for track in map(catalog.track, catalog.track_ids)}
    options = SimulatorOptions(title_share=0.0, track=0.3, similar=0.3, question=0.5)
    for one in simulate(catalog, count=120, options=options):
        for message in one.messages:
            assert titles.isdisjoint(message.content.replace("?", " ").replace(".", " ").split())


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
    many = suggest_openers(world, count=40)
    assert not any(word in text for text in many for word in ("popular", "known", " with ", "not "))
    assert max(len(text.split()) for text in many) <= 12
    assert suggest_openers(bare(1), count=3)


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


# --- variety and options ----------------------------------------------------------------------


def test_no_two_conversations_are_alike(world: Catalog):
    options = SimulatorOptions(turns=(1, 1), variety=0.1, negative=0.0, small_talk=0.0)
    made = simulate(world, count=1500, options=options)
    texts = ["\n".join(m.content for m in one.messages) for one in made]
    assert len(set(texts)) == len(texts)


def test_a_conversation_does_not_repeat_itself(world: Catalog):
    for one in simulate(world, count=200, options=SimulatorOptions(negative=0.0, turns=(4, 6))):
        similar = [m.content for m in one.messages if set(m.intents) == {"continue", "similar"}]
        assert len({text.casefold().rstrip(".!") for text in similar}) == len(similar)


def test_conversations_come_one_at_a_time(world: Catalog):
    many = iter_conversations(world, count=10**9)
    some = [next(many) for _ in range(20)]
    assert some == simulate(world, count=20)


def test_options_are_kept_to():
    catalog = spotify_like()
    plain = SimulatorOptions(
        negative=0.0, correction=0.0, exclusion=0.0, similar=0.0, track=0.0, activity=0.0,
        question=0.0, reaction=0.0, small_talk=0.0, relative=0.0, standing=0.0,
        conditions=(1.0,), kinds={"era": 1.0},
    )  # fmt: skip
    changed = 0
    for one in simulate(catalog, count=60, options=plain):
        last = None
        for user, music, _ in turns(one):
            decade = (catalog.track(music.track_id or "").year or 0) // 10
            # the same decade once more is nothing new
            act = "open" if last is None else "continue" if decade == last else "change"
            assert set(user.intents) == {act, "era"}
            assert music.source == "playlist"
            last = decade
            changed += act == "change"
    assert changed > 60


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"no_such": 1}, "no option no_such"),
        ({"negative": 1.5}, "negative 1.5: must be between 0 and 1"),
        ({"standing": 0.8, "relative": 0.4}, "standing"),
        ({"turns": (3, 2)}, "turns"),
        ({"languages": ("xx",)}, "must be among"),
        ({"languages": ()}, "must be among"),
        ({"kinds": {"colour": 1.0}}, "unknown colour"),
        ({"conditions": (0.0,)}, "conditions"),
        ({"negative": "often"}, "wrong type"),
    ],
)
def test_impossible_options_are_refused_by_name(values: dict[str, object], message: str):
    with pytest.raises(ConfigError, match=message):
        SimulatorOptions.from_mapping(values)


def test_options_come_back_from_what_a_manifest_records(tmp_path: Path):
    options = SimulatorOptions(turns=(2, 5), languages=("de", "en"), kinds={"era": 2.0})
    assert SimulatorOptions.from_mapping(json.loads(json.dumps(options.to_dict()))) == options
    path = tmp_path / "simulator.yaml"
    path.write_text("turns: [2, 5]\nlanguages: [de, en]\nkinds: {era: 2.0}\n", encoding="utf-8")
    assert SimulatorOptions.load(path) == options
    path.write_text("turn: [2, 5]\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"simulator\.yaml: .*no option turn"):
        SimulatorOptions.load(path)


@pytest.mark.parametrize("text", ["a: 2001-99-99", "a: 0o9", "[" * 900 + "]" * 900, "a: &x [*x]"])
def test_options_that_yaml_stumbles_over_are_refused_by_file(tmp_path: Path, text: str):
    path = tmp_path / "simulator.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=r"simulator\.yaml: "):
        SimulatorOptions.load(path)


def test_the_quickstart_has_options_for_a_small_model():
    recipe = Path(__file__).parents[2] / "recipes" / "quickstart" / "simulator.yaml"
    options = SimulatorOptions.load(recipe)
    assert options.variety < 1
    assert set(options.kinds) < set(KINDS)


@pytest.mark.realdata
def test_requests_on_real_music_are_met(real_data: Path, tmp_path: Path):
    import_table(real_data / "spotify_songs.csv", tmp_path / "catalog")
    catalog = Catalog.load(tmp_path / "catalog")
    options = SimulatorOptions(languages=languages())
    assert check(simulate(catalog, count=800, options=options), catalog) > 100
