"""The languages of the simulator: their phrase books, and what is said with them."""

import re
from collections import Counter

import pytest
from simulated import check, spotify_like, turns

from talkplay_hf.catalog.schema import Catalog, Track
from talkplay_hf.conversations.simulation.options import SimulatorOptions
from talkplay_hf.conversations.simulation.phrasing import languages, phrase_book
from talkplay_hf.conversations.simulation.simulator import simulate


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
