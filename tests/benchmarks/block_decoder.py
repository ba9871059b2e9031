"""The block decoder against beam search by `generate` within a dict trie.

One thread; CPU seconds, the median of runs in turn. The models have random weights. Prompts of a
batch are equally long, which spares `generate` the padding.
"""

import argparse
import gc
import itertools
import os
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.utils import logging

from talkplay_hf.recommend.decoding.beams import beam_search
from talkplay_hf.recommend.grammar import MusicVocabulary
from talkplay_hf.tokens.index import CatalogIndex

DEPTH = 5
SHAPES = {
    "256 x 6": {
        "text": 49_150,
        "hidden_size": 256,
        "intermediate_size": 768,
        "num_hidden_layers": 6,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
    },
    "SmolLM2-135M": {
        "text": 49_152,
        "hidden_size": 576,
        "intermediate_size": 1536,
        "num_hidden_layers": 30,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
    },
}
Beams = set[tuple[int, ...]]


def make_model(shape: str, k: int) -> tuple[LlamaForCausalLM, MusicVocabulary]:
    """A Llama of random weights, whose vocabulary is text, two marks and the codes."""
    sizes = dict(SHAPES[shape])
    text = sizes.pop("text")
    offsets = tuple(text + 2 + k * level for level in range(DEPTH + 1))
    config = LlamaConfig(
        vocab_size=offsets[-1],
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        initializer_range=0.04,
        bos_token_id=None,
        eos_token_id=None,
        **sizes,
    )
    torch.manual_seed(0)
    vocabulary = MusicVocabulary(text, text + 1, offsets, 1, (0,), offsets[-1])
    return LlamaForCausalLM(config).eval(), vocabulary


def make_codes(kind: str, tracks: int, k: int) -> np.ndarray:
    """Codes that are all as frequent, or of which few have most of the tracks."""
    drawn = np.random.default_rng(0).random((tracks, DEPTH))
    return (k * (drawn if kind == "random" else drawn**3)).astype(np.int64)


def make_trie(codes: np.ndarray, vocabulary: MusicVocabulary) -> dict[int, Any]:
    """A nested dict; what stands at the leaves is shared."""
    root: dict[int, Any] = {}
    leaf: dict[int, Any] = {}
    tokens = codes + np.asarray(vocabulary.offsets[:-1])
    for start in range(0, len(tokens), 100_000):
        for a, b, c, d, e in tokens[start : start + 100_000].tolist():
            below = root.setdefault(a, {}).setdefault(b, {}).setdefault(c, {}).setdefault(d, {})
            below[e] = leaf
    return root


def by_generate(
    model: LlamaForCausalLM, prompts: Sequence[Sequence[int]], trie: dict[int, Any], width: int
) -> list[Beams]:
    """Beam search by the library."""
    length = len(prompts[0])

    def next_tokens(_: int, ids: torch.Tensor) -> list[int]:
        node = trie
        for token in ids[length:].tolist():
            node = node.get(token, {})
        return list(node) or [0]

    ids = torch.tensor([list(prompt) for prompt in prompts])
    beams = {"length_penalty": 0.0, "early_stopping": True} if width > 1 else {}
    output = model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        prefix_allowed_tokens_fn=next_tokens,
        num_beams=width,
        num_return_sequences=width,
        do_sample=False,
        max_new_tokens=DEPTH,
        pad_token_id=0,
        **beams,
    )
    rows = output[:, length:].view(len(prompts), width, DEPTH).tolist()
    return [{tuple(beam) for beam in row} for row in rows]


def in_turn(
    ways: dict[str, Callable[[], Any]], repeats: int
) -> tuple[dict[str, float], dict[str, Any]]:
    """Median CPU seconds of each way, and what it gave."""
    spent: dict[str, list[float]] = {name: [] for name in ways}
    results = {}
    for _ in range(repeats):
        for name, way in ways.items():
            gc.collect()
            start = time.process_time()
            results[name] = way()
            spent[name].append(time.process_time() - start)
    return {name: statistics.median(times) for name, times in spent.items()}, results


def random_prompts(
    rng: np.random.Generator, start: int, *, count: int, length: int, turns: bool
) -> list[list[int]]:
    """Text that ends with `<start_of_music>`: chats, or a dialogue that grows."""
    prompts: list[list[int]] = []
    for _ in range(count):
        before = prompts[-1] if turns and prompts else []
        prompts.append([*before, *rng.integers(2, start, length - 1).tolist(), start])
    return prompts


def compare(
    model: LlamaForCausalLM,
    vocabulary: MusicVocabulary,
    catalog: tuple[CatalogIndex, dict[int, Any]],
    prompts: Sequence[Sequence[int]],
    *,
    turns: bool,
    width: int,
    repeats: int,
) -> str:
    """One line of the table, from the times onwards."""
    index, trie = catalog
    # what `generate` takes at once, and what has to be read at least
    calls = [[one] for one in prompts] if turns else [prompts]
    whole = torch.tensor(prompts[-1:] if turns else prompts)

    def generate() -> list[Beams]:
        return [beams for call in calls for beams in by_generate(model, call, trie, width)]

    def block() -> list[Beams]:
        offsets = np.asarray(vocabulary.offsets[:-1])
        found = beam_search(model, prompts, vocabulary, index, width=width)
        return [set(map(tuple, (ranked.codes + offsets).tolist())) for ranked in found]

    @torch.no_grad()
    def prefill() -> None:
        model(whole, use_cache=True, logits_to_keep=1)

    seconds, beams = in_turn({"hf": generate, "ours": block, "prefill": prefill}, repeats)
    hf, ours, bare = seconds.values()
    equal = sum(map(set.__eq__, beams["hf"], beams["ours"]))
    return (
        f"{hf:.2f} | {ours:.3f} | {hf / ours:.1f} | {bare:.3f} | {ours / bare:.2f} "
        f"| {equal} of {len(prompts)}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=["256 x 6"])
    parser.add_argument("--codes", nargs="+", choices=("random", "skewed"), default=["random"])
    parser.add_argument("--tracks", nargs="+", type=int, default=[10_000, 100_000])
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--beams", nargs="+", type=int, default=[1, 10, 50])
    parser.add_argument("--prompt", type=int, default=300, help="tokens of a prompt, or of a turn")
    parser.add_argument("--turns", type=int, help="rank so many turns of one dialogue instead")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("-k", type=int, default=1024, help="codes a modality")
    args = parser.parse_args()
    torch.set_num_threads(1)
    logging.set_verbosity_error()
    turns = bool(args.turns)
    what = f"{args.turns} turns" if turns else f"batch of {args.batch}"
    print(
        f"| {what}, model | codes | tracks | beams | `generate`, s | block decoder, s "
        "| times faster | bare prefill, s | prefills | beams equal |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|")
    for shape, kind, tracks in itertools.product(args.shapes, args.codes, args.tracks):
        model, vocabulary = make_model(shape, args.k)
        codes = make_codes(kind, tracks, args.k)
        catalog = CatalogIndex(codes, (args.k,) * DEPTH), make_trie(codes, vocabulary)
        count, length = args.turns or args.batch, args.prompt
        rng = np.random.default_rng(1)
        prompts = random_prompts(rng, vocabulary.start, count=count, length=length, turns=turns)
        for width in args.beams:
            row = compare(
                model,
                vocabulary,
                catalog,
                prompts,
                turns=turns,
                width=width,
                repeats=args.repeats,
            )
            print(f"| {shape} | {kind} | {tracks:,} | {width} | {row} |", flush=True)


if __name__ == "__main__":
    main()
