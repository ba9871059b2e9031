"""Taking tracks out of a catalog folder and out of conversations about it."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from talkplay_hf.catalog.audio_repo import pack_audio
from talkplay_hf.catalog.columns import Reject
from talkplay_hf.catalog.import_entries import write_rejects
from talkplay_hf.catalog.schema import Catalog, Conversation, Playlist, Track
from talkplay_hf.catalog.splits import playlist_splits
from talkplay_hf.catalog.takedown import remove_from_catalog
from talkplay_hf.catalog.world import make_world
from talkplay_hf.cli import main
from talkplay_hf.conversations.dataset import (
    iter_conversations,
    load_quarantine,
    save_conversations,
)
from talkplay_hf.conversations.takedown import remove_from_conversations
from talkplay_hf.errors import ArtifactError, InputError
from talkplay_hf.hub import files

few = settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])


def holds(folder: Path, words: set[str]) -> set[str]:
    """Which of some words stand in any file of a folder: in a cell of a table, or in the bytes."""
    texts = []
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            texts.append(path.read_bytes().decode("utf-8", "replace"))
        if path.suffix == ".parquet":
            texts.append(json.dumps(pq.read_table(path).to_pylist(), default=str))
    return {word for word in words if any(word in text for text in texts)}


@few
@given(rows=st.sets(st.integers(0, 59), min_size=1, max_size=59))
def test_tracks_leave_the_table_and_all_playlists(
    world_folder: Path, world: Catalog, tmp_path: Path, rows: set[int]
) -> None:
    gone = {world.track_ids[row] for row in rows}
    counts = remove_from_catalog(world_folder, gone, tmp_path / "out")
    left = Catalog.load(tmp_path / "out")
    assert left.track_ids == [one for one in world.track_ids if one not in gone]
    assert holds(tmp_path / "out", gone) == set()
    wanted = {}
    for playlist in world.iter_playlists():
        stays = tuple(one for one in playlist.track_ids if one not in gone)
        if stays:
            wanted[playlist.playlist_id] = stays
    assert {one.playlist_id: one.track_ids for one in left.iter_playlists()} == wanted
    before = sum(len(one.track_ids) for one in world.iter_playlists())
    assert counts["places"] == before - sum(map(len, wanted.values()))
    assert counts["playlists"] == world.playlists.num_rows - len(wanted)
    # a split is what it was, and so are all columns of those that stay
    splits = playlist_splits(world)
    assert playlist_splits(left) == {one: splits[one] for one in wanted}
    keep = pa.array([one not in gone for one in world.track_ids])
    assert left.tracks.combine_chunks().equals(world.tracks.filter(keep).combine_chunks())
    assert (counts["removed"], counts["left"]) == (len(gone), len(left))


def test_a_clip_goes_with_its_track_and_the_others_stay(tmp_path: Path) -> None:
    folder = tmp_path / "catalog"
    world = make_world(folder, tracks=10, audio=True)
    gone, shared = world.track_at(0), world.track_at(1)
    (folder / "audio" / "notes.txt").write_text("mixed by hand")
    before = {path.name: path.read_bytes() for path in (folder / "audio").iterdir()}
    counts = remove_from_catalog(folder, [gone.track_id], tmp_path / "out")
    after = {path.name: path.read_bytes() for path in (tmp_path / "out" / "audio").iterdir()}
    del before[Path(str(gone.audio)).name]
    assert (after, counts["clips"]) == (before, 1)
    assert (folder / str(gone.audio)).exists()
    # in another folder, clips are copies
    assert (tmp_path / "out" / str(shared.audio)).stat().st_nlink == 1


def test_a_clip_that_another_track_has_too_stays(tmp_path: Path) -> None:
    (tmp_path / "outside.wav").write_bytes(b"not ours")
    tracks = [
        Track("a", "A", "X", audio="audio/both.wav"),
        Track("b", "B", "X", audio="audio/../audio/both.wav"),
        Track("c", "C", "X", audio="../outside.wav"),
        Track("d", "D", "X", audio="https://host/" + "d" * 300),
        Track("e", "E", "X"),
    ]
    folder = tmp_path / "catalog"
    Catalog.from_tracks(tracks, [Playlist("p", ("a", "elsewhere"))]).save(folder)
    (folder / "audio").mkdir()
    (folder / "audio" / "both.wav").write_bytes(b"sound")
    counts = remove_from_catalog(folder, ["a", "c", "d"], folder)
    assert (counts["clips"], counts["playlists"]) == (0, 0)
    assert (folder / "audio" / "both.wav").exists()
    assert (tmp_path / "outside.wav").exists()
    counts = remove_from_catalog(folder, ["b", "elsewhere"], folder, missing_ok=True)
    assert (counts["clips"], counts["playlists"], counts["unknown"]) == (1, 1, 1)
    assert not (folder / "audio" / "both.wav").exists()


def test_facts_of_the_folder_stay_and_its_counts_are_new(
    world_folder: Path, world: Catalog, tmp_path: Path
) -> None:
    remove_from_catalog(world_folder, world.track_ids[:3], tmp_path / "out")
    before = files.read_manifest(world_folder, "catalog")
    after = files.read_manifest(tmp_path / "out", "catalog")
    assert after["made_from"] == before["made_from"]
    assert after["world"] == before["world"]
    assert after["tracks"] == 57
    assert after["playlists"] == Catalog.load(tmp_path / "out").playlists.num_rows
    for name, sha in after["files"].items():
        assert files.sha256_file(tmp_path / "out" / name) == sha


def test_in_place_gives_what_a_new_folder_gets(
    world_folder: Path, world: Catalog, tmp_path: Path
) -> None:
    shutil.copytree(world_folder, tmp_path / "1" / "same")
    for folder, out in ((tmp_path / "1" / "same",) * 2, (world_folder, tmp_path / "2" / "same")):
        remove_from_catalog(folder, world.track_ids[5:9], out)
    for path in sorted((tmp_path / "2" / "same").iterdir()):
        assert (tmp_path / "1" / "same" / path.name).read_bytes() == path.read_bytes(), path.name


def test_rejected_rows_that_name_the_track_go(tmp_path: Path) -> None:
    folder = tmp_path / "catalog"
    tracks = [Track("a", "Song A", "X"), Track("b", "Song B", "X")]
    Catalog.from_tracks(tracks).save(folder)
    records = [
        {"track_id": "a", "title": "?"},
        {"title": "Song A", "artist": "X", "year": 1999},
        {"title": "Song A", "artist": "Another"},
        {"track_id": "aa"},
    ]
    write_rejects(
        folder, [Reject("t.csv", row, "odd", json.dumps(one)) for row, one in enumerate(records)]
    )
    assert remove_from_catalog(folder, ["a"], tmp_path / "out")["rejects"] == 2
    left = pq.read_table(tmp_path / "out" / files.REJECTS)["record"].to_pylist()
    assert [json.loads(one) for one in left] == records[2:]


def test_what_cannot_be_removed_is_named_and_nothing_is_written(
    world_folder: Path, features_folder: Path, world: Catalog, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=r"'nobody'.*--missing-ok"):
        remove_from_catalog(world_folder, [world.track_ids[0], "nobody"], tmp_path / "out")
    with pytest.raises(InputError, match="no track would be left"):
        remove_from_catalog(world_folder, world.track_ids, tmp_path / "out")
    with pytest.raises(ArtifactError, match="features folder"):
        remove_from_catalog(features_folder, ["x"], tmp_path / "out")
    with pytest.raises(ArtifactError, match="features folder"):
        remove_from_catalog(world_folder, world.track_ids[:1], features_folder)
    assert list(tmp_path.iterdir()) == []


def tracks_of(conversation: Conversation) -> set[str]:
    played = {one.track_id for one in conversation.messages if one.track_id}
    return played.union(*(one.liked for one in conversation.messages))


@few
@given(rows=st.sets(st.integers(0, 59), min_size=1, max_size=6))
def test_conversations_about_a_track_go_whole(
    conversations_folder: Path,
    conversations: list[Conversation],
    world: Catalog,
    tmp_path: Path,
    rows: set[int],
) -> None:
    gone = {world.track_ids[row] for row in rows}
    wanted = {one.conversation_id for one in conversations if not tracks_of(one) & gone}
    assume(wanted)
    out = tmp_path / "out"
    counts = remove_from_conversations(conversations_folder, gone, out, missing_ok=True)
    left = list(iter_conversations(out))
    assert {one.conversation_id for one in left} == wanted
    assert holds(out, gone) == set()
    assert counts["left"] == len(wanted)
    assert sum(counts["conversations"].values()) == len(conversations) - len(wanted)
    for split, number in counts["conversations"].items():
        before = [one for one in conversations if one.split == split]
        assert number == len(before) - sum(one.split == split for one in left)
    before_facts, facts = (
        files.read_manifest(folder, "conversations") for folder in (conversations_folder, out)
    )
    assert facts["made_from"] == before_facts["made_from"]
    assert facts["conversations"] == len(wanted)


def test_a_liked_track_counts_and_so_do_refused_answers(
    conversations: list[Conversation], tmp_path: Path
) -> None:
    first, *rest = conversations[:4]
    liked = tuple(replace(m, liked=("dear",)) if m.role == "music" else m for m in first.messages)
    row = {"piece_id": "1", "playlist_id": "p", "split": "train", "attempts": 1, "reasons": []}
    refused = [
        row | {"details": [], "answer": '[{"role": "music", "track_id": "dear"}]'},
        row | {"details": ["plays dear."], "answer": "?"},
        row | {"details": [], "answer": "dearest"},
    ]
    folder = tmp_path / "talks"
    save_conversations(
        folder,
        [replace(first, messages=liked), *rest],
        {"catalog": "f" * 64},
        quarantine=refused,
        quality={"turns": 4},
        quality_text="4 turns",
        simulator={"seed": 3},
    )
    counts = remove_from_conversations(folder, ["dear"], folder)
    assert (counts["removed"], counts["left"], counts["quarantined"]) == (1, 3, 2)
    assert [one["answer"] for one in load_quarantine(folder)] == ["dearest"]
    facts = files.read_manifest(folder, "conversations")
    # figures of the conversations that were there before say nothing of these
    assert "quality" not in facts
    assert facts["simulator"] == {"seed": 3}
    assert facts["quarantined"] == 1


def test_conversations_without_the_track_are_not_rewritten(
    conversations_folder: Path, world: Catalog, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="'nobody'"):
        remove_from_conversations(conversations_folder, ["nobody"], tmp_path / "out")
    with pytest.raises(InputError, match="no conversation would be left"):
        remove_from_conversations(
            conversations_folder, world.track_ids, tmp_path / "out", missing_ok=True
        )
    assert list(tmp_path.iterdir()) == []
    same = remove_from_conversations(
        conversations_folder, ["nobody"], tmp_path / "same", missing_ok=True
    )
    assert (same["removed"], same["unknown"], same["conversations"]) == (0, 1, {})
    before, after = (
        [*iter_conversations(folder)] for folder in (conversations_folder, tmp_path / "same")
    )
    assert before == after


def test_the_command_knows_the_kinds(
    world_folder: Path,
    conversations_folder: Path,
    conversations: list[Conversation],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    track = min(tracks_of(conversations[0]))
    for folder, kind in ((world_folder, "catalog"), (conversations_folder, "conversations")):
        out = str(tmp_path / kind)
        assert main(["remove", str(folder), out, "--track", track, "--json"]) == 0
        told = json.loads(capsys.readouterr().out)
        assert (told["kind"], told["removed"]) == (kind, 1)
        assert main(["remove", str(folder), out, "--track", track]) == 0
        text = capsys.readouterr().out
        assert ("places in playlists" in text) == (kind == "catalog")
        assert ("conversations (" in text) == (kind == "conversations")


def test_playlists_in_many_chunks_are_cut_alike(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    ids = [f"t{row:03d}" for row in range(50)]
    lists = [Playlist(f"p{n}", tuple(rng.choice(ids, 5, replace=False))) for n in range(40)]
    lists.append(Playlist("empty", ()))
    catalog = Catalog.from_tracks([Track(one, one, "X") for one in ids], lists)
    catalog.save(tmp_path / "catalog")
    path = tmp_path / "catalog" / files.PLAYLISTS
    pq.write_table(catalog.playlists, path, row_group_size=7)
    assert Catalog.load(tmp_path / "catalog").playlists["track_ids"].num_chunks > 1
    remove_from_catalog(tmp_path / "catalog", ids[:30], tmp_path / "out")
    left = {o.playlist_id: o.track_ids for o in Catalog.load(tmp_path / "out").iter_playlists()}
    wanted = {o.playlist_id: tuple(t for t in o.track_ids if t >= "t030") for o in lists}
    # one that was empty before is none that got empty
    assert left == {name: one for name, one in wanted.items() if one or name == "empty"}


def test_no_clip_stays_in_a_table_that_is_not_looked_into(
    audio_world: Catalog, tmp_path: Path
) -> None:
    pack_audio(audio_world.root or "", tmp_path / "repo")
    with pytest.raises(ArtifactError, match="clips as a table"):
        remove_from_catalog(tmp_path / "repo", audio_world.track_ids[:1], tmp_path / "out")
    assert not (tmp_path / "out").exists()
