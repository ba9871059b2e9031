"""How fast the simulator writes, and how varied its conversations are beside human ones.

Writes conversations on demo worlds and on a real catalogue, and measures rate, distinct-n,
near-duplicates, vocabulary and intents; beside them the conversations of CPCD. Distinct-n falls
with size, so every source is also measured at the size of the human one, and once more with the
names of tracks, artists and albums taken out.

    python tests/benchmarks/simulator.py --count 100000
"""

import argparse
import json
import os
import re
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from talkplay_hf.catalog.importer import import_table
from talkplay_hf.catalog.schema import Catalog
from talkplay_hf.catalog.world import make_world
from talkplay_hf.conversations.quality.diversity import WordTable, distinct_n, near_duplicates
from talkplay_hf.conversations.simulation.options import SimulatorOptions
from talkplay_hf.conversations.simulation.phrasing import languages
from talkplay_hf.conversations.simulation.simulator import iter_conversations

WORLDS = (300, 5_000)
HEADER = (
    f"{'source':32} {'number':>7} {'turns':>5} {'rate/s':>7} {'words':>9} {'vocab':>7} "
    f"{'dist-1':>7} {'dist-2':>7} {'exact':>6} {'near':>6}"
)


def data_folder() -> Path:
    """Where the real data are."""
    default = Path(__file__).parents[2].parent / "shared" / "data"
    return Path(os.environ.get("TALKPLAY_TEST_DATA", default))


def measure(
    name: str, texts: Sequence[Sequence[str]], *, turns: float, rate: float | None = None
) -> None:
    """Print the figures of one source.

    Args:
        name (`str`): Its name.
        texts (`Sequence[Sequence[str]]`): What was said in each conversation.
        turns (`float`): User messages a conversation.
        rate (`float`, *optional*): Conversations a second.
    """
    whole = ["\n".join(said) for said in texts]
    table = WordTable()
    for said in texts:
        for text in said:
            table.add(text)
    one, two = table.distinct(1), table.distinct(2)
    exact = 1 - len(set(whole)) / len(whole)
    near = float((near_duplicates(whole) >= 0).mean())
    speed = "" if rate is None else f"{rate:,.0f}"
    print(
        f"{name:32} {len(texts):7,} {turns:5.1f} {speed:>7} {table.total:9,} "
        f"{table.vocabulary:7,} {one:7.4f} {two:7.4f} {exact:6.2%} {near:6.2%}",
        flush=True,
    )


def without_names(texts: Sequence[Sequence[str]], names: Iterable[str]) -> list[list[str]]:
    """The same texts with one word in place of each name."""
    parts = sorted({re.escape(name.casefold()) for name in names if name}, key=len, reverse=True)
    pattern = re.compile(r"(?<!\w)(?:" + "|".join(parts) + r")(?!\w)")
    return [[pattern.sub("name", text.casefold()) for text in said] for said in texts]


def written(
    name: str, catalog: Catalog, count: int, options: SimulatorOptions, size: int
) -> Counter[str]:
    """Write conversations, print their figures, and count the intents of their messages."""
    texts: list[list[str]] = []
    intents: Counter[str] = Counter()
    messages = 0
    played: set[str] = set()
    start, spent = time.perf_counter(), time.process_time()
    for one in iter_conversations(catalog, count=count, options=options):
        texts.append([m.content for m in one.messages if m.content])
        for message in one.messages:
            if message.role == "user":
                messages += 1
                intents.update(message.intents)
            elif message.track_id and len(texts) <= size:
                played.add(message.track_id)
    spent, wall = time.process_time() - spent, time.perf_counter() - start
    print(f"{name}: {count / spent:,.0f}/s of processor time, {count / wall:,.0f}/s by the clock")
    measure(name, texts, turns=messages / count, rate=count / spent)
    few = texts[:size]
    measure(f"  first {size}", few, turns=sum(map(len, few)) / 2 / size)
    tracks = [catalog.track(track_id) for track_id in sorted(played)]
    names = [n for track in tracks for n in (track.title, track.artist, track.album or "")]
    bare = without_names(few, names)
    print(f"  first {size}, names out: {figures(bare)}")
    return Counter({intent: n / messages for intent, n in intents.items()})


def human(path: Path) -> int:
    """Print the figures of the human conversations; their number."""
    texts, names, turns = [], [], 0
    for row in map(json.loads, path.read_text(encoding="utf-8").splitlines()):
        said = [turn[key] for turn in row["turns"] for key in ("user_query", "system_response")]
        texts.append([text for text in said if text])
        turns += len(row["turns"])
        for track in row["tracks"].values():
            for key in ("track_titles", "track_artists", "track_release_titles"):
                names += [track[key]] if isinstance(track[key], str) else track[key] or []
    measure("CPCD, human", texts, turns=turns / len(texts))
    print(f"  names out: {figures(without_names(texts, names))}")
    return len(texts)


def figures(texts: Sequence[Sequence[str]]) -> str:
    """Distinct-1 and distinct-2 in a line."""
    flat = [text for said in texts for text in said]
    return f"distinct-1 {distinct_n(flat, 1):.4f}, distinct-2 {distinct_n(flat, 2):.4f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--count", type=int, default=100_000, help="conversations a catalog")
    parser.add_argument("--only", default="", help="only sources whose name holds this")
    args = parser.parse_args()
    data = data_folder()
    print(HEADER)
    size = human(data / "cpcd" / "cpcd_train.jsonl")
    shares: dict[str, Counter[str]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for tracks in WORLDS:
            name = f"demo world of {tracks:,}"
            if args.only in name:
                world = make_world(Path(folder) / f"w{tracks}", tracks=tracks, audio=False)
                shares[name] = written(name, world, args.count, SimulatorOptions(), size)
        name = "spotify_songs.csv"
        if args.only in name:
            import_table(data / name, Path(folder) / "songs")
            songs = Catalog.load(Path(folder) / "songs")
            shares[name] = written(name, songs, args.count, SimulatorOptions(), size)
        name = "five languages"
        if args.only in name:
            world = make_world(Path(folder) / "w", tracks=300, audio=False)
            options = SimulatorOptions(languages=languages())
            shares[name] = written(name, world, args.count, options, size)
    for name, counts in shares.items():
        print(f"intents, {name}: ", end="")
        print(", ".join(f"{intent} {share:.1%}" for intent, share in counts.most_common()))


if __name__ == "__main__":
    main()
