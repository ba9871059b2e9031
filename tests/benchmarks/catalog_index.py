"""The catalogue index: bytes a track, time to build against a dict trie, time to map from disk.

    python tests/benchmarks/catalog_index.py --tracks 10000 100000 1000000 1700000

Codes of five codebooks at random, evenly or by Zipf (exponent 1.3, which gives long prefixes that
many tracks share). Both are built from the same array in turn; the trie is nested dicts with code
keys. The files were just written, so they are in the page cache.
"""

import argparse
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import gc
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from talkplay_hf.tokens.index import CatalogIndex

DEPTH = 5


def draw_codes(tracks: int, size: int, kind: str) -> np.ndarray:
    """Codes at random, int32 `[tracks, 5]`."""
    rng = np.random.default_rng(0)
    if kind == "even":
        return rng.integers(0, size, (tracks, DEPTH), dtype=np.int32)
    return np.minimum(rng.zipf(1.3, (tracks, DEPTH)) - 1, size - 1).astype(np.int32)


def dict_trie(codes: np.ndarray) -> dict[int, Any]:
    """Nested dicts by code."""
    root: dict[int, Any] = {}
    for row in codes.tolist():
        node = root
        for code in row:
            node = node.setdefault(code, {})
    return root


def resident() -> int:
    """Memory of this process, in bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def timed(call: Callable[[], Any]) -> tuple[float, Any]:
    # the collector would walk millions of dicts again and again, which is no fault of the trie
    gc.disable()
    began = time.perf_counter()
    result = call()
    taken = time.perf_counter() - began
    gc.enable()
    return taken, result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--tracks", type=int, nargs="+", default=[10_000, 100_000, 1_000_000, 1_700_000]
    )
    parser.add_argument("--codes", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    torch.set_num_threads(1)
    print(
        "| tracks | codes | bytes a track | build | dict trie: build | ratio | bytes a track |"
        " save | map | map and 64 steps | `fits` |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    for kind in ("even", "zipf"):
        for tracks in args.tracks:
            codes = draw_codes(tracks, args.codes, kind)
            ours, theirs, memory = [], [], 0
            for _ in range(args.rounds):
                seconds, index = timed(lambda c=codes: CatalogIndex(c, [args.codes] * DEPTH))
                ours.append(seconds)
                gc.collect()
                before = resident()
                seconds, trie = timed(lambda c=codes: dict_trie(c))
                theirs.append(seconds)
                memory = max(memory, resident() - before)
                del trie
                gc.collect()
            with tempfile.TemporaryDirectory() as where:
                path = Path(where) / "index.safetensors"
                saved, _ = timed(lambda i=index, p=path: i.save(p))
                prefixes = torch.from_numpy(codes[:64, :2]).long()
                loads = [timed(lambda p=path: CatalogIndex.load(p))[0] for _ in range(7)]
                steps = [
                    timed(lambda p=path, q=prefixes: CatalogIndex.load(p).mask(q))[0]
                    for _ in range(7)
                ]
                fit, _ = timed(lambda p=path, c=codes: CatalogIndex.load(p).fits(c))
            mine, rival = statistics.median(ours), statistics.median(theirs)
            print(
                f"| {tracks:,} | {kind} | {index.nbytes / tracks:.1f} | {mine:.3f} s"
                f" | {rival:.2f} s | {rival / mine:.0f} | {memory / tracks:,.0f}"
                f" | {1e3 * saved:.0f} ms"
                f" | {1e3 * statistics.median(loads):.1f} ms"
                f" | {1e3 * statistics.median(steps):.1f} ms | {1e3 * fit:.0f} ms |",
                flush=True,
            )


if __name__ == "__main__":
    main()
