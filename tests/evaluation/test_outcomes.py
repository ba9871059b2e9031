"""What is kept of a ranking, whole or as a list."""

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from talkplay_hf.catalog.constraints import Constraint
from talkplay_hf.catalog.matcher import ConstraintMatcher
from talkplay_hf.catalog.schema import Catalog, Message, Track
from talkplay_hf.evaluation.metrics.ranking import ranking_metrics
from talkplay_hf.evaluation.outcomes import (
    TOP,
    Outcomes,
    dense_outcomes,
    list_outcomes,
    top_columns,
)
from talkplay_hf.evaluation.turns import Turn

TRACKS = 14
CATALOG = Catalog.from_tracks(
    [Track(f"t{i}", "Title", "Someone", tags=("jazz",) if i % 3 else ()) for i in range(TRACKS)]
)
MATCHER = ConstraintMatcher(CATALOG)
JAZZ = (Constraint("tags", "is", "jazz"),)


@dataclass(frozen=True)
class Scored:
    track: Track
    score: float


@st.composite
def rankings(draw: st.DrawFn) -> tuple[list[Turn], np.ndarray]:
    """Turns with scores that often tie and are often absent."""
    turns, scores = [], []
    for number in range(draw(st.integers(1, 4))):
        rows = draw(st.permutations(range(TRACKS)))
        labels, played = draw(st.integers(1, 3)), draw(st.integers(0, 3))
        history = (Message("user", "", constraints=JAZZ if draw(st.booleans()) else ()),)
        right, before = tuple(rows[:labels]), tuple(rows[labels : labels + played])
        turns.append(Turn(f"c{number}", 1, history, right, before, False))
        score = st.sampled_from([-np.inf, 0.0, 1.0, 2.0])
        scores.append(draw(st.lists(score, min_size=TRACKS, max_size=TRACKS)))
    return turns, np.array(scores)


@given(rankings(), st.booleans())
def test_a_list_has_the_outcomes_of_the_whole_ranking(
    made: tuple[list[Turn], np.ndarray], exclude_played: bool
) -> None:
    turns, scores = made
    lists = [
        [Scored(CATALOG.track_at(i), float(row[i])) for i in np.argsort(-row) if row[i] > -np.inf]
        for row in scores
    ]
    seeds = [(0, i) for i in range(len(turns))]
    listed = list_outcomes(lists, turns, seeds, MATCHER, CATALOG, exclude_played=exclude_played)
    whole = dense_outcomes(scores.copy(), turns, seeds, MATCHER, exclude_played=exclude_played)
    for name in ("turn", "first", "last", "held", "labels", "fit"):
        np.testing.assert_array_equal(listed.arrays()[name], whole.arrays()[name])
    for at, turn in enumerate(turns):
        own = [scores[at][row] for row in listed.top[at] if row >= 0]
        assert own == [scores[at][row] for row in whole.top[at] if row >= 0]
        if exclude_played:
            assert not set(turn.played) & set(listed.top[at].tolist())


@given(rankings())
def test_parts_join_to_the_whole_and_can_be_selected(
    made: tuple[list[Turn], np.ndarray],
) -> None:
    turns, scores = made
    seeds = [(0, i) for i in range(len(turns))]

    def outcomes(at: slice) -> Outcomes:
        return dense_outcomes(scores[at].copy(), turns[at], seeds[at], MATCHER, exclude_played=True)

    whole = outcomes(slice(None))
    joined = Outcomes.join([outcomes(slice(i, i + 1)).arrays() for i in range(len(turns))])
    for name, array in whole.arrays().items():
        np.testing.assert_array_equal(joined.arrays()[name], array)
    kept = np.arange(len(turns)) % 2 == 0
    metrics = ranking_metrics(whole.ranks, 10)
    for name, values in ranking_metrics(whole.select(kept).ranks, 10).items():
        np.testing.assert_array_equal(values, metrics[name][kept])


def test_the_first_tracks_are_the_best_ones() -> None:
    scores = np.array([[0.0, 3.0, -np.inf, 2.0, 1.0]])
    assert top_columns(scores, 3, [(0, 0)]).tolist() == [[1, 3, 4]]
    assert top_columns(scores, 6, [(0, 0)]).tolist() == [[1, 3, 4, 0, -1, -1]]
    assert top_columns(np.full((1, 4), -np.inf), 2, [(0, 0)]).tolist() == [[-1, -1]]


def test_ties_are_drawn_alike_and_by_the_seed() -> None:
    scores = np.zeros((4000, 4))
    scores[:, 0] = 1
    seeds = [(7, i) for i in range(len(scores))]
    top = top_columns(scores, 2, seeds)
    assert (top[:, 0] == 0).all()
    counts = np.bincount(top[:, 1], minlength=4)
    assert counts[0] == 0
    # 1,333 each; five standard deviations
    assert counts[1:] == pytest.approx(4000 / 3, abs=150)
    assert (top_columns(scores, 2, seeds) == top).all()
    assert (top_columns(scores, 2, [(8, i) for i in range(4000)]) != top).any()


def test_lists_may_be_empty() -> None:
    turn = Turn("c0", 1, (Message("user", "", constraints=JAZZ),), (0,), (), False)
    found = list_outcomes([[]], [turn], [(0, 0)], MATCHER, CATALOG, exclude_played=True)
    assert found.top.tolist() == [[-1] * TOP]
    assert found.fit.tolist() == [0]
    assert ranking_metrics(found.ranks, 10)["mrr"].tolist() == [0]
