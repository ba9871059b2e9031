"""A logits processor that lets a model write nothing but well-formed music blocks and text."""

from typing import NamedTuple

import torch
from transformers import LogitsProcessor

from talkplay_hf.errors import ConfigError
from talkplay_hf.recommend.grammar.vocabulary import MusicVocabulary

PLACES = ("first", "anywhere")


class Patch(NamedTuple):
    """Scores to put back after the ban: a rectangle, in rows of which all else is banned or not."""

    rows: torch.Tensor | slice
    columns: slice
    scores: torch.Tensor
    alone: bool


class MusicGrammarLogitsProcessor(LogitsProcessor):  # type: ignore[misc]
    """Reply text and music blocks of one token a modality, in the right order (paper 4.4).

    Inside a block only the next modality's tokens are legal; outside, text is, but no code and no
    control token. Exactly `tracks` blocks stand in an answer. A row whose open block is not
    well-formed can only end its turn; no row is ever left without a legal token.

    The processor keeps no state: all is read from the ids, so that beams can be reordered, rows can
    be at different places, and drafts of an assistant can be checked.

    Args:
        vocabulary (`MusicVocabulary`): Where the tokens stand.
        tracks (`int`): Music blocks an answer. Blocks that the prompt has since the last end of a
            turn, as a listening history has, count.
        place (`str`): `"first"` puts all blocks before the text, as in the paper; `"anywhere"` lets
            the model choose, and the answer cannot end its turn before they are there; a limit of
            `generate` on its length can still end it.
        in_place (`bool`): Write into the scores that come in. Faster by the time that a fresh
            tensor of all scores takes; do not use it where the raw scores are wanted as well
            (`generate(output_logits=True)` when sampling).

    Raises:
        ConfigError: If `tracks` is not positive or `place` is unknown.
    """

    def __init__(
        self,
        vocabulary: MusicVocabulary,
        *,
        tracks: int = 1,
        place: str = "first",
        in_place: bool = False,
    ) -> None:
        if tracks < 1:
            raise ConfigError(f"tracks {tracks}: an answer plays at least one track")
        if place not in PLACES:
            raise ConfigError(f"place {place!r}: must be one of {PLACES}")
        self._vocabulary = vocabulary
        self._tracks = tracks
        self._place = place
        self._in_place = in_place
        self._put(self._home)

    @property
    def _home(self) -> torch.device:
        """Where the tables are until scores come from elsewhere."""
        return torch.device("cpu")

    def _put(self, device: torch.device) -> None:
        """Keep the tables on a device."""
        offsets = torch.tensor(self._vocabulary.offsets, device=device)
        self._offsets, self._sizes = offsets[:-1], offsets.diff()
        self._control = torch.tensor(self._vocabulary.control, dtype=torch.int64, device=device)
        self._never = torch.tensor(-torch.inf, device=device)
        self._count = torch.arange(1, self._vocabulary.depth + 2, device=device)

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Ban what the grammar does not allow.

        Args:
            input_ids (`torch.Tensor` of shape `[rows, length]`, int64): The ids so far.
            scores (`torch.Tensor` of shape `[rows, vocabulary]`): The scores of the next token.

        Returns:
            `torch.Tensor` of shape `[rows, vocabulary]`: The scores with `-inf` where banned; a
            copy, unless the processor works in place.
        """
        if self._count.device != scores.device:
            self._put(scores.device)
        if input_ids.device != scores.device:
            input_ids = input_ids.to(scores.device)
        depth = self._vocabulary.depth
        window = input_ids[:, -(depth + 1) :]
        width = window.shape[1]
        # where the last start stands in the window, counted from 1; 0 where there is none
        count = self._count if width > depth else self._count[:width]
        last = window.eq(self._vocabulary.start).mul(count).amax(1)
        places = set(last.tolist())
        patches: list[Patch] = []
        for place in places:
            rows = slice(None) if len(places) == 1 else (last == place).nonzero()[:, 0]
            if place:
                codes = window[rows, place:] - self._offsets[: width - place]
                patches += self._inside(input_ids, scores, rows, codes)
            else:
                patches += self._outside(input_ids, scores, rows)
        return self._apply(scores, patches)

    def _inside(
        self,
        input_ids: torch.Tensor,
        scores: torch.Tensor,
        rows: torch.Tensor | slice,
        codes: torch.Tensor,
    ) -> list[Patch]:
        """What is legal in rows that are as far in a block."""
        words, level = self._vocabulary, codes.shape[1]
        columns = _one(words.end)
        if level < words.depth:
            columns = slice(words.offsets[level], words.offsets[level + 1])
        legal = self._legal(input_ids, rows, codes)
        if legal is None:
            return [Patch(rows, columns, scores[rows, columns].clone(), True)]
        kept = torch.where(legal, scores[rows, columns], self._never)
        patches = [Patch(rows, columns, kept, True)]
        alive = legal.any(1, keepdim=True)
        if not bool(alive.all()):
            way_out = _one(words.end_of_turn)
            kept = torch.where(alive, self._never, scores[rows, way_out])
            patches.append(Patch(rows, way_out, kept, True))
        return patches

    def _legal(
        self, input_ids: torch.Tensor, rows: torch.Tensor | slice, codes: torch.Tensor
    ) -> torch.Tensor | None:
        """Which next codes are legal, bool `[b, codes]` or `[b, 1]`; `None` where all are."""
        known = ((codes >= 0) & (codes < self._sizes[: codes.shape[1]])).all(1, keepdim=True)
        return None if bool(known.all()) else known

    def _outside(
        self, input_ids: torch.Tensor, scores: torch.Tensor, rows: torch.Tensor | slice
    ) -> list[Patch]:
        """What is legal in rows that are in no block."""
        words = self._vocabulary
        start, end_of_turn = _one(words.start), _one(words.end_of_turn)
        played = self._since_turn(input_ids[rows]).sum(1)
        todo = (played < self._tracks) & self._some_left(input_ids)[rows]
        number = torch.arange(len(scores), device=scores.device)[rows]
        patches = []
        for mine, go_on in ((todo, True), (~todo, False)):
            count = int(mine.sum())
            if not count:
                continue
            some = rows if count == len(mine) else number[mine]
            first = scores[some, start].clone()
            if not go_on:
                patches.append(Patch(some, end_of_turn, scores[some, end_of_turn].clone(), False))
            elif self._place == "first":
                patches.append(Patch(some, start, first, True))
            else:
                patches.append(Patch(some, start, first, False))
                never = torch.full_like(first, -torch.inf)
                patches.append(Patch(some, end_of_turn, never, False))
        return patches

    def _since_turn(self, ids: torch.Tensor) -> torch.Tensor:
        """Where blocks end since the last end of a turn, bool `[rows, length]`."""
        position = torch.arange(1, ids.shape[1] + 1, device=ids.device)
        turn = ids.eq(self._vocabulary.end_of_turn).mul(position).amax(1, keepdim=True)
        return ids.eq(self._vocabulary.end) & (position > turn)

    def _some_left(self, input_ids: torch.Tensor) -> torch.Tensor:
        """Whether there is a track to play in each row, bool `[rows]`."""
        return torch.ones(1, dtype=torch.bool, device=input_ids.device).expand(len(input_ids))

    def _apply(self, scores: torch.Tensor, patches: list[Patch]) -> torch.Tensor:
        """Ban everything or, where a row is in text, music and control; then put the legal back."""
        words = self._vocabulary
        if all(patch.alone for patch in patches):
            out = scores if self._in_place else torch.empty_like(scores)
            out.fill_(-torch.inf)
        else:
            out = scores if self._in_place else scores.clone()
            out[:, words.start : words.offsets[-1]] = -torch.inf
            out[:, words.size :] = -torch.inf
            out.index_fill_(1, self._control, -torch.inf)
            for patch in patches:
                if patch.alone:
                    out[patch.rows] = -torch.inf
        for rows, columns, kept, _ in patches:
            out[rows, columns] = kept
        return out


def _one(column: int) -> slice:
    return slice(column, column + 1)
