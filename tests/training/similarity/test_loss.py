"""The self-similarity loss and its gradient."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from talkplay_hf.tokens.build import load_centroids
from talkplay_hf.tokens.tokenizer import TalkPlayTokenizer
from talkplay_hf.training.similarity.loss import (
    BLOCK,
    ModalityTarget,
    add_self_similarity_gradient,
    modality_targets,
    self_similarity_loss,
)


def cosine(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(a @ b / (a.norm() * b.norm()))


def problem(sizes: Sequence[int], seed: int = 0) -> tuple[torch.Tensor, list[ModalityTarget]]:
    """Random embeddings with a few rows before, between and after the modalities."""
    generator = torch.Generator().manual_seed(seed)
    targets, start = [], 3
    for number, size in enumerate(sizes):
        centroids = torch.randn(size, 5, generator=generator, dtype=torch.float64)
        unit = torch.nn.functional.normalize(centroids, dim=1)
        targets.append(ModalityTarget(f"m{number}", start, unit @ unit.T))
        start += size + 1
    weight = torch.randn(start + 2, 7, generator=generator, dtype=torch.float64)
    return weight + 0.3, targets


def test_the_loss_is_the_mean_absolute_difference_of_cosines():
    weight, targets = problem([4, 6])
    expected = []
    for target in targets:
        rows = weight[target.start : target.start + len(target.similarity)]
        differences = [
            abs(float(target.similarity[i, j]) - cosine(rows[i], rows[j]))
            for i in range(len(rows))
            for j in range(len(rows))
        ]
        expected.append(sum(differences) / len(rows) ** 2)
    assert float(self_similarity_loss(weight, targets)) == pytest.approx(
        sum(expected) / 2, rel=1e-12
    )


def check_gradient(sizes: Sequence[int], scale: float, seed: int) -> None:
    weight, targets = problem(sizes, seed)
    weight.requires_grad_(True)
    loss = self_similarity_loss(weight, targets)
    (expected,) = torch.autograd.grad(scale * loss, weight)
    before = torch.full_like(weight, 0.25)
    grad = before.clone()
    add_self_similarity_gradient(weight, grad, targets, scale)
    assert torch.linalg.norm(grad - before - expected) <= 1e-9 * torch.linalg.norm(expected)


@settings(max_examples=40, deadline=None)
@given(
    sizes=st.lists(st.integers(2, 12), min_size=1, max_size=5),
    scale=st.floats(0.01, 10),
    seed=st.integers(0, 99),
)
def test_the_analytic_gradient_is_that_of_autograd(sizes: list[int], scale: float, seed: int):
    check_gradient(sizes, scale, seed)


@pytest.mark.parametrize("size", [BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK + 40])
def test_blocks_of_rows_do_not_change_the_gradient(size: int):
    check_gradient([5, size], 0.1, seed=size)


def test_a_code_with_itself_counts_as_a_pair_without_difference():
    weight, targets = problem([6])
    rows = torch.nn.functional.normalize(weight[targets[0].start : targets[0].end], dim=1)
    apart = (targets[0].similarity - rows @ rows.T).abs()
    others = float(apart.fill_diagonal_(0).sum()) / (6 * 5)
    assert float(self_similarity_loss(weight, targets)) == pytest.approx(others * (1 - 1 / 6))


def test_rows_with_the_cosines_of_the_centroids_have_no_loss():
    _, targets = problem([6])
    target = targets[0]
    values, vectors = torch.linalg.eigh(target.similarity)
    weight = torch.zeros(target.end, 6, dtype=torch.float64)
    # any rotation and any length of rows with these cosines
    weight[target.start :] = 3 * vectors * values.clamp_min(0).sqrt()
    assert float(self_similarity_loss(weight, targets)) < 1e-12


def test_half_precision_rows_are_compared_in_float32():
    weight, targets = problem([8, 9])
    half = weight.bfloat16()
    loss = self_similarity_loss(half, targets)
    assert loss.dtype == torch.float32
    assert loss == self_similarity_loss(half.float(), targets)
    grad = torch.zeros_like(half)
    add_self_similarity_gradient(half, grad, targets, 1.0)
    exact = torch.zeros_like(weight, dtype=torch.float32)
    add_self_similarity_gradient(half.float(), exact, targets, 1.0)
    assert torch.equal(grad, exact.bfloat16())


def test_rows_that_are_no_codes_get_no_gradient():
    weight, targets = problem([4, 6])
    grad = torch.zeros_like(weight)
    add_self_similarity_gradient(weight, grad, targets, 1.0)
    codes = [t.start + i for t in targets for i in range(len(t.similarity))]
    others = sorted(set(range(len(weight))) - set(codes))
    assert not grad[others].any()
    assert grad[codes].abs().sum(dim=1).gt(0).all()


def test_the_reserved_code_takes_no_part(tokenizer: TalkPlayTokenizer):
    centroids = load_centroids(tokenizer.side_file("codebooks_file"))
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(len(tokenizer), 8, generator=generator)
    targets = modality_targets(tokenizer)
    assert targets
    reserved = [
        int(tokenizer.code_offsets[number + 1]) - 1 for number in range(len(tokenizer.config.codes))
    ]
    by_start = {target.start: target for target in targets}
    for number, name in enumerate(tokenizer.config.modalities):
        assert len(centroids[name]) == tokenizer.config.codes[number] - 1
        if len(centroids[name]) > 1:
            target = by_start[int(tokenizer.code_offsets[number])]
            assert len(target.similarity) == len(centroids[name])
    grad = torch.zeros_like(weight)
    add_self_similarity_gradient(weight, grad, targets, 1.0)
    assert not grad[reserved].any()
    loss = self_similarity_loss(weight, targets)
    weight[reserved] = 100.0
    assert self_similarity_loss(weight, targets) == loss


def test_the_target_is_the_cosine_matrix_of_the_centroids(tokenizer: TalkPlayTokenizer):
    centroids = load_centroids(tokenizer.side_file("codebooks_file"))
    number, name = next(
        (i, n) for i, n in enumerate(tokenizer.config.modalities) if len(centroids[n]) > 2
    )
    start = int(tokenizer.code_offsets[number])
    target = next(t for t in modality_targets(tokenizer) if t.start == start)
    a, b = centroids[name][0], centroids[name][2]
    expected = float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))
    assert float(target.similarity[0, 2]) == pytest.approx(expected, abs=1e-6)
