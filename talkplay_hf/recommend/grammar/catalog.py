"""A logits processor that lets a model play nothing but the tracks of a catalogue."""

from itertools import pairwise
from typing import NamedTuple

import torch

from talkplay_hf.errors import ConfigError, NoTrackError
from talkplay_hf.recommend.grammar.processor import MusicGrammarLogitsProcessor
from talkplay_hf.recommend.grammar.vocabulary import MusicVocabulary
from talkplay_hf.tokens.allowed import Allowed
from talkplay_hf.tokens.index import CatalogIndex


class Played(NamedTuple):
    """The tuples that answers have played: the row, the codes, and how many tracks they took."""

    row: torch.Tensor
    codes: torch.Tensor
    taken: torch.Tensor


class CatalogLogitsProcessor(MusicGrammarLogitsProcessor):
    """The grammar, and in a block only codes that lead to an allowed track of the catalogue.

    An answer of several tracks plays a tuple at most as often as there are allowed tracks of it,
    so that each block can be given a track of its own. Where no track is left, the answer goes on
    with fewer blocks.

    Example:
        ```python
        tokenizer = TalkPlayTokenizer.from_pretrained(folder)
        model = AutoModelForCausalLM.from_pretrained(folder)
        processor = CatalogLogitsProcessor(
            MusicVocabulary.of(tokenizer),
            CatalogIndex.load(tokenizer.side_file("catalog_index_file")),
        )
        ids = tokenizer.chat_ids([Message("user", "slow jazz")], [])
        out = model.generate(torch.tensor([ids]), logits_processor=[processor], num_beams=4)
        codes = tokenizer.parse_blocks(out[0, len(ids) :].tolist())
        ```

    Args:
        vocabulary (`MusicVocabulary`): Where the tokens stand.
        index (`CatalogIndex`): The catalogue.
        tracks (`int`): Music blocks an answer.
        place (`str`): `"first"` or `"anywhere"`, see `MusicGrammarLogitsProcessor`.
        allowed (`Allowed`, *optional*): Only these tracks. With several chats the rows of a batch
            belong to them in equal parts, in order, as `generate` lays out beams and samples.
        in_place (`bool`): Write into the scores that come in.

    Raises:
        ConfigError: If an option cannot be used, or the index has other codebooks.
        NoTrackError: If a chat has no track that it may be given.
    """

    def __init__(
        self,
        vocabulary: MusicVocabulary,
        index: CatalogIndex,
        *,
        tracks: int = 1,
        place: str = "first",
        allowed: Allowed | None = None,
        in_place: bool = False,
    ) -> None:
        sizes = tuple(end - first for first, end in pairwise(vocabulary.offsets))
        if index.sizes != sizes:
            raise ConfigError(
                f"the catalogue index has codebooks of {index.sizes} codes, the vocabulary {sizes}"
            )
        self._index = index
        self._allowed = Allowed.of(index, [None]) if allowed is None else allowed
        # an index without further rules is asked for less
        self._rules = allowed
        if not bool((self._allowed.totals() > 0).all()):
            raise NoTrackError("the rules in force leave no track to recommend")
        super().__init__(vocabulary, tracks=tracks, place=place, in_place=in_place)

    @property
    def _home(self) -> torch.device:
        # a processor is made for each answer, which must not copy the index
        return self._index.device

    def _put(self, device: torch.device) -> None:
        super()._put(device)
        self._index = self._index.to(device)
        self._allowed = self._allowed.to(device)
        self._rules = None if self._rules is None else self._allowed
        # every block begins at the root
        chats = torch.arange(self._allowed.chats, device=device)
        root = torch.empty(len(chats), 0, dtype=torch.int64, device=device)
        self._roots = self._index.mask(root, self._allowed, chats)

    def _chats(self, rows: int) -> torch.Tensor:
        """The chat of each row."""
        chats = self._allowed.chats
        if not rows or rows % chats:
            raise ConfigError(f"{rows} rows cannot be shared out to {chats} chats")
        return torch.arange(rows, device=self._index.device) // (rows // chats)

    def _legal(
        self, input_ids: torch.Tensor, rows: torch.Tensor | slice, codes: torch.Tensor
    ) -> torch.Tensor | None:
        chats = None
        if self._rules is not None:
            chats = self._chats(len(input_ids))[rows]
        if not codes.shape[1]:
            legal = self._roots.expand(len(codes), -1) if chats is None else self._roots[chats]
        elif codes.shape[1] < self._index.depth:
            legal = self._index.mask(codes, self._rules, chats)
        else:
            first, end = self._index.ranges(codes)
            if self._rules is not None and chats is not None:
                legal = self._rules.counts(chats, first, end)[:, None] > 0
            else:
                legal = (end > first)[:, None]
        if self._tracks > 1:
            legal = self._not_again(legal, input_ids, rows, codes)
        return legal

    def _some_left(self, input_ids: torch.Tensor) -> torch.Tensor:
        if self._tracks == 1:
            return super()._some_left(input_ids)
        left = self._allowed.totals()[self._chats(len(input_ids))]
        played = self._played(input_ids)
        return left.index_add(0, played.row, -played.taken) > 0

    def _played(self, input_ids: torch.Tensor) -> Played:
        """The distinct tuples of the catalogue that each row has played in this answer."""
        words, index = self._vocabulary, self._index
        row, at = self._since_turn(input_ids).nonzero(as_tuple=True)
        back = torch.arange(-words.depth - 1, 0, device=at.device)
        block = input_ids[row[:, None], (at[:, None] + back).clamp(min=0)]
        codes = block[:, 1:] - self._offsets
        first, end = index.ranges(codes)
        whole = (block[:, 0] == words.start) & (end > first)
        row, codes, first, end = row[whole], codes[whole], first[whole], end[whole]
        tuples, same, times = torch.unique(
            row * index.tracks + first, return_inverse=True, return_counts=True
        )
        one = torch.empty_like(tuples).scatter_(0, same, torch.arange(len(row), device=at.device))
        row, codes, first, end = row[one], codes[one], first[one], end[one]
        chats = self._chats(len(input_ids))[row]
        # a tuple that the caller's rules exclude has nothing left to take
        return Played(row, codes, torch.minimum(times, self._allowed.counts(chats, first, end)))

    def _not_again(
        self,
        legal: torch.Tensor,
        input_ids: torch.Tensor,
        rows: torch.Tensor | slice,
        codes: torch.Tensor,
    ) -> torch.Tensor:
        """Ban codes under which this answer has played all that there is."""
        level = codes.shape[1]
        played = self._played(input_ids)
        number = torch.full((len(input_ids),), -1, device=codes.device)
        number[rows] = torch.arange(len(codes), device=codes.device)
        mine = number[played.row]
        met = (mine >= 0) & (played.codes[:, :level] == codes[mine]).all(1)
        mine, longer, taken = mine[met], played.codes[met, : level + 1], played.taken[met]
        # the end of a block is the one step behind its codes
        code = longer[:, level] if level < self._index.depth else torch.zeros_like(mine)
        total = torch.zeros(legal.shape, dtype=torch.int64, device=codes.device)
        total.index_put_((mine, code), taken, accumulate=True)
        chats = self._chats(len(input_ids))[played.row[met]]
        left = self._allowed.counts(chats, *self._index.ranges(longer)) - total[mine, code]
        return legal.index_put((mine, code), left > 0)
