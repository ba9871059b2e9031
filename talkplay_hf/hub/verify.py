"""Checking files that come from strangers: hashes, names, sizes and forms, before they are used."""

from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
from safetensors import SafetensorError, safe_open

from talkplay_hf.errors import ArtifactError, first_line
from talkplay_hf.hub import files

# the vocabularies of the largest language models take about 40 MB
MAX_JSON_BYTES = 256 << 20
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    files.TALKPLAY_CONFIG,
    files.CODEBOOKS,
    files.TOKEN_CATALOG,
)
# without these a folder of the kind is of no use
REQUIRED = {"tokenizer": TOKENIZER_FILES, "model": ("config.json", *TOKENIZER_FILES)}


class TensorForm(NamedTuple):
    """What a tensor is like.

    Args:
        dtype (`str`): As safetensors names it: `"F32"`, `"BF16"`, `"I64"`, ...
        shape (`tuple[int, ...]`): Its shape.
    """

    dtype: str
    shape: tuple[int, ...]

    @property
    def floating(self) -> bool:
        """Whether it holds numbers with a fraction."""
        return self.dtype.startswith(("F", "BF"))


def verify_folder(
    folder: str | Path, names: Iterable[str] | None = None, kind: str | None = None
) -> None:
    """Check the files of an artefact folder against the SHA-256 in its manifest.

    A folder without a manifest has nothing to compare with; only what must be there is checked.
    The card never counts: it may be edited.

    Args:
        folder (`str` or `Path`): The folder.
        names (`Iterable[str]`, *optional*): The files to check, each of which must be there; all
            that the manifest names and that are there when left out.
        kind (`str`, *optional*): What the folder must be. A `"model"` serves as a `"tokenizer"`
            too. The files that a model or a tokenizer cannot do without must be there (but not the
            weights, which may come in parts: see `talkplay_hf.hub.weights.weight_forms`).

    Raises:
        ArtifactError: If a file is absent or another one than the manifest names, or if the
            manifest is damaged; the message names folder and file.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ArtifactError(f"{folder}: no such folder")
    if names is not None:
        names = [plain_name(name, folder) for name in names]
    for name in (*(names or ()), *REQUIRED.get(kind or "", ())):
        if not (folder / name).is_file():
            what = f", so it is no {kind} folder{files.way_to(kind)}" if kind else ""
            raise ArtifactError(f"{folder}: has no {name}{what}")
    if kind is not None and (folder / files.MANIFEST).exists():
        found = _manifest(folder).get("kind")
        fitting = REQUIRED.keys() if kind in REQUIRED else {kind}
        if found not in fitting:
            raise ArtifactError(
                f"{folder}: is a {found} folder; a {kind} folder was expected{files.way_to(kind)}"
            )
    wrong = damaged_files(folder, names)
    if wrong:
        others = ", ".join(wrong[1:4]) + (", ..." if len(wrong) > 4 else "")
        more = f" (the same holds for {others})" if others else ""
        raise ArtifactError(
            f"{folder / wrong[0]}: is not the file that {files.MANIFEST} names by its SHA-256"
            f"{more}: it was damaged, or changed after the folder was made; fetch or make the "
            "folder again"
        )


def damaged_files(folder: str | Path, names: Iterable[str] | None = None) -> list[str]:
    """The files of a folder that are not those which its manifest names by their SHA-256.

    Args:
        folder (`str` or `Path`): The folder; one without a manifest has no such files.
        names (`Iterable[str]`, *optional*): The files to look at; all when left out. Those that are
            absent, or that the manifest does not name, are passed over.

    Raises:
        ArtifactError: If the manifest is damaged.
    """
    folder = Path(folder)
    wanted = None if names is None else set(names)
    return [
        name
        for name, sha in manifest_files(folder).items()
        if (wanted is None or name in wanted)
        and name != files.CARD
        and (folder / name).is_file()
        and files.sha256_file(folder / name) != sha
    ]


def manifest_files(folder: str | Path) -> dict[str, str]:
    """The SHA-256 of each file, by name, from the manifest of a folder; empty if it has none.

    Raises:
        ArtifactError: If the manifest is damaged, or names a file outside of the folder.
    """
    folder = Path(folder)
    path = folder / files.MANIFEST
    if not path.exists():
        return {}
    named = _manifest(folder).get("files")
    if not isinstance(named, dict):
        raise ArtifactError(f"{path}: says nothing about files")
    for name, sha in named.items():
        plain_name(name, path)
        if not isinstance(sha, str):
            raise ArtifactError(f"{path}: the SHA-256 of {name} is not text")
    return named


def _manifest(folder: Path) -> Mapping[str, Any]:
    path = folder / files.MANIFEST
    manifest = read_object(path)
    files.check_format_version(path, manifest)
    return manifest


def plain_name(name: object, where: str | Path) -> str:
    """A file name that another file gives, if it stays inside the folder.

    Args:
        name (`object`): The name; sub folders are parted by `/`.
        where (`str` or `Path`): The file that gives it, for the message.

    Raises:
        ArtifactError: If it is no text, absolute, leads upwards, or has a backslash or a drive.
    """
    bad = not isinstance(name, str) or not name or any(sign in name for sign in "\\:\0")
    if bad or any(part in ("", ".", "..") for part in str(name).split("/")):
        raise ArtifactError(f"{where}: {name!r:.80} is not the name of a file in the folder")
    return str(PurePosixPath(str(name)))


def read_object(path: str | Path) -> dict[str, Any]:
    """Read a JSON file that holds an object.

    Raises:
        ArtifactError: If it is missing, too large, not JSON, or holds something else.
    """
    value = read_small_json(path)
    if not isinstance(value, dict):
        raise ArtifactError(f"{path}: is not a JSON object")
    return value


def read_small_json(path: str | Path) -> Any:
    """Read a JSON file of a size that JSON files of an artefact have.

    Raises:
        ArtifactError: If it is missing, too large, or not JSON.
    """
    check_size(path)
    return files.read_json(path)


def check_size(path: str | Path) -> None:
    """Refuse a text file that is larger than any file of its kind can need to be.

    Raises:
        ArtifactError: If it is.
    """
    path = Path(path)
    if path.is_file() and path.stat().st_size > MAX_JSON_BYTES:
        size = path.stat().st_size
        raise ArtifactError(f"{path}: has {size:,} bytes, more than such a file can need")


def check_text(path: str | Path) -> None:
    """Refuse a text file that is larger than it can need to be, or is not text.

    Raises:
        ArtifactError: If it is.
    """
    check_size(path)
    try:
        Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ArtifactError(f"{path}: is not a text in UTF-8 ({error})") from None


def tensor_forms(path: str | Path) -> dict[str, TensorForm]:
    """What each tensor in a safetensors file is like, from its header alone.

    Raises:
        ArtifactError: If it is missing or not a whole safetensors file: truncated, with an oversize
            or broken header, or something else under this name.
    """
    path = Path(path)
    if not path.is_file():
        raise ArtifactError(f"{path}: no such file")
    try:
        with safe_open(path, framework="numpy") as tensors:
            names = list(tensors.keys())
            slices = [tensors.get_slice(name) for name in names]
            forms = [TensorForm(one.get_dtype(), tuple(one.get_shape())) for one in slices]
            return dict(zip(names, forms, strict=True))
    except (OSError, ValueError, SafetensorError) as error:
        raise ArtifactError(
            f"{path}: is not a whole safetensors file ({first_line(error)})"
        ) from None


def parquet_columns(path: str | Path) -> list[str]:
    """The names of the columns of a Parquet file, from its footer alone.

    Raises:
        ArtifactError: If it is missing or not a whole Parquet file.
    """
    try:
        return list(pq.read_schema(path).names)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise ArtifactError(f"{path}: cannot be read as Parquet ({first_line(error)})") from None
