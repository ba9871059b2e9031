"""The systems of an evaluation as tasks: the model's rankings and answers, and the baselines."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from talkplay_hf.catalog.constraints import satisfied
from talkplay_hf.catalog.matcher import ConstraintMatcher
from talkplay_hf.catalog.schema import MODALITIES, Catalog
from talkplay_hf.errors import InputError
from talkplay_hf.evaluation.baselines.base import BaselineSources, RankingModel
from talkplay_hf.evaluation.baselines.registry import make_baseline
from talkplay_hf.evaluation.cache import folder_hash
from talkplay_hf.evaluation.examples import Reply
from talkplay_hf.evaluation.metrics.ranking import BoolArray, FloatArray
from talkplay_hf.evaluation.outcomes import (
    NONE,
    Arrays,
    Outcomes,
    dense_outcomes,
    list_outcomes,
)
from talkplay_hf.evaluation.run import Run, Task
from talkplay_hf.evaluation.turns import Turn
from talkplay_hf.features.shards import Processes
from talkplay_hf.hub import files
from talkplay_hf.hub.pull import fetch
from talkplay_hf.recommend.options import RankingOptions

# turns that go through a model together
BATCH = 32
# numbers of a dense array of scores
DENSE = 4_000_000


class ModelSource:
    """A recommender that is loaded when it is first needed.

    Args:
        model (`str`, `Path` or `Recommender`): The recommender, or its folder or Hub id.
        processes (`Processes`): Several have a device each.
    """

    def __init__(self, model: str | Path | RankingModel, processes: Processes) -> None:
        self._model, self._processes = model, processes

    @cached_property
    def recommender(self) -> RankingModel:
        """The recommender."""
        if not isinstance(self._model, str | Path):
            return self._model
        from talkplay_hf.recommend.recommender import Recommender

        device = self._processes.device if self._processes.count > 1 else None
        loaded: RankingModel = Recommender.from_pretrained(str(self.folder), device=device)
        return loaded

    @cached_property
    def folder(self) -> Path | None:
        """The folder of its files; `None` for an object.

        Raises:
            InputError: If it is no folder and cannot be the name of a repository.
            HubError: If there is no such repository.
        """
        if not isinstance(self._model, str | Path):
            return None
        if Path(self._model).is_dir():
            return Path(self._model)
        # all files, since what a run depends on is the hash of all of them
        return fetch(str(self._model), repo_type="model", allow=("*",))

    @cached_property
    def hash(self) -> str | None:
        """SHA-256 of its files, see `folder_hash`."""
        return None if self.folder is None else folder_hash(self.folder)

    def side_file(self, name: str) -> Any:
        """The JSON values of a file beside the weights; `None` where there is none."""
        if self.folder is None or not (self.folder / name).exists():
            return None
        return files.read_json(self.folder / name)

    def known(self, catalog: Catalog) -> dict[str, BoolArray]:
        """By modality, whether the model's code of each track was made from the track itself.

        Args:
            catalog (`Catalog`): The candidates; one that the model does not know counts as known.
        """
        if self.folder is None or not (self.folder / files.TOKEN_CATALOG).exists():
            return {}
        from talkplay_hf.tokens.build import read_known_codes, read_token_catalog

        path = self.folder / files.TOKEN_CATALOG
        tracks, codes = read_token_catalog(path)
        config = self.side_file(files.TALKPLAY_CONFIG) or {}
        names = config.get("modalities", MODALITIES)
        own = [t for t in tracks.track_ids if t in catalog]
        known = np.ones((len(catalog), codes.shape[1]), dtype=bool)
        from_rows = [tracks.row(t) for t in own]
        known[[catalog.row(t) for t in own]] = read_known_codes(path, codes)[from_rows]
        return {name: known[:, at] for at, name in enumerate(names)}


@dataclass(frozen=True)
class Systems:
    """What every task needs.

    Args:
        catalog (`Catalog`): The candidates.
        seed (`int`): Of all that systems draw.
        exclude_played (`bool`): Whether played tracks are no candidates.
        content (`str`): SHA-256 of the catalog.
    """

    catalog: Catalog
    seed: int
    exclude_played: bool
    content: str

    @cached_property
    def matcher(self) -> ConstraintMatcher:
        """Knows which tracks meet a request."""
        return ConstraintMatcher(self.catalog)

    def baseline(
        self,
        name: str,
        numbers: Sequence[int],
        sources: BaselineSources,
        identity: Mapping[str, Any],
        processes: Processes,
    ) -> Task:
        """The rankings of a baseline.

        Args:
            name (`str`): Its name.
            numbers (`Sequence[int]`): Which turns.
            sources (`BaselineSources`): What it is made from.
            identity (`Mapping[str, Any]`): The same, hashed.
            processes (`Processes`): Several have a device each.
        """

        def prepare() -> Run:
            own = replace(sources, device=processes.device) if processes.count > 1 else sources
            ranker = make_baseline(name, own)

            def rank(some: Sequence[int], turns: Sequence[Turn]) -> Outcomes:
                return dense_outcomes(
                    ranker.scores([turn.history for turn in turns]),
                    turns,
                    self._seeds(some),
                    self.matcher,
                    exclude_played=self.exclude_played,
                )

            return _in_batches(rank, int(np.clip(DENSE // len(self.catalog), 1, BATCH)))

        return Task(name, numbers, {**self._identity, "sources": dict(identity)}, prepare)

    def ranking(
        self,
        name: str,
        numbers: Sequence[int],
        model: ModelSource,
        k: int,
        options: RankingOptions,
    ) -> Task:
        """The model's rankings.

        Args:
            name (`str`): Its name.
            numbers (`Sequence[int]`): Which turns.
            model (`ModelSource`): The model.
            k (`int`): How many tracks it is asked for.
            options (`RankingOptions`): How it ranks.
        """
        how = {"k": min(k, len(self.catalog)), **asdict(options)}

        def prepare() -> Run:
            recommender = model.recommender

            def rank(some: Sequence[int], turns: Sequence[Turn]) -> Outcomes:
                lists = recommender.rank_batch(
                    [list(turn.history) for turn in turns],
                    exclude_played=self.exclude_played,
                    seeds=[self.seed + number for number in some],
                    **how,
                )
                return list_outcomes(
                    lists,
                    turns,
                    self._seeds(some),
                    self.matcher,
                    self.catalog,
                    exclude_played=self.exclude_played,
                )

            return _in_batches(rank, BATCH)

        return Task(name, numbers, {**self._identity, "model": model.hash, **how}, prepare)

    def answers(
        self, name: str, numbers: Sequence[int], model: ModelSource, max_new_tokens: int
    ) -> Task:
        """The model's sampled answers, see `read_replies`.

        Args:
            name (`str`): Their name.
            numbers (`Sequence[int]`): To which turns.
            model (`ModelSource`): The model.
            max_new_tokens (`int`): How long a reply may be.
        """

        def prepare() -> Run:
            recommender = model.recommender

            def run(chunk: Sequence[int], turns: Sequence[Turn]) -> Arrays:
                rows, texts = [], []
                for at in range(0, len(turns), BATCH):
                    some = turns[at : at + BATCH]
                    found = recommender.chat_batch(
                        [list(turn.history) for turn in some],
                        seeds=[self.seed + number for number in chunk[at : at + BATCH]],
                        exclude_played=self.exclude_played,
                        max_new_tokens=max_new_tokens,
                    )
                    for one in found:
                        played = [self.catalog.row(track.track_id) for track in one.tracks]
                        rows.append(played[0] if played else NONE)
                        texts.append(one.reply)
                text = np.frombuffer(json.dumps(texts).encode(), np.uint8)
                return {"row": np.array(rows, dtype=np.int64), "text": text}

            return run

        identity = {**self._identity, "model": model.hash, "max_new_tokens": max_new_tokens}
        return Task(name, numbers, identity, prepare)

    def reference_fit(self, turns: Sequence[Turn]) -> tuple[FloatArray, FloatArray]:
        """How often any candidate, and how often the label, meets the request of each turn.

        Args:
            turns (`Sequence[Turn]`): The turns.

        Returns:
            `tuple[numpy.ndarray, numpy.ndarray]` of shape `(turns,)`, float64: NaN where nothing is
            asked for.
        """
        chance, label = np.full(len(turns), np.nan), np.full(len(turns), np.nan)
        for at, turn in enumerate(turns):
            if turn.request:
                wanted = self.matcher.mask(turn.request)
                out = sorted(set(turn.played)) if self.exclude_played else []
                left = len(wanted) - len(out)
                chance[at] = (wanted.sum() - wanted[out].sum()) / max(left, 1)
                label[at] = wanted[turn.labels[0]]
        return chance, label

    def reply_fit(
        self, turns: Sequence[Turn], numbers: Sequence[int], replies: Sequence[Reply]
    ) -> FloatArray:
        """Whether the track of each answer meets the request; NaN where there is no answer.

        Args:
            turns (`Sequence[Turn]`): All turns.
            numbers (`Sequence[int]`): Which of them were answered.
            replies (`Sequence[Reply]`): The answers.
        """
        fit = np.full(len(turns), np.nan)
        for number, reply in zip(numbers, replies, strict=True):
            asked = turns[number].request
            fit[number] = reply.row != NONE and satisfied(asked, self.catalog.track_at(reply.row))
        return fit

    @property
    def _identity(self) -> dict[str, Any]:
        return {
            "catalog": self.content,
            "seed": self.seed,
            "exclude_played": self.exclude_played,
        }

    def _seeds(self, numbers: Sequence[int]) -> list[tuple[int, int]]:
        return [(self.seed, number) for number in numbers]


def _in_batches(rank: Callable[[Sequence[int], Sequence[Turn]], Outcomes], size: int) -> Run:
    """What runs a chunk of turns, so many at a time."""

    def run(numbers: Sequence[int], turns: Sequence[Turn]) -> Arrays:
        parts = [
            rank(numbers[at : at + size], turns[at : at + size]).arrays()
            for at in range(0, len(turns), size)
        ]
        return Outcomes.join(parts).arrays()

    return run


def read_replies(parts: Sequence[Arrays]) -> list[Reply]:
    """The answers in the chunks of such a task, in their order."""
    return [
        Reply(row, text)
        for part in parts
        for row, text in zip(part["row"].tolist(), json.loads(part["text"].tobytes()), strict=True)
    ]


def check_cached(model: ModelSource) -> None:
    """Refuse to cache what cannot be told apart.

    Raises:
        InputError: If the model is not a folder or a Hub repository.
    """
    if model.hash is None:
        raise InputError(
            "cache: what an object in memory ranks cannot be told apart from another's; give the "
            "folder or the Hub id of the model"
        )
