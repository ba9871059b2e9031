"""An encoder that takes its time, and a run of it: `python slow_lengths.py CATALOG OUT SECONDS`."""

import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from sharded_run import lengths

from talkplay_hf.catalog.schema import Catalog
from talkplay_hf.errors import InputError
from talkplay_hf.features import shards
from talkplay_hf.features.embed import embed
from talkplay_hf.features.encoders import ENCODERS
from talkplay_hf.features.shards import ShardedRun
from talkplay_hf.features.store import ModalityVectors

ENCODERS["slow-lengths"] = "slow_lengths:SlowLengths"


@dataclass(frozen=True)
class SlowLengths:
    modalities: ClassVar[tuple[str, ...]] = ("lyrics", "audio")

    bad: str = "no such line"
    seconds: ClassVar[float] = 0.0

    def encode(self, catalog: Catalog, modality: str, run: ShardedRun) -> ModalityVectors:
        def encode(batch: list[str]) -> np.ndarray:
            time.sleep(SlowLengths.seconds)
            return lengths(batch)

        def load(text: str) -> str:
            if self.bad in text:
                raise InputError(f"has {self.bad!r}")
            return text

        return run.map_tracks(catalog.column("lyrics"), encode, load=load, batch_size=4)


if __name__ == "__main__":
    import slow_lengths  # the class that the registry finds is not the one in __main__

    shards.SHARD_TRACKS = 8
    slow_lengths.SlowLengths.seconds = float(sys.argv[3])
    embed(
        Catalog.load(sys.argv[1]),
        Path(sys.argv[2]),
        config={"lyrics": "slow-lengths"},
        dim=8,
        device="cpu",
    )
