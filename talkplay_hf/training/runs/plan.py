"""What shapes a training: kept beside its checkpoints, so that no other goes on from them."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from trl import ModelConfig, SFTConfig

from talkplay_hf.errors import ConfigError
from talkplay_hf.hub import files
from talkplay_hf.training.arguments import TalkPlayArguments

PLAN = "plan.json"
# where things are, how they are reported and how fast they go: may change from start to start
NOT_COMPARED = {
    *("tokenizer", "conversations", "catalog", "output_dir", "threads", "dataset_kwargs"),
    *("report_to", "run_name", "project", "disable_tqdm", "debug", "trust_remote_code"),
    *("local_rank", "ddp_timeout", "ddp_backend", "skip_memory_metrics", "use_cpu"),
    *("do_train", "do_eval", "do_predict", "eos_token", "pad_token", "prediction_loss_only"),
    *("per_device_eval_batch_size", "torch_empty_cache_steps", "dataset_num_proc"),
    *("resume_from_checkpoint", "restore_callback_states_from_checkpoint"),
    *("load_best_model_at_end", "include_num_input_tokens_seen", "enable_jit_checkpoint"),
}
NOT_COMPARED_KINDS = (
    *("logging_", "log_", "save_", "hub_", "push_", "trackio_", "dataloader_num_", "eval_accum"),
    *("dataloader_pin", "dataloader_pre", "dataloader_per", "dataloader_multi"),
    *("activation_", "gradient_checkpointing"),
)


def training_plan(
    arguments: TalkPlayArguments,
    config: SFTConfig,
    model_config: ModelConfig,
    *,
    rows: str,
    codebook_hash: str,
) -> dict[str, Any]:
    """What has to stay the same for a training to go on from its checkpoints as if never stopped.

    Args:
        arguments (`TalkPlayArguments`): Our keys.
        config (`SFTConfig`): TRL's keys; those that only say where, how fast and how reported are
            left out. `max_steps` and `num_train_epochs` are in, since the schedule of the learning
            rate depends on them.
        model_config (`ModelConfig`): The base model and its adapters.
        rows (`str`): Fingerprint of the rows, as `load_datasets` gives it.
        codebook_hash (`str`): Of the tokenizer.

    Returns:
        `dict[str, Any]`: JSON values by key.
    """
    plan = {
        **{key: _content(value) for key, value in config.to_dict().items()},
        **asdict(arguments),
        **asdict(model_config),
        "model_name_or_path": base_name(model_config),
        "rows": rows,
        "codebook_hash": codebook_hash,
        "world_size": config.world_size,
    }
    kept = {
        key: value
        for key, value in plan.items()
        if key not in NOT_COMPARED and not key.startswith(NOT_COMPARED_KINDS)
    }
    canonical: dict[str, Any] = json.loads(json.dumps(kept, default=str))
    return canonical


def base_name(model_config: ModelConfig) -> str | None:
    """The name of the base model: that on the Hub, or of its folder, wherever that is."""
    name: str | None = model_config.model_name_or_path
    return Path(name).name if name and Path(name).is_dir() else name


def _content(value: Any) -> Any:
    """What a JSON file says (DeepSpeed's and FSDP's options may be one), or the value itself."""
    if isinstance(value, str) and value.endswith(".json") and Path(value).is_file():
        return files.read_json(value)
    return value


def check_plan(folder: Path, plan: Mapping[str, Any]) -> None:
    """Refuse to go on from the checkpoints of another training.

    Raises:
        ConfigError: If the folder holds no plan, or another one; the message names what differs.
    """
    path = folder / PLAN
    if not path.exists():
        raise ConfigError(
            f"{folder}: holds no {PLAN}, so that it cannot be told whether its checkpoints are of "
            "this recipe; start anew in another output_dir"
        )
    before = files.read_json(path)
    different = [
        f"{key} (was {before.get(key)!r}, is {plan.get(key)!r})"
        for key in sorted(before.keys() | plan.keys())
        if before.get(key) != plan.get(key)
    ]
    if different:
        raise ConfigError(
            f"{folder}: its checkpoints are of another training; what differs: "
            f"{', '.join(different)}. Take that back, or start anew in another output_dir"
        )
