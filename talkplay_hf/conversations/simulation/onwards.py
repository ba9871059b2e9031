"""Requests that go on from what was asked for before, or from the last track."""

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from random import Random

from talkplay_hf.catalog.constraints import Constraint
from talkplay_hf.catalog.schema import Track
from talkplay_hf.conversations.simulation.attributes import Attribute, one_a_kind
from talkplay_hf.conversations.simulation.phrasing import LONGEST, Phrasing
from talkplay_hf.conversations.simulation.request import Request
from talkplay_hf.conversations.simulation.surroundings import TrackFacts

CORRECTABLE = ("artist", "genre", "mood", "era", "tempo", "sound")
ANCHORS = ("genre", "mood", "era", "theme", "sound", "artist")
ADVERBIAL = frozenset({"sound", "theme", "album"})


class Onwards:
    """The ways to ask for a target that go on from the standing conditions or from the last track.

    It refines (adds a condition, or varies one of several), goes on (more of the same), relaxes
    (drops a condition), or changes where the only condition, an artist or a genre is left behind.

    Args:
        facts (`TrackFacts`): The tracks.
        phrasing (`Phrasing`): How the user speaks.
        request (`Request`): The request that one of the ways is added to.
        standing (`list[Attribute]`): The conditions that hold.
        tracks (`tuple[Track, Track, Sequence[Attribute]]`): The last track, the target, and what
            may be said about the target.
        rejects (`bool`): Whether the user rejects the last track.
        kinds (`Mapping[str, float]`): How often a condition is about what.
        rng (`random.Random`): Draws the way.
    """

    def __init__(
        self,
        facts: TrackFacts,
        phrasing: Phrasing,
        request: Request,
        standing: list[Attribute],
        tracks: tuple[Track, Track, Sequence[Attribute]],
        *,
        rejects: bool,
        kinds: Mapping[str, float],
        rng: Random,
    ) -> None:
        self._phrasing = phrasing
        self._request = request
        self._standing = standing
        self._last, self._target, known = tracks
        self._known = [a for a in known if kinds.get(a.kind, 0) > 0 and a.constraints]
        self._theirs = facts.attributes(self._last.track_id)
        self._their_values = {(a.kind, a.value) for a in self._theirs}
        self._rejects = rejects
        self._kinds = kinds
        self._rng = rng
        self._ways: list[Callable[[], None]] = []
        self._unmet = [a for a in standing if not a.met_by(self._target)]
        self._kept = [a for a in standing if a not in self._unmet]
        self._wanted = [a for a in standing if not a.excluded]

    def ask(self, *, relative: bool) -> bool:
        """Write one of the ways, if there is any.

        Args:
            relative (`bool`): In relation to the last track where that can be said.
        """
        if relative:
            self._compare()
            self._exclude()
        if not self._ways:
            self._narrow()
            self._vary()
            # what was not wanted can only be dropped in so many words
            if not any(a.excluded for a in self._unmet):
                self._restate()
                self._go_on()
            if not self._ways:
                self._swap()
        # the ways hold this object, so it must not hold them, or only the collector frees both
        ways, self._ways = self._ways, []
        if ways:
            ways[int(self._rng.random() * len(ways))]()
        return bool(ways)

    def _add(
        self,
        act: str,
        text: Callable[[], str],
        said: Sequence[Attribute],
        kept: Sequence[Attribute],
        *,
        topic: str | None = None,
        times: int = 1,
    ) -> None:
        def way() -> None:
            self._request.ask(act, text(), said, kept)
            if topic is not None:
                self._request.topics.append(topic)

        self._ways += times * [way]

    def _compare(self) -> None:
        """Faster, slower, newer or older than the last track."""
        last, target = self._last, self._target

        def add(kind: str, name: str, op: str, value: str) -> None:
            kept = [a for a in self._standing if a.kind != kind]
            if all(a.met_by(target) for a in kept):
                field = "year" if kind == "era" else kind
                demand = Attribute(kind, name, (Constraint(field, op, value),), passing=True)
                self._add("refine", lambda: self._phrasing.say(name), [demand], kept, times=3)

        if target.tempo is not None and last.tempo is not None:
            if target.tempo > 1.08 * last.tempo:
                add("tempo", "faster", "gt", str(last.tempo))
            elif target.tempo < last.tempo / 1.08:
                add("tempo", "slower", "lt", str(last.tempo))
        if target.year is not None and last.year is not None:
            if target.year >= last.year + 4:
                add("era", "newer", "gt", f"{last.year}")
            elif target.year <= last.year - 4:
                add("era", "older", "lt", f"{last.year}")

    def _exclude(self) -> None:
        """Not the artist or the genre of the last track."""
        for kind, name in (("artist", "not_artist"), ("genre", "not_genre")):
            theirs = [a for a in self._theirs if a.kind == kind and a.exclusion]
            kept = [a for a in self._standing if a.kind != kind]
            if not theirs or any(a.met_by(self._target) for a in theirs):
                continue
            demand = theirs[0].exclusion
            if demand is not None and all(a.met_by(self._target) for a in kept):
                self._add("change", self._said(name, x=theirs[0].value[:LONGEST]), [demand], kept)

    def _narrow(self) -> None:
        """Again by the same conditions, or by one more."""
        phrasing, wanted = self._phrasing, self._wanted
        if self._unmet or not wanted:
            return
        if self._rejects:
            said = wanted[:3]
            self._add(
                "continue",
                lambda: phrasing.say("retries", np=phrasing.noun_phrase(said)),
                said,
                self._standing,
            )
        else:
            said = wanted[:2]
            self._add(
                "continue",
                lambda: phrasing.say("stays", np=phrasing.noun_phrase(said, one=False)),
                said,
                self._standing,
            )
        # what was just rejected is nothing to go by, see `_restate`
        fresh = [] if self._rejects else [a for a in self._fresh if a.kind != "artist"]
        if fresh:
            self._ways += 3 * [lambda: self._add_to_all(fresh)]

    def _add_to_all(self, fresh: Sequence[Attribute]) -> None:
        (added,) = one_a_kind(fresh, self._kinds, 1, self._rng)
        name = "refine_with" if added.kind in ADVERBIAL else "refine"
        text = self._phrasing.say(name, mod=self._phrasing.modifier(added))
        self._request.ask("refine", text, [added], self._standing)

    def _vary(self) -> None:
        """Without the one condition that the target does not meet, or with another in its place."""
        if len(self._unmet) != 1 or self._unmet[0].excluded:
            return
        phrasing, lost = self._phrasing, self._unmet[0]
        kept = [a for a in self._standing if a is not lost]
        if len(self._wanted) < 2:
            return
        self._put_in_place(lost, kept, "refine", "replace")
        if lost.kind != "popularity" and all(a.kind != lost.kind for a in kept):
            self._add(
                "relax",
                lambda: phrasing.say(
                    "relax", mod=phrasing.modifier(lost), kind=phrasing.book["kinds"][lost.kind]
                ),
                [],
                kept,
                topic=lost.kind,
                times=2,
            )

    def _swap(self) -> None:
        """Another value in place of the only condition."""
        if self._unmet and len(self._wanted) == 1 and not self._unmet[0].excluded:
            self._put_in_place(self._unmet[0], self._kept, "change", "instead")

    def _put_in_place(
        self, lost: Attribute, kept: Sequence[Attribute], act: str, name: str
    ) -> None:
        phrasing = self._phrasing
        new = [a for a in self._known if a.kind == lost.kind]
        if new and lost.kind in CORRECTABLE:
            self._add(
                act,
                lambda: phrasing.say(
                    name, new=phrasing.modifier(new[0]), old=phrasing.modifier(lost)
                ),
                new[:1],
                kept,
                times=3,
            )

    def _restate(self) -> None:
        """Something that was asked for or played, said again with something new."""
        anchors = [a for a in self._kept if not a.excluded and self._kinds.get(a.kind, 0) > 0]
        if not anchors and not self._rejects:
            kinds = {a.kind for a in self._fresh}
            anchors = [a for a in self._shared if a.kind in ANCHORS and kinds - {a.kind}]
        if anchors and self._fresh:
            self._ways += 3 * [lambda: self._say_again(anchors)]

    def _say_again(self, anchors: Sequence[Attribute]) -> None:
        rng, phrasing = self._rng, self._phrasing
        (anchor,) = one_a_kind(anchors, self._kinds, 1, rng)
        fresh = [a for a in self._fresh if a.kind != anchor.kind]
        count = 1 if rng.random() < 0.75 else 2
        said = [anchor, *one_a_kind(fresh, self._kinds, count, rng)]
        if rng.random() < 0.12 and phrasing.listable(said):
            text = phrasing.keywords(said)
        else:
            # nobody asks for something more after what was no good
            more = not self._rejects and rng.random() < 0.35
            text = phrasing.say(
                "additions" if more else "follow_ups", np=phrasing.noun_phrase(said)
            )
        self._request.ask("refine", text, said, self._kept)

    def _go_on(self) -> None:
        """More like the last track, or of its artist, or like it but for one thing."""
        if self._rejects:
            return
        phrasing = self._phrasing
        shared = [a for a in self._shared if a.kind == "genre"]
        shared.sort(key=lambda a: a not in self._standing)
        holding = self._kept
        if shared and (self._unmet or not self._wanted) and shared[0] not in holding:
            holding = [*holding, shared[0]]
        if any(not a.excluded for a in holding):
            self._add("continue", self._said("similar"), [], holding, topic="similar")
        if self._target.artist.casefold() == self._last.artist.casefold():
            artist = self._last.artist
            same = Attribute("artist", artist, (Constraint("artist", "is", artist),))
            self._add("continue", self._said("same_artist", x=artist[:LONGEST]), [same], self._kept)
        changed = [a for a in self._fresh if a.kind in ("mood", "tempo")]
        if shared and changed:
            change = changed[int(self._rng.random() * len(changed))]
            self._add(
                "refine",
                lambda: phrasing.say(
                    "keep_but", keep=phrasing.value(shared[0]), mod=phrasing.modifier(change)
                ),
                [shared[0], change],
                self._kept,
            )

    @cached_property
    def _shared(self) -> list[Attribute]:
        """What the target and the last track have in common."""
        return [a for a in self._known if (a.kind, a.value) in self._their_values]

    @cached_property
    def _fresh(self) -> list[Attribute]:
        """What the target has and the last track has not, beside the kinds that stand."""
        kinds = {a.kind for a in self._kept}
        return [
            a
            for a in self._known
            if a.kind not in kinds and (a.kind, a.value) not in self._their_values
        ]

    def _said(self, name: str, **words: str) -> Callable[[], str]:
        return lambda: self._phrasing.say(name, **words)
