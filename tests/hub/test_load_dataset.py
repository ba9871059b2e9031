"""`datasets.load_dataset` reads the repos as they are: folders, and over HTTP."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from datasets import Audio, load_dataset
from loopback import LoopbackHub

from talkplay_hf.catalog.audio_repo import pack_audio
from talkplay_hf.catalog.schema import Catalog, Conversation, Message
from talkplay_hf.conversations.dataset import load_conversations, save_conversations
from talkplay_hf.errors import ArtifactError
from talkplay_hf.features.repo import pack_features
from talkplay_hf.features.store import load_features
from talkplay_hf.hub import shards
from talkplay_hf.hub.cards import write_card
from talkplay_hf.hub.push import push_folder

TALKS = "me/talks"
SPLITS = ("train", "validation", "test")


@pytest.fixture
def small_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files and row groups so small that every table takes several."""
    monkeypatch.setattr(shards, "MAX_SHARD_BYTES", 2_000)
    monkeypatch.setattr(shards, "GROUP_BYTES", 4_000)


@pytest.fixture
def catalog_folder(world: Catalog, tmp_path: Path, small_files: None) -> Path:
    folder = tmp_path / "catalog"
    world.save(folder)
    write_card(folder)
    assert len(shards.table_paths(folder, "tracks")) > 1
    return folder


def talks(count: int, split: str, word: str = "ask") -> Iterator[Conversation]:
    for number in range(count):
        messages = (Message("user", f"{word} {number}"), Message("music", track_id="t"))
        yield Conversation(f"{split}-{number}", messages, split=split, language="en")


def talks_folder(folder: Path, count: int = 200, word: str = "ask") -> Path:
    """A conversations folder whose training set is in several files where files are small."""
    every = (
        one for split in SPLITS for one in talks(count if split == "train" else 3, split, word)
    )
    refused = {
        "piece_id": "p1-0",
        "playlist_id": "p1",
        "split": "train",
        "attempts": 3,
        "reasons": ["too_long"],
        "details": ["900 words"],
        "answer": "[{}]",
    }
    told = {"generator": {"model": "org/writer"}, "license": "cc-by-4.0"}
    save_conversations(folder, every, {}, quarantine=[refused], **told)
    return folder


def push(folder: Path, repo_id: str) -> str:
    """Push a dataset folder; return the commit."""
    return push_folder(folder, repo_id, repo_type="dataset").commit


def test_a_sharded_catalog_comes_back_whole(catalog_folder: Path, world: Catalog) -> None:
    found = Catalog.load(catalog_folder)
    assert found.tracks.equals(world.tracks)
    assert found.playlists.equals(world.playlists)


def test_a_catalog_folder_loads_with_its_tables(
    catalog_folder: Path, world: Catalog, tmp_path: Path
) -> None:
    tracks, playlists = (
        load_dataset(str(catalog_folder), *name, split="train", cache_dir=str(tmp_path / "cache"))
        for name in ((), ("playlists",))
    )
    assert list(tracks["track_id"]) == world.track_ids
    assert list(tracks["license"]) == world.column("license")
    assert list(playlists["track_ids"]) == world.playlists["track_ids"].to_pylist()


def test_a_catalog_loads_over_http_whole_and_as_a_stream(
    hub: LoopbackHub, catalog_folder: Path, world: Catalog
) -> None:
    push(catalog_folder, "me/songs")
    tracks = load_dataset("me/songs", split="train")
    assert list(tracks["track_id"]) == world.track_ids
    stream = load_dataset("me/songs", "playlists", split="train", streaming=True)
    assert [one["track_ids"] for one in stream] == world.playlists["track_ids"].to_pylist()


def test_a_stream_starts_without_the_files_behind_the_first(
    hub: LoopbackHub, catalog_folder: Path, world: Catalog
) -> None:
    push(catalog_folder, "me/songs")
    last = shards.table_paths(catalog_folder, "tracks")[-1].name
    stream = load_dataset("me/songs", split="train", streaming=True)
    hub.requests.clear()
    assert next(iter(stream))["track_id"] == world.track_ids[0]
    assert hub.asked(r"/resolve/.*/tracks-00000-of-")
    assert not hub.asked(rf"/resolve/.*/{last}", "GET")


def test_the_sound_of_a_catalog_loads_over_http(
    hub: LoopbackHub, audio_world: Catalog, tmp_path: Path, small_files: None
) -> None:
    assert audio_world.root is not None
    pack_audio(audio_world.root, tmp_path / "repo")
    write_card(tmp_path / "repo")
    push(tmp_path / "repo", "me/sounds")
    whole = load_dataset("me/sounds", "audio", split="train")
    assert isinstance(whole.features["audio"], Audio)
    stream = load_dataset("me/sounds", "audio", split="train", streaming=True)
    rows = [*stream.cast_column("audio", Audio(decode=False))]
    assert [row["track_id"] for row in rows] == list(whole["track_id"]) == audio_world.track_ids
    clip = (audio_world.root / str(audio_world.track_at(2).audio)).read_bytes()
    assert rows[2]["audio"]["bytes"] == clip
    # the tracks keep the paths of their clips
    tracks = load_dataset("me/sounds", "tracks", split="train")
    assert list(tracks["audio"]) == audio_world.column("audio")


def test_embeddings_load_over_http(
    hub: LoopbackHub, features_folder: Path, tmp_path: Path, small_files: None
) -> None:
    pack_features(features_folder, tmp_path / "repo")
    write_card(tmp_path / "repo")
    push(tmp_path / "repo", "me/vectors")
    ids, made = load_features(features_folder)
    stream = load_dataset("me/vectors", "lyrics", split="train", streaming=True)
    rows = [*stream]
    assert [row["track_id"] for row in rows] == ids
    assert [row["vector"] is not None for row in rows] == made["lyrics"].present.tolist()
    assert next(row["vector"] for row in rows if row["vector"]) == pytest.approx(
        made["lyrics"].vectors[made["lyrics"].present][0].tolist()
    )


def test_conversations_load_with_their_splits_and_say_where_they_come_from(
    hub: LoopbackHub, tmp_path: Path, small_files: None
) -> None:
    folder = talks_folder(tmp_path / "talks")
    assert len(shards.table_paths(folder, "train")) > 1
    push(folder, TALKS)
    whole = load_dataset(TALKS)
    assert {name: len(rows) for name, rows in whole.items()} == {
        "train": 200,
        "validation": 3,
        "test": 3,
    }
    assert whole["train"][199]["messages"][0]["content"] == "ask 199"
    assert set(whole["test"]["provenance"]) == {"org/writer"}
    assert set(whole["test"]["license"]) == {"cc-by-4.0"}
    stream = load_dataset(TALKS, split="test", streaming=True)
    assert [one["conversation_id"] for one in stream] == ["test-0", "test-1", "test-2"]
    refused = load_dataset(TALKS, "quarantine", split="quarantine")
    assert refused[0]["reasons"] == ["too_long"]


def test_a_smaller_push_leaves_no_old_files_and_a_revision_stays(
    hub: LoopbackHub, tmp_path: Path, small_files: None
) -> None:
    first = push(talks_folder(tmp_path / "one"), TALKS)
    push(talks_folder(tmp_path / "two", 5, "again"), TALKS)
    train = [name for name in hub.files(TALKS, "dataset") if name.startswith("train")]
    assert train == ["train.parquet"]
    now = load_dataset(TALKS, split="train")
    before = load_dataset(TALKS, split="train", revision=first)
    assert [len(now), len(before)] == [5, 200]
    assert before[4]["messages"][0]["content"] == "ask 4"
    assert now[4]["messages"][0]["content"] == "again 4"


OFFLINE = """
from datasets import load_dataset
found = load_dataset("me/talks", split="train")
print(len(found), found[7]["messages"][0]["content"])
"""


def test_what_was_loaded_once_loads_offline(hub: LoopbackHub, tmp_path: Path) -> None:
    push(talks_folder(tmp_path / "talks", 9), TALKS)
    load_dataset(TALKS, split="train")
    with hub.down():
        done = subprocess.run(
            [sys.executable, "-c", OFFLINE],
            env=hub.env(HF_HUB_OFFLINE="1"),
            capture_output=True,
            text=True,
            check=True,
        )
    assert done.stdout.split("\n")[0] == "9 ask 7"


def test_conversations_keep_where_they_come_from(tmp_path: Path) -> None:
    folder = talks_folder(tmp_path / "talks", 2)
    first = load_conversations(folder, ["train"])[0]
    assert (first.provenance, first.license) == ("org/writer", "cc-by-4.0")
    told = {"simulator": {"seed": 1}, "license": "cc0-1.0"}
    save_conversations(tmp_path / "mixed", [first, *talks(1, "test")], {}, **told)
    found = [(one.provenance, one.license) for one in load_conversations(tmp_path / "mixed")]
    assert found == [("org/writer", "cc-by-4.0"), ("simulator", "cc0-1.0")]


def test_conversations_without_these_columns_still_load(tmp_path: Path) -> None:
    folder = talks_folder(tmp_path / "talks", 2)
    table = shards.read_table(folder, "train").drop_columns(["provenance", "license"])
    (folder / "train.parquet").unlink()
    shards.write_table(folder, "train", table)
    assert load_conversations(folder, ["train"]) == [*talks(2, "train")]


def test_a_missing_file_of_a_split_is_named(tmp_path: Path, small_files: None) -> None:
    folder = talks_folder(tmp_path / "talks")
    path = shards.table_paths(folder, "train")[1]
    path.unlink()
    with pytest.raises(ArtifactError, match=f"{path.name} is missing"):
        load_conversations(folder)
