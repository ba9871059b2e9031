"""Writes one simulated conversation: what the user asks for, turn by turn.

The user has standing conditions: what was asked for and holds until it is dropped. A later request
goes on from them (more of it, one more, one less, another in place of one), is in relation to the
last track, or is a new one that replaces them. The constraints of a message are all conditions that
hold after it, and the next track meets them; its intents tell what was newly said.
"""

from collections.abc import Callable, Sequence
from random import Random

from talkplay_hf.catalog.constraints import Constraint
from talkplay_hf.catalog.schema import Message, Track
from talkplay_hf.conversations.simulation.attributes import (
    Attribute,
    fitting_activities,
    one_a_kind,
)
from talkplay_hf.conversations.simulation.options import SimulatorOptions
from talkplay_hf.conversations.simulation.phrasing import LONGEST, Phrasing, end_of, typed
from talkplay_hf.conversations.simulation.request import Request
from talkplay_hf.conversations.simulation.surroundings import Surroundings, TrackFacts

CORRECTABLE = ("artist", "genre", "mood", "era", "tempo", "sound")
QUERIES = frozenset({"artist", "genre", "era"})


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
        """A request that leaves all earlier conditions behind."""
        options, phrasing = self._options, self._phrasing
        draw = self._rng.random() if slip is None else 1.0
        if draw < options.track and self._may_name:
            title = Attribute("track", target.title, _is("title", target.title), passing=True)
            artist = Attribute("artist", target.artist, _is("artist", target.artist), passing=True)
            words = {"title": target.title[:LONGEST], "artist": target.artist[:LONGEST]}
            request.ask(act, phrasing.say("tracks", **words), [title, artist], [])
            return
        if draw < options.track + options.similar and self._like_another(act, request, target):
            return
        if self._rng.random() < options.activity and "activity" not in request.topics:
            activity, request.wish = self._activity(known)
            request.topics.append("activity")
            if slip is None and self._rng.random() < 0.12:
                request.ask(act, phrasing.say("vague", activity=activity), [], [])
                return
            name = "openers_for" if act == "open" else "follow_ups_for"
        else:
            activity, name = "", "openers" if act == "open" else "follow_ups"
        picked = self.pick([a for a in known if slip is None or a.kind != slip.kind])
        picked = picked if slip is None else [slip, *picked[:2]]
        if not picked:
            request.ask(act, phrasing.say("anything"), [], [])
            return
        wrong = self._wrong(picked, target) if slip is None else None
        shown = [wrong[1] if wrong and a is wrong[0] else a for a in picked]
        if not activity and self._rng.random() < 0.12 and any(a.kind in QUERIES for a in shown):
            text, end = phrasing.keywords(shown), ""
        else:
            phrase = phrasing.noun_phrase(shown)
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
        if kind in kinds:
            return None
        other = self._surroundings.value(kind, target)
        return other.exclusion if other is not None else None

    def _put_right(self, request: Request, right: Attribute, wrong: Attribute, name: str) -> None:
        value, old = self._phrasing.value(right), self._phrasing.value(wrong)
        request.parts.append(self._phrasing.say(name, value=value, wrong=old))
        request.acts.append("correct")
        request.corrected = right

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
        request.ask(act, text, [], [genre])
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
        draw = self._rng.random() if slip is None else 1.0
        ways: list[Callable[[], None]] = []
        if draw < self._options.relative:
            ways = self._relative(request, target, last)
        elif draw < self._options.relative + self._options.standing:
            ways = self._onwards(request, target, last, known)
        if ways:
            ways[int(self._rng.random() * len(ways))]()
        else:
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

    def _relative(self, request: Request, target: Track, last: Track) -> list[Callable[[], None]]:
        """The ways to ask for the target in relation to the last track."""
        say = self._phrasing.say
        ways: list[Callable[[], None]] = []

        def compare(kind: str, name: str, op: str, value: str) -> None:
            kept = [a for a in self.standing if a.kind != kind]
            if all(a.met_by(target) for a in kept):
                field = "year" if kind == "era" else kind
                demand = Attribute(kind, name, (Constraint(field, op, value),), passing=True)
                ways.append(lambda: request.ask("refine", say(name), [demand], kept))

        if target.tempo is not None and last.tempo is not None:
            if target.tempo > 1.08 * last.tempo:
                compare("tempo", "faster", "gt", f"{last.tempo:g}")
            elif target.tempo < last.tempo / 1.08:
                compare("tempo", "slower", "lt", f"{last.tempo:g}")
        if target.year is not None and last.year is not None:
            if target.year >= last.year + 4:
                compare("era", "newer", "gt", f"{last.year}")
            elif target.year <= last.year - 4:
                compare("era", "older", "lt", f"{last.year}")
        for kind, name in (("artist", "not_artist"), ("genre", "not_genre")):
            theirs = [
                a for a in self._facts.attributes(last.track_id) if a.kind == kind and a.exclusion
            ]
            kept = [a for a in self.standing if a.kind != kind]
            if theirs and not any(a.met_by(target) for a in theirs):
                if not all(a.met_by(target) for a in kept):
                    continue
                attribute = theirs[0]
                self._add_exclusion(ways, request, name, attribute, kept)
        return ways

    def _add_exclusion(
        self,
        ways: list[Callable[[], None]],
        request: Request,
        name: str,
        attribute: Attribute,
        kept: list[Attribute],
    ) -> None:
        demand = attribute.exclusion
        assert demand is not None
        text = self._phrasing.say
        word = attribute.value[:LONGEST]
        ways.append(lambda: request.ask("change", text(name, x=word), [demand], kept))

    def _onwards(
        self, request: Request, target: Track, last: Track, known: Sequence[Attribute]
    ) -> list[Callable[[], None]]:
        """The ways to ask for the target from the standing conditions on."""
        say, phrasing, ask = self._phrasing.say, self._phrasing, request.ask
        standing = self.standing
        unmet = [a for a in standing if not a.met_by(target)]
        ways: list[Callable[[], None]] = []
        wanted = [a for a in standing if not a.excluded]
        if not unmet and wanted and self.rejects:
            said = wanted[:3]

            def retry() -> None:
                text = say("retries", np=phrasing.noun_phrase(said))
                ask("continue", text, said, standing)

            ways.append(retry)
        if not unmet and wanted:
            kinds = {a.kind for a in standing}
            fresh = [a for a in known if a.kind not in kinds and a.constraints]
            added = self.pick([a for a in fresh if a.kind != "artist"], 1)
            if added:
                ways += 2 * [
                    lambda: ask(
                        "refine", say("refine", mod=phrasing.modifier(added[0])), added, standing
                    )
                ]
        droppable = len(unmet) == 1 and unmet[0].kind != "popularity" and len(wanted) > 1
        if droppable and not unmet[0].excluded:
            lost = unmet[0]
            kept = [a for a in standing if a is not lost]

            def relax() -> None:
                words = {"mod": phrasing.modifier(lost), "kind": phrasing.book["kinds"][lost.kind]}
                ask("relax", say("relax", **words), [], kept)
                request.topics.append(lost.kind)

            ways += 3 * [relax]
        if len(unmet) == 1 and not unmet[0].excluded:
            lost = unmet[0]
            instead = [a for a in known if a.kind == lost.kind and a.constraints]
            others = [a for a in standing if a is not lost]
            if instead and lost.kind in CORRECTABLE:

                def replace() -> None:
                    words = {"new": phrasing.modifier(instead[0]), "old": phrasing.modifier(lost)}
                    ask("change", say("replace", **words), instead[:1], others)

                ways += 2 * [replace]
        self._go_on(ways, request, target, last, known, unmet)
        return ways

    def _go_on(
        self,
        ways: list[Callable[[], None]],
        request: Request,
        target: Track,
        last: Track,
        known: Sequence[Attribute],
        unmet: Sequence[Attribute],
    ) -> None:
        """Add the ways to ask for more like the last track."""
        if self.rejects:
            return
        say, ask, phrasing = self._phrasing.say, request.ask, self._phrasing
        theirs = self._facts.attributes(last.track_id)
        shared = [a for a in known if a.kind == "genre" and a.constraints and a in theirs]
        shared.sort(key=lambda a: a not in self.standing)
        holding = shared[:1]
        if not unmet and not all(a.excluded for a in self.standing):
            holding = self.standing
        elif not unmet and shared:
            holding = [*self.standing, shared[0]]
        if holding:

            def more() -> None:
                ask("continue", say("similar"), [], holding)
                request.topics.append("similar")

            ways.append(more)
        if target.artist.casefold() == last.artist.casefold():
            same = Attribute("artist", last.artist, _is("artist", last.artist))
            word = last.artist[:LONGEST]
            ways += 2 * [lambda: ask("continue", say("same_artist", x=word), [same], [])]
        changed = [a for a in known if a.kind in ("mood", "tempo") and a not in theirs]
        if shared and changed:
            change = changed[int(self._rng.random() * len(changed))]

            def keep_but() -> None:
                words = {"keep": phrasing.value(shared[0]), "mod": phrasing.modifier(change)}
                ask("refine", say("keep_but", **words), [shared[0], change], [])

            ways.append(keep_but)


def _is(column: str, value: str) -> tuple[Constraint, ...]:
    return (Constraint(column, "is", value),)
