"""The quality report and that of a judge as lines of text."""

from collections.abc import Mapping
from typing import Any

from talkplay_hf.conversations.checks.verdict import REASONS
from talkplay_hf.conversations.quality.coverage import NOT_READ, SPOKEN
from talkplay_hf.conversations.quality.report import SIZES


def quality_text(report: Mapping[str, Any]) -> str:
    """The report as lines of text.

    Args:
        report (`Mapping[str, Any]`): What `quality_report` returned.
    """
    total, music = report["conversations"], report["music"]
    diversity, duplicates = report["diversity"], report["duplicates"]
    sample, naming = diversity["sample"], report["naming"]
    lines = [
        f"conversations    {total['total']:,} ({counted(total['by_split'])}); language: "
        f"{counted(total['by_language'])}",
        f"turns            {_spread(report['turns'])} (with a track)",
        f"user message     {_spread(report['user_words'])} words",
        f"reply            {_spread(report['assistant_words'])} words",
        f"words            {diversity['words']:,}, vocabulary {diversity['vocabulary']:,}",
        f"distinct-1/2/3   {_distinct(diversity)}; "
        f"of {sample['conversations']:,} conversations {_distinct(sample)}",
        f"distinct         user messages {_percent(diversity['distinct_user_messages'])}, "
        f"replies {_percent(diversity['distinct_replies'])}",
        f"duplicates       exact {_percent(duplicates['exact'])}, "
        f"near {_percent(duplicates['near'])} of {duplicates['compared']:,} "
        f"(word {duplicates['shingle_words']}-grams, Jaccard {duplicates['threshold']})",
        f"tracks           {music['tracks_played']:,} played, {_percent(music['negative'])} of "
        "them unwanted ones",
    ]
    if music["playlist_together"] is not None:
        lines[-1] += (
            f"; of its playlist a conversation plays {_percent(music['playlist_per_conversation'])}"
            f", all conversations of one together {_percent(music['playlist_together'])}"
        )
    if naming["replies"]:
        lines.append(
            f"replies          name the title {_percent(naming['title'])}, the artist "
            f"{_percent(naming['artist'])}, either {_percent(naming['either'])}"
        )
    if duplicates["near"] is None and duplicates["compared"] == 0:
        lines.append(f"                 {duplicates['note']}")
    lines += ["", f"of a sample of {report['sampled']:,} conversations:"]
    lines += _modality_lines(report["modalities"])
    lines += ["", *_intent_lines(report["intents"])]
    if report["rejects"]:
        lines += ["", *_reject_lines(report["rejects"])]
    return "\n".join(lines)


def judge_text(report: Mapping[str, Any]) -> str:
    """The judge's report as lines of text.

    Args:
        report (`Mapping[str, Any]`): What `judge_conversations` returned.
    """
    low, high = report["scale"]
    agreement = report["agreement"]
    lines = [
        f"judge            {report['model']}, scale {low} to {high}, "
        f"prompt {report['prompt_sha256'][:12]}",
        f"judged           {report['judged']:,} of {report['sampled']:,} conversations; failed "
        f"judgements: {counted(report['failed'])}",
    ]
    if report["stopped"]:
        lines.append(f"stopped          {report['stopped']}")
    for name, row in report["scores"].items():
        line = f"  {name:<14} {row['mean']:.2f}  (95 %: {row['low']:.2f} to {row['high']:.2f})"
        if name in agreement["by_dimension"]:
            twice = agreement["by_dimension"][name]
            line += f"  same again {100 * twice['same']:.0f} %"
        lines.append(line)
    correlation = report["length_correlation"]
    shown = "-" if correlation is None else f"{correlation:+.2f}"
    lines.append(f"judged twice     {agreement['pairs']:,}; correlation with length {shown}")
    return "\n".join(lines)


def _modality_lines(modalities: Mapping[str, Any]) -> list[str]:
    lines = []
    if modalities["not_english"]:
        lines.append(f"{modalities['not_english']:,} of them are not English: {NOT_READ}")
    lines.append(f"  {'talks about':<12} {'user':>9} {'reply':>9} {'convers.':>9}")
    for name in SPOKEN:
        shares = [modalities[role][name]["messages"] for role in ("user", "assistant")]
        cells = [*shares, modalities["conversations"][name]]
        lines.append(f"  {name:<12} " + " ".join(f"{_percent(cell):>9}" for cell in cells))
    return lines


def _intent_lines(intents: Mapping[str, Any]) -> list[str]:
    if not intents["declared"] + intents["detected"]:
        return ["intents: no user message can be read for intents"]
    entropy, asked = intents["entropy_bits"], intents["declared"] > 0
    found = f"of those asked for, {_percent(intents['asked_found'])} are found; " if asked else ""
    lines = [
        f"intents: entropy of acts {_number(entropy['act'], 2)} bits, of topics "
        f"{_number(entropy['topic'], 2)} bits; {found}never seen: "
        f"{', '.join(intents['unseen']) or 'none'}",
        f"  {'':<12} {'messages':>9} {'convers.':>9}" + (f" {'found':>9}" if asked else ""),
    ]
    columns = ("messages", "conversations", "found") if asked else ("messages", "conversations")
    for name, row in intents["by_intent"].items():
        cells = " ".join(f"{_percent(row[column]):>9}" for column in columns)
        lines.append(f"  {name:<12} {cells}")
    return lines


def _reject_lines(rejects: Mapping[str, Any]) -> list[str]:
    lines = [
        f"pieces of playlists: kept {_percent(rejects['kept'])}, "
        f"{_percent(rejects['repaired'])} of these mended",
        "shares of the first answers and of all answers that were refused, and of the pieces in "
        "quarantine:",
        f"  {'':<18} {'first':>9} {'all':>9} {'pieces':>9}",
    ]
    columns = ("first_answers", "answers", "quarantined")
    for reason in sorted({name for column in columns for name in rejects[column]}):
        cells = " ".join(f"{_percent(rejects[column].get(reason, 0.0)):>9}" for column in columns)
        lines.append(f"  {reason:<18} {cells}  {REASONS.get(reason, '')}".rstrip())
    if rejects["intents_found"]:
        found = ", ".join(f"{name} {_percent(n)}" for name, n in rejects["intents_found"].items())
        lines.append(f"intents that prompts asked for, found in that share: {found}")
    return lines


def counted(counts: Mapping[str, int]) -> str:
    """Counts by name in one line."""
    return ", ".join(f"{name} {count:,}" for name, count in counts.items()) or "none"


def _spread(part: Mapping[str, Any]) -> str:
    if part["mean"] is None:
        return "none"
    return f"mean {part['mean']:.2f}, median {part['median']}, 95 % up to {part['p95']}"


def _distinct(part: Mapping[str, Any]) -> str:
    return " / ".join(_number(part["distinct"][str(n)]) for n in SIZES)


def _number(value: float | None, digits: int = 3) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f} %"
