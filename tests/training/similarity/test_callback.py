"""The self-similarity loss in training: its share of the gradient, its figures, what it refuses."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import steps
import torch
from peft import LoraConfig, get_peft_model
from steps import Steps, by_hand, distance, make_rows, small_model, take_steps
from transformers import LlamaForCausalLM, TrainerCallback, TrainerState
from trl import SFTConfig, SFTTrainer
from two_processes import run_in_two_processes

from talkplay_hf.errors import ConfigError
from talkplay_hf.tokens.tokenizer import TalkPlayTokenizer
from talkplay_hf.training.similarity.callback import SelfSimilarityCallback
from talkplay_hf.training.similarity.geometry import geometry
from talkplay_hf.training.similarity.loss import (
    add_self_similarity_gradient,
    modality_targets,
    self_similarity_loss,
)

# large, so that a wrong share of the gradient shows
WEIGHT = 3.0
SPLITS = [(16, 1), (8, 2), (4, 4), (2, 8)]
EMBEDDING = "model.embed_tokens.weight"


def total(plain: steps.Gradients, tokenizer: TalkPlayTokenizer, **model: Any) -> steps.Gradients:
    """The gradients of a run without the callback, and λ∇L by autograd added to the embedding's."""
    weight = small_model(tokenizer, **model).get_input_embeddings().weight
    similarity = WEIGHT * self_similarity_loss(weight, modality_targets(tokenizer))
    (gradient,) = torch.autograd.grad(similarity, weight)
    assert gradient.norm() > 0.01 * plain[EMBEDDING].norm()
    return plain | {EMBEDDING: plain[EMBEDDING] + gradient}


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize(("batch", "accumulation"), SPLITS)
def test_a_step_is_cross_entropy_plus_lambda_self_similarity(
    batch: int, accumulation: int, tied: bool, tokenizer: TalkPlayTokenizer, tmp_path: Path
):
    expected = by_hand(tokenizer, range(16), weight=WEIGHT, tied=tied)
    options: dict[str, Any] = {"batch": batch, "accumulation": accumulation, "tied": tied}
    (found,) = take_steps(tokenizer, tmp_path, weight=WEIGHT, **options).gradients
    assert distance(found, expected) <= 2e-6


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize(("batch", "accumulation"), SPLITS)
def test_in_float64_the_step_is_exact(
    batch: int, accumulation: int, tied: bool, tokenizer: TalkPlayTokenizer, tmp_path: Path
):
    options: dict[str, Any] = {"batch": batch, "accumulation": accumulation}
    model: dict[str, Any] = {"tied": tied, "dtype": "float64"}
    (plain,) = take_steps(tokenizer, tmp_path, weight=None, **options, **model).gradients
    (found,) = take_steps(tokenizer, tmp_path, weight=WEIGHT, **options, **model).gradients
    assert distance(found, total(plain, tokenizer, **model)) <= 1e-9


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("in_loss", [False, True])
def test_a_partial_last_accumulation_gets_the_whole_term(
    in_loss: bool, tied: bool, tokenizer: TalkPlayTokenizer, tmp_path: Path
):
    options: dict[str, Any] = {"rows": 12, "batch": 2, "accumulation": 4, "tied": tied}
    run = take_steps(tokenizer, tmp_path, weight=WEIGHT, in_loss=in_loss, **options)
    assert len(run.gradients) == 2
    for found, rows in zip(run.gradients, (range(8), range(8, 12)), strict=True):
        expected = by_hand(tokenizer, rows, weight=WEIGHT, tied=tied)
        assert distance(found, expected) <= 2e-6


@pytest.mark.parametrize("tied", [True, False])
def test_clipping_sees_the_total(tied: bool, tokenizer: TalkPlayTokenizer, tmp_path: Path):
    whole = by_hand(tokenizer, range(16), weight=WEIGHT, tied=tied)
    norm = float(torch.stack([gradient.norm() for gradient in whole.values()]).norm())
    clip = norm / 5
    options: dict[str, Any] = {"batch": 4, "accumulation": 4, "tied": tied, "clip": clip}
    run = take_steps(tokenizer, tmp_path, weight=WEIGHT, **options)
    clipped = {name: gradient * clip / norm for name, gradient in whole.items()}
    assert distance(run.gradients[0], clipped) <= 2e-6
    assert run.log[0]["grad_norm"] == pytest.approx(norm, rel=2e-6)


def test_autocast_leaves_the_term_exact(tokenizer: TalkPlayTokenizer, tmp_path: Path):
    options: dict[str, Any] = {"batch": 4, "accumulation": 4, "bf16": True}
    (plain,) = take_steps(tokenizer, tmp_path, weight=None, **options).gradients
    expected = total(plain, tokenizer)
    (found,) = take_steps(tokenizer, tmp_path, weight=WEIGHT, **options).gradients
    assert distance(found, expected) <= 2e-6
    # backward rounds the sum of both losses' gradients along another path
    (in_loss,) = take_steps(tokenizer, tmp_path, weight=WEIGHT, in_loss=True, **options).gradients
    assert distance(in_loss, expected) <= 2e-6


def test_bfloat16_weights_get_the_term_to_their_precision(
    tokenizer: TalkPlayTokenizer, tmp_path: Path
):
    model: dict[str, Any] = {"dtype": "bfloat16"}
    options: dict[str, Any] = {"batch": 16, "accumulation": 1}
    (plain,) = take_steps(tokenizer, tmp_path, weight=None, **options, **model).gradients
    (found,) = take_steps(tokenizer, tmp_path, weight=WEIGHT, **options, **model).gradients
    assert found[EMBEDDING].dtype == torch.bfloat16
    assert distance(found, total(plain, tokenizer, **model)) <= 2**-8


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize(("batch", "accumulation"), [(16, 1), (2, 8)])
def test_the_term_in_the_loss_gives_the_same_gradient(
    batch: int, accumulation: int, tied: bool, tokenizer: TalkPlayTokenizer, tmp_path: Path
):
    options: dict[str, Any] = {"batch": batch, "accumulation": accumulation, "tied": tied}
    run = take_steps(tokenizer, tmp_path, weight=WEIGHT, in_loss=True, **options)
    expected = by_hand(tokenizer, range(16), weight=WEIGHT, tied=tied)
    assert distance(run.gradients[0], expected) <= 2e-6
    loss = WEIGHT * run.log[0]["self_similarity"]
    plain = take_steps(tokenizer, tmp_path, weight=None, **options)
    assert run.log[0]["loss"] == pytest.approx(plain.log[0]["loss"] + loss, rel=1e-4)


# --- one event at a time ----------------------------------------------------------------------


def fire(
    callback: SelfSimilarityCallback,
    event: str,
    model: Any,
    *,
    zero: int | None = None,
    **more: Any,
) -> None:
    """Call an event as a trainer does; `zero` is the stage of DeepSpeed."""
    plugin = None if zero is None else SimpleNamespace(zero_stage=zero)
    args = SimpleNamespace(deepspeed_plugin=plugin)
    getattr(callback, event)(args, TrainerState(), None, model=model, **more)


@pytest.mark.parametrize("scale", [1024.0, 65536.0])
def test_the_loss_scale_of_fp16_is_applied(scale: float, tokenizer: TalkPlayTokenizer):
    model = small_model(tokenizer)
    weight = model.get_input_embeddings().weight
    scaler = torch.amp.GradScaler("cpu", init_scale=scale)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    callback = SelfSimilarityCallback(tokenizer, WEIGHT)
    fire(callback, "on_train_begin", model)
    fire(callback, "on_step_begin", model, optimizer=SimpleNamespace(scaler=scaler))
    scaler.scale(model(input_ids=torch.tensor([[3, 5]]), labels=torch.tensor([[3, 5]])).loss)
    scaler.scale(weight.sum() * 0).backward()
    scaler.unscale_(optimizer)
    expected = torch.zeros_like(weight)
    add_self_similarity_gradient(weight, expected, callback.targets, WEIGHT)
    assert (weight.grad - expected).norm() <= 2e-6 * expected.norm()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="fp16 training needs a GPU")
def test_fp16_on_a_gpu_adds_the_term_once(tokenizer: TalkPlayTokenizer, tmp_path: Path):
    options: dict[str, Any] = {"batch": 4, "accumulation": 4, "fp16": True, "use_cpu": False}
    # so large that nothing is clipped: clipping takes the loss scale out
    options |= {"clip": 1e9}
    (plain,) = take_steps(tokenizer, tmp_path, weight=None, **options).gradients
    (found,) = take_steps(tokenizer, tmp_path, weight=WEIGHT, **options).gradients
    plain = {name: gradient.cpu() for name, gradient in plain.items()}
    found = {name: gradient.cpu() for name, gradient in found.items()}
    assert distance(found, total(plain, tokenizer)) <= 1e-4


def test_the_next_step_starts_from_zero(tokenizer: TalkPlayTokenizer):
    model = small_model(tokenizer)
    weight = model.get_input_embeddings().weight
    callback = SelfSimilarityCallback(tokenizer, WEIGHT)
    fire(callback, "on_train_begin", model)
    found = []
    for _ in range(2):
        fire(callback, "on_step_begin", model)
        found.append(weight.grad.clone())
        weight.grad += 1
        model.zero_grad()
    assert torch.equal(*found)


def frozen(tokenizer: TalkPlayTokenizer) -> LlamaForCausalLM:
    model = small_model(tokenizer)
    model.get_input_embeddings().weight.requires_grad_(False)
    return model


def not_grown(tokenizer: TalkPlayTokenizer) -> LlamaForCausalLM:
    model = small_model(tokenizer)
    model.resize_token_embeddings(tokenizer.config.base_vocab_size)
    return model


def flattened(tokenizer: TalkPlayTokenizer) -> LlamaForCausalLM:
    model = small_model(tokenizer)
    embedding = model.get_input_embeddings()
    embedding.weight = torch.nn.Parameter(embedding.weight.detach().flatten()[:100])
    return model


def low_rank(tokenizer: TalkPlayTokenizer, *full: str) -> Any:
    """With adapters on the attention; `full` names modules that are trained whole."""
    config = LoraConfig(
        r=2,
        target_modules=["q_proj"],
        modules_to_save=list(full) or None,
        ensure_weight_tying=bool(full),
        task_type="CAUSAL_LM",
    )
    return get_peft_model(small_model(tokenizer), config)


@pytest.mark.parametrize(
    ("make", "zero", "word"),
    [
        (frozen, None, "frozen"),
        (low_rank, None, "modules_to_save"),
        (not_grown, None, "grow the vocabulary"),
        (flattened, None, "fsdp_version: 2"),
        (small_model, 2, "TalkPlayTrainer"),
        (small_model, 3, "ZeRO-3"),
    ],
)
def test_what_the_gradient_cannot_be_added_to_is_refused(
    make: Any, zero: int | None, word: str, tokenizer: TalkPlayTokenizer
):
    model = make(tokenizer)
    with pytest.raises(ConfigError, match=word):
        fire(SelfSimilarityCallback(tokenizer, 0.1), "on_train_begin", model, zero=zero)
    fire(SelfSimilarityCallback(tokenizer, 0.0), "on_train_begin", model, zero=zero)


def test_zero_3_is_refused_even_where_the_trainer_adds_the_loss(tokenizer: TalkPlayTokenizer):
    callback = SelfSimilarityCallback(tokenizer, 0.1)
    callback.trainer_adds_loss = True
    with pytest.raises(ConfigError, match="ZeRO-3"):
        fire(callback, "on_train_begin", small_model(tokenizer), zero=3)


def test_under_deepspeed_the_term_is_left_to_a_trainer_that_adds_it(tokenizer: TalkPlayTokenizer):
    model = small_model(tokenizer)
    callback = SelfSimilarityCallback(tokenizer, 0.1)
    callback.trainer_adds_loss = True
    fire(callback, "on_train_begin", model)
    assert not callback.in_loss
    fire(callback, "on_train_begin", model, zero=2)
    assert callback.in_loss
    fire(callback, "on_step_begin", model)
    assert model.get_input_embeddings().weight.grad is None


def test_the_trained_copy_of_an_adapter_model_gets_the_term(tokenizer: TalkPlayTokenizer):
    model = low_rank(tokenizer, "embed_tokens")
    callback = SelfSimilarityCallback(tokenizer, WEIGHT)
    fire(callback, "on_train_begin", model)
    fire(callback, "on_step_begin", model)
    found = {name for name, p in model.named_parameters() if p.grad is not None and p.grad.any()}
    assert len(found) == 1
    assert "embed_tokens.modules_to_save" in found.pop()


# --- figures ----------------------------------------------------------------------------------


class _Recorder(TrainerCallback):
    """Sees what a reporter sees."""

    def __init__(self) -> None:
        self.logs: list[dict[str, Any]] = []

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        self.logs.append(dict(logs))


def trainer_of(
    model: Any, tokenizer: TalkPlayTokenizer, out: Path, callbacks: list[TrainerCallback]
) -> SFTTrainer:
    """A trainer of two steps that evaluates two sets at the end of each."""
    return SFTTrainer(
        model=model,
        args=SFTConfig(
            output_dir=str(out),
            max_steps=2,
            per_device_train_batch_size=2,
            learning_rate=1e-2,
            bf16=False,
            activation_checkpointing=False,
            activation_offloading=False,
            logging_steps=1,
            eval_strategy="steps",
            eval_steps=1,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            use_cpu=True,
            dataset_kwargs={"skip_prepare_dataset": True},
        ),
        train_dataset=make_rows(tokenizer, 4),
        eval_dataset={name: make_rows(tokenizer, 2) for name in ("conversations", "playlists")},
        processing_class=tokenizer,
        callbacks=callbacks,
    )


FIGURES = ("eval_self_similarity", "eval_spearman", "eval_overlap_at_10")


def test_installed_figures_reach_the_reporters(tokenizer: TalkPlayTokenizer, tmp_path: Path):
    recorder = _Recorder()
    model = small_model(tokenizer)
    trainer = trainer_of(model, tokenizer, tmp_path, [recorder])
    callback = SelfSimilarityCallback(tokenizer, WEIGHT).install(trainer)
    trainer.train()
    weight = model.get_input_embeddings().weight.detach()
    loss = float(self_similarity_loss(weight, callback.targets))
    steps = [log["self_similarity"] for log in recorder.logs if "loss" in log]
    assert len(steps) == 2
    assert steps[1] < steps[0]
    assert steps[1] == pytest.approx(loss, abs=1e-6)
    shape = geometry(weight, callback.targets)
    wanted = [loss, shape["spearman"], shape["overlap_at_10"]]
    evaluations = [log for log in recorder.logs if any(key.startswith("eval_") for key in log)]
    assert len(evaluations) == 4
    # both sets of the last evaluation
    for log in evaluations[2:]:
        assert [log[key] for key in FIGURES] == pytest.approx(wanted, abs=1e-6)
    assert evaluations[0]["eval_self_similarity"] != evaluations[2]["eval_self_similarity"]
    assert not any(key in log for log in recorder.logs for key in FIGURES if "loss" in log)


def test_other_weights_at_the_same_step_are_evaluated_anew(
    tokenizer: TalkPlayTokenizer, tmp_path: Path
):
    model = small_model(tokenizer)
    trainer = trainer_of(model, tokenizer, tmp_path, [])
    SelfSimilarityCallback(tokenizer, WEIGHT).install(trainer)
    before = trainer.evaluate()["eval_self_similarity"]
    torch.manual_seed(1)
    other = {name: torch.randn_like(value) for name, value in model.state_dict().items()}
    model.load_state_dict(other)
    assert trainer.evaluate()["eval_self_similarity"] != before


def test_a_plain_callback_trains_the_same(tokenizer: TalkPlayTokenizer, tmp_path: Path):
    finals, logs = [], []
    for installed in (True, False):
        model = small_model(tokenizer)
        callback = SelfSimilarityCallback(tokenizer, WEIGHT)
        trainer = trainer_of(model, tokenizer, tmp_path, [] if installed else [callback])
        if installed:
            callback.install(trainer)
        trainer.train()
        finals.append(model.get_input_embeddings().weight.detach())
        names = ("self_similarity", *FIGURES)
        logs.append([{k: log.get(k) for k in names} for log in trainer.state.log_history])
    assert torch.equal(*finals)
    assert logs[0] == logs[1]


def test_weight_zero_changes_nothing_and_logs(tokenizer: TalkPlayTokenizer, tmp_path: Path):
    finals, logs = [], []
    for callbacks in ([], [SelfSimilarityCallback(tokenizer, 0.0)]):
        model = small_model(tokenizer)
        trainer = trainer_of(model, tokenizer, tmp_path, callbacks)
        trainer.train()
        finals.append(model.get_input_embeddings().weight.detach())
        logs.append(trainer.state.log_history)
    assert torch.equal(*finals)
    assert all(log["self_similarity"] > 0 for log in logs[1] if "loss" in log)
    assert callbacks[0].cost() == {"seconds": 0.0, "share": 0.0}


def test_the_cost_is_a_part_of_the_step(tokenizer: TalkPlayTokenizer, tmp_path: Path):
    callback = SelfSimilarityCallback(tokenizer, WEIGHT)
    trainer = trainer_of(small_model(tokenizer), tokenizer, tmp_path, [callback])
    trainer.train()
    cost = callback.cost()
    assert cost["seconds"] > 0
    assert 0 < cost["share"] < 1


# --- two processes ----------------------------------------------------------------------------


def in_two_processes(
    tokenizer_folder: Path, out: Path, cases: dict[str, Any]
) -> dict[str, list[Steps]]:
    """Take steps under torchrun; each case's steps by rank."""
    (out / "cases.json").write_text(json.dumps(cases))
    run_in_two_processes(steps.__file__, tokenizer_folder, out, out / "cases.json")
    return {
        name: [Steps(*torch.load(out / f"{name}-{rank}.pt")) for rank in (0, 1)] for name in cases
    }


def cases_of(**more: Any) -> dict[str, dict[str, Any]]:
    """Sixteen rows in two processes, tied and untied, with a partial and a clipped step."""
    cases: dict[str, dict[str, Any]] = {
        f"{batch}x{accumulation}-{'tied' if tied else 'untied'}": {
            "batch": batch,
            "accumulation": accumulation,
            "tied": tied,
        }
        for batch, accumulation in [(8, 1), (2, 4)]
        for tied in (True, False)
    }
    # 12 rows: a step of 4 micro-batches in each process, then one of 2
    cases["partial"] = {"batch": 1, "accumulation": 4, "rows": 12, "tied": True}
    cases["clipped"] = {"batch": 4, "accumulation": 2, "clip": 0.05, "tied": True}
    return {name: {"weight": WEIGHT} | case | more for name, case in cases.items()}


def check_cases(
    found: dict[str, list[Steps]], cases: dict[str, Any], tokenizer: TalkPlayTokenizer
) -> None:
    for name, ranks in found.items():
        tied = cases[name]["tied"]
        parts = (range(8), range(8, 12)) if name == "partial" else (range(16),)
        for run in ranks:
            assert len(run.gradients) == len(parts)
            for gradients, rows in zip(run.gradients, parts, strict=True):
                expected = by_hand(tokenizer, rows, weight=WEIGHT, tied=tied)
                norm = float(torch.stack([one.norm() for one in expected.values()]).norm())
                if name == "clipped":
                    share = cases[name]["clip"] / norm
                    expected = {key: one * share for key, one in expected.items()}
                assert distance(gradients, expected) <= 2e-6, name
            assert run.log[-2]["grad_norm"] == pytest.approx(norm, rel=2e-6)


@pytest.mark.slow
@pytest.mark.parametrize("in_loss", [False, True])
def test_two_processes_add_the_term_once(
    in_loss: bool, tokenizer: TalkPlayTokenizer, tokenizer_folder: Path, tmp_path: Path
):
    cases = cases_of(in_loss=in_loss)
    check_cases(in_two_processes(tokenizer_folder, tmp_path, cases), cases, tokenizer)


@pytest.mark.slow
def test_a_sharded_embedding_gets_the_term(
    tokenizer: TalkPlayTokenizer, tokenizer_folder: Path, tmp_path: Path
):
    cases = cases_of(sharded=True)
    found = in_two_processes(tokenizer_folder, tmp_path, cases)
    assert all(run.sharded for ranks in found.values() for run in ranks)
    check_cases(found, cases, tokenizer)
