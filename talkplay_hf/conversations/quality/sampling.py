"""Random samples of conversations that pass once, and the tracks that they play."""

from collections.abc import Iterable

import numpy as np

from talkplay_hf.catalog.schema import Catalog, Conversation, Track
from talkplay_hf.errors import InputError


class Reservoir:
    """Keeps a uniform sample of what passes (Algorithm R: Vitter, 1985).

    Args:
        size (`int`): Conversations to keep.
        rng (`np.random.Generator`): Draws them.

    Raises:
        InputError: If `size` is not positive.
    """

    def __init__(self, size: int, rng: np.random.Generator) -> None:
        if size < 1:
            raise InputError(f"a sample of {size}: must be 1 or more")
        self._size, self._rng = size, rng
        self._kept: list[Conversation] = []
        self._passed = 0

    def add(self, conversation: Conversation) -> None:
        """Let a conversation pass."""
        self._passed += 1
        if len(self._kept) < self._size:
            self._kept.append(conversation)
            return
        at = int(self._rng.integers(self._passed))
        if at < self._size:
            self._kept[at] = conversation

    def draw(self) -> list[Conversation]:
        """The sample in random order, so that any beginning of it is a uniform sample too."""
        return [self._kept[at] for at in self._rng.permutation(len(self._kept))]


def sample_conversations(
    conversations: Iterable[Conversation], size: int, seed: int = 0
) -> list[Conversation]:
    """A uniform sample of conversations, in random order; all of them where there are fewer.

    Args:
        conversations (`Iterable[Conversation]`): The conversations; they are read once.
        size (`int`): How many to draw.
        seed (`int`): Draws them.

    Raises:
        InputError: If `size` is not positive.
    """
    reservoir = Reservoir(size, np.random.default_rng(seed))
    for conversation in conversations:
        reservoir.add(conversation)
    return reservoir.draw()


def tracks_of(conversations: Iterable[Conversation], catalog: Catalog | None) -> dict[str, Track]:
    """The tracks that conversations play, by id, as far as the catalog has them."""
    ids = {m.track_id for one in conversations for m in one.messages if m.track_id is not None}
    if catalog is None:
        return {}
    return {track_id: catalog.track(track_id) for track_id in sorted(ids) if track_id in catalog}
