"""Intervals and tests treat the conversation as the unit."""

import numpy as np
import pytest
from scipy import stats

from talkplay_hf.errors import InputError
from talkplay_hf.evaluation.metrics.intervals import ClusterBootstrap


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


def test_paired_p_agrees_with_scipy_where_a_conversation_is_one_turn() -> None:
    rng = np.random.default_rng(8)
    ours, theirs = rng.random(12) + 0.15, rng.random(12)
    # all 4,096 ways to give the signs
    exact = stats.permutation_test(
        (ours, theirs),
        lambda a, b, axis: np.mean(a - b, axis=axis),
        permutation_type="samples",
        n_resamples=np.inf,
        vectorized=True,
    ).pvalue
    assert 0.01 < exact < 0.3
    draws = 20_000
    found = ClusterBootstrap(range(12), resamples=draws, seed=2).paired_p(ours, theirs)
    assert abs(found - exact) < 5 * np.sqrt(exact * (1 - exact) / draws)


def test_paired_p_counts_the_turns_of_a_conversation_as_one() -> None:
    rng = np.random.default_rng(1)
    ours, theirs = rng.random(15) + 0.2, rng.random(15)
    one = ClusterBootstrap(range(15), seed=3).paired_p(ours, theirs)
    ten = ClusterBootstrap(np.repeat(range(15), 10), seed=3)
    assert ten.paired_p(np.repeat(ours, 10), np.repeat(theirs, 10)) == one


@pytest.mark.parametrize("effect", [0.0, 0.6])
def test_paired_p_is_uniform_where_there_is_no_difference_and_small_where_there_is(
    effect: float,
) -> None:
    rng = np.random.default_rng(5)
    p_values = []
    for seed in range(400):
        # unequal conversations whose turns go the same way
        names = np.repeat(range(25), rng.integers(1, 9, 25))
        difference = rng.normal(size=25)[names] + 0.2 * rng.normal(size=len(names)) + effect
        interval = ClusterBootstrap(names, resamples=199, seed=seed)
        p_values.append(interval.paired_p(difference, np.zeros(len(names))))
    if effect:
        assert np.mean(np.array(p_values) < 0.05) > 0.5
    else:
        # a test over turns would find p < 0.05 in two fifths of these
        assert np.mean(np.array(p_values) < 0.05) < 0.09
        assert stats.kstest(p_values, "uniform").pvalue > 0.01


def test_paired_p_is_two_sided_seeded_and_counts_the_turns_that_are_asked_for() -> None:
    rng = np.random.default_rng(9)
    names = np.repeat(range(20), 3)
    ours, theirs = rng.random(60), rng.random(60)
    interval = ClusterBootstrap(names, seed=1)
    p = interval.paired_p(ours, theirs)
    assert p == interval.paired_p(theirs, ours)
    assert p == ClusterBootstrap(names, seed=1).paired_p(ours, theirs)
    assert p != ClusterBootstrap(names, seed=2).paired_p(ours, theirs)
    first = np.arange(60) % 3 == 0
    rest = ours + 5 * ~first
    assert interval.paired_p(rest, theirs, first) == interval.paired_p(ours, theirs, first)
    assert interval.paired_p(rest, theirs) == 1 / 1001
    assert interval.paired_p(ours, ours) == 1
    with pytest.raises(InputError, match="at least one turn"):
        interval.paired_p(ours, theirs, np.zeros(60, bool))
