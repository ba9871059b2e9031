"""What a language model is to this package: something that answers a chat."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from talkplay_hf.errors import LanguageModelError

Chat = Sequence[Mapping[str, str]]


@dataclass(frozen=True)
class Answer:
    """What a language model said.

    Args:
        text (`str`): The text, as it came.
        finish_reason (`str`, *optional*): Why it ended: `"stop"`, `"length"`, ...
        prompt_tokens (`int`): Tokens of the chat, as far as the model says.
        completion_tokens (`int`): Tokens of the text.
    """

    text: str
    finish_reason: str | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0


class LanguageModel(Protocol):
    """Answers chats, several at a time.

    Attributes:
        name (`str`): The model's name, recorded with every answer.
        parameters (`Mapping[str, Any]`): JSON values that change what it answers (temperature,
            most tokens, ...), recorded with every answer.
        concurrency (`int`): How many chats it takes at a time.
    """

    name: str
    parameters: Mapping[str, Any]
    concurrency: int

    async def complete(self, chat: Chat, schema: Mapping[str, Any] | None = None) -> Answer:
        """Answer a chat of messages with `role` and `content`.

        Tries again by itself where that makes sense (rate limits, server faults, time-outs).

        Args:
            chat (`Sequence[Mapping[str, str]]`): The messages.
            schema (`Mapping[str, Any]`, *optional*): A JSON schema of the answer. A model that
                cannot be held to one leaves it out.

        Raises:
            PromptRefusedError: If the model refuses this chat, and would again.
            BudgetError: If the call would pass a cap; it was not made.
            LanguageModelError: If the model cannot be asked at all.
        """


@dataclass
class NamedModel:
    """Name and parameters of a language model that is not asked: enough to find its answers in a
    ledger, and to say what asking it would take.

    Args:
        name (`str`): The model's name.
        parameters (`Mapping[str, Any]`): What shapes its answers.
        concurrency (`int`): How many chats it would take at a time.
    """

    name: str
    parameters: Mapping[str, Any]
    concurrency: int = 1

    async def complete(self, chat: Chat, schema: Mapping[str, Any] | None = None) -> Answer:
        """Refuse to answer.

        Raises:
            LanguageModelError: Always.
        """
        raise LanguageModelError(f"{self.name}: only its name is known here; it cannot be asked")
