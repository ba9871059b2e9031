"""What the reports of imports and joins have in common."""

from collections.abc import Iterable
from dataclasses import fields
from typing import Any


def values_of(report: Any, without: str) -> dict[str, Any]:
    """The fields of a report (a dataclass) by name, as they are, but for one."""
    return {one.name: getattr(report, one.name) for one in fields(report) if one.name != without}


def count_lines(report: Any, names: Iterable[str]) -> list[str]:
    """The line of a summary with the counts of these names that are not 0, if there are any."""
    counts = [
        f"{name.replace('_', ' ')} {getattr(report, name):,}"
        for name in names
        if getattr(report, name)
    ]
    return [f"counted: {', '.join(counts)}"] if counts else []


def count_names(report: Any, without: Iterable[str]) -> list[str]:
    """The names of the counts (`int`) of a report, but for some."""
    return [one.name for one in fields(report) if one.type is int and one.name not in set(without)]
