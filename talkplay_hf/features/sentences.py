"""Text vectors of any sentence-transformers model."""

from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar

import numpy as np

from talkplay_hf.catalog.schema import Catalog
from talkplay_hf.errors import ConfigError, MissingExtraError, first_line
from talkplay_hf.features.encoders import TEXT
from talkplay_hf.features.shards import ShardedRun
from talkplay_hf.features.store import ModalityVectors
from talkplay_hf.features.templates import render_texts


@dataclass(frozen=True)
class SentenceEncoder:
    """Any sentence-transformers model (the paper uses NV-Embed-v2, 4096-d).

    Args:
        model (`str`): A Hub id, or a folder.
        revision (`str`, *optional*): A commit, tag or branch of the Hub repository.
        prompt (`str`): What stands before every text, such as a model's instruction.
        template (`str`): A name in `templates.TEMPLATES`, or a template.
        batch_size (`int`): Texts a batch.
        max_seq_length (`int`, *optional*): Tokens at most; the model's own when left out.
        normalize (`bool`): Scale the vectors to length 1.
        dtype (`str`): Of the weights: `"float32"`, `"bfloat16"` or `"float16"`.
        trust_remote_code (`bool`): Run modelling code that comes with the model.
    """

    modalities: ClassVar[tuple[str, ...]] = TEXT

    model: str
    revision: str | None = None
    prompt: str = ""
    template: str = "paper"
    batch_size: int = 32
    max_seq_length: int | None = None
    normalize: bool = True
    dtype: str = "float32"
    trust_remote_code: bool = False

    def __post_init__(self) -> None:
        if self.dtype not in ("float32", "bfloat16", "float16"):
            raise ConfigError(f"dtype is float32, bfloat16 or float16, not {self.dtype!r}")

    def encode(self, catalog: Catalog, modality: str, run: ShardedRun) -> ModalityVectors:
        """The vectors of one text modality, `[n, d]` with the model's dimension."""
        texts = render_texts(catalog, modality, self.template)
        # loaded with the first batch: a run whose shards are all finished needs no model
        model = cache(lambda: self.load(run.device))

        def vectors(batch: list[str]) -> np.ndarray:
            made: np.ndarray = model().encode(
                batch,
                prompt=self.prompt or None,
                batch_size=self.batch_size,
                normalize_embeddings=self.normalize,
                show_progress_bar=False,
                convert_to_numpy=True,
            )
            return made

        return run.map_tracks(texts, vectors, batch_size=self.batch_size)

    def load(self, device: str) -> Any:
        """The model of sentence-transformers, on a device.

        Raises:
            ConfigError: If it cannot be loaded.
            MissingExtraError: If sentence-transformers is not installed.
        """
        try:
            from sentence_transformers import SentenceTransformer
        except ImportError:
            raise MissingExtraError(
                "the encoder 'sentence-transformers' needs the extra `features`: "
                "pip install 'talkplay-hf[features]'"
            ) from None
        try:
            model = SentenceTransformer(
                self.model,
                revision=self.revision,
                device=device,
                trust_remote_code=self.trust_remote_code,
                model_kwargs={"dtype": self.dtype},
            )
        except (OSError, ValueError) as error:
            why = first_line(error)
            raise ConfigError(f"the model {self.model!r} cannot be loaded: {why}") from None
        if self.max_seq_length is not None:
            model.max_seq_length = self.max_seq_length
        return model.eval()
