"""Sampled music blocks: many draws after one prompt, which is read once (paper 4.4, 5.2)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from transformers import PreTrainedModel

from talkplay_hf.recommend.decoding.beams import legal_codes
from talkplay_hf.recommend.decoding.frontier import Frontier
from talkplay_hf.recommend.decoding.nucleus import draw
from talkplay_hf.recommend.decoding.tree import TokenTree
from talkplay_hf.recommend.grammar import MusicVocabulary
from talkplay_hf.tokens.allowed import Allowed
from talkplay_hf.tokens.index import CatalogIndex

# rows of a forward pass: each attends to all columns of the others' tokens, if only to mask them
DRAWS_AT_A_TIME = 1024


@dataclass(frozen=True)
class SampledTokens:
    """What was drawn where a music block is due.

    Args:
        tokens (`np.ndarray` of shape `[draws, modalities + 2]`, int64): Token ids, from
            `<start_of_music>` to `<end_of_music>` where the block is well-formed.
        scores (`np.ndarray` of shape `[draws]`, float64): Log-probability of the tokens between the
            first and the last, over the full vocabulary.
    """

    tokens: np.ndarray
    scores: np.ndarray


@torch.inference_mode()
def sample_blocks(
    model: PreTrainedModel,
    prompt: Sequence[int],
    vocabulary: MusicVocabulary,
    *,
    draws: int,
    rng: np.random.Generator,
    temperature: float,
    top_p: float,
    constraint: str,
    index: CatalogIndex | None = None,
    allowed: Allowed | None = None,
) -> SampledTokens:
    """Draw blocks after a prompt.

    Args:
        model (`PreTrainedModel`): A model for which `why_unsupported` says nothing.
        prompt (`Sequence[int]`): Ids up to where the answer begins.
        vocabulary (`MusicVocabulary`): Where the music tokens stand.
        draws (`int`): How many to draw.
        rng (`np.random.Generator`): Where the draws come from.
        temperature (`float`): Sampling temperature (paper: 1.0).
        top_p (`float`): Nucleus (paper: 0.9).
        constraint (`str`): `"none"` draws every token from the whole vocabulary, `"grammar"` from
            the modality that is due, `"catalog"` from what leads to a track as well.
        index (`CatalogIndex`, *optional*): The catalogue, for `"catalog"`.
        allowed (`Allowed`, *optional*): Only these tracks, for one chat.
    """
    tree = TokenTree(model)
    free = constraint == "none"
    opening = list(prompt) if free else [*prompt, vocabulary.start]
    hidden = tree.read([opening])
    columns = tree.columns
    length = torch.tensor([[len(opening)]], device=tree.device)
    tokens, scores = [], []
    for at in range(0, draws, DRAWS_AT_A_TIME):
        frontier = Frontier.at(tree, length, hidden)
        drawn = min(DRAWS_AT_A_TIME, draws - at)
        score = torch.zeros(drawn, dtype=torch.float64, device=tree.device)
        parents = torch.zeros(1, 1, drawn, dtype=torch.int64, device=tree.device)
        for level in range(-1, vocabulary.depth + 1) if free else range(vocabulary.depth):
            if frontier.tokens.shape[-1]:
                frontier.feed()
            first, end = 0, vocabulary.size
            if not free:
                first, end = vocabulary.offsets[level], vocabulary.offsets[level + 1]
            log_probs = tree.log_probs(frontier.hidden.flatten(0, 2), first, end)
            if constraint == "catalog":
                assert index is not None
                legal = legal_codes(frontier, torch.zeros_like(length), vocabulary, index, allowed)
                log_probs.masked_fill_(~legal[0, 0], -torch.inf)
            log_probs = log_probs.expand(drawn, -1)
            chance = torch.from_numpy(rng.random(drawn)).to(tree.device)
            token = draw(log_probs, chance, temperature=temperature, top_p=top_p)
            if 0 <= level < vocabulary.depth:
                score += log_probs.gather(1, token[:, None])[:, 0]
            frontier.choose(parents, first + token.view(1, 1, -1))
            parents = torch.arange(drawn, device=tree.device).view(1, 1, -1)
        tokens.append(frontier.tokens[0, 0].cpu().numpy())
        scores.append(score.cpu().numpy())
        tree.forget(columns)
    blocks = np.concatenate(tokens)
    if not free:
        blocks = np.pad(blocks, ((0, 0), (1, 1)))
        blocks[:, 0], blocks[:, -1] = vocabulary.start, vocabulary.end
    return SampledTokens(blocks, np.concatenate(scores))
