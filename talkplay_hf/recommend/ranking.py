"""Ranking tracks by the model's probability of their five tokens, level by level over the trie."""

from dataclasses import dataclass

import numpy as np
import torch
from transformers import DynamicCache, PreTrainedModel

from talkplay_hf.recommend.grammar import MusicVocabulary
from talkplay_hf.tokens.index import CatalogIndex


@dataclass(frozen=True)
class RankedLeaves:
    """Distinct code tuples in falling order of score.

    Args:
        leaves (`np.ndarray` of shape `[found]`, int64): Leaf nodes of the catalogue index.
        scores (`np.ndarray` of shape `[found]`, float64): Log-probability of the five tokens after
            `<start_of_music>`, over the full vocabulary.
    """

    leaves: np.ndarray
    scores: np.ndarray


@torch.inference_mode()
def rank_leaves(
    model: PreTrainedModel,
    prompt: list[int],
    vocabulary: MusicVocabulary,
    index: CatalogIndex,
    *,
    width: int,
    allowed: np.ndarray | None = None,
) -> RankedLeaves:
    """Beam search over the catalogue; exact when no level has more than `width` nodes.

    The prompt is run once. The beams of a level are fed as one sequence in which each attends to
    the prompt and its own ancestors only, so nothing is copied per beam.

    Args:
        model (`PreTrainedModel`): The model.
        prompt (`list[int]`): Ids up to where the answer begins.
        vocabulary (`MusicVocabulary`): Where the music tokens stand.
        index (`CatalogIndex`): The catalogue.
        width (`int`): Nodes kept a level.
        allowed (`np.ndarray` of shape `[n]`, bool, *optional*): Only these tracks.
    """
    alive = index.alive(allowed) if allowed is not None else None
    device = model.device
    offsets = np.asarray(vocabulary.offsets)
    cache = DynamicCache(config=model.config)
    ids = torch.tensor([[*prompt, vocabulary.start]], device=device)
    logits = model(ids, past_key_values=cache, use_cache=True, logits_to_keep=1).logits[0]
    length = ids.shape[1]
    nodes = np.zeros(1, dtype=np.int64)
    scores = np.zeros(1)
    # column of each beam's ancestors behind the prompt
    ancestors = np.empty((1, 0), dtype=np.int64)
    used = 0
    for level in range(index.depth):
        parents, children = index.children(level, nodes)
        if alive is not None:
            keep = alive[level][children]
            parents, children = parents[keep], children[keep]
        tokens = offsets[level] + index.codes[level][children]
        log_probs = torch.log_softmax(logits.float(), dim=-1).cpu().numpy()
        found = scores[parents] + log_probs[parents, tokens].astype(np.float64)
        best = np.argsort(-found, kind="stable")[:width]
        nodes, scores, parents, tokens = children[best], found[best], parents[best], tokens[best]
        if level + 1 == index.depth:
            break
        columns = used + np.arange(len(best))
        ancestors = np.concatenate([ancestors[parents], columns[:, None]], axis=1)
        used += len(best)
        visible = torch.zeros(len(best), length + used, dtype=torch.bool)
        visible[:, :length] = True
        visible[torch.arange(len(best))[:, None], length + torch.from_numpy(ancestors)] = True
        mask = torch.zeros(visible.shape, dtype=model.dtype)
        mask[~visible] = torch.finfo(model.dtype).min
        logits = model(
            torch.from_numpy(tokens)[None].to(device),
            attention_mask=mask[None, None].to(device),
            position_ids=torch.full((1, len(best)), length + level, device=device),
            past_key_values=cache,
            use_cache=True,
        ).logits[0]
    order = np.lexsort((nodes, -scores))
    return RankedLeaves(nodes[order], scores[order])
