"""The model that training starts from."""

import json
import logging
import shutil
from pathlib import Path

import pytest
import torch
from random_llama import random_llama
from safetensors.torch import load_file, save_file
from transformers import (
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerBase,
    T5Config,
)
from transformers.utils import logging as transformers_logging

from talkplay_hf.errors import ArtifactError
from talkplay_hf.hub import files
from talkplay_hf.tokens.bpe import train_bpe
from talkplay_hf.tokens.config import TalkPlayConfig
from talkplay_hf.tokens.tokenizer import TalkPlayTokenizer
from talkplay_hf.training.model.base import load_base, scratch_model
from talkplay_hf.training.model.vocabulary import grow_vocabulary

TEXTS = ["play some slow jazz", "a fast rock song"]
WEIGHTS = "model.safetensors"


def base_tokenizer(texts: list[str] = TEXTS) -> PreTrainedTokenizerBase:
    return train_bpe(texts, vocab_size=300)


def music_tokenizer(folder: Path, codebook_hash: str = "a" * 64, k: int = 8) -> TalkPlayTokenizer:
    base = base_tokenizer()
    config = TalkPlayConfig(
        codes=(k,) * 5,
        base="some-base",
        base_vocab_size=len(base),
        codebook_hash=codebook_hash,
        catalog_hash="0" * 64,
    )
    folder.mkdir(parents=True)
    files.write_json(folder / files.TALKPLAY_CONFIG, config.to_dict())
    tokenizer = TalkPlayTokenizer.grow(base, config.music_tokens)
    tokenizer.attach(folder)
    return tokenizer


@pytest.fixture(scope="module")
def grown(tmp_path_factory: pytest.TempPathFactory) -> TalkPlayTokenizer:
    return music_tokenizer(tmp_path_factory.mktemp("grown") / "tokenizer")


def llama(rows: int) -> LlamaForCausalLM:
    return random_llama(rows, tie_word_embeddings=True)


@pytest.fixture
def base_folder(tmp_path: Path) -> Path:
    """A base model in bfloat16 with its tokenizer; 20 rows of padding."""
    tokenizer = base_tokenizer()
    llama(len(tokenizer) + 20).to(torch.bfloat16).save_pretrained(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    return tmp_path / "base"


@pytest.fixture
def trained_folder(tmp_path: Path, grown: TalkPlayTokenizer) -> Path:
    """A model folder as training leaves it."""
    model = llama(grown.config.base_vocab_size)
    grow_vocabulary(model, grown, seed=7)
    model.save_pretrained(tmp_path / "trained")
    grown.save_pretrained(tmp_path / "trained")
    return tmp_path / "trained"


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


def test_a_base_loads_in_float32_and_grows_without_a_warning(
    base_folder: Path, grown: TalkPlayTokenizer, caplog: pytest.LogCaptureFixture
):
    saved = load_file(base_folder / WEIGHTS)["model.embed_tokens.weight"]
    transformers_logging.enable_propagation()
    try:
        with caplog.at_level(logging.WARNING):
            model = load_base(str(base_folder), grown)
            assert model.dtype == torch.float32
            assert torch.equal(model.get_input_embeddings().weight, saved.float())
            grow_vocabulary(model, grown)
    finally:
        transformers_logging.disable_propagation()
    assert [record.message for record in caplog.records] == []
    old = grown.config.base_vocab_size
    assert torch.equal(model.get_input_embeddings().weight[:old], saved[:old].float())


def test_dtype_and_attention_can_be_chosen(base_folder: Path, grown: TalkPlayTokenizer):
    model = load_base(str(base_folder), grown, dtype="bfloat16", attn_implementation="eager")
    assert model.dtype == torch.bfloat16
    assert model.config._attn_implementation == "eager"


@pytest.mark.parametrize("kind", [LlamaForCausalLM, GPTNeoXForCausalLM])
def test_a_base_without_a_tokenizer_of_its_own_loads(
    kind: type, grown: TalkPlayTokenizer, tmp_path: Path
):
    """For GPT-NeoX, transformers makes up an empty tokenizer, which must not be compared."""
    config = LlamaConfig if kind is LlamaForCausalLM else GPTNeoXConfig
    made = config(
        vocab_size=grown.config.base_vocab_size,
        hidden_size=8,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
    )
    kind(made).save_pretrained(tmp_path)
    assert isinstance(load_base(str(tmp_path), grown), kind)


def test_a_base_with_a_damaged_tokenizer_loads(base_folder: Path, grown: TalkPlayTokenizer):
    (base_folder / "tokenizer.json").write_text("{}", encoding="utf-8")
    assert load_base(str(base_folder), grown).config.vocab_size > 0


def test_a_name_that_is_nowhere_is_refused(tmp_path: Path, grown: TalkPlayTokenizer):
    for name in (str(tmp_path / "nowhere"), "nobody/has-this-model", str(tmp_path)):
        with pytest.raises(ArtifactError, match=f"the base model '{name}' cannot be loaded: .+"):
            load_base(name, grown)


def test_a_model_of_another_kind_is_refused(tmp_path: Path, grown: TalkPlayTokenizer):
    T5Config(vocab_size=1000).save_pretrained(tmp_path)
    with pytest.raises(ArtifactError, match="cannot be loaded: Unrecognized configuration class"):
        load_base(str(tmp_path), grown)


def test_damaged_weights_are_refused(base_folder: Path, grown: TalkPlayTokenizer):
    path = base_folder / WEIGHTS
    path.write_bytes(path.read_bytes()[:1500])
    with pytest.raises(ArtifactError, match=r"cannot be loaded: .*header"):
        load_base(str(base_folder), grown)


def test_missing_weights_are_refused_by_name(base_folder: Path, grown: TalkPlayTokenizer):
    weights = load_file(base_folder / WEIGHTS)
    del weights["model.norm.weight"]
    save_file(weights, base_folder / WEIGHTS, metadata={"format": "pt"})
    with pytest.raises(ArtifactError, match=r"not complete: model\.norm\.weight and 0 more"):
        load_base(str(base_folder), grown)


def test_code_that_comes_with_a_model_is_never_run(
    base_folder: Path, grown: TalkPlayTokenizer, tmp_path: Path
):
    ran = tmp_path / "ran"
    (base_folder / "own.py").write_text(f"open({str(ran)!r}, 'w')\n", encoding="utf-8")
    config = json.loads((base_folder / "config.json").read_text(encoding="utf-8"))
    config |= {"model_type": "own", "auto_map": {"AutoConfig": "own.C", "AutoTokenizer": "own.T"}}
    (base_folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(ArtifactError, match="cannot be loaded"):
        load_base(str(base_folder), grown)
    assert not ran.exists()


def test_fewer_rows_than_the_base_vocabulary_are_refused(grown: TalkPlayTokenizer, tmp_path: Path):
    llama(grown.config.base_vocab_size - 1).save_pretrained(tmp_path)
    with pytest.raises(ArtifactError, match="embedding rows, the tokenizer grew from"):
        load_base(str(tmp_path), grown)


def test_a_base_whose_tokenizer_has_music_tokens_is_refused(
    base_folder: Path, grown: TalkPlayTokenizer
):
    tokenizer = base_tokenizer()
    tokenizer.add_tokens(["<start_of_music>", "<|audio-3|>"])
    tokenizer.save_pretrained(base_folder)
    with pytest.raises(ArtifactError, match=r"already has '<start_of_music>' and 1 more"):
        load_base(str(base_folder), grown)


@pytest.mark.parametrize("change", ["more", "fewer", "swapped"])
def test_a_base_with_another_tokenizer_is_refused_by_a_token(
    change: str, base_folder: Path, grown: TalkPlayTokenizer
):
    tokenizer = base_tokenizer()
    size = len(tokenizer)
    if change == "more":
        tokenizer.add_tokens(["<|extra|>"])
        tokenizer.save_pretrained(base_folder)
        expected = rf"token '<\|extra\|>' is number {size} in the base and none in the folder"
    else:
        path = base_folder / "tokenizer.json"
        values = json.loads(path.read_text(encoding="utf-8"))
        vocabulary = values["model"]["vocab"]
        if change == "fewer":
            last = max(vocabulary, key=vocabulary.__getitem__)
            number = vocabulary.pop(last)
            pieces = [m for m in values["model"]["merges"] if "".join(m) != last]
            values["model"]["merges"] = pieces
            expected = rf"is number none in the base and {number} in the folder"
        else:
            vocabulary["a"], vocabulary["b"] = vocabulary["b"], vocabulary["a"]
            expected = r"token '[ab]' is number \d+ in the base and \d+ in the folder"
        path.write_text(json.dumps(values), encoding="utf-8")
    with pytest.raises(ArtifactError, match=expected):
        load_base(str(base_folder), grown)


def test_training_goes_on_from_a_trained_model_as_it_is(
    trained_folder: Path, grown: TalkPlayTokenizer
):
    saved = load_file(trained_folder / WEIGHTS)
    model = load_base(str(trained_folder), grown)
    grow_vocabulary(model, grown, init="normal", seed=1)
    state = model.state_dict()
    assert all(torch.equal(state[name], weight) for name, weight in saved.items())


def test_a_model_trained_with_other_codebooks_is_refused(trained_folder: Path, tmp_path: Path):
    other = music_tokenizer(tmp_path / "other", codebook_hash="b" * 64)
    with pytest.raises(ArtifactError, match=r"TalkPlay model of other codebooks \(aaaa.*bbbb"):
        load_base(str(trained_folder), other)


def test_a_trained_model_of_another_size_is_refused(trained_folder: Path, tmp_path: Path):
    other = music_tokenizer(tmp_path / "other", k=16)
    with pytest.raises(ArtifactError, match=r"TalkPlay model of \d+ tokens, the tokenizer has"):
        load_base(str(trained_folder), other)


def test_a_trained_model_of_another_base_tokenizer_is_refused(
    trained_folder: Path, grown: TalkPlayTokenizer
):
    path = trained_folder / "tokenizer.json"
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("<|audio-7|>", "<|audio-9|>"), encoding="utf-8")
    with pytest.raises(ArtifactError, match=r"token '<\|audio-[79]\|>' is number"):
        load_base(str(trained_folder), grown)


def test_a_grown_model_whose_config_forgot_it_is_refused(
    trained_folder: Path, grown: TalkPlayTokenizer, tmp_path: Path
):
    folder = shutil.copytree(trained_folder, tmp_path / "copy")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    del config["talkplay_codebook_hash"]
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(ArtifactError, match="its config names no codebooks"):
        load_base(str(folder), grown)
