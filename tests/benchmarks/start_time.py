"""Seconds until the command line and the package are there, beside what else starts on a machine.

    python tests/benchmarks/start_time.py --runs 10

Every start is a process of its own, the rivals take turns, and the best and the median are shown,
wall clock and CPU (user and system): where other work runs, the CPU seconds say more. `hf --help`
is the command of huggingface_hub, a plain interpreter is the floor. With `--slowest N`, the N
imports that take longest in `import talkplay_hf.cli`, by `-X importtime`.
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

BIN = Path(sys.executable).parent
STARTS = {
    "python -c pass": [sys.executable, "-c", "pass"],
    "import talkplay_hf": [sys.executable, "-c", "import talkplay_hf"],
    "talkplay --help": [str(BIN / "talkplay"), "--help"],
    "talkplay stats --help": [str(BIN / "talkplay"), "stats", "--help"],
    "talkplay --version": [str(BIN / "talkplay"), "--version"],
    "hf --help": [str(BIN / "hf"), "--help"],
}


def start(command: list[str]) -> tuple[float, float]:
    """Wall and CPU seconds of a process."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def slowest(count: int) -> list[tuple[float, str]]:
    """The modules that take most milliseconds of their own."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", "import talkplay_hf.cli"],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    found = []
    for line in done.stderr.splitlines()[1:]:
        own, _, name = line.removeprefix("import time:").split("|")
        if own.strip().isdigit():
            found.append((int(own) / 1000, name.strip()))
    return sorted(found, reverse=True)[:count]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--slowest", type=int, default=0)
    args = parser.parse_args()
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    starts = {name: words for name, words in STARTS.items() if Path(words[0]).exists()}
    for words in starts.values():  # into the page cache
        start(words)
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in starts}
    for _ in range(args.runs):
        for name, words in starts.items():
            times[name].append(start(words))
    print("| start | wall, best | wall, median | CPU, best |")
    print("|---|---|---|---|")
    for name, found in times.items():
        wall, cpu = zip(*found, strict=True)
        print(f"| `{name}` | {min(wall):.3f} | {statistics.median(wall):.3f} | {min(cpu):.3f} |")
    for own, name in slowest(args.slowest):
        print(f"{own:8.1f} ms {name}")


if __name__ == "__main__":
    main()
