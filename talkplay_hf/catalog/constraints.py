"""What a listener asks for, readable by a machine.

A constraint compares one column of the catalog with a value. The simulator attaches constraints to
what it makes a user say, runtime rules filter by them, and request satisfaction is measured with
them, so that the three always mean the same.
"""

import json
import math
import operator
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from talkplay_hf.errors import InputError

OPERATORS = ("is", "not", "lt", "le", "gt", "ge")
COMPARE: dict[str, Callable[[Any, Any], Any]] = {
    "lt": operator.lt,
    "le": operator.le,
    "gt": operator.gt,
    "ge": operator.ge,
}
SIGNS = {"lt": "<", "le": "<=", "gt": ">", "ge": ">="}
# a value that reads as it stands: no white space at its ends, no quote or "not" before it
_PLAIN = re.compile(r'(?!"|not(?!\S))\S(.*\S)?', re.DOTALL | re.IGNORECASE)


class HasColumns(Protocol):
    """Anything with named values, such as a `Track`."""

    def get(self, name: str) -> Any:
        """The value of a column, or `None` where it is missing."""


@dataclass(frozen=True)
class Constraint:
    """One demand on a track: `field` `op` `value`.

    Args:
        field (`str`): A column of the catalog (`"artist"`, `"tags"`, `"year"`, `"tempo"`, ...).
        op (`str`): `"is"` and `"not"` compare text without regard to case (for a list: is the
            value one of it); `"lt"`, `"le"`, `"gt"`, `"ge"` compare numbers.
        value (`str`): The value, numbers as text.

    Raises:
        InputError: If the operator is unknown, or a number was expected and `value` is none.
    """

    field: str
    op: str
    value: str

    def __post_init__(self) -> None:
        if not isinstance(self.op, str) or self.op not in OPERATORS:
            raise InputError(f"constraint operator {self.op!r:.60}: must be one of {OPERATORS}")
        if not isinstance(self.field, str) or not isinstance(self.value, str):
            raise InputError(
                f"constraint {self.field!r:.60} {self.op} {self.value!r:.60}: the column and the "
                "value must be text"
            )
        if self.op not in ("is", "not") and number_of(self.value) is None:
            raise InputError(
                f"constraint {self.field:.80} {self.op} {self.value!r:.80}: the value must be a "
                "number"
            )

    def satisfied_by(self, track: HasColumns) -> bool:
        """Whether a track meets the constraint.

        A missing value, or one that is no number where numbers are compared, meets only `"not"`.
        """
        found = track.get(self.field)
        if self.op in ("is", "not"):
            return (self.value.casefold() in texts_of(found)) == (self.op == "is")
        number, bound = number_of(found), number_of(self.value)
        return number is not None and bound is not None and bool(COMPARE[self.op](number, bound))

    def __str__(self) -> str:
        """Such as `year >= 1990` or `artist not The Band`: what `parse_rule` reads."""
        plain = _PLAIN.fullmatch(self.value)
        value = self.value if plain else json.dumps(self.value, ensure_ascii=False)
        return f"{self.field} {SIGNS.get(self.op, self.op)} {value}"


def number_of(value: Any) -> float | None:
    """The number that a value is or spells, or `None`."""
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return None if math.isnan(number) else number


def texts_of(value: Any) -> Iterator[str]:
    """The case-folded texts that a value is known by: none if missing, those of each item."""
    if isinstance(value, list | tuple):
        for item in value:
            yield from texts_of(item)
    elif value is not None:
        yield str(value).casefold()
        if isinstance(value, float) and value.is_integer():
            yield str(int(value))


def satisfied(constraints: Iterable[Constraint], track: HasColumns) -> bool:
    """Whether a track meets all of the constraints."""
    return all(constraint.satisfied_by(track) for constraint in constraints)
