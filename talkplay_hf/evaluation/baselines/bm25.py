"""BM25 over the text of the tracks (paper A.4)."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from talkplay_hf.catalog.schema import Catalog
from talkplay_hf.errors import MissingExtraError
from talkplay_hf.evaluation.baselines.base import History
from talkplay_hf.evaluation.baselines.texts import chat_text, track_documents
from talkplay_hf.evaluation.metrics.ranking import FloatArray


class BM25Ranker:
    """BM25 between the chat text and `{title} by {artist} from {album} {tags} {year}` (A.4).

    Args:
        catalog (`Catalog`): One document a track.
        last_turn (`bool`): Ask with the last user message alone instead of all that the user and
            the assistant have said so far.

    Raises:
        MissingExtraError: If `bm25s` is not installed.
    """

    def __init__(self, catalog: Catalog, *, last_turn: bool = False) -> None:
        try:
            import bm25s
        except ImportError:
            raise MissingExtraError(
                "the BM25 baseline needs bm25s: pip install 'talkplay-hf[eval]'"
            ) from None
        self._tokenize: Any = bm25s.tokenize
        self._last_turn = last_turn
        self._tracks = len(catalog)
        documents = self._tokenize(track_documents(catalog), show_progress=False)
        self._index: Any = None
        if documents.vocab:
            # numba, where it is installed, adds in the same order: the scores are the same
            self._index = bm25s.BM25(backend="auto")
            self._index.index(documents, show_progress=False)

    def scores(self, histories: Sequence[History]) -> FloatArray:
        """See `Ranker.scores`. A query that shares no word with any track leaves all tied."""
        texts = [chat_text(history, last_turn=self._last_turn) for history in histories]
        scores = np.zeros((len(histories), self._tracks))
        queries = self._tokenize(texts, return_ids=False, show_progress=False)
        for row, query in enumerate(queries):
            if query and self._index is not None:
                scores[row] = self._index.get_scores(query)
        return scores
