"""Reading an answer while it is written: tracks as soon as their block is whole, then text."""

import numpy as np

from talkplay_hf.catalog.schema import Catalog
from talkplay_hf.recommend.answers import Recommendation, ScoredTrack
from talkplay_hf.recommend.lookup import WeightedLookup
from talkplay_hf.tokens.tokenizer import TalkPlayTokenizer

# what a decoder gives for bytes that are not a whole character yet
UNFINISHED = "\N{REPLACEMENT CHARACTER}"


class AnswerReader:
    """Takes the tokens of one answer and looks its tracks up.

    Args:
        tokenizer (`TalkPlayTokenizer`): The tokenizer.
        lookup (`WeightedLookup`): The catalogue, by code.
        catalog (`Catalog`): The tracks.
        rng (`np.random.Generator`, *optional*): Draws from a bucket of tracks (paper 4.4); without
            it the first one is taken.

    Attributes:
        tokens (`list[int]`): The ids of the answer so far.
        rows (`list[int]`): The catalog rows that it has played.
        blocks (`int`): The well-formed blocks so far, whether they play a track or not.
    """

    def __init__(
        self,
        tokenizer: TalkPlayTokenizer,
        lookup: WeightedLookup,
        catalog: Catalog,
        rng: np.random.Generator | None,
    ) -> None:
        self._tokenizer, self._lookup, self._catalog = tokenizer, lookup, catalog
        self._rng = rng
        self.tokens: list[int] = []
        self.rows: list[int] = []
        self._log_probs: list[float] = []
        self._played: list[ScoredTrack] = []
        self.blocks = 0

    def row_of(self, chosen: ScoredTrack) -> int:
        """The catalog row of a ranked track."""
        return self._catalog.row(chosen.track.track_id)

    def play(self, chosen: ScoredTrack) -> list[int]:
        """Open the answer with a track that was chosen already; gives the ids of its block."""
        ids = self._tokenizer.block_ids(chosen.codes)
        self.tokens += ids
        self._log_probs += [0.0] * len(ids)
        self.blocks += 1
        self._played.append(chosen)
        self.rows.append(self.row_of(chosen))
        return ids

    @property
    def outside(self) -> bool:
        """Whether the next token belongs to no music block that was begun."""
        depth = len(self._tokenizer.config.codes)
        return self._tokenizer.start_of_music_id not in self.tokens[-1 - depth :]

    def take(self, token: int, log_prob: float, mask: np.ndarray | None) -> bool:
        """Take the next token.

        Args:
            token (`int`): Its id.
            log_prob (`float`): Its log-probability over the full vocabulary.
            mask (`np.ndarray` of shape `[n]`, bool, *optional*): The tracks that may be played, of
                which those of this answer are none; without it nothing is.

        Returns:
            `bool`: Whether it ended a well-formed block.
        """
        self.tokens.append(token)
        self._log_probs.append(log_prob)
        if token != self._tokenizer.end_of_music_id:
            return False
        depth = len(self._tokenizer.config.codes)
        blocks = self._tokenizer.parse_blocks(self.tokens[-depth - 2 :])
        if not blocks or blocks[0] is None:
            return False
        self.blocks += 1
        if mask is not None:
            self._look_up(blocks[0], mask)
        return True

    def _look_up(self, codes: tuple[int, ...], mask: np.ndarray) -> None:
        match = self._lookup.find(codes, mask)
        row = match.draw(self._rng)
        # a block that repeats itself in the answer must not become a near miss
        if row is None or (not match.exact and any(one.codes == codes for one in self._played)):
            return
        score = sum(self._log_probs[-1 - len(codes) : -1])
        names = tuple(self._tokenizer.config.modalities[m] for m in match.modalities)
        self.rows.append(row)
        self._played.append(ScoredTrack(self._catalog.track_at(row), score, codes, names))

    def answer(self, *, whole: bool = False) -> Recommendation:
        """The answer as far as it was written.

        Args:
            whole (`bool`): Whether it ends here; else a character of which bytes are missing is
                left out.
        """
        blocks = self._tokenizer.parse_blocks(self.tokens)
        reply = self._tokenizer.text_of(self.tokens)
        return Recommendation(
            tracks=tuple(one.track for one in self._played),
            reply=reply if whole else reply.rstrip(UNFINISHED).rstrip(),
            codes=tuple(one.codes for one in self._played),
            scores=tuple(one.score for one in self._played),
            matched=tuple(one.matched for one in self._played),
            blocks=sum(block is not None for block in blocks),
            malformed=sum(block is None for block in blocks),
        )
