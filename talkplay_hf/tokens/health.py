"""How well the codebooks are used: a report, its table and its picture."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from talkplay_hf.catalog.schema import MODALITIES, Catalog
from talkplay_hf.catalog.splits import training_playlists
from talkplay_hf.errors import InputError, MissingExtraError
from talkplay_hf.tokens.kmeans import blocks

RARE = 10


def health(
    codes: np.ndarray,
    sizes: Sequence[int],
    names: Sequence[str],
    *,
    distortions: Sequence[Mapping[str, float]] | None = None,
    training: np.ndarray | None = None,
) -> dict[str, Any]:
    """How well the codes are used.

    Args:
        codes (`np.ndarray` of shape `[n, modalities]`, int): Codes of all tracks.
        sizes (`Sequence[int]`): K per modality.
        names (`Sequence[str]`): Modality names.
        distortions (`Sequence[Mapping]`, *optional*): The `distortion` of each codebook.
        training (`np.ndarray` of shape `[n]`, int, *optional*): How often each track stands in a
            training playlist, see `training_counts`.

    Returns:
        `dict[str, Any]`: Per modality the used codes, perplexity, share of the largest code,
        distortion, and under `training` how often its tokens occur in the training playlists
        (`histogram`: tokens that never occur, once, 2 to 3 times, 4 to 7 times and so on); over
        all, the distinct tuples, the largest bucket, the share of tracks that share their tuple
        with another, and under `bucket_sizes` how many buckets have each size.
    """
    report: dict[str, Any] = {"modalities": {}}
    for m, (name, size) in enumerate(zip(names, sizes, strict=True)):
        counts = np.bincount(codes[:, m], minlength=size)
        p = counts[counts > 0] / counts.sum()
        values: dict[str, Any] = {
            "codes": int(size),
            "used": int((counts > 0).sum()),
            "perplexity": float(np.exp(-(p * np.log(p)).sum())),
            "largest_share": float(p.max()),
        }
        if distortions is not None:
            values |= distortions[m]
        if training is not None:
            values["training"] = _occurrences(
                np.bincount(codes[:, m], weights=training, minlength=size).astype(np.int64)
            )
        report["modalities"][name] = values
    _, bucket = np.unique(codes, axis=0, return_counts=True)
    lengths, buckets = np.unique(bucket, return_counts=True)
    report |= {
        "tracks": len(codes),
        "distinct_tuples": len(bucket),
        "largest_bucket": int(bucket.max()),
        "collision_rate": float(bucket[bucket > 1].sum() / len(codes)),
        "bucket_sizes": np.stack([lengths, buckets], axis=1).tolist(),
    }
    return report


def distortion(
    vectors: np.ndarray, rows: np.ndarray, codes: np.ndarray, centroids: np.ndarray
) -> dict[str, float]:
    """How near the centroids are to the vectors that they stand for.

    Args:
        vectors (`np.ndarray` of shape `[n, d]`, float32): The vectors, in memory or mapped.
        rows (`np.ndarray` of shape `[used]`, int): The rows that the codebook was fitted on, or
            that a draw was taken of.
        codes (`np.ndarray` of shape `[n]`, int): Codes of all tracks.
        centroids (`np.ndarray` of shape `[clusters, d]`, float32): The centroids.

    Returns:
        `dict[str, float]`: `fitted_on`, the number of rows; `inertia`, the mean squared distance to
        the centroid; `random_inertia`, the same that is expected of codes drawn at random;
        `explained`, the share of the variance that the codes explain. The number alone where there
        are no rows.
    """
    if not len(rows):
        return {"fitted_on": 0}
    book = centroids.astype(np.float64)
    # distances from the middle: a large common offset would drown the differences
    middle = book.mean(axis=0)
    around = book - middle
    inertia, squares, total = 0.0, 0.0, np.zeros(book.shape[1])
    for at, block in blocks(vectors, rows):
        shifted = block - middle
        inertia += float(((shifted - around[codes[rows[at]]]) ** 2).sum())
        squares += float((shifted**2).sum())
        total += shifted.sum(axis=0)
    n = len(rows)
    # the centroids average to the middle, so the cross term of a random code is zero
    random = squares / n + float((around**2).sum(axis=1).mean())
    variance = squares / n - float(((total / n) ** 2).sum())
    return {
        "fitted_on": n,
        "inertia": inertia / n,
        "random_inertia": random,
        "explained": 1 - inertia / n / variance if variance > 1e-12 * squares / n else 1.0,
    }


def training_counts(catalog: Catalog) -> np.ndarray | None:
    """How often each track stands in a training playlist, int64 `[n]`; `None` without playlists."""
    if not catalog.playlists.num_rows:
        return None
    return np.bincount(training_playlists(catalog).rows, minlength=len(catalog))


def _occurrences(counts: np.ndarray) -> dict[str, Any]:
    """Minimum, median and maximum of the occurrences of tokens, and how many are rare."""
    powers = np.zeros(len(counts), dtype=np.int64)
    powers[counts > 0] = np.floor(np.log2(counts[counts > 0])).astype(np.int64) + 1
    return {
        "min": int(counts.min()),
        "median": float(np.median(counts)),
        "max": int(counts.max()),
        "never": int((counts == 0).sum()),
        f"below_{RARE}": int((counts < RARE).sum()),
        "histogram": np.bincount(powers).tolist(),
    }


def health_text(report: Mapping[str, Any]) -> str:
    """The health report as a text table."""
    titles = ("modality", "codes", "used", "perplexity", "largest", "explained", "vs random")
    occurs = ("min", "median", "max", "never", f"< {RARE}")
    trained = any("training" in values for values in report["modalities"].values())
    lines = []
    if trained:
        lines.append(" " * 79 + "occurrences in training")
    lines.append(_line(titles, occurs if trained else ()))
    for name, values in _in_order(report):
        head = [
            name,
            f"{values['codes']:,}",
            f"{values['used']:,}",
            f"{values['perplexity']:,.1f}",
            f"{values['largest_share']:.1%}",
            f"{values['explained']:.1%}" if "explained" in values else "-",
            _ratio(values),
        ]
        seen = values.get("training")
        tail = (
            [
                f"{seen['min']:,}",
                f"{seen['median']:,.0f}",
                f"{seen['max']:,}",
                f"{seen['never']:,}",
                f"{seen[f'below_{RARE}']:,}",
            ]
            if seen
            else []
        )
        lines.append(_line(head, tail))
    lines.append(
        f"{report['distinct_tuples']:,} distinct tuples for {report['tracks']:,} tracks; "
        f"{report['collision_rate']:.1%} of the tracks share theirs, at most "
        f"{report['largest_bucket']:,} tracks one"
    )
    return "\n".join(lines)


def _in_order(report: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """The modalities in token order, which a JSON file does not keep."""
    order = {name: place for place, name in enumerate(MODALITIES)}
    return sorted(report["modalities"].items(), key=lambda item: order.get(item[0], len(order)))


def _ratio(values: Mapping[str, Any]) -> str:
    """Inertia against random codes; the smaller, the more a code says."""
    if not values.get("random_inertia"):
        return "-"
    return f"{values['inertia'] / values['random_inertia']:.3f}"


def _line(head: Sequence[str], tail: Sequence[str]) -> str:
    name, *rest = head
    text = f"{name:<10}" + "".join(f"{value:>11}" for value in rest)
    return text + "".join(f"{value:>8}" for value in tail)


def check_plot(path: str | Path) -> None:
    """Check that a picture can be drawn to a file, before the work that it is to show.

    Raises:
        InputError: If the name does not end in .png, or its folder does not exist.
        MissingExtraError: If matplotlib is absent.
    """
    path = Path(path)
    if path.suffix.lower() != ".png":
        raise InputError(f"{path}: the name of a plot must end in .png")
    if not path.parent.is_dir():
        raise InputError(f"{path}: there is no folder {path.parent}")
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError:
        raise MissingExtraError(
            "plots need matplotlib; install it with `pip install 'talkplay-hf[plots]'`"
        ) from None


def plot_health(report: Mapping[str, Any], path: str | Path) -> None:
    """Draw the health report: sizes of the buckets, and occurrences of the tokens in training.

    Args:
        report (`Mapping[str, Any]`): The report of `health`.
        path (`str` or `Path`): The PNG file to write.

    Raises:
        InputError: If the picture cannot be written there, see `check_plot`.
        MissingExtraError: If matplotlib is absent.
    """
    check_plot(path)
    from matplotlib.figure import Figure

    trained = {
        name: values["training"]["histogram"]
        for name, values in _in_order(report)
        if "training" in values
    }
    figure = Figure(figsize=(10 if trained else 5.5, 4), layout="constrained")
    axes = figure.subplots(1, 2 if trained else 1, squeeze=False)[0]
    _plot_buckets(axes[0], report)
    if trained:
        _plot_occurrences(axes[1], trained)
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(axis="y", color="#dddddd", linewidth=0.6)
        axis.set_axisbelow(True)
    # no date inside, so that the same report gives the same bytes
    figure.savefig(path, dpi=150, metadata={"Software": None})


def _bins(count: int) -> list[str]:
    """Names of the ranges 1, 2 to 3, 4 to 7, ..."""
    names = ["1"]
    for power in range(1, count):
        low, high = 1 << power, 2 << power
        names.append(f"{low}–{high - 1}" if power < 10 else f"{low >> 10}k–{high >> 10}k")
    return names[:count]


def _plot_buckets(axis: Any, report: Mapping[str, Any]) -> None:
    sizes, buckets = np.array(report["bucket_sizes"]).T
    power = np.floor(np.log2(sizes)).astype(np.int64)
    heights = np.bincount(power, weights=buckets).astype(np.int64)
    bars = axis.bar(np.arange(len(heights)), heights, color="#4477aa", width=0.8)
    axis.bar_label(bars, [f"{h:,}" if h else "" for h in heights], fontsize=8, padding=2)
    axis.set_yscale("log")
    axis.set_ylim(0.7, heights.max() * 3)
    axis.set_xticks(np.arange(len(heights)), _bins(len(heights)))
    axis.set_xlabel("tracks that share one tuple of codes")
    axis.set_ylabel("tuples")
    axis.set_title(
        f"{report['tracks']:,} tracks, {report['distinct_tuples']:,} tuples", fontsize=10
    )


def _plot_occurrences(axis: Any, histograms: Mapping[str, Sequence[int]]) -> None:
    colours = ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#aa3377")
    width = max(map(len, histograms.values()))
    for colour, (name, counts) in zip(colours, histograms.items(), strict=False):
        share = np.pad(np.array(counts), (0, width - len(counts))) / sum(counts)
        axis.plot(np.arange(width), share, "o-", color=colour, label=name, markersize=4)
    axis.set_xticks(np.arange(width), ["0", *_bins(width - 1)], rotation=45, ha="right")
    axis.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    axis.set_ylim(0, None)
    axis.set_xlabel("occurrences in training playlists")
    axis.set_ylabel("share of the tokens of a modality")
    axis.legend(frameon=False, fontsize=8)
    axis.set_title("How often the model meets each token", fontsize=10)
