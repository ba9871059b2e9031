"""Audio files of a folder find the tracks they belong to."""

import json
import os
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from sounds import write_mp3, write_wav

from talkplay_hf.catalog import audio_files, render
from talkplay_hf.catalog.audio_files import AudioReport, find_audio
from talkplay_hf.catalog.audio_names import possible_names
from talkplay_hf.catalog.enrich import enrich_folder
from talkplay_hf.catalog.import_audio import sound_mark
from talkplay_hf.catalog.importer import import_table
from talkplay_hf.catalog.schema import Catalog, Track
from talkplay_hf.errors import InputError
from talkplay_hf.features.embed import embed


def find(
    folder: Path, tracks: list[Track], **options: str
) -> tuple[dict[str, str], AudioReport, dict[str, str]]:
    """Track id -> file, the report, and file -> why it was not taken."""
    catalog = Catalog.from_tracks(tracks)
    clips, report = find_audio(folder, catalog, **options)
    found = {
        catalog.track_ids[row]: path.relative_to(folder).as_posix()
        for row, (_, path) in clips.items()
    }
    return found, report, {json.loads(one.record)["file"]: one.reason for one in report.rejected}


def test_files_are_found_by_id_by_name_and_by_folders(tmp_path: Path) -> None:
    tracks = [
        Track("spotify:track:one", "A", "x"),
        Track("two", "Blue Song - Remastered 2011", "Ann"),
        Track("three", "99 Problems", "Bob", album="Black"),
        Track("four", "Étude", "Carl", album="Works"),
        Track("five", "Long", "Dee"),
        Track("six", "Never", "Eve"),
    ]
    names = {
        "spotify:track:one": "deep/down/one.WAV",
        "two": "Ann - Blue Song.wav",
        "three": "Bob/Black/99 Problems.wav",
        "four": "carl/works/CD 2/2-07 - etude.wav",
        "five": "Dee - Late/03. Long.wav",
    }
    for name in names.values():
        write_wav(tmp_path / name)
    write_wav(tmp_path / "Ann" / "nothing.wav")
    write_wav(tmp_path / ".hidden" / "six.wav")
    write_wav(tmp_path / "._six.wav")
    found, report, reasons = find(tmp_path, tracks)
    assert found == names
    assert (report.files, report.by_id, report.by_name, report.unmatched) == (6, 1, 4, 1)
    assert report.without_audio == 1
    assert list(reasons) == ["Ann/nothing.wav"]


def test_the_tags_of_a_file_name_its_track(tmp_path: Path) -> None:
    write_wav(tmp_path / "x1.wav", title="Étude", artist="CARL")
    write_mp3(tmp_path / "x2.mp3", title="Song (feat. Y)", artist="Ann, Y")
    write_wav(tmp_path / "x3.wav", title="Song")
    found, report, _ = find(tmp_path, [Track("e", "etude", "Carl"), Track("s", "Song", "Ann")])
    assert found == {"e": "x1.wav", "s": "x2.mp3"}
    assert (report.by_tags, report.unmatched) == (2, 1)


def test_without_the_package_that_reads_tags_names_still_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audio_files, "can_read_tags", lambda: False)
    write_wav(tmp_path / "x.wav", title="Etude", artist="Carl")
    write_wav(tmp_path / "s.wav")
    found, report, _ = find(tmp_path, [Track("e", "Etude", "Carl"), Track("s", "Song", "Ann")])
    assert found == {"s": "s.wav"}
    assert "talkplay-hf[audio]" in report.summary()


def test_the_album_decides_between_tracks_of_one_name_else_none_gets_the_file(
    tmp_path: Path,
) -> None:
    tracks = [
        Track("1", "Song", "Ann", album="First"),
        Track("2", "Song", "Ann", album="Live!"),
        Track("3", "Other", "Bob"),
        Track("4", "Other", "Bob"),
    ]
    write_wav(tmp_path / "Ann" / "LIVE" / "01 Song.wav")
    write_wav(tmp_path / "Bob - Other.wav")
    found, report, reasons = find(tmp_path, tracks)
    assert found == {"2": "Ann/LIVE/01 Song.wav"}
    assert report.ambiguous == 1
    assert reasons == {"Bob - Other.wav": "fits 2 tracks: '3', '4'"}


def test_of_several_files_the_best_match_is_taken(tmp_path: Path) -> None:
    for name in ("A - Song.wav", "b/A - Song.wav", "id.wav"):
        write_wav(tmp_path / name)
    found, report, reasons = find(tmp_path, [Track("id", "Song", "A")])
    assert found == {"id": "id.wav"}
    assert report.duplicates == 2
    assert set(reasons.values()) == {"the track 'id' has a clip already"}


def test_files_that_cannot_be_read_are_named_or_stop_the_search(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(b"")
    (tmp_path / "b.mp3").write_text("this is no sound " * 100)
    (tmp_path / "c.flac").symlink_to(tmp_path / "gone.flac")
    (tmp_path / "nobody.ogg").write_bytes(b"")
    write_wav(tmp_path / "other" / "b.wav")
    tracks = [Track(one, one, one) for one in "abc"]
    found, report, reasons = find(tmp_path, tracks)
    assert found == {"b": "other/b.wav"}
    assert reasons == {
        "a.wav": "the file is empty",
        "b.mp3": "the file is not audio (WAV, FLAC, Ogg, MP4 or MP3)",
        "c.flac": "the file cannot be read (No such file or directory)",
        "nobody.ogg": "the file is empty",
    }
    assert report.unreadable == 4
    assert "4 that cannot be read" in report.summary()
    with pytest.raises(InputError, match=r"\.(wav|ogg): the file is empty"):
        find(tmp_path, tracks, on_error="stop")
    with pytest.raises(InputError, match="no such folder"):
        find(tmp_path / "none", tracks)


def test_every_file_is_counted_once(tmp_path: Path) -> None:
    for name in ("a.wav", "A - a.wav", "A - d.wav", "zz.wav", "Z - b.wav"):
        write_wav(tmp_path / name)
    (tmp_path / "c.wav").write_bytes(b"")
    tracks = [
        Track("a", "a", "A"),
        Track("c", "c", "A"),
        Track("d", "d", "A"),
        Track("e", "d", "A"),
    ]
    _, report, reasons = find(tmp_path, tracks)
    counted = report.to_dict()
    names = ("by_id", "by_name", "by_tags", "duplicates", "ambiguous", "unmatched", "unreadable")
    assert sum(counted[name] for name in names) == report.files == 6
    assert len(reasons) == report.files - report.by_id - report.by_name - report.by_tags


def test_a_mark_sees_size_start_and_end_of_a_file(tmp_path: Path) -> None:
    whole = bytearray(write_wav(tmp_path / "a.wav", seconds=20).read_bytes())
    marks = set()
    for at in (None, 44, len(whole) - 1):
        changed = bytearray(whole)
        if at is not None:
            changed[at] ^= 1
        (tmp_path / "b.wav").write_bytes(changed)
        marks.add(sound_mark(tmp_path / "b.wav"))
    (tmp_path / "b.wav").write_bytes(whole + b"\x00")
    marks.add(sound_mark(tmp_path / "b.wav"))
    assert len(marks) == 4


def test_a_catalog_folder_takes_clips_by_hard_link(tmp_path: Path) -> None:
    song = write_wav(tmp_path / "music" / "A - Song.wav")
    url = "https://x.org/b.mp3"
    (tmp_path / "t.csv").write_text(
        f"id,title,artist,audio\n../1,Song,A,{url}\n2,T,B,own.wav\n", encoding="utf-8"
    )
    write_wav(tmp_path / "own.wav")
    write_wav(tmp_path / "music" / "2.wav", sound=9)
    report = import_table(tmp_path / "t.csv", tmp_path / "out", audio_dir=tmp_path / "music")
    first, second = Catalog.load(tmp_path / "out").column("audio")
    assert (tmp_path / "out" / first).stat().st_ino == song.stat().st_ino
    assert (tmp_path / "out" / first).parent == tmp_path / "out" / "audio"
    assert (tmp_path / "out" / second).read_bytes() == (tmp_path / "own.wav").read_bytes()
    assert "audio from music: 2 files, 0 by id, 1 by name" in report.summary()
    (reject,) = pq.read_table(tmp_path / "out" / "rejects.parquet").to_pylist()
    assert (reject["source"], reject["row"]) == ("music", 1)
    before = (tmp_path / "out" / "manifest.json").read_bytes()
    import_table(tmp_path / "t.csv", tmp_path / "out", audio_dir=tmp_path / "music")
    assert (tmp_path / "out" / "manifest.json").read_bytes() == before
    assert song.exists()


def test_a_file_system_without_links_gets_copies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_link(source: Path, target: Path) -> None:
        raise OSError(18, "Invalid cross-device link")

    song = write_wav(tmp_path / "music" / "1.wav")
    Catalog.from_tracks([Track("1", "T", "A")]).save(tmp_path / "out")
    monkeypatch.setattr(os, "link", no_link)
    enrich_folder(tmp_path / "out", audio_dir=tmp_path / "music")
    (audio,) = Catalog.load(tmp_path / "out").column("audio")
    assert (tmp_path / "out" / audio).read_bytes() == song.read_bytes()
    assert song.stat().st_nlink == 1


def test_clips_join_a_finished_folder_and_give_vectors(tmp_path: Path) -> None:
    (tmp_path / "music").mkdir()
    for number in range(3):
        clip = render.render_clip(
            tempo=90.0 + 20 * number, key=number, major=True, instrument="piano", genre="rock",
            seed=[number],
        )  # fmt: skip
        render.write_wav(tmp_path / "music" / f"{number}.wav", clip)
    Catalog.from_tracks([Track(str(n), f"T{n}", "A") for n in range(4)]).save(tmp_path / "out")
    fingerprint = Catalog.load(tmp_path / "out").fingerprint
    (report,) = enrich_folder(tmp_path / "out", audio_dir=tmp_path / "music")
    assert isinstance(report, AudioReport)
    assert (report.by_id, report.without_audio) == (3, 1)
    assert Catalog.load(tmp_path / "out").fingerprint != fingerprint
    kept = sorted(path.name for path in (tmp_path / "out" / "audio").iterdir())
    (again,) = enrich_folder(tmp_path / "out", audio_dir=tmp_path / "music")
    assert isinstance(again, AudioReport)
    assert again.duplicates == 3
    assert sorted(path.name for path in (tmp_path / "out" / "audio").iterdir()) == kept
    made = embed(Catalog.load(tmp_path / "out"), tmp_path / "features")
    assert made["audio"].present.tolist() == [True, True, True, False]


@pytest.mark.parametrize("where", [".", "music", "music/catalog"])
def test_a_catalog_folder_among_its_audio_files_is_refused(tmp_path: Path, where: str) -> None:
    (tmp_path / "t.csv").write_text("id,title,artist\n1,T,A\n", encoding="utf-8")
    write_wav(tmp_path / "music" / "catalog" / "1.wav")
    with pytest.raises(InputError, match="lies in it or around it"):
        import_table(tmp_path / "t.csv", tmp_path / "music" / "catalog", audio_dir=tmp_path / where)


def test_a_name_can_mean_several_things_likeliest_first() -> None:
    found = [(name.title, name.artist) for name in possible_names("Ann/Blue/03 - Bob - Song.wav")]
    likely = [("Song", "Bob"), ("Bob - Song", "Ann"), ("Bob - Song", "Blue")]
    assert [name for name in found if name in likely] == likely
    assert ("Song", "Ann") in found
    assert list(possible_names("Song.wav")) == []
