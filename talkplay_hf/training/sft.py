"""Supervised fine-tuning from a YAML recipe, with TRL's `SFTTrainer`.

Run as `talkplay train --config recipe.yaml` or
`accelerate launch -m talkplay_hf.training --config recipe.yaml`.
"""

import contextlib
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from jinja2 import TemplateError
from transformers import GenerationConfig, PreTrainedModel, TrainerCallback, set_seed
from transformers.integrations import (
    get_reporting_integration_callbacks,
    is_deepspeed_zero3_enabled,
)
from trl import ModelConfig, SFTConfig, SFTTrainer

from talkplay_hf.errors import (
    ArtifactError,
    ConfigError,
    MissingExtraError,
    TalkPlayError,
    first_line,
)
from talkplay_hf.hub import files
from talkplay_hf.hub.cards import write_card
from talkplay_hf.hub.held import held
from talkplay_hf.hub.verify import verify_folder
from talkplay_hf.hub.weights import write_weight_index
from talkplay_hf.tokens.config import SCRATCH, TEMPERATURE, TOP_P
from talkplay_hf.tokens.tokenizer import TalkPlayTokenizer, continuation_frame
from talkplay_hf.training.arguments import TalkPlayArguments, parse_recipe
from talkplay_hf.training.figures.curves import draw_curves
from talkplay_hf.training.figures.report import REPORT, summary, training_report
from talkplay_hf.training.model.adapters import add_adapters, merge_adapters
from talkplay_hf.training.model.base import load_base, scratch_model
from talkplay_hf.training.model.vocabulary import check_vocabulary, grow_vocabulary
from talkplay_hf.training.rows.encode import PARTS
from talkplay_hf.training.rows.packing import check_packing
from talkplay_hf.training.rows.sets import load_datasets, rows_folder
from talkplay_hf.training.runs.best import evaluation_callbacks
from talkplay_hf.training.runs.checkpoints import check_space, done_at, prepare, saving
from talkplay_hf.training.runs.plan import training_plan
from talkplay_hf.training.runs.resume import make_resumable
from talkplay_hf.training.runs.tracking import check_reporters, resolve_reporters
from talkplay_hf.training.similarity.callback import SelfSimilarityCallback
from talkplay_hf.training.similarity.geometry import geometry
from talkplay_hf.training.trainer import TalkPlayTrainer

CURVES = "training_curves.png"
GENERATION = {
    "do_sample": True,
    "temperature": TEMPERATURE,
    "top_p": TOP_P,
    "repetition_penalty": 1.0,
}
TRL_DEFAULT_OUT = "trainer_output"


def train(
    arguments: TalkPlayArguments,
    config: SFTConfig,
    model_config: ModelConfig,
    progress: Callable[[str, int, int], None] | None = None,
) -> Path:
    """Train a model and write the model folder.

    Args:
        arguments (`TalkPlayArguments`): Data, tokenizer and losses.
        config (`SFTConfig`): TRL's training arguments. `output_dir` becomes the model folder;
            checkpoints, if any, go beside it.
        model_config (`ModelConfig`): The base model; `model_name_or_path: scratch` makes a small
            Llama with random weights.
        progress (`Callable`, *optional*): Called with (what, done, total) while data is encoded.

    Returns:
        `Path`: The model folder: weights, tokenizer, side files, `training_report.json` and, with
        matplotlib, `training_curves.png`.

    Raises:
        LeakageError: If a conversation to train on is of a held-out playlist, or plays a cold
            track.
        TalkPlayError: If the inputs do not fit together; before any training.
    """
    out = _prepare_run(arguments, config)
    with held(out) if config.process_index == 0 else contextlib.nullcontext():
        _train(arguments, config, model_config, out, progress)
    return out


def _train(
    arguments: TalkPlayArguments,
    config: SFTConfig,
    model_config: ModelConfig,
    out: Path,
    progress: Callable[[str, int, int], None] | None,
) -> None:
    tokenizer = load_tokenizer(arguments.tokenizer)
    model = load_model(arguments, config, model_config, tokenizer)
    datasets, facts = load_datasets(
        arguments, config, tokenizer, progress if config.process_index == 0 else None
    )
    checkpoints = Path(config.output_dir)
    plan = training_plan(
        arguments,
        config,
        model_config,
        rows=facts["fingerprint"],
        codebook_hash=tokenizer.config.codebook_hash,
    )
    start = prepare(checkpoints, config, plan)
    validation = {name: datasets[name] for name in PARTS if name in datasets}
    callbacks = evaluation_callbacks(arguments, config, validation)
    resolve_reporters(config, checkpoints, resumed=start is not None)
    similarity = SelfSimilarityCallback(tokenizer, arguments.effective_weight)
    shape = {"start": geometry(model.get_input_embeddings().weight, similarity.targets)}
    trainer = make_trainer(
        arguments, config, model, tokenizer, datasets["train"], validation, similarity, callbacks
    )
    check_space(checkpoints, out, model, config, len(datasets["train"]))
    trained = _count(p for p in model.parameters() if p.requires_grad)
    before = (0, 0) if start is None else done_at(start)

    started = time.perf_counter()
    with saving(checkpoints):
        trainer.train(resume_from_checkpoint=str(start) if start else None)
    seconds = time.perf_counter() - started
    # before the best weights are evaluated once more, which is no point of the curve
    log = list(trainer.state.log_history)
    evaluation = _evaluate(trainer) if validation else {}

    # DeepSpeed gathers the weights from its own engine, all others from the model
    state = trainer.accelerator.get_state_dict(trainer.deepspeed or trainer.model)
    if trainer.is_world_process_zero():
        final = trainer.accelerator.unwrap_model(trainer.model)
        if model_config.use_peft:
            final, state = merge_adapters(final), None
        shape["end"] = geometry(_embedding(final, state), similarity.targets)
        report = training_report(
            arguments,
            config,
            model_config,
            parameters=(_count(final.parameters()), trained),
            data=facts,
            log=log,
            steps=trainer.state.global_step,
            tokens=trainer.state.num_input_tokens_seen,
            evaluation=evaluation,
            geometry=shape,
        )
        if state is not None:
            state = without_tied(final, state)
        with saving(checkpoints):
            _save(final, state, tokenizer, report, out)
        shutil.rmtree(rows_folder(out), ignore_errors=True)
        if checkpoints.is_dir() and not any(checkpoints.iterdir()):
            checkpoints.rmdir()
        print(summary(report, seconds, similarity.cost()["seconds"], before))
    trainer.accelerator.wait_for_everyone()


def _prepare_run(arguments: TalkPlayArguments, config: SFTConfig) -> Path:
    """Threads, seed and folders; where the model goes."""
    check_reporters(config)
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    if config.output_dir in (None, TRL_DEFAULT_OUT):
        raise ConfigError("output_dir is missing: the recipe must say where the model goes")
    out = Path(config.output_dir)
    files.check_target(out, "model")
    config.output_dir = str(rows_folder(out).parent)
    # rows carry their labels already: nothing for TRL to prepare or cut
    config.dataset_kwargs = {"skip_prepare_dataset": True}
    set_seed(config.seed)
    return out


def load_tokenizer(folder: str) -> TalkPlayTokenizer:
    """Load a tokenizer folder.

    Raises:
        ArtifactError: If it is none, or cannot be loaded.
    """
    if not (Path(folder) / files.TALKPLAY_CONFIG).exists():
        raise ArtifactError(
            f"{folder}: holds no {files.TALKPLAY_CONFIG}, so it is not a tokenizer folder; make "
            "one with `talkplay tokenize`"
        )
    try:
        tokenizer: TalkPlayTokenizer = TalkPlayTokenizer.from_pretrained(folder)
    except TalkPlayError:
        raise
    except Exception as error:  # of any kind: the tokenizers library raises plain ones
        first = first_line(error)
        raise ArtifactError(f"{folder}: the tokenizer cannot be loaded: {first}") from None
    # they are copied into the model folder at the end of the training
    verify_folder(folder, (files.CODEBOOKS,), "tokenizer")
    try:
        continuation_frame(tokenizer)
    except (TemplateError, ValueError, TypeError, LookupError) as error:
        # what NumPy says where no block is found would help nobody
        silent = isinstance(error, IndexError)
        first = "it writes no music tokens" if silent else first_line(error)
        raise ArtifactError(f"{folder}: the chat template cannot be used: {first}") from None
    return tokenizer


def load_model(
    arguments: TalkPlayArguments,
    config: SFTConfig,
    model_config: ModelConfig,
    tokenizer: TalkPlayTokenizer,
) -> PreTrainedModel:
    """The base model with the grown vocabulary and, if the recipe says so, with adapters.

    Raises:
        ArtifactError: If the base cannot be loaded or does not belong to the tokenizer.
        ConfigError: If the recipe asks for what the model cannot do.
    """
    name = model_config.model_name_or_path
    if name is None:
        raise ConfigError("model_name_or_path is missing: name a base model, or `scratch`")
    if name == SCRATCH:
        for key, plain in (("dtype", ("auto", "float32")), ("attn_implementation", ())):
            value = getattr(model_config, key)
            if value is not None and value not in plain:
                raise ConfigError(f"{key} {value}: is not known to model_name_or_path: {SCRATCH}")
        model: PreTrainedModel = scratch_model(
            tokenizer,
            hidden_size=arguments.scratch_hidden_size,
            layers=arguments.scratch_layers,
            heads=arguments.scratch_heads,
            seed=config.seed,
        )
    else:
        model = load_base(
            name,
            tokenizer,
            revision=model_config.model_revision,
            dtype=model_config.dtype or "float32",
            attn_implementation=model_config.attn_implementation,
        )
    grow_vocabulary(
        model,
        tokenizer,
        init=arguments.init,
        cov_scale=arguments.cov_scale,
        seed=config.seed,
    )
    check_packing(config, model)
    model.config.eos_token_id = tokenizer.eos_token_id
    model.config.pad_token_id = tokenizer.pad_token_id
    model.generation_config = GenerationConfig(
        **GENERATION,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return add_adapters(model, model_config) if model_config.use_peft else model


def make_trainer(
    arguments: TalkPlayArguments,
    config: SFTConfig,
    model: PreTrainedModel,
    tokenizer: TalkPlayTokenizer,
    rows: Dataset,
    validation: Mapping[str, Dataset],
    similarity: SelfSimilarityCallback,
    callbacks: Sequence[TrainerCallback] = (),
) -> SFTTrainer:
    """The trainer of a recipe: ours, or with `label_positions_only: false` TRL's own."""
    try:
        SFTTrainer.get_optimizer_cls_and_kwargs(config, model)
    except (ImportError, ValueError) as error:
        raise ConfigError(f"optim: {' '.join(str(error).split())}") from None
    if config.ddp_find_unused_parameters is None:
        # every weight takes part in every batch, and looking for others takes time
        config.ddp_find_unused_parameters = False
    common: dict[str, Any] = {
        "model": model,
        "args": config,
        "train_dataset": rows,
        "eval_dataset": dict(validation) or None,
        "callbacks": list(callbacks),
    }
    if arguments.label_positions_only:
        trainer = TalkPlayTrainer(tokenizer=tokenizer, self_similarity=similarity, **common)
    else:
        trainer = SFTTrainer(processing_class=tokenizer, **common)
    _check_spread(trainer)
    make_resumable(trainer)
    similarity.install(trainer)
    return trainer


def _check_spread(trainer: SFTTrainer) -> None:
    """Refuse what does not work where the weights are spread over processes."""
    fsdp = trainer.is_fsdp_enabled
    if hasattr(trainer.model, "peft_config") and (fsdp or is_deepspeed_zero3_enabled()):
        raise ConfigError(
            "use_peft: adapters cannot be merged while weights are spread over processes; use DDP "
            "or ZeRO-2, or train without use_peft"
        )
    # processes would disagree on which checkpoint is the best, and wait for each other for ever
    if (
        fsdp
        and trainer.args.load_best_model_at_end
        and "SHARDED_STATE_DICT" in str(trainer.accelerator.state.fsdp_plugin.state_dict_type)
    ):
        raise ConfigError(
            "load_best_model_at_end: does not work with FSDP's sharded checkpoints; set "
            "fsdp_state_dict_type: FULL_STATE_DICT, or leave load_best_model_at_end out"
        )


def _evaluate(trainer: SFTTrainer) -> dict[str, Any]:
    """The validation figures of the weights as they are now."""
    if not trainer.args.load_best_model_at_end:
        found: dict[str, Any] = {}
        for entry in trainer.state.log_history:
            if entry["step"] == trainer.state.global_step:
                found |= {key: value for key, value in entry.items() if key.startswith("eval_")}
        if all(f"eval_{name}_loss" in found for name in trainer.eval_dataset):
            return found
    else:
        # for them this would be a second value at the last step, of weights of another one
        for reporter in get_reporting_integration_callbacks(trainer.args.report_to):
            trainer.remove_callback(reporter)
    return dict(trainer.evaluate())


def _count(weights: Iterable[torch.Tensor]) -> int:
    # DeepSpeed ZeRO-3 leaves empty tensors and notes their true size
    return sum(getattr(weight, "ds_numel", weight.numel()) for weight in weights)


def _embedding(model: PreTrainedModel, state: Mapping[str, Any] | None) -> torch.Tensor:
    """The input embedding, from the gathered weights where there are any."""
    module = model.get_input_embeddings()
    weight: torch.Tensor = module.weight
    if state is not None:
        name = next(name for name, part in model.named_modules() if part is module)
        weight = state[f"{name}.weight"]
    return weight


def without_tied(model: PreTrainedModel, state: Mapping[str, Any]) -> dict[str, Any]:
    """Gathered weights without the second of two that are tied.

    FSDP2 gathers a tied output head as a tensor of its own, so the model would be saved with both.

    Args:
        model (`PreTrainedModel`): The model, which knows what is tied.
        state (`Mapping[str, Any]`): Its weights by name.

    Returns:
        `dict[str, Any]`: The weights that stand for all.
    """
    tied = model.all_tied_weights_keys
    return {name: weight for name, weight in state.items() if tied.get(name) not in state}


def _save(
    model: PreTrainedModel,
    state: dict[str, Any] | None,
    tokenizer: TalkPlayTokenizer,
    report: Mapping[str, Any],
    out: Path,
) -> None:
    check_vocabulary(model, tokenizer)
    with files.staged_folder(out, "model") as aside:
        model.save_pretrained(aside, state_dict=state)
        # the codebooks and the catalogue index are safetensors files too
        write_weight_index(aside)
        tokenizer.save_pretrained(aside)
        files.write_json(aside / REPORT, report)
        try:
            metric = report["best"] and report["best"]["metric"]
            draw_curves(report["log"], aside / CURVES, title=out.name, metric=metric)
        except MissingExtraError as error:
            print(f"no picture of the curves: {error}")
        write_card(aside, title=out.name)
        files.refresh_manifest(aside)


def main(arguments: Sequence[str] | None = None) -> Path:
    """Parse a recipe and train; what `python -m talkplay_hf.training` runs."""
    return train(*parse_recipe(sys.argv[1:] if arguments is None else arguments))
