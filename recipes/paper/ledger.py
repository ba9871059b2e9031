"""Write recipes/PAPER.md: every figure and claim of the paper, and what became of it here.

    python recipes/paper/ledger.py            write the page
    python recipes/paper/ledger.py --check    exit 1, with a diff, if page and data disagree

It needs the standard library alone. The data:

- `claims/*.json`: the claims, a file a section of the paper, in the order of the file names.
- `commands.json`: the commands that would measure what is out of reach here.
- `measured/*.json`: what was measured, by `collect.py`.

A claim says what the paper says (`paper`), what is so here (`here`), and its `status`:

    matched      done as the paper does it; `tests`, `keys` or `holds` show it
    reproduced   measured here, and the claim holds
    differs      measured here, and the claim does not hold
    ambiguous    the paper leaves it open or contradicts itself; `here` says what is adopted
    unreachable  cannot be measured offline; `commands` would

A measured value is never typed: `{demo-0#ranking.talkplay.mrr}` stands for the value at that path
of `measured/demo-0.json`. `{demo-?#…}` stands for the values of all files of that pattern. A format
may follow after a bar: digits after the point, or `%`, or `g` for two significant digits. `holds`
are the conditions that the claim is, over such values: all of them are true unless the claim
differs.
"""

import argparse
import ast
import difflib
import fnmatch
import json
import operator
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
PAGE = HERE.parent / "PAPER.md"
STATUSES = {
    "matched": "done as the paper does it",
    "reproduced": "measured here, at the scale that the row names, and the claim holds",
    "differs": "measured here, and the claim does not hold",
    "ambiguous": "open or contradictory in the paper; the row says what is adopted",
    "unreachable": "not measured: it takes data, weights or machines that are not at hand; the row "
    "links the commands",
}
# what a claim of a status has to bring
EVIDENCE = {
    "matched": ("tests", "keys", "holds"),
    "reproduced": ("holds",),
    "differs": ("holds",),
    "ambiguous": ("tests", "keys", "holds"),
    "unreachable": ("commands",),
}
FIELDS = {"id", "claim", "paper", "status", "here", "tests", "keys", "holds", "commands"}
INTRO = """\
# The paper, claim by claim

Each figure and claim of *TalkPlay: Multimodal Music Recommendation with Large Language Models*
([arXiv 2502.13713v1](https://arxiv.org/abs/2502.13713v1)), and what became of it in this project.
`python recipes/paper/ledger.py` makes this page from the data in `recipes/paper`; a test fails
where page, data, code and measured values disagree. Brackets are intervals of 95 %, by a bootstrap
over conversations. Values of several runs are separated by slashes, one a seed.
"""
COMMANDS = """\
## Commands

What would measure the rest: with the Million Playlist Dataset, audio files of its tracks, weights
of the Hugging Face Hub, and eight GPUs. None of it has been run at that scale; a test holds that
each line is a command of this package, with the options that it has."""
REFERENCE = re.compile(r"\{([^{}#|]+)#([^{}|]+)(?:\|([^{}]+))?\}")
ARITHMETIC: dict[type[ast.AST], Callable[..., Any]] = {
    **{ast.Lt: operator.lt, ast.LtE: operator.le, ast.Gt: operator.gt, ast.GtE: operator.ge},
    **{ast.Eq: operator.eq, ast.NotEq: operator.ne, ast.USub: operator.neg},
    **{ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul},
    **{ast.Div: operator.truediv, ast.Pow: operator.pow},
}
FORMS = (ast.Expression, ast.Compare, ast.BinOp, ast.UnaryOp, ast.Constant, ast.Name, ast.Load)


class LedgerError(Exception):
    """The data cannot be read or contradicts itself; the message says where."""


@dataclass(frozen=True)
class Ledger:
    """The data.

    Args:
        sections (`list[dict[str, Any]]`): The files of claims: `section`, `title`, `claims`.
        commands (`dict[str, dict[str, Any]]`): By name: `title` and `lines`.
        measured (`dict[str, dict[str, Any]]`): By name: `about`, `command`, `figures`.
    """

    sections: list[dict[str, Any]]
    commands: dict[str, dict[str, Any]]
    measured: dict[str, dict[str, Any]]

    @classmethod
    def load(cls, folder: Path = HERE) -> "Ledger":
        """Read a folder of data."""
        return cls(
            [_read(path) for path in sorted(folder.glob("claims/*.json"))],
            _read(folder / "commands.json"),
            {path.stem: _read(path) for path in sorted(folder.glob("measured/*.json"))},
        )

    @property
    def claims(self) -> list[dict[str, Any]]:
        """All claims in order."""
        return [claim for section in self.sections for claim in section["claims"]]

    def values(self, files: str, path: str) -> list[Any]:
        """The values that a reference stands for, one a file.

        Raises:
            LedgerError: If it leads nowhere.
        """
        names = [name for name in self.measured if fnmatch.fnmatchcase(name, files)]
        if not names:
            raise LedgerError(f"no file measured/{files}.json")
        found = []
        for name in names:
            value: Any = self.measured[name]["figures"]
            for part in path.split("."):
                if not isinstance(value, dict) or part not in value:
                    raise LedgerError(f"measured/{name}.json has no {path}")
                value = value[part]
            found.append(value)
        return found

    def fill(self, text: str) -> str:
        """A text with its references replaced by values."""

        def put(found: re.Match[str]) -> str:
            values = self.values(found[1], found[2])
            return " / ".join(show(value, found[3]) for value in values)

        return REFERENCE.sub(put, text)

    def holds(self, condition: str) -> bool:
        """Whether a condition is true, in each of the files that its references stand for.

        Raises:
            LedgerError: If it is no arithmetic of numbers, or its references do not fit together.
        """
        lists: list[list[Any]] = []

        def put(found: re.Match[str]) -> str:
            lists.append(self.values(found[1], found[2]))
            return f"v{len(lists) - 1}"

        source = REFERENCE.sub(put, condition)
        try:
            tree = ast.parse(source, mode="eval")
        except SyntaxError:
            raise LedgerError(f"{condition}: cannot be read") from None
        if not all(isinstance(node, (*FORMS, *ARITHMETIC)) for node in ast.walk(tree)):
            raise LedgerError(f"{condition}: only numbers, arithmetic and comparisons")
        if len({len(one) for one in lists if len(one) > 1}) > 1:
            raise LedgerError(f"{condition}: its references stand for unequally many files")
        rows = max([len(one) for one in lists], default=1)
        for row in range(rows):
            picked = [one[row] if len(one) > 1 else one[0] for one in lists]
            if not all(type(value) in (int, float) for value in picked):
                raise LedgerError(f"{condition}: a reference is no number")
            names = {f"v{number}": value for number, value in enumerate(picked)}
            if _value(tree.body, names) is not True:
                return False
        return True

    def problems(self) -> Iterator[str]:
        """What is wrong with the data, a line each."""
        seen: set[str] = set()
        for claim in self.claims:
            name = claim.get("id", "a claim without id")
            if name in seen:
                yield f"{name}: stands twice"
            seen.add(name)
            if wrong := claim.keys() - FIELDS:
                yield f"{name}: unknown {', '.join(sorted(wrong))}"
            if not all(claim.get(key) for key in ("id", "claim", "paper", "status")):
                yield f"{name}: lacks claim, paper or status"
            elif claim["status"] not in STATUSES:
                yield f"{name}: status {claim['status']!r}"
            else:
                yield from self._problems_of(name, claim)

    def _problems_of(self, name: str, claim: dict[str, Any]) -> Iterator[str]:
        status, here = claim["status"], claim.get("here", "")
        if not any(claim.get(kind) for kind in EVIDENCE[status]):
            yield f"{name}: is {status} without {' or '.join(EVIDENCE[status])}"
        measured = status in ("reproduced", "differs")
        if measured and not REFERENCE.search(here):
            yield f"{name}: is {status} without a measured value in `here`"
        if status == "ambiguous" and not here:
            yield f"{name}: does not say in `here` what is adopted"
        for command in claim.get("commands", []):
            if command not in self.commands:
                yield f"{name}: no command {command} in commands.json"
        try:
            self.fill(here)
            failed = [one for one in claim.get("holds", []) if not self.holds(one)]
        except LedgerError as error:
            yield f"{name}: {error}"
            return
        if status == "differs" and not failed:
            yield f"{name}: differs, but all of its conditions hold"
        if status != "differs":
            for condition in failed:
                yield f"{name}: is {status}, but {condition} does not hold"


def _value(node: ast.expr, names: dict[str, float]) -> Any:
    """What arithmetic of numbers comes to; nothing but `ARITHMETIC` is ever called."""
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.Name) and node.id in names:
        return names[node.id]
    if isinstance(node, ast.UnaryOp):
        return ARITHMETIC[type(node.op)](_value(node.operand, names))
    if isinstance(node, ast.BinOp):
        both = _value(node.left, names), _value(node.right, names)
        return ARITHMETIC[type(node.op)](*both)
    if isinstance(node, ast.Compare):
        sides = [_value(one, names) for one in (node.left, *node.comparators)]
        pairs = zip(node.ops, sides, sides[1:], strict=False)
        return all(ARITHMETIC[type(op)](left, right) for op, left, right in pairs)
    raise LedgerError(f"{ast.unparse(node)}: is no arithmetic of numbers")


def _read(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise LedgerError(f"{path}: {error}") from None
    if not isinstance(value, dict):
        raise LedgerError(f"{path}: is not a JSON object")
    return value


def show(value: Any, form: str | None = None) -> str:
    """A measured value as text: a figure with its interval, or a number."""
    if isinstance(value, dict) and {"value", "low", "high"} <= value.keys():
        low, high = show(value["low"], form), show(value["high"], form)
        return f"{show(value['value'], form)} [{low}, {high}]"
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise LedgerError(f"{value!r} is no figure")
    if form == "%":
        return f"{100 * value:.1f} %"
    if form == "g":
        return f"{value:.2g}"
    if form is None and isinstance(value, int):
        return f"{value:,}"
    text = f"{value:,.{form or 3}f}"
    return text.replace("0.", ".", 1) if text.lstrip("-").startswith("0.") else text


def render(ledger: Ledger) -> str:
    """The page."""
    counts = Counter(claim["status"] for claim in ledger.claims)
    lines = [
        INTRO,
        "| status | claims | meaning |",
        "|---|---|---|",
        *(f"| {mark(name)} | {counts[name]} | {text} |" for name, text in STATUSES.items()),
        "",
        "| section | " + " | ".join(STATUSES) + " |",
        "|---|" + "---|" * len(STATUSES),
    ]
    for section in ledger.sections:
        of = Counter(claim["status"] for claim in section["claims"])
        cells = " | ".join(str(of[name] or "") for name in STATUSES)
        lines.append(f"| [{section['title']}](#{anchor(section['title'])}) | {cells} |")
    for section in ledger.sections:
        lines += ["", f"## {section['title']}", ""]
        if section.get("note"):
            lines += [ledger.fill(section["note"]), ""]
        lines += ["| claim | the paper | status | here | evidence |", "|---|---|---|---|---|"]
        lines += [row(ledger, claim) for claim in section["claims"]]
    lines += ["", COMMANDS]
    for name, command in ledger.commands.items():
        lines += ["", f"### {name}", "", command["title"], "", "```bash", *command["lines"], "```"]
    lines += ["", "## Measured data", ""]
    lines += ["| file | what | made by |", "|---|---|---|"]
    for name, one in ledger.measured.items():
        link = f"[{name}](paper/measured/{name}.json)"
        lines.append(f"| {link} | {one['about']} | `{one['command']}` |")
    return "\n".join(lines) + "\n"


def row(ledger: Ledger, claim: dict[str, Any]) -> str:
    """A claim as a row of the table."""
    evidence = [test_link(one) for one in claim.get("tests", [])]
    # the figures of Table 1 stand in the row already; the test compares them with the package's
    keys = [one for one in claim.get("keys", []) if ":PAPER." not in one["at"]]
    evidence += [key_text(one) for one in keys]
    if claim["status"] in ("matched", "ambiguous"):
        evidence += [f"`{one}`" for one in claim.get("holds", []) if not REFERENCE.search(one)]
    evidence += [f"run [{one}](#{anchor(one)})" for one in claim.get("commands", [])]
    cells = [
        claim["claim"],
        claim["paper"],
        mark(claim["status"]),
        ledger.fill(claim.get("here", "")),
        "; ".join(evidence),
    ]
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def mark(status: str) -> str:
    """A status as it is printed."""
    return f"**{status}**"


def test_link(test: str) -> str:
    """A test as a link that reads as the sentence that it is named by."""
    path, name = test.split("::")
    return f"[{name.removeprefix('test_').replace('_', ' ')}](../{path})"


def key_text(key: dict[str, Any]) -> str:
    """A place in the package or in a recipe, with its value."""
    place, _, name = key["at"].rpartition(":")
    if "contains" in key:
        return f"[{Path(key['at']).name}](../{key['at']}) has `{key['contains']}`"
    if not place.endswith(".yaml"):
        place = place.replace(".", "/") + ".py"
    return f"[`{name}`](../{place}) {json.dumps(key['value'], ensure_ascii=False)}"


def anchor(title: str) -> str:
    """The anchor that GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


def difference(found: str, wanted: str) -> str:
    """A diff of the page as it is and as it should be; empty if they are equal."""
    lines = difflib.unified_diff(
        found.splitlines(), wanted.splitlines(), "PAPER.md", "from the data", n=0, lineterm=""
    )
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    made = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--check", action="store_true", help="write nothing; compare")
    made.add_argument("--data", type=Path, default=HERE, help="folder of the data")
    made.add_argument("--page", type=Path, default=PAGE, help="the page")
    args = made.parse_args(arguments)
    try:
        ledger = Ledger.load(args.data)
        problems = list(ledger.problems())
        page = "" if problems else render(ledger)
    except LedgerError as error:
        problems, page = [str(error)], ""
    if problems:
        print("\n".join(problems), file=sys.stderr)
        return 1
    if not args.check:
        args.page.write_text(page, encoding="utf-8")
        print(f"{args.page}: {len(ledger.claims)} claims")
        return 0
    found = args.page.read_text(encoding="utf-8") if args.page.exists() else ""
    if found != page:
        print(difference(found, page))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
