"""The features folder: one safetensors file a modality, with the track order."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from talkplay_hf.catalog.schema import MODALITIES
from talkplay_hf.errors import ArtifactError, InputError
from talkplay_hf.hub import files

TRACK_ORDER = "track_ids.json"


@dataclass(frozen=True)
class ModalityVectors:
    """The vectors of one modality.

    Args:
        vectors (`np.ndarray` of shape `[n, d]`, float32): One row a track; rows of tracks without
            the modality are zero.
        present (`np.ndarray` of shape `[n]`, bool): Which tracks have the modality.

    Raises:
        InputError: If the shapes do not fit or a present row has a value that is not finite.
    """

    vectors: np.ndarray
    present: np.ndarray

    def __post_init__(self) -> None:
        if self.vectors.ndim != 2 or self.present.shape != self.vectors.shape[:1]:
            raise InputError(
                f"vectors {self.vectors.shape} and present {self.present.shape} do not fit"
            )
        bad = ~np.isfinite(self.vectors).all(axis=1) & self.present
        if bad.any():
            raise InputError(
                f"row {int(np.argmax(bad))}: the vector has a value that is not finite"
            )


def save_features(
    folder: str | Path,
    track_ids: Sequence[str],
    modalities: Mapping[str, ModalityVectors],
    made_from: Mapping[str, str],
    **facts: Any,
) -> None:
    """Write a features folder atomically; `facts` go into its manifest."""
    with files.staged_folder(folder, "features") as aside:
        for name, modality in modalities.items():
            save_file(
                {
                    "vectors": np.ascontiguousarray(modality.vectors, dtype=np.float32),
                    "present": modality.present,
                },
                aside / f"{name}.safetensors",
            )
        (aside / TRACK_ORDER).write_text(json.dumps(list(track_ids)), encoding="utf-8")
        files.write_manifest(aside, "features", made_from, **facts)


def load_features(folder: str | Path) -> tuple[list[str], dict[str, ModalityVectors]]:
    """Read a features folder.

    Returns:
        `tuple[list[str], dict[str, ModalityVectors]]`: The track order, and the vectors of each
        modality in the order of the paper.

    Raises:
        ArtifactError: If the folder is of another kind or a file is missing or damaged.
    """
    folder = Path(folder)
    files.read_manifest(folder, "features")
    track_ids: list[str] = files.read_json(folder / TRACK_ORDER)
    modalities = {}
    for name in MODALITIES:
        path = folder / f"{name}.safetensors"
        try:
            with safe_open(path, framework="numpy") as handle:
                vectors, present = handle.get_tensor("vectors"), handle.get_tensor("present")
        except (SafetensorError, OSError, KeyError) as error:
            raise ArtifactError(f"{path}: cannot be read ({error})") from None
        if len(vectors) != len(track_ids):
            raise ArtifactError(
                f"{path}: has {len(vectors)} rows, {TRACK_ORDER} has {len(track_ids)}"
            )
        try:
            modalities[name] = ModalityVectors(vectors, present)
        except InputError as error:
            raise ArtifactError(f"{path}: {error}") from None
    return track_ids, modalities
