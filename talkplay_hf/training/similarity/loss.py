"""The self-similarity loss and its gradient (paper 4.3, Eq. 2)."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from talkplay_hf.tokens.build import load_centroids
from talkplay_hf.tokens.tokenizer import TalkPlayTokenizer

# similarities are made this many rows at a time
BLOCK = 256


@dataclass(frozen=True)
class ModalityTarget:
    """What the embeddings of one modality's tokens should look alike.

    Args:
        name (`str`): The modality.
        start (`int`): Embedding row of code 0.
        similarity (`torch.Tensor` of shape `[k, k]`, float32): Cosine matrix of the centroids. A
            code that is reserved for "missing" has no centroid and takes no part.
    """

    name: str
    start: int
    similarity: torch.Tensor

    @property
    def end(self) -> int:
        """One past the embedding row of the last code that has a centroid."""
        return self.start + len(self.similarity)


def modality_targets(tokenizer: TalkPlayTokenizer) -> list[ModalityTarget]:
    """The targets of all modalities with at least two centroids."""
    centroids = load_centroids(tokenizer.side_file("codebooks_file"))
    targets = []
    for number, name in enumerate(tokenizer.config.modalities):
        if len(centroids[name]) > 1:
            unit = torch.nn.functional.normalize(torch.from_numpy(centroids[name]), dim=1)
            start = int(tokenizer.code_offsets[number])
            targets.append(ModalityTarget(name, start, unit @ unit.T))
    return targets


def self_similarity_loss(weight: torch.Tensor, targets: Sequence[ModalityTarget]) -> torch.Tensor:
    """Mean absolute difference between the cosine matrices of centroids and token embeddings.

    Eq. 2 of the paper. The mean goes over all ordered pairs of codes of one modality, a code with
    itself included, as the expectation over `i, j` is written: those pairs differ by nothing, so
    they only make the mean smaller by the factor `1 - 1 / k`. Pairs across modalities take no part,
    since their centroids live in different spaces. The result is the mean over modalities.

    Args:
        weight (`torch.Tensor` of shape `[vocabulary, d]`): The input embeddings.
        targets (`Sequence[ModalityTarget]`): One per modality.

    Returns:
        `torch.Tensor`: A scalar, in float32 or, where `weight` is, float64. Differentiable.
    """
    dtype = torch.promote_types(weight.dtype, torch.float32)
    losses = []
    for target in targets:
        unit = torch.nn.functional.normalize(weight[target.start : target.end].to(dtype), dim=1)
        losses.append((target.similarity.to(unit) - unit @ unit.T).abs().mean())
    return torch.stack(losses).mean() if losses else weight.new_zeros((), dtype=dtype)


@torch.no_grad()
def add_self_similarity_gradient(
    weight: torch.Tensor,
    grad: torch.Tensor,
    targets: Sequence[ModalityTarget],
    scale: float | torch.Tensor,
) -> None:
    """Add `scale` times the gradient of `self_similarity_loss` to `grad` in place.

    The analytic gradient. With unit rows `u` and `D` the difference of the cosine matrices, the
    loss changes with `u_i` by `2 / k² Σ_j sign(D_ij) u_j`; what is left of that beside `u_i`,
    divided by the length of the row, is the gradient. The matrices are symmetric, so blocks of rows
    of the upper half are enough, and no `k × k` matrix is held beside the target.

    Args:
        weight (`torch.Tensor` of shape `[vocabulary, d]`): The input embeddings, of any float
            dtype; sums are made in float32 at least.
        grad (`torch.Tensor` of shape `[vocabulary, d]`): Their gradient; changed in place.
        targets (`Sequence[ModalityTarget]`): One per modality.
        scale (`float` or scalar `torch.Tensor`): The weight λ of the loss.
    """
    dtype = torch.promote_types(weight.dtype, torch.float32)
    for target in targets:
        k = len(target.similarity)
        rows = weight[target.start : target.end].to(dtype)
        norms = rows.norm(dim=1, keepdim=True).clamp_min(1e-12)
        unit = rows / norms
        similarity = target.similarity.to(unit)
        toward = torch.zeros_like(unit)
        for low in range(0, k, BLOCK):
            high = min(low + BLOCK, k)
            right = unit[low:]
            difference = torch.addmm(similarity[low:high, low:], unit[low:high], right.T, beta=-1)
            difference.fill_diagonal_(0)
            difference.sign_()
            toward[low:high].addmm_(difference, right)
            # columns past the square block stand for their mirror images too
            toward[high:].addmm_(difference[:, high - low :].T, unit[low:high])
        toward -= unit * (unit * toward).sum(dim=1, keepdim=True)
        toward *= 2 * scale / (len(targets) * k**2) / norms
        grad[target.start : target.end] += toward.to(grad.dtype)
