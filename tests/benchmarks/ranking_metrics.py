"""How long the ranking metrics of many turns take, beside ir_measures (the `dev` extra).

Two cases. *Lists*: each turn has a list of its best tracks; ir_measures gets the same lists as the
dicts that it reads, made beforehand and, apart, with their making. *Dense*: each turn has a score
for every track of the catalog, in chunks; ir_measures gets the top of each chunk, found with
`numpy.argpartition`, for dicts of all scores do not fit into memory. The floor of the dense case is
reading the scores once (`scores.max()`). Rivals take turns within a run on one thread; the figures
are medians of CPU seconds over the rounds.

Run with:

    python tests/benchmarks/ranking_metrics.py --turns 13000 --tracks 40000
"""

import argparse
import os

os.environ["OMP_NUM_THREADS"] = "1"

import time
from collections.abc import Callable, Sequence
from statistics import median

import ir_measures
import numpy as np
from ir_measures import RR, Success, nDCG

from talkplay_hf.evaluation.metrics.ranking import FloatArray, label_ranks, ranking_metrics

MEASURES = [RR, Success @ 1, Success @ 10, Success @ 100, nDCG @ 10, nDCG @ 20]
NAMES = ("mrr", "hit@1", "hit@10", "hit@100", "ndcg@10", "ndcg@20")
Labels = list[list[int]]
Run = dict[str, dict[str, float]]
Means = list[float]


def clock(work: Callable[[], object], spent: list[float]) -> object:
    start = time.process_time()
    result = work()
    spent.append(time.process_time() - start)
    return result


def to_run(scores: FloatArray, tracks: np.ndarray) -> Run:
    """Lists as ir_measures reads them."""
    return {
        str(turn): {str(row): score for row, score in zip(rows, own, strict=True)}
        for turn, (rows, own) in enumerate(zip(tracks.tolist(), scores.tolist(), strict=True))
    }


def to_qrels(labels: Labels) -> dict[str, dict[str, int]]:
    return {str(turn): {str(row): 1 for row in rows} for turn, rows in enumerate(labels)}


def theirs(run: Run, qrels: dict[str, dict[str, int]]) -> Means:
    found = ir_measures.calc_aggregate(MEASURES, qrels, run)
    return [float(found[measure]) for measure in MEASURES]


def ours(scores: FloatArray, labels: Labels, depth: int) -> Means:
    metrics = ranking_metrics(label_ranks(scores, labels), depth)
    return [float(metrics[name].mean()) for name in NAMES]


def draw_labels(rng: np.random.Generator, turns: int, tracks: int, most: int) -> Labels:
    counts = rng.integers(1, most + 1, turns)
    return [rng.choice(tracks, count, replace=False).tolist() for count in counts]


def lists(args: argparse.Namespace, most: int) -> None:
    """Lists of `depth` tracks, of which half hold a label."""
    rng = np.random.default_rng(args.seed)
    turns, depth = args.turns, args.depth
    order = rng.random((turns, 2 * depth)).argsort(axis=1)
    tracks, labels = order[:, :depth], draw_labels(rng, turns, 2 * depth, most)
    scores = rng.permuted(np.tile(np.arange(depth, dtype=np.float64), (turns, 1)), axis=1)
    spent: dict[str, list[float]] = {"ours": [], "ir_measures": [], "its dicts": []}

    def laid_out() -> Means:
        # labels outside the list stand in columns of their own
        wide = np.full((turns, depth + most), -np.inf)
        wide[:, :depth] = scores
        place = np.full((turns, 2 * depth), -1)
        np.put_along_axis(place, tracks, np.arange(depth)[None], axis=1)
        columns = [
            [column if column >= 0 else depth + n for n, column in enumerate(row[rows].tolist())]
            for row, rows in zip(place, labels, strict=True)
        ]
        return ours(wide, columns, depth)

    for _ in range(args.rounds):
        mine = clock(laid_out, spent["ours"])
        run = clock(lambda: (to_run(scores, tracks), to_qrels(labels)), spent["its dicts"])
        other = clock(lambda made=run: theirs(*made), spent["ir_measures"])  # type: ignore[misc]
        np.testing.assert_allclose(mine, other, rtol=0, atol=1e-9)
    report(f"lists of {depth}, up to {most} labels", spent, "ours")


def dense(args: argparse.Namespace, most: int, collapsed: bool) -> None:
    """Scores of all tracks, chunk by chunk; a few chunks stand for all."""
    rng = np.random.default_rng(args.seed)
    size, rounds = max(1, 4_000_000 // args.tracks), args.rounds
    labels = draw_labels(rng, size, args.tracks, most)
    base = np.zeros(args.tracks) if collapsed else rng.permutation(args.tracks).astype(np.float64)
    scores = rng.permuted(np.tile(base, (size, 1)), axis=1)
    spent: dict[str, list[float]] = {"reading once": [], "ours": []}
    if not collapsed:
        spent["top + ir_measures"] = []

    def top() -> Means:
        best = np.argpartition(-scores, args.depth, axis=1)[:, : args.depth]
        run = to_run(np.take_along_axis(scores, best, axis=1), best)
        return theirs(run, to_qrels(labels))

    for _ in range(rounds * 5):
        clock(lambda: scores.max(), spent["reading once"])
        mine = clock(lambda: ours(scores, labels, args.depth), spent["ours"])
        if not collapsed:
            np.testing.assert_allclose(mine, clock(top, spent["top + ir_measures"]), atol=1e-9)
    kind = "all tied" if collapsed else "untied"
    title = f"dense, {args.tracks:,} tracks, {kind}, up to {most} labels"
    report(title, spent, "reading once", args.turns / size)


def report(title: str, spent: dict[str, list[float]], unit: str, scale: float = 1) -> None:
    floor = median(spent[unit])
    print(f"\n{title}")
    for name, seconds in spent.items():
        middle = median(seconds)
        print(f"  {name:<18} {middle * scale:>8.3f} s  {middle / floor:>7.1f} x {unit}")


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--turns", type=int, default=13_000)
    parser.add_argument("--tracks", type=int, default=40_000)
    parser.add_argument("--depth", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    print(f"{args.turns:,} turns, top {args.depth}, medians of CPU seconds")
    for most in (1, 5):
        lists(args, most)
    for most in (1, 5):
        dense(args, most, collapsed=False)
        dense(args, most, collapsed=True)


if __name__ == "__main__":
    main()
