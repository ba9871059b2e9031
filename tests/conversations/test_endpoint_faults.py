"""Faults of a server: how each ends for the caller, and after how many requests."""

import socket

import pytest
from asking import CHAT, FastTime, ask, ask_in_turn, ask_many, model_of
from faulty_server import REPLIES, FaultyServer, Reply, answer, cut, hang, raw, reset, status
from hypothesis import given, settings
from hypothesis import strategies as st

from talkplay_hf.conversations.llm.budget import Budget
from talkplay_hf.conversations.llm.endpoint import EndpointModel, EndpointOptions
from talkplay_hf.conversations.llm.faults import PromptFailedError
from talkplay_hf.conversations.llm.language_model import Answer
from talkplay_hf.conversations.llm.pace import LONGEST_WAIT, Clock
from talkplay_hf.errors import BudgetError, LanguageModelError, PromptRefusedError, TalkPlayError


@pytest.fixture
def time() -> FastTime:
    return FastTime()


@pytest.mark.parametrize(
    "fault",
    [
        status(500),
        status(502, body=b"<html>bad gateway</html>"),
        status(503),
        status(408),
        status(500, body=b'[{"error": {"message": "a list, as Gemini has it"}}]'),
        status(500, body=b"\xff\xfe not text"),
        reset(),
        cut(0),
        cut(40),
        REPLIES["empty"](),
        REPLIES["no_content"](),
        REPLIES["not_json"](),
        REPLIES["other_shape"](),
        raw(b'{"choices": []}'),
        raw(b'{"choices": "hello"}'),
        raw(b'{"choices": [{"message": null, "finish_reason": "stop"}]}'),
        raw(b'{"choices": [{"message": {"content": 7}, "finish_reason": "stop"}]}'),
        raw(b'{"error": {"code": 502, "message": "behind a 200"}}'),
        raw(b'{"choices": [{"message": {"content": "half"}, "finish_reason": "error"}]}'),
        raw(b"[]"),
        raw(b"null"),
        raw(b"[[[1]]]"),
        raw(b"[" * 50_000),
        raw(b'"hello"'),
        raw(answer("cut by a proxy").body({"messages": []})[:-20]),  # type: ignore[operator]
    ],
    ids=lambda reply: f"{reply.name}-{str(reply.body)[:24]}",
)
def test_a_passing_fault_is_tried_again(fault: Reply, time: FastTime):
    with FaultyServer([fault, fault, answer("third")]) as server:
        assert ask(model_of(server, time)).text == "third"
        assert server.count == 3
    assert time.slept == [1.0, 2.0]
    with FaultyServer([fault]) as server:
        with pytest.raises(PromptFailedError, match=r"^tiny: .*\(tried 3 times\)$"):
            ask(model_of(server))
        assert server.count == 3


def test_a_server_that_hangs_is_left_after_the_timeout():
    with FaultyServer([hang(), answer("second")]) as server:
        assert ask(model_of(server, timeout=0.1)).text == "second"
        assert server.count == 2
    with FaultyServer([hang()]) as server:
        with pytest.raises(PromptFailedError, match=r"no answer within 0.1 s"):
            ask(model_of(server, timeout=0.1))
        assert server.count == 3


def test_waits_grow_to_a_minute_and_no_further(time: FastTime):
    with FaultyServer([status(500)]) as server, pytest.raises(PromptFailedError):
        ask(model_of(server, time, tries=9))
    assert time.slept == [1, 2, 4, 8, 16, 32, 60, 60]


def test_waits_are_drawn_between_nothing_and_the_longest():
    slept = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    draws = iter([0.0, 0.5, 0.25])
    clock = Clock(now=lambda: 0.0, sleep=sleep, draw=lambda: next(draws))
    with FaultyServer([status(500)]) as server:
        options = EndpointOptions("tiny", base_url=server.base_url, tries=4)
        with pytest.raises(PromptFailedError):
            ask(EndpointModel(options, clock=clock))
    assert slept == [0.0, 1.0, 1.0]


def test_a_server_fault_may_say_how_long_to_wait_up_to_a_minute(time: FastTime):
    busy = {"Retry-After": "20"}
    with FaultyServer([status(500, headers=busy), status(500, headers={"Retry-After": "9999"}),
                       answer()]) as server:  # fmt: skip
        ask(model_of(server, time))
    assert time.slept == [20.0, LONGEST_WAIT]


def test_a_rate_limit_is_waited_for_as_the_server_says(time: FastTime):
    with FaultyServer([status(429, headers={"Retry-After": "17"}), answer("later")]) as server:
        model = model_of(server, time)
        assert ask(model).text == "later"
        assert server.count == model.budget.calls == 2
    assert time.now == 17.0


def test_rate_limits_use_up_no_tries_but_patience(time: FastTime):
    with FaultyServer([status(429)] * 8 + [answer("at last")]) as server:
        assert ask(model_of(server, time)).text == "at last"
        assert server.count == 9
    with FaultyServer([status(429, "too many")]) as server:
        model = model_of(server, FastTime(), patience=100)
        with pytest.raises(LanguageModelError, match=r"still limited.*too many.*Go on later") as e:
            ask(model)
        assert not isinstance(e.value, PromptRefusedError)
        assert server.count == 7  # 1 + 2 + 4 + 8 + 16 + 32 s, and 60 more would be too long
        with pytest.raises(LanguageModelError, match="still limited"):
            ask(model)
        assert server.count == 7


def test_a_wait_that_outlasts_patience_is_not_begun(time: FastTime):
    with FaultyServer([status(429, headers={"Retry-After": "86400"})]) as server:
        with pytest.raises(LanguageModelError, match="a wait of 86400 s"):
            ask(model_of(server, time))
        assert server.count == 1
    assert time.slept == []


@pytest.mark.parametrize(
    ("code", "way_out"),
    [
        (401, "environment variable"),
        (402, "no credit"),
        (403, "ask for access"),
        (404, "check the base URL"),
        (405, "check the base URL"),
    ],
)
def test_an_endpoint_that_refuses_everybody_is_asked_once(code, way_out):
    with FaultyServer([status(code)]) as server:
        model = model_of(server)
        with pytest.raises(LanguageModelError, match=f"(?i)HTTP {code}.*{way_out}") as error:
            ask(model)
        assert not isinstance(error.value, PromptRefusedError)
        with pytest.raises(LanguageModelError):
            ask(model)
        assert server.count == 1


def test_nobody_listening_ends_the_run_and_counts_no_call():
    with socket.socket() as taken:  # bound and not listening, so that connections are refused
        taken.bind(("127.0.0.1", 0))
        time = FastTime()
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/v1"
        model = EndpointModel(EndpointOptions("tiny", base_url=url, tries=3), clock=time.clock)
        with pytest.raises(LanguageModelError, match="Check that the server runs") as error:
            ask(model)
    assert not isinstance(error.value, PromptRefusedError)
    assert len(time.slept) == 2
    assert (model.budget.calls, model.budget.tokens) == (0, 0)


@pytest.mark.parametrize(
    "fault",
    [
        status(400, "This model's maximum context length is 2048 tokens"),
        status(400),
        status(413),
        status(422),
    ],
    ids=["too long", "400", "413", "422"],
)
def test_a_chat_that_is_refused_is_asked_once_and_others_go_on(fault: Reply):
    with FaultyServer([fault, answer("fine")]) as server:
        model = model_of(server)
        with pytest.raises(PromptRefusedError) as error:
            ask(model)
        assert not isinstance(error.value, PromptFailedError)
        assert server.count == 1
        assert ask(model).text == "fine"


def test_an_answer_that_was_filtered_is_an_answer_that_was_paid():
    with FaultyServer([answer("half of it", finish_reason="content_filter")]) as server:
        model = model_of(server)
        assert ask(model) == Answer("half of it", "content_filter", 5, 3)
        assert model.budget.tokens == 8


def test_a_parameter_that_the_server_does_not_know_ends_the_run_unless_it_worked_before():
    unknown = status(400, "Unknown name 'seed'")
    with FaultyServer([unknown]) as server:
        model = model_of(server, seed=1)
        with pytest.raises(LanguageModelError, match="Leave out seed") as error:
            ask(model)
        assert not isinstance(error.value, PromptRefusedError)
    with FaultyServer([answer(), unknown]) as server:
        model = model_of(server, seed=1)
        ask(model)
        with pytest.raises(PromptRefusedError):
            ask(model)


def test_a_run_stops_when_chat_after_chat_fails():
    with FaultyServer([status(500)]) as server:
        ends = ask_in_turn(model_of(server, concurrency=2, give_up_after=4, tries=2), 40)
        assert server.count <= 10  # the 4 chats twice each, and one more by the other worker
    failed = [end for end in ends if isinstance(end, PromptFailedError)]
    stopped = [end for end in ends if not isinstance(end, PromptFailedError)]
    assert len(failed) == 3
    assert all("4 chats in a row failed" in str(end) for end in stopped)


def test_a_run_stops_when_an_endpoint_refuses_everything_and_has_never_answered():
    with FaultyServer([status(400)]) as server:
        ends = ask_in_turn(model_of(server, concurrency=1, give_up_after=4), 10)
        assert server.count == 4
    assert [isinstance(end, PromptRefusedError) for end in ends] == [True] * 3 + [False] * 7
    with FaultyServer([answer(), status(400)]) as server:
        ends = ask_in_turn(model_of(server, concurrency=1, give_up_after=4), 10)
    assert all(isinstance(end, PromptRefusedError) for end in ends[1:])


def test_one_chat_that_always_fails_does_not_stop_the_others():
    def script(request):
        return status(500) if "chat 7" in str(request.body["messages"]) else answer()

    with FaultyServer(script) as server:
        ends = ask_many(model_of(server, give_up_after=2, tries=2), 20)
    assert [number for number, end in enumerate(ends) if not isinstance(end, Answer)] == [7]
    assert isinstance(ends[7], PromptFailedError)


@settings(max_examples=12, deadline=None)
@given(
    st.integers(0, 12),
    st.lists(st.sampled_from(["answer", "500", "429", "empty", "cut", "400"]), min_size=1),
    st.integers(1, 8),
)
def test_a_budget_of_calls_is_never_passed_with_retries_and_callers_at_once(most, names, at_once):
    def script(request):
        return REPLIES[names[request.number % len(names)]]()

    with FaultyServer(script) as server:
        budget = Budget(max_calls=most)
        model = model_of(server, budget=budget, concurrency=at_once, give_up_after=1000)
        ends = ask_many(model, 10)
        assert server.count == budget.calls <= most
    assert all(isinstance(end, Answer | TalkPlayError) for end in ends)
    if any(isinstance(end, BudgetError) for end in ends):
        assert server.count == most


def test_a_budget_of_tokens_holds_and_is_used_to_the_end():
    with FaultyServer([answer("x" * 80, delay=0.002)]) as server:
        budget = Budget(max_tokens=1000)
        ends = ask_many(model_of(server, budget=budget, concurrency=8), 60)
    answers = [end for end in ends if isinstance(end, Answer)]
    assert all(isinstance(end, Answer | BudgetError) for end in ends)
    spent = sum(one.prompt_tokens + one.completion_tokens for one in answers)
    assert budget.tokens == spent <= 1000
    assert spent > 1000 - 70  # one call's worst case is 60


def test_an_answer_that_never_arrived_is_charged_and_a_refused_request_is_not():
    with FaultyServer([hang(), status(500), answer("x" * 8)]) as server:
        model = model_of(server, timeout=0.1)
        worst = model.budget.estimate(CHAT) + 50
        ask(model)
    assert model.budget.tokens == worst + 5 + 2
