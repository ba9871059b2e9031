"""The lookup against brute force: equal results, ratios of time, and percentiles at scale.

Three parts: every answer to 100,000 queries on a small catalogue, exact hits and corrupted queries
apart; ratios on a large one; percentiles on a larger one. Two rivals in numpy pass over all tracks:
`plain` adds up weights, `tuned` compares columns of 16-bit codes and adds up bits. Times are CPU
time of one thread, query by query, each way in turn.

Run with `python tests/benchmarks/lookup.py`.
"""

import argparse
import os

os.environ["OMP_NUM_THREADS"] = "1"

import time
from collections.abc import Callable
from itertools import combinations
from typing import Any

import numpy as np

from talkplay_hf.recommend.lookup import WeightedLookup

WEIGHTS = (25, 16, 9, 4, 1)
DEPTH = len(WEIGHTS)
TOP = 100
RADIX = 1024 ** np.arange(DEPTH)
KINDS = ("random", "skewed")


def make_codes(kind: str, tracks: int, size: int, seed: int) -> np.ndarray:
    """Codes that are independent: uniform, or by Zipf's law with one playlist code and one lyrics
    code that a third of the tracks share. No track has the last code."""
    rng = np.random.default_rng(seed)
    if kind == "random":
        return rng.integers(0, size - 1, (tracks, DEPTH)).astype(np.int32)
    chance = 1 / np.arange(1, size)
    codes = rng.choice(size - 1, size=(tracks, DEPTH), p=chance / chance.sum()).astype(np.int32)
    for m in (0, 3):
        codes[rng.random(tracks) < 1 / 3, m] = size // 2
    return codes


def make_queries(codes: np.ndarray, count: int, corrupted: bool, seed: int) -> np.ndarray:
    """Codes of tracks; if corrupted, one to five of them are those of other tracks, and no track
    has them all."""
    rng = np.random.default_rng(seed)
    if not corrupted:
        return codes[rng.integers(0, len(codes), count)]
    drawn = rng.integers(0, len(codes), (3 * count, 1 + DEPTH))
    queries = codes[drawn[:, 0]]
    places = rng.random(queries.shape).argsort(axis=1)
    replaced = places < rng.integers(1, DEPTH + 1, (len(queries), 1))
    queries = np.where(replaced, codes[drawn[:, 1:], np.arange(DEPTH)], queries)
    known = np.isin(queries @ RADIX, codes @ RADIX)
    return queries[~known][:count]


class Brute:
    """Both rivals. Results are (subset as bits, rows)."""

    def __init__(self, codes: np.ndarray) -> None:
        self.codes = codes
        self.columns = np.ascontiguousarray(codes.T, dtype=np.uint16)
        every = [c for n in range(1, DEPTH + 1) for c in combinations(range(DEPTH), n)]
        every.sort(key=lambda c: (-sum(WEIGHTS[m] for m in c), [m not in c for m in range(DEPTH)]))
        self.subsets = [sum(1 << m for m in c) for c in every]
        shift = 1 << DEPTH
        self.gain = np.array([w * shift + (1 << (DEPTH - 1 - m)) for m, w in enumerate(WEIGHTS)])

    def plain(self, query: np.ndarray) -> np.ndarray:
        score = (self.codes == query) @ self.gain
        best = score.max()
        return np.flatnonzero(score == best) if best else np.empty(0, np.int64)

    def marks(self, query: np.ndarray) -> np.ndarray:
        marks = (self.columns[0] == query[0]).view(np.uint8)
        for m in range(1, DEPTH):
            marks |= (self.columns[m] == query[m]).view(np.uint8) << np.uint8(m)
        return marks

    def tuned(self, query: np.ndarray) -> np.ndarray:
        marks = self.marks(query)
        for subset in self.subsets:
            rows = np.flatnonzero(marks == subset)
            if len(rows):
                return rows
        return np.empty(0, np.int64)

    def top(self, query: np.ndarray) -> np.ndarray:
        marks = self.marks(query)
        parts: list[np.ndarray] = []
        for subset in self.subsets:
            parts.append(np.flatnonzero(marks == subset))
            if sum(map(len, parts)) >= TOP:
                break
        return np.concatenate(parts)[:TOP]


Way = Callable[[Any], np.ndarray]


def timed(ways: dict[str, Way], queries: np.ndarray) -> tuple[dict[str, np.ndarray], int]:
    """Microseconds of every query in every way, and how many queries they do not agree on."""
    micros = {name: np.empty(len(queries)) for name in ways}
    wrong = 0
    # a query comes as a decoder gives it: a list, an array for the rivals
    for at, (listed, array) in enumerate(zip(queries.tolist(), queries, strict=True)):
        answers = []
        for name, way in ways.items():
            query = listed if name in ("numpy", "numba") else array
            start = time.thread_time_ns()
            rows = way(query)
            micros[name][at] = (time.thread_time_ns() - start) / 1000
            answers.append(rows)
        wrong += not all(np.array_equal(answers[0], other) for other in answers[1:])
    return micros, wrong


def lookups(codes: np.ndarray, size: int) -> dict[str, WeightedLookup]:
    made = {}
    for name, compiled in (("numpy", False), ("numba", True)):
        start = time.thread_time()
        lookup = WeightedLookup(codes, (size,) * DEPTH, WEIGHTS, [None] * DEPTH, compiled=compiled)
        seconds = time.thread_time() - start
        lookup.find([0] * DEPTH)  # compiles
        lookup.find([size - 1] * DEPTH)
        made[name] = lookup
        if not compiled:
            print(f"built in {seconds:.2f} CPU s, {lookup.nbytes / len(codes):.1f} bytes a track\n")
    return made


def finders(made: dict[str, WeightedLookup]) -> dict[str, Way]:
    return {name: lambda q, lookup=lookup: lookup.find(q).rows for name, lookup in made.items()}


def rankers(made: dict[str, WeightedLookup]) -> dict[str, Way]:
    return {name: lambda q, lookup=lookup: lookup.top(q, TOP).rows for name, lookup in made.items()}


def equality(tracks: int, size: int, count: int) -> None:
    print(f"## {count:,} queries on {tracks:,} tracks, {size} codes a modality (mean µs)\n")
    rows = ["| tracks | queries | number | differ | tuned | numpy | numba |"]
    rows.append("|---|---|---|---|---|---|---|")
    for number, kind in enumerate(KINDS):
        codes = make_codes(kind, tracks, size, number)
        brute, made = Brute(codes), lookups(codes, size)
        for name in ("exact", "corrupted"):
            queries = make_queries(codes, count // 4, name == "corrupted", 10 + number)
            micros, wrong = timed({"tuned": brute.tuned, **finders(made)}, queries)
            matches = [made["numpy"].find(query) for query in queries.tolist()]
            wrong += sum(match.exact != (name == "exact") for match in matches)
            cells = [f"{micros[way].mean():.1f}" for way in ("tuned", "numpy", "numba")]
            rows.append(f"| {kind} | {name} | {len(queries):,} | {wrong} | {' | '.join(cells)} |")
    print("\n".join(rows), flush=True)


def ratios(tracks: int, size: int, count: int) -> None:
    print(f"\n## {tracks:,} tracks, {size} codes a modality (median µs)\n")
    rows = ["| tracks | task | queries | differ | plain | tuned | numpy | numba "]
    rows[0] += "| plain / numpy | tuned / numpy | tuned / numba |"
    rows.append("|---" * 11 + "|")
    for number, kind in enumerate(KINDS):
        codes = make_codes(kind, tracks, size, number)
        brute, made = Brute(codes), lookups(codes, size)
        for task in ("find", f"top {TOP}"):
            for name in ("exact", "corrupted"):
                queries = make_queries(codes, count, name == "corrupted", 20 + number)
                if task == "find":
                    ways = {"tuned": brute.tuned, **finders(made)}
                else:
                    ways = {"tuned": brute.top, **rankers(made)}
                micros, wrong = timed(ways, queries)
                middle = {way: float(np.median(values)) for way, values in micros.items()}
                slow = timed({"plain": brute.plain}, queries[:20])[0]["plain"]
                plain = float(np.median(slow)) if task == "find" else float("nan")
                rows.append(
                    f"| {kind} | {task} | {name} ({count:,}) | {wrong} | {plain:,.0f} "
                    f"| {middle['tuned']:,.0f} | {middle['numpy']:.1f} | {middle['numba']:.1f} "
                    f"| {plain / middle['numpy']:,.0f} | {middle['tuned'] / middle['numpy']:.0f} "
                    f"| {middle['tuned'] / middle['numba']:.0f} |"
                )
    print("\n".join(rows).replace(" nan ", "  "), flush=True)


def percentiles(tracks: int, size: int, count: int) -> None:
    print(f"\n## {tracks:,} tracks, {size} codes a modality (µs)\n")
    rows = ["| tracks | task | queries | numpy p50 | p99 | max | numba p50 | p99 | max |"]
    rows.append("|---" * 9 + "|")
    for number, kind in enumerate(KINDS):
        codes = make_codes(kind, tracks, size, number)
        made = lookups(codes, size)
        queries = {
            "exact": make_queries(codes, count, False, 30),
            "corrupted": make_queries(codes, count, True, 31),
        }
        if kind == "skewed":
            worst = np.full((20, DEPTH), size - 1)
            worst[:, [0, 3]] = size // 2
            queries["only the two frequent codes"] = worst
        for task, make in (("find", finders), (f"top {TOP}", rankers)):
            for name, some in queries.items():
                micros, wrong = timed(make(made), some)
                assert not wrong
                cells = [
                    f"{np.percentile(micros[way], p):,.0f}"
                    for way in ("numpy", "numba")
                    for p in (50, 99, 100)
                ]
                rows.append(f"| {kind} | {task} | {name} ({len(some):,}) | {' | '.join(cells)} |")
    print("\n".join(rows), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--queries", type=int, default=100_000, help="queries of the first part")
    parser.add_argument("--small", type=int, default=20_000, help="tracks of the first part")
    parser.add_argument("--tracks", type=int, default=1_000_000, help="tracks of the ratios")
    parser.add_argument("--large", type=int, default=5_000_000, help="tracks of the percentiles")
    parser.add_argument("--parts", nargs="+", default=["equality", "ratios", "percentiles"])
    args = parser.parse_args()
    if "equality" in args.parts:
        equality(args.small, 256, args.queries)
    if "ratios" in args.parts:
        ratios(args.tracks, 1024, 500)
    if "percentiles" in args.parts:
        percentiles(args.large, 1024, 5_000)


if __name__ == "__main__":
    main()
