"""Text of users and catalogs made fit to show, and figures as text."""

import re
from collections.abc import Mapping
from typing import Any

LONGEST = 1_500
_UNSHOWN = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
_MARKUP = re.compile(r"([\\`*_\[\]<>|~&!#$])")


def showable(text: str) -> str:
    """Text without characters that a page cannot hold; line ends stay."""
    return _UNSHOWN.sub("\ufffd", text)


def clean(text: str, longest: int = LONGEST) -> str:
    """Text on one line without characters that cannot be shown, cut to a length."""
    text = showable(" ".join(text.split()))
    left = len(text) - longest
    return text if left <= 0 else f"{text[:longest]}… ({left:,} more characters)"


def markdown(text: str) -> str:
    """Text that adds no markup to a Markdown page: no links, images, tables or HTML."""
    # "http:" would be made a link by many readers
    return _MARKUP.sub(r"\\\1", clean(text)).replace("://", ":\u2060//")


def number(value: float | None, digits: int = 3) -> str:
    """A figure as text, with a true minus."""
    return "–" if value is None else f"{value:.{digits}f}".replace("-", "−")


def signed(value: float) -> str:
    """A difference as text, with its sign."""
    return f"{value:+.3f}".replace("-", "−")


def percent(share: float | None, digits: int = 1) -> str:
    """A share as text."""
    return "–" if share is None else f"{100 * share:.{digits}f} %"


def interval(figure: Mapping[str, Any], *, sign: bool = False) -> str:
    """The interval of a figure as text."""
    if figure.get("low") is None or figure.get("high") is None:
        return "no interval"
    write = signed if sign else number
    return f"{write(figure['low'])} to {write(figure['high'])}"


def p_value(figure: Mapping[str, Any]) -> str:
    """The p of a difference as text."""
    p = figure.get("p")
    if p is None:
        return ""
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def listed(names: list[str]) -> str:
    """Names in a sentence."""
    if len(names) < 2:
        return "".join(names)
    return f"{', '.join(names[:-1])} and {names[-1]}"
