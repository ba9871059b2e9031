"""The sections about what the model was made from: its training and its codebooks."""

from collections.abc import Mapping, Sequence
from typing import Any

from talkplay_hf.evaluation.page.blocks import Cell, Section, Table
from talkplay_hf.evaluation.page.charts import Point, Series, line_chart
from talkplay_hf.evaluation.page.svg import Chart, Style
from talkplay_hf.evaluation.page.text import number, percent

# a line of more points is drawn as means of neighbours
MOST_POINTS = 150
_LOSSES = (
    ("loss_conversations", "conversations, training", Style(0, "6 3")),
    ("eval_conversations_loss", "conversations, validation", Style(0, width=2.2)),
    ("loss_playlists", "playlists, training", Style(1, "6 3")),
    ("eval_playlists_loss", "playlists, validation", Style(1, mark=1, width=2.2)),
)


def training_section(report: Mapping[str, Any]) -> Section | None:
    """Loss curves, after Figure 2 of the paper."""
    training: Mapping[str, Any] = report.get("training") or {}
    log = training.get("log") or ()
    if not log:
        return None
    size = -(-len(log) // MOST_POINTS)
    lines = [_series(log, key, name, style) for key, name, style in _LOSSES]
    drawn = [line for line in lines if line.points]
    if not drawn:
        drawn = [_series(log, "loss", "training", _LOSSES[0][2])]
    charts = []
    if drawn[0].points:
        charts.append(
            _chart("loss", "Loss", drawn, "cross-entropy, nats a label token (logarithmic)", size)
        )
    similarity = _series(log, "self_similarity", "self-similarity loss", Style(2))
    if similarity.points:
        charts.append(
            _chart("self_similarity", "Self-similarity", [similarity],
                   "self-similarity loss (logarithmic)", size)
        )  # fmt: skip
    facts = [
        ("base model", training.get("base_model")),
        ("parameters", training.get("parameters")),
        ("steps", training.get("steps")),
        ("tokens seen", training.get("tokens_seen")),
        ("seed", training.get("seed")),
    ]
    best = training.get("best")
    rows = [[Cell(name), Cell(f"{v:,}" if isinstance(v, int) else str(v))]
            for name, v in facts if v is not None]  # fmt: skip
    if best:
        rows.append([Cell("best validation loss"),
                     Cell(f"{best['value']:.4f} at step {best['step']:,}")])  # fmt: skip
    for name, value in sorted((training.get("evaluation") or {}).items()):
        if name in ("eval_conversations_loss", "eval_playlists_loss"):
            what = name.removeprefix("eval_").removesuffix("_loss")
            rows.append([Cell(f"validation loss of {what}, in the end"), Cell(f"{value:.4f}")])
    if not charts and not rows:
        return None
    return Section(
        "training",
        "How it was trained",
        "Lower loss is better. Training that falls while validation rises is learning by heart. "
        "The self-similarity loss says how far the token embeddings are from the geometry of the "
        "codebooks.",
        charts=charts,
        tables=[Table(("", ""), rows, words=True)],
    )


def _series(log: Sequence[Mapping[str, Any]], key: str, name: str, style: Style) -> Series:
    # of two values at one step the later one counts, as after going on from a checkpoint
    found = {entry["step"]: entry[key] for entry in log if entry.get(key, 0) > 0}
    points = [Point(float(step), float(value)) for step, value in sorted(found.items())]
    size = -(-len(points) // MOST_POINTS)
    if size > 1:
        groups = [points[at : at + size] for at in range(0, len(points), size)]
        points = [
            Point(sum(p.x for p in g) / len(g), sum(p.value for p in g) / len(g)) for g in groups
        ]
    return Series(name, style, points, band=False, marks=len(points) <= 25)


def _chart(name: str, title: str, series: list[Series], label: str, size: int) -> Chart:
    told = "; ".join(
        f"{one.name} {one.points[0].value:.3f} to {one.points[-1].value:.3f}" for one in series
    )
    return line_chart(
        name, title, f"{title} over training steps, first and last: {told}.", series,
        x_label="step", y_label=label, log_y=True,
        note=f"Lines of very many points are drawn as means of up to {size} neighbours."
        if size > 1 else "",
    )  # fmt: skip


def codebooks_section(report: Mapping[str, Any]) -> Section | None:
    """How well the five codebooks tell tracks apart."""
    health: Mapping[str, Any] = report.get("codebooks") or {}
    modalities = health.get("modalities") or {}
    if not modalities:
        return None
    rows = []
    for name, one in sorted(modalities.items()):
        rare = one.get("training") or {}
        rows.append(
            [
                Cell(name),
                Cell(f"{one['used']:,}", f"of {one['codes']:,}"),
                Cell(number(one["perplexity"], 1)),
                Cell(percent(one["largest_share"])),
                Cell(percent(one["explained"]) if "explained" in one else "–"),
                Cell(f"{rare['below_10']:,}" if "below_10" in rare else "–"),
            ]
        )
    head = ("modality", "codes in use", "perplexity", "share of the largest", "variance explained",
            "codes seen below 10 times in training")  # fmt: skip
    note = (
        f"{health['tracks']:,} tracks have {health['distinct_tuples']:,} different tuples of "
        f"codes; {percent(health['collision_rate'])} of tracks share theirs with another one, at "
        f"most {health['largest_bucket']:,} together. Such tracks are tied."
    )
    return Section(
        "codebooks",
        "The music tokens",
        "Each modality has its codebook; a track is one code of each. Perplexity is how many codes "
        "are in even use; variance explained is how much of the vectors a code keeps.",
        tables=[Table(head, rows, note=note)],
    )
