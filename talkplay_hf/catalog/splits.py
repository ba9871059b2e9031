"""Which playlists train, which validate, which test; and which tracks are cold (paper 3.3).

The split stands in the `split` column of the playlist table, so that every later stage (embeddings,
conversations, baselines) holds out the same playlists. What trains is `"train"` alone: a playlist
with any other label is out of it.
"""

from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from talkplay_hf.catalog.membership import Membership, membership
from talkplay_hf.catalog.schema import Catalog, with_column
from talkplay_hf.catalog.split_draw import (
    CHALLENGE,
    EXCLUDED,
    LABELS,
    SPLITS,
    SplitOptions,
    SplitReport,
    count_undated,
    draw_splits,
    label_counts,
)

__all__ = [
    "CHALLENGE",
    "EXCLUDED",
    "LABELS",
    "SPLITS",
    "SplitOptions",
    "SplitReport",
    "cold_of",
    "cold_tracks",
    "playlist_splits",
    "split_catalog",
    "split_labels",
    "with_splits",
]

_SAME_AS_VALIDATION = frozenset({"val", "valid", "dev"})


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
        table = with_column(table, "split", pa.array(own, pa.string()))
        counts = label_counts(np.array(own, dtype=np.str_))
        report = SplitReport("own", counts, count_undated(table["created_at"]))
    else:
        labels = np.full(table.num_rows, CHALLENGE, dtype="<U10")
        drawn = np.ones(table.num_rows, dtype=bool)
        if own is not None:
            drawn = np.array([label is None for label in own], dtype=bool)
        else:
            table = _renamed(table, "split")
        part = table.filter(pa.array(drawn))
        lists = membership(catalog)
        labels[drawn], report = draw_splits(
            lists if drawn.all() else lists.select(drawn),
            part["created_at"],
            options or SplitOptions(),
            _texts(part["group"]) if "group" in part.column_names else None,
            order=pc.sort_indices(part["playlist_id"]).to_numpy(),
        )
        report = replace(report, counts=label_counts(labels))
        table = with_column(table, "split", pa.array(labels, pa.string()))
    split = catalog.with_tables(playlists=table)
    tracks = catalog.tracks
    cold = pa.chunked_array([pa.array(cold_tracks(split))])
    if "cold" in tracks.column_names and tracks["cold"].equals(cold):
        return split, report
    return split.with_tables(tracks=with_column(_renamed(tracks, "cold"), "cold", cold)), report


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
    return cold_of(membership(catalog), split_labels(catalog))


def cold_of(lists: Membership, labels: np.ndarray) -> np.ndarray:
    """The cold tracks, see `cold_tracks`, of playlists with these labels.

    Args:
        lists (`Membership`): The tracks of each playlist.
        labels (`np.ndarray` of shape `[playlists]`, str): The split of each.

    Returns:
        `np.ndarray` of shape `[tracks]`, bool.
    """
    held_out = lists.tracks(np.isin(labels, ("test", CHALLENGE)))
    return np.asarray(held_out & ~lists.tracks(np.isin(labels, ("train", "validation"))))


def training_playlists(catalog: Catalog) -> Membership:
    """The membership of the training playlists; the others are held out (paper 3.3)."""
    return membership(catalog).select(split_labels(catalog) == "train")


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


def _texts(column: pa.ChunkedArray) -> list[str | None]:
    return [None if value is None else str(value) for value in column.to_pylist()]


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
