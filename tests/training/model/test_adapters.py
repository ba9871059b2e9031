"""LoRA with trained embedding rows, and its merge into a plain model."""

import copy
import sys
from pathlib import Path

import pytest
import torch
from datasets import Dataset
from random_llama import random_llama
from safetensors.torch import load_file
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaForCausalLM,
    OlmoConfig,
    OlmoForCausalLM,
)
from trl import ModelConfig, SFTConfig, SFTTrainer

from talkplay_hf.errors import ConfigError, MissingExtraError
from talkplay_hf.tokens.build import read_token_catalog
from talkplay_hf.tokens.tokenizer import TalkPlayTokenizer
from talkplay_hf.training.model.adapters import add_adapters, merge_adapters
from talkplay_hf.training.model.vocabulary import check_vocabulary, grow_vocabulary
from talkplay_hf.training.similarity.callback import SelfSimilarityCallback


def lora(**overrides: object) -> ModelConfig:
    return ModelConfig(use_peft=True, lora_r=4, lora_dropout=0.0, **overrides)


def ungrown(tokenizer: TalkPlayTokenizer, *, tied: bool) -> LlamaForCausalLM:
    """A tiny random Llama with the vocabulary from before."""
    options = {"num_hidden_layers": 2, "tie_word_embeddings": tied}
    return random_llama(tokenizer.config.base_vocab_size, **options)


def grown(tokenizer: TalkPlayTokenizer, *, tied: bool) -> LlamaForCausalLM:
    model = ungrown(tokenizer, tied=tied)
    grow_vocabulary(model, tokenizer)
    return model


def rows(tokenizer: TalkPlayTokenizer) -> Dataset:
    """Two music blocks a row, all of it labels."""
    _, codes = read_token_catalog(tokenizer.side_file("token_catalog_file"))
    ids = [
        tokenizer.block_ids(a) + tokenizer.block_ids(b)
        for a, b in zip(codes[:-1].tolist(), codes[1:].tolist(), strict=True)
    ]
    return Dataset.from_dict({"input_ids": ids, "labels": ids})


def trained(
    model: torch.nn.Module,
    tokenizer: TalkPlayTokenizer,
    out: Path,
    *,
    weight: float = 0.1,
    save: str = "no",
    **more,
) -> SFTTrainer:
    """Three steps of the stock trainer."""
    settings = {
        "max_steps": 3,
        "per_device_train_batch_size": 8,
        "learning_rate": 1e-2,
        "activation_checkpointing": False,
        "dataset_kwargs": {"skip_prepare_dataset": True},
        **more,
    }
    trainer = SFTTrainer(
        model=model,
        args=SFTConfig(
            output_dir=str(out),
            bf16=False,
            use_cpu=True,
            report_to="none",
            save_strategy=save,
            logging_steps=1,
            disable_tqdm=True,
            **settings,
        ),
        train_dataset=rows(tokenizer),
        processing_class=tokenizer,
    )
    SelfSimilarityCallback(tokenizer, weight).install(trainer)
    trainer.train()
    return trainer


@pytest.mark.parametrize("tied", [True, False])
def test_training_moves_music_rows_and_adapters_and_leaves_old_layers_alone(
    tied: bool, tokenizer: TalkPlayTokenizer, tmp_path: Path
):
    model = add_adapters(grown(tokenizer, tied=tied), lora())
    before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    free = {name for name, weight in model.named_parameters() if weight.requires_grad}
    assert all("lora_" in name or "modules_to_save" in name for name in free)
    assert sum("modules_to_save" in name for name in free) == (1 if tied else 2)
    trained(model, tokenizer, tmp_path)
    after = dict(model.named_parameters())
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved == free
    embedding = next(name for name in free if "embed_tokens" in name)
    first = tokenizer.config.base_vocab_size
    seen = torch.tensor(rows(tokenizer)["input_ids"]).unique()
    change = (after[embedding] - before[embedding]).detach().abs().amax(dim=1)
    assert int(seen.min()) >= first
    assert float(change[seen].min()) > 1e-4


@pytest.mark.parametrize("tied", [True, False])
def test_merging_gives_a_plain_model_with_the_same_logits(
    tied: bool, tokenizer: TalkPlayTokenizer, tmp_path: Path
):
    base = grown(tokenizer, tied=tied)
    start = copy.deepcopy(base)
    model = trained(add_adapters(base, lora()), tokenizer, tmp_path / "run").model.eval()
    ids = torch.tensor(rows(tokenizer)["input_ids"][:4])
    with torch.no_grad():
        expected, untrained = model(input_ids=ids).logits, start(input_ids=ids).logits
    plain = merge_adapters(model)
    assert type(plain) is LlamaForCausalLM
    assert {name for name, _ in plain.named_modules()} == {
        name for name, _ in start.named_modules()
    }
    assert all(weight.requires_grad for weight in plain.parameters())
    check_vocabulary(plain, tokenizer)
    plain.save_pretrained(tmp_path / "model")
    assert {path.suffix for path in (tmp_path / "model").iterdir()} == {".json", ".safetensors"}
    assert not list((tmp_path / "model").glob("adapter*"))
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    head, embedding = loaded.get_output_embeddings(), loaded.get_input_embeddings()
    assert (head.weight.data_ptr() == embedding.weight.data_ptr()) is tied
    with torch.no_grad():
        logits = loaded(input_ids=ids).logits
    assert float((logits - expected).abs().max()) < 1e-5
    assert float((logits - untrained).abs().max()) > 1e-2


def test_checkpoints_hold_what_is_trained_alone(tokenizer: TalkPlayTokenizer, tmp_path: Path):
    # PEFT compares the vocabulary with that of the base on disk
    ungrown(tokenizer, tied=True).save_pretrained(tmp_path / "base")
    model = LlamaForCausalLM.from_pretrained(tmp_path / "base")
    grow_vocabulary(model, tokenizer)
    trainer = trained(add_adapters(model, lora()), tokenizer, tmp_path, save="steps", save_steps=1)
    for step in (1, 3):
        saved = load_file(tmp_path / f"checkpoint-{step}" / "adapter_model.safetensors")
        whole = [name for name in saved if "lora_" not in name]
        assert sum("embed_tokens" in name for name in whole) == 1
        assert sum("lm_head" in name for name in whole) <= 1
        assert len(whole) <= 2
    (embedding,) = [weight for name, weight in saved.items() if "embed_tokens" in name]
    assert torch.equal(embedding, trainer.model.get_input_embeddings().weight)


def test_the_self_similarity_loss_falls_with_adapters(tokenizer: TalkPlayTokenizer, tmp_path: Path):
    falls = []
    for weight in (0.0, 10.0):
        model = add_adapters(grown(tokenizer, tied=True), lora())
        log = trained(model, tokenizer, tmp_path, weight=weight).state.log_history
        figures = [entry["self_similarity"] for entry in log if "loss" in entry]
        falls.append(figures[0] - figures[-1])
    assert falls[1] > max(falls[0], 0) + 1e-3


@pytest.mark.parametrize("reentrant", [True, False])
def test_activation_checkpointing_gives_the_same_weights(
    reentrant: bool, tokenizer: TalkPlayTokenizer, tmp_path: Path
):
    weights = []
    for settings in (
        {},
        {
            "activation_checkpointing": True,
            "activation_checkpointing_kwargs": {"use_reentrant": reentrant},
        },
    ):
        torch.manual_seed(0)
        model = add_adapters(grown(tokenizer, tied=True), lora())
        start = {name: weight.detach().clone() for name, weight in model.named_parameters()}
        trainer = trained(model, tokenizer, tmp_path, learning_rate=1e-3, **settings)
        assert trainer.model.is_activation_checkpointing is bool(settings)
        weights.append(dict(model.named_parameters()))
    assert all(torch.allclose(weights[0][name], weights[1][name], atol=1e-6) for name in start)
    first = [name for name in start if "layers.0." in name and "lora_B" in name]
    assert first
    assert all(float(weights[1][name].detach().abs().max()) > 0 for name in first)


def test_all_linear_leaves_the_head_out(tokenizer: TalkPlayTokenizer):
    model = add_adapters(grown(tokenizer, tied=False), lora(lora_target_modules=["all-linear"]))
    adapted = {name.split(".lora_")[0] for name, _ in model.named_modules() if ".lora_A." in name}
    assert len(adapted) == 2 * 7
    assert not [name for name in adapted if "lm_head" in name]


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("target", ["lm_head", "embed_tokens", "model.embed_tokens"])
def test_adapters_on_what_is_trained_whole_are_refused(
    tied: bool, target: str, tokenizer: TalkPlayTokenizer
):
    with pytest.raises(ConfigError, match=target):
        add_adapters(grown(tokenizer, tied=tied), lora(lora_target_modules=["q_proj", target]))


@pytest.mark.parametrize("more", [[], ["q_proj"]])
def test_layers_that_the_model_does_not_have_are_refused(
    more: list[str], tokenizer: TalkPlayTokenizer
):
    with pytest.raises(ConfigError, match="no_such_layer"):
        add_adapters(
            grown(tokenizer, tied=True), lora(lora_target_modules=[*more, "no_such_layer"])
        )


def test_one_layer_can_be_named_alone(tokenizer: TalkPlayTokenizer):
    model = add_adapters(grown(tokenizer, tied=True), lora(lora_target_modules=["o_proj"]))
    assert sum(name.endswith("lora_A.default") for name, _ in model.named_modules()) == 2


def test_a_model_in_half_precision_is_refused(tokenizer: TalkPlayTokenizer):
    with pytest.raises(ConfigError, match="dtype: float32"):
        add_adapters(grown(tokenizer, tied=True).to(torch.bfloat16), lora())


def test_what_asks_for_no_adapters_or_impossible_ones_is_refused(tokenizer: TalkPlayTokenizer):
    with pytest.raises(ConfigError, match="use_peft is false"):
        add_adapters(grown(tokenizer, tied=True), ModelConfig())
    with pytest.raises(ConfigError, match=r"use_peft: .*`r` should be a positive"):
        add_adapters(grown(tokenizer, tied=True), ModelConfig(use_peft=True, lora_r=0))


def test_kinds_of_model_that_peft_cannot_adapt_are_refused():
    tiny = {"hidden_size": 8, "intermediate_size": 8, "num_attention_heads": 2}
    model = OlmoForCausalLM(OlmoConfig(vocab_size=9, num_hidden_layers=1, pad_token_id=0, **tiny))
    with pytest.raises(ConfigError, match=r"of the kind 'olmo'; set lora_target_modules: all-lin"):
        add_adapters(model, lora())
    head_comes_loose = GPT2LMHeadModel(GPT2Config(vocab_size=9, n_embd=8, n_layer=1, n_head=2))
    with pytest.raises(ConfigError, match=r"does not stay tied to 'wte'.*without use_peft"):
        add_adapters(head_comes_loose, lora())


def test_without_peft_the_extra_is_named(
    tokenizer: TalkPlayTokenizer, monkeypatch: pytest.MonkeyPatch
):
    model = grown(tokenizer, tied=True)
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(MissingExtraError, match=r"talkplay-hf\[lora\]"):
        add_adapters(model, lora())
