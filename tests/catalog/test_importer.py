"""The import of tables of tracks."""

import csv
import gzip
import hashlib
import io
import json
import tempfile
from collections import Counter
from dataclasses import asdict
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from csv_imports import GOOD, HEADER, PAIRS, members, rejects, run
from hypothesis import given, settings
from hypothesis import strategies as st

from talkplay_hf.catalog.cells import MISSING
from talkplay_hf.catalog.columns import TRACK_ALIASES, match_columns, normal, read_source
from talkplay_hf.catalog.importer import import_table
from talkplay_hf.catalog.schema import Catalog
from talkplay_hf.catalog.splits import SplitOptions
from talkplay_hf.errors import ArtifactError, InputError


def test_pairs_become_tracks_and_playlists(tmp_path: Path) -> None:
    report, catalog = run(tmp_path, PAIRS)
    track = catalog.track("t1")
    assert (track.title, track.artist, track.release_date) == ("Song One", "Ann", "2019-06-14")
    assert track.tags == ("pop", "dance pop", "rock")
    assert (track.popularity, track.tempo, track.key) == (30.0, 120.5, "F# major")
    assert dict(track.extra) == {
        "mode": 1,
        "energy": 0.5,
        "cold": False,
        "provenance": "songs.csv",
    }
    assert catalog.track("t2").key == "B minor"
    assert catalog.track("t2").year == 1999
    assert members(catalog) == {"p1": ("t1", "t2"), "p2": ("t1",), "p3": ("t1",)}
    assert next(catalog.iter_playlists()).name == "Morning"
    assert (report.rows, report.tracks, report.playlists, report.merged) == (4, 2, 3, 2)
    assert report.columns["tags"] == ["playlist_genre", "playlist_subgenre"]
    assert report.extra == ["mode", "energy"]
    assert not (tmp_path / "out" / "rejects.parquet").exists()


def test_merge_takes_the_first_value_of_each_column(tmp_path: Path) -> None:
    text = (
        "id,title,artist,album,label,playlist\n"
        "a,T,A,,,x\n"
        "a,Other,A,Never,never,z\n"
        "a, t ,a,First,north,y\n"
        "a,T,A,Second,south,y\n"
    )
    report, catalog = run(tmp_path, text)
    track = catalog.track("a")
    assert (track.title, track.album, track.extra["label"]) == ("T", "First", "north")
    assert (report.merged, report.conflicts, report.duplicate_pairs) == (3, 1, 1)
    assert members(catalog) == {"x": ("a",), "z": ("a",), "y": ("a",)}


def test_a_repeated_track_is_rejected_in_a_table_of_tracks(tmp_path: Path) -> None:
    report, catalog = run(tmp_path, "track_id,title,artist\na,T,A\nb,U,B\na,V,C\n")
    assert catalog.track_ids == ["a", "b"]
    assert catalog.track("a").title == "T"
    (reject,) = rejects(tmp_path)
    assert (reject["source"], reject["row"]) == ("songs.csv", 3)
    assert reject["reason"] == "track_id 'a' stands in row 1 already"
    assert json.loads(str(reject["record"])) == {"track_id": "a", "title": "V", "artist": "C"}
    assert report.rejects == 1


def test_rejects_name_row_and_reason_and_the_rest_goes_on(tmp_path: Path) -> None:
    text = (
        "title,artist\n"
        "A,x\n"
        "\n"
        ",y\n"
        "C,  \n"
        "D\n"
        "E,z,extra\n"
        '"two\nlines",w\n'
        "NA,NA\n"
        "None,Band\n"
        'F,"never closed\n'
        "G,v\n"
    )
    report, catalog = run(tmp_path, text)
    assert catalog.column("title") == ["A", "two lines", "None"]
    assert [(one["row"], one["reason"]) for one in rejects(tmp_path)] == [
        (2, "title missing (column title)"),
        (3, "artist missing (column artist)"),
        (4, "the row has 1 cells, the header 2"),
        (5, "the row has 3 cells, the header 2"),
        (7, "title and artist missing (column title, artist)"),
        (9, "the quote opened in line 12 is never closed"),
    ]
    assert report.rows == report.tracks + report.merged + report.rejects == 9


def test_rows_without_id_get_a_stable_one(tmp_path: Path) -> None:
    report, catalog = run(tmp_path, "Title,Artist\nSong,Ann\nSong,Bob\nSONG,ann\n")
    assert report.generated_ids == 2
    assert rejects(tmp_path)[0]["reason"] == "the same title and artist stands in row 1 already"
    (tmp_path / "again").mkdir()
    _, other = run(tmp_path / "again", "artist,title,year\nBob,Song,1999\n")
    assert other.track_ids == catalog.track_ids[1:]
    assert len(set(catalog.track_ids)) == 2


def test_an_absent_id_in_one_row_is_generated(tmp_path: Path) -> None:
    report, catalog = run(tmp_path, "id,title,artist\n7,A,x\n,B,y\n")
    assert catalog.track_ids[0] == "7"
    assert report.generated_ids == 1


@pytest.mark.parametrize(
    ("header", "standard"),
    [
        ("Track Name", "title"),
        ("TRACK-NAME", "title"),
        ("song", "title"),
        ("performer", "artist"),
        ("trackAlbumName", "album"),
        ("Year", "release_date"),
        ("genre", "tags"),
        ("BPM", "tempo"),
        ("preview_url", "audio"),
        ("licence", "license"),
        ("playlist", "playlist_name"),
    ],
)
def test_guess(tmp_path: Path, header: str, standard: str) -> None:
    path = tmp_path / "a.csv"
    path.write_text(f"other,{header}\n1,2\n")
    assert match_columns(read_source(path), TRACK_ALIASES, {}) == {standard: [header]}


def test_guesses_are_unambiguous() -> None:
    names = [normal(name) for names in TRACK_ALIASES.values() for name in names.split()]
    assert [name for name, times in Counter(names).items() if times > 1] == []


def test_overrides_beat_guesses(tmp_path: Path) -> None:
    report, catalog = run(
        tmp_path,
        "title,name,artist,text,genre,vibe\nA,B,x,no lyrics,pop,calm\n",
        columns={"title": "Name", "lyrics": "", "tags": "vibe, genre"},
    )
    track = catalog.track_at(0)
    assert (track.title, track.lyrics, track.tags) == ("B", None, ("calm", "pop"))
    assert dict(track.extra) == {
        "source_title": "A",
        "text": "no lyrics",
        "cold": False,
        "provenance": "songs.csv",
    }
    assert report.columns["title"] == ["name"]


def test_a_column_named_by_an_override_is_not_guessed_again(tmp_path: Path) -> None:
    _, catalog = run(tmp_path, "title,artist,text\nA,x,soft\n", columns={"caption": "text"})
    assert (catalog.track_at(0).caption, catalog.track_at(0).lyrics) == ("soft", None)


def test_extra_columns_keep_their_type_and_never_shadow_ours(tmp_path: Path) -> None:
    text = (
        "title,artist,date,year,explicit,plays,share,code,note,empty\n"
        "A,x,2001-02-03,2001,True,3,0.5,007,hi,\n"
        "B,y,,,false,,inf,010,NA,\n"
    )
    report, catalog = run(tmp_path, text)
    first, second = catalog.track_at(0), catalog.track_at(1)
    assert first.extra == {
        "source_year": 2001,
        "explicit": True,
        "plays": 3,
        "share": 0.5,
        "code": "007",
        "note": "hi",
        "cold": False,
        "provenance": "songs.csv",
    }
    assert second.extra["share"] is None
    assert second.extra["note"] is None
    assert second.extra["explicit"] is False
    assert first.year == 2001
    assert second.year is None
    assert "empty" not in report.extra


def test_text_limits_and_control_tokens(tmp_path: Path) -> None:
    text = (
        "id,title,artist,album,lyrics\n"
        f"a,{'t' * 1001},{'r' * 1000},{'l' * 2000},{'y' * 140_000}\n"
        "b,<|eot_id|>,<start_of_music>,al\x00b\x1bum,one\ttwo\n"
        "c,I <3 <you>,b | c,,\n"
    )
    report, catalog = run(tmp_path, text)
    track = catalog.track("a")
    lengths = [len(str(track.get(name))) for name in ("title", "artist", "album", "lyrics")]
    assert lengths == [1000, 1000, 1000, 100_000]
    assert report.cut == 3
    other = catalog.track("b")
    assert (other.title, other.artist, other.album) == ("<|eot_id|>", "<start_of_music>", "album")
    assert other.lyrics == "one\ttwo"
    assert (report.control_like, report.control_characters) == (1, 2)


def test_unreadable_numbers_and_dates_are_counted(tmp_path: Path) -> None:
    text = "title,artist,tempo,popularity,date\nA,x,fast,inf,someday\nB,y,NaN,,0000\nC,z,1e2,-1,\n"
    report, catalog = run(tmp_path, text)
    assert catalog.column("tempo") == [None, None, 100.0]
    assert catalog.column("popularity") == [None, None, -1.0]
    assert catalog.column("release_date") == [None, None, None]
    assert report.unreadable == 4


@pytest.mark.parametrize("lead", ["", "\ufeff"])
@pytest.mark.parametrize(
    ("name", "mark"), [("s.csv", ","), ("s.csv", ";"), ("s.csv", "|"), ("s.tsv", "\t")]
)
def test_delimiters_and_byte_order_mark(tmp_path: Path, lead: str, name: str, mark: str) -> None:
    text = f'{lead}title{mark}artist\r\n"Q{mark} ""1"""{mark}Zoë\r\n'
    _, catalog = run(tmp_path, text, name)
    title = 'Q "1"' if mark == "\t" else f'Q{mark} "1"'
    assert (catalog.column("title"), catalog.column("artist")) == ([title], ["Zoë"])


def test_gzip(tmp_path: Path) -> None:
    _, catalog = run(tmp_path, gzip.compress(PAIRS.encode(), mtime=0), "songs.csv.gz")
    assert catalog.track_ids == ["t1", "t2"]


def test_encoding(tmp_path: Path) -> None:
    raw = "title,artist\nA,x\nÉté,y\n".encode("latin-1")
    with pytest.raises(InputError, match=r"songs\.csv: line 3, byte 17: .*--encoding latin-1"):
        run(tmp_path, raw)
    assert not (tmp_path / "out").exists()
    _, catalog = run(tmp_path, raw, encoding="latin-1")
    assert catalog.column("title") == ["A", "Été"]
    with pytest.raises(InputError, match="--encoding utf-16"):
        run(tmp_path, "title,artist\nA,x\n".encode("utf-16"))


@pytest.mark.parametrize(
    ("name", "content", "options", "message"),
    [
        ("s.csv", b"", {}, "is empty"),
        ("s.csv", b"\n \n\n", {}, "is empty"),
        ("s.csv", b',,\n"",\n', {}, "is empty"),
        ("s.csv", HEADER, {}, "no rows under its header"),
        ("s.csv", "id,artist\n1,A\n", {}, "no column for the title.* it has id, artist"),
        ("s.csv", "title,when\n1,A\n", {}, "no column for the artist.* it has title, when"),
        ("s.csv", "<!DOCTYPE html>\n<p>hi</p>\n", {}, "no column for the title"),
        ("s.csv", b"\x89PNG\r\n\x1a\n\x00", {}, "line 1, byte 0: is not utf-8 text"),
        ("s.csv", b"PK\x03\x04....", {}, "zip or Excel"),
        ("s.csv", b"PAR1....", {}, "is a Parquet file"),
        ("s.csv", gzip.compress(b"title", mtime=0), {}, "rename it to .csv.gz"),
        ("s.csv.gz", GOOD, {}, "cannot be read"),
        ("s.csv.gz", gzip.compress(GOOD.encode(), mtime=0)[:-9], {}, "cannot be read"),
        ("s.parquet", GOOD, {}, "cannot be read"),
        ("s.parquet", b"", {}, "is empty"),
        ("s.xlsx", GOOD, {}, "must end in .csv"),
        ("s.csv", "title,artist,title\nA,B,C\n", {}, "'title' stands twice"),
        ("s.csv", GOOD, {"columns": {"album": "disc"}}, "'disc' for album; it has track_id, ti"),
        ("s.csv", GOOD, {"columns": {"singer": "artist"}}, "'singer' is no standard name; use tr"),
        ("s.csv", GOOD, {"columns": {"track_ids": "title"}}, "belongs to a table of playlists"),
        ("s.csv", GOOD, {"columns": {"title": ""}}, "no column for the title"),
        ("s.csv", GOOD, {"encoding": "klingon"}, "cannot be decoded as 'klingon'"),
        ("s.csv", GOOD + "+2AA-,B,C\n", {"encoding": "utf-7"}, "cannot be decoded as 'utf-7'"),
        ("s.csv", GOOD, {"encoding": "hex"}, "cannot be decoded as 'hex'"),
        ("s.csv", HEADER + "a,,A\nb,B\n", {}, r"all 2 rows are rejected \(row 2: the row has 2"),
    ],
)
def test_bad_input_is_one_clear_line(
    tmp_path: Path, name: str, content: str | bytes, options: dict[str, object], message: str
) -> None:
    with pytest.raises(InputError, match=message) as caught:
        run(tmp_path, content, name, **options)
    assert "\n" not in str(caught.value)
    assert name in str(caught.value) or "columns" in options
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_missing_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere\.csv: no such file"):
        import_table(tmp_path / "nowhere.csv", tmp_path / "out")
    with pytest.raises(InputError, match="is a folder"):
        import_table(tmp_path, tmp_path / "out")
    (tmp_path / "s.csv").write_text(GOOD)
    with pytest.raises(InputError, match=r"lists\.csv: no such file"):
        import_table(tmp_path / "s.csv", tmp_path / "out", playlists=tmp_path / "lists.csv")


def test_what_stands_at_out_is_safe(tmp_path: Path) -> None:
    run(tmp_path, PAIRS)
    with pytest.raises(InputError):
        run(tmp_path, "title\nA\n")
    assert len(Catalog.load(tmp_path / "out")) == 2
    run(tmp_path, GOOD)
    assert Catalog.load(tmp_path / "out").track_ids == ["a"]
    with pytest.raises(InputError, match="would be replaced"):
        import_table(tmp_path / "out" / "tracks.parquet", tmp_path / "out")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("keep")
    with pytest.raises(ArtifactError):
        import_table(tmp_path / "songs.csv", tmp_path / "mine")
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["notes.txt"]


def test_parquet_types(tmp_path: Path) -> None:
    table = pa.table(
        {
            "id": pa.array([1, 2], pa.int64()),
            "title": pa.array(["A", "B"], pa.large_string()),
            "artists": pa.array([["x", "y"], ["z"]]),
            "release_date": pa.array([1_000_000_000_123_456_789, None], pa.timestamp("ns")),
            "genres": pa.array([["pop", "Pop", None], []]),
            "danceability": pa.array([float("nan"), 0.5]),
            "vector": pa.array([[1.0, 2.0], None]),
            "label": pa.array(["no\x00rth", ""]).dictionary_encode(),
            "playlists": pa.array([[1], [2]]),
        }
    )
    pq.write_table(table, tmp_path / "t.parquet")
    report = import_table(tmp_path / "t.parquet", tmp_path / "out")
    first, second = (Catalog.load(tmp_path / "out").track(name) for name in ("1", "2"))
    assert (first.artist, first.release_date, first.tags) == ("x, y", "2001-09-09", ("pop",))
    assert dict(first.extra) == {
        "danceability": None,
        "vector": [1.0, 2.0],
        "label": "north",
        "cold": False,
        "provenance": "t.parquet",
    }
    assert (second.artist, second.tags) == ("z", ())
    assert dict(second.extra) == {
        "danceability": 0.5,
        "vector": None,
        "label": None,
        "cold": False,
        "provenance": "t.parquet",
    }
    assert report.dropped_columns == ["playlists"]


def test_damaged_parquet_text_is_a_clear_error(tmp_path: Path) -> None:
    offsets = pa.py_buffer(b"\0\0\0\0\2\0\0\0")
    bad = pa.StringArray.from_buffers(1, offsets, pa.py_buffer(b"\xff\xfe"))
    pq.write_table(pa.table({"title": bad, "artist": ["x"]}), tmp_path / "t.parquet")
    with pytest.raises(InputError, match="column 'title' cannot be read"):
        import_table(tmp_path / "t.parquet", tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["t.parquet"]


def test_same_input_same_bytes_and_no_paths(tmp_path: Path) -> None:
    written = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        run(tmp_path / name, PAIRS + "t9,,x,,,,,,,,,,\n", second="id,tracks\np1,t2\n")
        out = tmp_path / name / "out"
        written.append({path.name: path.read_bytes() for path in sorted(out.iterdir())})
    assert written[0] == written[1]
    assert set(written[0]) == {
        "manifest.json",
        "playlists.parquet",
        "rejects.parquet",
        "tracks.parquet",
    }
    manifest = json.loads(written[0]["manifest.json"])
    source = tmp_path / "one" / "songs.csv"
    assert manifest["made_from"]["source"] == hashlib.sha256(source.read_bytes()).hexdigest()
    assert manifest["made_from"].keys() == {"source", "playlists"}
    assert manifest["import"]["sources"] == ["songs.csv", "lists.csv"]
    split = asdict(SplitOptions())
    assert manifest["options"] == {"columns": {}, "encoding": None, "split": split}
    assert str(tmp_path) not in written[0]["manifest.json"].decode()


def test_the_manifest_tells_the_options(tmp_path: Path) -> None:
    columns = {"title": "name", "album": ""}
    split = SplitOptions(seed=3)
    run(tmp_path, "name,artist\nA,x\n", columns=columns, encoding="latin-1", split=split)
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text(encoding="utf-8"))
    wanted = {"columns": columns, "encoding": "latin-1", "split": asdict(split)}
    assert manifest["options"] == wanted


def test_report_reads_well(tmp_path: Path) -> None:
    report, _ = run(tmp_path, PAIRS + "t9,,x,,,,,,,,,,\n")
    text = report.summary()
    assert text.startswith("2 tracks and 3 playlists from 5 rows of songs.csv\n")
    assert "title <- track_name" in text
    assert "tags <- playlist_genre + playlist_subgenre" in text
    assert "also kept: mode, energy" in text
    assert "merged 2" in text
    assert "conflicts" not in text
    assert text.endswith("rejected: 1 rows (see rejects.parquet)")
    assert json.loads(json.dumps(report.to_dict()))["rejects"] == 1


@settings(max_examples=60, deadline=None)
@given(
    header=st.lists(st.sampled_from([*TRACK_ALIASES, "mode", "x", "y"]), max_size=4, unique=True),
    cells=st.lists(st.lists(st.text(max_size=12), max_size=7), max_size=5),
)
def test_any_text_in_any_cell(header: list[str], cells: list[list[str]]) -> None:
    names = list(dict.fromkeys(["title", "artist", *header]))
    handle = io.StringIO()
    csv.writer(handle).writerows([names, ["T", "A", *[""] * (len(names) - 2)], *cells])
    check_any(handle.getvalue().encode("utf-8", "replace"), must_pass=True)


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=200), st.sampled_from(["", "title,artist\n", "title;artist;tags\n"]))
def test_any_bytes(raw: bytes, head: str) -> None:
    check_any(head.encode() + raw, must_pass=False)


def check_any(raw: bytes, *, must_pass: bool) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        try:
            report, catalog = run(folder, raw)
        except InputError:
            if must_pass:
                raise
            assert [path.name for path in folder.iterdir()] == ["songs.csv"]
        else:
            assert report.tracks == len(catalog) > 0
            assert report.rows == report.tracks + report.merged + report.rejects
            known = set(catalog.track_ids)
            assert all(known.issuperset(ids) and ids for ids in members(catalog).values())


WORDS = st.text(
    st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1, max_size=9
).filter(lambda word: word not in MISSING)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(WORDS, WORDS.filter(lambda word: not word.startswith("[")), st.floats(0, 300)),
        min_size=1,
        max_size=6,
    )
)
def test_round_trip(rows: list[tuple[str, str, float]]) -> None:
    with tempfile.TemporaryDirectory() as name:
        handle = io.StringIO()
        writer = csv.writer(handle)
        writer.writerow(["track_id", "title", "artist", "tempo"])
        writer.writerows([f"t{number}", *row] for number, row in enumerate(rows))
        _, catalog = run(Path(name), handle.getvalue())
        columns = [catalog.column(column) for column in ("title", "artist", "tempo")]
    assert list(zip(*columns, strict=True)) == rows


@pytest.mark.realdata
def test_real_pairs(tmp_path: Path, real_data: Path) -> None:
    report = import_table(real_data / "spotify_songs.csv", tmp_path / "out")
    assert (report.rows, report.tracks, report.playlists) == (26_995, 23_789, 396)
    assert (report.merged, report.duplicate_pairs, report.rejects) == (3_201, 302, 5)
    assert {one["reason"] for one in rejects(tmp_path)} == {
        "title and artist missing (column track_name, track_artist)"
    }
    catalog = Catalog.load(tmp_path / "out")
    assert len({tag for tags in catalog.column("tags") for tag in tags}) == 30
    assert len(set(catalog.column("key"))) == 24
    assert {len(text) for text in catalog.column("release_date")} == {4, 7, 10}
    assert "danceability" in report.extra
    assert not [name for name in report.extra if name.startswith("playlist")]


@pytest.mark.realdata
def test_real_corpus(tmp_path: Path, real_data: Path) -> None:
    corpus = real_data / "corpus"
    report = import_table(
        corpus / "tracks.parquet", tmp_path / "out", playlists=corpus / "playlists.parquet"
    )
    assert (report.tracks, report.rejects) == (27_082, 1)
    assert (report.playlists, report.dropped_playlists) == (948, 127)
    assert report.playlist_extra == ["group", "source"]
    assert report.dropped_columns == ["playlists"]
    catalog = Catalog.load(tmp_path / "out")
    assert sum(text is not None for text in catalog.column("lyrics")) == 1_009


def test_what_arrow_says_in_several_lines_is_told_in_one(tmp_path: Path) -> None:
    path = tmp_path / "s.parquet"
    pq.write_table(pa.table({"title": ["T"] * 9, "artist": ["A"] * 9}), path)
    raw = bytearray(path.read_bytes())
    raw[4:30] = b"\xff" * 26
    path.write_bytes(raw)
    with pytest.raises(InputError) as refused:
        read_source(path)
    assert "\n" not in str(refused.value)
