"""Audio vectors by CLAP, a model of sound and text (Wu et al., 2023)."""

from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar

import numpy as np

from talkplay_hf.catalog.schema import Catalog
from talkplay_hf.errors import ConfigError, first_line
from talkplay_hf.features.cooccurrence import unit_rows
from talkplay_hf.features.shards import ShardedRun
from talkplay_hf.features.sound import Clip, clip_loader, clip_names, windows
from talkplay_hf.features.store import ModalityVectors

WINDOWS = 32  # that go through the model at once


@dataclass(frozen=True)
class Clap:
    """Audio vectors by transformers' `ClapModel`.

    A clip is cut into windows of the model's length (10 seconds), which cover all of it; a shorter
    one is repeated to that length. The vector is the mean of the windows' unit vectors, scaled to
    length 1. No part is drawn at random, so the same clip gives the same vector.

    Args:
        model (`str`): Hub id or folder of a CLAP model (paper A.4 uses CLAP as a baseline).
        revision (`str`, *optional*): Branch, tag or commit of the Hub repository.
        batch_size (`int`): Tracks that are encoded at once.
        clip_start (`str` or `float`): See `Clip`.
        clip_seconds (`float`, *optional*): See `Clip`.
    """

    modalities: ClassVar[tuple[str, ...]] = ("audio",)

    model: str = "laion/clap-htsat-unfused"
    revision: str | None = None
    batch_size: int = 16
    clip_start: str | float = "middle"
    clip_seconds: float | None = 30.0

    def encode(self, catalog: Catalog, modality: str, run: ShardedRun) -> ModalityVectors:
        """The vectors of every track, `[n, projection_dim]`, in catalog order.

        Raises:
            ConfigError: If the model cannot be loaded or the clip is impossible.
        """
        clip = Clip(self.clip_start, self.clip_seconds)
        # loaded with the first batch: a run whose shards are all finished needs no model
        loaded = cache(lambda: self._load(run.device))

        def load(name: str) -> np.ndarray:
            return clip_loader(catalog, loaded()[0].sampling_rate, clip)(name)

        def vectors(sounds: list[np.ndarray]) -> np.ndarray:
            return _unit_means(*loaded(), sounds)

        return run.map_tracks(clip_names(catalog), vectors, load=load, batch_size=self.batch_size)

    def _load(self, device: str) -> tuple[Any, Any]:
        from transformers import AutoFeatureExtractor, ClapModel

        try:
            extractor = AutoFeatureExtractor.from_pretrained(self.model, revision=self.revision)
            model = ClapModel.from_pretrained(self.model, revision=self.revision)
        except (OSError, ValueError) as error:
            why = first_line(error)
            raise ConfigError(f"the model {self.model!r} cannot be loaded: {why}") from None
        return extractor, model.to(device).eval()


def _unit_means(extractor: Any, model: Any, sounds: list[np.ndarray]) -> np.ndarray:
    """One vector a sound: the mean over its windows, `[b, projection_dim]`."""
    cut = [windows(sound, extractor.nb_max_samples) for sound in sounds]
    flat = [window for sound in cut for window in sound]
    vectors = np.concatenate(
        [
            _window_vectors(extractor, model, flat[at : at + WINDOWS])
            for at in range(0, len(flat), WINDOWS)
        ]
    )
    ends = np.cumsum([len(sound) for sound in cut])[:-1]
    return unit_rows(np.stack([part.mean(axis=0) for part in np.split(vectors, ends)]))


def _window_vectors(extractor: Any, model: Any, sounds: list[np.ndarray]) -> np.ndarray:
    import torch

    inputs = extractor(sounds, sampling_rate=extractor.sampling_rate, return_tensors="pt")
    # the extractor marks a window at random where a batch has no long one
    longer = torch.zeros(len(sounds), 1, dtype=torch.bool)
    with torch.inference_mode():
        found = model.get_audio_features(
            input_features=inputs["input_features"].to(model.device, model.dtype),
            is_longer=longer.to(model.device),
        )
    # transformers 5 gives an output object, 4 the tensor
    vectors = getattr(found, "pooler_output", found).float().cpu().numpy()
    return unit_rows(vectors)
