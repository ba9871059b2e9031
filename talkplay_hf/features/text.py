"""Text vectors without a download: tf-idf, then truncated SVD."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from scipy import sparse
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer

from talkplay_hf.catalog.schema import Catalog
from talkplay_hf.features.cooccurrence import unit_rows
from talkplay_hf.features.encoders import TEXT
from talkplay_hf.features.shards import ShardedRun
from talkplay_hf.features.store import ModalityVectors, absent
from talkplay_hf.features.templates import render_texts


@dataclass(frozen=True)
class TfidfSvd:
    """Tf-idf with sublinear term frequency, then truncated SVD, rows of length 1.

    Vocabulary, document frequencies and components come from the tracks of `run.fit_on` alone;
    the others are transformed. A track that has a text but shares no term with them is counted as
    a failure and lacks the modality.

    Args:
        dim (`int`): Dimensions at most.
        max_features (`int`): Terms at most.
        template (`str`): A name in `templates.TEMPLATES`, or a template.
    """

    modalities: ClassVar[tuple[str, ...]] = TEXT

    dim: int = 128
    max_features: int = 200_000
    template: str = "terms"

    def encode(self, catalog: Catalog, modality: str, run: ShardedRun) -> ModalityVectors:
        """The vectors of one text modality, `[n, dim]`."""
        rendered = render_texts(catalog, modality, self.template)
        texts = [text or "" for text in rendered]
        fitted = run.fitted()
        if fitted is None:
            fitted = self._fit(texts, run.fit_on, run.seed)
            if fitted is not None:
                has_text = np.array([text is not None for text in rendered], dtype=bool)
                run.keep(fitted, seen=run.fit_on & has_text)
        if fitted is None:
            made = absent(len(texts))
        else:
            matrix = self._vectorizer(fitted).transform(texts)
            present = np.asarray(matrix.getnnz(axis=1)) > 0
            made = ModalityVectors(unit_rows(matrix @ fitted["components"].T), present)
        for row in np.flatnonzero(~made.present).tolist():
            if rendered[row] is not None:
                run.reject(row, f"its {modality} text has no word that is known")
        return made

    def _fit(
        self, texts: Sequence[str], fit_on: np.ndarray, seed: int
    ) -> dict[str, np.ndarray] | None:
        """Vocabulary, idf and components; `None` where there is no term to learn from."""
        vectorizer = self._vectorizer()
        chosen = [text for text, use in zip(texts, fit_on, strict=True) if use]
        try:
            matrix: sparse.csr_matrix = vectorizer.fit_transform(chosen)
        except ValueError:  # no text, or nothing but punctuation in every one
            return None
        documents = int((np.asarray(matrix.getnnz(axis=1)) > 0).sum())
        rank = min(self.dim, matrix.shape[1] - 1, documents - 1)
        if rank < 1:
            components = np.eye(1, matrix.shape[1], dtype=np.float32)
        else:
            with np.errstate(invalid="ignore"):  # its explained variance, where there is none
                components = TruncatedSVD(rank, random_state=seed).fit(matrix).components_
        terms = vectorizer.get_feature_names_out().tolist()
        return {
            "vocabulary": np.frombuffer(json.dumps(terms).encode(), dtype=np.uint8),
            "idf": vectorizer.idf_.astype(np.float32),
            "components": components.astype(np.float32),
        }

    def _vectorizer(self, fitted: dict[str, np.ndarray] | None = None) -> TfidfVectorizer:
        """The vectoriser, with what was fitted where there is something."""
        terms = json.loads(fitted["vocabulary"].tobytes()) if fitted else None
        vectorizer = TfidfVectorizer(
            sublinear_tf=True,
            token_pattern=r"(?u)[^\s.,;:!?()\[\]\"]+",
            max_features=self.max_features,
            vocabulary=terms,
            dtype=np.float32,
        )
        if fitted:
            vectorizer.idf_ = fitted["idf"]
        return vectorizer
