"""How fast an endpoint is asked: shared pauses, adaptive concurrency, and when to give up."""

import asyncio

import pytest
from asking import FastTime, ask_many, model_of
from faulty_server import FaultyServer, answer, status

from talkplay_hf.conversations.llm.language_model import Answer
from talkplay_hf.conversations.llm.pace import Clock, Pace
from talkplay_hf.errors import LanguageModelError


def test_fifty_callers_never_pass_the_concurrency():
    with FaultyServer([answer(delay=0.01)]) as server:
        ends = ask_many(model_of(server, concurrency=6), 50)
        assert all(isinstance(end, Answer) for end in ends)
        assert server.count == 50
        assert 1 < server.most_at_once <= 6


def test_a_rate_limit_pauses_everybody_and_halves_the_concurrency_once():
    limits = 4

    def script(request):
        limited = request.number < limits
        return status(429, headers={"Retry-After": "30"}) if limited else answer(delay=0.01)

    time = FastTime()
    with FaultyServer(script) as server:
        model = model_of(server, time, concurrency=4)
        ends = ask_many(model, 12)
        assert all(isinstance(end, Answer) for end in ends)
        assert server.count == 12 + limits
    assert time.now >= 30


def pace(clock: Clock | None = None, **options) -> Pace:
    values = {"concurrency": 8, "backoff": 1.0, "patience": 900.0, "give_up_after": 3, **options}
    return Pace(values.pop("concurrency"), clock=clock or FastTime().clock, **values)


def test_a_long_pause_is_told_once_for_all_who_wait(caplog):
    paced = pace()
    for _ in range(4):
        paced.limited(0, 40, "slow down")
    assert caplog.messages == ["a rate limit pauses all calls for 40 s (slow down)"]
    caplog.clear()
    pace().limited(0, 1, "slow down")
    with pytest.raises(LanguageModelError):
        pace().limited(0, 5000, "slow down")
    assert caplog.messages == []


def test_limits_of_calls_that_were_in_flight_together_halve_the_concurrency_once():
    paced = pace()
    for _ in range(4):
        paced.limited(0, None, "")
    assert paced.limit == 4
    paced.limited(1, None, "")
    assert paced.limit == 2
    for epoch in range(2, 9):
        paced.limited(epoch, None, "")
    assert paced.limit == 1


def test_the_concurrency_grows_back_by_one_a_round_up_to_where_it_was():
    paced = pace()
    paced.limited(0, None, "")
    for _ in range(5):
        paced.succeeded()
    assert 5 <= paced.limit < 6
    for _ in range(200):
        paced.succeeded()
    assert paced.limit == 8


def test_nobody_starts_during_a_pause():
    time = FastTime()
    paced = pace(time.clock)
    started = []

    async def enter() -> None:
        async with paced.slot():
            started.append(time.now)

    async def all_of_them() -> None:
        paced.limited(0, 30.0, "")
        await asyncio.gather(*(enter() for _ in range(5)))

    asyncio.run(all_of_them())
    assert len(started) == 5
    assert min(started) >= 30


def test_giving_up_keeps_nobody_asleep():
    paced = pace(Clock())  # on the real clock, so that a sleep of an hour would be noticed

    async def enter() -> None:
        async with paced.slot():
            raise AssertionError("a call got through")

    async def all_of_them() -> list[BaseException | None]:
        paced.limited(0, 600.0, "")
        waiting = [asyncio.create_task(enter()), asyncio.create_task(paced.back_off(1, 50.0))]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        paced.close("no key")
        return await asyncio.wait_for(asyncio.gather(*waiting, return_exceptions=True), 5)

    entered, slept = asyncio.run(all_of_them())
    assert isinstance(entered, LanguageModelError)
    assert str(entered) == "no key"
    assert slept is None


def test_a_success_starts_the_count_of_failures_anew():
    paced = pace()
    for _ in range(5):
        paced.failed("x")
        paced.failed("x")
        paced.succeeded()
    paced.failed("x")
    paced.failed("x")
    with pytest.raises(LanguageModelError, match="3 chats in a row"):
        paced.failed("x")
