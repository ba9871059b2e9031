"""Growing a language model's vocabulary by music tokens (paper 4.2, 4.3)."""

import math

import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel

from talkplay_hf.errors import ArtifactError
from talkplay_hf.tokens.tokenizer import TalkPlayTokenizer


def scratch_model(
    tokenizer: TalkPlayTokenizer, *, hidden_size: int, layers: int, heads: int, seed: int
) -> LlamaForCausalLM:
    """A small Llama with random weights and the vocabulary that the tokenizer had before growth.

    Args:
        tokenizer (`TalkPlayTokenizer`): The grown tokenizer.
        hidden_size (`int`): Width.
        layers (`int`): Number of layers.
        heads (`int`): Attention heads; must divide the width.
        seed (`int`): Seed of the weights.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LlamaForCausalLM(
            LlamaConfig(
                vocab_size=tokenizer.config.base_vocab_size,
                hidden_size=hidden_size,
                intermediate_size=int(8 * hidden_size / 3 / 32) * 32,
                num_hidden_layers=layers,
                num_attention_heads=heads,
                num_key_value_heads=heads,
                max_position_embeddings=2048,
                tie_word_embeddings=True,
                bos_token_id=tokenizer.bos_token_id,
                eos_token_id=tokenizer.eos_token_id,
                pad_token_id=tokenizer.pad_token_id,
            )
        )


def grow_vocabulary(
    model: PreTrainedModel, tokenizer: TalkPlayTokenizer, *, cov_scale: float = 1.0, seed: int = 0
) -> None:
    """Resize the embeddings to the tokenizer and draw the new rows from the old rows' distribution.

    New rows are samples of a normal with the mean of the old rows and `cov_scale` times their
    covariance (Hewitt 2021, as the paper cites). The paper does not state the scale;
    `resize_token_embeddings(mean_resizing=True)` uses 1e-9, which makes all new rows equal. Tied
    weights stay tied and old rows are untouched.

    Args:
        model (`PreTrainedModel`): The base model; changed in place.
        tokenizer (`TalkPlayTokenizer`): The grown tokenizer.
        cov_scale (`float`): Factor on the covariance.
        seed (`int`): Seed of the draw.

    Raises:
        ArtifactError: If the model has fewer rows than the base vocabulary.
    """
    old = tokenizer.config.base_vocab_size
    rows = model.get_input_embeddings().weight.shape[0]
    if rows < old:
        raise ArtifactError(
            f"the base model has {rows} embedding rows, the tokenizer grew from {old} tokens: they "
            "do not belong together"
        )
    model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    weights = [model.get_input_embeddings().weight]
    head = model.get_output_embeddings()
    if head is not None and head.weight.data_ptr() != weights[0].data_ptr():
        weights.append(head.weight)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in weights:
            new = _sample_like(
                weight[:old].float().cpu(), len(tokenizer) - old, cov_scale, generator
            )
            weight[old:] = new.to(weight)
    check_vocabulary(model, tokenizer)


def _sample_like(
    rows: torch.Tensor, count: int, cov_scale: float, generator: torch.Generator
) -> torch.Tensor:
    mean = rows.mean(dim=0)
    centered = (rows - mean).double()
    covariance = centered.T @ centered / len(rows)
    jitter = 1e-6 * covariance.diagonal().mean() * torch.eye(len(mean), dtype=torch.float64)
    factor = torch.linalg.cholesky(covariance + jitter)
    noise = torch.randn(count, len(mean), generator=generator, dtype=torch.float64)
    return torch.add(mean, (noise @ factor.T).float(), alpha=math.sqrt(cov_scale))


def check_vocabulary(model: PreTrainedModel, tokenizer: TalkPlayTokenizer) -> None:
    """Check that tokenizer, embedding rows and `config.vocab_size` agree, and that ties hold.

    Raises:
        ArtifactError: If they do not.
    """
    rows = model.get_input_embeddings().weight.shape[0]
    if not len(tokenizer) == rows == model.config.vocab_size:
        raise ArtifactError(
            f"tokenizer ({len(tokenizer)} tokens), embedding ({rows} rows) and config.vocab_size "
            f"({model.config.vocab_size}) disagree: the model was made with another tokenizer"
        )
    head = model.get_output_embeddings()
    tied = getattr(model.config, "tie_word_embeddings", False)
    if tied and head.weight.data_ptr() != model.get_input_embeddings().weight.data_ptr():
        raise ArtifactError("the output head is no longer tied to the input embedding")
