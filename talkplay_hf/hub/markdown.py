"""Figures as tables in Markdown."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

_MOST_ROWS = 200
# From how many like entries on they are shown together.
_MANY = 4
# Longer lists are only counted.
_MOST_NAMES = 30


def figures(part: Mapping[str, Any]) -> list[str]:
    """A table of single figures, then one for each group of like records.

    Args:
        part (`Mapping[str, Any]`): Nested mappings; `None` is what was not measured, and left out.
    """
    rows: list[tuple[str, Any]] = []
    groups: list[str] = []

    def walk(value: Mapping[str, Any], before: str) -> None:
        for name in sorted(value, key=natural):
            label, inner = f"{before} / {name}" if before else str(name), value[name]
            if not isinstance(inner, Mapping):
                # what was not measured
                if inner is not None:
                    rows.append((label, inner))
            elif len(inner) >= _MANY and all(_is_count(one) for one in inner.values()):
                counts = (f"{cell(key)}: {cell(inner[key])}" for key in sorted(inner, key=natural))
                rows.append((label, _Ready(", ".join(counts))))
            elif len(inner) >= _MANY and _are_records(list(inner.values())):
                groups.append(_records(label, inner))
            else:
                walk(inner, label)

    walk(part, "")
    return ([table(("figure", "value"), rows)] if rows else []) + groups


def _records(label: str, group: Mapping[str, Mapping[str, Any]]) -> str:
    columns = [
        name
        for name in next(iter(group.values()))
        if any(record[name] is not None for record in group.values())
    ]
    rows = [
        (name, *("" if group[name][column] is None else group[name][column] for column in columns))
        for name in sorted(group, key=natural)
    ]
    return table((label, *columns), rows)


def _are_records(values: Sequence[Any]) -> bool:
    """Whether these are mappings of the same few names to plain values."""
    if not all(isinstance(one, Mapping) and set(one) == set(values[0]) for one in values):
        return False
    return all(not isinstance(leaf, Mapping) for one in values for leaf in one.values())


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def natural(name: str) -> list[tuple[bool, int, str]]:
    """Orders names as a person does: 6-10 before 11-15."""
    parts = re.findall(r"([0-9]+)|([^0-9]+)", str(name))
    return [(not digits, int(digits[:18] or 0), other) for digits, other in parts]


def flat(value: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves of nested mappings, with the names on the way to each."""
    for name in sorted(value, key=natural):
        inner = value[name]
        label = f"{before} / {name}" if before else str(name)
        if isinstance(inner, Mapping):
            yield from flat(inner, label)
        else:
            yield label, inner


def table(head: Sequence[str], rows: Sequence[Iterable[Any]]) -> str:
    """A table in Markdown; of very many rows, the first ones.

    Args:
        head (`Sequence[str]`): Names of the columns.
        rows (`Sequence[Iterable[Any]]`): The values of each row.
    """
    lines = ["| " + " | ".join(map(cell, head)) + " |", "|" + " --- |" * len(head)]
    lines += ["| " + " | ".join(map(cell, row)) + " |" for row in rows[:_MOST_ROWS]]
    text = "\n".join(lines)
    if len(rows) > _MOST_ROWS:
        text += f"\n\nand {len(rows) - _MOST_ROWS:,} more"
    return text


class _Ready(str):
    """Text that is safe already."""


def cell(value: Any) -> str:
    """A value as text that cannot break a table or add markup, on one line."""
    if isinstance(value, _Ready):
        return value
    if value is None or value in ([], ()):
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list | tuple):
        plain = all(not isinstance(one, Mapping | list | tuple) for one in value)
        if plain and len(value) <= _MOST_NAMES:
            return ", ".join(map(cell, value))
        return f"{len(value):,} values"
    text = " ".join(str(value).split())
    text = text if len(text) <= 300 else text[:299] + "…"
    for mark, safe in (("\\", "\\\\"), ("|", "\\|"), ("<", "&lt;"), ("`", "\\`")):
        text = text.replace(mark, safe)
    return text
