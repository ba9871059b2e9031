"""Reciprocal-rank fusion of several rankings (Cormack et al., 2009)."""

from collections.abc import Sequence

import numpy as np
from scipy.stats import rankdata

from talkplay_hf.evaluation.baselines.base import History, Ranker
from talkplay_hf.evaluation.metrics.ranking import FloatArray

K = 60  # of Cormack et al.


class FusionRanker:
    """Tracks by the sum of `1 / (60 + rank)` over rankers.

    Tracks that are tied with one ranker share the mean of the ranks that they take up, so that no
    order is made up among them. What a ranker leaves out gets nothing from it.

    Args:
        rankers (`Sequence[Ranker]`): The rankers.
    """

    def __init__(self, rankers: Sequence[Ranker]) -> None:
        self._rankers = rankers

    def scores(self, histories: Sequence[History]) -> FloatArray:
        """See `Ranker.scores`."""
        return fuse([ranker.scores(histories) for ranker in self._rankers])


def fuse(rankings: Sequence[FloatArray]) -> FloatArray:
    """The fused scores of rankings, each of shape `[histories, tracks]`.

    A track that no ranking holds has `-inf`.
    """
    total = np.zeros_like(rankings[0])
    for scores in rankings:
        ranks = rankdata(-scores, method="average", axis=1)
        total += np.where(np.isneginf(scores), 0.0, 1.0 / (K + ranks))
    return np.where(total > 0, total, -np.inf)
