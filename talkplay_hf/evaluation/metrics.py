"""Ranking metrics that are exact under ties, and intervals clustered by conversation (paper 6.1).

Tracks with the same score cannot be told apart, so a label inside a group of ties has no one rank:
it has the group's first and last rank, and every metric is its expected value over them, as if the
group were shuffled. A system that scores everything alike therefore gets exactly the figures of
chance, not the figures of the order in which its tracks happen to stand.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from talkplay_hf.catalog.constraints import Constraint
from talkplay_hf.errors import InputError

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

HIT_LEVELS = (1, 10, 100)

# requests for one thing that is told by the bounds of several columns
KIND_FIELDS = {
    "mood": {"valence", "energy"},
    "sound": {"acousticness", "danceability", "instrumentalness", "liveness", "instrument"},
}


@dataclass(frozen=True)
class LabelRanks:
    """Where the label of each turn stands, ranks counted from 1.

    Args:
        first (`numpy.ndarray` of shape `(turns,)`, int64): The best rank that the label can have in
            its group of ties; 0 where the ranking does not hold the label.
        last (`numpy.ndarray` of shape `(turns,)`, int64): The worst such rank; 0 likewise.
    """

    first: NDArray[np.int64]
    last: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.first)


def label_ranks(scores: FloatArray, labels: ArrayLike) -> LabelRanks:
    """Rank the label of each turn among all tracks by score.

    Args:
        scores (`numpy.ndarray` of shape `(turns, tracks)`, float64): Higher is better, equal is
            tied, `-inf` is not in the ranking at all.
        labels (`numpy.ndarray` of shape `(turns,)`, int): The row of the right track.

    Returns:
        `LabelRanks`: One pair of ranks a turn.

    Raises:
        InputError: If a score is NaN, which has no rank.
    """
    if np.isnan(scores).any():
        raise InputError("a score is NaN, so the tracks cannot be ranked by it")
    rows = np.asarray(labels, dtype=np.int64)
    score = scores[np.arange(len(scores)), rows][:, None]
    present = score[:, 0] > -np.inf
    first = 1 + np.count_nonzero(scores > score, axis=1)
    last = np.count_nonzero(scores >= score, axis=1)
    return LabelRanks(np.where(present, first, 0), np.where(present, last, 0))


def ranking_metrics(ranks: LabelRanks, cutoff: int | None = None) -> dict[str, FloatArray]:
    """The metrics of paper 6.1 for each turn, as expected values over ties.

    Args:
        ranks (`LabelRanks`): Where the labels stand.
        cutoff (`int`, *optional*): The length of the ranked list: a rank beyond it counts as not
            found. Hit@K is given for each K of `HIT_LEVELS` up to it.

    Returns:
        `dict[str, numpy.ndarray]`: `"mrr"`, `"hit@1"`, `"hit@10"`, `"hit@100"`, each of shape
        `(turns,)`, float64.

    Raises:
        InputError: If `cutoff` is below 1.
    """
    if cutoff is not None and cutoff < 1:
        raise InputError(f"cutoff {cutoff}: a ranked list has at least one place")
    first, last = ranks.first, ranks.last
    depth = int(last.max(initial=0)) if cutoff is None else cutoff
    width = np.maximum(last - first + 1, 1)
    harmonic = np.concatenate([[0.0], np.cumsum(1 / np.arange(1, depth + 1))])
    before = np.minimum(np.maximum(first - 1, 0), depth)
    reciprocal = harmonic[np.minimum(last, depth)] - harmonic[before]
    metrics = {"mrr": np.where(last > 0, reciprocal / width, 0.0)}
    for level in HIT_LEVELS:
        if cutoff is None or level <= cutoff:
            inside = np.clip(np.minimum(last, level) - first + 1, 0, None)
            metrics[f"hit@{level}"] = np.where(last > 0, inside / width, 0.0)
    return metrics


def top1_share(scores: FloatArray, wanted: BoolArray) -> FloatArray:
    """The chance that the top-ranked track of each turn is a wanted one, ties shuffled.

    Args:
        scores (`numpy.ndarray` of shape `(turns, tracks)`, float64): As for `label_ranks`.
        wanted (`numpy.ndarray` of shape `(turns, tracks)`, bool): Which tracks are wanted.

    Returns:
        `numpy.ndarray` of shape `(turns,)`, float64: The share of wanted tracks among those with
        the highest score; 0 where no track is ranked.
    """
    top = (scores == scores.max(axis=1, keepdims=True)) & (scores > -np.inf)
    hits = np.count_nonzero(top & wanted, axis=1)
    share: FloatArray = hits / np.maximum(np.count_nonzero(top, axis=1), 1)
    return share


def request_kind(request: Sequence[Constraint]) -> str:
    """The name under which a request is reported.

    Its field where it has one (a decade is `"era"`), `"mood"` or `"sound"` where it is about
    columns of `KIND_FIELDS` only, `"not"` where it excludes something, `"newer or older"` where it
    bounds the year on one side, `"several"` where it has several other fields.
    """
    names = {constraint.field for constraint in request}
    if any(constraint.op == "not" for constraint in request):
        return "not"
    for kind, fields in KIND_FIELDS.items():
        if names and names <= fields:
            return kind
    if len(names) > 1:
        return "several"
    if names == {"year"}:
        return "era" if len(request) == 2 else "newer or older"
    return next(iter(names), "")


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
    """Bootstrap intervals that treat the conversation, not the turn, as the unit.

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
