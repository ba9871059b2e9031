"""A cap on what a run may spend: calls and tokens, also while many calls are in flight."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from talkplay_hf.errors import BudgetError, ConfigError

TOKENS_PER_CHARACTER = 0.25
# what a chat template writes around a message
TOKENS_PER_MESSAGE = 8


@dataclass
class Charge:
    """What one call costs, filled in by the caller before the call's block ends.

    Args:
        tokens (`int`): Tokens to charge. The worst case unless the caller knows better, since a
            server may bill an answer that never arrived.
        sent (`bool`): Whether the request went out. A call that never did is not counted.
    """

    tokens: int
    sent: bool = True


class Budget:
    """Counts calls and tokens, and refuses the call that could pass a cap.

    Every call reserves its worst case before it is made, so that calls in flight cannot pass the
    cap together. Prompt tokens are estimated from characters; the estimate grows with what servers
    report, but the first calls of a language with more tokens to a character can be over it.

    Args:
        max_calls (`int`, *optional*): Most calls, where a call is a request sent, so that asking
            again after a fault counts. No limit by default.
        max_tokens (`int`, *optional*): Most tokens, of prompts and answers together. No limit by
            default.
        calls (`int`): Calls made already, by an earlier run.
        tokens (`int`): Tokens spent already, by an earlier run.
        journal (`str` or `Path`, *optional*): A file that gets a line when a call begins and one
            when it ends. A later run that is given it goes on counting, with the retries and with
            the calls that were in flight when this one was killed, which count in full. Where
            `calls` or `tokens` say more than it, they hold.

    Attributes:
        calls (`int`): Calls made so far, those in flight included.
        tokens (`int`): Tokens spent so far, those in flight not included.

    Raises:
        ConfigError: If a number is negative.
    """

    def __init__(
        self,
        max_calls: int | None = None,
        max_tokens: int | None = None,
        *,
        calls: int = 0,
        tokens: int = 0,
        journal: str | Path | None = None,
    ) -> None:
        if min(max_calls or 0, max_tokens or 0, calls, tokens) < 0:
            raise ConfigError("a budget takes no negative numbers")
        self.max_calls = max_calls
        self.max_tokens = max_tokens
        self._journal = None if journal is None else Path(journal)
        earlier = (0, 0) if self._journal is None else _sums(self._journal)
        self.calls = max(calls, earlier[0])
        self.tokens = max(tokens, earlier[1])
        self._reserved = 0
        self._tokens_per_character = TOKENS_PER_CHARACTER
        self._waiting: list[asyncio.Event] = []

    def estimate(self, chat: Sequence[Mapping[str, str]]) -> int:
        """Tokens that a chat may have, from its characters."""
        return int(_characters(chat) * self._tokens_per_character) + TOKENS_PER_MESSAGE * len(chat)

    def learn(self, chat: Sequence[Mapping[str, str]], prompt_tokens: int) -> None:
        """Raise the estimate to what a server reported for a chat."""
        per_character = prompt_tokens / max(_characters(chat), 1)
        self._tokens_per_character = max(self._tokens_per_character, per_character)

    @asynccontextmanager
    async def call(self, worst: int) -> AsyncIterator[Charge]:
        """Make a call inside this block.

        Where the calls in flight reserve so much that this one may not fit, it waits until they
        have been charged for what they really took.

        Args:
            worst (`int`): Most tokens that the call can take, prompt and answer.

        Raises:
            BudgetError: If the call could pass a cap. It was not made.
        """
        await self._admit(worst)
        charge = Charge(worst)
        self._note(1, worst)
        self.calls += 1
        self._reserved += worst
        try:
            yield charge
        finally:
            self._reserved -= worst
            self.tokens += charge.tokens
            self.calls -= not charge.sent
            with suppress(OSError):  # an answer must not be lost with this line
                self._note(-(not charge.sent), charge.tokens - worst)
                if self._journal is not None and not (self.calls or self.tokens or self._reserved):
                    self._journal.unlink()  # nothing has been spent
            waiting, self._waiting = self._waiting, []
            for event in waiting:
                event.set()

    @property
    def _counted(self) -> str:
        return "" if self._journal is None else f" (counted in {self._journal})"

    def _note(self, calls: int, tokens: int) -> None:
        """Add a line to the journal: by how much the sums change."""
        if self._journal is not None:
            with self._journal.open("ab") as handle:
                handle.write(b"%d %d\n" % (calls, tokens))

    async def _admit(self, worst: int) -> None:
        while True:
            if self.max_calls is not None and self.calls >= self.max_calls:
                raise BudgetError(
                    f"the cap of {self.max_calls:,} calls is reached{self._counted}. Raise it to "
                    "go on; what has been answered is kept."
                )
            if self.max_tokens is None or self.tokens + self._reserved + worst <= self.max_tokens:
                return
            if self.tokens + worst > self.max_tokens:
                raise BudgetError(
                    f"the next call may take {worst:,} tokens, and {self.tokens:,} of the cap of "
                    f"{self.max_tokens:,} tokens are spent{self._counted}. Raise the cap to "
                    "go on; what has been answered is kept."
                )
            event = asyncio.Event()
            self._waiting.append(event)
            await event.wait()


def _sums(journal: Path) -> tuple[int, int]:
    """Calls and tokens of a journal."""
    calls = tokens = 0
    if journal.exists():
        for line in journal.read_text(encoding="ascii", errors="replace").splitlines():
            with suppress(ValueError):  # a torn line
                more_calls, more_tokens = map(int, line.split())
                calls, tokens = calls + more_calls, tokens + more_tokens
    return max(calls, 0), max(tokens, 0)


def _characters(chat: Sequence[Mapping[str, str]]) -> int:
    return sum(len(message["content"]) for message in chat)
