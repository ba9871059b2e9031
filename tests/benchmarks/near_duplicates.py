"""Time of finding near-duplicate playlists: all pairs at once, and a held-out part against all.

    python tests/benchmarks/near_duplicates.py --playlists 1000 10000 100000

Playlists are Zipf draws over three tracks a playlist, and one in fifty is a copy of another with a
third of its tracks replaced. Up to `--brute` playlists, the groups are compared with those that a
full product of the incidence matrix finds.
"""

import argparse
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import resource
import time

import numpy as np
from scipy.sparse.csgraph import connected_components

from talkplay_hf.catalog.membership import Membership
from talkplay_hf.catalog.near_duplicates import near_duplicate_groups, near_duplicate_pairs


def make_playlists(count: int, mean: int, exponent: float, seed: int = 0) -> Membership:
    """Playlists of Zipf tracks, with lengths like those of the Million Playlist Dataset."""
    rng = np.random.default_rng([seed, count])
    n_tracks = 3 * count
    weights = np.cumsum(1.0 / np.arange(1, n_tracks + 1) ** exponent)
    lengths = np.clip(rng.lognormal(np.log(mean) - 0.32, 0.8, count).astype(int), 5, 250)
    starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    draws = np.searchsorted(weights, rng.random(starts[-1]) * weights[-1]).astype(np.int32)
    lists = Membership(starts, np.minimum(draws, n_tracks - 1), n_tracks)
    for copy in rng.choice(count, count // 50, replace=False):
        length = lists.lengths[copy]
        like = lists[rng.integers(count)]
        kept = rng.permutation(like)[: max(1, 2 * length // 3)]
        lists.rows[starts[copy] : starts[copy] + len(kept)] = kept
    return lists


def by_full_product(lists: Membership) -> np.ndarray:
    """The groups by the overlap of all pairs at once."""
    incidence = lists.incidence()
    sizes = np.diff(incidence.indptr)
    shared = (incidence @ incidence.T).tocoo()
    shared.data = (2 * shared.data >= np.minimum(sizes[shared.row], sizes[shared.col])).astype(int)
    shared.eliminate_zeros()
    return np.asarray(connected_components(shared, directed=False)[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--playlists", type=int, nargs="+", default=[1000, 10_000])
    parser.add_argument("--mean", type=int, default=66, help="tracks a playlist")
    parser.add_argument("--exponent", type=float, default=0.9, help="of the Zipf law")
    parser.add_argument("--held-out", type=int, default=1000)
    parser.add_argument("--brute", type=int, default=10_000)
    args = parser.parse_args()
    print("playlists  groups s  full product s  grouped  largest  held-out s  peak MB")
    for count in args.playlists:
        lists = make_playlists(count, args.mean, args.exponent)
        held_out = lists.select(np.arange(min(args.held_out, count // 10)))
        start = time.perf_counter()
        near_duplicate_pairs(held_out, lists)
        held_out_s = time.perf_counter() - start
        start = time.perf_counter()
        groups = near_duplicate_groups(lists)
        groups_s = time.perf_counter() - start
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        brute = "-"
        if count <= args.brute:
            start = time.perf_counter()
            expected = by_full_product(lists)
            brute = f"{time.perf_counter() - start:.1f}"
            pairs = np.unique(np.stack([groups, expected], axis=1), axis=0)
            assert len(pairs) == groups.max() + 1 == expected.max() + 1, "the groups differ"
        sizes = np.bincount(groups)
        print(
            f"{count:9,}  {groups_s:8.1f}  {brute:>14}  {sizes[sizes > 1].sum():7,}  "
            f"{sizes.max():7,}  {held_out_s:10.1f}  {peak:7,.0f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
