"""Loading a model with its tokenizer and catalogue, and checking that they belong together."""

import logging
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

from talkplay_hf.catalog.schema import Catalog
from talkplay_hf.errors import ArtifactError, InputError, first_line
from talkplay_hf.hub import files
from talkplay_hf.hub.weights import WEIGHTS
from talkplay_hf.recommend.decoding.tree import why_unsupported
from talkplay_hf.recommend.lookup import WeightedLookup
from talkplay_hf.recommend.model_folder import CONFIG, check_config, reading
from talkplay_hf.tokens.build import read_fitting_catalog
from talkplay_hf.tokens.index import CatalogIndex
from talkplay_hf.tokens.tokenizer import TalkPlayTokenizer

logger = logging.getLogger(__name__)


def check_options(device: str | None, int8: bool, kwargs: Mapping[str, Any]) -> None:
    """Check what was asked for before anything is fetched or read.

    Raises:
        InputError: If the device cannot be used, `int8` is asked for on another one than a CPU, or
            code or pickles that come with a model are to be run.
    """
    if int8 and str(device or "cpu") != "cpu":
        raise InputError(f"int8 runs on a CPU, not on {str(device)!r}")
    try:
        torch.empty(0, device=device)
    except Exception as error:  # of any kind, by what torch was built for
        raise InputError(f"device {device!r}: cannot be used ({first_line(error)})") from None
    if kwargs.get("trust_remote_code"):
        raise InputError("trust_remote_code: code that comes with a model is never run")
    for name in ("subfolder", "use_safetensors", "output_loading_info"):
        if name in kwargs:
            raise InputError(f"{name}: cannot be given here")


def load_model(
    folder: Path, device: str | None, int8: bool, *, tokenizer: TalkPlayTokenizer, **kwargs: Any
) -> PreTrainedModel:
    """Load the weights of a model folder.

    Args:
        folder (`Path`): The folder, its files checked.
        device (`str`, *optional*): Where to run; a GPU where there is one and `int8` is off.
        int8 (`bool`): Run the linear layers on 8-bit integers.
        tokenizer (`TalkPlayTokenizer`): The tokenizer that the weights must have rows for.
        kwargs: Passed to `AutoModelForCausalLM.from_pretrained`.

    Raises:
        ArtifactError: If they cannot be loaded; if one is missing and would start as random
            numbers, or if one is there that the model has no place for.
    """
    check_config(folder, tokenizer)
    with reading(folder, "the model"):
        model, info = AutoModelForCausalLM.from_pretrained(
            folder,
            use_safetensors=True,
            local_files_only=True,
            output_loading_info=True,
            **(kwargs | {"trust_remote_code": False}),
        )
    for what in ("missing", "mismatched", "unexpected"):
        found = sorted(map(str, info[f"{what}_keys"]))
        if found:
            raise ArtifactError(
                f"{folder / WEIGHTS}: the weights are not those of {CONFIG}: {found[0]} and "
                f"{len(found) - 1} more are {what}"
            )
    if int8:
        return in_int8(model)
    if "device_map" in kwargs:
        return cast(PreTrainedModel, model)
    if device is None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
    return cast(PreTrainedModel, model.to(device))


def in_int8(model: PreTrainedModel) -> PreTrainedModel:
    """A copy of a model whose linear layers keep and multiply 8-bit integers, for CPUs."""
    with warnings.catch_warnings():
        # the successor of this part of torch is another package
        warnings.filterwarnings("ignore", r"\s*torch\.ao\.quantization is deprecated")
        warnings.filterwarnings("ignore", r"torch\.quantize_per_tensor")
        quantized: PreTrainedModel = torch.ao.quantization.quantize_dynamic(  # type: ignore[no-untyped-call]
            model.float(), {torch.nn.Linear}, dtype=torch.qint8
        )
    return quantized


def load_tokenizer(name: str | Path, **kwargs: Any) -> TalkPlayTokenizer:
    """Load a tokenizer with its codebooks and catalogue, from a folder or the Hub.

    Args:
        name (`str` or `Path`): The folder, or a Hub id.
        kwargs: Passed to `TalkPlayTokenizer.from_pretrained`.

    Raises:
        ArtifactError: If it cannot be loaded.
        InputError: If it is no folder and cannot be the name of a repository.
    """
    with reading(Path(name), "the tokenizer"):
        tokenizer: TalkPlayTokenizer = TalkPlayTokenizer.from_pretrained(str(name), **kwargs)
    return tokenizer


def check_belonging(model: PreTrainedModel, tokenizer: TalkPlayTokenizer) -> None:
    """Check that a model has the vocabulary and the codebooks of a tokenizer.

    Raises:
        ArtifactError: If not, or if the tokenizer is a plain one.
    """
    if not isinstance(tokenizer, TalkPlayTokenizer):
        raise ArtifactError(
            f"a {type(tokenizer).__name__} knows no codebooks and no catalogue: load the tokenizer "
            "with TalkPlayTokenizer.from_pretrained"
        )
    if model.config.vocab_size < len(tokenizer):
        raise ArtifactError(
            f"the model has {model.config.vocab_size} tokens, the tokenizer {len(tokenizer)}: "
            "they do not belong together"
        )
    trained_with = getattr(model.config, "talkplay_codebook_hash", None)
    wanted = tokenizer.config.codebook_hash
    if trained_with not in (None, wanted):
        raise ArtifactError(
            f"{tokenizer.side_file('talkplay_config_file')}: the model was trained with the "
            f"codebooks {trained_with!s:.12}…, the tokenizer has {wanted!s:.12}…: they do not "
            "belong together"
        )
    path = tokenizer.side_file("codebooks_file")
    found = files.sha256_file(path)
    if found != wanted:
        raise ArtifactError(
            f"{path}: ({found:.12}…) is not the file that {files.TALKPLAY_CONFIG} names "
            f"({wanted!s:.12}…)"
        )
    reason = why_unsupported(model)
    if reason is not None:
        logger.warning("the block decoder is not used, slower ways are: %s", reason)


def token_catalog(
    tokenizer: TalkPlayTokenizer, device: torch.device
) -> tuple[Catalog, np.ndarray, CatalogIndex]:
    """The tracks, their codes and the index over them.

    The index is read from its file; it is made anew where there is none, where it is damaged, or
    where the catalogue is another one than it was made from.

    Raises:
        ArtifactError: If the catalogue is damaged or does not fit the codebooks.
    """
    file = tokenizer.side_file("token_catalog_file")
    sizes = tokenizer.config.codes
    catalog, codes = read_fitting_catalog(file, sizes)
    path = tokenizer.init_kwargs.get("catalog_index_file")
    index = None
    if path and Path(path).exists():
        try:
            index = CatalogIndex.load(path)
        except ArtifactError as error:
            logger.warning("the catalogue index is made anew: %s", error)
    if index is None or not index.fits(codes) or index.sizes != tuple(sizes):
        index = CatalogIndex(codes, sizes)
    return catalog, codes, index.to(device)


def token_lookup(
    tokenizer: TalkPlayTokenizer, codes: np.ndarray, index: CatalogIndex
) -> WeightedLookup:
    """The lookup with the weights and the missing codes of a tokenizer (paper 4.4)."""
    config = tokenizer.config
    missing = [config.missing_code(m) for m in range(len(config.codes))]
    return WeightedLookup(codes, config.codes, config.lookup_weights, missing, index=index)
