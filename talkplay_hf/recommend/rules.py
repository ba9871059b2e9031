"""Rules at run time: which tracks of the catalogue may be recommended in a chat.

A rule is a set of tracks, as a mask over the catalogue; rules combine with `&`, `|` and `~`. Most
are about the tracks alone, some (`AtMost`) about what the chat has played so far. What a track must
be like is said with the same `Constraint` as in simulated requests, so that both mean the same.
"""

import json
import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import pyarrow as pa

from talkplay_hf.catalog.constraints import OPERATORS, SIGNS, Constraint, texts_of
from talkplay_hf.catalog.matcher import BoolArray, ConstraintMatcher
from talkplay_hf.errors import InputError
from talkplay_hf.recommend.values import check_texts

TRUE, FALSE = frozenset({"true", "1", "yes"}), frozenset({"false", "0", "no"})
FORMS = "COLUMN, COLUMN is VALUE, COLUMN not VALUE, COLUMN >= NUMBER, COLUMN at most TIMES"
_OPERATIONS = {sign: op for op, sign in SIGNS.items()} | {op: op for op in OPERATORS}
_OPERATIONS |= {"=": "is", "==": "is", "!=": "not", "is not": "not"}
_OPERATION = re.compile(
    r"\s+(is\s+not|is|not|lt|le|gt|ge|at\s+most)(?:\s+|$)|\s*(<=|>=|!=|==|=|<|>)\s*", re.IGNORECASE
)
_TIMES = re.compile(r"([0-9]{1,9})(?:\s+in(?:\s+the)?\s+last\s+([0-9]{1,9}))?", re.IGNORECASE)
_NOTS = re.compile(r"(?:not(?:\s+|$))+", re.IGNORECASE)
# a rule that is turned around more often means nothing, and thousands are too deep to be read
MAX_TURNS = 9


class Rule(ABC):
    """A set of tracks that may be recommended."""

    @property
    def by_chat(self) -> bool:
        """Whether it depends on what the chat has played; the mask of others is made once."""
        return False

    @abstractmethod
    def mask(self, tracks: ConstraintMatcher, played: Sequence[int]) -> BoolArray:
        """Which tracks it allows.

        Args:
            tracks (`ConstraintMatcher`): The catalogue.
            played (`Sequence[int]`): The catalogue rows that the chat has played, oldest first.

        Returns:
            `np.ndarray` of shape `[n]`, bool.

        Raises:
            InputError: If it cannot be applied to this catalogue.
        """

    def __and__(self, other: "OneRule") -> "Rule":
        return Combined("and", (self, as_rule(other)))

    def __or__(self, other: "OneRule") -> "Rule":
        return Combined("or", (self, as_rule(other)))

    def __invert__(self) -> "Rule":
        return Not(self)


Condition: TypeAlias = Callable[[pa.Table], Any]
OneRule: TypeAlias = Rule | Constraint | str | Condition
Rules: TypeAlias = OneRule | Sequence[OneRule]


@dataclass(frozen=True)
class Meets(Rule):
    """Tracks that meet a constraint; a track without a value meets only `"not"`."""

    constraint: Constraint

    def mask(self, tracks: ConstraintMatcher, played: Sequence[int]) -> BoolArray:
        """See `Rule`."""
        _check_column(self, self.constraint.field, tracks)
        return tracks.mask([self.constraint])

    def __str__(self) -> str:
        return str(self.constraint)


@dataclass(frozen=True)
class Flag(Rule):
    """Tracks with a flag, such as `explicit`.

    The column holds booleans, 0 and 1, or the words true, false, yes, no. A track whose flag is
    missing does not have it, so `~Flag("explicit")` keeps that track, whereas the constraint
    `explicit is false` keeps only those that are known not to be explicit.

    Args:
        column (`str`): The column of the flag.
    """

    column: str

    def mask(self, tracks: ConstraintMatcher, played: Sequence[int]) -> BoolArray:
        """See `Rule`."""
        _check_column(self, self.column, tracks)
        for value in tracks.distinct(self.column):
            if not (TRUE | FALSE).intersection(texts_of(value)):
                raise InputError(
                    f"rule {str(self)!r}: {self.column} is no flag, it holds {value!r}; "
                    f"a rule can be {FORMS}"
                )
        return tracks.holding(self.column, TRUE)

    def __str__(self) -> str:
        return self.column


@dataclass(frozen=True)
class Where(Rule):
    """Tracks for which a function of the table says so.

    Args:
        condition (`Callable`): Takes the tracks as a `pyarrow.Table` of `n` rows and gives `n`
            booleans (NumPy, Arrow, a list); where Arrow gives null the track is left out.
        name (`str`, *optional*): What messages call it; the name of the function by default.
    """

    condition: Condition
    name: str = ""

    def mask(self, tracks: ConstraintMatcher, played: Sequence[int]) -> BoolArray:
        """See `Rule`."""
        found = self.condition(tracks.catalog.tracks)
        if isinstance(found, pa.Array | pa.ChunkedArray) and pa.types.is_boolean(found.type):
            found = found.fill_null(False)
        mask = np.asarray(found)
        if mask.shape != (len(tracks.catalog),) or mask.dtype != np.bool_:
            raise InputError(
                f"rule {str(self)!r}: gives {mask.dtype} of shape {mask.shape}; it must give "
                f"bool of shape ({len(tracks.catalog)},), one value a track"
            )
        return mask

    def __str__(self) -> str:
        return self.name or getattr(self.condition, "__name__", "condition")


@dataclass(frozen=True)
class Among(Rule):
    """Tracks of a given set, such as candidates from elsewhere; `~Among(ids)` leaves them out.

    Args:
        track_ids (`Iterable[str]`): Their ids. Ids that the catalogue does not have are ignored.
    """

    track_ids: Iterable[str]

    def __post_init__(self) -> None:
        check_texts("track_ids", self.track_ids)
        object.__setattr__(self, "track_ids", frozenset(self.track_ids))

    def mask(self, tracks: ConstraintMatcher, played: Sequence[int]) -> BoolArray:
        """See `Rule`."""
        catalog = tracks.catalog
        mask = np.zeros(len(catalog), dtype=bool)
        mask[[catalog.row(track_id) for track_id in self.track_ids if track_id in catalog]] = True
        return mask

    def __str__(self) -> str:
        return f"among {len(frozenset(self.track_ids)):,} track ids"


@dataclass(frozen=True)
class AtMost(Rule):
    """Diversity: tracks whose artist (or album, ...) was not yet played too often in the chat.

    Args:
        column (`str`): The column that is to vary, compared as text regardless of case; a track
            without a value is always allowed, one with several needs all of them to be.
        times (`int`): How often the same value may be played.
        last (`int`, *optional*): Count only the last so many played tracks; all by default.

    Raises:
        InputError: If `times` or `last` is below 1.
    """

    column: str = "artist"
    times: int = 1
    last: int | None = None

    @property
    def by_chat(self) -> bool:
        """See `Rule`."""
        return True

    def __post_init__(self) -> None:
        if self.times < 1 or (self.last is not None and self.last < 1):
            raise InputError(f"rule {str(self)!r}: the numbers must be at least 1")

    def mask(self, tracks: ConstraintMatcher, played: Sequence[int]) -> BoolArray:
        """See `Rule`."""
        _check_column(self, self.column, tracks)
        recent = played if self.last is None else played[-self.last :]
        values = [tracks.catalog.track_at(row).get(self.column) for row in recent]
        counts = Counter(text for value in values for text in set(texts_of(value)))
        worn = [text for text, count in counts.items() if count >= self.times]
        return ~tracks.holding(self.column, worn)

    def __str__(self) -> str:
        last = "" if self.last is None else f" in last {self.last}"
        return f"{self.column} at most {self.times}{last}"


@dataclass(frozen=True)
class Combined(Rule):
    """Tracks that all of several rules (`"and"`) allow, or any of them (`"or"`)."""

    word: Literal["and", "or"]
    rules: tuple[Rule, ...]

    @property
    def by_chat(self) -> bool:
        """See `Rule`."""
        return any(rule.by_chat for rule in self.rules)

    def mask(self, tracks: ConstraintMatcher, played: Sequence[int]) -> BoolArray:
        """See `Rule`."""
        combine = np.logical_and if self.word == "and" else np.logical_or
        mask = np.full(len(tracks.catalog), self.word == "and")
        for rule in self.rules:
            combine(mask, rule.mask(tracks, played), out=mask)
        return mask

    def __str__(self) -> str:
        return f"({f' {self.word} '.join(map(str, self.rules))})"


@dataclass(frozen=True)
class Not(Rule):
    """Tracks that a rule does not allow; those of which it knows nothing are among them."""

    rule: Rule

    @property
    def by_chat(self) -> bool:
        """See `Rule`."""
        return self.rule.by_chat

    def mask(self, tracks: ConstraintMatcher, played: Sequence[int]) -> BoolArray:
        """See `Rule`."""
        return ~self.rule.mask(tracks, played)

    def __str__(self) -> str:
        return f"not {self.rule}"


def as_rule(rule: OneRule) -> Rule:
    """A rule from a rule, a constraint, a text (see `parse_rule`) or a function of the table.

    Raises:
        InputError: If it is none of them, or a text that cannot be read.
    """
    if isinstance(rule, Rule):
        return rule
    if isinstance(rule, Constraint):
        return Meets(rule)
    if isinstance(rule, str):
        return parse_rule(rule)
    if callable(rule):
        return Where(rule)
    raise InputError(f"rule {rule!r:.60}: must be a Rule, a Constraint, a text or a function")


def parse_rule(text: str) -> Rule:
    """Read a rule as it is printed: `year >= 1990`, `tags is jazz`, `not explicit`.

    The operators are those of `Constraint` or their signs (`=`, `!=`, `<`, `<=`, `>`, `>=`, and
    `is not`). A column alone is a `Flag`, `artist at most 1 in last 5` is an `AtMost`. `not` before
    a rule turns it around. A value in double quotes is read as a JSON string, for one that begins
    with "not", a quote or white space.

    Args:
        text (`str`): The rule.

    Raises:
        InputError: If the text is not a rule.
    """
    words = text.strip()
    turned = _NOTS.match(words)
    if turned is not None:
        rule = parse_rule(words[turned.end() :])
        for _ in range(_turns(turned[0], text)):
            rule = Not(rule)
        return rule
    found = _OPERATION.search(words)
    if found is None and words:
        return Flag(words)
    if found is None or not found.start() or found.end() == len(words):
        raise InputError(
            f"rule {text!r:.200}: cannot be read; a rule can be {FORMS}, or not before it"
        )
    column, value = words[: found.start()], words[found.end() :]
    operation = " ".join((found[1] or found[2]).casefold().split())
    if operation == "at most":
        numbers = _TIMES.fullmatch(value)
        if numbers is None:
            raise InputError(
                f"rule {text!r:.200}: write {column:.80} at most 2, or at most 1 in last 5"
            )
        return AtMost(column, int(numbers[1]), int(numbers[2]) if numbers[2] else None)
    if len(value) > 1 and value[0] == value[-1] == '"':
        try:
            value = json.loads(value)
        except ValueError:
            raise InputError(f"rule {text!r:.200}: the value is not a JSON string") from None
    return Meets(Constraint(column, _OPERATIONS[operation], value))


def _turns(nots: str, text: str) -> int:
    turns = len(nots.split())
    if turns > MAX_TURNS:
        raise InputError(f"rule {text!r:.60}: has {turns:,} times not; once is enough")
    return turns


def _check_column(rule: Rule, column: str, tracks: ConstraintMatcher) -> None:
    if column not in tracks.columns:
        raise InputError(
            f"rule {str(rule)!r:.200}: the catalogue has no column {column!r:.80}; "
            f"it has {', '.join(tracks.columns)[:1000]}"
        )
