"""The tracks of a catalog as a conversation sees them: one by one, and around a target."""

from collections.abc import Collection, Sequence
from random import Random

from talkplay_hf.catalog.schema import Catalog, Track
from talkplay_hf.conversations.simulation.attributes import Attribute, AttributeReader
from talkplay_hf.conversations.simulation.phrasing import mood_tags

TRIES = 12


class TrackFacts:
    """The tracks of a catalog with what can be said about them, read when they are needed."""

    def __init__(self, catalog: Catalog) -> None:
        self.catalog = catalog
        self._reader = AttributeReader(catalog, mood_tags())
        self._tracks: dict[str, Track] = {}
        self._attributes: dict[str, list[Attribute]] = {}

    def track(self, track_id: str) -> Track:
        """The track with this id."""
        if track_id not in self._tracks:
            self._tracks[track_id] = self.catalog.track(track_id)
        return self._tracks[track_id]

    def attributes(self, track_id: str) -> list[Attribute]:
        """All that can be said about a track."""
        if track_id not in self._attributes:
            self._attributes[track_id] = self._reader.read(self.track(track_id))
        return self._attributes[track_id]


class Surroundings:
    """What else there is beside a target track: of its playlist, and of the rest of the catalog.

    Args:
        facts (`TrackFacts`): The tracks.
        playlist (`Sequence[str]`): The playlist that the conversation is about.
        others (`Sequence[int]`): Rows of the tracks that may be played or spoken of besides.
        rng (`random.Random`): Draws everything.
    """

    def __init__(
        self, facts: TrackFacts, playlist: Sequence[str], others: Sequence[int], rng: Random
    ) -> None:
        self._facts = facts
        self._playlist = playlist
        self._others = others
        self._rng = rng

    def value(self, kind: str, target: Track) -> Attribute | None:
        """Another value of a kind, that the target has not, from the playlist or the catalog."""
        rng, facts = self._rng, self._facts
        words = {a.value for a in facts.attributes(target.track_id) if a.kind == kind}
        for number in range(TRIES):
            if number < TRIES // 2:
                track_id = self._playlist[int(rng.random() * len(self._playlist))]
            elif len(self._others):
                row = self._others[int(rng.random() * len(self._others))]
                track_id = facts.catalog.track_ids[row]
            else:
                return None
            for other in facts.attributes(track_id):
                if (
                    other.kind == kind
                    and other.value not in words
                    and other.constraints
                    and not other.met_by(target)
                ):
                    return other
        return None

    def kin(self, target: Track) -> tuple[Track, Attribute] | None:
        """A track of the playlist by another artist, and a genre that the target has too."""
        genres = [
            a
            for a in self._facts.attributes(target.track_id)
            if a.kind == "genre" and a.constraints
        ]
        for _ in range(TRIES if genres else 0):
            other = self._facts.track(self._playlist[int(self._rng.random() * len(self._playlist))])
            shared = [a for a in genres if a.met_by(other)]
            if shared and other.artist.casefold() != target.artist.casefold():
                return other, shared[0]
        return None

    def negative(
        self, target: Track, outside: Collection[str]
    ) -> tuple[Track, list[Attribute]] | None:
        """A track of the negative set (paper A.1), and what it has in common with the target.

        Args:
            target (`Track`): The track that the user wants in its place.
            outside (`Collection[str]`): Tracks that it must not be.
        """
        rng, facts = self._rng, self._facts
        mine = [a for a in facts.attributes(target.track_id) if a.constraints]
        for _ in range(TRIES if len(self._others) else 0):
            row = self._others[int(rng.random() * len(self._others))]
            track_id = facts.catalog.track_ids[row]
            if track_id in outside:
                continue
            track = facts.track(track_id)
            shared = [a for a in mine if a.met_by(track)]
            if shared:
                return track, shared
        return None
