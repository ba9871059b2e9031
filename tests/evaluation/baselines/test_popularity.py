"""Chance ties everything; popularity counts what may be counted."""

import numpy as np
import pyarrow as pa
from small_catalog import SMALL, user

from talkplay_hf.catalog.schema import Catalog
from talkplay_hf.evaluation.baselines.base import BaselineSources
from talkplay_hf.evaluation.baselines.popularity import PopularityRanker, RandomRanker


def popularity(catalog: Catalog, held_out: set[str]) -> list[float]:
    ranker = PopularityRanker(BaselineSources(catalog, frozenset(held_out)))
    row: list[float] = ranker.scores([user("x")])[0].tolist()
    return row


def test_random_ties_everything() -> None:
    scores = RandomRanker(BaselineSources(SMALL)).scores([user("a"), user("b")])
    assert scores.shape == (2, 3)
    assert len(np.unique(scores)) == 1


def test_popularity_ignores_held_out_playlists() -> None:
    assert popularity(SMALL, set()) == [1, 2, 3]
    assert popularity(SMALL, {"p2"}) == [1, 2, 0]


def test_popularity_counts_only_what_trains() -> None:
    split = pa.array(["train", "validation", "test"])
    divided = Catalog(SMALL.tracks, SMALL.playlists.append_column("split", split))
    assert popularity(divided, set()) == [1, 1, 0]
    assert popularity(divided, {"p0"}) == [0, 0, 0]
