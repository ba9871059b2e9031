"""Metrics are exact under ties, and intervals treat the conversation as the unit."""

import math
import subprocess
import sys
from fractions import Fraction
from itertools import pairwise, permutations

import numpy as np
import pytest

from talkplay_hf.catalog.constraints import Constraint
from talkplay_hf.errors import InputError
from talkplay_hf.evaluation.metrics import (
    ClusterBootstrap,
    LabelRanks,
    label_ranks,
    ranking_metrics,
    request_kind,
    top1_share,
)

INF = np.inf


def test_ranks_of_single_tied_and_absent_labels() -> None:
    scores = np.array([[3.0, 2, 2, 1, -INF], [3.0, 2, 2, 1, -INF], [3.0, 2, 2, 1, -INF]])
    ranks = label_ranks(scores, [0, 2, 4])
    assert ranks.first.tolist() == [1, 2, 0]
    assert ranks.last.tolist() == [1, 3, 0]
    assert len(ranks) == 3


def test_nan_scores_are_refused() -> None:
    with pytest.raises(InputError, match="NaN"):
        label_ranks(np.array([[1.0, np.nan]]), [0])


def test_hand_computed_metrics() -> None:
    # A label alone at rank 4; one tied over ranks 10 and 11; one that is not in the ranking.
    metrics = ranking_metrics(LabelRanks(np.array([4, 10, 0]), np.array([4, 11, 0])))
    assert metrics["mrr"] == pytest.approx([1 / 4, (1 / 10 + 1 / 11) / 2, 0])
    assert metrics["hit@1"].tolist() == [0, 0, 0]
    assert metrics["hit@10"].tolist() == [1, 0.5, 0]
    assert metrics["hit@100"].tolist() == [1, 1, 0]


def test_ties_equal_the_mean_over_all_orders() -> None:
    scores = [2.0, 1.0, 1.0, 1.0, 0.5, 0.5]
    for label in range(len(scores)):
        for cutoff in (1, 3, 5, 10):
            reciprocal, hit = Fraction(0), Fraction(0)
            # Any order of the tracks that is sorted by score is as likely as any other.
            orders = [
                order
                for order in permutations(range(len(scores)))
                if all(scores[a] >= scores[b] for a, b in pairwise(order))
            ]
            for order in orders:
                rank = order.index(label) + 1
                reciprocal += Fraction(1, rank) if rank <= cutoff else 0
                hit += rank <= 1
            metrics = ranking_metrics(label_ranks(np.array([scores]), [label]), cutoff)
            assert metrics["mrr"][0] == pytest.approx(float(reciprocal / len(orders)))
            assert metrics["hit@1"][0] == pytest.approx(float(hit / len(orders)))


def test_a_collapsed_ranking_has_the_figures_of_chance() -> None:
    tracks = 250
    metrics = ranking_metrics(label_ranks(np.full((1, tracks), -7.5), [123]))
    assert metrics["mrr"][0] == pytest.approx(sum(1 / r for r in range(1, tracks + 1)) / tracks)
    assert metrics["hit@1"][0] == 1 / 250
    assert metrics["hit@10"][0] == 10 / 250
    assert metrics["hit@100"][0] == 100 / 250


def test_ranks_beyond_the_cutoff_count_as_not_found() -> None:
    ranks = LabelRanks(np.array([10, 10, 11]), np.array([10, 13, 11]))
    metrics = ranking_metrics(ranks, cutoff=10)
    assert metrics["mrr"] == pytest.approx([1 / 10, 1 / 40, 0])
    assert list(metrics) == ["mrr", "hit@1", "hit@10"]  # Hit@100 of a list of 10 means nothing
    with pytest.raises(InputError, match="cutoff 0"):
        ranking_metrics(ranks, cutoff=0)


def test_cutting_a_tied_group_at_random_does_not_change_the_expectation() -> None:
    # Five tracks, four of them tied behind the first; a list cut at 3 shows two of the four.
    whole = ranking_metrics(label_ranks(np.array([[1.0, 0, 0, 0, 0]]), [3]), cutoff=3)["mrr"][0]
    shown = []
    for pair in [(a, b) for a in range(1, 5) for b in range(a + 1, 5)]:
        scores = np.full((1, 5), -INF)
        scores[0, 0], scores[0, list(pair)] = 1, 0
        shown.append(ranking_metrics(label_ranks(scores, [3]), cutoff=3)["mrr"][0])
    assert np.mean(shown) == pytest.approx(whole)


def test_top1_share_over_ties_and_empty_rankings() -> None:
    scores = np.array([[2.0, 2, 1], [1.0, 2, 1], [-INF, -INF, -INF]])
    wanted = np.array([[True, False, True], [True, False, True], [True, True, True]])
    assert top1_share(scores, wanted).tolist() == [0.5, 0, 0]


def slow_interval(
    values: list[float], names: list[str], resamples: int, seed: int
) -> tuple[float, float]:
    """The clustered bootstrap, one conversation at a time."""
    clusters = sorted(set(names))
    drawn = np.random.default_rng(seed).integers(len(clusters), size=(resamples, len(clusters)))
    means = []
    for draw in drawn.tolist():
        total, count = 0.0, 0
        for cluster in draw:
            inside = [v for v, name in zip(values, names, strict=True) if name == clusters[cluster]]
            total += sum(inside)
            count += len(inside)
        if count:
            means.append(total / count)
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


@pytest.fixture
def turns() -> tuple[list[float], list[str]]:
    rng = np.random.default_rng(3)
    names = [f"c{i}" for i in range(12) for _ in range(int(rng.integers(1, 7)))]
    return rng.random(len(names)).tolist(), names


def test_bootstrap_equals_a_plain_reference(turns: tuple[list[float], list[str]]) -> None:
    values, names = turns
    figure = ClusterBootstrap(names, resamples=200, seed=5).figure(np.array(values))
    assert figure.value == pytest.approx(np.mean(values))
    assert (figure.low, figure.high) == pytest.approx(slow_interval(values, names, 200, 5))
    assert figure.n == len(values)
    other = ClusterBootstrap(names, resamples=200, seed=6).figure(np.array(values))
    assert (other.low, other.high) != (figure.low, figure.high)


def test_paired_difference_equals_a_plain_reference(turns: tuple[list[float], list[str]]) -> None:
    values, names = turns
    ours = np.array(values)
    theirs = ours - 0.25  # always worse by as much: paired, there is no doubt about it at all
    interval = ClusterBootstrap(names, resamples=200, seed=5)
    figure = interval.difference(ours, theirs)
    assert (figure.value, figure.low, figure.high) == pytest.approx((0.25, 0.25, 0.25))
    noisy = np.array(values[::-1])
    low, high = slow_interval((ours - noisy).tolist(), names, 200, 5)
    difference = interval.difference(ours, noisy)
    assert (difference.low, difference.high) == pytest.approx((low, high))


def test_equal_turns_within_conversations_do_not_narrow_the_interval() -> None:
    values = np.array([0.0, 1.0] * 10)
    one_turn = ClusterBootstrap(range(20), seed=1).figure(values)
    ten_turns = ClusterBootstrap(np.repeat(range(20), 10), seed=1).figure(np.repeat(values, 10))
    assert (ten_turns.low, ten_turns.high) == pytest.approx((one_turn.low, one_turn.high))
    assert ten_turns.n == 200


def test_one_conversation_has_no_interval() -> None:
    interval = ClusterBootstrap(["a", "a", "b"])
    figure = interval.figure(np.array([1.0, 0.0, 1.0]), np.array([True, True, False]))
    assert (figure.value, figure.low, figure.high, figure.n) == (0.5, None, None, 2)


def test_macro_weighs_groups_alike_and_survives_draws_without_one() -> None:
    values = np.array([1.0, 1, 1, 1, 0])
    rare = np.array([False, False, False, False, True])
    figure = ClusterBootstrap(list("abcde")).macro(values, [~rare, rare])
    assert figure.value == 0.5
    assert figure.low == 0.5  # both groups drawn: 0.5; only the common one drawn: 1
    assert figure.high == 1
    assert figure.n == 5


def test_by_turn() -> None:
    figures = ClusterBootstrap(list("aabb")).by_turn(np.array([1.0, 0, 0.5, 0.5]), [1, 2, 1, 2])
    assert {number: figure.value for number, figure in figures.items()} == {1: 0.75, 2: 0.25}
    assert figures[1].n == 2


def test_bootstrap_refuses_what_it_cannot_do() -> None:
    with pytest.raises(InputError, match="no turn"):
        ClusterBootstrap([])
    with pytest.raises(InputError, match="resamples 0"):
        ClusterBootstrap(["a"], resamples=0)
    with pytest.raises(InputError, match="at least one turn"):
        ClusterBootstrap(["a", "b"]).figure(np.ones(2), np.zeros(2, bool))


def test_request_kind() -> None:
    era = (Constraint("year", "ge", "1990"), Constraint("year", "lt", "2000"))
    assert request_kind(era) == "era"
    assert request_kind(era[:1]) == "newer or older"
    assert request_kind((Constraint("mood", "is", "x"),)) == "mood"
    assert request_kind((Constraint("mood", "is", "x"), Constraint("genre", "is", "y"))) == (
        "several"
    )
    both = (Constraint("artist", "is", "x"), Constraint("artist", "not", "y"))
    assert request_kind(both) == "not"
    assert request_kind(()) == ""


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        (("valence", "energy"), "mood"),
        (("energy",), "mood"),
        (("acousticness",), "sound"),
        (("danceability", "liveness"), "sound"),
        (("instrumentalness",), "sound"),
        (("instrument",), "sound"),
        (("theme",), "theme"),
        (("tempo",), "tempo"),
        (("energy", "acousticness"), "several"),
        (("valence", "tempo"), "several"),
    ],
)
def test_requests_by_descriptors_are_named_by_what_they_mean(
    fields: tuple[str, ...], kind: str
) -> None:
    assert request_kind([Constraint(name, "ge", "0.6") for name in fields]) == kind


def test_metrics_load_no_heavy_library() -> None:
    code = (
        "import sys, talkplay_hf.evaluation.metrics;"
        "sys.exit(bool({'torch', 'transformers', 'bm25s'} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_harmonic_sums_stay_exact_far_down() -> None:
    ranks = LabelRanks(np.array([1_700_000]), np.array([1_700_000]))
    assert math.isclose(ranking_metrics(ranks)["mrr"][0], 1 / 1_700_000, rel_tol=1e-6)
