"""A finished tokenizer or model folder: read, copied, and given other tracks."""

import contextlib
import os
import shutil
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import numpy as np

from talkplay_hf import __version__
from talkplay_hf.catalog.schema import Catalog
from talkplay_hf.errors import ArtifactError
from talkplay_hf.hub import files
from talkplay_hf.hub.cards import write_card
from talkplay_hf.tokens.build import (
    load_centroids,
    read_fitting_catalog,
    read_known_codes,
    write_token_catalog,
)
from talkplay_hf.tokens.codebooks import Codebook
from talkplay_hf.tokens.config import TalkPlayConfig
from talkplay_hf.tokens.health import health
from talkplay_hf.tokens.index import CatalogIndex

# what stands in a folder of its tracks; the others keep the hashes that they came with
REWRITTEN = (
    files.TOKEN_CATALOG,
    files.CATALOG_INDEX,
    files.CODEBOOK_HEALTH,
    files.CODEBOOK_LABELS,
    files.EXAMPLES,
    files.TALKPLAY_CONFIG,
)


@dataclass(frozen=True)
class HeldTokens:
    """What a tokenizer or model folder holds of its tracks."""

    folder: Path
    kind: str
    config: TalkPlayConfig
    codebooks: list[Codebook]
    catalog: Catalog
    codes: np.ndarray
    known: np.ndarray


def read_tokens(folder: str | Path) -> HeldTokens:
    """Read the codebooks and the catalogue of a tokenizer or model folder.

    Raises:
        ArtifactError: If the folder is damaged or of another kind.
    """
    folder = Path(folder)
    kind = files.folder_kind(folder) if folder.is_dir() else None
    if kind not in ("tokenizer", "model"):
        raise ArtifactError(f"{folder}: is not a tokenizer or model folder")
    config = TalkPlayConfig.load(folder / files.TALKPLAY_CONFIG)
    codebooks = _codebooks(folder, config)
    catalog, codes = read_fitting_catalog(folder / files.TOKEN_CATALOG, config.codes)
    known = read_known_codes(folder / files.TOKEN_CATALOG, codes)
    return HeldTokens(folder, kind, config, codebooks, catalog, codes, known)


def copy_folder(folder: Path, aside: Path, out: str | Path) -> None:
    """Copy a model or tokenizer folder without its checkpoints and its catalogue.

    Args:
        folder (`Path`): The folder.
        aside (`Path`): The staged folder to copy to.
        out (`str` or `Path`): Where that goes. Where it takes the place of the folder, weights are
            linked instead of copied, if the file system can do so.
    """
    left_out = shutil.ignore_patterns("checkpoint-*", files.TOKEN_CATALOG)
    in_place = Path(out).resolve() == folder.resolve()
    copy = _link_weights if in_place else shutil.copyfile
    shutil.copytree(folder, aside, dirs_exist_ok=True, ignore=left_out, copy_function=copy)


def _link_weights(source: str, target: str) -> None:
    # all other files are small, and some are written anew where they lie
    if fnmatch(Path(source).name, "model*.safetensors") and not Path(source).is_symlink():
        with contextlib.suppress(OSError):
            os.link(source, target)
            return
    shutil.copyfile(source, target)


def write_tokens(
    aside: Path,
    held: HeldTokens,
    catalog: Catalog,
    codes: np.ndarray,
    known: np.ndarray,
    config: TalkPlayConfig,
) -> dict[str, Any]:
    """Write what a (staged) folder says of its tracks: catalogue, index, health and config.

    Args:
        aside (`Path`): The folder to write to.
        held (`HeldTokens`): The folder that it comes from, whose health report tells what only the
            training data could.
        catalog (`Catalog`): The tracks.
        codes (`np.ndarray` of shape `[n, modalities]`, int32): Their codes.
        known (`np.ndarray` of shape `[n, modalities]`, bool): Which codes are passed on.
        config (`TalkPlayConfig`): The config; its `catalog_hash` is set here.

    Returns:
        `dict[str, Any]`: The codebook health.
    """
    report = _health(held.folder, codes, config)
    write_token_catalog(catalog, codes, aside / files.TOKEN_CATALOG, known)
    CatalogIndex(codes, config.codes).save(aside / files.CATALOG_INDEX)
    files.write_json(aside / files.CODEBOOK_HEALTH, report)
    catalog_hash = files.sha256_file(aside / files.TOKEN_CATALOG)
    config = replace(config, catalog_hash=catalog_hash, talkplay_hf=__version__)
    files.write_json(aside / files.TALKPLAY_CONFIG, config.to_dict())
    return report


def refresh(aside: Path, out: str | Path) -> None:
    """Bring card and manifest of a (staged) copy of a folder up to date with its new tracks.

    Args:
        aside (`Path`): The staged folder.
        out (`str` or `Path`): The folder that it becomes.
    """
    if (aside / files.CARD).exists():
        write_card(aside, title=Path(out).name)
    manifest = aside / files.MANIFEST
    if manifest.exists() and files.read_json(manifest).get("kind") != files.folder_kind(aside):
        # weights were put beside a tokenizer by hand
        manifest.unlink()
    files.refresh_manifest(aside, REWRITTEN)


def _codebooks(folder: Path, config: TalkPlayConfig) -> list[Codebook]:
    """The codebooks of a folder, in the order of the config."""
    path = folder / files.CODEBOOKS
    if not path.exists():
        raise ArtifactError(f"{folder}: has no {files.CODEBOOKS}")
    if files.sha256_file(path) != config.codebook_hash:
        raise ArtifactError(f"{path}: is not the file that {files.TALKPLAY_CONFIG} names")
    centroids = load_centroids(path)
    pairs = zip(config.modalities, config.codes, strict=True)
    return [Codebook(centroids[name], size) for name, size in pairs]


def _health(folder: Path, codes: np.ndarray, config: TalkPlayConfig) -> dict[str, Any]:
    """The health of all codes; what only the training data tells is taken from the folder."""
    report = health(codes, config.codes, config.modalities)
    path = folder / files.CODEBOOK_HEALTH
    if path.exists():
        before = files.read_json(path)
        if not isinstance(before, dict) or "modalities" not in before:
            raise ArtifactError(f"{path}: is not a codebook health report")
        for name, values in report["modalities"].items():
            report["modalities"][name] = {**before["modalities"].get(name, {}), **values}
    return report
