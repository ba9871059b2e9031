"""What is ranked against what: the model, chance, popularity and BM25 (paper 6.2, A.4).

Each is a `Ranker`: histories in, one score for every track of the catalog out. Equal scores are
ties and stay ties.
"""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import asdict
from typing import Any, Protocol

import numpy as np

from talkplay_hf.catalog.schema import Catalog, Message, Track, release_year
from talkplay_hf.catalog.splits import playlist_splits
from talkplay_hf.errors import InputError, MissingExtraError
from talkplay_hf.evaluation.metrics import FloatArray
from talkplay_hf.recommend.options import RankingOptions

History = Sequence[Message]

BASELINES = ("random", "popularity", "bm25", "bm25-last-turn")


class Ranker(Protocol):
    """Anything that scores the tracks of a catalog as the next one of a dialogue."""

    def scores(self, histories: Sequence[History]) -> FloatArray:
        """Score every track for every history.

        Args:
            histories (`Sequence[Sequence[Message]]`): The dialogues so far.

        Returns:
            `numpy.ndarray` of shape `(histories, tracks)`, float64: Higher is better, equal is
            tied, `-inf` is not in this system's ranking. The caller may write into it.
        """


class ScoredTrack(Protocol):
    """One place of a ranking."""

    @property
    def track(self) -> Track:
        """The track."""

    @property
    def score(self) -> float:
        """Its score: higher is better, equal is tied."""


class Answer(Protocol):
    """What a chat turn returns."""

    @property
    def tracks(self) -> Sequence[Track]:
        """The recommended tracks, best first."""


class RankingModel(Protocol):
    """The part of `Recommender` that evaluation uses."""

    def rank_batch(
        self,
        chats: list[list[Message]],
        /,
        k: int,
        *,
        exclude_played: bool,
        seeds: list[int],
        strategy: str,
        constraint: str,
        beam_width: int,
        draws: int,
        temperature: float,
        top_p: float,
    ) -> Sequence[Sequence[ScoredTrack]]:
        """The best `k` tracks after each history (or more, to complete a group of ties)."""

    def chat_batch(
        self,
        chats: list[list[Message]],
        /,
        *,
        seeds: list[int],
        exclude_played: bool,
        max_new_tokens: int,
    ) -> Sequence[Answer]:
        """A sampled answer to each history."""


class ModelRanker:
    """A recommender's ranking, laid out over the catalog; what it leaves out has `-inf`.

    Args:
        model (`Recommender`): The recommender.
        catalog (`Catalog`): The candidates.
        k (`int`): How many tracks it is asked for.
        exclude_played (`bool`): Whether it leaves out tracks that the history has played.
        seed (`int`): Seed of the draws for the first history, the next one's for the next.
        options (`RankingOptions`, *optional*): How it ranks.
    """

    def __init__(
        self,
        model: RankingModel,
        catalog: Catalog,
        k: int,
        *,
        exclude_played: bool = True,
        seed: int = 0,
        options: RankingOptions | None = None,
    ) -> None:
        self._model, self._catalog = model, catalog
        self._k, self._exclude_played = min(k, len(catalog)), exclude_played
        self._seed, self._options = seed, asdict(options or RankingOptions())

    def scores(self, histories: Sequence[History]) -> FloatArray:
        """See `Ranker.scores`.

        Raises:
            InputError: If the model ranks a track that the catalog does not hold.
        """
        scores = np.full((len(histories), len(self._catalog)), -np.inf)
        # all turns of a dialogue go through the model together
        ranked = self._model.rank_batch(
            [list(history) for history in histories],
            k=self._k,
            exclude_played=self._exclude_played,
            seeds=list(range(self._seed, self._seed + len(histories))),
            **self._options,
        )
        self._seed += len(histories)
        for row, tracks in enumerate(ranked):
            for item in tracks:
                scores[row, self._catalog.row(item.track.track_id)] = item.score
        return scores


class RandomRanker:
    """Every track alike. Since metrics are exact under ties, this is chance itself, undrawn."""

    def __init__(self, catalog: Catalog) -> None:
        self._tracks = len(catalog)

    def scores(self, histories: Sequence[History]) -> FloatArray:
        """See `Ranker.scores`."""
        return np.zeros((len(histories), self._tracks))


class PopularityRanker:
    """Tracks by how often they stand in the playlists that train.

    Args:
        catalog (`Catalog`): Its playlists of the split `"train"` are counted.
        held_out (`Collection[str]`): Ids of further playlists that must not be counted, those that
            the evaluated conversations were made from among them.
    """

    def __init__(self, catalog: Catalog, held_out: Collection[str]) -> None:
        splits = playlist_splits(catalog)
        hidden = {name for name, split in splits.items() if split != "train"} | set(held_out)
        plays = Counter(
            track_id
            for playlist in catalog.iter_playlists()
            if playlist.playlist_id not in hidden
            for track_id in playlist.track_ids
        )
        self._plays = np.array([plays[track_id] for track_id in catalog.track_ids], np.float64)

    def scores(self, histories: Sequence[History]) -> FloatArray:
        """See `Ranker.scores`."""
        return np.tile(self._plays, (len(histories), 1))


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
                "the BM25 baseline needs bm25s: pip install talkplay-hf[eval]"
            ) from None
        self._tokenize: Any = bm25s.tokenize
        self._last_turn = last_turn
        self._tracks = len(catalog)
        documents = self._tokenize(track_documents(catalog), show_progress=False)
        self._index: Any = None
        if documents.vocab:
            self._index = bm25s.BM25()
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


def track_documents(catalog: Catalog) -> list[str]:
    """The text that retrieval baselines see of each track; missing fields are left out."""
    names = ("title", "artist", "album", "tags", "release_date")
    documents = []
    for title, artist, album, tags, date in zip(*map(catalog.column, names), strict=True):
        year = release_year(date)
        parts = [f"{title} by {artist}", f"from {album}" if album else "", *(tags or ())]
        parts.append("" if year is None else str(year))
        documents.append(" ".join(part for part in parts if part))
    return documents


def chat_text(history: History, *, last_turn: bool = False) -> str:
    """The words of a dialogue: of user and assistant in order, or of the last user message."""
    if last_turn:
        return next((m.content for m in reversed(history) if m.role == "user"), "")
    return "\n".join(m.content for m in history if m.role in ("user", "assistant"))


def make_baseline(name: str, catalog: Catalog, held_out: Collection[str]) -> Ranker:
    """Make one of `BASELINES` by name.

    Raises:
        InputError: If there is no such baseline.
        MissingExtraError: If it needs a package that is not installed.
    """
    if name == "random":
        return RandomRanker(catalog)
    if name == "popularity":
        return PopularityRanker(catalog, held_out)
    if name in ("bm25", "bm25-last-turn"):
        return BM25Ranker(catalog, last_turn=name == "bm25-last-turn")
    raise InputError(f"baseline {name!r}: must be one of {', '.join(BASELINES)}")
