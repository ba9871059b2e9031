"""One model, four ways to rank tracks, three constraints: ranking metrics and match rate.

    python tests/benchmarks/strategies.py MODEL CONVERSATIONS --catalog CATALOG --limit 150

Every way ranks the same turns of held-out conversations among all tracks that were not played. The
match rate is the share of distinct generated blocks behind the top 10 that are those of a track.
`"exact"` and `"beam"` are deterministic; the others are drawn from `--seed`. Intervals are 95 %
bootstraps over conversations; the last columns are paired differences to exact ranking.
"""

import argparse
import time
from dataclasses import asdict

import numpy as np
import torch
from tqdm.auto import tqdm

from talkplay_hf.catalog.schema import Catalog
from talkplay_hf.conversations.dataset import load_conversations
from talkplay_hf.evaluation.baselines.base import BaselineSources
from talkplay_hf.evaluation.baselines.registry import make_baseline
from talkplay_hf.evaluation.metrics.intervals import ClusterBootstrap, Figure
from talkplay_hf.evaluation.metrics.ranking import FloatArray, label_ranks, ranking_metrics
from talkplay_hf.evaluation.turns import collect_turns
from talkplay_hf.recommend.options import RankingOptions
from talkplay_hf.recommend.recommender import Recommender

WAYS = [
    ("exact", "catalog"),
    *(("beam", constraint) for constraint in ("catalog", "grammar", "none")),
    *(("sampling", constraint) for constraint in ("catalog", "grammar", "none")),
    *(("expansion", constraint) for constraint in ("catalog", "grammar", "none")),
]
METRICS = ("mrr", "hit@1", "hit@10", "hit@100")


def text(figure: Figure) -> str:
    return f"{figure.value:.4f} [{figure.low or 0:.4f}, {figure.high or 0:.4f}]"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("model")
    parser.add_argument("conversations")
    parser.add_argument("--catalog", required=True)
    parser.add_argument("--split", default="test")
    parser.add_argument("--limit", type=int, default=150, help="conversations")
    parser.add_argument("--k", type=int, default=100)
    parser.add_argument("--beam-width", type=int, default=256)
    parser.add_argument("--draws", type=int, default=100)
    parser.add_argument("--chunk", type=int, default=64, help="turns at a time")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(1)
    catalog = Catalog.load(args.catalog)
    conversations = load_conversations(args.conversations, [args.split])[: args.limit]
    turns = [turn for turn in collect_turns(conversations, catalog)[0] if not turn.negative]
    recommender = Recommender.from_pretrained(args.model, device="cpu")
    interval = ClusterBootstrap([turn.conversation for turn in turns], seed=args.seed)
    print(
        f"{len(turns)} turns of {interval.clusters} conversations, {len(catalog):,} tracks, "
        f"k {args.k}, seed {args.seed}"
    )
    depth = len(recommender.tokenizer.config.codes)
    found: dict[str, dict[str, FloatArray]] = {}
    rows: list[tuple[str, str, float]] = []
    for name in ("random", "bm25", "bm25-last-turn"):
        ranker = make_baseline(name, BaselineSources(catalog))
        parts = []
        for turn in turns:
            scores = ranker.scores([turn.history])
            scores[0, list(turn.played)] = -np.inf
            parts.append(ranking_metrics(label_ranks(scores, [turn.labels]), args.k))
        found[name] = {m: np.concatenate([part[m] for part in parts]) for m in METRICS}
        rows.append((name, "", float("nan")))
    for strategy, constraint in tqdm(WAYS, desc="ways", disable=None):
        options = asdict(
            RankingOptions(
                strategy, constraint, beam_width=max(args.k, args.beam_width), draws=args.draws
            )
        )
        parts, exact, whole = [], 0, 0
        started = time.process_time()
        for at in range(0, len(turns), args.chunk):
            chunk = turns[at : at + args.chunk]
            ranked = recommender.rank_batch(
                [list(turn.history) for turn in chunk],
                args.k,
                seeds=[args.seed + at + number for number in range(len(chunk))],
                **options,
            )
            for turn, tracks in zip(chunk, ranked, strict=True):
                scores = np.full((1, len(catalog)), -np.inf)
                for one in tracks:
                    scores[0, catalog.row(one.track.track_id)] = one.score
                parts.append(ranking_metrics(label_ranks(scores, [turn.labels]), args.k))
                blocks = {one.codes: len(one.matched) == depth for one in reversed(tracks[:10])}
                exact += sum(blocks.values())
                whole += len(blocks)
        name = f"{strategy}, {constraint}"
        found[name] = {m: np.concatenate([part[m] for part in parts]) for m in METRICS}
        seconds = (time.process_time() - started) / len(turns)
        rows.append((name, f"{exact / max(whole, 1):.3f}", seconds))
        print(name, {m: round(float(v.mean()), 4) for m, v in found[name].items()}, flush=True)
    print("\n| way | MRR | Hit@1 | Hit@10 | Hit@100 | match rate | CPU-s a turn |")
    print("|---|---|---|---|---|---|---|")
    for name, match, seconds in rows:
        figures = " | ".join(text(interval.figure(found[name][m])) for m in METRICS)
        print(f"| {name} | {figures} | {match} | {seconds:.2f} |")
    print("\n| way minus exact | MRR | Hit@1 | Hit@10 | Hit@100 |")
    print("|---|---|---|---|---|")
    for name, values in found.items():
        if name != "exact, catalog":
            best = found["exact, catalog"]
            figures = " | ".join(text(interval.difference(values[m], best[m])) for m in METRICS)
            print(f"| {name} | {figures} |")


if __name__ == "__main__":
    main()
