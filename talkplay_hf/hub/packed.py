"""What both packed repos share: files of an artefact folder that lie in a repo as Parquet tables.

The manifest keeps naming what the folder holds once it is unpacked, so that its identity
(`files.content_hash`) is the same on both sides; the tables stand beside, under `packed`.
"""

import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from talkplay_hf.errors import ArtifactError
from talkplay_hf.hub import files
from talkplay_hf.hub.verify import plain_name

PACKED = "packed"


def write_packed_manifest(
    folder: Path, manifest: Mapping[str, Any], tables: Iterable[Path]
) -> None:
    """Write the manifest of a packed (staged) folder.

    Args:
        folder (`Path`): The folder.
        manifest (`Mapping[str, Any]`): The manifest of the folder that was packed.
        tables (`Iterable[Path]`): The files of the tables.
    """
    hashes = {path.name: files.sha256_file(path) for path in tables}
    files.write_json(folder / files.MANIFEST, {**manifest, PACKED: hashes})


def read_packed_manifest(folder: Path, kind: str) -> tuple[dict[str, Any], dict[str, str]]:
    """Read the manifest of a packed folder.

    Returns:
        `tuple[dict, dict]`: The manifest of the folder that was packed, and the SHA-256 of the
        tables by file name.

    Raises:
        ArtifactError: If the folder is of another kind, not packed, or the manifest is damaged.
    """
    manifest = files.read_manifest(folder, kind)
    packed = manifest.pop(PACKED, None)
    named = manifest.get("files")
    where = folder / files.MANIFEST
    if not isinstance(packed, dict) or not isinstance(named, dict):
        raise ArtifactError(f"{where}: names no packed tables, so there is nothing to unpack")
    for name in (*named, *packed):
        plain_name(name, where)
    return manifest, packed


def copy_files(folder: Path, names: Iterable[str], out: Path) -> None:
    """Copy the files of a folder that its manifest names, and its card, into a (staged) folder.

    Raises:
        ArtifactError: If one is missing or cannot be copied.
    """
    for name in sorted({*names, files.CARD}):
        if name == files.CARD and not (folder / name).is_file():
            continue
        try:
            shutil.copyfile(folder / name, out / name)
        except OSError as error:
            raise ArtifactError(f"{folder / name}: cannot be copied ({error.strerror})") from None


def check_hash(path: Path, sha: object, where: Path) -> None:
    """Refuse a file that is not the one that a manifest names.

    Raises:
        ArtifactError: If its SHA-256 is another one.
    """
    if files.sha256_file(path) != sha:
        raise ArtifactError(
            f"{where}: {path.name} is not the file that {files.MANIFEST} names by its SHA-256; "
            "fetch or make the folder again"
        )
