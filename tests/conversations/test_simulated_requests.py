"""What simulated users say, and what they mean by it."""

import re
from collections import Counter
from collections.abc import Iterator
from functools import cache

import pytest
from simulated import spotify_like, turns

from talkplay_hf.catalog.constraints import Constraint
from talkplay_hf.catalog.schema import Catalog, Conversation, Message, Playlist, Track
from talkplay_hf.conversations.intents import detect_intents, taxonomy
from talkplay_hf.conversations.simulation.options import SimulatorOptions
from talkplay_hf.conversations.simulation.phrasing import languages, phrase_book
from talkplay_hf.conversations.simulation.simulator import simulate

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


@cache
def lively(catalog: Catalog) -> list[Conversation]:
    return simulate(catalog, count=400, options=LIVELY, seed=5)


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
