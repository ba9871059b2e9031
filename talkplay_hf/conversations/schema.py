"""Conversations and refused answers as rows of a table."""

from typing import Any

import pyarrow as pa

from talkplay_hf.catalog.constraints import Constraint
from talkplay_hf.catalog.schema import ROLES, Conversation, Message
from talkplay_hf.errors import ArtifactError, InputError

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
                        ("liked", pa.list_(pa.string())),
                    ]
                )
            ),
        ),
        ("language", pa.string()),
        ("provenance", pa.string()),
        ("license", pa.string()),
    ]
)
# Columns that folders may lack that were written before there were such columns.
OPTIONAL_COLUMNS = {"provenance", "license"}
QUARANTINE_SCHEMA = pa.schema(
    [
        ("piece_id", pa.string()),
        ("playlist_id", pa.string()),
        ("split", pa.string()),
        ("attempts", pa.int64()),
        ("reasons", pa.list_(pa.string())),
        ("details", pa.list_(pa.string())),
        ("answer", pa.string()),
    ]
)


def to_row(conversation: Conversation) -> dict[str, Any]:
    """A conversation as a row of `CONVERSATION_SCHEMA`."""
    return {
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
                    {"field": c.field, "op": c.op, "value": c.value} for c in message.constraints
                ],
                "intents": list(message.intents),
                "liked": list(message.liked),
            }
            for message in conversation.messages
        ],
        "language": conversation.language,
        "provenance": conversation.provenance,
        "license": conversation.license,
    }


def from_row(row: dict[str, Any], table: str) -> Conversation:
    """The conversation in a row of `CONVERSATION_SCHEMA`, which is taken apart.

    Args:
        row (`dict[str, Any]`): The row.
        table (`str`): The name of the table, for messages.

    Raises:
        ArtifactError: If something is missing, or a role or a constraint unknown.
    """
    where = f"{table}: {row['conversation_id']}"
    rows = row.pop("messages")
    if row["conversation_id"] is None or row["split"] is None or rows is None:
        raise ArtifactError(f"{where}: has no conversation_id, no split or no messages")
    messages = []
    for message in rows:
        if message is None:
            raise ArtifactError(f"{where}: a message is missing")
        if message["role"] not in ROLES:
            raise ArtifactError(f"{where}: unknown role {message['role']!r:.80}")
        try:
            message["constraints"] = tuple(Constraint(**c) for c in message["constraints"] or ())
        except InputError as error:
            raise ArtifactError(f"{where}: {error}") from None
        except TypeError:
            raise ArtifactError(f"{where}: a constraint is missing") from None
        message["content"] = message["content"] or ""
        message["intents"] = tuple(message["intents"] or ())
        # null in folders that were written before there was such a column
        liked = message["liked"] = tuple(message["liked"] or ())
        if liked and (message["role"] != "music" or None in liked):
            raise ArtifactError(f"{where}: only music has further liked tracks, each with an id")
        messages.append(Message(**message))
    return Conversation(messages=tuple(messages), **row)
