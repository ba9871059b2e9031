"""The ranking figures of a system, turn by turn; for the benchmarks beside it."""

from collections.abc import Sequence

import numpy as np

from talkplay_hf.catalog.schema import Catalog
from talkplay_hf.evaluation.baselines.base import History, Ranker
from talkplay_hf.evaluation.metrics.ranking import FloatArray, label_ranks, ranking_metrics
from talkplay_hf.evaluation.turns import Turn
from talkplay_hf.recommend.recommender import Recommender

CHUNK = 16


class ModelRanker:
    """The best `k` tracks of a recommender, laid out over the catalog; the others have `-inf`."""

    def __init__(self, model: Recommender, catalog: Catalog, k: int) -> None:
        self._model, self._catalog, self._k = model, catalog, min(k, len(catalog))

    def scores(self, histories: Sequence[History]) -> FloatArray:
        """See `Ranker.scores`."""
        scores = np.full((len(histories), len(self._catalog)), -np.inf)
        ranked = self._model.rank_batch([list(history) for history in histories], k=self._k)
        for row, tracks in enumerate(ranked):
            for item in tracks:
                scores[row, self._catalog.row(item.track.track_id)] = item.score
        return scores


def turn_metrics(ranker: Ranker, turns: Sequence[Turn], depth: int) -> dict[str, FloatArray]:
    """Each metric on each turn; tracks that were played before are no candidates."""
    parts = []
    for start in range(0, len(turns), CHUNK):
        chunk = turns[start : start + CHUNK]
        scores = ranker.scores([turn.history for turn in chunk])
        for row, turn in enumerate(chunk):
            scores[row, list(turn.played)] = -np.inf
        parts.append(ranking_metrics(label_ranks(scores, [turn.labels for turn in chunk]), depth))
    return {metric: np.concatenate([part[metric] for part in parts]) for metric in parts[0]}
