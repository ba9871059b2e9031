"""The ledger of answers: nothing paid is lost, nothing half-written is believed."""

import asyncio
import fcntl
import json
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from talkplay_hf.conversations.llm.language_model import Answer, Chat
from talkplay_hf.conversations.synthesis.ledger import (
    Ledger,
    Record,
    RecordedModel,
    Usage,
    answer_key,
)
from talkplay_hf.errors import ArtifactError

CHAT = [{"role": "user", "content": "write a conversation"}]


class Counting:
    """A model that says how often it was asked."""

    name, parameters, concurrency = "counting", {"temperature": 0.0}, 2

    def __init__(self) -> None:
        self.asked = 0

    async def complete(self, chat: Chat, schema: object = None) -> Answer:
        self.asked += 1
        return Answer(f"{len(chat)} at {self.asked}", "stop", 7, 3)


def test_a_recorded_model_is_asked_once_about_a_chat(path: Path):
    model = Counting()
    said = []
    for chat in (CHAT, CHAT * 2, CHAT, CHAT * 2):
        with Ledger(path) as ledger:
            said.append(asyncio.run(RecordedModel(model, ledger, "judge").complete(chat)))
            spent = ledger.usage
    assert [answer.text for answer in said] == ["1 at 1", "2 at 2", "1 at 1", "2 at 2"]
    assert said[2] == said[0] == Answer("1 at 1", "stop", 7, 3)
    assert model.asked == 2
    assert spent == Usage(2, 14, 6)


def a_record(number: int, text: str = "[]", **more: object) -> Record:
    key = answer_key(CHAT, "writer", {}, f"piece-{number}", 1)
    return Record(
        **{
            "key": key,
            "piece_id": f"piece-{number}",
            "attempt": 1,
            "model": "writer",
            "parameters": {"temperature": 1.0},
            "prompt": "0" * 64,
            "chat": "1" * 64,
            "text": text,
            "finish_reason": "stop",
            "prompt_tokens": 100,
            "completion_tokens": 10,
            **more,
        }
    )


def store(path: Path, *records: Record) -> None:
    async def all_of_them(ledger: Ledger) -> None:
        await asyncio.gather(*(ledger.store(record) for record in records))

    with Ledger(path) as ledger:
        asyncio.run(all_of_them(ledger))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "answers.jsonl"


@given(text=st.text(st.characters(), max_size=60), refusal=st.none() | st.text())
@settings(max_examples=40, deadline=None)
def test_an_answer_comes_back_as_it_was(tmp_path_factory, text: str, refusal: str | None):
    path = tmp_path_factory.mktemp("ledger") / "answers.jsonl"
    record = a_record(1, text, refusal=refusal)
    store(path, record)
    with Ledger(path) as ledger:
        assert ledger.get(record.key) == record
        assert len(ledger) == 1
        assert ledger.notices == ()


@pytest.mark.parametrize("text", ["half a pair \ud800 alone", "a\nb\u2028c\x00d", "노래 🎵", ""])
def test_text_of_any_kind_stays_on_one_line(path: Path, text: str):
    store(path, a_record(1, text), a_record(2))
    assert path.read_bytes().count(b"\n") == 2
    with Ledger(path) as ledger:
        assert ledger.get(a_record(1).key).text == text


def test_an_answer_that_is_not_there_is_none(path: Path):
    store(path, a_record(1))
    with Ledger(path) as ledger:
        assert ledger.get(a_record(2).key) is None
        assert a_record(1).key in ledger
        assert a_record(2).key not in ledger


def test_the_key_depends_on_everything_that_shapes_the_answer():
    keys = {
        answer_key(CHAT, "writer", {"temperature": 1.0}, "piece", 1),
        answer_key(
            [{"role": "user", "content": "else"}], "writer", {"temperature": 1.0}, "piece", 1
        ),
        answer_key(CHAT, "other", {"temperature": 1.0}, "piece", 1),
        answer_key(CHAT, "writer", {"temperature": 0.5}, "piece", 1),
        answer_key(CHAT, "writer", {"temperature": 1.0}, "other", 1),
        answer_key(CHAT, "writer", {"temperature": 1.0}, "piece", 2),
    }
    assert len(keys) == 6
    swapped = [{"content": "write a conversation", "role": "user"}]
    assert answer_key(swapped, "writer", {"temperature": 1.0}, "piece", 1) in keys


def test_cut_at_any_byte_no_whole_record_is_lost_and_no_part_of_one_is_believed(path: Path):
    short = {"prompt": "", "chat": "", "parameters": {}}
    records = [a_record(1, "one \ud800 }\n", **short), a_record(2, '{"key":"x"}', **short)]
    store(path, *records)
    whole = path.read_bytes()
    ends = [end for end, byte in enumerate(whole, 1) if byte == ord("\n")]
    for cut in (*range(12), *range(ends[0] - 2, len(whole) + 1)):
        path.write_bytes(whole[:cut])
        beside = path.with_name(path.name + ".torn")
        beside.unlink(missing_ok=True)
        with Ledger(path) as ledger:
            # the end of line alone may be missing: the record is whole without it
            kept = sum(end - 1 <= cut for end in ends)
            assert len(ledger) == kept
            assert [ledger.get(r.key) for r in records[:kept]] == records[:kept]
            torn = cut - ([0, *ends][kept]) > 0
            assert bool(ledger.notices) == torn
            assert beside.exists() == torn
        assert path.read_bytes() == whole[: [0, *ends][kept]]
        if torn:
            assert beside.read_bytes() == whole[[0, *ends][kept] : cut] + b"\n"


def test_after_a_torn_end_writing_goes_on(path: Path):
    store(path, a_record(1), a_record(2))
    path.write_bytes(path.read_bytes()[:-20])
    store(path, a_record(3))
    with Ledger(path) as ledger:
        assert ledger.get(a_record(3).key) == a_record(3)
        assert len(ledger) == 2


@pytest.mark.parametrize("bad", [b"\x00\x00\x00", b"[]", b'{"key":"00"}', b"\xff\xfe", b""])
def test_a_broken_line_is_skipped_by_name_and_the_rest_counts(path: Path, bad: bytes):
    store(path, a_record(1), a_record(2), a_record(3))
    lines = path.read_bytes().splitlines()
    lines[1] = bad
    path.write_bytes(b"\n".join(lines) + b"\n")
    with Ledger(path) as ledger:
        assert [r.piece_id for r in map(ledger.get, [a_record(1).key, a_record(3).key])] == [
            "piece-1",
            "piece-3",
        ]
        assert ledger.get(a_record(2).key) is None
        [notice] = ledger.notices
        assert "line 2" in notice
        assert str(path) in notice


def test_of_two_records_with_one_key_the_first_counts(path: Path):
    store(path, a_record(1, "first"), a_record(1, "second"))
    assert path.read_bytes().count(b"\n") == 1
    line = json.loads(path.read_bytes()) | {"text": "second"}
    with path.open("a") as handle:
        handle.write(json.dumps(line) + "\n")
    with Ledger(path) as ledger:
        assert ledger.get(a_record(1).key).text == "first"
        assert ledger.usage.calls == 1


def test_usage_is_counted_and_comes_back(path: Path):
    store(path, a_record(1), a_record(2, completion_tokens=5))
    store(path, a_record(3, prompt_tokens=7))
    with Ledger(path) as ledger:
        assert ledger.usage == Usage(calls=3, prompt_tokens=207, completion_tokens=25)
        assert ledger.usage.tokens == 232


def test_a_ledger_without_an_answer_leaves_no_file(path: Path):
    Ledger(path).close()
    assert not path.exists()
    path.touch()
    Ledger(path).close()
    assert path.exists()  # it was there before


def test_a_ledger_that_is_removed_while_another_opens_it_takes_no_answers(
    path: Path, monkeypatch: pytest.MonkeyPatch
):
    lock = fcntl.flock

    def removed_meanwhile(file: int, how: int) -> None:
        path.unlink()
        lock(file, how)

    monkeypatch.setattr(fcntl, "flock", removed_meanwhile)
    with pytest.raises(ArtifactError, match="was removed"):
        Ledger(path)


def test_what_is_no_file_is_refused():
    with pytest.raises(ArtifactError, match="/dev/null: is not a file"):
        Ledger("/dev/null")


def test_which_models_have_answered_is_known(path: Path):
    store(path, a_record(1, model="a"), a_record(2, model="b", refusal="no"))
    with Ledger(path) as ledger:
        assert ledger.answered_by("a")
        assert not ledger.answered_by("b")
        asyncio.run(ledger.store(a_record(3, model="b")))
        assert ledger.answered_by("b")


def test_one_process_at_a_time(path: Path):
    store(path, a_record(1))
    program = (
        f"from talkplay_hf.conversations.synthesis.ledger import Ledger\nLedger({str(path)!r})"
    )
    with Ledger(path):
        run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
        assert "another process is writing this ledger" in run.stderr
        with pytest.raises(ArtifactError, match="another process"):
            Ledger(path)
    Ledger(path).close()


@pytest.mark.parametrize("content", [b"shopping list\neggs", b"eggs", b'{"a": 1}\n{"b": 2}\n'])
def test_a_file_of_something_else_is_refused_and_left_alone(path: Path, content: bytes):
    path.write_bytes(content)
    with pytest.raises(ArtifactError, match="not a ledger"):
        Ledger(path)
    assert path.read_bytes() == content
    assert [*path.parent.iterdir()] == [path]


def test_a_full_disk_leaves_the_ledger_whole(path: Path):
    store(path, a_record(1))
    size = path.stat().st_size
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    with Ledger(path) as ledger:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 50, limits[1]))
        try:
            with pytest.raises(OSError, match="could not be written whole"):
                asyncio.run(ledger.store(a_record(2)))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert path.stat().st_size == size
        assert a_record(2).key not in ledger
        asyncio.run(ledger.store(a_record(3)))
    with Ledger(path) as ledger:
        assert len(ledger) == 2
        assert ledger.notices == ()
