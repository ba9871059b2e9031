"""A language model in this process, by transformers."""

import asyncio
import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from talkplay_hf.conversations.llm.budget import Budget
from talkplay_hf.conversations.llm.language_model import Answer, Chat
from talkplay_hf.errors import ConfigError, LanguageModelError, PromptRefusedError, first_line

# long enough for callers that are under way to join a batch, short beside any generation
GATHER_SECONDS = 0.01


@dataclass(frozen=True)
class LocalOptions:
    """Which model answers, and how.

    Args:
        model (`str`): Name on the Hugging Face Hub, or a folder.
        revision (`str`, *optional*): Branch, tag or commit on the Hub.
        gguf_file (`str`, *optional*): Name of a GGUF file in it, whose weights are taken. Needs
            the package `gguf`.
        max_tokens (`int`): Most tokens of an answer.
        temperature (`float`): Sampling temperature; 0 takes the likeliest token.
        top_p (`float`): Nucleus of the sampling.
        seed (`int`): Seed of the sampling.
        concurrency (`int`): Most chats in a batch.
        device (`str`, *optional*): `"cpu"`, `"cuda"`, ...; a GPU where there is one by default.
        dtype (`str`): Type of the weights, `"auto"` for the one they are stored in.

    Raises:
        ConfigError: If a value is impossible.
    """

    model: str
    revision: str | None = None
    gguf_file: str | None = None
    max_tokens: int = 2048
    temperature: float = 1.0
    top_p: float = 1.0
    seed: int = 0
    concurrency: int = 8
    device: str | None = None
    dtype: str = "auto"

    def __post_init__(self) -> None:
        for name in ("max_tokens", "concurrency"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name}: {getattr(self, name)} is less than 1")
        if not 0 <= self.temperature < math.inf:
            raise ConfigError(f"temperature: {self.temperature} is not a number of at least 0")
        if not 0 < self.top_p <= 1:
            raise ConfigError(f"top_p: {self.top_p} is not above 0 and at most 1")

    @property
    def name(self) -> str:
        """The model's name; of a folder only its own, since the rest of the path says nothing to
        others."""
        name = Path(self.model).resolve().name if Path(self.model).is_dir() else self.model
        return f"{name}/{self.gguf_file}" if self.gguf_file else name

    @property
    def parameters(self) -> dict[str, Any]:
        """What shapes an answer."""
        shaping = ["max_tokens", "temperature", "top_p", "seed", "dtype"]
        shaping += [] if self.revision is None else ["revision"]
        return {name: getattr(self, name) for name in shaping}


class TransformersModel:
    """A causal language model with a chat template, asked in batches.

    Chats that wait at the same time share a `generate` call. The draw of an answer comes from the
    seed and the chat alone, so that it is the same whatever shares its batch, up to rounding.

    Args:
        options (`LocalOptions`): Which model, and how.
        budget (`Budget`, *optional*): Cap on chats and tokens. No cap by default.

    Attributes:
        name (`str`): The model's name, or that of its folder.
        parameters (`Mapping[str, Any]`): What shapes an answer.
        concurrency (`int`): Most chats in a batch.
        budget (`Budget`): What has been spent.

    Raises:
        LanguageModelError: If the model cannot be loaded, or has no chat template.
    """

    def __init__(self, options: LocalOptions, budget: Budget | None = None) -> None:
        self.name = options.name
        self.parameters: Mapping[str, Any] = options.parameters
        self.concurrency = options.concurrency
        self.budget = budget or Budget()
        self._options = options
        self._tokenizer, self._model = _load(options)
        self._ends = _end_tokens(self._tokenizer, self._model)
        self._context: int | None = getattr(
            self._model.config.get_text_config(), "max_position_embeddings", None
        )
        self._waiting: list[tuple[list[int], int, asyncio.Future[Answer]]] = []
        self._runner: asyncio.Task[None] | None = None

    async def complete(self, chat: Chat, schema: Mapping[str, Any] | None = None) -> Answer:
        """Answer a chat of messages with `role` and `content`.

        Raises:
            PromptRefusedError: If chat and answer may not fit into the model's context, or the
                chat template does not take the chat.
            BudgetError: If the call could pass a cap; it was not made.
            LanguageModelError: If the memory does not hold a batch.
        """
        messages = [{"role": message["role"], "content": message["content"]} for message in chat]
        prompt = self._prompt(messages)
        room = self._options.max_tokens
        if self._context is not None and len(prompt) + room > self._context:
            raise PromptRefusedError(
                f"{self.name}: the chat has {len(prompt)} tokens and the answer up to {room}; the "
                f"model's context holds {self._context}"
            )
        digest = hashlib.sha256(f"{self._options.seed}\n{json.dumps(messages)}".encode()).digest()
        seed = int.from_bytes(digest[:8], "big") >> 1
        async with self.budget.call(len(prompt) + room) as charge:
            future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
            self._waiting.append((prompt, seed, future))
            if self._runner is None or self._runner.done():
                self._runner = asyncio.create_task(self._run())
            answer = await future
            charge.tokens = answer.prompt_tokens + answer.completion_tokens
            return answer

    def _prompt(self, messages: list[dict[str, str]]) -> list[int]:
        from jinja2 import TemplateError

        try:
            ids: list[int] = self._tokenizer.apply_chat_template(
                messages,
                add_generation_prompt=True,
                return_dict=False,
                # titles and lyrics are anybody's: none may end the message that it stands in
                sanitize_control_tokens=self._spells_control(messages),
            )
        except TemplateError as error:
            raise PromptRefusedError(
                f"{self.name}: its chat template says: {first_line(error)}"
            ) from None
        return ids

    def _spells_control(self, messages: list[dict[str, str]]) -> bool:
        tokens = self._tokenizer.added_tokens_encoder
        return any(token in one["content"] for one in messages for token in tokens)

    async def _run(self) -> None:
        """Answer all who wait, a batch at a time."""
        await asyncio.sleep(GATHER_SECONDS)
        while True:
            self._waiting = [one for one in self._waiting if not one[2].done()]
            batch = self._waiting[: self.concurrency]
            self._waiting = self._waiting[self.concurrency :]
            if not batch:
                return
            try:
                answers = await asyncio.to_thread(
                    self._generate, [one[0] for one in batch], [one[1] for one in batch]
                )
            except BaseException as error:
                for _, _, future in batch:
                    if not future.done():
                        future.set_exception(_reason(error, self.name))
                if not isinstance(error, Exception):
                    raise
            else:
                for (_, _, future), answer in zip(batch, answers, strict=True):
                    if not future.done():
                        future.set_result(answer)
            # those who were just answered may bring their next chat
            await asyncio.sleep(0)

    def _generate(self, prompts: list[list[int]], seeds: list[int]) -> list[Answer]:
        """Answer a batch of prompts, each with the chance of its own seed."""
        import torch
        from transformers import GenerationConfig

        options = self._options
        width = max(len(prompt) for prompt in prompts)
        pad = self._ends[0]
        ids = torch.tensor([[pad] * (width - len(prompt)) + prompt for prompt in prompts])
        mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts])
        device = self._model.device
        # the model's own generation config, which fills what is left open, is emptied by _load
        config = GenerationConfig(
            max_new_tokens=options.max_tokens,
            do_sample=False,
            num_beams=1,
            num_return_sequences=1,
            repetition_penalty=1.0,
            eos_token_id=self._ends,
            pad_token_id=pad,
            use_cache=True,
        )
        with torch.inference_mode():
            output = self._model.generate(
                input_ids=ids.to(device),
                attention_mask=mask.to(device),
                generation_config=config,
                logits_processor=_sampling(options, seeds),
            )
        return [
            self._read(row, len(prompt))
            for row, prompt in zip(output[:, width:].tolist(), prompts, strict=True)
        ]

    def _read(self, tokens: list[int], prompt_tokens: int) -> Answer:
        end = next((at for at, token in enumerate(tokens) if token in self._ends), None)
        return Answer(
            text=self._tokenizer.decode(
                tokens[:end], skip_special_tokens=True, clean_up_tokenization_spaces=False
            ),
            finish_reason="length" if end is None else "stop",
            prompt_tokens=prompt_tokens,
            completion_tokens=len(tokens) if end is None else end + 1,
        )


def _load(options: LocalOptions) -> tuple[Any, Any]:
    """Tokenizer and model, with a generation config that says nothing."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

    where = {"revision": options.revision or "main", "trust_remote_code": False}
    if options.gguf_file is not None:
        where["gguf_file"] = options.gguf_file
    try:
        tokenizer = AutoTokenizer.from_pretrained(options.model, **where)
        model = AutoModelForCausalLM.from_pretrained(options.model, dtype=options.dtype, **where)
    except (OSError, ValueError, ImportError) as error:
        raise LanguageModelError(
            f"{options.model}: cannot be loaded ({first_line(error)})"
        ) from None
    if tokenizer.chat_template is None:
        raise LanguageModelError(
            f"{options.model}: has no chat template, so it is no chat model; take one that was "
            "tuned to follow instructions"
        )
    ends = model.generation_config.eos_token_id
    model.generation_config = GenerationConfig(eos_token_id=ends)
    device = options.device or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return tokenizer, model.to(device).eval()
    except (RuntimeError, AssertionError) as error:
        raise LanguageModelError(
            f"{options.model}: cannot be put on {device} ({first_line(error)}); name another device"
        ) from None


def _end_tokens(tokenizer: Any, model: Any) -> list[int]:
    """Every token that ends an answer: the tokenizer's, and those of the generation config."""
    ends = model.generation_config.eos_token_id
    ends = ends if isinstance(ends, list) else [ends]
    found = [end for end in dict.fromkeys([tokenizer.eos_token_id, *ends]) if end is not None]
    if not found:
        raise LanguageModelError(f"{tokenizer.name_or_path}: names no token that ends an answer")
    return found


def _sampling(options: LocalOptions, seeds: list[int]) -> list[Any]:
    """Logits processors after which the likeliest token of each row is a draw by its own seed."""
    import torch
    from transformers import TemperatureLogitsWarper, TopPLogitsWarper

    if options.temperature == 0:
        return []
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]

    def draw(_: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        # the largest of log p + Gumbel noise is a draw from p
        noise = torch.empty(scores.shape, dtype=torch.float32)
        for row, generator in zip(noise, generators, strict=True):
            row.exponential_(generator=generator)
        return scores.float() - noise.log_().to(scores.device)

    processors: list[Any] = []
    if options.temperature != 1:
        processors.append(TemperatureLogitsWarper(options.temperature))
    if options.top_p < 1:
        processors.append(TopPLogitsWarper(options.top_p))
    return [*processors, draw]


def _reason(error: BaseException, name: str) -> BaseException:
    import torch

    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return LanguageModelError(f"{name}: the memory does not hold a batch; lower concurrency")
    return error if isinstance(error, Exception) else LanguageModelError(f"{name}: was stopped")
