"""Seconds per thousand tracks added to a finished codebook.

    python tests/benchmarks/add_tracks.py --tracks 50000 --added 5000

Five modalities of 128 to 1024 dimensions, K = 1024, vectors at random: the time does not depend on
what they say. Codebooks are taken from the vectors, not fitted, since only adding is timed. A tenth
of the tracks lacks playlist vectors, half of them lack lyrics.
"""

import argparse
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
from safetensors.numpy import save_file

from talkplay_hf.catalog.schema import MODALITIES, PLAYLIST_SCHEMA, Catalog
from talkplay_hf.hub import files
from talkplay_hf.tokens.build import write_token_catalog
from talkplay_hf.tokens.codebooks import Codebook, encode_tracks, known_codes, label_codes
from talkplay_hf.tokens.config import TalkPlayConfig
from talkplay_hf.tokens.extend import add_tracks

DIMS = (128, 384, 384, 1024, 1024)


def catalog(tracks: int, prefix: str) -> Catalog:
    """A catalog of numbered tracks."""
    tags = [[f"tag {i % 830}", f"tag {i % 97}", f"tag {i % 11}"] for i in range(tracks)]
    table = pa.table(
        {
            "track_id": [f"{prefix}{i}" for i in range(tracks)],
            "title": [f"Title {i}" for i in range(tracks)],
            "artist": [f"Artist {i % 999}" for i in range(tracks)],
            "tags": tags,
        }
    )
    return Catalog(table, PLAYLIST_SCHEMA.empty_table())


def features(tracks: int, seed: int) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Random vectors of five modalities."""
    rng = np.random.default_rng(seed)
    lacking = dict.fromkeys(MODALITIES, 0.0) | {"playlist": 0.1, "lyrics": 0.5}
    return {
        name: (
            rng.standard_normal((tracks, dim), dtype=np.float32),
            rng.random(tracks) >= lacking[name],
        )
        for name, dim in zip(MODALITIES, DIMS, strict=True)
    }


def write_folder(folder: Path, tracks: int, codes: int, missing: str) -> None:
    """A tokenizer folder without a tokenizer, which adding does not read."""
    folder.mkdir()
    old, modalities = catalog(tracks, "old"), features(tracks, 0)
    vectors = list(modalities.values())
    clusters = codes - (missing == "reserve")
    books = [Codebook(values[:clusters].copy(), codes) for values, _ in vectors]
    pairs = zip(MODALITIES, books, strict=True)
    save_file({name: book.centroids for name, book in pairs}, folder / files.CODEBOOKS)
    found = encode_tracks(books, vectors, missing="reserve")
    known = known_codes([present for _, present in vectors], None)
    path = folder / files.TOKEN_CATALOG
    write_token_catalog(old, found, path, known)
    config = TalkPlayConfig(
        codes=(codes,) * len(MODALITIES),
        base="none",
        base_vocab_size=1,
        codebook_hash=files.sha256_file(folder / files.CODEBOOKS),
        catalog_hash=files.sha256_file(path),
        missing=missing,
    )
    files.write_json(folder / files.TALKPLAY_CONFIG, config.to_dict())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tracks", type=int, default=50_000)
    parser.add_argument("--added", type=int, nargs="+", default=[1000, 5000])
    parser.add_argument("--codes", type=int, default=1024)
    parser.add_argument("--labels", type=int, help="time label_codes at this many tracks instead")
    args = parser.parse_args()
    if args.labels:
        many = catalog(args.labels, "t")
        codes = np.random.default_rng(0).integers(0, args.codes, size=(args.labels, 5))
        began = time.perf_counter()
        label_codes(codes, MODALITIES, many.tracks["tags"], many.track_ids, np.zeros(args.labels))
        print(f"label_codes, {args.labels:,} tracks: {time.perf_counter() - began:.1f} s")
        return
    print(f"{args.tracks:,} tracks there, K = {args.codes}, dimensions {DIMS}, one thread")
    print(f"{'policy':10}{'added':>8}{'seconds':>10}{'s per 1,000':>13}")
    with tempfile.TemporaryDirectory() as where:
        for missing in ("reserve", "impute"):
            folder = Path(where) / missing
            write_folder(folder, args.tracks, args.codes, missing)
            for added in args.added:
                more, modalities = catalog(added, "new"), features(added, 1)
                began = time.perf_counter()
                add_tracks(folder, more, modalities, Path(where) / "out")
                seconds = time.perf_counter() - began
                print(f"{missing:10}{added:8,}{seconds:10.2f}{1000 * seconds / added:13.2f}")


if __name__ == "__main__":
    main()
