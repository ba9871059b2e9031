"""What the statuses, headers and bodies of real services mean to us."""

import json

import pytest

from talkplay_hf.conversations.llm.faults import fault_of_status, seconds_to_wait, server_message

NOW = 1_700_000_000.0  # Tue, 14 Nov 2023 22:13:20 GMT
SENT = ("max_tokens", "seed", "temperature")


def kind_of(status: int, message: str = "", **headers: str) -> str:
    body = json.dumps({"error": {"message": message}})
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return fault_of_status(status, names, body, parameters=SENT, now=NOW).kind


@pytest.mark.parametrize(
    ("headers", "body", "seconds"),
    [
        ({"retry-after": "7"}, "", 7.0),
        ({"retry-after": "0.5"}, "", 0.5),
        ({"retry-after": "Tue, 14 Nov 2023 22:14:20 GMT"}, "", 60.0),
        ({"retry-after": "Tue, 14 Nov 2023 22:10:00 GMT"}, "", 0.0),
        ({"retry-after-ms": "1500", "retry-after": "9"}, "", 1.5),
        ({"retry-after": "soon"}, "", None),
        ({"retry-after": "nan"}, "", None),
        ({"retry-after": "-3"}, "", None),
        (
            {"x-ratelimit-reset-tokens": "6m0s", "x-ratelimit-remaining-tokens": "0"},
            "",
            360.0,
        ),
        (
            {"x-ratelimit-reset-requests": "250ms", "x-ratelimit-remaining-requests": "0"},
            "",
            0.25,
        ),
        ({"x-ratelimit-reset-tokens": "6m0s", "x-ratelimit-remaining-tokens": "40"}, "", None),
        ({}, '[{"error": {"details": [{"retryDelay": "45.8s"}]}}]', 45.8),
        ({}, "", None),
    ],
)
def test_how_long_a_response_asks_to_wait(headers, body, seconds):
    assert seconds_to_wait(headers, body, NOW) == seconds


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ('{"error": {"message": "no such model", "code": 404}}', "no such model"),
        ('{"error": "overloaded"}', "overloaded"),
        ('[{"error": {"message": "quota", "details": []}}]', "quota"),
        ('{"detail": [{"loc": ["seed"], "msg": "extra field"}]}', "extra field"),
        ('{"object": "error", "message": "two\\n  lines"}', "two lines"),
        ("<html>gateway</html>", ""),
        ("plain words", "plain words"),
        ("", ""),
        ("[]", ""),
    ],
)
def test_the_message_is_found_in_the_bodies_of_many_servers(body, message):
    assert server_message(body) == message


def test_a_long_message_is_cut():
    assert len(server_message("x" * 5000)) < 400


def test_deeply_nested_bodies_do_not_break_the_reader():
    assert isinstance(server_message("[" * 100_000), str)


@pytest.mark.parametrize(
    ("status", "message", "kind"),
    [
        (429, "slow down", "limited"),
        (429, "You exceeded your current quota: insufficient_quota", "fatal"),
        (429, "Request too large for the model on tokens per min", "refused"),
        (529, "overloaded", "limited"),
        (400, "This model's maximum context length is 2048 tokens", "refused"),
        (400, "'max_tokens' is too large: the context length is 2048", "refused"),
        (400, "blocked by the content management policy", "refused"),
        (400, "Unknown name 'seed'", "parameter"),
        (422, "temperature: only 1 is supported", "parameter"),
        (400, "reseeding the fields is odd", "refused"),
        (400, "API key not valid. Please pass a valid API key.", "fatal"),
        (403, "your input was flagged by moderation", "refused"),
        (403, "no access", "fatal"),
        (413, "", "refused"),
        (401, "", "fatal"),
        (402, "", "fatal"),
        (404, "", "fatal"),
        (405, "", "fatal"),
        (307, "", "fatal"),
        (408, "", "passing"),
        (409, "", "passing"),
        (500, "", "passing"),
        (502, "", "passing"),
        (503, "", "passing"),
        (504, "", "passing"),
    ],
)
def test_what_a_status_means(status, message, kind):
    assert kind_of(status, message) == kind


def test_an_overloaded_server_that_says_how_long_is_a_limit():
    assert kind_of(503, retry_after="5") == "limited"


def test_a_daily_quota_is_not_waited_for():
    body = '{"error": {"message": "exhausted", "details": [{"quotaId": "RequestsPerDayPerUser"}]}}'
    fault = fault_of_status(429, {}, body, now=NOW)
    assert fault.kind == "fatal"
    assert "go on when it is renewed" in fault.message


def test_an_unknown_parameter_is_named_with_the_way_out():
    body = '{"error": {"message": "Unsupported: seed"}}'
    fault = fault_of_status(400, {}, body, parameters=SENT, now=NOW)
    assert fault.message == "HTTP 400: Unsupported: seed. Leave out seed, or change it"
