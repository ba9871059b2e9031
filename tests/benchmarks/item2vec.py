"""Item2vec against PPMI + SVD: time, and neighbours that held-out playlists confirm.

    python tests/benchmarks/item2vec.py CATALOG

For every validation and test playlist, up to `--seeds` of its tracks ask for their 100 nearest
tracks; recall is the share of the playlist's other tracks among them. Only tracks of training
playlists count, so that every encoder can reach all of them. Intervals are bootstraps over
playlists.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np

from talkplay_hf.catalog.membership import membership
from talkplay_hf.catalog.schema import Catalog
from talkplay_hf.catalog.splits import cold_tracks, split_labels
from talkplay_hf.features.cooccurrence import PpmiSvd, training_playlists
from talkplay_hf.features.encoders import Encoder
from talkplay_hf.features.item2vec import Item2Vec
from talkplay_hf.features.shards import Processes, ShardedRun
from talkplay_hf.features.store import ModalityVectors

NEIGHBOURS = 100


def encoded(encoder: Encoder, catalog: Catalog, seed: int) -> ModalityVectors:
    with tempfile.TemporaryDirectory() as work:
        run = ShardedRun(
            "playlist", catalog.track_ids, Path(work), seed, ~cold_tracks(catalog), Processes("cpu")
        )
        return encoder.encode(catalog, "playlist", run)


def recalls(
    vectors: np.ndarray | None, popular: np.ndarray, reachable: np.ndarray,
    queries: list[tuple[np.ndarray, np.ndarray]],
) -> np.ndarray:  # fmt: skip
    """Mean recall of each playlist; by popularity where there are no vectors."""
    found = []
    for seeds, tracks in queries:
        if vectors is None:
            top = np.stack([popular[popular != row][:NEIGHBOURS] for row in seeds])
        else:
            scores = vectors[seeds] @ vectors.T
            scores[:, ~reachable] = -np.inf
            scores[np.arange(len(seeds)), seeds] = -np.inf
            top = np.argpartition(-scores, NEIGHBOURS, axis=1)[:, :NEIGHBOURS]
        hits = np.isin(top, tracks).sum(axis=1)
        found.append((hits / min(NEIGHBOURS, len(tracks) - 1)).mean())
    return np.array(found)


def interval(values: np.ndarray, rng: np.random.Generator) -> str:
    means = values[rng.integers(0, len(values), (2000, len(values)))].mean(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return f"{values.mean():.4f} [{low:.4f}, {high:.4f}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("catalog")
    parser.add_argument("--epochs", type=int, nargs="+", default=[10])
    parser.add_argument("--windows", nargs="+", default=["5", "whole"])
    parser.add_argument("--samples", type=float, nargs="+", default=[1e-3])
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--show", type=int, default=10, help="tracks printed with neighbours")
    args = parser.parse_args()
    catalog = Catalog.load(args.catalog)
    rng = np.random.default_rng(args.seed)
    train = training_playlists(catalog)
    train = train.select(train.lengths > 1)
    reachable = train.tracks()
    counts = np.bincount(train.rows, minlength=len(catalog))
    popular = np.argsort(-counts, kind="stable")
    held_out = membership(catalog).select(split_labels(catalog) != "train")
    queries = []
    for number in range(len(held_out)):
        tracks = np.unique(held_out[number])
        tracks = tracks[reachable[tracks]]
        if len(tracks) > 1:
            queries.append((rng.permutation(tracks)[: args.seeds], tracks))
    print(
        f"{len(train)} training playlists of {train.lengths.mean():.1f} tracks, "
        f"{reachable.sum():,} tracks; {len(queries)} held-out playlists"
    )
    base = recalls(None, popular, reachable, queries)
    print(f"{'popularity':40} recall@{NEIGHBOURS} {interval(base, rng)}")
    encoders: dict[str, Encoder] = {"ppmi-svd": PpmiSvd()}
    for window in args.windows:
        for epochs in args.epochs:
            for sample in args.samples:
                size = window if window == "whole" else int(window)
                name = f"item2vec window {window}, {epochs} epochs, sample {sample:g}"
                encoders[name] = Item2Vec(window=size, epochs=epochs, sample=sample)
    first, shown = None, None
    for name, encoder in encoders.items():
        start = time.process_time()
        made = encoded(encoder, catalog, args.seed)
        seconds = time.process_time() - start
        if isinstance(encoder, Item2Vec):
            pace, shown = f"{seconds / encoder.epochs:6.2f} CPU-s an epoch", made
        else:
            pace = f"{seconds:6.2f} CPU-s in all"
        found = recalls(made.vectors, popular, reachable, queries)
        first = found if first is None else first
        print(
            f"{name:40} recall@{NEIGHBOURS} {interval(found, rng)}  "
            f"minus ppmi-svd {interval(found - first, rng)}  {pace}",
            flush=True,
        )
    if shown is None or not args.show:
        return
    titles, artists = catalog.column("title"), catalog.column("artist")
    names = [f"{t} – {a}" for t, a in zip(titles, artists, strict=True)]
    frequent = popular[: max(args.show, int(reachable.sum()) // 4)]
    for row in rng.choice(frequent, args.show, replace=False):
        scores = shown.vectors @ shown.vectors[row]
        scores[row], scores[~reachable] = -np.inf, -np.inf
        print(f"\n{names[row]}")
        for other in np.argsort(-scores)[:5]:
            print(f"    {scores[other]:.2f}  {names[other]}")


if __name__ == "__main__":
    main()
