"""A language model behind an OpenAI-compatible address or a provider of the Hugging Face Hub."""

import asyncio
import math
import os
import re
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit, urlunsplit

from talkplay_hf.conversations.llm.budget import Budget
from talkplay_hf.conversations.llm.faults import Fault, PromptFailedError
from talkplay_hf.conversations.llm.language_model import Answer, Chat
from talkplay_hf.conversations.llm.pace import Clock, Pace
from talkplay_hf.errors import ConfigError, LanguageModelError, PromptRefusedError

if TYPE_CHECKING:
    import httpx2

_HUGGING_FACE = re.compile(r"(^|\.)huggingface\.co$")


@dataclass(frozen=True)
class EndpointOptions:
    """Which endpoint is asked, and how.

    Args:
        model (`str`): The model's name, as the endpoint knows it.
        base_url (`str`, *optional*): Address of an OpenAI-compatible server, see `chat_url`. By
            default the providers of the Hugging Face Hub are asked.
        provider (`str`, *optional*): Which of them, `"auto"` by default.
        key_variable (`str`, *optional*): The environment variable that holds the key. By default
            the Hugging Face token is sent to huggingface.co, and no key to any other address.
        max_tokens (`int`): Most tokens of an answer.
        temperature (`float`, *optional*): Sampling temperature. `None` leaves it to the server;
            many reasoning models take no other.
        top_p (`float`, *optional*): Nucleus of the sampling. `None` leaves it to the server.
        seed (`int`, *optional*): Seed of the sampling, for servers that take one.
        structured (`str`, *optional*): Hold the model to the JSON schema of an answer, for servers
            that can: `"json_schema"` as OpenAI, Gemini, vLLM, Ollama and the server of llama.cpp
            have it, or `"json_object"`, with the schema beside, as llama-cpp-python has it.
        extra (`Mapping[str, Any]`): Further fields of the request, for instance
            `{"reasoning_effort": "none"}`. They are recorded: put no secret there.
        max_tokens_field (`str`): `"max_tokens"`, or `"max_completion_tokens"` for models that
            refuse the former.
        timeout (`float`): Most seconds for one answer.
        concurrency (`int`): Most requests at a time.
        tries (`int`): How often a chat is tried when the server fails. Rate limits do not count.
        backoff (`float`): Longest wait before the second try, in seconds; it doubles from try to
            try, up to a minute.
        patience (`float`): Most seconds that rate limits may go on without one answer in between.
        give_up_after (`int`): How many chats in a row may fail before no further one is asked.
            Chats that the endpoint refuses count only until it has answered one.

    Raises:
        ConfigError: If a value is impossible.
    """

    model: str
    base_url: str | None = None
    provider: str | None = None
    key_variable: str | None = None
    max_tokens: int = 4096
    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None
    structured: Literal["json_schema", "json_object"] | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)
    max_tokens_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    timeout: float = 300.0
    concurrency: int = 8
    tries: int = 6
    backoff: float = 1.0
    patience: float = 900.0
    give_up_after: int = 10

    def __post_init__(self) -> None:
        if not self.model:
            raise ConfigError("model: name the model that the endpoint should answer with")
        for name in ("max_tokens", "concurrency", "tries", "give_up_after"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name}: {getattr(self, name)} is less than 1")
        for name in ("timeout", "patience"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name}: {getattr(self, name)} is not a number of seconds")
        for name in ("backoff", "temperature"):
            if not 0 <= (getattr(self, name) or 0) < math.inf:
                raise ConfigError(f"{name}: {getattr(self, name)} is not a number of at least 0")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise ConfigError(f"top_p: {self.top_p} is not above 0 and at most 1")
        if self.structured not in (None, "json_schema", "json_object"):
            raise ConfigError(f"structured: {self.structured!r} is not json_schema or json_object")
        reserved = {"model", "messages", "stream", "n", "response_format", *_SAMPLING}
        reserved.add(self.max_tokens_field)
        if reserved & set(self.extra):
            raise ConfigError(f"extra: cannot set {', '.join(sorted(reserved & set(self.extra)))}")
        if self.base_url is not None:
            chat_url(self.base_url)
            if self.provider is not None:
                raise ConfigError("name a base URL or a provider, not both")

    @property
    def name(self) -> str:
        """The model's name."""
        return self.model

    @property
    def fields(self) -> dict[str, Any]:
        """The fields of a request besides model, messages and the form of the answer."""
        sampling = {name: getattr(self, name) for name in _SAMPLING}
        return {
            self.max_tokens_field: self.max_tokens,
            **{name: value for name, value in sampling.items() if value is not None},
            **self.extra,
        }

    @property
    def parameters(self) -> dict[str, Any]:
        """What shapes an answer."""
        structured = {} if self.structured is None else {"structured": self.structured}
        return {**self.fields, **structured}


_SAMPLING = ("temperature", "top_p", "seed")


def chat_url(base_url: str) -> str:
    """The address that chats are posted to, from the base URL of an OpenAI-compatible server.

    A base URL that holds a version (`http://localhost:8000/v1`,
    `https://generativelanguage.googleapis.com/v1beta/openai/`) gets `/chat/completions`, one that
    holds none (`http://localhost:11434`) gets `/v1/chat/completions`, and one that ends with
    `/chat/completions` stays as it is.

    Raises:
        ConfigError: If it is no HTTP address, or one with a password in it.
    """
    try:
        parts = urlsplit(base_url.strip())
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise ConfigError(f"base_url: is not an address ({error})") from None
    if parts.scheme not in ("http", "https") or not host:
        raise ConfigError(f"base_url: {base_url!r} is not an http:// or https:// address")
    if parts.username is not None or parts.password is not None:
        raise ConfigError("base_url: holds a user name; put the key into an environment variable")
    path = parts.path.rstrip("/")
    if not path.endswith("/chat/completions"):
        version = "" if re.search(r"/v\d\w*(/|$)", path) else "/v1"
        path = f"{path}{version}/chat/completions"
    return urlunsplit(parts._replace(path=path))


class EndpointModel:
    """A language model behind an address: vLLM, TGI, llama.cpp, Ollama, LM Studio, Gemini, the
    providers of the Hugging Face Hub, or whatever else speaks the chat completions of OpenAI.

    Server faults, time-outs and answers that are none are tried again, with waits that grow; a rate
    limit pauses all calls and lowers the concurrency for a while. The key is neither recorded nor
    shown in an error.

    Args:
        options (`EndpointOptions`): Which endpoint, and how.
        budget (`Budget`, *optional*): Cap on calls and tokens. No cap by default.
        clock (`Clock`, *optional*): Where time and chance come from.

    Attributes:
        name (`str`): The model's name.
        parameters (`Mapping[str, Any]`): The fields of a request that shape its answer.
        concurrency (`int`): Most requests at a time.
        budget (`Budget`): What has been spent.

    Raises:
        LanguageModelError: If a key is needed and there is none.
    """

    def __init__(
        self,
        options: EndpointOptions,
        budget: Budget | None = None,
        *,
        clock: Clock | None = None,
    ) -> None:
        self.name = options.model
        self.concurrency = options.concurrency
        self.parameters: Mapping[str, Any] = options.parameters
        self.budget = budget or Budget()
        self._options = options
        self._key = _key(options)
        self._pace = Pace(
            options.concurrency,
            backoff=options.backoff,
            patience=options.patience,
            give_up_after=options.give_up_after,
            clock=clock,
        )
        self._http: httpx2.AsyncClient | None = None
        self._open: AsyncGenerator[httpx2.AsyncClient, None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def complete(self, chat: Chat, schema: Mapping[str, Any] | None = None) -> Answer:
        """Answer a chat of messages with `role` and `content`.

        Args:
            chat (`Sequence[Mapping[str, str]]`): The messages.
            schema (`Mapping[str, Any]`, *optional*): A JSON schema of the answer; sent where the
                option `structured` says how.

        Raises:
            PromptRefusedError: If the endpoint refuses this chat (too long, not allowed). An answer
                that a filter cut off is an answer, with the finish reason `"content_filter"`.
            PromptFailedError: If this chat kept failing; it may pass at another time. A kind of
                `PromptRefusedError`.
            BudgetError: If the call could pass a cap; it was not made.
            LanguageModelError: If the endpoint cannot be asked at all, or if so many chats in a row
                failed that it looks like that. No further call is let through then.
        """
        messages = [{"role": message["role"], "content": message["content"]} for message in chat]
        fields = {**self._options.fields, **_response_format(self._options.structured, schema)}
        failures = 0
        while True:
            try:
                answer = await self._ask(messages, fields)
            except Fault as fault:
                message = self._clean(fault.message)
                if fault.kind == "limited":
                    continue
                if fault.kind in ("passing", "unreachable"):
                    failures += 1
                    if failures < self._options.tries:
                        await self._pace.back_off(failures, fault.wait)
                        continue
                self._give_up(fault, message)
            else:
                return answer

    def _give_up(self, fault: Fault, message: str) -> None:
        """Raise what a fault means after the last try."""
        unknown_parameter = fault.kind == "parameter" and not self._pace.succeeded_once
        if fault.kind in ("fatal", "unreachable") or unknown_parameter:
            message = f"{self.name} at {self._where}: {message}"
            self._pace.close(message)
            raise LanguageModelError(message) from None
        message = f"{self.name}: {message}"
        # one refusal after the other means little once the endpoint has shown that it works
        if fault.kind == "passing" or not self._pace.succeeded_once:
            self._pace.failed(message)
        if fault.kind == "passing":
            raise PromptFailedError(f"{message} (tried {self._options.tries} times)") from None
        raise PromptRefusedError(message) from None

    async def _ask(self, messages: list[dict[str, str]], fields: Mapping[str, Any]) -> Answer:
        """Send one request, when pace and budget allow it."""
        from talkplay_hf.conversations.llm import chat_client

        async with self._pace.slot() as epoch:
            worst = self.budget.estimate(messages) + self._options.max_tokens
            async with self.budget.call(worst) as charge:
                try:
                    answer = await chat_client.ask(
                        await self._pool(),
                        self._address(),
                        messages,
                        fields,
                        model=self.name,
                        timeout=self._options.timeout,
                    )
                except Fault as fault:
                    charge.sent = fault.sent
                    if not fault.billed:
                        charge.tokens = 0
                    if fault.kind == "limited":
                        self._pace.limited(epoch, fault.wait, self._clean(fault.message))
                    raise
                said = [{"role": "assistant", "content": answer.text}]
                charge.tokens = (answer.prompt_tokens or self.budget.estimate(messages)) + (
                    answer.completion_tokens or self.budget.estimate(said)
                )
            self.budget.learn(messages, answer.prompt_tokens)
            self._pace.succeeded()
            return answer

    async def _pool(self) -> "httpx2.AsyncClient":
        """The connections of the running event loop; those of one that has ended are of no use."""
        from talkplay_hf.conversations.llm import chat_client

        loop = asyncio.get_running_loop()
        if self._http is None or self._loop is not loop:
            self._http, self._loop = chat_client.http_client(), loop
            # `asyncio.run` ends the generators that are open when it ends, and this the connections
            self._open = _until_the_end(self._http)
            await anext(self._open)
        return self._http

    def _address(self) -> dict[str, Any]:
        # without a header that takes its place, huggingface_hub sends the user's token anywhere
        headers = {"authorization": f"Bearer {self._key}" if self._key else None}
        if self._options.base_url is not None:
            return {"base_url": chat_url(self._options.base_url), "headers": headers}
        return {"provider": self._options.provider or "auto", "token": self._key}

    @property
    def _where(self) -> str:
        if self._options.base_url is None:
            return f"provider {self._options.provider or 'auto'}"
        return chat_url(self._options.base_url).partition("?")[0]

    def _clean(self, text: str) -> str:
        """A text without the key, which some servers repeat."""
        return text.replace(self._key, "***") if self._key else text


async def _until_the_end(http: "httpx2.AsyncClient") -> AsyncGenerator["httpx2.AsyncClient", None]:
    try:
        yield http
    finally:
        await http.aclose()


def _response_format(how: str | None, schema: Mapping[str, Any] | None) -> dict[str, Any]:
    """The field of a request that holds a model to a JSON schema."""
    if how is None or schema is None:
        return {}
    if how == "json_object":
        return {"response_format": {"type": how, "schema": schema}}
    named = {"name": "conversation", "strict": True, "schema": schema}
    return {"response_format": {"type": how, "json_schema": named}}


def _key(options: EndpointOptions) -> str | None:
    """The key to send, or `None`."""
    if options.key_variable is not None:
        key = os.environ.get(options.key_variable, "").strip()
        if not key:
            raise LanguageModelError(
                f"the environment variable {options.key_variable}, which should hold the key for "
                f"{options.model}, is not set"
            )
    else:
        host = urlsplit(options.base_url or "https://huggingface.co").hostname or ""
        if not _HUGGING_FACE.search(host):
            return None
        from huggingface_hub import get_token

        token = get_token()
        if not token:
            raise LanguageModelError(
                f"{options.model}: a Hugging Face token is needed. Set HF_TOKEN, or run "
                "`hf auth login`"
            )
        key = token
    if not (key.isascii() and key.isprintable()):
        raise LanguageModelError(f"the key for {options.model} holds characters that no key has")
    return key
