"""The quality report of simulated conversations beside that of human ones.

    python tests/benchmarks/conversation_quality.py --cpcd ../shared/data/cpcd/cpcd_train.jsonl

The simulator writes about a demo world (or `--catalog`), in English; the human conversations are
those of CPCD, with the tracks that people liked in them. Distinct-n falls as texts are added, so
the simulator stands there a second time with as many conversations as CPCD has, and both are also
measured on a text of the same number of words.
"""

import argparse
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import resource
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from talkplay_hf.catalog.schema import Catalog, Conversation, Playlist, Track
from talkplay_hf.catalog.world import make_world
from talkplay_hf.conversations.published.rows import joined, read_rows
from talkplay_hf.conversations.published.sets import PublishedConversations
from talkplay_hf.conversations.quality.coverage import SPOKEN
from talkplay_hf.conversations.quality.diversity import distinct_n, words
from talkplay_hf.conversations.quality.report import quality_report
from talkplay_hf.conversations.quality.sampling import sample_conversations
from talkplay_hf.conversations.simulation.options import SimulatorOptions
from talkplay_hf.conversations.simulation.simulator import simulate


def catalog_of_cpcd(path: Path) -> Catalog:
    """The tracks that were liked or disliked in CPCD, with the goal playlists."""
    rows = [row for row, _ in read_rows(path) if row is not None]
    tracks = {}
    for track_id, about in (pair for row in rows for pair in row["tracks"].items()):
        title, artist = joined(about["track_titles"]), joined(about["track_artists"])
        if title and artist:
            album = joined(about["track_release_titles"])
            tracks.setdefault(track_id, Track(track_id, title, artist, album=album))
    playlists = [Playlist(row["id"], tuple(row["goal_playlist"])) for row in rows]
    return Catalog.from_tracks(list(tracks.values()), playlists)


def first_words(conversations: Iterable[Conversation], count: int) -> Iterator[str]:
    """Texts of randomly drawn conversations until they have so many words."""
    for conversation in sample_conversations(conversations, 10_000):
        for message in conversation.messages:
            if message.content and count > 0:
                count -= len(words(message.content))
                yield message.content


def rows_of(report: dict[str, Any], fixed: dict[str, float | None]) -> dict[str, Any]:
    """The rows of the table."""
    diversity, intents = report["diversity"], report["intents"]
    modalities = report["modalities"]
    return {
        "conversations": report["conversations"]["total"],
        "turns with a track": report["turns"]["mean"],
        "words a user message": report["user_words"]["mean"],
        "words a reply": report["assistant_words"]["mean"],
        "vocabulary": diversity["vocabulary"],
        "distinct-1": diversity["distinct"]["1"],
        "distinct-2": diversity["distinct"]["2"],
        "distinct-3": diversity["distinct"]["3"],
        **fixed,
        "distinct user messages": diversity["distinct_user_messages"],
        "distinct replies": diversity["distinct_replies"],
        "exact duplicates": report["duplicates"]["exact"],
        "near-duplicates": report["duplicates"]["near"],
        "negative tracks": report["music"]["negative"],
        "replies name title or artist": report["naming"]["either"],
        "entropy of acts, bits": intents["entropy_bits"]["act"],
        "entropy of topics, bits": intents["entropy_bits"]["topic"],
        **{f"user talks about {name}": modalities["user"][name]["messages"] for name in SPOKEN},
        **{f"reply about {name}": modalities["assistant"][name]["messages"] for name in SPOKEN},
        **{f"intent {name}": row["messages"] for name, row in intents["by_intent"].items()},
    }


def measured(
    conversations: list[Conversation], catalog: Catalog, text: int
) -> tuple[dict[str, Any], float]:
    """The rows of a dataset, and the seconds that its report took."""
    start = time.perf_counter()
    report = quality_report(conversations, catalog)
    seconds = time.perf_counter() - start
    sample = list(first_words(conversations, text))
    fixed = {f"distinct-{n} of {text:,} words": distinct_n(sample, n) for n in (1, 2, 3)}
    return rows_of(report, fixed), seconds


def shown(value: float | int | None) -> str:
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) else f"{value:.3f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cpcd", type=Path, help="file of CPCD")
    parser.add_argument("--catalog", type=Path, help="catalog folder; a demo world by default")
    parser.add_argument("--tracks", type=int, default=2000, help="tracks of the demo world")
    parser.add_argument("--count", type=int, default=10_000, help="simulated conversations")
    parser.add_argument("--words", type=int, default=20_000, help="words of the fixed text")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if args.catalog is None:
            make_world(Path(folder) / "world", tracks=args.tracks, audio=False)
        catalog = Catalog.load(args.catalog or Path(folder) / "world")
    options = SimulatorOptions(languages=("en",))
    start = time.perf_counter()
    simulated = simulate(catalog, count=args.count, options=options)
    print(f"simulating {args.count:,}: {time.perf_counter() - start:.1f} s")
    sets = {"simulated": (simulated, catalog)}
    if args.cpcd is not None:
        people = catalog_of_cpcd(args.cpcd)
        human = list(PublishedConversations(args.cpcd, people))
        drawn = sample_conversations(simulated, len(human), seed=1)
        sets |= {"simulated, as many": (drawn, catalog), "CPCD": (human, people)}
    table = {}
    for name, (conversations, of) in sets.items():
        table[name], seconds = measured(conversations, of, args.words)
        print(f"report of {len(conversations):,} ({name}): {seconds:.1f} s")
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.1f} GB\n")
    names = list(table["simulated"])
    width = max(map(len, names))
    print(" " * width + "".join(f"{name:>20}" for name in table))
    for name in names:
        print(f"{name:<{width}}" + "".join(f"{shown(rows[name]):>20}" for rows in table.values()))


if __name__ == "__main__":
    main()
