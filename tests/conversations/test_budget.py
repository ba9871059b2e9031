"""Caps on calls and tokens hold, also while many calls are in flight."""

import asyncio
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from talkplay_hf.conversations.llm.budget import Budget
from talkplay_hf.errors import BudgetError, ConfigError, LanguageModelError


@dataclass
class Call:
    worst: int
    real: int
    ticks: int


@st.composite
def calls(draw):
    worst = draw(st.integers(1, 50))
    return Call(worst, draw(st.integers(0, worst)), draw(st.integers(0, 5)))


async def make(budget: Budget, call: Call) -> bool:
    try:
        async with budget.call(call.worst) as charge:
            for _ in range(call.ticks):
                await asyncio.sleep(0)
            charge.tokens = call.real
    except BudgetError:
        return False
    return True


def run_all(budget: Budget, plan: list[Call]) -> list[bool]:
    async def together() -> list[bool]:
        return await asyncio.gather(*(make(budget, call) for call in plan))

    return asyncio.run(together())


@settings(max_examples=150, deadline=None)
@given(
    st.lists(calls(), max_size=30),
    st.none() | st.integers(0, 20),
    st.none() | st.integers(0, 300),
)
def test_no_cap_is_passed_whatever_is_in_flight(plan, max_calls, max_tokens):
    budget = Budget(max_calls, max_tokens)
    made = run_all(budget, plan)
    assert budget.calls == sum(made)
    assert budget.tokens == sum(call.real for call, done in zip(plan, made, strict=True) if done)
    assert max_calls is None or budget.calls <= max_calls
    assert max_tokens is None or budget.tokens <= max_tokens
    if max_calls is None and max_tokens is None:
        assert all(made)


@settings(max_examples=60, deadline=None)
@given(st.lists(calls(), min_size=1, max_size=30))
def test_a_cap_that_holds_every_call_one_by_one_refuses_none(plan):
    """The worst cases together are far over the cap, so that calls have to wait for each other."""
    room = sum(call.real for call in plan) + max(call.worst for call in plan)
    assert all(run_all(Budget(max_tokens=room), plan))


def test_a_call_waits_for_those_in_flight_and_is_not_refused():
    order = []

    async def call(budget: Budget, name: str) -> None:
        async with budget.call(100) as charge:
            order.append(f"{name} starts")
            await asyncio.sleep(0)
            order.append(f"{name} ends")
            charge.tokens = 10

    async def both() -> None:
        budget = Budget(max_tokens=150)
        await asyncio.gather(call(budget, "a"), call(budget, "b"))

    asyncio.run(both())
    assert order == ["a starts", "a ends", "b starts", "b ends"]


def test_a_call_that_never_went_out_is_not_counted():
    async def unsent(budget: Budget) -> None:
        async with budget.call(10) as charge:
            charge.sent = False
            charge.tokens = 0

    budget = Budget(max_calls=1)
    asyncio.run(unsent(budget))
    assert (budget.calls, budget.tokens) == (0, 0)
    assert run_all(budget, [Call(1, 1, 0)]) == [True]


def test_a_call_that_breaks_off_is_charged_its_worst_case():
    async def breaks(budget: Budget) -> None:
        async with budget.call(10):
            raise OSError

    budget = Budget()
    with pytest.raises(OSError):
        asyncio.run(breaks(budget))
    assert (budget.calls, budget.tokens) == (1, 10)


def test_what_an_earlier_run_spent_counts():
    assert run_all(Budget(5, calls=4), [Call(1, 1, 0)] * 2) == [True, False]
    assert run_all(Budget(max_tokens=100, tokens=95), [Call(5, 5, 0), Call(1, 1, 0)]) == [
        True,
        False,
    ]


def test_a_journal_goes_on_counting_with_the_calls_that_were_lost(tmp_path):
    journal = tmp_path / "spent"

    async def lost(budget: Budget) -> None:
        await budget.call(50).__aenter__()  # and the process is killed

    first = Budget(journal=journal)
    assert not journal.exists()
    run_all(first, [Call(10, 4, 1), Call(10, 0, 2)])
    asyncio.run(lost(first))

    async def unsent(budget: Budget) -> None:
        async with budget.call(30) as charge:
            charge.sent, charge.tokens = False, 0

    asyncio.run(unsent(first))
    later = Budget(journal=journal)
    assert (later.calls, later.tokens) == (3, 54)
    assert (Budget(calls=9, tokens=1, journal=journal).calls, later.tokens) == (9, 54)
    journal.write_bytes(journal.read_bytes() + b"1 \xff")
    assert Budget(journal=journal).calls == 3
    assert run_all(Budget(4, journal=journal), [Call(1, 1, 0)] * 2) == [True, False]
    journal.unlink()
    asyncio.run(unsent(Budget(journal=journal)))
    assert not journal.exists()


def test_an_answer_is_not_lost_with_the_line_that_counts_it(tmp_path):
    folder = tmp_path / "gone"
    folder.mkdir()

    async def call(budget: Budget) -> str:
        async with budget.call(10):
            (folder / "spent").unlink()
            folder.rmdir()
        return "the answer"

    budget = Budget(journal=folder / "spent")
    assert asyncio.run(call(budget)) == "the answer"
    with pytest.raises(OSError):
        asyncio.run(call(budget))


def test_the_refusal_says_which_cap_and_what_to_do():
    async def refused(budget: Budget) -> None:
        async with budget.call(2000):
            pass

    with pytest.raises(BudgetError, match=r"cap of 7 calls is reached. Raise it"):
        asyncio.run(refused(Budget(7, calls=7)))
    with pytest.raises(BudgetError, match=r"2,000 tokens, and 100 of the cap of 1,500 tokens"):
        asyncio.run(refused(Budget(max_tokens=1500, tokens=100)))
    assert issubclass(BudgetError, LanguageModelError)


def test_the_estimate_grows_to_what_servers_report_and_never_shrinks():
    budget = Budget()
    chat = [{"role": "user", "content": "x" * 400}]
    before = budget.estimate(chat)
    assert before >= 100
    budget.learn(chat, 50)
    assert budget.estimate(chat) == before
    budget.learn(chat, 400)
    assert budget.estimate(chat) >= 400


def test_negative_numbers_are_refused():
    for bad in ({"max_calls": -1}, {"max_tokens": -1}, {"calls": -1}, {"tokens": -1}):
        with pytest.raises(ConfigError):
            Budget(**bad)
