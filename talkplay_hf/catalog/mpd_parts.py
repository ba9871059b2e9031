"""The files of the Million Playlist Dataset made Parquet, each a part of its own.

A part is a folder with the playlists and the distinct tracks of one file, its rejects and counts,
and the SHA-256 of the file, so that a file is read once however often an import is stopped.
"""

import contextlib
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

import pyarrow.parquet as pq

from talkplay_hf import __version__
from talkplay_hf.catalog.columns import Reject
from talkplay_hf.catalog.mpd import read_slice
from talkplay_hf.errors import ArtifactError
from talkplay_hf.hub import files

PART_RECORD = "part.json"


@dataclass(frozen=True)
class PartRecord:
    """What a part is made from and what became of it: the SHA-256 of its file, and the counts."""

    sha256: str
    counts: dict[str, int]
    rejects: list[Reject]
    format_version: int = files.FORMAT_VERSION
    talkplay_hf: str = __version__


def part_record(part: Path) -> PartRecord:
    """Read the record of a part.

    Raises:
        ArtifactError: If it is not there or not one of this version of the package.
    """
    values = files.read_json(part / PART_RECORD)
    try:
        values["rejects"] = [Reject(**one) for one in values["rejects"]]
        record = PartRecord(**values)
    except (KeyError, TypeError):
        raise ArtifactError(f"{part / PART_RECORD}: is no record of a part") from None
    if (record.format_version, record.talkplay_hf) != (files.FORMAT_VERSION, __version__):
        raise ArtifactError(f"{part / PART_RECORD}: was written by another version")
    return record


def make_part(path: Path, work: Path) -> Path:
    """Read a file into a part below the folder `work`, unless the part is there.

    Returns:
        `Path`: The folder of the part. It appears only when it is complete.

    Raises:
        InputError: If the file cannot be read at all.
    """
    part = work / path.name
    if part.exists():
        with contextlib.suppress(ArtifactError, OSError):
            if part_record(part).sha256 == files.sha256_file(path):
                return part
        shutil.rmtree(part)
    data = read_slice(path)
    with files.staged_folder(part, "part") as aside:
        pq.write_table(data.playlists, aside / files.PLAYLISTS, compression="zstd")
        pq.write_table(data.tracks, aside / files.TRACKS, compression="zstd")
        record = PartRecord(data.sha256, data.counts, data.rejects)
        files.write_json(aside / PART_RECORD, asdict(record))
    return part
