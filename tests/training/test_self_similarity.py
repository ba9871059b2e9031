"""The self-similarity loss, its gradient, and its callback under the stock SFTTrainer."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset
from transformers import LlamaForCausalLM, TrainerCallback
from trl import SFTConfig, SFTTrainer

from talkplay_hf.catalog.schema import Conversation
from talkplay_hf.errors import ConfigError
from talkplay_hf.tokens.build import load_centroids, read_token_catalog
from talkplay_hf.tokens.tokenizer import TalkPlayTokenizer
from talkplay_hf.training.data import conversation_rows
from talkplay_hf.training.self_similarity import (
    ModalityTarget,
    SelfSimilarityCallback,
    add_self_similarity_gradient,
    modality_targets,
    self_similarity_loss,
)
from talkplay_hf.training.vocabulary import grow_vocabulary, scratch_model


def cosine(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(a @ b / (a.norm() * b.norm()))


def problem(sizes: Sequence[int], seed: int = 0) -> tuple[torch.Tensor, list[ModalityTarget]]:
    """Random embeddings with a few rows before, between and after the modalities."""
    generator = torch.Generator().manual_seed(seed)
    targets, start = [], 3
    for size in sizes:
        centroids = torch.randn(size, 5, generator=generator, dtype=torch.float64)
        unit = torch.nn.functional.normalize(centroids, dim=1)
        targets.append(ModalityTarget(start, unit @ unit.T))
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


@pytest.mark.parametrize("sizes", [[2], [9], [4, 7, 5], [3, 3, 3, 3, 3]])
@pytest.mark.parametrize("scale", [1.0, 0.1])
def test_the_analytic_gradient_is_that_of_autograd(sizes: list[int], scale: float):
    weight, targets = problem(sizes, seed=len(sizes))
    weight.requires_grad_(True)
    loss = self_similarity_loss(weight, targets)
    (expected,) = torch.autograd.grad(scale * loss, weight)
    before = torch.full_like(weight, 0.25)
    grad = before.clone()
    value = add_self_similarity_gradient(weight, grad, targets, scale)
    assert torch.linalg.norm(grad - before - expected) <= 1e-9 * torch.linalg.norm(expected)
    assert float(value) == pytest.approx(float(loss.detach()), rel=1e-12)


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


# --- with the trainer -------------------------------------------------------------------------


class _Capture(TrainerCallback):
    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        weight = kwargs["model"].get_input_embeddings().weight
        if weight.grad is not None:
            self.grad = weight.grad.detach().clone()
        self.weight = weight.detach().clone()

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.final = kwargs["model"].get_input_embeddings().weight.detach().clone()


@pytest.fixture(scope="module")
def rows(tokenizer: TalkPlayTokenizer, conversations: list[Conversation]) -> Dataset:
    """Four rows of unlike length, so that a wrong average over micro-batches shows."""
    known, codes = read_token_catalog(tokenizer.side_file("token_catalog_file"))
    codes_of = dict(zip(known.track_ids, codes.tolist(), strict=True))
    by_length = sorted(conversations, key=lambda one: len(one.messages))
    chosen = [by_length[0], by_length[-1], by_length[1], by_length[len(by_length) // 2]]
    made, _ = conversation_rows(chosen, tokenizer, codes_of)
    return Dataset.from_dict(made)


def small_model(tokenizer: TalkPlayTokenizer) -> LlamaForCausalLM:
    model = scratch_model(tokenizer, hidden_size=32, layers=1, heads=2, seed=0)
    grow_vocabulary(model, tokenizer, seed=0)
    return model


def one_step(
    tokenizer: TalkPlayTokenizer,
    rows: Dataset,
    out: Path,
    *,
    batch: int,
    accumulation: int,
    weight: float,
    frozen: bool = False,
) -> tuple[_Capture, list[dict[str, Any]]]:
    """One optimizer step of the stock trainer; the accumulated gradient and the log."""
    model = small_model(tokenizer)
    model.get_input_embeddings().weight.requires_grad_(not frozen)
    trainer = SFTTrainer(
        model=model,
        args=SFTConfig(
            output_dir=str(out),
            max_steps=1,
            per_device_train_batch_size=batch,
            gradient_accumulation_steps=accumulation,
            max_grad_norm=1e9,
            learning_rate=1e-3,
            bf16=False,
            gradient_checkpointing=False,
            activation_offloading=False,
            logging_steps=1,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            use_cpu=True,
            seed=0,
            dataset_kwargs={"skip_prepare_dataset": True},
        ),
        train_dataset=rows,
        processing_class=tokenizer,
    )
    capture = _Capture()
    trainer.callback_handler.callbacks.insert(0, SelfSimilarityCallback(tokenizer, weight))
    trainer.add_callback(capture)
    trainer.train()
    return capture, trainer.state.log_history


@pytest.mark.parametrize(("batch", "accumulation"), [(4, 1), (2, 2), (1, 4)])
def test_the_step_gradient_is_cross_entropy_plus_lambda_self_similarity(
    batch: int, accumulation: int, tokenizer: TalkPlayTokenizer, rows: Dataset, tmp_path: Path
):
    options: dict[str, Any] = {"batch": batch, "accumulation": accumulation}
    plain, _ = one_step(tokenizer, rows, tmp_path, **options, weight=0.0)
    both, log = one_step(tokenizer, rows, tmp_path, **options, weight=3.0)
    assert torch.equal(plain.weight, both.weight)
    targets = modality_targets(tokenizer)
    similarity = torch.zeros_like(plain.grad)
    add_self_similarity_gradient(plain.weight, similarity, targets, 3.0)
    total = plain.grad + similarity
    assert similarity.norm() > 0.01 * total.norm()
    assert (both.grad - total).norm() <= 2e-6 * total.norm()
    logged = next(entry["self_similarity"] for entry in log if "self_similarity" in entry)
    assert logged == pytest.approx(float(self_similarity_loss(both.final, targets)), abs=2e-6)
    assert logged < float(self_similarity_loss(plain.final, targets))


def test_the_accumulation_does_not_change_the_gradient(
    tokenizer: TalkPlayTokenizer, rows: Dataset, tmp_path: Path
):
    whole, _ = one_step(tokenizer, rows, tmp_path, batch=4, accumulation=1, weight=3.0)
    parts, _ = one_step(tokenizer, rows, tmp_path, batch=1, accumulation=4, weight=3.0)
    assert (whole.grad - parts.grad).norm() <= 1e-5 * whole.grad.norm()


def test_a_frozen_embedding_is_refused(tokenizer: TalkPlayTokenizer, rows: Dataset, tmp_path: Path):
    with pytest.raises(ConfigError, match="frozen"):
        one_step(tokenizer, rows, tmp_path, batch=2, accumulation=1, weight=0.1, frozen=True)


def test_weight_zero_only_logs(tokenizer: TalkPlayTokenizer, rows: Dataset, tmp_path: Path):
    _, log = one_step(tokenizer, rows, tmp_path, batch=2, accumulation=1, weight=0, frozen=True)
    assert any(entry.get("self_similarity", 0) > 0 for entry in log)
