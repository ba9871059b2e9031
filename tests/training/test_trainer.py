"""Our trainer: the loss of the stock one at label positions only, and its parts in the logs."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from transformers import LlamaForCausalLM, TrainerCallback
from trl import SFTConfig, SFTTrainer

from talkplay_hf.catalog.schema import Catalog, Conversation
from talkplay_hf.errors import ConfigError
from talkplay_hf.tokens.tokenizer import TalkPlayTokenizer
from talkplay_hf.training.rows.encode import (
    IGNORED,
    RowReport,
    draw_continuations,
    encode_conversations,
    known_playlists,
)
from talkplay_hf.training.rows.packing import pack
from talkplay_hf.training.similarity.callback import SelfSimilarityCallback
from talkplay_hf.training.similarity.loss import self_similarity_loss
from talkplay_hf.training.trainer import TalkPlayTrainer


@pytest.fixture(scope="module")
def rows(
    tokenizer: TalkPlayTokenizer,
    codes: dict[str, list[int]],
    conversations: list[Conversation],
    world: Catalog,
) -> Dataset:
    """Six conversations and a few playlists, of unlike length."""
    talks = encode_conversations(conversations[:6], tokenizer, codes, RowReport())
    lists = draw_continuations(
        known_playlists(world, codes)["train"],
        tokenizer,
        codes,
        RowReport(),
        label_tokens=60,
    )
    made = [(row, 0) for row in talks] + [(row, 1) for row in lists]
    return Dataset.from_dict(
        {
            "input_ids": [ids for (ids, _), _ in made],
            "labels": [labels for (_, labels), _ in made],
            "part": [[part] * len(ids) for (ids, _), part in made],
        }
    )


class _Gradient(TrainerCallback):
    """The gradient of the embedding, first of all steps."""

    grad: torch.Tensor | None = None

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self.grad is None:
            self.grad = kwargs["model"].get_input_embeddings().weight.grad.clone()


def run(
    kind: str,
    model: LlamaForCausalLM,
    tokenizer: TalkPlayTokenizer,
    rows: Dataset,
    out: Path,
    *,
    weight: float = 0.0,
    force_in_loss: bool = False,
    compute_metrics: Callable[[Any], dict[str, float]] | None = None,
    **options: Any,
) -> tuple[torch.Tensor, list[dict[str, Any]]]:
    """Train; the first gradient of the embedding and the log."""
    settings: dict[str, Any] = {
        "max_steps": 2,
        "per_device_train_batch_size": 3,
        "gradient_accumulation_steps": 1,
        "eval_strategy": "steps",
        "eval_steps": 2,
        **options,
    }
    config = SFTConfig(
        output_dir=str(out),
        learning_rate=1e-3,
        max_grad_norm=1e9,
        bf16=settings.pop("bf16", False),
        gradient_checkpointing=False,
        activation_offloading=False,
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        use_cpu=True,
        seed=0,
        dataset_kwargs={"skip_prepare_dataset": True},
        **settings,
    )
    similarity = SelfSimilarityCallback(tokenizer, weight)
    common: dict[str, Any] = {
        "model": copy.deepcopy(model),
        "args": config,
        "train_dataset": rows,
        "eval_dataset": None,
        "compute_metrics": compute_metrics,
    }
    if config.eval_strategy != "no":
        validation = {"conversations": rows.select(range(4)), "playlists": rows.select([6, 7])}
        common["eval_dataset"] = validation
    if kind == "stock":
        trainer = SFTTrainer(processing_class=tokenizer, **common)
    else:
        trainer = TalkPlayTrainer(tokenizer=tokenizer, self_similarity=similarity, **common)
    gradient = _Gradient()
    similarity.install(trainer)
    trainer.add_callback(gradient)
    if force_in_loss:
        begin = similarity.on_train_begin

        def pretend(*args: Any, **kwargs: Any) -> None:
            begin(*args, **kwargs)
            similarity.in_loss = True

        similarity.on_train_begin = pretend  # type: ignore[method-assign]
    trainer.train()
    assert gradient.grad is not None
    return gradient.grad, trainer.state.log_history


@pytest.mark.parametrize("accumulation", [1, 2])
def test_loss_gradient_and_figures_are_those_of_the_stock_trainer(
    accumulation: int,
    tiny_model: LlamaForCausalLM,
    tokenizer: TalkPlayTokenizer,
    rows: Dataset,
    tmp_path: Path,
):
    options = {"gradient_accumulation_steps": accumulation}
    theirs, log = run("stock", tiny_model, tokenizer, rows, tmp_path, **options)
    ours, own = run("ours", tiny_model, tokenizer, rows, tmp_path, **options)
    assert theirs.norm() > 0
    assert (ours - theirs).norm() <= 1e-5 * theirs.norm()
    for a, b in zip(log, own, strict=True):
        for key in ("loss", "eval_conversations_loss", "eval_playlists_loss", "grad_norm"):
            if key in a:
                assert b[key] == pytest.approx(a[key], rel=1e-5), key
        for key in ("mean_token_accuracy", "num_tokens"):
            if key in a and accumulation == 1:
                assert b[key] == pytest.approx(a[key], abs=1e-6), key


def test_bf16_gives_nearly_the_same_loss(
    tiny_model: LlamaForCausalLM, tokenizer: TalkPlayTokenizer, rows: Dataset, tmp_path: Path
):
    _, log = run("ours", tiny_model, tokenizer, rows, tmp_path)
    _, low = run("ours", tiny_model, tokenizer, rows, tmp_path, bf16=True)
    assert low[0]["loss"] == pytest.approx(log[0]["loss"], rel=5e-3)
    assert low[0]["loss"] != log[0]["loss"]


def test_the_parts_add_up_to_the_loss(
    tiny_model: LlamaForCausalLM, tokenizer: TalkPlayTokenizer, rows: Dataset, tmp_path: Path
):
    everything = {"per_device_train_batch_size": len(rows)}
    _, log = run("ours", tiny_model, tokenizer, rows, tmp_path, **everything)
    first = log[0]
    tokens = [pair for row in rows for pair in zip(row["labels"], row["part"], strict=True)]
    counted = [(label, part) for label, part in tokens if label != IGNORED]
    music = tokenizer.config.base_vocab_size
    shares = {
        "conversations": sum(part == 0 for _, part in counted),
        "playlists": sum(part == 1 for _, part in counted),
        "music": sum(label >= music for label, _ in counted),
        "text": sum(label < music for label, _ in counted),
    }
    for pair in (("conversations", "playlists"), ("music", "text")):
        mean = sum(shares[name] * first[f"loss_{name}"] for name in pair) / len(counted)
        assert mean == pytest.approx(first["loss"], rel=1e-5)
    assert first["loss_conversations"] != first["loss_playlists"]
    validation = {key: value for one in log for key, value in one.items() if "eval_" in key}
    for name in ("conversations", "playlists"):
        whole = validation[f"eval_{name}_loss"]
        assert validation[f"eval_{name}_loss_{name}"] == pytest.approx(whole, rel=1e-4)
        assert 0 <= validation[f"eval_{name}_mean_token_accuracy"] <= 1
    assert "eval_playlists_loss_conversations" not in validation
    assert "eval_mean_token_accuracy" not in validation


@pytest.mark.parametrize("accumulation", [1, 3])
def test_a_loss_that_is_added_in_the_trainer_gives_the_gradient_of_the_callback(
    accumulation: int,
    tiny_model: LlamaForCausalLM,
    tokenizer: TalkPlayTokenizer,
    rows: Dataset,
    tmp_path: Path,
):
    options: dict[str, Any] = {
        "per_device_train_batch_size": 2,
        "gradient_accumulation_steps": accumulation,
        "weight": 3.0,
    }
    outside, log = run("ours", tiny_model, tokenizer, rows, tmp_path, **options)
    inside, own = run("ours", tiny_model, tokenizer, rows, tmp_path, force_in_loss=True, **options)
    plain, _ = run("ours", tiny_model, tokenizer, rows, tmp_path, **{**options, "weight": 0.0})
    assert (outside - plain).norm() > 0.01 * plain.norm()
    assert (inside - outside).norm() <= 1e-5 * outside.norm()
    # the logged loss stays the cross-entropy
    assert own[0]["loss"] == pytest.approx(log[0]["loss"], rel=1e-5)


def test_the_term_in_the_loss_is_the_weighted_self_similarity(
    tiny_model: LlamaForCausalLM, tokenizer: TalkPlayTokenizer
):
    similarity = SelfSimilarityCallback(tokenizer, 0.3)
    weight = tiny_model.get_input_embeddings().weight.detach()
    expected = 0.3 * float(self_similarity_loss(weight, similarity.targets)) / 4
    assert float(similarity.loss_term(tiny_model, 4).detach()) == pytest.approx(expected, rel=1e-6)


def test_a_batch_without_labels_changes_nothing(
    tiny_model: LlamaForCausalLM, tokenizer: TalkPlayTokenizer, rows: Dataset, tmp_path: Path
):
    silent = Dataset.from_dict(
        {
            "input_ids": rows["input_ids"][:8],
            "labels": [[IGNORED] * len(row) for row in rows["labels"][:8]],
            "part": rows["part"][:8],
        }
    )
    grad, log = run("ours", tiny_model, tokenizer, silent, tmp_path)
    assert not grad.any()
    assert log[0]["loss"] == 0.0


def test_packed_rows_have_the_same_parts(
    tiny_model: LlamaForCausalLM, tokenizer: TalkPlayTokenizer, rows: Dataset, tmp_path: Path
):
    packed = pack(rows, 1024, tmp_path / "packed.arrow")
    assert len(packed) < len(rows)
    one = {"max_steps": 1, "eval_strategy": "no", "per_device_train_batch_size": len(rows)}
    _, log = run("ours", tiny_model, tokenizer, rows, tmp_path, **one)
    _, own = run(
        "ours", tiny_model, tokenizer, packed, tmp_path, packing=True, max_length=1024, **one
    )
    for key in ("loss", "loss_conversations", "loss_playlists", "loss_music", "loss_text"):
        assert own[0][key] == pytest.approx(log[0][key], rel=1e-4), key


def test_another_loss_is_refused(
    tiny_model: LlamaForCausalLM, tokenizer: TalkPlayTokenizer, rows: Dataset, tmp_path: Path
):
    for options in ({"label_smoothing_factor": 0.1}, {"loss_type": "dft"}):
        with pytest.raises(ConfigError, match="label_positions_only"):
            run("ours", tiny_model, tokenizer, rows, tmp_path, **options)


def test_metrics_from_logits_are_refused(
    tiny_model: LlamaForCausalLM, tokenizer: TalkPlayTokenizer, rows: Dataset, tmp_path: Path
):
    with pytest.raises(ConfigError, match="not supported; leave compute_metrics out"):
        run("ours", tiny_model, tokenizer, rows, tmp_path, compute_metrics=lambda found: {})
