"""Growing a model's vocabulary by music tokens."""

from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from talkplay_hf.errors import ArtifactError
from talkplay_hf.hub import files
from talkplay_hf.tokens.bpe import train_bpe
from talkplay_hf.tokens.config import TalkPlayConfig
from talkplay_hf.tokens.tokenizer import TalkPlayTokenizer
from talkplay_hf.training.vocabulary import check_vocabulary, grow_vocabulary, scratch_model


@pytest.fixture(scope="module")
def grown(tmp_path_factory: pytest.TempPathFactory) -> TalkPlayTokenizer:
    """A tokenizer with the paper's 5,122 new tokens."""
    folder = tmp_path_factory.mktemp("grown")
    base = train_bpe(["play some slow jazz", "a fast rock song"], vocab_size=300)
    config = TalkPlayConfig(
        codes=(1024,) * 5,
        base="scratch",
        base_vocab_size=len(base),
        codebook_hash="0" * 64,
        catalog_hash="0" * 64,
    )
    files.write_json(folder / files.TALKPLAY_CONFIG, config.to_dict())
    tokenizer = TalkPlayTokenizer.grow(base, config.music_tokens)
    tokenizer.attach(folder)
    return tokenizer


def llama(rows: int, *, tied: bool, width: int = 8) -> LlamaForCausalLM:
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=rows,
            hidden_size=width,
            intermediate_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            num_key_value_heads=2,
            tie_word_embeddings=tied,
        )
    )
    mix = torch.randn(width, width, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        for seed, matrix in enumerate(
            [model.get_input_embeddings().weight, model.get_output_embeddings().weight][: 2 - tied]
        ):
            noise = torch.randn(rows, width, generator=torch.Generator().manual_seed(seed + 2))
            matrix.copy_(noise @ mix + 5.0 * (seed + 1))
    return model


def covariance(rows: torch.Tensor) -> torch.Tensor:
    return torch.cov(rows.detach().double().T, correction=0)


def relative(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).norm() / b.norm())


def test_old_rows_stay_and_tied_stays_tied(grown: TalkPlayTokenizer):
    old = grown.config.base_vocab_size
    model = llama(old, tied=True)
    before = model.get_input_embeddings().weight.detach().clone()
    grow_vocabulary(model, grown)
    after = model.get_input_embeddings().weight
    assert torch.equal(after[:old], before)
    assert model.get_output_embeddings().weight is after
    assert len(grown) == len(after) == model.config.vocab_size == old + 5122


def test_untied_heads_are_grown_from_their_own_rows(grown: TalkPlayTokenizer):
    old = grown.config.base_vocab_size
    model = llama(old, tied=False)
    matrices = [m.weight for m in (model.get_input_embeddings(), model.get_output_embeddings())]
    before = [matrix.detach().clone() for matrix in matrices]
    grow_vocabulary(model, grown)
    after = [m.weight for m in (model.get_input_embeddings(), model.get_output_embeddings())]
    assert after[0].data_ptr() != after[1].data_ptr()
    for now, then in zip(after, before, strict=True):
        assert len(now) == len(grown)
        assert torch.equal(now[:old], then)
        assert relative(now[old:].mean(dim=0), then.mean(dim=0)) < 0.05
        assert relative(covariance(now[old:]), covariance(then)) < 0.08


@pytest.mark.parametrize("cov_scale", [1.0, 0.01])
def test_new_rows_have_mean_and_scaled_covariance_of_the_old(
    cov_scale: float, grown: TalkPlayTokenizer
):
    old = grown.config.base_vocab_size
    model = llama(old, tied=True)
    before = model.get_input_embeddings().weight.detach().clone()
    grow_vocabulary(model, grown, cov_scale=cov_scale)
    new = model.get_input_embeddings().weight[old:]
    assert relative(new.mean(dim=0), before.mean(dim=0)) < 0.05
    assert relative(covariance(new), cov_scale * covariance(before)) < 0.08


def test_no_covariance_gives_the_mean(grown: TalkPlayTokenizer):
    old = grown.config.base_vocab_size
    model = llama(old, tied=True)
    mean = model.get_input_embeddings().weight.detach().mean(dim=0)
    grow_vocabulary(model, grown, cov_scale=0.0)
    new = model.get_input_embeddings().weight[old:]
    assert torch.allclose(new, mean.expand_as(new), atol=1e-5)


def test_the_seed_decides_the_rows(grown: TalkPlayTokenizer):
    made = []
    for seed in (0, 0, 1):
        model = llama(grown.config.base_vocab_size, tied=True)
        grow_vocabulary(model, grown, seed=seed)
        made.append(model.get_input_embeddings().weight.detach())
    assert torch.equal(made[0], made[1])
    assert not torch.equal(made[0], made[2])


def test_fewer_rows_than_the_base_tokenizer_are_refused(grown: TalkPlayTokenizer):
    with pytest.raises(ArtifactError, match="do not belong together"):
        grow_vocabulary(llama(grown.config.base_vocab_size - 1, tied=True), grown)


@pytest.mark.parametrize("more", [24, 6000])
def test_padding_rows_of_the_base_become_music_rows(more: int, grown: TalkPlayTokenizer):
    old = grown.config.base_vocab_size
    model = llama(old + more, tied=True)
    with torch.no_grad():
        model.get_input_embeddings().weight[old:] = 1000.0
    before = model.get_input_embeddings().weight.detach()[:old].clone()
    grow_vocabulary(model, grown)
    after = model.get_input_embeddings().weight
    assert len(after) == len(grown) == model.config.vocab_size
    assert torch.equal(after[:old], before)
    assert float(after[old:].abs().max()) < 100  # drawn from the real rows only, none left over


def test_the_scratch_model_has_the_base_vocabulary_and_does_not_touch_the_global_seed(
    grown: TalkPlayTokenizer,
):
    state = torch.random.get_rng_state()
    model = scratch_model(grown, hidden_size=32, layers=2, heads=2, seed=4)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert model.config.vocab_size == grown.config.base_vocab_size
    assert len(model.model.layers) == 2
    same = scratch_model(grown, hidden_size=32, layers=2, heads=2, seed=4)
    assert all(
        torch.equal(a, b) for a, b in zip(model.parameters(), same.parameters(), strict=True)
    )


def test_a_model_of_another_vocabulary_is_found_out(grown: TalkPlayTokenizer, tmp_path: Path):
    model = llama(len(grown) - 1, tied=True)
    with pytest.raises(ArtifactError, match="disagree"):
        check_vocabulary(model, grown)
