"""A command that is killed leaves what was there or what it makes, and ends well the next time."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from jobs import JOBS, Job, Runner, Whole, artefacts, strangers, undisturbed
from loopback import LoopbackHub

pytestmark = pytest.mark.slow
WRITER = Path(__file__).parent.parent / "conversations" / "scripted_writer.py"
SYNTHESIZE = Job(
    "synthesize",
    (
        *("synthesize", "{in}/catalog", "out", "--writer", "endpoint", "--model", "writer"),
        *("--base-url", "{net}", "--ledger", "answers.jsonl", "--playlists", "4"),
        *("--piece-size", "3", "--concurrency", "2"),
    ),
    keeps=("answers.jsonl", "answers.jsonl.spent"),
    varies=True,
)
NOTE = "build.json"
# kills of one job, spread over its points
KILLS = 5


def spread(points: int, count: int) -> list[int]:
    """Points to strike at, the first and the last among them."""
    if points <= count:
        return [*range(1, points + 1)]
    return sorted({1 + round(at * (points - 1) / (count - 1)) for at in range(count)})


def check_visible(whole: Whole, here: Path, over_old: bool) -> None:
    """Each artefact is the old one or the new one, whole; none is lost."""
    seen = artefacts(whole.job, here)
    for name, new in whole.new.items():
        before = whole.before.get(name) if over_old else None
        there = without_notes(seen.get(name))
        either = (without_notes(before), without_notes(new))
        assert there in either, (name, sorted(there or ()))


def without_notes(tree: dict[str, bytes] | None) -> dict[str, bytes] | None:
    """A folder but for what `build` notes in it once a stage is done, to be able to go on."""
    if tree is None:
        return None
    return {name: data for name, data in tree.items() if NOTE not in name}


def kill_and_go_on(whole: Whole, runner: Runner, folder: Path) -> int:
    """Kill a job at points spread over it, look at what can be seen, and run it to its end.

    A job that makes several calls at once has a few points more or less each time; one that ends
    before the point it was to be killed at counts for nothing.
    """
    kills = 0
    for over_old in (False, True) if whole.old else (False,):
        for point in spread(whole.points[over_old], KILLS if whole.old else 2 * KILLS):
            here = whole.start(folder / f"{point}-{over_old}", over_old)
            ended = runner.run(whole.job.command, here, kill=point)
            dies = (-signal.SIGKILL, 0) if whole.job.varies else (-signal.SIGKILL,)
            assert ended.status in dies, (point, ended.explained())
            kills += ended.status != 0
            check_visible(whole, here, over_old)
            runner.done(whole.job.command, here)
            assert artefacts(whole.job, here) == whole.new, point
            assert strangers(whole.job, here) == [], point
    return kills


@pytest.mark.parametrize("whole", JOBS, indirect=True, ids=str)
def test_a_killed_command_shows_nothing_partial_and_ends_the_same(
    whole: Whole, runner: Runner, tmp_path: Path, record_property
):
    record_property("SIGKILL at a counted point", kill_and_go_on(whole, runner, tmp_path))


def test_a_killed_pull_shows_nothing_partial(
    hub: LoopbackHub, runner: Runner, inputs: Path, tmp_path: Path, record_property
):
    runner.done(["push", str(inputs / "model"), "me/model"], tmp_path)
    job = Job("pull", ("pull", "me/model", "out", "--cache-dir", "cache"), keeps=("cache",))
    whole = undisturbed(job, runner, tmp_path)
    record_property("SIGKILL at a counted point", kill_and_go_on(whole, runner, tmp_path))


def test_a_killed_push_is_one_commit_or_none(
    hub: LoopbackHub, runner: Runner, inputs: Path, tmp_path: Path, record_property
):
    """The points are what it sends. Their number is not always the same."""
    runner.done(["remove", "{in}/catalog", "less", "--track", "{track}"], tmp_path)

    def first() -> None:
        hub.reset()
        runner.done(["push", "{in}/catalog", "me/songs"], tmp_path)

    push = ["push", "less", "me/songs"]
    first()
    old = hub.files("me/songs", "dataset")
    points = runner.done(push, tmp_path, net=True).points
    new = hub.files("me/songs", "dataset")
    assert new != old
    kills = 0
    for point in spread(points, 2 * KILLS):
        first()
        ended = runner.run(push, tmp_path, kill=point, net=True)
        assert ended.status in (0, -signal.SIGKILL), (point, ended.explained())
        kills += ended.status != 0
        time.sleep(0.1)  # the Hub may still be at the last request
        assert hub.files("me/songs", "dataset") in (old, new)
        runner.done(push, tmp_path)
        assert hub.files("me/songs", "dataset") == new
        assert len(hub.repo("me/songs", "dataset").log()) == 3
    assert kills > KILLS
    record_property("SIGKILL at a counted point", kills)


def test_a_killed_synthesis_loses_and_doubles_no_answer(
    runner: Runner, inputs: Path, tmp_path: Path, record_property
):
    """Kills between the calls of a language model are in tests/conversations."""
    command = [sys.executable, str(WRITER), "--bad-share", "0.4"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            runner.words["net"] = server.stdout.readline().strip()
            whole = undisturbed(SYNTHESIZE, runner, tmp_path)
            kills = kill_and_go_on(whole, runner, tmp_path)
            assert kills > KILLS
            record_property("SIGKILL at a counted point", kills)
        finally:
            server.kill()
    needed = len(lines_of(tmp_path / "fresh"))
    for ledger in tmp_path.glob("*-False"):
        keys = [json.loads(line)["key"] for line in lines_of(ledger)]
        assert len(keys) == len(set(keys)) == needed > 0


def lines_of(folder: Path) -> list[str]:
    return (folder / "answers.jsonl").read_text(encoding="utf-8").splitlines()
