"""What a model has read of the last conversations, so that the next turn need not read it again."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from transformers import DynamicCache


class _Read(NamedTuple):
    ids: np.ndarray
    prompt: int
    cache: DynamicCache


class ConversationMemory:
    """Caches of the last conversations, found by their longest common beginning.

    What is kept is never changed, so that turns can be answered in several threads; two that end at
    the same moment can cost one of them its place, which then is only read again.

    Args:
        size (`int`): Conversations that are kept; 0 keeps none.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._kept: list[_Read] = []

    def recall(self, ids: Sequence[int]) -> tuple[int, DynamicCache | None]:
        """A copy of what is known of these ids already.

        At least one of the ids is left to be read, since only that gives scores.

        Args:
            ids (`Sequence[int]`): What is to be read.

        Returns:
            `tuple[int, DynamicCache | None]`: How many of the ids were read, and their cache; 0 and
            `None` where no conversation begins so.
        """
        wanted = np.asarray(ids[:-1])
        kept = list(self._kept)
        lengths = [_shared(known.ids, wanted) for known in kept]
        if not any(lengths):
            return 0, None
        best = int(np.argmax(lengths))
        length = lengths[best]
        layers = kept[best].cache.layers
        return length, DynamicCache(
            [(one.keys[..., :length, :], one.values[..., :length, :]) for one in layers]
        )

    def keep(self, ids: Sequence[int], prompt: int, cache: DynamicCache) -> None:
        """Keep a cache, in the place of an earlier state of the same conversation.

        Args:
            ids (`Sequence[int]`): What was read; may be longer than the cache.
            prompt (`int`): How many of them are the prompt; the others are the answer, which need
                not come back as the same ids.
            cache (`DynamicCache`): The cache of one conversation; it must not grow any more.
        """
        if self._size < 1:
            return
        read = np.asarray(ids[: int(cache.get_seq_length())])
        # what goes on from a prompt is a later state of it; others share the system message at most
        others = [one for one in self._kept if _shared(one.ids, read) < one.prompt]
        self._kept = [*others, _Read(read, min(prompt, len(read)), cache)][-self._size :]


def _shared(known: np.ndarray, wanted: np.ndarray) -> int:
    length = min(len(known), len(wanted))
    differs = np.flatnonzero(known[:length] != wanted[:length])
    return int(differs[0]) if len(differs) else length
