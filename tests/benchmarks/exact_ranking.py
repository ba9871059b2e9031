"""Exact ranking against constrained beams and against scoring every track.

    python tests/benchmarks/exact_ranking.py MODEL --conversations CONVERSATIONS --chats 10

The chats are turns of test conversations, one a conversation. Catalogues are that of the model, and
tuples of its tracks of which one or two codes were replaced by those of other tracks. The naive way
reads the prompt once and then scores tracks in batches, each with a copy of the cache; it is timed
on a sample of tracks and multiplied. Temperatures divide the logits: below 1 the model is more sure
of itself than it was trained to be, above 1 flatter. Ways take turns chat by chat; seconds are of
the processor, in the median over chats.
"""

import argparse
import copy
import statistics
import time
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModelForCausalLM, DynamicCache, PreTrainedModel

from talkplay_hf.conversations.dataset import load_conversations
from talkplay_hf.recommend.decoding.beams import beam_search
from talkplay_hf.recommend.decoding.exact import rank_exactly
from talkplay_hf.recommend.grammar import MusicVocabulary
from talkplay_hf.tokens.build import read_token_catalog
from talkplay_hf.tokens.index import CatalogIndex
from talkplay_hf.tokens.tokenizer import TalkPlayTokenizer


def make_prompts(tokenizer: TalkPlayTokenizer, folder: Path, count: int) -> list[list[int]]:
    """Ids of chats up to where the codes of a track come next."""
    catalog, codes = read_token_catalog(tokenizer.side_file("token_catalog_file"))
    rng = np.random.default_rng(0)
    prompts: list[list[int]] = []
    for conversation in rng.permutation(np.array(load_conversations(folder, ["test"]), object)):
        messages = conversation.messages
        music = [i for i, m in enumerate(messages) if m.role == "music"]
        asked = [i for i in music if i and messages[i - 1].role == "user"]
        known = all(messages[i].track_id in catalog for i in music)
        if asked and known and len(prompts) < count:
            history = messages[: int(rng.choice(asked))]
            played = [codes[catalog.row(m.track_id or "")] for m in history if m.role == "music"]
            ids = tokenizer.chat_ids(history, [tuple(map(int, row)) for row in played])
            prompts.append([*ids, tokenizer.start_of_music_id])
    return prompts


def grow(codes: np.ndarray, count: int) -> np.ndarray:
    """Tuples of tracks, with one or (half of them) two codes replaced by those of other tracks."""
    rng = np.random.default_rng(0)
    grown = codes[rng.integers(len(codes), size=count)]
    for share in (1.0, 0.5):
        rows = np.flatnonzero(rng.random(count) < share)
        places = rng.integers(codes.shape[1], size=len(rows))
        grown[rows, places] = codes[rng.integers(len(codes), size=len(rows)), places]
    return grown


@torch.inference_mode()
def score_naively(
    model: PreTrainedModel, prompt: list[int], tokens: torch.Tensor, batch: int
) -> np.ndarray:
    """Log-probabilities of token tuples after a prompt, each in a sequence of its own."""
    prefill = DynamicCache(config=model.config)
    logits = model(torch.tensor([prompt]), past_key_values=prefill, logits_to_keep=1).logits
    first = logits[0, -1].log_softmax(-1)
    scores = []
    for some in torch.split(tokens, batch):
        cache = copy.deepcopy(prefill)
        cache.batch_repeat_interleave(len(some))
        rest = model(some[:, :-1], past_key_values=cache).logits.log_softmax(-1)
        later = rest.gather(2, some[:, 1:, None])[..., 0].double().sum(1)
        scores.append(first[some[:, 0]].double() + later)
    return torch.cat(scores).numpy()


def set_temperature(model: PreTrainedModel, weight: torch.Tensor, temperature: float) -> None:
    """Divide the logits by a temperature, at the last norm."""
    model.get_decoder().norm.weight.data = weight / temperature


def compare(
    model: PreTrainedModel,
    prompts: list[list[int]],
    vocabulary: MusicVocabulary,
    index: CatalogIndex,
    codes: np.ndarray,
    args: argparse.Namespace,
) -> str:
    """One row of the table for a model and a catalogue."""
    sample = np.random.default_rng(0).choice(len(codes), args.sample, replace=False)
    tokens = torch.from_numpy(codes[sample]) + torch.tensor(vocabulary.offsets[:-1])
    # the prefixes that can be expanded: the empty one, and all but the full tuples
    nodes = 1 + sum(len(np.unique(codes[:, :m], axis=0)) for m in range(1, codes.shape[1]))
    seconds: dict[str, list[float]] = {"exact": [], "beam": [], "naive": []}
    shares, recalls, expanded = [], [], []
    for prompt in prompts:
        clock = time.process_time
        started = clock()
        exact = rank_exactly(model, [prompt], vocabulary, index, k=args.k, rows=args.rows)[0]
        seconds["exact"].append(clock() - started)
        started = clock()
        beams = beam_search(model, [prompt], vocabulary, index, width=args.width)[0]
        seconds["beam"].append(clock() - started)
        started = clock()
        scores = score_naively(model, prompt, tokens, args.batch)
        seconds["naive"].append((clock() - started) * len(codes) / args.sample)
        # the sample has no track that is better than the list and not in it
        better = codes[sample[scores > exact.scores[-1] + 1e-4]]
        best = set(map(tuple, exact.codes.tolist()))
        assert set(map(tuple, better.tolist())) <= best, "the list is not exact"
        recalls.append(len(best & set(map(tuple, beams.codes.tolist()))) / len(best))
        expanded.append(exact.expanded)
        shares.append(exact.expanded / nodes)
    median = {way: statistics.median(values) for way, values in seconds.items()}
    ratios = {
        way: statistics.median(
            other / own for other, own in zip(seconds[way], seconds["exact"], strict=True)
        )
        for way in ("beam", "naive")
    }
    return (
        f"{median['exact']:.2f} | {median['beam']:.2f} | {median['naive']:,.0f} | "
        f"{1 / ratios['beam']:.0f} | {ratios['naive']:,.0f} | {statistics.median(expanded):,.0f} | "
        f"{statistics.median(shares):.1%} ({min(shares):.1%} to {max(shares):.1%}) | "
        f"{statistics.mean(recalls):.2f}"
    )


def main() -> None:
    """Compare, and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("model", help="a model folder")
    parser.add_argument("--conversations", type=Path, required=True)
    parser.add_argument("--chats", type=int, default=10)
    parser.add_argument("--k", type=int, default=100)
    parser.add_argument("--width", type=int, default=100, help="width of the beam")
    parser.add_argument("--rows", type=int, default=256, help="prefixes expanded at a time")
    parser.add_argument("--sizes", type=int, nargs="*", default=[1_000_000])
    parser.add_argument("--temperatures", type=float, nargs="+", default=[1.0, 0.5, 2.0])
    parser.add_argument("--sample", type=int, default=1_024, help="tracks scored naively")
    parser.add_argument("--batch", type=int, default=64, help="tracks scored naively at a time")
    args = parser.parse_args()
    torch.set_num_threads(1)
    tokenizer = TalkPlayTokenizer.from_pretrained(args.model)
    model = AutoModelForCausalLM.from_pretrained(args.model).eval()
    vocabulary = MusicVocabulary.of(tokenizer)
    prompts = make_prompts(tokenizer, args.conversations, args.chats)
    _, own = read_token_catalog(tokenizer.side_file("token_catalog_file"))
    own = np.asarray(own, dtype=np.int64)
    catalogues = [own, *(grow(own, size) for size in args.sizes)]
    lengths = [len(prompt) for prompt in prompts]
    print(
        f"{len(prompts)} chats of {min(lengths)} to {max(lengths)} tokens, {args.k} tracks, beams "
        f"of {args.width}\n"
    )
    print(
        "| tracks | temperature | exact, s | beam, s | every track, s (extrapolated) "
        "| exact / beam | every track / exact | expanded | of the trie | recall of the beam |"
    )
    print("|---" * 10 + "|")
    weight = model.get_decoder().norm.weight.data.clone()
    for codes in catalogues:
        index = CatalogIndex(codes, tokenizer.config.codes)
        for temperature in args.temperatures:
            set_temperature(model, weight, temperature)
            row = compare(model, prompts, vocabulary, index, codes, args)
            print(f"| {len(codes):,} | {temperature:g} | {row} |", flush=True)


if __name__ == "__main__":
    main()
