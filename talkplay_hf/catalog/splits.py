"""Which playlists train, which validate, which test.

The split stands in the `split` column of the playlist table, so that every later stage (embeddings,
conversations, baselines) holds out the same playlists.
"""

from typing import Any

import numpy as np
import pyarrow as pa

from talkplay_hf.catalog.schema import Catalog

SPLITS = ("train", "validation", "test")
_SAME_AS_VALIDATION = frozenset({"val", "valid", "dev"})


def with_splits(
    catalog: Catalog,
    *,
    validation_share: float = 0.05,
    test_share: float = 0.10,
    seed: int = 0,
) -> Catalog:
    """Return the catalog with a split of its playlists in the column `split`.

    A column `split` that says `train`, `validation` (also `val`, `valid` or `dev`) or `test` for
    every playlist, in any case, is kept. Else the split is drawn at random, and a `split` column
    with anything else in it is renamed to `source_split`. In the draw, playlists that share a value
    in a `group` column (near-duplicates) stay on the same side; without a value, a playlist is a
    group of its own. With fewer than ten groups everything trains.

    Args:
        catalog (`Catalog`): The catalog.
        validation_share (`float`): Share of the groups that validate.
        test_share (`float`): Share of the groups that test.
        seed (`int`): Seed of the draw.
    """
    table = catalog.playlists
    if "split" in table.column_names:
        at = table.column_names.index("split")
        own = _own_split(table["split"].to_pylist())
        if own is not None:
            table = table.set_column(at, "split", pa.array(own, pa.string()))
            return _with_playlists(catalog, table)
        names = table.column_names
        while names[at] in table.column_names:
            names[at] = f"source_{names[at]}"
        table = table.rename_columns(names)
    labels = _groups(table)
    groups = sorted(set(labels))
    split = np.full(len(groups), "train", dtype="<U10")
    if len(groups) >= 10:
        order = np.random.default_rng(seed).permutation(len(groups))
        n_test = max(1, round(test_share * len(groups))) if test_share else 0
        n_validation = max(1, round(validation_share * len(groups))) if validation_share else 0
        split[order[:n_test]] = "test"
        split[order[n_test : n_test + n_validation]] = "validation"
    by_group = dict(zip(groups, split.tolist(), strict=True))
    table = table.append_column("split", pa.array([by_group[label] for label in labels]))
    return _with_playlists(catalog, table)


def _with_playlists(catalog: Catalog, table: pa.Table) -> Catalog:
    return Catalog(catalog.tracks, table, root=catalog.root, fingerprint=catalog.fingerprint)


def _own_split(values: list[Any]) -> list[str] | None:
    """The split that a user's column names, or `None` where a value of it is no split."""
    texts = [str(value).strip().lower() for value in values]
    splits = ["validation" if text in _SAME_AS_VALIDATION else text for text in texts]
    return splits if set(splits) <= set(SPLITS) else None


def _groups(table: pa.Table) -> list[tuple[str, str]]:
    """The group of each playlist, which may be the playlist alone."""
    ids: list[str] = table["playlist_id"].to_pylist()
    values = table["group"].to_pylist() if "group" in table.column_names else [None] * len(ids)
    groups = ["" if value is None else str(value).strip() for value in values]
    return [(group, "" if group else one) for group, one in zip(groups, ids, strict=True)]


def playlist_splits(catalog: Catalog) -> dict[str, str]:
    """The split of each playlist by id; `"train"` for all where the table has no split."""
    ids: list[str] = catalog.playlists["playlist_id"].to_pylist()
    if "split" not in catalog.playlists.column_names:
        return dict.fromkeys(ids, "train")
    return dict(zip(ids, catalog.playlists["split"].to_pylist(), strict=True))
