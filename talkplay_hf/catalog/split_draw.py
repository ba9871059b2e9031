"""The drawing of a split: which playlists train, which validate, which test (paper 3.3)."""

from collections import deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from talkplay_hf.catalog.membership import Membership
from talkplay_hf.catalog.near_duplicates import (
    near_duplicate_groups,
    near_duplicate_pairs,
    numbered,
)
from talkplay_hf.errors import ConfigError, InputError

SPLITS = ("train", "validation", "test")
"""The splits that are drawn."""

CHALLENGE, EXCLUDED = "challenge", "excluded"
"""The RecSys 2018 challenge set, and the near-duplicates of playlists that are held out."""

LABELS = (*SPLITS, CHALLENGE, EXCLUDED)
"""All that the column `split` may say."""

METHODS = ("auto", "chronological", "random")
NEAR_DUPLICATES = ("exclude", "keep")
FEWEST, MOST = 10, 1000
DATED_SHARE = 0.9
_DAY = r"^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])"
_NO_DAY = -np.iinfo(np.int64).max  # its negative is a number too


@dataclass(frozen=True)
class SplitOptions:
    """How to split playlists.

    Args:
        method (`str`): `"chronological"` tests on playlists of the last date (paper 3.3),
            `"random"` on random groups of near-duplicates; `"auto"` is chronological where at least
            90 % of the playlists have a date with a day, there is more than one day, and
            near-duplicates do not cost training more playlists than they leave it; else random.
        test (`int` or `float`, *optional*): How many playlists test, or which share of them. By
            default 1,000 or a tenth, whichever is smaller (paper: 1,000); a tenth in the random
            split.
        validation (`int` or `float`, *optional*): The same for validation. By default 1,000 or a
            twentieth, whichever is smaller; a twentieth in the random split.
        near_duplicates (`str`): `"exclude"` keeps near-duplicates of held-out playlists out of
            training (two playlists of which one holds at least half of the other's distinct
            tracks); `"keep"` lets them train, as the paper does. A random split keeps
            near-duplicates on one side instead, or with `"keep"` does not look for them.
        seed (`int`): The same seed draws the same playlists.

    Raises:
        ConfigError: If a value is impossible.
    """

    method: str = "auto"
    test: int | float | None = None
    validation: int | float | None = None
    near_duplicates: str = "exclude"
    seed: int = 0

    def __post_init__(self) -> None:
        for name, known in (("method", METHODS), ("near_duplicates", NEAR_DUPLICATES)):
            if getattr(self, name) not in known:
                raise ConfigError(
                    f"split: {name} is {getattr(self, name)!r}; use one of {', '.join(known)}"
                )
        for name in ("test", "validation"):
            value = getattr(self, name)
            whole = isinstance(value, int) and not isinstance(value, bool) and value >= 0
            share = isinstance(value, float) and 0 <= value < 1
            if value is not None and not whole and not share:
                raise ConfigError(
                    f"split: {name} is {value!r}; use a number of playlists (an integer from 0) or "
                    "a share of them (from 0.0 to below 1.0)"
                )
        if not isinstance(self.seed, int) or isinstance(self.seed, bool) or self.seed < 0:
            raise ConfigError(f"split: seed is {self.seed!r}; use an integer from 0")


@dataclass(frozen=True)
class SplitReport:
    """What a split came to.

    Args:
        method (`str`): `"chronological"`, `"random"`, `"own"` (a split of the user's is kept) or
            `"none"` (too few playlists: all train).
        counts (`dict[str, int]`): Playlists by label, for each label that there is.
        undated (`int`): Playlists without a date that has a day; none of them tests in a
            chronological split.
        last_date (`str`, *optional*): The last day of any playlist, where the split is
            chronological.
        first_test_date (`str`, *optional*): The earliest day that test playlists come from.
        near_duplicates (`int`): Playlists of train and validation that are near-duplicates of a
            held-out one, or share its group: excluded, or kept by option. In a random split:
            playlists that have a near-duplicate or a group, and stay on its side.
        short (`int`): Playlists that were to be held out and are not: groups are too large to be
            drawn, or too little would be left to train on.
    """

    method: str
    counts: dict[str, int]
    undated: int = 0
    last_date: str | None = None
    first_test_date: str | None = None
    near_duplicates: int = 0
    short: int = 0

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON values."""
        return asdict(self)

    def summary(self) -> str:
        """The report in a line for a person."""
        how = {
            "own": "as the column split says",
            "none": f"fewer than {FEWEST} playlists, so nothing is held out",
            "chronological": f"by date, test from {self.first_test_date} to {self.last_date}",
            "random": "at random",
        }[self.method]
        counts = ", ".join(f"{name} {count:,}" for name, count in self.counts.items())
        line = f"split {how}: {counts or 'no playlists'}"
        if self.near_duplicates and self.method == "chronological":
            line += f"; near-duplicates of held-out playlists {self.near_duplicates:,}"
            line += " (excluded)" if self.counts.get(EXCLUDED) else " (kept)"
        if self.short:
            line += f"; {self.short:,} fewer held out than wanted, as "
            line += (
                "near-duplicates stay together"
                if self.method == "random"
                else "half of what is left has to train"
            )
        return line


def draw_splits(
    lists: Membership,
    created: Sequence[str | None] | pa.ChunkedArray,
    options: SplitOptions,
    groups: Sequence[str | None] | None = None,
    *,
    order: np.ndarray | None = None,
) -> tuple[np.ndarray, SplitReport]:
    """Draw which playlists train, validate and test.

    With fewer than ten playlists all train. Else `options` says how; playlists that share a value
    of `groups` count as near-duplicates of each other whatever `options.near_duplicates` says.

    Args:
        lists (`Membership`): The tracks of each playlist.
        created (`Sequence[str]` or `pa.ChunkedArray`): The date of each playlist, ISO; null or
            without a day where it is unknown.
        options (`SplitOptions`): How to split.
        groups (`Sequence[str]`, *optional*): The group of each playlist; null or empty for none.
        order (`np.ndarray` of shape `[playlists]`, *optional*): The positions of the playlists in
            the order that the seed acts on, so that it need not be that of the table.

    Returns:
        `tuple[np.ndarray, SplitReport]`: The label of each playlist, str `[playlists]`, and the
        report.

    Raises:
        InputError: If more playlists are asked for than there are, or a chronological split of
            playlists without dates.
    """
    count = len(lists)
    days = _days(created)
    undated = int((days == _NO_DAY).sum())
    if count < FEWEST:
        labels = np.full(count, "train", dtype="<U10")
        return labels, SplitReport("none", label_counts(labels), undated)
    order = np.arange(count) if order is None else order
    own = _group_numbers(groups, count)
    method = options.method
    if method == "auto":
        many = count - undated >= DATED_SHARE * count
        several = len(np.unique(days[days != _NO_DAY])) > 1
        method = "chronological" if many and several else "random"
    if method == "random":
        labels, near, wanted = _random(lists, options, own, order)
        report = SplitReport(method, label_counts(labels), undated, near_duplicates=near)
    else:
        labels, near, wanted = _chronological(lists, days, options, own, order)
        counts = label_counts(labels)
        if options.method == "auto" and counts.get(EXCLUDED, 0) > counts.get("train", 0):
            return draw_splits(
                lists, created, replace(options, method="random"), groups, order=order
            )
        if "train" not in counts:
            raise InputError(
                "a chronological split leaves no playlist to train on: all others are "
                "near-duplicates of those held out; hold out fewer, or keep near-duplicates"
            )
        tested = days[labels == "test"]
        dates = (_iso(days.max()), _iso(tested.min()) if len(tested) else None)
        report = SplitReport(method, counts, undated, *dates, near_duplicates=near)
    held_out = int(np.isin(labels, ("test", "validation")).sum())
    return labels, replace(report, short=wanted - held_out)


def _chronological(
    lists: Membership, days: np.ndarray, options: SplitOptions, own: np.ndarray, order: np.ndarray
) -> tuple[np.ndarray, int, int]:
    """The labels of a chronological split, its near-duplicates, and what was to be held out."""
    count, dated = len(lists), int((days != _NO_DAY).sum())
    if not dated:
        raise InputError(
            "no playlist has a date with a day (such as 2017-11-01), so there is no last date to "
            "test on; use a random split"
        )
    n_test = _size(options.test, count, min(MOST, count // 10, dated))
    n_validation = _size(options.validation, count, min(MOST, max(1, count // 20)))
    _check_room(n_test, n_validation, count)
    if n_test > dated:
        raise InputError(
            f"{n_test} test playlists are asked for, but only {dated} playlists have a date with "
            "a day; ask for fewer, or use a random split"
        )
    rng = np.random.default_rng(options.seed)
    labels = np.full(count, "train", dtype="<U10")
    # Shuffled before a stable sort by day: later days come whole, the earliest one as a sample.
    shuffled = order[rng.permutation(count)]
    labels[shuffled[np.argsort(-days[shuffled], kind="stable")][:n_test]] = "test"
    met = _set_apart(lists, own, labels, "test", options)
    left = order[labels[order] == "train"]
    labels[rng.permutation(left)[: min(n_validation, len(left) // 2)]] = "validation"
    met |= _set_apart(lists, own, labels, "validation", options)
    return labels, int(met.sum()), n_test + n_validation


def _set_apart(
    lists: Membership, own: np.ndarray, labels: np.ndarray, held_out: str, options: SplitOptions
) -> np.ndarray:
    """Exclude what is too close to the held-out playlists from training, by option.

    Returns the mask of the training playlists that are near-duplicates or of the same group.
    """
    out, train = labels == held_out, labels == "train"
    near = np.zeros(len(labels), dtype=bool)
    near[near_duplicate_pairs(lists.select(out), lists)[:, 1]] = True
    near &= train
    same = train & (own >= 0) & np.isin(own, own[out])
    labels[same | near if options.near_duplicates == "exclude" else same] = EXCLUDED
    return np.asarray(near | same)


def _random(
    lists: Membership, options: SplitOptions, own: np.ndarray, order: np.ndarray
) -> tuple[np.ndarray, int, int]:
    """The labels of a split by random groups, its near-duplicates, what was to be held out."""
    count = len(lists)
    n_test = _size(options.test, count, max(1, round(0.10 * count)))
    n_validation = _size(options.validation, count, max(1, round(0.05 * count)))
    _check_room(n_test, n_validation, count)
    groups = np.arange(count)
    if options.near_duplicates == "exclude":
        groups = near_duplicate_groups(lists)
    grouped = np.flatnonzero(own >= 0)
    edges = (np.ones(len(grouped), np.int8), (groups[grouped], count + own[grouped]))
    links = coo_matrix(edges, shape=(2 * count, 2 * count))
    groups = connected_components(links, directed=False)[1][groups]
    # Numbered by their first playlist in the given order, which the seed then acts on.
    groups = numbered(groups[order])
    sizes = np.bincount(groups)
    sides = np.full(len(sizes), "train", dtype="<U10")
    waiting = deque(np.random.default_rng(options.seed).permutation(len(sizes)).tolist())
    for side, left in (("test", n_test), ("validation", n_validation)):
        for _ in range(len(waiting)):
            if left <= 0:
                break
            group = waiting.popleft()
            if sizes[group] <= left:
                sides[group] = side
                left -= sizes[group]
            else:  # too large for what is left to test, it may still validate
                waiting.append(group)
    labels = np.empty(count, dtype="<U10")
    labels[order] = sides[groups]
    return labels, int((sizes[groups] > 1).sum()), n_test + n_validation


def _size(wanted: int | float | None, count: int, default: int) -> int:
    """How many of `count` playlists an option means."""
    if wanted is None:
        return default
    if isinstance(wanted, int):
        return wanted
    return max(1, round(wanted * count)) if wanted else 0


def _check_room(n_test: int, n_validation: int, count: int) -> None:
    if n_test + n_validation >= count:
        raise InputError(
            f"{n_test} test and {n_validation} validation playlists are asked for, but there are "
            f"{count} playlists; ask for fewer, so that some train"
        )


def count_undated(created: Sequence[str | None] | pa.ChunkedArray) -> int:
    """How many dates are null or have no day."""
    return int((_days(created) == _NO_DAY).sum())


def _days(created: Sequence[str | None] | pa.ChunkedArray) -> np.ndarray:
    """The day of each date as a number, int64; `_NO_DAY` where there is none."""
    dates = created if isinstance(created, pa.ChunkedArray) else pa.array(created, pa.string())
    heads = pc.utf8_slice_codeunits(dates, 0, 10)
    heads = pc.if_else(pc.match_substring_regex(heads, _DAY), heads, None)
    days = pc.strptime(heads, format="%Y-%m-%d", unit="s", error_is_null=True)
    seconds = pc.fill_null(days.cast(pa.int64()), _NO_DAY)
    return np.asarray(seconds.to_numpy())


def _iso(day: np.int64) -> str:
    return str(np.datetime64(int(day), "s").astype("datetime64[D]"))


def _group_numbers(groups: Sequence[str | None] | None, count: int) -> np.ndarray:
    """The number of each playlist's group, from 0; -1 where it has none."""
    if groups is None:
        return np.full(count, -1)
    texts = pc.utf8_trim_whitespace(pa.array(groups, pa.string()))
    codes = pc.if_else(pc.equal(texts, ""), None, texts).dictionary_encode().indices
    return np.asarray(pc.fill_null(codes, -1).to_numpy()).astype(np.int64)


def label_counts(labels: np.ndarray) -> dict[str, int]:
    """How often each label stands, in the order of `LABELS`."""
    return {name: int(n) for name in LABELS if (n := np.count_nonzero(labels == name))}
