"""A page of sampled conversations to read in a browser, with the report's key figures on top.

One HTML file: no script, nothing from elsewhere (its content security policy forbids both), light
and dark, for desk and phone.
"""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from zlib import crc32

from talkplay_hf.catalog.schema import Catalog, Conversation, Message, Track
from talkplay_hf.conversations.checks.verdict import REASONS
from talkplay_hf.conversations.intents import ACT, TOPIC, detect_intents, taxonomy
from talkplay_hf.conversations.quality.coverage import NOT_READ, SPOKEN, english
from talkplay_hf.conversations.quality.sampling import sample_conversations, tracks_of
from talkplay_hf.conversations.quality.text import counted
from talkplay_hf.hub import files

COUNT = 24
REFUSED = 12
LONGEST = 1500
TAGS = 4
_UNSHOWN = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")
_TEMPLATE = Path(__file__).with_name("page.html.jinja")


def write_page(
    path: str | Path,
    conversations: Iterable[Conversation],
    catalog: Catalog | None,
    report: Mapping[str, Any],
    *,
    quarantine: Iterable[Mapping[str, Any]] = (),
    judge: Mapping[str, Any] | None = None,
    title: str = "Conversations",
    count: int = COUNT,
    seed: int = 0,
) -> None:
    """Write an HTML page of randomly drawn conversations.

    Args:
        path (`str` or `Path`): The file to write.
        conversations (`Iterable[Conversation]`): The conversations; they are read once.
        catalog (`Catalog`, *optional*): Their catalog; without it, tracks show by their ids.
        report (`Mapping[str, Any]`): What `quality_report` returned for them.
        quarantine (`Iterable[Mapping]`, *optional*): Answers that were refused, with `piece_id`,
            `reasons`, `details` and `answer`; the first dozen are shown.
        judge (`Mapping[str, Any]`, *optional*): What `judge_conversations` returned.
        title (`str`): The heading.
        count (`int`): Conversations to show.
        seed (`int`): Draws them.

    Raises:
        InputError: If `count` is not positive.
    """
    from jinja2 import Environment, StrictUndefined

    drawn = sample_conversations(conversations, count, seed)
    tracks = tracks_of(drawn, catalog)
    apart = list(quarantine)
    refused = [_refused(row) for row in apart[:REFUSED]]
    foreign = report["modalities"]["not_english"]
    template = Environment(autoescape=True, undefined=StrictUndefined).from_string(
        _TEMPLATE.read_text(encoding="utf-8")
    )
    total, duplicates = report["conversations"], report["duplicates"]
    text = template.render(
        title=_clean(title),
        subtitle=f"{total['total']:,} conversations ({counted(total['by_split'])}); language: "
        f"{counted(total['by_language'])}",
        figures=_figures(report),
        histograms=[
            _histogram("Turns with a track", report["turns"]),
            _histogram("Words of a user message", report["user_words"]),
            _histogram("Words of a reply", report["assistant_words"]),
        ],
        modalities=_modalities(report["modalities"]),
        rejects=_rejects(report.get("rejects")),
        ratings=_ratings(judge),
        judge=judge,
        intents=_intents(report["intents"]),
        talks=[_talk(one, tracks) for one in drawn],
        refused=refused,
        refused_of=len(apart),
        note=f"Intents and modalities are read from {report['sampled']:,} conversations"
        + (f", of which {foreign:,} are not English: {NOT_READ}. " if foreign else ". ")
        + f"Near-duplicates: {duplicates['note']} ({duplicates['compared']:,} compared).",
    )
    files.write_text(path, _UNSHOWN.sub("\ufffd", text))


def _clean(text: str, longest: int = LONGEST) -> str:
    text = _UNSHOWN.sub("\ufffd", text)
    left = len(text) - longest
    return text if left <= 0 else f"{text[:longest]}… ({left:,} more characters)"


def _talk(conversation: Conversation, tracks: Mapping[str, Track]) -> dict[str, Any]:
    messages = []
    first = True
    for message in conversation.messages:
        if message.role == "music":
            messages.append(_track(message, tracks.get(message.track_id or "")))
            continue
        shown: dict[str, Any] = {"role": message.role, "text": _clean(message.content)}
        shown["intents"] = []
        if message.role == "user":
            shown["intents"] = _labels(message, first, english(conversation))
            first = False
        messages.append(shown)
    return {
        "name": conversation.conversation_id,
        "split": conversation.split,
        "language": conversation.language,
        "playlist": conversation.playlist_id,
        "messages": messages,
    }


def _labels(message: Message, first: bool, readable: bool) -> list[dict[str, Any]]:
    """The intents of a user message: those declared, else those found."""
    found = not message.intents
    names = frozenset(message.intents)
    if found and readable:
        names = detect_intents(message.content, first=first)
    return [
        {"name": name, "topic": intent.kind == TOPIC, "found": found, "title": intent.description}
        for name, intent in taxonomy().items()
        if name in names
    ]


def _track(message: Message, track: Track | None) -> dict[str, Any]:
    shown: dict[str, Any] = {"role": "music", "negative": message.source == "negative"}
    if track is None:
        name = message.track_id or "?"
        return shown | {
            "title": _clean(name, 200), "artist": "not in the catalog", "facts": "", "tags": [],
            "hue": _hue(name),
        }  # fmt: skip
    facts = [_clean(track.album, 80)] if track.album else []
    facts += [str(track.year)] if track.year is not None else []
    facts += [f"{track.tempo:.0f} bpm"] if track.tempo is not None else []
    facts += [track.key] if track.key else []
    return shown | {
        "title": _clean(track.title, 200),
        "artist": _clean(track.artist, 200),
        "facts": " · ".join(facts),
        "tags": [_clean(tag, 40) for tag in track.tags[:TAGS]],
        "hue": _hue(track.artist),
    }


def _hue(text: str) -> int:
    return crc32(text.encode("utf-8", "replace")) % 360


def _refused(row: Mapping[str, Any]) -> dict[str, Any]:
    answer = row.get("answer")
    return {
        "name": str(row.get("piece_id") or ""),
        "reasons": [(str(one), REASONS.get(str(one), "")) for one in row.get("reasons") or ()],
        "details": [_clean(str(detail), 400) for detail in row.get("details") or ()],
        "text": None if answer is None else _clean(str(answer)),
    }


def _figures(report: Mapping[str, Any]) -> list[dict[str, str]]:
    diversity, music = report["diversity"], report["music"]
    sample, duplicates = diversity["sample"], report["duplicates"]
    rows = [
        ("conversations", f"{report['conversations']['total']:,}", ""),
        ("turns, mean", _number(report["turns"]["mean"]), "turns with a track, a conversation"),
        ("words a user message", _number(report["user_words"]["mean"]), "mean"),
        ("words a reply", _number(report["assistant_words"]["mean"]), "mean"),
        ("vocabulary", f"{diversity['vocabulary']:,}", "distinct words, case aside"),
        (
            f"distinct-2 of {sample['conversations']:,}",
            _number(sample["distinct"]["2"], 3),
            "distinct word pairs over all word pairs, of a sample of fixed size",
        ),
        ("exact duplicates", _percent(duplicates["exact"]), ""),
        ("near-duplicates", _percent(duplicates["near"]), duplicates["note"]),
        ("negative tracks", _percent(music["negative"]), "of all tracks that are played"),
        ("replies name the title", _percent(report["naming"]["title"]), ""),
    ]
    rejects = report.get("rejects")
    if rejects:
        rows.append(("pieces kept", _percent(rejects["kept"]), "of all pieces of playlists"))
    return [{"name": name, "value": value, "title": title} for name, value, title in rows]


def _histogram(name: str, part: Mapping[str, Any]) -> dict[str, Any]:
    counts = part["histogram"]
    tallest = max(counts.values(), default=0) or 1
    wide = 300 / max(1, len(counts))
    every = max(1, len(counts) // 10)
    bars = []
    for at, (label, count) in enumerate(counts.items()):
        bar = {"x": (at + 0.08) * wide, "middle": (at + 0.5) * wide, "width": 0.84 * wide}
        bar["height"] = 84 * count / tallest
        end = label.split("-")[-1] if at % every == 0 else ""
        rounded = {key: round(value, 2) for key, value in bar.items()}
        bars.append({"name": label, "end": end, "count": f"{count:,}", **rounded})
    text = "none"
    if bars:
        text = f"mean {part['mean']:.2f}, median {part['median']}, most {part['max']:,}"
    return {"name": name, "bars": bars, "text": text}


def _bar(name: str, text: str, *shares: float | None, title: str = "") -> dict[str, Any]:
    parts = [100 * min(1.0, share or 0.0) for share in shares]
    return {"name": name, "text": text, "parts": parts, "title": title}


def _modalities(modalities: Mapping[str, Any]) -> list[dict[str, Any]]:
    rows = []
    for name in SPOKEN:
        user, reply = (modalities[role][name]["messages"] for role in ("user", "assistant"))
        rows.append(_bar(name, f"{_percent(user, 0)} · {_percent(reply, 0)}", user, reply))
    return rows


def _intents(intents: Mapping[str, Any]) -> list[dict[str, Any]]:
    titles = {ACT: "What users do (share of messages)", TOPIC: "What they ask about"}
    return [
        {
            "name": title,
            "rows": [
                _bar(name, _percent(row["messages"]), row["messages"],
                     title=taxonomy()[name].description)
                for name, row in intents["by_intent"].items()
                if row["kind"] == kind
            ],
        }
        for kind, title in titles.items()
    ]  # fmt: skip


def _rejects(rejects: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    if not rejects:
        return []
    ordered = sorted(rejects["first_answers"].items(), key=lambda item: (-item[1], item[0]))
    return [
        _bar(name.replace("_", " "), _percent(share), share, title=REASONS.get(name, ""))
        for name, share in ordered
    ]


def _ratings(judge: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    if judge is None:
        return []
    low, high = judge["scale"]
    return [
        _bar(name, f"{row['mean']:.2f}", (row["mean"] - low) / (high - low),
             title=f"95 %: {row['low']:.2f} to {row['high']:.2f}")
        for name, row in judge["scores"].items()
    ]  # fmt: skip


def _number(value: float | None, digits: int = 2) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def _percent(value: float | None, digits: int = 1) -> str:
    return "–" if value is None else f"{100 * value:.{digits}f} %"
