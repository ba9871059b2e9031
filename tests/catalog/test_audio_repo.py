"""The clips of a catalog as a Parquet table, and back."""

import io
import json
import wave
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Audio, load_dataset

from talkplay_hf.catalog import audio_repo
from talkplay_hf.catalog.audio_repo import pack_audio, unpack_audio
from talkplay_hf.catalog.schema import Catalog, Track
from talkplay_hf.errors import ArtifactError, InputError
from talkplay_hf.hub import files, shards


def tree(folder: Path) -> dict[str, bytes]:
    paths = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def catalog_with(folder: Path, **clips: str | None) -> Path:
    """A catalog folder whose tracks name these clips; those below `audio/` are there."""
    Catalog.from_tracks(
        [Track(name, name, "x", audio=clip, license="cc0-1.0") for name, clip in clips.items()]
    ).save(folder)
    for name, clip in clips.items():
        if clip is not None and clip.startswith("audio/"):
            (folder / clip).parent.mkdir(exist_ok=True)
            (folder / clip).write_bytes(name.encode() * 40)
    return folder


def rename_clip(folder: Path, name: str) -> None:
    """Let the catalog of a packed repo name its first clip so."""
    tracks = shards.read_table(folder, "tracks").to_pylist()
    tracks[0]["audio"] = name
    manifest = json.loads((folder / files.MANIFEST).read_text())
    (folder / "tracks.parquet").unlink()
    shards.write_table(folder, "tracks", pa.Table.from_pylist(tracks))
    manifest["files"]["tracks.parquet"] = files.sha256_file(folder / "tracks.parquet")
    files.write_json(folder / files.MANIFEST, manifest)


def test_a_catalog_comes_back_byte_for_byte(audio_world: Catalog, tmp_path: Path) -> None:
    assert audio_world.root is not None
    assert pack_audio(audio_world.root, tmp_path / "repo") == 12
    assert not (tmp_path / "repo" / "audio").exists()
    # the catalog of the repo is the same catalog, whether or not its clips were fetched
    assert Catalog.load(tmp_path / "repo").fingerprint == audio_world.fingerprint
    assert unpack_audio(tmp_path / "repo", tmp_path / "back") == 12
    assert tree(tmp_path / "back") == tree(audio_world.root)


def test_datasets_reads_the_clips_as_sound(audio_world: Catalog, tmp_path: Path) -> None:
    assert audio_world.root is not None
    pack_audio(audio_world.root, tmp_path / "repo")
    found = load_dataset(
        "parquet",
        data_files=str(tmp_path / "repo" / "audio*.parquet"),
        split="train",
        cache_dir=str(tmp_path / "cache"),
    )
    assert isinstance(found.features["audio"], Audio)
    assert found.column_names == ["track_id", "title", "artist", "license", "audio"]
    row = found.cast_column("audio", Audio(decode=False))[3]
    track = audio_world.track(row["track_id"])
    assert (row["title"], row["license"]) == (track.title, track.license)
    assert row["audio"]["path"] == track.audio
    with wave.open(io.BytesIO(row["audio"]["bytes"])) as clip:
        assert clip.getnframes() > 0


def test_many_clips_are_several_files_and_row_groups(
    audio_world: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert audio_world.root is not None
    monkeypatch.setattr(shards, "MAX_SHARD_BYTES", 100_000)
    monkeypatch.setattr(audio_repo, "GROUP_ROWS", 2)
    pack_audio(audio_world.root, tmp_path / "repo")
    paths = shards.table_paths(tmp_path / "repo", "audio")
    assert len(paths) > 1
    assert max(pq.read_metadata(path).row_group(0).num_rows for path in paths) <= 2
    unpack_audio(tmp_path / "repo", tmp_path / "back")
    assert tree(tmp_path / "back") == tree(audio_world.root)


def test_only_files_in_the_folder_are_packed(tmp_path: Path) -> None:
    (tmp_path / "secret.wav").write_bytes(b"private words")
    folder = catalog_with(
        tmp_path / "catalog",
        here="audio/a.wav",
        gone="audio/b.wav",
        url="https://x.org/c.wav",
        up="../secret.wav",
        whole=str(tmp_path / "secret.wav"),
        other="audio/d.txt",
        link="audio/link.wav",
        none=None,
    )
    (folder / "audio" / "b.wav").unlink()
    (folder / "audio" / "link.wav").unlink()
    (folder / "audio" / "link.wav").symlink_to(tmp_path / "secret.wav")
    assert pack_audio(folder, tmp_path / "repo") == 1
    rows = shards.read_table(tmp_path / "repo", "audio").to_pylist()
    assert [row["track_id"] for row in rows] == ["here"]
    assert not any(b"private words" in data for data in tree(tmp_path / "repo").values())


def test_a_catalog_without_clips_is_refused(world_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no audio files"):
        pack_audio(world_folder, tmp_path / "repo")
    assert not (tmp_path / "repo").exists()


def test_what_is_packed_already_is_refused(tmp_path: Path) -> None:
    pack_audio(catalog_with(tmp_path / "catalog", a="audio/a.wav"), tmp_path / "repo")
    with pytest.raises(ArtifactError, match=r"repo: is packed already, .*unpack it with"):
        pack_audio(tmp_path / "repo", tmp_path / "again")
    assert not (tmp_path / "again").exists()


def test_a_clip_that_no_row_can_hold_or_no_disk_gives_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = catalog_with(tmp_path / "catalog", a="audio/a.wav", b="audio/b.wav")
    with (folder / "audio" / "b.wav").open("r+b") as clip:
        clip.truncate(2 << 30)  # takes no room on the disk, and is not read
    with pytest.raises(InputError, match=r"b\.wav: has 2 GiB or more"):
        pack_audio(folder, tmp_path / "repo")

    def failing(path: Path) -> bytes:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(Path, "read_bytes", failing)
    with pytest.raises(InputError, match=r"a\.wav: cannot be read \(Input/output error\)"):
        pack_audio(folder, tmp_path / "repo")
    assert not (tmp_path / "repo").exists()


@pytest.mark.parametrize(
    "name",
    [
        "../a.wav",
        "audio/../../a.wav",
        "/tmp/a.wav",
        "audio\\..\\a.wav",
        "C:/a.wav",
        "tracks.parquet",
        "manifest.json",
        "audio/.hidden.wav",
        "",
    ],
)
def test_a_path_that_leads_elsewhere_is_refused(name: str, tmp_path: Path) -> None:
    pack_audio(catalog_with(tmp_path / "catalog", a="audio/a.wav"), tmp_path / "repo")
    rename_clip(tmp_path / "repo", name)
    with pytest.raises(ArtifactError, match="repo"):
        unpack_audio(tmp_path / "repo", tmp_path / "back")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["catalog", "repo"]


def test_a_path_that_no_file_can_have_is_refused(tmp_path: Path) -> None:
    pack_audio(catalog_with(tmp_path / "catalog", a="audio/a.wav"), tmp_path / "repo")
    rename_clip(tmp_path / "repo", f"audio/{'a' * 300}.wav")
    with pytest.raises(ArtifactError, match="cannot be written"):
        unpack_audio(tmp_path / "repo", tmp_path / "back")
    assert not (tmp_path / "back").exists()


def test_another_table_of_clips_is_refused(tmp_path: Path) -> None:
    pack_audio(catalog_with(tmp_path / "catalog", a="audio/a.wav"), tmp_path / "repo")
    rows = shards.read_table(tmp_path / "repo", "audio").to_pylist()
    rows[0]["audio"]["bytes"] = b"another sound"
    (tmp_path / "repo" / "audio.parquet").unlink()
    shards.write_table(tmp_path / "repo", "audio", pa.Table.from_pylist(rows))
    with pytest.raises(ArtifactError, match=r"audio\.parquet"):
        unpack_audio(tmp_path / "repo", tmp_path / "back")


def test_clips_of_unknown_tracks_and_other_columns_are_refused(tmp_path: Path) -> None:
    pack_audio(catalog_with(tmp_path / "one", a="audio/a.wav"), tmp_path / "repo")
    pack_audio(catalog_with(tmp_path / "two", b="audio/b.wav"), tmp_path / "other")
    table, manifest = tmp_path / "repo" / "audio.parquet", tmp_path / "repo" / files.MANIFEST
    facts = json.loads(manifest.read_text())
    others = shards.read_table(tmp_path / "other", "audio")
    for rows, message in (
        (others, "'b' has no clip"),
        (others.drop_columns("track_id"), "has not the columns track_id and audio"),
    ):
        table.unlink()
        shards.write_table(tmp_path / "repo", "audio", rows)
        facts["packed"] = {"audio.parquet": files.sha256_file(table)}
        files.write_json(manifest, facts)
        with pytest.raises(ArtifactError, match=message):
            unpack_audio(tmp_path / "repo", tmp_path / "back")
