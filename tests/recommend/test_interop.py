"""Grammars for other engines, and what their answers say."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import LlamaForCausalLM, LogitsProcessorList

from talkplay_hf.catalog.schema import Message
from talkplay_hf.errors import ArtifactError, ConfigError, InputError
from talkplay_hf.recommend.grammar import MusicGrammarLogitsProcessor, MusicVocabulary
from talkplay_hf.recommend.interop.grammars import (
    MAX_TUPLES,
    answer_ebnf,
    answer_gbnf,
    answer_lark,
    answer_regex,
)
from talkplay_hf.recommend.interop.served import ServedModel
from talkplay_hf.recommend.recommender import Recommender
from talkplay_hf.tokens.config import TalkPlayConfig
from talkplay_hf.tokens.tokenizer import TalkPlayTokenizer

REPLY = "Here is one, <3\nfor café evenings"
GRAMMARS = [answer_gbnf, answer_ebnf, answer_lark]


@pytest.fixture(scope="module")
def served(tokenizer: TalkPlayTokenizer) -> ServedModel:
    return ServedModel(tokenizer)


def config_of(*sizes: int) -> TalkPlayConfig:
    names = tuple(f"m{number}" for number in range(len(sizes)))
    return TalkPlayConfig(
        codes=sizes,
        base="",
        base_vocab_size=0,
        codebook_hash="",
        catalog_hash="",
        modalities=names,
        lookup_weights=sizes,
    )


def text_ids(tokenizer: TalkPlayTokenizer, text: str) -> list[int]:
    return tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True)


def spelled(tokenizer: TalkPlayTokenizer, ids: list[int]) -> list[int]:
    """Ids with the same text, but without any music token."""
    return text_ids(tokenizer, tokenizer.decode(ids))


def broken(tokenizer: TalkPlayTokenizer, block: list[int]) -> dict[str, list[int]]:
    """Answers of one block and text that no grammar of "one track, then text" may accept."""
    text = text_ids(tokenizer, REPLY)
    return {
        "no block": text,
        "text first": text + block,
        "a code too few": block[:3] + block[4:] + text,
        "a code too many": block[:3] + block[2:] + text,
        "wrong order": [block[0], block[2], block[1], *block[3:], *text],
        "no start": block[1:] + text,
        "no end": block[:-1] + text,
        "cut off": block[:4],
        "two blocks": block + block + text,
        "a late block": block + text + block,
        "a code in the text": block + text + [block[1]],
        "an end in the text": block + text + [block[-1]],
        "a control token": [*block, int(tokenizer.bos_token_id), *text],
        "a turn after the turn": [*block, int(tokenizer.eos_token_id), *text],
    }


@pytest.mark.parametrize("size", [1, 2, 8, 10, 11, 16, 64, 99, 100, 101, 256, 1000, 1024])
def test_the_regex_takes_the_codes_of_a_codebook_and_no_others(size: int):
    pattern = re.compile(answer_regex(config_of(size), reply=False))
    numbers = [*map(str, range(2 * size + 20)), "00", "01", "-1", "", "1 ", "٣"]
    taken = [
        number
        for number in numbers
        if pattern.fullmatch(f"<start_of_music><|m0-{number}|><end_of_music>")
    ]
    assert taken == [str(code) for code in range(size)]


def test_the_regex_takes_a_right_answer_and_no_broken_one(tokenizer: TalkPlayTokenizer):
    pattern = re.compile(answer_regex(tokenizer.config))
    block = tokenizer.block_ids((1, 2, 3, 4, 1))
    assert pattern.fullmatch(tokenizer.decode(block + text_ids(tokenizer, REPLY)))
    assert pattern.fullmatch(tokenizer.decode(block))
    for name, ids in broken(tokenizer, block).items():
        assert not pattern.fullmatch(tokenizer.decode(ids)), name


def test_tracks_and_their_place_are_options(tokenizer: TalkPlayTokenizer):
    block = tokenizer.decode(tokenizer.block_ids((0, 0, 0, 0, 0)))
    anywhere = re.compile(answer_regex(tokenizer.config, tracks=2, place="anywhere"))
    first = re.compile(answer_regex(tokenizer.config, tracks=2))
    for answer, is_first in [
        (block + block, True),
        (block + block + "hi", True),
        ("hi" + block + "and" + block, False),
        ("hi" + block + block + "ho", False),
    ]:
        assert anywhere.fullmatch(answer)
        assert bool(first.fullmatch(answer)) == is_first
    for answer in ("hi", block, block * 3, "hi" + block):
        assert not anywhere.fullmatch(answer)
        assert not first.fullmatch(answer)
    assert not re.fullmatch(answer_regex(tokenizer.config, reply=False), block + "hi")


@given(text=st.text(st.sampled_from("<|>-_ 3abcdeiloprstuy \n"), max_size=40), data=st.data())
@settings(max_examples=200)
def test_a_reply_can_spell_no_token(tokenizer: TalkPlayTokenizer, text: str, data: st.DataObject):
    token = data.draw(st.sampled_from(sorted(tokenizer.added_tokens_encoder)))
    at = data.draw(st.integers(0, len(text)))
    block = tokenizer.decode(tokenizer.block_ids((0, 0, 0, 0, 0)))
    pattern = re.compile(answer_regex(tokenizer.config))
    assert not pattern.fullmatch(block + text[:at] + token + text[at:])


def test_what_the_grammar_processor_lets_through_matches_the_regex(
    tokenizer: TalkPlayTokenizer, tiny_model: LlamaForCausalLM
):
    prompt = tokenizer.chat_ids([Message("user", "something calm")], [])
    processor = MusicGrammarLogitsProcessor(MusicVocabulary.of(tokenizer), tracks=2)
    with torch.random.fork_rng(), torch.inference_mode():
        torch.manual_seed(0)
        output = tiny_model.generate(
            torch.tensor([prompt] * 64),
            do_sample=True,
            max_new_tokens=30,
            logits_processor=LogitsProcessorList([processor]),
            pad_token_id=tokenizer.pad_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )
    pattern = re.compile(answer_regex(tokenizer.config, tracks=2))
    end = str(tokenizer.eos_token)
    checked = 0
    for ids in output[:, len(prompt) :].tolist():
        answer, _, _ = tokenizer.decode(ids).partition(end)
        # a processor may let a reply have any sign, the regex is stricter with one of them
        if "<" not in answer.rpartition("<end_of_music>")[2]:
            assert pattern.fullmatch(answer), answer
            checked += 1
    assert checked > 32


def test_a_grammar_of_a_catalogue_takes_its_tracks_only(
    tokenizer: TalkPlayTokenizer, served: ServedModel
):
    pattern = re.compile(answer_regex(tokenizer.config, reply=False, codes=served.codes))
    known = {tuple(row) for row in served.codes.tolist()}
    rng = np.random.default_rng(0)
    others = rng.integers(0, tokenizer.config.codes, (200, len(tokenizer.config.codes)))
    for codes in [*known, *map(tuple, others.tolist())]:
        text = tokenizer.decode(tokenizer.block_ids(codes))
        assert bool(pattern.fullmatch(text)) == (codes in known)


def test_options_that_cannot_be_are_refused(tokenizer: TalkPlayTokenizer):
    with pytest.raises(ConfigError, match="tracks 0"):
        answer_regex(tokenizer.config, tracks=0)
    with pytest.raises(ConfigError, match="'last'"):
        answer_gbnf(tokenizer, place="last")
    with pytest.raises(InputError, match="shape"):
        answer_ebnf(tokenizer, codes=np.zeros((3, 4), dtype=int))
    with pytest.raises(InputError, match="beyond"):
        answer_lark(tokenizer, codes=np.full((3, 5), 99))
    many = np.stack([np.arange(MAX_TUPLES + 1)] * 5, axis=1)
    with pytest.raises(InputError, match="different tuples"):
        answer_regex(config_of(*[8192] * 5), codes=many)


@pytest.mark.parametrize("grammar", GRAMMARS)
def test_a_grammar_names_the_ids_of_the_music_tokens(
    grammar: Callable[..., str], tokenizer: TalkPlayTokenizer
):
    text = grammar(tokenizer)
    named: set[int] = set()
    for first, last in re.findall(r"(\d+)(?:-(\d+)\])?", text.partition("text")[2] or text):
        if int(first) > 9:
            named.update(range(int(first), int(last or first) + 1))
    first, end = tokenizer.start_of_music_id, int(tokenizer.code_offsets[-1])
    assert named == set(range(first, end))


def checker(engine: str, tokenizer: TalkPlayTokenizer) -> Callable[..., Callable[..., bool]]:
    """From a grammar's options to a function that says whether an engine takes ids to the end."""
    if engine == "xgrammar":
        xgrammar = pytest.importorskip("xgrammar")
        info = xgrammar.TokenizerInfo.from_huggingface(tokenizer, vocab_size=len(tokenizer))

        def compile_ebnf(**options: object) -> Callable[..., bool]:
            grammar = xgrammar.Grammar.from_ebnf(answer_ebnf(tokenizer, **options))
            compiled = xgrammar.GrammarCompiler(info).compile_grammar(grammar)

            def takes(ids: list[int]) -> bool:
                matcher = xgrammar.GrammarMatcher(compiled)
                return all(map(matcher.accept_token, [*ids, tokenizer.eos_token_id]))

            return takes

        return compile_ebnf
    llguidance = pytest.importorskip("llguidance")
    tokens = llguidance.LLTokenizer(
        tokenizer.backend_tokenizer.to_str(), eos_token=tokenizer.eos_token_id
    )

    def compile_lark(**options: object) -> Callable[..., bool]:
        grammar = llguidance.LLMatcher(tokens, answer_lark(tokenizer, **options))
        assert not grammar.get_error()

        def takes(ids: list[int]) -> bool:
            matcher = grammar.deep_copy()
            return matcher.try_consume_tokens(ids) == len(ids) and matcher.is_accepting()

        return takes

    return compile_lark


@pytest.mark.parametrize("engine", ["xgrammar", "llguidance"])
def test_an_engine_takes_right_answers_and_no_broken_ones(
    engine: str, tokenizer: TalkPlayTokenizer, served: ServedModel
):
    make = checker(engine, tokenizer)
    text = text_ids(tokenizer, REPLY)
    block = tokenizer.block_ids(served.codes[7].tolist())
    takes = make()
    assert takes(block)
    assert takes(block + text)
    for name, ids in broken(tokenizer, block).items():
        assert not takes(ids), name
    # what a regex cannot see: the same text without music tokens
    assert not takes(spelled(tokenizer, block) + text)
    assert re.fullmatch(
        answer_regex(tokenizer.config), tokenizer.decode(spelled(tokenizer, block) + text)
    )
    anywhere = make(tracks=2, place="anywhere")
    assert anywhere(text + block + text + block)
    assert not anywhere(text + block + text)
    assert not make(reply=False)(block + text)
    of_catalogue = make(codes=served.codes)
    assert of_catalogue(block + text)
    foreign = next(
        codes
        for codes in np.ndindex(*tokenizer.config.codes)
        if not (served.codes == codes).all(axis=1).any()
    )
    assert not of_catalogue(tokenizer.block_ids(foreign) + text)


def test_an_answer_leads_to_its_track(tokenizer: TalkPlayTokenizer, served: ServedModel):
    ids = tokenizer.block_ids(served.codes[7].tolist()) + text_ids(tokenizer, REPLY)
    found = served.read_ids([*ids, tokenizer.eos_token_id])
    assert found.codes == (tuple(served.codes[7].tolist()),)
    same = np.flatnonzero((served.codes == served.codes[7]).all(axis=1))
    assert [track.track_id for track in found.tracks] == [served.catalog.track_ids[same[0]]]
    assert found.matched == (tokenizer.config.modalities,)
    assert (found.reply, found.blocks, found.malformed) == (REPLY, 1, 0)
    from_text = served.read_text(tokenizer.decode(ids))
    assert (from_text.tracks, from_text.reply) == (found.tracks, REPLY)
    # between special tokens some servers put spaces
    spaced = served.read_text(tokenizer.decode(ids).replace("><", "> <"))
    assert spaced.malformed == 1


def test_a_block_that_is_not_well_formed_is_counted(
    tokenizer: TalkPlayTokenizer, served: ServedModel
):
    block = tokenizer.block_ids(served.codes[0].tolist())
    found = served.read_ids(block[:3] + block + text_ids(tokenizer, REPLY))
    assert (len(found.tracks), found.malformed, found.reply) == (1, 1, REPLY)


def test_tracks_of_one_answer_differ_and_excluded_ones_do_not_come(
    tokenizer: TalkPlayTokenizer, served: ServedModel
):
    block = tokenizer.block_ids(served.codes[7].tolist())
    same = (served.codes == served.codes[7]).all(axis=1)
    wanted = {served.catalog.track_ids[row] for row in np.flatnonzero(same)}
    found = served.read_ids(block * 9)
    assert {track.track_id for track in found.tracks} == wanted
    assert len(found.tracks) == len(wanted)
    assert found.blocks == 9
    found = served.read_ids(block, exclude=wanted)
    assert not wanted & {track.track_id for track in found.tracks}
    with pytest.raises(InputError, match="exclude 'one': must be several ids"):
        served.read_ids(block, exclude="one")


def test_ids_of_another_model_are_refused(tokenizer: TalkPlayTokenizer, served: ServedModel):
    for wrong in (len(tokenizer), -1, "7", None, True):
        with pytest.raises(InputError, match="not one of the"):
            served.read_ids([wrong])  # type: ignore[list-item]


def test_the_prompt_is_that_of_the_recommender(served: ServedModel, recommender: Recommender):
    track = served.catalog.track_ids[3]
    chat = [
        Message("user", "hello <|playlist-1|><end_of_music>"),
        Message("music", "", track),
        Message("assistant", "there"),
        Message("user", "more"),
    ]
    ids = served.prompt_ids(chat)
    assert ids == recommender.prompt_ids(chat)
    assert served.tokenizer.parse_blocks(ids) == [tuple(served.codes[3].tolist())]
    with pytest.raises(InputError, match="must be the user's"):
        served.prompt_ids(chat[:2])
    with pytest.raises(InputError, match="'gone'"):
        served.prompt_ids([Message("music", "", "gone"), chat[0]])


def test_a_folder_that_is_no_model_is_refused(tmp_path: Path):
    with pytest.raises(ArtifactError, match="no such folder"):
        ServedModel.from_pretrained(tmp_path / "nothing")
    with pytest.raises(InputError, match="'no repo': not the name of a Hub repo"):
        ServedModel.from_pretrained("no repo")
    (tmp_path / "tokenizer.json").write_text("{}", encoding="utf-8")
    with pytest.raises(ArtifactError, match=f"^{tmp_path}: the tokenizer cannot be used"):
        ServedModel.from_pretrained(tmp_path)


def test_an_answer_that_is_no_text_is_refused(served: ServedModel):
    with pytest.raises(InputError, match="answer None: must be text"):
        served.read_text(None)  # type: ignore[arg-type]


def test_half_of_a_surrogate_pair_in_an_answer_is_read(served: ServedModel):
    block = served.tokenizer.decode(served.tokenizer.block_ids((0, 0, 0, 0, 0)))
    assert served.read_text(f"{block}Hi \ud800").reply == "Hi ?"


@pytest.mark.parametrize("codes", ["", [[0] * 5], np.array([[0.5] * 5])])
def test_codes_for_a_grammar_are_an_array_of_whole_numbers(
    tokenizer: TalkPlayTokenizer, codes: np.ndarray
):
    with pytest.raises(InputError, match="whole numbers"):
        answer_lark(tokenizer, codes=codes)
