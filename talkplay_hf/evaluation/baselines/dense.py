"""Dense retrieval: tracks by the cosine of their text with that of the dialogue (paper A.4)."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from talkplay_hf.errors import InputError
from talkplay_hf.evaluation.baselines.base import BaselineSources, History
from talkplay_hf.evaluation.baselines.texts import chat_text, track_documents
from talkplay_hf.evaluation.metrics.ranking import FloatArray
from talkplay_hf.features.cooccurrence import unit_rows
from talkplay_hf.features.sentences import SentenceEncoder


class TextIndex:
    """The documents of a catalog as vectors of a sentence-transformers model, kept in memory.

    Args:
        model (`SentenceTransformer`): The model. Its own prompts for queries and documents are
            used, if it has some.
        documents (`Sequence[str]`): One text a track. Equal texts are one vector, so that their
            tracks stay tied.
        query_prompt (`str`): What stands before every query, in place of the model's own prompt.
    """

    def __init__(self, model: Any, documents: Sequence[str], *, query_prompt: str = "") -> None:
        self._model, self._prompt = model, query_prompt
        texts, self._text_of = np.unique(np.array(documents, dtype=object), return_inverse=True)
        self._vectors = unit_rows(model.encode_document(list(texts), show_progress_bar=False))

    def cosines(self, queries: Sequence[str]) -> FloatArray:
        """The cosine of each query with each document, `[queries, tracks]`; 0 for empty ones."""
        scores = np.zeros((len(queries), len(self._text_of)))
        asking = [row for row, query in enumerate(queries) if query.strip()]
        if asking:
            vectors = self._model.encode_query(
                [queries[row] for row in asking],
                prompt=self._prompt or None,
                show_progress_bar=False,
            )
            scores[asking] = (unit_rows(vectors) @ self._vectors.T)[:, self._text_of]
        return scores


class DenseRanker:
    """The cosine between the dialogue and the text of each track that BM25 sees, too.

    Args:
        sources (`BaselineSources`): `encoder` is needed.
        last_turn (`bool`): Ask with the last user message alone instead of all that the user and
            the assistant have said so far.

    Raises:
        InputError: If `sources` has no encoder.
        ConfigError: If the encoder cannot be loaded.
        MissingExtraError: If sentence-transformers is not installed.
    """

    def __init__(self, sources: BaselineSources, *, last_turn: bool = False) -> None:
        if sources.encoder is None:
            raise InputError(
                "dense baselines need an encoder: the id or the folder of a sentence-transformers "
                "model"
            )
        documents = tuple(track_documents(sources.catalog))
        self._index = _index(sources.encoder, sources.device, sources.query_prompt, documents)
        self._last_turn = last_turn

    def scores(self, histories: Sequence[History]) -> FloatArray:
        """See `Ranker.scores`. A query without words leaves all tied."""
        # encoders cut long texts at their end, so that is where the oldest message goes
        return self._index.cosines(
            [chat_text(h, last_turn=self._last_turn, newest_first=True) for h in histories]
        )


@lru_cache(maxsize=1)
def _index(encoder: str, device: str, query_prompt: str, documents: tuple[str, ...]) -> TextIndex:
    """The vectors of a catalog, made once for all rankers of a run."""
    return TextIndex(load_encoder(encoder, device), documents, query_prompt=query_prompt)


def load_encoder(model: str, device: str) -> Any:
    """Load a sentence-transformers model as the features room does.

    Raises:
        ConfigError: If it cannot be loaded.
        MissingExtraError: If sentence-transformers is not installed.
    """
    return SentenceEncoder(model).load(device)
