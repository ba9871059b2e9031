"""What was said and played, as plain data: no page, no model.

A conversation belongs to its listener: it lives in the state of one browser session, goes into
every request and comes out of it changed. Nothing here changes in place.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

from talkplay_hf import Message, TalkPlayError

MAX_TURNS = 50
MAX_CHARACTERS = 2_000
Reaction = Literal["like", "skip"]
# how listeners react in the conversations that a model learns from, for one track and for several
REACTION_WORDS: dict[str, tuple[str, str]] = {
    "like": ("I like this one.", "I like these."),
    "skip": ("Not this one.", "Not these."),
}


class RefusedError(TalkPlayError):
    """What came from outside cannot be used; the message is one polite line for the listener."""


@dataclass(frozen=True)
class Turn:
    """One finished turn.

    Args:
        text (`str`): What the listener typed.
        track_ids (`tuple[str, ...]`): What was played; empty where nothing fitted.
        codes (`tuple[tuple[int, ...], ...]`): The five codes that were generated, per track.
        reply (`str`): The text that came with it.
        reaction (`str`, *optional*): `"like"` or `"skip"`, once the listener has said so. It leads
            the next message that the model reads.
        scores (`tuple[float, ...]`): Log-probability of the five tokens, per track.
        matched (`tuple[tuple[str, ...], ...]`): Which modalities led to the track, per track.
        seed (`int`): The seed that the answer was drawn with.
        tried (`tuple[str, ...]`): What earlier tries at this turn played and the listener retried.
    """

    text: str
    track_ids: tuple[str, ...] = ()
    codes: tuple[tuple[int, ...], ...] = ()
    reply: str = ""
    reaction: Reaction | None = None
    scores: tuple[float, ...] = ()
    matched: tuple[tuple[str, ...], ...] = ()
    seed: int = 0
    tried: tuple[str, ...] = ()

    @property
    def reaction_words(self) -> str:
        """The reaction as the model reads it; empty where there is none."""
        if self.reaction is None or not self.track_ids:
            return ""
        return REACTION_WORDS[self.reaction][len(self.track_ids) > 1]


@dataclass(frozen=True)
class Conversation:
    """Turns, and what the listener made of the playlist that they gave.

    Args:
        turns (`tuple[Turn, ...]`): The turns, oldest first.
        removed (`frozenset[str]`): Track ids that the listener took out of the playlist.
        order (`tuple[str, ...]`): Track ids in the order that the listener gave them; those that
            are not in it follow in the order they were played.
    """

    turns: tuple[Turn, ...] = ()
    removed: frozenset[str] = frozenset()
    order: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.turns)

    def messages(self, text: str | None = None) -> list[Message]:
        """The conversation as the model reads it: user, music, assistant for each turn.

        Args:
            text (`str`, *optional*): What the listener says now; it follows as the last message.
        """
        said = list(self._said())
        if text is not None:
            said.append(Message("user", self._led(len(self.turns), text)))
        return said

    def played(self) -> tuple[str, ...]:
        """Ids of all tracks that were played, each once, in the order of their first time."""
        return tuple(dict.fromkeys(name for turn in self.turns for name in turn.track_ids))

    def playlist(self) -> tuple[str, ...]:
        """Ids of the tracks that were played and neither skipped nor removed, in the listener's
        order. Of a track that was played twice the last reaction counts."""
        reactions = {name: turn.reaction for turn in self.turns for name in turn.track_ids}
        return tuple(
            name
            for name in self._ordered()
            if reactions[name] != "skip" and name not in self.removed
        )

    def with_turn(self, turn: Turn) -> "Conversation":
        """The conversation with one more turn; what it plays anew is in the playlist again."""
        removed = self.removed - frozenset(turn.track_ids)
        return replace(self, turns=(*self.turns, turn), removed=removed)

    def with_reaction(self, n: int, reaction: Reaction | None) -> "Conversation":
        """The conversation with a reaction to turn `n`, or without one; unchanged where there is no
        such turn or it played nothing."""
        if not 0 <= n < len(self.turns) or not self.turns[n].track_ids:
            return self
        turns = list(self.turns)
        turns[n] = replace(turns[n], reaction=reaction)
        return replace(self, turns=tuple(turns))

    def undone(self) -> "Conversation":
        """The conversation without its last turn."""
        return self.cut(len(self.turns) - 1)

    def cut(self, n: int) -> "Conversation":
        """The conversation up to before turn `n`, so that this turn can be said anew."""
        kept = Conversation(self.turns[: max(n, 0)])
        played = frozenset(kept.played())
        order = tuple(name for name in self.order if name in played)
        return replace(kept, removed=self.removed & played, order=order)

    def moved(self, track_id: str, by: int) -> "Conversation":
        """The conversation with a track of the playlist `by` places further down (up where
        negative), at most to the end; unchanged where the playlist does not have it."""
        shown = list(self.playlist())
        if track_id not in shown:
            return self
        place = min(max(shown.index(track_id) + by, 0), len(shown) - 1)
        shown.remove(track_id)
        shown.insert(place, track_id)
        # what the playlist does not show keeps its place for the day that it does
        visible, rest = frozenset(shown), iter(shown)
        order = tuple(next(rest) if name in visible else name for name in self._ordered())
        return replace(self, order=order)

    def without(self, track_id: str) -> "Conversation":
        """The conversation with a track taken out of the playlist; the model has still heard it."""
        if track_id not in self.played():
            return self
        return replace(self, removed=self.removed | {track_id})

    def _ordered(self) -> tuple[str, ...]:
        played = self.played()
        known = frozenset(played)
        return tuple(dict.fromkeys((*(name for name in self.order if name in known), *played)))

    def _said(self) -> Iterator[Message]:
        for n, turn in enumerate(self.turns):
            yield Message("user", self._led(n, turn.text))
            for track_id in turn.track_ids:
                yield Message("music", track_id=track_id)
            yield Message("assistant", turn.reply)

    def _led(self, n: int, text: str) -> str:
        """What the listener said in turn `n`, led by the reaction to the turn before it."""
        words = self.turns[n - 1].reaction_words if n else ""
        return f"{words} {text}" if words else text


def is_unicode(text: str) -> bool:
    """Whether a text can be encoded: JSON can bring half of a surrogate pair."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
