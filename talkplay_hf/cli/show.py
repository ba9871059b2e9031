"""What the commands share: progress bars, output as text or JSON."""

import json
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

from talkplay_hf.errors import InputError
from talkplay_hf.evaluation.page.text import showable

# those that are open
_bars: dict[str, Any] = {}


def progress_bars() -> Callable[[str, int, int], None]:
    """A progress bar per activity, on stderr; none where that is not a terminal."""
    from tqdm.auto import tqdm

    def show(what: str, done: int, total: int) -> None:
        bar = _bars.get(what)
        if bar is None:
            bar = _bars[what] = tqdm(
                total=total, desc=what, file=sys.stderr, dynamic_ncols=True, disable=None
            )
        bar.update(done - bar.n)
        if done >= total:
            bar.close()

    return show


def emit(value: Any, text: str, as_json: bool) -> None:
    """Print a value as JSON, or its text; of several processes the first one speaks."""
    if os.environ.get("RANK", "0") == "0":
        shown = json.dumps(value, ensure_ascii=False, indent=2) if as_json else text
        print(showable(shown))


def pairs(texts: Sequence[str] | None, option: str, form: str) -> dict[str, str]:
    """Read the `NAME=VALUE` pairs of an option.

    Raises:
        InputError: If one has no equals sign.
    """
    found = {}
    for text in texts or ():
        name, equals, value = text.partition("=")
        if not equals:
            raise InputError(f"{option} {text}: write it as {form}")
        found[name] = value
    return found


def column_mapping(texts: Sequence[str] | None, option: str = "--column") -> dict[str, str]:
    """Read the pairs of an option that maps columns."""
    return pairs(texts, option, "standard_name=column_of_the_table")


def close_bars() -> None:
    """Close the progress bars that are still open."""
    while _bars:
        _bars.popitem()[1].close()
