"""Metrics agree with another library where nothing is tied, and are exact where something is."""

import math
import subprocess
import sys
from collections.abc import Sequence
from fractions import Fraction
from itertools import permutations, product

import ir_measures
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ir_measures import RR, Success, nDCG

from talkplay_hf.errors import InputError
from talkplay_hf.evaluation.metrics.ranking import (
    FloatArray,
    LabelRanks,
    hit_curve,
    label_ranks,
    ranking_metrics,
)

INF = np.inf
THEIRS = {
    "mrr": RR,
    "hit@1": Success @ 1,
    "hit@10": Success @ 10,
    "hit@100": Success @ 100,
    "ndcg@10": nDCG @ 10,
    "ndcg@20": nDCG @ 20,
}


def single(first: Sequence[int], last: Sequence[int]) -> LabelRanks:
    """One label a turn, at these ranks; 0 is not in the ranking."""
    turn = np.flatnonzero(np.array(last))
    starts, ends = np.array(first)[turn], np.array(last)[turn]
    return LabelRanks(turn, starts, ends, np.ones_like(turn), np.ones(len(first), np.int64))


def by_ir_measures(
    scores: FloatArray, labels: Sequence[Sequence[int]], depth: int | None = None
) -> dict[str, FloatArray]:
    run = {}
    for turn, row in enumerate(scores):
        best = [int(at) for at in np.argsort(-row)[:depth] if row[at] > -INF]
        run[str(turn)] = {f"t{at}": float(row[at]) for at in best}
    qrels = {str(turn): {f"t{row}": 1 for row in rows} for turn, rows in enumerate(labels)}
    found = {name: np.zeros(len(scores)) for name in THEIRS}
    names = {str(measure): name for name, measure in THEIRS.items()}
    for one in ir_measures.iter_calc(list(THEIRS.values()), qrels, run):
        found[names[str(one.measure)]][int(one.query_id)] = one.value
    return found


def by_all_orders(scores: Sequence[float], labels: set[int], cutoff: int) -> dict[str, Fraction]:
    """Means over every order of the tracks that is sorted by score."""
    groups = [
        [at for at, score in enumerate(scores) if score == level]
        for level in sorted(set(scores) - {-INF}, reverse=True)
    ]
    total: dict[str, Fraction] = {}
    orders = list(product(*(list(permutations(group)) for group in groups)))
    ideal = [sum(Fraction(1 / math.log2(1 + r)) for r in range(1, n + 1)) for n in range(21)]
    for order in orders:
        ranks = [
            rank
            for rank, track in enumerate((t for group in order for t in group), start=1)
            if track in labels and rank <= cutoff
        ]
        values = {"mrr": Fraction(1, ranks[0]) if ranks else Fraction(0)}
        for level in range(1, 13):
            values[f"hit@{level}"] = Fraction(bool(ranks and ranks[0] <= level))
        for level in (10, 20):
            gain = sum(Fraction(1 / math.log2(1 + rank)) for rank in ranks if rank <= level)
            values[f"ndcg@{level}"] = Fraction(gain) / ideal[min(level, len(labels))]
        for name, value in values.items():
            total[name] = total.get(name, Fraction(0)) + value / len(orders)
    return total


def assert_equals_all_orders(scores: Sequence[float], labels: set[int], cutoff: int) -> None:
    expected = by_all_orders(scores, labels, cutoff)
    ranks = label_ranks(np.array([scores]), [sorted(labels)])
    for name, value in ranking_metrics(ranks, cutoff).items():
        if name != "hit@100":
            assert value[0] == pytest.approx(float(expected[name]), abs=1e-12), name
    levels = [level for level in range(1, 13) if level <= cutoff]
    curve = [float(expected[f"hit@{level}"]) for level in levels]
    assert hit_curve(ranks, levels)[0] == pytest.approx(curve, abs=1e-12)


def test_ranks_of_single_tied_and_absent_labels() -> None:
    scores = np.array([[3.0, 2, 2, 1, -INF], [3.0, 2, 2, 1, -INF], [3.0, 2, 2, 1, -INF]])
    ranks = label_ranks(scores, [[0], [2], [4]])
    assert ranks.turn.tolist() == [0, 1]
    assert ranks.first.tolist() == [1, 2]
    assert ranks.last.tolist() == [1, 3]
    assert ranks.labels.tolist() == [1, 1, 1]
    assert len(ranks) == 3


def test_labels_with_one_score_are_one_group_and_stand_for_themselves_once() -> None:
    scores = np.array([[3.0, 2, 2, 1, -INF], [0.0, 0, 0, 0, 0]])
    ranks = label_ranks(scores, [[3, 1, 4, 2, 1], [4, 4]])
    assert ranks.turn.tolist() == [0, 0, 1]
    assert ranks.first.tolist() == [2, 4, 1]
    assert ranks.last.tolist() == [3, 4, 5]
    assert ranks.held.tolist() == [2, 1, 1]
    assert ranks.labels.tolist() == [4, 1]


def test_what_cannot_be_ranked_is_refused() -> None:
    for bad in (np.array([[1.0, np.nan]]), np.array([[np.nan, np.inf]])):
        with pytest.raises(InputError, match="NaN"):
            label_ranks(bad, [[0]])
    scores = np.zeros((2, 3))
    with pytest.raises(InputError, match="turn 1 has no label"):
        label_ranks(scores, [[0], []])
    with pytest.raises(InputError, match="2 turns have scores and 1"):
        label_ranks(scores, [[0]])
    for row in (-1, 3):
        with pytest.raises(InputError, match="none of the 3 tracks"):
            label_ranks(scores, [[0], [row]])


@pytest.mark.parametrize("most", [1, 12])
@pytest.mark.parametrize("depth", [None, 100])
def test_untied_rankings_agree_with_ir_measures(most: int, depth: int | None) -> None:
    rng = np.random.default_rng(most)
    turns, tracks = 1_500, 130
    scores = rng.permuted(np.tile(np.arange(tracks, dtype=np.float64), (turns, 1)), axis=1)
    scores[rng.random(scores.shape) < 0.1] = -INF
    labels = [
        rng.choice(tracks, int(rng.integers(1, most + 1)), replace=False).tolist()
        for _ in range(turns)
    ]
    ours = ranking_metrics(label_ranks(scores, labels), depth)
    theirs = by_ir_measures(scores, labels, depth)
    assert list(ours) == list(theirs)
    for name, values in ours.items():
        assert 0 < values.mean() < 1, name
        np.testing.assert_allclose(values, theirs[name], rtol=0, atol=1e-9, err_msg=name)


@pytest.mark.parametrize("cutoff", [1, 3, 5, 6, 20])
@pytest.mark.parametrize("labels", [{0}, {1}, {4}, {1, 2}, {1, 2, 3}, {0, 2, 5}, {3, 4, 5}, {2, 6}])
def test_ties_equal_the_mean_over_all_orders(labels: set[int], cutoff: int) -> None:
    assert_equals_all_orders([2.0, 1, 1, 1, 0.5, 0.5, -INF], labels, cutoff)


@pytest.mark.parametrize("labels", [{8}, {9, 11}, {8, 9, 10, 11, 12}, {0, 12}])
def test_ties_over_the_tenth_place_equal_the_mean_over_all_orders(labels: set[int]) -> None:
    scores = [*range(20, 12, -1), 0.0, 0, 0, 0, 0]
    for cutoff in (9, 10, 11, 20):
        assert_equals_all_orders([float(score) for score in scores], labels, cutoff)


def test_large_ties_equal_the_mean_over_many_shuffles() -> None:
    rng = np.random.default_rng(4)
    scores = rng.integers(0, 4, (6, 90)).astype(np.float64)
    labels = [[0], [1, 2], [3, 4, 5], [*range(10)], [0, 50, 89], [7]]
    exact = ranking_metrics(label_ranks(scores, labels), 50)
    shuffles = 8_000
    for turn, rows in enumerate(labels):
        noisy = scores[turn] + rng.random((shuffles, 90)) / 2
        drawn = ranking_metrics(label_ranks(noisy, [rows] * shuffles), 50)
        for name, values in drawn.items():
            error = 5 * values.std() / math.sqrt(shuffles) + 1e-12
            assert abs(values.mean() - exact[name][turn]) < error, (name, turn)


def test_a_collapsed_ranking_has_the_figures_of_chance() -> None:
    tracks = 250
    metrics = ranking_metrics(label_ranks(np.full((1, tracks), -7.5), [[123]]))
    assert metrics["mrr"][0] == pytest.approx(sum(1 / r for r in range(1, tracks + 1)) / tracks)
    assert metrics["hit@1"][0] == pytest.approx(1 / 250, abs=1e-15)
    assert metrics["hit@10"][0] == pytest.approx(10 / 250, abs=1e-15)
    assert metrics["hit@100"][0] == pytest.approx(100 / 250, abs=1e-15)


def test_a_collapsed_ranking_of_many_tracks_has_the_figures_of_chance_for_several_labels() -> None:
    # the mean of 1 / first place of r in w is r / (w - r + 1) times the sum of 1/r + ... + 1/w
    for tracks, held in [(1_000, 2), (40_000, 3), (40_000, 700), (300_000, 5), (500, 500)]:
        ranks = LabelRanks(
            *(np.array([value]) for value in (0, 1, tracks, held, held))  # turn, first, last, ...
        )
        metrics = ranking_metrics(ranks)
        harmonic = math.fsum(1 / r for r in range(held, tracks + 1))
        assert metrics["mrr"][0] == pytest.approx(held / (tracks - held + 1) * harmonic, rel=1e-10)
        missed = math.prod((tracks - held - i) / (tracks - i) for i in range(100))
        assert metrics["hit@100"][0] == pytest.approx(1 - missed, rel=1e-10)
        assert metrics["hit@1"][0] == pytest.approx(held / tracks, rel=1e-10)


def test_members_of_a_bucket_do_not_all_count_at_its_first_rank() -> None:
    # a tokenizer that puts all tracks into one bucket must not look like one that knows the track
    ranks = label_ranks(np.ones((1, 400)), [[17]])
    at_first_rank = LabelRanks(ranks.turn, ranks.first, ranks.first, ranks.held, ranks.labels)
    flattered, fair = ranking_metrics(at_first_rank), ranking_metrics(ranks)
    assert all(values[0] == 1 for values in flattered.values())
    assert {name: round(float(values[0]), 4) for name, values in fair.items()} == {
        "mrr": 0.0164,
        "hit@1": 0.0025,
        "hit@10": 0.025,
        "hit@100": 0.25,
        "ndcg@10": 0.0114,
        "ndcg@20": 0.0176,
    }


def test_ranks_beyond_the_cutoff_count_as_not_found() -> None:
    metrics = ranking_metrics(single([10, 10, 11, 0], [10, 13, 11, 0]), cutoff=10)
    assert metrics["mrr"] == pytest.approx([1 / 10, 1 / 40, 0, 0])
    # Hit@100 of a list of 10 means nothing
    assert list(metrics) == ["mrr", "hit@1", "hit@10", "ndcg@10"]
    with pytest.raises(InputError, match="cutoff 0"):
        ranking_metrics(single([1], [1]), cutoff=0)


def test_cutting_a_tied_group_at_random_does_not_change_the_expectation() -> None:
    # Five tracks, four of them tied behind the first; a list cut at 3 shows two of the four.
    for labels in ([3], [2, 3]):
        ranks = label_ranks(np.array([[1.0, 0, 0, 0, 0]]), [labels])
        whole = ranking_metrics(ranks, cutoff=3)["mrr"][0]
        shown = []
        for pair in [(a, b) for a in range(1, 5) for b in range(a + 1, 5)]:
            scores = np.full((1, 5), -INF)
            scores[0, 0], scores[0, list(pair)] = 1, 0
            shown.append(ranking_metrics(label_ranks(scores, [labels]), cutoff=3)["mrr"][0])
        assert np.mean(shown) == pytest.approx(whole)


def test_labels_outside_the_ranking_lower_ndcg_alone() -> None:
    scores = np.array([[2.0, 1, -INF]])
    alone = ranking_metrics(label_ranks(scores, [[0]]))
    both = ranking_metrics(label_ranks(scores, [[0, 2]]))
    assert both["mrr"] == alone["mrr"] == 1
    assert both["ndcg@10"] == pytest.approx(1 / (1 + 1 / math.log2(3)))


SCORES = st.lists(st.sampled_from([-INF, 0.0, 1.0, 2.0, 3.0]), min_size=4, max_size=24)


@given(scores=SCORES, data=st.data())
def test_figures_do_not_depend_on_how_tracks_are_numbered_or_scores_are_scaled(
    scores: list[float], data: st.DataObject
) -> None:
    tracks = len(scores)
    labels = data.draw(st.sets(st.integers(0, tracks - 1), min_size=1))
    order = data.draw(st.permutations(range(tracks)))
    ours = ranking_metrics(label_ranks(np.array([scores]), [sorted(labels)]))
    moved = np.exp(np.array([[scores[at] for at in order]])) - 5
    moved[moved == -5] = -INF
    theirs = ranking_metrics(
        label_ranks(moved, [[at for at in range(tracks) if order[at] in labels]])
    )
    for name in ours:
        assert ours[name][0] == pytest.approx(theirs[name][0], abs=1e-12)
        assert -1e-12 <= ours[name][0] <= 1 + 1e-12


@given(scores=SCORES, data=st.data())
def test_a_further_label_never_lowers_mrr_or_hits_and_hits_grow_with_the_list(
    scores: list[float], data: st.DataObject
) -> None:
    labels = data.draw(st.lists(st.integers(0, len(scores) - 1), min_size=2, unique=True))
    table = np.array([scores, scores])
    ranks = label_ranks(table, [labels[:-1], labels])
    levels = range(1, len(scores) + 1)
    curve = hit_curve(ranks, levels)
    assert (np.diff(curve, axis=1) >= -1e-12).all()
    assert (curve[1] >= curve[0] - 1e-12).all()
    mrr = ranking_metrics(ranks)["mrr"]
    assert mrr[1] >= mrr[0] - 1e-12
    # MRR is the mean of the reciprocal place at which the curve rises
    rises = np.diff(curve, axis=1, prepend=0) / np.array(levels)
    assert mrr == pytest.approx(rises.sum(axis=1), abs=1e-12)


@given(scores=st.lists(SCORES.map(lambda row: (row * 6)[:24]), min_size=2, max_size=6))
def test_turns_do_not_touch_each_other(scores: list[list[float]]) -> None:
    table = np.array(scores)
    labels = [[turn, 2 * turn + 1] for turn in range(len(table))]
    together = ranking_metrics(label_ranks(table, labels), 20)
    for turn in range(len(table)):
        alone = ranking_metrics(label_ranks(table[turn : turn + 1], labels[turn : turn + 1]), 20)
        for name, values in alone.items():
            assert together[name][turn] == pytest.approx(values[0], abs=1e-12)


def test_many_wide_ties_are_added_up_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    scores = rng.integers(0, 3, (40, 60)).astype(np.float64)
    labels = [[1, 2, 3]] * 40
    whole = ranking_metrics(label_ranks(scores, labels))["mrr"]
    monkeypatch.setattr("talkplay_hf.evaluation.metrics.ranking._CELLS", 64)
    np.testing.assert_allclose(ranking_metrics(label_ranks(scores, labels))["mrr"], whole, 1e-13)


def test_harmonic_sums_stay_exact_far_down() -> None:
    ranks = single([1_700_000], [1_700_000])
    assert math.isclose(ranking_metrics(ranks)["mrr"][0], 1 / 1_700_000, rel_tol=1e-6)


def test_metrics_load_no_heavy_library() -> None:
    code = (
        "import sys;"
        "import talkplay_hf.evaluation.metrics.ranking, talkplay_hf.evaluation.metrics.intervals;"
        "import talkplay_hf.evaluation.metrics.requests, talkplay_hf.evaluation.metrics.lists;"
        "import talkplay_hf.evaluation.metrics.replies, talkplay_hf.evaluation.metrics.slices;"
        "sys.exit(bool({'torch', 'transformers', 'bm25s'} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
