"""Loading a model with its tokenizer and catalogue, and checking that they belong together."""

import logging
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, PreTrainedModel

from talkplay_hf.catalog.schema import Catalog
from talkplay_hf.errors import ArtifactError, InputError, first_line
from talkplay_hf.hub import files
from talkplay_hf.recommend.decoding.tree import why_unsupported
from talkplay_hf.recommend.lookup import WeightedLookup
from talkplay_hf.tokens.build import read_token_catalog
from talkplay_hf.tokens.index import CatalogIndex
from talkplay_hf.tokens.tokenizer import TalkPlayTokenizer

logger = logging.getLogger(__name__)


def load_model(
    name: str, device: str | None, int8: bool, **kwargs: Any
) -> tuple[PreTrainedModel, TalkPlayTokenizer]:
    """Load weights and tokenizer of a model folder or Hub repository.

    Args:
        name (`str`): A folder, or a Hub id.
        device (`str`, *optional*): Where to run; a GPU where there is one and `int8` is off.
        int8 (`bool`): Run the linear layers on 8-bit integers.
        kwargs: Passed to both `from_pretrained` calls.

    Raises:
        ArtifactError: If it cannot be loaded.
        InputError: If `int8` is asked for on another device than a CPU.
    """
    if int8 and device not in (None, "cpu"):
        raise InputError(f"int8 runs on a CPU, not on {device!r}")
    try:
        tokenizer = TalkPlayTokenizer.from_pretrained(name, **kwargs)
        model = AutoModelForCausalLM.from_pretrained(name, **kwargs)
    except (OSError, ValueError, SafetensorError) as error:
        first = first_line(error)
        raise ArtifactError(f"the model {name!r} cannot be loaded: {first}") from None
    if int8:
        return in_int8(model), tokenizer
    if device is None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
    return model.to(device), tokenizer


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
    if trained_with not in (None, tokenizer.config.codebook_hash):
        raise ArtifactError(
            f"the model was trained with the codebooks {trained_with[:12]}…, the tokenizer has "
            f"{tokenizer.config.codebook_hash[:12]}…: they do not belong together"
        )
    found = files.sha256_file(tokenizer.side_file("codebooks_file"))
    if found != tokenizer.config.codebook_hash:
        raise ArtifactError(
            f"{files.CODEBOOKS} ({found[:12]}…) is not the file that {files.TALKPLAY_CONFIG} "
            f"names ({tokenizer.config.codebook_hash[:12]}…)"
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
    catalog, codes = read_token_catalog(tokenizer.side_file("token_catalog_file"))
    sizes = tokenizer.config.codes
    if codes.shape[1] != len(sizes):
        raise ArtifactError(f"catalog.parquet has {codes.shape[1]} codes a track, not {len(sizes)}")
    if ((codes < 0) | (codes >= np.asarray(sizes))).any():
        raise ArtifactError("catalog.parquet has codes beyond the codebooks")
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
