"""Which `raise` statements of the package the tests reach: those of errors that were provoked.

    pip install pytest-cov
    OMP_NUM_THREADS=1 pytest -n 2 -m "slow or not slow" --cov=talkplay_hf --cov-report=json
    python tests/reached.py coverage.json --list

Only what runs in the processes of pytest is seen, not what commands in other processes raise.
"""

import argparse
import ast
import json
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent


def raises(source: str) -> Iterator[tuple[int, str]]:
    """Line and text of each `raise` that names an error; a bare one passes on what is known."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Raise) and node.exc is not None:
            yield node.lineno, ast.unparse(node)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("coverage", help="the JSON report of coverage")
    parser.add_argument("--list", action="store_true", help="print those that were not reached")
    args = parser.parse_args()
    report = json.loads(Path(args.coverage).read_text(encoding="utf-8"))
    total = reached = 0
    for name, found in sorted(report["files"].items()):
        executed = set(found["executed_lines"])
        for line, text in sorted(raises((ROOT / name).read_text(encoding="utf-8"))):
            total += 1
            reached += line in executed
            if args.list and line not in executed:
                print(f"{name}:{line}: {text[:120]}")
    lines = report["totals"]
    print(f"lines  {lines['covered_lines']:,} of {lines['num_statements']:,} ", end="")
    print(f"({lines['percent_covered']:.1f}%)")
    print(f"raises {reached:,} of {total:,} ({reached / total:.1%})")


if __name__ == "__main__":
    main()
