"""Which playlists train, which validate, which test.

The split stands in the `split` column of the playlist table, so that every later stage (embeddings,
conversations, baselines) holds out the same playlists.
"""

import numpy as np
import pyarrow as pa

from talkplay_hf.catalog.schema import Catalog

SPLITS = ("train", "validation", "test")


def with_splits(
    catalog: Catalog,
    *,
    validation_share: float = 0.05,
    test_share: float = 0.10,
    seed: int = 0,
) -> Catalog:
    """Return the catalog with a seeded random split of its playlists in the column `split`.

    Playlists that share a value in a `group` column (near-duplicates) stay on the same side. With
    fewer than ten groups everything trains.

    Args:
        catalog (`Catalog`): The catalog.
        validation_share (`float`): Share of the groups that validate.
        test_share (`float`): Share of the groups that test.
        seed (`int`): Seed of the draw.
    """
    table = catalog.playlists
    if "split" in table.column_names:
        table = table.drop_columns("split")
    name = "group" if "group" in table.column_names else "playlist_id"
    labels = [str(value) for value in table[name].to_pylist()]
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
    return Catalog(catalog.tracks, table, root=catalog.root, fingerprint=catalog.fingerprint)


def playlist_splits(catalog: Catalog) -> dict[str, str]:
    """The split of each playlist by id; `"train"` for all where the table has no split."""
    ids: list[str] = catalog.playlists["playlist_id"].to_pylist()
    if "split" not in catalog.playlists.column_names:
        return dict.fromkeys(ids, "train")
    return dict(zip(ids, catalog.playlists["split"].to_pylist(), strict=True))
