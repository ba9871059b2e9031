"""Rankings that do not listen: chance and popularity."""

from collections.abc import Sequence

import numpy as np

from talkplay_hf.evaluation.baselines.base import BaselineSources, History
from talkplay_hf.evaluation.metrics.ranking import FloatArray


class RandomRanker:
    """Every track alike. Since metrics are exact under ties, this is chance itself, undrawn."""

    def __init__(self, sources: BaselineSources) -> None:
        self._tracks = len(sources.catalog)

    def scores(self, histories: Sequence[History]) -> FloatArray:
        """See `Ranker.scores`."""
        return np.zeros((len(histories), self._tracks))


class PopularityRanker:
    """Tracks by how often they stand in the playlists that may be learnt from."""

    def __init__(self, sources: BaselineSources) -> None:
        self._plays = plays(sources)

    def scores(self, histories: Sequence[History]) -> FloatArray:
        """See `Ranker.scores`."""
        return np.tile(self._plays, (len(histories), 1))


def plays(sources: BaselineSources) -> FloatArray:
    """How often each track stands in the playlists that may be learnt from, `[tracks]`."""
    return np.bincount(sources.playlists.rows, minlength=len(sources.catalog)).astype(np.float64)
