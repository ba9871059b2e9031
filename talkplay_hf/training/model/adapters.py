"""LoRA that trains the embedding rows too, and its merge into a plain model."""

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from transformers import PreTrainedModel
from trl import ModelConfig, get_peft_config

from talkplay_hf.errors import ArtifactError, ConfigError, MissingExtraError

if TYPE_CHECKING:
    from peft import PeftModel


def add_adapters(model: PreTrainedModel, model_config: ModelConfig) -> "PeftModel":
    """Freeze a model, put low-rank adapters into its layers, and leave its embedding trainable.

    The music tokens are new, so their rows have to be learnt whole: plain LoRA would freeze them as
    they were drawn. The input embedding is trained in full beside the adapters, and so is the
    output head where it is not tied to it.

    Args:
        model (`PreTrainedModel`): The model with the grown vocabulary, in float32; changed in
            place.
        model_config (`ModelConfig`): Its `lora_*` keys.

    Returns:
        `PeftModel`: The model with adapters, for the trainer.

    Raises:
        MissingExtraError: If the package `peft` is absent.
        ConfigError: If the adapters cannot be what the recipe asks for.
    """
    embedding = model.get_input_embeddings()
    if embedding.weight.dtype != torch.float32:
        raise ConfigError(
            f"use_peft: the model is in {str(embedding.weight.dtype).removeprefix('torch.')}, in "
            "which the steps of the trained embedding rows are rounded away; set dtype: float32, "
            "and bf16: true to compute in bfloat16"
        )
    head = model.get_output_embeddings()
    tied = head.weight is embedding.weight
    whole = [_name(model, embedding), _name(model, head)]
    targets = _targets(model, model_config.lora_target_modules, whole)
    try:
        from peft import get_peft_model
    except ImportError:
        raise MissingExtraError("use_peft needs peft: pip install 'talkplay-hf[lora]'") from None
    config = get_peft_config(model_config)
    if config is None:
        raise ConfigError("use_peft is false: there are no adapters to add")
    config.target_modules = targets
    kept = whole[:1] if tied else whole
    config.modules_to_save = sorted({*kept, *(config.modules_to_save or [])})
    config.ensure_weight_tying = tied
    try:
        with warnings.catch_warnings():
            # PEFT asks transformers by an old name, which no user can help
            warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing")
            adapted: PeftModel = get_peft_model(model, config)
    except ValueError as error:
        if targets is None and "target_modules" in str(error):
            raise ConfigError(
                "use_peft: PEFT does not know which layers to adapt in a model of the kind "
                f"{model.config.model_type!r}; set lora_target_modules: all-linear, or name layers"
            ) from None
        raise ConfigError(f"use_peft: {' '.join(str(error).split())}") from None
    # with the name PEFT would ask the Hub for the base at every save, see that the vocabulary has
    # grown, and put the frozen embedding into the checkpoint beside the trained one
    config.base_model_name_or_path = ""
    if tied and not _is_tied(adapted):
        raise ConfigError(
            f"use_peft: the output head does not stay tied to {whole[0]!r} in this kind of model; "
            "train it without use_peft"
        )
    return adapted


def merge_adapters(model: "PeftModel") -> PreTrainedModel:
    """Merge adapters and trained embedding rows into the weights.

    Args:
        model (`PeftModel`): What `add_adapters` returned, trained; used up.

    Returns:
        `PreTrainedModel`: A plain model with the same logits, saved like any other.

    Raises:
        ArtifactError: If weights that were tied are no longer.
    """
    tied = _is_tied(model)
    plain: PreTrainedModel = model.merge_and_unload()
    # only the trained weights had gradients
    plain.requires_grad_(True)
    if tied and not _is_tied(plain):
        raise ArtifactError("merging the adapters has untied the output head from the embedding")
    return plain


def _targets(
    model: PreTrainedModel, asked: Sequence[str] | str | None, whole: Sequence[str]
) -> list[str] | str | None:
    """The layers to adapt, as PEFT takes them; `None` for its own choice."""
    if asked is None or asked == "all-linear":
        return asked
    # TRL makes a string of a list of one, which PEFT would take for a regular expression
    targets = [asked] if isinstance(asked, str) else list(asked)
    known = {part for name, _ in model.named_modules() for part in name.split(".")}
    for target in targets:
        last = target.rpartition(".")[2]
        if last in whole:
            raise ConfigError(
                f"lora_target_modules: {target} is trained whole, or is tied to what is; name "
                "layers such as q_proj, or all-linear"
            )
        # PEFT passes over a layer that it does not find, if it finds another
        if last not in known:
            raise ConfigError(f"lora_target_modules: the model has no layer {target}")
    return targets


def _is_tied(model: "PreTrainedModel | PeftModel") -> bool:
    head, embedding = model.get_output_embeddings(), model.get_input_embeddings()
    return bool(head.weight.data_ptr() == embedding.weight.data_ptr())


def _name(model: PreTrainedModel, module: torch.nn.Module) -> str:
    """The last part of a module's name, by which PEFT finds it."""
    found: str = next(name for name, one in model.named_modules() if one is module)
    return found.rpartition(".")[2]
