"""The sections about parts of the turns: kinds of tracks, and kinds of requests."""

from collections.abc import Mapping
from typing import Any

from talkplay_hf.evaluation.page.blocks import Cell, Section, Table
from talkplay_hf.evaluation.page.charts import Series, dot_chart
from talkplay_hf.evaluation.page.glossary import (
    ASIDE,
    SLICES,
    metric_name,
    missing_modality,
    place,
    slice_meaning,
)
from talkplay_hf.evaluation.page.svg import Chart, Style
from talkplay_hf.evaluation.page.systems import (
    figure_cell,
    figure_point,
    in_rank_order,
    ranked,
)
from talkplay_hf.evaluation.page.text import number
from talkplay_hf.evaluation.page.verdict import Figures, best_baseline
from talkplay_hf.evaluation.report import CHANCE, CHAT, LABEL, MODEL

# how the answer of the chat, chance and the label look beside systems
_LOOKS = {
    CHAT: Style(0, mark=2),
    CHANCE: Style(7, mark=3),
    LABEL: Style(2, mark=1),
}


def slices_section(report: Mapping[str, Any]) -> Section | None:
    """Warm, cold and incomplete tracks, and other parts of the turns."""
    slices: Mapping[str, Figures] = report.get("slices") or {}
    parts = _slice_order(slices)
    if not parts:
        return None
    systems = in_rank_order(report, slices[parts[0]])
    tables = []
    for metric in ("mrr", "hit@10"):
        rows = []
        for part in parts:
            figures = [slices[part].get(system, {}).get(metric) for system in systems]
            held = [figure for figure in figures if figure]
            if held:
                top = max(figure["value"] for figure in held)
                cells = [figure_cell(f, best=f is not None and f["value"] == top) for f in figures]
                count = Cell(f"{held[0]['n']:,}")
                rows.append([Cell(part, slice_meaning(part)), count, *cells])
        if rows:
            head = ("part", "turns", *systems)
            tables.append(
                Table(head, rows, title=f"{metric_name(metric)} by part, all figures", folded=True)
            )
    return Section(
        "slices",
        "Warm, cold and incomplete tracks",
        "The same figures over parts of the turns. A track is warm if a playlist of training or "
        "validation holds it, and cold if held-out playlists alone do.",
        charts=_slices_chart(slices, parts),
        tables=tables,
    )


def _slices_chart(slices: Mapping[str, Figures], parts: list[str]) -> list[Chart]:
    ours, theirs = Style(0), Style(1, mark=1)
    rows, told = {}, []
    for part in parts:
        best = best_baseline(slices[part], "mrr")
        shown = [(MODEL, ours)] if "mrr" in slices[part].get(MODEL, {}) else []
        shown += [(best, theirs)] if best else []
        if shown:
            figures = [slices[part][name]["mrr"] for name, _ in shown]
            rows[part] = [
                Series(name, style, [figure_point(0, figure)])
                for (name, style), figure in zip(shown, figures, strict=True)
            ]
            words = [f"{n} {number(f['value'])}" for (n, _), f in zip(shown, figures, strict=True)]
            told.append(f"{part}: {', '.join(words)}")
    if not rows:
        return []
    chart = dot_chart(
        "slices", "MRR by part", f"MRR of the model and of the best baseline. {'; '.join(told)}.",
        rows, key=[(MODEL, ours), ("the best baseline of the part", theirs)],
        note="Marks with their 95 % intervals.",
    )  # fmt: skip
    return [chart]


def fit_section(report: Mapping[str, Any]) -> Section | None:
    """Whether the first track is what was asked for."""
    fit: Figures = report.get("fit") or {}
    if not fit:
        return None
    found = {kind: figure["n"] for held in fit.values() for kind, figure in held.items()}
    first = [kind for kind in ("all", "macro") if kind in found]
    counts = {kind: found[kind] for kind in first + sorted(found.keys() - {*first})}
    aside = [name for name in _LOOKS if name in fit]
    systems = [name for name in ranked(fit, "all") if name not in aside] + aside
    best = {
        kind: max(
            (fit[s][kind]["value"] for s in systems if s not in ASIDE and kind in fit[s]),
            default=None,
        )
        for kind in counts
    }
    rows = [
        [Cell(name, tone="ours" if name == MODEL else "")]
        + [
            figure_cell(f, best=f is not None and name not in ASIDE and f["value"] == best[kind])
            for kind in counts
            for f in [fit[name].get(kind)]
        ]
        for name in systems
    ]
    head = ("system", *(f"{kind} (n={counts[kind]:,})" for kind in counts))
    return Section(
        "fit",
        "Does the track meet the request?",
        "The share of requests whose every demand (genre, artist, era, tempo, not that one ...) "
        "the first track meets, whatever the conversation went on with. All counts each request "
        "alike, macro each common kind of request. Chance is any candidate, label the track of the "
        "conversation, talkplay-chat a sampled answer.",
        charts=[_fit_chart(fit, list(counts), aside)],
        tables=[Table(head, rows)],
    )


def _fit_chart(fit: Figures, kinds: list[str], aside: list[str]) -> Chart:
    rival = best_baseline(fit, "all")
    shown = ({MODEL: Style(0)} if MODEL in fit else {}) | (
        {rival: Style(1, mark=1)} if rival else {}
    )
    shown |= {name: _LOOKS[name] for name in aside}
    rows = {
        kind: [
            Series(name, style, [figure_point(0, fit[name][kind])])
            for name, style in shown.items()
            if kind in fit[name]
        ]
        for kind in kinds
    }
    lead = next(iter(shown))
    told = "; ".join(
        f"{kind} {number(fit[lead][kind]['value'])}" for kind in kinds if kind in fit[lead]
    )
    return dot_chart(
        "request_fit", "Request fit by kind of request", f"Request fit of {lead}: {told}.", rows,
        key=[(f"{name} (best baseline)" if name == rival else name, style)
             for name, style in shown.items()],
        note="Marks with their 95 % intervals.",
    )  # fmt: skip


def _slice_order(slices: Mapping[str, Any]) -> list[str]:
    return sorted(
        slices, key=lambda name: (place(name, SLICES), missing_modality(name) or "", name)
    )
