"""A folder of audio files becomes a catalog."""

import importlib.util
import json
import os
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from sounds import write_mp3, write_wav

from talkplay_hf.catalog import audio_folder
from talkplay_hf.catalog.audio_files import find_audio
from talkplay_hf.catalog.audio_folder import UNKNOWN_ARTIST, import_audio_folder, is_audio_folder
from talkplay_hf.catalog.audio_names import name_of
from talkplay_hf.catalog.import_report import AudioFolderReport
from talkplay_hf.catalog.playlist_files import read_playlist_file
from talkplay_hf.catalog.schema import Catalog, Track
from talkplay_hf.errors import ArtifactError, InputError, MissingExtraError
from talkplay_hf.hub import files


def run(folder: Path, **options: object) -> tuple[AudioFolderReport, Catalog]:
    """Import `folder/music`."""
    report = import_audio_folder(folder / "music", folder / "out", **options)  # type: ignore[arg-type]
    return report, Catalog.load(folder / "out")


def lists(catalog: Catalog) -> dict[str, tuple[str, list[str]]]:
    """Playlist name -> its source and the titles in it."""
    titles = dict(zip(catalog.track_ids, catalog.column("title"), strict=True))
    return {
        one["name"]: (one["source"], [titles[track_id] for track_id in one["track_ids"]])
        for one in catalog.playlists.to_pylist()
    }


def test_tags_of_files_become_columns(tmp_path: Path) -> None:
    music = tmp_path / "music"
    write_wav(
        music / "a.wav", seconds=0.25, title="One", artist="Ann", album="First", genre="Rock; Pop",
        date="1999-05-01",
    )  # fmt: skip
    write_mp3(
        music / "b.mp3", title="Zwö", artist="Bob", album="First", genre="Jazz", date="2001",
        bpm="120", key="F#m", lyrics="la la\nlove",
    )  # fmt: skip
    report, catalog = run(tmp_path)
    one, two = (catalog.track_at(row) for row in range(2))
    assert (one.title, one.artist, one.album, one.release_date) == (
        "One", "Ann", "First", "1999-05-01",
    )  # fmt: skip
    assert (one.tags, one.extra["duration_s"]) == (("Rock", "Pop"), 0.25)
    assert (two.title, two.year, two.tempo, two.key) == ("Zwö", 2001, 120.0, "F# minor")
    assert (two.lyrics, two.tags) == ("la la\nlove", ("Jazz",))
    assert (report.files, report.tracks, report.titles_from_tags) == (2, 2, 2)
    assert report.extra == ["duration_s"]
    for track in (one, two):
        assert (tmp_path / "out" / str(track.audio)).stat().st_nlink == 2


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("Ann/Blue/01 Song.wav", ("Song", "Ann", "Blue")),
        ("Ann/Blue/CD 1/1-01. Song.wav", ("Song", "Ann", "Blue")),
        ("Ann - Blue/02 - Song.wav", ("Song", "Ann", "Blue")),
        ("Ann - Song.wav", ("Song", "Ann", None)),
        ("Ann - Blue - 03 - Song.wav", ("Song", "Ann", None)),
        ("Ann/Blue/Ann - Song.wav", ("Song", "Ann", "Blue")),
        ("Lu/Works/Fifth - Allegro.wav", ("Fifth - Allegro", "Lu", "Works")),
        ("Jay/Black/99 Problems.wav", ("99 Problems", "Jay", "Black")),
        ("calm/some_tune.wav", ("some tune", None, "calm")),
        ("07.wav", ("07", None, None)),
    ],
)  # fmt: skip
def test_names_of_files_tell_title_artist_and_album(
    path: str, expected: tuple[str, str | None, str | None]
) -> None:
    found = name_of(path, numbered=False)
    assert (found.title, found.artist, found.album) == expected


def test_numbers_in_front_are_track_numbers_where_all_files_have_them(tmp_path: Path) -> None:
    for name in ("Ann/X/10 Nights", "Ann/X/11 Days", "Bob/Y/7 Rings", "Bob/Y/Song"):
        write_wav(tmp_path / "music" / f"{name}.wav")
    _, catalog = run(tmp_path)
    assert catalog.column("title") == ["Nights", "Days", "7 Rings", "Song"]


def test_sub_folders_are_playlists_where_no_file_says_so(tmp_path: Path) -> None:
    music = tmp_path / "music"
    write_mp3(music / "Ann/Blue/x.mp3", title="Last", artist="Ann", album="Blue", number="2")
    write_mp3(music / "Ann/Blue/y.mp3", title="First", artist="Ann", album="Blue", number="1/2")
    write_wav(music / "Bob/Two/CD 1/01 C.wav")
    write_wav(music / "Bob/Two/CD 2/01 D.wav")
    write_wav(music / "Bob/Single/01 E.wav")
    write_wav(music / "Cy/Listed/01 F.wav")
    write_wav(music / "Cy/Listed/02 G.wav")
    (music / "Cy/Listed/mine.m3u").write_text("02 G.wav\n")
    write_wav(music / "Dan - H.wav")
    write_wav(music / "Dan - I.wav")
    report, catalog = run(tmp_path)
    assert lists(catalog) == {
        "mine": ("m3u", ["G"]),
        "Blue": ("folder", ["First", "Last"]),
        "Two": ("folder", ["C", "D"]),
    }
    assert (report.playlists, report.playlist_files, report.folder_playlists) == (3, 1, 2)


def test_playlist_files_of_all_kinds_are_read(tmp_path: Path) -> None:
    music = tmp_path / "music"
    for name in ("A - é & b", "A - two", "B/A - three"):
        write_wav(music / f"{name}.wav")
    (music / "B" / "first.m3u8").write_text(
        "\ufeff#EXTM3U\n#PLAYLIST:My mix\n#EXTINF:1,x\n..\\A - é & b.wav\nA - THREE.wav\n"
        "../A - é & b.wav\nhttps://x.org/a.mp3\n../gone.wav\n",
        encoding="utf-8",
    )
    (music / "old.m3u").write_bytes("A - é & b.wav\r\n".encode("cp1252"))
    three = (music / "B" / "A - three.wav").resolve()
    (music / "third.pls").write_text(f"[playlist]\nFile2=A - two.wav\nTitle2=x\nFile1={three}\n")
    (music / "fourth.xspf").write_text(
        '<?xml version="1.0"?><playlist xmlns="http://xspf.org/ns/0/"><title>Four</title>'
        "<trackList><track><location>A%20-%20two.wav</location></track><track>"
        f"<location>{(music / 'A - é & b.wav').resolve().as_uri()}</location></track>"
        "<track><title>none</title></track></trackList></playlist>"
    )
    (music / "empty.m3u").write_text("#EXTM3U\n")
    (music / "broken.xspf").write_text("<playlist>")
    (music / "binary.m3u").write_bytes(b"\x00\x01")
    (music / "moved.m3u").symlink_to("nowhere")
    report, catalog = run(tmp_path)
    assert lists(catalog) == {
        "My mix": ("m3u", ["é & b", "three"]),
        "old": ("m3u", ["é & b"]),
        "third": ("pls", ["three", "two"]),
        "Four": ("xspf", ["two", "é & b"]),
    }
    assert (report.unknown_playlist_tracks, report.duplicate_pairs) == (2, 1)
    assert (report.dropped_playlists, report.rejects) == (1, 3)
    rejected = pq.read_table(tmp_path / "out" / "rejects.parquet").to_pylist()
    found = {json.loads(one["record"])["file"]: one["reason"] for one in rejected}
    assert list(found) == ["binary.m3u", "broken.xspf", "moved.m3u"]
    assert found["moved.m3u"] == "the file cannot be read (No such file or directory)"


def test_absolute_paths_lead_into_a_folder_that_is_named_by_a_link(tmp_path: Path) -> None:
    write_wav(tmp_path / "disk" / "a.wav")
    (tmp_path / "music").symlink_to(tmp_path / "disk")
    for folder in ("disk", "music"):
        (tmp_path / "disk" / "x.m3u").write_text(f"{tmp_path / folder / 'a.wav'}\n")
        assert read_playlist_file(tmp_path / "music", "x.m3u").entries == ("a.wav",)


def test_no_xml_entity_is_expanded(tmp_path: Path) -> None:
    text = '<!DOCTYPE p [<!ENTITY a "aaaa">]><playlist><title>&a;</title></playlist>'
    (tmp_path / "x.xspf").write_text(text)
    with pytest.raises(InputError, match="declares XML entities"):
        read_playlist_file(tmp_path, "x.xspf")


def test_files_that_cannot_be_read_are_rejected_or_stop_the_import(tmp_path: Path) -> None:
    music = tmp_path / "music"
    good = write_wav(music / "A - good.wav")
    (music / "A - cut.wav").write_bytes(good.read_bytes()[:30])
    (music / "A - empty.mp3").write_bytes(b"")
    (music / "A - text.ogg").write_text("no sound")
    report, catalog = run(tmp_path)
    assert catalog.column("title") == ["good"]
    assert (report.files, report.rejects) == (4, 3)
    rejected = pq.read_table(tmp_path / "out" / "rejects.parquet").to_pylist()
    assert [one["row"] for one in rejected] == [1, 2, 4]
    assert rejected[1]["reason"] == "the file is empty"
    assert json.loads(rejected[1]["record"]) == {"file": "A - empty.mp3"}
    assert "rejected: 3 files" in report.summary()
    with pytest.raises(InputError, match=r"A - cut\.wav: the file cannot be read as audio"):
        import_audio_folder(music, tmp_path / "stopped", on_error="stop")
    good.unlink()
    with pytest.raises(InputError, match="no audio file can be read"):
        import_audio_folder(music, tmp_path / "stopped")
    assert not (tmp_path / "stopped").exists()


def test_an_artist_that_nothing_tells_is_unknown_and_told_so(tmp_path: Path) -> None:
    write_wav(tmp_path / "music" / "calm" / "tune_1.wav")
    report, catalog = run(tmp_path)
    track = catalog.track_at(0)
    assert (track.title, track.artist, track.album) == ("tune 1", UNKNOWN_ARTIST, "calm")
    assert "artist unknown: 1 tracks" in report.summary()


def test_without_the_package_that_reads_tags_names_must_tell_the_artist(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audio_folder, "can_read_tags", lambda: False)
    write_wav(tmp_path / "music" / "Ann - Song.wav", title="Other", artist="Bob")
    report, catalog = run(tmp_path)
    assert catalog.column("artist") == ["Ann"]
    assert "duration_s" not in catalog.tracks.column_names
    assert "tags were not read: pip install 'talkplay-hf[audio]'" in report.summary()
    write_wav(tmp_path / "music" / "Song.wav")
    with pytest.raises(MissingExtraError, match=r"instance Song\.wav.*talkplay-hf\[audio\]"):
        run(tmp_path)


def test_ids_are_stable_and_the_same_folder_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("A/B/01 c.wav", "A/B/02 d.wav"):
        write_wav(tmp_path / "music" / name)
    _, first = run(tmp_path)
    held = {p.name: p.read_bytes() for p in (tmp_path / "out").rglob("*") if p.is_file()}
    _, again = run(tmp_path)
    assert held == {p.name: p.read_bytes() for p in (tmp_path / "out").rglob("*") if p.is_file()}
    write_wav(tmp_path / "music" / "A/B/01 c.wav", sound=5)
    write_wav(tmp_path / "music" / "A/B/03 e.wav")
    _, grown = run(tmp_path)
    assert grown.track_ids[:2] == first.track_ids == again.track_ids
    assert grown.column("audio")[0] != first.column("audio")[0]
    assert grown.column("audio")[1] == first.column("audio")[1]


def test_joined_tables_enrich_the_tracks_of_a_folder(tmp_path: Path) -> None:
    write_wav(tmp_path / "music" / "Ann - Song.wav")
    (tmp_path / "more.csv").write_text("title,artist,tags\nsong,ANN,rock;indie\n")
    report, catalog = run(tmp_path, join=[tmp_path / "more.csv"])
    assert catalog.track_at(0).tags == ("rock", "indie")
    assert "joined more.csv" in report.summary()
    manifest = files.read_manifest(tmp_path / "out", "catalog")
    assert set(manifest["made_from"]) == {"source", "join_1"}
    assert manifest["import"]["files"] == 1


def test_a_name_that_is_no_unicode_is_no_obstacle(tmp_path: Path) -> None:
    write_wav(tmp_path / "music" / os.fsdecode(b"Ann - caf\xe9.wav"))
    (tmp_path / "music" / os.fsdecode(b"b\xe9.wav")).write_bytes(b"")
    report, catalog = run(tmp_path)
    assert catalog.column("title") == ["caf?"]
    assert report.rejects == 1
    clips, _ = find_audio(tmp_path / "music", catalog)
    assert len(clips) == 0  # the track has its clip
    clips, _ = find_audio(tmp_path / "music", Catalog.from_tracks([Track("1", "caf?", "Ann")]))
    assert len(clips) == 1


def test_a_folder_that_cannot_be_used_is_refused(tmp_path: Path) -> None:
    (tmp_path / "music").mkdir()
    assert not is_audio_folder(tmp_path / "music")
    with pytest.raises(InputError, match="holds no audio files"):
        run(tmp_path)
    write_wav(tmp_path / "music" / "x" / "A - b.wav")
    assert is_audio_folder(tmp_path / "music")
    assert not is_audio_folder(tmp_path / "music" / "x" / "A - b.wav")
    with pytest.raises(InputError, match="no such folder"):
        import_audio_folder(tmp_path / "none", tmp_path / "out")
    with pytest.raises(InputError, match="lies in it or around it"):
        import_audio_folder(tmp_path / "music", tmp_path / "music" / "out")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.txt").write_text("dear")
    with pytest.raises(ArtifactError, match="not empty and not one of ours"):
        import_audio_folder(tmp_path / "music", tmp_path / "full")
    import_audio_folder(tmp_path / "music", tmp_path / "out")
    assert not is_audio_folder(tmp_path / "out")
    (tmp_path / "out" / "t.csv").write_text("track_id\n1\n")
    with pytest.raises(InputError, match="which would be replaced"):
        import_audio_folder(tmp_path / "music", tmp_path / "out", join=tmp_path / "out" / "t.csv")
    (tmp_path / "music" / "mpd.slice.0-999.json").write_text("{}")
    assert not is_audio_folder(tmp_path / "music")


@pytest.mark.skipif(
    importlib.util.find_spec("immich_memories_music") is None,
    reason="needs real music files: pip install immich-memories-music",
)
def test_real_music_files_become_a_catalog(tmp_path: Path) -> None:
    import immich_memories_music

    source = immich_memories_music.tracks_dir()
    report = import_audio_folder(source, tmp_path / "out")
    catalog = Catalog.load(tmp_path / "out")
    count = len(list(source.rglob("*.opus")))
    assert report.tracks == report.files == len(catalog) == count > 20
    assert report.rejects == 0
    assert "calm acoustic 1" in catalog.column("title")
    assert all(10 < seconds < 600 for seconds in catalog.column("duration_s"))
    moods = {path.name for path in source.iterdir() if path.is_dir()}
    assert {one.name for one in catalog.iter_playlists()} == moods


def test_entities_are_refused_in_any_encoding(tmp_path: Path) -> None:
    text = '<?xml version="1.0" encoding="utf-16"?><!DOCTYPE p [<!ENTITY a "aaaa">]><p>&a;</p>'
    (tmp_path / "x.xspf").write_text(text, encoding="utf-16")
    with pytest.raises(InputError, match="entities"):
        read_playlist_file(tmp_path, "x.xspf")


@pytest.mark.parametrize(
    ("name", "text", "entries"),
    [
        ("x.m3u", "file://[::1\na.mp3", ("file://[::1", "a.mp3")),
        ("x.pls", f"File{'9' * 5_000}=a.mp3\nFile2=b.mp3", ("b.mp3",)),
    ],
)
def test_a_broken_entry_does_not_end_the_reading(
    tmp_path: Path, name: str, text: str, entries: tuple[str, ...]
) -> None:
    (tmp_path / name).write_text(text)
    assert read_playlist_file(tmp_path, name).entries == entries
