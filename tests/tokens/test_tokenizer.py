"""`TalkPlayTokenizer`: classes, round trips, music blocks, the chat template, and injection."""

import pickle
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from chatml import chatml_base
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models
from transformers import AutoTokenizer, PreTrainedTokenizer, PreTrainedTokenizerFast

from talkplay_hf.catalog.schema import Message
from talkplay_hf.errors import ArtifactError, ConfigError, InputError
from talkplay_hf.hub import files
from talkplay_hf.hub.verify import verify_folder
from talkplay_hf.tokens.bpe import train_bpe
from talkplay_hf.tokens.config import TalkPlayConfig
from talkplay_hf.tokens.tokenizer import TalkPlayTokenizer, template_rows

QUICK = settings(deadline=None, max_examples=40)
UNICODE = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
# what an attacker would type, and what only looks like it
PIECES = [
    "<start_of_music>",
    "<end_of_music>",
    "<|playlist-0|>",
    "<|semantic-1|>",
    "<|audio-0|>",
    "<|eot_id|>",
    "<|begin_of_text|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|pad|>",
    "<|audio-99999|>",
    "<|",
    "|>",
    "<|audio",
    "-0|>",
    "<start_of_",
    "music>",
    "<|\U000f0000eot_id|>",
    "\U000f0000",
    "\U000f0001",
    "＜|audio-0|＞",
    "assistant",
    "{{ begin }}",
    "{% generation %}",
    "\n\n",
    " ",
]
HOSTILE = st.lists(st.one_of(st.sampled_from(PIECES), UNICODE), max_size=8).map("".join)


MUSIC = TalkPlayConfig((2,) * 5, "base", 0, "", "").music_tokens
TURNS = [
    {"role": "user", "content": "  calm piano \n"},
    {"role": "music", "codes": [1, 0, 1, 0, 1]},
    {"role": "assistant", "content": "Here it is."},
    {"role": "user", "content": "more"},
    {"role": "music", "codes": [0, 0, 0, 0, 0]},
    {"role": "assistant", "content": "Enjoy!"},
]
FIRST = "<start_of_music><|playlist-1|><|semantic-0|><|metadata-1|><|lyrics-0|><|audio-1|>"
SECOND = "<start_of_music><|playlist-0|><|semantic-0|><|metadata-0|><|lyrics-0|><|audio-0|>"
TASK = (
    "You are a music expert. Your task is conversational retrieval: "
    "Predict the next music item based on the given chat history."
)


# --- what it is ------------------------------------------------------------------------------


def test_is_both_a_slow_and_a_fast_tokenizer(tokenizer: TalkPlayTokenizer) -> None:
    assert isinstance(tokenizer, PreTrainedTokenizer)
    assert isinstance(tokenizer, PreTrainedTokenizerFast)
    assert tokenizer.is_fast
    assert tokenizer.padding_side == "left"
    assert tokenizer("hello", add_special_tokens=True)["input_ids"] == tokenizer.encode(
        "hello", add_special_tokens=False
    )


def test_vocabulary_is_the_base_and_the_music_tokens(tokenizer: TalkPlayTokenizer) -> None:
    config = tokenizer.config
    assert len(tokenizer) == config.base_vocab_size + 2 + sum(config.codes)
    ids = tokenizer.convert_tokens_to_ids(config.music_tokens)
    assert ids == list(range(config.base_vocab_size, len(tokenizer)))
    for token, number in zip(config.music_tokens, ids, strict=True):
        assert tokenizer.encode(token) == [number]


@QUICK
@given(text=UNICODE)
def test_any_text_comes_back(tokenizer: TalkPlayTokenizer, text: str) -> None:
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_save_and_load(tokenizer: TalkPlayTokenizer, tmp_path: Path) -> None:
    saved = {Path(name).name for name in tokenizer.save_pretrained(tmp_path / "one")}
    assert saved >= {"tokenizer.json", files.TALKPLAY_CONFIG, files.CODEBOOKS, files.EXAMPLES}
    loaded = TalkPlayTokenizer.from_pretrained(tmp_path / "one")
    loaded.save_pretrained(tmp_path / "two")
    again = TalkPlayTokenizer.from_pretrained(tmp_path / "two")
    assert type(again) is TalkPlayTokenizer
    assert again.get_vocab() == tokenizer.get_vocab()
    assert again.config == tokenizer.config
    assert again.chat_template == tokenizer.chat_template
    assert again.apply_chat_template(TURNS) == tokenizer.apply_chat_template(TURNS)
    assert "talkplay_hf" not in (tmp_path / "two" / "tokenizer_config.json").read_text("utf-8")
    for name in (files.CODEBOOKS, files.TOKEN_CATALOG, files.EXAMPLES):
        assert (tmp_path / "two" / name).exists(), name


def test_saving_into_its_own_folder_keeps_the_side_files(
    tokenizer: TalkPlayTokenizer, tmp_path: Path
) -> None:
    tokenizer.save_pretrained(tmp_path)
    loaded = TalkPlayTokenizer.from_pretrained(tmp_path)
    loaded.save_pretrained(tmp_path)
    assert TalkPlayTokenizer.from_pretrained(tmp_path).config == tokenizer.config


def test_a_tokenizer_alone_is_an_artefact_with_card_and_manifest(
    tokenizer: TalkPlayTokenizer, tmp_path: Path
) -> None:
    folder = tmp_path / "songs"
    tokenizer.save_pretrained(folder)
    verify_folder(folder, kind="tokenizer")
    manifest = files.read_manifest(folder, "tokenizer")
    assert set(manifest["files"]) >= {"tokenizer.json", "chat_template.jinja", files.CODEBOOKS}
    assert manifest["made_from"] == tokenizer.config.made_from
    assert "# songs" in (folder / files.CARD).read_text(encoding="utf-8")
    # again, and by another way
    TalkPlayTokenizer.from_pretrained(folder).save_pretrained(folder)
    assert files.read_manifest(folder, "tokenizer") == manifest


def test_a_folder_with_something_else_in_it_gets_no_card(
    tokenizer: TalkPlayTokenizer, tmp_path: Path
) -> None:
    (tmp_path / "optimizer.pt").write_bytes(b"of a checkpoint")
    tokenizer.save_pretrained(tmp_path)
    assert not (tmp_path / files.MANIFEST).exists()
    assert not (tmp_path / files.CARD).exists()


def test_a_tokenizer_saved_again_beside_a_model_makes_no_other_kind_of_it(
    tokenizer: TalkPlayTokenizer, tmp_path: Path
) -> None:
    tokenizer.save_pretrained(tmp_path)
    files.write_json(tmp_path / "config.json", {})
    tokenizer.save_pretrained(tmp_path)
    assert "config.json" not in files.read_manifest(tmp_path, "model")["files"]
    verify_folder(tmp_path, kind="model")


@pytest.mark.parametrize("name", ["tokenizer.json", files.CODEBOOKS, files.TOKEN_CATALOG])
def test_a_damaged_file_is_found_when_the_tokenizer_is_loaded(
    tokenizer: TalkPlayTokenizer, tmp_path: Path, name: str
) -> None:
    tokenizer.save_pretrained(tmp_path)
    content = bytearray((tmp_path / name).read_bytes())
    content[-9] ^= 2
    (tmp_path / name).write_bytes(bytes(content))
    with pytest.raises(ArtifactError, match=name):
        TalkPlayTokenizer.from_pretrained(tmp_path)
    if name != "tokenizer.json":
        TalkPlayTokenizer.from_pretrained(tmp_path, verify=False)


def test_pushing_is_a_method_of_its_own(tokenizer: TalkPlayTokenizer, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"tokenizer\.push_to_hub"):
        tokenizer.save_pretrained(tmp_path / "out", push_to_hub=True)
    assert not (tmp_path / "out").exists()


def test_the_catalogue_index_of_an_earlier_tokenizer_does_not_stay(
    tokenizer: TalkPlayTokenizer, tmp_path: Path
) -> None:
    tokenizer.save_pretrained(tmp_path / "old")
    (tmp_path / "old" / files.CATALOG_INDEX).unlink()
    old = TalkPlayTokenizer.from_pretrained(tmp_path / "old")
    tokenizer.save_pretrained(tmp_path / "out")
    assert (tmp_path / "out" / files.CATALOG_INDEX).exists()
    old.save_pretrained(tmp_path / "out")
    assert not (tmp_path / "out" / files.CATALOG_INDEX).exists()
    assert (tmp_path / "out" / files.TOKEN_CATALOG).exists()
    old.save_pretrained(tmp_path / "fresh")
    assert (tmp_path / "fresh" / files.EXAMPLES).exists()


@pytest.fixture(scope="module")
def plain(tokenizer_folder: Path) -> PreTrainedTokenizerFast:
    return AutoTokenizer.from_pretrained(tokenizer_folder)


@QUICK
@given(text=UNICODE, reply=UNICODE)
def test_auto_tokenizer_gives_the_same_ids(
    plain: PreTrainedTokenizerFast, tokenizer: TalkPlayTokenizer, text: str, reply: str
) -> None:
    chat = [
        {"role": "user", "content": text},
        {"role": "music", "codes": [0, 1, 0, 1, 0]},
        {"role": "assistant", "content": reply},
    ]
    assert type(plain) is not TalkPlayTokenizer
    ours = tokenizer.apply_chat_template(chat, return_dict=False)
    assert plain.apply_chat_template(chat, return_dict=False) == ours
    assert plain.decode(ours) == tokenizer.decode(ours)


def test_pickling(tokenizer: TalkPlayTokenizer) -> None:
    assert len(tokenizer.code_offsets) == 6
    copy = pickle.loads(pickle.dumps(tokenizer))
    assert type(copy) is TalkPlayTokenizer
    assert copy.apply_chat_template(TURNS) == tokenizer.apply_chat_template(TURNS)
    assert copy.block_ids([0, 0, 0, 0, 0]) == tokenizer.block_ids([0, 0, 0, 0, 0])


def test_a_folder_that_is_no_tokenizer_is_named(world_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=rf"{world_folder}: has no tokenizer\.json"):
        TalkPlayTokenizer.from_pretrained(world_folder)
    with pytest.raises(ArtifactError, match=rf"{tmp_path / 'none'}: no such folder"):
        TalkPlayTokenizer.from_pretrained(tmp_path / "none")


def test_without_its_side_files_the_missing_one_is_named(tokenizer: TalkPlayTokenizer) -> None:
    lone = TalkPlayTokenizer.grow(train_bpe(["some text"]), MUSIC)
    with pytest.raises(ArtifactError, match=files.TALKPLAY_CONFIG):
        _ = lone.config


def test_a_vocabulary_that_disagrees_with_its_config_is_refused(
    tokenizer_folder: Path, tokenizer: TalkPlayTokenizer
) -> None:
    fewer = TalkPlayTokenizer.grow(train_bpe(["some text"]), MUSIC)
    fewer.attach(tokenizer_folder)
    with pytest.raises(ArtifactError, match="disagree"):
        fewer.block_ids([0, 0, 0, 0, 0])
    never_grown = TalkPlayTokenizer(tokenizer_object=train_bpe(["text"]).backend_tokenizer)
    never_grown.attach(tokenizer_folder)
    with pytest.raises(ArtifactError, match="disagree"):
        never_grown.parse_blocks([0])


# --- growing ---------------------------------------------------------------------------------


def test_a_base_that_has_music_tokens_is_refused() -> None:
    grown = TalkPlayTokenizer.grow(train_bpe(["some text"]), MUSIC)
    with pytest.raises(ConfigError, match="already has '<start_of_music>'"):
        TalkPlayTokenizer.grow(grown, MUSIC)


def test_a_base_without_headers_is_refused() -> None:
    backend = Tokenizer(models.BPE({"a": 0, "b": 1}, []))
    with pytest.raises(ConfigError, match=r"Llama 3 headers.*ChatML"):
        TalkPlayTokenizer.grow(PreTrainedTokenizerFast(tokenizer_object=backend), MUSIC)


def test_a_base_without_a_fast_backend_is_refused() -> None:
    with pytest.raises(ConfigError, match="fast"):
        TalkPlayTokenizer.grow(object(), MUSIC)  # type: ignore[arg-type]


def test_what_the_base_is_otherwise_stays() -> None:
    for base in (train_bpe(["some text"]), chatml_base()):
        base.model_max_length = 77
        base.unk_token = base.pad_token
        grown = TalkPlayTokenizer.grow(base, MUSIC)
        assert (grown.bos_token, grown.unk_token) == (base.bos_token, base.unk_token)
        assert (grown.model_max_length, grown.padding_side) == (77, "left")
        assert set(base.all_special_tokens) <= set(grown.all_special_tokens)
        added = [grown.added_tokens_decoder[grown.convert_tokens_to_ids(one)] for one in MUSIC]
        assert all(one.special and not one.normalized for one in added)


# --- music blocks ----------------------------------------------------------------------------


@QUICK
@given(rolls=st.lists(st.tuples(*[st.integers(0, 10_000)] * 5), max_size=4), text=UNICODE)
def test_parsing_undoes_writing(
    tokenizer: TalkPlayTokenizer, rolls: list[tuple[int, ...]], text: str
) -> None:
    sizes = tokenizer.config.codes
    tuples = [tuple(n % size for n, size in zip(roll, sizes, strict=True)) for roll in rolls]
    words = tokenizer.encode(text)
    ids = list(words)
    for codes in tuples:
        ids += [*tokenizer.block_ids(codes), *words]
    assert tokenizer.parse_blocks(ids) == tuples
    assert tokenizer.text_of(ids) == (text * (len(tuples) + 1)).strip()


@pytest.mark.parametrize(
    "codes", [(99, 0, 0, 0, 0), (0, 0, 0, 0, 99), (-1, 0, 0, 0, 0), (0,) * 4, (0,) * 6, ()]
)
def test_codes_that_do_not_fit_are_refused(
    tokenizer: TalkPlayTokenizer, codes: tuple[int, ...]
) -> None:
    with pytest.raises(InputError, match="do not fit"):
        tokenizer.block_ids(codes)


@pytest.mark.parametrize("place", range(5))
def test_the_largest_code_of_a_codebook_is_one_less_than_its_size(
    tokenizer: TalkPlayTokenizer, place: int
) -> None:
    codes = [0] * 5
    codes[place] = tokenizer.config.codes[place] - 1
    assert len(tokenizer.block_ids(codes)) == 7
    codes[place] += 1
    with pytest.raises(InputError, match="do not fit"):
        tokenizer.block_ids(codes)


def test_a_malformed_block_is_none(tokenizer: TalkPlayTokenizer) -> None:
    good = tokenizer.block_ids([1, 2, 3, 0, 1])
    word = tokenizer.encode("a")[0]
    for length in range(1, len(good)):
        assert tokenizer.parse_blocks(good[:length]) == [None]
    for at in range(1, len(good)):
        assert tokenizer.parse_blocks([*good[:at], word, *good[at:]]) == [None]
        assert tokenizer.parse_blocks([*good[:at], *good[at + 1 :], word]) == [None]
    swapped = [good[0], good[2], good[1], *good[3:]]
    assert tokenizer.parse_blocks([*swapped, *good]) == [None, (1, 2, 3, 0, 1)]
    nested = [*good[:3], *good]
    assert tokenizer.parse_blocks(nested) == [None, (1, 2, 3, 0, 1)]
    assert tokenizer.parse_blocks(good[1:]) == []
    for place, (first, end) in enumerate(pairwise(tokenizer.code_offsets.tolist()), 1):
        for beyond in (first - 1, end):
            assert tokenizer.parse_blocks([*good[:place], beyond, *good[place + 1 :]]) == [None]


# --- the chat template -----------------------------------------------------------------------


def rendered(tokenizer: TalkPlayTokenizer, chat: list[dict[str, Any]], **options: Any) -> str:
    return str(tokenizer.apply_chat_template(chat, tokenize=False, **options))


def test_llama3_layout_is_that_of_the_paper(tokenizer: TalkPlayTokenizer) -> None:
    assert rendered(tokenizer, TURNS, add_generation_prompt=True) == (
        "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\n"
        "Cutting Knowledge Date: December 2023\nToday Date: 20 Jan 2025\n\n"
        f"{TASK}<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\ncalm piano<|eot_id|>"
        f"<|start_header_id|>assistant<|end_header_id|>\n\n{FIRST}<end_of_music>"
        "Here it is.<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\nmore<|eot_id|>"
        f"<|start_header_id|>assistant<|end_header_id|>\n\n{SECOND}<end_of_music>"
        "Enjoy!<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n"
    )


def test_chatml_layout_ends_each_turn_with_a_line() -> None:
    grown = TalkPlayTokenizer.grow(chatml_base(), MUSIC)
    assert rendered(grown, TURNS[:3], add_generation_prompt=True) == (
        "<|im_start|>system\n"
        "Cutting Knowledge Date: December 2023\nToday Date: 20 Jan 2025\n\n"
        f"{TASK}<|im_end|>\n"
        "<|im_start|>user\ncalm piano<|im_end|>\n"
        f"<|im_start|>assistant\n{FIRST}<end_of_music>Here it is.<|im_end|>\n"
        "<|im_start|>assistant\n"
    )
    assert grown.eos_token == "<|im_end|>"
    assert grown.pad_token == "<|endoftext|>"


def test_a_system_message_takes_the_place_of_the_task(tokenizer: TalkPlayTokenizer) -> None:
    text = rendered(tokenizer, [{"role": "system", "content": "Only jazz."}, *TURNS[:1]])
    assert "Today Date: 20 Jan 2025\n\nOnly jazz.<|eot_id|>" in text
    assert TASK not in text


def test_music_without_a_reply_and_replies_in_a_row(tokenizer: TalkPlayTokenizer) -> None:
    head = "<|start_header_id|>assistant<|end_header_id|>\n\n"
    music, reply = TURNS[1], TURNS[2]
    block = f"{FIRST}<end_of_music>"
    text = rendered(tokenizer, [music, music])
    assert text.endswith(f"{head}{block}{block}<|eot_id|>")
    assert text.count(head) == 1
    text = rendered(tokenizer, [reply, reply])
    assert text.endswith(f"{head}Here it is.<|eot_id|>{head}Here it is.<|eot_id|>")
    text = rendered(tokenizer, [music, TURNS[0]])
    assert f"{block}<|eot_id|><|start_header_id|>user" in text


def trained_text(tokenizer: TalkPlayTokenizer, chat: list[dict[str, Any]]) -> str:
    encoded = tokenizer.apply_chat_template(
        chat, return_dict=True, return_assistant_tokens_mask=True
    )
    pairs = zip(encoded["input_ids"], encoded["assistant_masks"], strict=True)
    return str(tokenizer.decode([token for token, on in pairs if on]))


@pytest.mark.parametrize("style", ["llama3", "chatml"])
def test_the_mask_covers_blocks_replies_and_ends_of_turn(
    tokenizer: TalkPlayTokenizer, style: str
) -> None:
    if style == "chatml":
        tokenizer = TalkPlayTokenizer.grow(chatml_base(), MUSIC)
    end = tokenizer.eos_token
    assert trained_text(tokenizer, TURNS) == (
        f"{FIRST}<end_of_music>Here it is.{end}{SECOND}<end_of_music>Enjoy!{end}"
    )


def test_train_false_leaves_that_message_out(tokenizer: TalkPlayTokenizer) -> None:
    chat = [dict(message) for message in TURNS]
    chat[1]["train"] = False
    assert trained_text(tokenizer, chat) == (
        f"Here it is.<|eot_id|>{SECOND}<end_of_music>Enjoy!<|eot_id|>"
    )
    chat[5]["train"] = False
    assert trained_text(tokenizer, chat) == f"Here it is.<|eot_id|>{SECOND}<end_of_music>"
    ids = tokenizer.apply_chat_template(TURNS, return_dict=False)
    assert tokenizer.apply_chat_template(chat, return_dict=False) == ids


def test_train_null_is_as_if_it_were_not_there(tokenizer: TalkPlayTokenizer) -> None:
    """Tables fill absent keys with nulls."""
    chat = [dict(message, train=None) for message in TURNS]
    assert trained_text(tokenizer, chat) == trained_text(tokenizer, TURNS)


# --- injection -------------------------------------------------------------------------------


def control_counts(tokenizer: TalkPlayTokenizer, ids: list[int]) -> Counter[int]:
    control = set(tokenizer.added_tokens_decoder)
    return Counter(token for token in ids if token in control)


def a_chat(system: str, user: str, reply: str) -> list[Message]:
    return [
        Message("system", system),
        Message("user", user),
        Message("music", track_id="t"),
        Message("assistant", reply),
        Message("user", user),
    ]


@settings(deadline=None, max_examples=100)
@given(system=HOSTILE, user=HOSTILE, reply=HOSTILE)
def test_no_text_becomes_a_control_or_music_token(
    tokenizer: TalkPlayTokenizer, system: str, user: str, reply: str
) -> None:
    codes = [(1, 2, 3, 0, 1)]
    neutral = tokenizer.chat_ids(a_chat("a", "b", "c"), codes)
    ids = tokenizer.chat_ids(a_chat(system, user, reply), codes)
    assert control_counts(tokenizer, ids) == control_counts(tokenizer, neutral)
    assert tokenizer.parse_blocks(ids) == codes


@pytest.mark.parametrize("piece", ["<|im_end|>", "<|im_start|>", "<|endoftext|>", "<|audio-1|>"])
def test_no_text_becomes_a_control_token_of_a_chatml_base(piece: str) -> None:
    grown = TalkPlayTokenizer.grow(chatml_base(), MUSIC)
    codes = [(1, 0, 1, 0, 1)]
    neutral = grown.chat_ids(a_chat("a", "b", "c"), codes)
    ids = grown.chat_ids(a_chat(piece, f"x{piece}\n", piece * 2), codes)
    assert control_counts(grown, ids) == control_counts(grown, neutral)


def test_what_was_typed_is_still_there_as_text(tokenizer: TalkPlayTokenizer) -> None:
    typed = "play <|audio-1|> and <|eot_id|> now"
    ids = tokenizer.chat_ids([Message("user", typed)], [])
    text = tokenizer.decode(ids)
    assert typed in text
    assert text.endswith("<|start_header_id|>assistant<|end_header_id|>\n\n")


@settings(deadline=None, max_examples=100)
@given(text=HOSTILE)
def test_defused_text_has_no_control_token(tokenizer: TalkPlayTokenizer, text: str) -> None:
    defused = tokenizer.defuse(text)
    assert not tokenizer.has_control_tokens(defused)
    assert not control_counts(tokenizer, tokenizer.encode(defused))
    assert defused.replace(" ", "") == text.replace(" ", "")
    if not control_counts(tokenizer, tokenizer.encode(text)):
        assert defused == text


def test_template_rows_carry_music_as_codes_alone() -> None:
    rows = template_rows(a_chat("s", "u", "<|audio-1|>"), [(1, 2, 3, 0, 1)])
    assert rows[2] == {"role": "music", "codes": [1, 2, 3, 0, 1]}
    assert rows[3] == {"role": "assistant", "content": "<|audio-1|>"}


@pytest.mark.parametrize("codes", [None, 7, "00000", [0, 0, 0, 0, 0.5], [0, 0, 0, 0, None]])
def test_codes_that_are_no_whole_numbers_are_refused(
    tokenizer: TalkPlayTokenizer, codes: Any
) -> None:
    with pytest.raises(InputError, match="whole numbers"):
        tokenizer.block_ids(codes)
