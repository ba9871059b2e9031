"""The names that a catalog holds, to be looked up in the words of a text."""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from talkplay_hf.catalog.name_words import Words, artist_parts, keys_of, title_forms
from talkplay_hf.catalog.schema import Catalog
from talkplay_hf.hub import files

# a word in the titles of so many artists is an ordinary one
_ORDINARY_FROM = 3
# names of more words are not searched for
_LONGEST = 16
# words of requests, which no name alone is made of
_WORDS = files.read_json(Path(__file__).with_name("request_words.json"))
_PLAIN = frozenset(_WORDS["requests"])
# words that make a name only together with others
_EVERYDAY = frozenset(_WORDS["everyday"])
# what a title says beside its own words: guests, editions
_EXTRAS = re.compile(r"\s*[(\[]|\s[-–—]\s|\s(?:feat|ft)\b", re.IGNORECASE)


class Span(NamedTuple):
    """Words of a text that are a name, by the numbers of the first and the next one."""

    first: int
    end: int
    kind: str
    rows: tuple[int, ...]
    keys: Words


class NameIndex:
    """The names of a catalog: its artists, titles, albums and tags.

    Args:
        catalog (`Catalog`): The catalog; its columns are read once.
    """

    def __init__(self, catalog: Catalog) -> None:
        artists, titles = catalog.column("artist"), catalog.column("title")
        self._artists = _rows(artists, lambda text: {keys_of(text)})
        self._titles = _rows(titles, title_forms)
        self._albums = _rows(catalog.column("album"), title_forms)
        self._tags = {keys_of(tag) for tags in catalog.column("tags") for tag in tags or ()}
        self._ordinary = _ordinary_words(titles, artists) | _EVERYDAY
        self._parts = {
            words: rows
            for words, rows in _rows(artists, artist_parts).items()
            if not self._is_plain(words)
        }
        # a part of one name alone may be no artist: the wind of Earth, Wind & Fire
        owners = Counter(words for name in set(artists) for words in artist_parts(name))
        self._doubtful = {
            words
            for words in self._parts
            if words not in self._artists and owners[words] == 1 and self._is_ordinary(words)
        }
        self._join()
        self._longest: dict[str, int] = defaultdict(int)
        for words in (*self._artists, *self._parts, *self._titles, *self._albums, *self._tags):
            if words:
                self._longest[words[0]] = max(self._longest[words[0]], len(words))

    def artist_rows(self, words: Words) -> tuple[int, ...]:
        """The rows of the tracks of an artist, alone or with others."""
        return (*self._artists.get(words, ()), *self._parts.get(words, ()))

    def _join(self) -> None:
        """Names of two words also as one: "jcole"; "the ..." also without its article."""
        for table in (self._artists, self._parts):
            for words, rows in list(table.items()):
                if words[:1] == ("the",) and len(words) > 1 and self.unusual(words[1:]):
                    self._parts.setdefault(words[1:], []).extend(rows)
                if len(words) == 2 and not self._is_plain(("".join(words),)):
                    joined = ("".join(words),)
                    if joined not in self._artists:
                        self._parts.setdefault(joined, []).extend(rows)

    def unusual(self, words: Words) -> bool:
        """Whether a name would not stand in ordinary prose."""
        if words in self._tags or words in self._doubtful:
            return False
        if len(words) == 1:
            return not self._is_ordinary(words)
        return not self._is_plain(words)

    def _is_plain(self, words: Words) -> bool:
        return all(
            word in _PLAIN or len(word) == 1 or word.rstrip("s").isdigit() or (word,) in self._tags
            for word in words
        )

    def _is_ordinary(self, words: Words) -> bool:
        return all(word in self._ordinary or self._is_plain((word,)) for word in words)

    def telling(self, words: Words) -> int:
        """How many words of a title are not of ordinary requests."""
        return sum(not self._is_plain((word,)) for word in words)

    def is_tag(self, words: Words) -> bool:
        """Whether these words are a tag of the catalog."""
        return words in self._tags

    def spans(self, keys: list[str], shorter: Mapping[int, str]) -> Iterable[Span]:
        """All names in the words of a text.

        Args:
            keys (`list[str]`): The words.
            shorter (`Mapping[int, str]`): Words without the "'s" of an owner, by number.
        """
        tables = (("title", self._titles), ("album", self._albums))
        for first, key in enumerate(keys):
            longest = max(self._longest.get(key, 0), self._longest.get(shorter.get(first, ""), 0))
            for end in range(first + 1, min(first + longest, len(keys)) + 1):
                forms = [tuple(keys[first:end])]
                if end - 1 in shorter:
                    forms.append((*keys[first : end - 1], shorter[end - 1]))
                for words in forms:
                    if rows := self.artist_rows(words):
                        yield Span(first, end, "artist", rows, words)
                    for kind, table in tables:
                        if words in table:
                            yield Span(first, end, kind, tuple(table[words]), words)
                    if words in self._tags:
                        yield Span(first, end, "tag", (), words)


def _rows(
    values: Sequence[str | None], forms: Callable[[str], Iterable[Words]]
) -> dict[Words, list[int]]:
    """The rows of a column by the forms in which its values are written."""
    by_value: dict[str, list[int]] = defaultdict(list)
    for row, value in enumerate(values):
        if value:
            by_value[value].append(row)
    table: dict[Words, list[int]] = {}
    for value, rows in by_value.items():
        for words in forms(value):
            if 0 < len(words) <= _LONGEST:
                table.setdefault(words, []).extend(rows)
    return table


def _ordinary_words(titles: Sequence[str], artists: Sequence[str]) -> set[str]:
    """The words in the titles of several artists."""
    users: dict[str, set[str]] = defaultdict(set)
    for title, artist in zip(titles, artists, strict=True):
        for word in keys_of(_EXTRAS.split(title, maxsplit=1)[0]):
            users[word].add(artist)
    return {word for word, names in users.items() if len(names) >= _ORDINARY_FROM}
