"""What the figures say, in words: where the model wins, where it is tied and where it loses.

A difference counts as won or lost when its 95 % interval is clear of zero and its test, if there is
one, says p < 0.05; it is a tie otherwise. Of few conversations a bootstrap interval is too narrow.
"""

from collections.abc import Mapping
from typing import Any

from talkplay_hf.evaluation.page.glossary import ASIDE, ORACLE, STAGES, metric_name
from talkplay_hf.evaluation.page.text import interval, listed, number, percent
from talkplay_hf.evaluation.report import MODEL

WIN, TIE, LOSS = "win", "tie", "loss"
TARGETS = ("mrr", "hit@1", "hit@10", "hit@100")
FEW = 50
ALPHA = 0.05
# so many names are listed; of more, only the ones that are not the rule
_MOST_NAMES = 4

Figures = Mapping[str, Mapping[str, Mapping[str, Any]]]


def outcome(difference: Mapping[str, Any]) -> str:
    """Whether a difference (model minus baseline) is a `"win"`, a `"tie"` or a `"loss"`."""
    low, high, p = (difference.get(name) for name in ("low", "high", "p"))
    if p is not None and p >= ALPHA:
        return TIE
    if low is not None and low > 0:
        return WIN
    if high is not None and high < 0:
        return LOSS
    return TIE


def headline(report: Mapping[str, Any]) -> str:
    """The result in one sentence."""
    differences: Figures = report.get("differences") or {}
    ranking: Figures = report["ranking"]
    if MODEL not in ranking:
        best = best_baseline(ranking, "mrr")
        if best is None:
            return "There is no system here."
        value = number(ranking[best]["mrr"]["value"])
        return f"The model is not among the systems; the best of them is {best} with MRR {value}."
    results = _results(differences)
    if not results:
        return "There is no baseline to compare the model with."
    names = sorted(differences)
    of = f"each of {len(names)} baselines" if len(names) > 1 else f"the baseline {names[0]}"
    shown = [metric for metric in TARGETS if any(metric in f for f in differences.values())]
    on = listed([metric_name(metric) for metric in shown])
    for name, words in ((WIN, "wins against"), (LOSS, "loses to"), (TIE, "is tied with")):
        if results.count(name) == len(results):
            return f"The model {words} {of} on {on}."
    against = f"{len(names)} baselines" if len(names) > 1 else of
    return (
        f"Against {against} on {on}, {len(results)} comparisons in all, the model "
        f"{_counted(results)}."
    )


def _results(differences: Figures) -> list[str]:
    return [
        outcome(figures[metric])
        for figures in differences.values()
        for metric in TARGETS
        if metric in figures
    ]


def _counted(results: list[str]) -> str:
    words = ((WIN, "wins"), (TIE, "ties"), (LOSS, "loses"))
    return listed([f"{word} {results.count(name)}" for name, word in words if name in results])


def verdict(report: Mapping[str, Any]) -> list[str]:
    """The result in a few sentences, each of which stands alone.

    Args:
        report (`Mapping[str, Any]`): The report.
    """
    lines = [_on(report, metric) for metric in (*TARGETS, "fit")]
    lines.append(_single_stage(report))
    lines += [_slice(report, name) for name in ("cold", "warm")]
    lines += [_matching(report), *_cautions(report)]
    return [line for line in lines if line]


def best_baseline(figures: Figures, metric: str) -> str | None:
    """The baseline with the highest value of a metric."""
    held = [s for s in figures if s not in (MODEL, *ASIDE) and metric in figures[s]]
    return max(held, key=lambda s: (figures[s][metric]["value"], s), default=None)


def _on(report: Mapping[str, Any], metric: str) -> str:
    """How the model does on one metric."""
    differences: Figures = report.get("differences") or {}
    results: dict[str, list[str]] = {WIN: [], TIE: [], LOSS: []}
    for name in sorted(differences):
        if metric in differences[name]:
            results[outcome(differences[name][metric])].append(name)
    total = sum(map(len, results.values()))
    if not total:
        return ""
    ranking: Figures = report["ranking"]
    key = metric
    if metric == "fit":
        ranking, key = report.get("fit") or {}, "all"
    ours = ranking.get(MODEL, {}).get(key)
    text = metric_name(metric)
    text += f" is {number(ours['value'])} ({interval(ours)}): " if ours else ": "
    rule = max(results, key=lambda name: len(results[name]))
    told = []
    for name, words in ((WIN, "wins against"), (TIE, "is tied with"), (LOSS, "loses to")):
        held = results[name]
        if len(held) == total:
            told.append(f"{words} all {total} baselines" if total > 1 else f"{words} {held[0]}")
        elif held and (name != rule or len(held) <= _MOST_NAMES):
            told.append(f"{words} {listed(held)}")
        elif held:
            told.append(f"{words} {len(held)} baselines")
    text += f"the model {'; '.join(told)}."
    best = best_baseline(ranking, key)
    if best:
        text += f" The best of the others is {best} with {number(ranking[best][key]['value'])}."
    return text


def _single_stage(report: Mapping[str, Any]) -> str:
    """The count without the baselines that put several rankings together."""
    differences: Figures = report.get("differences") or {}
    left_out = [name for name in STAGES if name in differences]
    results = _results({n: f for n, f in differences.items() if n not in STAGES})
    if not left_out or not results:
        return ""
    return (
        f"Without {listed(left_out)}, which put several rankings together, there are "
        f"{len(results)} comparisons: the model {_counted(results)}."
    )


def _slice(report: Mapping[str, Any], name: str) -> str:
    table: Figures = (report.get("slices") or {}).get(name) or {}
    best = best_baseline(table, "mrr")
    if MODEL not in table or "mrr" not in table[MODEL] or best is None:
        return ""
    ours, theirs = table[MODEL]["mrr"], table[best]["mrr"]
    return (
        f"On {name} tracks ({_turns(ours['n'])}) the model's MRR is {number(ours['value'])} "
        f"({interval(ours)}), that of {best}, the best of the others, {number(theirs['value'])} "
        f"({interval(theirs)})."
    )


def _matching(report: Mapping[str, Any]) -> str:
    found = report.get("matching")
    if not found or "none" not in found["exact"]:
        return ""
    return (
        f"Left to itself, without constraint, the model writes five tokens that are exactly those "
        f"of a track in {percent(found['exact']['none'])} of {found['samples']:,} samples."
    )


def _cautions(report: Mapping[str, Any]) -> list[str]:
    lines = []
    conversations = report.get("conversations") or 0
    if conversations < FEW:
        told = f"{conversations:,} conversation" + "s" * (conversations != 1)
        lines.append(f"These are {told} only: the intervals are wide, and a tie says little.")
    if ORACLE in (report.get("differences") or {}):
        lines.append(
            f"{ORACLE} is told the request as rules, as the maker of the conversation meant it; "
            "all others have to read its words. It shows how far understanding requests would go."
        )
    k, candidates = report.get("k") or 0, report.get("candidates") or 0
    if candidates and k * 10 >= candidates:
        lines.append(
            f"The pool is small: {k:,} of its {candidates:,} tracks are in every ranking, so "
            f"Hit@{k} is high by chance alone."
        )
    if "demo" in str(report.get("catalog_kind") or ""):
        lines.append(
            "The catalog is the fictional demo world: no figure here is a statement about real "
            "music."
        )
    return lines


def _turns(count: int) -> str:
    return f"{count:,} turn" + "s" * (count != 1)
