"""What the import of the Million Playlist Dataset makes of bad input."""

import json
import re
from collections.abc import Iterator
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import pytest
from mpd_runs import members, rejects, run, run_one
from mpd_slices import LAST_DAY, playlist, track, write_slice

from talkplay_hf.catalog.mpd import is_mpd, read_slice
from talkplay_hf.catalog.mpd_import import import_mpd
from talkplay_hf.errors import ArtifactError, InputError, TalkPlayError


@pytest.mark.parametrize("date", [0, -5, 10**18, 10**30, LAST_DAY * 1000, "1509494400", 1.5, True])
def test_a_date_that_cannot_be_one_is_null_and_counted(tmp_path: Path, date: object):
    undated = playlist(2)
    del undated["modified_at"]
    report, catalog = run_one(tmp_path, [playlist(0), playlist(1, modified_at=date), undated])
    assert catalog.playlists["created_at"].to_pylist() == ["2017-11-01", None, None]
    assert (report.unknown_dates, report.rejects) == (2, 0)


DEEP = json.loads("[" * 500 + "]" * 500)
BROKEN_PLAYLISTS = [
    (DEEP, "the playlist is a list, not an object"),
    (playlist(5, tracks={"deep": DEEP}), "playlist 5: tracks is an object, not a list"),
    ("text", "the playlist is text, not an object"),
    (None, "the playlist is null, not an object"),
    (playlist(5, pid=None), "pid is missing"),
    (playlist(5, pid="5"), "pid is text, not a whole number"),
    (playlist(5, pid=True), "pid is a truth value, not a whole number"),
    (playlist(5, pid=2**70), "pid is a number, not a whole number"),
    (playlist(5, tracks={"0": track(1)}), "playlist 5: tracks is an object, not a list"),
    (playlist(5, tracks=None), "playlist 5: tracks is missing"),
    (playlist(5, []), "playlist 5: has no track that can be taken"),
    (playlist(1), "playlist 1: the pid stands in row 1 already"),
]


@pytest.mark.parametrize(("broken", "reason"), BROKEN_PLAYLISTS)
def test_a_broken_playlist_is_rejected_and_the_rest_goes_on(
    tmp_path: Path, broken: object, reason: str
):
    report, catalog = run_one(tmp_path, [playlist(1), broken, playlist(2)])
    assert list(members(catalog)) == ["1", "2"]
    assert rejects(tmp_path) == [("mpd.slice.0-999.json", 2, reason)]
    assert (report.rejects, report.rejected_playlists) == (1, 1)
    with pytest.raises(InputError, match=re.escape(f"mpd.slice.0-999.json: row 2: {reason}")):
        run(tmp_path, on_error="stop")


BROKEN_ENTRIES = [
    (17, "the track is a number, not an object"),
    ([], "the track is a list, not an object"),
    (track(9, track_uri=None), "track_uri is missing"),
    (track(9, track_uri=["x"]), "track_uri is a list, not text"),
    (track(9, track_uri="spotify:track:"), "track_uri is empty"),
    (track(9, track_name=None), "track_name is missing"),
    (track(9, artist_name=3.5), "artist_name is a number, not text"),
]


@pytest.mark.parametrize(("broken", "reason"), BROKEN_ENTRIES)
def test_a_broken_entry_is_rejected_alone(tmp_path: Path, broken: object, reason: str):
    mixed = playlist(4, [1, 2])
    mixed["tracks"].insert(1, broken)
    report, catalog = run_one(tmp_path, [playlist(3), mixed])
    assert members(catalog)["4"] == [1, 2]
    reason = f"playlist 4, position 1: {reason}"
    assert rejects(tmp_path) == [("mpd.slice.0-999.json", 2, reason)]
    assert (report.rejects, report.rejected_entries) == (1, 1)
    with pytest.raises(InputError, match=re.escape(reason)):
        run(tmp_path, on_error="stop")


def test_other_values_of_a_wrong_type_become_null_and_are_counted(tmp_path: Path):
    song = track(1, album_name=5, duration_ms="long", album_uri={}, artist_uri=None)
    wrong = playlist(0, [song], name=12, description=[], num_followers=2**70, num_edits=None)
    report, catalog = run_one(tmp_path, [{**wrong, "collaborative": "maybe"}])
    row = catalog.playlists.to_pylist()[0]
    columns = ("name", "description", "normalized_name", "num_followers", "collaborative")
    assert [row[name] for name in columns] == [None] * 5
    found = catalog.track_at(0)
    assert (found.album, found.extra["duration_ms"], found.extra["album_id"]) == (None, None, None)
    assert (report.unreadable, report.rejects) == (7, 0)


def test_a_pid_of_an_earlier_slice_is_rejected_with_its_tracks(tmp_path: Path):
    write_slice(tmp_path / "mpd", [playlist(0, [1]), playlist(1, [2])], 0)
    write_slice(tmp_path / "mpd", [playlist(2, [3]), playlist(1, [4]), playlist(9, [5, 1])], 1000)
    report, catalog = run(tmp_path)
    assert members(catalog) == {"0": [1], "1": [2], "2": [3], "9": [5, 1]}
    assert [int(one) for one in catalog.track_ids] == [1, 2, 3, 5]
    reason = "playlist 1: the pid stands in mpd.slice.0-999.json already"
    assert rejects(tmp_path) == [("mpd.slice.1000-1999.json", 2, reason)]
    assert (report.rejected_playlists, report.entries) == (1, 5)
    with pytest.raises(InputError, match=re.escape(f"1000-1999.json: row 2: {reason}")):
        run(tmp_path, on_error="stop")


def test_rejects_are_listed_in_the_order_of_files_and_rows(tmp_path: Path):
    write_slice(tmp_path / "mpd", [None, playlist(0)], 0)
    write_slice(tmp_path / "mpd", [playlist(0), None, playlist(0), playlist(1)], 1000)
    run(tmp_path)
    found = [(source[10:14], row) for source, row, _ in rejects(tmp_path)]
    assert found == [("0-99", 1), ("1000", 1), ("1000", 2), ("1000", 3)]


def test_of_a_truncated_slice_the_whole_playlists_are_taken(tmp_path: Path):
    texts = [json.dumps(playlist(n, [n], name="é☀"), ensure_ascii=False) for n in range(3)]
    head = '{"info": {}, "playlists": [\n'
    raw = (head + ", \n".join(texts) + "\n]}").encode()
    ends = [len((head + ", \n".join(texts[: n + 1])).encode()) for n in range(3)]
    path = tmp_path / "mpd.slice.0-999.json"
    for cut in (*range(0, len(raw), 5), len(raw) - 1):
        path.write_bytes(raw[:cut])
        found = read_slice(path)
        whole = sum(end <= cut for end in ends)
        assert found.playlists["pid"].to_pylist() == list(range(whole))
        assert found.playlists["name"].to_pylist() == ["é☀"] * whole
        [reject] = found.rejects
        assert (reject.source, reject.row) == (path.name, whole + 1)
        assert reject.reason.endswith(f"; whole playlists before it: {whole}")
        if cut > len(head):
            byte = int(re.search(r"byte ([0-9]+)", reject.reason)[1])  # type: ignore[index]
            assert ([0, *ends][whole]) <= byte <= cut
    assert reject.reason.startswith(f"the file ends early, at byte {len(raw) - 1}; ")


def test_a_truncated_slice_does_not_stop_the_others(tmp_path: Path):
    path = write_slice(tmp_path / "mpd", [playlist(0), playlist(1)], 0)
    path.write_bytes(path.read_bytes()[:-300])
    write_slice(tmp_path / "mpd", [playlist(1000)], 1000)
    report, catalog = run(tmp_path)
    assert list(members(catalog)) == ["0", "1000"]
    assert (report.broken_files, report.rejects) == (1, 1)
    [(source, row, reason)] = rejects(tmp_path)
    assert (source, row) == (path.name, 2)
    assert re.fullmatch(
        r"the file is broken at byte \d+ \(.*\); whole playlists before it: 1", reason
    )
    with pytest.raises(InputError, match=re.escape(f"{path}: row 2: {reason}")):
        run(tmp_path, on_error="stop")


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"", "the file is not JSON"),
        (b"pid,name\n1,x\n", "the file is not JSON"),
        (b"\xff\xfe\x00", "the file is not JSON"),
        (b"[1, 2]", "the file has no list of playlists"),
        (b'{"playlists": {"0": 1}}', "the file has no list of playlists"),
        (b"[" * 100_000, "the file is not JSON"),
        (b'{"playlists": [' + b"[" * 100_000, "the file is broken at byte 15"),
    ],
)
def test_a_slice_that_is_no_json_of_playlists_is_rejected(tmp_path: Path, raw: bytes, reason: str):
    write_slice(tmp_path / "mpd", [playlist(1000)], 1000)
    path = tmp_path / "mpd" / "mpd.slice.0-999.json"
    path.write_bytes(raw)
    _, catalog = run(tmp_path)
    assert list(members(catalog)) == ["1000"]
    [(source, row, found)] = rejects(tmp_path)
    assert (source, row) == (path.name, 1)
    assert found.startswith(reason)


def test_bytes_that_are_not_utf8_cost_no_playlist(tmp_path: Path):
    path = write_slice(tmp_path / "mpd", [playlist(0, name="a|b"), playlist(1)])
    path.write_bytes(path.read_bytes().replace(b"a|b", b"a\xffb"))
    report, catalog = run(tmp_path)
    assert catalog.playlists["name"].to_pylist() == ["ab", "List 1"]
    assert (report.control_characters, report.rejects) == (1, 0)


def test_a_folder_without_slices_is_refused_by_name(tmp_path: Path):
    (tmp_path / "mpd").mkdir()
    for _ in range(2):
        assert not is_mpd(tmp_path / "mpd")
        with pytest.raises(InputError, match=r"mpd: holds neither mpd\.slice"):
            run(tmp_path)
        (tmp_path / "mpd" / "songs.csv").write_text("title,artist\na,b\n")
    assert not is_mpd(tmp_path / "mpd" / "songs.csv")
    assert not is_mpd(tmp_path / "nowhere")
    with pytest.raises(InputError, match="nowhere: no such file"):
        import_mpd(tmp_path / "nowhere", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_folder_that_is_called_a_slice_is_named_once(tmp_path: Path):
    (tmp_path / "mpd" / "mpd.slice.0-999.json").mkdir(parents=True)
    with pytest.raises(InputError, match=r"999\.json: cannot be read \(Is a dir") as caught:
        run(tmp_path)
    assert str(caught.value).count("mpd.slice") == 1


def test_slices_without_any_playlist_are_refused_with_the_first_reason(tmp_path: Path):
    write_slice(tmp_path / "mpd", [playlist(5, [])])
    with pytest.raises(InputError, match=r"no playlist that can be taken.*row 1.*playlist 5: has"):
        run(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mpd"]


def test_what_is_not_a_catalog_is_never_replaced(tmp_path: Path):
    write_slice(tmp_path / "mpd", [playlist(5)])
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("mine")
    with pytest.raises(ArtifactError, match="not one of ours"):
        run(tmp_path)
    with pytest.raises(InputError, match="would be replaced"):
        import_mpd(tmp_path / "mpd", tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mpd", "out"]


class Ended:
    """A pool of processes that are ended from outside when they should begin."""

    def __init__(self, *_: object, **__: object) -> None: ...

    def __enter__(self) -> "Ended":
        return self

    def __exit__(self, *_: object) -> None: ...

    def map(self, *_: object) -> Iterator[Path]:
        raise BrokenProcessPool


def test_processes_that_are_ended_from_outside_say_what_to_try(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    for first in (0, 1000):
        write_slice(tmp_path / "mpd", [playlist(first)], first)
    monkeypatch.setattr("talkplay_hf.catalog.mpd_import.ProcessPoolExecutor", Ended)
    with pytest.raises(TalkPlayError, match=r"with fewer than 2 workers: .*kept in (.*)") as caught:
        import_mpd(tmp_path / "mpd", tmp_path / "out", workers=2)
    assert Path(str(caught.value).rpartition(" ")[2]).is_dir()


@pytest.mark.parametrize("options", [{"on_error": "ignore"}, {"workers": 0}])
def test_impossible_options_are_refused(tmp_path: Path, options: dict[str, Any]):
    write_slice(tmp_path / "mpd", [playlist(5)])
    with pytest.raises(InputError, match=next(iter(options))):
        import_mpd(tmp_path / "mpd", tmp_path / "out", **options)
