"""What the lists of a system are like as a whole: how broad, how popular, how varied.

A system can find the right track and still show everybody the same few. These figures do not look
at what was right, so they are read beside the ranking metrics, never alone.
"""

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import rankdata

from talkplay_hf.errors import InputError
from talkplay_hf.evaluation.metrics.ranking import IntArray


def list_metrics(rows: IntArray, popularity: ArrayLike, artists: ArrayLike) -> dict[str, float]:
    """All figures of this module, by name and length of the lists.

    Args:
        rows (`numpy.ndarray` of shape `(turns, k)`, int): The track rows of each list, -1 where a
            list is shorter.
        popularity (`numpy.ndarray` of shape `(tracks,)`, float64): How popular each track of the
            catalog is, such as in how many training playlists it stands.
        artists (`numpy.ndarray` of shape `(tracks,)`): The artist of each track of the catalog.

    Returns:
        `dict[str, float]`: `"coverage@k"`, `"gini@k"`, `"popularity_rank@k"` and `"artists@k"`.
    """
    k, tracks = rows.shape[1], len(np.asarray(popularity))
    return {
        f"coverage@{k}": catalog_coverage(rows, tracks),
        f"gini@{k}": gini(exposure(rows, tracks)),
        f"popularity_rank@{k}": mean_popularity_rank(rows, popularity),
        f"artists@{k}": artist_diversity(rows, artists),
    }


def exposure(rows: IntArray, tracks: int) -> IntArray:
    """How often each track of the catalog is shown.

    Args:
        rows (`numpy.ndarray` of shape `(turns, k)`, int): The lists, padded with -1.
        tracks (`int`): How many tracks the catalog has.

    Returns:
        `numpy.ndarray` of shape `(tracks,)`, int64.

    Raises:
        InputError: If the lists show nothing, or a track that the catalog does not have.
    """
    shown = rows[rows >= 0]
    if not shown.size:
        raise InputError("the lists hold no track")
    if shown.max() >= tracks:
        raise InputError(f"a list holds row {shown.max()} of a catalog of {tracks} tracks")
    return np.bincount(shown, minlength=tracks)


def catalog_coverage(rows: IntArray, tracks: int) -> float:
    """The share of the catalog that is in at least one list.

    Catalog coverage after Ge, Delgado-Battenfeld and Jannach (RecSys 2010). It grows with the
    number of turns, so only figures over the same turns can be compared.

    Args:
        rows (`numpy.ndarray` of shape `(turns, k)`, int): The lists, padded with -1.
        tracks (`int`): How many tracks the catalog has.
    """
    return float(np.count_nonzero(exposure(rows, tracks)) / tracks)


def gini(counts: ArrayLike) -> float:
    """The Gini coefficient of exposure: 0 where all tracks are shown alike, near 1 where one is.

    Half the mean absolute difference between two tracks over the mean (Gini, 1912; for
    recommendations, Fleder and Hosanagar, Management Science 2009). Tracks that are never shown
    count, so one track alone gives `1 - 1 / tracks`.

    Args:
        counts (`numpy.ndarray` of shape `(tracks,)`): How often each track is shown.
    """
    ordered = np.sort(np.asarray(counts, dtype=np.float64))
    n = len(ordered)
    return float(((2 * np.arange(1, n + 1) - n - 1) @ ordered) / (n * ordered.sum()))


def mean_popularity_rank(rows: IntArray, popularity: ArrayLike) -> float:
    """The mean popularity rank of what is shown: 1 is the most popular track of the catalog.

    The average recommendation popularity of Abdollahpouri et al. (FLAIRS 2019) by rank instead of
    by count, so that a few very popular tracks do not decide it. Tracks that are equally popular
    share their mean rank. All of the catalog shown alike gives `(tracks + 1) / 2`.

    Args:
        rows (`numpy.ndarray` of shape `(turns, k)`, int): The lists, padded with -1.
        popularity (`numpy.ndarray` of shape `(tracks,)`, float64): Larger is more popular.

    Raises:
        InputError: If a popularity is NaN.
    """
    values = np.asarray(popularity, dtype=np.float64)
    if np.isnan(values).any():
        raise InputError("a popularity is NaN, so the tracks cannot be ranked by it")
    counts = exposure(rows, len(values))
    return float(counts @ rankdata(-values) / counts.sum())


def artist_diversity(rows: IntArray, artists: ArrayLike) -> float:
    """The mean over the lists of distinct artists by tracks: 1 where no artist stands twice.

    What is varied within a list is its intra-list diversity (Ziegler et al., WWW 2005); here two
    tracks are alike where the artist is the same. Empty lists do not count.

    Args:
        rows (`numpy.ndarray` of shape `(turns, k)`, int): The lists, padded with -1.
        artists (`numpy.ndarray` of shape `(tracks,)`): The artist of each track of the catalog.
    """
    codes = np.unique(np.asarray(artists), return_inverse=True)[1]
    exposure(rows, len(codes))
    turn, place = np.nonzero(rows >= 0)
    pairs = np.unique(turn * len(codes) + codes[rows[turn, place]])
    distinct = np.bincount(pairs // len(codes), minlength=len(rows))
    lengths = np.bincount(turn, minlength=len(rows))
    full = lengths > 0
    return float(np.mean(distinct[full] / lengths[full]))
