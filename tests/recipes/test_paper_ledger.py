"""`recipes/PAPER.md`: the page, its data, the package and what was measured must agree."""

import argparse
import ast
import functools
import importlib
import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from talkplay_hf.cli import make_parser
from talkplay_hf.evaluation.baselines.registry import BASELINES
from talkplay_hf.training.arguments import parse_recipe

ROOT = Path(__file__).parents[2]
PAPER = ROOT / "recipes" / "paper"
PAGE = ROOT / "recipes" / "PAPER.md"
# a figure such as 0.023, .264, 1,024 or 2017; not the digits of a name such as Hit@10 or A.1
NUMBER = re.compile(r"(?<![\w@.,-])(?:\d[\d,]*(?:\.\d+)?|\.\d+)(?![\w-]|\.\d)")

sys.path.insert(0, str(PAPER))
import collect  # noqa: E402
import ledger as ledger_script  # noqa: E402
from ledger import Ledger, LedgerError  # noqa: E402

LEDGER = Ledger.load()
CLAIMS = {claim["id"]: claim for claim in LEDGER.claims}
KEYS = [(name, key) for name, claim in CLAIMS.items() for key in claim.get("keys", [])]
TESTS = sorted({test for claim in CLAIMS.values() for test in claim.get("tests", [])})


def check(*arguments: str | Path) -> tuple[int, str]:
    """Exit status and output of the script."""
    done = subprocess.run(
        [sys.executable, str(PAPER / "ledger.py"), "--check", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The data and the page, to change."""
    shutil.copytree(PAPER, tmp_path / "paper", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(PAGE, tmp_path / "PAPER.md")
    return tmp_path


def edit(path: Path, change: Callable[[Any], None]) -> None:
    """Change a JSON file."""
    value = json.loads(path.read_text(encoding="utf-8"))
    change(value)
    path.write_text(json.dumps(value), encoding="utf-8")


# --- page and data ----------------------------------------------------------------------------


def test_page_and_data_agree():
    assert check() == (0, "")


def test_every_figure_of_the_page_is_in_the_data():
    texts = [path.read_text("utf-8") for path in [*PAPER.glob("claims/*"), PAPER / "commands.json"]]
    texts += [one[part] for one in LEDGER.measured.values() for part in ("about", "command")]
    texts += [LEDGER.fill(claim.get("here", "")) for claim in CLAIMS.values()]
    texts += [LEDGER.fill(section.get("note", "")) for section in LEDGER.sections]
    texts += [test.replace("_", " ") for test in TESTS]
    texts.append(ledger_script.INTRO)
    known = {number for text in texts for number in NUMBER.findall(text)}
    counts, _, rest = PAGE.read_text("utf-8").partition("\n## ")
    found = set(NUMBER.findall(rest))
    assert len(found) > 300
    assert found <= known
    # what stands before the sections are the title and the counts of claims
    rows = [re.findall(r"\d+", line.rpartition(")")[2]) for line in counts.splitlines()]
    assert sum(int(n) for row in rows[-len(LEDGER.sections) :] for n in row) == len(CLAIMS)


def test_every_link_of_the_page_leads_somewhere():
    text = PAGE.read_text(encoding="utf-8")
    titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    headings = {ledger_script.anchor(title) for title in titles}
    links = set(re.findall(r"\]\(([^)\s]+)\)", text))
    assert len(links) > 50
    for link in links:
        path, _, part = link.partition("#")
        assert link.startswith("https:") or (PAGE.parent / path).exists(), link
        assert path or part in headings, link


def test_a_measured_number_that_changes_fails_the_check(copy: Path):
    def change(value: dict[str, Any]) -> None:
        value["figures"]["ranking"]["talkplay"]["mrr"]["value"] += 0.001

    edit(copy / "paper" / "measured" / "demo-0.json", change)
    code, text = check("--data", copy / "paper", "--page", copy / "PAPER.md")
    assert code == 1
    assert "-| Table 2: TalkPlay" in text
    assert "+| Table 2: TalkPlay" in text


def test_a_number_of_the_page_that_changes_fails_the_check(copy: Path):
    page = copy / "PAPER.md"
    text = page.read_text(encoding="utf-8")
    assert "MRR .023" in text
    page.write_text(text.replace("MRR .023", "MRR .032"), encoding="utf-8")
    code, text = check("--data", copy / "paper", "--page", page)
    assert code == 1
    assert "MRR .032" in text
    assert "MRR .023" in text


def test_a_figure_that_turns_a_claim_over_is_named(copy: Path):
    def change(value: dict[str, Any]) -> None:
        value["figures"]["ranking"]["bm25"]["mrr"]["high"] = 0.9

    edit(copy / "paper" / "measured" / "demo-1.json", change)
    code, text = check("--data", copy / "paper", "--page", copy / "PAPER.md")
    assert code == 1
    assert "6.3-bm25-demo: is reproduced, but " in text


def test_a_page_that_is_not_there_fails_the_check(copy: Path):
    assert check("--data", copy / "paper", "--page", copy / "none.md")[0] == 1


def test_no_measured_value_is_typed():
    for name, claim in CLAIMS.items():
        if claim["status"] in ("reproduced", "differs"):
            typed = ledger_script.REFERENCE.sub("", claim["here"])
            assert not re.search(r"(?<![\w.])\d*\.\d|\d %", typed), name


def test_every_measured_file_is_used():
    used = {
        name
        for claim in CLAIMS.values()
        for text in [claim.get("here", ""), *claim.get("holds", [])]
        for found in ledger_script.REFERENCE.finditer(text)
        for name in LEDGER.measured
        if ledger_script.fnmatch.fnmatchcase(name, found[1])
    }
    assert used == set(LEDGER.measured)


def test_every_part_of_the_paper_has_its_claims():
    names = " ".join(section["title"] for section in LEDGER.sections)
    for part in ("3.1", "3.2", "3.3", "4.1", "4.2", "4.3", "4.4", "5.1", "5.2", "6.1", "6.3"):
        assert part in names
    titles = " ".join(claim["claim"] for claim in CLAIMS.values())
    for part in ("Figure 1", "Figure 2", "Figure 3", "Table 1", "Table 2", "Table 3", "Eq. 1"):
        assert part in titles
    for part in ("A.1", "A.2", "A.3", "A.4"):
        assert any(name.startswith(part) for name in CLAIMS)


# --- evidence ---------------------------------------------------------------------------------


@functools.cache
def functions_of(path: str) -> set[str]:
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize("test", TESTS)
def test_every_test_that_is_named_exists(test: str):
    path, _, name = test.partition("::")
    assert Path(path).name.startswith("test_")
    assert name.startswith("test_")
    assert name in functions_of(path)


def look_up(at: str) -> Any:
    """The value of a key of a recipe, or of a name in a module."""
    place, _, name = at.rpartition(":")
    if place.endswith(".yaml"):
        value = yaml.safe_load((ROOT / place).read_text(encoding="utf-8"))
    else:
        value = importlib.import_module(place)
    for part in name.split("."):
        value = value[part] if isinstance(value, dict) else getattr(value, part)
    return list(value) if isinstance(value, tuple) else value


@pytest.mark.parametrize(("name", "key"), KEYS, ids=[f"{n}-{k['at']}" for n, k in KEYS])
def test_every_key_has_the_value_of_the_ledger(name: str, key: dict[str, Any]):
    if "contains" in key:
        assert key["contains"] in (ROOT / key["at"]).read_text(encoding="utf-8")
        return
    value = look_up(key["at"])
    assert value == key["value"]
    assert type(value) is type(key["value"])
    if ":PAPER." in key["at"] and name.startswith("T1-"):
        text = CLAIMS[name]["paper"]
        assert re.search(rf"(?<![\d.,]){value:,}0?(?![\d.,])", text), text


class Parsed(Exception):
    """The arguments of a script are good."""


def run_parser(script: Path, words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a script parse its arguments, and stop it there."""
    parse = argparse.ArgumentParser.parse_args

    def stop(parser: argparse.ArgumentParser, *args: Any, **options: Any) -> None:
        parse(parser, *args, **options)
        raise Parsed

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", stop)
    monkeypatch.setattr(sys, "argv", [str(script), *words])
    monkeypatch.syspath_prepend(str(script.parent))
    spec = importlib.util.spec_from_file_location(f"script_{script.stem}", script)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    # one of them reads what it is given while it parses
    monkeypatch.setattr(Path, "read_text", lambda *args, **options: '{"log": []}')
    with pytest.raises(Parsed):
        module.main()


def parse_command(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give a command line to the parser of what it starts."""
    words = shlex.split(line)
    if words[:2] == ["accelerate", "launch"]:
        at = words.index("-m")
        module, words = words[at + 1], words[at + 2 :]
        if module == "talkplay_hf.training":
            parse_recipe([*words, "--use_cpu", "true"])
            return
        assert module == "talkplay_hf.cli"
    elif words[0] in ("python", "uv"):
        at = 2 if words[0] == "uv" else 1
        run_parser(ROOT / words[at], words[at + 1 :], monkeypatch)
        return
    else:
        assert words.pop(0) == "talkplay"
    args, rest = make_parser().parse_known_args(words)
    if args.command == "train":
        parse_recipe(["--config", args.config, *rest, "--use_cpu", "true"])
    else:
        assert not rest
    assert {*(getattr(args, "baseline", None) or ())} <= {*BASELINES, "all"}


def lines_of(command: dict[str, Any]) -> list[str]:
    return "\n".join(command["lines"]).replace("\\\n", " ").splitlines()


COMMANDS = sorted(
    {line for command in LEDGER.commands.values() for line in lines_of(command)}
    | {one["command"] for one in LEDGER.measured.values()}
)


@pytest.mark.parametrize("line", COMMANDS)
def test_every_command_is_one_of_this_package(line: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(ROOT)
    parse_command(line, monkeypatch)
    for file in re.findall(r"recipes/[\w./-]+\.(?:yaml|py)", line):
        assert (ROOT / file).is_file()


@pytest.mark.parametrize(
    "line",
    [
        "talkplay evaluate m c --catalog k --no-such-flag",
        "uv run recipes/encoders/musicfm.py catalog out.parquet",
        "accelerate launch -m talkplay_hf.training --config recipes/quickstart/sft.yaml "
        "--tokenizer t --conversations c --catalog k --output_dir o --no_such_key 1",
    ],
)
def test_a_command_that_is_none_is_found_out(line: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(ROOT)
    with pytest.raises((Exception, SystemExit)) as found:
        parse_command(line, monkeypatch)
    assert not isinstance(found.value, Parsed)


def test_every_command_is_run_by_a_claim():
    used = {name for claim in CLAIMS.values() for name in claim.get("commands", [])}
    assert used == set(LEDGER.commands)


# --- the generator ----------------------------------------------------------------------------

MEASURED = {
    "run-0": {"about": "", "command": "", "figures": {"a": 2, "b": {"c": 0.5}, "text": "x"}},
    "run-1": {"about": "", "command": "", "figures": {"a": 3, "b": {"c": 0.25}}},
    "one": {"about": "", "command": "", "figures": {"f": {"value": 0.1, "low": 0, "high": 1.5}}},
}
GOOD: dict[str, Any] = {
    "id": "x",
    "claim": "it is so",
    "paper": "so",
    "status": "reproduced",
    "here": "{run-?#a}",
    "holds": ["{run-?#a} > 1"],
}


def small(*claims: dict[str, Any]) -> Ledger:
    sections = [{"section": "1", "title": "1 First", "claims": list(claims)}]
    return Ledger(sections, {"go": {"title": "Go.", "lines": ["talkplay doctor"]}}, MEASURED)


def test_a_good_claim_has_no_problem():
    assert list(small(GOOD).problems()) == []
    differs = {**GOOD, "status": "differs", "holds": ["{run-?#a} > 2"]}
    assert list(small(differs).problems()) == []


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"status": "proved"}, "status 'proved'"),
        ({"status": "matched", "holds": []}, "is matched without tests or keys or holds"),
        ({"status": "unreachable"}, "is unreachable without commands"),
        ({"status": "ambiguous", "here": ""}, "does not say in `here` what is adopted"),
        ({"here": "about 3"}, "without a measured value"),
        ({"here": "{run-?#z}"}, "has no z"),
        ({"here": "{gone#a}"}, "no file measured/gone.json"),
        ({"here": "{run-0#text}"}, "is no figure"),
        ({"holds": ["{run-?#a} > 2"]}, "is reproduced, but {run-?#a} > 2 does not hold"),
        ({"status": "differs"}, "differs, but all of its conditions hold"),
        ({"holds": ["{run-0#text} == 1"]}, "is no number"),
        ({"holds": ["{run-0#b} == 1"]}, "is no number"),
        ({"holds": ["print(1) == 1"]}, "only numbers"),
        ({"holds": ["1 =="]}, "cannot be read"),
        ({"commands": ["stop"]}, "no command stop"),
        ({"sure": True}, "unknown sure"),
        ({"paper": ""}, "lacks claim, paper or status"),
    ],
)
def test_a_claim_that_is_not_sound_is_named(change: dict[str, Any], word: str):
    (problem,) = small({**GOOD, **change}).problems()
    assert problem.startswith("x: ")
    assert word in problem


def test_an_id_that_stands_twice_is_named():
    assert list(small(GOOD, GOOD).problems()) == ["x: stands twice"]


def test_references_stand_for_the_values_of_all_their_files():
    one = small(GOOD)
    assert one.fill("{run-?#a}, {run-0#b.c}, {run-1#b.c|%}, {one#f}, {one#f.value|g}") == (
        "2 / 3, .500, 25.0 %, .100 [0, 1.500], 0.1"
    )
    assert one.holds("{run-?#a} * {run-?#b.c} < {one#f.high}")
    assert not one.holds("{run-?#a} * {run-?#b.c} < 0.8")


def test_a_condition_over_unequally_many_files_is_refused():
    more = Ledger([], {}, {**MEASURED, "go-0": MEASURED["one"], "go-1": MEASURED["one"],
                           "go-2": MEASURED["one"]})  # fmt: skip
    with pytest.raises(LedgerError, match="unequally many"):
        more.holds("{run-?#a} > {go-?#f.value}")


def test_bars_in_a_text_do_not_break_the_table():
    page = ledger_script.render(small({**GOOD, "paper": "`<|audio-1|>`"}))
    assert "| `<\\|audio-1\\|>` |" in page


# --- what is kept of a report -----------------------------------------------------------------


def test_an_evaluation_is_kept_without_its_examples():
    kept = collect.excerpt({"ranking": {"a": 1}, "turns": 3, "examples": [1], "training": {}})
    assert kept == {"ranking": {"a": 1}, "turns": 3}


def test_a_training_is_kept_as_its_curves_up_to_a_step():
    log = [
        {"step": step, "eval_conversations_loss": loss, "self_similarity": 0.5}
        for step, loss in ((10, 3.0), (20, 1.0), (30, 2.0), (40, 0.5))
    ]
    kept = collect.excerpt({"log": log, "seed": 7}, steps=30)
    assert (kept["seed"], kept["steps"], kept["playlists"]) == (7, 30, None)
    assert kept["conversations"] == {
        "first": 3.0,
        "lowest": 1.0,
        "lowest_step": 20,
        "highest": 3.0,
        "last": 2.0,
    }


def test_the_figures_of_a_catalog_are_kept_whole():
    assert collect.excerpt({"sparsity": 0.5, "train": {}}) == {"sparsity": 0.5, "train": {}}


def test_another_file_is_refused_by_name(tmp_path: Path):
    path = tmp_path / "other.json"
    path.write_text("{}", encoding="utf-8")
    done = subprocess.run(
        [sys.executable, str(PAPER / "collect.py"), str(path), "x", "--about", "", "--command", ""],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "other.json" in done.stderr
    assert not (PAPER / "measured" / "x.json").exists()


def test_what_is_kept_reads_back_with_fewer_digits():
    value = {"a": [1 / 3], "b": {"c": 1 / 30000, "d": 2}}
    assert json.loads(collect.text(collect.rounded(value))) == {
        "a": [0.333333],
        "b": {"c": 3.33333e-05, "d": 2},
    }
