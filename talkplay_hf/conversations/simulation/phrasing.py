"""The phrases of the simulator in one language, and how attributes of tracks are said with them.

Each language has a JSON file of the same keys. A phrase is a pattern with places such as `{np}`; a
conversation does not use one twice while it has others. Genres and names stay as they are; moods,
tempos, eras, instruments and themes are said in the language where the book knows the word.
"""

import json
import math
import re
from collections.abc import Mapping, Sequence
from functools import cache
from hashlib import blake2b
from pathlib import Path
from random import Random
from typing import Any

from talkplay_hf.conversations.simulation.attributes import Attribute

_FOLDER = Path(__file__).parent / "phrases"
LONGEST = 120
PLAIN_WORDS = 3
LOWER_SHARE, CARELESS_SHARE = 0.06, 0.35
_SLOT = re.compile(r"\{(\w+)\}")
# an English word that starts with a vowel sound
_VOWEL = re.compile(r"8|11\b|18|[aio]|e(?!u)|u(?!k\b|s\b|ni)|r&b|rnb|mpb", re.IGNORECASE)
_QUERIES = frozenset({"artist", "genre", "era"})
_QUERY_WORDS = _QUERIES | {"mood", "tempo", "popularity"}
# "de" before a name, which French shortens before a vowel
_OF = re.compile(r"\bde \{(artist|title|x)\}")
_ADJECTIVES = ("popularity", "tempo", "mood", "sound")
_TWO_ENDS = re.compile(r"((?<!\.)\.|[?!])\.(?!\S)|(\?)\s?\?(?!\S)")
_FRENCH_VOWELS = tuple("aeiouàâéèêëîïôûœ")
_ENDS = (".", "!", "?", "…")


@cache
def languages() -> tuple[str, ...]:
    """The languages that the simulator can write, such as `"en"`."""
    return tuple(sorted(path.stem for path in _FOLDER.glob("*.json")))


@cache
def phrase_book(language: str) -> dict[str, Any]:
    """The phrases of a language, by use."""
    text = (_FOLDER / f"{language}.json").read_text(encoding="utf-8")
    book: dict[str, Any] = json.loads(text)
    return book


@cache
def mood_tags() -> frozenset[str]:
    """Tags that name a mood."""
    return frozenset(phrase_book("en")["moods"])


class Phrasing:
    """Says things in one language, in one conversation.

    Args:
        language (`str`): One of `languages()`.
        rng (`random.Random`): Draws the words.
        variety (`float`): Share of the phrases for each purpose that is used, from the first;
            of the words for one thing, never fewer than three.
        held_out (`float`): Share of the phrases for each purpose that are kept for tests.
        test (`bool`): Whether to speak in those that are kept for tests, or in the others. A
            purpose that has phrases on one side only is spoken in them on both.
    """

    def __init__(
        self,
        language: str,
        rng: Random,
        variety: float = 1.0,
        *,
        held_out: float = 0.0,
        test: bool = False,
    ) -> None:
        self.language = language
        self.book = phrase_book(language)
        self._rng = rng
        self._variety = variety
        self._side = (held_out, test)
        self._used: set[tuple[str, int]] = set()

    def say(self, name: str, **words: str) -> str:
        """Fill a phrase for a purpose, one that the conversation has not used if there is one."""
        pattern: str = self.pick(name)
        if "{" not in pattern:
            return pattern
        text = self._fill(pattern, words)
        # a name that ends in a mark ends the sentence, too
        named = any(word.endswith(_ENDS) for word in words.values())
        return _TWO_ENDS.sub(r"\1\2", text) if named else text

    def pick(self, name: str) -> Any:
        """Draw an entry of a list of the book; the name of a list in a table is `table.key`."""
        options = self._list(name)
        size = max(1, math.ceil(len(options) * self._variety))
        allowed = _allowed(self.language, name, size, *self._side)
        start = int(self._rng.random() * len(allowed))
        for at in (*allowed[start:], *allowed[:start]):
            if (name, at) not in self._used:
                self._used.add((name, at))
                return options[at]
        return options[allowed[start]]

    def _list(self, name: str) -> list[Any]:
        return _entries(self.language, name)

    # --- attributes -----------------------------------------------------------------------------

    def value(self, attribute: Attribute) -> str:
        """The bare value, as in "I meant {value}": "the 80s", "jazz", "sad"."""
        pattern: str = self.book["values"].get(attribute.kind, "{x}")
        return pattern.format(x=self._word(attribute, ""))

    def modifier(self, attribute: Attribute) -> str:
        """What follows "but": "from the 80s", "jazz", "sad", "by somebody"."""
        if self._is_adjective(attribute):
            return self._word(attribute, "")
        return self._joined(attribute, plainly=True)

    def noun_phrase(self, attributes: Sequence[Attribute], *, one: bool | None = None) -> str:
        """Say several attributes as one phrase, such as "slow jazz from the 90s".

        Args:
            attributes (`Sequence[Attribute]`): At most one of each kind.
            one (`bool`, *optional*): Speak of one track ("a slow jazz tune") or of music ("slow
                jazz music"); of either when left out.
        """
        by_kind = {attribute.kind: attribute for attribute in attributes}
        draw = self._rng.random()
        if one is False:
            head = "more"
        elif one or draw < 0.5:
            head = "one"
        elif "genre" in by_kind:
            head = "genre"
        else:
            head = "mass" if draw < 0.75 else "thing"
        heads = self.book["heads"][head]
        pattern: str = heads[int(self._rng.random() * len(heads))]
        ending = self.book["endings"].get(head, "")
        adjectives = []
        back = []
        for kind in self.book["adjectives"]:
            if kind in by_kind and self._is_adjective(by_kind[kind]):
                adjectives.append(self._word(by_kind[kind], ending))
        joiners = self.book.get("and_after", {}).get(head, self.book["and"])
        slots = {"adj": self._list_up(adjectives, joiners)}
        for kind in self.book["order"]:
            attribute = by_kind.get(kind)
            if attribute is None or (kind in _ADJECTIVES and self._is_adjective(attribute)):
                continue
            if f"{{{kind}}}" in pattern:
                slots[kind] = (
                    self._word(attribute, "") if kind == "era" else self._joined(attribute)
                )
            else:
                back.append(self._joined(attribute))
        return " ".join([self._filled(pattern, slots), *back])

    def listable(self, attributes: Sequence[Attribute]) -> bool:
        """Whether several attributes make a typed query, that says what it wants."""
        kinds = {a.kind for a in attributes}
        return kinds <= _QUERY_WORDS and not kinds.isdisjoint(_QUERIES)

    def keywords(self, attributes: Sequence[Attribute]) -> str:
        """Say several attributes as a typed query: "jazz, slow, 80s"."""
        words = [
            self.book["short_era"].format(x=self._word(a, "")) if a.kind == "era" else self.value(a)
            for a in attributes
        ]
        return (", " if self._rng.random() < 0.6 else " ").join(words)

    def _is_adjective(self, attribute: Attribute) -> bool:
        if attribute.kind == "sound":
            return attribute.value in self.book["sounds"]
        return attribute.kind in _ADJECTIVES

    def _word(self, attribute: Attribute, ending: str) -> str:
        if attribute.kind == "era":
            year = int(attribute.value)
            short = f"{year % 100:02d}" if 1930 <= year < 2000 else f"{year}"
            return short if self._rng.random() < 0.75 else f"{year}"
        if attribute.kind == "genre" or attribute.kind == "artist":
            return attribute.value[:LONGEST]
        for name in _TABLES.get(attribute.kind, ()):
            options: list[str] | None = self.book[name].get(attribute.value)
            if options:
                size = max(PLAIN_WORDS, math.ceil(len(options) * self._variety))
                word = options[int(self._rng.random() * min(size, len(options)))]
                return word.replace("+", ending)
        return attribute.value[:LONGEST]

    def _joined(self, attribute: Attribute, *, plainly: bool = False) -> str:
        options: list[str] = self.book["joints"][attribute.kind]
        size = 1 if plainly else max(1, math.ceil(len(options) * self._variety))
        pattern = options[int(self._rng.random() * size)]
        return self._fill(pattern, {"x": self._word(attribute, "")})

    def _fill(self, pattern: str, words: Mapping[str, str]) -> str:
        if self.language == "fr":
            pattern = _OF.sub(lambda found: _elided(found[1], words), pattern)
        text: str = pattern.format(**words)
        return text

    def _list_up(self, words: list[str], joiners: Sequence[str]) -> str:
        comma, last = joiners
        if len(words) < 2:
            return "".join(words)
        if self.language == "es" and words[-1][:1] == "i":
            last = " e "
        return comma.join(words[:-1]) + last + words[-1]

    def _filled(self, pattern: str, slots: dict[str, str]) -> str:
        """Fill a head; a place with nothing to say closes up, and `{a}` fits what follows it."""
        parts: list[str] = []
        for token in reversed(pattern.split(" ")):
            found = _SLOT.match(token)
            if found is None:
                parts.append(token)
            elif found[1] == "a":
                parts.append("an" if _VOWEL.match(parts[-1]) else "a")
            elif found[1] == "noun":
                nouns = self.book["nouns"]
                size = max(PLAIN_WORDS, math.ceil(len(nouns) * self._variety))
                parts.append(nouns[int(self._rng.random() * min(size, len(nouns)))])
            elif slots.get(found[1]):
                parts.append(token.replace(found[0], slots[found[1]]))
        return " ".join(reversed(parts))


_TABLES = {
    "mood": ("moods",),
    "tempo": ("tempos",),
    "sound": ("sounds", "instruments"),
    "theme": ("themes",),
    "popularity": ("popularities",),
}


@cache
def _entries(language: str, name: str) -> list[Any]:
    """A list of the book; that of a list in a table is `table.key`."""
    table, _, key = name.partition(".")
    entry = phrase_book(language)[table]
    return list_of(entry[key] if key else entry)


@cache
def _allowed(language: str, name: str, size: int, held_out: float, test: bool) -> Sequence[int]:
    """The places of the phrases that may be said, among the first ones for a purpose."""
    phrases = _entries(language, name)[:size]
    places = range(size)
    if not held_out:
        return places
    kept = [_draw(f"{language} {name} {phrase}") < held_out for phrase in phrases]
    return [at for at in places if kept[at] == test] or places


def _draw(text: str) -> float:
    return int.from_bytes(blake2b(text.encode(), digest_size=7).digest()) / 2**56


def list_of(entry: Any) -> list[Any]:
    """The entry of a book as a list."""
    return entry if isinstance(entry, list) else list(entry.items())


def typed(parts: Sequence[str], rng: Random) -> str:
    """Join sentences as people type them: with or without capitals and a full stop."""
    care = rng.random()
    ended = [part if part.endswith(_ENDS) else f"{part}." for part in parts[:-1]]
    parts = [*ended, parts[-1]]
    if care < LOWER_SHARE:
        return " ".join(parts).lower().rstrip(".!")
    if care < CARELESS_SHARE:
        text = " ".join([parts[0], *map(_capital, parts[1:])]).rstrip(".!")
        return _small(text.replace("¿", "").replace("¡", ""))
    return " ".join(map(_capital, parts))


def end_of(text: str) -> str:
    """The mark that ends a sentence, with the space before it in French, or nothing."""
    end = text[-1:] if text.endswith(_ENDS) else ""
    return f" {end}" if end and text.endswith(f" {end}") else end


def _elided(place: str, words: Mapping[str, str]) -> str:
    vowel = words[place][:1].casefold() in _FRENCH_VOWELS
    return f"d'{{{place}}}" if vowel else f"de {{{place}}}"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _small(text: str) -> str:
    # a name in capitals stays as it is
    return text if text[1:2].isupper() else text[:1].lower() + text[1:]
