"""The playlists of an imported table, of a second table, and their split."""

import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from csv_imports import GOOD, HEADER, PAIRS, members, rejects, run

from talkplay_hf.catalog.importer import import_table
from talkplay_hf.catalog.schema import Catalog
from talkplay_hf.catalog.splits import SplitOptions
from talkplay_hf.errors import InputError, LeakageError


def test_a_list_column_of_playlists(tmp_path: Path) -> None:
    second = (
        "id,name,created_at,tracks,group\n"
        'p1,One,2020-01-02T03:04:05Z,"[""b"", ""a"", ""zz""]",g1\n'
        "p2,Two,1577934245,a;b;a,g2\n"
        "p3,Three,2020-01-03,yy zz,g3\n"
        "p4,Four,,b a,\n"
        "p5,Five,,,g5\n"
        ",,,a,\n"
    )
    report, catalog = run(tmp_path, HEADER + "a,T,A\nb,U,B\n", second=second)
    assert members(catalog) == {"p1": ("b", "a"), "p2": ("a", "b"), "p4": ("b", "a")}
    assert catalog.playlists["group"].to_pylist() == ["g1", "g2", None]
    created = catalog.playlists["created_at"].to_pylist()
    assert created == ["2020-01-02T03:04:05", "2020-01-02T03:04:05", None]
    assert (report.unknown_playlist_tracks, report.dropped_playlists) == (3, 2)
    assert report.duplicate_pairs == 1
    assert report.playlist_columns["track_ids"] == ["tracks"]
    assert report.playlist_extra == ["group"]
    (reject,) = rejects(tmp_path)
    assert (reject["source"], reject["row"]) == ("lists.csv", 6)


def test_pairs_as_the_second_table_in_order_of_position(tmp_path: Path) -> None:
    second = (
        "playlist_id,track_id,position,added_by,mood\n"
        "p,a,2,x,calm\n"
        "p,c,,x,calm\n"
        "p,b,1,y,calm\n"
        "q,a,1,x,wild\n"
    )
    report, catalog = run(tmp_path, HEADER + "a,T,A\nb,U,B\nc,V,C\n", second=second)
    assert members(catalog) == {"p": ("b", "a", "c"), "q": ("a",)}
    assert catalog.playlists["mood"].to_pylist() == ["calm", "wild"]
    assert report.dropped_columns == ["added_by"]


def test_a_second_table_may_only_describe(tmp_path: Path) -> None:
    second = "pid,name,description,followers\np2,Dusk,Slow,7\np9,Nobody,,1\n"
    report, catalog = run(tmp_path, PAIRS, second=second)
    playlists = {playlist.playlist_id: playlist for playlist in catalog.iter_playlists()}
    assert (playlists["p2"].name, playlists["p2"].description) == ("Evening", "Slow")
    assert catalog.playlists["followers"].to_pylist() == [None, 7, None]
    assert report.dropped_playlists == 1


@pytest.mark.parametrize(
    ("second", "columns", "message"),
    [
        ("id,name\np,One\n", {}, "lists.csv: has no column for track_ids; it has id, name"),
        ("tracks,x\na,1\n", {}, "lists.csv: has no column for playlist_id; it has tracks, x"),
        ("id,tracks\np,a\n", {"playlist_name": "nom"}, "lists.csv: has no column 'nom'"),
        ("id,tracks\n", {}, "lists.csv: has no rows"),
    ],
)
def test_bad_second_table(
    tmp_path: Path, second: str, columns: dict[str, str], message: str
) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        run(tmp_path, GOOD, second=second, columns=columns)
    assert not (tmp_path / "out").exists()


def test_override_of_the_second_table(tmp_path: Path) -> None:
    second = "mixtape,contents\nm1,a\n"
    columns = {"playlist_id": "mixtape", "track_ids": "contents"}
    _, catalog = run(tmp_path, GOOD, second=second, columns=columns)
    assert members(catalog) == {"m1": ("a",)}


def test_extra_playlist_columns_of_pairs_belong_to_the_playlist(tmp_path: Path) -> None:
    text = "id,title,artist,playlist_id,playlist_followers\na,T,A,p,5\nb,U,B,p,5\na,T,A,q,9\n"
    report, catalog = run(tmp_path, text)
    assert catalog.playlists["playlist_followers"].to_pylist() == [5, 9]
    assert report.extra == []


SONGS = HEADER + "".join(f"s{n},T{n},A\n" for n in range(20))


def lists(count: int, header: str = "", cells: list[str] | None = None) -> str:
    rows = [f"p{n},s{n}" + (f",{cells[n]}" if cells else "") for n in range(count)]
    return "\n".join(["id,tracks" + (f",{header}" if header else ""), *rows]) + "\n"


def test_playlists_that_are_held_out_are_told(tmp_path: Path) -> None:
    report, _ = run(tmp_path, SONGS, second=lists(20))
    assert report.held_out == 3
    assert "split at random: train 17, validation 1, test 2" in report.summary()
    report, _ = run(tmp_path, SONGS, second=lists(9))
    assert report.held_out == 0
    assert "fewer than 10 playlists, so nothing is held out: train 9" in report.summary()
    report, _ = run(tmp_path, SONGS)
    assert "nothing is held out" in report.summary()


@pytest.mark.parametrize("header", ["split", "Split"])
def test_a_split_of_the_users_own_is_kept(tmp_path: Path, header: str) -> None:
    second = lists(4, header, ["Train", "VAL", "test", "train"])
    report, catalog = run(tmp_path, SONGS, second=second)
    assert catalog.playlists["split"].to_pylist() == ["train", "validation", "test", "train"]
    assert (report.held_out, report.playlist_extra) == (2, ["split"])
    report, _ = run(tmp_path, SONGS, second=lists(12, header, ["train"] * 12))
    assert "split as the column split says: train 12" in report.summary()


def test_a_split_of_the_users_own_that_leaks_is_refused_unless_it_is_kept_by_option(
    tmp_path: Path,
) -> None:
    rows = ["p0,s1;s2;s3,train", "p1,s2;s3;s4,test", "p2,s9,train"]
    second = "id,tracks,split\n" + "\n".join(rows) + "\n"
    with pytest.raises(LeakageError, match=r"'p0' .*'p1' .*near-duplicates keep"):
        run(tmp_path, SONGS, second=second)
    assert not (tmp_path / "out").exists()
    keep = SplitOptions(near_duplicates="keep")
    report, _ = run(tmp_path, SONGS, second=second, split=keep)
    assert report.held_out == 1


def test_another_split_column_is_kept_beside_ours(tmp_path: Path) -> None:
    second = lists(10, "split", ["train", "fold 2"] * 5)
    report, catalog = run(tmp_path, SONGS, second=second)
    assert catalog.playlists["source_split"].to_pylist() == ["train", "fold 2"] * 5
    assert (report.held_out, report.playlist_extra) == (2, ["source_split"])


def test_a_table_of_pairs_can_name_the_split_of_its_playlists(tmp_path: Path):
    lines = [
        f"{n},S{n},A,p{n // 2},{'test' if n > 15 else 'train'},{('train', 'test')[n % 2]}"
        for n in range(20)
    ]
    for name, header in (("own", "split,other"), ("varying", "other,split")):
        head = f"track_id,title,artist,playlist_id,{header}"
        (tmp_path / f"{name}.csv").write_text("\n".join([head, *lines]), encoding="utf-8")
    report = import_table(tmp_path / "own.csv", tmp_path / "own")
    assert (report.extra, report.playlist_extra) == (["other"], ["split"])
    assert report.split is not None
    assert (report.split.method, report.split.counts) == ("own", {"train": 8, "test": 2})
    report = import_table(tmp_path / "varying.csv", tmp_path / "varying")
    assert report.split is not None
    assert (report.split.method, report.extra) == ("random", ["other", "split"])


def test_a_control_character_in_a_list_of_tracks_is_counted_once(tmp_path: Path) -> None:
    pq.write_table(pa.table({"id": ["t1"], "title": ["One"], "artist": ["A"]}), tmp_path / "t.pq")
    lists = pa.table({"playlist_id": ["p"], "track_ids": [["t1\x01", "nobody"]]})
    pq.write_table(lists, tmp_path / "p.parquet")
    report = import_table(tmp_path / "t.pq", tmp_path / "out", playlists=tmp_path / "p.parquet")
    assert report.control_characters == 1
    assert members(Catalog.load(tmp_path / "out")) == {"p": ("t1",)}
