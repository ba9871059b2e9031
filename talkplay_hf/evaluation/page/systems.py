"""The systems of a report in tables and charts: their order and their figures."""

from collections.abc import Mapping
from typing import Any

from talkplay_hf.evaluation.page.blocks import Cell
from talkplay_hf.evaluation.page.charts import Point
from talkplay_hf.evaluation.page.svg import Style, style_of
from talkplay_hf.evaluation.page.text import interval, number
from talkplay_hf.evaluation.page.verdict import Figures
from talkplay_hf.evaluation.report import MODEL

Styles = Mapping[str, Style]


def ranked(figures: Mapping[str, Mapping[str, Any]], metric: str = "mrr") -> list[str]:
    """Systems by a metric, the highest first."""

    def key(system: str) -> tuple[float, str]:
        figure = figures[system].get(metric)
        return (-figure["value"] if figure else 0.0, system)

    return sorted(figures, key=key)


def figure_cell(figure: Mapping[str, Any] | None, *, best: bool = False) -> Cell:
    """A figure and its interval in a table."""
    return Cell("–") if figure is None else Cell(number(figure["value"]), interval(figure), best)


def figure_point(x: float, figure: Mapping[str, Any], style: Style | None = None) -> Point:
    """A figure in a chart."""
    return Point(x, figure["value"], figure.get("low"), figure.get("high"), style)


def has_metric(figures: Figures, metric: str) -> bool:
    """Whether any system has a metric."""
    return any(metric in held for held in figures.values())


def in_rank_order(report: Mapping[str, Any], held: Mapping[str, Any]) -> list[str]:
    """The model, then the baselines by their MRR."""
    names = [name for name in ranked(report["ranking"]) if name in held]
    names += sorted(set(held) - set(names))
    return sorted(names, key=lambda name: name != MODEL)


def styles(report: Mapping[str, Any]) -> dict[str, Style]:
    """The style of each system: the first is kept for the model, the others are by their MRR."""
    names = in_rank_order(report, report["ranking"])
    first = 0 if MODEL in names else 1
    return {name: style_of(place) for place, name in enumerate(names, start=first)}
