"""Tells a card that was generated from one that a person wrote or edited."""

import hashlib
import re

_SEAL = re.compile(r"<!-- talkplay_hf card ([0-9a-f]{64}) -->")


def seal(text: str) -> str:
    """Add a last line, an HTML comment that no page shows, with a hash of all that is above it.

    Args:
        text (`str`): A card. A seal that it has already is replaced.

    Returns:
        `str`: The card, with one line end after its last line.
    """
    body = _without_seal(text).rstrip() + "\n"
    return f"{body}\n<!-- talkplay_hf card {_hash(body)} -->\n"


def is_ours(text: str) -> bool:
    """Whether a card is as it was generated: sealed, and not edited since.

    Line ends do not count, since git may change them.
    """
    lines = _lines(text).rstrip().split("\n")
    found = _SEAL.fullmatch(lines.pop())
    return found is not None and found[1] == _hash("\n".join(lines).rstrip() + "\n")


def _without_seal(text: str) -> str:
    lines = _lines(text).rstrip().split("\n")
    return "\n".join(lines[:-1] if _SEAL.fullmatch(lines[-1]) else lines)


def _lines(text: str) -> str:
    return text.replace("\r\n", "\n").removeprefix("\ufeff")


def _hash(body: str) -> str:
    return hashlib.sha256(body.encode("utf-8", "replace")).hexdigest()
