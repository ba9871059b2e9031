"""The sections about ranking: tables, differences, turns, depth, slices and requests."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from talkplay_hf.evaluation.page.blocks import Cell, Section, Table
from talkplay_hf.evaluation.page.charts import (
    Series,
    dot_chart,
    figures_series,
    line_chart,
    pair_panels,
)
from talkplay_hf.evaluation.page.glossary import METRICS, SYSTEMS, in_order, metric_name
from talkplay_hf.evaluation.page.svg import Chart, Style
from talkplay_hf.evaluation.page.systems import (
    Styles,
    figure_cell,
    figure_point,
    has_metric,
    in_rank_order,
    ranked,
)
from talkplay_hf.evaluation.page.text import interval, p_value, signed
from talkplay_hf.evaluation.page.verdict import ALPHA, TARGETS, Figures, best_baseline, outcome
from talkplay_hf.evaluation.report import MODEL

# So many systems have their bands in one plot; of more, only the model and the best baseline.
MOST_BANDS = 3
# Turn numbers with fewer turns are left out of plots.
FEWEST = 10


def ranking_section(report: Mapping[str, Any]) -> Section | None:
    """The main table, and the same with the turns of the negative set."""
    ranking = report.get("ranking")
    if not ranking:
        return None
    tables = [
        system_table(ranking, note="In bold the highest value of each column; below each value its "
                     "95 % interval.")
    ]  # fmt: skip
    negatives = report.get("ranking_with_negatives")
    if negatives:
        tables.append(
            system_table(negatives, title="With the turns of the negative set", folded=True)
        )
    explained = [
        Table(
            ("", ""),
            [(Cell(name), Cell(meaning)) for name, meaning in rows],
            title=title,
            words=True,
        )
        for title, rows in (
            ("Metrics", [(metric_name(m), METRICS[m]) for m in METRICS if has_metric(ranking, m)]),
            ("Systems", [(s, SYSTEMS[s]) for s in ranked(ranking) if s in SYSTEMS]),
        )
        if rows
    ]
    return Section(
        "ranking",
        "Ranking",
        "Every system ranks the same tracks after the same chats; higher is better everywhere.",
        tables=tables + explained,
    )


def system_table(
    figures: Figures, *, title: str = "", note: str = "", folded: bool = False
) -> Table:
    """Systems down, metrics across."""
    metrics = in_order({metric for held in figures.values() for metric in held})
    best = {
        metric: max(held[metric]["value"] for held in figures.values() if metric in held)
        for metric in metrics
    }
    rows = []
    for system in ranked(figures):
        cells = [Cell(system, tone="ours" if system == MODEL else "")]
        for metric in metrics:
            figure = figures[system].get(metric)
            cells.append(figure_cell(figure, best=figure is not None and
                                 figure["value"] == best[metric]))  # fmt: skip
        rows.append(cells)
    return Table(("system", *map(metric_name, metrics)), rows, title, note, folded=folded)


def differences_section(report: Mapping[str, Any]) -> Section | None:
    """What the model has over each baseline."""
    differences: Figures = report.get("differences") or {}
    if not differences:
        return None
    names = ranked(differences)
    metrics = in_order({metric for held in differences.values() for metric in held})
    rows = []
    for name in names:
        cells = [Cell(name)]
        for metric in metrics:
            figure = differences[name].get(metric)
            if figure is None:
                cells.append(Cell("–"))
                continue
            p = p_value(figure)
            below = interval(figure, sign=True) + (f"\n{p}" if p else "")
            cells.append(Cell(signed(figure["value"]), below, tone=outcome(figure)))
        rows.append(cells)
    tested = any("p" in figure for held in differences.values() for figure in held.values())
    note = "Wins are green and losses red where the 95 % interval is clear of zero"
    if tested:
        note += (
            f" and p is below {ALPHA}, which is that of a two-sided test that flips the sign of "
            "whole conversations; it is not corrected for the number of comparisons"
        )
    note += "."
    return Section(
        "differences",
        "The model minus each baseline",
        "Both answer the same turns, so their difference is known better than either figure.",
        charts=_differences_chart(differences, names),
        tables=[Table(("baseline", *map(metric_name, metrics)), rows, note=note)],
    )


def _differences_chart(differences: Figures, names: list[str]) -> list[Chart]:
    shown = [metric for metric in TARGETS if all(metric in differences[n] for n in names)]
    if not shown:
        return []
    tones = {"win": Style(2), "tie": Style(7, mark=2), "loss": Style(6, mark=1)}
    rows = {}
    for name in names:
        figures = [differences[name][metric] for metric in shown]
        points = [figure_point(at, f, tones[outcome(f)]) for at, f in enumerate(figures)]
        rows[name] = [Series("the model minus it", tones["tie"], points)]
    told = "; ".join(f"{name} {signed(differences[name][shown[0]]['value'])}" for name in names)
    chart = dot_chart(
        "differences",
        "Difference by baseline",
        "The model minus each baseline with 95 % intervals. "
        f"{metric_name(shown[0])}: {told}.",
        rows,
        panels=[metric_name(metric) for metric in shown],
        zero=True,
        key=[("the model wins", tones["win"]), ("tied", tones["tie"]),
             ("the model loses", tones["loss"])],
        note="Right of zero the model is better. The line through a mark is the 95 % interval.",
    )  # fmt: skip
    return [chart]


def by_turn_section(report: Mapping[str, Any], styles: Styles) -> Section | None:
    """MRR by turn, after Figure 3 of the paper."""
    by_turn = report.get("mrr_by_turn")
    if not by_turn:
        return None
    names = in_rank_order(report, by_turn)
    counts = {int(turn): figure["n"] for turn, figure in by_turn[names[0]].items()}
    fewest = min(FEWEST, max(counts.values()))
    turns = sorted(turn for turn, count in counts.items() if count >= fewest)
    bands = _banded(report, names)
    series = [
        figures_series(
            name,
            styles[name],
            {t: by_turn[name][str(t)] for t in turns if str(t) in by_turn[name]},
            band=name in bands,
        )
        for name in names
    ]
    left_out = len(counts) - len(turns)
    note = _band_note(names, bands)
    if left_out:
        note += f" Turn numbers with fewer than {fewest} turns are left out."
    first, last = turns[0], turns[-1]
    told = "; ".join(
        f"{one.name} {one.points[0].value:.3f} to {one.points[-1].value:.3f}" for one in series
    )
    label = "turn of the conversation"
    charts = [
        line_chart(
            "mrr_by_turn", "MRR by turn",
            f"MRR at turns {first} to {last}, first and last turn: {told}.",
            series, x_label=label, y_label="MRR", note=note,
        )
    ]  # fmt: skip
    if names[0] == MODEL and len(series) > MOST_BANDS:
        charts.append(
            pair_panels(
                "mrr_by_turn_pairs", "The model beside each",
                f"MRR at turns {first} to {last} of the model beside each other system, with 95 % "
                "intervals as bands. " + told + ".",
                replace(series[0], band=True), [replace(one, band=True) for one in series[1:]],
                x_label=label, note="Bands are 95 % intervals; the model is the thick line.",
            )
        )  # fmt: skip
    rows = [
        [Cell(name, tone="ours" if name == MODEL else "")]
        + [figure_cell(by_turn[name].get(str(turn))) for turn in sorted(counts)]
        for name in names
    ]
    table = Table(
        ("system", *(f"turn {turn} (n={counts[turn]:,})" for turn in sorted(counts))),
        rows,
        title="MRR by turn, all figures",
        folded=True,
    )
    return Section(
        "turns",
        "Turn by turn",
        "Does a longer chat help or hurt? Each turn number is an average over the conversations "
        "that are long enough to have it.",
        charts=charts,
        tables=[table],
    )


def curve_section(report: Mapping[str, Any], styles: Styles) -> Section | None:
    """Hit@K over K."""
    curve = report.get("hit_curve")
    if not curve:
        return None
    names = in_rank_order(report, curve)
    bands = _banded(report, names)
    series = [
        figures_series(
            name, styles[name], {int(k): f for k, f in curve[name].items()}, band=name in bands
        )
        for name in names
    ]
    levels = sorted(int(k) for k in curve[names[0]])
    last = levels[-1]
    told = "; ".join(f"{one.name} {one.points[-1].value:.3f}" for one in series)
    chart = line_chart(
        "hit_curve", "Hit@K", f"Hit@K for K from {levels[0]} to {last}. At {last}: {told}.",
        series, x_label="K (logarithmic)", y_label="share of turns with a right track in the "
        "first K", x_ticks=levels, log_x=levels[0] > 0 and last > levels[0],
        note=_band_note(names, bands),
    )  # fmt: skip
    return Section(
        "depth",
        "How deep one has to look",
        "The share of turns whose track is among the first K of the ranking.",
        charts=[chart],
    )


def _banded(report: Mapping[str, Any], names: list[str]) -> set[str]:
    if len(names) <= MOST_BANDS:
        return set(names)
    best = best_baseline(report["ranking"], "mrr")
    return {MODEL, *([best] if best else [])} & set(names)


def _band_note(names: list[str], bands: set[str]) -> str:
    if len(bands) == len(names):
        return "Bands are 95 % intervals."
    of = "the model and of the best baseline" if MODEL in bands else "the best one"
    return f"Bands are 95 % intervals, of {of}."
