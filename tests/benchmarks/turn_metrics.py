"""The ranking figures of a system, turn by turn; for the benchmarks beside it."""

from collections.abc import Sequence

import numpy as np

from talkplay_hf.evaluation.baselines.base import Ranker
from talkplay_hf.evaluation.metrics.ranking import FloatArray, label_ranks, ranking_metrics
from talkplay_hf.evaluation.turns import Turn

CHUNK = 16


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
