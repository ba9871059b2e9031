"""Text-to-audio retrieval by CLAP (paper A.4; Wu et al., 2023)."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from talkplay_hf.errors import ConfigError, InputError, first_line
from talkplay_hf.evaluation.baselines.base import BaselineSources, History
from talkplay_hf.evaluation.baselines.texts import chat_text
from talkplay_hf.evaluation.metrics.ranking import FloatArray
from talkplay_hf.features.cooccurrence import unit_rows
from talkplay_hf.features.store import load_features
from talkplay_hf.hub import files


class ClapRanker:
    """The cosine between the last user message and the sound of each track.

    The text goes through the model that made the audio vectors of the features folder. Tracks
    without sound are not in the ranking; a message without words leaves the others tied.

    Args:
        sources (`BaselineSources`): `features` is needed, with audio vectors of the encoder
            `clap`.

    Raises:
        InputError: If `sources` has no features folder, or its audio vectors are of another encoder
            or of another catalog.
        ConfigError: If the model cannot be loaded.
    """

    def __init__(self, sources: BaselineSources) -> None:
        if sources.features is None:
            raise InputError("the baseline 'clap' needs a features folder with CLAP audio vectors")
        manifest = files.read_manifest(sources.features, "features")
        made = manifest.get("modalities", {}).get("audio", {}).get("encoder", {})
        if made.get("encoder") != "clap":
            raise InputError(
                f"{sources.features}: the audio vectors were made by {made.get('encoder')!r}; the "
                "baseline 'clap' needs those of 'clap': talkplay embed ... --encoder audio=clap"
            )
        track_ids, modalities = load_features(sources.features)
        if track_ids != sources.catalog.track_ids:
            raise InputError(f"{sources.features}: holds other tracks than the catalog")
        audio = modalities["audio"]
        vectors, self._sound_of = np.unique(audio.vectors, axis=0, return_inverse=True)
        self._sounds = unit_rows(vectors)
        self._silent = ~audio.present
        self._tokenizer, self._model = _load(made["model"], made.get("revision"), sources.device)

    def scores(self, histories: Sequence[History]) -> FloatArray:
        """See `Ranker.scores`."""
        texts = [chat_text(history, last_turn=True) for history in histories]
        scores = np.zeros((len(texts), len(self._silent)))
        asking = [row for row, text in enumerate(texts) if text.strip()]
        if asking:
            vectors = self._text_vectors([texts[row] for row in asking])
            scores[asking] = (vectors @ self._sounds.T)[:, self._sound_of]
        scores[:, self._silent] = -np.inf
        return scores

    def _text_vectors(self, texts: list[str]) -> np.ndarray:
        import torch

        inputs = self._tokenizer(texts, padding=True, truncation=True, return_tensors="pt")
        with torch.inference_mode():
            found = self._model.get_text_features(**inputs.to(self._model.device))
        # transformers 5 gives an output object, 4 the tensor
        return unit_rows(getattr(found, "pooler_output", found).float().cpu().numpy())


def _load(model: str, revision: str | None, device: str) -> tuple[Any, Any]:
    from transformers import AutoTokenizer, ClapModel

    try:
        tokenizer = AutoTokenizer.from_pretrained(model, revision=revision)
        clap = ClapModel.from_pretrained(model, revision=revision)
    except (OSError, ValueError) as error:
        raise ConfigError(f"the model {model!r} cannot be loaded: {first_line(error)}") from None
    return tokenizer, clap.to(device).eval()
