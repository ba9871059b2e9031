"""K-means beside scikit-learn and faiss: time, inertia and peak memory.

    python tests/benchmarks/kmeans.py
    python tests/benchmarks/kmeans.py --memory

Time: the same data, the same start, the same number of passes, one thread, the three in turn in
every round; the ratio of each to ours is taken within a round. Memory: a file of 400,000 vectors,
read block by block from the map against `KMeans` on the array in memory, each in a process of its
own.
"""

import argparse
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np

from talkplay_hf.tokens.kmeans import kmeans, nearest


def mixture(rows: int, dim: int, seed: int, groups: int = 4000) -> np.ndarray:
    """Vectors of many overlapping groups of unequal size."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(groups, dim)).astype(np.float32)
    weights = 1 / np.arange(1, groups + 1) ** 0.7
    group = rng.choice(groups, size=rows, p=weights / weights.sum())
    return centres[group] + rng.normal(scale=0.8, size=(rows, dim)).astype(np.float32)


def engines(x: np.ndarray, start: np.ndarray, passes: int) -> dict[str, Callable[[], np.ndarray]]:
    """Functions that return centroids after some Lloyd passes."""
    import faiss
    from sklearn.cluster import KMeans

    faiss.omp_set_num_threads(1)
    clusters, dim = start.shape

    def sklearn_lloyd() -> np.ndarray:
        model = KMeans(clusters, init=start, n_init=1, max_iter=passes, tol=0)
        return np.asarray(model.fit(x).cluster_centers_)

    def faiss_lloyd() -> np.ndarray:
        model = faiss.Kmeans(
            dim, clusters, niter=passes, max_points_per_centroid=len(x), min_points_per_centroid=1
        )
        model.train(x, init_centroids=start)
        return np.asarray(model.centroids)

    def ours() -> np.ndarray:
        return kmeans(x, clusters, init=start, max_iter=passes, tol=0).centroids

    return {"ours": ours, "scikit-learn": sklearn_lloyd, "faiss": faiss_lloyd}


def compare_time(rows: int, dim: int, clusters: int, passes: int, rounds: int) -> None:
    """Print the table of one size."""
    x = mixture(rows, dim, seed=0)
    start = x[np.random.default_rng(1).choice(rows, clusters, replace=False)].copy()
    total = float(((x - x.mean(axis=0)) ** 2).sum(dtype=np.float64))
    run = engines(x, start, passes)
    seconds: dict[str, list[float]] = {name: [] for name in run}
    inertia: dict[str, float] = {}
    for _ in range(rounds):
        for name, function in run.items():
            began = time.perf_counter()
            centroids = function()
            seconds[name].append(time.perf_counter() - began)
            inertia[name] = float(nearest(x, centroids)[1].sum(dtype=np.float64))
    print(f"\n{rows:,} x {dim}, K = {clusters}, {passes} passes, {rounds} rounds, one thread")
    print(f"{'':14}{'seconds':>9}{'ours / it':>11}{'inertia / ours':>16}{'explained':>11}")
    for name, times in seconds.items():
        ratio = np.median(np.array(seconds["ours"]) / np.array(times))
        print(
            f"{name:14}{np.median(times):9.2f}{ratio:11.2f}"
            f"{inertia[name] / inertia['ours']:16.5f}{1 - inertia[name] / total:11.4f}"
        )


def resident(field: str) -> float:
    """A figure of this process from /proc, in MB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) / 1024
    raise KeyError(field)


def watch_memory(path: str, how: str, clusters: int, passes: int) -> None:
    """Cluster a file in one of two ways and print the peak memory of it."""
    from sklearn.cluster import KMeans

    peak, done = [0.0], threading.Event()

    def sample() -> None:
        while not done.wait(0.02):
            peak[0] = max(peak[0], resident("RssAnon"))

    before = resident("RssAnon")
    mapped = np.load(path, mmap_mode="r")
    threading.Thread(target=sample, daemon=True).start()
    began = time.perf_counter()
    start = np.array(mapped[:clusters])
    if how == "chunked":
        kmeans(mapped, clusters, init=start, max_iter=passes, tol=0)
    else:
        KMeans(clusters, init=start, n_init=1, max_iter=passes, tol=0).fit(np.array(mapped))
    took = time.perf_counter() - began
    done.set()
    print(f"{how:12}{peak[0] - before:12.0f}{resident('VmHWM'):18.0f}{took:10.1f}")


def compare_memory(rows: int, dim: int, clusters: int, passes: int) -> None:
    """Print the peak memory of both ways."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "vectors.npy"
        out = np.lib.format.open_memmap(path, "w+", np.float32, (rows, dim))
        for at in range(0, rows, 20_000):
            out[at : at + 20_000] = mixture(min(20_000, rows - at), dim, seed=at)
        del out
        size = path.stat().st_size / 2**20
        print(f"\n{rows:,} x {dim} ({size:.0f} MB), K = {clusters}, {passes} passes")
        print(f"{'':12}{'own MB, peak':>12}{'with pages, MB':>18}{'seconds':>10}", flush=True)
        for how in ("chunked", "in memory"):
            child = [sys.executable, __file__, "--watch", str(path), how]
            subprocess.run([*child, "--clusters", str(clusters)], check=True)
    print("own: memory of the process without the pages of the mapped file, which can be dropped")


def main() -> None:
    # a few passes are not meant to converge
    warnings.filterwarnings("ignore", category=UserWarning)
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clusters", type=int, default=1024)
    parser.add_argument("--passes", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--memory", action="store_true", help="measure memory, not time")
    parser.add_argument("--watch", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.watch:
        watch_memory(*args.watch, args.clusters, passes=2)
    elif args.memory:
        compare_memory(400_000, 512, args.clusters, passes=2)
    else:
        for rows, dim in ((100_000, 128), (20_000, 1024)):
            compare_time(rows, dim, args.clusters, args.passes, args.rounds)


if __name__ == "__main__":
    main()
