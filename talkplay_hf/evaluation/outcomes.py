"""What a system did on each turn, in as little as every figure can be made from.

Rankings of the whole catalog are large, and so they are reduced chunk by chunk: to the ranks of the
labels with their ties, to whether the first track is what was asked for, and to the first few
tracks. What is left is small enough to keep in a cache and to send between processes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from talkplay_hf.catalog.matcher import ConstraintMatcher
from talkplay_hf.catalog.schema import Catalog
from talkplay_hf.evaluation.metrics.ranking import (
    BoolArray,
    FloatArray,
    IntArray,
    LabelRanks,
    label_ranks,
)
from talkplay_hf.evaluation.metrics.requests import top1_share
from talkplay_hf.evaluation.turns import Turn
from talkplay_hf.recommend.answers import ScoredTrack

# the lists that are described as lists have ten places
TOP = 10
NONE = -1

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Outcomes:
    """What a system did on some turns.

    Args:
        ranks (`LabelRanks`): Where the labels stand.
        fit (`numpy.ndarray` of shape `(turns,)`, float64): The chance that the first track meets
            the request, ties shuffled; NaN where nothing is asked for.
        top (`numpy.ndarray` of shape `(turns, TOP)`, int64): Rows of the first tracks, ties in an
            order that was drawn; -1 where the ranking ends before.
    """

    ranks: LabelRanks
    fit: FloatArray
    top: IntArray

    def arrays(self) -> Arrays:
        """The same as named arrays."""
        ranks = self.ranks
        return {
            "turn": ranks.turn,
            "first": ranks.first,
            "last": ranks.last,
            "held": ranks.held,
            "labels": ranks.labels,
            "fit": self.fit,
            "top": self.top,
        }

    @classmethod
    def join(cls, parts: Sequence[Mapping[str, np.ndarray]]) -> "Outcomes":
        """Put the arrays of several chunks of turns together, in their order."""
        starts = np.cumsum([0, *(len(part["labels"]) for part in parts)])
        turn = [part["turn"] + start for part, start in zip(parts, starts, strict=False)]
        whole = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        whole["turn"] = np.concatenate(turn)
        names = ("turn", "first", "last", "held", "labels")
        return cls(LabelRanks(*(whole[name] for name in names)), whole["fit"], whole["top"])

    def select(self, turns: BoolArray) -> "Outcomes":
        """Those of some of the turns."""
        ranks = self.ranks
        new = np.cumsum(turns) - 1
        kept = turns[ranks.turn]
        some = LabelRanks(
            new[ranks.turn[kept]],
            ranks.first[kept],
            ranks.last[kept],
            ranks.held[kept],
            ranks.labels[turns],
        )
        return Outcomes(some, self.fit[turns], self.top[turns])


def dense_outcomes(
    scores: FloatArray,
    turns: Sequence[Turn],
    seeds: Sequence[tuple[int, int]],
    matcher: ConstraintMatcher,
    *,
    exclude_played: bool,
) -> Outcomes:
    """The outcomes of a system that scores the whole catalog.

    Args:
        scores (`numpy.ndarray` of shape `(turns, tracks)`, float64): As of `Ranker.scores`. Written
            into: tracks that were played are taken out.
        turns (`Sequence[Turn]`): The turns.
        seeds (`Sequence[tuple[int, int]]`): Of the order of ties, one seed a turn.
        matcher (`ConstraintMatcher`): Knows which tracks meet a request.
        exclude_played (`bool`): Whether played tracks are no candidates.
    """
    if exclude_played:
        for row, turn in enumerate(turns):
            scores[row, list(turn.played)] = -np.inf
    asking = [row for row, turn in enumerate(turns) if turn.request]
    fit = np.full(len(turns), np.nan)
    if asking:
        wanted = np.array([matcher.mask(turns[row].request) for row in asking], dtype=bool)
        fit[asking] = top1_share(scores[asking], wanted)
    ranks = label_ranks(scores, [turn.labels for turn in turns])
    return Outcomes(ranks, fit, top_columns(scores, TOP, seeds))


def list_outcomes(
    lists: Sequence[Sequence[ScoredTrack]],
    turns: Sequence[Turn],
    seeds: Sequence[tuple[int, int]],
    matcher: ConstraintMatcher,
    catalog: Catalog,
    *,
    exclude_played: bool,
) -> Outcomes:
    """The outcomes of a system that lists its best tracks; see `dense_outcomes`.

    Args:
        lists (`Sequence[Sequence[ScoredTrack]]`): The tracks of each turn, with groups of ties
            complete. What is not listed is not in the ranking.
        turns (`Sequence[Turn]`): The turns.
        seeds (`Sequence[tuple[int, int]]`): Of the order of ties, one seed a turn.
        matcher (`ConstraintMatcher`): Knows which tracks meet a request.
        catalog (`Catalog`): The candidates.
        exclude_played (`bool`): Whether played tracks are no candidates.

    Raises:
        InputError: If a listed track is not in the catalog.
    """
    width = max(map(len, lists), default=0)
    # one more column for each label that may be missing from the list
    spare = max(len(turn.labels) for turn in turns)
    rows = np.full((len(turns), width + spare), NONE, dtype=np.int64)
    scores = np.full(rows.shape, -np.inf)
    columns = []
    fit = np.full(len(turns), np.nan)
    for at, (turn, found) in enumerate(zip(turns, lists, strict=True)):
        own = [catalog.row(item.track.track_id) for item in found]
        rows[at, : len(own)] = own
        scores[at, : len(own)] = [item.score for item in found]
        place = {row: column for column, row in enumerate(own)}
        if exclude_played:
            scores[at, [place[row] for row in turn.played if row in place]] = -np.inf
        columns.append([place.get(row, width + n) for n, row in enumerate(turn.labels)])
        if turn.request:
            wanted = np.zeros((1, width + spare), dtype=bool)
            wanted[0, : len(own)] = matcher.mask(turn.request)[own]
            fit[at] = top1_share(scores[at : at + 1], wanted)[0]
    ranks = label_ranks(scores, columns)
    best = top_columns(scores, TOP, seeds)
    top = np.where(best == NONE, NONE, np.take_along_axis(rows, best, axis=1))
    return Outcomes(ranks, fit, top)


def top_columns(scores: FloatArray, k: int, seeds: Sequence[tuple[int, int]]) -> IntArray:
    """The first columns of each row by falling score, ties in an order that is drawn.

    Args:
        scores (`numpy.ndarray` of shape `(rows, columns)`, float64): The scores.
        k (`int`): How many columns.
        seeds (`Sequence[tuple[int, int]]`): One seed a row.

    Returns:
        `numpy.ndarray` of shape `(rows, k)`, int64: -1 where a row has no more columns with a
        score above `-inf`.
    """
    top = np.full((len(scores), k), NONE, dtype=np.int64)
    width = scores.shape[1]
    for at, (row, seed) in enumerate(zip(scores, seeds, strict=True)):
        bound = row.min(initial=np.inf) if k >= width else np.partition(row, width - k)[width - k]
        above, tied = np.flatnonzero(row > bound), np.flatnonzero(row == bound)
        rng = np.random.default_rng(seed)
        above = rng.permutation(above)
        above = above[np.argsort(-row[above], kind="stable")]
        if bound > -np.inf:
            more = rng.choice(tied, min(k - len(above), len(tied)), replace=False)
            above = np.concatenate([above, more])
        top[at, : len(above)] = above
    return top
