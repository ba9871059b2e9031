"""Loss curves drawn to PNG files, after Figure 2 of the paper."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from talkplay_hf.errors import MissingExtraError
from talkplay_hf.training.runs import METRIC

Log = Sequence[Mapping[str, Any]]
Series = tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]

COLOURS = ("#4477aa", "#ee6677", "#228833", "#aa3377", "#ccbb44", "#66ccee")
PART_COLOURS = {"conversations": COLOURS[0], "playlists": COLOURS[1]}
SIMILARITY = COLOURS[2]
# from so many points on, the training loss is drawn smoothed over its pale original
SMOOTH_FROM = 100
SMOOTH_SHARE = 0.02


def series(log: Log, key: str) -> Series:
    """The steps and values of one figure of a trainer's log.

    Args:
        log (`Sequence[Mapping[str, Any]]`): The trainer's log.
        key (`str`): The figure.

    Returns:
        `tuple[np.ndarray, np.ndarray]`: Steps, each once and in order, and values. Of two values at
        one step the later one counts, as after going on from a checkpoint.
    """
    found = {entry["step"]: entry[key] for entry in log if key in entry}
    steps = sorted(found)
    return np.array(steps, dtype=float), np.array([found[step] for step in steps], dtype=float)


def best(log: Log, metric: str | None = None) -> dict[str, Any] | None:
    """The step with the lowest validation loss.

    Args:
        log (`Sequence[Mapping[str, Any]]`): The trainer's log.
        metric (`str`, *optional*): The loss to look at; that of the conversations by default.

    Returns:
        `dict[str, Any]`, *optional*: `metric`, `step` and `value`, or `None` if it was not logged.
    """
    metric = metric or METRIC
    seen = [
        (entry[metric], entry["step"])
        for entry in log
        if metric in entry and math.isfinite(entry[metric])
    ]
    if not seen:
        return None
    value, step = min(seen)
    return {"metric": metric, "step": step, "value": value}


def smoothed(values: np.ndarray[Any, Any], width: int) -> np.ndarray[Any, Any]:
    """Centred moving mean over `width` values, over fewer at the ends."""
    kernel = np.ones(width)
    sums = np.convolve(values, kernel, "same")
    return np.asarray(sums / np.convolve(np.ones_like(values), kernel, "same"))


def draw_curves(log: Log, path: str | Path, title: str = "", metric: str | None = None) -> None:
    """Draw the losses of one training: cross-entropy by part above, self-similarity below.

    Validation is drawn with dots, training without; a training loss of many points is smoothed,
    which the legend says. The best step is marked. The same log gives the same bytes.

    Args:
        log (`Sequence[Mapping[str, Any]]`): The trainer's log.
        path (`str` or `Path`): The PNG file.
        title (`str`): A title.
        metric (`str`, *optional*): The validation loss by which the best step is marked; that of
            the conversations by default.

    Raises:
        MissingExtraError: If matplotlib is absent.
    """
    below = any("self_similarity" in key for entry in log for key in entry)
    figure, axes = _panels(2 if below else 1)
    names = [name for name in PART_COLOURS if len(series(log, f"loss_{name}")[0])]
    for name in names:
        points = series(log, f"loss_{name}")
        _draw(axes[0], points, PART_COLOURS[name], f"{name}, training", smooth=True)
    if not names:
        _draw(axes[0], series(log, "loss"), "#777777", "training", smooth=True)
    for name, colour in PART_COLOURS.items():
        points = series(log, f"eval_{name}_loss")
        _draw(axes[0], points, colour, f"{name}, validation", dots=True)
    found = best(log, metric)
    if found:
        _mark(axes[0], found)
    axes[0].set_ylabel("cross-entropy (nats a label token)")
    if below:
        _draw(axes[1], series(log, "self_similarity"), SIMILARITY, "")
        axes[1].set_ylabel("self-similarity loss")
    _finish(figure, axes, path, title)


def compare_curves(runs: Mapping[str, Log | Sequence[Log]], path: str | Path) -> None:
    """Draw several trainings in one figure: a colour each name, a thin line each seed.

    Above the cross-entropy of the conversations in training and validation, below the
    self-similarity loss.

    Args:
        runs (`Mapping[str, Log | Sequence[Log]]`): For each name one trainer's log, or those of
            several seeds. Names should be six at most.
        path (`str` or `Path`): The PNG file.

    Raises:
        MissingExtraError: If matplotlib is absent.
    """
    logs = {name: _seeds(run) for name, run in runs.items()}
    every = [log for seeds in logs.values() for log in seeds]
    below = any("self_similarity" in key for log in every for entry in log for key in entry)
    figure, axes = _panels(2 if below else 1)
    for number, (name, seeds) in enumerate(logs.items()):
        colour = COLOURS[number % len(COLOURS)]
        for seed, log in enumerate(seeds):
            label = "" if seed else f"{name}, "
            train = series(log, "loss_conversations")
            train = train if len(train[0]) else series(log, "loss")
            points = series(log, "eval_conversations_loss")
            _draw(axes[0], train, colour, label and f"{label}training", smooth=True, thin=True)
            _draw(axes[0], points, colour, label and f"{label}validation", dots=True, thin=True)
            found = best(log)
            if found:
                axes[0].plot(found["step"], found["value"], "*", color=colour, ms=10, zorder=5)
            if below:
                drawn = series(log, "self_similarity")
                _draw(axes[1], drawn, colour, "" if seed else name, thin=True)
    if any(map(best, every)):
        axes[0].plot([], [], "*", color="#777777", ms=10, label="best of a run")
    axes[0].set_ylabel("cross-entropy of conversations (nats a label token)")
    if below:
        axes[1].set_ylabel("self-similarity loss")
    _finish(figure, axes, path, "")


def _seeds(run: Log | Sequence[Log]) -> list[Log]:
    first = next(iter(run), None)
    return [run] if first is None or isinstance(first, Mapping) else list(run)  # type: ignore[list-item, arg-type]


def _panels(count: int) -> tuple[Any, Any]:
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingExtraError(
            "curves need matplotlib; install it with `pip install 'talkplay-hf[plots]'`"
        ) from None
    figure = Figure(figsize=(9, 3 + 1.9 * count), layout="constrained")
    FigureCanvasAgg(figure)
    heights = [2.2, 1][:count]
    axes = figure.subplots(count, 1, sharex=True, squeeze=False, height_ratios=heights)
    return figure, axes[:, 0]


def _draw(
    axis: Any,
    points: Series,
    colour: str,
    label: str,
    *,
    smooth: bool = False,
    dots: bool = False,
    thin: bool = False,
) -> None:
    steps, values = points
    if not len(steps):
        return
    width = 1.0 if thin else 1.6
    if dots:
        marker = "o" if len(steps) <= 60 else ""
        axis.plot(steps, values, marker, ls="-", color=colour, lw=width, ms=4, label=label or None)
        return
    style = "--" if smooth else "-"
    if smooth and len(values) >= SMOOTH_FROM:
        # many thin lines over each other need more of it
        over = max(3, round(SMOOTH_SHARE * len(values) * (2 if thin else 1)))
        if not thin:
            axis.plot(steps, values, color=colour, lw=0.6, alpha=0.2)
        values = smoothed(values, over)
        label = label and f"{label} (mean of {over} points)"
    axis.plot(steps, values, style, color=colour, lw=width, label=label or None)


def _mark(axis: Any, found: Mapping[str, Any]) -> None:
    axis.axvline(found["step"], color="#999999", lw=0.8, ls=":")
    axis.plot(
        found["step"],
        found["value"],
        "*",
        color="black",
        markersize=11,
        ls="",
        label=f"best: {found['value']:.3f} at step {found['step']:,}",
        zorder=5,
    )


def _finish(figure: Any, axes: Any, path: str | Path, title: str) -> None:
    from matplotlib.ticker import MaxNLocator

    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(axis="y", color="#dddddd", linewidth=0.6)
        axis.set_axisbelow(True)
        if axis.get_legend_handles_labels()[0]:
            axis.legend(frameon=False, fontsize=8)
    axes[-1].set_xlabel("step")
    axes[-1].xaxis.set_major_locator(MaxNLocator(integer=True))
    axes[-1].xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    if title:
        axes[0].set_title(title, fontsize=11, loc="left")
    # no software and date inside, so that the same log gives the same bytes
    figure.savefig(path, dpi=150, format="png", metadata={"Software": None})
