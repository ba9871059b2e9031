"""Simulated conversations: what they ask for is what they get."""

import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from talkplay_hf.catalog.constraints import Constraint, satisfied
from talkplay_hf.catalog.importer import import_table
from talkplay_hf.catalog.schema import Catalog, Conversation, Message, Playlist, Track
from talkplay_hf.catalog.splits import playlist_splits
from talkplay_hf.conversations.intents import detect_intents, taxonomy
from talkplay_hf.conversations.simulation.options import KINDS, SimulatorOptions
from talkplay_hf.conversations.simulation.phrasing import languages, phrase_book
from talkplay_hf.conversations.simulation.simulator import (
    iter_conversations,
    simulate,
    suggest_openers,
)
from talkplay_hf.errors import ConfigError, InputError


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
            album=f"Record {n // 5}",
            popularity=float(n),
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
            for text in (user.content, assistant.content):
                assert "{" not in text
                assert "  " not in text
                assert not text.startswith((" ", ",")), text
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


# --- what it says and means -------------------------------------------------------------------

ACTS = {name for name, intent in taxonomy().items() if intent.kind == "act"}
TOPICS = {name for name, intent in taxonomy().items() if intent.kind == "topic"}
FIELDS = {
    "track": {"title"}, "artist": {"artist"}, "album": {"album"}, "genre": {"genre", "tags"},
    "mood": {"mood", "valence", "energy", "tags"}, "theme": {"theme"}, "era": {"year"},
    "tempo": {"tempo"}, "popularity": {"popularity"},
    "sound": {
        "instrument", "acousticness", "danceability", "instrumentalness", "liveness",
    },
}  # fmt: skip
LIVELY = SimulatorOptions(
    turns=(3, 6), correction=0.3, exclusion=0.3, similar=0.2, track=0.1, question=0.4,
    negative=0.3, small_talk=0.8,
)  # fmt: skip


def requests(conversation: Conversation) -> Iterator[tuple[Message, Message | None, str | None]]:
    """Each user message, the one before it, and the source of the track before it."""
    before: Message | None = None
    source: str | None = None
    for user, music, _ in turns(conversation):
        yield user, before, source
        before, source = user, music.source


def lively(world: Catalog, count: int = 400) -> list[Conversation]:
    return simulate(world, count=count, options=LIVELY, seed=5)


@pytest.mark.parametrize("real", [False, True])
def test_topics_are_what_the_new_constraints_are_about(world: Catalog, real: bool):
    catalog = spotify_like() if real else world
    seen = set()
    for one in lively(catalog):
        for user, before, _ in requests(one):
            intents = set(user.intents)
            assert intents <= ACTS | TOPICS
            assert len(intents) == len(user.intents)
            old = set(before.constraints) if before else set()
            new = set(user.constraints) - old
            if "similar" not in intents and "relax" not in intents:
                for constraint in new:
                    said = {topic for topic, of in FIELDS.items() if constraint.field in of}
                    assert said & intents, (user, constraint)
            if "relax" not in intents:
                for topic in intents & set(FIELDS) - {"theme"}:
                    assert any(c.field in FIELDS[topic] for c in user.constraints), user
            seen |= intents
    missing = (ACTS | TOPICS) - {"culture"}
    assert missing - seen <= ({"theme"} if real else set())


def test_the_acts_of_a_turn_fit_what_came_before(world: Catalog):
    for one in lively(world):
        for number, (user, _, source) in enumerate(requests(one)):
            acts = ACTS & set(user.intents)
            assert ("open" in acts) == (number == 0), user
            assert ("greet" in acts) <= (number == 0), user
            # what was played to be rejected is rejected, or was due to a slip that is put right
            assert bool(acts & {"reject", "correct"}) or source != "negative", user
            if "reject" in acts:
                assert source == "negative"
                assert not acts & {"accept", "thank"}
            main = {"open", "continue", "refine", "relax", "change", "correct"}
            assert acts & main, user


def test_refining_keeps_what_stands_and_relaxing_drops_one_thing(world: Catalog):
    refined = relaxed = 0
    for one in lively(world):
        for user, before, _ in requests(one):
            if before is None:
                continue
            old, new = set(before.constraints), set(user.constraints)
            if "relax" in user.intents:
                relaxed += 1
                assert new < old
                assert new
                (dropped,) = TOPICS & set(user.intents)
                assert not {c.field for c in new} & FIELDS[dropped] - {"tags"}
                # "faster" and "older" are about one track and do not hold on
                passing = {"tempo", "year"} if "refine" in before.intents else set()
                assert {c.field for c in old - new} <= FIELDS[dropped] | passing
            if "refine" in user.intents:
                refined += 1
                # an activity, a title or a likeness refines by no condition of its own
                assert new - old or {"activity", "track", "similar"} & set(user.intents), user
    assert refined > 40
    assert relaxed > 8


def test_refining_by_one_more_condition_adds_to_those_that_hold(world: Catalog):
    found = 0
    for one in lively(world):
        for user, before, _ in requests(one):
            if before is None or "refine" not in user.intents:
                continue
            topics = TOPICS & set(user.intents)
            relative = any(c.op in ("gt",) for c in user.constraints)
            if len(topics) == 1 and not relative and not topics & {"tempo", "era"}:
                lasting = {c for c in before.constraints if c.field != "title"}
                if "track" not in before.intents and not any(
                    c.op == "gt" or (c.op == "lt" and c.field in ("tempo", "year")) for c in lasting
                ):
                    # of several conditions one may give way to another of its kind
                    varied = {field for topic in topics & set(FIELDS) for field in FIELDS[topic]}
                    kept = {c for c in lasting if c.field not in varied}
                    assert kept <= set(user.constraints), (before, user)
                    found += 1
    assert found > 20


def test_a_change_leaves_something_behind(world: Catalog):
    changed = 0
    for one in lively(world):
        for user, before, _ in requests(one):
            if before is None or "change" not in user.intents or not before.constraints:
                continue
            changed += 1
            ruled_out = any(c.op == "not" for c in user.constraints)
            assert ruled_out or set(before.constraints) - set(user.constraints), (before, user)
    assert changed > 100


def test_a_refinement_keeps_something_of_what_was_asked_for_or_played(world: Catalog):
    refined = 0
    for one in lively(world):
        last: Track | None = None
        before: Message | None = None
        for user, music, _ in turns(one):
            free = {"activity", "track", "similar"} & set(user.intents)
            if before is not None and last is not None and "refine" in user.intents and not free:
                refined += 1
                kept = set(before.constraints) & set(user.constraints)
                relative = any(c.op in ("gt", "lt") for c in user.constraints)
                common = any(c.satisfied_by(last) for c in user.constraints)
                assert kept or relative or common, (before, user)
            before, last = user, world.track(music.track_id or "")
    assert refined > 200


def test_most_later_requests_refine_and_few_change(world: Catalog):
    later = Counter(
        intent
        for one in simulate(world, count=400)
        for user, before, _ in requests(one)
        if before is not None
        for intent in user.intents
    )
    assert later["change"] < 0.7 * later["refine"]
    assert later["continue"] > 0.2 * later["refine"]


def test_what_is_asked_for_in_addition_is_not_what_was_just_played(world: Catalog):
    catalog = spotify_like()
    added = 0
    for one in lively(world) + lively(catalog):
        source = catalog if (one.playlist_id or "").startswith("l") else world
        last: Track | None = None
        before: Message | None = None
        for user, music, _ in turns(one):
            if before is not None and last is not None and "refine" in user.intents:
                new = set(user.constraints) - set(before.constraints)
                only = len((TOPICS - {"similar"}) & set(user.intents)) == 1
                if only and set(before.constraints) <= set(user.constraints) and new:
                    added += 1
                    assert not all(c.satisfied_by(last) for c in new), (before, user)
            before, last = user, source.track(music.track_id or "")
    assert added > 20


def test_nobody_asks_for_more_besides_what_was_rejected(world: Catalog):
    rejected = 0
    for one in lively(world):
        for user, _, _ in requests(one):
            if "reject" in user.intents:
                rejected += 1
                assert not re.search(r"\b(also|as well)\b", user.content), user.content
    assert rejected > 100


def test_the_words_and_the_declared_acts_agree(world: Catalog):
    found: Counter[str] = Counter()
    true: Counter[str] = Counter()
    hits: Counter[str] = Counter()
    for one in simulate(world, count=300):
        for number, (user, _, _) in enumerate(requests(one)):
            said = detect_intents(user.content, first=number == 0)
            found.update(said)
            true.update(user.intents)
            hits.update(said & set(user.intents))
    for act in ("refine", "change", "continue", "accept", "reject", "ask"):
        assert hits[act] > 0.85 * found[act], act
        assert hits[act] > 0.85 * true[act], act


def test_the_assistant_takes_up_the_word_that_was_put_right(world: Catalog):
    words = {w for options in phrase_book("en")["moods"].values() for w in options}
    words.remove("happy")  # "happy to help"
    echoed = 0
    for one in lively(world):
        for user, _, reply in turns(one):
            if {"correct", "mood"} <= set(user.intents) and "ask" not in user.intents:
                ack = {w for w in words if w in reply.content.casefold().partition(".")[0]}
                echoed += bool(ack)
                missing = [word for word in ack if word not in user.content.casefold()]
                assert not missing, (user.content, reply.content, missing)
    assert echoed > 10


def test_a_name_that_ends_in_a_mark_gets_no_second_one():
    ends = ("Why?", "Vol.", "Now!", "Wait...")
    tracks = [
        Track(f"m{n}", f"Song {n} {ends[n % 4]}", f"Band {n % 3} {ends[n % 3]}", tags=("pop",))
        for n in range(24)
    ]
    lists = [Playlist("p", tuple(track.track_id for track in tracks))]
    options = SimulatorOptions(languages=languages(), track=0.5)
    for one in simulate(Catalog.from_tracks(tracks, lists), count=150, options=options):
        for message in one.messages:
            assert not re.search(r"[?!]\.|(?<!\.)\.\.(?!\.)|\? ?\?(?!\S)", message.content), message


def test_only_the_corrected_value_counts(world: Catalog):
    """A catalog of one-word values shows that the wrong word is said and not demanded."""
    inline = later = 0
    for one in lively(world):
        for user, before, source in requests(one):
            if "correct" not in user.intents:
                continue
            for field in ("genre", "artist", "mood", "instrument"):
                values = {c.value for c in user.constraints if c.field == field and c.op == "is"}
                assert len(values) <= 1
            if source == "negative" and before is not None and "reject" not in user.intents:
                later += "change" not in user.intents
                assert {c.field for c in set(before.constraints) - set(user.constraints)}
            else:
                inline += 1
    assert inline > 20
    assert later > 20


def test_a_slip_across_turns_changes_one_kind_and_keeps_the_rest(world: Catalog):
    options = SimulatorOptions(turns=(2, 3), negative=1.0, correction=1.0, exclusion=0.0)
    corrected = 0
    for one in simulate(world, count=80, options=options):
        for user, before, source in requests(one):
            if source != "negative" or "correct" not in user.intents or before is None:
                continue
            if {"reject", "change", "open"} & set(user.intents):
                continue
            old, new = set(before.constraints), set(user.constraints)
            fields = {c.field for c in new - old}
            assert {c.field for c in old - new} <= fields
            assert len(fields) == 1
            corrected += 1
    assert corrected > 20


def test_nobody_asks_for_a_title_and_rejects_it(world: Catalog):
    options = SimulatorOptions(track=0.8, similar=0.0, negative=0.5, standing=0.0, relative=0.0)
    named = 0
    for one in simulate(world, count=100, options=options):
        for user, music, _ in turns(one):
            if "track" in user.intents:
                named += 1
                assert music.source == "playlist"
    assert named > 100


def test_more_of_the_same_has_something_in_common(world: Catalog):
    for one in lively(world):
        last = None
        for user, music, _ in turns(one):
            if {"continue", "similar"} <= set(user.intents) and last is not None:
                assert any(c.op != "not" for c in user.constraints), user
            last = music


def test_what_is_not_wanted_is_no_constraint_to_fail(world: Catalog):
    excluded = 0
    for one in lively(world):
        for user, music, _ in turns(one):
            for constraint in user.constraints:
                if constraint.op == "not":
                    excluded += 1
                    assert constraint.satisfied_by(world.track(music.track_id or ""))
                    assert Constraint(constraint.field, "is", constraint.value) not in (
                        user.constraints
                    )
    assert excluded > 50


def test_answers_tell_the_truth_about_the_last_track(world: Catalog):
    asked = 0
    for one in lively(world):
        last = None
        for user, music, reply in turns(one):
            if "ask" in user.intents:
                assert last is not None
                asked += 1
                truths = (
                    last.artist, f"{last.year}", last.album or "", f"{last.tempo or 0:.0f}",
                    *(str(last.get(name)) for name in ("genre",)), *last.tags,
                )  # fmt: skip
                assert any(truth in reply.content for truth in truths), (user, reply)
            last = world.track(music.track_id or "")
    assert asked > 50


@pytest.mark.parametrize("language", languages())
def test_replies_name_nothing_but_the_track_and_the_last_one(world: Catalog, language: str):
    options = SimulatorOptions(languages=(language,), question=0.5)
    tracks = [world.track(track_id) for track_id in world.track_ids]
    artists = {track.artist for track in tracks}
    years = {f"{track.year}" for track in tracks} - {
        f"{decade}" for decade in range(1970, 2030, 10)
    }
    for one in simulate(world, count=60, options=options):
        last: Track | None = None
        correct: set[str] = set()
        for user, music, reply in turns(one):
            track = world.track(music.track_id or "")
            known = {track.artist} | ({last.artist} if last else set())
            correct = {c.value for c in user.constraints}
            named = {artist for artist in artists if artist in reply.content}
            assert named <= known | correct, reply.content
            told = {year for year in years if year in reply.content}
            assert told <= {f"{track.year}"} | ({f"{last.year}"} if last else set())
            last = track


# --- languages --------------------------------------------------------------------------------


def book_keys(book: object, where: str = "") -> set[str]:
    """The names of a book that must be the same in every language."""
    if not isinstance(book, dict):
        return {where}
    return {key for name, part in book.items() for key in book_keys(part, f"{where}.{name}")}


FREE = (".and_after", ".endings", ".values", ".instruments", ".themes")


def test_all_books_have_the_same_keys_and_places():
    books = {language: phrase_book(language) for language in languages()}
    assert {"de", "en", "es", "fr", "pt"} <= set(books)
    keys = {
        language: {key for key in book_keys(book) if not key.startswith(FREE)}
        for language, book in books.items()
    }
    assert all(found == keys["en"] for found in keys.values())
    for language, book in books.items():
        for key in keys[language]:
            if key.startswith((".heads", ".order", ".adjectives", ".and", ".nouns", ".short_era")):
                continue
            phrases = at(book, key)
            assert phrases, (language, key)
            assert places(phrases) <= places(at(books["en"], key)), (language, key)
            if isinstance(phrases, list) and isinstance(phrases[0], str):
                assert len(set(phrases)) == len(phrases), (language, key)


def at(book: dict[str, object], key: str) -> object:
    part: object = book
    for name in key.split(".")[1:]:
        assert isinstance(part, dict)
        part = part[name]
    return part


def places(phrases: object) -> set[str]:
    return set(re.findall(r"\{(\w+)\}", str(phrases)))


@pytest.mark.parametrize("language", languages())
def test_no_mood_or_tempo_is_said_like_another(language: str):
    book = phrase_book(language)
    for table in ("moods", "tempos", "sounds", "popularities"):
        words = [word for options in book[table].values() for word in options]
        assert len(set(words)) == len(words)


@pytest.mark.parametrize("language", languages())
@pytest.mark.parametrize("real", [False, True])
def test_every_language_keeps_the_rules(world: Catalog, language: str, real: bool):
    catalog = spotify_like() if real else world
    made = simulate(catalog, count=60, options=SimulatorOptions(languages=(language,)))
    check(made, catalog)
    assert {one.language for one in made} == {language}


def test_languages_are_mixed_by_conversation(world: Catalog):
    options = SimulatorOptions(languages=("en", "fr"))
    made = simulate(world, count=100, options=options)
    counts = Counter(one.language for one in made)
    assert set(counts) == {"en", "fr"}
    assert min(counts.values()) > 25


def test_french_shortens_de_before_a_vowel(world: Catalog):
    artists = {world.track(track_id).artist for track_id in world.track_ids}
    shortened = 0
    for one in simulate(world, count=150, options=SimulatorOptions(languages=("fr",))):
        for message in one.messages:
            for artist in artists:
                shortened += f"d'{artist}" in message.content
                assert artist[0] not in "AEIOU" or f"de {artist}" not in message.content
    assert shortened > 20


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
