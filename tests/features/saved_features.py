"""A features folder of given vectors."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from talkplay_hf.features.store import ModalityVectors, save_vectors, write_track_order
from talkplay_hf.hub import files


def save_features(
    folder: Path, track_ids: Sequence[str], modalities: Mapping[str, ModalityVectors]
) -> None:
    with files.staged_folder(folder, "features") as aside:
        for name, modality in modalities.items():
            save_vectors(aside / f"{name}.safetensors", modality)
        write_track_order(aside, track_ids)
        files.write_manifest(aside, "features", {"catalog": "f" * 64})
