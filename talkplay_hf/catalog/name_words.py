"""Titles and artists as the words that texts are searched for.

The same comparison as `track_match` makes over columns: without case, accents and
punctuation, with and without what a title says about guests and editions.
"""

import re
import unicodedata
from functools import lru_cache
from typing import NamedTuple

from talkplay_hf.catalog.schema import Track

Words = tuple[str, ...]
_WORD = re.compile(r"[^\W_]+(?:['’`´ʼ][^\W_]+)*|[&+]")
_ASCII_WORD = re.compile(r"[a-z0-9]+|[&+]")
_APOSTROPHES = re.compile(r"['’`´ʼ]")
_BRACKETS = re.compile(r"[(\[]([^()\[\]]*)[)\]]")
_DASH = re.compile(r"\s+[-–—]\s+.*$")
_GUESTS = re.compile(r"\s(?:feat|ft|featuring)\b.*$", re.IGNORECASE)
_GUEST_BRACKETS = re.compile(r"[(\[](?:feat|ft|featuring|with|prod)\b[^()\[\]]*[)\]]", re.I)
_GUEST_NAMES = re.compile(r"(?:[(\[]with|\b(?:feat|ft|featuring)\b\.?)\s+([^()\[\]]+)", re.I)
_EDITION = re.compile(
    r"\b(?:feat|ft|featuring|with|prod|from|remaster(?:ed)?|version|edit|mix|remix|live|mono|stereo"
    r"|deluxe|bonus|explicit|clean|single|album|soundtrack|acoustic|original)\b",
    re.IGNORECASE,
)
_MORE_ARTISTS = re.compile(
    r"\s*[,;/]\s*|\s(?:&|\+|and|x|vs\.?|feat\.?|ft\.?|featuring|with)\s", re.IGNORECASE
)
# without any of these a title has one form
_PARTS = re.compile(r"[()\[\]/–—-]|\bfeat|\bft\b", re.IGNORECASE)
_ARTICLES = frozenset(["the", "a", "an"])


class Word(NamedTuple):
    """A word of a text: as it is compared, and where it stands."""

    key: str
    start: int
    end: int


def words_of(text: str) -> list[Word]:
    """The words of a text, with `&` and `+` as `and`."""
    return [Word(_key(one.group()), one.start(), one.end()) for one in _WORD.finditer(text)]


def keys_of(text: str) -> Words:
    """The words of a text as they are compared."""
    if text.isascii():
        plain = text.lower().replace("'", "").replace("`", "")
        return tuple(["and" if word in "&+" else word for word in _ASCII_WORD.findall(plain)])
    return tuple(_key(word) for word in _WORD.findall(text))


def _key(word: str) -> str:
    if word in ("&", "+"):
        return "and"
    if word.isascii():
        return word.replace("'", "").replace("`", "").lower()
    plain = unicodedata.normalize("NFKD", word).casefold()
    kept = "".join(char for char in plain if not unicodedata.combining(char))
    return _APOSTROPHES.sub("", kept) or word


class TrackNames(NamedTuple):
    """How a track may be named.

    Args:
        titles (`frozenset[Words]`): Its title: whole, without brackets, guests or editions, and
            what stands in brackets.
        artists (`frozenset[Words]`): Its artists: each, and all together; guests that its title
            names too.
        others (`frozenset[Words]`): Its album and tags.
    """

    titles: frozenset[Words]
    artists: frozenset[Words]
    others: frozenset[Words]


def names_of(track: Track) -> TrackNames:
    """How a track may be named."""
    return _names(track.title, track.artist, track.album, track.tags)


@lru_cache(maxsize=4096)
def _names(title: str, artist: str, album: str | None, tags: tuple[str, ...]) -> TrackNames:
    names = [artist, *_GUEST_NAMES.findall(title)]
    artists = {keys_of(part) for one in names for part in (one, *_MORE_ARTISTS.split(one))}
    artists |= {words[1:] for words in artists if words[:1] == ("the",)}
    albums = title_forms(album) if album else set()
    others = albums | {keys_of(tag) for tag in tags}
    return TrackNames(
        frozenset(title_forms(title)),
        frozenset(artists - {()}),
        frozenset(others - {()}),
    )


def artist_parts(artist: str) -> set[Words]:
    """The single artists of a string that names several, such as `"X, Y & Z feat. V"`."""
    parts = {keys_of(part) for part in _MORE_ARTISTS.split(artist)}
    return parts - {(), keys_of(artist)}


def title_forms(title: str) -> set[Words]:
    """The forms in which a title is written."""
    if not _PARTS.search(title):
        words = keys_of(title)
        short = {words[1:]} if len(words) > 2 and words[0] in _ARTICLES else set()
        return {words, *short} - {()}
    bare = _BRACKETS.sub(" ", title)
    forms = {title, bare, _DASH.sub("", title), _DASH.sub("", bare), _GUESTS.sub("", bare)}
    forms.add(_GUEST_BRACKETS.sub(" ", title))
    forms |= {part for one in (title, bare) for part in re.split(r"\s+/\s+", one)}
    inside = [part for part in _BRACKETS.findall(title) if not _EDITION.search(part)]
    keys = {keys_of(form) for form in (*forms, *inside)}
    if len(inside) and keys_of(title):
        keys -= {keys_of(part) for part in inside if len(keys_of(part)) < 2}
    keys |= {words[1:] for words in keys if len(words) > 2 and words[0] in _ARTICLES}
    return keys - {()}
