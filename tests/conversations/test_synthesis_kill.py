"""A synthesis that is killed over and over ends like one that never was."""

import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from synthesis_run import CONCURRENCY

from talkplay_hf.catalog.world import make_world
from talkplay_hf.conversations.dataset import load_conversations, load_quarantine
from talkplay_hf.conversations.synthesis.ledger import Ledger

HERE = Path(__file__).parent
pytestmark = pytest.mark.slow


@contextmanager
def a_server(folder: Path) -> Iterator[tuple[str, Path]]:
    """A scripted writer in a process of its own; gives its address and its log of requests."""
    log = folder / "requests.jsonl"
    log.touch()
    command = [sys.executable, HERE / "scripted_writer.py", "--bad-share", "0.4"]
    command += ["--delay", "0.12", "--log", log]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            yield server.stdout.readline().strip(), log
        finally:
            server.kill()


def lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


def killed_after(command: Sequence[object], seconds: float, log: Path | None) -> bool:
    """Start a process, and kill it some time after it says that it is ready, or, where a log is
    given, after its first request; whether it was still there to be killed."""
    begun = 0 if log is None else lines(log)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        if log is None:
            process.stdout.readline()
        while log is not None and lines(log) == begun and process.poll() is None:
            time.sleep(0.05)
        try:
            assert process.wait(seconds) == 0
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            return True
    return False


def folder_bytes(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.mark.parametrize(("way", "kills"), [("script", 50), ("command", 4)])
def test_kills_lose_nothing_double_nothing_and_cost_the_calls_in_flight(
    tmp_path: Path, way: str, kills: int
):
    make_world(tmp_path / "catalog", tracks=120, audio=False)

    def command(folder: Path) -> list[object]:
        folder.mkdir(exist_ok=True)
        catalog, out, ledger = tmp_path / "catalog", folder / "out", folder / "answers.jsonl"
        if way == "script":
            return [sys.executable, HERE / "synthesis_run.py", catalog, out, ledger, url]
        return [
            sys.executable, "-m", "talkplay_hf.cli", "synthesize", catalog, out, "--json",
            "--writer", "endpoint", "--model", "writer", "--base-url", url, "--ledger", ledger,
            "--playlists", "25", "--piece-size", "3", "--concurrency", str(CONCURRENCY),
        ]  # fmt: skip

    killed, whole = tmp_path / "killed", tmp_path / "whole"
    draw = random.Random(7)
    with a_server(tmp_path) as (url, log):
        start = time.monotonic()
        subprocess.run(command(whole), check=True, capture_output=True)
        took = time.monotonic() - start
        needed = lines(log)
        assert lines(whole / "answers.jsonl") == needed
        hits, mid_way = 0, 0
        while hits < kills:
            wait_for = log if way == "command" else None
            hit = killed_after(command(killed), draw.uniform(0, took / 24), wait_for)
            hits += hit
            mid_way += hit and 0 < lines(killed / "answers.jsonl") < needed
            # a request that is on its way into the log may come a moment later
            assert lines(log) - needed - lines(killed / "answers.jsonl") <= CONCURRENCY * hits
        subprocess.run(command(killed), check=True, capture_output=True)
        calls = lines(log) - needed
    # on a machine with other work many kills come too early or too late
    assert mid_way >= max(1, kills / 10)
    assert folder_bytes(killed / "out") == folder_bytes(whole / "out")
    assert needed <= calls <= needed + CONCURRENCY * kills
    with Ledger(killed / "answers.jsonl") as ledger, Ledger(whole / "answers.jsonl") as other:
        assert ledger.usage == other.usage
        assert len(ledger) == lines(killed / "answers.jsonl") == needed
    made, refused = load_conversations(killed / "out"), load_quarantine(killed / "out")
    ids = [one.conversation_id for one in made] + [row["piece_id"] for row in refused]
    assert len(ids) == len(set(ids)) > 0
    assert refused
    records = map(json.loads, (killed / "answers.jsonl").read_text().splitlines())
    assert {record["piece_id"] for record in records} == set(ids)
    print(f"{way}: {kills} kills, {mid_way} mid-way; {needed} calls needed, {calls} made")
