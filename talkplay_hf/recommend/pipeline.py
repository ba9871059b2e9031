"""`pipeline("talkplay-recommendation")`: the recommender behind the interface of transformers."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import Dataset
from transformers import Pipeline, PreTrainedModel, PreTrainedTokenizerBase
from transformers.pipelines import PIPELINE_REGISTRY

from talkplay_hf.catalog.schema import Message, Track
from talkplay_hf.errors import ArtifactError, InputError
from talkplay_hf.recommend.answers import Recommendation, ScoredTrack
from talkplay_hf.recommend.loading import load_tokenizer
from talkplay_hf.recommend.options import ChatOptions
from talkplay_hf.recommend.prompts import Chat, read_chat
from talkplay_hf.recommend.recommender import Recommender
from talkplay_hf.recommend.values import whole_number
from talkplay_hf.tokens.tokenizer import TalkPlayTokenizer

TASK = "talkplay-recommendation"
CALL_OPTIONS = (*(field.name for field in fields(ChatOptions)), "seed", "top_k")
# these hold for an answer and for a ranking alike
RANKING_TOO = ("exclude_played", "rules", "names")


def register() -> None:
    """Make `pipeline("talkplay-recommendation", model=...)` known to transformers.

    Calling it again changes nothing.

    Example:

    ```python
    >>> import talkplay_hf
    >>> from transformers import pipeline

    >>> talkplay_hf.register()
    >>> recommend = pipeline("talkplay-recommendation", model="someone/some-talkplay-model")
    >>> answer = recommend("something calm for the evening", seed=0)
    >>> answer["tracks"][0]["title"], answer["reply"]
    ```
    """
    if TASK not in PIPELINE_REGISTRY.get_supported_tasks():
        PIPELINE_REGISTRY.register_pipeline(
            TASK, RecommendationPipeline, pt_model=_Loader, type="text"
        )


class _Loader:
    """What `pipeline` loads a model with: tokenizer, codebooks and catalogue come with it."""

    @classmethod
    def from_pretrained(
        cls,
        name: str,
        *,
        dtype: str | torch.dtype = "auto",
        trust_remote_code: bool | None = None,
        _from_pipeline: str | None = None,
        **kwargs: Any,
    ) -> Recommender:
        try:
            # the pipeline puts the model on its own device
            return Recommender.from_pretrained(name, device="cpu", dtype=dtype, **kwargs)
        except InputError as error:
            # transformers wraps every ValueError in the tracebacks of all its attempts
            raise ArtifactError(str(error)) from None


@dataclass(frozen=True)
class _Asked:
    """One chat on its way through the pipeline, in a shape that transformers leaves alone."""

    chat: Chat
    number: int | None = None
    seed: int | None = None


class _AskedRows(Dataset[_Asked]):
    def __init__(self, rows: Any) -> None:
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, number: int) -> _Asked:
        return _Asked(self._rows[number], number)


class RecommendationPipeline(Pipeline):  # type: ignore[misc]
    """Answers chats with tracks of a catalogue and a reply (paper 4.4).

    Made by `pipeline("talkplay-recommendation", model=...)` after `talkplay_hf.register()`. `model`
    is a folder, a Hub id, a model with its tokenizer, or a `Recommender`; `model_kwargs` takes what
    `Recommender.from_pretrained` takes (`catalog`, `cache_dir`, ...).

    Args:
        model (`Recommender` or `PreTrainedModel`): What answers.
        tokenizer (`TalkPlayTokenizer`, `PreTrainedTokenizerBase` or `str`, *optional*): Its
            tokenizer. Of a plain one, or of none, the tokenizer is loaded from where the tokenizer,
            or the model, came from; the weights are not read again.
        device (`int`, `str` or `torch.device`, *optional*): Where to run; the first accelerator
            where there is one.
        batch_size (`int`, *optional*): Chats of a list or dataset that are answered together.
        options: Defaults for the options of a call.

    Raises:
        ArtifactError: If model and tokenizer do not belong together or cannot be loaded.
        InputError: If an option is unknown.

    Example:

    ```python
    >>> import talkplay_hf
    >>> from transformers import pipeline

    >>> talkplay_hf.register()
    >>> recommend = pipeline("talkplay-recommendation", model="someone/some-talkplay-model")
    >>> recommend("calm piano for the evening", seed=0, top_k=3)
    {"tracks": [{"track_id": ..., "title": ..., ...}], "reply": "...", "ranking": [...]}
    >>> chat = [
    ...     {"role": "user", "content": "calm piano for the evening"},
    ...     {"role": "music", "track_id": "t12"},
    ...     {"role": "assistant", "content": "Here is a quiet one."},
    ...     {"role": "user", "content": "a little more lively"},
    ... ]
    >>> recommend([chat, "rock from the nineties"], batch_size=2, seeds=[0, 1], tracks=3)
    [{"tracks": [...], "reply": "..."}, {"tracks": [...], "reply": "..."}]
    ```
    """

    _load_tokenizer = False
    _load_processor = False
    _load_image_processor = False
    _load_video_processor = False
    _load_feature_extractor = False

    def __init__(
        self,
        model: Recommender | PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase | str | None = None,
        *,
        local_files_only: bool = False,
        **options: Any,
    ) -> None:
        given, weights = (model, model.model) if isinstance(model, Recommender) else (None, model)
        if given is None or tokenizer is not None:
            found = _tokenizer_of(weights, tokenizer, local_files_only)
        else:
            found = given.tokenizer
        was_on = weights.device
        super().__init__(weights, found, **options)
        if given is None or found is not given.tokenizer or was_on != self.model.device:
            made = Recommender(self.model, found)
            made.source = given.source if given is not None else None
            given = made
        self.recommender = given

    def __call__(
        self,
        inputs: Any,
        *,
        seeds: Sequence[int | None] | None = None,
        batch_size: int | None = None,
        num_workers: int | None = None,
        **options: Any,
    ) -> Any:
        """Answer one chat, or several.

        Args:
            inputs (`str`, chat, or an iterable of these): A request; a chat, which is a list of
                messages (`Message` or dicts with `role`, `content`, `track_id`) that ends with the
                user's; a list of requests and chats; or a dataset or generator of them, which is
                read as answers are taken.
            seeds (`Sequence[int | None]`, *optional*): A seed for each chat of a list.
            batch_size (`int`, *optional*): Chats that are answered together. Each gets the answer
                that it gets alone.
            num_workers (`int`, *optional*): Processes that read a dataset.
            options: `tracks`, `constraint`, `strategy`, `exclude_played`, `rules`, `temperature`,
                `top_p`, `max_new_tokens`, `names` (see `ChatOptions`); `seed` (`int`), which makes
                answers repeatable; and `top_k` (`int`), which adds a ranking of so many tracks.

        Returns:
            `dict`, or a list or an iterator of them in the order of the inputs:

            - **tracks** (`list[dict]`) -- The tracks in the order they are played, each with
              `track_id`, `title`, `artist`, `album`, `release_date` (`str`, the latter two `None`
              where unknown), `tags` (`list[str]`), `score` (`float`, the log-probability of its
              codes) and `codes` (`list[int]`, those that were generated).
            - **reply** (`str`) -- The text that goes with them.
            - **ranking** (`list[dict]`, with `top_k`) -- The best tracks for the chat, best first,
              each as above.

        Raises:
            InputError: If a chat or an option cannot be used.
            NoTrackError: If no track is left to play in a chat.
        """
        options |= {"batch_size": batch_size, "num_workers": num_workers}
        if _is_chat(inputs):
            if seeds is not None:
                raise InputError("seeds go with a list of chats; one chat takes a seed")
            return super().__call__(_Asked(inputs), **options)
        if isinstance(inputs, list | tuple):
            drawn = [None] * len(inputs) if seeds is None else list(seeds)
            if len(drawn) != len(inputs):
                raise InputError(f"{len(drawn)} seeds for {len(inputs)} chats: give one for each")
            asked = [_Asked(*one) for one in zip(inputs, range(len(inputs)), drawn, strict=True)]
            return super().__call__(asked, **options) if asked else []
        if seeds is not None:
            raise InputError("seeds go with a list of chats; a dataset takes one seed for all")
        rows = hasattr(inputs, "__getitem__") and hasattr(inputs, "__len__")
        if isinstance(inputs, Mapping) or not (rows or isinstance(inputs, Iterable)):
            raise InputError(f"input {inputs!r:.60}: must be a text, a chat, or several of them")
        return super().__call__(_AskedRows(inputs) if rows else _numbered(inputs), **options)

    def _sanitize_parameters(
        self, **options: Any
    ) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        unknown = sorted(set(options) - set(CALL_OPTIONS))
        if unknown:
            raise InputError(f"unknown option {unknown[0]!r}; there are {', '.join(CALL_OPTIONS)}")
        top_k = options.get("top_k")
        if top_k is not None:
            options["top_k"] = whole_number("top_k", top_k, 1)
        return {}, options, {}

    def preprocess(self, input_: _Asked) -> dict[str, Any]:
        """Check a chat."""
        try:
            messages = read_chat(input_.chat, self.recommender.catalog)
        except InputError as error:
            if input_.number is None:
                raise
            raise InputError(f"input {input_.number}: {error}") from None
        return {"asked": _Asked(tuple(messages), input_.number, input_.seed)}

    def _forward(
        self,
        input_tensors: dict[str, Any],
        *,
        seed: int | None = None,
        top_k: int | None = None,
        **options: Any,
    ) -> dict[str, Any]:
        asked = input_tensors["asked"]
        batch = asked if isinstance(asked, list) else [asked]
        chats = [one.chat for one in batch]
        seeds = [seed if one.seed is None else one.seed for one in batch]
        if len(chats) == 1:
            # from what was read of the conversation before
            answers = [self.recommender.chat(chats[0], seed=seeds[0], **options)]
        else:
            answers = self.recommender.chat_batch(chats, seeds=seeds, **options)
        found: list[dict[str, Any]] = [{"answer": answer} for answer in answers]
        if top_k is not None:
            alike = {name: options[name] for name in RANKING_TOO if name in options}
            ranked = self.recommender.rank_batch(chats, top_k, seeds=seeds, **alike)
            for one, places in zip(found, ranked, strict=True):
                one["ranking"] = places[:top_k]
        return {"found": found if isinstance(asked, list) else found[0]}

    def postprocess(self, model_outputs: dict[str, Any]) -> dict[str, Any]:
        """What a chat is answered with, as plain values that JSON can hold."""
        found = model_outputs["found"]
        answer: Recommendation = found["answer"]
        played = zip(answer.tracks, answer.scores, answer.codes, strict=True)
        output: dict[str, Any] = {
            "tracks": [_plain(*one) for one in played],
            "reply": answer.reply,
        }
        if "ranking" in found:
            places: list[ScoredTrack] = found["ranking"]
            output["ranking"] = [_plain(one.track, one.score, one.codes) for one in places]
        return output

    def save_pretrained(self, save_directory: Any, **kwargs: Any) -> None:
        """Save the model folder, see `Recommender.save_pretrained`; it holds no code."""
        self.recommender.save_pretrained(save_directory, **kwargs)

    def push_to_hub(self, repo_id: str, **kwargs: Any) -> Any:
        """Push the model folder, see `Recommender.push_to_hub`."""
        return self.recommender.push_to_hub(repo_id, **kwargs)


def _plain(track: Track, score: float, codes: Sequence[int]) -> dict[str, Any]:
    return track.brief() | {"score": float(score), "codes": [int(code) for code in codes]}


def _is_chat(inputs: Any) -> bool:
    if isinstance(inputs, str):
        return True
    if not isinstance(inputs, list | tuple) or not inputs:
        return False
    first = inputs[0]
    return isinstance(first, Message) or (isinstance(first, Mapping) and "role" in first)


def _numbered(inputs: Iterable[Chat]) -> Iterator[_Asked]:
    # transformers looks for a generator
    for number, chat in enumerate(inputs):
        yield _Asked(chat, number)


def _tokenizer_of(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase | str | Path | None,
    local_files_only: bool,
) -> TalkPlayTokenizer:
    """The tokenizer with its codebooks and catalogue, by what came of it."""
    if isinstance(tokenizer, TalkPlayTokenizer):
        return tokenizer
    if isinstance(tokenizer, str | Path):
        name = str(tokenizer)
    else:
        name = (model if tokenizer is None else tokenizer).name_or_path
    if not name:
        raise ArtifactError(
            "the pipeline needs the tokenizer with its catalogue: pass "
            "tokenizer=TalkPlayTokenizer.from_pretrained(...)"
        )
    same = name == model.name_or_path
    revision = getattr(model.config, "_commit_hash", None) if same else None
    return load_tokenizer(name, revision=revision or "main", local_files_only=local_files_only)
