"""The same music tokens on the tokenizer of another base model."""

from pathlib import Path

import numpy as np
import pytest
from chatml import chatml_base
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer, LlamaForCausalLM

from talkplay_hf.catalog.schema import Message
from talkplay_hf.cli import main
from talkplay_hf.errors import ArtifactError, ConfigError
from talkplay_hf.hub import files
from talkplay_hf.hub.verify import verify_folder
from talkplay_hf.recommend.recommender import Recommender
from talkplay_hf.tokens.bpe import train_bpe
from talkplay_hf.tokens.build import read_token_catalog
from talkplay_hf.tokens.config import TalkPlayConfig
from talkplay_hf.tokens.rebase import rebase_tokenizer
from talkplay_hf.tokens.swap import swap_catalog
from talkplay_hf.tokens.tokenizer import SIDE_FILES, TalkPlayTokenizer

TEXTS = ["play some music please", "something slow for a rainy evening"]


@pytest.fixture(scope="module", params=["llama3", "chatml"])
def base(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tokenizer folder of a base model, of either style of headers."""
    folder = tmp_path_factory.mktemp("base") / request.param
    made = train_bpe(TEXTS, vocab_size=280) if request.param == "llama3" else chatml_base()
    made.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def rebased(base: Path, tokenizer_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rebased") / "tokenizer"
    rebase_tokenizer(tokenizer_folder, str(base), folder)
    return folder


def test_side_files_keep_their_bytes_and_the_config_names_the_new_base(
    rebased: Path, base: Path, tokenizer_folder: Path
) -> None:
    for name in set(SIDE_FILES.values()) - {files.TALKPLAY_CONFIG}:
        assert (rebased / name).read_bytes() == (tokenizer_folder / name).read_bytes(), name
    before, after = (
        TalkPlayConfig.load(folder / files.TALKPLAY_CONFIG)
        for folder in (tokenizer_folder, rebased)
    )
    plain = AutoTokenizer.from_pretrained(base)
    assert (after.base, after.base_vocab_size) == (str(base), len(plain))
    assert before.to_dict() | {"base": after.base, "base_vocab_size": len(plain)} == (
        after.to_dict()
    )
    verify_folder(rebased)
    tokenizer = AutoTokenizer.from_pretrained(rebased)
    assert len(tokenizer) == len(plain) + len(after.music_tokens)
    assert tokenizer.encode(TEXTS[1]) == plain.encode(TEXTS[1])


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(st.integers(0, 59), min_size=1, max_size=4), text=st.text(max_size=40))
def test_tracks_keep_their_codes_in_chats(
    rebased: Path, tokenizer: TalkPlayTokenizer, rows: list[int], text: str
) -> None:
    other: TalkPlayTokenizer = loaded(rebased)
    _, codes = read_token_catalog(other.side_file("token_catalog_file"))
    wanted = [tuple(codes[row].tolist()) for row in rows]
    chat = [Message("user", text), *(Message("music") for _ in rows), Message("user", "more")]
    ids = other.chat_ids(chat, wanted)
    assert other.parse_blocks(ids) == wanted
    # whatever a user types, both styles of headers hold the same blocks
    assert tokenizer.parse_blocks(tokenizer.chat_ids(chat, wanted)) == wanted
    assert other.convert_tokens_to_ids(other.eos_token) in ids


_LOADED: dict[Path, TalkPlayTokenizer] = {}


def loaded(folder: Path) -> TalkPlayTokenizer:
    if folder not in _LOADED:
        _LOADED[folder] = TalkPlayTokenizer.from_pretrained(folder)
    return _LOADED[folder]


def test_the_way_over_another_base_leaves_no_trace(
    rebased: Path, tokenizer_folder: Path, tmp_path: Path
) -> None:
    train_bpe(TEXTS, vocab_size=270).save_pretrained(tmp_path / "base")
    rebase_tokenizer(rebased, str(tmp_path / "base"), tmp_path / "1" / "same")
    rebase_tokenizer(tokenizer_folder, str(tmp_path / "base"), tmp_path / "2" / "same")
    for path in sorted((tmp_path / "2" / "same").iterdir()):
        assert (tmp_path / "1" / "same" / path.name).read_bytes() == path.read_bytes(), path.name


def test_a_model_folder_lends_its_tokenizer_without_weights(
    model_folder: Path, tokenizer_folder: Path, base: Path, tmp_path: Path
) -> None:
    rebase_tokenizer(model_folder, str(base), tmp_path / "out")
    assert files.folder_kind(tmp_path / "out") == "tokenizer"
    assert not list((tmp_path / "out").glob("model*"))
    with pytest.raises(ArtifactError, match="is a model folder"):
        rebase_tokenizer(tokenizer_folder, str(base), model_folder)


def test_its_catalogue_goes_under_a_model_of_the_first_base(
    tiny_model: LlamaForCausalLM, rebased: Path, tokenizer_folder: Path
) -> None:
    tokenizer = TalkPlayTokenizer.from_pretrained(tokenizer_folder)
    swap_catalog(tokenizer, rebased)
    assert tokenizer.config.base == "scratch"
    assert Recommender(tiny_model, tokenizer).chat("music", seed=0).tracks


def test_bases_that_cannot_be_used_are_named(
    tokenizer_folder: Path, features_folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(ArtifactError, match="nowhere"):
        rebase_tokenizer(tokenizer_folder, str(tmp_path / "nowhere"), tmp_path / "out")
    with pytest.raises(ConfigError, match="already has"):
        rebase_tokenizer(tokenizer_folder, str(tokenizer_folder), tmp_path / "out")
    with pytest.raises(ArtifactError, match="not a tokenizer or model folder"):
        rebase_tokenizer(features_folder, str(tokenizer_folder), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_command_says_what_it_made(
    tokenizer_folder: Path, base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(["rebase", str(tokenizer_folder), str(out), "--base", str(base)]) == 0
    count = len(TalkPlayConfig.load(out / files.TALKPLAY_CONFIG).music_tokens)
    assert f"{count} music tokens after the" in capsys.readouterr().out
    assert np.array_equal(
        read_token_catalog(out / files.TOKEN_CATALOG)[1],
        read_token_catalog(tokenizer_folder / files.TOKEN_CATALOG)[1],
    )
