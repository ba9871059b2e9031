"""Supervised fine-tuning from a YAML recipe, with TRL's stock `SFTTrainer`.

Run as `talkplay train --config recipe.yaml` or
`accelerate launch -m talkplay_hf.training --config recipe.yaml`.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import yaml
from datasets import Dataset
from transformers import AutoModelForCausalLM, GenerationConfig, PreTrainedModel, set_seed
from trl import ModelConfig, SFTConfig, SFTTrainer, TrlParser

from talkplay_hf.catalog.leakage import check_conversations
from talkplay_hf.catalog.schema import Catalog
from talkplay_hf.conversations.dataset import load_conversations
from talkplay_hf.errors import ArtifactError, ConfigError
from talkplay_hf.hub import files
from talkplay_hf.tokens.build import read_token_catalog
from talkplay_hf.tokens.config import SCRATCH, TEMPERATURE, TOP_P
from talkplay_hf.tokens.tokenizer import TalkPlayTokenizer
from talkplay_hf.training.data import Rows, continuation_rows, conversation_rows
from talkplay_hf.training.self_similarity import SelfSimilarityCallback
from talkplay_hf.training.vocabulary import check_vocabulary, grow_vocabulary, scratch_model

REPORT = "training_report.json"
# arguments that say where things are, not what they are
FOLDERS = ("tokenizer", "conversations", "catalog")
GENERATION = {
    "do_sample": True,
    "temperature": TEMPERATURE,
    "top_p": TOP_P,
    "repetition_penalty": 1.0,
}
# TRL's parser knows these; nothing here acts on them yet
UNSUPPORTED = ("use_peft", "load_in_4bit", "load_in_8bit", "packing", "fp16")
TRL_DEFAULT_OUT = "trainer_output"


@dataclass
class TalkPlayArguments:
    """What a TalkPlay recipe says beyond TRL's own arguments."""

    tokenizer: str = field(metadata={"help": "Tokenizer folder (talkplay tokenize)."})
    conversations: str = field(metadata={"help": "Conversations folder (talkplay synthesize)."})
    catalog: str = field(metadata={"help": "Catalog folder; its playlists are continued."})
    self_similarity_weight: float = field(
        default=0.1, metadata={"help": "Weight of the self-similarity loss (paper: 0.1)."}
    )
    playlist_share: float = field(
        default=0.5,
        metadata={"help": "Share of the label tokens from playlist continuation (paper: half)."},
    )
    train_on_negatives: bool = field(
        default=False, metadata={"help": "Whether rejected music counts for the loss (paper: yes)."}
    )
    cov_scale: float = field(
        default=1.0, metadata={"help": "Factor on the covariance that new rows are drawn from."}
    )
    scratch_hidden_size: int = field(
        default=128, metadata={"help": "Width, with model_name_or_path: scratch."}
    )
    scratch_layers: int = field(
        default=4, metadata={"help": "Layers, with model_name_or_path: scratch."}
    )
    scratch_heads: int = field(
        default=4, metadata={"help": "Attention heads, with model_name_or_path: scratch."}
    )
    threads: int | None = field(
        default=None, metadata={"help": "CPU threads of torch; its own choice when left out."}
    )

    def __post_init__(self) -> None:
        if not 0 <= self.playlist_share < 1:
            raise ConfigError(f"playlist_share {self.playlist_share}: must be in [0, 1)")
        if self.self_similarity_weight < 0 or self.cov_scale < 0:
            raise ConfigError("self_similarity_weight and cov_scale must not be negative")


def parse_recipe(
    arguments: Sequence[str],
) -> tuple[TalkPlayArguments, SFTConfig, ModelConfig]:
    """Read `--config recipe.yaml` and overrides on the command line.

    Raises:
        ConfigError: If the file is missing or a key is unknown or impossible.
    """
    parser = TrlParser((TalkPlayArguments, SFTConfig, ModelConfig))
    # argparse would print every option of TRL and exit
    parser.error = _refuse
    try:
        parsed = parser.parse_args_and_config(list(arguments), fail_with_unknown_args=True)
    except FileNotFoundError as error:
        raise ConfigError(f"{error.filename}: no such recipe") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"recipe: is not YAML: {' '.join(str(error).split())}") from None
    except (ValueError, TypeError) as error:
        raise ConfigError(f"recipe: {' '.join(str(error).split())}") from None
    return parsed[0], parsed[1], parsed[2]


def _refuse(message: str) -> NoReturn:
    raise ConfigError(f"recipe: {' '.join(message.split())}")


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
        `Path`: The model folder: weights, tokenizer, side files and `training_report.json`.

    Raises:
        LeakageError: If a conversation to train on is of a held-out playlist, or plays a cold
            track.
        TalkPlayError: If the inputs do not fit together; before any training.
    """
    import torch

    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    for name in UNSUPPORTED:
        if getattr(config, name, False) or getattr(model_config, name, False):
            raise ConfigError(f"{name}: is not supported; leave it out of the recipe")
    if config.output_dir in (None, TRL_DEFAULT_OUT):
        raise ConfigError("output_dir is missing: the recipe must say where the model goes")
    out = Path(config.output_dir)
    files.check_target(out, "model")
    set_seed(config.seed)
    tokenizer = _load_tokenizer(arguments.tokenizer)
    model = _load_model(arguments, model_config, tokenizer, config.seed)
    datasets, facts = _load_rows(arguments, config, tokenizer, progress)
    model.config.talkplay_codebook_hash = tokenizer.config.codebook_hash
    checkpoints = out.parent / f"{out.name}-checkpoints"
    config.output_dir = str(checkpoints)
    # rows carry their labels already: nothing for TRL to prepare or cut
    config.dataset_kwargs = {"skip_prepare_dataset": True}
    trainer = SFTTrainer(
        model=model,
        args=config,
        train_dataset=datasets["train"],
        eval_dataset=datasets.get("validation"),
        processing_class=tokenizer,
    )
    callback = SelfSimilarityCallback(tokenizer, arguments.self_similarity_weight)
    # reporters run in order and must see the figure that this one adds to the logs
    trainer.callback_handler.callbacks.insert(0, callback)
    started = time.perf_counter()
    trainer.train()
    seconds = time.perf_counter() - started
    final = trainer.evaluate() if "validation" in datasets else {}
    if trainer.is_world_process_zero():
        print(f"trained {trainer.state.global_step:,} steps in {seconds:.0f} s")
        report = {
            "arguments": {k: v for k, v in asdict(arguments).items() if k not in FOLDERS},
            "base_model": model_config.model_name_or_path,
            "data": facts,
            "evaluation": _untimed(final),
            "log": [_untimed(entry) for entry in trainer.state.log_history],
            "parameters": sum(p.numel() for p in model.parameters()),
            "seed": config.seed,
            "steps": trainer.state.global_step,
        }
        _save(trainer, tokenizer, report, out)
        if checkpoints.is_dir() and not any(checkpoints.iterdir()):
            checkpoints.rmdir()
    return out


def _untimed(figures: Mapping[str, Any]) -> dict[str, Any]:
    """Leave timings out, so that the same input gives the same bytes."""
    return {k: v for k, v in figures.items() if "runtime" not in k and "per_second" not in k}


def _load_tokenizer(folder: str) -> TalkPlayTokenizer:
    if not (Path(folder) / files.TALKPLAY_CONFIG).exists():
        raise ArtifactError(
            f"{folder}: holds no {files.TALKPLAY_CONFIG}, so it is not a tokenizer folder; make "
            "one with `talkplay tokenize`"
        )
    try:
        tokenizer: TalkPlayTokenizer = TalkPlayTokenizer.from_pretrained(folder)
    except (OSError, ValueError) as error:
        first = str(error).strip().splitlines()[0]
        raise ArtifactError(f"{folder}: the tokenizer cannot be loaded: {first}") from None
    return tokenizer


def _load_model(
    arguments: TalkPlayArguments,
    model_config: ModelConfig,
    tokenizer: TalkPlayTokenizer,
    seed: int,
) -> PreTrainedModel:
    name = model_config.model_name_or_path
    if name is None:
        raise ConfigError("model_name_or_path is missing: name a base model, or `scratch`")
    if name == SCRATCH:
        model: PreTrainedModel = scratch_model(
            tokenizer,
            hidden_size=arguments.scratch_hidden_size,
            layers=arguments.scratch_layers,
            heads=arguments.scratch_heads,
            seed=seed,
        )
    else:
        try:
            model = AutoModelForCausalLM.from_pretrained(
                name,
                revision=model_config.model_revision,
                dtype=model_config.dtype or "float32",
                attn_implementation=model_config.attn_implementation,
            )
        except (OSError, ValueError) as error:
            first = str(error).strip().splitlines()[0]
            raise ArtifactError(f"the base model {name!r} cannot be loaded: {first}") from None
    grow_vocabulary(model, tokenizer, cov_scale=arguments.cov_scale, seed=seed)
    model.config.eos_token_id = tokenizer.eos_token_id
    model.config.pad_token_id = tokenizer.pad_token_id
    model.generation_config = GenerationConfig(
        **GENERATION,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return model


def _load_rows(
    arguments: TalkPlayArguments,
    config: SFTConfig,
    tokenizer: TalkPlayTokenizer,
    progress: Callable[[str, int, int], None] | None,
) -> tuple[dict[str, Dataset], dict[str, Any]]:
    known, codes = read_token_catalog(tokenizer.side_file("token_catalog_file"))
    codes_of = dict(zip(known.track_ids, codes.tolist(), strict=True))
    catalog = Catalog.load(arguments.catalog)
    datasets: dict[str, Dataset] = {}
    facts: dict[str, Any] = {}
    max_length = config.max_length or 1024
    for split in ("train", "validation"):
        conversations = load_conversations(arguments.conversations, [split])
        if not conversations:
            continue
        check_conversations(catalog, conversations)
        rows, report = conversation_rows(
            conversations,
            tokenizer,
            codes_of,
            max_length=max_length,
            train_on_negatives=arguments.train_on_negatives,
            progress=progress if split == "train" else None,
        )
        facts[split] = asdict(report)
        if split == "train" and arguments.playlist_share:
            share = arguments.playlist_share
            more = continuation_rows(
                catalog,
                tokenizer,
                codes_of,
                label_tokens=round(report.label_tokens * share / (1 - share)),
                max_length=max_length,
                seed=config.seed,
            )
            facts[split]["continuation_rows"] = len(more["input_ids"])
            rows = {key: rows[key] + more[key] for key in rows}
        datasets[split] = Dataset.from_dict(_shuffled(rows, config.seed))
    if "train" not in datasets:
        raise ConfigError(f"{arguments.conversations}: has no conversations of the split train")
    return datasets, facts


def _shuffled(rows: Rows, seed: int) -> Rows:
    import numpy as np

    order = np.random.default_rng(seed).permutation(len(rows["input_ids"]))
    return {key: [values[i] for i in order] for key, values in rows.items()}


def _save(
    trainer: SFTTrainer, tokenizer: TalkPlayTokenizer, report: Mapping[str, Any], out: Path
) -> None:
    model = trainer.accelerator.unwrap_model(trainer.model)
    check_vocabulary(model, tokenizer)
    with files.staged_folder(out, "model") as aside:
        model.save_pretrained(aside)
        tokenizer.save_pretrained(aside)
        files.write_json(aside / REPORT, report)


def main(arguments: Sequence[str] | None = None) -> Path:
    """Parse a recipe and train; what `python -m talkplay_hf.training` runs."""
    import sys

    return train(*parse_recipe(sys.argv[1:] if arguments is None else arguments))
