"""The vectors of the demo world, and its model as a folder."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from transformers import LlamaForCausalLM

from talkplay_hf.features.store import load_features


@pytest.fixture(scope="session")
def vectors(features_folder: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    _, modalities = load_features(features_folder)
    return {name: (np.array(m.vectors), np.array(m.present)) for name, m in modalities.items()}


@pytest.fixture
def model_folder(tiny_model: LlamaForCausalLM, tokenizer_folder: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    shutil.copytree(tokenizer_folder, folder)
    tiny_model.save_pretrained(folder)
    return folder
