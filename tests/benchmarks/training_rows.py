"""Speed of making training rows, and of reading them in random order.

Simulates conversations, then times their encoding one by one through the chat template, in
batches as the package does, and drawing continuations; writes a set of `--rows` rows and reads it
in random order as a data loader does. Compare CPU seconds where others use the machine too.

    python tests/benchmarks/training_rows.py --conversations 1000 --rows 200000
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np

from talkplay_hf.catalog.schema import Catalog, Conversation
from talkplay_hf.catalog.world import make_world
from talkplay_hf.conversations.dataset import save_conversations
from talkplay_hf.conversations.simulation.simulator import simulate
from talkplay_hf.features.embed import embed
from talkplay_hf.tokenizing import make_tokenizer
from talkplay_hf.tokens.build import read_token_catalog
from talkplay_hf.tokens.config import SCRATCH
from talkplay_hf.tokens.tokenizer import TalkPlayTokenizer, template_rows
from talkplay_hf.training.rows import encode as rows
from talkplay_hf.training.rows import sets as data


def timed(what: str, count: Callable[[Any], int], make: Callable[[], Any]) -> Any:
    wall, cpu = time.perf_counter(), time.process_time()
    made = make()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    many = count(made)
    print(f"{what:44} {many:9,} {wall:8.2f} {many / wall:10,.0f} {many / cpu:12,.0f}", flush=True)
    return made


def one_by_one(
    conversations: list[Conversation], tokenizer: TalkPlayTokenizer, codes: dict[str, list[int]]
) -> list[list[int]]:
    return [
        tokenizer.apply_chat_template(
            template_rows(one.messages, [codes[m.track_id] for m in one.messages if m.track_id]),
            return_dict=True,
            return_assistant_tokens_mask=True,
        )["input_ids"]
        for one in conversations
    ]


def read_all(dataset: Any, order: np.ndarray) -> int:
    return sum(len(dataset[int(at)]["input_ids"]) > 0 for at in order)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--conversations", type=int, default=1000)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--base", help="folder of a base tokenizer; a small BPE when left out")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="rows-") as temporary:
        folder = Path(temporary)
        make_world(folder / "catalog", tracks=300, audio=False)
        catalog = Catalog.load(folder / "catalog")
        embed(catalog, folder / "features")
        conversations = simulate(catalog, count=args.conversations)
        save_conversations(folder / "talk", conversations, {})
        talk = None if args.base else folder / "talk"
        make_tokenizer(
            catalog,
            folder / "features",
            folder / "tokenizer",
            base=args.base or SCRATCH,
            conversations=talk,
        )
        compare(folder, catalog, conversations, args.rows)


def compare(folder: Path, catalog: Catalog, conversations: list[Conversation], many: int) -> None:
    tokenizer = TalkPlayTokenizer.from_pretrained(folder / "tokenizer")
    known, values = read_token_catalog(tokenizer.side_file("token_catalog_file"))
    codes = dict(zip(known.track_ids, values.tolist(), strict=True))
    print(f"{'':44} {'rows':>9} {'s':>8} {'rows/s':>10} {'rows/CPU s':>12}")
    timed("one by one", len, lambda: one_by_one(conversations, tokenizer, codes))
    report = rows.RowReport()
    encoded = timed(
        "in batches, labelled, cut to 1024",
        len,
        lambda: list(rows.encode_conversations(conversations, tokenizer, codes, report)),
    )
    mean = [total / report.rows for total in (report.tokens, report.label_tokens)]
    print(f"tokens a row {mean[0]:.0f}, of them labels {mean[1]:.0f}")
    playlists = rows.known_playlists(catalog, codes)["train"]
    drawn = rows.RowReport()
    timed(
        "continuations",
        len,
        lambda: list(
            rows.draw_continuations(playlists, tokenizer, codes, drawn, label_tokens=300_000)
        ),
    )
    path = folder / "train-conversations.arrow"

    def repeated() -> Iterator[rows.Row]:
        return islice(cycle(encoded), many)

    timed("writing", lambda _: many, lambda: data._write(path, repeated(), 0))
    print(f"{path.stat().st_size / 1e9:.2f} GB")
    dataset = timed("opening, shuffled", len, lambda: data._open(folder, 0)["train"])
    order = np.random.default_rng(1).integers(len(dataset), size=5000)
    timed("reading in random order", int, lambda: read_all(dataset, order))
    numpy = dataset.with_format("numpy")
    timed("reading in random order, as numpy", int, lambda: read_all(numpy, order))


if __name__ == "__main__":
    main()
