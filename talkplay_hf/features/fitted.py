"""What was fitted on which tracks: the record in a features folder, and the check of it."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from talkplay_hf.catalog.schema import Catalog
from talkplay_hf.catalog.splits import cold_tracks, split_labels, training_playlists
from talkplay_hf.errors import ArtifactError, LeakageError
from talkplay_hf.hub import files


def fitted_on(seen: np.ndarray, fit_on: np.ndarray) -> dict[str, Any]:
    """What the manifest records of a fit: the tracks that it saw, and that none was cold.

    Args:
        seen (`np.ndarray` of shape `[n]`, bool): The tracks that the fit saw.
        fit_on (`np.ndarray` of shape `[n]`, bool): The tracks that it may see.

    Returns:
        `dict[str, Any]`: `tracks` (how many it saw), `cold` (how many of them it may not see),
        and the SHA-256 of both masks, packed to bits in catalog order: `seen` and `allowed`.
        The playlist modality has `playlists` beside them, see `playlists_hash`.
    """
    return {
        "tracks": int(seen.sum()),
        "cold": int((seen & ~fit_on).sum()),
        "seen": mask_hash(seen),
        "allowed": mask_hash(fit_on),
    }


def check_fitted(features: str | Path, catalog: Catalog) -> None:
    """Check that nothing in a features folder was fitted on what the catalog holds out.

    What was fitted for an earlier folder (`like`) is held to the split of this catalog too. Where
    the catalog holds nothing out, nothing can leak.

    Args:
        features (`str` or `Path`): A features folder of the catalog.
        catalog (`Catalog`): The catalog, with the split that counts now.

    Raises:
        LeakageError: If a fit saw a cold track, or was held to another split.
        ArtifactError: If the folder does not say what was fitted on what.
    """
    modalities = files.read_manifest(features, "features").get("modalities")
    if modalities is None:
        raise ArtifactError(f"{features}: does not say how it was made; embed it again")
    if (split_labels(catalog) == "train").all():
        return
    allowed, playlists = mask_hash(~cold_tracks(catalog)), playlists_hash(catalog)
    for modality, facts in modalities.items():
        fit = facts["fitted_on"]
        if fit is None:
            continue
        if fit["cold"] or fit["allowed"] != allowed:
            raise LeakageError(
                f"{features}: {modality} was not fitted on the warm tracks of this split "
                f"(paper 3.3): it saw {fit['cold']} cold tracks"
                + ("" if fit["allowed"] == allowed else " of another split")
                + "; run `talkplay embed` again, without --like"
            )
        if modality == "playlist" and fit.get("playlists") != playlists:
            raise LeakageError(
                f"{features}: {modality} was fitted on other training playlists than those of "
                "this split (paper 3.3); run `talkplay embed` again, without --like"
            )


def playlists_hash(catalog: Catalog) -> str:
    """Identifies the training playlists by what is in them."""
    train = training_playlists(catalog)
    digest = hashlib.sha256(np.asarray(train.lengths, "<i8").tobytes())
    digest.update(np.asarray(train.rows, "<i8").tobytes())
    return digest.hexdigest()


def mask_hash(mask: np.ndarray) -> str:
    """SHA-256 of a bool mask `[n]`, packed to bits."""
    return hashlib.sha256(np.packbits(mask).tobytes()).hexdigest()
