"""Which playlists train and which are held out."""

from collections import Counter

import pyarrow as pa
import pytest

from talkplay_hf.catalog.schema import Catalog, Track
from talkplay_hf.catalog.splits import SPLITS, playlist_splits, with_splits

TRACKS = Catalog.from_tracks([Track("a", "A", "x")]).tracks


def catalog(count: int, groups: list[str] | None = None) -> Catalog:
    columns: dict[str, object] = {
        "playlist_id": [f"p{n}" for n in range(count)],
        "track_ids": [["a"]] * count,
    }
    if groups is not None:
        columns["group"] = groups
    return Catalog(TRACKS, pa.table(columns))


def test_shares():
    counts = Counter(playlist_splits(with_splits(catalog(200))).values())
    assert counts == {"train": 170, "validation": 10, "test": 20}
    other = with_splits(catalog(200), validation_share=0.0, test_share=0.25)
    assert Counter(playlist_splits(other).values()) == {"train": 150, "test": 50}


def test_a_small_catalog_still_holds_out_one_of_each():
    counts = Counter(playlist_splits(with_splits(catalog(10))).values())
    assert counts == {"train": 8, "validation": 1, "test": 1}


@pytest.mark.parametrize("count", [0, 1, 9])
def test_very_few_playlists_all_train(count: int):
    splits = playlist_splits(with_splits(catalog(count)))
    assert list(splits.values()) == ["train"] * count


def test_the_seed_decides():
    made = [playlist_splits(with_splits(catalog(60), seed=seed)) for seed in (0, 0, 1)]
    assert made[0] == made[1] != made[2]


def test_groups_stay_together():
    groups = [f"g{n // 4}" for n in range(80)]
    splits = playlist_splits(with_splits(catalog(80, groups), seed=3))
    sides: dict[str, set[str]] = {}
    for number, split in enumerate(splits.values()):
        sides.setdefault(groups[number], set()).add(split)
    assert all(len(found) == 1 for found in sides.values())
    assert {split for found in sides.values() for split in found} == set(SPLITS)


def test_the_order_of_playlists_does_not_matter():
    forward = catalog(40)
    backward = Catalog(TRACKS, forward.playlists.take(list(range(39, -1, -1))))
    assert playlist_splits(with_splits(forward)) == playlist_splits(with_splits(backward))


def test_splitting_again_keeps_the_split():
    once = with_splits(catalog(40), seed=1)
    twice = with_splits(once, seed=2)
    assert twice.playlists.equals(once.playlists)


def with_column(count: int, name: str, values: list[object]) -> Catalog:
    table = catalog(count).playlists.append_column(name, pa.array(values))
    return Catalog(TRACKS, table)


def test_a_split_of_the_users_own_is_kept():
    own = with_column(6, "split", ["TRAIN", "val", "Valid", "dev", "validation", "test "])
    assert list(playlist_splits(with_splits(own)).values()) == [
        "train",
        *["validation"] * 4,
        "test",
    ]


@pytest.mark.parametrize("odd", ["fold", "", None])
def test_another_split_column_is_not_lost(odd: str | None):
    values = ["train"] * 19 + [odd]
    table = with_splits(with_column(20, "split", values)).playlists
    assert table["source_split"].to_pylist() == values
    assert Counter(table["split"].to_pylist()) == {"train": 17, "validation": 1, "test": 2}
    numbers = with_column(20, "split", list(range(20)))
    both = numbers.playlists.append_column("source_split", pa.array(["mine"] * 20))
    table = with_splits(Catalog(TRACKS, both)).playlists
    assert table["source_split"].to_pylist() == ["mine"] * 20
    assert table["source_source_split"].to_pylist() == list(range(20))


@pytest.mark.parametrize("empty", [None, "", " "])
def test_a_playlist_without_a_group_is_a_group_of_its_own(empty: str | None):
    groups = ["g"] * 20 + [empty] * 80
    splits = list(playlist_splits(with_splits(with_column(100, "group", groups))).values())
    assert len(set(splits[:20])) == 1
    assert set(splits[20:]) == set(SPLITS)


def test_no_split_means_train():
    assert set(playlist_splits(catalog(12)).values()) == {"train"}
