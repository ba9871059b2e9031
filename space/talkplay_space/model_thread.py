"""The thread that runs the model, and the queue before it."""

import threading
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from contextvars import copy_context
from dataclasses import dataclass, field
from functools import partial
from heapq import heappop, heappush
from itertools import count
from queue import Empty, SimpleQueue
from typing import Any

from talkplay_space.conversation import RefusedError

MAX_WAITING = 200
BUSY = "Too many listeners are waiting right now. Please try again in a minute."
# seconds between two looks at how far the queue has come; a turn that waits must cost little
_LOOK = 2.0


@dataclass(frozen=True)
class Ahead:
    """How many jobs are before one."""

    turns: int


@dataclass(order=True)
class _Job:
    """What waits for the model, in the order in which it is taken up."""

    later: bool
    ticket: int
    work: Callable[[], None] = field(compare=False)


class ModelThread:
    """One thread that runs the model for all, first come, first served; what can wait, after that.

    A job runs to its end whether or not somebody still reads what it gives, unless its reader has
    gone: so nobody who stalls can hold up the others.
    """

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="model")
        self._entry = threading.Lock()
        self._tickets = count()
        self._waiting: list[_Job] = []
        self._running = False

    def run(
        self, job: Callable[[], Generator[Any, None, None]], *, later: bool = False
    ) -> Generator[Any, None, None]:
        """What a job gives, and `Ahead` while it waits; raises what the job raises.

        Args:
            job (`Callable`): Makes the generator that is run.
            later (`bool`): Whether it lets every job go first that does not say so too.
        """
        given: SimpleQueue[tuple[str, Any]] = SimpleQueue()
        gone = threading.Event()
        # a model on a shared GPU is found through the context of the request
        work = partial(copy_context().run, self._work, job, given, gone)
        with self._entry:
            if len(self._waiting) + self._running >= MAX_WAITING:
                raise RefusedError(BUSY)
            mine = _Job(later, next(self._tickets), work)
            heappush(self._waiting, mine)
            ahead = self._before(mine)
            self._executor.submit(self._next)
        try:
            yield Ahead(ahead)
            while True:
                try:
                    kind, value = given.get(timeout=_LOOK)
                except Empty:
                    with self._entry:
                        now = self._before(mine)
                    if now != ahead:
                        ahead = now
                        yield Ahead(ahead)
                    continue
                if kind == "end":
                    return
                if kind == "error":
                    raise value
                yield value
        finally:
            gone.set()

    def _before(self, mine: _Job) -> int:
        if mine not in self._waiting:
            return 0
        return self._running + sum(other < mine for other in self._waiting)

    def _next(self) -> None:
        with self._entry:
            job = heappop(self._waiting)
            self._running = True
        try:
            job.work()
        finally:
            with self._entry:
                self._running = False

    def _work(
        self,
        job: Callable[[], Generator[Any, None, None]],
        given: "SimpleQueue[tuple[str, Any]]",
        gone: threading.Event,
    ) -> None:
        try:
            if not gone.is_set():
                with closing(job()) as values:
                    for value in values:
                        given.put(("value", value))
                        if gone.is_set():
                            break
        except BaseException as error:
            given.put(("error", error))
        finally:
            given.put(("end", None))
