"""Ranking metrics that are exact under ties, for one or several right tracks a turn (paper 6.1).

Tracks with the same score cannot be told apart, so a label inside a group of ties has no one rank.
Every metric is its expected value when each group of ties is shuffled, all orders being as likely.
A system that scores everything alike therefore gets exactly the figures of chance, not the figures
of the order in which its tracks happen to stand.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from talkplay_hf.errors import InputError

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
IntArray = NDArray[np.int64]

HIT_LEVELS = (1, 10, 100)
NDCG_LEVELS = (10, 20)
# how many scores, and how many places of groups of ties, are looked at in one go
_CELLS = 1 << 18


@dataclass(frozen=True)
class LabelRanks:
    """Where the labels of each turn stand, as the groups of ties that hold one, ranks from 1.

    The groups are in the order of the turns and, within a turn, of the ranks. A label that the
    ranking does not hold is in no group.

    Args:
        turn (`numpy.ndarray` of shape `(groups,)`, int64): Which turn the group is of.
        first (`numpy.ndarray` of shape `(groups,)`, int64): The rank at which the group begins.
        last (`numpy.ndarray` of shape `(groups,)`, int64): The rank at which it ends.
        held (`numpy.ndarray` of shape `(groups,)`, int64): How many labels it holds.
        labels (`numpy.ndarray` of shape `(turns,)`, int64): How many labels each turn has, those
            that the ranking does not hold among them.
    """

    turn: IntArray
    first: IntArray
    last: IntArray
    held: IntArray
    labels: IntArray

    def __len__(self) -> int:
        return len(self.labels)


def label_ranks(scores: FloatArray, labels: Sequence[Sequence[int]]) -> LabelRanks:
    """Rank the labels of each turn among all tracks by score.

    Args:
        scores (`numpy.ndarray` of shape `(turns, tracks)`, float64): Higher is better, equal is
            tied, `-inf` is not in the ranking at all.
        labels (`Sequence[Sequence[int]]`): The rows of the right tracks of each turn, in any
            order. One that stands twice counts once.

    Returns:
        `LabelRanks`: The groups of ties that hold the labels.

    Raises:
        InputError: If a score is NaN, which has no rank, or the labels do not fit the scores.
    """
    turns, tracks = scores.shape
    if len(labels) != turns:
        raise InputError(f"{turns} turns have scores and {len(labels)} have labels")
    # a NaN anywhere is the maximum
    if np.isnan(scores.max(initial=-np.inf)):
        raise InputError("a score is NaN, so the tracks cannot be ranked by it")
    counts = np.fromiter(map(len, labels), np.int64, turns)
    if not counts.all():
        raise InputError(f"turn {int(np.argmin(counts))} has no label to be found")
    flat = np.fromiter((row for rows in labels for row in rows), np.int64, int(counts.sum()))
    if flat.size and not 0 <= flat.min() <= flat.max() < tracks:
        raise InputError(f"a label is none of the {tracks} tracks that have scores")
    cells = np.unique(np.repeat(np.arange(turns), counts) * tracks + flat)
    turn, row = np.divmod(cells, tracks)
    number = np.bincount(turn, minlength=turns)
    score = scores[turn, row]
    # the labels with one score in one turn are one group; the best group of a turn comes first
    order = np.lexsort((-score, turn))
    order = order[score[order] > -np.inf]
    turn, score = turn[order], score[order]
    new = np.ones(len(turn), dtype=bool)
    new[1:] = (turn[1:] != turn[:-1]) | (score[1:] != score[:-1])
    begins = np.flatnonzero(new)
    turn, score = turn[begins], score[begins]
    first, last = np.empty_like(turn), np.empty_like(turn)
    # so few rows at a time that the copy of them stays in the processor's cache
    size = max(1, _CELLS // tracks)
    for start in range(0, len(turn), size):
        part = slice(start, start + size)
        rows, bound = scores[turn[part]], score[part, None]
        first[part] = 1 + _count(rows > bound)
        last[part] = _count(rows >= bound)
    return LabelRanks(turn, first, last, np.diff(begins, append=len(new)), number)


def _count(mask: BoolArray) -> IntArray:
    """How many are true in each row, in less time than `numpy.count_nonzero` with an axis takes."""
    count: IntArray = np.bitwise_count(np.packbits(mask, axis=1)).sum(axis=1, dtype=np.int64)
    return count


def ranking_metrics(ranks: LabelRanks, cutoff: int | None = None) -> dict[str, FloatArray]:
    """The metrics of paper 6.1 and nDCG for each turn, as expected values over ties.

    MRR is the reciprocal rank of the first label, Hit@K whether any label is among the first K.
    nDCG@K (Järvelin and Kekäläinen, 2002) has gain 1 for every label, the discount
    `1 / log2(1 + rank)`, and an ideal ranking that begins with all labels of the turn.

    Args:
        ranks (`LabelRanks`): Where the labels stand.
        cutoff (`int`, *optional*): The length of the ranked list: a rank beyond it counts as not
            found. Hit@K and nDCG@K are given for each K of `HIT_LEVELS` and `NDCG_LEVELS` up to it.

    Returns:
        `dict[str, numpy.ndarray]`: `"mrr"`, `"hit@1"`, `"hit@10"`, `"hit@100"`, `"ndcg@10"`,
        `"ndcg@20"`, each of shape `(turns,)`, float64.

    Raises:
        InputError: If `cutoff` is below 1.
    """
    if cutoff is not None and cutoff < 1:
        raise InputError(f"cutoff {cutoff}: a ranked list has at least one place")
    hit_levels = [level for level in HIT_LEVELS if cutoff is None or level <= cutoff]
    metrics = {"mrr": _reciprocal_rank(ranks, cutoff)}
    hits = hit_curve(ranks, hit_levels)
    metrics |= {f"hit@{level}": hits[:, at] for at, level in enumerate(hit_levels)}
    for level in NDCG_LEVELS:
        if cutoff is None or level <= cutoff:
            metrics[f"ndcg@{level}"] = _ndcg(ranks, level)
    return metrics


def hit_curve(ranks: LabelRanks, levels: Sequence[int]) -> FloatArray:
    """The chance that any label of a turn is among the first K, for each K.

    Args:
        ranks (`LabelRanks`): Where the labels stand.
        levels (`Sequence[int]`): The values of K.

    Returns:
        `numpy.ndarray` of shape `(turns, levels)`, float64.
    """
    best = _best_groups(ranks)
    first, held = ranks.first[best, None], ranks.held[best, None]
    width = ranks.last[best, None] - first + 1
    outside = width - np.clip(np.asarray(levels, dtype=np.int64) - first + 1, 0, width)
    # all labels of the group are outside: C(outside, held) / C(width, held), factor by factor
    missed = np.ones(outside.shape)
    for nth in range(int(held.max(initial=0))):
        more = held[:, 0] > nth
        missed[more] *= np.maximum(outside[more] - nth, 0) / (width[more] - nth)
    hits = np.zeros((len(ranks), len(levels)))
    hits[ranks.turn[best]] = 1 - missed
    return hits


def _best_groups(ranks: LabelRanks) -> IntArray:
    """The first group of each turn that has one: the first label found is always in it."""
    return np.unique(ranks.turn, return_index=True)[1]


def _reciprocal_rank(ranks: LabelRanks, cutoff: int | None) -> FloatArray:
    best = _best_groups(ranks)
    first, held = ranks.first[best], ranks.held[best]
    last = ranks.last[best]
    end = last if cutoff is None else np.minimum(last, cutoff)
    width = last - first + 1
    harmonic = np.concatenate([[0.0], np.cumsum(1 / np.arange(1, end.max(initial=0) + 1))])
    mean = (harmonic[end] - harmonic[np.minimum(first - 1, end)]) / width
    several = np.flatnonzero((held > 1) & (end >= first))
    mean[several] = _first_of_several(first[several], width[several], held[several], end[several])
    value = np.zeros(len(ranks))
    value[ranks.turn[best]] = mean
    return value


def _first_of_several(
    first: IntArray, width: IntArray, held: IntArray, end: IntArray
) -> FloatArray:
    """The expected reciprocal rank of the first of several labels in one group of ties.

    The place of the first one is negative hypergeometric: with `r` labels in `w` places it is the
    first place with the chance `r / w`, and the next one with that of the place before times
    `(w - place - r + 1) / (w - place)`. Added up place by place, up to rank `end`.
    """
    total = np.zeros(len(first))
    chance = held / width
    # a label has to stand at the latest where all others follow
    until = np.minimum(width - held + 1, end - first + 1)
    done, active = 0, np.arange(len(first))
    while len(active):
        size = max(1, min(max(done, 1), _CELLS // len(active)))
        place = np.arange(done + 1, done + size + 1)
        w, r = width[active, None], held[active, None]
        ratio = np.clip(w - place - r + 1, 0, None) / np.maximum(w - place, 1)
        before = np.cumprod(ratio, axis=1)
        chances = chance[active, None] * np.hstack([np.ones((len(active), 1)), before[:, :-1]])
        inside = place <= until[active, None]
        total[active] += np.where(inside, chances / (first[active, None] + place - 1), 0).sum(1)
        chance[active] *= before[:, -1]
        done += size
        active = active[until[active] > done]
    return total


def _ndcg(ranks: LabelRanks, level: int) -> FloatArray:
    gain = np.concatenate([[0.0], np.cumsum(1 / np.log2(np.arange(2, level + 2)))])
    end, before = np.minimum(ranks.last, level), np.minimum(ranks.first - 1, level)
    share = ranks.held / (ranks.last - ranks.first + 1)
    found = np.bincount(ranks.turn, share * (gain[end] - gain[before]), minlength=len(ranks))
    ndcg: FloatArray = found / gain[np.minimum(ranks.labels, level)]
    return ndcg
