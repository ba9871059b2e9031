"""CLAP compares the request with the sound, and only with sound of its own kind."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from small_catalog import SMALL, user
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import ClapConfig, ClapModel, PreTrainedTokenizerFast

from talkplay_hf.errors import ConfigError, InputError
from talkplay_hf.evaluation.baselines.base import BaselineSources
from talkplay_hf.evaluation.baselines.clap import ClapRanker
from talkplay_hf.evaluation.baselines.registry import make_baseline
from talkplay_hf.features.cooccurrence import unit_rows
from talkplay_hf.features.store import ModalityVectors, absent, save_vectors, write_track_order
from talkplay_hf.hub import files

WORDS = ("calm", "loud", "folk", "synth", "drums", "voice")


@pytest.fixture(scope="module")
def clap(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CLAP of random weights with a tokenizer of a few words."""
    folder = tmp_path_factory.mktemp("clap") / "model"
    torch.manual_seed(0)
    audio = {
        "hidden_size": 32, "patch_embeds_hidden_size": 4, "depths": [1, 1, 1, 1],
        "num_attention_heads": [1, 1, 1, 1], "projection_dim": 16, "mlp_ratio": 1.0,
    }  # fmt: skip
    text = {
        "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1,
        "intermediate_size": 8, "vocab_size": 10, "projection_dim": 16,
    }  # fmt: skip
    config = ClapConfig(text_config=text, audio_config=audio, projection_dim=16)
    ClapModel(config).save_pretrained(folder)
    vocabulary = {"<pad>": 1, "<unk>": 3} | {word: 4 + n for n, word in enumerate(WORDS)}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="<pad>", unk_token="<unk>", model_max_length=32
    ).save_pretrained(folder)
    return folder


def save_sound(folder: Path, vectors: np.ndarray, present: list[bool], **encoder: str) -> Path:
    """A features folder of the small catalog with these audio vectors."""
    made = {name: absent(len(SMALL)) for name in ("playlist", "semantic", "metadata", "lyrics")}
    made["audio"] = ModalityVectors(vectors.astype(np.float32), np.array(present))
    with files.staged_folder(folder, "features") as aside:
        for name, modality in made.items():
            save_vectors(aside / f"{name}.safetensors", modality)
        write_track_order(aside, SMALL.track_ids)
        facts = {"audio": {"encoder": encoder}}
        files.write_manifest(aside, "features", {}, modalities=facts)
    return folder


def text_vector(clap: Path, text: str) -> np.ndarray:
    """The vector of a text by the model itself."""
    model = ClapModel.from_pretrained(clap).eval()
    tokenizer = PreTrainedTokenizerFast.from_pretrained(clap)
    with torch.inference_mode():
        found = model.get_text_features(**tokenizer(text, return_tensors="pt")).pooler_output
    return unit_rows(found.numpy())[0]


def test_the_sound_nearest_to_the_request_comes_first(clap: Path, tmp_path: Path) -> None:
    vectors = np.stack([text_vector(clap, text) for text in ("calm folk", "loud drums", "voice")])
    features = save_sound(tmp_path / "f", vectors, [True] * 3, encoder="clap", model=str(clap))
    ranker = ClapRanker(BaselineSources(SMALL, features=features))
    scores = ranker.scores([user("calm folk"), user("loud drums"), user("voice"), user("")])
    assert scores[:3].argmax(axis=1).tolist() == [0, 1, 2]
    assert np.diag(scores).tolist() == pytest.approx([1, 1, 1], abs=1e-5)
    assert scores[3].tolist() == [0, 0, 0]


def test_silent_tracks_are_not_ranked_and_equal_sounds_are_tied(clap: Path, tmp_path: Path) -> None:
    vectors = np.ones((3, 16)) * [[1], [0], [1]]
    features = save_sound(
        tmp_path / "f", vectors, [True, False, True], encoder="clap", model=str(clap)
    )
    (scores,) = ClapRanker(BaselineSources(SMALL, features=features)).scores([user("calm")])
    assert scores[1] == -np.inf
    assert scores[0] == scores[2] > -1


def test_other_audio_vectors_are_refused_by_name(tmp_path: Path) -> None:
    features = save_sound(tmp_path / "f", np.ones((3, 2)), [True] * 3, encoder="descriptors")
    with pytest.raises(InputError, match="made by 'descriptors'"):
        make_baseline("clap", BaselineSources(SMALL, features=features))
    with pytest.raises(InputError, match="'clap' needs a features folder"):
        make_baseline("clap", BaselineSources(SMALL))


def test_a_model_that_is_gone_is_named(tmp_path: Path) -> None:
    (tmp_path / "gone").mkdir()
    model = str(tmp_path / "gone")
    features = save_sound(tmp_path / "f", np.ones((3, 2)), [True] * 3, encoder="clap", model=model)
    with pytest.raises(ConfigError, match="gone' cannot be loaded: "):
        make_baseline("clap", BaselineSources(SMALL, features=features))


def test_a_features_folder_without_sound_is_refused_by_name(tmp_path: Path) -> None:
    with files.staged_folder(tmp_path / "f", "features") as aside:
        files.write_manifest(aside, "features", {}, modalities={})
    with pytest.raises(InputError, match="'clap' needs those of 'clap'"):
        make_baseline("clap", BaselineSources(SMALL, features=tmp_path / "f"))


def test_vectors_of_another_catalog_are_refused(clap: Path, tmp_path: Path) -> None:
    features = save_sound(
        tmp_path / "f", np.ones((3, 16)), [True] * 3, encoder="clap", model=str(clap)
    )
    (features / "track_ids.json").write_text(json.dumps(["t0", "t2", "t1"]))
    with pytest.raises(InputError, match="other tracks than the catalog"):
        make_baseline("clap", BaselineSources(SMALL, features=features))
