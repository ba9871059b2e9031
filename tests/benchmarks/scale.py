"""The whole pipeline on one machine, from a table to answers, at several sizes of catalogue.

    python tests/benchmarks/scale.py --folder /tmp/scale
    python tests/benchmarks/scale.py --folder /tmp/scale --size 500000:300000 --keep

A synthetic world is written as a user would have it: Parquet tables of tracks and of playlists, and
a file of audio vectors. Then come `talkplay import`, `embed` with the default encoders, and
`tokenize` with its defaults (K = 1,024), a model of random weights, the index and 10,000 lookups,
ranking, and loading. Each stage is a process of its own, of which the time, the CPU time and the
peak memory are recorded, with the size of what it wrote. A stage that is done is not repeated, so a
run that was stopped goes on. What the last stages do not read is deleted, unless `--keep` is given.

One thread. On a machine that others use too, compare CPU seconds; wall seconds stand in brackets
behind them, and what a stage says about itself is in CPU seconds. The model has never been
trained: what it recommends means nothing. Its logits are scaled until the first code has
an entropy of about two nats. For exact ranking it is the worst case all the same: the codes of a
track have nothing to do with one another for it, so it has to look at nearly all tracks.
"""

import argparse
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["HF_HUB_OFFLINE"] = "1"

import json
import math
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

SIZES = ["10000:6000", "100000:60000", "1700000:1000000"]
CODES, LOOKUPS, CHATS = 1024, 10_000, 4
AUDIO_WIDTH, AUDIO_GROUPS = 128, 5_000
MOST_GENRES, TRACKS_PER_GENRE = 400, 250
WORDS, LINES = 30_000, 60_000
SHORTEST, LONGEST = 5, 250
TRACKS_PER_ARTIST, WITHOUT_LYRICS, WITHOUT_TAGS = 8, 0.12, 0.05
ENTROPY = 2.0
BLOCK = 100_000

Report = dict[str, Any]


class World:
    """A synthetic catalogue: genres, artists with one genre each, popularity and taste by Zipf.

    Args:
        tracks (`int`): Number of tracks.
        playlists (`int`): Number of playlists.
        length (`int`): Mean number of entries of a playlist.
    """

    def __init__(self, tracks: int, playlists: int, length: int) -> None:
        self.tracks, self.playlists, self.length = tracks, playlists, length
        self.rng = np.random.default_rng([tracks, playlists])
        self.words = self._words()
        self.genres = min(MOST_GENRES, tracks // TRACKS_PER_GENRE)
        shares = 1 / np.arange(1, self.genres + 1) ** 0.7
        artists = max(self.genres, tracks // TRACKS_PER_ARTIST)
        of_artist = self.rng.choice(self.genres, artists, p=shares / shares.sum())
        self.artist = self.rng.integers(0, artists, tracks)
        self.genre = of_artist[self.artist]
        popularity = 1 / np.arange(1, tracks + 1) ** 0.8
        self.popularity = self.rng.permutation(popularity)

    def _words(self) -> pa.Array:
        letters = np.array(list("aeioubcdfghklmnprstvz"))
        drawn = self.rng.choice(letters, (WORDS, 7))
        lengths = self.rng.integers(3, 8, WORDS)
        return pa.array(
            ["".join(row[:n]) for row, n in zip(drawn.tolist(), lengths.tolist(), strict=True)]
        )

    def names(self, count: int, most: int) -> pa.Array:
        """Names of one to `most` words; common words are commoner."""
        at = np.minimum(self.rng.zipf(1.2, (most, count)) - 1, WORDS - 1)
        held = self.rng.integers(1, most + 1, count)
        columns = [
            pc.if_else(pa.array(held > number), self.words.take(pa.array(row)), None)
            for number, row in enumerate(at)
        ]
        return pc.binary_join_element_wise(*columns, " ", null_handling="skip")

    def ids(self) -> pa.Array:
        """An id of 22 characters for each track, in no order."""
        numbers = pa.array(self.rng.permutation(self.tracks)).cast(pa.string())
        return pc.utf8_lpad(numbers, 22, "0")

    def write_tracks(self, path: Path) -> pa.Array:
        """Write the table of tracks; return their ids."""
        ids = self.ids()
        artists = self.names(int(self.artist.max()) + 1, 3)
        albums = self.names(2 * len(artists), 3)
        tags = self.names(self.genres, 2)
        lines = self.names(LINES, 10)
        writer: pq.ParquetWriter | None = None
        for start in range(0, self.tracks, BLOCK):
            rows = slice(start, min(start + BLOCK, self.tracks))
            block = self._track_block(ids, artists, albums, tags, lines, rows)
            writer = writer or pq.ParquetWriter(path, block.schema, compression="zstd")
            writer.write_table(block)
        assert writer is not None
        writer.close()
        return ids

    def _track_block(
        self,
        ids: pa.Array,
        artists: pa.Array,
        albums: pa.Array,
        tags: pa.Array,
        lines: pa.Array,
        rows: slice,
    ) -> pa.Table:
        rng, by, genre = self.rng, self.artist[rows], self.genre[rows]
        count = len(by)
        near = (genre[:, None] + rng.integers(1, 12, (count, 2))) % self.genres
        tagged = np.concatenate([genre[:, None], near], axis=1)
        held = rng.integers(1, 4, count) * (rng.random(count) >= WITHOUT_TAGS)
        kept = np.arange(3) < held[:, None]
        offsets = np.append(0, np.cumsum(held)).astype(np.int32)
        tag_lists = pa.ListArray.from_arrays(offsets, tags.take(pa.array(tagged[kept])))
        share = LINES // self.genres
        at = genre[:, None] * share + rng.integers(0, share, (count, 6))
        lyrics = pc.binary_join_element_wise(*(lines.take(pa.array(row)) for row in at.T), "\n")
        lyrics = pc.if_else(pa.array(rng.random(count) >= WITHOUT_LYRICS), lyrics, None)
        popularity = self.popularity[rows]
        return pa.table(
            {
                "track_id": ids[rows.start : rows.stop],
                "title": self.names(count, 5),
                "artist": artists.take(pa.array(by)),
                "album": albums.take(pa.array(2 * by + rng.integers(0, 2, count))),
                "release_date": pa.array(rng.integers(1960, 2025, count)).cast(pa.string()),
                "tags": tag_lists,
                "lyrics": lyrics,
                "popularity": np.round(100 * popularity / self.popularity.max(), 3),
                "tempo": np.round(rng.normal(115, 20, count), 1),
            }
        )

    def write_playlists(self, path: Path, ids: pa.Array) -> None:
        """Write the table of playlists: a taste for one genre, a fifth from anywhere."""
        by_genre = np.argsort(self.genre, kind="stable")
        chance = np.append(0, np.cumsum(self.popularity[by_genre]))
        edges = np.searchsorted(self.genre[by_genre], np.arange(self.genres + 1))
        tastes = self.genre[self.rng.integers(0, self.tracks, self.playlists)]
        lengths = (
            SHORTEST - 1 + self.rng.geometric(1 / (self.length - SHORTEST + 1), self.playlists)
        )
        lengths = np.minimum(lengths, LONGEST)
        days = self.rng.integers(0, 3650, self.playlists) + np.datetime64("2015-01-01", "D")
        names = self.names(self.playlists, 2)
        writer: pq.ParquetWriter | None = None
        for start in range(0, self.playlists, BLOCK):
            rows = slice(start, min(start + BLOCK, self.playlists))
            taste = np.repeat(tastes[rows], lengths[rows])
            free = self.rng.random(len(taste)) < 0.2
            low = np.where(free, 0, chance[edges[taste]])
            high = np.where(free, chance[-1], chance[edges[taste + 1]])
            at = np.searchsorted(chance, low + self.rng.random(len(taste)) * (high - low)) - 1
            owner = np.repeat(np.arange(len(days[rows])), lengths[rows])
            # a track stands once in a playlist
            pairs = np.unique(owner * self.tracks + by_genre[np.clip(at, 0, self.tracks - 1)])
            entries = ids.take(pa.array(pairs % self.tracks))
            counts = np.bincount(pairs // self.tracks, minlength=len(days[rows]))
            offsets = np.append(0, np.cumsum(counts)).astype(np.int32)
            block = pa.table(
                {
                    "playlist_id": [f"list{number:09d}" for number in range(rows.start, rows.stop)],
                    "name": names[rows.start : rows.stop],
                    "created_at": np.datetime_as_string(days[rows]),
                    "track_ids": pa.ListArray.from_arrays(offsets, entries),
                }
            )
            writer = writer or pq.ParquetWriter(path, block.schema, compression="zstd")
            writer.write_table(block)
        assert writer is not None
        writer.close()

    def write_audio(self, path: Path) -> None:
        """Write random audio vectors around some thousand centres, in catalogue order."""
        centres = self.rng.standard_normal((AUDIO_GROUPS, AUDIO_WIDTH), dtype=np.float32)
        shape = (self.tracks, AUDIO_WIDTH)
        array = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=shape)
        for start in range(0, self.tracks, BLOCK):
            block = array[start : start + BLOCK]
            block[:] = centres[self.rng.integers(0, AUDIO_GROUPS, len(block))]
            block += self.rng.standard_normal(block.shape, dtype=np.float32)
        array.flush()


class Folders:
    """Where the artefacts of one size lie."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.tracks, self.playlists = root / "tracks.parquet", root / "playlists.parquet"
        self.audio, self.catalog = root / "audio.npy", root / "catalog"
        self.features, self.tokenizer = root / "features", root / "tokenizer"
        self.model = root / "model"


def stage_world(folders: Folders, tracks: int, playlists: int, length: int) -> Report:
    world = World(tracks, playlists, length)
    ids = world.write_tracks(folders.tracks)
    world.write_playlists(folders.playlists, ids)
    world.write_audio(folders.audio)
    return {}


def stage_model(folders: Folders) -> Report:
    """A tiny model with random weights, in a folder with everything that an answer needs."""
    from talkplay_hf.recommend.saving import save_model_folder
    from talkplay_hf.tokens.tokenizer import TalkPlayTokenizer
    from talkplay_hf.training.model.base import scratch_model
    from talkplay_hf.training.model.vocabulary import grow_vocabulary

    tokenizer = TalkPlayTokenizer.from_pretrained(folders.tokenizer)
    model = scratch_model(tokenizer, hidden_size=64, layers=2, heads=2, seed=0)
    grow_vocabulary(model, tokenizer)
    save_model_folder(model, tokenizer, folders.model)
    return {"music tokens": len(tokenizer.config.music_tokens)}


def stage_lookup(folders: Folders) -> Report:
    """Build the index and the lookup, and look blocks up: half as they stand, half corrupted."""
    from talkplay_hf.hub import files
    from talkplay_hf.recommend.lookup import WeightedLookup
    from talkplay_hf.tokens.build import read_token_catalog
    from talkplay_hf.tokens.config import TalkPlayConfig
    from talkplay_hf.tokens.index import CatalogIndex

    config = TalkPlayConfig.load(folders.model / files.TALKPLAY_CONFIG)
    _, codes = read_token_catalog(folders.model / files.TOKEN_CATALOG)
    built, index = timed(lambda: CatalogIndex(codes, config.codes))
    none = [None] * codes.shape[1]
    made, lookup = timed(
        lambda: WeightedLookup(codes, config.codes, config.lookup_weights, none, index=index)
    )
    first, _ = timed(lambda: lookup.find([0] * codes.shape[1]))
    rng = np.random.default_rng(0)
    exact = codes[rng.integers(0, len(codes), LOOKUPS // 2)]
    corrupted = codes[rng.integers(0, len(codes), LOOKUPS // 2)]
    places = rng.integers(0, codes.shape[1], len(corrupted))
    donors = codes[rng.integers(0, len(codes), len(corrupted)), places]
    corrupted[np.arange(len(corrupted)), places] = donors
    report: Report = {
        "index s": built,
        "lookup s": made + first,
        "index bytes a track": index.nbytes / len(codes),
        "lookup bytes a track": lookup.nbytes / len(codes),
        "distinct tuples": len(np.unique(index.keys.numpy())),
    }
    for name, queries in (("exact", exact), ("corrupted", corrupted)):
        micros = [1e6 * timed(lambda q=query: lookup.find(q))[0] for query in queries.tolist()]
        report |= {
            f"{name} p50 us": statistics.median(micros),
            f"{name} p99 us": float(np.quantile(micros, 0.99)),
        }
    return report


def stage_rank(folders: Folders) -> Report:
    """The 100 best tracks: by beam, in the median over some chats, and exactly, for one."""
    from talkplay_hf import Recommender

    recommender = Recommender.from_pretrained(folders.model, device="cpu")
    sharpen(recommender)
    recommender.rank("a first one", k=100, strategy="beam")
    taken = [
        timed(lambda n=number: recommender.rank(f"play song {n} of the evening", k=100))[0]
        for number in range(CHATS)
    ]
    exact, _ = timed(lambda: recommender.rank("play a last one", k=100, strategy="exact"))
    return {"beam s": statistics.median(taken), "exact s": exact}


def sharpen(recommender: Any) -> None:
    """Scale the last norm until the first code after a chat has about the wanted entropy."""
    import torch

    from talkplay_hf import Message
    from talkplay_hf.recommend.grammar import MusicVocabulary

    tokenizer, model = recommender.tokenizer, recommender.model
    vocabulary = MusicVocabulary.of(tokenizer)
    ids = tokenizer.chat_ids([Message("user", "play something")], [])
    weight = model.get_decoder().norm.weight.data
    original, low, high = weight.clone(), 0.0, 14.0
    for _ in range(20):
        middle = (low + high) / 2
        weight.copy_(original * 2**middle)
        with torch.inference_mode():
            logits = model(torch.tensor([[*ids, tokenizer.start_of_music_id]])).logits[0, -1]
        chances = logits[vocabulary.offsets[0] : vocabulary.offsets[1]].float().softmax(-1)
        entropy = float(-(chances * chances.clamp_min(1e-30).log()).sum())
        low, high = (middle, high) if entropy > ENTROPY else (low, middle)


def stage_load(folders: Folders) -> Report:
    """Load the tokenizer, then the recommender, and answer once."""
    from talkplay_hf import Recommender, TalkPlayTokenizer

    base = memory("VmRSS")
    report: Report = {}
    report["tokenizer s"], _ = timed(lambda: TalkPlayTokenizer.from_pretrained(folders.model))
    report["tokenizer MB"] = memory("VmRSS") - base
    base = memory("VmRSS")
    taken, recommender = timed(lambda: Recommender.from_pretrained(folders.model, device="cpu"))
    report |= {"recommender s": taken, "recommender MB": memory("VmRSS") - base}
    report["first chat s"], _ = timed(
        lambda: recommender.chat("play something", seed=0, max_new_tokens=16)
    )
    return report


def memory(what: str) -> float:
    """A line of this process's memory, in MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(what)).split()[1]) / 1024


def timed(call: Callable[[], Any]) -> tuple[float, Any]:
    """CPU seconds of a call, and what it gives."""
    began = time.process_time()
    result = call()
    return time.process_time() - began, result


def commands(folders: Folders, tracks: int, playlists: int, length: int) -> Iterator[Any]:
    """The stages in order: name, command, what it writes."""
    cli = [sys.executable, "-m", "talkplay_hf.cli"]
    own = [sys.executable, __file__, "--folder", str(folders.root), "--stage"]
    f = folders
    size = f"{tracks}:{playlists}"
    written = [f.tracks, f.playlists, f.audio]
    yield "world", [*own, "world", "--size", size, "--length", str(length)], written
    yield "import", [*cli, "import", f.tracks, f.catalog, "--playlists", f.playlists], [f.catalog]
    yield (
        "features",
        [*cli, "embed", f.catalog, f.features, "--vectors", f"audio={f.audio}"],
        [f.features],
    )
    yield (
        "tokenize",
        [*cli, "tokenize", f.catalog, f.features, f.tokenizer, "--codes", str(CODES)],
        [f.tokenizer],
    )
    yield "model", [*own, "model"], [f.model]
    for name in ("lookup", "rank", "load"):
        yield name, [*own, name], []


def run_size(root: Path, size: str, length: int, keep: bool, stop_after: str | None) -> Report:
    """Run the stages of one size that are not done yet; return all reports."""
    tracks, playlists = map(int, size.split(":"))
    folders = Folders(root / size.replace(":", "-"))
    folders.root.mkdir(parents=True, exist_ok=True)
    path = folders.root / "results.json"
    results: Report = json.loads(path.read_text()) if path.exists() else {}
    for name, command, written in commands(folders, tracks, playlists, length):
        if name not in results:
            print(f"{size} {name} ...", flush=True)
            results[name] = measure(list(map(str, command)), folders.root / f"{name}.log")
            results[name]["disk MB"] = sum(map(disk, written))
            path.write_text(json.dumps(results, indent=1))
            print(f"{size} {name}: {json.dumps(results[name])}", flush=True)
        if name == stop_after:
            break
    else:
        if not keep:
            for gone in (folders.features, folders.catalog, folders.tokenizer):
                shutil.rmtree(gone, ignore_errors=True)
            for gone in (folders.audio, folders.tracks, folders.playlists):
                gone.unlink(missing_ok=True)
    return results


def measure(command: list[str], log: Path) -> Report:
    """Run a command; its wall and CPU seconds, its peak memory, and what it says about itself."""
    began = time.perf_counter()
    with log.open("w") as out:
        child = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        tail = "\n".join(log.read_text().splitlines()[-15:])
        raise SystemExit(f"{' '.join(command)} ended with {child.returncode}:\n{tail}")
    report: Report = {
        "wall s": time.perf_counter() - began,
        "CPU s": usage.ru_utime + usage.ru_stime,
        "peak MB": usage.ru_maxrss / 1024,
    }
    if "--stage" in command:
        report |= json.loads(log.read_text().splitlines()[-1])
    return report


def disk(path: Path) -> float:
    """MB of a file or a folder."""
    paths = [path] if path.is_file() else [one for one in path.rglob("*") if one.is_file()]
    return sum(one.stat().st_size for one in paths) / 1e6


def stage_table(sizes: list[str], found: list[Report]) -> str:
    """Every stage at every size; how its CPU time grows, and what each further track takes.

    The exponent is that from the smallest size to the largest, starting up included. What a further
    track takes is the difference of the two largest sizes.
    """
    counts = [int(size.split(":")[0]) for size in sizes]
    heads = " | ".join(_head(size) for size in sizes)
    lines = [
        f"| stage | {heads} | CPU grows as n to the | a further track: CPU | memory | disk |",
        "|---" * (len(sizes) + 5) + "|",
    ]
    for stage in found[0]:
        reports = [one[stage] for one in found if stage in one]
        cells = [
            f"{_number(one['CPU s'])} s ({_number(one['wall s'])} s), "
            f"{one['peak MB'] / 1024:.2g} GB, {_number(one['disk MB'])} MB"
            for one in reports
        ]
        cells += ["not run"] * (len(sizes) - len(cells))
        further = ["", "", "", ""]
        if len(reports) > 1:
            first, second, last = reports[0], reports[-2], reports[-1]
            grown, step = counts[len(reports) - 1] / counts[0], counts[len(reports) - 1]
            step -= counts[len(reports) - 2]
            further = [
                f"{math.log(last['CPU s'] / first['CPU s']) / math.log(grown):.2f}",
                f"{_number(1e6 * (last['CPU s'] - second['CPU s']) / step)} us",
                f"{_number(1024 * 1024 * (last['peak MB'] - second['peak MB']) / step)} B",
                f"{_number(1e6 * (last['disk MB'] - second['disk MB']) / step)} B",
            ]
        lines.append(f"| {stage} | {' | '.join([*cells, *further])} |")
    return "\n".join(lines)


def detail_table(sizes: list[str], found: list[Report]) -> str:
    """What the stages say about themselves."""
    lines = [
        f"| stage | figure | {' | '.join(map(_head, sizes))} |",
        "|---" * (len(sizes) + 2) + "|",
    ]
    for stage in found[0]:
        for figure in found[0][stage]:
            if figure in ("wall s", "CPU s", "peak MB", "disk MB"):
                continue
            values = [one.get(stage, {}).get(figure) for one in found]
            cells = ["" if value is None else _number(value) for value in values]
            lines.append(f"| {stage} | {figure} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _head(size: str) -> str:
    tracks, playlists = map(int, size.split(":"))
    return f"{tracks:,} tracks, {playlists:,} playlists"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, required=True, help="where everything is written")
    parser.add_argument(
        "--size",
        action="append",
        metavar="TRACKS:PLAYLISTS",
        help=f"may be repeated, smallest first (default {', '.join(SIZES)})",
    )
    parser.add_argument("--length", type=int, default=20, help="mean entries of a playlist")
    parser.add_argument("--keep", action="store_true", help="delete nothing")
    parser.add_argument("--until", metavar="STAGE", help="stop after this stage")
    parser.add_argument("--stage", help=argparse.SUPPRESS)
    args = parser.parse_args()
    sizes = args.size or SIZES
    if args.stage == "world":
        tracks, playlists = map(int, sizes[0].split(":"))
        stage_world(Folders(args.folder), tracks, playlists, args.length)
        print("{}")
    elif args.stage:
        stages = {
            "model": stage_model,
            "lookup": stage_lookup,
            "rank": stage_rank,
            "load": stage_load,
        }
        print(json.dumps(stages[args.stage](Folders(args.folder))))
    else:
        found = [run_size(args.folder, size, args.length, args.keep, args.until) for size in sizes]
        print(f"{stage_table(sizes, found)}\n\n{detail_table(sizes, found)}")


if __name__ == "__main__":
    main()
