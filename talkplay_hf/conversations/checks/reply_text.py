"""A reply of a conversation, and which tracks of its piece are named where in it."""

import re
from collections.abc import Iterable, Sequence
from difflib import SequenceMatcher
from pathlib import Path
from typing import NamedTuple

from talkplay_hf.catalog.name_words import Words, keys_of, names_of, words_of
from talkplay_hf.catalog.schema import Track
from talkplay_hf.hub import files

_QUOTES = re.compile(
    r"\"([^\"\n]{1,120})\"|“([^“”\n]{1,120})”|„([^„“”\n]{1,120})[“”]|«\s?([^«»\n]{1,120}?)\s?»"
    r"|「([^「」\n]{1,80})」|『([^『』\n]{1,80})』|《([^《》\n]{1,80})》"
    r"|\*\*([^*\n]{1,120})\*\*|(?<![\w*])\*([^\s*][^*\n]{0,120})\*(?![\w*])"
    r"|(?<!\w)['‘](?=[^\s'’])((?:[^'‘’\n]|(?<=\w)['’](?=\w)){1,100})(?<!\s)['’](?!\w)"
)
_SENTENCE_END = re.compile(r"[.!?…\n]")
WORDS = {
    name: frozenset(words.split())
    for name, words in files.read_json(Path(__file__).with_name("reply_words.json")).items()
}
# what says that a title is only compared with
COMPARED = re.compile(
    r"\b(?:like|likes?d?|loved?|enjoy(?:ed|ing)?|fans? of|similar to|reminiscent of|than|into"
    r"|mentioned|asked for|echoes|(?:vein|spirit|vibe|style|feel|mood) of|as|after|from|of|near|to"
    r"|in common with|alongside|pairs? (?:well )?with)\s+(?:the song |the track )?[\"'“‘*]*$",
    re.IGNORECASE,
)


class Named(NamedTuple):
    """A title of a known track in a reply, by the numbers of its first and next word."""

    first: int
    end: int
    track: int


class PieceNames:
    """The names of the tracks of a piece.

    Args:
        tracks (`Iterable[Track]`): All tracks of the piece, its negative set included.
    """

    def __init__(self, tracks: Iterable[Track]) -> None:
        tracks = list(tracks)
        self.rows = {track.track_id: row for row, track in enumerate(tracks)}
        self.tracks = tracks
        self.names = [names_of(track) for track in tracks]
        self.starts: dict[str, list[tuple[Words, int]]] = {}
        for row, names in enumerate(self.names):
            for words in names.titles:
                self.starts.setdefault(words[0], []).append((words, row))
        self.artists = {words for names in self.names for words in names.artists}


class ReplyText:
    """One reply, with what is known of its words.

    Args:
        piece (`PieceNames`): The names of the tracks of the piece.
        reply (`str`): The reply.
        heard (`set[int]`): The rows of the track that is played and of those before it.
        said (`Sequence[str]`): What the user said so far.
    """

    def __init__(self, piece: PieceNames, reply: str, heard: set[int], said: Sequence[str]) -> None:
        self.piece = piece
        self.reply = reply
        self.heard = heard
        self.said = [f" {' '.join(keys_of(text))} " for text in said]
        self.words = words_of(reply)
        self.right_titles = {words: row for row in heard for words in piece.names[row].titles}
        # the album of a track that is not heard may have the name of that track
        self.others = {words for row in heard for words in piece.names[row].others}
        self.covered = [False] * len(self.words)
        self.quoted = [False] * len(self.words)
        self.quotes = self._quotes()
        self._find()

    def _quotes(self) -> list[tuple[int, int, int, int]]:
        """Each quote: its characters, and the numbers of its first and next word."""
        quotes = []
        word = 0
        for match in _QUOTES.finditer(self.reply):
            while word < len(self.words) and self.words[word].end <= match.start():
                word += 1
            end = word
            while end < len(self.words) and self.words[end].end <= match.end():
                end += 1
            if end > word:
                quotes.append((match.start(), match.end(), word, end))
                for at in range(word, end):
                    self.quoted[at] = True
        return quotes

    def _find(self) -> None:
        """Find the titles of the piece, longest first; a right one hides what it contains."""
        keys = [word.key for word in self.words]
        spans = []
        for at, key in enumerate(keys):
            for words, row in self.piece.starts.get(key, ()):
                if tuple(keys[at : at + len(words)]) == words:
                    spans.append(Named(at, at + len(words), row))
        self.right = [one for one in spans if one.track in self.heard]
        for first, end, _ in self.right:
            self.covered[first:end] = [True] * (end - first)
        self.name_spans = {(first, end) for first, end, _ in self.right}
        for phrases in (self.piece.artists, self.others):
            for words in phrases:
                if words[0] in keys:
                    for at in range(len(keys) - len(words) + 1):
                        if tuple(keys[at : at + len(words)]) == words:
                            self.name_spans.add((at, at + len(words)))
        spans.sort(key=lambda one: one.first - one.end)
        self.wrong = [
            one
            for one in spans
            if one.track not in self.heard
            and not any(first <= one.first and one.end <= end for first, end in self.name_spans)
        ]

    def text(self, first: int, end: int) -> str:
        """The words from one number up to another, as they stand."""
        return self.reply[self.words[first].start : self.words[end - 1].end]

    def before(self, position: int) -> str:
        """The same sentence before a position, at most 60 characters."""
        text = self.reply[max(0, position - 60) : position]
        return _SENTENCE_END.split(text)[-1]

    def capital(self, at: int) -> bool:
        """Whether a word begins with a capital or a digit."""
        first = self.reply[self.words[at].start]
        return first.isupper() or first.isdigit()

    def is_title_case(self, first: int, end: int) -> bool:
        """Whether all but the small words begin with a capital, and one at least does."""
        some = False
        for at in range(first, end):
            letter = self.reply[self.words[at].start]
            if (
                at > first
                and self.words[at - 1].end == self.words[at].start - 1
                and (not self.reply[self.words[at].start - 1].isspace())
            ):
                continue
            if letter.isupper() or letter.isdigit():
                some = True
            elif letter.islower() and (
                at == first or self.words[at].key not in WORDS["small_words"]
            ):
                return False
        return some

    def artist_after(self, position: int) -> tuple[str, int] | None:
        """The name that follows "by": the text up to the end of its clause, and its first word."""
        at = next((n for n, word in enumerate(self.words) if word.start >= position), None)
        if at is None or re.search(r"[^\W_]|[.!?\n]", self.reply[position : self.words[at].start]):
            return None
        keys = tuple(word.key for word in self.words[at : at + 8])
        for skip in range(min(3, len(keys))):
            if any(keys[skip : skip + len(words)] == words for words in self.piece.artists):
                return self.reply[self.words[at].start :], at
            if keys[skip] not in WORDS["before_artists"]:
                break
        for number in range(at, min(at + 5, len(self.words))):
            if number > at and re.search(
                r"[,.;:!?()]", self.reply[self.words[number - 1].end : self.words[number].start]
            ):
                break
            if self.capital(number):
                return self.reply[self.words[number].start :], number
            if keys[0] not in WORDS["before_artists"]:
                break
        return None

    def fits(self, rows: Iterable[int], first: int) -> bool:
        """Whether the name from this word on is an artist of one of these tracks."""
        window = {word.key for word in self.words[first : first + 10]}
        joined = "".join(word.key for word in self.words[first : first + 6])
        for row in rows:
            for words in self.piece.names[row].artists:
                if any(
                    word in window
                    for word in words
                    if word not in WORDS["small_words"] or len(words) == 1
                ):
                    return True
                if joined.startswith("".join(words)):
                    return True
        return False

    def ends_with(self, end: int, words: Words) -> bool:
        """Whether the words before a number are these."""
        return tuple(one.key for one in self.words[max(0, end - len(words)) : end]) == words

    def followed_by_artist(self, end: int) -> bool:
        """Whether "by" or the like and a name follow a position."""
        following = re.match(
            r"[,.!?]?\s*\(?(?:by|from|performed by|sung by|von|por|par|di|de)\s", self.reply[end:]
        )
        return following is not None and self.artist_after(end + following.end()) is not None

    def echoes(self, first: int, end: int) -> bool:
        """Whether the user said these words before."""
        phrase = f" {' '.join(one.key for one in self.words[first:end])} "
        return any(phrase in text for text in self.said)

    def compares(self, title: str) -> bool:
        """Whether a title of the user's is compared with, not offered."""
        phrase = f" {' '.join(keys_of(title))} "
        before = self.before(self.reply.index(title))
        return any(phrase in text for text in self.said) and bool(COMPARED.search(before))

    def in_lyrics(self, keys: Words) -> bool:
        """Whether three words or more stand in the lyrics of a track that was heard."""
        if len(keys) < 3:
            return False
        phrase = f" {' '.join(keys)} "
        return any(
            phrase in f" {' '.join(keys_of(lyrics))} "
            for row in self.heard
            if (lyrics := self.piece.tracks[row].lyrics)
        )

    def is_near(self, keys: Words) -> bool:
        """Whether this is a heard title but for a slip of the pen."""
        if keys in self.right_titles:
            return True
        joined = "".join(keys)
        for words in self.right_titles:
            title = "".join(words)
            if joined == title:
                return True
            close = min(len(joined), len(title)) >= 8 and abs(len(joined) - len(title)) <= 2
            if close and SequenceMatcher(None, joined, title, autojunk=False).ratio() >= 0.92:
                return not any(keys in names.titles for names in self.piece.names)
        return False
