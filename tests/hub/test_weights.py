"""A model folder says which of its safetensors files are weights."""

import shutil
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaForCausalLM

from talkplay_hf.errors import ArtifactError
from talkplay_hf.hub.weights import write_weight_index


def test_the_index_of_weights_names_the_weights_and_not_the_codebooks(
    tiny_model: LlamaForCausalLM, tokenizer_folder: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tokenizer_folder, folder)
    with pytest.raises(ArtifactError, match=r"model\.safetensors"):
        write_weight_index(folder)
    tiny_model.save_pretrained(folder)
    first = write_weight_index(folder).read_bytes()
    assert write_weight_index(folder).read_bytes() == first
    loaded = AutoModelForCausalLM.from_pretrained(folder)
    for name, weight in tiny_model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], weight)
    assert b"model.embed_tokens.weight" in first
    assert b"codebooks" not in first
    (folder / "model.safetensors").unlink()
    assert write_weight_index(folder).read_bytes() == first
