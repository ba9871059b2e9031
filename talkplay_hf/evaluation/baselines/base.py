"""What a ranker is, what evaluation needs of a model, and what baselines may learn from.

A `Ranker` takes histories and gives one score for every track of the catalog. Equal scores are
ties and stay ties.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np

from talkplay_hf.catalog.membership import Membership, membership
from talkplay_hf.catalog.schema import Catalog, Conversation, Message
from talkplay_hf.catalog.splits import playlist_splits
from talkplay_hf.evaluation.metrics.ranking import FloatArray
from talkplay_hf.recommend.answers import Recommendation, ScoredTrack

History = Sequence[Message]


class Ranker(Protocol):
    """Anything that scores the tracks of a catalog as the next one of a dialogue."""

    def scores(self, histories: Sequence[History]) -> FloatArray:
        """Score every track for every history.

        Args:
            histories (`Sequence[Sequence[Message]]`): The dialogues so far.

        Returns:
            `numpy.ndarray` of shape `(histories, tracks)`, float64: Higher is better, equal is
            tied, `-inf` is not in this system's ranking. The caller may write into it.
        """


def last_track(history: History, catalog: Catalog) -> int | None:
    """The catalog row of the track that was played last, if there is one and the catalog has it."""
    played = next((m.track_id for m in reversed(history) if m.role == "music"), None)
    return None if played is None or played not in catalog else catalog.row(played)


class RankingModel(Protocol):
    """The part of `Recommender` that evaluation uses."""

    def rank_batch(
        self,
        chats: list[list[Message]],
        /,
        k: int,
        *,
        exclude_played: bool,
        seeds: list[int],
        strategy: str,
        constraint: str,
        beam_width: int,
        draws: int,
        temperature: float,
        top_p: float,
        names: bool,
    ) -> Sequence[Sequence[ScoredTrack]]:
        """The best `k` tracks after each history (or more, to complete a group of ties)."""

    def chat_batch(
        self,
        chats: list[list[Message]],
        /,
        *,
        seeds: list[int],
        exclude_played: bool,
        max_new_tokens: int,
    ) -> Sequence[Recommendation]:
        """A sampled answer to each history."""


@dataclass(frozen=True)
class BaselineSources:
    """What baselines are made from, and may learn from.

    Args:
        catalog (`Catalog`): The candidates.
        held_out (`frozenset[str]`): Ids of playlists that nobody may learn from, those that the
            evaluated conversations were made from among them. Playlists that do not train by the
            split of the catalog are held out besides.
        conversations (`tuple[Conversation, ...]`): The training conversations. Those of held-out
            playlists are left out wherever one learns from them.
        features (`Path`, *optional*): A features folder of the catalog.
        seed (`int`): Of everything that is drawn.
        encoder (`str`, *optional*): A sentence-transformers model: a Hub id, or a folder.
        query_prompt (`str`): What `encoder` wants before a query, such as an instruction.
        two_tower (`Path`, *optional*): A trained two-tower model; without one it is trained.
        device (`str`): Where models run, such as `"cpu"` or `"cuda"`.
    """

    catalog: Catalog
    held_out: frozenset[str] = field(default_factory=frozenset)
    conversations: tuple[Conversation, ...] = ()
    features: Path | None = None
    seed: int = 0
    encoder: str | None = None
    query_prompt: str = ""
    two_tower: Path | None = None
    device: str = "cpu"

    @cached_property
    def playlists(self) -> Membership:
        """The tracks of the playlists that baselines may learn from."""
        ids: list[str] = self.catalog.playlists["playlist_id"].to_pylist()
        open_to_all = np.array([name not in self._hidden for name in ids], dtype=bool)
        return membership(self.catalog).select(open_to_all)

    @cached_property
    def training_conversations(self) -> tuple[Conversation, ...]:
        """The conversations that baselines may learn from: `train`, and of no hidden playlist."""
        return tuple(
            c
            for c in self.conversations
            if c.split == "train" and c.playlist_id not in self._hidden
        )

    @cached_property
    def _hidden(self) -> frozenset[str]:
        """The ids of all playlists that are held out."""
        splits = playlist_splits(self.catalog)
        return self.held_out | {name for name, split in splits.items() if split != "train"}


def origin_of(conversation: Conversation) -> str:
    """The playlist that a conversation was made from, or itself where that is not known."""
    return conversation.playlist_id or conversation.conversation_id


def set_apart(
    conversations: Sequence[Conversation], rng: np.random.Generator, count: Callable[[int], int]
) -> tuple[list[Conversation], list[Conversation]]:
    """Draw playlists, and set what was made from them apart.

    Args:
        conversations (`Sequence[Conversation]`): The conversations.
        rng (`np.random.Generator`): Where the draw comes from.
        count (`Callable[[int], int]`): How many of so many playlists to draw.

    Returns:
        `tuple[list[Conversation], list[Conversation]]`: The conversations of the other playlists,
        and those of the drawn ones.
    """
    playlists = sorted({origin_of(conversation) for conversation in conversations})
    drawn = {playlists[at] for at in rng.permutation(len(playlists))[: count(len(playlists))]}
    parts: tuple[list[Conversation], list[Conversation]] = ([], [])
    for conversation in conversations:
        parts[origin_of(conversation) in drawn].append(conversation)
    return parts
