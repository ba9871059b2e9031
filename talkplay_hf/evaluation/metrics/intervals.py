"""Intervals and tests that treat the conversation, not the turn, as the unit."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike

from talkplay_hf.errors import InputError
from talkplay_hf.evaluation.metrics.ranking import BoolArray, FloatArray


@dataclass(frozen=True)
class Figure:
    """A mean with its 95 % interval.

    Args:
        value (`float`): The mean.
        low (`float`, *optional*): The lower end; `None` where fewer than two conversations
            contribute, for then their spread is unknown.
        high (`float`, *optional*): The upper end; `None` likewise.
        n (`int`): How many turns it is the mean of.
    """

    value: float
    low: float | None
    high: float | None
    n: int


class ClusterBootstrap:
    """Bootstrap intervals and paired tests that treat the conversation, not the turn, as the unit.

    The turns of a conversation are alike, so resampling turns would give intervals that are too
    narrow. Here whole conversations are drawn with replacement and a figure is the ratio of the
    drawn sums to the drawn counts of turns. Every figure is made from the same draws.

    Args:
        conversations (`numpy.ndarray` of shape `(turns,)`): Which conversation each turn is from.
        resamples (`int`): How many times to draw.
        seed (`int`): Of the draws.

    Raises:
        InputError: If there is no turn, or `resamples` is below 1.
    """

    def __init__(self, conversations: ArrayLike, *, resamples: int = 1_000, seed: int = 0) -> None:
        names, self._cluster = np.unique(np.asarray(conversations), return_inverse=True)
        if not len(names):
            raise InputError("there is no turn to make an interval for")
        if resamples < 1:
            raise InputError(f"resamples {resamples}: must be at least 1")
        self.clusters = len(names)
        draws = np.random.default_rng(seed).integers(self.clusters, size=(resamples, self.clusters))
        # How often each conversation was drawn: one matrix product then serves each figure.
        flat = draws + self.clusters * np.arange(resamples)[:, None]
        counts = np.bincount(flat.ravel(), minlength=resamples * self.clusters)
        self._weights = counts.reshape(resamples, self.clusters).astype(np.float64)
        self._resamples, self._seed = resamples, seed

    def figure(self, values: FloatArray, turns: BoolArray | None = None) -> Figure:
        """The mean over turns with its interval.

        Args:
            values (`numpy.ndarray` of shape `(turns,)`, float64): One value a turn.
            turns (`numpy.ndarray` of shape `(turns,)`, bool, *optional*): The turns that count;
                all by default.

        Raises:
            InputError: If no turn counts.
        """
        return self.macro(values, [np.ones(len(values), bool) if turns is None else turns])

    def difference(
        self, ours: FloatArray, theirs: FloatArray, turns: BoolArray | None = None
    ) -> Figure:
        """The mean of `ours - theirs` over the same turns, with its (paired) interval."""
        return self.figure(ours - theirs, turns)

    def paired_p(
        self, ours: FloatArray, theirs: FloatArray, turns: BoolArray | None = None
    ) -> float:
        """How likely a mean difference as large as this is if the two systems were the same.

        A paired randomisation test (Fisher, 1935; Smucker, Allan and Carterette, CIKM 2007). If
        the systems were the same, it would be chance which of two figures of a conversation is
        whose, so the sign of the difference is drawn for each conversation as a whole. Two-sided:
        the share of draws, the observed one among them, whose mean is at least as far from zero.

        Args:
            ours (`numpy.ndarray` of shape `(turns,)`, float64): One value a turn.
            theirs (`numpy.ndarray` of shape `(turns,)`, float64): Those of the other system.
            turns (`numpy.ndarray` of shape `(turns,)`, bool, *optional*): The turns that count;
                all by default.

        Returns:
            `float`: At least `1 / (1 + resamples)`.

        Raises:
            InputError: If no turn counts.
        """
        counted = np.ones(len(ours), bool) if turns is None else turns
        if not counted.any():
            raise InputError("a test needs at least one turn")
        # the count of turns is the same in every draw, so sums stand for means
        sums = np.bincount(
            self._cluster[counted], (ours - theirs)[counted], minlength=self.clusters
        )
        # equal sums differ by rounding where they are added in another order
        observed = abs(sums.sum()) - 1e-12 * np.abs(sums).sum()
        extreme = int(np.count_nonzero(np.abs(self._signs @ sums) >= observed))
        return (1 + extreme) / (1 + self._resamples)

    @cached_property
    def _signs(self) -> FloatArray:
        """1 or -1 for each draw and conversation; apart from the draws of the intervals."""
        rng = np.random.default_rng((self._seed, 1))
        return rng.integers(2, size=self._weights.shape).astype(np.float64) * 2 - 1

    def macro(self, values: FloatArray, groups: list[BoolArray]) -> Figure:
        """The mean over groups of the mean over the turns of each, with its interval.

        A draw that misses a group altogether is the mean over the groups that it holds.

        Args:
            values (`numpy.ndarray` of shape `(turns,)`, float64): One value a turn.
            groups (`list[numpy.ndarray]`, each of shape `(turns,)`, bool): The turns of each group.

        Raises:
            InputError: If there is no group, or a group has no turn.
        """
        if not groups or not all(group.any() for group in groups):
            raise InputError("a figure needs at least one turn")
        means, drawn = [], []
        for group in groups:
            cluster = self._cluster[group]
            sums = np.bincount(cluster, values[group], minlength=self.clusters)
            counts = np.bincount(cluster, minlength=self.clusters)
            means.append(sums.sum() / counts.sum())
            with np.errstate(invalid="ignore"):
                drawn.append((self._weights @ sums) / (self._weights @ counts))
        counted = np.logical_or.reduce(groups)
        value, n = float(np.mean(means)), int(sum(group.sum() for group in groups))
        if len(np.unique(self._cluster[counted])) < 2:
            return Figure(value, None, None, n)
        table = np.stack(drawn)
        held = ~np.isnan(table)
        some = held.any(axis=0)
        replicates = np.where(held, table, 0).sum(axis=0)[some] / held.sum(axis=0)[some]
        low, high = np.percentile(replicates, [2.5, 97.5])
        return Figure(value, float(low), float(high), n)

    def by_turn(self, values: FloatArray, numbers: ArrayLike) -> dict[int, Figure]:
        """A figure for each turn number: the first turns of all conversations, the second, ...

        Args:
            values (`numpy.ndarray` of shape `(turns,)`, float64): One value a turn.
            numbers (`numpy.ndarray` of shape `(turns,)`, int): The turn's number, from 1.
        """
        turn = np.asarray(numbers, dtype=np.int64)
        return {int(number): self.figure(values, turn == number) for number in np.unique(turn)}
