"""Beam search over the music block, within the catalogue (paper 4.4)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from transformers import PreTrainedModel

from talkplay_hf.recommend.decoding.frontier import Frontier, share_prefixes
from talkplay_hf.recommend.decoding.tree import TokenTree
from talkplay_hf.recommend.grammar import MusicVocabulary
from talkplay_hf.tokens.allowed import Allowed
from talkplay_hf.tokens.index import CatalogIndex

# rows of a forward pass, so that the masks and scores of a batch stay small
ROWS_AT_A_TIME = 2048
# and of them in one sequence, where each is a column that all others have to mask
BRANCHES_AT_A_TIME = 512
# tokens of prompts read at a time
TOKENS_AT_A_TIME = 8192


@dataclass(frozen=True)
class RankedCodes:
    """Distinct code tuples in falling order of score.

    Args:
        codes (`np.ndarray` of shape `[found, modalities]`, int64): The tuples.
        scores (`np.ndarray` of shape `[found]`, float64): Log-probability of the tokens after
            `<start_of_music>`, over the full vocabulary.
    """

    codes: np.ndarray
    scores: np.ndarray


def search(
    frontier: Frontier,
    numbers: torch.Tensor,
    vocabulary: MusicVocabulary,
    index: CatalogIndex | None,
    *,
    width: int,
    allowed: Allowed | None = None,
    free: bool = False,
) -> torch.Tensor:
    """Follow the best branches through a block, whose last tokens are chosen but not fed.

    Args:
        frontier (`Frontier`): At the `<start_of_music>` of each prompt.
        numbers (`torch.Tensor` of shape `[rows, prompts]`, int64): Which chat of `allowed` each
            prompt belongs to.
        vocabulary (`MusicVocabulary`): Where the music tokens stand.
        index (`CatalogIndex`, *optional*): The catalogue; without one any block is good.
        width (`int`): Branches kept.
        allowed (`Allowed`, *optional*): Only these tracks.
        free (`bool`): Let every token follow, so that a branch need not be a block.

    Returns:
        `torch.Tensor` of shape `[rows, prompts, branches]`, float64: Scores of the branches in
        falling order, `-inf` where there is none.
    """
    shape, depth = numbers.shape, vocabulary.depth
    scores = torch.zeros(*shape, 1, dtype=torch.float64, device=numbers.device)
    mask = None
    for level in range(depth):
        first, end = vocabulary.offsets[level], vocabulary.offsets[level + 1]
        if free:
            first, end = 0, vocabulary.size
        if index is not None:
            mask = legal_codes(frontier, numbers, vocabulary, index, allowed)
            if 0 < level < depth - 1 and bool((mask.sum(-1) <= 1).all()):
                # where each branch can go one way only, no score is needed to go on
                stay = torch.arange(frontier.branches, device=numbers.device)
                frontier.choose(stay.expand(*shape, -1), first + mask.int().argmax(-1))
                continue
        states = frontier.feed() if level else frontier.hidden[..., None, :]
        late = states.shape[3] - 1
        base = vocabulary.offsets[level - late] if late else first
        log_probs = frontier.tree.log_probs(states.flatten(0, 3), base, end)
        log_probs = log_probs.view(*states.shape[:4], -1)
        passed = frontier.tokens[..., level - late :, None] - base
        scores = scores + log_probs[..., :late, :].gather(-1, passed).double().sum((-1, -2))
        # a branch that led nowhere has a score of -inf and cannot come back
        found = scores[..., None] + log_probs[..., -1, first - base :]
        if mask is not None:
            found.masked_fill_(~mask, -torch.inf)
        found = found.flatten(2)
        most = int((found > -torch.inf).sum(-1).max().clamp(min=1, max=width))
        scores, best = found.topk(most, dim=-1)
        codes = end - first
        frontier.choose(best // codes, first + best % codes)
    return scores


def legal_codes(
    frontier: Frontier,
    numbers: torch.Tensor,
    vocabulary: MusicVocabulary,
    index: CatalogIndex,
    allowed: Allowed | None,
) -> torch.Tensor:
    """The next codes that lead from each branch to an allowed track.

    Args:
        frontier (`Frontier`): Branches that have begun a block.
        numbers (`torch.Tensor` of shape `[rows, prompts]`, int64): Which chat of `allowed` each
            prompt belongs to.
        vocabulary (`MusicVocabulary`): Where the music tokens stand.
        index (`CatalogIndex`): The catalogue.
        allowed (`Allowed`, *optional*): Only these tracks.

    Returns:
        `torch.Tensor` of shape `[rows, prompts, branches, codes]`, bool.
    """
    tokens = frontier.tokens.flatten(0, 2)
    offsets = torch.tensor(vocabulary.offsets[: tokens.shape[1]], device=tokens.device)
    chats = numbers[..., None].expand(-1, -1, frontier.branches).flatten()
    mask = index.mask(tokens - offsets, allowed, chats)
    return mask.view(*numbers.shape, frontier.branches, -1)


def ranked_codes(
    frontier: Frontier, scores: torch.Tensor, vocabulary: MusicVocabulary
) -> list[RankedCodes]:
    """What `search` found, one prompt of the grid after the other."""
    codes = frontier.tokens.flatten(0, 1).cpu().numpy() - np.asarray(vocabulary.offsets[:-1])
    values = scores.flatten(0, 1).cpu().numpy()
    return [
        RankedCodes(one[alive], value[alive])
        for one, value, alive in zip(codes, values, values > -np.inf, strict=True)
    ]


def beam_search(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    vocabulary: MusicVocabulary,
    index: CatalogIndex | None,
    *,
    width: int,
    allowed: Allowed | None = None,
    free: bool = False,
) -> list[RankedCodes]:
    """The best blocks after each prompt; exact where no level has more than `width` nodes.

    The beams and scores are those of `generate` with `num_beams=width` under the catalogue
    constraint. A prompt is read once, and prompts that are prefixes of one another (all turns of a
    dialogue) are read together.

    Args:
        model (`PreTrainedModel`): A model for which `why_unsupported` says nothing.
        prompts (`Sequence[Sequence[int]]`): Ids up to `<start_of_music>`, which they end with.
        vocabulary (`MusicVocabulary`): Where the music tokens stand.
        index (`CatalogIndex`, *optional*): The catalogue; without one any block is good.
        width (`int`): Branches kept a level.
        allowed (`Allowed`, *optional*): Only these tracks, one chat a prompt.
        free (`bool`): Let every token follow: codes can then be out of range.
    """
    found: list[RankedCodes | None] = [None] * len(prompts)
    lengths = torch.tensor([len(prompt) for prompt in prompts])
    for sequences, members in batches(prompts, width):
        tree = TokenTree(model)
        hidden = tree.read(sequences)
        columns = tree.columns
        most = max(map(len, members))
        grid = torch.tensor([[*row, *[row[0]] * (most - len(row))] for row in members])
        step = max(1, min(ROWS_AT_A_TIME // len(members), BRANCHES_AT_A_TIME) // width)
        for at in range(0, most, step):
            chats = grid[:, at : at + step]
            frontier = Frontier.at(tree, lengths[chats].to(tree.device), hidden)
            on_device = chats.to(tree.device)
            scores = search(
                frontier, on_device, vocabulary, index, width=width, allowed=allowed, free=free
            )
            ranked = ranked_codes(frontier, scores, vocabulary)
            for chat, one in zip(chats.flatten().tolist(), ranked, strict=True):
                found[chat] = one
            tree.forget(columns)
    return [one for one in found if one is not None]


def batches(
    prompts: Sequence[Sequence[int]], width: int
) -> Iterator[tuple[list[Sequence[int]], list[list[int]]]]:
    """Sequences that go through the model together, and the prompts that are prefixes of each."""
    sequences: list[Sequence[int]] = []
    members: list[list[int]] = []
    shared = zip(*share_prefixes(prompts), strict=True)
    # those of like length together, since the shorter ones are padded
    for sequence, numbers in sorted(shared, key=lambda pair: len(pair[0])):
        rows = len(sequences) + 1
        too_much = rows * width > ROWS_AT_A_TIME or rows * len(sequence) > TOKENS_AT_A_TIME
        if sequences and too_much:
            yield sequences, members
            sequences, members = [], []
        sequences.append(sequence)
        members.append(numbers)
    if sequences:
        yield sequences, members
