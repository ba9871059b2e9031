"""The recommender is laid out over the catalog like any other ranker."""

import numpy as np

from talkplay_hf.catalog.schema import Catalog, Message
from talkplay_hf.evaluation.baselines.model import ModelRanker
from talkplay_hf.recommend.recommender import Recommender


def test_the_model_ranks_played_tracks_only_where_they_are_candidates(
    recommender: Recommender, world: Catalog
) -> None:
    history = (
        Message("user", "play jazz"),
        Message("music", track_id=world.track_ids[3]),
        Message("user", "another"),
    )
    for exclude_played in (True, False):
        ranker = ModelRanker(recommender, world, len(world), exclude_played=exclude_played)
        (scores,) = ranker.scores([history])
        absent = np.flatnonzero(scores == -np.inf).tolist()
        assert absent == ([3] if exclude_played else [])
