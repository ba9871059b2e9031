"""The conversations folder: a dataset repo with one Parquet table a split, a card and a manifest.

`train.parquet`, `validation.parquet` and `test.parquet` hold conversations, in the order in which
they came; a split without any has no file, and a large one several, see `hub.shards`. Each row says
how it was made and under which licence, so that rows of several folders can be mixed.
`quarantine.parquet` holds the answers of a language model that were refused. The front matter of
`README.md` names the files of each split, so that `datasets.load_dataset(folder)` and the viewer of
the Hub read the folder as it is, and `load_dataset(folder, "quarantine")` the refused answers.
"""

import contextlib
import re
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from talkplay_hf.catalog.schema import Conversation
from talkplay_hf.conversations.checks.verdict import REASONS
from talkplay_hf.conversations.schema import (
    CONVERSATION_SCHEMA,
    OPTIONAL_COLUMNS,
    QUARANTINE_SCHEMA,
    from_row,
    to_row,
)
from talkplay_hf.errors import ArtifactError, InputError, first_line
from talkplay_hf.hub import files, shards
from talkplay_hf.hub.cards import conversations as cards

# Conversations a row group, and the most of a split that are held in memory.
ROWS = 2000
# What `datasets` takes for the name of a split.
_SPLIT = re.compile(r"\w+")
_QUARANTINE = files.QUARANTINE.removesuffix(".parquet")


class ConversationWriter:
    """Writes a conversations folder as a stream, atomically. A context manager.

    At most `ROWS` conversations of each split are held in memory. The folder appears when the block
    ends; where it ends with an error, nothing is left behind and an older folder stays as it was.

    Args:
        folder (`str` or `Path`): The folder to make; an older conversations folder is replaced.
        made_from (`Mapping[str, str]`): SHA-256 of each input, by name.
        facts: JSON values for the manifest and the card, see `cards.conversations_card`. More can
            be put into the attribute `facts` until the block ends. Conversations that do not say
            how they were made get it from the facts `simulator` or `generator`, and their licence
            from the fact `license`, as those stand when the conversation is added.

    Raises:
        ArtifactError: If the folder holds something else.

    Example:

        with ConversationWriter(out, {"catalog": catalog.fingerprint}, generator=facts) as writer:
            for conversation in conversations:
                writer.add(conversation)
    """

    def __init__(self, folder: str | Path, made_from: Mapping[str, str], **facts: Any) -> None:
        self.folder = Path(folder)
        self.made_from = dict(made_from)
        self.facts: dict[str, Any] = facts
        self._tables: dict[str, _Table] = {}
        self._splits: dict[str, Counter[str]] = {}
        self._languages: Counter[str] = Counter()
        self._reasons: Counter[str] = Counter()
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> "ConversationWriter":
        self._aside = self._stack.enter_context(files.staged_folder(self.folder, "conversations"))
        self._stack.push(self._end)
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.__exit__(*error)

    def add(self, conversation: Conversation) -> None:
        """Add a conversation to its split.

        Raises:
            InputError: If the name of its split cannot be one, or its text cannot be written.
        """
        split = conversation.split
        if split not in self._splits:
            if not _SPLIT.fullmatch(split) or split == _QUARANTINE:
                raise InputError(
                    f"conversation {conversation.conversation_id!r}: {split!r} cannot be the name "
                    "of a split; use train, validation or test"
                )
            self._splits[split] = Counter()
        row = to_row(conversation)
        row["provenance"] = row["provenance"] or _made_by(self.facts)
        row["license"] = row["license"] or self.facts.get("license")
        self._table(split, CONVERSATION_SCHEMA).add(row)
        counts = self._splits[split]
        counts["conversations"] += 1
        counts["turns"] += sum(message.role == "music" for message in conversation.messages)
        counts["messages"] += len(conversation.messages)
        if conversation.language is not None:
            self._languages[conversation.language] += 1

    def add_quarantined(self, row: Mapping[str, Any]) -> None:
        """Add an answer that was refused.

        Args:
            row (`Mapping[str, Any]`): The columns of `QUARANTINE_SCHEMA`.

        Raises:
            ValueError: If it has other columns.
        """
        if set(row) != set(QUARANTINE_SCHEMA.names):
            raise ValueError(
                f"a quarantined answer has {sorted(row)}; it needs {QUARANTINE_SCHEMA.names}"
            )
        self._table(_QUARANTINE, QUARANTINE_SCHEMA).add(dict(row))
        self._reasons.update(set(row["reasons"] or ()))

    @property
    def counts(self) -> dict[str, Any]:
        """What has been written so far, as it goes into the manifest."""
        return {
            "conversations": sum(counts["conversations"] for counts in self._splits.values()),
            "splits": {name: dict(self._splits[name]) for name in cards.split_order(self._splits)},
            "languages": dict(sorted(self._languages.items())),
            "quarantined": self._tables[_QUARANTINE].rows if _QUARANTINE in self._tables else 0,
            "quarantine_reasons": dict(sorted(self._reasons.items())),
        }

    def _table(self, name: str, schema: pa.Schema) -> "_Table":
        if name not in self._tables:
            self._tables[name] = _Table(self._aside, name, schema)
        return self._tables[name]

    def _end(self, kind: type[BaseException] | None, *_: object) -> None:
        """Runs before the folder is renamed, or removed where there was an error."""
        try:
            if kind is None:
                for table in self._tables.values():
                    table.close()
        finally:
            for table in self._tables.values():
                table.discard()
        if kind is not None:
            return
        counts = self.counts
        manifest = files.write_manifest(
            self._aside,
            "conversations",
            self.made_from,
            **(self.facts | self._meanings() | counts),
        )
        try:
            cards.write_card(self._aside, manifest)
        except Exception as error:
            # A card must never cost a dataset that took hours to make.
            warnings.warn(f"the card is without the facts given ({error!r})", stacklevel=2)
            files.write_text(self._aside / files.CARD, cards.conversations_card(counts))
            files.write_manifest(
                self._aside, "conversations", self.made_from, **(self.facts | counts)
            )

    def _meanings(self) -> dict[str, Any]:
        """What the reasons of refused answers mean, for those who read the card."""
        found = {*self._reasons, *(self.facts.get("rejects") or ())}
        meanings = {name: REASONS[name] for name in sorted(found & REASONS.keys())}
        return {"reason_meanings": meanings} if meanings else {}


class _Table:
    """A table that is written row group by row group."""

    def __init__(self, folder: Path, name: str, schema: pa.Schema) -> None:
        self.name = name
        self.schema = schema
        self.rows = 0
        self._waiting: list[dict[str, Any]] = []
        self._writer = shards.TableWriter(folder, name, schema)

    def add(self, row: dict[str, Any]) -> None:
        self._waiting.append(row)
        self.rows += 1
        if len(self._waiting) == ROWS:
            self.flush()

    def flush(self) -> None:
        if not self._waiting:
            return
        try:
            table = pa.Table.from_pylist(self._waiting, schema=self.schema)
        except (pa.ArrowException, UnicodeEncodeError) as error:
            raise InputError(
                f"{self.name}: rows {self.rows - len(self._waiting)} to {self.rows - 1} "
                f"cannot be written ({first_line(error)})"
            ) from None
        self._writer.write(table)
        self._waiting = []

    def close(self) -> None:
        self.flush()
        self._writer.close()

    def discard(self) -> None:
        self._writer.discard()


def save_conversations(
    folder: str | Path,
    conversations: Iterable[Conversation],
    made_from: Mapping[str, str],
    *,
    quarantine: Iterable[Mapping[str, Any]] | None = None,
    **facts: Any,
) -> None:
    """Write a conversations folder atomically, as a stream.

    Args:
        folder (`str` or `Path`): The folder to make; an older conversations folder is replaced.
        conversations (`Iterable[Conversation]`): The conversations; they are read once.
        made_from (`Mapping[str, str]`): SHA-256 of each input, by name.
        quarantine (`Iterable[Mapping]`, *optional*): Answers that were refused, see
            `ConversationWriter.add_quarantined`. Read after the conversations, so that a list may
            still grow while they are.
        facts: JSON values for the manifest and the card, see `cards.conversations_card`.

    Raises:
        ArtifactError: If the folder holds something else.
        InputError: If a conversation cannot be written.
    """
    with ConversationWriter(folder, made_from, **facts) as writer:
        for conversation in conversations:
            writer.add(conversation)
        for row in quarantine or ():
            writer.add_quarantined(row)


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
    return list(iter_conversations(folder, splits))


def iter_conversations(
    folder: str | Path, splits: Sequence[str] | None = None
) -> Iterator[Conversation]:
    """Read a conversations folder piece by piece: train, then validation, then test.

    Args:
        folder (`str` or `Path`): The folder.
        splits (`Sequence[str]`, *optional*): Only these splits.

    Raises:
        ArtifactError: See `load_conversations`. What is wrong with a row shows when it is reached.
    """
    folder = Path(folder)
    manifest = files.read_manifest(folder, "conversations")
    found = manifest.get("splits")
    if not isinstance(found, dict) or not all(map(_SPLIT.fullmatch, found)):
        raise ArtifactError(f"{folder / files.MANIFEST}: does not say which splits there are")
    names = [name for name in cards.split_order(found) if splits is None or name in splits]
    return (one for name in names for one in _read_split(folder, name))


def load_quarantine(folder: str | Path) -> list[dict[str, Any]]:
    """Read the refused answers of a conversations folder, as rows of `QUARANTINE_SCHEMA`.

    Raises:
        ArtifactError: If the folder is of another kind or damaged.
    """
    folder = Path(folder)
    if not files.read_manifest(folder, "conversations").get("quarantined"):
        return []
    return [row for rows in _batches(folder, _QUARANTINE, QUARANTINE_SCHEMA) for row in rows]


def _made_by(facts: Mapping[str, Any]) -> str | None:
    """How all conversations of a folder were made, in a word or two."""
    if facts.get("generator"):
        told = facts["generator"]
        if not isinstance(told, Mapping):
            return str(told)
        name = told.get("model") or told.get("kind")
        return None if name is None else str(name)
    return "simulator" if facts.get("simulator") else None


def _read_split(folder: Path, name: str) -> Iterator[Conversation]:
    where = folder / f"{name}.parquet"
    for rows in _batches(folder, name, CONVERSATION_SCHEMA):
        for row in rows:
            one = from_row(row, str(where))
            if one.split != name:
                raise ArtifactError(
                    f"{where}: {one.conversation_id}: is of the split {one.split!r}"
                )
            yield one


def _batches(folder: Path, name: str, schema: pa.Schema) -> Iterator[list[dict[str, Any]]]:
    where = folder / f"{name}.parquet"
    for batch in shards.iter_batches(folder, name, ROWS, schema.names):
        known = {*batch.schema.names, *OPTIONAL_COLUMNS}
        missing = [one for one in schema.names if one not in known]
        if missing:
            raise ArtifactError(f"{where}: has no column {', '.join(missing)}")
        columns = [
            batch[one.name] if one.name in batch.schema.names else pa.nulls(len(batch), one.type)
            for one in schema
        ]
        try:
            table = pa.table(columns, names=schema.names)
            yield table.cast(schema).to_pylist()
        except (pa.ArrowException, ValueError) as error:
            raise ArtifactError(f"{where}: cannot be read ({first_line(error)})") from None
