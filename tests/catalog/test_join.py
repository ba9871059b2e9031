"""Joined tables: which row speaks of which track, and what it brings."""

import json
import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from talkplay_hf.catalog.enrich import enrich_folder
from talkplay_hf.catalog.importer import import_table
from talkplay_hf.catalog.join import join_table
from talkplay_hf.catalog.join_report import JoinReport
from talkplay_hf.catalog.schema import Catalog, Playlist, Track
from talkplay_hf.catalog.track_match import TrackIndex
from talkplay_hf.errors import ArtifactError, InputError
from talkplay_hf.hub import files

TRACKS = [
    Track("spotify:track:a", "Café - Remastered 2011", "Simon & Garfunkel", tags=("Folk",)),
    Track("b", "Señorita (feat. X)", "The Band", popularity=3.0, extra={"energy": 0.5}),
    Track("c", "Double", "Two", album="One"),
    Track("d", "double", "TWO"),
]


def join(folder: Path, text: str, **options: object) -> tuple[Catalog, JoinReport]:
    """Join CSV text to the four tracks."""
    (folder / "more.csv").write_text(text, encoding="utf-8")
    return join_table(Catalog.from_tracks(TRACKS), folder / "more.csv", **options)  # type: ignore[arg-type]


def test_ids_hit_with_and_without_the_prefix_of_spotify(tmp_path: Path) -> None:
    catalog, report = join(
        tmp_path, "track_uri,album\na,First\nspotify:track:b,Second\nspotify:track:zz,No\n"
    )
    assert catalog.column("album") == ["First", "Second", "One", None]
    assert (report.rows, report.by_id, report.unmatched, report.tracks) == (3, 2, 1, 2)
    assert report.unmatched_examples == ["row 3: spotify:track:zz"]


def test_title_and_artist_hit_where_the_id_does_not(tmp_path: Path) -> None:
    text = (
        "track_id,title,artist,license\n"
        "1,CAFE - remastered 2011,Simon and Garfunkel,exact\n"
        "2,Senorita,Band,loose\n"
        "3,Double!,two,both\n"
        "4,Café (Live),Simon & Garfunkel,another recording\n"
    )
    catalog, report = join(tmp_path, text)
    assert catalog.column("license") == ["exact", "loose", "both", "both"]
    assert (report.by_id, report.by_name, report.by_loose_name, report.unmatched) == (0, 2, 1, 1)


@pytest.mark.parametrize(
    ("theirs", "hits"),
    [
        (("Song (feat. B)", "A"), True),
        (("Song [with B & C]", "A"), True),
        (("Song - 2004 Remaster", "A, B"), True),
        (("Song - Radio Edit", "A feat. B"), True),
        (("Song ft. B", "The A"), True),
        (("SÖNG", "Á"), True),
        (("Song (Radio Mix)", "A"), True),
        (("Song - 2011 Mix", "A"), True),
        (("Song - 2016 Stereo Mix", "A"), True),
        (("Song - 45 Version", "A"), True),
        (('Song (7" Version)', "A"), True),
        (("Song (Main Version)", "A"), True),
        (("Song [Edit]", "A"), True),
        (("Song (Edited Version / Remastered 2004)", "A"), True),
        (("Song (Official Video)", "A"), True),
        (("Song [Official HD Music Video]", "A"), True),
        (("Song - Official Audio", "A"), True),
        (("Song [Lyrics]", "A"), True),
        (("Song (Lyric Video) [HD]", "A"), True),
        (("Song (Kaya 2016 Mix)", "A"), False),
        (("Song (Official Live Video)", "A"), False),
        (("Song (B Edit)", "A"), False),
        (("Song - B Radio Mix", "A"), False),
        (("Song (2011 Version)", "A"), False),
        (("Song (Live at C / Remastered 2009)", "A"), False),
        (("Song - Live; 2009 Remaster", "A"), False),
        (("Song - 2009 Remaster; Live", "A"), False),
        (("Song - B Remix Radio Edit", "A"), False),
        (("Song (Acoustic Album Version)", "A"), False),
        (("Song - B Remix", "A"), False),
        (("Song (Live)", "A"), False),
        (("Song, Pt. 2", "A"), False),
        (("Song", "B & A"), False),
    ],
)
def test_editions_are_the_same_song_and_other_recordings_are_not(
    theirs: tuple[str, str], hits: bool
) -> None:
    index = TrackIndex(pa.table({"track_id": ["x"], "title": ["Song"], "artist": ["A"]}))
    title, artist = pa.array([theirs[0]]), pa.array([theirs[1]])
    found = [len(index.by_name(title, artist, loose=loose)[0]) for loose in (False, True)]
    assert any(found) is hits


@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(st.text(min_size=1), st.text(min_size=1)), min_size=1, max_size=8))
def test_every_track_finds_itself_by_name_whatever_its_name(names: list[tuple[str, str]]) -> None:
    names = [tuple(part.encode(errors="replace").decode() for part in one) for one in names]  # type: ignore[misc]
    titles, artists = pa.array([one for one, _ in names]), pa.array([one for _, one in names])
    ids = pa.array([str(n) for n in range(len(names))])
    index = TrackIndex(pa.table({"track_id": ids, "title": titles, "artist": artists}))
    for loose in (False, True):
        at, rows = index.by_name(titles, artists, loose=loose)
        assert {(n, n) for n in range(len(names))} <= set(
            zip(at.tolist(), rows.tolist(), strict=True)
        )


def test_values_that_are_there_stay_and_tags_are_united(tmp_path: Path) -> None:
    text = (
        "track_id,title,artist,album,tags,popularity,tempo,key,mode,release_date,lyrics,caption\n"
        "a,,,,folk;Rock,9,120,2,1,1999-05,one,x\n"
        "c,,,Never,,,,,,,,\n"
        "b,,,,,99,,,,,,\n"
    )
    catalog, report = join(tmp_path, text)
    track = catalog.track("spotify:track:a")
    assert (track.tags, track.popularity, track.tempo) == (("Folk", "Rock"), 9.0, 120.0)
    assert (track.key, track.year, track.lyrics, track.caption) == ("D major", 1999, "one", "x")
    assert catalog.track("c").album == "One"
    assert catalog.track("b").popularity == 3.0
    assert report.filled["tags"] == report.filled["popularity"] == 1
    assert "album" not in report.filled
    assert "tracks filled: release_date 1, tags 1" in report.summary()


def test_of_several_rows_the_best_match_gives_values_and_all_give_tags(tmp_path: Path) -> None:
    text = (
        "track_id,title,artist,album,tags,popularity\n"
        "z,Cafe,Simon,Loose,x,7\n"
        "y,Café - Remastered 2011,Simon & Garfunkel,Name,y,9\n"
        "a,,,,z,8\n"
        "a,,,Id,Y,1\n"
    )
    catalog, report = join(tmp_path, text)
    track = catalog.track("spotify:track:a")
    assert (track.album, track.popularity) == ("Id", 9.0)
    assert track.tags == ("Folk", "z", "Y", "x")
    assert (report.by_id, report.by_name, report.by_loose_name) == (2, 1, 1)


def test_further_columns_fill_nulls_or_come_under_another_name(tmp_path: Path) -> None:
    text = (
        "track_id,energy,language,year,release_date,explicit,empty,playlist_name,playlist_mood\n"
        "a,0.25,en,1990,1991,true,,p,m\n"
        "b,0.75,de,,,false,,p,m\n"
    )
    catalog, report = join(tmp_path, text)
    assert catalog.column("energy") == [0.25, 0.5, None, None]
    assert catalog.column("language") == ["en", "de", None, None]
    assert catalog.column("explicit") == [True, False, None, None]
    assert catalog.column("source_year") == [1990, None, None, None]
    assert catalog.column("release_date") == ["1991", None, None, None]
    assert report.extra["year"] == "source_year"
    assert report.dropped_columns == ["playlist_name", "playlist_mood"]
    assert not {"empty", "playlist_name", "playlist_mood"} & set(catalog.tracks.column_names)
    text = "track_id,energy\nc,high\n"
    (tmp_path / "other.csv").write_text(text, encoding="utf-8")
    for _ in range(2):
        catalog, report = join_table(catalog, tmp_path / "other.csv")
        assert catalog.column("joined_energy") == [None, None, "high", None]
        assert catalog.column("energy") == [0.25, 0.5, None, None]
    assert report.filled == {}
    whole = Catalog.from_tracks([Track("a", "T", "A", extra={"n": 1}), Track("b", "U", "B")])
    (tmp_path / "n.csv").write_text("track_id,n\nb,0.5\n", encoding="utf-8")
    catalog, _ = join_table(whole, tmp_path / "n.csv")
    assert catalog.column("n") == [1, None]
    assert catalog.column("joined_n") == [None, 0.5]


def test_columns_of_any_type_come_from_parquet_as_they_are(tmp_path: Path) -> None:
    table = pa.table(
        {
            "track_id": ["b", "a"],
            "vector": pa.array([[1.0, 2.0], None], pa.list_(pa.float32())),
            "instrumental": [True, False],
            "count": pa.array([7, 8], pa.int16()),
        }
    )
    pq.write_table(table, tmp_path / "t.parquet")
    catalog, _ = join_table(Catalog.from_tracks(TRACKS), tmp_path / "t.parquet")
    assert catalog.column("vector") == [None, [1.0, 2.0], None, None]
    assert catalog.column("instrumental") == [False, True, None, None]
    assert catalog.tracks.schema.field("count").type == pa.int16()
    again, report = join_table(catalog, tmp_path / "t.parquet")
    assert again.tracks.equals(catalog.tracks)
    assert report.filled == {}


def test_a_table_that_finds_nothing_leaves_the_catalog_as_it_is(tmp_path: Path) -> None:
    catalog, report = join(tmp_path, "track_id,album,new\nq,x,y\n")
    assert catalog.tracks.equals(Catalog.from_tracks(TRACKS).tracks)
    assert (report.tracks, report.unmatched) == (0, 1)
    assert "tracks filled: none" in report.summary()


def test_a_url_of_audio_is_taken_and_a_path_is_not(tmp_path: Path) -> None:
    catalog, report = join(tmp_path, "track_id,preview_url\na,https://x.org/a.mp3\nb,clips/b.mp3\n")
    assert catalog.column("audio") == ["https://x.org/a.mp3", None, None, None]
    assert report.audio_paths == 1


def test_bad_rows_are_counted_or_stop_the_join(tmp_path: Path) -> None:
    text = "track_id,title,artist,tempo\na,,,fast\n,Only a title,,1\nb,,\nb,,,90\n"
    catalog, report = join(tmp_path, text)
    assert (report.rows, report.rejects, report.unreadable) == (4, 2, 1)
    assert catalog.column("tempo") == [None, 90.0, None, None]
    assert [(one.row, one.reason) for one in sorted(report.rejected, key=lambda r: r.row)] == [
        (2, "has neither a track_id nor a title and an artist"),
        (3, "the row has 3 cells, the header 4"),
    ]
    with pytest.raises(InputError, match=r"more\.csv: row 2: has neither a track_id"):
        join(tmp_path, text, on_error="stop")
    with pytest.raises(InputError, match=r"row 1: 'fast' in the column 'bpm' cannot be read as te"):
        join(tmp_path, "track_id,bpm\na,fast\n", on_error="stop")


def test_texts_are_cut_and_control_characters_removed(tmp_path: Path) -> None:
    long = "x" * 2000
    catalog, report = join(tmp_path, f"track_id,album,tags\na,{long},{long}\nb,be\x07ll,\n")
    assert len(catalog.track("spotify:track:a").album or "") == 1000
    assert len(catalog.track("spotify:track:a").tags[1]) == 1000
    assert catalog.track("b").album == "bell"
    assert (report.cut, report.control_characters) == (2, 1)


def test_a_table_without_keys_says_what_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"looked for a track_id.*track_uri.*it has name, energy"):
        join(tmp_path, "name,energy\nx,1\n")
    with pytest.raises(InputError, match="no such file"):
        join_table(Catalog.from_tracks(TRACKS), tmp_path / "none.csv")
    with pytest.raises(InputError, match="'mood' is no standard name"):
        join(tmp_path, "track_id\na\n", columns={"mood": "x"})
    catalog, _ = join(tmp_path, "code,words\na,hello\n", columns={"track_id": "code"})
    assert catalog.column("words")[0] == "hello"


@settings(max_examples=20, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from("abcdxy"), st.sampled_from(["", "1", "2"]), st.sampled_from("pqr")
        ),
        min_size=1,
        max_size=12,
    )
)
def test_a_join_equals_a_plain_loop(rows: list[tuple[str, str, str]]) -> None:
    table = pa.table(
        {
            "track_id": pa.array([row[0] for row in rows], pa.string()),
            "tempo": pa.array([float(row[1]) if row[1] else None for row in rows], pa.float64()),
            "tags": pa.array([[row[2]] for row in rows], pa.list_(pa.string())),
        }
    )
    with tempfile.TemporaryDirectory() as folder:
        pq.write_table(table, Path(folder) / "t.parquet")
        tracks = [Track(one, one, one, tags=("p",)) for one in "abcd"]
        catalog, report = join_table(Catalog.from_tracks(tracks), Path(folder) / "t.parquet")
    for track in tracks:
        mine = [row for row in rows if row[0] == track.track_id]
        tempo = next((float(row[1]) for row in mine if row[1]), None)
        tags = list(dict.fromkeys(["p", *(row[2] for row in mine)]))
        found = catalog.track(track.track_id)
        assert (found.tempo, list(found.tags)) == (tempo, tags)
    assert report.by_id == sum(row[0] in "abcd" for row in rows)


def save_catalog(folder: Path) -> Path:
    """A catalog folder with playlists and a clip."""
    playlists = [Playlist("p", ("b", "c"), name="mine")]
    Catalog.from_tracks(TRACKS, playlists).save(folder, {"source": "0" * 64})
    (folder / "audio").mkdir()
    (folder / "audio" / "b.wav").write_bytes(b"RIFF")
    return folder


def test_a_folder_grows_in_place_and_keeps_everything_else(tmp_path: Path) -> None:
    folder = save_catalog(tmp_path / "catalog")
    before = {path.name: path.stat().st_ino for path in folder.rglob("*") if path.is_file()}
    for number, text in enumerate(["track_id,album,x\na,New,1\n,,\n", "track_id,y\nb,2\n"]):
        (tmp_path / f"{number}.csv").write_text(text, encoding="utf-8")
    tables = [tmp_path / "0.csv", tmp_path / "1.csv"]
    first, second = enrich_folder(folder, join=tables)
    assert isinstance(first, JoinReport)
    assert isinstance(second, JoinReport)
    assert (first.filled, second.filled) == ({"album": 1, "x": 1}, {"y": 1})
    catalog = Catalog.load(folder)
    assert catalog.column("x") == [1, None, None, None]
    assert catalog.column("y") == [None, 2, None, None]
    assert next(catalog.iter_playlists()).name == "mine"
    for name in ("playlists.parquet", "b.wav"):
        (kept,) = folder.rglob(name)
        assert kept.stat().st_ino == before[name]
    manifest = files.read_manifest(folder, "catalog")
    assert manifest["made_from"] == {
        "source": "0" * 64,
        "join_1": files.sha256_file(tables[0]),
        "join_2": files.sha256_file(tables[1]),
    }
    assert [one["source"] for one in manifest["enriched"]] == ["0.csv", "1.csv"]
    assert (manifest["tracks"], manifest["playlists"]) == (4, 1)
    enrich_folder(folder, join=[tables[1]])
    manifest = files.read_manifest(folder, "catalog")
    assert manifest["made_from"]["join_3"] == files.sha256_file(tables[1])
    assert len(manifest["enriched"]) == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0.csv", "1.csv", "catalog"]


def test_a_new_folder_that_grows_leaves_the_old_one_as_it_was(tmp_path: Path) -> None:
    folder = save_catalog(tmp_path / "catalog")
    table = tmp_path / "t.csv"
    table.write_text("track_id,x\na,1\n,2\n", encoding="utf-8")
    enrich_folder(folder, join=[table])  # leaves a table of rejects, which is then linked
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    enrich_folder(folder, tmp_path / "new", join=[table])
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    rejects = [pq.read_table(one / "rejects.parquet") for one in (folder, tmp_path / "new")]
    assert [table.num_rows for table in rejects] == [1, 2]
    assert (tmp_path / "new" / "audio" / "b.wav").read_bytes() == b"RIFF"
    with pytest.raises(InputError, match="lies in it or around it"):
        enrich_folder(folder, folder / "inner", join=[table])


def test_a_join_that_fails_leaves_the_folder_as_it_was(tmp_path: Path) -> None:
    folder = save_catalog(tmp_path / "catalog")
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    (tmp_path / "good.csv").write_text("track_id,x\na,1\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"gone\.csv: no such file"):
        enrich_folder(folder, join=[tmp_path / "good.csv", tmp_path / "gone.csv"])
    with pytest.raises(InputError, match="on_error: 'ignore'"):
        enrich_folder(folder, join=[tmp_path / "good.csv"], on_error="ignore")
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    with pytest.raises(ArtifactError, match="no such folder"):
        enrich_folder(tmp_path / "none", join=[tmp_path / "good.csv"])


def test_the_same_join_gives_the_same_bytes(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("track_id,tags,x\na,p;q,1\nb,r,\n", encoding="utf-8")
    marks = []
    for number in range(2):
        folder = save_catalog(tmp_path / f"catalog{number}")
        enrich_folder(folder, join=[tmp_path / "t.csv"])
        marks.append({p.name: p.read_bytes() for p in folder.rglob("*") if p.is_file()})
    assert marks[0] == marks[1]


def test_an_import_takes_joins_in_order_and_lists_what_it_rejects(tmp_path: Path) -> None:
    (tmp_path / "songs.csv").write_text("id,title,artist\n1,T,A\n2,,B\n", encoding="utf-8")
    (tmp_path / "x.csv").write_text("code,album\n1,First\n,y\n", encoding="utf-8")
    (tmp_path / "y.csv").write_text("code,album,label\n1,Second,blue\n", encoding="utf-8")
    options = {
        "join": [tmp_path / "x.csv", tmp_path / "y.csv"],
        "join_columns": {"track_id": "code"},
    }
    report = import_table(tmp_path / "songs.csv", tmp_path / "out", **options)  # type: ignore[arg-type]
    track = Catalog.load(tmp_path / "out").track("1")
    assert (track.album, track.extra["label"]) == ("First", "blue")
    rejected = pq.read_table(tmp_path / "out" / "rejects.parquet").to_pylist()
    assert [(one["source"], one["row"]) for one in rejected] == [("songs.csv", 2), ("x.csv", 2)]
    assert "joined y.csv: 1 rows" in report.summary()
    assert json.dumps(report.to_dict())
    manifest = files.read_manifest(tmp_path / "out", "catalog")
    assert set(manifest["made_from"]) == {"source", "join_1", "join_2"}
    with pytest.raises(InputError, match=r"songs\.csv: row 2: title missing"):
        import_table(tmp_path / "songs.csv", tmp_path / "stopped", on_error="stop")
    assert not (tmp_path / "stopped").exists()


@pytest.mark.realdata
def test_popularity_and_dates_join_the_real_corpus(tmp_path: Path, real_data: Path) -> None:
    tracks = pq.read_table(real_data / "corpus" / "tracks.parquet").slice(0, 3000)
    pq.write_table(tracks, tmp_path / "tracks.parquet")
    report = import_table(
        tmp_path / "tracks.parquet", tmp_path / "out", join=[real_data / "spotify_songs.csv"]
    )
    (joined,) = report.enriched
    assert isinstance(joined, JoinReport)
    catalog = Catalog.load(tmp_path / "out")
    dated = sum(date is not None for date in catalog.column("release_date"))
    assert dated == joined.filled["release_date"] > 0.5 * len(catalog)
    assert joined.by_name > 0 < joined.by_loose_name
    assert joined.rows == 26_995
    assert not [name for name in catalog.tracks.column_names if name.startswith("playlist")]
