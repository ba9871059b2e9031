"""Introduces the tracks of a catalog to a model: what a track is called, and which one that is.

Playlists hold few of the tracks of a catalog, and a model that has never seen a name beside its
music tokens cannot play what a listener asks for by it. Text retrieval reads the names of all
tracks; an introduction gives a generative model the same chance, as the indexing tasks of
generative retrieval do (Tay et al., 2022; Zheng et al., 2024). The paper has no such rows.
"""

from collections.abc import Sequence
from random import Random

from talkplay_hf.catalog.constraints import Constraint
from talkplay_hf.catalog.schema import Message, Track
from talkplay_hf.conversations.simulation.attributes import Attribute, one_a_kind
from talkplay_hf.conversations.simulation.options import KINDS
from talkplay_hf.conversations.simulation.phrasing import LONGEST, Phrasing
from talkplay_hf.conversations.simulation.surroundings import TrackFacts

TASK = "Find the track in the catalog."
SOURCE = "catalog"
# Tracks of one introduction: so many that its frame costs little.
TRACKS = 12
TITLED = 0.3
# Shares of no condition beside the artist, one, and two.
CONDITIONS = (0.35, 0.4, 0.25)


class Introductions:
    """Writes introductions; nearly all rows have their turn before one comes again.

    Args:
        facts (`TrackFacts`): The tracks.
        rows (`Sequence[int]`): The catalog rows to introduce.
        rng (`random.Random`): Draws their order.
    """

    def __init__(self, facts: TrackFacts, rows: Sequence[int], rng: Random) -> None:
        self._facts = facts
        self._rows = list(rows)
        self._rng = rng
        self._left: list[int] = []

    def write(self, phrasing: Phrasing, rng: Random) -> tuple[Message, ...]:
        """One introduction: tracks asked for by what they are, each answered by its music alone.

        Args:
            phrasing (`Phrasing`): How it is said.
            rng (`random.Random`): Draws what is said.
        """
        messages = [Message("system", TASK)]
        for track_id in self._next():
            track = self._facts.track(track_id)
            text, constraints = _request(track, self._facts.attributes(track_id), phrasing, rng)
            messages.append(Message("user", text, constraints=constraints))
            messages.append(Message("music", track_id=track_id, source=SOURCE))
        return tuple(messages)

    def _next(self) -> list[str]:
        if len(self._left) < min(TRACKS, len(self._rows)):
            self._left = self._rng.sample(self._rows, len(self._rows))
        chosen, self._left = self._left[:TRACKS], self._left[TRACKS:]
        return [self._facts.catalog.track_ids[row] for row in chosen]


def _request(
    track: Track, attributes: Sequence[Attribute], phrasing: Phrasing, rng: Random
) -> tuple[str, tuple[Constraint, ...]]:
    """A request that the track meets, in as few words as it takes."""
    if rng.random() < TITLED:
        title, name = track.title[:LONGEST], track.artist[:LONGEST]
        by = phrasing.book["joints"]["artist"][0].format(x=name)
        named = rng.choice((f"{title} {by}", f"{title}, {name}", f"{name}, {title}", title))
        return named, (Constraint("title", "is", track.title),)
    artist = [a for a in attributes if a.kind == "artist"]
    others = [a for a in attributes if a.kind != "artist"]
    count = rng.choices(range(len(CONDITIONS)), CONDITIONS)[0]
    picked = artist + one_a_kind(others, KINDS, count, rng)
    rng.shuffle(picked)
    text = phrasing.keywords(picked) if rng.random() < 0.4 else phrasing.noun_phrase(picked)
    return text, tuple(c for a in picked for c in a.constraints)
