"""Reading the cells of a user's table: text, numbers, dates, lists, musical keys."""

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from talkplay_hf.catalog.columns import CONTROL, Source, normal

MISSING = frozenset({"NA", "N/A", "#N/A", "NaN", "nan", "NULL", "null", "None"})
LYRICS_LENGTH = 100_000
# pitch classes from 0, written with sharps
PITCHES = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")
_MODES = {"1": "major", "0": "minor", "major": "major", "minor": "minor"}
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_INTEGER = re.compile(r"-?(0|[1-9][0-9]{0,17})")
_INFINITE = re.compile(r"[+-]?inf(inity)?", re.IGNORECASE)
_LIST_ITEM = re.compile(r"""'((?:[^'\\]|\\.)*)'|"((?:[^"\\]|\\.)*)"|([^,'"\[\]]+)""")
_ISO_DATE = re.compile(r"([0-9]{4})(?:[-/.]([0-9]{1,2})(?:[-/.]([0-9]{1,2}))?)?(?:[T ].*)?")
_COMPACT_DATE = re.compile(r"([0-9]{4})([0-9]{2})([0-9]{2})")
_EPOCH = re.compile(r"[0-9]{9,13}")
_YEAR = re.compile(r"(?<![0-9])(1[5-9][0-9]{2}|20[0-9]{2})(?![0-9])")


class Cells:
    """Reads cells and counts what had to be mended.

    Attributes:
        control_characters (`int`): C0 control characters (NUL, escape, ...) that were removed.
        unreadable (`int`): Cells that hold no number or date where one is needed; they become null.
    """

    def __init__(self) -> None:
        self.control_characters = 0
        self.unreadable = 0

    def text(self, value: Any, *, lines: bool = False, literal: bool = False) -> str | None:
        """A cell as text without control characters, or `None` where it is empty.

        Args:
            value (`Any`): The cell.
            lines (`bool`): Whether line breaks stay; else all white space becomes one space.
            literal (`bool`): Whether `"NA"`, `"None"` and the like are text, not missing values.
        """
        if not isinstance(value, str):
            value = _as_text(value)
        value, removed = CONTROL.subn("", value)
        self.control_characters += removed
        if lines:
            value = value.replace("\r\n", "\n").replace("\r", "\n").strip()
        else:
            value = " ".join(value.split())
        return None if not value or (value in MISSING and not literal) else value

    def number(self, value: Any) -> float | None:
        """A cell as a finite number."""
        text = self.text(value)
        if text is None:
            return None
        number = float(text) if _NUMBER.fullmatch(text) else math.nan
        if math.isfinite(number):
            return number
        self.unreadable += 1
        return None

    def date(self, value: Any, *, time: bool = False) -> str | None:
        """A cell as an ISO date (`1999`, `1999-05` or `1999-05-01`), with its time if asked for.

        A date whose order of day and month cannot be known (`03/04/1999`) gives its year.
        """
        text = self.text(value)
        found = None if text is None else _iso_date(text, time)
        self.unreadable += text is not None and found is None
        return found

    def items(self, value: Any) -> list[str]:
        """A cell as a list: a list, JSON, a Python list as text, or text with `;`, `|` or `,`."""
        if isinstance(value, list | tuple):
            items: Iterable[Any] = value
        else:
            text = self.text(value)
            items = [] if text is None else split_items(text)
        return [text for text in map(self.text, items) if text is not None]

    def artist(self, value: Any) -> str | None:
        """A cell as artists in one string, comma-separated where it is a list."""
        text = self.text(value, literal=True)
        is_list = text is not None and text.startswith(("['", '["')) and text.endswith("]")
        return ", ".join(self.items(text)) or text if is_list else text

    def lyrics(self, value: Any, *, bag: bool = False) -> str | None:
        """A cell as lyrics; a bag of words (`love:2 you:1`) is written out (`love love you`)."""
        text = self.text(value, lines=True)
        if text is None or not bag:
            return text
        words: list[str] = []
        length = 0
        for pair in re.split(r"[\s,]+", text):
            word, _, count = pair.rpartition(":")
            times = int(count) if word and count.isdecimal() and len(count) < 7 else 1
            times = min(times, LYRICS_LENGTH - length)
            words += [word or pair] * times
            length += times * (len(word or pair) + 1)
            if length >= LYRICS_LENGTH:
                break
        return " ".join(words) or None

    def key(self, value: Any, mode: Any = None) -> str | None:
        """A cell as a musical key: a pitch class 0 to 11 or a note, with the mode where known."""
        text = self.text(value)
        if text is not None and _NUMBER.fullmatch(text):
            number = float(text)
            text = PITCHES[int(number)] if number in range(12) else None
        if text not in PITCHES:
            return text
        kind = _MODES.get((self.text(mode) or "").lower().removesuffix(".0"))
        return f"{text} {kind}" if kind else text

    def column(self, source: Source, name: str) -> pa.ChunkedArray | pa.Array:
        """A column that is kept as it is: NaN and infinity become null, text columns of a CSV
        become booleans, integers or numbers where all of their values are."""
        column = source.table[name]
        if pa.types.is_floating(column.type):
            if column.type == pa.float16():
                column = column.cast(pa.float32())
            return pc.if_else(pc.is_finite(column), column, pa.scalar(None, column.type))
        if is_text(column.type):
            values = [self.text(value, lines=True) for value in source.values(name)]
            return pa.array(values, pa.string()) if source.typed else _infer(values)
        return column


def is_number(kind: pa.DataType) -> bool:
    """Whether a column of this type holds numbers."""
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))


def is_text(kind: pa.DataType) -> bool:
    """Whether a column of this type holds text."""
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _as_text(value: Any) -> str:
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    if isinstance(value, list | tuple):
        return ", ".join(filter(None, map(_as_text, value)))
    return value if isinstance(value, str) else str(value)


def split_items(text: str) -> list[str]:
    """Split text that stands for a list."""
    if text.startswith("[") and text.endswith("]"):
        try:
            return [_as_text(item) for item in json.loads(text)]
        except (ValueError, RecursionError):
            return ["".join(item).strip() for item in _LIST_ITEM.findall(text[1:-1])]
    return re.split("[;|]", text) if re.search("[;|]", text) else text.split(",")


def _iso_date(text: str, time: bool) -> str | None:
    try:
        if _EPOCH.fullmatch(text):
            seconds = int(text) / (1000 if int(text) >= 10**11 else 1)
            moment: datetime | None = datetime.fromtimestamp(seconds, UTC)
        else:
            moment = datetime.fromisoformat(text) if len(text) > 10 else None
        if moment is not None:
            if moment.tzinfo is not None:
                moment = moment.astimezone(UTC).replace(tzinfo=None)
            at_midnight = (moment.hour, moment.minute, moment.second) == (0, 0, 0)
            if not time or at_midnight:
                return moment.date().isoformat()
            return moment.isoformat(timespec="seconds")
    except (ValueError, OverflowError, OSError):
        pass
    found = _ISO_DATE.fullmatch(text) or _COMPACT_DATE.fullmatch(text)
    if found is not None and found[1] != "0000":
        year, month, day = (int(part or 0) for part in found.groups())
        try:
            whole = date(year, month or 1, day or 1).isoformat()
        except ValueError:
            return str(found[1])
        # a day without a month says nothing
        return whole[: 10 if month and day else 7 if month else 4]
    year_found = _YEAR.search(text)
    return year_found[1] if year_found else None


def _infer(values: list[str | None]) -> pa.Array:
    held = [value for value in values if value is not None]
    if held and all(value.lower() in ("true", "false") for value in held):
        return pa.array([None if v is None else v.lower() == "true" for v in values], pa.bool_())
    if held and all(_INTEGER.fullmatch(value) for value in held):
        return pa.array([None if value is None else int(value) for value in values], pa.int64())
    finite = [None if value is None or _INFINITE.fullmatch(value) else value for value in values]
    # Digits with a leading zero are an identifier (a bar code, a post code), not a number.
    numeric = all(
        _NUMBER.fullmatch(value) and not re.match("[+-]?0[0-9]", value)
        for value in finite
        if value is not None
    )
    if numeric and any(value is not None for value in finite):
        numbers = [None if value is None else float(value) for value in finite]
        return pa.array([n if n is None or math.isfinite(n) else None for n in numbers])
    return pa.array(values, pa.string())


def parse_columns(
    source: Source, columns: Mapping[str, list[str]], cells: Cells
) -> Iterator[tuple[str, list[Any]]]:
    """Read the mapped columns other than lists."""
    for standard, (name, *_) in columns.items():
        if standard in ("tags", "track_ids"):
            continue
        values = source.values(name)
        if standard == "title":
            yield standard, [cells.text(value, literal=True) for value in values]
        elif standard == "artist":
            yield standard, [cells.artist(value) for value in values]
        elif standard == "lyrics":
            bag = normal(name).endswith("bow")
            yield standard, [cells.lyrics(value, bag=bag) for value in values]
        elif standard in ("popularity", "tempo", "position"):
            yield standard, [cells.number(value) for value in values]
        elif standard == "release_date":
            yield standard, [cells.date(value) for value in values]
        elif standard == "playlist_created_at":
            yield standard, [cells.date(value, time=True) for value in values]
        elif standard == "key":
            modes = [one for one in source.names if normal(one) == "mode"][:1]
            column = source.values(modes[0]) if modes else [None] * len(values)
            yield standard, [cells.key(*pair) for pair in zip(values, column, strict=True)]
        elif standard == "audio":  # white space within a path counts
            yield standard, [cells.text(value, lines=True) for value in values]
        else:
            yield standard, [cells.text(value) for value in values]


def extra_columns(
    source: Source,
    names: Sequence[str],
    groups: Sequence[Sequence[int]],
    taken: set[str],
    cells: Cells,
) -> Iterator[tuple[str, pa.Array]]:
    """For each column that holds anything, the first value of each group of rows."""
    for name in names:
        column = cells.column(source, name)
        valid = column.is_valid().to_pylist()
        picks = [next((row for row in rows if valid[row]), None) for rows in groups]
        if all(pick is None for pick in picks):
            continue
        free = name
        while free in taken:
            free = f"source_{free}"
        taken.add(free)
        yield free, column.take(pa.array(picks, pa.int64()))
