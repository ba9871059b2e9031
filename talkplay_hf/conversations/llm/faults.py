"""What went wrong with a request to a language model, and what to do about it."""

import json
import math
import re
from collections.abc import Iterable, Mapping
from email.utils import parsedate_to_datetime
from typing import Any, Literal

from talkplay_hf.errors import PromptRefusedError

FaultKind = Literal["limited", "passing", "unreachable", "parameter", "refused", "fatal"]
LONGEST_MESSAGE = 300

_TOO_LONG = re.compile(
    r"context.?(length|window|size)|maximum context|too (long|large|many tokens)|"
    r"exceeds? (the )?(available|maximum|model)",
    re.I,
)
_FILTERED = re.compile(
    r"content.?(filter|policy|management)|moderation|flagged|safety|prohibited.?content", re.I
)
_KEY = re.compile(r"api.?key|credential|unauthori[sz]ed", re.I)
_NO_MONEY = re.compile(r"insufficient.?(quota|balance|credit|funds)|PerDay", re.I)
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|h|m|s)")
_RETRY_DELAY = re.compile(r'"retryDelay":\s*"(\d+(?:\.\d+)?)s"')
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}

_WAY_OUT = {
    401: "The key is missing or wrong: name the environment variable that holds it",
    402: "The account has no credit left: add some, or take another endpoint",
    403: "The key may not use this model: ask for access, or take another one",
    404: "No such address or model there: check the base URL and the model's name",
}


class PromptFailedError(PromptRefusedError):
    """One prompt kept failing (server faults, time-outs); it may pass when it is asked again."""


class Fault(Exception):
    """A request that brought no answer.

    Args:
        kind (`str`): `"limited"` (everybody has to slow down), `"passing"` (worth another try),
            `"unreachable"` (nobody listens there), `"parameter"` (a parameter of the request is
            not known there), `"refused"` (this chat), or `"fatal"` (any chat).
        message (`str`): What happened.
        wait (`float`, *optional*): Seconds to wait, as the server says.
        sent (`bool`): Whether the request went out.
        billed (`bool`): Whether the server may have billed it.
    """

    def __init__(
        self,
        kind: FaultKind,
        message: str,
        wait: float | None = None,
        *,
        sent: bool = True,
        billed: bool = False,
    ) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message
        self.wait = wait
        self.sent = sent
        self.billed = billed


def fault_of_status(
    status: int,
    headers: Mapping[str, str],
    body: str,
    *,
    parameters: Iterable[str] = (),
    now: float,
) -> Fault:
    """What an HTTP status of 300 or more means.

    Args:
        status (`int`): The status.
        headers (`Mapping[str, str]`): The headers of the response, names in lower case.
        body (`str`): The body of the response.
        parameters (`Iterable[str]`): Names of the parameters that were sent.
        now (`float`): Seconds since the epoch.
    """
    said = server_message(body)
    message = f"HTTP {status}" + (f": {said}" if said else "")
    wait = seconds_to_wait(headers, body, now)
    if status == 429:
        if _NO_MONEY.search(body):
            return Fault("fatal", f"{message}. The quota is used up: go on when it is renewed")
        if "request too large" in said.lower():  # more tokens than a minute's allowance
            return Fault("refused", message)
        return Fault("limited", message, wait)
    if status == 529 or (status == 503 and "retry-after" in headers):
        return Fault("limited", message, wait)
    if status >= 500 or status in (408, 409, 425):
        return Fault("passing", message, wait)
    if status in (403, 451) and _FILTERED.search(said):
        return Fault("refused", message)
    if status in (400, 413, 422):
        if status == 413 or _TOO_LONG.search(said) or _FILTERED.search(said):
            return Fault("refused", message)
        if _KEY.search(said):
            return Fault("fatal", f"{message}. {_WAY_OUT[401]}")
        named = [name for name in parameters if re.search(rf"\b{re.escape(name)}\b", said)]
        if named:
            return Fault("parameter", f"{message}. Leave out {', '.join(named)}, or change it")
        return Fault("refused", message)
    if status < 400:
        where = headers.get("location", "elsewhere")
        return Fault("fatal", f"{message}: redirects to {where}. Name that as the base URL")
    way_out = _WAY_OUT.get(status, "Check the base URL and the model's name")
    return Fault("fatal", f"{message}. {way_out}")


def server_message(body: str) -> str:
    """What the body of an error response says, in one short line; HTML says nothing."""
    try:
        said = _find_message(json.loads(body))
    except (ValueError, RecursionError):
        said = "" if body.lstrip().startswith("<") else body
    said = " ".join(said.split())
    return said if len(said) <= LONGEST_MESSAGE else f"{said[:LONGEST_MESSAGE]}..."


def _find_message(value: Any) -> str:
    """The text under the first of the keys that servers use, in whatever nesting."""
    if isinstance(value, list):
        return _find_message(value[0]) if value else ""
    if isinstance(value, dict):
        for key in ("error", "message", "detail", "msg"):
            if value.get(key):
                return _find_message(value[key])
        return json.dumps(value)
    return str(value)


def seconds_to_wait(headers: Mapping[str, str], body: str, now: float) -> float | None:
    """How long a response asks to wait, in seconds, or `None` where it does not say.

    Reads `Retry-After` (seconds or a date), `retry-after-ms`, the `x-ratelimit-reset-*` of limits
    of which nothing remains (`"6m0s"`), and the `retryDelay` in the body of Google's services.
    """
    milliseconds = _number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return milliseconds / 1000
    after = headers.get("retry-after")
    if after is not None:
        seconds = _number(after)
        if seconds is not None:
            return seconds
        try:
            return max(0.0, parsedate_to_datetime(after).timestamp() - now)
        except (ValueError, OverflowError):
            pass
    resets = [
        duration
        for name, value in headers.items()
        if name.startswith("x-ratelimit-reset")
        and _number(headers.get(name.replace("reset", "remaining"))) == 0
        and (duration := _duration(value)) is not None
    ]
    if resets:
        return max(resets)
    delay = _RETRY_DELAY.search(body)
    return float(delay[1]) if delay else None


def _number(text: str | None) -> float | None:
    try:
        number = float(text or "")
    except ValueError:
        return None
    return number if math.isfinite(number) and number >= 0 else None


def _duration(text: str) -> float | None:
    if not re.fullmatch(rf"({_DURATION.pattern})+", text):
        return None
    return sum(float(number) * _SECONDS[unit] for number, unit in _DURATION.findall(text))
