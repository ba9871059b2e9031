"""Precision and recall of the checks on answers of known truth.

    python tests/benchmarks/answer_checks.py [--data FOLDER] [--answers 2000] [--show 20]

Half of the answers are good, in many voices and wrappings; half hold exactly one fault. What is
true comes from how an answer was made (`tests/conversations/scripted_answers.py`), never from the
checks. Figures stand apart for four parts of the phrases: those that the rules were tuned on, those
held out from the start, harder ones written when the rules were done, and ones of another hand, of
which some led to a rule. Titles and artists
are real where `FOLDER/corpus` is there, else those of a demo world. Intervals are Wilson's, 95 %;
they take answers as independent, though two that share a phrase are not.
"""

import argparse
import math
import os
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY / "tests" / "conversations"))

from scripted_answers import FAULTS, PARTS, Scripted, Writer  # noqa: E402

from talkplay_hf.catalog.schema import Catalog, Track  # noqa: E402
from talkplay_hf.catalog.world import make_world  # noqa: E402
from talkplay_hf.conversations.checks.answers import Limits, judge_answer  # noqa: E402
from talkplay_hf.conversations.checks.verdict import Verdict  # noqa: E402

WRONG_TITLE_SHARE = 0.4


def tracks_of(folder: Path) -> tuple[list[Track], str]:
    if (folder / "corpus" / "tracks.parquet").is_file():
        names = ["track_id", "title", "artist", "album", "tags"]
        rows = pq.read_table(folder / "corpus" / "tracks.parquet", columns=names).to_pylist()
        tracks = [
            Track(**{**row, "tags": tuple(row["tags"] or ())})
            for row in rows
            if row["title"] and row["artist"]
        ]
        return tracks, "real titles and artists"
    with tempfile.TemporaryDirectory() as work:
        make_world(Path(work) / "catalog", tracks=2000, audio=False)
        catalog = Catalog.load(Path(work) / "catalog")
        return [catalog.track_at(row) for row in range(len(catalog))], "a demo world"


def scripted(tracks: list[Track], answers: int, seed: int) -> list[Scripted]:
    """Answers, as many of each part of the phrases."""
    writers = [Writer(tracks, seed + n, part) for n, part in enumerate(PARTS)]
    faults = [name for name in FAULTS for _ in range(10)]
    faults += ["wrong_title"] * round(len(faults) * WRONG_TITLE_SHARE / (1 - WRONG_TITLE_SHARE))
    rng = random.Random(seed)
    rng.shuffle(faults)
    made = []
    for number in range(answers):
        writer = writers[number // 2 % len(writers)]
        fault = faults[number // 2 % len(faults)] if number % 2 else None
        made.append(writer.good() if fault is None else writer.bad(fault))
    return made


def wilson(hits: int, of: int) -> str:
    """A share with its interval."""
    if not of:
        return "-"
    z, share = 1.96, hits / of
    middle = (share + z * z / (2 * of)) / (1 + z * z / of)
    half = z / (1 + z * z / of) * math.sqrt(share * (1 - share) / of + z * z / (4 * of * of))
    return f"{share:.3f} [{middle - half:.3f}, {middle + half:.3f}] {hits}/{of}"


def report(title: str, judged: list[tuple[Scripted, Verdict]]) -> None:
    bad = [(one, verdict) for one, verdict in judged if one.fault]
    refused = [(one, verdict) for one, verdict in judged if not verdict.valid]
    hits = sum(not verdict.valid for _, verdict in bad)
    print(
        f"\n{title}: {len(judged)} answers, {len(judged) - len(bad)} good, {len(bad)} with a fault"
    )
    print(f"  refuse: precision {wilson(hits, len(refused))}")
    print(f"          recall    {wilson(hits, len(bad))}")
    print(f"  {'reason':<20}{'precision':<34}recall")
    for fault in [*FAULTS, "wrong_title"]:
        named = [one for one, v in refused if fault in {p.reason for p in v.problems}]
        mine = [v for one, v in bad if one.fault == fault]
        right = sum(one.fault == fault for one in named)
        print(f"  {fault:<20}{wilson(right, len(named)):<34}{wilson(right, len(mine))}")
    kinds = sorted({one.kind for one, _ in bad if one.fault == "wrong_title"})
    for kind in kinds:
        mine = [v for one, v in bad if one.fault == "wrong_title" and one.kind == kind]
        print(f"    {kind:<18}{'':<34}{wilson(sum(not v.valid for v in mine), len(mine))}")
    good = [(one, verdict) for one, verdict in judged if not one.fault]
    mended = Counter(name for _, v in good for name in v.repairs)
    print("  mended good answers: " + ", ".join(f"{n} {c}" for n, c in mended.most_common()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    default = os.environ.get("TALKPLAY_TEST_DATA") or REPOSITORY.parent / "shared" / "data"
    parser.add_argument("--data", type=Path, default=Path(default))
    parser.add_argument("--answers", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--show", type=int, default=0, help="print so many wrong verdicts")
    options = parser.parse_args()
    tracks, what = tracks_of(options.data)
    answers = scripted(tracks, options.answers, options.seed)
    started = time.perf_counter()
    limits = Limits()
    judged = [(one, judge_answer(one.text, one.piece, one.tracks, limits)) for one in answers]
    seconds = time.perf_counter() - started
    print(f"{what}; {1000 * seconds / len(answers):.2f} ms an answer")
    report("All", judged)
    for part in PARTS:
        report(f"Phrases: {part}", [(one, v) for one, v in judged if one.part == part])
    wrong = [(one, v) for one, v in judged if v.valid == bool(one.fault)]
    for one, verdict in wrong[: options.show]:
        print(f"\n{one.fault or 'good'} ({one.kind}): {[p.detail for p in verdict.problems]}")
        print("  " + "; ".join(f"{t.title} / {t.artist}" for t in one.tracks.values()))
        if one.fault:
            print("  " + one.text)


if __name__ == "__main__":
    main()
