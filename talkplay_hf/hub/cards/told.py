"""Reading facts that may be missing, damaged or of another type, without an error."""

import json
import math
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")

# a report of a long training has some megabytes
_MOST_BYTES = 64 * 2**20


def told(make: Callable[..., T], *args: Any, otherwise: T) -> T:
    """What `make(*args)` gives, or `otherwise` with a warning where the facts do not allow it."""
    try:
        return make(*args)
    except Exception as error:
        name = make.__name__.strip("_").replace("_", " ")
        warnings.warn(f"the card is without its {name} ({error!r:.200})", stacklevel=2)
        return otherwise


def read(folder: Path, name: str) -> Any:
    """The value of a JSON file of a folder, or `None` where there is none or it cannot be read."""
    path = folder / name
    if not path.is_file():
        return None
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise ValueError("it is too large")
        return _clean(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, RecursionError) as error:
        warnings.warn(f"the card is without what {name} says ({error!r:.200})", stacklevel=2)
        return None


def mapping(value: Any) -> dict[str, Any]:
    """The value where it is a mapping, else an empty one."""
    return dict(value) if isinstance(value, Mapping) else {}


def listing(value: Any) -> list[Any]:
    """The value where it is a list, else an empty one."""
    return list(value) if isinstance(value, list | tuple) else []


def texts(value: Any) -> list[str]:
    """The texts of a list that say something, each on one line."""
    lines = [" ".join(one.split()) for one in listing(value) if isinstance(one, str)]
    return [line for line in lines if line]


def number(value: Any) -> int | float | None:
    """The value where it is a finite number, else `None`."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return value if abs(value) < 1e300 and math.isfinite(value) else None


def count(value: Any) -> int:
    """The value where it is a whole number of at least 0, else 0."""
    found = number(value)
    return found if isinstance(found, int) and found >= 0 else 0


def _clean(value: Any) -> Any:
    """The value with texts that can be written as UTF-8: JSON may escape half a character."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, list):
        return [_clean(one) for one in value]
    if isinstance(value, dict):
        return {_clean(name): _clean(one) for name, one in value.items()}
    return value
