"""ZeroGPU: a Space whose GPU is lent for the time of one call."""

import math
import os
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from talkplay_hf import TalkPlayError

if TYPE_CHECKING:
    from talkplay_hf import Recommender

# what a call takes before its first token: a process is started and the weights are moved
START_SECONDS = 8.0
TRACK_SECONDS = 1.0
TOKEN_SECONDS = 0.05
RANKING_SECONDS = 12
# visitors who are not logged in are refused more
LONGEST_SECONDS = 60
# as `Recommender.stream` has it
REPLY_TOKENS = 96


def is_zero_gpu() -> bool:
    """Whether this is a Space on ZeroGPU."""
    return os.environ.get("SPACES_ZERO_GPU", "").lower() in ("1", "t", "true")


def patch_torch() -> None:
    """On ZeroGPU, let torch see the GPU that is not there yet; call it before torch is loaded."""
    if is_zero_gpu() and find_spec("spaces"):
        import spaces  # noqa: F401


def seconds(tracks: int = 1, max_new_tokens: int = REPLY_TOKENS) -> int:
    """How long to ask for the GPU, for an answer.

    Args:
        tracks (`int`): Tracks of the answer.
        max_new_tokens (`int`): Tokens of the reply at most.
    """
    asked = START_SECONDS + TRACK_SECONDS * tracks + TOKEN_SECONDS * max_new_tokens
    return min(math.ceil(asked), LONGEST_SECONDS)


def on_zero_gpu(recommender: "Recommender") -> "Recommender":
    """The recommender, its answers computed on the GPU that ZeroGPU lends; itself elsewhere."""
    if not (is_zero_gpu() and find_spec("spaces")):
        return recommender
    import spaces

    return ZeroGpuRecommender(recommender, spaces.GPU)  # type: ignore[return-value]


class ZeroGpuRecommender:
    """A recommender whose answers come from another process, which has the GPU.

    What goes in and out is pickled there, and an exception comes back as a text without its kind,
    so refusals are handed over as values.

    Args:
        recommender (`Recommender`): The model with its catalogue.
        gpu (`Callable`): `spaces.GPU`.
    """

    def __init__(self, recommender: "Recommender", gpu: Callable[..., Any]) -> None:
        self._recommender = recommender

        def duration(chat: Any, options: dict[str, Any]) -> int:
            return seconds(options.get("tracks", 1), options.get("max_new_tokens", REPLY_TOKENS))

        def stream(chat: Any, options: dict[str, Any]) -> Iterator[Any]:
            try:
                yield from recommender.stream(chat, **options)
            except TalkPlayError as error:
                yield error

        def rank(chat: Any, options: dict[str, Any]) -> Any:
            try:
                return recommender.rank(chat, **options)
            except TalkPlayError as error:
                return error

        self._stream = gpu(stream, duration=duration)
        self._rank = gpu(rank, duration=RANKING_SECONDS)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._recommender, name)

    def stream(self, chat: Any, **options: Any) -> Iterator[Any]:
        """As `Recommender.stream`."""
        for found in self._stream(chat, options):
            if isinstance(found, TalkPlayError):
                raise found
            yield found

    def chat(self, chat: Any, **options: Any) -> Any:
        """As `Recommender.chat`."""
        *_, answer = self.stream(chat, **options)
        return answer

    def rank(self, chat: Any, k: int = 10, **options: Any) -> Any:
        """As `Recommender.rank`."""
        found = self._rank(chat, {"k": k, **options})
        if isinstance(found, TalkPlayError):
            raise found
        return found
