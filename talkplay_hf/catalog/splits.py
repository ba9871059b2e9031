"""Which playlists train, which validate, which test; and which tracks are cold (paper 3.3).

The split stands in the `split` column of the playlist table, so that every later stage (embeddings,
conversations, baselines) holds out the same playlists. What trains is `"train"` alone: a playlist
with any other label is out of it.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from talkplay_hf.catalog.membership import Membership, membership
from talkplay_hf.catalog.near_duplicates import near_duplicate_groups, near_duplicate_pairs
from talkplay_hf.catalog.schema import Catalog
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
_SAME_AS_VALIDATION = frozenset({"val", "valid", "dev"})
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
    """

    method: str
    counts: dict[str, int]
    undated: int = 0
    last_date: str | None = None
    first_test_date: str | None = None
    near_duplicates: int = 0

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
        return line


@dataclass(frozen=True)
class SplitDraw:
    """A drawn split: the label of each playlist, as a str array `[playlists]`, and the report."""

    labels: np.ndarray
    report: SplitReport


def draw_splits(
    lists: Membership,
    created: Sequence[str | None] | pa.ChunkedArray,
    options: SplitOptions,
    groups: Sequence[str | None] | None = None,
    *,
    order: np.ndarray | None = None,
) -> SplitDraw:
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

    Raises:
        InputError: If more playlists are asked for than there are, or a chronological split of
            playlists without dates.
    """
    count = len(lists)
    days = _days(created)
    undated = int((days == _NO_DAY).sum())
    if count < FEWEST:
        labels = np.full(count, "train", dtype="<U10")
        return SplitDraw(labels, SplitReport("none", _counts(labels), undated))
    order = np.arange(count) if order is None else order
    own = _group_numbers(groups, count)
    method = options.method
    if method == "auto":
        many = count - undated >= DATED_SHARE * count
        several = len(np.unique(days[days != _NO_DAY])) > 1
        method = "chronological" if many and several else "random"
    if method == "random":
        labels, near = _random(lists, options, own, order)
        report = SplitReport(method, _counts(labels), undated, near_duplicates=near)
    else:
        labels, near = _chronological(lists, days, options, own, order)
        counts = _counts(labels)
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
    return SplitDraw(labels, report)


def with_splits(catalog: Catalog, options: SplitOptions | None = None) -> Catalog:
    """Return the catalog with a split of its playlists; see `split_catalog`."""
    return split_catalog(catalog, options)[0]


def split_catalog(
    catalog: Catalog, options: SplitOptions | None = None
) -> tuple[Catalog, SplitReport]:
    """Split the playlists of a catalog and mark its cold tracks.

    A column `split` that says `train`, `validation` (also `val`, `valid` or `dev`), `test`,
    `challenge` or `excluded` for every playlist, in any case, is kept. One that says `challenge`
    for some and nothing for all others keeps those, and the others are drawn. Else the split of all
    is drawn, and a `split` column with anything else in it is renamed to `source_split`. In the
    draw, playlists that share a value in a `group` column (near-duplicates) are never on both
    sides; the order of the table does not matter.

    The track table gets a bool column `cold`, see `cold_tracks`; a column of that name with
    anything else in it is renamed to `source_cold`.

    Args:
        catalog (`Catalog`): The catalog.
        options (`SplitOptions`, *optional*): How to draw a split.

    Raises:
        InputError: See `draw_splits`.
    """
    table = catalog.playlists
    own = _own_split(table["split"].to_pylist()) if "split" in table.column_names else None
    if own is not None and None not in own:
        at = table.column_names.index("split")
        table = table.set_column(at, "split", pa.array(own, pa.string()))
        days = _days(table["created_at"])
        report = SplitReport(
            "own", _counts(np.array(own, dtype=np.str_)), int((days == _NO_DAY).sum())
        )
    else:
        labels = np.full(table.num_rows, CHALLENGE, dtype="<U10")
        drawn = np.ones(table.num_rows, dtype=bool)
        if own is not None:
            drawn = np.array([label is None for label in own], dtype=bool)
        else:
            table = _renamed(table, "split")
            table = table.append_column("split", pa.nulls(table.num_rows, pa.string()))
        part = table.filter(pa.array(drawn))
        lists = membership(catalog)
        draw = draw_splits(
            lists if drawn.all() else lists.select(drawn),
            part["created_at"],
            options or SplitOptions(),
            _texts(part["group"]) if "group" in part.column_names else None,
            order=pc.sort_indices(part["playlist_id"]).to_numpy(),
        )
        labels[drawn] = draw.labels
        report = SplitReport(**{**asdict(draw.report), "counts": _counts(labels)})
        at = table.column_names.index("split")
        table = table.set_column(at, "split", pa.array(labels, pa.string()))
    tracks = catalog.tracks
    split = Catalog(tracks, table, root=catalog.root, fingerprint=catalog.fingerprint)
    cold = pa.chunked_array([pa.array(cold_tracks(split))])
    if "cold" in tracks.column_names and tracks["cold"].equals(cold):
        return split, report
    tracks = _renamed(tracks, "cold").append_column("cold", cold)
    return Catalog(tracks, table, root=catalog.root, fingerprint=catalog.fingerprint), report


def cold_tracks(catalog: Catalog) -> np.ndarray:
    """The cold tracks: held out with their playlists, and never seen in training (paper 3.3).

    A track is cold that stands in a playlist of `test` or `challenge` and in none of `train` or
    `validation`. One that stands in no playlist at all is not. Recounted from the playlists, so
    that no column has to be trusted; encoders and codebooks are fitted on the others only.

    Args:
        catalog (`Catalog`): The catalog; without a split, no track is cold.

    Returns:
        `np.ndarray` of shape `[tracks]`, bool.
    """
    lists, labels = membership(catalog), split_labels(catalog)
    held_out = tracks_of(lists, np.isin(labels, ("test", CHALLENGE)))
    seen = tracks_of(lists, np.isin(labels, ("train", "validation")))
    return np.asarray(held_out & ~seen)


def tracks_of(lists: Membership, playlists: np.ndarray) -> np.ndarray:
    """Which tracks stand in any of some playlists, given as a bool mask, without copying them.

    Returns:
        `np.ndarray` of shape `[tracks]`, bool.
    """
    found = np.zeros(lists.n_tracks, dtype=np.bool_)
    found[lists.rows[np.repeat(playlists, lists.lengths)]] = True
    return found


def playlist_splits(catalog: Catalog) -> dict[str, str]:
    """The split of each playlist by id; `"train"` for all where the table has no split."""
    ids: list[str] = catalog.playlists["playlist_id"].to_pylist()
    return dict(zip(ids, split_labels(catalog).tolist(), strict=True))


def split_labels(catalog: Catalog) -> np.ndarray:
    """The split of each playlist in table order; `"train"` for all where the table has no split.

    Returns:
        `np.ndarray` of shape `[playlists]`, str.
    """
    if "split" not in catalog.playlists.column_names:
        return np.full(catalog.playlists.num_rows, "train", dtype="<U10")
    return np.array(catalog.playlists["split"].to_pylist(), dtype=np.str_)


def _chronological(
    lists: Membership, days: np.ndarray, options: SplitOptions, own: np.ndarray, order: np.ndarray
) -> tuple[np.ndarray, int]:
    """The labels of a chronological split, and how many near-duplicates it meets."""
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
    return labels, int(met.sum())


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
) -> tuple[np.ndarray, int]:
    """The labels of a split by random groups, and how many playlists are not a group alone."""
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
    _, first, groups = np.unique(groups[order], return_index=True, return_inverse=True)
    rank = np.empty(len(first), dtype=np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    groups = rank[groups]
    sizes = np.bincount(groups)
    sides = np.full(len(sizes), "train", dtype="<U10")
    shuffled = iter(np.random.default_rng(options.seed).permutation(len(sizes)).tolist())
    for side, left in (("test", n_test), ("validation", n_validation)):
        while left > 0 and (group := next(shuffled, None)) is not None:
            if sizes[group] <= left:
                sides[group] = side
                left -= sizes[group]
    labels = np.empty(count, dtype="<U10")
    labels[order] = sides[groups]
    return labels, int((sizes[groups] > 1).sum())


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


def _texts(column: pa.ChunkedArray) -> list[str | None]:
    return [None if value is None else str(value) for value in column.to_pylist()]


def _counts(labels: np.ndarray) -> dict[str, int]:
    """How often each label stands, in the order of `LABELS`."""
    return {name: int(n) for name in LABELS if (n := np.count_nonzero(labels == name))}


def _renamed(table: pa.Table, name: str) -> pa.Table:
    """The table with a column of this name, if there is one, called `source_name` instead."""
    names = table.column_names
    if name not in names:
        return table
    at = names.index(name)
    while names[at] in table.column_names:
        names[at] = f"source_{names[at]}"
    return table.rename_columns(names)


def _own_split(values: list[Any]) -> list[str | None] | None:
    """The split that a user's column names, or `None` where it is no split.

    A column that marks the challenge set alone leaves the others open, as `None`.
    """
    texts = ["" if value is None else str(value).strip().lower() for value in values]
    splits = ["validation" if text in _SAME_AS_VALIDATION else text for text in texts]
    if set(splits) <= set(LABELS):
        return list(splits)
    if set(splits) == {CHALLENGE, ""}:
        return [split or None for split in splits]
    return None
