"""How many dialogues a second the baselines rank against a whole catalogue.

python tests/benchmarks/baselines.py --queries 13000 --tracks 40000

Catalogue and requests are made up: words are drawn by Zipf's law, as in text. BM25 is compared
with a plain loop over the postings of each query, which is run on the first `--plain` queries; both
must give the same scores. The others are run on the first `--others` queries. One thread, seconds
of its processor.
"""

import argparse
import math
import os
import time
from collections import Counter, defaultdict
from itertools import islice

os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np

from talkplay_hf.catalog.schema import Catalog, Message, Playlist, Track
from talkplay_hf.evaluation.baselines.base import BaselineSources, History, Ranker
from talkplay_hf.evaluation.baselines.registry import make_baseline
from talkplay_hf.evaluation.baselines.texts import chat_text, track_documents, words

BATCH = 32
OTHERS = ("popularity", "last-track", "filter", "hybrid")


def made_up(tracks: int, queries: int, seed: int) -> tuple[Catalog, list[History]]:
    """A catalogue with playlists, and dialogues of a request after one played track."""
    draw = np.random.default_rng(seed)
    chance = 1 / np.arange(1, 30_001) ** 0.9
    chance /= chance.sum()
    vocabulary = np.array([f"w{n}x" for n in range(len(chance))])

    drawn = iter(vocabulary[draw.choice(len(chance), size=20 * tracks + 16 * queries, p=chance)])

    def text(length: int) -> str:
        return " ".join(islice(drawn, length))

    made = [
        Track(f"t{n}", text(3), text(2), album=text(3), tags=tuple(text(12).split()))
        for n in range(tracks)
    ]
    playlists = [
        Playlist(f"p{n}", tuple(f"t{row}" for row in draw.integers(tracks, size=50)))
        for n in range(tracks // 10)
    ]
    histories: list[History] = [
        (
            Message("user", text(8)),
            Message("music", track_id=f"t{draw.integers(tracks)}"),
            Message("user", text(8)),
        )
        for _ in range(queries)
    ]
    return Catalog.from_tracks(made, playlists), histories


def plain_bm25(catalog: Catalog, histories: list[History]) -> tuple[np.ndarray, float]:
    """BM25 (Lucene's form, k1 1.5, b 0.75) by a plain loop, and the seconds of the queries."""
    documents = [words(text) for text in track_documents(catalog)]
    mean = sum(map(len, documents)) / len(documents)
    postings: dict[str, list[tuple[int, float]]] = defaultdict(list)
    for row, document in enumerate(documents):
        norm = 1.5 * (1 - 0.75 + 0.75 * len(document) / mean)
        for word, count in Counter(document).items():
            postings[word].append((row, count / (count + norm)))
    start = time.process_time()
    scores = np.zeros((len(histories), len(documents)))
    for line, history in zip(scores, histories, strict=True):
        for word in words(chat_text(history, last_turn=True)):
            found = postings.get(word, [])
            idf = math.log(1 + (len(documents) - len(found) + 0.5) / (len(found) + 0.5))
            for row, part in found:
                line[row] += idf * part
    return scores, time.process_time() - start


def seconds(ranker: Ranker, histories: list[History]) -> float:
    start = time.process_time()
    for first in range(0, len(histories), BATCH):
        ranker.scores(histories[first : first + BATCH])
    return time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tracks", type=int, default=40_000)
    parser.add_argument("--queries", type=int, default=13_000)
    parser.add_argument("--plain", type=int, default=200, help="queries of the plain loop")
    parser.add_argument("--others", type=int, default=640, help="queries of the other baselines")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    catalog, histories = made_up(args.tracks, args.queries, args.seed)
    sources = BaselineSources(catalog)
    some, few = histories[: args.others], histories[: args.plain]
    bm25 = make_baseline("bm25-last-turn", sources)
    bm25.scores(histories[:1])  # compiled with the first query
    wanted, slow = plain_bm25(catalog, few)
    got = np.concatenate([bm25.scores(few[at : at + BATCH]) for at in range(0, len(few), BATCH)])
    np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-4)
    fast = seconds(bm25, few)
    print(f"{args.tracks} tracks, queries/s on one thread")
    print(f"{'bm25 by a plain loop':<24}{len(few) / slow:10.0f}")
    ratio = slow / fast
    print(f"{'bm25-last-turn':<24}{len(few) / fast:10.0f}   {ratio:.1f} times the loop")
    whole = seconds(bm25, histories)
    print(f"{'the same, all queries':<24}{len(histories) / whole:10.0f}   {whole:.0f} s")
    for name in OTHERS:
        ranker = make_baseline(name, sources)
        print(f"{name:<24}{len(some) / seconds(ranker, some):10.0f}")


if __name__ == "__main__":
    main()
