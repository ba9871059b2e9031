"""The quality report: measures against brute force, figures of conversations of known content."""

import itertools
import json
import math
import random
import re
import sys
import time
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plain_talks import plain_talks

from talkplay_hf.catalog.schema import Catalog, Conversation, Message, Playlist, Track
from talkplay_hf.conversations.intents import detect_intents, taxonomy
from talkplay_hf.conversations.quality.coverage import Coverage, TrackWords, talked_about
from talkplay_hf.conversations.quality.diversity import distinct_n, near_duplicates, words
from talkplay_hf.conversations.quality.report import quality_report
from talkplay_hf.conversations.quality.sampling import sample_conversations, tracks_of
from talkplay_hf.conversations.quality.text import quality_text
from talkplay_hf.errors import InputError, MissingExtraError

SOME_TEXT = st.lists(st.sampled_from(["a", "b", "c", "Déjà", "don't", ",", "音楽"]), max_size=8)
TEXTS = st.lists(SOME_TEXT.map(" ".join), max_size=8)


def grams_of(text: str, n: int) -> list[tuple[str, ...]]:
    found = words(text)
    return [tuple(found[at : at + n]) for at in range(len(found) - n + 1)]


def jaccard(one: str, other: str) -> float:
    mine, theirs = set(grams_of(one, 3)), set(grams_of(other, 3))
    return len(mine & theirs) / len(mine | theirs) if mine | theirs else 0.0


@given(TEXTS, st.integers(1, 5))
def test_distinct_n_is_what_counting_gives(texts: list[str], n: int):
    grams = [gram for text in texts for gram in grams_of(text, n)]
    expected = len(set(grams)) / len(grams) if grams else None
    assert distinct_n(texts, n) == expected


def test_n_grams_end_with_their_text():
    assert distinct_n(["a b", "a b"], 2) == 0.5
    assert distinct_n(["a", "b"], 2) is None


def test_distinct_n_wants_a_positive_n():
    with pytest.raises(InputError, match="n must be 1"):
        distinct_n(["a"], 0)


@given(TEXTS)
@settings(deadline=None)
def test_every_near_duplicate_is_one(texts: list[str]):
    for at, partner in enumerate(near_duplicates(texts)):
        assert partner != at
        if partner >= 0:
            one, other = texts[at], texts[partner]
            assert words(one) == words(other) or jaccard(one, other) >= 0.8


def test_near_duplicates_are_found_and_the_merely_alike_are_not():
    rng = random.Random(3)
    vocabulary = [f"w{number}" for number in range(500)]
    texts, near = [], []
    for _ in range(40):
        first = rng.choices(vocabulary, k=100)
        for changed in (0, 1, 20):
            second = list(first)
            for at in rng.sample(range(100), changed):
                second[at] = "other"
            texts.append(" ".join(second))
        near += [True, True, False]
    partners = near_duplicates(texts)
    assert ((partners >= 0) == np.array(near)).all()
    assert (near_duplicates(texts, seed=5) >= 0).tolist() == near


@pytest.mark.slow
def test_thousands_of_near_duplicates_take_time_in_proportion_to_their_number():
    """At this number a time that grows with the square would be minutes."""
    words = " ".join(f"w{number}" for number in range(60))
    started = time.process_time()
    partners = near_duplicates(f"{words} x{number}" for number in range(20_000))
    assert time.process_time() - started < 60
    assert (partners >= 0).all()


def test_texts_of_the_same_words_are_near_duplicates_however_short():
    partners = near_duplicates(["Yes!", "no", "yes", "", "A b", "", "c"])
    assert partners.tolist() == [2, -1, 0, 5, -1, 3, -1]


@pytest.fixture
def without_datasketch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasketch", None)


@pytest.mark.usefixtures("without_datasketch")
def test_without_datasketch_the_extra_is_named_and_the_report_still_comes(world: Catalog):
    with pytest.raises(MissingExtraError, match=r"talkplay-hf\[synthesis\]"):
        near_duplicates(["a b c"])
    report = quality_report(plain_talks(world, 5), world)
    assert report["duplicates"]["near"] is None
    assert report["duplicates"]["exact"] == 0
    assert "talkplay-hf[synthesis]" in quality_text(report)


TRACK = Track(
    "t1",
    "Stay",
    "Ondra Vantongle feat. Juno",
    album="Paper Engine",
    release_date="1994-05-01",
    tags=("dream pop", "calm"),
    lyrics="we left the harbour behind the rain and carried the lantern home",
    tempo=92.4,
    key="G# minor",
    extra={"instrument": "organ", "theme": "the sea"},
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("This is Stay.", {"metadata"}),
        ("please stay with it", set()),
        ("Something by ondra vantongle", {"metadata"}),
        ("from the album Paper Engine", {"metadata"}),
        ("from the '90s", {"metadata"}),
        ("from 1994", {"metadata"}),
        ("from the 1980s", set()),
        ("Dream-pop, then?", {"semantic"}),
        ("a song about the sea", {"lyrics"}),
        ("it goes: we left the harbour behind", {"lyrics"}),
        ("we left the harbour", set()),
        ("at 92 bpm in G# minor", {"audio"}),
        ("It is in G# minor.", {"audio"}),
        ("at 120 BPM in G minor", set()),
        ("with an organ", {"audio"}),
    ],
)
def test_a_text_says_values_of_its_track(text: str, expected: set[str]):
    assert TrackWords(TRACK).said_in(text) == expected


def test_a_track_is_known_by_the_fields_it_has():
    assert TrackWords(TRACK).known == {"semantic", "metadata", "lyrics", "audio"}
    assert TrackWords(Track("t", "A", "B")).known == {"metadata"}


def test_replies_name_titles_and_artists():
    found = TrackWords(TRACK)
    assert found.names("Here is Stay by Ondra Vantongle.") == {"title", "artist"}
    assert found.names("Stay, as you like it.") == {"title"}
    assert found.names("I would stay.") == set()


@given(st.text(), st.text())
def test_any_title_can_be_looked_for_in_any_text(title: str, text: str):
    TrackWords(Track("t", title, title, album=title, tags=(title,), lyrics=title)).said_in(text)


@pytest.mark.parametrize(
    ("text", "modality"),
    [
        ("some sad jazz", "semantic"),
        ("something from the eighties", "metadata"),
        ("It sings of leaving home.", "lyrics"),
        ("a driving rhythm in a minor key", "audio"),
    ],
)
def test_words_tell_the_modality(text: str, modality: str):
    assert modality in talked_about(text, detect_intents(text, first=False))


def talk(*messages: Message, name: str = "c", **facts: str) -> Conversation:
    return Conversation(name, messages, **facts)


def test_declared_intents_count_before_found_ones():
    coverage = Coverage({})
    coverage.add(
        talk(
            Message("user", "Hello! Some jazz, please.", intents=("open", "era")),
            Message("music", track_id="x"),
            Message("assistant", "Here."),
            Message("user", "Thanks!"),
        )
    )
    found = coverage.intents()
    rows = found["by_intent"]
    assert (found["user_messages"], found["declared"], found["detected"]) == (2, 1, 1)
    assert rows["era"] == {
        "kind": "topic",
        "messages": 0.5,
        "conversations": 1.0,
        "asked": 1,
        "found": 0.0,
    }
    assert rows["open"]["found"] == 1
    assert rows["thank"] == rows["thank"] | {"messages": 0.5, "asked": 0, "found": None}
    assert rows["genre"]["messages"] == 0
    assert "genre" in found["unseen"]
    assert "era" not in found["unseen"]
    assert found["asked_found"] == 0.5
    assert found["entropy_bits"] == {"act": 1.0, "topic": 0.0}


def test_cues_of_english_are_not_used_on_other_languages():
    coverage = Coverage({"t1": TRACK})
    coverage.add(
        talk(
            Message("user", "Etwas Jazz von Ondra Vantongle bitte"),
            Message("music", track_id="t1"),
            Message("assistant", "Gern: Stay."),
            language="de-AT",
        )
    )
    assert coverage.intents()["detected"] == 0
    assert len(coverage.intents()["unseen"]) == len(taxonomy())
    assert {row["conversations"] for row in coverage.intents()["by_intent"].values()} == {None}
    modalities = coverage.modalities()
    assert modalities["not_english"] == 1
    assert modalities["user"]["metadata"] == {"messages": 1.0, "of_track": 1.0}
    assert modalities["user"]["semantic"] == {"messages": 0.0, "of_track": 0.0}
    assert coverage.naming() == {"replies": 1, "title": 1.0, "artist": 0.0, "either": 1.0}


def test_what_cannot_be_read_is_said_and_left_out_of_the_shares():
    german = talk(Message("user", "Etwas Jazz bitte"), language="de")
    text = quality_text(quality_report([german]))
    assert "no user message can be read for intents" in text
    assert "1 of them are not English" in text
    assert "never seen" not in text
    english = talk(Message("user", "Some jazz, please"), language="en", name="e")
    report = quality_report([german, german, english])
    assert report["intents"]["by_intent"]["genre"]["conversations"] == 1.0
    text = quality_text(report)
    assert "2 of them are not English" in text
    # nothing was declared, and there are no playlists and no replies
    assert "asked for" not in text
    assert "of its playlist" not in text
    assert "name the title" not in text


def test_a_request_belongs_to_the_track_after_it_and_a_reply_to_the_one_before():
    other = Track("t2", "Elsewhere", "Nobody Known")
    coverage = Coverage({"t1": TRACK, "t2": other})
    coverage.add(
        talk(
            Message("user", "Ondra Vantongle"),
            Message("music", track_id="t1"),
            Message("assistant", "Here is Stay."),
            Message("user", "Ondra Vantongle again"),
            Message("music", track_id="t2"),
            Message("assistant", "Here is Stay."),
        )
    )
    assert coverage.modalities()["user"]["metadata"]["of_track"] == 0.5
    assert coverage.naming()["title"] == 0.5


def test_a_reply_of_a_turn_without_music_names_no_track():
    coverage = Coverage({"t1": TRACK})
    coverage.add(
        talk(
            Message("user", "Ondra Vantongle"),
            Message("music", track_id="t1"),
            Message("assistant", "Here is Stay."),
            Message("user", "Thanks"),
            Message("assistant", "Anything else?"),
        )
    )
    assert coverage.naming() == {"replies": 1, "title": 1.0, "artist": 0.0, "either": 1.0}


@pytest.fixture(scope="module")
def small() -> tuple[Catalog, list[Conversation]]:
    tracks = [Track(f"t{n}", f"Title {n}", f"Artist {n}", tags=("jazz",)) for n in range(8)]
    playlists = [
        Playlist("p1", ("t0", "t1", "t2", "t3")),
        Playlist("p2", ("t4", "t5", "t6", "t7")),
    ]

    def turn(number: int, source: str, text: str) -> tuple[Message, ...]:
        return (
            Message("user", text),
            Message("music", track_id=f"t{number}", source=source),
            Message("assistant", f"Here is Title {number}."),
        )

    talks = [
        talk(*turn(0, "playlist", "some jazz"), *turn(1, "playlist", "more"), name="a"),
        talk(*turn(4, "negative", "some jazz"), *turn(2, "playlist", "no, another"), name="b"),
        talk(*turn(5, "playlist", "some jazz"), name="c"),
        talk(*turn(5, "playlist", "Some JAZZ!"), name="d"),
    ]
    of = [("p1", "train", "en"), ("p1", "train", "en"), ("p2", "test", "de"), ("p2", "test", None)]
    talks = [
        Conversation(one.conversation_id, one.messages, playlist, split, language)
        for one, (playlist, split, language) in zip(talks, of, strict=True)
    ]
    return Catalog.from_tracks(tracks, playlists), talks


def test_the_report_counts(small: tuple[Catalog, list[Conversation]]):
    catalog, talks = small
    report = quality_report(iter(talks), catalog)
    assert report["conversations"] == {
        "total": 4,
        "by_split": {"test": 2, "train": 2},
        "by_language": {"de": 1, "en": 2, "unknown": 1},
    }
    assert report["turns"]["histogram"] == {"1": 2, "2": 2}
    assert report["turns"]["mean"] == 1.5
    assert report["user_words"]["mean"] == pytest.approx((2 + 1 + 2 + 2 + 2 + 2) / 6)
    assert report["user_words"]["histogram"]["0-5"] == 6
    assert report["assistant_words"]["max"] == 4
    assert report["table_1"]["train"] == report["table_1"]["train"] | {
        "playlists": 1, "dialogues": 2, "tracks": 4, "mean_turns": 2.0,
    }  # fmt: skip
    assert report["table_1"]["test"]["mean_turns"] == 1
    # c and d say the same words; of 12 texts, 5 users' and 5 replies differ
    assert report["duplicates"]["exact"] == 0.5
    assert report["duplicates"]["near"] == 0.5
    assert report["diversity"]["distinct_user_messages"] == pytest.approx(4 / 6)
    assert report["diversity"]["distinct_replies"] == pytest.approx(5 / 6)
    assert report["music"]["negative"] == pytest.approx(1 / 6)
    assert report["music"]["playlist_per_conversation"] == pytest.approx((2 + 1 + 1 + 1) / 16)
    assert report["music"]["playlist_together"] == pytest.approx((3 / 4 + 1 / 4) / 2)
    assert report["naming"] == {"replies": 6, "title": 1.0, "artist": 0.0, "either": 1.0}
    said = [m.content for one in talks for m in one.messages if m.content]
    distinct = report["diversity"]["distinct"]
    assert distinct == {str(n): distinct_n(said, n) for n in (1, 2, 3)}
    assert report["diversity"]["sample"]["distinct"] == distinct
    assert report["rejects"] is None
    assert json.loads(json.dumps(report)) == report


def test_the_same_input_gives_the_same_report(world: Catalog):
    talks = plain_talks(world, 60)
    one, again = (quality_report(talks, world, sample=10, seed=4) for _ in range(2))
    assert one == again
    assert one["sampled"] == 10


def test_nothing_and_no_catalog_make_a_report_too(world: Catalog):
    for report in (quality_report([]), quality_report(plain_talks(world, 3))):
        assert report["music"]["playlist_together"] is None
        assert report["naming"]["title"] is None
        assert "conversations" in quality_text(report)


def test_a_sample_is_looked_through_for_near_duplicates_and_its_size_is_said(world: Catalog):
    talks = plain_talks(world, 5) * 4
    report = quality_report(talks, near_limit=10)
    assert report["duplicates"]["compared"] == 10
    assert report["duplicates"]["exact"] == 1
    assert "of 10 (word 3-grams" in quality_text(report)


@pytest.mark.parametrize("option", ["sample", "near_limit"])
def test_impossible_options_are_refused(option: str):
    with pytest.raises(InputError, match=option):
        quality_report([], **{option: 0})


def test_reject_rates_come_from_the_synthesis(world: Catalog):
    synthesis = {
        "pieces": 10, "kept": 6, "repaired": 3, "calls": 16, "attempts": {"0": 2, "1": 4, "3": 4},
        "first_reasons": {"unparsable": 4}, "refused": {"unparsable": 8, "unknown_track": 2},
        "final_reasons": {"unknown_track": 2, "not_asked": 2},
        "intents_asked": {"era": 4, "theme": 1}, "intents_found": {"era": 3},
    }  # fmt: skip
    report = quality_report(plain_talks(world, 2), synthesis=synthesis)
    assert report["rejects"] == {
        "kept": 0.6,
        "repaired": 0.5,
        "first_answers": {"unparsable": 0.5},
        "answers": {"unparsable": 0.5, "unknown_track": 0.125},
        "quarantined": {"unknown_track": 0.2, "not_asked": 0.2},
        "intents_found": {"era": 0.75, "theme": 0.0},
    }
    assert report["synthesis"] == synthesis
    text = quality_text(report)
    assert re.search(r"unknown_track +0\.0 % +12\.5 % +20\.0 % +a track is neither of", text)
    assert re.search(r"not_asked +0\.0 % +0\.0 % +20\.0 % +no answer has come", text)


def stream(count: int) -> Iterator[Conversation]:
    return (Conversation(f"{number}", ()) for number in range(count))


def test_samples_are_uniform_and_so_are_their_beginnings():
    firsts, kept = np.zeros(20), np.zeros(20)
    for seed in range(2000):
        drawn = [int(one.conversation_id) for one in sample_conversations(stream(20), 5, seed)]
        assert len(set(drawn)) == 5
        firsts[drawn[0]] += 1
        kept[drawn] += 1
    for counts, share in ((firsts, 1 / 20), (kept, 5 / 20)):
        spread = math.sqrt(2000 * share * (1 - share))
        assert np.abs(counts - 2000 * share).max() < 4.5 * spread


def test_fewer_conversations_than_asked_for_are_all_drawn():
    drawn = sample_conversations(stream(3), 10)
    assert sorted(one.conversation_id for one in drawn) == ["0", "1", "2"]
    with pytest.raises(InputError, match="1 or more"):
        sample_conversations(stream(3), 0)


def test_tracks_outside_the_catalog_are_left_out(world: Catalog):
    ids = world.track_ids[:2]
    one = talk(*(Message("music", track_id=name) for name in (*ids, "elsewhere")))
    assert list(tracks_of([one, one], world)) == sorted(ids)
    assert tracks_of([one], None) == {}


def test_texts_that_share_a_beginning_are_no_near_duplicates():
    texts = [f"the same three words then {a} {b} {a} {b}" for a, b in
             itertools.combinations(range(40), 2)]  # fmt: skip
    assert (near_duplicates(texts) >= 0).sum() == 0
