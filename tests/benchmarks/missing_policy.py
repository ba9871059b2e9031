"""Compare the policies for missing modalities by training a small model with each.

    python tests/benchmarks/missing_policy.py --data ../shared/data/corpus --seeds 0 1

Playlists of the corpus are sampled, split at random by groups, and simulated conversations of the
held-out ones are ranked. Everything but the policy is the same: tracks, split, conversations,
vectors, recipe, seed. Held-out labels are counted apart as warm (in a training playlist) or cold.
"""

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from turn_metrics import ModelRanker, turn_metrics

from talkplay_hf import Recommender
from talkplay_hf.build import build
from talkplay_hf.catalog.schema import Catalog
from talkplay_hf.catalog.splits import playlist_splits
from talkplay_hf.conversations.dataset import load_conversations
from talkplay_hf.evaluation.baselines.base import BaselineSources
from talkplay_hf.evaluation.baselines.registry import make_baseline
from talkplay_hf.evaluation.metrics.intervals import ClusterBootstrap
from talkplay_hf.evaluation.turns import collect_turns
from talkplay_hf.hub import files
from talkplay_hf.tokens.build import read_token_catalog

DEPTH = 100


def sample(data: Path, out: Path, playlists: int, seed: int) -> None:
    """Write the tables of some playlists of 10 to 200 tracks and of the tracks in them."""
    lists = pq.read_table(data / "playlists.parquet")
    tracks = pq.read_table(data / "tracks.parquet").drop_columns(["playlists"])
    known = set(tracks["track_id"].to_pylist())
    sizes = np.array([sum(t in known for t in row) for row in lists["tracks"].to_pylist()])
    usable = np.flatnonzero((sizes >= 10) & (sizes <= 200))
    chosen = np.sort(np.random.default_rng(seed).choice(usable, playlists, replace=False))
    lists = lists.take(pa.array(chosen))
    wanted = pc.unique(pc.list_flatten(lists["tracks"]))
    pq.write_table(tracks.filter(pc.is_in(tracks["track_id"], wanted)), out / "tracks.parquet")
    pq.write_table(lists, out / "playlists.parquet")


def run(policy: str, seed: int, folder: Path, args: argparse.Namespace) -> dict[str, object]:
    """Build with a policy and rank the held-out turns."""
    paths = build(
        folder / "tracks.parquet",
        folder / f"build-{seed}",
        playlists=folder / "playlists.parquet",
        missing=policy,
        codes=args.codes,
        conversations=args.conversations,
        overrides=[
            *("--max_steps", str(args.steps), "--threads", "1"),
            *("--scratch_hidden_size", str(args.width), "--scratch_layers", str(args.layers)),
            *("--per_device_train_batch_size", str(args.batch)),
            *("--learning_rate", str(args.learning_rate)),
        ],
        seed=seed,
        say=lambda line: print(line, flush=True),
    )
    catalog = Catalog.load(paths.catalog)
    splits = playlist_splits(catalog)
    warm = {
        track
        for playlist in catalog.iter_playlists()
        if splits[playlist.playlist_id] == "train"
        for track in playlist.track_ids
    }
    held_out = load_conversations(paths.conversations, ["test"])[: args.held_out]
    turns, _ = collect_turns(held_out, catalog)
    turns = [turn for turn in turns if not turn.negative]
    is_warm = np.array([catalog.track_ids[turn.labels[0]] in warm for turn in turns])
    _, codes = read_token_catalog(paths.model / files.TOKEN_CATALOG)
    trained = {catalog.row(track) for track in warm}
    seen = set(codes[sorted(trained), 0].tolist())
    reachable = np.array([int(codes[turn.labels[0], 0]) in seen for turn in turns])
    systems = {
        "model": ModelRanker(Recommender.from_pretrained(paths.model), catalog, DEPTH),
        "bm25": make_baseline("bm25", BaselineSources(catalog)),
    }
    interval = ClusterBootstrap([t.conversation for t in turns], resamples=1_000, seed=0)
    figures: dict[str, object] = {
        "policy": policy,
        "seed": seed,
        "turns": len(turns),
        "candidates": len(catalog),
        "cold_labels": float(1 - is_warm.mean()),
        "label_code_seen_in_training": float(reachable.mean()),
    }
    for name, system in systems.items():
        metrics = turn_metrics(system, turns, DEPTH)
        for metric in ("mrr", "hit@10", "hit@100"):
            values = metrics[metric]
            masks = {"all": np.ones_like(is_warm), "warm": is_warm, "cold": ~is_warm}
            for group, mask in masks.items():
                figure = interval.figure(values, mask)
                figures[f"{name} {metric} {group}"] = [figure.value, figure.low, figure.high]
    return figures


def main() -> None:
    """Run the comparison and print one line of JSON a run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of the corpus")
    parser.add_argument("--policies", nargs="+", default=["reserve", "impute"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--playlists", type=int, default=300)
    parser.add_argument("--conversations", type=int, default=8_000)
    parser.add_argument("--held-out", type=int, default=250, help="test conversations ranked")
    parser.add_argument("--codes", type=int, default=128)
    parser.add_argument("--steps", type=int, default=4_000)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--learning-rate", type=float, default=3e-3)
    parser.add_argument("--out", type=Path, help="append the lines to this file")
    args = parser.parse_args()
    for seed in args.seeds:
        with tempfile.TemporaryDirectory() as folder:
            sample(args.data, Path(folder), args.playlists, seed)
            for policy in args.policies:
                line = json.dumps(run(policy, seed, Path(folder), args))
                print(line, flush=True)
                if args.out:
                    with args.out.open("a") as handle:
                        handle.write(line + "\n")


if __name__ == "__main__":
    main()
