"""The sets to train and validate on: what is in them, when they are made again, bad input."""

import resource
import shutil
import signal
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset
from trl import SFTConfig
from two_processes import run_in_two_processes

from talkplay_hf.catalog.schema import Catalog, Conversation, Message
from talkplay_hf.conversations.dataset import load_conversations, save_conversations
from talkplay_hf.errors import (
    ArtifactError,
    ConfigError,
    InputError,
    LeakageError,
    TalkPlayError,
)
from talkplay_hf.hub import files, shards
from talkplay_hf.tokens.tokenizer import TalkPlayTokenizer
from talkplay_hf.training.arguments import TalkPlayArguments
from talkplay_hf.training.rows.encode import IGNORED
from talkplay_hf.training.rows.sets import load_datasets, rows_folder

Sets = tuple[dict[str, Dataset], dict[str, Any]]
Load = Callable[..., Sets]

OURS = ("tokenizer", "conversations", "catalog", "playlist_share", "train_on_negatives")


@pytest.fixture
def load(
    world_folder: Path,
    tokenizer_folder: Path,
    conversations_folder: Path,
    tmp_path: Path,
) -> Load:
    """Load the sets of the small world; keywords change arguments of ours or of TRL."""

    def load(progress: Any = None, **options: Any) -> Sets:
        ours = {key: options.pop(key) for key in OURS if key in options}
        folders = {
            "tokenizer": str(tokenizer_folder),
            "conversations": str(conversations_folder),
            "catalog": str(world_folder),
        }
        arguments = TalkPlayArguments(**(folders | ours))
        config = SFTConfig(
            **(
                {
                    "output_dir": str(rows_folder(tmp_path / "model").parent),
                    "use_cpu": True,
                    "bf16": False,
                }
                | options
            )
        )
        tokenizer = TalkPlayTokenizer.from_pretrained(arguments.tokenizer)
        return load_datasets(arguments, config, tokenizer, progress)

    return load


def parts(dataset: Dataset) -> list[int]:
    """The part of each row; all tokens of a row are of one."""
    assert all(len(set(row)) == 1 for row in dataset["part"])
    return [row[0] for row in dataset["part"]]


def label_tokens(dataset: Dataset, part: int | None = None) -> int:
    return sum(
        label != IGNORED and part in (None, of)
        for labels, many in zip(dataset["labels"], dataset["part"], strict=True)
        for label, of in zip(labels, many, strict=True)
    )


def test_the_sets_have_labels_and_a_part_for_every_token(load: Load):
    sets, _ = load()
    assert set(sets) == {"train", "conversations", "playlists"}
    for dataset in sets.values():
        schema = dataset.data.schema
        assert schema.names == ["input_ids", "labels", "part"]
        assert [field.type.value_type for field in schema] == [pa.int32(), pa.int32(), pa.int8()]
        for row in dataset:
            assert len(row["input_ids"]) == len(row["labels"]) == len(row["part"])
            assert any(label != IGNORED for label in row["labels"])
    assert set(parts(sets["conversations"])) == {0}
    assert set(parts(sets["playlists"])) == {1}


def test_folders_in_several_files_make_the_same_rows(
    load: Load,
    world: Catalog,
    conversations: list[Conversation],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    whole, _ = load()
    monkeypatch.setattr(shards, "MAX_SHARD_BYTES", 2_000)
    monkeypatch.setattr(shards, "GROUP_BYTES", 4_000)
    world.save(tmp_path / "catalog")
    save_conversations(tmp_path / "talks", conversations, {"catalog": world.fingerprint})
    assert len(shards.table_paths(tmp_path / "talks", "train")) > 1
    folders = {"catalog": str(tmp_path / "catalog"), "conversations": str(tmp_path / "talks")}
    sharded, _ = load(**folders)
    assert sharded["train"]["input_ids"] == whole["train"]["input_ids"]
    assert sharded["playlists"]["labels"] == whole["playlists"]["labels"]
    shards.table_paths(tmp_path / "talks", "train")[1].unlink()
    with pytest.raises(ArtifactError, match=r"train-00001-of-\d+\.parquet is missing"):
        load(**folders)


def test_the_parts_of_the_training_set_are_interleaved(load: Load):
    sets, _ = load()
    order = parts(sets["train"])
    changes = sum(a != b for a, b in pairwise(order))
    expected = 2 * order.count(0) * order.count(1) / len(order)
    assert changes > 0.5 * expected


@pytest.mark.parametrize("share", [0.05, 0.3, 0.5, 0.8])
def test_playlists_hold_their_share_of_the_label_tokens(share: float, load: Load):
    sets, facts = load(playlist_share=share)
    train = sets["train"]
    realised = label_tokens(train, 1) / label_tokens(train)
    assert realised == pytest.approx(share, rel=0.01)
    assert facts["train"]["playlist_share"] == realised


def test_a_share_of_nothing_leaves_playlists_out(load: Load):
    sets, facts = load(playlist_share=0.0)
    assert set(sets) == {"train", "conversations"}
    assert set(parts(sets["train"])) == {0}
    assert facts["train"]["playlist_share"] == 0


def test_the_report_says_what_is_in_the_sets(load: Load):
    sets, facts = load(max_length=300)
    for split, datasets in (
        ("train", [sets["train"]]),
        ("validation", [sets["conversations"], sets["playlists"]]),
    ):
        lengths = [len(ids) for dataset in datasets for ids in dataset["input_ids"]]
        said = facts[split]
        assert said["rows"] == len(lengths)
        assert said["tokens"] == sum(lengths)
        assert said["longest"] == max(lengths) <= 300
        assert said["label_tokens"] == sum(map(label_tokens, datasets))
        for part, name in enumerate(("conversations", "playlists")):
            assert said[name]["label_tokens"] == sum(label_tokens(one, part) for one in datasets)
            assert said[name]["rows"] == sum(parts(one).count(part) for one in datasets)
    assert facts["train"]["conversations"]["shortened"] > 0


def test_validation_playlists_are_the_same_for_every_seed(load: Load, tmp_path: Path):
    first, _ = load(seed=0)
    other, _ = load(seed=1, output_dir=str(tmp_path / "other"))
    again, _ = load(seed=0, output_dir=str(tmp_path / "again"))
    assert first["train"].to_list() == again["train"].to_list()
    assert first["train"].to_list() != other["train"].to_list()
    assert first["playlists"].to_list() == other["playlists"].to_list()
    wanted = label_tokens(first["conversations"])
    assert wanted <= label_tokens(first["playlists"]) <= wanted + 7


def test_negatives_count_only_when_asked_for(load: Load):
    masked, trained = (load(train_on_negatives=on)[1]["train"] for on in (False, True))
    difference = trained["conversations"]["label_tokens"] - masked["conversations"]["label_tokens"]
    assert difference > 0
    assert difference % 7 == 0


# --- made once --------------------------------------------------------------------------------


def test_rows_of_an_earlier_run_are_used_again(load: Load, tmp_path: Path):
    told: list[str] = []
    first, facts = load(lambda what, done, total: told.append(what))
    assert any("encoding" in what for what in told)
    folder = rows_folder(tmp_path / "model")
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    told.clear()
    again, same = load(lambda what, done, total: told.append(what))
    assert told == []
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == before
    assert same == facts
    assert again["train"].to_list() == first["train"].to_list()


def test_progress_reaches_the_total(load: Load, conversations: list[Conversation]):
    told: dict[str, tuple[int, int]] = {}
    load(lambda what, done, total: told.update({what: (done, total)}))
    trained = sum(one.split == "train" for one in conversations)
    assert told["encoding conversations (train)"] == (trained, trained)


@pytest.mark.parametrize(
    "changed",
    [
        {"max_length": 300},
        {"playlist_share": 0.2},
        {"train_on_negatives": True},
        {"seed": 5},
        {"packing": True},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_rows_are_made_again_when_an_option_changes(changed: dict[str, Any], load: Load):
    _, first = load()
    _, second = load(**changed)
    assert first["fingerprint"] != second["fingerprint"]
    assert load()[1] == first


def test_rows_are_made_again_when_the_conversations_change(
    load: Load, conversations_folder: Path, tmp_path: Path
):
    copy = tmp_path / "conversations"
    shutil.copytree(conversations_folder, copy)
    _, first = load(conversations=str(copy))
    fewer = load_conversations(copy)[:-1]
    fewer = [one for one in fewer if one.split != "train"] + [
        one for one in fewer if one.split == "train"
    ][1:]
    save_conversations(copy, fewer, files.read_manifest(copy, "conversations")["made_from"])
    _, second = load(conversations=str(copy))
    assert second["train"]["conversations"]["rows"] == first["train"]["conversations"]["rows"] - 1


def test_damaged_rows_are_refused_by_name(load: Load, tmp_path: Path):
    load()
    folder = rows_folder(tmp_path / "model")
    for path in folder.glob("*.arrow"):
        path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ArtifactError, match=r"rows: is damaged.*delete it"):
        load()


def test_what_a_killed_run_left_is_cleared_away(load: Load, tmp_path: Path):
    folder = rows_folder(tmp_path / "model")
    left = folder.parent / f".{folder.name}.aside"
    left.mkdir(parents=True)
    (left / "train-conversations.arrow").write_bytes(b"half")
    load()
    assert sorted(path.name for path in folder.parent.iterdir()) == ["rows"]


def test_no_room_on_the_disk_is_one_error_and_leaves_nothing(load: Load, tmp_path: Path):
    ignore = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
    try:
        with pytest.raises(ArtifactError, match="rows cannot be written"):
            load()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, ignore)
    assert not rows_folder(tmp_path / "model").parent.exists()


# --- bad input --------------------------------------------------------------------------------


def refused(load: Load, tmp_path: Path, kind: type[TalkPlayError], match: str, **options: Any):
    with pytest.raises(kind, match=match):
        load(**options)
    assert not rows_folder(tmp_path / "model").exists()


def saved(
    folder: Path, conversations: list[Conversation], catalog: str, *more: Conversation
) -> str:
    save_conversations(folder, [*conversations, *more], {"catalog": catalog})
    return str(folder)


def test_conversations_of_another_catalog_are_one_error_that_names_both(
    load: Load, conversations: list[Conversation], world: Catalog, tmp_path: Path
):
    foreign = [
        replace(
            one,
            messages=tuple(
                replace(message, track_id=f"other-{message.track_id}")
                if message.role == "music"
                else message
                for message in one.messages
            ),
        )
        for one in conversations
    ]
    music = sum(
        message.role == "music"
        for one in conversations
        for message in one.messages
        if one.split in ("train", "validation")
    )
    folder = saved(tmp_path / "talk", foreign, "f" * 64)
    match = (
        rf"{music:,} of {music:,} music messages.*first 'other-.*'.*"
        rf"catalog f{{12}},.*{world.fingerprint[:12]}"
    )
    refused(load, tmp_path, InputError, match, conversations=folder)


def test_one_unknown_track_far_back_is_found_before_anything_is_encoded(
    load: Load, conversations: list[Conversation], world: Catalog, tmp_path: Path
):
    odd = Conversation(
        "odd", (Message("user", "hi"), Message("music", track_id="gone")), split="validation"
    )
    folder = saved(tmp_path / "talk", conversations, world.fingerprint, odd)
    told: list[str] = []
    with pytest.raises(InputError, match=r"1 of [\d,]+ music messages.*'gone'.*'odd'"):
        load(lambda what, done, total: told.append(what), conversations=folder)
    assert not any("encoding" in what for what in told)


def test_another_catalog_with_the_same_tracks_is_fine(
    load: Load, conversations: list[Conversation], tmp_path: Path
):
    folder = saved(tmp_path / "talk", conversations, "f" * 64)
    assert load(conversations=folder)[0]["train"].num_rows > 0


def test_held_out_conversations_are_refused(
    load: Load, conversations: list[Conversation], world: Catalog, tmp_path: Path
):
    leaking = [replace(one, split="train") for one in conversations]
    folder = saved(tmp_path / "talk", leaking, world.fingerprint)
    refused(load, tmp_path, LeakageError, "playlist", conversations=folder)


def test_a_catalog_without_playlists_has_none_to_continue(
    load: Load, world: Catalog, conversations: list[Conversation], tmp_path: Path
):
    bare = Catalog(world.tracks, world.playlists.slice(0, 0))
    bare.save(tmp_path / "bare")
    alone = [replace(one, playlist_id=None) for one in conversations]
    options = {
        "catalog": str(tmp_path / "bare"),
        "conversations": saved(tmp_path / "talk", alone, world.fingerprint),
    }
    refused(load, tmp_path, ConfigError, "no training playlist.*playlist_share: 0", **options)
    assert set(load(playlist_share=0.0, **options)[0]) == {"train", "conversations"}


def test_conversations_without_a_training_split_are_refused(
    load: Load, conversations: list[Conversation], world: Catalog, tmp_path: Path
):
    rest = [one for one in conversations if one.split != "train"]
    folder = saved(tmp_path / "talk", rest, world.fingerprint)
    refused(
        load, tmp_path, ConfigError, "no conversations of the split train", conversations=folder
    )


def test_a_context_without_room_is_refused(
    load: Load, conversations: list[Conversation], world: Catalog, tmp_path: Path
):
    refused(load, tmp_path, InputError, "max_length 40 has no room for two tracks", max_length=40)
    long = [
        replace(
            one,
            messages=tuple(
                replace(message, content="word " * 400) if message.role == "user" else message
                for message in one.messages
            ),
        )
        for one in conversations
    ]
    folder = saved(tmp_path / "talk", long, world.fingerprint)
    match = "max_length 300: not even the last turn"
    refused(load, tmp_path, InputError, match, conversations=folder, max_length=300)


def test_a_damaged_token_catalog_is_refused(load: Load, tokenizer_folder: Path, tmp_path: Path):
    copy = tmp_path / "tokenizer"
    shutil.copytree(tokenizer_folder, copy)
    table = pq.read_table(copy / files.TOKEN_CATALOG)
    at = table.column_names.index("codes")
    codes = np.asarray(table["codes"].combine_chunks().flatten()).copy()
    codes[7] = 5000
    wrong = pa.FixedSizeListArray.from_arrays(pa.array(codes), 5)
    pq.write_table(table.set_column(at, "codes", wrong), copy / files.TOKEN_CATALOG)
    files.refresh_manifest(copy)
    match = r"catalog.parquet: has codes that the codebooks"
    refused(load, tmp_path, ArtifactError, match, tokenizer=str(copy))
    (copy / files.TOKEN_CATALOG).write_bytes(b"PAR1 and then nothing")
    refused(load, tmp_path, ArtifactError, "catalog.parquet", tokenizer=str(copy))
    (copy / files.TOKEN_CATALOG).unlink()
    fresh = {"tokenizer": str(copy)}
    refused(load, tmp_path, ArtifactError, "has no catalog.parquet", **fresh)


def test_a_missing_file_is_refused_by_name(load: Load, conversations_folder: Path, tmp_path: Path):
    copy = tmp_path / "talk"
    shutil.copytree(conversations_folder, copy)
    (copy / "train.parquet").unlink()
    refused(load, tmp_path, ArtifactError, "train.parquet", conversations=str(copy))
    (copy / "train.parquet").mkdir()
    match = r"train\.parquet: cannot be read \(Is a directory\)"
    refused(load, tmp_path, ArtifactError, match, conversations=str(copy))


# --- two processes ----------------------------------------------------------------------------

WORKER = """
import json, os, sys
from pathlib import Path
from trl import SFTConfig
from talkplay_hf.tokens.tokenizer import TalkPlayTokenizer
from talkplay_hf.training.arguments import TalkPlayArguments
from talkplay_hf.training.rows.sets import load_datasets

tokenizer, conversations, catalog, out = sys.argv[1:]
told = []
sets, facts = load_datasets(
    TalkPlayArguments(tokenizer, conversations, catalog),
    SFTConfig(output_dir=out, use_cpu=True, bf16=False),
    TalkPlayTokenizer.from_pretrained(tokenizer),
    lambda what, done, total: told.append(what),
)
rank = os.environ["RANK"]
seen = {"told": len(told), "facts": facts, "train": sets["train"].to_list()}
Path(f"{out}-{rank}.json").write_text(json.dumps(seen))
"""


@pytest.mark.slow
def test_two_processes_share_rows_that_one_has_made(
    world_folder: Path, tokenizer_folder: Path, conversations_folder: Path, tmp_path: Path
):
    script = tmp_path / "worker.py"
    script.write_text(WORKER, encoding="utf-8")
    folders = (tokenizer_folder, conversations_folder, world_folder, tmp_path / "model")
    run_in_two_processes(script, *folders)
    first, second = (files.read_json(tmp_path / f"model-{rank}.json") for rank in (0, 1))
    assert first.pop("told") > 0
    assert second.pop("told") == 0
    assert first == second
