"""Writes one simulated conversation: what the user asks for, turn by turn.

The user has standing conditions: what was asked for and holds until it is dropped. A later request
goes on from them (see `Onwards`) or is a new one that replaces them, and then its words say so. The
constraints of a message are all conditions that hold after it, and the next track meets them; its
intents tell what was newly said.
"""

from collections.abc import Sequence
from random import Random

from talkplay_hf.catalog.constraints import Constraint
from talkplay_hf.catalog.schema import Message, Track
from talkplay_hf.conversations.simulation.attributes import (
    Attribute,
    fitting_activities,
    one_a_kind,
)
from talkplay_hf.conversations.simulation.onwards import CORRECTABLE, Onwards
from talkplay_hf.conversations.simulation.options import SimulatorOptions
from talkplay_hf.conversations.simulation.phrasing import LONGEST, Phrasing, end_of, typed
from talkplay_hf.conversations.simulation.request import Request
from talkplay_hf.conversations.simulation.surroundings import Surroundings, TrackFacts

_PHRASES = {"open": "openers", "change": "turns", "continue": "stays"}


class Listener:
    """The user of one conversation.

    Args:
        facts (`TrackFacts`): The tracks.
        phrasing (`Phrasing`): How it speaks.
        options (`SimulatorOptions`): What it does how often.
        surroundings (`Surroundings`): Where other values of a genre, an artist, ... come from.
        rng (`random.Random`): Draws everything.
    """

    def __init__(
        self,
        facts: TrackFacts,
        phrasing: Phrasing,
        options: SimulatorOptions,
        surroundings: Surroundings,
        rng: Random,
    ) -> None:
        self._facts = facts
        self._phrasing = phrasing
        self._options = options
        self._surroundings = surroundings
        self._rng = rng
        self.standing: list[Attribute] = []
        self.last: Track | None = None
        self.rejects = False
        self.slip: Attribute | None = None
        self._may_name = True

    def request(
        self,
        target: Track,
        known: Sequence[Attribute],
        *,
        unwanted: bool = False,
        slip: Attribute | None = None,
        question: str | None = None,
    ) -> Request:
        """Write a request that the target meets.

        Args:
            target (`Track`): The track that is played next.
            known (`Sequence[Attribute]`): What may be said about it.
            unwanted (`bool`): Whether the user will reject it, and so cannot ask for it by title.
            slip (`Attribute`, *optional*): What the user asks for by a slip, to put it right after
                this track.
            question (`str`, *optional*): What to ask about the last track.
        """
        request = Request()
        self._may_name = not unwanted and self._options.title_share > 0
        last = self.last
        if last is None:
            self._warm_up(request)
            self._new("open", request, target, known, slip)
        else:
            if self.slip is not None:
                pass
            elif self.rejects:
                request.acts.append("reject")
                request.parts.append(self._phrasing.say("rejections"))
            elif question is not None:
                request.acts.append("ask")
                request.parts.append(self._phrasing.say(f"questions.{question}"))
            elif self._rng.random() < self._options.reaction:
                thanks = self._rng.random() < 0.15
                request.acts.append("thank" if thanks else "accept")
                request.parts.append(self._phrasing.say("thanks" if thanks else "reactions"))
                if thanks:
                    request.picked_up.append(self._phrasing.say("welcomes"))
            self._later(request, target, last, known, slip)
        self.slip = slip
        self.standing = [a for a in request.standing if not a.passing]
        return request

    def write(self, request: Request) -> Message:
        """The message of a request."""
        text = typed(request.parts, self._rng)
        return Message("user", text, constraints=request.constraints, intents=request.intents)

    def pick(self, attributes: Sequence[Attribute], count: int | None = None) -> list[Attribute]:
        """Draw some attributes of different kinds."""
        options, rng = self._options, self._rng
        if count is None:
            shares = options.conditions
            count = 1 + rng.choices(range(len(shares)), shares)[0]
        return one_a_kind(attributes, options.kinds, count, rng)

    def _warm_up(self, request: Request) -> None:
        draw = self._rng.random() / max(self._options.small_talk, 1e-9)
        if draw < 0.6:
            request.acts.append("greet")
            request.parts.append(self._phrasing.say("greetings"))
            request.picked_up.append(self._phrasing.say("greetings_back"))
        if 0.45 < draw < 1.0:
            said, reply = self._phrasing.pick("small_talk")
            request.topics.append("activity")
            request.parts.append(said)
            request.picked_up[:] = [reply]

    def _new(
        self,
        act: str,
        request: Request,
        target: Track,
        known: Sequence[Attribute],
        slip: Attribute | None = None,
    ) -> None:
        """A request that goes on from no earlier condition, by what the last track was not."""
        options, phrasing = self._options, self._phrasing
        draw = self._rng.random() if slip is None else 1.0
        if draw < options.track and self._may_name:
            title = Attribute("track", target.title, _is("title", target.title), passing=True)
            artist = Attribute("artist", target.artist, _is("artist", target.artist), passing=True)
            words = {"title": target.title[:LONGEST], "artist": target.artist[:LONGEST]}
            act, kept = self._aside(act, request, target)
            request.ask(act, phrasing.say("tracks", **words), [title, artist], kept)
            return
        if draw < options.track + options.similar and self._like_another(act, request, target):
            return
        if act == "change" and slip is None and self.last is not None:
            theirs = {(a.kind, a.value) for a in self._facts.attributes(self.last.track_id)}
            asked = [a for a in known if options.kinds.get(a.kind, 0) > 0]
            fresh = [a for a in asked if (a.kind, a.value) not in theirs]
            act, known = ("change", fresh) if fresh else ("continue", known)
        activity, name = "", _PHRASES[act]
        if (
            act != "continue"
            and slip not in self.standing
            and self._rng.random() < options.activity
            and "activity" not in request.topics
        ):
            activity, request.wish = self._activity(known)
            request.topics.append("activity")
            if slip is None and self._rng.random() < 0.12:
                act, kept = self._aside(act, request, target)
                request.ask(act, phrasing.say("vague", activity=activity), [], kept)
                return
            name = "openers_for" if act == "open" else "turns_for"
        if slip is not None:
            known = [a for a in known if a.kind != slip.kind and a not in self.standing]
        picked = self.pick(known)
        picked = picked if slip is None else [slip, *picked[:2]]
        if not picked:
            request.ask(act, phrasing.say("anything"), [], [])
            return
        again = [a for a in picked if a in self.standing]
        if act == "change" and again:
            act, name = ("continue", "stays") if again == picked else ("refine", "follow_ups")
        wrong = self._wrong(picked, target) if slip is None else None
        shown = [wrong[1] if wrong and a is wrong[0] else a for a in picked]
        terse = act == "open" and not activity and self._rng.random() < 0.12
        if terse and phrasing.listable(shown):
            text, end = phrasing.keywords(shown), ""
        else:
            phrase = phrasing.noun_phrase(shown, one=False if act == "continue" else None)
            text = phrasing.say(name, np=phrase, activity=activity)
            end = end_of(text)
        excluded = None if wrong else self._excluded(picked, target)
        if excluded is not None:
            clause = phrasing.say("exclusions", mod=phrasing.modifier(excluded))
            text = f"{text.removesuffix(end)}{clause}{end}"
            picked = [*picked, excluded]
        request.ask(act, text, picked, [])
        if wrong:
            self._put_right(request, *wrong, "slips")

    def _aside(self, act: str, request: Request, target: Track) -> tuple[str, list[Attribute]]:
        """What a request does that names no condition to go on from, and what holds after it.

        It refines where the target meets all that stands, and else says first that it turns away.
        """
        if act == "open":
            return act, []
        if all(a.met_by(target) for a in self.standing):
            return "refine", self.standing
        request.parts.append(self._phrasing.say("switches"))
        return "change", []

    def _wrong(
        self, picked: Sequence[Attribute], target: Track
    ) -> tuple[Attribute, Attribute] | None:
        """One of the picked attributes and what the user says in its place by a slip."""
        if self._rng.random() >= self._options.correction:
            return None
        right = self._rng.choice(picked)
        if right.kind not in CORRECTABLE:
            return None
        other = self._surroundings.value(right.kind, target)
        return None if other is None else (right, other)

    def _excluded(self, picked: Sequence[Attribute], target: Track) -> Attribute | None:
        """What the user says that the next track should not be, if anything."""
        if self._rng.random() >= self._options.exclusion:
            return None
        kinds = {a.kind for a in picked if not a.passing}
        kind = self._rng.choice(("artist", "genre", "mood", "sound", "theme"))
        # an album or an artist is by nobody else
        if kind in kinds or (kind == "artist" and "album" in kinds):
            return None
        other = self._surroundings.value(kind, target)
        return other.exclusion if other is not None else None

    def _put_right(self, request: Request, right: Attribute, wrong: Attribute, name: str) -> None:
        value, old = self._phrasing.value(right), self._phrasing.value(wrong)
        request.parts.append(self._phrasing.say(name, value=value, wrong=old))
        request.acts.append("correct")
        request.corrected = value

    def _activity(self, known: Sequence[Attribute]) -> tuple[str, str]:
        """What the music is for: something that its tempo and mood do not speak against."""
        said, wish = self._phrasing.pick(
            f"activities.{self._rng.choice(fitting_activities(known))}"
        )
        return said, wish

    def _like_another(self, act: str, request: Request, target: Track) -> bool:
        """Ask for something like another artist or track, of a genre that the target has too."""
        found = self._surroundings.kin(target)
        if found is None:
            return False
        other, genre = found
        titled = self._rng.random() < 0.4 * self._options.title_share
        words = {"title": other.title[:LONGEST], "artist": other.artist[:LONGEST]}
        text = self._phrasing.say("like_track" if titled else "like_artist", **words)
        act, kept = self._aside(act, request, target)
        request.ask(act, text, [], [*kept, genre] if genre not in kept else kept)
        request.topics.append("similar")
        return True

    def _later(
        self,
        request: Request,
        target: Track,
        last: Track,
        known: Sequence[Attribute],
        slip: Attribute | None,
    ) -> None:
        if self.slip is not None:
            self._correct(request, target, known, self.slip)
            return
        options, draw = self._options, self._rng.random()
        if slip is None and draw < options.relative + options.standing:
            onwards = Onwards(
                self._facts, self._phrasing, request, self.standing, (last, target, known),
                rejects=self.rejects, kinds=options.kinds, rng=self._rng,
            )  # fmt: skip
            if onwards.ask(relative=draw < options.relative):
                return
        self._new("change", request, target, known, slip)

    def _correct(
        self, request: Request, target: Track, known: Sequence[Attribute], wrong: Attribute
    ) -> None:
        """Put right what the last request said by a slip; its other conditions hold."""
        right = next(a for a in known if a.kind == wrong.kind and a.constraints)
        kept = [a for a in self.standing if a.kind != wrong.kind and a.met_by(target)]
        request.standing = [*kept, right]
        request.said.append(right)
        request.topics.append(right.kind)
        self._put_right(request, right, wrong, "corrections")


def _is(column: str, value: str) -> tuple[Constraint, ...]:
    return (Constraint(column, "is", value),)
