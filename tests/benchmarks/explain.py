"""Explaining a track and swapping a token, against brute force over the catalogue.

The rival keeps no tables: it compares the codes of all tracks for every request. Both give the same
tracks, which is checked. The tracks themselves (title, artist, ...) are read by both and take most
of the time of an explanation; the rival has neither tags nor where a code comes from. Times are CPU
time of one thread, request by request, the two ways in turn.

Run with `python tests/benchmarks/explain.py MODEL`.
"""

import argparse
import os

os.environ["OMP_NUM_THREADS"] = "1"

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch

from talkplay_hf import Recommender, Track

torch.set_num_threads(1)


class Brute:
    """Explanations and look-ups that read the codes of all tracks."""

    def __init__(self, recommender: Recommender) -> None:
        self.recommender = recommender
        self.codes = np.array([recommender.codes(one) for one in recommender.track_ids])
        config = recommender.tokenizer.config
        self.weights = np.array(config.lookup_weights)
        depth = range(len(config.codes))
        self.missing = np.array([config.missing_code(m) or -1 for m in depth])
        # of two equal sums the one with the earliest modality wins
        self.gain = (self.weights << len(depth)) + (1 << np.arange(len(depth))[::-1])
        popularity = recommender.catalog.column("popularity")
        self.popularity = np.array([-np.inf if one is None else one for one in popularity])

    def look_up(self, block: Sequence[int], k: int) -> list[Track]:
        same = self.codes == np.asarray(block)
        exact = same.all(axis=1)
        score = (same & (np.asarray(block) != self.missing)) @ self.gain
        score[exact] = self.gain.sum() + 1
        order = np.argsort(-score, kind="stable")[:k]
        return [self.recommender.catalog.track_at(int(at)) for at in order if score[at]]

    def neighbours(self, block: Sequence[int], row: int, k: int) -> list[list[Track]]:
        found = []
        for m, code in enumerate(block):
            rows = np.flatnonzero(self.codes[:, m] == code)
            rows = rows[rows != row] if code != self.missing[m] else rows[:0]
            best = rows[np.argsort(-self.popularity[rows], kind="stable")[:k]]
            found.append([self.recommender.catalog.track_at(int(at)) for at in best])
        return found


def spent(way: Callable[[], Any]) -> tuple[float, Any]:
    """CPU milliseconds, and what came of it."""
    start = time.thread_time_ns()
    found = way()
    return (time.thread_time_ns() - start) / 1e6, found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", help="model folder or Hub id")
    parser.add_argument("--requests", type=int, default=300)
    parser.add_argument("--k", type=int, default=10, help="tracks of a look-up")
    args = parser.parse_args()
    recommender = Recommender.from_pretrained(args.model)
    ids = recommender.track_ids
    rng = np.random.default_rng(0)
    first_explained, _ = spent(lambda: recommender.explain(recommender.codes(ids[0]), ids[0]))
    block = [
        codes[-1].code
        for codes in map(recommender.codes_of, recommender.tokenizer.config.modalities)
    ]
    first_looked, _ = spent(lambda: recommender.look_up(block))
    brute = Brute(recommender)
    times: dict[str, list[tuple[float, float]]] = {"explain": [], "swap a token": []}
    differ = dict.fromkeys(times, 0)
    for row in rng.integers(0, len(ids), args.requests).tolist():
        own = recommender.codes(ids[row])
        mine, explained = spent(partial(recommender.explain, own, ids[row]))
        theirs, neighbours = spent(partial(brute.neighbours, own, row, 5))
        times["explain"].append((mine, theirs))
        # guesses come last here, so that only the rest is the same
        certain = [
            one for one in zip(explained.meanings, neighbours, strict=True) if not one[0].guessed
        ]
        differ["explain"] += any(list(one.neighbours) != found for one, found in certain)
        swapped = list(own)
        m = int(rng.integers(len(own)))
        swapped[m] = int(rng.choice(brute.codes[:, m]))
        mine, found = spent(partial(recommender.look_up, swapped, args.k))
        theirs, tracks = spent(partial(brute.look_up, swapped, args.k))
        times["swap a token"].append((mine, theirs))
        differ["swap a token"] += [one.track for one in found] != tracks
    print(f"{len(ids):,} tracks, {args.requests} requests, {args.k} tracks a look-up\n")
    print("| task | first call, ms | median | p99 | max | brute force, median | ratio | differ |")
    print("|---|---|---|---|---|---|---|---|")
    firsts = (first_explained, first_looked)
    for (task, pairs), first in zip(times.items(), firsts, strict=True):
        mine, theirs = np.array(pairs).T
        cells = [first, np.median(mine), np.percentile(mine, 99), mine.max(), np.median(theirs)]
        ratio = np.median(theirs) / np.median(mine)
        print(
            f"| {task} | {' | '.join(f'{c:.2f}' for c in cells)} | {ratio:.1f} | {differ[task]} |"
        )


if __name__ == "__main__":
    main()
