"""Figures as tables in Markdown."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

_MOST_ROWS = 200
# Longer lists are only counted.
_MOST_NAMES = 30
# control characters, halves of characters and marks that turn the direction of the text around
_HIDDEN = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]")


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


def cell(value: Any) -> str:
    """A value as text that cannot break a table or add markup, on one line."""
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
    text = " ".join(_HIDDEN.sub(" ", str(value)).split())
    text = text if len(text) <= 300 else text[:299] + "…"
    # an underscore inside a word stands for itself
    text = re.sub(r"[\\|`*~\[\]]|(?<!\w)_|_(?!\w)", r"\\\g<0>", text)
    return re.sub(r"&(?=#?\w+;)", "&amp;", text).replace("<", "&lt;")
