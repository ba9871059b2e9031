"""What the commands share: progress bars, output as text or JSON."""

import json
import sys
from collections.abc import Callable, Sequence
from typing import Any

from talkplay_hf.errors import InputError

_BARS: dict[str, Any] = {}


def progress_bars() -> Callable[[str, int, int], None]:
    """A progress bar per activity, on stderr; none where that is not a terminal."""
    from tqdm.auto import tqdm

    bars = _BARS

    def show(what: str, done: int, total: int) -> None:
        bar = bars.get(what)
        if bar is None:
            bar = bars[what] = tqdm(
                total=total, desc=what, file=sys.stderr, dynamic_ncols=True, disable=None
            )
        bar.update(done - bar.n)
        if done >= total:
            bar.close()

    return show


def emit(value: Any, text: str, as_json: bool) -> None:
    """Print a value as JSON, or its text."""
    print(json.dumps(value, ensure_ascii=False, indent=2) if as_json else text)


def column_mapping(pairs: Sequence[str] | None) -> dict[str, str]:
    """Read `NAME=COLUMN` pairs.

    Raises:
        InputError: If one has no equals sign.
    """
    columns = {}
    for pair in pairs or ():
        name, equals, column = pair.partition("=")
        if not equals:
            raise InputError(f"--column {pair}: write it as standard_name=column_of_the_table")
        columns[name] = column
    return columns


def close_bars() -> None:
    """Close the progress bars that are still open."""
    while _BARS:
        _BARS.popitem()[1].close()
