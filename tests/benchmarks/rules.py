"""How long a mask of rules takes: the first time, when its column is read, and later.

    python tests/benchmarks/rules.py --tracks 27000 1700000

Synthetic tracks: Zipf artists (one for six tracks), eight Zipf tags of 5,000 a track, 60 years by
20,000 dates, a tempo that hardly ever repeats. One thread. The rival looks at every track in plain
Python, `Constraint.satisfied_by` on the values of the column; timed on a sample and scaled up.
"""

import argparse
import resource
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from talkplay_hf.catalog.matcher import ConstraintMatcher
from talkplay_hf.catalog.schema import PLAYLIST_SCHEMA, Catalog, release_year
from talkplay_hf.recommend.rule_set import RuleSet
from talkplay_hf.recommend.rules import Meets, Rules, Where, parse_rule

SAMPLE = 20_000
REPEATS = 7


@dataclass(frozen=True)
class Cell:
    """One value, for a constraint to look at."""

    value: Any

    def get(self, name: str) -> Any:
        return self.value


def make_catalog(tracks: int, seed: int = 0) -> Catalog:
    """Tracks with the columns that the rules are about."""
    rng = np.random.default_rng(seed)
    days = np.datetime_as_string(
        np.datetime64("1965-01-01") + rng.integers(0, 60 * 365, 20_000).astype("timedelta64[D]")
    )
    tags = pa.DictionaryArray.from_arrays(
        pa.array((rng.zipf(1.3, tracks * 8) % 5_000).astype(np.int32)),
        pa.array([f"Tag {n}" for n in range(5_000)]),
    ).cast(pa.string())
    artists = max(1, tracks // 6)
    names = pa.array([f"The Artist {n}" for n in range(artists)])
    explicit = rng.random(tracks) < 0.1
    table = pa.table(
        {
            "track_id": pa.array(range(tracks)).cast(pa.string()),
            "title": pa.array(range(tracks)).cast(pa.string()),
            "artist": names.take(pa.array(rng.zipf(1.2, tracks) % artists)),
            "release_date": pa.array(days).take(pa.array(rng.integers(0, len(days), tracks))),
            "tags": pa.ListArray.from_arrays(np.arange(tracks + 1, dtype=np.int32) * 8, tags),
            "tempo": rng.uniform(60, 200, tracks),
            "explicit": pa.array(explicit, mask=rng.random(tracks) < 0.05),
        }
    )
    return Catalog(table, PLAYLIST_SCHEMA.empty_table())


def in_python(catalog: Catalog, texts: list[str]) -> float:
    """Seconds to look at every track in plain Python, from a sample."""
    rows = min(SAMPLE, len(catalog))
    start = perf_counter()
    for text in texts:
        rule = parse_rule(text)
        assert isinstance(rule, Meets)
        name = "release_date" if rule.constraint.field == "year" else rule.constraint.field
        values = catalog.tracks[name].slice(0, rows).to_pylist()
        if rule.constraint.field == "year":
            values = [release_year(value) for value in values]
        np.array([rule.constraint.satisfied_by(Cell(value)) for value in values])
    return (perf_counter() - start) * len(catalog) / rows


def timed(run: Callable[..., object], *arguments: object) -> float:
    start = perf_counter()
    run(*arguments)
    return perf_counter() - start


def row(tracks: int, name: str, first: float | None, later: list[float], ratio: str = "") -> None:
    """Print a row of the table."""
    before = "" if first is None else f"{first * 1e3:.1f} ms"
    print(
        f"| {tracks:,} | {name} | {before} | {median(later) * 1e3:.2f} ms | {ratio} |", flush=True
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tracks", type=int, nargs="+", default=[27_000, 1_700_000])
    print("| tracks | rule | first | later | every track in Python / later |")
    print("|---|---|---|---|---|")
    for tracks in parser.parse_args().tracks:
        catalog = make_catalog(tracks)
        fast = Where(lambda table: pc.less(table["tempo"], 100), "tempo < 100 by Arrow")
        cases: list[tuple[str, Rules, list[str]]] = [
            ("year range", ["year >= 1990", "year < 2000"], ["year >= 1990", "year < 2000"]),
            ("tempo range", ["tempo >= 90", "tempo < 120"], ["tempo >= 90", "tempo < 120"]),
            ("frequent tag", "tags is tag 1", ["tags is tag 1"]),
            ("rare tag out", "tags not tag 4000", ["tags not tag 4000"]),
            ("artist", "artist is the artist 7", ["artist is the artist 7"]),
            ("flag off", "not explicit", []),
            ("callable", fast, []),
        ]
        for name, rules, texts in cases:
            matcher = ConstraintMatcher(catalog)
            first = timed(RuleSet, matcher, rules)
            later, slow = [], []
            for _ in range(REPEATS):
                later.append(timed(RuleSet, matcher, rules))
                slow += [in_python(catalog, texts)] if texts else []
            ratio = f"{median(slow) / median(later):,.0f}" if slow else ""
            row(tracks, name, first, later, ratio)
        matcher = ConstraintMatcher(catalog)
        first = timed(RuleSet, matcher, "artist at most 2")
        diverse = RuleSet(matcher, ["year >= 1990", "artist at most 2"])
        played = list(range(13))
        later = [timed(diverse.mask, played) for _ in range(REPEATS)]
        row(tracks, "artist at most 2, 13 played, within a year rule", first, later)
        fixed = RuleSet(matcher, ["year >= 1990", "year < 2000"])
        later = [timed(fixed.mask) for _ in range(REPEATS)]
        row(tracks, "a set that was made before", None, later)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"\npeak memory {peak:.1f} GB, the catalogue included")


if __name__ == "__main__":
    main()
