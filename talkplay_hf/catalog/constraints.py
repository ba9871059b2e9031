"""What a listener asks for, readable by a machine.

A constraint compares one column of the catalog with a value. The simulator attaches constraints to
what it makes a user say, runtime rules filter by them, and request satisfaction is measured with
them, so that the three always mean the same.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Protocol

from talkplay_hf.errors import InputError

OPERATORS = ("is", "not", "lt", "le", "gt", "ge")


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
        if self.op not in OPERATORS:
            raise InputError(f"constraint operator {self.op!r}: must be one of {OPERATORS}")
        if self.op not in ("is", "not") and _number(self.value) is None:
            raise InputError(
                f"constraint {self.field} {self.op} {self.value!r}: the value must be a number"
            )

    def satisfied_by(self, track: HasColumns) -> bool:
        """Whether a track meets the constraint.

        A missing value, or one that is no number where numbers are compared, meets only `"not"`.
        """
        found = track.get(self.field)
        if self.op in ("is", "not"):
            return _matches(found, self.value) == (self.op == "is")
        number, bound = _number(found), _number(self.value)
        return number is not None and bound is not None and _COMPARE[self.op](number, bound)


_COMPARE: dict[str, Callable[[float, float], bool]] = {
    "lt": lambda a, b: a < b,
    "le": lambda a, b: a <= b,
    "gt": lambda a, b: a > b,
    "ge": lambda a, b: a >= b,
}


def _number(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return None if math.isnan(number) else number


def _matches(found: Any, value: str) -> bool:
    if found is None:
        return False
    if isinstance(found, list | tuple):
        return any(_matches(item, value) for item in found)
    return str(found).casefold() == value.casefold()


def satisfied(constraints: Iterable[Constraint], track: HasColumns) -> bool:
    """Whether a track meets all of the constraints."""
    return all(constraint.satisfied_by(track) for constraint in constraints)
