"""The recommender as one ranker among the others."""

from collections.abc import Sequence
from dataclasses import asdict

import numpy as np

from talkplay_hf.catalog.schema import Catalog
from talkplay_hf.evaluation.baselines.base import History, RankingModel
from talkplay_hf.evaluation.metrics.ranking import FloatArray
from talkplay_hf.recommend.options import RankingOptions


class ModelRanker:
    """A recommender's ranking, laid out over the catalog; what it leaves out has `-inf`.

    Args:
        model (`Recommender`): The recommender.
        catalog (`Catalog`): The candidates.
        k (`int`): How many tracks it is asked for.
        exclude_played (`bool`): Whether it leaves out tracks that the history has played.
        seed (`int`): Seed of the draws for the first history, the next one's for the next.
        options (`RankingOptions`, *optional*): How it ranks.
    """

    def __init__(
        self,
        model: RankingModel,
        catalog: Catalog,
        k: int,
        *,
        exclude_played: bool = True,
        seed: int = 0,
        options: RankingOptions | None = None,
    ) -> None:
        self._model, self._catalog = model, catalog
        self._k, self._exclude_played = min(k, len(catalog)), exclude_played
        self._seed, self._options = seed, asdict(options or RankingOptions())

    def scores(self, histories: Sequence[History]) -> FloatArray:
        """See `Ranker.scores`.

        Raises:
            InputError: If the model ranks a track that the catalog does not hold.
        """
        scores = np.full((len(histories), len(self._catalog)), -np.inf)
        # all turns of a dialogue go through the model together
        ranked = self._model.rank_batch(
            [list(history) for history in histories],
            k=self._k,
            exclude_played=self._exclude_played,
            seeds=list(range(self._seed, self._seed + len(histories))),
            **self._options,
        )
        self._seed += len(histories)
        for row, tracks in enumerate(ranked):
            for item in tracks:
                scores[row, self._catalog.row(item.track.track_id)] = item.score
        return scores
