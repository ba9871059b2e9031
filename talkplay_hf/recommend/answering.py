"""Answering chat turns: the music block or blocks, then the reply, from one cache (paper 4.4)."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from transformers import DynamicCache, PreTrainedModel

from talkplay_hf.errors import NoTrackError
from talkplay_hf.recommend.answers import Recommendation, ScoredTrack
from talkplay_hf.recommend.decoding.writer import write
from talkplay_hf.recommend.grammar import MusicVocabulary
from talkplay_hf.recommend.grammar.constraints import processors
from talkplay_hf.recommend.memory import ConversationMemory
from talkplay_hf.recommend.options import BEAM_WIDTH, ChatOptions, RankingOptions
from talkplay_hf.recommend.ranking import TrackRanker
from talkplay_hf.recommend.reader import AnswerReader
from talkplay_hf.tokens.index import CatalogIndex

# tracks to choose from for each that is played, where rules make them differ
CHOICE = 16


@dataclass
class Turn:
    """A turn that is being answered.

    Args:
        ids (`list[int]`): The prompt, and what was decided of the answer before it is written.
        tracks (`int`): Tracks the answer plays at most.
        reader (`AnswerReader`): Reads the answer.
        masks (`Callable`): The tracks allowed, bool `[n]`, by the catalog rows that the answer has
            played already; raises `NoTrackError` where none is.
        mask (`np.ndarray` of shape `[n]`, bool, *optional*): Those allowed now; `None` once the
            answer plays no more.
        rng (`np.random.Generator`): Where its draws come from.
    """

    ids: list[int]
    tracks: int
    reader: AnswerReader
    masks: Callable[[Sequence[int]], np.ndarray]
    mask: np.ndarray | None
    rng: np.random.Generator

    def __post_init__(self) -> None:
        self.prompt = len(self.ids)

    @property
    def blocks_left(self) -> int:
        """Music blocks that are still to be written."""
        return 0 if self.mask is None else max(self.tracks - self.reader.blocks, 0)

    def play(self, chosen: ScoredTrack) -> None:
        """Decide for a track before anything is written."""
        self.ids += self.reader.play(chosen)
        self.narrow()

    def narrow(self) -> None:
        """Allow only what may still be played."""
        played = self.reader.rows
        try:
            self.mask = self.masks(played) if len(played) < self.tracks else None
        except NoTrackError:
            self.mask = None


class AnswerRules:
    """What may follow in answers that are written together: a block where one is due, else text.

    All blocks of answers that are written together begin and end at the same tokens.

    Args:
        vocabulary (`MusicVocabulary`): Where the music tokens stand.
        constraint (`str`): See `ChatOptions`.
        index (`CatalogIndex`): The catalogue.
        turns (`Sequence[Turn]`): The turns.
    """

    def __init__(
        self,
        vocabulary: MusicVocabulary,
        constraint: str,
        index: CatalogIndex,
        turns: Sequence[Turn],
    ) -> None:
        self._vocabulary, self._constraint, self._index = vocabulary, constraint, index
        self._turns = turns
        self.renew()

    def renew(self) -> None:
        """Take in what the turns have played, at the end of their blocks."""
        self._since: int | None = None
        # for the processors, an answer begins here, in which a block is due or has been written
        words = self._vocabulary
        self._opening = [words.end_of_turn if t.blocks_left else words.end for t in self._turns]
        masks = [turn.mask for turn in self._turns]
        self._processors = processors(words, self._constraint, self._index, masks)

    def __call__(self, ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """See `LogitsProcessor`."""
        if self._since is None:
            self._since = ids.shape[1]
        opening = torch.tensor(self._opening, device=ids.device)[:, None]
        ruled: torch.Tensor = self._processors(
            torch.cat([opening, ids[:, self._since :]], dim=1), scores
        )
        return ruled


class Answerer:
    """Answers chat turns.

    Args:
        model (`PreTrainedModel`): The model.
        vocabulary (`MusicVocabulary`): Where the music tokens stand.
        index (`CatalogIndex`): The catalogue.
        ranker (`TrackRanker`): Ranks the tracks for the strategy `"rank"`.
        memory (`ConversationMemory`): What was read of the last conversations.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        vocabulary: MusicVocabulary,
        index: CatalogIndex,
        ranker: TrackRanker,
        memory: ConversationMemory,
    ) -> None:
        self._model, self._vocabulary, self._index = model, vocabulary, index
        self._ranker, self._memory = ranker, memory

    def stream(self, turn: Turn, options: ChatOptions) -> Iterator[Recommendation]:
        """Answer one turn, from what the memory holds of its conversation.

        Args:
            turn (`Turn`): The turn.
            options (`ChatOptions`): How.

        Yields:
            `Recommendation`: The answer so far, whenever a track or some of the reply was added.
        """
        told = None
        for answer in self._growing(turn, options):
            if answer != told:
                told = answer
                yield answer

    def _growing(self, turn: Turn, options: ChatOptions) -> Iterator[Recommendation]:
        read, cache = self._memory.recall(turn.ids)
        if options.strategy == "rank" and turn.mask is not None:
            ranked, cache = self._ranker.rank_and_go_on(
                turn.ids, _choice(turn), turn.mask, read, cache
            )
            read = len(turn.ids) + 1 if cache is not None else 0
            self._open(turn, ranked)
            yield turn.reader.answer()
        if cache is None:
            cache = DynamicCache(config=self._model.config)
        try:
            for _ in self._write([turn], options, cache, read):
                # while a block is being written there is nothing new to tell
                if turn.reader.outside:
                    yield turn.reader.answer()
        except GeneratorExit:
            self._remember(turn, cache)
            raise
        self._remember(turn, cache)
        yield turn.reader.answer(whole=True)

    def _remember(self, turn: Turn, cache: DynamicCache) -> None:
        self._memory.keep([*turn.ids[: turn.prompt], *turn.reader.tokens], turn.prompt, cache)

    def answer_all(self, turns: Sequence[Turn], options: ChatOptions) -> list[Recommendation]:
        """Answer several turns at once.

        Args:
            turns (`Sequence[Turn]`): The turns.
            options (`ChatOptions`): How.
        """
        if options.strategy == "rank":
            for turn, ranked in zip(turns, self._rank(turns), strict=True):
                self._open(turn, ranked)
        # the length limit of an answer depends on how many tracks it plays
        for tracks in sorted({turn.tracks for turn in turns}):
            alike = [turn for turn in turns if turn.tracks == tracks]
            for _ in self._write(alike, options, DynamicCache(config=self._model.config), 0):
                pass
        return [turn.reader.answer(whole=True) for turn in turns]

    def _rank(self, turns: Sequence[Turn]) -> list[list[ScoredTrack]]:
        return self._ranker.rank(
            [turn.ids[: turn.prompt] for turn in turns],
            max(map(_choice, turns)),
            RankingOptions(),
            [turn.mask for turn in turns if turn.mask is not None],
            [None] * len(turns),
        )

    def _open(self, turn: Turn, ranked: Sequence[ScoredTrack]) -> None:
        """Play the best tracks that may be played together."""
        while ranked:
            for chosen in ranked:
                if turn.mask is not None and turn.mask[turn.reader.row_of(chosen)]:
                    turn.play(chosen)
            # rules can leave none of those that were the best; then others are
            ranked = [] if turn.mask is None else self._rank([turn])[0]

    def _write(
        self, turns: Sequence[Turn], options: ChatOptions, cache: DynamicCache, read: int
    ) -> Iterator[None]:
        constraint = "catalog" if options.strategy == "rank" else options.constraint
        rules = AnswerRules(self._vocabulary, constraint, self._index, turns)
        left = max(turn.blocks_left for turn in turns)
        sampled = options.strategy == "sample"
        written = write(
            self._model,
            [turn.ids for turn in turns],
            rules,
            cache=cache,
            read=read,
            limit=options.max_new_tokens + left * (self._vocabulary.depth + 2),
            end_of_turn=self._vocabulary.end_of_turn,
            rngs=[turn.rng for turn in turns] if sampled else None,
            temperature=options.temperature,
            top_p=options.top_p,
        )
        for step in written:
            ended = False
            for turn, one in zip(turns, step, strict=True):
                if one is not None and turn.reader.take(*one, turn.mask):
                    turn.narrow()
                    ended = True
            if ended:
                rules.renew()
            yield


def _choice(turn: Turn) -> int:
    return 1 if turn.tracks == 1 else min(BEAM_WIDTH, CHOICE * turn.tracks)
