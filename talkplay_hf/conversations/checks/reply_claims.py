"""Which tracks a reply names: none but the one that is played and those before it.

A wrong name teaches a model to say one thing and play another. Names are found by rules: a title
in quotes, `Title by Artist`, `Title - Artist`, and the titles of the piece that are not played.
"""

import re
from collections.abc import Iterable, Sequence

from talkplay_hf.catalog.name_words import keys_of
from talkplay_hf.catalog.schema import Track
from talkplay_hf.conversations.checks.reply_text import COMPARED, WORDS, PieceNames, ReplyText

_TITLE_QUOTES = "『《"
# what a request to listen says right before a title
_OFFER = re.compile(
    r"(?:\b(?:here(?:'s|’s| is| comes)|try|play|playing|go(?:ing)? with|about|maybe|perhaps|suggest"
    r"|recommend|next(?: up)?(?: is|,|:)|called|titled|named|check out|listen to|spin(?:ning)?"
    r"|queue(?:d)?(?: up)?|cue(?:d)?(?: up)?|put on|drop(?:ping)?|give you|give|hear|enjoy|pick is"
    r"|this is|with|song|track|tune|single|added|picked|chose|choose|got|have)\b:?"
    r"|\b(?:pick|choice|up|next|recommendation|suggestion|title):)\s*[\"'“‘*(]*$",
    re.IGNORECASE,
)
_NAMED = re.compile(r"\b(?:called|titled|named|song|track|tune|single)[ ,:]*[\"'“‘*]*$", re.I)
_AS_WORD = re.compile(r"\s+(?:is|was|would be) (?:\w+ ){0,3}(?:word|term)\b")
_GUESTS = re.compile(r"\s[(\[](?:feat|ft|featuring|with)\b[^()\[\]\n]{1,80}[)\]][\"”’'*]*\s$", re.I)
_DASH = re.compile(r"\s[-–—]\s")
_BY = frozenset(["by", "von", "de", "por", "par", "di", "door", "av"])
_PERFORMED = frozenset(["performed", "played", "recorded", "sung"])


class ReplyReader:
    """Finds wrongly named tracks in the replies of one conversation.

    Args:
        tracks (`Iterable[Track]`): All tracks of the piece, its negative set included.
    """

    def __init__(self, tracks: Iterable[Track]) -> None:
        self.piece = PieceNames(tracks)

    def wrong_name(self, reply: str, heard: Iterable[str], said: Sequence[str] = ()) -> str | None:
        """What a reply names wrongly, in words; `None` where it names nothing wrongly.

        Args:
            reply (`str`): The reply.
            heard (`Iterable[str]`): The id of the track that is played and of those before it.
            said (`Sequence[str]`): What the user said so far. A title of the user's may be compared
                with ("if you like ..."), but not offered.
        """
        rows = {self.piece.rows[one] for one in heard}
        return _Claims(self.piece, reply, rows, said).wrong_name()


class _Claims(ReplyText):
    """What one reply claims to play."""

    def wrong_name(self) -> str | None:
        for finder in (self._quoted_title, self._known_title, self._by, self._dash):
            title = finder()
            if title is not None:
                return title
        return None

    def _known_title(self) -> str | None:
        """A title of the piece that was not heard yet."""
        for one in self.wrong:
            start, end = self.words[one.first].start, self.words[one.end - 1].end
            before = self.before(start)
            text = self.text(one.first, one.end)
            if self.echoes(one.first, one.end) and COMPARED.search(before):
                continue
            length = one.end - one.first
            after = self.reply[end : end + 1]
            next_word = self.words[one.end].key if one.end < len(self.words) else ""
            following = re.match(
                r"[\"'”’*»)\]]*(?:\s*\([^)]*\))?,?\s+\(?(?:(?:performed|played|recorded|sung) )?"
                r"(?:by|from)\s",
                self.reply[end:],
            )
            bracket = re.match(r"[\"'”’*»]*\s+\(", self.reply[end:])
            if bracket and self.capital(one.first):
                name = self.artist_after(end + bracket.end())
                if name is not None and self.fits([one.track], name[1]):
                    return text
            if following:
                name = self.artist_after(end + following.end())
                if name is not None and (
                    self.fits([one.track], name[1]) or self.is_title_case(one.first, one.end)
                ):
                    return text
            cased = self.is_title_case(one.first, one.end)
            exact = any(first == one.first and last == one.end for _, _, first, last in self.quotes)
            if exact and (length >= 3 or cased or not text.isascii() or _OFFER.search(before)):
                return text
            if not cased:
                continue
            owner = re.search(r"([^\s]+)['’]s?\s+[\"'“‘*]*$", before)
            if owner and any(
                keys_of(owner.group(1))[-1:] == words[-1:] for words in self.piece.artists
            ):
                return text
            ends = not after or after in ",.!?;:)*\"”’'—–\n" or next_word in WORDS["after_title"]
            if length >= 3 or (ends and _OFFER.search(before)):
                return text
            if length >= 2 and not before.strip() and next_word in WORDS["after_title"]:
                return text
        return None

    def _quoted_title(self) -> str | None:
        for start, end, first, last in self.quotes:
            keys = tuple(word.key for word in self.words[first:last])
            text = self.text(first, last)
            if any(
                keys == tuple(w.key for w in self.words[one.first : one.end])
                for one in self.right
                if one.first >= first and one.end <= last
            ):
                continue
            # an album, a tag, an artist, or a nickname within one: Evelyn "Champagne" King
            if any(begin <= first and last <= end_ for begin, end_ in self.name_spans):
                continue
            rest = [
                word.key
                for at, word in enumerate(self.words[first:last], first)
                if not self.covered[at]
            ]
            artist_words = {word for words in self.piece.artists for word in words}
            if len(rest) < last - first and all(
                key in WORDS["glue"] or key in artist_words for key in rest
            ):
                continue
            if self.is_near(keys):
                continue
            before = self.before(start)
            echo = self.echoes(first, last)
            if echo and COMPARED.search(before):
                continue
            if self.followed_by_artist(end) and not re.match(
                r"\s*[,.]?\s*(?:said|says)", self.reply[end:]
            ):
                return text
            if self.in_lyrics(keys) or _AS_WORD.match(self.reply, end):
                continue
            if not self.is_title_case(first, last):
                # titles outside English have one capital
                offered = self.capital(first) and last - first > 1 and _OFFER.search(before)
                named = self.reply[start] in _TITLE_QUOTES or _NAMED.search(before)
                if not echo and (named or offered):
                    return text
                continue
            if echo and not _OFFER.search(before):
                continue
            previous = re.search(r"([\w-]+)\s*$", before)
            following = self.words[last].key if last < len(self.words) else ""
            between = self.reply[end : self.words[last].start] if following else ""
            style = following in WORDS["after_other_quotes"] or following in WORDS["genres"]
            if style and not between.strip(" -"):
                continue
            if previous and previous[1].lower() in WORDS["before_other_quotes"]:
                continue
            return text
        return None

    def _by(self) -> str | None:
        """`Title by Artist` with another title, or with another artist."""
        for at in range(1, len(self.words) - 1):
            word = self.words[at]
            if word.key not in _BY or self.reply[word.start].isupper() or self.covered[at]:
                continue
            # "Trampled by Turtles" is one name
            if any(first < at < end - 1 for first, end in self.name_spans):
                continue
            # a small "by" is within a sentence, so that a mark before it is of the title
            if re.search(r"[;:\n]", self.reply[self.words[at - 1].end : word.start]):
                continue
            name = self.artist_after(word.end)
            if name is None or (word.key != "by" and not self.quoted[at - 1]):
                continue
            performed = self.words[at - 1].key in _PERFORMED
            at -= performed
            if at == 0:
                continue
            ends = [one for one in self.right if one.end == at]
            if not ends and (guests := _GUESTS.search(self.reply, 0, word.start)):
                at = next(n for n, one in enumerate(self.words) if one.end > guests.start())
                if at == 0:
                    continue
                ends = [one for one in self.right if one.end == at]
            if ends:
                if self.fits({one.track for one in ends}, name[1]):
                    continue
                first = min(one.first for one in ends)
                if self.quoted[at - 1] or self.capital(first) or at - first > 1:
                    artist = self.text(name[1], min(name[1] + 2, len(self.words)))
                    return f"{self.text(first, at)} by {artist}"
                continue
            title = self._run_before(at) or self._offered_before(at)
            # one word is a title here only by its track, not "Vocals performed by"
            if title is not None and performed and len(keys_of(title)) == 1:
                continue
            if title is not None and not self.compares(title):
                return title
        return None

    def _offered_before(self, end: int) -> str | None:
        """A title that does not end with a capital: what stands between an offer and "by"."""
        for first in range(end - 1, max(0, end - 6), -1):
            gap = self.reply[self.words[first].end : self.words[min(first + 1, end - 1)].start]
            if re.search(r"[,.;:!?\n]", gap):
                return None
            if self.capital(first) and _OFFER.search(self.before(self.words[first].start)):
                keys = [word.key for word in self.words[first:end]]
                generic = any(key in WORDS["before_by"] for key in keys[1:])
                known = any(begin <= first < until for begin, until in self.name_spans)
                verb = keys[-1].endswith(("ed", "ing"))
                return None if generic or known or verb else self.text(first, end)
        return None

    def _run_before(self, end: int) -> str | None:
        """The words with capitals that end before a word, where they can be a title."""
        last = end - 1
        word = self.words[last]
        if not self.capital(last) or re.fullmatch(r"\d+s", word.key):
            return None
        first = last
        while first > 0:
            gap = self.reply[self.words[first - 1].end : self.words[first].start]
            if not re.fullmatch(r"[ ,'’&+/()\-]{0,3}", gap):
                break
            if not (self.capital(first - 1) or self.words[first - 1].key in WORDS["small_words"]):
                break
            first -= 1
        while first < last and not self.capital(first):
            first += 1
        keys = tuple(one.key for one in self.words[first:end])
        if any(self.covered[first:end]) and self.is_near(keys):
            return None
        if all(key in WORDS["genres"] or key in WORDS["small_words"] for key in keys):
            return None
        if any(tail in self.piece.artists or tail in self.others for tail in (keys, keys[1:])):
            return None
        if any(self.is_near(keys[begin:]) for begin in range(len(keys))):
            return None
        starts_sentence = not self.before(self.words[first].start).strip(" \"'“‘*(")
        if (
            starts_sentence
            and len(keys) == 1
            and (keys[0] in WORDS["before_by"] or keys[0].endswith("ed"))
        ):
            return None
        if len(keys) == 1 and (keys[0] in ("i", "ok") or keys[0] in WORDS["before_by"]):
            return None
        previous = self.words[first - 1].key if first else ""
        if keys[0].isdigit() and len(keys) == 1 and previous in ("in", "from", "of", "since"):
            return None
        return self.text(first, end)

    def _dash(self) -> str | None:
        """`Title - Artist` or `Artist - Title` with another title or artist."""
        for match in _DASH.finditer(self.reply):
            at = next((n for n, one in enumerate(self.words) if one.start >= match.end()), None)
            if not at or self.words[at - 1].end > match.start():
                continue
            if self.covered[at] and self.covered[at - 1]:
                continue
            titles = {one.track for one in self.right if one.first == at}
            artists = [words for words in self.piece.artists if self.ends_with(at, words)]
            if titles and artists:
                longest = max(map(len, artists))
                if self.capital(at - longest) and not self.fits(self.heard, at - longest):
                    return f"{self.text(at - longest, at)} - {self.text(at, at + 1)}"
            clause = re.split(r"[.!?\n;:](?:\s|$)", self.reply[match.end() :])[0]
            right = keys_of(clause)
            if not right or not self.is_title_case(at, at + len(right)):
                continue
            left_titles = [one for one in self.right if one.end == at]
            left_artist = any(self.ends_with(at, words) for words in self.piece.artists)
            if right in self.piece.artists:
                if left_titles:
                    if not self.fits({one.track for one in left_titles}, at):
                        return f"{self.text(at - 1, at)} - {clause}"
                    continue
                if left_artist:
                    continue
                title = self._run_before(at)
                if title is not None:
                    return title
            elif left_titles:
                if len(right) <= 6 and not self.fits({one.track for one in left_titles}, at):
                    return f"{self.text(left_titles[0].first, at)} - {clause}"
            elif left_artist:
                if (
                    right not in self.right_titles
                    and not self.is_near(right)
                    and not any(self.covered[at : at + len(right)])
                ):
                    return clause
            elif len(right) <= 6 and not _DASH.search(f"{self.before(match.start())}|{clause}"):
                title = self._run_before(at)
                if title is not None and (
                    _OFFER.search(self.before(self.words[at - len(keys_of(title))].start))
                    or not self.before(self.words[at - len(keys_of(title))].start).strip()
                ):
                    return title
        return None
