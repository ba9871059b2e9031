"""What can be said about a track: attributes with words and the constraints they stand for."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from random import Random

import numpy as np

from talkplay_hf.catalog.constraints import Constraint, satisfied
from talkplay_hf.catalog.schema import Catalog, Track

SLOW, FAST = 95.0, 125.0
LIVELY, QUIET = frozenset({"happy", "upbeat", "energetic", "intense"}), frozenset({"calm", "sad"})
HIT_QUANTILE, OBSCURE_QUANTILE = 0.85, 0.3
_WORD = re.compile(r"[a-zäöüßàâçéèêëîïôûñ']{4,}")


@dataclass(frozen=True)
class Attribute:
    """One thing a listener can ask for.

    Args:
        kind (`str`): `"artist"`, `"album"`, `"genre"`, `"mood"`, `"era"`, `"tempo"`, `"theme"`,
            `"sound"` or `"popularity"`; in a request also `"track"`.
        value (`str`): The value, as a key into the phrase book or as it is said.
        constraints (`tuple[Constraint, ...]`): What it demands of a track.
        passing (`bool`): Whether it is about one track only, and no standing condition.
        excluded (`bool`): Whether it says what is not wanted.
    """

    kind: str
    value: str
    constraints: tuple[Constraint, ...]
    passing: bool = False
    excluded: bool = False

    def met_by(self, track: Track) -> bool:
        """Whether a track is so, as far as constraints can tell."""
        return satisfied(self.constraints, track)

    @cached_property
    def exclusion(self) -> "Attribute | None":
        """The opposite, where one constraint can say it."""
        if len(self.constraints) != 1 or self.constraints[0].op != "is":
            return None
        constraint = Constraint(self.constraints[0].field, "not", self.constraints[0].value)
        return Attribute(self.kind, self.value, (constraint,), excluded=True)


def _between(field: str, low: float | None, high: float | None) -> tuple[Constraint, ...]:
    bounds = []
    if low is not None:
        bounds.append(Constraint(field, "ge", f"{low:g}"))
    if high is not None:
        bounds.append(Constraint(field, "lt", f"{high:g}"))
    return tuple(bounds)


MOOD_BY_DESCRIPTORS = {
    "upbeat": (*_between("valence", 0.6, None), *_between("energy", 0.6, None)),
    "sad": (*_between("valence", None, 0.35), *_between("energy", None, 0.55)),
    "calm": _between("energy", None, 0.4),
    "intense": _between("energy", 0.85, None),
    "dark": (*_between("valence", None, 0.25), *_between("energy", 0.6, None)),
}
SOUND_BY_DESCRIPTORS = {
    "acoustic": _between("acousticness", 0.6, None),
    "danceable": _between("danceability", 0.78, None),
    "instrumental": _between("instrumentalness", 0.5, None),
    "live": _between("liveness", 0.7, None),
}


class AttributeReader:
    """Reads what can be said about the tracks of a catalog, from the columns that it has.

    Genre comes from a `genre` column, else from tags; mood from a `mood` column, else from tags
    that name one, else from `valence` and `energy`; sound from `instrument`, else from descriptors;
    theme from `theme`, else from the rarest frequent word of the lyrics; popularity from the upper
    and the lower end of the column.

    Args:
        catalog (`Catalog`): The catalog.
        moods (`frozenset[str]`): Tags that name a mood.
    """

    def __init__(self, catalog: Catalog, moods: frozenset[str]) -> None:
        self._columns = set(catalog.tracks.column_names)
        self._moods = moods
        self._lyric_words: Counter[str] = Counter()
        if "theme" not in self._columns and catalog.tracks["lyrics"].null_count < len(catalog):
            for lyrics in catalog.column("lyrics"):
                self._lyric_words.update(set(_WORD.findall((lyrics or "").casefold())))
        self._tracks = len(catalog)
        self._popularity = _popularity_bounds(catalog)

    def read(self, track: Track) -> list[Attribute]:
        """All attributes of a track."""
        found = [Attribute("artist", track.artist, (Constraint("artist", "is", track.artist),))]
        if track.album and _album_says_more(track):
            demand = (Constraint("album", "is", track.album),)
            found.append(Attribute("album", track.album, demand))
        found += self._tags(track)
        found += [a for a in self._popularity if a.met_by(track)]
        if track.year is not None:
            decade = track.year // 10 * 10
            found.append(Attribute("era", f"{decade}", _between("year", decade, decade + 10)))
        if track.tempo is not None:
            low, high = (
                (None, SLOW)
                if track.tempo < SLOW
                else (SLOW, FAST)
                if track.tempo < FAST
                else (FAST, None)
            )
            value = "slow" if low is None else "fast" if high is None else "mid-tempo"
            found.append(Attribute("tempo", value, _between("tempo", low, high)))
        theme = self._theme(track)
        if theme is not None:
            found.append(theme)
        if "instrument" in self._columns:
            instrument = track.get("instrument")
            if instrument:
                constraint = Constraint("instrument", "is", str(instrument))
                found.append(Attribute("sound", str(instrument), (constraint,)))
        else:
            found += _by_descriptors(track, "sound", SOUND_BY_DESCRIPTORS)
        return found

    def _tags(self, track: Track) -> list[Attribute]:
        found = []
        for kind in ("genre", "mood"):
            value = track.get(kind)
            if kind in self._columns and value:
                found.append(Attribute(kind, str(value), (Constraint(kind, "is", str(value)),)))
        for tag in track.tags:
            kind = "mood" if tag.casefold() in self._moods else "genre"
            if kind not in self._columns:
                found.append(Attribute(kind, tag, (Constraint("tags", "is", tag),)))
        if "mood" not in self._columns:
            found += _by_descriptors(track, "mood", MOOD_BY_DESCRIPTORS)
        return found

    def _theme(self, track: Track) -> Attribute | None:
        if "theme" in self._columns:
            theme = track.get("theme")
            demand = (Constraint("theme", "is", str(theme)),)
            return Attribute("theme", str(theme), demand) if theme else None
        counts = Counter(_WORD.findall((track.lyrics or "").casefold()))
        candidates = [
            (count / (1 + self._lyric_words[word]), word)
            for word, count in counts.items()
            if count >= 2 and self._lyric_words[word] <= 0.1 * self._tracks
        ]
        # lyrics cannot be checked by a constraint on one column, so the theme demands nothing
        return Attribute("theme", max(candidates)[1], ()) if candidates else None


def fitting_activities(attributes: Sequence[Attribute]) -> list[str]:
    """Which activities a track may be for, by its tempo and mood: `any`, `lively`, `quiet`."""
    values = {a.value for a in attributes if a.kind in ("mood", "tempo")}
    if values & LIVELY or ("fast" in values and not values & QUIET):
        return ["any", "lively"]
    return ["any", "quiet"] if values & QUIET or "slow" in values else ["any"]


def one_a_kind(
    attributes: Sequence[Attribute], weights: Mapping[str, float], count: int, rng: Random
) -> list[Attribute]:
    """Draw some attributes of different kinds.

    Args:
        attributes (`Sequence[Attribute]`): What there is.
        weights (`Mapping[str, float]`): How often each kind is drawn; one that is absent never is.
        count (`int`): How many at most.
        rng (`random.Random`): Draws them.
    """
    left = [a for a in attributes if weights.get(a.kind, 0) > 0]
    picked: list[Attribute] = []
    while left and len(picked) < count:
        draw = rng.random() * sum([weights[a.kind] for a in left])
        for chosen in left:
            draw -= weights[chosen.kind]
            if draw < 0:
                break
        picked.append(chosen)
        left = [a for a in left if a.kind != chosen.kind]
    return picked


def _album_says_more(track: Track) -> bool:
    """Whether the album is not just named after the track, as a single is."""
    title, album = track.title.casefold(), (track.album or "").casefold()
    return title not in album and album not in title


def _popularity_bounds(catalog: Catalog) -> tuple[Attribute, ...]:
    """What is a hit in this catalog and what is little known, where popularity tells them apart."""
    values = np.array([v for v in catalog.column("popularity") if v is not None], dtype=float)
    values = values[np.isfinite(values)]
    if not len(values):
        return ()
    high, low = np.quantile(values, (HIT_QUANTILE, OBSCURE_QUANTILE))
    if not high > low:
        return ()
    return (
        Attribute("popularity", "hit", _between("popularity", high, None)),
        Attribute("popularity", "obscure", _between("popularity", None, low)),
    )


def _by_descriptors(
    track: Track, kind: str, table: dict[str, tuple[Constraint, ...]]
) -> list[Attribute]:
    return [
        Attribute(kind, value, constraints)
        for value, constraints in table.items()
        if satisfied(constraints, track)
    ]
