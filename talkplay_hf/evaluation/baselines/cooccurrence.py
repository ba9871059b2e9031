"""What goes with the track that was played last: item-item co-occurrence."""

from collections.abc import Sequence

import numpy as np
from scipy import sparse

from talkplay_hf.evaluation.baselines.base import BaselineSources, History, last_track
from talkplay_hf.evaluation.baselines.popularity import plays
from talkplay_hf.evaluation.metrics.ranking import FloatArray


class LastTrackRanker:
    """Tracks by the cosine of their playlists with those of the last track that was played.

    The cosine of two tracks is the number of training playlists that hold both, over the geometric
    mean of the numbers that hold each. Tracks that share no playlist with the last one, which is
    all of them where nothing was played yet or the track is unknown, follow by popularity.
    """

    def __init__(self, sources: BaselineSources) -> None:
        self._catalog = sources.catalog
        by_playlist = sources.playlists.incidence().astype(np.float64)
        counts = np.asarray(by_playlist.sum(axis=0)).ravel()
        scale = sparse.diags_array(1 / np.sqrt(np.maximum(counts, 1)))
        self._by_playlist = sparse.csr_array(by_playlist @ scale)
        self._by_track = sparse.csr_array(self._by_playlist.T)
        popularity = plays(sources)
        # a cosine above 0 is at least one over the number of playlists
        self._rest = popularity / max(popularity.max(initial=0), 1) / (by_playlist.shape[0] + 1)

    def cosines(self, histories: Sequence[History]) -> FloatArray:
        """The cosines with the last track of each history, `[histories, tracks]`."""
        found = np.zeros((len(histories), len(self._catalog)))
        last = [last_track(history, self._catalog) for history in histories]
        known = [row for row, track in enumerate(last) if track is not None]
        if known:
            asked = self._by_track[[last[row] for row in known]]
            found[known] = (asked @ self._by_playlist).toarray()
        return found

    def scores(self, histories: Sequence[History]) -> FloatArray:
        """See `Ranker.scores`."""
        cosines = self.cosines(histories)
        return np.where(cosines > 0, cosines, self._rest)
