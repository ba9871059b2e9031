"""Speed and peak memory of the import of the Million Playlist Dataset.

Writes slices with the dataset's field names and Zipf tracks, then imports them with 1 and 2
workers, each in a fresh process, with plain `json.load` loops over the same files in between.
Peak memory is that of the main process, plus the largest worker's times the number of workers.
On a machine that others use too, compare CPU seconds (starting Python and importing included).

    python tests/benchmarks/mpd_import.py --slices 100
"""

import argparse
import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

LIMIT_GB = 2.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--slices", type=int, default=100, help="slices of 1,000 playlists")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--child", nargs=2, metavar=("SOURCE", "WORKERS"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        source, workers = Path(args.child[0]), int(args.child[1])
        print(json.dumps(measure_import(source, workers) if workers else measure_json(source)))
        return
    with tempfile.TemporaryDirectory(prefix="mpd-") as folder:
        compare(Path(folder), args.slices, args.workers)


def compare(folder: Path, slices: int, workers: list[int]) -> None:
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "catalog"))
    from mpd_slices import write_slices

    start = time.perf_counter()
    source = folder / "data"
    size = sum(path.stat().st_size for path in write_slices(source, slices)) / 1e9
    took = time.perf_counter() - start
    print(f"{slices} slices, {slices * 1000:,} playlists, {size:.2f} GB, written in {took:.0f} s")
    heads = ["s", "playlists/s", "of json", "CPU s", "of json", "main GB", "a worker", "peak GB"]
    print(f"{'':>12}", *(f"{head:>12}" for head in heads), flush=True)
    before = child(source, 0)
    worst = 0.0
    for count in workers:
        found = child(source, count)
        after = child(source, 0)
        seconds, cpu = ((before[name] + after[name]) / 2 for name in ("seconds", "cpu"))
        rate = slices * 1000 / seconds
        print(f"{'json.load':>12}", *(f"{one:12,.2f}" for one in (seconds, rate, 1, cpu, 1)))
        peak = found["main"] + count * found["worker"]
        worst = max(worst, peak)
        ratio = seconds / found["seconds"]
        figures = [found["seconds"], ratio * rate, ratio, found["cpu"], cpu / found["cpu"]]
        figures += [found["main"], found["worker"], peak]
        print(f"{count:>2} worker(s)", *(f"{one:12,.2f}" for one in figures))
        for name, (took, memory) in found["stages"].items():
            print(f"{'':>12} {took:>7.1f} {name}, main at most {memory:.2f} GB so far", flush=True)
        before = after
    print(found["summary"])
    if worst >= LIMIT_GB:
        raise SystemExit(f"peak memory {worst:.2f} GB is over {LIMIT_GB} GB")


def child(source: Path, workers: int) -> dict[str, Any]:
    command = [sys.executable, __file__, "--child", str(source), str(workers)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def measure_json(source: Path) -> dict[str, Any]:
    start = time.perf_counter()
    for path in sorted(source.glob("mpd.slice.*.json")):
        with path.open(encoding="utf-8") as handle:
            json.load(handle)
    return {"seconds": time.perf_counter() - start, "cpu": cpu_seconds(resource.RUSAGE_SELF)}


def measure_import(source: Path, workers: int) -> dict[str, Any]:
    from talkplay_hf.catalog.mpd_import import import_mpd

    moments: dict[tuple[str, int], tuple[float, float]] = {}

    def look(what: str, done: int, total: int) -> None:
        moments[what, done] = time.perf_counter(), memory(resource.RUSAGE_SELF)

    out = source.parent / "catalog"
    start = time.perf_counter()
    report = import_mpd(source, out, workers=workers, progress=look)
    end = time.perf_counter(), memory(resource.RUSAGE_SELF)
    shutil.rmtree(out)
    ends = {
        "reading": moments["reading", report.files],
        "merging": moments["merging", report.files],
        "split, tracks": moments["writing", 1],
        "playlists": end,
    }
    starts = [start, *(moment for moment, _ in ends.values())]
    return {
        "seconds": end[0] - start,
        "cpu": cpu_seconds(resource.RUSAGE_SELF) + cpu_seconds(resource.RUSAGE_CHILDREN),
        "main": end[1],
        "worker": memory(resource.RUSAGE_CHILDREN),
        "stages": {
            name: (moment - begin, peak)
            for begin, (name, (moment, peak)) in zip(starts, ends.items(), strict=False)
        },
        "summary": report.summary(),
    }


def memory(who: int) -> float:
    """The most memory that a process held so far, in GB."""
    return resource.getrusage(who).ru_maxrss * 1024 / 1e9


def cpu_seconds(who: int) -> float:
    usage = resource.getrusage(who)
    return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    main()
