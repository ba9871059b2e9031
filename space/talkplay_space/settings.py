"""What the controls of the page say, and what a catalogue lets them offer."""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from statistics import median
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from talkplay_hf import Constraint
from talkplay_space.conversation import RefusedError

if TYPE_CHECKING:
    from talkplay_hf import Catalog, Recommender

STRATEGIES = ("rank", "sample")
MAX_TRACKS = 5
MAX_TEMPERATURE = 2.0
MAX_TAGS = 10
TAG_CHARACTERS = 100
YEARS = (1, 9999)
# what JavaScript and JSON can both hold exactly
MAX_SEED = 2**53 - 1
OFFERED_TAGS = 200
_FLAG_WORDS = frozenset({"true", "false", "1", "0", "yes", "no"})


@dataclass(frozen=True)
class Choices:
    """What the columns of a catalogue let the controls offer.

    Args:
        years (`tuple[int, int]`, *optional*): The first and the last release year; `None` where no
            track has one.
        tags (`tuple[str, ...]`): The tags to choose from, the most frequent first.
        all_tags (`frozenset[str]`): All tags, case-folded.
        explicit (`bool`): Whether the tracks say if they are explicit.
        artists (`int`): How many artists there are; one track an artist makes sense above 1.
        tempo (`float`, *optional*): The tempo that half of the tracks stay below, in beats per
            minute.
    """

    years: tuple[int, int] | None = None
    tags: tuple[str, ...] = ()
    all_tags: frozenset[str] = frozenset()
    explicit: bool = False
    artists: int = 0
    tempo: float | None = None

    @classmethod
    def of(cls, recommender: "Recommender") -> "Choices":
        """What the catalogue of a recommender offers; read once and remembered."""
        known = _KNOWN.get(recommender)
        if known is None:
            known = _KNOWN[recommender] = cls._read(recommender.catalog)
        return known

    @classmethod
    def _read(cls, catalog: "Catalog") -> "Choices":
        years = [year for year in catalog.column("year") if year is not None]
        tempos = [tempo for tempo in catalog.column("tempo") if tempo is not None]
        counts = Counter(tag for tags in catalog.column("tags") for tag in tags or ())
        usable = [tag for tag, _ in counts.most_common() if 0 < len(tag) <= TAG_CHARACTERS]
        return cls(
            years=(min(years), max(years)) if years else None,
            tags=tuple(usable[:OFFERED_TAGS]),
            all_tags=frozenset(tag.casefold() for tag in counts),
            explicit="explicit" in catalog.extra_columns and _is_flag(catalog.column("explicit")),
            artists=len(set(catalog.column("artist"))),
            tempo=median(tempos) if tempos else None,
        )


_KNOWN: "WeakKeyDictionary[Recommender, Choices]" = WeakKeyDictionary()


@dataclass(frozen=True)
class Settings:
    """How the listener wants to be answered.

    Args:
        tracks (`int`): Tracks an answer plays, 1 to 5.
        strategy (`str`): `"rank"` plays the most probable track, `"sample"` draws one.
        temperature (`float`): Sampling temperature, above 0 up to 2.
        top_p (`float`): Nucleus, above 0 up to 1.
        year_from (`int`, *optional*): Release year at least.
        year_to (`int`, *optional*): Release year at most.
        tags (`tuple[str, ...]`): Tags that every track has, all of them; at most 10.
        explicit (`bool`): Whether tracks that are marked as explicit may be played.
        no_repeats (`bool`): Leave out what the conversation has played.
        one_per_artist (`bool`): No artist twice in a conversation.
        names (`bool`): Choose among the tracks that a message names by artist, title or album.
        seed (`int`, *optional*): Makes answers repeatable.

    Raises:
        RefusedError: If a value is impossible.
    """

    tracks: int = 1
    strategy: str = "rank"
    temperature: float = 1.0
    top_p: float = 0.9
    year_from: int | None = None
    year_to: int | None = None
    tags: tuple[str, ...] = ()
    explicit: bool = True
    no_repeats: bool = True
    one_per_artist: bool = False
    names: bool = True
    seed: int | None = None

    def __post_init__(self) -> None:
        _check_whole("The number of tracks", self.tracks, 1, MAX_TRACKS)
        if not isinstance(self.strategy, str) or self.strategy not in STRATEGIES:
            raise RefusedError(f"The strategy must be {' or '.join(STRATEGIES)}.")
        _check_number("The temperature", self.temperature, MAX_TEMPERATURE)
        _check_number("Top-p", self.top_p, 1.0)
        for name in ("explicit", "no_repeats", "one_per_artist", "names"):
            if not isinstance(getattr(self, name), bool):
                raise RefusedError(f"The setting {name} must be true or false.")
        for year in (self.year_from, self.year_to):
            if year is not None:
                _check_whole("A year", year, *YEARS)
        if (
            self.year_from is not None
            and self.year_to is not None
            and self.year_from > self.year_to
        ):
            raise RefusedError(
                f"The years run backwards: {self.year_from} is after {self.year_to}."
            )
        if not isinstance(self.tags, tuple) or len(self.tags) > MAX_TAGS:
            raise RefusedError(f"There can be at most {MAX_TAGS} tags.")
        for tag in self.tags:
            if not isinstance(tag, str) or not 0 < len(tag.strip()) <= len(tag) <= TAG_CHARACTERS:
                raise RefusedError(f"A tag must be a text of 1 to {TAG_CHARACTERS} characters.")
        if self.seed is not None:
            _check_whole("The seed", self.seed, 0, MAX_SEED)

    @classmethod
    def from_dict(cls, values: Any) -> "Settings":
        """Read settings that came from outside.

        Args:
            values (`Mapping`): Names and values; what is absent has its default.

        Raises:
            RefusedError: If a name is unknown or a value impossible.
        """
        if not isinstance(values, Mapping):
            raise RefusedError("The settings must be an object of names and values.")
        names = [field.name for field in fields(cls)]
        if not all(isinstance(name, str) and name in names for name in values):
            raise RefusedError(f"The settings have an unknown name; there are {', '.join(names)}.")
        given = dict(values)
        if "tags" in given:
            if not isinstance(given["tags"], list | tuple):
                raise RefusedError("The tags must be a list of texts.")
            given["tags"] = tuple(given["tags"])
        return cls(**given)

    def to_dict(self) -> dict[str, Any]:
        """Names and values, as JSON can hold them; those with their default are left out."""
        changed = {
            name: value for name, value in asdict(self).items() if value != getattr(DEFAULT, name)
        }
        return {**changed, "tags": list(self.tags)} if self.tags else changed

    def rules(self) -> list[Constraint | str]:
        """What every track has to meet, as `Recommender` takes it."""
        rules: list[Constraint | str] = []
        if self.year_from is not None:
            rules.append(Constraint("year", "ge", str(self.year_from)))
        if self.year_to is not None:
            rules.append(Constraint("year", "le", str(self.year_to)))
        rules += [Constraint("tags", "is", tag) for tag in self.tags]
        if not self.explicit:
            rules.append("not explicit")
        if self.one_per_artist:
            rules.append("artist at most 1")
        return rules

    def options(self) -> dict[str, Any]:
        """The options of `Recommender.chat` and `Recommender.stream`, without the seed."""
        return {
            "tracks": self.tracks,
            "strategy": self.strategy,
            "temperature": self.temperature,
            "top_p": self.top_p,
            **self.ranking(),
        }

    def ranking(self) -> dict[str, Any]:
        """The options of `Recommender.rank`, without the seed."""
        return {
            "exclude_played": self.no_repeats,
            "rules": self.rules(),
            "names": self.names,
        }

    def problem(self, choices: Choices) -> str | None:
        """Why a catalogue cannot serve these settings, in one line; `None` where it can.

        Args:
            choices (`Choices`): What the catalogue offers.
        """
        if (self.year_from is not None or self.year_to is not None) and choices.years is None:
            return "This catalogue knows no release years: please leave the years empty."
        for tag in self.tags:
            if tag.casefold() not in choices.all_tags:
                return "This catalogue does not have one of the tags: please choose from the list."
        if not self.explicit and not choices.explicit:
            return "This catalogue does not say which tracks are explicit."
        return None

    def fitted(self, choices: Choices) -> "Settings":
        """The settings without the values that a catalogue has no use for.

        Args:
            choices (`Choices`): What the catalogue offers.
        """
        first, last = choices.years or (math.inf, -math.inf)
        return replace(
            self,
            year_from=self.year_from if (self.year_from or math.inf) <= last else None,
            year_to=self.year_to if (self.year_to or -math.inf) >= first else None,
            tags=tuple(tag for tag in self.tags if tag.casefold() in choices.all_tags),
            explicit=self.explicit or not choices.explicit,
            one_per_artist=self.one_per_artist and choices.artists > 1,
        )


def _is_flag(values: list[Any]) -> bool:
    """Whether a column is a flag that some tracks have, as the rules of the package read one."""
    known = {str(value).casefold() for value in values if value is not None}
    return bool(known) and known <= _FLAG_WORDS


def _check_whole(what: str, value: object, least: int, most: int) -> None:
    # True is an int, too
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise RefusedError(f"{what} must be a whole number from {least} to {most}.")


def _check_number(what: str, value: object, most: float) -> None:
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float)
        or not math.isfinite(value)
        or not 0 < value <= most
    ):
        raise RefusedError(f"{what} must be a number above 0, at most {most:g}.")


DEFAULT = Settings()
