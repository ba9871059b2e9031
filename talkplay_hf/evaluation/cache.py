"""What systems did on chunks of turns, kept on disk, so that nothing is computed twice.

A system has a folder, named after it and the hash of all that its figures depend on: its files or
sources, the catalog and the options. A chunk is a file in it, named after its turns. A run that was
killed goes on after its last whole chunk, and whatever has changed is simply not found.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from talkplay_hf import __version__
from talkplay_hf.catalog.schema import Catalog, Conversation
from talkplay_hf.evaluation import baselines
from talkplay_hf.evaluation.baselines.base import BaselineSources
from talkplay_hf.evaluation.outcomes import Arrays
from talkplay_hf.evaluation.turns import Turn
from talkplay_hf.hub import files

IDENTITY = "identity.json"
CODE = Path(baselines.__file__).parent


class ChunkStore:
    """The chunks of one system.

    Args:
        folder (`Path`): The cache folder, shared by all systems.
        name (`str`): The name of the system.
        identity (`Mapping[str, Any]`): JSON values that its figures depend on.
    """

    def __init__(self, folder: Path, name: str, identity: Mapping[str, Any]) -> None:
        whole = {**identity, "name": name, "talkplay_hf": __version__}
        self._folder = folder / f"{name}-{files.sha256_json(whole)[:16]}"
        self._identity = whole

    def read(self, chunk: str) -> Arrays | None:
        """The arrays of a chunk, or `None` where there is no whole file of it."""
        try:
            found: Arrays = load_file(self._path(chunk))
        except (OSError, SafetensorError):
            return None
        return found

    def write(self, chunk: str, arrays: Arrays) -> None:
        """Keep the arrays of a chunk."""
        path = self._path(chunk)
        if not (path.parent / IDENTITY).exists():
            files.write_json(path.parent / IDENTITY, self._identity)
        whole = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
        files.write_bytes(path, save(whole))

    def _path(self, chunk: str) -> Path:
        return self._folder / f"{chunk}.safetensors"


def chunk_name(numbers: Sequence[int], turns: Sequence[Turn]) -> str:
    """The name of a chunk: the number of its first turn, and the hash of all of them.

    Args:
        numbers (`Sequence[int]`): The place of each turn among all that are evaluated.
        turns (`Sequence[Turn]`): The turns.
    """
    last = {turn.conversation: turn for turn in turns}
    facts = [(turn.conversation, turn.number, turn.labels, turn.played) for turn in turns]
    # a turn's history is the beginning of that of the last turn of its conversation
    told = [*zip(numbers, facts, strict=True), *(turn.history for turn in last.values())]
    return f"{numbers[0]:06d}-{_digest(map(repr, told))[:16]}"


def catalog_hash(catalog: Catalog) -> str:
    """SHA-256 of the tracks and playlists of a catalog, as they are in memory."""

    def tables() -> Iterable[bytes]:
        for table in (catalog.tracks, catalog.playlists):
            sink = pa.BufferOutputStream()
            pq.write_table(table, sink, compression="none", store_schema=False)
            yield sink.getvalue().to_pybytes()

    return _digest(tables())


def conversations_hash(conversations: Sequence[Conversation]) -> str:
    """SHA-256 of conversations."""
    return _digest(map(repr, conversations))


def folder_hash(folder: str | Path) -> str:
    """SHA-256 of a folder (or file): its files by name, without cards, pictures and caches."""
    if Path(folder).is_file():
        return files.sha256_file(folder)
    found = sorted(path for path in Path(folder).rglob("*") if path.is_file())
    kept = [path for path in found if path.suffix not in (".md", ".png", ".pyc")]
    return files.sha256_json(
        {str(path.relative_to(folder)): files.sha256_file(path) for path in kept}
    )


def sources_identity(sources: BaselineSources) -> dict[str, Any]:
    """What baselines are made from, as JSON values with a hash for all that is large."""
    identity: dict[str, Any] = {"code": folder_hash(CODE)}
    for item in fields(sources):
        value = getattr(sources, item.name)
        if isinstance(value, Catalog):
            identity[item.name] = catalog_hash(value)
        elif item.name == "conversations":
            identity[item.name] = conversations_hash(value)
        elif isinstance(value, frozenset):
            identity[item.name] = files.sha256_json(sorted(value))
        elif isinstance(value, Path) or (item.name == "encoder" and Path(value or "-").is_dir()):
            identity[item.name] = folder_hash(value)
        elif item.name != "device":
            identity[item.name] = value if isinstance(value, int | None) else str(value)
    return identity


def _digest(texts: Iterable[str | bytes]) -> str:
    found = hashlib.sha256()
    for text in texts:
        data = text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")
        found.update(len(data).to_bytes(8, "big"))
        found.update(data)
    return found.hexdigest()
