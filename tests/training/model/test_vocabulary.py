"""Growing a model's vocabulary by music tokens."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model
from random_llama import random_llama
from safetensors.numpy import save_file
from transformers import (
    CONFIG_MAPPING,
    AutoModelForCausalLM,
    LlamaForCausalLM,
    PreTrainedModel,
)

from talkplay_hf.errors import ArtifactError, ConfigError
from talkplay_hf.hub import files
from talkplay_hf.tokens.bpe import train_bpe
from talkplay_hf.tokens.build import load_centroids
from talkplay_hf.tokens.config import TalkPlayConfig
from talkplay_hf.tokens.tokenizer import TalkPlayTokenizer
from talkplay_hf.training.model.vocabulary import INITS, check_vocabulary, grow_vocabulary
from talkplay_hf.training.similarity.loss import modality_targets, self_similarity_loss

BASIC = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
}
GPT = {"n_embd": 16, "n_layer": 1, "n_head": 2}
# Gemma scales what it looks up, Phi and GPT-J have a bias in the head, OPT embeds in 8 of 16
# dimensions, Gemma 3 keeps the vocabulary in a text_config
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": BASIC,
    "mistral": BASIC,
    "qwen2": BASIC,
    "gemma": BASIC | {"head_dim": 8},
    "gemma3": {"text_config": BASIC | {"head_dim": 8}},
    "phi": BASIC,
    "gpt2": GPT,
    "gptj": GPT | {"rotary_dim": 4},
    "gpt_neox": BASIC,
    "opt": BASIC | {"ffn_dim": 32, "word_embed_proj_dim": 8},
    "bloom": {"hidden_size": 16, "n_layer": 1, "n_head": 2},
}


def music_tokenizer(
    folder: Path, codes: Sequence[int], dimensions: Sequence[int], *, missing: str = "impute"
) -> TalkPlayTokenizer:
    """A tokenizer with random codebooks that have a few groups, some far from zero."""
    base = train_bpe(["play some slow jazz", "a fast rock song"], vocab_size=300)
    rng = np.random.default_rng(0)
    names = TalkPlayConfig(tuple(codes), "b", 1, "", "").modalities
    books = {}
    for number, (name, k, d) in enumerate(zip(names, codes, dimensions, strict=True)):
        groups = rng.normal(size=(4, d)) + number
        rows = groups[rng.integers(4, size=k - (missing == "reserve"))]
        books[name] = (rows + 0.5 * rng.normal(size=rows.shape)).astype(np.float32)
    save_file(books, folder / files.CODEBOOKS)
    config = TalkPlayConfig(
        codes=tuple(codes),
        base="scratch",
        base_vocab_size=len(base),
        codebook_hash=files.sha256_file(folder / files.CODEBOOKS),
        catalog_hash="0" * 64,
        missing=missing,
    )
    files.write_json(folder / files.TALKPLAY_CONFIG, config.to_dict())
    tokenizer = TalkPlayTokenizer.grow(base, config.music_tokens)
    tokenizer.attach(folder)
    return tokenizer


@pytest.fixture(scope="module")
def grown(tmp_path_factory: pytest.TempPathFactory) -> TalkPlayTokenizer:
    """A tokenizer with the paper's 5,122 new tokens."""
    return music_tokenizer(tmp_path_factory.mktemp("grown"), (1024,) * 5, (6,) * 5)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> TalkPlayTokenizer:
    """16 codes a modality, of which one is reserved; the last centroids have 40 dimensions."""
    dimensions = (4, 6, 8, 8, 40)
    return music_tokenizer(
        tmp_path_factory.mktemp("small"), (16,) * 5, dimensions, missing="reserve"
    )


def llama(rows: int, *, tied: bool, width: int = 8) -> LlamaForCausalLM:
    model = random_llama(rows, hidden_size=width, tie_word_embeddings=tied)
    mix = torch.randn(width, width, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        for seed, matrix in enumerate(matrices(model)):
            noise = torch.randn(rows, width, generator=torch.Generator().manual_seed(seed + 2))
            matrix.copy_(noise @ mix + 5.0 * (seed + 1))
    return model


def covariance(rows: torch.Tensor) -> torch.Tensor:
    return torch.cov(rows.detach().double().T, correction=0)


def relative(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).norm() / b.norm())


def family(name: str, rows: int, *, tied: bool) -> PreTrainedModel:
    """A random tiny model whose matrices have means and covariances of their own."""
    values = dict(FAMILIES[name])
    inside = {"vocab_size": rows, "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}
    if "text_config" in values:
        values["text_config"] = values["text_config"] | inside
    else:
        values |= inside
    torch.manual_seed(0)
    config = CONFIG_MAPPING[name](**values, tie_word_embeddings=tied)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    with torch.no_grad():
        for number, weight in enumerate(matrices(model)):
            mix = torch.randn(weight.shape[1], weight.shape[1])
            weight.copy_(0.02 * (torch.randn(weight.shape) @ mix + 3.0 * (number + 1)))
        bias = getattr(model.get_output_embeddings(), "bias", None)
        if bias is not None:
            bias.copy_(torch.randn(rows) - 4.0)
    return model


def matrices(model: PreTrainedModel) -> list[torch.Tensor]:
    """The embedding and, where it is not tied, the head."""
    embedding, head = model.get_input_embeddings().weight, model.get_output_embeddings().weight
    return [embedding] if head is embedding else [embedding, head]


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("name", FAMILIES)
def test_any_causal_model_grows(name: str, tied: bool, small: TalkPlayTokenizer):
    old = small.config.base_vocab_size
    model = family(name, old, tied=tied)
    ids = torch.tensor([[1, 5, 9, 20]])
    with torch.no_grad():
        logits = model.eval()(input_ids=ids).logits
    before = [weight.detach().clone() for weight in matrices(model)]
    grow_vocabulary(model, small)
    after = [weight.detach() for weight in matrices(model)]
    assert len(after) == len(before) == 2 - tied
    assert model.config.get_text_config().vocab_size == len(small) == len(after[0])
    for now, then in zip(after, before, strict=True):
        assert torch.equal(now[:old], then)
        center, spread = then.mean(dim=0), then.std(dim=0)
        assert bool(((now[old:] - center).abs() < 6 * spread).all())
        assert float(((now[old:] - center) / spread).std()) == pytest.approx(1.0, abs=0.2)
    with torch.no_grad():
        grown_logits = model(input_ids=ids).logits
        assert torch.allclose(grown_logits[..., :old], logits, atol=1e-5)
        assert model(input_ids=torch.tensor([[1, len(small) - 1]])).logits.isfinite().all()


@pytest.mark.parametrize("name", ["phi", "gptj"])
def test_a_bias_of_the_head_grows_with_it(name: str, small: TalkPlayTokenizer):
    old = small.config.base_vocab_size
    for init, expected in (("mean_covariance", -4.0), ("normal", 0.0)):
        model = family(name, old + 9, tied=False)
        before = model.get_output_embeddings().bias.detach()[:old].clone()
        grow_vocabulary(model, small, init=init)
        bias = model.get_output_embeddings().bias.detach()
        assert len(bias) == len(small)
        assert torch.equal(bias[:old], before)
        assert bool((bias[old:] == bias[old]).all())
        assert float(bias[old]) == pytest.approx(expected, abs=0.3)


@settings(max_examples=40, deadline=None)
@given(
    tied=st.booleans(),
    padding=st.integers(0, 200),
    width=st.integers(1, 6),
    init=st.sampled_from(INITS),
    dtype=st.sampled_from([torch.float32, torch.bfloat16, torch.float16]),
    equal=st.booleans(),
    seed=st.integers(0, 9),
)
def test_growth_keeps_its_promises(
    tied: bool,
    padding: int,
    width: int,
    init: str,
    dtype: torch.dtype,
    equal: bool,
    seed: int,
    small: TalkPlayTokenizer,
):
    old = small.config.base_vocab_size
    made = []
    for _ in range(2):
        model = llama(old + padding, tied=tied, width=4 * width).to(dtype)
        model.tie_weights()
        with torch.no_grad():
            for weight in matrices(model):
                weight[old:] = torch.nan  # nobody may look at padding
                if equal:
                    weight[:old] = weight[0].clone()
        before = [weight.detach()[:old].clone() for weight in matrices(model)]
        grow_vocabulary(model, small, init=init, seed=seed)
        check_vocabulary(model, small)
        assert len(matrices(model)) == len(before) == 2 - tied
        for now, then in zip(matrices(model), before, strict=True):
            assert now.dtype == dtype
            assert torch.equal(now[:old], then)
            assert bool(now.isfinite().all())
        made.append([weight.detach() for weight in matrices(model)])
    assert all(torch.equal(a, b) for a, b in zip(*made, strict=True))


def test_untied_heads_are_grown_from_their_own_rows(grown: TalkPlayTokenizer):
    old = grown.config.base_vocab_size
    model = llama(old, tied=False)
    before = [weight.detach().clone() for weight in matrices(model)]
    grow_vocabulary(model, grown)
    for now, then in zip(matrices(model), before, strict=True):
        assert relative(now[old:].detach().mean(dim=0), then.mean(dim=0)) < 0.05
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
    assert relative(new.detach().mean(dim=0), before.mean(dim=0)) < 0.05
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
    assert (
        float(after[old:].detach().abs().max()) < 100
    )  # drawn from the real rows only, none left over


def start_loss(model: PreTrainedModel, tokenizer: TalkPlayTokenizer) -> float:
    weight = model.get_input_embeddings().weight.detach()
    return float(self_similarity_loss(weight, modality_targets(tokenizer)))


def test_normal_rows_do_not_look_at_old_rows(grown: TalkPlayTokenizer):
    old = grown.config.base_vocab_size
    near, far = (llama(old, tied=True) for _ in range(2))
    with torch.no_grad():
        far.get_input_embeddings().weight.mul_(50.0)
    for model in (near, far):
        grow_vocabulary(model, grown, init="normal")
    rows = near.get_input_embeddings().weight.detach()[old:]
    assert torch.equal(rows, far.get_input_embeddings().weight.detach()[old:])
    assert float(rows.std()) == pytest.approx(0.02, rel=0.02)
    assert abs(float(rows.mean())) < 0.001


def test_mean_rows_are_the_mean_of_the_old_rows(grown: TalkPlayTokenizer):
    old = grown.config.base_vocab_size
    model = llama(old, tied=False)
    means = [weight.detach()[:old].double().mean(dim=0) for weight in matrices(model)]
    grow_vocabulary(model, grown, init="mean")
    for weight, mean in zip(matrices(model), means, strict=True):
        assert torch.equal(weight.detach()[old:], mean.float().expand(len(grown) - old, -1))


@pytest.mark.parametrize(("width", "most"), [(40, 1e-5), (8, 0.1)])
def test_centroid_rows_are_as_alike_as_the_centroids(
    width: int, most: float, small: TalkPlayTokenizer
):
    """Width 40 has room for all dimensions of the centroids, width 8 not."""
    old = small.config.base_vocab_size
    losses = {}
    for init in INITS:
        model = llama(old, tied=True, width=width)
        grow_vocabulary(model, small, init=init)
        losses[init] = start_loss(model, small)
    others = min(loss for init, loss in losses.items() if init != "centroids")
    assert losses["centroids"] < most
    assert losses["centroids"] < others / 4


def test_centroid_rows_are_as_long_as_old_rows_and_look_their_way(grown: TalkPlayTokenizer):
    old = grown.config.base_vocab_size
    model = llama(old, tied=False, width=32)
    grow_vocabulary(model, grown, init="centroids")
    for weight in matrices(model):
        rows = weight.detach()
        lengths = rows.norm(dim=1)
        assert float(lengths[old:].mean()) == pytest.approx(float(lengths[:old].mean()), rel=0.05)
        assert float(lengths[old:].std()) == pytest.approx(float(lengths[:old].std()), rel=0.3)
        # the codebooks that are far from zero are turned toward the mean of the old rows
        last = rows[int(grown.code_offsets[-2]) :].mean(dim=0)
        assert float(torch.cosine_similarity(last, rows[:old].mean(dim=0), dim=0)) > 0.9


def test_centroid_rows_come_close_to_the_draw_and_ignore_how_long_centroids_are(tmp_path: Path):
    tokenizer = music_tokenizer(tmp_path, (16,) * 5, (12,) * 5)
    old = tokenizer.config.base_vocab_size
    rows = {}
    for name in ("mean_covariance", "centroids", "scaled"):
        if name == "scaled":
            books = load_centroids(tmp_path / files.CODEBOOKS)
            lengths = np.linspace(0.1, 10, 16, dtype=np.float32)[:, None]
            save_file({key: book * lengths for key, book in books.items()}, tmp_path / "other")
            (tmp_path / "other").replace(tmp_path / files.CODEBOOKS)
        model = llama(old, tied=True)
        grow_vocabulary(model, tokenizer, init="centroids" if name == "scaled" else name)
        rows[name] = model.get_input_embeddings().weight.detach()[old + 2 :]
    assert torch.allclose(rows["centroids"], rows["scaled"], atol=1e-4)
    near = torch.cosine_similarity(rows["centroids"], rows["mean_covariance"], dim=1).mean()
    assert float(near) > 0.7


def test_tokens_without_a_centroid_are_drawn(small: TalkPlayTokenizer):
    old = small.config.base_vocab_size
    rows = {}
    for init in ("centroids", "mean_covariance"):
        model = llama(old, tied=True)
        grow_vocabulary(model, small, init=init, seed=3)
        rows[init] = model.get_input_embeddings().weight.detach()
    missing = [int(offset) + 15 for offset in small.code_offsets[:-1]]
    same = (rows["centroids"] == rows["mean_covariance"]).all(dim=1)
    wanted = [*range(old), small.start_of_music_id, small.end_of_music_id, *missing]
    assert same.nonzero().flatten().tolist() == sorted(wanted)


def test_a_centroid_of_zeros_still_gets_a_row(tmp_path: Path):
    tokenizer = music_tokenizer(tmp_path, (8,) * 5, (4,) * 5)
    save_file(
        {name: np.zeros((8, 4), np.float32) for name in tokenizer.config.modalities},
        tmp_path / files.CODEBOOKS,
    )
    model = llama(tokenizer.config.base_vocab_size, tied=True)
    grow_vocabulary(model, tokenizer, init="centroids")
    assert float(model.get_input_embeddings().weight.detach().norm(dim=1).min()) > 0.1


def test_an_unknown_init_is_refused_by_name(small: TalkPlayTokenizer):
    model = llama(small.config.base_vocab_size, tied=True)
    with pytest.raises(ConfigError, match="init 'xavier': must be one of mean_covariance, mean"):
        grow_vocabulary(model, small, init="xavier")


def test_rows_that_are_not_finite_are_refused(small: TalkPlayTokenizer):
    model = llama(small.config.base_vocab_size, tied=True)
    with torch.no_grad():
        model.get_input_embeddings().weight[7, 1] = torch.inf
    with pytest.raises(ArtifactError, match="not finite"):
        grow_vocabulary(model, small)


def test_a_grown_model_is_left_as_it_is(small: TalkPlayTokenizer, grown: TalkPlayTokenizer):
    model = llama(small.config.base_vocab_size, tied=True)
    grow_vocabulary(model, small)
    before = model.get_input_embeddings().weight.detach().clone()
    grow_vocabulary(model, small, init="normal", seed=5)
    assert torch.equal(model.get_input_embeddings().weight, before)
    with pytest.raises(ArtifactError, match="TalkPlay model of other codebooks"):
        grow_vocabulary(model, grown)


def test_a_model_of_another_vocabulary_is_found_out(grown: TalkPlayTokenizer):
    with pytest.raises(ArtifactError, match=r"tokenizer \d+, embedding \d+, .* disagree|disagree"):
        check_vocabulary(llama(len(grown) - 1, tied=True), grown)


def test_a_model_without_a_head_is_refused(small: TalkPlayTokenizer):
    with pytest.raises(ArtifactError, match="LlamaModel has no output head"):
        check_vocabulary(llama(len(small), tied=True).model, small)


def test_a_tokenizer_with_tokens_behind_its_music_is_refused(tmp_path: Path):
    tokenizer = music_tokenizer(tmp_path, (4,) * 5, (4,) * 5)
    tokenizer.add_tokens(["<late>"])
    with pytest.raises(ArtifactError, match=r"the tokenizer has \d+ tokens, .* says \d+"):
        check_vocabulary(llama(len(tokenizer), tied=True), tokenizer)


@pytest.mark.parametrize("part", ["config", "head", "tie"])
def test_a_model_that_was_changed_after_growth_is_found_out(part: str, small: TalkPlayTokenizer):
    model = llama(small.config.base_vocab_size, tied=part == "tie")
    grow_vocabulary(model, small)
    check_vocabulary(model, small)
    if part == "config":
        model.config.vocab_size += 64
    else:
        rows = len(small) + 64 * (part == "head")
        model.set_output_embeddings(torch.nn.Linear(8, rows, bias=False))
    expected = "no longer tied" if part == "tie" else "numbers of tokens disagree"
    with pytest.raises(ArtifactError, match=expected):
        check_vocabulary(model, small)


@pytest.mark.parametrize("tied", [True, False])
def test_the_check_looks_through_peft(tied: bool, small: TalkPlayTokenizer):
    model = llama(small.config.base_vocab_size, tied=tied)
    grow_vocabulary(model, small)
    kept = ["embed_tokens"] if tied else ["embed_tokens", "lm_head"]
    config = LoraConfig(
        target_modules=["q_proj"], modules_to_save=kept, ensure_weight_tying=tied, r=2
    )
    wrapped = get_peft_model(model, config)
    check_vocabulary(wrapped, small)
    wrapped.config.vocab_size += 1
    with pytest.raises(ArtifactError, match="disagree"):
        check_vocabulary(wrapped, small)
