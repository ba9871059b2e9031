"""The form of an answer as a regex, and as the grammars of llama.cpp, xgrammar and llguidance.

An engine that is not transformers cannot run our logits processors, but most can hold a model to a
grammar. There are two kinds:

- A regex says what the *text* of an answer is. A token of the form `<|audio-29|>` is one token for
  the model, but for a regex it is eleven signs, which a model may also write one by one. Its text
  then looks right and no music token was generated.
- The other three name *token ids*, so that a block is made of music tokens and of nothing else.

In all of them the text between blocks has no `<`, unless a digit or a space follows: so a reply can
spell no music token, and no control token of the supported base models.
"""

from collections.abc import Callable, Sequence
from itertools import groupby
from operator import itemgetter

import numpy as np

from talkplay_hf.errors import ConfigError, InputError
from talkplay_hf.recommend.grammar.processor import PLACES
from talkplay_hf.tokens.config import END_OF_MUSIC, START_OF_MUSIC, TalkPlayConfig
from talkplay_hf.tokens.tokenizer import TalkPlayTokenizer

# xgrammar and llguidance compile as many in under a second, a regex of them in ten; at 20,000
# llguidance gives up
MAX_TUPLES = 5_000
# [^<] is any other sign, line ends included; "<3" is common in chats
_TEXT = "([^<]|<[ 0-9])*"
_TEXT_RULE = 'text ::= ([^<] | "<" [ 0-9])*\n'


def answer_regex(
    config: TalkPlayConfig,
    *,
    tracks: int = 1,
    place: str = "first",
    reply: bool = True,
    codes: np.ndarray | None = None,
) -> str:
    """The text of an answer as a regex, without look-around and anchors.

    It is for engines that take nothing better; see the module on what a regex cannot hold.

    Args:
        config (`TalkPlayConfig`): Modalities in order, and their codebook sizes.
        tracks (`int`): Music blocks an answer has, no more and no less.
        place (`str`): `"first"` puts them before the text (paper 4.4), `"anywhere"` between it.
        reply (`bool`): Whether text may come at all.
        codes (`np.ndarray` of shape `[n, modalities]`, int, *optional*): Only the tuples of these
            tracks, at most `MAX_TUPLES` different ones.

    Raises:
        ConfigError: If `tracks` or `place` is impossible.
        InputError: If `codes` do not fit, or are too many.
    """

    def token(m: int, code: int | str) -> str:
        return rf"<\|{config.modalities[m]}-{code}\|>"

    inside = _inside(
        config.codes,
        codes,
        any_code=lambda m: token(m, _number(config.codes[m])),
        one_code=token,
        space="",
    )
    text = _TEXT if reply else ""
    block = f"{START_OF_MUSIC}{inside}{END_OF_MUSIC}"
    return "".join(_order(block, text, tracks, place))


def answer_gbnf(
    tokenizer: TalkPlayTokenizer,
    *,
    tracks: int = 1,
    place: str = "first",
    reply: bool = True,
    codes: np.ndarray | None = None,
) -> str:
    """The grammar of an answer over token ids for llama.cpp, of December 2025 or later.

    The arguments are those of `answer_regex`, with the tokenizer, which knows the ids.

    Raises:
        ConfigError: If `tracks` or `place` is impossible.
        InputError: If `codes` do not fit, or are too many.
    """

    def any_code(first: int, end: int) -> str:
        return f"({' | '.join(map(_in_brackets, range(first, end)))})"

    block = _block(tokenizer, codes, _in_brackets, any_code)
    return _rules("root ::= {}\nblock ::= {}\n", _TEXT_RULE, block, tracks, place, reply)


def answer_ebnf(
    tokenizer: TalkPlayTokenizer,
    *,
    tracks: int = 1,
    place: str = "first",
    reply: bool = True,
    codes: np.ndarray | None = None,
) -> str:
    """The grammar of an answer over token ids for xgrammar, of April 2026 or later, and so vLLM.

    The arguments are those of `answer_regex`, with the tokenizer, which knows the ids.

    Raises:
        ConfigError: If `tracks` or `place` is impossible.
        InputError: If `codes` do not fit, or are too many.
    """

    def any_code(first: int, end: int) -> str:
        return f"Token({', '.join(map(str, range(first, end)))})"

    block = _block(tokenizer, codes, lambda token: f"Token({token})", any_code)
    return _rules("root ::= {}\nblock ::= {}\n", _TEXT_RULE, block, tracks, place, reply)


def answer_lark(
    tokenizer: TalkPlayTokenizer,
    *,
    tracks: int = 1,
    place: str = "first",
    reply: bool = True,
    codes: np.ndarray | None = None,
) -> str:
    """The grammar of an answer over token ids in the Lark dialect of llguidance.

    vLLM (`--structured-outputs-config.backend guidance`) and SGLang can use llguidance. The
    arguments are those of `answer_regex`, with the tokenizer, which knows the ids.

    Raises:
        ConfigError: If `tracks` or `place` is impossible.
        InputError: If `codes` do not fit, or are too many.
    """

    def any_code(first: int, end: int) -> str:
        return f"<[{first}-{end - 1}]>"

    block = _block(tokenizer, codes, _in_brackets, any_code)
    return _rules("start: {}\nblock: {}\n", f"text: /{_TEXT}/\n", block, tracks, place, reply)


def _order(block: str, text: str, tracks: int, place: str) -> list[str]:
    """Blocks and text in the order in which they stand."""
    if isinstance(tracks, bool) or not isinstance(tracks, int) or tracks < 1:
        raise ConfigError(f"tracks {tracks!r:.60}: an answer plays at least one track")
    if not isinstance(place, str) or place not in PLACES:
        raise ConfigError(f"place {place!r:.60}: must be one of {PLACES}")
    if place == "first":
        return [*[block] * tracks, text]
    return [text, *[block, text] * tracks]


def _rules(form: str, text_rule: str, block: str, tracks: int, place: str, reply: bool) -> str:
    """A grammar of token ids: the answer as blocks and text, a block, and what text is."""
    order = _order("block", "text" if reply else "", tracks, place)
    answer = " ".join(part for part in order if part)
    return form.format(answer, block) + (text_rule if reply else "")


def _in_brackets(token: int) -> str:
    return f"<[{token}]>"


def _block(
    tokenizer: TalkPlayTokenizer,
    codes: np.ndarray | None,
    one_token: Callable[[int], str],
    any_code: Callable[[int, int], str],
) -> str:
    """A whole block, from `<start_of_music>` to `<end_of_music>`."""
    offsets = tokenizer.code_offsets.tolist()
    inside = _inside(
        tokenizer.config.codes,
        codes,
        any_code=lambda m: any_code(offsets[m], offsets[m + 1]),
        one_code=lambda m, code: one_token(offsets[m] + code),
        space=" ",
    )
    start, end = map(one_token, (tokenizer.start_of_music_id, tokenizer.end_of_music_id))
    return f"{start} {inside} {end}"


def _inside(
    sizes: Sequence[int],
    codes: np.ndarray | None,
    *,
    any_code: Callable[[int], str],
    one_code: Callable[[int, int], str],
    space: str,
) -> str:
    """What stands between the start and the end of a block."""
    if codes is None:
        return space.join(any_code(m) for m in range(len(sizes)))
    if not isinstance(codes, np.ndarray) or codes.dtype.kind not in "iu":
        raise InputError(f"codes {codes!r:.60}: must be an array of whole numbers")
    if codes.ndim != 2 or codes.shape[1] != len(sizes) or not len(codes):
        raise InputError(f"codes of shape {codes.shape}: must be one row of {len(sizes)} a track")
    if ((codes < 0) | (codes >= np.asarray(sizes))).any():
        raise InputError("codes: some are beyond the codebooks")
    tuples = np.unique(codes, axis=0).tolist()
    if len(tuples) > MAX_TUPLES:
        raise InputError(
            f"codes: {len(tuples)} different tuples make a grammar that engines take too long to "
            f"compile; leave the codes out, or give those of at most {MAX_TUPLES} candidates"
        )

    def below(rows: list[list[int]], m: int) -> str:
        if m == len(sizes):
            return ""
        branches = [
            space.join(filter(None, (one_code(m, code), below(list(group), m + 1))))
            for code, group in groupby(rows, key=itemgetter(m))
        ]
        bar = f"{space}|{space}"
        return branches[0] if len(branches) == 1 else f"({bar.join(branches)})"

    return below(tuples, 0)


def _number(size: int) -> str:
    """A regex of the decimal numbers from 0 to `size - 1`, without leading zeros."""
    last = str(size - 1)
    parts = ["[0-9]"] if len(last) > 1 else []
    if len(last) > 2:
        parts.append(f"[1-9][0-9]{{1,{len(last) - 2}}}")
    # as long as the last number: equal up to one digit, less there, then anything
    for at, digit in enumerate(last):
        least = 1 if at == 0 and len(last) > 1 else 0
        top = int(digit) - (at < len(last) - 1)
        if top >= least:
            rest = "[0-9]" * (len(last) - at - 1)
            parts.append(f"{last[:at]}[{least}-{top}]{rest}")
    return f"({'|'.join(parts)})"
