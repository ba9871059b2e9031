"""File names, hashes and atomic writes, in one place.

Nothing that this package writes is ever seen half-written: files and folders are written aside,
flushed to disk and renamed.
"""

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from talkplay_hf import __version__
from talkplay_hf.errors import ArtifactError

FORMAT_VERSION = 1

MANIFEST = "manifest.json"
TRACKS = "tracks.parquet"
PLAYLISTS = "playlists.parquet"
REJECTS = "rejects.parquet"
CARD = "README.md"
QUARANTINE = "quarantine.parquet"
TALKPLAY_CONFIG = "talkplay_config.json"
CODEBOOKS = "codebooks.safetensors"
TOKEN_CATALOG = "catalog.parquet"
CATALOG_INDEX = "catalog_index.safetensors"
CODEBOOK_LABELS = "codebook_labels.parquet"
CODEBOOK_HEALTH = "codebook_health.json"
EXAMPLES = "examples.json"


def sha256_file(path: str | Path) -> str:
    """Return the SHA-256 of a file as 64 hexadecimal digits."""
    with Path(path).open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def sha256_json(value: Any) -> str:
    """Return the SHA-256 of a JSON value in canonical form (sorted keys, no spaces)."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def read_json(path: str | Path) -> Any:
    """Read a JSON file.

    Raises:
        ArtifactError: If the file is missing or is not JSON.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ArtifactError(f"{path}: no such file") from None
    except OSError as error:
        raise ArtifactError(f"{path}: cannot be read ({error})") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ArtifactError(f"{path}: not valid JSON ({error})") from None


def fsync(path: Path) -> None:
    """Flush a file, or the entries of a folder, to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def put_in_place(aside: Path, path: Path) -> None:
    """Flush a file that was written aside to disk, and rename it to where it belongs."""
    fsync(aside)
    aside.replace(path)


def write_text(path: str | Path, text: str) -> None:
    """Write a UTF-8 text file atomically: aside, flushed, renamed."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, aside = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as handle:
            handle.write(text)
        Path(aside).chmod(0o644)
        put_in_place(Path(aside), path)
    except BaseException:
        Path(aside).unlink(missing_ok=True)
        raise


def write_json(path: str | Path, value: Any) -> None:
    """Write a JSON file atomically, keys sorted, so that the same value gives the same bytes."""
    write_text(path, json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n")


@contextlib.contextmanager
def staged_folder(out: str | Path, kind: str) -> Iterator[Path]:
    """Yield a folder to write into that becomes `out` only when the block ends without an error.

    Args:
        out (`str` or `Path`): The folder to make. If it exists and is not empty, it is replaced
            only when it is an artefact of the same kind.
        kind (`str`): The kind of artefact: a manifest's, `"tokenizer"` or `"model"`.

    Raises:
        ArtifactError: If `out` is a file, or a folder with something else in it.
    """
    out = Path(out)
    check_target(out, kind)
    out.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    aside.chmod(0o755)
    try:
        yield aside
        for path in sorted(aside.rglob("*")):
            if path.is_file():
                fsync(path)
        old = None
        if out.exists():
            old = Path(tempfile.mkdtemp(prefix=f".{out.name}.old.", dir=out.parent)) / out.name
            out.rename(old)
        try:
            aside.rename(out)
        except BaseException:
            if old is not None:
                old.rename(out)
                old.parent.rmdir()
            raise
        if old is not None:
            shutil.rmtree(old.parent)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise


def check_target(out: str | Path, kind: str) -> None:
    """Refuse to write an artefact over anything but an artefact of the same kind.

    Raises:
        ArtifactError: If `out` is a file, or a folder with something else in it.
    """
    out = Path(out)
    if out.is_file():
        raise ArtifactError(f"{out}: is a file; name a folder to write to")
    if not out.is_dir() or not any(out.iterdir()):
        return
    found = folder_kind(out)
    if found != kind:
        what = f"is a {found} folder" if found else "is not empty and not one of ours"
        raise ArtifactError(f"{out}: {what}; name a new folder to write the {kind} to")


def folder_kind(folder: Path) -> str | None:
    """Which kind of artefact a folder is, or `None` where it is none of ours."""
    if (folder / TALKPLAY_CONFIG).exists():
        return "model" if (folder / "config.json").exists() else "tokenizer"
    if (folder / MANIFEST).exists():
        manifest = read_json(folder / MANIFEST)
        return manifest.get("kind") if isinstance(manifest, dict) else None
    return None


def content_hash(manifest: Mapping[str, Any]) -> str:
    """SHA-256 that identifies an artefact folder by its files, from its manifest.

    The card does not count: figures may be added to it, or it may be edited on the Hub, and the
    data are still the same.
    """
    return sha256_json({name: sha for name, sha in manifest["files"].items() if name != CARD})


def write_manifest(
    folder: str | Path, kind: str, made_from: Mapping[str, str], **facts: Any
) -> dict[str, Any]:
    """Write the manifest of an artefact folder: its kind, format, origin and facts about it.

    Args:
        folder (`str` or `Path`): The artefact folder, complete but for the manifest.
        kind (`str`): `"catalog"`, `"features"` or `"conversations"`.
        made_from (`Mapping[str, str]`): SHA-256 of each input, by name.
        facts: Further JSON values to record.

    Returns:
        `dict[str, Any]`: What was written, with the SHA-256 of every file under `"files"`.
    """
    folder = Path(folder)
    files = {
        str(path.relative_to(folder)): sha256_file(path)
        for path in sorted(folder.glob("*"))
        if path.is_file() and path.name != MANIFEST
    }
    manifest = {
        "format_version": FORMAT_VERSION,
        "talkplay_hf": __version__,
        "kind": kind,
        "made_from": dict(made_from),
        "files": files,
        **facts,
    }
    write_json(folder / MANIFEST, manifest)
    return manifest


def read_manifest(folder: str | Path, kind: str) -> dict[str, Any]:
    """Read and check the manifest of an artefact folder.

    Raises:
        ArtifactError: If the folder is missing, of another kind, or of another format version.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ArtifactError(f"{folder}: no such folder (a {kind} folder was expected)")
    if not (folder / MANIFEST).exists():
        raise ArtifactError(f"{folder}: holds no {MANIFEST}, so it is not a {kind} folder")
    manifest: dict[str, Any] = read_json(folder / MANIFEST)
    if not isinstance(manifest, dict) or manifest.get("kind") != kind:
        found = manifest.get("kind") if isinstance(manifest, dict) else None
        raise ArtifactError(f"{folder}: is a {found} folder; a {kind} folder was expected")
    check_format_version(folder / MANIFEST, manifest)
    return manifest


def check_format_version(path: Path, manifest: Mapping[str, Any]) -> None:
    """Refuse an artefact of another format version by name.

    Raises:
        ArtifactError: If `manifest["format_version"]` is not this package's.
    """
    version = manifest.get("format_version")
    if version != FORMAT_VERSION:
        raise ArtifactError(
            f"{path}: has format_version {version}; this version of talkplay_hf reads "
            f"{FORMAT_VERSION}. Make the folder again with this version."
        )
