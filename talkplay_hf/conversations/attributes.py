"""What can be said about a track: attributes with words and the constraints they stand for."""

import re
from collections import Counter
from dataclasses import dataclass

from talkplay_hf.catalog.constraints import Constraint
from talkplay_hf.catalog.schema import Catalog, Track

SLOW, FAST = 95.0, 125.0
_WORD = re.compile(r"[a-zäöüßàâçéèêëîïôûñ']{4,}")


@dataclass(frozen=True)
class Attribute:
    """One thing a listener can ask for.

    Args:
        kind (`str`): `"artist"`, `"genre"`, `"mood"`, `"era"`, `"tempo"`, `"theme"` or `"sound"`.
        value (`str`): The value, as a key into the phrase book or as it is said.
        constraints (`tuple[Constraint, ...]`): What it demands of a track.
    """

    kind: str
    value: str
    constraints: tuple[Constraint, ...]


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
    theme from `theme`, else from the rarest frequent word of the lyrics.

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

    def read(self, track: Track) -> list[Attribute]:
        """All attributes of a track."""
        found = [Attribute("artist", track.artist, (Constraint("artist", "is", track.artist),))]
        found += self._tags(track)
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
            return (
                Attribute("theme", str(theme), (Constraint("theme", "is", str(theme)),))
                if (theme)
                else None
            )
        counts = Counter(_WORD.findall((track.lyrics or "").casefold()))
        candidates = [
            (count / (1 + self._lyric_words[word]), word)
            for word, count in counts.items()
            if count >= 2 and self._lyric_words[word] <= 0.1 * self._tracks
        ]
        # lyrics cannot be checked by a constraint on one column, so the theme demands nothing
        return Attribute("theme", max(candidates)[1], ()) if candidates else None


def _by_descriptors(
    track: Track, kind: str, table: dict[str, tuple[Constraint, ...]]
) -> list[Attribute]:
    return [
        Attribute(kind, value, constraints)
        for value, constraints in table.items()
        if all(constraint.satisfied_by(track) for constraint in constraints)
    ]
