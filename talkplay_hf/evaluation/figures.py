"""From outcomes on turns to figures with intervals."""

from collections.abc import Mapping, Sequence
from functools import cached_property

import numpy as np

from talkplay_hf.catalog.schema import Catalog
from talkplay_hf.evaluation.examples import Reply
from talkplay_hf.evaluation.metrics.intervals import ClusterBootstrap, Figure
from talkplay_hf.evaluation.metrics.ranking import (
    BoolArray,
    FloatArray,
    hit_curve,
    ranking_metrics,
)
from talkplay_hf.evaluation.metrics.replies import CatalogNames, distinctness, reply_values
from talkplay_hf.evaluation.metrics.requests import request_kind
from talkplay_hf.evaluation.outcomes import NONE, Outcomes
from talkplay_hf.evaluation.report import LABEL, MODEL, Difference, Table
from talkplay_hf.evaluation.turns import Turn

# The kinds of request that the macro mean of the request fit is over, as far as they occur. A
# follow-up such as "more like this" counts under the field that it demands, too.
MACRO_KINDS = ("artist", "era", "genre", "mood", "tags")
CURVE = (1, 2, 5, 10, 20, 50, 100)


class Figures:
    """The figures of systems on the same turns.

    Args:
        turns (`Sequence[Turn]`): The turns.
        outcomes (`Mapping[str, Outcomes]`): By system, what it did on each of them.
        fit (`Mapping[str, numpy.ndarray]`): By system, whether the first track meets the request of
            each turn, float64 of shape `(turns,)`; systems that only answer and do not rank stand
            here, too.
        k (`int`): The depth at which every ranking is cut.
        resamples (`int`): How many bootstrap resamples the intervals are made from.
        seed (`int`): Of intervals and tests.
    """

    def __init__(
        self,
        turns: Sequence[Turn],
        outcomes: Mapping[str, Outcomes],
        fit: Mapping[str, FloatArray],
        *,
        k: int,
        resamples: int,
        seed: int,
    ) -> None:
        self.turns, self.seed = turns, seed
        self._k, self._resamples = k, resamples
        self._outcomes, self._fit = outcomes, fit
        self._interval = self._bootstrap(turns)
        self._asks = np.array([bool(turn.request) for turn in turns])

    @property
    def conversations(self) -> int:
        """How many conversations the turns are of."""
        return self._interval.clusters

    @cached_property
    def _values(self) -> dict[str, dict[str, FloatArray]]:
        return self._metrics(self._outcomes)

    @property
    def ranking(self) -> Table:
        """The ranking metrics of each system."""
        return _table(self._interval, self._values)

    def with_all(self, turns: Sequence[Turn], outcomes: Mapping[str, Outcomes]) -> Table:
        """The ranking metrics over other turns.

        Args:
            turns (`Sequence[Turn]`): The turns.
            outcomes (`Mapping[str, Outcomes]`): By system, what it did on each of them.
        """
        return _table(self._bootstrap(turns), self._metrics(outcomes))

    def differences(self, model: str, others: Sequence[str]) -> dict[str, dict[str, Difference]]:
        """One system minus each of the others, turn by turn.

        Args:
            model (`str`): The system.
            others (`Sequence[str]`): The others.
        """
        found: dict[str, dict[str, Difference]] = {}
        for name in others:
            theirs = self._values[name]
            found[name] = {
                metric: self._difference(ours, theirs[metric])
                for metric, ours in self._values[model].items()
            }
            if self._asks.any():
                found[name]["fit"] = self._difference(self._fit[model], self._fit[name], self._asks)
        return found

    @property
    def fit(self) -> Table:
        """The request fit of each system, over all requests and by kind of request."""
        if not self._asks.any():
            return {}
        kinds = np.array([request_kind(turn.request) for turn in self.turns])
        groups = {kind: kinds == kind for kind in sorted({*kinds.tolist()} - {""})}
        macro = [g for kind, g in groups.items() if kind in MACRO_KINDS] or [*groups.values()]
        return {
            name: {
                "all": self._interval.figure(values, self._asks),
                "macro": self._interval.macro(values, macro),
                **{kind: self._interval.figure(values, group) for kind, group in groups.items()},
            }
            for name, values in self._fit.items()
        }

    @property
    def mrr_by_turn(self) -> dict[str, dict[int, Figure]]:
        """MRR of each system by turn number (figure 3)."""
        numbers = [turn.number for turn in self.turns]
        return {
            name: self._interval.by_turn(values["mrr"], numbers)
            for name, values in self._values.items()
        }

    @property
    def hit_curve(self) -> dict[str, dict[int, Figure]]:
        """Of each system, the chance of a right track among the first K, by K."""
        levels = [level for level in CURVE if level <= self._k]
        curves = {name: hit_curve(o.ranks, levels) for name, o in self._outcomes.items()}
        return {
            name: {level: self._interval.figure(c[:, at]) for at, level in enumerate(levels)}
            for name, c in curves.items()
        }

    def slices(self, kinds: Mapping[str, BoolArray]) -> dict[str, Table]:
        """The ranking metrics of each system on some of the turns.

        Args:
            kinds (`Mapping[str, numpy.ndarray]`): By name, which turns, bool of shape `(turns,)`.
        """
        return {name: _table(self._interval, self._values, turns) for name, turns in kinds.items()}

    def _metrics(self, outcomes: Mapping[str, Outcomes]) -> dict[str, dict[str, FloatArray]]:
        return {name: ranking_metrics(found.ranks, self._k) for name, found in outcomes.items()}

    def _difference(
        self, ours: FloatArray, theirs: FloatArray, turns: BoolArray | None = None
    ) -> Difference:
        figure = self._interval.difference(ours, theirs, turns)
        p = self._interval.paired_p(ours, theirs, turns)
        return Difference(figure.value, figure.low, figure.high, figure.n, p)

    def _bootstrap(self, turns: Sequence[Turn]) -> ClusterBootstrap:
        names = [turn.conversation for turn in turns]
        return ClusterBootstrap(names, resamples=self._resamples, seed=self.seed)


def _table(
    interval: ClusterBootstrap,
    values: Mapping[str, Mapping[str, FloatArray]],
    turns: BoolArray | None = None,
) -> Table:
    return {
        name: {metric: interval.figure(value, turns) for metric, value in metrics.items()}
        for name, metrics in values.items()
    }


def reply_figures(
    turns: Sequence[Turn],
    replies: Sequence[Reply],
    catalog: Catalog,
    *,
    resamples: int,
    seed: int,
) -> dict[str, dict[str, Figure | float]]:
    """Figures of the model's replies and, on the same turns, of those of the conversations.

    Turns that have only one of the two are left out.

    Args:
        turns (`Sequence[Turn]`): The turns.
        replies (`Sequence[Reply]`): What the model answers to each.
        catalog (`Catalog`): The candidates.
        resamples (`int`): How many bootstrap resamples the intervals are made from.
        seed (`int`): Of the intervals.

    Returns:
        `dict[str, dict[str, Figure | float]]`: By `"talkplay"` and `"label"`, the shares of
        `reply_values` with intervals, and `distinctness`; empty where no turn is left.
    """
    both = [(t, r) for t, r in zip(turns, replies, strict=True) if t.reply and r.row != NONE]
    if not both:
        return {}
    interval = ClusterBootstrap([t.conversation for t, _ in both], resamples=resamples, seed=seed)
    heard = [turn.played for turn, _ in both]
    asked = [[m.content for m in turn.history if m.role == "user"] for turn, _ in both]
    told = {
        MODEL: [(reply.text, reply.row) for _, reply in both],
        LABEL: [(turn.reply, turn.labels[0]) for turn, _ in both],
    }
    names = CatalogNames(catalog)
    found: dict[str, dict[str, Figure | float]] = {}
    for name, pairs in told.items():
        texts, rows = [text for text, _ in pairs], [row for _, row in pairs]
        values = reply_values(texts, rows, heard, asked, names)
        found[name] = {kind: interval.figure(value) for kind, value in values.items()}
        found[name] |= distinctness(texts)
    return found
