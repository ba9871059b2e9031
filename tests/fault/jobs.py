"""The commands that write, on a tiny world, and what runs and disturbs them."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
TINY = (
    *("--max_steps", "2", "--threads", "1", "--per_device_train_batch_size", "2"),
    *("--scratch_hidden_size", "16", "--scratch_layers", "1", "--scratch_heads", "2"),
    *("--disable_tqdm", "true", "--logging_steps", "1", "--warmup_steps", "1"),
)


STAGES = ("catalog", "features", "conversations", "tokenizer", "model")


@dataclass(frozen=True)
class Job:
    """A command that writes into the folder it is run in.

    Args:
        name (`str`): Its name.
        command (`tuple[str, ...]`): Its arguments; `{in}` is the folder of the inputs, `{net}` an
            address that the test knows.
        makes (`tuple[str, ...]`): What is there after it, below the folder it is run in.
        old (`tuple[str, ...]`): Arguments that make other artefacts in the same places; the command
            is also run over those. Where left out, there is nothing to run over.
        keeps (`tuple[str, ...]`): What may stay besides, such as caches.
        varies (`bool`): Whether the number of its points is not always the same.
    """

    name: str
    command: tuple[str, ...]
    makes: tuple[str, ...] = ("out",)
    old: tuple[str, ...] = ()
    keeps: tuple[str, ...] = ()
    varies: bool = False

    def __str__(self) -> str:
        return self.name


TRAIN = (
    *("train", "--config", "{in}/recipe/sft.yaml", "--tokenizer", "{in}/tokenizer", "--catalog"),
    *("{in}/catalog", "--conversations", "{in}/conversations", "--output_dir", "out", *TINY),
)
EVALUATE = (
    *("evaluate", "{in}/model", "{in}/conversations", "--catalog", "{in}/catalog", "--limit", "2"),
    *("--split", "train", "--k", "5", "--baseline", "popularity", "--report", "out"),
    *("--out", "figures.json"),
)
JOBS = [
    Job(
        "import-csv",
        ("import", "{in}/table.csv", "out"),
        old=("import", "{in}/table.csv", "out", "--license", "mit"),
    ),
    Job(
        "import-mpd",
        ("import", "{in}/mpd", "out", "--workers", "1"),
        old=("import", "{in}/mpd", "out", "--workers", "1", "--license", "mit"),
    ),
    Job(
        "world",
        ("world", "out", "--tracks", "12"),
        old=("world", "out", "--tracks", "12", "--seed", "1"),
    ),
    Job(
        "embed",
        ("embed", "{in}/catalog", "out"),
        old=("embed", "{in}/catalog", "out", "--dim", "4"),
    ),
    Job(
        "tokenize",
        ("tokenize", "{in}/catalog", "{in}/features", "out", "--base-vocabulary", "300"),
        old=("tokenize", "{in}/catalog", "{in}/features", "out", "--seed", "1", "--codes", "2"),
    ),
    Job(
        "simulate",
        ("synthesize", "{in}/catalog", "out", "--count", "12"),
        old=("synthesize", "{in}/catalog", "out", "--count", "5"),
    ),
    Job(
        "remove-catalog",
        ("remove", "{in}/catalog", "out", "--track", "{track}"),
        old=("remove", "{in}/catalog", "out", "--track", "{other}"),
    ),
    Job(
        "remove-conversations",
        ("remove", "{in}/conversations", "out", "--track", "{track}"),
        old=("remove", "{in}/conversations", "out", "--track", "{other}"),
    ),
    Job(
        "remove-model",
        ("remove", "{in}/model", "out", "--track", "{track}"),
        old=("remove", "{in}/model", "out", "--track", "{other}"),
    ),
    Job(
        "add",
        ("tokenize", "{in}/catalog", "{in}/features-like", "out", "--add", "{in}/fewer"),
        old=("remove", "{in}/fewer", "out", "--track", "{track}"),
    ),
    Job(
        "recode",
        (
            *("tokenize", "{in}/catalog", "{in}/features-like", "out", "--add", "{in}/model"),
            "--recode",
        ),
        old=("remove", "{in}/model", "out", "--track", "{track}"),
    ),
    Job(
        "encode",
        ("tokenize", "{in}/catalog", "{in}/features-like", "out", "--codebooks", "{in}/model"),
        old=("remove", "{in}/tokenizer", "out", "--track", "{track}"),
    ),
    Job(
        "rebase",
        ("rebase", "{in}/model", "out", "--base", "{in}/base"),
        old=("remove", "{in}/tokenizer", "out", "--track", "{track}"),
    ),
    Job("train", TRAIN, old=(*TRAIN, "--seed", "1")),
    Job(
        "evaluate",
        (*EVALUATE, "--cache", "cache"),
        makes=("out", "figures.json"),
        old=(*EVALUATE, "--seed", "1"),
        keeps=("cache",),
    ),
    Job(
        "build",
        ("build", "{in}/table.csv", "out", "--conversations", "12", "--codes", "2", *TINY),
        makes=tuple(f"out/{name}" for name in STAGES),
        keeps=("out",),
    ),
]
BY_NAME = {job.name: job for job in JOBS}


@dataclass
class Ended:
    """What became of a run: exit status (negative: the signal), its output, its points."""

    status: int
    out: str
    err: str
    points: int
    writes: int

    def explained(self) -> str:
        return f"exit {self.status}\n{self.out[-2000:]}\n{self.err[-4000:]}"


class Runner:
    """The process that forks the runs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        environment = {**os.environ, "HF_HUB_OFFLINE": "0", "MPLBACKEND": "agg"}
        self._log = (folder / "runner.log").open("w", encoding="utf-8")
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / "job_runner.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env=environment,
            text=True,
        )
        assert self._answer() == "ready"
        self._number = 0
        self.words: dict[str, str] = {}

    def run_all(self, runs: Sequence[Mapping[str, Any]]) -> list[Ended]:
        """Start all of these at once: mappings of `arguments`, `here` and a disturbance."""
        requests = []
        for run in runs:
            self._number += 1
            log = str(self.folder / f"run-{self._number % 8}")
            arguments = [self.fill(one) for one in run["arguments"]]
            here = str(run["here"])
            requests.append({**run, "arguments": arguments, "here": here, "log": log})
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(requests) + "\n")
        self._process.stdin.flush()
        return [Ended(**one) for one in self._answer()]

    def run(self, arguments: Sequence[str], here: Path, **disturbance: Any) -> Ended:
        """One run, see `job_runner`."""
        return self.run_all([{"arguments": list(arguments), "here": here, **disturbance}])[0]

    def done(self, arguments: Sequence[str], here: Path, **disturbance: Any) -> Ended:
        """One run that has to end well."""
        ended = self.run(arguments, here, **disturbance)
        assert ended.status == 0, (arguments, ended.explained())
        return ended

    def fill(self, text: str) -> str:
        for word, value in self.words.items():
            text = text.replace("{" + word + "}", value)
        return text

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()
        self._log.close()

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, (self.folder / "runner.log").read_text(encoding="utf-8")
        return json.loads(line)


def tree(*places: Path) -> dict[str, bytes]:
    """All files below folders, and files, by their path."""
    found = {}
    for place in places:
        paths = place.rglob("*") if place.is_dir() else [place]
        for path in paths:
            if path.is_file():
                found[str(path.relative_to(place.parent))] = path.read_bytes()
    return found


def artefacts(job: Job, here: Path) -> dict[str, dict[str, bytes]]:
    """The bytes of each artefact of a job that is there."""
    return {name: tree(here / name) for name in job.makes if (here / name).exists()}


def strangers(job: Job, here: Path) -> list[str]:
    """What is there after a job besides what it makes."""
    known = {*job.makes, *job.keeps}
    return sorted(
        str(path.relative_to(here))
        for path in here.rglob("*")
        if path.relative_to(here).parts[0] not in known
        or (
            path.name.startswith(".")
            and path.name.endswith((".aside", ".lock", ".shards", ".parts"))
        )
    )


def copy(source: Path, target: Path) -> Path:
    shutil.copytree(source, target)
    return target


@dataclass
class Whole:
    """A job that nothing disturbed: its artefacts, those that it takes the place of, and how many
    points it has without and with those, and how many of them write."""

    job: Job
    old: Path | None
    new: dict[str, dict[str, bytes]]
    before: dict[str, dict[str, bytes]]
    points: tuple[int, int]
    writes: tuple[int, int]

    def start(self, here: Path, over_old: bool) -> Path:
        """A folder to run the job in."""
        if over_old and self.old is not None:
            return copy(self.old, here)
        here.mkdir()
        return here


def undisturbed(job: Job, runner: Runner, folder: Path) -> Whole:
    """Run a job alone, in an empty folder and over what is there."""
    fresh, old, before = folder / "fresh", None, {}
    fresh.mkdir()
    counted = [runner.done(job.command, fresh)] * 2
    new = artefacts(job, fresh)
    assert list(new) == list(job.makes)
    assert strangers(job, fresh) == []
    if job.old:
        old, over = folder / "old", folder / "over"
        old.mkdir()
        runner.done(job.old, old)
        before = artefacts(job, old)
        copy(old, over)
        counted[1] = runner.done(job.command, over)
        assert artefacts(job, over) == new != before
        assert strangers(job, over) == []
    points, writes = ((one.points for one in counted), (one.writes for one in counted))
    return Whole(job, old, new, before, tuple(points), tuple(writes))
