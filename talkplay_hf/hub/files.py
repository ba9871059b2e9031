"""File names, hashes and atomic writes, in one place.

Nothing that this package writes is ever seen half-written: files and folders are written aside,
flushed to disk and renamed.
"""

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from talkplay_hf import __version__
from talkplay_hf.errors import ArtifactError, ConfigError
from talkplay_hf.hub.held import exchange, held, locked

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
TRAINING_REPORT = "training_report.json"
BUILD = "build.json"
PICTURES = "*.png"
# the command that makes a folder of each kind
MAKERS = {
    "catalog": "import",
    "features": "embed",
    "conversations": "synthesize",
    "tokenizer": "tokenize",
    "model": "train",
}
# what may change in a model or tokenizer folder without making it another one
UNCOUNTED = (CARD, BUILD, PICTURES, ".*")


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
    except (ValueError, RecursionError) as error:
        raise ArtifactError(f"{path}: not valid JSON ({error})") from None


def read_yaml(path: str | Path, what: str) -> dict[str, Any]:
    """Read a YAML file of settings that a person wrote.

    Args:
        path (`str` or `Path`): The file.
        what (`str`): What it must hold, for the error.

    Raises:
        ConfigError: If it cannot be read as a mapping.
    """
    import yaml

    try:
        values = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: cannot be read ({' '.join(str(error).split())})") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: must hold {what}")
    return values


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


def write_bytes(path: str | Path, data: bytes) -> None:
    """Write a file atomically: aside, flushed, renamed. Of two processes the later one waits."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.aside")
    with locked(aside, wait=True) as descriptor:
        with open(descriptor, "wb", closefd=False) as handle:
            # a process that was killed may have left something
            handle.truncate()
            handle.write(data)
        aside.chmod(0o644)
        put_in_place(aside, path)


def write_text(path: str | Path, text: str) -> None:
    """Write a UTF-8 text file atomically, see `write_bytes`."""
    write_bytes(path, text.encode())


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
        ArtifactError: If `out` is a file, a folder with something else in it, or being written by
            another process.
    """
    out = Path(out)
    check_target(out, kind)
    with held(out):
        clear_leftovers(out)
        check_target(out, kind)
        # of the same name, which a card may tell
        aside = _beside(out) / out.name
        try:
            _beside(out).mkdir(mode=0o700)
            aside.mkdir()
            aside.chmod(0o755)
            yield aside
            for path in sorted(aside.rglob("*")):
                if path.is_file():
                    # safetensors writes files that only their owner may read; a file that has
                    # another name elsewhere belongs to somebody else too
                    if path.stat().st_nlink == 1:
                        path.chmod(0o644)
                    fsync(path)
            _take_place(aside, out)
        finally:
            shutil.rmtree(_beside(out), ignore_errors=True)


def clear_leftovers(out: str | Path) -> None:
    """Clear away what a process that was killed while it staged a folder has left beside it.

    Raises:
        ArtifactError: If a process that lives is writing it.
    """
    out = Path(out)
    if not _beside(out).exists():
        return
    with held(out):
        if _old(out).exists() and not out.exists():
            _old(out).rename(out)
        shutil.rmtree(_beside(out))


def _beside(out: Path) -> Path:
    return out.with_name(f".{out.name}.aside")


def _old(out: Path) -> Path:
    return _beside(out) / ".old"


def _take_place(aside: Path, out: Path) -> None:
    """Put a folder where it belongs; one that is there is seen until then, where the system can
    exchange two folders in one step."""
    if not out.exists():
        aside.rename(out)
        return
    if exchange(aside, out):
        return
    old = _old(out)
    out.rename(old)
    try:
        aside.rename(out)
    except BaseException:
        old.rename(out)
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
        kind = manifest.get("kind") if isinstance(manifest, dict) else None
        return kind if isinstance(kind, str) else None
    return None


def content_hash(manifest: Mapping[str, Any]) -> str:
    """SHA-256 that identifies an artefact folder by its files, from its manifest.

    The card does not count: figures may be added to it, or it may be edited on the Hub, and the
    data are still the same.
    """
    listed = manifest.get("files")
    if not isinstance(listed, dict):
        raise ArtifactError(f"the {MANIFEST} of a folder must list its files; make it anew")
    return sha256_json({name: sha for name, sha in listed.items() if name != CARD})


def write_manifest(
    folder: str | Path, kind: str, made_from: Mapping[str, str], **facts: Any
) -> dict[str, Any]:
    """Write the manifest of an artefact folder: its kind, format, origin and facts about it.

    Args:
        folder (`str` or `Path`): The artefact folder, complete but for the manifest.
        kind (`str`): `"catalog"`, `"features"`, `"conversations"`, `"tokenizer"`, `"model"`, ...
        made_from (`Mapping[str, str]`): SHA-256 of each input, by name.
        facts: Further JSON values to record.

    Returns:
        `dict[str, Any]`: What was written, with the SHA-256 of every file under `"files"`.
    """
    folder = Path(folder)
    left_out = _uncounted(folder) if kind in ("tokenizer", "model") else ()
    files = {
        str(path.relative_to(folder)): sha256_file(path)
        for path in sorted(folder.glob("*"))
        if path.is_file() and path.name != MANIFEST and path.name not in left_out
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


def refresh_manifest(folder: str | Path, names: Iterable[str] | None = None) -> dict[str, Any]:
    """Write the manifest of a tokenizer or model folder anew, from the files that are there.

    The card, pictures, hidden files and the note of `talkplay build` do not count.

    Args:
        folder (`str` or `Path`): The folder, complete.
        names (`Iterable[str]`, *optional*): The files that were written; of the others the manifest
            keeps what it says. All when left out.

    Returns:
        `dict[str, Any]`: What was written.

    Raises:
        ArtifactError: If it is not a tokenizer or model folder.
    """
    folder = Path(folder)
    kind = folder_kind(folder)
    if kind not in ("tokenizer", "model"):
        raise ArtifactError(f"{folder}: is not a tokenizer or model folder")
    config = read_json(folder / TALKPLAY_CONFIG)
    made_from = config.get("made_from") if isinstance(config, dict) else None
    old: Any = read_json(folder / MANIFEST) if (folder / MANIFEST).exists() else {}
    listed = old.get("files") if isinstance(old, dict) else None
    if names is None or not isinstance(listed, dict):
        return write_manifest(folder, kind, made_from or {})
    written = set(names)
    there = {name for name in written | listed.keys() if (folder / name).is_file()}
    manifest = {
        **old,
        "format_version": FORMAT_VERSION,
        "talkplay_hf": __version__,
        "kind": kind,
        "made_from": made_from or {},
        "files": {
            name: sha256_file(folder / name) if name in written else listed[name]
            for name in sorted(there - _uncounted(folder))
        },
    }
    write_json(folder / MANIFEST, manifest)
    return manifest


def _uncounted(folder: Path) -> set[str]:
    return {path.name for pattern in UNCOUNTED for path in folder.glob(pattern)}


def read_manifest(folder: str | Path, kind: str) -> dict[str, Any]:
    """Read and check the manifest of an artefact folder.

    Raises:
        ArtifactError: If the folder is missing, of another kind, or of another format version.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ArtifactError(
            f"{folder}: no such folder (a {kind} folder was expected{way_to(kind)})"
        )
    if not (folder / MANIFEST).exists():
        raise ArtifactError(
            f"{folder}: holds no {MANIFEST}, so it is not a {kind} folder{way_to(kind)}"
        )
    manifest: dict[str, Any] = read_json(folder / MANIFEST)
    if not isinstance(manifest, dict) or manifest.get("kind") != kind:
        found = manifest.get("kind") if isinstance(manifest, dict) else None
        raise ArtifactError(
            f"{folder}: is a {found} folder; a {kind} folder was expected{way_to(kind)}"
        )
    check_format_version(folder / MANIFEST, manifest)
    return manifest


def way_to(kind: str) -> str:
    """What a message says at its end about how a folder of a kind is made."""
    return f"; make one with `talkplay {MAKERS[kind]}`" if kind in MAKERS else ""


def check_format_version(path: Path, manifest: Mapping[str, Any]) -> None:
    """Refuse an artefact of another format version by name.

    Raises:
        ArtifactError: If `manifest["format_version"]` is not this package's.
    """
    version = manifest.get("format_version")
    if version != FORMAT_VERSION:
        newer = isinstance(version, int) and version > FORMAT_VERSION
        wrote = manifest.get("talkplay_hf")
        by = f", written by talkplay_hf {wrote:.40}" if isinstance(wrote, str) else ""
        what = (
            "Update the package: pip install --upgrade talkplay-hf"
            if newer
            else "Make the folder again with this version"
        )
        raise ArtifactError(
            f"{path}: has format_version {version}{by}; talkplay_hf {__version__} reads "
            f"{FORMAT_VERSION}. {what}."
        )
