"""The conversations folder, on disk and back."""

from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from talkplay_hf.catalog.constraints import Constraint
from talkplay_hf.catalog.schema import Conversation, Message
from talkplay_hf.conversations.dataset import load_conversations, save_conversations
from talkplay_hf.errors import ArtifactError
from talkplay_hf.hub import files


def rewrite(folder: Path, rows: list[dict[str, object]]) -> None:
    pq.write_table(pa.Table.from_pylist(rows), folder / files.CONVERSATIONS)


def test_round_trip(conversations: list[Conversation], conversations_folder: Path):
    assert load_conversations(conversations_folder) == conversations


def test_round_trip_of_odd_messages(tmp_path: Path):
    odd = [
        Conversation("empty", ()),
        Conversation(
            "odd",
            (
                Message("system", "Be kind."),
                Message("user", "caf\u00e9 \u266a\n\u00fc", constraints=(
                    Constraint("year", "ge", "1990"), Constraint("artist", "not", "x"))),
                Message("music", track_id="t", source="negative"),
                Message("assistant", ""),
            ),
            playlist_id="p",
            split="test",
        ),
    ]  # fmt: skip
    save_conversations(tmp_path / "talks", odd, {})
    assert load_conversations(tmp_path / "talks") == odd


def test_only_some_splits(conversations: list[Conversation], conversations_folder: Path):
    wanted = [one for one in conversations if one.split == "test"]
    assert load_conversations(conversations_folder, ["test"]) == wanted
    both = load_conversations(conversations_folder, ["train", "validation"])
    assert len(both) == len(conversations) - len(wanted)
    assert load_conversations(conversations_folder, ["no such split"]) == []


def test_the_same_conversations_give_the_same_bytes(
    conversations: list[Conversation], tmp_path: Path
):
    for name in ("one", "two"):
        save_conversations(tmp_path / name, conversations, {"catalog": "f" * 64}, seed=1)
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()


def test_an_unknown_role_is_refused(tmp_path: Path):
    save_conversations(tmp_path / "t", [Conversation("c9", (Message("robot", "hi"),))], {})
    with pytest.raises(ArtifactError, match=r"c9.*'robot'"):
        load_conversations(tmp_path / "t")


@pytest.mark.parametrize("name", ["conversations.parquet", "manifest.json"])
@pytest.mark.parametrize("damage", ["gone", "cut"])
def test_a_damaged_folder_is_refused(
    name: str, damage: str, conversations: list[Conversation], tmp_path: Path
):
    folder = tmp_path / "talks"
    save_conversations(folder, conversations, {})
    if damage == "gone":
        (folder / name).unlink()
    else:
        (folder / name).write_bytes((folder / name).read_bytes()[:50])
    with pytest.raises(ArtifactError, match="talks"):
        load_conversations(folder)


@pytest.mark.parametrize(
    "rows",
    [
        [{"something": "else"}],
        [{"conversation_id": "c", "split": "train", "messages": None}],
        [{"conversation_id": "c", "split": "train", "messages": "text"}],
        [{"conversation_id": "c", "split": "train", "messages": [{"role": "user",
          "constraints": [{"field": "year", "op": "near", "value": "1990"}]}]}],
        [{"conversation_id": "c", "split": "train", "messages": [{"role": "user",
          "constraints": [{"field": "year", "op": "ge", "value": None}]}]}],
    ],
)  # fmt: skip
def test_a_table_of_something_else_is_refused(rows: list[dict[str, object]], tmp_path: Path):
    folder = tmp_path / "talks"
    save_conversations(folder, [], {})
    rewrite(folder, rows)
    with pytest.raises(ArtifactError, match="talks"):
        load_conversations(folder)


def test_datasets_reads_the_folder(
    conversations: list[Conversation], conversations_folder: Path, tmp_path: Path
):
    found = datasets.load_dataset(
        "parquet",
        data_files=str(conversations_folder / "conversations.parquet"),
        split="train",
        cache_dir=str(tmp_path),
    )
    assert found.num_rows == len(conversations)
    for row, one in zip(found, conversations, strict=True):
        assert row["conversation_id"] == one.conversation_id
        assert [m["role"] for m in row["messages"]] == [m.role for m in one.messages]
        assert [m["track_id"] for m in row["messages"]] == [m.track_id for m in one.messages]
