"""How far token embeddings keep the geometry of the centroids."""

from collections.abc import Sequence

import numpy as np
import torch

from talkplay_hf.training.similarity.loss import ModalityTarget

NEIGHBOURS = 10


def geometry(weight: torch.Tensor, targets: Sequence[ModalityTarget]) -> dict[str, float]:
    """Compare the cosines among token embeddings with those among centroids, by rank.

    Args:
        weight (`torch.Tensor` of shape `[vocabulary, d]`): The input embeddings.
        targets (`Sequence[ModalityTarget]`): One per modality. A modality of two codes has one pair
            and nothing to rank; it is left out.

    Returns:
        `dict[str, float]`: `spearman`, the rank correlation between the two cosine matrices over
        unordered pairs of codes (0 where all cosines are equal), and `overlap_at_10`, the share of
        a code's 10 nearest by centroid that are also among its 10 nearest by embedding (of all
        other codes where there are fewer; by chance `10 / (k - 1)`): means over modalities, then
        each of them as `spearman_{modality}` and `overlap_at_10_{modality}`. Empty if no modality
        has three codes.
    """
    spearman, overlap = {}, {}
    for target in targets:
        if len(target.similarity) > 2:
            rows = weight[target.start : target.end].detach().float()
            unit = torch.nn.functional.normalize(rows, dim=1)
            wanted, found = target.similarity.to(unit), unit @ unit.T
            spearman[target.name] = _spearman(wanted, found)
            overlap[target.name] = _overlap(wanted, found)
    if not spearman:
        return {}
    return {
        "spearman": float(np.mean(list(spearman.values()))),
        "overlap_at_10": float(np.mean(list(overlap.values()))),
        **{f"spearman_{name}": value for name, value in spearman.items()},
        **{f"overlap_at_10_{name}": value for name, value in overlap.items()},
    }


def _spearman(a: torch.Tensor, b: torch.Tensor) -> float:
    from scipy.stats import spearmanr

    pairs = np.triu_indices(len(a), 1)
    cosines = [one.cpu().numpy()[pairs] for one in (a, b)]
    # equal cosines have no order, of which scipy would warn
    if not all(map(np.ptp, cosines)):
        return 0.0
    return float(spearmanr(*cosines).statistic)


def _overlap(a: torch.Tensor, b: torch.Tensor) -> float:
    k = len(a)
    near = min(NEIGHBOURS, k - 1)
    both = torch.zeros(k, k, dtype=torch.int8, device=a.device)
    for one in (a, b):
        nearest = one.clone().fill_diagonal_(-2).topk(near, dim=1).indices
        both.scatter_add_(1, nearest, torch.ones_like(nearest, dtype=torch.int8))
    return float((both == 2).sum()) / (k * near)
