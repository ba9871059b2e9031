"""A step of the logits processors against a dict trie and against one fill of the scores.

    python tests/benchmarks/logits_processor.py --tracks 1000000 --batches 1 64 --beams 1 10 50

Five codebooks of 1,024 codes drawn evenly, prompts of 200 tokens, every row at the prefix of a
random track, so that all beams differ. A time is the processor time of one thread, the mean over
the five code steps of a block and the median of the rounds, in which all rivals take turns. The
trie is nested dicts behind `PrefixConstrainedLogitsProcessor`, as
`generate(prefix_allowed_tokens_fn=...)` makes it. The floor is one
`scores.masked_fill_(mask, -inf)` of all scores.
"""

import argparse
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import gc
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from transformers import PrefixConstrainedLogitsProcessor

from talkplay_hf.recommend.grammar import (
    CatalogLogitsProcessor,
    MusicGrammarLogitsProcessor,
    MusicVocabulary,
)
from talkplay_hf.tokens.allowed import Allowed
from talkplay_hf.tokens.index import CatalogIndex

DEPTH, CODES, PROMPT, CONTROL = 5, 1024, 200, 256
FLOOR, TRIE = "masked_fill_", "dict trie"
Step = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def make_vocabulary(rows: int) -> MusicVocabulary:
    """A vocabulary of so many tokens with the music tokens last, as in a grown Llama 3."""
    first = rows - DEPTH * CODES
    return MusicVocabulary(
        start=first - 2,
        end=first - 1,
        offsets=tuple(first + CODES * m for m in range(DEPTH + 1)),
        end_of_turn=first - 3,
        control=tuple(range(first - 3 - CONTROL, first - 3)),
        size=rows,
    )


def dict_trie(codes: np.ndarray, offsets: np.ndarray) -> dict[int, Any]:
    """Nested dicts by token."""
    # the collector would walk millions of dicts again and again
    gc.disable()
    root: dict[int, Any] = {}
    for row in (codes + offsets).tolist():
        node = root
        for token in row:
            node = node.setdefault(token, {})
    gc.freeze()
    gc.enable()
    return root


def trie_step(trie: dict[int, Any], words: MusicVocabulary, beams: int) -> Step:
    """The processor that `generate` makes of `prefix_allowed_tokens_fn`."""

    def allowed(_: int, ids: torch.Tensor) -> list[int]:
        recent = ids[-(DEPTH + 1) :].tolist()
        node = trie
        for token in recent[len(recent) - recent[::-1].index(words.start) :]:
            node = node[token]
        return list(node)

    return PrefixConstrainedLogitsProcessor(allowed, beams)


def make_steps(
    words: MusicVocabulary, index: CatalogIndex, trie: dict[int, Any], batch: int, beams: int
) -> dict[str, Step]:
    rng = np.random.default_rng(1)
    unplayed = [np.ones(index.tracks, dtype=bool) for _ in range(batch)]
    for chat in unplayed:
        chat[rng.integers(0, index.tracks, 6)] = False
    played = Allowed.of(index, unplayed)
    half = Allowed.of(index, [rng.random(index.tracks) < 0.5] * batch)
    mask = torch.rand(batch * beams, words.size) > CODES / words.size
    floor: Step = lambda _, scores: scores.masked_fill_(mask, -torch.inf)  # noqa: E731
    return {
        FLOOR: floor,
        "grammar": MusicGrammarLogitsProcessor(words, in_place=True),
        "catalogue": CatalogLogitsProcessor(words, index, in_place=True),
        "6 excluded": CatalogLogitsProcessor(words, index, allowed=played, in_place=True),
        "half allowed": CatalogLogitsProcessor(words, index, allowed=half, in_place=True),
        "grammar, copy": MusicGrammarLogitsProcessor(words),
        "catalogue, copy": CatalogLogitsProcessor(words, index),
        TRIE: trie_step(trie, words, beams),
    }


def measure(
    steps: dict[str, Step], inputs: list[torch.Tensor], scores: torch.Tensor, budget: float
) -> dict[str, float]:
    """Seconds a step by rival; each rival is repeated as the budget of seconds a round allows."""
    times: dict[str, list[float]] = {name: [] for name in steps}
    for round_number in range(4):
        for name, step in steps.items():
            repeats = 1
            if times[name]:
                repeats = max(1, min(50, int(budget / 5 / max(times[name][-1], 1e-6))))
            if name == TRIE and round_number > 1 and times[name][-1] > 1.0:
                continue
            began = time.thread_time()
            for _ in range(repeats):
                for ids in inputs:
                    step(ids, scores)
            times[name].append((time.thread_time() - began) / repeats / len(inputs))
    # the first round warms up
    return {name: statistics.median(taken[1:]) for name, taken in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--tracks", type=int, nargs="+", default=[10_000, 100_000, 1_000_000, 1_700_000]
    )
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 64])
    parser.add_argument("--beams", type=int, nargs="+", default=[1, 10, 50])
    parser.add_argument("--vocabularies", type=int, nargs="+", default=[54_000, 133_000])
    parser.add_argument("--budget", type=float, default=1.0, help="seconds a rival and round")
    args = parser.parse_args()
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    for tracks in args.tracks:
        codes = rng.integers(0, CODES, (tracks, DEPTH), dtype=np.int32)
        index = CatalogIndex(codes, [CODES] * DEPTH)
        for size in args.vocabularies:
            words = make_vocabulary(size)
            offsets = np.asarray(words.offsets[:-1])
            trie = dict_trie(codes, offsets)
            for batch in args.batches:
                for beams in args.beams:
                    rows = batch * beams
                    chosen = torch.from_numpy(codes[rng.integers(0, tracks, rows)] + offsets)
                    block = torch.cat([torch.full((rows, 1), words.start), chosen], dim=1)
                    prompt = torch.randint(0, 1000, (rows, PROMPT))
                    inputs = [
                        torch.cat([prompt, block[:, : level + 1]], dim=1) for level in range(DEPTH)
                    ]
                    steps = make_steps(words, index, trie, batch, beams)
                    taken = measure(steps, inputs, torch.randn(rows, size), args.budget)
                    if (tracks, size, batch, beams) == (
                        args.tracks[0],
                        args.vocabularies[0],
                        args.batches[0],
                        args.beams[0],
                    ):
                        print(
                            f"| tracks | V | rows | {FLOOR}, µs | "
                            + " | ".join([f"{name} / floor" for name in list(steps)[1:]]),
                            end=" |",
                        )
                        print(" trie / catalogue | trie / catalogue, copy |")
                        print("|---" * (len(steps) + 5) + "|")
                    floor = taken[FLOOR]
                    ratios = " | ".join(f"{taken[name] / floor:.2f}" for name in list(steps)[1:])
                    print(
                        f"| {tracks:,} | {size:,} | {batch} × {beams} | {1e6 * floor:,.0f} |"
                        f" {ratios} | {taken[TRIE] / taken['catalogue']:.0f} |"
                        f" {taken[TRIE] / taken['catalogue, copy']:.0f} |",
                        flush=True,
                    )
                    del steps
            del trie


if __name__ == "__main__":
    main()
