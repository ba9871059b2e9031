"""Licence and provenance of tracks and playlists, and catalogs in several files."""

from pathlib import Path

import pytest
from mpd_slices import playlist, write_slice
from sounds import write_wav

from talkplay_hf.catalog.audio_folder import import_audio_folder
from talkplay_hf.catalog.enrich import enrich_folder
from talkplay_hf.catalog.importer import import_table
from talkplay_hf.catalog.mpd_import import import_mpd
from talkplay_hf.catalog.schema import Catalog
from talkplay_hf.cli import main
from talkplay_hf.errors import InputError
from talkplay_hf.hub import files, shards

SONGS = "track_id,title,artist,license,playlist_id\na,A,x,cc-by-4.0,p\nb,B,x,,p\n"


def songs(folder: Path, text: str = SONGS) -> Path:
    (folder / "songs.csv").write_text(text, encoding="utf-8")
    return folder / "songs.csv"


def imported(folder: Path, **options: object) -> Catalog:
    import_table(songs(folder), folder / "out", **options)  # type: ignore[arg-type]
    return Catalog.load(folder / "out")


def test_a_licence_goes_to_the_tracks_that_have_none(tmp_path: Path) -> None:
    assert imported(tmp_path).column("license") == ["cc-by-4.0", None]
    assert "license" not in files.read_manifest(tmp_path / "out", "catalog")
    assert imported(tmp_path, license="cc0-1.0").column("license") == ["cc-by-4.0", "cc0-1.0"]
    assert files.read_manifest(tmp_path / "out", "catalog")["license"] == "cc0-1.0"


@pytest.mark.parametrize("license", ["", " ", "cc0\nmine", "cc0-1.0 "])
def test_a_text_that_is_no_licence_is_refused(license: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="license"):
        imported(tmp_path, license=license)
    assert not (tmp_path / "out").exists()


def test_rows_say_which_file_they_come_from(tmp_path: Path) -> None:
    (tmp_path / "lists.csv").write_text("playlist_id,track_ids\nq,a b\n", encoding="utf-8")
    catalog = imported(tmp_path, playlists=tmp_path / "lists.csv")
    assert catalog.column("provenance") == ["songs.csv", "songs.csv"]
    assert set(catalog.playlists["provenance"].to_pylist()) == {"lists.csv"}


def test_columns_of_the_users_own_stay_as_they_are(tmp_path: Path) -> None:
    text = "title,artist,source,provenance\nA,x,radio,attic\nB,x,tape,\n"
    import_table(songs(tmp_path, text), tmp_path / "out")
    catalog = Catalog.load(tmp_path / "out")
    assert catalog.column("source") == ["radio", "tape"]
    assert catalog.column("provenance") == ["attic", None]


def test_a_join_leaves_provenance_and_licences_as_they_are(tmp_path: Path) -> None:
    imported(tmp_path)
    more = tmp_path / "more.csv"
    more.write_text("track_id,provenance,license,colour\nb,other,cc-by-sa-4.0,calm\n")
    enrich_folder(tmp_path / "out", join=more, license="cc0-1.0")
    catalog = Catalog.load(tmp_path / "out")
    assert catalog.column("provenance") == ["songs.csv", "songs.csv"]
    assert catalog.column("license") == ["cc-by-4.0", "cc-by-sa-4.0"]
    assert catalog.column("colour") == [None, "calm"]


def test_slices_are_named_and_licensed(tmp_path: Path) -> None:
    write_slice(tmp_path / "mpd", [playlist(7, [3, 1])], 0)
    write_slice(tmp_path / "mpd", [playlist(1000, [1, 2])], 1000)
    import_mpd(tmp_path / "mpd", tmp_path / "out", workers=1, license="other")
    catalog = Catalog.load(tmp_path / "out")
    first, second = "mpd.slice.0-999.json", "mpd.slice.1000-1999.json"
    assert catalog.column("provenance") == [first, first, second]
    assert catalog.playlists["provenance"].to_pylist() == [first, second]
    assert catalog.column("license") == ["other"] * 3
    assert files.read_manifest(tmp_path / "out", "catalog")["license"] == "other"


def test_files_of_a_folder_keep_their_paths_as_provenance(tmp_path: Path) -> None:
    for name in ("One", "Two"):
        write_wav(tmp_path / "music" / "Ann" / "First" / f"{name}.wav", sound=len(name) + 1)
    import_audio_folder(tmp_path / "music", tmp_path / "out", license="cc0-1.0")
    catalog = Catalog.load(tmp_path / "out")
    assert catalog.column("provenance") == ["Ann/First/One.wav", "Ann/First/Two.wav"]
    assert catalog.playlists["provenance"].to_pylist() == ["Ann/First"]
    assert catalog.column("license") == ["cc0-1.0"] * 2


def test_the_command_licenses_an_import_and_a_catalog_that_is_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "out")
    assert main(["import", str(songs(tmp_path)), out]) == 0
    assert Catalog.load(out).column("license")[1] is None
    assert main(["import", out, out, "--license", "cc0-1.0"]) == 0
    assert Catalog.load(out).column("license")[1] == "cc0-1.0"
    assert main(["import", out, out]) == 2
    assert "--license" in capsys.readouterr().err


def test_a_catalog_in_several_files_grows_without_old_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards, "MAX_SHARD_BYTES", 1_000)
    monkeypatch.setattr(shards, "GROUP_BYTES", 1_000)
    rows = "".join(f"t{n},Song {n},x,p\n" for n in range(60))
    import_table(songs(tmp_path, "track_id,title,artist,playlist_id\n" + rows), tmp_path / "out")
    before = shards.table_paths(tmp_path / "out", "tracks")
    assert len(before) > 1
    more = tmp_path / "more.csv"
    more.write_text("track_id,lyrics\n" + "".join(f"t{n},{n}{' la' * 30}\n" for n in range(60)))
    enrich_folder(tmp_path / "out", join=more)
    after = shards.table_paths(tmp_path / "out", "tracks")
    assert len(after) > len(before)
    catalog = Catalog.load(tmp_path / "out")
    assert catalog.column("lyrics") == [f"{n}{' la' * 30}" for n in range(60)]
    named = files.read_manifest(tmp_path / "out", "catalog")["files"]
    assert {path.name for path in after} <= named.keys()
    assert not {path.name for path in before} & named.keys()


def test_slices_make_a_catalog_of_several_files_with_the_same_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lists = [playlist(number, [number, number + 1, number + 2]) for number in range(40)]
    write_slice(tmp_path / "mpd", lists)
    import_mpd(tmp_path / "mpd", tmp_path / "one", workers=1)
    monkeypatch.setattr(shards, "MAX_SHARD_BYTES", 1_000)
    monkeypatch.setattr(shards, "GROUP_BYTES", 2_000)
    import_mpd(tmp_path / "mpd", tmp_path / "many", workers=1)
    assert len(shards.table_paths(tmp_path / "many", "playlists")) > 1
    one, many = Catalog.load(tmp_path / "one"), Catalog.load(tmp_path / "many")
    assert many.tracks.equals(one.tracks)
    assert many.playlists.equals(one.playlists)
