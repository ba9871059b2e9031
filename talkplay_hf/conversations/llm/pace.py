"""How fast an endpoint is asked: shared pauses, adaptive concurrency, and when to give up."""

import asyncio
import logging
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from talkplay_hf.errors import LanguageModelError

LONGEST_WAIT = 60.0
# a shorter pause is no news
WORTH_TELLING = 10.0
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Clock:
    """Where time and chance come from, so that a test need not wait.

    Args:
        now (`Callable[[], float]`): Seconds that only grow.
        sleep (`Callable[[float], Awaitable[None]]`): Waits for some seconds.
        draw (`Callable[[], float]`): A number from 0 up to 1.
    """

    now: Callable[[], float] = time.monotonic
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    draw: Callable[[], float] = random.random


class Pace:
    """Admits calls to one endpoint.

    A rate limit pauses everybody and halves the concurrency, once for all the calls that were in
    flight together; each success lets it grow back by one in as many calls as are allowed at a time
    (additive increase, multiplicative decrease). Waits double from try to try and are drawn between
    0 and that ("full jitter"), so that callers do not come back all at once.

    Args:
        concurrency (`int`): Most calls at a time.
        backoff (`float`): Longest wait before the second try, in seconds.
        patience (`float`): Longest time, in seconds, that rate limits may go on without a success.
        give_up_after (`int`): How many chats may fail in a row.
        clock (`Clock`, *optional*): Where time and chance come from.

    Attributes:
        limit (`float`): How many calls are allowed at a time now.
        succeeded_once (`bool`): Whether any call has succeeded.
    """

    def __init__(
        self,
        concurrency: int,
        *,
        backoff: float,
        patience: float,
        give_up_after: int,
        clock: Clock | None = None,
    ) -> None:
        self.limit = float(concurrency)
        self.succeeded_once = False
        self._most = concurrency
        self._backoff = backoff
        self._patience = patience
        self._give_up_after = give_up_after
        self._clock = clock or Clock()
        self._active = 0
        self._resume_at = 0.0
        self._limited_since: float | None = None
        self._strikes = 0
        self._epoch = 0
        self._failed_in_a_row = 0
        self._closed: str | None = None
        self._waiting: list[asyncio.Event] = []
        self._sleeping: set[asyncio.Future[None]] = set()

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[int]:
        """Make a call inside this block; gives what `limited` wants to know.

        Raises:
            LanguageModelError: If the endpoint has been given up.
        """
        while True:
            if self._closed is not None:
                raise LanguageModelError(self._closed)
            wait = self._resume_at - self._clock.now()
            if wait > 0:
                await self._sleep(wait)
            elif self._active < int(self.limit):
                break
            else:
                event = asyncio.Event()
                self._waiting.append(event)
                await event.wait()
        self._active += 1
        try:
            yield self._epoch
        finally:
            self._active -= 1
            self._wake()

    def succeeded(self) -> None:
        """A call brought an answer."""
        self.succeeded_once = True
        self._limited_since = None
        self._strikes = 0
        self._failed_in_a_row = 0
        self.limit = min(float(self._most), self.limit + 1 / self.limit)
        self._wake()

    def limited(self, epoch: int, wait: float | None, message: str) -> None:
        """A call met a rate limit: pause everybody.

        Args:
            epoch (`int`): What its slot gave.
            wait (`float`, *optional*): Seconds to wait, as the server says.
            message (`str`): What the server says.

        Raises:
            LanguageModelError: If rate limits go on for too long.
        """
        now = self._clock.now()
        if self._limited_since is None:
            self._limited_since = now
        first = epoch == self._epoch
        if first:
            self._epoch += 1
            self._strikes += 1
            self.limit = max(1.0, self.limit / 2)
        self._resume_at = max(self._resume_at, now + max(wait or 0.0, self._jitter(self._strikes)))
        pause = self._resume_at - now
        if first and WORTH_TELLING <= pause <= self._patience:
            _log.warning("a rate limit pauses all calls for %.0f s (%s)", pause, message)
        if self._resume_at - self._limited_since > self._patience:
            self.close(
                f"still limited after {now - self._limited_since:.0f} s, with a wait of "
                f"{self._resume_at - now:.0f} s to come ({message}). Go on later; what has been "
                "answered is kept"
            )
            raise LanguageModelError(self._closed) from None

    async def back_off(self, failures: int, wait: float | None) -> None:
        """Wait before a chat is tried again.

        Args:
            failures (`int`): How often it has failed, 1 or more.
            wait (`float`, *optional*): Seconds to wait, as the server says.
        """
        await self._sleep(min(max(wait or 0.0, self._jitter(failures)), LONGEST_WAIT))

    def failed(self, message: str) -> None:
        """A chat was given up.

        Raises:
            LanguageModelError: If too many were, with no success in between.
        """
        self._failed_in_a_row += 1
        if self._failed_in_a_row >= self._give_up_after:
            self.close(
                f"{self._failed_in_a_row} chats in a row failed, the last one with: {message}. "
                "The rest was not asked; what has been answered is kept"
            )
            raise LanguageModelError(self._closed) from None

    def close(self, message: str) -> None:
        """Let no further call through, and keep nobody waiting."""
        if self._closed is None:
            self._closed = message
        for sleeping in self._sleeping:
            sleeping.cancel()
        self._wake()

    async def _sleep(self, seconds: float) -> None:
        """Sleep until the time is over or the endpoint is given up."""
        if self._closed is not None:
            return
        sleeping = asyncio.ensure_future(self._clock.sleep(seconds))
        self._sleeping.add(sleeping)
        try:
            await asyncio.wait([sleeping])
        finally:
            self._sleeping.discard(sleeping)
            sleeping.cancel()

    def _jitter(self, failures: int) -> float:
        # the exponent is bounded, else a long run of rate limits overflows a float
        return self._clock.draw() * min(LONGEST_WAIT, self._backoff * 2.0 ** min(failures - 1, 30))

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, []
        for event in waiting:
            event.set()
