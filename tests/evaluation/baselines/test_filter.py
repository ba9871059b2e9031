"""The filter counts constraints that are met, and popularity decides among equals."""

import numpy as np
from small_catalog import SMALL, user

from talkplay_hf.catalog.constraints import Constraint
from talkplay_hf.catalog.schema import Message
from talkplay_hf.evaluation.baselines.base import BaselineSources
from talkplay_hf.evaluation.baselines.constraint_filter import FilterRanker

VALE = Constraint("artist", "is", "mira vale")
FOLK = Constraint("tags", "is", "folk")


def order(*constraints: Constraint, held_out: tuple[str, ...] = ()) -> list[int]:
    ranker = FilterRanker(BaselineSources(SMALL, frozenset(held_out)))
    history = (
        Message("user", "synth", constraints=(Constraint("tags", "is", "synth"),)),
        Message("music", track_id="t1"),
        Message("user", "now this", constraints=constraints),
    )
    rows: list[int] = np.argsort(-ranker.scores([history])[0], kind="stable").tolist()
    return rows


def test_more_constraints_met_go_before_popularity() -> None:
    assert order(VALE) == [2, 0, 1]
    assert order(VALE, FOLK) == [0, 2, 1]


def test_a_message_without_constraints_is_answered_by_popularity() -> None:
    assert order() == [2, 1, 0]
    assert order(held_out=("p2",)) == [1, 0, 2]


def test_the_number_met_is_the_whole_part_of_the_score() -> None:
    message = Message("user", "folk", constraints=(VALE, FOLK))
    ranker = FilterRanker(BaselineSources(SMALL))
    assert np.floor(ranker.scores([(message,), user("x")])).tolist() == [[2, 0, 1], [0, 0, 0]]
