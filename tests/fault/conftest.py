"""The inputs of the campaign, made once, and the process that runs the commands."""

import csv
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parent.parent / "catalog"))

from jobs import TRAIN, Job, Runner, Whole, undisturbed
from mpd_slices import playlist, write_slice

RECIPES = Path(__file__).parent.parent.parent / "recipes"


@pytest.fixture(scope="session")
def runner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runner]:
    made = Runner(tmp_path_factory.mktemp("runner"))
    yield made
    made.close()


@pytest.fixture(scope="session")
def inputs(runner: Runner, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an artefact of each kind, and what they are made from."""
    folder = tmp_path_factory.mktemp("inputs")
    with (folder / "table.csv").open("w", newline="", encoding="utf-8") as handle:
        rows = csv.writer(handle)
        rows.writerow(["track_id", "title", "artist", "tags", "playlist_name"])
        for row in range(16):
            tags = "rock" if row % 2 else "jazz"
            rows.writerow([f"t{row}", f"Sóng {row}", f"Band {row % 4}", tags, f"p{row % 4}"])
    for number in range(3):
        lists = [playlist(1000 * number + one, [one, one + 1, number + 5]) for one in range(4)]
        write_slice(folder / "mpd", lists, 1000 * number)
    (folder / "recipe").mkdir()
    for name in ("sft", "simulator"):
        recipe = RECIPES / "quickstart" / f"{name}.yaml"
        (folder / "recipe" / f"{name}.yaml").write_bytes(recipe.read_bytes())
    (folder / "recipe" / "embed.yaml").write_text("semantic: {dim: 4}\nplaylist: {dim: 4}\n")
    runner.words["in"] = str(folder)
    runner.done(["world", "catalog", "--tracks", "24", "--no-audio"], folder)
    from talkplay_hf.catalog.schema import Catalog

    ids = Catalog.load(folder / "catalog").track_ids
    runner.words |= {"track": ids[3], "other": ids[5]}
    runner.done(["embed", "catalog", "features"], folder)
    runner.done(["embed", "catalog", "features-like", "--like", "features"], folder)
    runner.done(["synthesize", "catalog", "conversations", "--count", "12"], folder)
    tokenize = ["tokenize", "catalog", "features", "tokenizer", "--base-vocabulary", "300"]
    runner.done(tokenize, folder)
    runner.done([*TRAIN, "--output_dir", "model"], folder)
    runner.done(["remove", "model", "fewer", "--track", ids[7]], folder)
    from talkplay_hf.tokens.bpe import train_bpe

    train_bpe(["another base of a few words"] * 3, vocab_size=280).save_pretrained(folder / "base")
    return folder


@pytest.fixture(scope="session")
def wholes() -> dict[str, Whole]:
    return {}


@pytest.fixture
def whole(
    request: pytest.FixtureRequest,
    runner: Runner,
    inputs: Path,
    wholes: dict[str, Whole],
    tmp_path_factory: pytest.TempPathFactory,
) -> Whole:
    """The job that the test is about, run undisturbed."""
    job: Job = request.param
    if job.name not in wholes:
        wholes[job.name] = undisturbed(job, runner, tmp_path_factory.mktemp(job.name))
    return wholes[job.name]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what was counted."""
    counts: Counter[str] = Counter()
    for report in terminalreporter.getreports("passed"):
        if report.when == "call" and "tests/fault/" in report.nodeid:
            counts.update(dict(report.user_properties))
    if counts:
        terminalreporter.section("faults")
        for name in sorted(counts):
            terminalreporter.write_line(f"{counts[name]:6,}  {name}")
