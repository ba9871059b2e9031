"""Whether a reply speaks about the track that is played, and not about another one.

A reply may be fluent and still be about something else. Names are compared as the checks of
synthetic conversations compare them: whole words, without case, accents and punctuation, with and
without guests and editions. Many titles are everyday words, so a name counts only where the reply
writes it as a name.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from talkplay_hf.catalog.name_words import Words, keys_of, names_of
from talkplay_hf.catalog.schema import Catalog, Track
from talkplay_hf.conversations.checks.reply_claims import ReplyReader
from talkplay_hf.conversations.checks.reply_text import COMPARED, WORDS, PieceNames, ReplyText
from talkplay_hf.conversations.quality.diversity import distinct_n
from talkplay_hf.evaluation.metrics.ranking import FloatArray

Span = tuple[int, int]

# so many tracks of one title are told apart by their artists
_SAME_TITLE = 20
# a title in small letters is one from so many words on, an artist from two
_LONG = 4
_PRONOUNS = frozenset(["i", "im", "ive", "id", "ill"])
# what stands between a title and its artist
_PERFORMED = re.compile(
    r"[\"'”’*»)\]]*\s*(?:[,(]?\s*(?:performed |sung )?(?:by|from)\s|[,(\-–—])\s*[\"“‘*«]*",
    re.IGNORECASE,
)
# what offers the name after it as that of the track
_OFFER = re.compile(
    r"\b(?:by|try|play|playing|here(?:'s|’s| is| comes)|this is|it(?:'s|’s| is)|go(?:ing)? with"
    r"|some|from)\s+(?:the\s+)?[\"“‘*]*$",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Spoken:
    """What a reply names of a track.

    Args:
        title (`bool`): Its title.
        artist (`bool`): One of its artists.
        tag (`bool`): One of its tags.
    """

    title: bool
    artist: bool
    tag: bool


def speaks_of(reply: str, track: Track) -> Spoken:
    """What a reply names of a track.

    A title or an artist counts in quotes, with capitals within a sentence, or where the artist
    stands beside the title; a title of four words and an artist of two count in small letters too.
    A tag counts wherever it stands, but not as a word of the title or of an artist.

    Args:
        reply (`str`): The reply.
        track (`Track`): The track that is played with it.
    """
    text = ReplyText(PieceNames([track]), reply, {0}, ())
    names = names_of(track)
    found = _spans(text, names.titles)
    performers = _spans(text, names.artists)
    pairs = {(title, artist) for title in found for artist in performers}
    pairs = {pair for pair in pairs if _beside(text, *pair)}
    beside = {span for pair in pairs for span in pair}
    artists = {span for span in performers if span in beside or _is_artist(text, *span)}
    by_artist = {at for first, end in artists for at in range(first, end)}
    titles = {span for span in found if span in beside or _is_title(text, *span, known=by_artist)}
    # an artist's own name as a title, or a guest within one
    titles = {span for span in titles if span in beside or not by_artist >= set(range(*span))}
    taken = by_artist | {at for first, end in titles for at in range(first, end)}
    keys = {words for tag in track.tags for words in (keys_of(tag), ("".join(keys_of(tag)),))}
    tags = [span for span in _spans(text, keys - {(), ("",)}) if not taken & {*range(*span)}]
    return Spoken(bool(titles), bool(artists), bool(tags))


class CatalogNames:
    """Finds the names of other tracks of a catalog in replies.

    Args:
        catalog (`Catalog`): The catalog; its titles and artists are read once.
    """

    def __init__(self, catalog: Catalog) -> None:
        self.catalog = catalog
        self._titles: dict[Words, list[int]] = {}
        self._artists: dict[Words, int] = {}
        columns = (catalog.column("title"), catalog.column("artist"))
        for row, (title, artist) in enumerate(zip(*columns, strict=True)):
            names = names_of(Track("", title, artist))
            for words in names.titles:
                self._titles.setdefault(words, []).append(row)
            for words in names.artists:
                self._artists.setdefault(words, row)
        self._longest = max(map(len, (*self._titles, *self._artists)), default=0)

    def named_instead(
        self, reply: str, track: int, heard: Iterable[int] = (), said: Sequence[str] = ()
    ) -> str | None:
        """A title or an artist that a reply gives as what is played, and that is another one.

        Titles are found by the rules of `ReplyReader`, made-up ones in quotes among them. Names
        that are compared with ("in the vein of ...") do not count, nor do titles heard before, nor
        artists heard before or brought up by the user, unless they are offered ("by ...").

        Args:
            reply (`str`): The reply.
            track (`int`): The catalog row of the track that is played.
            heard (`Iterable[int]`): The rows of tracks played before.
            said (`Sequence[str]`): What the user has said.

        Returns:
            `str`, *optional*: The name as the reply writes it; `None` where there is none.
        """
        right = list(dict.fromkeys([track, *heard]))
        text = ReplyText(PieceNames([]), reply, set(), said)
        keys = [word.key for word in text.words]
        spans = [
            (first, end)
            for first in range(len(keys))
            if text.quoted[first] or not reply[text.words[first].start].islower()
            for end in range(first + 1, min(len(keys), first + self._longest) + 1)
        ]
        titles = {tuple(keys[a:b]) for a, b in spans} & self._titles.keys()
        others = {row for words in titles for row in self._titles[words][:_SAME_TITLE]}
        artists = {span for span in spans if _plain(text, *span) in self._artists}
        others |= {self._artists[_plain(text, *span)] for span in artists}
        tracks = [self.catalog.track_at(row) for row in dict.fromkeys([*right, *sorted(others)])]
        title = ReplyReader(tracks).wrong_name(
            reply, [t.track_id for t in tracks[: len(right)]], said
        )
        return title or self._other_artist(reply, artists, tracks[: len(right)], said)

    def _other_artist(
        self, reply: str, artists: set[Span], right: Sequence[Track], said: Sequence[str]
    ) -> str | None:
        """An artist who is none of the tracks that were heard."""
        text = ReplyText(PieceNames(right), reply, set(range(len(right))), said)
        played, *heard = map(names_of, right)
        own = _spans(text, played.titles | played.artists | played.others)
        before_this: set[Span] = set()
        for one in heard:
            titles, performers = _spans(text, one.titles), _spans(text, one.artists)
            own |= titles | {
                span for span in performers if any(_beside(text, t, span) for t in titles)
            }
            before_this |= performers
        for first, end in sorted(artists, key=lambda span: span[0] - span[1]):
            if any(begin < end and first < until for begin, until in own):
                continue
            own.add((first, end))
            before = text.before(text.words[first].start)
            offered = _OFFER.search(before) is not None
            known = (first, end) in before_this or text.echoes(first, end)
            if not offered and (known or COMPARED.search(before)):
                continue
            alone = end - first == 1
            key = text.words[first].key
            if alone and (not offered or key in WORDS["genres"] or key in WORDS["small_words"]):
                continue
            if _as_name(text, first, end) and not _in_longer_name(text, first, end, set()):
                return text.text(first, end)
        return None


def reply_values(
    replies: Sequence[str],
    tracks: Sequence[int],
    heard: Sequence[Sequence[int]],
    said: Sequence[Sequence[str]],
    names: CatalogNames,
) -> dict[str, FloatArray]:
    """For each reply, what it names, as 0 or 1; the mean over replies is the share.

    Args:
        replies (`Sequence[str]`): One reply a turn.
        tracks (`Sequence[int]`): The catalog row of the track that is played with each.
        heard (`Sequence[Sequence[int]]`): The rows of the tracks played before each.
        said (`Sequence[Sequence[str]]`): What the user had said before each.
        names (`CatalogNames`): The names of the catalog.

    Returns:
        `dict[str, numpy.ndarray]`: Each of shape `(replies,)`, float64: `"title"`, `"artist"`,
        `"tag"`, `"about"` (any of these), and `"other"` (another title or artist instead).
    """
    rows = []
    for reply, track, before, words in zip(replies, tracks, heard, said, strict=True):
        spoken = speaks_of(reply, names.catalog.track_at(track))
        parts = (spoken.title, spoken.artist, spoken.tag)
        rows.append(
            (*parts, any(parts), names.named_instead(reply, track, before, words) is not None)
        )
    table = np.array(rows, dtype=np.float64).reshape(-1, 5)
    return dict(zip(("title", "artist", "tag", "about", "other"), table.T.copy(), strict=True))


def distinctness(replies: Sequence[str]) -> dict[str, float]:
    """Different words over all words of the replies, and different pairs of words over all pairs.

    Distinct-1 and distinct-2 of Li et al. (NAACL 2016). Both fall as replies are added, so only
    systems with the same number of replies can be compared.

    Args:
        replies (`Sequence[str]`): The replies.

    Returns:
        `dict[str, float]`: `"distinct-1"` and `"distinct-2"`, without one that has nothing to
        count.
    """
    found = {f"distinct-{n}": distinct_n(replies, n) for n in (1, 2)}
    return {name: value for name, value in found.items() if value is not None}


def _owner(text: ReplyText, at: int) -> str:
    """A word as it is compared, without the "'s" of who owns what follows."""
    word = text.words[at]
    return word.key[:-1] if text.reply[word.end - 2 : word.end] in ("'s", "’s") else word.key


def _plain(text: ReplyText, first: int, end: int) -> Words:
    """The words of a span as they are compared, the last one without "'s"."""
    return (*(word.key for word in text.words[first : end - 1]), _owner(text, end - 1))


def _spans(text: ReplyText, names: Iterable[Words]) -> set[Span]:
    """Where any of these names stands, as the numbers of its first and next word."""
    keys = [word.key for word in text.words]
    spans = set()
    for name in names:
        head, last = list(name[:-1]), name[-1]
        for at in range(len(keys) - len(head)):
            end = at + len(head)
            if keys[at:end] == head and last in (keys[end], _owner(text, end)):
                spans.add((at, end + 1))
    return spans


def _as_name(text: ReplyText, first: int, end: int) -> bool:
    """Whether these words are written as a name: in quotes, or with capitals that say so."""
    if all(text.quoted[first:end]):
        return True
    written = text.text(first, end)
    if not any(char.isalpha() for char in written) or text.words[first].key in _PRONOUNS:
        return False
    if written.lower() == written.upper():
        return True  # a script without capitals
    starts = not text.before(text.words[first].start).strip(" \"'“‘*(«")
    return text.is_title_case(first + 1 if starts else first, end)


def _is_artist(text: ReplyText, first: int, end: int) -> bool:
    if _as_name(text, first, end):
        return True
    words = [word.key for word in text.words[first:end]]
    if len(words) > 1:
        return words[0] not in WORDS["small_words"]
    following = text.words[end].key if end < len(text.words) else ""
    owns = _owner(text, end - 1) != words[-1]
    goes_on = following in WORDS["after_title"] or following == "with"
    return text.capital(first) and words[0] not in _PRONOUNS and (owns or goes_on)


def _is_title(text: ReplyText, first: int, end: int, known: set[int]) -> bool:
    if end - first >= _LONG or all(text.quoted[first:end]):
        return True
    return _as_name(text, first, end) and not _in_longer_name(text, first, end, known)


def _in_longer_name(text: ReplyText, first: int, end: int, known: set[int]) -> bool:
    """Whether a word with a capital that is no known name touches this name."""
    if first > 0 and first - 1 not in known and text.capital(first - 1):
        gap = text.reply[text.words[first - 1].end : text.words[first].start]
        starts = not text.before(text.words[first - 1].start).strip(" \"'“‘*(«")
        if gap == " " and not starts:
            return True
    if end < len(text.words) and end not in known and text.capital(end):
        return text.reply[text.words[end - 1].end : text.words[end].start] == " "
    return False


def _beside(text: ReplyText, title: Span, artist: Span) -> bool:
    """Whether these are `title by artist`, `title - artist` or `artist's title`."""
    if title[1] <= artist[0]:
        between = text.reply[text.words[title[1] - 1].end : text.words[artist[0]].start]
        return _PERFORMED.fullmatch(between) is not None
    if artist[1] != title[0]:
        return False
    between = text.reply[text.words[artist[1] - 1].end : text.words[title[0]].start]
    owns = _owner(text, artist[1] - 1) != text.words[artist[1] - 1].key
    return bool(re.fullmatch(r"\s+[\"“‘*«]*" if owns else r"\s*[-–—]\s*[\"“‘*«]*", between))
