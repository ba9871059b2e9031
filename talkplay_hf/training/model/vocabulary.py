"""Growing a language model's vocabulary by music tokens (paper 4.2, 4.3)."""

import math
from collections.abc import Mapping

import numpy as np
import torch
from torch.nn.functional import normalize
from transformers import PreTrainedModel

from talkplay_hf.errors import ArtifactError, ConfigError
from talkplay_hf.hub import files
from talkplay_hf.tokens.build import load_centroids
from talkplay_hf.tokens.tokenizer import TalkPlayTokenizer
from talkplay_hf.training.model.base import already_grown, check_rows

INITS = ("mean_covariance", "mean", "normal", "centroids")
NORMAL_STD = 0.02
# rows at a time in float64, so that a large embedding is never held twice
CHUNK = 8192


def grow_vocabulary(
    model: PreTrainedModel,
    tokenizer: TalkPlayTokenizer,
    *,
    init: str = "mean_covariance",
    cov_scale: float = 1.0,
    seed: int = 0,
) -> None:
    """Resize the embeddings to the tokenizer and fill the new rows.

    How new rows start, by `init`:

    - `"mean_covariance"`: samples of a normal with the mean of the old rows and `cov_scale` times
      their covariance (Hewitt 2021, as the paper cites). The paper does not state the scale;
      `resize_token_embeddings(mean_resizing=True)` uses 1e-9, which makes all new rows equal.
    - `"mean"`: the mean of the old rows, all new rows equal.
    - `"normal"`: N(0, 0.02), whatever the old rows are.
    - `"centroids"`: within a modality, the cosine similarities of the codebook centroids. Unit
      centroids are mapped into embedding space by the orthonormal map that brings them closest to
      a `"mean_covariance"` draw (orthogonal Procrustes), and each row gets the length of its draw,
      so that lengths are those of old rows. The mean of the old rows is not added, which would
      push all cosines toward 1; but the map is free to turn what centroids have in common toward
      it. Centroids of more dimensions than the embedding keep their principal directions. Tokens
      without a centroid keep the draw.

    An output head that is not tied is filled in the same way from its own old rows; a bias of the
    head becomes its old mean, or 0 with `"normal"`. Tied weights stay tied, old rows are untouched,
    and rows of a padded vocabulary that no token uses become music rows or vanish. A model that was
    grown with the same codebooks before is left as it is.

    Args:
        model (`PreTrainedModel`): The base model; changed in place. Its config records the
            codebooks as `talkplay_codebook_hash`.
        tokenizer (`TalkPlayTokenizer`): The grown tokenizer.
        init (`str`): One of `INITS`.
        cov_scale (`float`): Factor on the covariance, with `"mean_covariance"`.
        seed (`int`): Seed of the draw.

    Raises:
        ConfigError: If `init` is not known.
        ArtifactError: If the model has fewer rows than the base vocabulary, was grown with other
            codebooks, or has rows that are not finite.
    """
    if init not in INITS:
        raise ConfigError(f"init {init!r}: must be one of {', '.join(INITS)}")
    if not already_grown(model.config, tokenizer):
        old = tokenizer.config.base_vocab_size
        check_rows(_rows(model.get_input_embeddings().weight), tokenizer)
        centroids = _centroids(tokenizer) if init == "centroids" else {}
        model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
        embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
        generator = torch.Generator().manual_seed(seed)
        for weight in [embedding.weight] + [head.weight] * (head.weight is not embedding.weight):
            _fill(weight.data, old, init, cov_scale, centroids, generator)
        if getattr(head, "bias", None) is not None:
            head.bias.data[old:] = 0.0 if init == "normal" else head.bias.data[:old].mean()
        model.config.talkplay_codebook_hash = tokenizer.config.codebook_hash
    check_vocabulary(model, tokenizer)


def _centroids(tokenizer: TalkPlayTokenizer) -> dict[int, np.ndarray]:
    """Centroids `[clusters, d]` by the id of a modality's code 0."""
    by_name = load_centroids(tokenizer.side_file("codebooks_file"))
    offsets = tokenizer.code_offsets.tolist()
    return {
        offsets[number]: by_name[name] for number, name in enumerate(tokenizer.config.modalities)
    }


def _fill(
    weight: torch.Tensor,
    old: int,
    init: str,
    cov_scale: float,
    centroids: Mapping[int, np.ndarray],
    generator: torch.Generator,
) -> None:
    """Fill the rows of `weight` from `old` on."""
    shape = (len(weight) - old, weight.shape[1])
    noise = torch.randn(shape, generator=generator, dtype=torch.float64)
    if init == "normal":
        weight[old:] = (NORMAL_STD * noise).to(weight)
        return
    mean = _mean(weight[:old])
    if not bool(mean.isfinite().all()):
        raise ArtifactError("the base model has embedding rows that are not finite")
    if init == "mean":
        weight[old:] = mean.to(weight)
        return
    scale = 1.0 if init == "centroids" else cov_scale
    covariance = _covariance(weight[:old], mean)
    # the smallest number keeps the factor of rows that are all equal defined
    jitter = 1e-6 * covariance.diagonal().mean() + torch.finfo(torch.float32).tiny
    factor = torch.linalg.cholesky(covariance + jitter * torch.eye(len(mean), dtype=mean.dtype))
    drawn = mean + math.sqrt(scale) * (noise @ factor.T)
    for start, vectors in centroids.items():
        rows = slice(start - old, start - old + len(vectors))
        drawn[rows] = _like_centroids(torch.from_numpy(vectors).double(), drawn[rows])
    weight[old:] = drawn.to(weight)


def _mean(rows: torch.Tensor) -> torch.Tensor:
    """Mean `[d]` of `[n, d]`, float64 on the CPU."""
    return torch.stack([c.cpu().double().sum(dim=0) for c in torch.split(rows, CHUNK)]).sum(
        0
    ) / len(rows)


def _covariance(rows: torch.Tensor, mean: torch.Tensor) -> torch.Tensor:
    """Covariance `[d, d]` of `[n, d]`, float64 on the CPU."""
    covariance = torch.zeros(len(mean), len(mean), dtype=torch.float64)
    for chunk in torch.split(rows, CHUNK):
        centred = chunk.cpu().double() - mean
        covariance.addmm_(centred.T, centred)
    return covariance / len(rows)


def _like_centroids(centroids: torch.Tensor, drawn: torch.Tensor) -> torch.Tensor:
    """Rows with the cosine similarities of the centroids and the lengths of the drawn rows.

    Args:
        centroids (`torch.Tensor` of shape `[k, d_c]`, float64): The centroids.
        drawn (`torch.Tensor` of shape `[k, d]`, float64): Rows to come close to.
    """
    left, values, _ = torch.linalg.svd(normalize(centroids), full_matrices=False)
    rank = min(len(values), drawn.shape[1])
    coordinates = left[:, :rank] * values[:rank]
    left, _, right = torch.linalg.svd(coordinates.T @ drawn, full_matrices=False)
    directions = coordinates @ (left @ right)
    placed = normalize(directions) * drawn.norm(dim=1, keepdim=True)
    # a centroid of zeros has no direction
    return torch.where(directions.norm(dim=1, keepdim=True) > 1e-6, placed, drawn)


def check_vocabulary(model: PreTrainedModel, tokenizer: TalkPlayTokenizer) -> None:
    """Check that tokenizer, embedding, head and `config.vocab_size` agree, and that ties hold.

    A model inside PEFT is looked through; one inside DDP or FSDP must be unwrapped first.

    Raises:
        ArtifactError: If they do not.
    """
    wanted = tokenizer.config.base_vocab_size + len(tokenizer.config.music_tokens)
    if not wanted == len(tokenizer) == int(tokenizer.code_offsets[-1]):
        raise ArtifactError(
            f"the tokenizer has {len(tokenizer)} tokens, its {files.TALKPLAY_CONFIG} says {wanted} "
            "with the music tokens last: the folder is damaged"
        )
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    if head is None:
        raise ArtifactError(f"{type(model).__name__} has no output head to learn music tokens with")
    counts = {
        "tokenizer": len(tokenizer),
        "embedding": _rows(embedding.weight),
        "output head": _rows(head.weight),
        "config.vocab_size": model.config.get_text_config().vocab_size,
    }
    if len(set(counts.values())) > 1:
        found = ", ".join(f"{name} {count}" for name, count in counts.items())
        raise ArtifactError(
            f"the numbers of tokens disagree ({found}): the model was made with another tokenizer"
        )
    tied = getattr(model.config, "tie_word_embeddings", False)
    if tied and head.weight is not embedding.weight:
        raise ArtifactError("the output head is no longer tied to the input embedding")


def _rows(weight: torch.Tensor) -> int:
    # DeepSpeed ZeRO-3 leaves an empty tensor and notes the true shape
    shape: torch.Size = getattr(weight, "ds_shape", weight.shape)
    return shape[0]
