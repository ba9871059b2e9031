"""A logits processor that lets a model write nothing but well-formed music blocks and text."""

from dataclasses import dataclass

import numpy as np
import torch
from transformers import LogitsProcessor

from talkplay_hf.errors import ConfigError, NoTrackError
from talkplay_hf.tokens.index import CatalogIndex
from talkplay_hf.tokens.tokenizer import TalkPlayTokenizer


@dataclass(frozen=True)
class MusicVocabulary:
    """Where the music and control tokens stand in a vocabulary.

    Args:
        start (`int`): Id of `<start_of_music>`.
        end (`int`): Id of `<end_of_music>`.
        offsets (`tuple[int, ...]`): Id of code 0 of each modality, with one end mark.
        end_of_turn (`int`): Id of the token that ends a message.
        control (`tuple[int, ...]`): Ids of all other special tokens; a reply never has them.
        size (`int`): Number of tokens; a model can have more rows than that.
    """

    start: int
    end: int
    offsets: tuple[int, ...]
    end_of_turn: int
    control: tuple[int, ...]
    size: int

    @classmethod
    def of(cls, tokenizer: TalkPlayTokenizer) -> "MusicVocabulary":
        """Read it off a tokenizer."""
        offsets = tuple(int(offset) for offset in tokenizer.code_offsets)
        start, end = tokenizer.start_of_music_id, tokenizer.end_of_music_id
        end_of_turn = int(tokenizer.eos_token_id)
        music = {start, end, *range(offsets[0], offsets[-1])}
        special = {*tokenizer.added_tokens_decoder, *tokenizer.all_special_ids}
        control = tuple(sorted(special - music - {end_of_turn}))
        return cls(start, end, offsets, end_of_turn, control, len(tokenizer))

    @property
    def depth(self) -> int:
        """Number of modalities."""
        return len(self.offsets) - 1


class MusicGrammarLogitsProcessor(LogitsProcessor):  # type: ignore[misc]
    """Music first, in blocks of one token a modality in the right order; then text.

    Exactly `tracks` blocks open an answer (paper 4.4: the music comes before the reply). Inside a
    block only the next modality's tokens are allowed; outside, no music or control token is. With
    an index, only prefixes that lead to an allowed track of the catalogue are.

    The processor keeps no state: all is read from the ids, so that beams can be reordered and rows
    can be at different places.

    Args:
        vocabulary (`MusicVocabulary`): Where the tokens stand.
        vocab_size (`int`): Width of the scores; rows beyond the tokenizer are banned.
        tracks (`int`): Music blocks an answer.
        index (`CatalogIndex`, *optional*): Restrict blocks to the tracks of a catalogue.
        allowed (`np.ndarray` of shape `[n]`, bool, *optional*): Restrict them further to these
            tracks.

    Raises:
        ConfigError: If `tracks` is not positive, or `allowed` is given without an index.
        NoTrackError: If no track is allowed.
    """

    def __init__(
        self,
        vocabulary: MusicVocabulary,
        vocab_size: int,
        *,
        tracks: int = 1,
        index: CatalogIndex | None = None,
        allowed: np.ndarray | None = None,
    ) -> None:
        if tracks < 1:
            raise ConfigError(f"tracks {tracks}: an answer plays at least one track")
        if allowed is not None and index is None:
            raise ConfigError("allowed tracks need a catalogue index")
        if allowed is not None and not allowed.any():
            raise NoTrackError("the rules in force leave no track to recommend")
        self._vocabulary = vocabulary
        self._tracks = tracks
        self._index = index
        self._alive = index.alive(allowed) if index is not None and allowed is not None else None
        # one row of banned tokens per state: modality 0 ... depth-1, end, start, text
        depth = vocabulary.depth
        banned = torch.ones(depth + 3, vocab_size, dtype=torch.bool)
        for m in range(depth):
            banned[m, vocabulary.offsets[m] : vocabulary.offsets[m + 1]] = False
        banned[depth, vocabulary.end] = False
        banned[depth + 1, vocabulary.start] = False
        banned[depth + 2, : vocabulary.start] = False
        banned[depth + 2, vocabulary.offsets[-1] : vocabulary.size] = False
        banned[depth + 2, list(vocabulary.control)] = True
        banned[depth + 2, vocabulary.end_of_turn] = False
        self._banned = banned

    def states(self, input_ids: torch.Tensor) -> torch.Tensor:
        """The state of each row: which modality is next, or end (depth), start, or text.

        Args:
            input_ids (`torch.Tensor` of shape `[rows, length]`, int64): The ids so far.

        Returns:
            `torch.Tensor` of shape `[rows]`, int64.
        """
        words, depth = self._vocabulary, self._vocabulary.depth
        window = input_ids[:, -(depth + 1) :]
        place = torch.arange(1, window.shape[1] + 1, device=input_ids.device)
        last_start = (window.eq(words.start) * place).amax(dim=1)
        since = window.shape[1] - last_start
        position = torch.arange(1, input_ids.shape[1] + 1, device=input_ids.device)
        last_turn = (input_ids.eq(words.end_of_turn) * position).amax(dim=1, keepdim=True)
        blocks = (input_ids.eq(words.end) & (position > last_turn)).sum(dim=1)
        outside = torch.where(blocks < self._tracks, depth + 1, depth + 2)
        return torch.where(last_start > 0, since, outside)

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Ban what the grammar does not allow.

        Args:
            input_ids (`torch.Tensor` of shape `[rows, length]`, int64): The ids so far.
            scores (`torch.Tensor` of shape `[rows, vocabulary]`): The scores of the next token.

        Returns:
            `torch.Tensor`: A copy of the scores with `-inf` where banned.
        """
        if self._banned.device != scores.device:
            self._banned = self._banned.to(scores.device)
        states = self.states(input_ids)
        banned = self._banned[states]
        if self._index is not None:
            self._ban_outside_catalogue(input_ids, states, banned)
        return scores.masked_fill(banned, -torch.inf)

    def _ban_outside_catalogue(
        self, input_ids: torch.Tensor, states: torch.Tensor, banned: torch.Tensor
    ) -> None:
        assert self._index is not None
        offsets = np.asarray(self._vocabulary.offsets)
        levels = states.cpu().numpy()
        recent = input_ids[:, -self._vocabulary.depth :].cpu().numpy()
        for level in range(self._vocabulary.depth):
            rows = np.flatnonzero(levels == level)
            if not len(rows):
                continue
            prefixes = recent[rows][:, recent.shape[1] - level :] - offsets[:level]
            parents, nodes = self._index.children(level, self._index.find(prefixes))
            if self._alive is not None:
                keep = self._alive[level][nodes]
                parents, nodes = parents[keep], nodes[keep]
            if len(np.unique(parents)) < len(rows):
                raise NoTrackError("a music block was begun that leads to no allowed track")
            tokens = offsets[level] + self._index.codes[level][nodes]
            at = torch.from_numpy(rows).to(banned.device)
            banned[at] = True
            banned[
                torch.from_numpy(rows[parents]).to(banned.device),
                torch.from_numpy(tokens).to(banned.device),
            ] = False
