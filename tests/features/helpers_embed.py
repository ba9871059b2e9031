"""What the tests of the embedding run share: a run without a catalog, and a model's stand-in."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from talkplay_hf.features.shards import Processes, ShardedRun


def make_run(work: Path, n: int, **options: Any) -> ShardedRun:
    """A run of one modality over `n` tracks named t0, t1, ..."""
    options = {"seed": 0, "fit_on": np.ones(n, dtype=bool)} | options
    return ShardedRun(
        "semantic", [f"t{row}" for row in range(n)], work, processes=Processes("cpu"), **options
    )


def lengths(texts: Sequence[str]) -> np.ndarray:
    """A stand-in for a model: three numbers a text."""
    return np.array([[len(text), text.count("a"), hash_of(text)] for text in texts], np.float32)


def hash_of(text: str) -> int:
    return sum(map(ord, text)) % 97
