"""The conversations folder: one Parquet file of conversations and a manifest."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from talkplay_hf.catalog.constraints import Constraint
from talkplay_hf.catalog.schema import ROLES, Conversation, Message
from talkplay_hf.errors import ArtifactError, InputError
from talkplay_hf.hub import files

_CONSTRAINT = pa.struct([("field", pa.string()), ("op", pa.string()), ("value", pa.string())])
CONVERSATION_SCHEMA = pa.schema(
    [
        ("conversation_id", pa.string()),
        ("playlist_id", pa.string()),
        ("split", pa.string()),
        (
            "messages",
            pa.list_(
                pa.struct(
                    [
                        ("role", pa.string()),
                        ("content", pa.string()),
                        ("track_id", pa.string()),
                        ("source", pa.string()),
                        ("constraints", pa.list_(_CONSTRAINT)),
                        ("intents", pa.list_(pa.string())),
                    ]
                )
            ),
        ),
        ("language", pa.string()),
    ]
)


def save_conversations(
    folder: str | Path,
    conversations: Iterable[Conversation],
    made_from: Mapping[str, str],
    **facts: object,
) -> None:
    """Write a conversations folder atomically."""
    rows = [
        {
            "conversation_id": conversation.conversation_id,
            "playlist_id": conversation.playlist_id,
            "split": conversation.split,
            "messages": [
                {
                    "role": message.role,
                    "content": message.content,
                    "track_id": message.track_id,
                    "source": message.source,
                    "constraints": [
                        {"field": c.field, "op": c.op, "value": c.value}
                        for c in message.constraints
                    ],
                    "intents": list(message.intents),
                }
                for message in conversation.messages
            ],
            "language": conversation.language,
        }
        for conversation in conversations
    ]
    with files.staged_folder(folder, "conversations") as aside:
        table = pa.Table.from_pylist(rows, schema=CONVERSATION_SCHEMA)
        pq.write_table(table, aside / files.CONVERSATIONS, compression="zstd")
        files.write_manifest(aside, "conversations", made_from, conversations=len(rows), **facts)


def load_conversations(
    folder: str | Path, splits: Sequence[str] | None = None
) -> list[Conversation]:
    """Read a conversations folder.

    Args:
        folder (`str` or `Path`): The folder.
        splits (`Sequence[str]`, *optional*): Only these splits.

    Raises:
        ArtifactError: If the folder is of another kind, damaged, or holds an unknown role or
            constraint.
    """
    folder = Path(folder)
    files.read_manifest(folder, "conversations")
    try:
        table = pq.read_table(folder / files.CONVERSATIONS, schema=CONVERSATION_SCHEMA)
    except (pa.ArrowException, OSError) as error:
        raise ArtifactError(f"{folder / files.CONVERSATIONS}: cannot be read ({error})") from None
    return [
        _read(row, folder / files.CONVERSATIONS)
        for row in table.to_pylist()
        if splits is None or row["split"] in splits
    ]


def _read(row: dict[str, Any], path: Path) -> Conversation:
    where = f"{path}: {row['conversation_id']}"
    rows = row.pop("messages")
    if row["conversation_id"] is None or rows is None:
        raise ArtifactError(f"{where}: has no conversation_id or no messages")
    messages = []
    for message in rows:
        if message["role"] not in ROLES:
            raise ArtifactError(f"{where}: unknown role {message['role']!r}")
        try:
            message["constraints"] = tuple(Constraint(**c) for c in message["constraints"] or ())
        except InputError as error:
            raise ArtifactError(f"{where}: {error}") from None
        message["content"] = message["content"] or ""
        message["intents"] = tuple(message["intents"] or ())
        messages.append(Message(**message))
    return Conversation(messages=tuple(messages), **row)
