"""Which tracks of a catalog a request names: by artist, title or album."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from talkplay_hf.catalog import name_cues as cues
from talkplay_hf.catalog.matcher import BoolArray
from talkplay_hf.catalog.name_index import NameIndex, Span
from talkplay_hf.catalog.name_words import keys_of, words_of
from talkplay_hf.catalog.schema import Catalog

# words that titles write small
_SMALL = frozenset(
    [
        *("a", "an", "and", "as", "at", "but", "by", "for", "from", "in", "of", "on", "or", "the"),
        *("to", "with", "x", "de", "la", "le", "el", "y"),
    ]
)
_QUOTES = re.compile(
    r"\"([^\"\n]{1,120})\"|“([^“”\n]{1,120})”|„([^„“”\n]{1,120})[“”]|«([^«»\n]{1,120})»"
    r"|(?<!\w)['‘]([^'‘’\n]{1,80})['’](?!\w)"
)
_THEN_ARTIST = re.compile(
    r"[.!?]?[\"'”’»*)]*(?:,?\s*(?:(?:the|that)\s+one\s+)?(?:performed\s+|sung\s+)?"
    r"(?:by|from|von|par|por|de)\s+|\s*[-–—,(]\s*)(?:the\s+artist\s+)?[\"'“‘«*(!¡]*",
    re.IGNORECASE,
)
_THEN_TITLE = re.compile(
    r"(?:['’]s?)?[\"”)]*\s*(?:[-–—:,]\s*|\s)(?:(?:the\s+)?(?:song|track|album)\s+|called\s+"
    r"|with\s+)*[\"'“‘«*(]*",
    re.IGNORECASE,
)
_LISTED = re.compile(
    r"[\"'”’»*)]*\s*(?:,|,?\s(?:and|or|nor|und|oder|y|o|et|ou|e)\s|&|/|\+)\s*(?:also\s+)?(?:by\s+"
    r"|from\s+|some\s+|a bit of\s+)*[\"'“‘«*(]*",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Names:
    """The tracks that a text names, as catalog rows in rising order, by what it names of them.

    Args:
        artists (`tuple[int, ...]`): Tracks of the artists.
        titles (`tuple[int, ...]`): Tracks with the titles.
        albums (`tuple[int, ...]`): Tracks of the albums.
    """

    artists: tuple[int, ...] = ()
    titles: tuple[int, ...] = ()
    albums: tuple[int, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.artists or self.titles or self.albums)

    def within(self, allowed: BoolArray) -> BoolArray | None:
        """The named tracks among those allowed.

        What fits all that is named comes first; where nothing does, the titles, then the artists,
        then the albums.

        Args:
            allowed (`np.ndarray` of shape `[n]`, bool): Which tracks may be chosen.

        Returns:
            `np.ndarray` of shape `[n]`, bool, *optional*: Some of `allowed`; `None` where it holds
            no named track.
        """
        if not self:
            return None
        kinds = [rows for rows in (self.titles, self.artists, self.albums) if rows]
        masks = []
        for rows in kinds:
            mask = np.zeros_like(allowed)
            mask[list(rows)] = True
            masks.append(mask & allowed)
        masks.insert(0, np.logical_and.reduce(masks))
        return next((mask for mask in masks if mask.any()), None)


class NameFinder:
    """Finds the tracks of a catalog that a request names.

    Names are compared as whole words without case, accents and punctuation, and the longest one
    wins. Names that are ordinary words or tags of the catalog count only after a cue such as "by".
    Names that a request does not want ("not by ..."), corrects, or only compares with ("like ...")
    do not count.

    Args:
        catalog (`Catalog`): The catalog; its names are read once.
    """

    def __init__(self, catalog: Catalog) -> None:
        self._index = NameIndex(catalog)

    def find(self, text: str) -> Names:
        """The tracks that a text names.

        Args:
            text (`str`): What the user says.
        """
        return _Reading(self._index, text).names()


class _Reading:
    """One text, and which of the names in it count."""

    def __init__(self, index: NameIndex, text: str) -> None:
        self.index, self.text = index, text
        self.words = words_of(text)
        keys = [word.key for word in self.words]
        shorter = {
            at: word.key[:-1]
            for at, word in enumerate(self.words)
            if text[word.start : word.end].lower().endswith(("'s", "’s"))
        }
        self.spans = list(index.spans(keys, shorter))
        self.quotes = [match.span() for match in _QUOTES.finditer(text)] if self.spans else []
        written = [word for word in self.words if text[word.start].isalpha()]
        capitals = sum(text[word.start].isupper() for word in written)
        # where all words have capitals, these say nothing
        self.cased = 3 * capitals <= 2 * len(written) or capitals < 3

    def names(self) -> Names:
        rows: dict[str, set[int]] = {"artist": set(), "title": set(), "album": set()}
        if self.spans:
            for one in self._wanted(self._chosen()):
                rows[one.kind] |= set(one.rows)
        return Names(*(tuple(sorted(rows[kind])) for kind in ("artist", "title", "album")))

    def _start(self, one: Span) -> int:
        return self.words[one.first].start

    def _end(self, one: Span) -> int:
        return self.words[one.end - 1].end

    def _chosen(self) -> list[Span]:
        """The names that count by themselves, longest first, none within another."""
        found: list[tuple[int, int, int, tuple[Span, ...]]] = []
        artists = [one for one in self.spans if one.kind == "artist"]
        listed: list[Span] = []
        for one in self.spans:
            if one.kind == "tag":
                found.append((one.end - one.first, 2, -one.first, (one,)))
                continue
            rank = self._rank(one, listed)
            if rank is not None:
                found.append((one.end - one.first, rank, -one.first, (one,)))
                if one.kind == "artist":
                    listed.append(one)
            if one.kind != "artist":
                found += self._pairs(one, artists)
        found.sort(key=lambda each: each[:3], reverse=True)
        taken = [False] * len(self.words)
        chosen: list[Span] = []
        for *_, spans in found:
            if any(any(taken[one.first : one.end]) for one in spans):
                continue
            for one in spans:
                taken[one.first : one.end] = [True] * (one.end - one.first)
                if one.kind != "tag":
                    chosen.append(one)
        return sorted(chosen)

    def _pairs(
        self, one: Span, artists: list[Span]
    ) -> Iterable[tuple[int, int, int, tuple[Span, ...]]]:
        """A title or an album beside its artist."""
        for artist in artists:
            if one.end <= artist.first:
                first, pattern, last = one, _THEN_ARTIST, artist
            elif artist.end <= one.first:
                first, pattern, last = artist, _THEN_TITLE, one
            else:
                continue
            between = self.text[self._end(first) : self._start(last)]
            if not pattern.fullmatch(between):
                continue
            if first is artist and not between.strip() and not self.index.telling(one.keys):
                continue
            rows = tuple(sorted({*one.rows} & {*artist.rows}))
            if rows:
                both = one._replace(rows=rows), artist
                length = one.end - one.first + artist.end - artist.first
                yield length, 4 + (one.kind == "title"), -first.first, both

    def _rank(self, one: Span, listed: list[Span]) -> int | None:
        """Which of several readings of the same words comes first; `None` where it is none."""
        start, end = self._start(one), self._end(one)
        quoted = any(
            first < start and end < last and self._fills(one, first, last)
            for first, last in self.quotes
        )
        if one.kind == "artist":
            return self._artist_rank(one, listed, quoted)
        if one.kind == "album":
            written = quoted or self._capitals(one)
            after = cues.says_album(self.text, start) and (written or self.index.telling(one.keys))
            ahead = cues.is_album(self.text, end) and (written or self.index.unusual(one.keys))
            if after or ahead:
                return 7
            return 0 if quoted or self._tells(one) else None
        due = cues.says_title(self.text, start)
        if due and (quoted or self.index.telling(one.keys) or self._capitals(one)):
            return 6
        return 1 if quoted or self._tells(one) else None

    def _artist_rank(self, one: Span, listed: list[Span], quoted: bool) -> int | None:
        start = self._start(one)
        if cues.says_artist(self.text, start):
            return 7
        if self.index.unusual(one.keys) or quoted:
            return 3
        if self.index.is_tag(one.keys):
            return None
        capital = self._capitals(one)
        if capital and (len(one.keys) > 1 or cues.says_from(self.text, start)):
            return 3
        beside = any(
            _LISTED.fullmatch(self.text[self._end(other) : start])
            for other in listed
            if other.end <= one.first
        )
        return 3 if beside and (capital or not self.cased) else None

    def _fills(self, one: Span, first: int, last: int) -> bool:
        """Whether a name is all that stands between quotes."""
        inside = keys_of(self.text[first:last])
        return len(inside) == one.end - one.first

    def _tells(self, one: Span) -> bool:
        """Whether a title alone is one, not prose."""
        length, telling = one.end - one.first, self.index.telling(one.keys)
        if self.index.is_tag(one.keys):
            return False
        if length > 1 and telling and self._capitals(one):
            return True
        return length > 3 and telling > 2

    def _capitals(self, one: Span) -> bool:
        """Whether a name is written with capitals that say so."""
        if not self.cased:
            return False
        telling = False
        for at in range(one.first, one.end):
            letter = self.text[self.words[at].start]
            if self.words[at].key in _SMALL and at > one.first:
                continue
            if letter.islower():
                return False
            telling |= not self._opens(at)
        # words of a longer name that is not known are none
        before, after = one.first - 1, one.end
        if before >= 0 and not self._opens(before) and self._runs_on(before, one.first):
            return False
        return telling and not (after < len(self.words) and self._runs_on(after - 1, after))

    def _runs_on(self, at: int, after: int) -> bool:
        """Whether two words with capitals stand side by side."""
        words = [self.words[at], self.words[after]]
        if self.text[words[0].end : words[1].start] != " " or words[1].key in ("i", "im"):
            return False
        return all(self.text[word.start].isupper() and word.key != "i" for word in words)

    def _opens(self, at: int) -> bool:
        """Whether a word begins a sentence."""
        return not re.search(r"\w", cues.before(self.text, self.words[at].start))

    def _wanted(self, chosen: list[Span]) -> list[Span]:
        """The names that are asked for."""
        wanted: list[Span] = []
        previous: tuple[Span, bool, bool] | None = None
        for one in chosen:
            start, end = self._start(one), self._end(one)
            unwanted = cues.is_unwanted(self.text, start, end)
            compared = not unwanted and cues.is_compared(self.text, start, end)
            if previous is not None and not (unwanted or compared):
                other, refused, similar = previous
                between = self.text[self._end(other) : start]
                listed = _LISTED.fullmatch(between) is not None
                beside = other.kind != "artist" and _THEN_ARTIST.fullmatch(between) is not None
                # "not this, that" wants that
                unwanted = refused and ((listed and "," not in between) or beside)
                compared = similar and (listed or beside)
            previous = one, unwanted, compared
            if not (unwanted or compared):
                wanted.append(one)
        slip = cues.last_slip(self.text)
        corrected = {one.kind for one in wanted if self._start(one) >= slip >= 0}
        return [one for one in wanted if self._start(one) >= slip or one.kind not in corrected]
