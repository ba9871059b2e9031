"""The baselines by name."""

from collections.abc import Callable

from talkplay_hf.errors import InputError
from talkplay_hf.evaluation.baselines.base import BaselineSources, Ranker
from talkplay_hf.evaluation.baselines.bm25 import BM25Ranker
from talkplay_hf.evaluation.baselines.clap import ClapRanker
from talkplay_hf.evaluation.baselines.constraint_filter import FilterRanker
from talkplay_hf.evaluation.baselines.cooccurrence import LastTrackRanker
from talkplay_hf.evaluation.baselines.dense import DenseRanker
from talkplay_hf.evaluation.baselines.fusion import FusionRanker
from talkplay_hf.evaluation.baselines.popularity import PopularityRanker, RandomRanker
from talkplay_hf.evaluation.baselines.two_tower import TwoTowerRanker


def _hybrid(sources: BaselineSources) -> Ranker:
    words = BM25Ranker(sources.catalog, last_turn=True)
    if sources.encoder is None:
        return FusionRanker([words, LastTrackRanker(sources)])
    return FusionRanker([words, DenseRanker(sources, last_turn=True)])


def _rerank(sources: BaselineSources) -> Ranker:
    # scikit-learn is slow to import
    from talkplay_hf.evaluation.baselines.rerank import RerankRanker

    return RerankRanker(sources)


_MAKERS: dict[str, Callable[[BaselineSources], Ranker]] = {
    "random": RandomRanker,
    "popularity": PopularityRanker,
    "last-track": LastTrackRanker,
    "bm25": lambda sources: BM25Ranker(sources.catalog),
    "bm25-last-turn": lambda sources: BM25Ranker(sources.catalog, last_turn=True),
    "dense": DenseRanker,
    "dense-last-turn": lambda sources: DenseRanker(sources, last_turn=True),
    "clap": ClapRanker,
    "hybrid": _hybrid,
    "filter": FilterRanker,
    "two-tower": TwoTowerRanker,
    "rerank": _rerank,
}
BASELINES = tuple(_MAKERS)


def make_baseline(name: str, sources: BaselineSources) -> Ranker:
    """Make one of `BASELINES` by name.

    Args:
        name (`str`): Its name.
        sources (`BaselineSources`): What it is made from.

    Raises:
        InputError: If there is no such baseline, or it lacks one of its sources.
        ConfigError: If a model that it needs cannot be loaded.
        MissingExtraError: If it needs a package that is not installed.
    """
    if name not in _MAKERS:
        raise InputError(f"baseline {name!r}: must be one of {', '.join(BASELINES)}")
    return _MAKERS[name](sources)
