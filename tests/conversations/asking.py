"""How the tests ask a model: on a clock that need not wait, one chat or many."""

import asyncio
from typing import Any

from faulty_server import FaultyServer

from talkplay_hf.conversations.llm.budget import Budget
from talkplay_hf.conversations.llm.endpoint import EndpointModel, EndpointOptions
from talkplay_hf.conversations.llm.language_model import Answer, LanguageModel
from talkplay_hf.conversations.llm.pace import Clock
from talkplay_hf.errors import TalkPlayError

CHAT = [{"role": "user", "content": "Recommend a song."}]


class FastTime:
    """Time that passes only by sleeping, and chance that is always the highest."""

    def __init__(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        until = self.now + seconds
        await asyncio.sleep(0)
        self.now = max(self.now, until)  # those who sleep at once wake at once

    @property
    def clock(self) -> Clock:
        return Clock(now=lambda: self.now, sleep=self.sleep, draw=lambda: 1.0)


def model_of(
    server: FaultyServer, time: FastTime | None = None, budget: Budget | None = None, **options: Any
) -> EndpointModel:
    values: dict[str, Any] = {
        "base_url": server.base_url,
        "tries": 3,
        "max_tokens": 50,
        "timeout": 5.0,
        **options,
    }
    return EndpointModel(
        EndpointOptions("tiny", **values), budget, clock=(time or FastTime()).clock
    )


def ask(model: LanguageModel, chat: Any = CHAT) -> Answer:
    return asyncio.run(model.complete(chat))


def ask_many(model: LanguageModel, count: int, more: str = "") -> list[Answer | BaseException]:
    """Ask many chats at once, each longer than the one before by what is given."""

    async def together() -> list[Answer | BaseException]:
        chats = [
            [{"role": "user", "content": f"chat {number}{more * number}"}]
            for number in range(count)
        ]
        return await asyncio.gather(*map(model.complete, chats), return_exceptions=True)

    return asyncio.run(together())


def ask_in_turn(model: LanguageModel, count: int) -> list[Answer | BaseException]:
    """Ask many chats, as many at a time as the model takes, in the way of a run."""
    waiting = [[{"role": "user", "content": f"chat {number}"}] for number in range(count)]
    waiting.reverse()
    ends: list[Answer | BaseException] = []

    async def work() -> None:
        while waiting:
            try:
                ends.append(await model.complete(waiting.pop()))
            except TalkPlayError as error:
                ends.append(error)

    async def together() -> None:
        await asyncio.gather(*(work() for _ in range(model.concurrency)))

    asyncio.run(together())
    return ends
