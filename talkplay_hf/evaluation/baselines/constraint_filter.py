"""The tracks that meet what was asked for, the popular ones first."""

from collections.abc import Sequence

import numpy as np

from talkplay_hf.catalog.matcher import ConstraintMatcher
from talkplay_hf.evaluation.baselines.base import BaselineSources, History
from talkplay_hf.evaluation.baselines.popularity import plays
from talkplay_hf.evaluation.metrics.ranking import FloatArray


class FilterRanker:
    """Tracks by how many constraints of the last user message they meet, then by popularity.

    It reads the constraints that the maker of the conversation attached to the message, so it
    understands every request without reading a word of it. No system that has only the text has
    this advantage. Where a message carries no constraints it is the popularity ranking.
    """

    def __init__(self, sources: BaselineSources) -> None:
        self._matcher = ConstraintMatcher(sources.catalog)
        popularity = plays(sources)
        self._below_one = popularity / (popularity.max(initial=0) + 1)

    def scores(self, histories: Sequence[History]) -> FloatArray:
        """See `Ranker.scores`: the number of constraints met, plus a popularity below 1."""
        scores = np.tile(self._below_one, (len(histories), 1))
        for row, history in enumerate(histories):
            request = next((m.constraints for m in reversed(history) if m.role == "user"), ())
            for constraint in request:
                scores[row] += self._matcher.mask([constraint])
        return scores
