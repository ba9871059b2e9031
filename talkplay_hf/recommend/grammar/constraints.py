"""The logits processors that hold a model to a constraint, by its name."""

from collections.abc import Sequence

import numpy as np
import torch
from transformers import LogitsProcessor, LogitsProcessorList

from talkplay_hf.recommend.grammar.catalog import CatalogLogitsProcessor
from talkplay_hf.recommend.grammar.processor import MusicGrammarLogitsProcessor
from talkplay_hf.recommend.grammar.vocabulary import MusicVocabulary
from talkplay_hf.tokens.allowed import Allowed
from talkplay_hf.tokens.index import CatalogIndex


def processors(
    vocabulary: MusicVocabulary,
    constraint: str,
    index: CatalogIndex,
    masks: Sequence[np.ndarray | None],
) -> LogitsProcessorList:
    """The logits processors of a constraint, for one music block an answer.

    Args:
        vocabulary (`MusicVocabulary`): Where the music tokens stand.
        constraint (`str`): `"none"`, `"grammar"` or `"catalog"`.
        index (`CatalogIndex`): The catalogue.
        masks (`Sequence[np.ndarray | None]`, each of shape `[n]`, bool): The tracks allowed, by
            chat; `None` allows all.
    """
    if constraint == "none":
        return LogitsProcessorList([_KnownTokens(vocabulary.size)])
    if constraint == "grammar":
        return LogitsProcessorList([MusicGrammarLogitsProcessor(vocabulary)])
    allowed = Allowed.of(index, masks)
    return LogitsProcessorList([CatalogLogitsProcessor(vocabulary, index, allowed=allowed)])


class _KnownTokens(LogitsProcessor):  # type: ignore[misc]
    """Bans the rows of a model that stand for no token."""

    def __init__(self, size: int) -> None:
        self._size = size

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        if scores.shape[1] == self._size:
            return scores
        known = scores.clone()
        known[:, self._size :] = -torch.inf
        return known
