"""Seconds and memory to load a model folder, against plain transformers, part by part.

    python tests/benchmarks/load_time.py --tracks 27000 1000000
    python tests/benchmarks/load_time.py --model some/model/folder

Every load is a process of its own, after the imports; ours and plain `AutoTokenizer` +
`AutoModelForCausalLM` take turns, and medians are shown. The plain side also hashes every file of
the folder, which ours does as well (`hashes`). A synthetic folder has random codes (K = 1024),
names of plausible length and a tiny model, so that the catalogue is what is measured. The files
were just written or read, so they are in the page cache.
"""

import argparse
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["HF_HUB_OFFLINE"] = "1"

import functools
import inspect
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

CODES, WIDTH = 1024, 64
REQUEST = "something calm for the evening"


def synthetic_folder(out: Path, tracks: int) -> Path:
    """Write a model folder with a random catalogue."""
    from safetensors.numpy import save_file

    from talkplay_hf.catalog.schema import MODALITIES, PLAYLIST_SCHEMA, Catalog
    from talkplay_hf.hub import files
    from talkplay_hf.recommend.saving import save_model_folder
    from talkplay_hf.tokens.bpe import train_bpe
    from talkplay_hf.tokens.build import write_token_catalog
    from talkplay_hf.tokens.config import TalkPlayConfig
    from talkplay_hf.tokens.index import CatalogIndex
    from talkplay_hf.tokens.tokenizer import TalkPlayTokenizer
    from talkplay_hf.training.model.base import scratch_model
    from talkplay_hf.training.model.vocabulary import grow_vocabulary

    out.mkdir()
    rng = np.random.default_rng(0)
    table = random_tracks(tracks, rng)
    codes = rng.integers(0, CODES, (tracks, len(MODALITIES)), dtype=np.int32)
    catalog = Catalog(table, PLAYLIST_SCHEMA.empty_table())
    write_token_catalog(catalog, codes, out / files.TOKEN_CATALOG, np.ones(codes.shape, bool))
    CatalogIndex(codes, [CODES] * len(MODALITIES)).save(out / files.CATALOG_INDEX)
    centroids = {name: rng.standard_normal((CODES, WIDTH), dtype=np.float32) for name in MODALITIES}
    save_file(centroids, out / files.CODEBOOKS)
    base = train_bpe(table["title"].slice(0, 2000).to_pylist(), vocab_size=1024)
    config = TalkPlayConfig(
        codes=(CODES,) * len(MODALITIES),
        base="scratch",
        base_vocab_size=len(base),
        codebook_hash=files.sha256_file(out / files.CODEBOOKS),
        catalog_hash=files.sha256_file(out / files.TOKEN_CATALOG),
    )
    files.write_json(out / files.TALKPLAY_CONFIG, config.to_dict())
    tokenizer = TalkPlayTokenizer.grow(base, config.music_tokens)
    tokenizer.attach(out)
    model = scratch_model(tokenizer, hidden_size=WIDTH, layers=2, heads=2, seed=0)
    grow_vocabulary(model, tokenizer)
    save_model_folder(model, tokenizer, out.with_name(f"{out.name}-model"))
    return out.with_name(f"{out.name}-model")


def random_tracks(tracks: int, rng: np.random.Generator) -> pa.Table:
    """Titles of one to four words, ten tracks an artist, a few tags each."""
    words = np.array(["".join(rng.choice(list("abcdefghiklmnorstu"), 6)) for _ in range(5000)])
    tags = np.array([f"{word} music" for word in words[:400]])
    artists = max(tracks // 10, 1)

    def names(count: int, most: int) -> list[str]:
        picked, lengths = rng.choice(words, (count, most)), rng.integers(1, most + 1, count)
        return [" ".join(row[:n]) for row, n in zip(picked, lengths, strict=True)]

    by = rng.integers(0, artists, tracks)
    kinds, held = rng.choice(tags, (tracks, 4)), rng.integers(0, 5, tracks)
    columns = {
        "track_id": [f"{n:022d}" for n in rng.permutation(tracks)],
        "title": names(tracks, 4),
        "artist": np.array(names(artists, 3))[by].tolist(),
        "album": np.array(names(artists * 2, 3))[by * 2 + rng.integers(0, 2, tracks)].tolist(),
        "release_date": [f"{year}-01-01" for year in rng.integers(1950, 2024, tracks)],
        "tags": [row[:n].tolist() for row, n in zip(kinds, held, strict=True)],
        "popularity": rng.random(tracks).tolist(),
    }
    return pa.table(columns)


class Parts:
    """Seconds spent in some functions, less what those that they call take."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._inside = [0.0]

    def watch(self, part: str, owner: Any, name: str) -> None:
        """Count the time in a function of a module or class from now on."""
        kept = inspect.getattr_static(owner, name)
        call: Callable[..., Any] = kept.__func__ if isinstance(kept, classmethod) else kept

        @functools.wraps(call)
        def timed(*args: Any, **kwargs: Any) -> Any:
            self._inside.append(0.0)
            began = time.perf_counter()
            try:
                return call(*args, **kwargs)
            finally:
                taken = time.perf_counter() - began
                self.seconds[part] += taken - self._inside.pop()
                self._inside[-1] += taken

        setattr(owner, name, classmethod(timed) if isinstance(kept, classmethod) else timed)


def load_ours(folder: str) -> dict[str, float]:
    """Load a recommender and let it answer twice."""
    import transformers.models.llama.modeling_llama  # noqa: F401
    from transformers import AutoModelForCausalLM

    from talkplay_hf.catalog.constraints import Constraint
    from talkplay_hf.catalog.matcher import ConstraintMatcher
    from talkplay_hf.hub import files
    from talkplay_hf.recommend import loading
    from talkplay_hf.recommend.lookup import WeightedLookup
    from talkplay_hf.recommend.recommender import Recommender
    from talkplay_hf.tokens.index import CatalogIndex
    from talkplay_hf.tokens.tokenizer import TalkPlayTokenizer

    parts = Parts()
    parts.watch("hashes", files, "sha256_file")
    parts.watch("tokenizer", TalkPlayTokenizer, "from_pretrained")
    parts.watch("weights", AutoModelForCausalLM, "from_pretrained")
    parts.watch("catalog", loading, "read_fitting_catalog")
    parts.watch("index", CatalogIndex, "load")
    parts.watch("index", CatalogIndex, "fits")
    parts.watch("index", CatalogIndex, "__init__")
    parts.watch("lookup", WeightedLookup, "__init__")
    parts.watch("matcher", ConstraintMatcher, "__init__")
    before = memory("VmRSS")
    began = time.perf_counter()
    recommender = Recommender.from_pretrained(folder, device="cpu")
    found = {"load": time.perf_counter() - began, "peak MB": memory("VmHWM") - before}
    found |= {"kept MB": memory("VmRSS") - before, **parts.seconds}
    rule = Constraint("artist", "is", recommender.catalog.track_at(0).artist)
    chats: dict[str, dict[str, Any]] = {
        "first chat": {},
        "second chat": {},
        "first with a rule": {"rules": rule},
        "first with names": {"names": True},
    }
    for name, options in chats.items():
        began = time.perf_counter()
        recommender.chat(REQUEST, seed=0, max_new_tokens=16, **options)
        found[name] = time.perf_counter() - began
    return found | {"peak MB with chats": memory("VmHWM") - before}


def load_plain(folder: str) -> dict[str, float]:
    """Load the model and its tokenizer as any other, and hash the files."""
    import hashlib

    import transformers.models.llama.modeling_llama  # noqa: F401
    from transformers import AutoModelForCausalLM, AutoTokenizer

    before = memory("VmRSS")
    began = time.perf_counter()
    AutoTokenizer.from_pretrained(folder)
    AutoModelForCausalLM.from_pretrained(folder)
    found = {"load": time.perf_counter() - began, "peak MB": memory("VmHWM") - before}
    began = time.perf_counter()
    for path in Path(folder).iterdir():
        with path.open("rb") as file:
            hashlib.file_digest(file, "sha256")
    return found | {"hashes": time.perf_counter() - began}


def memory(what: str) -> float:
    """A line of this process's memory, in MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(what)).split()[1]) / 1024


def measure(which: str, folder: Path) -> dict[str, float]:
    """One load in a fresh process."""
    done = subprocess.run(
        [sys.executable, __file__, f"--{which}", str(folder)],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    values: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return values


def compare(folder: Path, rounds: int, what: str) -> None:
    """Print the medians of both sides."""
    runs: dict[str, list[dict[str, float]]] = {"ours": [], "plain": []}
    for _ in range(rounds):
        for which, found in runs.items():
            found.append(measure(which, folder))
    middle = {
        which: {name: statistics.median(run.get(name, 0.0) for run in found) for name in found[0]}
        for which, found in runs.items()
    }
    rival = middle["plain"]["load"] + middle["plain"]["hashes"]
    ratio = middle["ours"]["load"] / rival
    print(f"\n{what}: loading takes {ratio:.2f} times plain loading and hashing\n")
    print("| part | ours | plain |\n|---|---|---|")
    for name in middle["ours"]:
        cells = [_cell(name, values.get(name)) for values in middle.values()]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


def _cell(name: str, value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.0f}" if "MB" in name else f"{value:.3f} s"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, help="a model folder that is there")
    parser.add_argument("--tracks", type=int, nargs="*", default=[], help="synthetic catalogues")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--ours", help=argparse.SUPPRESS)
    parser.add_argument("--plain", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.ours or args.plain:
        print(json.dumps(load_ours(args.ours) if args.ours else load_plain(args.plain)))
        return
    if args.model:
        compare(args.model, args.rounds, str(args.model))
    with tempfile.TemporaryDirectory() as where:
        for tracks in args.tracks:
            folder = synthetic_folder(Path(where) / str(tracks), tracks)
            compare(folder, args.rounds, f"{tracks:,} tracks")


if __name__ == "__main__":
    main()
