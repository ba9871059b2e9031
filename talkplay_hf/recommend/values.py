"""Checks of single values that may come from anywhere: JSON, a web client, a notebook."""

import math
import operator
from collections.abc import Iterable
from typing import Any

import numpy as np

from talkplay_hf.errors import InputError


def whole_number(name: str, value: object, least: int) -> int:
    """A whole number (Python's or NumPy's, which can be of 8 bits) as Python's.

    Raises:
        InputError: If it is none, or too small a one.
    """
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise InputError(f"{name} {value!r:.60}: must be a whole number, at least {least}")
    return int(value)


def check_flag(name: str, value: object) -> None:
    """Refuse what is neither true nor false.

    Raises:
        InputError: If it is.
    """
    if not isinstance(value, bool | np.bool_):
        raise InputError(f"{name} {value!r:.60}: must be True or False")


def check_positive(name: str, value: object, most: float = math.inf) -> None:
    """Refuse what is no number above 0, or an infinite one, or one that is too large.

    Raises:
        InputError: If it is.
    """
    real = isinstance(value, int | float | np.integer | np.floating)
    if isinstance(value, bool) or not real or not 0 < value <= most or value == math.inf:  # type: ignore[operator]
        up_to = "" if most == math.inf else f" and at most {most}"
        raise InputError(f"{name} {value!r:.60}: must be a number above 0{up_to}")


def check_seed(seed: object) -> None:
    """Refuse what is neither `None` nor a whole number from 0.

    Raises:
        InputError: If it is.
    """
    if seed is not None:
        whole_number("seed", seed, 0)


def whole_codes(codes: Any) -> list[int]:
    """Codes as Python's whole numbers.

    Raises:
        InputError: If it is no sequence, or one of them is no whole number.
    """
    try:
        return [operator.index(code) for code in codes]
    except TypeError:
        raise InputError(f"codes {codes!r:.60}: must be whole numbers, one a modality") from None


def check_texts(name: str, values: object) -> None:
    """Refuse one text, or what is nothing to go through, where several texts are needed.

    Raises:
        InputError: If it is.
    """
    if isinstance(values, str | bytes) or not isinstance(values, Iterable):
        raise InputError(f"{name} {values!r:.60}: must be several ids, not one")
