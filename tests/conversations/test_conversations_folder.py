"""The conversations folder, on disk and back."""

import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from talkplay_hf.catalog.constraints import Constraint
from talkplay_hf.catalog.schema import Conversation, Message
from talkplay_hf.conversations import dataset
from talkplay_hf.conversations.checks.verdict import REASONS
from talkplay_hf.conversations.dataset import (
    ConversationWriter,
    iter_conversations,
    load_conversations,
    load_quarantine,
    save_conversations,
)
from talkplay_hf.conversations.schema import CONVERSATION_SCHEMA, from_row
from talkplay_hf.conversations.takedown import remove_from_conversations
from talkplay_hf.errors import ArtifactError, InputError
from talkplay_hf.hub import files

REFUSED = {
    "piece_id": "p1-0",
    "playlist_id": "p1",
    "split": "train",
    "attempts": 3,
    "reasons": ["unknown_track", "too_long"],
    "details": ["turn 1: no such id", "turn 2: 900 words"],
    "answer": "[{}]",
}


def named(count: int, split: str = "train") -> Iterator[Conversation]:
    for number in range(count):
        messages = (Message("user", f"ask {number}"), Message("music", track_id="t"))
        yield Conversation(f"{split}-{number}", messages, split=split)


def by_split(conversations: list[Conversation]) -> list[Conversation]:
    order = ("train", "validation", "test")
    return sorted(conversations, key=lambda one: order.index(one.split))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_round_trip(conversations: list[Conversation], conversations_folder: Path):
    assert load_conversations(conversations_folder) == by_split(conversations)


def test_a_split_has_its_file_and_an_absent_one_has_none(tmp_path: Path):
    save_conversations(tmp_path / "talks", [*named(2, "test"), *named(3)], {})
    assert names(tmp_path / "talks") == [
        "README.md", "manifest.json", "test.parquet", "train.parquet"
    ]  # fmt: skip
    assert pq.read_metadata(tmp_path / "talks" / "train.parquet").num_rows == 3


def test_round_trip_of_odd_messages(tmp_path: Path):
    odd = [
        Conversation("empty", ()),
        Conversation(
            "odd",
            (
                Message("system", "Be kind."),
                Message("user", "caf\u00e9 \u266a\n\u00fc", intents=("open", "genre"), constraints=(
                    Constraint("year", "ge", "1990"), Constraint("artist", "not", "x"))),
                Message("music", track_id="t", source="negative"),
                Message("assistant", ""),
                Message("music", track_id="u", liked=("v", "w")),
            ),
            playlist_id="p",
            split="test",
            language="fr",
        ),
    ]  # fmt: skip
    save_conversations(tmp_path / "talks", odd, {})
    assert load_conversations(tmp_path / "talks") == odd


def test_a_stream_is_written_and_read_in_row_groups(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(dataset, "ROWS", 10)
    mixed = (one for pair in zip(named(25), named(25, "test"), strict=True) for one in pair)
    save_conversations(tmp_path / "talks", mixed, {})
    assert pq.read_metadata(tmp_path / "talks" / "train.parquet").num_row_groups == 3
    found = iter_conversations(tmp_path / "talks")
    assert next(found).conversation_id == "train-0"
    assert [one.conversation_id for one in found][23:26] == ["train-24", "test-0", "test-1"]


def test_only_some_splits(conversations: list[Conversation], conversations_folder: Path):
    wanted = [one for one in conversations if one.split == "test"]
    assert load_conversations(conversations_folder, ["test"]) == wanted
    both = load_conversations(conversations_folder, ["train", "validation"])
    assert len(both) == len(conversations) - len(wanted)
    assert load_conversations(conversations_folder, ["no such split"]) == []


def test_the_same_conversations_give_the_same_bytes(
    conversations: list[Conversation], tmp_path: Path
):
    for name, facts in {
        "one": {"seed": 1, "generator": {"model": "m", "seed": 2}},
        "two": {"generator": {"seed": 2, "model": "m"}, "seed": 1},
    }.items():
        made_from = {"catalog": "f" * 64}
        save_conversations(
            tmp_path / name, iter(conversations), made_from, quarantine=[REFUSED], **facts
        )
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()


def test_the_manifest_has_the_hash_of_every_file_and_the_counts(tmp_path: Path):
    folder = tmp_path / "talks"
    some = [replace(one, language="en") for one in named(2)]
    save_conversations(folder, [*some, *named(1, "test")], {}, quarantine=[REFUSED], simulator={})
    manifest = files.read_manifest(folder, "conversations")
    assert set(manifest["files"]) == set(names(folder)) - {files.MANIFEST}
    for name, sha in manifest["files"].items():
        assert files.sha256_file(folder / name) == sha
    assert manifest["conversations"] == 3
    assert manifest["splits"]["train"] == {"conversations": 2, "turns": 2, "messages": 4}
    assert manifest["languages"] == {"en": 2}
    assert manifest["quarantine_reasons"] == {"unknown_track": 1, "too_long": 1}
    assert manifest["reason_meanings"] == {"unknown_track": REASONS["unknown_track"]}
    assert REASONS["unknown_track"] in (folder / files.CARD).read_text(encoding="utf-8")


def test_refused_answers_are_kept_apart(tmp_path: Path):
    with ConversationWriter(tmp_path / "talks", {}) as writer:
        for one in named(2):
            writer.add(one)
            writer.add_quarantined({**REFUSED, "piece_id": one.conversation_id})
        writer.facts["budget"] = {"calls": 4}
    assert len(load_conversations(tmp_path / "talks")) == 2
    assert load_quarantine(tmp_path / "talks") == [
        {**REFUSED, "piece_id": "train-0"}, {**REFUSED, "piece_id": "train-1"}
    ]  # fmt: skip
    assert files.read_manifest(tmp_path / "talks", "conversations")["budget"] == {"calls": 4}


def test_a_folder_without_refused_answers_has_no_file_of_them(conversations_folder: Path):
    assert load_quarantine(conversations_folder) == []
    assert files.QUARANTINE not in names(conversations_folder)


def test_a_refused_answer_needs_all_of_its_columns(tmp_path: Path):
    with pytest.raises(ValueError, match="piece_id"):
        save_conversations(tmp_path / "talks", [], {}, quarantine=[{"piece_id": "p"}])
    assert names(tmp_path) == []


def test_a_refused_answer_whose_reasons_are_not_known_is_kept_in_a_takedown(tmp_path: Path):
    unknown = {**REFUSED, "reasons": None, "details": [None], "answer": None}
    save_conversations(tmp_path / "talks", named(1), {}, quarantine=[unknown])
    gone = remove_from_conversations(tmp_path / "talks", ["x"], tmp_path / "out", missing_ok=True)
    assert gone["quarantined"] == 0
    assert load_quarantine(tmp_path / "out") == [unknown]
    with pytest.raises(InputError, match="no track ids were given"):
        remove_from_conversations(tmp_path / "talks", [], tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_an_error_in_the_stream_leaves_the_old_folder_as_it_was(tmp_path: Path):
    save_conversations(tmp_path / "talks", named(2), {})

    def failing() -> Iterator[Conversation]:
        yield from named(5)
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        save_conversations(tmp_path / "talks", failing(), {})
    assert names(tmp_path) == ["talks"]
    assert len(load_conversations(tmp_path / "talks")) == 2


def test_text_that_cannot_be_written_is_refused_by_name(tmp_path: Path):
    bad = [*named(3), Conversation("b", (Message("user", "\ud800"),))]
    with pytest.raises(InputError, match="train: rows 0 to 3"):
        save_conversations(tmp_path / "talks", bad, {})
    assert names(tmp_path) == []


@pytest.mark.parametrize("split", ["", "quarantine", "../out", "a b"])
def test_a_split_that_cannot_be_one_is_refused(split: str, tmp_path: Path):
    with pytest.raises(InputError, match="split"):
        save_conversations(tmp_path / "talks", named(1, split), {})


def test_facts_that_a_card_cannot_show_do_not_cost_the_data(tmp_path: Path):
    with pytest.warns(UserWarning, match="card"):
        save_conversations(tmp_path / "talks", named(2), {}, rejects={"answers": "many", "x": 1})
    assert len(load_conversations(tmp_path / "talks")) == 2
    manifest = files.read_manifest(tmp_path / "talks", "conversations")
    card = tmp_path / "talks" / files.CARD
    assert manifest["files"][files.CARD] == files.sha256_file(card)
    assert "path: train.parquet" in card.read_text(encoding="utf-8")


def test_an_unknown_role_is_refused(tmp_path: Path):
    save_conversations(tmp_path / "t", [Conversation("c9", (Message("robot", "hi"),))], {})
    with pytest.raises(ArtifactError, match=r"c9.*'robot'"):
        load_conversations(tmp_path / "t")


@pytest.mark.parametrize("name", ["train.parquet", "manifest.json"])
@pytest.mark.parametrize("damage", ["gone", "cut"])
def test_a_damaged_folder_is_refused(name: str, damage: str, tmp_path: Path):
    folder = tmp_path / "talks"
    save_conversations(folder, named(3), {})
    if damage == "gone":
        (folder / name).unlink()
    else:
        (folder / name).write_bytes((folder / name).read_bytes()[:50])
    with pytest.raises(ArtifactError, match="talks"):
        load_conversations(folder)


def test_a_folder_from_before_further_liked_tracks_is_read(tmp_path: Path):
    folder = tmp_path / "talks"
    save_conversations(folder, named(3), {})
    rows = pq.read_table(folder / "train.parquet").to_pylist()
    for one in rows:
        for message in one["messages"]:
            assert message.pop("liked") == []
    pq.write_table(pa.Table.from_pylist(rows), folder / "train.parquet")
    assert load_conversations(folder) == [*named(3)]


def row(**changed: Any) -> dict[str, Any]:
    message = {
        "role": "user", "content": "hi", "track_id": None, "source": None, "constraints": [],
        "intents": [],
    } | changed.pop("message", {})  # fmt: skip
    base = {"conversation_id": "c", "playlist_id": None, "split": "train", "messages": [message]}
    return base | {"language": None} | changed


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([{"something": "else"}], "no column"),
        ([row(messages=None)], "no messages"),
        ([row(messages="text")], "cannot be read"),
        ([row(split="test")], "of the split 'test'"),
        ([row(message={"constraints": [{"field": "year", "op": "near", "value": "1"}]})], "near"),
        ([row(message={"constraints": [{"field": "year", "op": "ge", "value": None}]})], "c: "),
        ([row(message={"liked": ["t"]})], "c: only music"),
        ([row(message={"role": "music", "track_id": "t", "liked": [None]})], "c: only music"),
    ],
)
def test_a_table_of_something_else_is_refused(rows: list[Any], words: str, tmp_path: Path):
    folder = tmp_path / "talks"
    save_conversations(folder, named(1), {})
    try:
        table = pa.Table.from_pylist(rows, schema=CONVERSATION_SCHEMA)
    except pa.ArrowException:
        table = pa.Table.from_pylist(rows)
    if "something" in rows[0]:
        table = pa.Table.from_pylist(rows)
    pq.write_table(table, folder / "train.parquet")
    with pytest.raises(ArtifactError, match=f"talks.*{words}"):
        load_conversations(folder)


def test_datasets_reads_the_folder(
    conversations: list[Conversation], conversations_folder: Path, tmp_path: Path
):
    found = datasets.load_dataset(str(conversations_folder), cache_dir=str(tmp_path))
    assert set(found) == {one.split for one in conversations}
    for split, rows in found.items():
        wanted = [one for one in conversations if one.split == split]
        assert rows.num_rows == len(wanted) > 0
        for got, one in zip(rows, wanted, strict=True):
            assert got["conversation_id"] == one.conversation_id
            # what TRL takes: a list of dicts with role and content
            assert [(m["role"], m["content"]) for m in got["messages"]] == [
                (m.role, m.content) for m in one.messages
            ]
            assert [m["track_id"] for m in got["messages"]] == [m.track_id for m in one.messages]


def test_datasets_reads_refused_answers_by_their_name_only(tmp_path: Path):
    folder, cache = str(tmp_path / "talks"), str(tmp_path / "cache")
    save_conversations(folder, [*named(2), *named(1, "validation")], {}, quarantine=[REFUSED])
    found = datasets.load_dataset(folder, cache_dir=cache)
    assert {split: rows.num_rows for split, rows in found.items()} == {"train": 2, "validation": 1}
    refused = datasets.load_dataset(folder, "quarantine", split="quarantine", cache_dir=cache)
    assert refused.to_list() == [REFUSED]


def test_a_plain_save_gives_no_warning(tmp_path: Path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        save_conversations(tmp_path / "talks", named(1), {"catalog": "f" * 64}, simulator={"a": 1})


def test_a_split_is_never_read_from_another_folder(tmp_path: Path):
    for name in ("mine", "theirs"):
        save_conversations(tmp_path / name, named(1), {})
    path = tmp_path / "theirs" / files.MANIFEST
    manifest = files.read_json(path)
    files.write_json(path, manifest | {"splits": {"../mine/train": {}}})
    with pytest.raises(ArtifactError, match=r"manifest\.json: does not say which splits"):
        load_conversations(tmp_path / "theirs")


@pytest.mark.parametrize("messages", [[None], [{"role": "user", "constraints": [None]}]])
def test_a_null_among_messages_or_constraints_is_refused(messages: list[Any]) -> None:
    names = ("content", "track_id", "source", "constraints", "intents", "liked")
    said = [one and dict.fromkeys(names) | one for one in messages]
    row = {"conversation_id": "c", "split": "train", "messages": said}
    with pytest.raises(ArtifactError, match="is missing"):
        from_row(row, "train.parquet")
