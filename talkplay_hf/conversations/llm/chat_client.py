"""One chat completion over HTTP, by the client of huggingface_hub."""

import asyncio
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

import httpx2
from huggingface_hub import AsyncInferenceClient

from talkplay_hf.conversations.llm.faults import Fault, fault_of_status
from talkplay_hf.conversations.llm.language_model import Answer

if TYPE_CHECKING:
    from huggingface_hub.inference._common import RequestParameters


def http_client() -> httpx2.AsyncClient:
    """A pool of connections without limits or time-outs of its own.

    The session of huggingface_hub is not used, since it refuses every address, those of this
    machine included, while `HF_HUB_OFFLINE` is set.
    """
    limits = httpx2.Limits(max_connections=None, max_keepalive_connections=None)
    return httpx2.AsyncClient(timeout=None, limits=limits)


class _Request(AsyncInferenceClient):
    """Lets huggingface_hub choose address, headers and body, and sends that on the given pool."""

    def __init__(
        self, http: httpx2.AsyncClient, verbatim: Mapping[str, Any], timeout: float, **where: Any
    ) -> None:
        super().__init__(**where)
        self._http = http
        self._verbatim = verbatim
        self._seconds = timeout
        self.response: httpx2.Response | None = None

    async def _inner_post(
        self, request_parameters: "RequestParameters", *, stream: bool = False
    ) -> Any:
        body = {**cast(dict[str, Any], request_parameters.json), **self._verbatim}
        try:
            async with asyncio.timeout(self._seconds):
                response = await self._http.post(
                    request_parameters.url, json=body, headers=request_parameters.headers
                )
        except TimeoutError:
            raise Fault("passing", f"no answer within {self._seconds:g} s", billed=True) from None
        except httpx2.ConnectError as error:
            what = f"no connection ({error}). Check that the server runs at this address"
            raise Fault("unreachable", what, sent=False) from None
        except httpx2.HTTPError as error:
            name = type(error).__name__
            raise Fault("passing", f"connection lost ({name}: {error})", billed=True) from None
        self.response = response
        if response.status_code >= 300:
            raise _fault(response, response.status_code, body)
        return response.content


async def ask(
    http: httpx2.AsyncClient,
    where: Mapping[str, Any],
    messages: list[dict[str, str]],
    parameters: Mapping[str, Any],
    *,
    model: str,
    timeout: float,
) -> Answer:
    """Send one request and read its answer.

    Args:
        http (`httpx2.AsyncClient`): The pool of connections.
        where (`Mapping[str, Any]`): Address, provider, key and headers, as
            `AsyncInferenceClient` takes them.
        messages (`list[dict[str, str]]`): The chat.
        parameters (`Mapping[str, Any]`): Fields of the request besides model and messages. They
            are sent as they are: for an address, huggingface_hub would rewrite a JSON schema into
            a form that only TGI reads.
        model (`str`): The model's name.
        timeout (`float`): Most seconds from the start of the request to the end of the answer.

    Raises:
        Fault: If no answer came.
    """
    request = _Request(http, parameters, timeout, **where)
    try:
        # a model in the client itself would replace the one in the body of the request
        output = await request.chat_completion(messages, model=model)
    except Fault:
        raise
    except Exception as error:
        response = request.response
        if response is None:  # no provider, no key, ...: nothing was sent
            if isinstance(error, httpx2.TransportError):
                what = f"no connection to the Hub, which is asked where the model runs ({error})"
                raise Fault("unreachable", what, sent=False) from None
            if isinstance(error, UnicodeError):  # half of a surrogate pair
                raise Fault("refused", "the chat is not valid Unicode", sent=False) from None
            raise Fault("fatal", f"{error}", sent=False) from None
        raise _unreadable(response) from None
    return _read(output, cast(httpx2.Response, request.response), parameters)


def _read(
    output: Mapping[str, Any], response: httpx2.Response, parameters: Mapping[str, Any]
) -> Answer:
    error = output.get("error")
    if isinstance(error, dict) and not output.get("choices"):  # a gateway's error behind a 200
        code = error.get("code")
        raise _fault(response, code if isinstance(code, int) and code >= 300 else 500, parameters)
    try:
        choice = output["choices"][0]
        text = choice["message"]["content"]
        reason = choice["finish_reason"]
    except (TypeError, KeyError, IndexError):
        raise _unreadable(response) from None
    if isinstance(text, list):  # parts of a message
        text = "".join(str(part.get("text") or "") for part in text if isinstance(part, dict))
    if not isinstance(text, str | None) or not isinstance(reason, str | None):
        raise _unreadable(response)
    if reason == "error" or (not text and reason is None):
        raise Fault("passing", "an empty answer", billed=True)
    # JSON can hold half of a surrogate pair, which no file takes
    text = (text or "").encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    usage = output.get("usage")
    usage = usage if isinstance(usage, dict) else {}
    return Answer(
        text=text,
        finish_reason=reason,
        prompt_tokens=_count(usage.get("prompt_tokens")),
        completion_tokens=_count(usage.get("completion_tokens")),
    )


def _count(value: object) -> int:
    return value if isinstance(value, int) and value > 0 else 0


def _fault(response: httpx2.Response, status: int, parameters: Mapping[str, Any]) -> Fault:
    named = set(parameters) - {"model", "messages"}
    return fault_of_status(
        status, response.headers, response.text, parameters=sorted(named), now=time.time()
    )


def _unreadable(response: httpx2.Response) -> Fault:
    start = " ".join(response.text.split())[:60]
    what = f"not a chat completion, it starts with {start!r}" if start else "an empty body"
    return Fault("passing", what, billed=True)
