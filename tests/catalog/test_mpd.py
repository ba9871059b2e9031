"""The import of the Million Playlist Dataset."""

import json
import multiprocessing
import re
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from mpd_runs import content, members, run, run_one
from mpd_slices import (
    LAST_DAY,
    challenge_playlist,
    playlist,
    track,
    write_challenge,
    write_slice,
    write_slices,
)

from talkplay_hf.catalog.cells import Cells
from talkplay_hf.catalog.import_entries import TEXT_LENGTH
from talkplay_hf.catalog.mpd import is_mpd, read_slice
from talkplay_hf.catalog.mpd_import import import_mpd
from talkplay_hf.catalog.schema import Catalog
from talkplay_hf.catalog.splits import SplitOptions, cold_tracks, split_catalog
from talkplay_hf.catalog.titles import normalize_title
from talkplay_hf.errors import InputError

# Titles.


@pytest.mark.parametrize(
    ("title", "wanted"),
    [
        ("  Chill Out!  ", "chill out"),
        ("R&B / Soul-Mix", "r&b soul-mix"),
        ("it's   #1 (90's)", "it's 1 90's"),
        (".,/#!$%^*;:{}=_`~()@", ""),
        ("a.b,c/d#e!f$g%h^i*j;k:l{m}n=o_p`q~r(s)t@u", "a b c d e f g h i j k l m n o p q r s t u"),
        ('"quoted" + more? [yes] <ok> |\\', '"quoted" + more? [yes] <ok> |\\'),
        ("Été\tÀ\nLA PLAGE ☀", "été à la plage ☀"),
    ],
)
def test_titles_are_normalised_as_the_dataset_does(title: str, wanted: str):
    assert normalize_title(title) == wanted


@given(st.text())
def test_titles_are_what_the_code_of_the_dataset_makes_of_them(title: str):
    theirs = re.sub(r"[.,\/#!$%\^\*;:{}=\_`~()@]", " ", title.lower())
    assert normalize_title(title) == re.sub(r"\s+", " ", theirs).strip()


# What is taken.


def test_playlists_and_tracks_are_what_the_slices_hold(tmp_path: Path):
    first = playlist(
        7, [3, 1, 3], name=" Été  #1!", description="Mine", collaborative="true", num_edits=9
    )
    write_slice(tmp_path / "mpd", [first], 0)
    write_slice(tmp_path / "mpd", [playlist(1000, [1, 2], modified_at=LAST_DAY)], 1000)
    report, catalog = run(tmp_path)
    assert members(catalog) == {"7": [3, 1, 3], "1000": [1, 2]}
    row = catalog.playlists.slice(0, 1).to_pylist()[0]
    assert row.pop("track_ids") == [f"{number:022d}" for number in (3, 1, 3)]
    assert row == {
        "playlist_id": "7",
        "name": "Été #1!",
        "description": "Mine",
        "created_at": "2017-10-25",
        "normalized_name": "été 1",
        "num_followers": 2,
        "num_edits": 9,
        "collaborative": True,
        "num_holdouts": None,
        "split": "train",
        "provenance": "mpd.slice.0-999.json",
    }
    assert [int(one) for one in catalog.track_ids] == [3, 1, 2]
    song = catalog.track(f"{3:022d}")
    assert (song.title, song.artist, song.album) == ("Song 3", "Artist 3", "Album 3")
    assert dict(song.extra) == {
        "duration_ms": 180_003,
        "artist_id": f"{3:022d}",
        "album_id": f"{3:022d}",
        "cold": False,
        "provenance": "mpd.slice.0-999.json",
    }
    assert (report.tracks, report.playlists, report.entries, report.rejects) == (3, 2, 5, 0)
    assert catalog.playlists["created_at"].to_pylist()[1] == "2017-11-01"
    assert not (tmp_path / "out" / "rejects.parquet").exists()


def test_the_written_slices_come_back_whole(tmp_path: Path):
    paths = write_slices(tmp_path / "mpd", 3, 40, tracks=300)
    wanted: dict[str, list[str]] = {}
    songs: dict[str, tuple[str, str, str, int]] = {}
    for path in paths:
        for one in json.loads(path.read_text())["playlists"]:
            entries = one["tracks"]
            assert [entry["pos"] for entry in entries] == list(range(one["num_tracks"]))
            wanted[str(one["pid"])] = [entry["track_uri"][14:] for entry in entries]
            for entry in entries:
                texts = (entry["track_name"], entry["artist_name"], entry["album_name"])
                songs.setdefault(entry["track_uri"][14:], (*texts, entry["duration_ms"]))
    report, catalog = run(tmp_path)
    lists = {one.playlist_id: list(one.track_ids) for one in catalog.iter_playlists()}
    assert lists == wanted
    columns = [catalog.column(name) for name in ("title", "artist", "album", "duration_ms")]
    assert dict(zip(catalog.track_ids, zip(*columns, strict=True), strict=True)) == songs
    assert catalog.track_ids == list(songs)
    assert (report.tracks, report.playlists) == (len(songs), 120)
    assert report.entries == sum(map(len, wanted.values()))


def test_slices_are_taken_in_the_order_of_their_numbers(tmp_path: Path):
    for first in (10_000, 2000, 0):
        write_slice(tmp_path / "mpd" / "data", [playlist(first)], first)
    (tmp_path / "mpd" / "README.md").write_text("The dataset")
    (tmp_path / "mpd" / "data" / "mpd.slice.copy.json").write_text("{}")
    assert is_mpd(tmp_path / "mpd")
    assert list(members(run(tmp_path)[1])) == ["0", "2000", "10000"]


def test_other_uris_stay_as_they_are_and_one_track_has_one_id(tmp_path: Path):
    local = track(1, track_uri="spotify:local:Ann::Song:180")
    bare = track(5, track_uri=f"{5:022d}")
    _, catalog = run_one(tmp_path, [playlist(0, [local, 5, bare])])
    assert catalog.track_ids == ["spotify:local:Ann::Song:180", f"{5:022d}"]
    assert catalog.playlists["track_ids"].to_pylist()[0] == [*catalog.track_ids, f"{5:022d}"]


def test_text_is_cleaned_and_cut(tmp_path: Path):
    odd = track(1, track_name="a\x00b\t c ", artist_name="", album_name="x" * (TEXT_LENGTH + 5))
    report, catalog = run_one(tmp_path, [playlist(0, [odd], name=" \x07Night\n  drive", pid=3)])
    song = catalog.track_at(0)
    assert (song.title, song.artist, song.album) == ("ab c", "", "x" * TEXT_LENGTH)
    assert catalog.playlists["name"].to_pylist() == ["Night drive"]
    assert (report.control_characters, report.cut) == (2, 1)


@given(st.text(st.sampled_from("ab\u00a0\u2003\t\n \x00\x7f☀é\ud800"), max_size=8))
@example("a  b")
@example("a ")
@example(" a")
def test_names_are_cleaned_like_the_cells_of_a_table(text: str):
    with tempfile.TemporaryDirectory() as folder:
        path = write_slice(Path(folder), [playlist(0, name=text)])
        names = read_slice(path).playlists["name"].to_pylist()
    assert names == [Cells().text(text, literal=True)]


# Splits and the challenge set.


def test_the_split_is_the_one_that_is_drawn_for_any_catalog(tmp_path: Path):
    write_slices(tmp_path / "mpd", 2, 60, tracks=400)
    options = SplitOptions(test=10, validation=5, near_duplicates="keep", seed=3)
    report, catalog = run(tmp_path, split=options)
    assert report.splits == {"train": 105, "validation": 5, "test": 10}
    assert report.split is not None
    assert report.split.method == "chronological"
    dates = catalog.playlists.sort_by([("created_at", "descending")]).slice(0, 10)["created_at"]
    tested = catalog.playlists.filter(pa.compute.field("split") == "test")
    assert sorted(tested["created_at"].to_pylist()) == sorted(dates.to_pylist())
    unsplit = Catalog(catalog.tracks, catalog.playlists.drop_columns("split"))
    again, _ = split_catalog(unsplit, options)
    assert again.playlists["split"].equals(catalog.playlists["split"])
    cold = cold_tracks(catalog).tolist()
    assert catalog.column("cold") == cold
    assert report.cold_tracks == sum(cold) > 0


def test_the_challenge_set_is_a_split_of_its_own(tmp_path: Path):
    write_slice(tmp_path / "mpd" / "data", [playlist(pid, [pid, 40]) for pid in range(20)])
    write_challenge(
        tmp_path / "mpd",
        [
            challenge_playlist(1_000_000, [(0, 5), (4, 77), (9, 6)]),
            challenge_playlist(1_000_001, []),
            challenge_playlist(3, [(0, 7)]),
        ],
    )
    report, catalog = run(tmp_path, split=SplitOptions(near_duplicates="keep"))
    assert (report.files, report.splits["challenge"], report.unknown_dates) == (2, 3, 0)
    table = catalog.playlists.slice(20)
    assert table["playlist_id"].to_pylist() == ["1000000", "1000001", "challenge-3"]
    assert table["split"].to_pylist() == ["challenge"] * 3
    assert table["num_holdouts"].to_pylist() == [10] * 3
    assert table["created_at"].to_pylist() == [None] * 3
    found = members(catalog)
    assert (found["1000000"], found["1000001"], found["challenge-3"]) == ([5, 77, 6], [], [7])
    assert "challenge" not in catalog.playlists["split"].to_pylist()[:20]
    assert catalog.track(f"{77:022d}").extra["cold"]
    assert not catalog.track(f"{40:022d}").extra["cold"]


def test_a_challenge_set_alone_can_be_imported(tmp_path: Path):
    unnamed = challenge_playlist(1_000_000, [(0, 5)])
    del unnamed["name"]
    path = write_challenge(tmp_path / "mpd", [unnamed])
    assert is_mpd(path)
    report = import_mpd(path, tmp_path / "out", workers=1)
    catalog = Catalog.load(tmp_path / "out")
    assert (report.splits, report.split) == ({"challenge": 1}, None)
    assert catalog.playlists["name"].to_pylist() == [None]
    assert catalog.column("cold") == [True]


# The same bytes, whatever happens on the way.


@pytest.fixture(scope="module")
def mpd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six slices and a challenge set, with bad rows."""
    folder = tmp_path_factory.mktemp("mpd")
    paths = write_slices(folder, 6, 50, tracks=400)
    paths[1].write_bytes(paths[1].read_bytes()[:-50_000])
    entries: list[Any] = [1, {"pos": 1}]
    write_slice(folder, [playlist(3), playlist(990, entries)], 950, 999)
    write_challenge(folder, [challenge_playlist(1_000_000, [(0, 5)])])
    return folder


@pytest.fixture(scope="module")
def wanted(mpd: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of an import that nothing disturbs."""
    out = tmp_path_factory.mktemp("wanted") / "out"
    report = import_mpd(mpd, out, workers=1)
    assert report.rejects == 3
    found = content(out)
    assert set(found) == {
        "manifest.json",
        "playlists.parquet",
        "rejects.parquet",
        "tracks.parquet",
    }
    return found


def test_the_number_of_workers_does_not_show(mpd: Path, wanted: dict[str, bytes], tmp_path: Path):
    import_mpd(mpd, tmp_path / "out", workers=2)
    assert content(tmp_path / "out") == wanted
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_stopping_ends_the_workers(mpd: Path, tmp_path: Path):
    # The error holds on to the frames, so that nothing ends by chance.
    with pytest.raises(InputError) as stopped:
        import_mpd(mpd, tmp_path / "out", workers=2, on_error="stop")
    assert multiprocessing.active_children() == []
    assert "is broken at byte" in str(stopped.value)
    assert not (tmp_path / "out").exists()


KILLED = """
import os, signal, sys
from talkplay_hf.catalog.mpd_import import import_mpd

def progress(what, done, total):
    if (what, done) == (sys.argv[3], 3):
        os.kill(os.getpid(), signal.SIGKILL)

if __name__ == "__main__":
    import_mpd(sys.argv[1], sys.argv[2], workers=int(sys.argv[4]), progress=progress)
"""


@pytest.mark.parametrize(("moment", "workers"), [("reading", 1), ("reading", 2), ("writing", 1)])
def test_an_import_that_is_killed_goes_on_where_it_was(
    mpd: Path, wanted: dict[str, bytes], tmp_path: Path, moment: str, workers: int
):
    command = [sys.executable, "-c", KILLED, mpd, tmp_path / "out", moment, str(workers)]
    killed = subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE)
    # The pipe stays open for as long as any process of the import lives.
    killed.communicate(timeout=60)
    assert killed.returncode == -signal.SIGKILL
    assert not (tmp_path / "out").exists()
    parts = [one for one in (tmp_path / ".out.parts").glob("mpd.*") if one.is_dir()]
    assert len(parts) == 3 if (moment, workers) == ("reading", 1) else len(parts) >= 3
    made = {part: part.stat().st_ino for part in parts}
    kept: list[bool] = []

    def look(what: str, done: int, total: int) -> None:
        if (what, done) == ("reading", total):
            kept.extend(part.stat().st_ino == made[part] for part in parts)

    import_mpd(mpd, tmp_path / "out", workers=1, progress=look)
    assert all(kept)
    assert len(kept) == len(parts)
    assert content(tmp_path / "out") == wanted
    assert [path.name for path in tmp_path.iterdir() if ".parts" in path.name] == []


def test_a_part_of_another_slice_or_a_damaged_one_is_made_again(tmp_path: Path):
    def fail(what: str, done: int, total: int) -> None:
        if what == "merging":
            raise KeyboardInterrupt

    for first in (0, 1000, 2000):
        write_slice(tmp_path / "mpd", [playlist(first, name="old")], first)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, progress=fail)
    work = tmp_path / ".out.parts"
    write_slice(tmp_path / "mpd", [playlist(0, name="new")], 0)
    (work / "mpd.slice.1000-1999.json" / "part.json").write_text('{"sha256": ')
    (work / "mpd.slice.2000-2999.json" / "part.json").write_text("[]")
    report, catalog = run(tmp_path)
    assert catalog.playlists["name"].to_pylist() == ["new", "old", "old"]
    assert report.playlists == 3


def test_the_catalog_records_what_it_was_made_from_and_with(tmp_path: Path):
    write_slices(tmp_path / "mpd", 2, 20)
    report, _ = run(tmp_path, split=SplitOptions(seed=4))
    first = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert (first["tracks"], first["playlists"]) == (report.tracks, report.playlists)
    assert first["import"] == report.to_dict()
    assert first["options"]["split"]["seed"] == 4
    write_slices(tmp_path / "mpd", 2, 20, seed=1)
    run(tmp_path)
    second = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert first["made_from"] != second["made_from"]


def test_the_summary_names_what_was_counted(tmp_path: Path):
    lists = [playlist(0, [1, 1, 2]), playlist(1, modified_at=0), playlist(2, [])]
    report, _ = run_one(tmp_path, lists)
    text = report.summary()
    assert "3 tracks and 2 playlists with 6 entries from 1 files" in text
    assert "unknown dates 1" in text
    assert "rejected: 1 playlists, 0 entries, 0 files that break off (see rejects.parquet)" in text
