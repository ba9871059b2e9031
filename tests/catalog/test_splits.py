"""Which playlists train and which are held out, and which tracks are cold."""

from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from talkplay_hf.catalog.membership import Membership, membership
from talkplay_hf.catalog.schema import Catalog, Track
from talkplay_hf.catalog.split_draw import draw_splits
from talkplay_hf.catalog.splits import (
    SPLITS,
    SplitOptions,
    cold_tracks,
    playlist_splits,
    split_catalog,
    split_labels,
    with_splits,
)
from talkplay_hf.errors import ConfigError, InputError

N_TRACKS = 600
TRACKS = Catalog.from_tracks([Track(f"t{n}", f"T{n}", "x") for n in range(N_TRACKS)]).tracks
RANDOM = SplitOptions(method="random")


def catalog(lists: int | list[list[int]], **columns: list[Any]) -> Catalog:
    """A catalog of some playlists, which have no track in common when only a number is given."""
    tracks = [[n] for n in range(lists)] if isinstance(lists, int) else lists
    table = {
        "playlist_id": [f"p{n:03d}" for n in range(len(tracks))],
        "track_ids": pa.array(
            [[f"t{row}" for row in one] for one in tracks], pa.list_(pa.string())
        ),
        **columns,
    }
    return Catalog(TRACKS, pa.table(table))


def dates(*counts: tuple[str | None, int]) -> list[str | None]:
    return [date for date, count in counts for _ in range(count)]


def split_of(made: Catalog) -> list[str]:
    return list(playlist_splits(made).values())


def counted(made: Catalog) -> Counter[str]:
    return Counter(split_of(made))


def test_the_shares_of_a_random_split():
    assert counted(with_splits(catalog(200))) == {"train": 170, "validation": 10, "test": 20}
    options = SplitOptions(validation=0.0, test=0.25)
    assert counted(with_splits(catalog(200), options)) == {"train": 150, "test": 50}
    options = SplitOptions(validation=3, test=7)
    assert counted(with_splits(catalog(200), options)) == {"train": 190, "validation": 3, "test": 7}


def test_a_small_catalog_still_holds_out_one_of_each():
    assert counted(with_splits(catalog(10))) == {"train": 8, "validation": 1, "test": 1}
    dated = catalog(10, created_at=[f"2020-01-{n + 1:02d}" for n in range(10)])
    assert counted(with_splits(dated)) == {"train": 8, "validation": 1, "test": 1}


@pytest.mark.parametrize("count", [0, 1, 9])
def test_very_few_playlists_all_train(count: int):
    made, report = split_catalog(catalog(count, created_at=dates(("2020-01-01", count))))
    assert split_of(made) == ["train"] * count
    assert report.method == "none"
    assert not cold_tracks(made).any()


def test_the_seed_decides():
    made = [
        split_of(with_splits(catalog(60, created_at=dates(("2020-01-01", 30), (day, 30))), options))
        for day in (None, "2020-01-02")
        for options in (SplitOptions(), SplitOptions(), SplitOptions(seed=1))
    ]
    assert made[0] == made[1] != made[2]
    assert made[3] == made[4] != made[5]


@pytest.mark.parametrize("method", ["random", "chronological"])
def test_the_order_of_playlists_does_not_matter(method: str):
    lists = [[n, n + 1, 2 * n, 300 + n] for n in range(60)]
    days = [f"2020-01-{n % 20 + 1:02d}" for n in range(60)]
    forward = catalog(lists, created_at=days)
    shuffled = np.random.default_rng(0).permutation(60)
    backward = Catalog(TRACKS, forward.playlists.take(shuffled))
    options = SplitOptions(method=method, test=6)
    made = [playlist_splits(with_splits(one, options)) for one in (forward, backward)]
    assert made[0] == made[1]
    assert set(made[0].values()) >= set(SPLITS)


def test_the_test_playlists_are_of_the_last_date():
    days = dates(("2017-10-31T23:59:59Z", 70), ("2017-11-01", 30))
    made, report = split_catalog(catalog(100, created_at=days), SplitOptions(test=20))
    splits = split_of(made)
    assert Counter(splits) == {"train": 75, "validation": 5, "test": 20}
    assert splits[70:].count("test") == 20
    assert (report.method, report.last_date) == ("chronological", "2017-11-01")
    assert report.first_test_date == "2017-11-01"
    assert report.counts == Counter(splits)


def test_earlier_days_fill_up_a_last_day_that_is_too_small():
    days = dates(("2017-01-01", 50), ("2017-10-31", 40), ("2017-11-01", 4), (None, 6))
    made, report = split_catalog(catalog(100, created_at=days))
    splits = split_of(made)
    assert splits[90:94] == ["test"] * 4
    assert splits[50:90].count("test") == 6
    assert Counter(splits) == {"train": 85, "validation": 5, "test": 10}
    assert (report.first_test_date, report.undated) == ("2017-10-31", 6)


@pytest.mark.parametrize("unknown", [None, "", "2017", "2017-11", "soon", "2017-13-01", "1 Nov 17"])
def test_playlists_without_a_day_never_test(unknown: str | None):
    days = dates((unknown, 5), ("2017-01-01", 45), ("2017-01-02", 50))
    made, report = split_catalog(catalog(100, created_at=days), SplitOptions(test=94))
    assert report.undated == 5
    assert "test" not in split_of(made)[:5]
    assert split_of(made).count("test") == 94


@pytest.mark.parametrize(
    ("days", "method"),
    [
        (dates(("2017-01-01", 45), ("2017-01-02", 45), (None, 10)), "chronological"),
        (dates(("2017-01-01", 45), ("2017-01-02", 44), (None, 11)), "random"),
        (dates(("2017-01-01", 100)), "random"),
        (dates((None, 100)), "random"),
    ],
)
def test_auto_goes_by_date_where_there_are_dates(days: list[str | None], method: str):
    assert split_catalog(catalog(100, created_at=days))[1].method == method


def near_a_test_playlist() -> Catalog:
    """Two playlists of the last day; of the 38 others, two hold half of one of these."""
    lists = [[10 * n + m for m in range(6)] for n in range(38)]
    lists[3][:3] = [400, 401, 402]
    lists[20] = [410, 411, *range(500, 530)]
    lists += [[400, 401, 402, 403, 404, 405], [410, 411, 412, 412, 412, 412]]
    return catalog(lists, created_at=dates(("2017-01-01", 38), ("2017-01-02", 2)))


def test_near_duplicates_of_held_out_playlists_do_not_train():
    made, report = split_catalog(near_a_test_playlist(), SplitOptions(test=2))
    splits = split_of(made)
    assert [splits[3], splits[20], *splits[38:]] == ["excluded", "excluded", "test", "test"]
    assert Counter(splits) == {"train": 34, "validation": 2, "test": 2, "excluded": 2}
    assert report.near_duplicates == 2


def test_near_duplicates_may_be_kept():
    options = SplitOptions(test=2, near_duplicates="keep")
    made, report = split_catalog(near_a_test_playlist(), options)
    assert counted(made) == {"train": 36, "validation": 2, "test": 2}
    assert report.near_duplicates == 2
    assert split_of(made)[38:] == ["test", "test"]


def test_near_duplicates_of_validation_playlists_do_not_train():
    lists = [[n // 2, 300 + n] for n in range(80)]
    options = SplitOptions(method="chronological", test=0, validation=8)
    days = [f"2017-01-{n % 28 + 1:02d}" for n in range(80)]
    splits = split_of(with_splits(catalog(lists, created_at=days), options))
    for n, split in enumerate(splits):
        if split == "validation":
            assert splits[n ^ 1] in ("validation", "excluded")
    assert "excluded" in splits


def test_a_split_by_date_that_would_leave_nothing_to_train_on():
    everything_alike = catalog(
        [[1, 2, 300 + n] for n in range(40)],
        created_at=dates(("2020-01-01", 20), ("2020-01-02", 20)),
    )
    made, report = split_catalog(everything_alike)
    assert (report.method, counted(made)) == ("random", {"train": 40})
    with pytest.raises(InputError, match="leaves no playlist to train on"):
        with_splits(everything_alike, SplitOptions(method="chronological"))


def test_auto_is_random_where_a_split_by_date_would_exclude_more_than_it_leaves():
    def alike(count: int) -> Catalog:
        lists = [[0, 1, 2]] + [[0, 1, 300 + n] for n in range(count)]
        lists += [[10 * n, 10 * n + 1] for n in range(1, 40 - count)]
        days = dates(("2020-01-02", 1), ("2020-01-01", len(lists) - 1))
        return catalog(lists, created_at=days)

    options = SplitOptions(test=1, validation=0)
    made, report = split_catalog(alike(19), options)
    assert counted(made) == {"train": 20, "test": 1, "excluded": 19}
    assert report.method == "chronological"
    made, report = split_catalog(alike(20), options)
    assert report.method == "random"
    assert counted(made) == {"train": 39, "test": 1}


def test_a_random_split_keeps_near_duplicates_on_one_side():
    lists = [[n // 4, 200 + n // 4, 400 + n] for n in range(80)]
    made, report = split_catalog(catalog(lists), SplitOptions(seed=3))
    splits = split_of(made)
    assert all(len(set(splits[n : n + 4])) == 1 for n in range(0, 80, 4))
    assert Counter(splits) == {"train": 68, "validation": 4, "test": 8}
    assert report.near_duplicates == 80
    kept = split_of(with_splits(catalog(lists), SplitOptions(near_duplicates="keep")))
    assert any(len(set(kept[n : n + 4])) > 1 for n in range(0, 80, 4))


def test_a_group_too_large_for_what_is_left_trains():
    lists = [[0, n] for n in range(50)] + [[n] for n in range(50, 100)]
    splits = split_of(with_splits(catalog(lists)))
    assert set(splits[:50]) == {"train"}
    assert Counter(splits) == {"train": 85, "validation": 5, "test": 10}


def test_a_group_too_large_for_what_is_left_to_test_may_validate():
    pairs = [[n, 300 + n] for n in range(10) for _ in range(2)]
    options = SplitOptions(method="random", test=3, validation=2)
    made, report = split_catalog(catalog(pairs), options)
    assert counted(made) == {"train": 16, "validation": 2, "test": 2}
    assert report.short == 1


@pytest.mark.parametrize("empty", [None, "", " "])
def test_playlists_of_one_group_stay_on_one_side(empty: str | None):
    groups = ["g"] * 8 + [empty] * 92
    for keep in ("exclude", "keep"):
        options = SplitOptions(near_duplicates=keep, seed=2)
        splits = split_of(with_splits(catalog(100, group=groups), options))
        assert len(set(splits[:8])) == 1
        assert set(splits[8:]) == set(SPLITS)


def test_groups_and_near_duplicates_join():
    """p0 and p1 are near-duplicates, p1 and p2 a group: with p3 they fill the test part."""
    lists = [[0, 1], [0, 2], [3], *([n] for n in range(10, 47))]
    groups = [None, "7", "7"] + [None] * 37
    for seed in range(5):
        made = with_splits(catalog(lists, group=groups), SplitOptions(seed=seed))
        assert len(set(split_of(made)[:3])) == 1


@pytest.mark.parametrize("keep", ["exclude", "keep"])
def test_a_group_is_not_on_both_sides_of_a_date(keep: str):
    days = dates(("2020-01-01", 30), ("2020-01-02", 10))
    groups = [7] * 5 + [None] * 30 + [7] * 5
    options = SplitOptions(test=10, near_duplicates=keep)
    splits = split_of(with_splits(catalog(40, created_at=days, group=groups), options))
    assert splits[:5] == ["excluded"] * 5
    assert splits[30:] == ["test"] * 10


def test_splitting_again_changes_nothing():
    once = with_splits(catalog(40), SplitOptions(seed=1))
    twice, report = split_catalog(once, SplitOptions(seed=2))
    assert twice.playlists.equals(once.playlists)
    assert twice.tracks.equals(once.tracks)
    assert (report.method, report.counts) == ("own", counted(once))


def test_a_split_of_the_users_own_is_kept():
    own = ["TRAIN", "val", "Valid", "dev", "validation", "test ", "Challenge", "excluded"]
    made = with_splits(catalog(8, split=own))
    assert split_of(made) == ["train", *["validation"] * 4, "test", "challenge", "excluded"]


@pytest.mark.parametrize("odd", ["fold", "", None])
def test_another_split_column_is_not_lost(odd: str | None):
    values = ["train"] * 19 + [odd]
    table = with_splits(catalog(20, split=values)).playlists
    assert table["source_split"].to_pylist() == values
    assert Counter(table["split"].to_pylist()) == {"train": 17, "validation": 1, "test": 2}
    both = catalog(20, split=list(range(20)), source_split=["mine"] * 20)
    table = with_splits(both).playlists
    assert table["source_split"].to_pylist() == ["mine"] * 20
    assert table["source_source_split"].to_pylist() == list(range(20))


def test_the_challenge_set_stays_out_of_the_draw():
    marks = [None, "challenge"] * 20
    days = ["2020-01-01", "2020-12-31"] * 20
    made, report = split_catalog(catalog(40, split=marks, created_at=days))
    splits = split_of(made)
    assert splits[1::2] == ["challenge"] * 20
    assert Counter(splits[::2]) == {"train": 17, "validation": 1, "test": 2}
    assert report.counts == Counter(splits)
    assert report.method == "random"  # one day only, without the challenge set
    assert "source_split" not in made.playlists.column_names


def test_no_split_means_train():
    assert set(playlist_splits(catalog(12)).values()) == {"train"}
    assert split_labels(catalog(12)).tolist() == ["train"] * 12


def test_cold_tracks_are_those_that_only_held_out_playlists_hold():
    lists = [[0, 1], [2], [0, 3, 4, 7], [5, 2], [3, 6, 8]]
    own = ["train", "validation", "test", "challenge", "excluded"]
    made = with_splits(catalog(lists, split=own))
    # 3 stands in an excluded playlist too, which nothing trains on; 6, 8 and 9 are not held out.
    assert np.flatnonzero(cold_tracks(made)).tolist() == [3, 4, 5, 7]
    assert made.tracks["cold"].to_pylist() == cold_tracks(made).tolist()


def test_a_cold_column_of_the_users_own_is_renamed_and_never_trusted():
    tracks = TRACKS.append_column("cold", pa.array(["brr"] * N_TRACKS))
    made = with_splits(Catalog(tracks, catalog(20).playlists))
    assert made.tracks["source_cold"].to_pylist() == ["brr"] * N_TRACKS
    assert made.tracks["cold"].to_pylist().count(True) == 2
    wrong = TRACKS.append_column("cold", pa.array([True] * N_TRACKS))
    assert cold_tracks(Catalog(wrong, made.playlists)).sum() == 2


@settings(max_examples=50)
@given(
    st.lists(
        st.tuples(
            st.lists(st.integers(0, 30), max_size=8),
            st.sampled_from(["2020-01-01", "2020-01-02", "2020-02-01", None]),
            st.sampled_from([None, None, None, "a", "b"]),
        ),
        min_size=12,
        max_size=40,
    ),
    st.sampled_from(["auto", "random"]),
    st.integers(0, 3),
)
def test_no_near_duplicate_and_no_group_crosses_the_split(
    rows: list[tuple[list[int], str | None, str | None]], method: str, seed: int
):
    made = with_splits(
        catalog(
            [tracks for tracks, _, _ in rows],
            created_at=pa.array([date for _, date, _ in rows], pa.string()),
            group=pa.array([group for _, _, group in rows], pa.string()),
        ),
        SplitOptions(method=method, seed=seed),
    )
    splits = split_of(made)
    assert "train" in splits
    for one, (tracks, _, group) in zip(splits, rows, strict=True):
        for other, (theirs, _, their_group) in zip(splits, rows, strict=True):
            if one in ("test", "validation") and other == "train":
                shared = len({*tracks} & {*theirs})
                assert not shared or 2 * shared < min(len({*tracks}), len({*theirs}))
                assert group is None or group != their_group


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"method": "date"}, "method is 'date'"),
        ({"near_duplicates": "drop"}, "near_duplicates is 'drop'"),
        ({"test": -1}, "test is -1"),
        ({"test": 1.0}, "test is 1.0"),
        ({"test": True}, "test is True"),
        ({"validation": "half"}, "validation is 'half'"),
        ({"validation": float("nan")}, "validation is nan"),
        ({"seed": -1}, "seed is -1"),
        ({"seed": 0.5}, "seed is 0.5"),
    ],
)
def test_impossible_options_are_refused(values: dict[str, Any], says: str):
    with pytest.raises(ConfigError, match=says):
        SplitOptions(**values)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (SplitOptions(test=20), "20 test and 1 validation playlists are asked for.*20 playlists"),
        (SplitOptions(test=0.5, validation=0.5), "10 test and 10 validation"),
        (SplitOptions(method="chronological"), "no playlist has a date with a day"),
    ],
)
def test_a_split_that_the_playlists_do_not_allow_is_refused(options: SplitOptions, says: str):
    with pytest.raises(InputError, match=says):
        with_splits(catalog(20), options)


def test_more_test_playlists_than_dates_are_refused():
    days = dates((None, 15), ("2020-01-01", 5))
    with pytest.raises(InputError, match="only 5 playlists have a date"):
        with_splits(catalog(20, created_at=days), SplitOptions(method="chronological", test=6))


def test_a_draw_needs_no_catalog():
    lists = Membership(np.arange(101), np.arange(100, dtype=np.int32), 100)
    labels, report = draw_splits(lists, [None] * 100, RANDOM)
    assert Counter(labels.tolist()) == report.counts
    assert report.to_dict()["counts"] == {"train": 85, "validation": 5, "test": 10}
    made = catalog(100)
    assert draw_splits(membership(made), [None] * 100, RANDOM)[0].tolist() == split_of(
        with_splits(made)
    )


def test_a_split_that_holds_out_fewer_than_wanted_says_so():
    alike = [list(range(10)) for _ in range(20)]
    report = split_catalog(catalog(alike), RANDOM)[1]
    assert (report.counts, report.short) == ({"train": 20}, 3)
    assert "3 fewer held out than wanted" in report.summary()
    report = split_catalog(catalog(20), RANDOM)[1]
    assert (report.counts["train"], report.short) == (17, 0)
    assert "fewer" not in report.summary()
    days = dates(("2020-01-01", 20))
    greedy = SplitOptions(method="chronological", test=17, validation=2, near_duplicates="keep")
    report = split_catalog(catalog(20, created_at=days), greedy)[1]
    assert (report.counts, report.short) == ({"train": 2, "validation": 1, "test": 17}, 1)
    assert "1 fewer held out than wanted, as half of what is left" in report.summary()
