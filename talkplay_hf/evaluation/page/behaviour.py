"""The sections about what the answers are like: lists, replies, and tokens that match a track."""

from collections.abc import Mapping
from typing import Any

from talkplay_hf.evaluation.page.blocks import Cell, Section, Table
from talkplay_hf.evaluation.page.charts import stacked_bars
from talkplay_hf.evaluation.page.glossary import LISTS, REPLIES, place
from talkplay_hf.evaluation.page.svg import Chart
from talkplay_hf.evaluation.page.systems import figure_cell, ranked
from talkplay_hf.evaluation.page.text import number, percent
from talkplay_hf.evaluation.report import LABEL, MODEL

CONSTRAINTS = {
    "none": "no constraint: five tokens as the model writes them",
    "grammar": "grammar: one token of each kind, in order",
    "catalog": "catalog: only tokens that are those of a track",
}


def lists_section(report: Mapping[str, Any]) -> Section | None:
    """What the lists of each system look like as a whole."""
    lists: Mapping[str, Mapping[str, float]] = report.get("lists") or {}
    if not lists:
        return None
    keys = {key for figures in lists.values() for key in figures}
    names = sorted(keys, key=lambda key: (place(key.partition("@")[0], LISTS), key))
    head, meanings = ["system"], []
    for key in names:
        stem, at, depth = key.partition("@")
        title, meaning = LISTS.get(stem, (stem, ""))
        head.append(title + (f" of the first {depth}" if at else ""))
        meanings.append([Cell(title), Cell(meaning)])
    systems = [name for name in ranked(report["ranking"]) if name in lists]
    rows = [
        [Cell(name, tone="ours" if name == MODEL else "")]
        + [Cell(_list_figure(key, lists[name].get(key))) for key in names]
        for name in systems
    ]
    return Section(
        "lists",
        "What the lists look like as a whole",
        "Being right is not all: a system that shows everybody the same few tracks is of little "
        "use.",
        tables=[Table(head, rows), Table(("", ""), meanings, words=True)],
    )


def _list_figure(key: str, value: float | None) -> str:
    if value is not None and key.startswith("popularity_rank"):
        return f"{value:,.0f}"
    return percent(value) if key.startswith("coverage") else number(value)


def replies_section(report: Mapping[str, Any]) -> Section | None:
    """What is said about the track that is played."""
    replies: Mapping[str, Mapping[str, Any]] = report.get("replies") or {}
    if not replies:
        return None
    who = sorted(replies, key=lambda name: (place(name, (MODEL, LABEL)), name))
    names = {key for figures in replies.values() for key in figures}
    rows = []
    for key in sorted(names, key=lambda key: (place(key, REPLIES), key)):
        cells = [Cell(key.replace("_", " "), REPLIES.get(key, ""))]
        for name in who:
            value = replies[name].get(key)
            value = {"value": value} if isinstance(value, int | float) else value
            if value and "low" not in value:
                cells.append(Cell(number(value["value"])))
            else:
                cells.append(figure_cell(value))
        rows.append(cells)
    heads = {MODEL: "the model", LABEL: "the conversations"}
    return Section(
        "replies",
        "What is said",
        "Whether a reply speaks about the track that it comes with, and how varied replies are; "
        "beside it the replies that the conversations themselves have.",
        tables=[Table(("", *(heads.get(name, name) for name in who)), rows)],
    )


def matching_section(report: Mapping[str, Any]) -> Section | None:
    """Whether sampled tokens name a track, after section 5.2 of the paper."""
    found: Mapping[str, Any] = report.get("matching") or {}
    matches: Mapping[str, Any] = found.get("matches") or {}
    if not found:
        return None
    samples = found["samples"]
    order = sorted(found["exact"], key=lambda name: (place(name, CONSTRAINTS), name))
    rows = []
    for name in order:
        cells = [
            Cell(name, CONSTRAINTS.get(name, "").partition(": ")[2]),
            Cell(percent(found["well_formed"].get(name))),
            Cell(percent(found["exact"][name])),
        ]
        if matches:
            cells += _warm_and_cold(matches.get(name))
        rows.append(cells)
    head = ["constraint", "well-formed", "exact match"]
    if matches:
        head += ["of these warm", "warm tracks reached", "cold tracks reached"]
    tables = [
        Table(
            head,
            rows,
            note=f"{samples:,} samples each. Five tokens drawn at random, each as often as the "
            f"model writes it, would be those of a track in {percent(found['independent'], 2)}.",
        )
    ]
    partial = _partial_table(matches, order, samples)
    return Section(
        "matching",
        "Do the tokens name a track?",
        "The model writes five tokens, one a modality. They are an exact match if a track has all "
        "five, and a partial match if the nearest track shares some of them.",
        charts=[_matching_chart(matches, order, samples)] if matches else [],
        tables=[*tables, *([partial] if partial else [])],
    )


def _warm_and_cold(found: Mapping[str, Any] | None) -> list[Cell]:
    if found is None:
        return [Cell("–")] * 3
    exact, distinct, tracks = found["exact"], found["distinct"], found["tracks"]
    total = sum(exact.values())
    reached = [
        Cell(percent(distinct[kind] / tracks[kind]), f"{distinct[kind]:,} of {tracks[kind]:,}")
        if tracks[kind]
        else Cell("none there")
        for kind in ("warm", "cold")
    ]
    return [Cell(percent(exact["warm"] / total) if total else "–"), *reached]


def _partial_table(matches: Mapping[str, Any], order: list[str], samples: int) -> Table | None:
    subsets = {subset for found in matches.values() for subset in found["partial"]}
    if not subsets:
        return None
    names = [name for name in order if name in matches]
    counts = {
        subset: {name: matches[name]["partial"].get(subset) for name in names} for subset in subsets
    }

    def share(found: Mapping[str, int] | None) -> Cell:
        if not found:
            return Cell("–")
        total = sum(found.values())
        return Cell(percent(total / samples), f"warm {found['warm']:,}, cold {found['cold']:,}")

    def most(subset: str) -> tuple[int, str]:
        return (-sum(sum(f.values()) for f in counts[subset].values() if f), subset)

    rows = [
        [Cell(subset), *(share(counts[subset][name]) for name in names)]
        for subset in sorted(subsets, key=most)
    ]
    return Table(
        ("modalities that match", *names), rows, title="Partial matches, share of all samples"
    )


def _matching_chart(matches: Mapping[str, Any], order: list[str], samples: int) -> Chart:
    names = [name for name in order if name in matches]
    sizes = sorted(
        {subset.count(" + ") + 1 for name in names for subset in matches[name]["partial"]},
        reverse=True,
    )
    parts = [("exact, warm track", 'class="c-f0"'), ("exact, cold track", 'class="c-f5"')]
    for size in sizes:
        # the more modalities match, the stronger the colour
        look = f'class="c-f2" fill-opacity="{min(1.0, 0.2 + 0.2 * size):.1f}"'
        parts.append((f"partial, {size} token{'s' * (size != 1)}", look))
    parts += [("no token in common", 'class="c-rest"'), ("no block of tokens", 'class="c-f7"')]
    rows, told = {}, []
    for name in names:
        found = matches[name]
        by_size = dict.fromkeys(sizes, 0)
        for subset, split in found["partial"].items():
            by_size[subset.count(" + ") + 1] += sum(split.values())
        counts = [found["exact"]["warm"], found["exact"]["cold"], *by_size.values(),
                  found["none"], max(0, samples - found["queries"])]  # fmt: skip
        rows[name] = [count / samples for count in counts]
        exact = sum(found["exact"].values()) / samples
        told.append(f"{name} {exact:.1%} exact, {sum(by_size.values()) / samples:.1%} partial")
    return stacked_bars(
        "matching", "Matches by constraint", f"Share of samples that match: {'; '.join(told)}.",
        rows, parts, note="Share of all samples.",
    )  # fmt: skip
