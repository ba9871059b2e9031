"""The taxonomy of intents and finding them in text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from talkplay_hf.catalog.schema import TRACK_SCHEMA
from talkplay_hf.conversations.intents import detect_intents, taxonomy
from talkplay_hf.errors import InputError

ACTS = {
    "open", "continue", "refine", "relax", "correct", "change", "accept", "reject", "ask", "greet",
    "thank",
}  # fmt: skip
TOPICS = {
    "track", "artist", "album", "genre", "mood", "theme", "era", "tempo", "sound", "activity",
    "popularity", "culture", "similar",
}  # fmt: skip


def test_the_taxonomy_has_its_names_and_a_line_about_each() -> None:
    intents = taxonomy()
    assert {name for name, one in intents.items() if one.kind == "act"} == ACTS
    assert {name for name, one in intents.items() if one.kind == "topic"} == TOPICS
    for name, one in intents.items():
        assert one.name == name
        assert one.description.endswith(".")
        assert "\n" not in one.description
        assert set(one.needs) <= set(TRACK_SCHEMA.names)


@pytest.mark.parametrize("name", sorted(ACTS | TOPICS))
def test_the_example_of_an_intent_shows_it(name: str) -> None:
    assert name in detect_intents(taxonomy()[name].example, first=name in ("open", "greet"))


@pytest.mark.parametrize(
    ("text", "intents"),
    [
        ("Love it. More like this, please.", "accept continue similar"),
        ("I don't like this one.", "reject"),
        ("I’m not feeling this. Something faster.", "reject refine tempo"),
        ("It doesn't have to be rock.", "relax genre"),
        ("Now some 90s hip-hop", "change era genre"),
        ("Only 90s hip-hop", "refine era genre"),
        ("More from the album Salt Roads", "continue album"),
        ("Something completely different.", "change"),
        ("Who sings this?", "ask artist"),
        ("thank you", "thank"),
        ("ok", ""),
        ("", ""),
    ],
)
def test_a_later_message_shows_what_it_does_and_is_about(text: str, intents: str) -> None:
    assert detect_intents(text, first=False) == frozenset(intents.split())


def test_a_first_message_opens_and_reacts_to_nothing() -> None:
    found = detect_intents(
        "Hello! Great songs like Paper Lanterns, something else, no ska", first=True
    )
    assert found & ACTS == {"open", "greet"}
    assert detect_intents("", first=True) == {"open"}


def test_further_words_of_a_catalog_are_found_whatever_the_punctuation() -> None:
    words = {"artist": {"the marlo venns", "quill"}, "genre": {"zeuhl"}}
    text = "also the Marlo-Venns, maybe ZEUHL"
    assert not detect_intents(text, first=False) & {"artist", "genre"}
    assert {"artist", "genre"} <= detect_intents(text, first=False, words=words)
    assert "artist" not in detect_intents("quillwork", first=False, words=words)


def test_words_of_an_unknown_topic_are_refused_by_name() -> None:
    with pytest.raises(InputError, match="'artits'"):
        detect_intents("x", first=False, words={"artits": {"x"}})


@given(st.text(max_size=200), st.booleans())
def test_any_text_gives_names_of_the_taxonomy(text: str, first: bool) -> None:
    found = detect_intents(text, first=first)
    assert found <= ACTS | TOPICS
    assert ("open" in found) == first
