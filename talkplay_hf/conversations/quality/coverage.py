"""What conversations talk about: intents of the user, modalities of the music (paper 3.2)."""

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from talkplay_hf.catalog.schema import Conversation, Message, Track
from talkplay_hf.conversations.intents import ACT, TOPIC, detect_intents, taxonomy
from talkplay_hf.conversations.quality.diversity import words
from talkplay_hf.hub import files

SPOKEN = ("semantic", "metadata", "lyrics", "audio")
"""The modalities that language can be about; playlist co-occurrence is not one (paper 3.2)."""

NOT_READ = "only values of their tracks and declared intents are read in these"
"""What is read of conversations that are not English."""

QUOTE = 5
"""Words of the lyrics in a row that count as talking about them."""

_BPM = re.compile(r"(\d{2,3}) ?(?:bpm|beats per minute)", re.IGNORECASE)
_FEATURING = re.compile(r"\s*(?:,|;|\b(?:feat|ft|featuring)\b)")


@cache
def _book() -> dict[str, tuple[frozenset[str], re.Pattern[str]]]:
    """Topics and cues of each modality."""
    book = files.read_json(Path(__file__).with_name("modalities.json"))
    return {
        name: (
            frozenset(book[name]["topics"]),
            re.compile("|".join(f"(?:{cue})" for cue in book[name]["cues"]), re.IGNORECASE),
        )
        for name in SPOKEN
    }


def talked_about(text: str, topics: Iterable[str]) -> frozenset[str]:
    """The modalities that an English text is about.

    Args:
        text (`str`): The text.
        topics (`Iterable[str]`): The topics of the intent taxonomy that were found in it.
    """
    found = frozenset(topics)
    return frozenset(
        name for name, (mine, cues) in _book().items() if mine & found or cues.search(text)
    )


class TrackWords:
    """What a text can say of one track, made once and looked up in many texts.

    Args:
        track (`Track`): The track.
    """

    def __init__(self, track: Track) -> None:
        self._title, self._artist = track.title, track.artist
        self._tempo = track.tempo
        # a sharp is no part of a word, and no other key may end or begin with it
        key = re.escape((track.key or "").casefold())
        self._key = re.compile(rf"(?<![\w#]){key}(?![\w#])") if key else None
        self._album = _spaced(track.album or "")
        self._years = frozenset(_spaced(form) for form in _years(track.year))
        self._tags = frozenset(filter(None, map(_spaced, track.tags)))
        self._theme = _spaced(str(track.get("theme") or ""))
        self._lyrics = _spaced(track.lyrics or "")
        self._instrument = _spaced(str(track.get("instrument") or ""))
        self.known = frozenset(
            name
            for name, there in (
                ("semantic", self._tags),
                ("metadata", True),
                ("lyrics", self._theme or self._lyrics),
                ("audio", self._key or self._instrument or self._tempo is not None),
            )
            if there
        )

    def names(self, text: str) -> frozenset[str]:
        """Which of `"title"` and `"artist"` a text names.

        One word counts only as it is written, so that "stay" does not name "Stay".
        """
        said = _spaced(text)
        lead = _FEATURING.split(self._artist)[0]
        found = {"title"} if _named(self._title, text, said) else set()
        if any(_named(name, text, said) for name in {self._artist, lead}):
            found.add("artist")
        return frozenset(found)

    def said_in(self, text: str) -> frozenset[str]:
        """The modalities of which a text says a value of this track."""
        said = _spaced(text)
        found = set()
        if any(tag in said for tag in self._tags):
            found.add("semantic")
        if (
            self.names(text)
            or (self._album and _named(self._album.strip(), text, said))
            or any(year in said for year in self._years)
        ):
            found.add("metadata")
        if (self._theme and self._theme in said) or self._quotes(said):
            found.add("lyrics")
        if (
            (self._key and self._key.search(text.casefold()))
            or (self._instrument and self._instrument in said)
            or any(
                self._tempo is not None and abs(float(bpm) - self._tempo) <= 1
                for bpm in _BPM.findall(text)
            )
        ):
            found.add("audio")
        return frozenset(found)

    def _quotes(self, said: str) -> bool:
        if not self._lyrics:
            return False
        run = said.split()
        return any(
            f" {' '.join(run[start : start + QUOTE])} " in self._lyrics
            for start in range(len(run) - QUOTE + 1)
        )


def _spaced(text: str) -> str:
    """The words of a text between single spaces, with one at both ends; empty without a word."""
    found = words(text)
    return f" {' '.join(found)} " if found else ""


def _named(name: str, text: str, said: str) -> bool:
    spaced = _spaced(name)
    if spaced.count(" ") > 2:
        return spaced in said
    return bool(name) and re.search(rf"(?<!\w){re.escape(name)}(?!\w)", text) is not None


def _years(year: int | None) -> tuple[str, ...]:
    if year is None:
        return ()
    decade = year // 10 * 10
    return (f"{year}", f"{decade}s", f"{decade}'s", f"{decade % 100:02d}s", f"{decade % 100:02d}'s")


def english(conversation: Conversation) -> bool:
    """Whether the cues of English can be used: the language is English, or not known."""
    return (conversation.language or "en").casefold().split("-")[0] == "en"


@dataclass
class _Spoken:
    """Counts of the messages of one role."""

    messages: int
    about: Counter[str]
    known: Counter[str]
    own: Counter[str]

    def shares(self) -> dict[str, dict[str, float | None]]:
        return {
            name: {
                "messages": share(self.about[name], self.messages),
                "of_track": share(self.own[name], self.known[name]),
            }
            for name in SPOKEN
        }


class Coverage:
    """Counts intents, modalities and named tracks of conversations as they come.

    Args:
        tracks (`Mapping[str, Track]`): The tracks that they play, as far as they are known.
    """

    def __init__(self, tracks: Mapping[str, Track]) -> None:
        self._tracks = {track_id: TrackWords(track) for track_id, track in tracks.items()}
        self._conversations = self._foreign = self._with_intents = 0
        self._users = self._declared = self._read = 0
        self._in_messages: Counter[str] = Counter()
        self._in_conversations: Counter[str] = Counter()
        self._asked: Counter[str] = Counter()
        self._found: Counter[str] = Counter()
        self._spoken = {
            role: _Spoken(0, Counter(), Counter(), Counter()) for role in ("user", "assistant")
        }
        self._users_about: Counter[str] = Counter()
        self._replies = 0
        self._named: Counter[str] = Counter()

    def add(self, conversation: Conversation) -> None:
        """Count a conversation."""
        self._conversations += 1
        readable = english(conversation)
        self._foreign += not readable
        intents: set[str] = set()
        about: set[str] = set()
        first = True
        read_before = self._declared + self._read
        for message, track in _with_tracks(conversation.messages):
            found = detect_intents(message.content, first=first) if readable else frozenset()
            if message.role == "user":
                intents |= self._user(message, found, readable)
                first = False
            said = talked_about(message.content, found) if readable else frozenset()
            said |= self._about_track(message, track)
            spoken = self._spoken[message.role]
            spoken.messages += 1
            spoken.about.update(said)
            if message.role == "user":
                about |= said
        self._with_intents += self._declared + self._read > read_before
        self._in_conversations.update(intents)
        self._users_about.update(about)

    def _user(self, message: Message, found: frozenset[str], readable: bool) -> frozenset[str]:
        """Count the intents of a user message, and return them."""
        declared = frozenset(message.intents) & taxonomy().keys()
        self._users += 1
        self._declared += bool(declared)
        self._read += readable and not declared
        if declared and readable:
            self._asked.update(declared)
            self._found.update(declared & found)
        mine = declared or found
        self._in_messages.update(mine)
        return mine

    def _about_track(self, message: Message, track_id: str | None) -> frozenset[str]:
        """Count what a message says of the track of its turn, and return the modalities."""
        track = self._tracks.get(track_id) if track_id is not None else None
        if track is None:
            return frozenset()
        own = track.said_in(message.content)
        self._spoken[message.role].known.update(track.known)
        self._spoken[message.role].own.update(own & track.known)
        if message.role == "assistant":
            self._replies += 1
            named = track.names(message.content)
            self._named.update(named)
            self._named["either"] += bool(named)
        return own

    def intents(self) -> dict[str, Any]:
        """The intents: shares of user messages and of conversations, and what was not seen.

        Messages that can neither be read nor have declared intents count for neither. Declared
        intents count where a message has any, detected ones elsewhere. `found` is the share of the
        English messages asked to have an intent in which its cues are found.
        """
        total = self._declared + self._read
        rows = {
            name: {
                "kind": intent.kind,
                "messages": share(self._in_messages[name], total),
                "conversations": share(self._in_conversations[name], self._with_intents),
                "asked": self._asked[name],
                "found": share(self._found[name], self._asked[name]),
            }
            for name, intent in taxonomy().items()
        }
        return {
            "user_messages": self._users,
            "declared": self._declared,
            "detected": self._read,
            "entropy_bits": {
                kind: _entropy(
                    {name: self._in_messages[name] for name, row in rows.items()
                     if row["kind"] == kind}
                )
                for kind in (ACT, TOPIC)
            },
            "asked_found": share(self._found.total(), self._asked.total()),
            "unseen": [name for name in rows if not self._in_messages[name]],
            "by_intent": rows,
        }  # fmt: skip

    def modalities(self) -> dict[str, Any]:
        """The modalities: shares of messages by role, and of conversations (of the user's side).

        `messages` is the share of messages that are about a modality by their words or by a value
        of their track; `of_track` the share that say a value of their track, of the messages whose
        track has one.
        """
        return {
            "user": self._spoken["user"].shares(),
            "assistant": self._spoken["assistant"].shares(),
            "conversations": {
                name: share(self._users_about[name], self._conversations) for name in SPOKEN
            },
            "not_english": self._foreign,
        }

    def naming(self) -> dict[str, Any]:
        """Shares of the replies that name the title and the artist of the track they are about."""
        return {
            "replies": self._replies,
            **{name: share(self._named[name], self._replies)
               for name in ("title", "artist", "either")},
        }  # fmt: skip


def _with_tracks(messages: Iterable[Message]) -> list[tuple[Message, str | None]]:
    """The messages of user and assistant, each with the track of its turn, if it has one."""
    found: list[tuple[Message, str | None]] = []
    waiting: list[int] = []
    track_id: str | None = None
    for message in messages:
        if message.role == "music":
            track_id = message.track_id
            for at in waiting:
                found[at] = (found[at][0], track_id)
            waiting = []
        elif message.role == "user":
            waiting.append(len(found))
            found.append((message, None))
            track_id = None
        elif message.role == "assistant":
            found.append((message, track_id))
    return found


def _entropy(counts: Mapping[str, int]) -> float | None:
    """The entropy of a distribution in bits."""
    total = sum(counts.values())
    shares = [count / total for count in counts.values() if count]
    return sum(share * math.log2(1 / share) for share in shares) if shares else None


def share(part: float, whole: int) -> float | None:
    """A part of a whole; `None` where there is nothing."""
    return part / whole if whole else None
