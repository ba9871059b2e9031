"""Writes the replies of simulated conversations: they say only what the catalog says of a track."""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from talkplay_hf.catalog.schema import Message, Track
from talkplay_hf.conversations.simulation.attributes import Attribute, one_a_kind
from talkplay_hf.conversations.simulation.options import KINDS, SimulatorOptions
from talkplay_hf.conversations.simulation.phrasing import LONGEST, Phrasing
from talkplay_hf.conversations.simulation.request import Request

DESCRIBED = (0.45, 0.4, 0.15)
UNSAID = frozenset({"artist", "album"})
EVENLY = dict.fromkeys(KINDS, 1.0)


@dataclass(frozen=True)
class Reply:
    """A reply and what the listener knows by it.

    Args:
        message (`Message`): The reply.
        told (`frozenset[str]`): The kinds of attribute that it told.
    """

    message: Message
    told: frozenset[str]


class Presenter:
    """The assistant of one conversation.

    Args:
        phrasing (`Phrasing`): How it speaks.
        options (`SimulatorOptions`): What it does how often.
        rng (`random.Random`): Draws everything.
    """

    def __init__(self, phrasing: Phrasing, options: SimulatorOptions, rng: Random) -> None:
        self._phrasing = phrasing
        self._options = options
        self._rng = rng

    def reply(
        self,
        track: Track,
        known: Sequence[Attribute],
        request: Request,
        *,
        named: bool = True,
    ) -> Reply:
        """Present a track: by what was asked for where that can be said.

        Args:
            track (`Track`): The track that is played.
            known (`Sequence[Attribute]`): What can be said about it.
            request (`Request`): The request that it meets.
            named (`bool`): Whether to say who it is by; `False` before the user asks who it was.
        """
        say, rng = self._phrasing.say, self._rng
        demanded = set(request.constraints)
        kinds = self._options.kinds
        sayable = [a for a in known if a.kind not in UNSAID and kinds.get(a.kind, 0) > 0]
        asked = [a for a in sayable if a.constraints and demanded.issuperset(a.constraints)]
        count = 1 + rng.choices(range(len(DESCRIBED)), DESCRIBED)[0]
        described = one_a_kind(asked or sayable, EVENLY, count, rng)
        name = "replies_anonymous"
        if named:
            titled = rng.random() < self._options.title_share
            name = "replies" if titled else "replies_untitled"
        words = {"title": track.title[:LONGEST], "artist": track.artist[:LONGEST]}
        parts = list(request.picked_up)
        if request.corrected is not None:
            ack: str = say("acks_correct", value=request.corrected)
            parts.append(ack[:1].upper() + ack[1:])
        elif "reject" in request.acts:
            parts.append(say("acks_reject"))
        elif not parts and rng.random() < self._options.chatty_reply:
            parts.append(say("acks"))
        if described:
            desc = self._phrasing.noun_phrase(described, one=True)
            capital = desc[:1].upper() + desc[1:]
            parts.append(say(name, **words, desc=desc, Desc=capital))
        else:
            parts.append(say(f"{name}_bare", **words))
        told = {a.kind for a in described}
        if request.wish is not None and rng.random() < 0.5:
            parts.append(request.wish)
        elif rng.random() < self._options.chatty_reply:
            parts.append(self._more(track, known, told))
        return Reply(Message("assistant", " ".join(parts)), frozenset(told))

    def questions(self, track: Track, known: Sequence[Attribute], reply: Reply) -> list[str]:
        """What a user may still want to know about a track after a reply."""
        kinds = {a.kind for a in known} - reply.told
        found: list[str] = [kind for kind in ("era", "album", "genre") if kind in kinds]
        if track.tempo is not None and "tempo" not in reply.told:
            found.append("tempo")
        return found

    def answer(self, question: str, track: Track, known: Sequence[Attribute]) -> str:
        """Answer a question about a track from the catalog."""
        words = {"artist": track.artist[:LONGEST], "title": track.title[:LONGEST]}
        if question == "who":
            titled = self._rng.random() < self._options.title_share
            return self._phrasing.say(f"answers.{'who' if titled else 'who_untitled'}", **words)
        if question == "genre":
            words["x"] = next(a.value for a in known if a.kind == "genre")[:LONGEST]
        else:
            words["x"] = _fact(question, track)
        return self._phrasing.say(f"answers.{question}", **words)

    def _more(self, track: Track, known: Sequence[Attribute], told: set[str]) -> str:
        """A further fact about a track, or an offer to go on."""
        kinds = {a.kind: a for a in known if a.kind not in told}
        facts: list[str] = [kind for kind in ("era", "album") if kind in kinds]
        if track.tempo is not None and "tempo" not in told:
            facts.append("tempo")
        if "popularity" in kinds and kinds["popularity"].value == "hit":
            facts.append("hit")
        if not facts or self._rng.random() < 0.4:
            return self._phrasing.say("offers")
        fact = self._rng.choice(facts)
        told.add("popularity" if fact == "hit" else fact)
        return self._phrasing.say(f"facts.{fact}", x=_fact(fact, track))


def _fact(kind: str, track: Track) -> str:
    if kind == "era":
        return f"{track.year}"
    if kind == "album":
        return (track.album or "")[:LONGEST]
    return f"{track.tempo or 0:.0f}" if kind == "tempo" else ""
