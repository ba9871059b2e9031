"""Write a report as Markdown, as one HTML page and as plots."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from talkplay_hf.evaluation.page.behaviour import lists_section, matching_section, replies_section
from talkplay_hf.evaluation.page.blocks import Cell, Section, Table
from talkplay_hf.evaluation.page.examples import examples_section
from talkplay_hf.evaluation.page.making import codebooks_section, training_section
from talkplay_hf.evaluation.page.markdown import render_markdown
from talkplay_hf.evaluation.page.parts import fit_section, slices_section
from talkplay_hf.evaluation.page.ranking import (
    by_turn_section,
    curve_section,
    differences_section,
    ranking_section,
)
from talkplay_hf.evaluation.page.svg import style_sheet
from talkplay_hf.evaluation.page.systems import styles
from talkplay_hf.evaluation.page.text import showable
from talkplay_hf.evaluation.page.verdict import headline, verdict
from talkplay_hf.hub import files
from talkplay_hf.hub.markdown import flat

MARKDOWN = "report.md"
HTML = "index.html"
TITLE = "Evaluation of a conversational music recommender"
_TEMPLATE = Path(__file__).with_name("page.html.jinja")


def write_report(report: Mapping[str, Any], out: str | Path) -> None:
    """Write `report.md`, `index.html` and the plots of a report.

    The page holds its plots, has no script and asks no other place for anything. What the report
    does not hold is left out. The same report gives the same bytes.

    Args:
        report (`Mapping[str, Any]`): What `EvaluationReport.to_dict` gives, or what was read from
            its `report.json`. Optional further keys are `matching`, `training` and `codebooks`.
        out (`str` or `Path`): The folder to write to; made if it is not there. Plots of an earlier
            report that this one does not have are deleted.
    """
    from jinja2 import Environment, StrictUndefined

    out = Path(out)
    sections = page_sections(report)
    head = headline(report)
    points = verdict(report)
    template = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    ).from_string(_TEMPLATE.read_text(encoding="utf-8"))
    page = template.render(
        title=TITLE,
        subtitle=subtitle(report),
        headline=head,
        points=points,
        sections=sections,
        style=style_sheet(),
    )
    charts = {f"{chart.name}.svg": chart for section in sections for chart in section.charts}
    for name, chart in charts.items():
        files.write_text(out / name, chart.file())
    for name in PLOTS:
        if name not in charts:
            (out / name).unlink(missing_ok=True)
    files.write_text(
        out / MARKDOWN, render_markdown(TITLE, subtitle(report), head, points, sections)
    )
    files.write_text(out / HTML, showable(page) + "\n")


# every plot that there can be
PLOTS = tuple(
    f"{name}.svg"
    for name in (
        "differences", "mrr_by_turn", "mrr_by_turn_pairs", "hit_curve", "slices", "request_fit",
        "matching", "loss", "self_similarity",
    )
)  # fmt: skip


def page_sections(report: Mapping[str, Any]) -> list[Section]:
    """The sections that a report has the data for, in order."""
    looks = styles(report)
    found: Sequence[Section | None] = (
        ranking_section(report),
        differences_section(report),
        by_turn_section(report, looks),
        curve_section(report, looks),
        slices_section(report),
        fit_section(report),
        examples_section(report),
        replies_section(report),
        lists_section(report),
        matching_section(report),
        codebooks_section(report),
        training_section(report),
        conditions_section(report),
    )
    return [section for section in found if section is not None]


def subtitle(report: Mapping[str, Any]) -> str:
    """On what the figures are."""
    return (
        f"{report['turns']:,} turns of {report['conversations']:,} conversations, "
        f"{report['candidates']:,} candidate tracks"
    )


def conditions_section(report: Mapping[str, Any]) -> Section:
    """Under which conditions the figures hold."""
    pool = f"the {report['candidates']:,} tracks of the catalog"
    if report["exclude_played"]:
        pool += ", less those played before in the chat"
    skipped = [
        f"{count:,} {name.replace('_', ' ')}"
        for name, count in sorted(report["skipped"].items())
        if count
    ]
    rows = [
        ("candidates", pool),
        ("turns", f"{report['turns']:,} of {report['conversations']:,} conversations; left out: "
         f"{', '.join(skipped) or 'none'}"),
        ("depth", f"rankings are cut at {report['k']:,}; a track beyond counts as not found"),
        ("ties", "equal scores count at their expected value over all orders"),
        ("intervals", f"95 %, {report['resamples']:,} resamples of whole conversations"),
        ("seed", str(report["seed"])),
        ("seed of the intervals", str(report.get("bootstrap_seed", report["seed"]))),
    ]  # fmt: skip
    rows += [(f"ranking, {name.replace('_', ' ')}", _plain(value))
             for name, value in flat(report.get("ranking_options") or {})]  # fmt: skip
    if report.get("catalog_kind"):
        rows.insert(0, ("catalog", str(report["catalog_kind"])))
    rows += [
        (f"SHA-256 of the {name}", str(sha))
        for name, sha in sorted((report.get("hashes") or {}).items())
        if sha
    ]
    if report.get("talkplay_hf"):
        rows.append(("talkplay_hf", str(report["talkplay_hf"])))
    return Section(
        "conditions",
        "Conditions",
        "Figures hold under these only, and can be compared with others of the same pool, depth "
        "and conversations alone.",
        tables=[Table(("", ""), [[Cell(a), Cell(b)] for a, b in rows], words=True)],
    )


def _plain(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
