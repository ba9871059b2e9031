"""Damaged artefacts of every kind: exit 2 and one line that names the file, nothing written."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from jobs import TRAIN, Runner, copy, tree
from test_disk_full import check_refused

pytestmark = pytest.mark.slow


def with_bad(command: tuple[str, ...], folder: str) -> tuple[str, ...]:
    return tuple("bad" if one == f"{{in}}/{folder}" else one for one in command)


# the commands that read an artefact, which lies in the folder `bad`
READERS: dict[str, tuple[tuple[str, ...], ...]] = {
    "catalog": (("stats", "bad"), ("embed", "bad", "out"), ("synthesize", "bad", "out")),
    "features": (("tokenize", "{in}/catalog", "bad", "out"),),
    "features-like": (("embed", "{in}/catalog", "out", "--like", "bad"),),
    "conversations": (("report", "bad"), with_bad(TRAIN, "conversations")),
    "tokenizer": (("rebase", "bad", "out", "--base", "{in}/base"), with_bad(TRAIN, "tokenizer")),
    "recipe": (
        tuple("bad/sft.yaml" if one == "{in}/recipe/sft.yaml" else one for one in TRAIN),
        ("embed", "{in}/catalog", "out", "--config", "bad/embed.yaml"),
        ("synthesize", "{in}/catalog", "out", "--count", "3", "--options", "bad/simulator.yaml"),
    ),
    "mpd": (("import", "bad", "out", "--workers", "1", "--on-error", "stop"),),
}


def damages(path: Path) -> Iterator[tuple[str, Callable[[], object]]]:
    """The ways to damage a file, by name."""
    data = path.read_bytes()
    middle = len(data) // 2
    flipped = data[:middle] + bytes([data[middle] ^ 0x55]) + data[middle + 1 :]
    yield "truncated", lambda: path.write_bytes(data[:middle])
    yield "bit-flipped", lambda: path.write_bytes(flipped)
    yield "empty", lambda: path.write_bytes(b"")
    yield "of another kind", lambda: path.write_bytes(b"PK\x03\x04 not what it says \xff\x00" * 9)
    yield "missing", path.unlink


# without these, or with rubbish in their place, no command can go on
DATA = (".parquet", ".safetensors", "manifest.json", "tokenizer.json", "talkplay_config.json")
# empty, it is a recipe in which all is default
RECIPES = (".yaml",)


@pytest.mark.parametrize("kind", READERS)
def test_a_damaged_artefact_is_refused_in_one_line_and_nothing_is_written(
    kind: str, runner: Runner, inputs: Path, tmp_path: Path, record_property
):
    """A command may not need a file, a card for instance; then it ends as always."""
    bad = copy(inputs / kind.removesuffix("-like"), tmp_path / "bad")
    count = refused = 0
    for path in sorted(path for path in bad.rglob("*") if path.is_file()):
        whole = path.read_bytes()
        for name, damage in damages(path):
            damage()
            count += 1
            statuses = []
            for number, command in enumerate(READERS[kind]):
                here = tmp_path / f"{path.name}-{name}-{number}".replace(" ", "-")
                here.mkdir()
                damaged = tree(bad)
                (here / "bad").symlink_to(bad)
                ended = runner.run(command, here)
                statuses.append(ended.status)
                if ended.status:
                    check_refused(ended, "")
                    # a work folder from which the command goes on is hidden
                    made = [one.name for one in here.iterdir() if not one.name.startswith(".")]
                    assert made == ["bad"], (path, name)
                assert command[0] == "report" or tree(bad) == damaged
            refused += sum(map(bool, statuses))
            needed = path.name.endswith(DATA) and ".encoder." not in path.name
            if needed and name in ("empty", "of another kind"):
                assert any(statuses), (path, name)
            if path.name.endswith(RECIPES) and name in ("missing", "of another kind"):
                assert any(statuses), (path, name)
            path.write_bytes(whole)
    record_property("damaged files", count)
    record_property("commands that refused one", refused)
