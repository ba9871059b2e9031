"""What every reader owes to whatever it is given: a value, or one error that names what is wrong.

A test is run with a few examples in the default suite and with many as `slow`:

    @EXAMPLES
    def test_any_rule_is_read_or_refused(examples):
        fuzz(examples, lambda text: calm(parse_rule, text), text=TEXT)

`TALKPLAY_FUZZ=20000` sets the number of examples of the slow runs.
"""

import contextlib
import os
import resource
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.strategies import SearchStrategy

from talkplay_hf.errors import TalkPlayError

FEW = 12
MANY = int(os.environ.get("TALKPLAY_FUZZ", "250"))
# where it is asked for, other examples each time, and the smallest that fails, which takes minutes
HUNT = "TALKPLAY_FUZZ" in os.environ
SECONDS = 5.0
MEGABYTES = 300
EXAMPLES = pytest.mark.parametrize(
    "examples", [FEW, pytest.param(MANY, marks=pytest.mark.slow)], ids=["few", "many"]
)
REFUSED = object()


def fuzz(examples: int, check: Callable[..., object], **strategies: SearchStrategy[Any]) -> None:
    """Run a check on so many examples."""
    everything = list(HealthCheck)
    how = settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=not HUNT,
        phases=[Phase.generate, *([Phase.shrink] if HUNT else [])],
        suppress_health_check=everything,
    )
    how(given(**strategies)(check))()


def void(_: object) -> None:
    """Nothing, which is what a check of one expression has to give."""


def calm(call: Callable[..., Any], *args: Any, errors: Any = TalkPlayError, **options: Any) -> Any:
    """Call it; `REFUSED` where it raises an error of ours. Anything else fails the test."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        with _watch():
            found = call(*args, **options)
    except errors as error:
        found, line = REFUSED, str(error)
    else:
        line = "fine"
    assert line.strip(), "the error says nothing"
    assert "\n" not in line, f"not one line: {line!r:.300}"
    assert len(line) <= 2_500, f"{len(line)} characters: {line:.300}"
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < MEGABYTES * 1024, f"{grown // 1024} MB"
    return found


@contextlib.contextmanager
def _watch() -> Iterator[None]:
    """Stop what takes more CPU time than it may; the clock on the wall does not count."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(*_: object) -> None:
        raise AssertionError(f"takes more than {SECONDS} s of CPU time")

    before = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)
