"""Mutants: change one small thing in a module, and see whether a test fails.

    OMP_NUM_THREADS=1 python tests/mutants/run.py talkplay_hf/recommend/grammar --out mutants.jsonl

The tests run once, which tells the lines that each of them runs. Each mutant then has a fork of the
process, where those tests run that run its line, quickest first, until one fails. Results are lines
of `--out`; a later run, with more `--tests` for instance, passes over mutants that were killed.

Unreached: no test runs the line in the process and the thread of pytest. Not run: what has run
before a test begins, at the top of a module or a class or in a fixture that tests share. A survivor
is a gap in the tests, or a change that nobody could see.
"""

import argparse
import ast
import functools
import gc
import hashlib
import json
import os
import random
import resource
import signal
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from types import CodeType, FrameType, FunctionType, SimpleNamespace
from typing import Any

import pytest
from _pytest.runner import runtestprotocol
from changes import Mutant, mutants
from hypothesis import Phase, settings

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ("killed", "survived", "unreached", "not run")
# of the inputs that Hypothesis draws for a test, this many
EXAMPLES = 10
MEMORY = 4 << 30
SHARED = "(shared)"


class Mutation:
    """A pytest plugin that runs the mutants of `modules` instead of the tests alone."""

    def __init__(self, modules: list[Path], args: argparse.Namespace) -> None:
        self.modules = modules
        self.args = args
        self.names = set(map(str, modules))
        # the tests that run a line, by the path of its module and its number
        self.reached: dict[tuple[str, int], set[str]] = defaultdict(set)
        self.running = SHARED
        self.seconds: dict[str, float] = {}
        self.kills: Counter[str] = Counter()

    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        # a server is a thread, which a fork has not
        items[:] = [item for item in items if not {"hub", "hub_server"} & set(item.fixturenames)]
        for item in items:
            test = getattr(item.obj, "__func__", item.obj)
            if drawn := getattr(test, "_hypothesis_internal_use_settings", None):
                test._hypothesis_internal_use_settings = settings(
                    drawn, max_examples=min(drawn.max_examples, EXAMPLES), derandomize=True,
                    database=None, phases=[Phase.explicit, Phase.generate],
                )  # fmt: skip

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: Any) -> Iterator[None]:
        before = self.running
        if fixturedef.scope != "function":
            self.running = SHARED
        try:
            return (yield)
        finally:
            self.running = before

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        if session.testsfailed:
            raise session.Interrupted("the tests could not be collected")
        for item in session.items:
            self.running = item.nodeid
            sys.settrace(self.trace)
            fails(item)
            sys.settrace(None)
        gc.collect()
        self.objects = gc.get_objects()
        gc.freeze()
        self.items = {item.nodeid: item for item in session.items}
        for item in session.items:
            began = time.perf_counter()
            if forked(functools.partial(fails, item), self.args.patience) == 0:
                self.seconds[item.nodeid] = time.perf_counter() - began
            else:
                print("left out, as it fails in a fork or is too slow:", item.nodeid, flush=True)
        for path in self.modules:
            self.run(path)
        return True

    def trace(self, frame: FrameType, event: str, arg: Any) -> Callable[..., Any] | None:
        if frame.f_code.co_filename not in self.names:
            return None
        self.reached[frame.f_code.co_filename, frame.f_lineno].add(self.running)
        return self.trace

    def run(self, path: Path) -> None:
        """Run what is left of the mutants of a module, and write down what became of each."""
        tree = ast.parse(path.read_bytes())
        last = rows(self.args.out, path)
        killed = {number for number, row in last.items() if row["result"] == "killed"}
        left = [(at, mutant) for at, mutant in enumerate(mutants(tree)) if at not in killed]
        if self.args.sample is not None and self.args.sample < len(left):
            drawn = random.Random(0).sample(range(len(left)), self.args.sample)
            left = [left[at] for at in sorted(drawn)]
        for number, mutant in left:
            result, killer = self.result(mutant, tree, path)
            row = {**identity(path), "number": number, "line": mutant.lines[0]}
            row |= {"change": str(mutant), "result": result, "killer": killer}
            with self.args.out.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")

    def result(self, mutant: Mutant, tree: ast.Module, path: Path) -> tuple[str, str]:
        """What becomes of a mutant, and the test that killed it where that is known."""
        near = set().union(*(self.reached[str(path), line] for line in mutant.lines))
        if not mutant.function or mutant.function.endswith(".") or near == {SHARED}:
            return "not run", ""
        if not near:
            return "unreached", ""
        # what has killed neighbours comes first
        order = sorted(
            near & self.seconds.keys(), key=lambda name: self.seconds[name] / (1 + self.kills[name])
        )
        ends = [sum(self.seconds[name] for name in order[:at]) for at in range(len(order))]
        order = [name for name, end in zip(order, ends, strict=True) if end < self.args.patience]
        if not order:
            return "not run", ""

        def work() -> int:
            self.mutate(mutant, tree, path)
            failed = (at for at, name in enumerate(order, 1) if fails(self.items[name]))
            return min(next(failed, 0), 254)

        status = forked(work, 8 + 3 * sum(self.seconds[name] for name in order))
        killer = order[status - 1] if 0 < status <= len(order) else ""
        self.kills[killer] += 20
        return "killed" if status else "survived", killer

    def mutate(self, mutant: Mutant, tree: ast.Module, path: Path) -> None:
        """Put the code of a mutant into the function that is loaded, and forget cached results."""
        mutant.make()
        new = compile(ast.fix_missing_locations(tree), str(path), "exec")
        by_place = {(code.co_qualname, code.co_firstlineno): code for code in codes(new)}
        for one in self.objects:
            if isinstance(one, functools._lru_cache_wrapper):
                if (one.__module__ or "").startswith("talkplay"):
                    one.cache_clear()
                continue
            if not isinstance(one, FunctionType) or one.__code__.co_filename != str(path):
                continue
            place = one.__code__.co_qualname, one.__code__.co_firstlineno
            if place[0] != mutant.function or place not in by_place:
                continue
            one.__code__ = by_place[place]
            for node in ast.walk(tree):
                if isinstance(node, ast.FunctionDef) and node.lineno == mutant.lines[0]:
                    set_defaults(one, node.args)


def set_defaults(function: FunctionType, args: ast.arguments) -> None:
    def value(node: ast.expr) -> Any:
        return eval(compile(ast.Expression(node), "defaults", "eval"), function.__globals__)

    named = zip(args.kwonlyargs, args.kw_defaults, strict=True)
    function.__defaults__ = tuple(map(value, args.defaults)) or None
    function.__kwdefaults__ = {arg.arg: value(node) for arg, node in named if node} or None


def codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from codes(constant)


def fails(item: Any) -> bool:
    # after it, all fixtures but those of the session are torn down
    end: Any = SimpleNamespace(listchain=lambda: [item.session])
    reports = runtestprotocol(item, log=False, nextitem=end)
    return any(report.failed for report in reports)


def forked(work: Callable[[], int], seconds: float) -> int:
    """What work returns in a child process, from 0 to 254; 255 where the process did not end."""
    pid = os.fork()
    if not pid:
        status = 255
        try:
            for stream in (1, 2):
                os.dup2(os.open(os.devnull, os.O_RDWR), stream)
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(int(seconds) + 1)
            used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
            status = work()
        finally:
            os._exit(status)
    _, ended = os.waitpid(pid, 0)
    return os.WEXITSTATUS(ended) if os.WIFEXITED(ended) else 255


def identity(path: Path) -> dict[str, Any]:
    """A module as it is now."""
    name = path.relative_to(ROOT).as_posix()
    return {"module": name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}


def rows(out: Path, path: Path) -> dict[int, dict[str, Any]]:
    """The last result of each mutant of a module as it is now, by its number."""
    found = map(json.loads, out.read_text(encoding="utf-8").splitlines())
    same = identity(path).items()
    return {row["number"]: row for row in found if same <= row.items()}


def tests_of(path: Path) -> str:
    """The tests of a module's room, or the ones of a module that is in none."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    parts = parts[parts[0] == "talkplay_hf" :]
    name = f"test_{parts[0]}.py" if len(parts) == 1 else parts[0]
    return str(ROOT / "tests" / name)


def report(out: Path, modules: list[Path]) -> None:
    """Print a table of the last results of some modules, and their survivors."""
    print(f"\n{'module':<58} mutants  {'  '.join(RESULTS)}")
    survivors = []
    for path in modules:
        name = path.relative_to(ROOT).as_posix()
        last = rows(out, path)
        counts = Counter(row["result"] for row in last.values())
        figures = "  ".join(f"{counts[result]:>{len(result)}}" for result in RESULTS)
        print(f"{name:<58} {counts.total():>7}  {figures}")
        lines = [row for _, row in sorted(last.items()) if row["result"] == "survived"]
        survivors += [f"{name}:{row['line']}: {row['change']}" for row in lines]
    print("\nsurvivors", *survivors, sep="\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("modules", nargs="+", type=Path, help="Python files, or folders of them")
    parser.add_argument("--tests", nargs="+", help="instead of those of the room")
    parser.add_argument("--out", type=Path, required=True, help="a JSON line for each mutant")
    parser.add_argument("--patience", type=float, default=6, help="seconds of tests a mutant")
    parser.add_argument("--sample", type=int, help="this many mutants of a module, drawn")
    args = parser.parse_args()
    args.out = args.out.resolve()
    args.out.touch()
    given = [path.resolve() for path in args.modules]
    modules = [file for path in given for file in sorted(path.rglob("*.py")) or [path]]
    tests = args.tests or sorted({tests_of(path) for path in modules})
    sys.path.insert(0, str(ROOT))
    plain = ["-q", "--disable-warnings", "-p", "no:cacheprovider", "-p", "no:xdist"]
    pytest.main([*tests, *plain], plugins=[Mutation(modules, args)])
    report(args.out, modules)


if __name__ == "__main__":
    main()
