"""The ledger: every raw answer of a language model, stored before it is read, never asked twice.

One file of JSON lines that only grows. A record is one answer as it came; whatever is decided about
it later is computed from the file again, so that better checks cost no call. A process that is
killed loses the calls in flight and nothing else.
"""

import asyncio
import fcntl
import hashlib
import json
import os
import stat
import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from talkplay_hf.conversations.llm.language_model import Answer, Chat, LanguageModel
from talkplay_hf.errors import ArtifactError
from talkplay_hf.hub import files

# what every record begins with: how a torn first record is told from a file of something else
_HEAD = b'{"key":'
TORN_SUFFIX = ".torn"


def sha256_of(value: Any) -> str:
    """SHA-256 of a JSON value, whatever its strings hold.

    Unlike `files.sha256_json` it takes half a surrogate pair, which language models do write.
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def answer_key(
    chat: Chat, model: str, parameters: Mapping[str, Any], piece_id: str, attempt: int
) -> str:
    """The key of an answer: SHA-256 of what it answers.

    Args:
        chat (`Sequence[Mapping[str, str]]`): The chat that the first attempt asks with. Later
            attempts, which name the problems of the one before, go by it too: were the key made
            from their own chat, a better wording of a problem would lose answers that are paid.
        model (`str`): The model's name.
        parameters (`Mapping[str, Any]`): What changes the model's answers.
        piece_id (`str`): The piece that it is about.
        attempt (`int`): Number of the attempt, from 1.
    """
    return sha256_of([[dict(message) for message in chat], model, parameters, piece_id, attempt])


@dataclass(frozen=True)
class Record:
    """One answer as it came.

    Args:
        key (`str`): What it answers (see [`answer_key`]).
        piece_id (`str`): The piece that it is about.
        attempt (`int`): Number of the attempt, from 1.
        model (`str`): The model's name.
        parameters (`Mapping[str, Any]`): What changes the model's answers.
        prompt (`str`): SHA-256 that identifies the prompt.
        chat (`str`): SHA-256 of the chat that was sent (see [`sha256_of`]).
        text (`str`): The answer, untouched; empty where the model refused the prompt.
        finish_reason (`str`, *optional*): Why it ended.
        prompt_tokens (`int`): Tokens of the chat, as far as the model said.
        completion_tokens (`int`): Tokens of the answer.
        refusal (`str`, *optional*): Why there is no answer that may be used: what the model said
            where it refused the prompt, or that a filter cut the answer off.
    """

    key: str
    piece_id: str
    attempt: int
    model: str
    parameters: Mapping[str, Any]
    prompt: str
    chat: str
    text: str
    finish_reason: str | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0
    refusal: str | None = None


_FIELDS = {field.name for field in fields(Record)}
_TYPES = {
    "key": str, "piece_id": str, "attempt": int, "model": str, "parameters": dict, "prompt": str,
    "chat": str, "text": str, "prompt_tokens": int, "completion_tokens": int,
}  # fmt: skip


@dataclass(frozen=True)
class Usage:
    """What the answers of a ledger cost: calls that were answered, and their tokens."""

    calls: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0

    @property
    def tokens(self) -> int:
        """Tokens of the chats and the answers together."""
        return self.prompt_tokens + self.completion_tokens

    def plus(self, record: Record) -> "Usage":
        """This and one more answer."""
        return Usage(
            self.calls + 1,
            self.prompt_tokens + record.prompt_tokens,
            self.completion_tokens + record.completion_tokens,
        )


class Ledger:
    """The answers in a file, by key. Texts stay on disk; memory holds a key and a place each.

    Opening mends what a crash leaves behind: a last line that is torn is moved to a file beside
    (`.torn`). A broken line further up is skipped. Both are told in `notices`. Of records with one
    key the first counts.

    Args:
        path (`str` or `Path`): The file; made if it is not there, and gone again when the ledger is
            closed without an answer.

    Attributes:
        notices (`tuple[str, ...]`): What was mended or skipped when it was opened.

    Raises:
        ArtifactError: If another process has it open, or the file is not a ledger.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.notices: tuple[str, ...] = ()
        self._places: dict[bytes, int] = {}
        self._size = self._synced = 0
        self._usage = Usage()
        self._answering: set[str] = set()
        self._syncing = threading.Lock()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._made = not self.path.exists()
        self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            self._lock()
            if self._made:
                files.fsync(self.path.parent)
            self._reader = self.path.open("rb")
            try:
                self._read_all()
            except BaseException:
                self._reader.close()
                raise
        except BaseException:
            os.close(self._file)
            raise

    def __enter__(self) -> "Ledger":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file, so that another process may open it."""
        with self._syncing:
            self._reader.close()
            if self._made and not self._size:
                self.path.unlink(missing_ok=True)
            os.close(self._file)

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, key: str) -> bool:
        return bytes.fromhex(key) in self._places

    @property
    def usage(self) -> Usage:
        """What all its answers cost."""
        return self._usage

    def answered_by(self, model: str) -> bool:
        """Whether a model has given any answer that stands here."""
        return model in self._answering

    def get(self, key: str) -> Record | None:
        """The answer with this key, or `None`."""
        place = self._places.get(bytes.fromhex(key))
        if place is None:
            return None
        self._reader.seek(place)
        return _parse(self._reader.readline())

    async def store(self, record: Record) -> None:
        """Add an answer. It is on disk when this returns; nothing is added where the key is known.

        Raises:
            OSError: If it cannot be written; the file is left as it was.
        """
        if record.key in self:
            return
        place = self._size
        self._append(json.dumps(asdict(record), separators=(",", ":")).encode("ascii") + b"\n")
        self._note(record, place)
        await asyncio.to_thread(self._sync, self._size)

    def _note(self, record: Record, place: int) -> None:
        self._places[bytes.fromhex(record.key)] = place
        self._usage = self._usage.plus(record)
        if record.refusal is None:
            self._answering.add(record.model)

    def _append(self, line: bytes) -> None:
        """Write a line in one piece, or leave the file as it was."""
        written = 0
        try:
            written = os.write(self._file, line)
        finally:
            if written != len(line):
                os.ftruncate(self._file, self._size)
        if written != len(line):
            raise OSError(f"{self.path}: an answer could not be written whole; is the disk full?")
        self._size += written

    def _sync(self, size: int) -> None:
        """Flush the file up to `size`; one flush serves all that was written before it began."""
        with self._syncing:
            if self._synced < size:
                reached = self._size
                os.fsync(self._file)
                self._synced = reached

    def _lock(self) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ArtifactError(
                f"{self.path}: another process is writing this ledger; wait for it, or name "
                "another one"
            ) from None
        about = os.fstat(self._file)
        if not stat.S_ISREG(about.st_mode) or not about.st_nlink:
            raise ArtifactError(f"{self.path}: is not a file, or was removed just now")

    def _read_all(self) -> None:
        """Note the place of every record, and mend the end."""
        broken: list[int] = []
        number, start, line, record = 0, 0, b"", None
        for number, line in enumerate(self._reader, 1):
            start, self._size = self._size, self._size + len(line)
            record = _parse(line)
            if record is None:
                broken.append(number)
                continue
            if record.key not in self:
                self._note(record, start)
        head = os.pread(self._file, len(_HEAD), 0)
        if broken and not self._places and not _HEAD.startswith(head):
            raise ArtifactError(f"{self.path}: is not a ledger of answers; name another file")
        if number and record is None:
            broken.pop()
            self._cut(start, line)
        elif number and not line.endswith(b"\n"):
            # a record is an object, so no part of it reads as JSON: this one lacks its end of line
            self._append(b"\n")
        os.fsync(self._file)
        self._synced = self._size
        if broken:
            some = ", ".join(str(number) for number in broken[:5])
            more = " and more" if len(broken) > 5 else ""
            self.notices += (
                f"{self.path}: skipped {len(broken):,} broken lines (line {some}{more}); what they "
                "answered is asked again",
            )

    def _cut(self, start: int, tail: bytes) -> None:
        """Move a torn last line to the file beside."""
        beside = self.path.with_name(self.path.name + TORN_SUFFIX)
        with beside.open("ab") as handle:
            handle.write(tail.rstrip(b"\n") + b"\n")
            handle.flush()
            os.fsync(handle.fileno())
        os.ftruncate(self._file, start)
        self._size = start
        self.notices += (
            f"{self.path}: the last line was torn; its {len(tail):,} bytes were moved to {beside}",
        )


class RecordedModel:
    """A language model whose answers go into a ledger, and that is not asked what stands there.

    Args:
        model (`LanguageModel`): The model.
        ledger (`Ledger`): Where its answers are.
        about (`str`): What it is asked for, recorded with every answer.
    """

    def __init__(self, model: LanguageModel, ledger: Ledger, about: str) -> None:
        self.name, self.parameters = model.name, model.parameters
        self.concurrency = model.concurrency
        self._model, self._ledger, self._about = model, ledger, about

    async def complete(self, chat: Chat, schema: Mapping[str, Any] | None = None) -> Answer:
        """Answer a chat, from the ledger where it can; see `LanguageModel`."""
        key = answer_key(chat, self.name, self.parameters, self._about, 1)
        record = self._ledger.get(key)
        if record is None:
            answer = await self._model.complete(chat, schema)
            digest = sha256_of([dict(message) for message in chat])
            record = Record(
                key=key,
                piece_id=self._about,
                attempt=1,
                model=self.name,
                parameters=dict(self.parameters),
                prompt=digest,
                chat=digest,
                **asdict(answer),
            )
            await self._ledger.store(record)
        return Answer(
            record.text, record.finish_reason, record.prompt_tokens, record.completion_tokens
        )


def _parse(line: bytes) -> Record | None:
    """Read a record, or `None` where the line is not one."""
    try:
        values = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(values, dict):
        return None
    for name, kind in _TYPES.items():
        if not isinstance(values.get(name), kind):
            return None
    try:
        bytes.fromhex(values["key"])
    except ValueError:
        return None
    return Record(**{name: value for name, value in values.items() if name in _FIELDS})
