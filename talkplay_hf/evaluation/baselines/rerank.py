"""Two stages: a first ranking, and a small model that puts the top of it in order."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier

from talkplay_hf.errors import InputError
from talkplay_hf.evaluation.baselines.base import (
    BaselineSources,
    History,
    last_track,
    origin_of,
    set_apart,
)
from talkplay_hf.evaluation.baselines.bm25 import BM25Ranker
from talkplay_hf.evaluation.baselines.cooccurrence import LastTrackRanker
from talkplay_hf.evaluation.baselines.fusion import fuse
from talkplay_hf.evaluation.baselines.named import NamedTracks
from talkplay_hf.evaluation.baselines.popularity import plays
from talkplay_hf.evaluation.baselines.texts import chat_text
from talkplay_hf.evaluation.baselines.two_tower import TwoTowerRanker
from talkplay_hf.evaluation.metrics.ranking import FloatArray
from talkplay_hf.evaluation.turns import Turn, collect_turns

DEPTH = 200  # tracks that are put in order again
TURNS = 3_000  # that the second stage is trained on at most
NEGATIVES = 50  # tracks beside the right one, of each of these turns
SHARE = 0.2  # of the playlists, whose conversations train the second stage alone
BATCH = 32  # turns

FEATURES = (
    "bm25_last_turn",
    "bm25",
    "two_tower",
    "bm25_last_turn_below_best",
    "bm25_below_best",
    "two_tower_below_best",
    "first_stage",
    "last_track",
    "popularity",
    "artist_named",
    "album_named",
    "title_named",
    "artist_just_played",
)


class RerankRanker:
    """The top 200 of a first ranking, put in order by gradient-boosted trees.

    The first stage fuses BM25 over the last message with the two-tower model (`FusionRanker`). The
    second looks at `FEATURES` of each of its candidates: the scores of both and of BM25 over the
    chat, how far they are from the best of that turn, co-occurrence with the last track,
    popularity, and whether the message names the artist, album or title. It is trained to tell the
    track that was played from other candidates, on conversations of playlists that the first stage
    has not learnt from, since a model looks better on what it was trained on than it is. Tracks
    below the candidates follow in the order of the first stage.

    Args:
        sources (`BaselineSources`): `conversations` is needed.

    Raises:
        InputError: If the conversations are too few to train both stages.
        MissingExtraError: If `bm25s` or sentence-transformers is not installed.
    """

    def __init__(self, sources: BaselineSources) -> None:
        first, turns = _stages(sources)
        self.first_stage = FirstStage(first)
        self.model = HistGradientBoostingClassifier(
            max_iter=150,
            learning_rate=0.1,
            max_leaf_nodes=15,
            min_samples_leaf=5,
            random_state=sources.seed,
        )
        features, right = _examples(self.first_stage, turns, sources.seed)
        if len(np.unique(right)) < 2:
            raise InputError(
                "the baseline 'rerank' needs more training conversations: the first stage finds "
                f"none of the tracks of {len(turns)} turns"
            )
        self.model.fit(features, right)
        self.first_stage.count(sources)

    def scores(self, histories: Sequence[History]) -> FloatArray:
        """See `Ranker.scores`: 1 and more for candidates, less for the others."""
        features, scores = self.first_stage.describe(histories)
        for row, fused in enumerate(scores):
            chosen = candidates(fused)
            # fused scores of two rankings are below 2 / 61
            fused[chosen] = 1 + self.model.predict_proba(features[row, chosen])[:, 1]
        return scores


class FirstStage:
    """The rankings that candidates come from and are described by.

    Args:
        sources (`BaselineSources`): What they learn from.
    """

    def __init__(self, sources: BaselineSources) -> None:
        catalog = sources.catalog
        self._catalog = catalog
        self._last_turn = BM25Ranker(catalog, last_turn=True)
        self._chat = BM25Ranker(catalog)
        self._two_tower = TwoTowerRanker(sources)
        self._named = [NamedTracks(catalog, field) for field in ("artist", "album", "title")]
        artists = catalog.column("artist")
        self._artist = np.unique(np.array(artists, dtype=object), return_inverse=True)[1]
        self.count(sources)

    def count(self, sources: BaselineSources) -> None:
        """Count the playlists of these sources instead."""
        self._last_track = LastTrackRanker(sources)
        self._popularity = np.log1p(plays(sources))

    def describe(self, histories: Sequence[History]) -> tuple[FloatArray, FloatArray]:
        """What is known of each track as the next one of each history.

        Returns:
            `tuple[numpy.ndarray, numpy.ndarray]`: `FEATURES`, of shape `(histories, tracks,
            features)`, and the scores of the first stage, of shape `(histories, tracks)`.
        """
        rankers = (self._last_turn, self._chat, self._two_tower)
        found = [ranker.scores(histories) for ranker in rankers]
        below_best = [scores - scores.max(axis=1, keepdims=True) for scores in found]
        fused = fuse([found[0], found[2]])
        messages = [chat_text(history, last_turn=True) for history in histories]
        features = [
            *found,
            *below_best,
            fused,
            self._last_track.cosines(histories),
            np.broadcast_to(self._popularity, fused.shape),
            *(names.named(messages) for names in self._named),
            self._just_played(histories),
        ]
        return np.stack(features, axis=-1), fused

    def _just_played(self, histories: Sequence[History]) -> FloatArray:
        """Whether a track is by the artist of the last track: 1 or 0."""
        found = np.zeros((len(histories), len(self._catalog)))
        for row, history in enumerate(histories):
            last = last_track(history, self._catalog)
            if last is not None:
                found[row] = self._artist == self._artist[last]
        return found


def candidates(fused: FloatArray) -> np.ndarray:
    """The rows of the best `DEPTH` tracks and of those that are tied with the last of them."""
    depth = min(DEPTH, len(fused))
    return np.flatnonzero(fused >= np.partition(fused, -depth)[-depth])


def _stages(sources: BaselineSources) -> tuple[BaselineSources, list[Turn]]:
    """What the first stage learns from, and turns of other playlists for the second."""
    draw = np.random.default_rng(sources.seed)
    kept, reserved = set_apart(
        sources.training_conversations, draw, lambda playlists: max(1, int(SHARE * playlists))
    )
    if not kept:
        raise InputError(
            "the baseline 'rerank' needs training conversations of several playlists: give "
            "conversations of the split 'train'"
        )
    first = replace(
        sources,
        held_out=sources.held_out | {origin_of(conversation) for conversation in reserved},
        conversations=tuple(kept),
        # a model of before may have seen the reserved ones
        two_tower=None,
    )
    turns = [turn for turn in collect_turns(reserved, sources.catalog)[0] if not turn.negative]
    order = draw.permutation(len(turns))[:TURNS]
    return first, [turns[at] for at in np.sort(order)]


def _examples(first: FirstStage, turns: Sequence[Turn], seed: int) -> tuple[FloatArray, np.ndarray]:
    """Features `[examples, features]` of candidates, and which of them are the right tracks."""
    draw = np.random.default_rng(seed)
    features, right = [np.zeros((0, len(FEATURES)))], [np.zeros(0, dtype=bool)]
    for start in range(0, len(turns), BATCH):
        chunk = turns[start : start + BATCH]
        found, fused = first.describe([turn.history for turn in chunk])
        for row, turn in enumerate(chunk):
            chosen = np.setdiff1d(candidates(fused[row]), turn.played)
            wanted = np.isin(chosen, turn.labels)
            if wanted.any():
                others = draw.permutation(chosen[~wanted])[:NEGATIVES]
                rows = np.concatenate([chosen[wanted], others])
                features.append(found[row, rows])
                right.append(np.isin(rows, turn.labels))
    return np.concatenate(features), np.concatenate(right)
