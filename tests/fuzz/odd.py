"""Odd input: texts, numbers, JSON of any shape, and damage to bytes."""

import json
from decimal import Decimal
from typing import Any

import numpy as np
from hypothesis import strategies as st

# what an attacker would type, what only looks like it, and what breaks readers
PIECES = [
    *("<start_of_music>", "<end_of_music>", "<|playlist-0|>", "<|audio-1|>", "<|eot_id|>"),
    *("<|im_start|>", "<|im_end|>", "<|endoftext|>", "<|start_header_id|>", "</s>", "[INST]"),
    *("<|", "|>", "＜|audio-0|＞", "<|audio\u200b-0|>", "{{ x }}", "{% for %}", "${x}", "%s"),
    *("\0", "\x1b[2J", "\ufeff", "\u202e", "\u2066", "\u200d", "\u2028", "\r", "\n", "\t", "\x85"),
    *("\ud800", "\udfff", "😀", "é", "é", "İ", "ß", "ﷺ", "٣", "०", "\U000e0041"),
    *('"', "'", "\\", "`", ",", ";", "|", ":", "=", "@", "+", "-", "#", "/", "../", "~"),
    *("[", "]", "{", "}", "(", ")", "<", ">", "<!--", "<script>", "&lt;", "&#0;", "'; --"),
    *("not ", "is ", ">= ", "at most ", " in last ", "tags", "year", "title", "artist"),
    *("0", "1", "-1", "1e999", "nan", "inf", "0x10", "1_000", "9" * 30, "null", "true", "None"),
    *("http://", "file:///etc/passwd", "\\x00", "\\ud800", "\\N{DIGIT ONE}", "a", " "),
]
ANY_TEXT = st.text(max_size=60)
NASTY = st.lists(st.sampled_from(PIECES) | st.text(max_size=4), max_size=14).map("".join)
LONG = st.builds(
    lambda head, piece, times, tail: head + piece * times + tail,
    *(NASTY, st.sampled_from(PIECES), st.sampled_from([30, 1_500, 20_000]), NASTY),
)
TEXT = NASTY | NASTY | ANY_TEXT | LONG
# text that can be written to a file
PLAIN = TEXT.map(lambda text: text.encode("utf-8", "replace").decode())
NUMBERS = (
    st.integers()
    | st.floats()
    | st.booleans()
    | st.sampled_from([2**31, 2**63, -(2**63) - 1, 10**400, -0.0, 1e308])
)
JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | NUMBERS | NASTY,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NASTY, inner, max_size=4),
    max_leaves=12,
)
DEEP = st.builds(
    lambda sign, times: sign * times + ("]" * times if sign == "[" else "1" + "}" * times),
    *(st.sampled_from(["[", '{"a":']), st.sampled_from([30, 400, 900, 3_000, 50_000])),
)
JSON_TEXT = JSON.map(lambda value: json.dumps(value, ensure_ascii=False)) | DEEP | TEXT
ODD = (
    JSON
    | TEXT
    | st.binary(max_size=20)
    | st.sampled_from(
        [object(), float, len, ..., (), [[]], set(), Decimal(1), 1j, b"\xff", range(3), np.nan]
    )
    | st.integers(-3, 70_000).map(np.int64)
    | st.integers(0, 255).map(np.uint8)
    | st.floats().map(np.float32)
    | st.booleans().map(np.bool_)
    | st.lists(st.integers(-3, 300), max_size=6).map(np.array)
)


def altered(values: dict[str, Any], others: st.SearchStrategy[Any] = JSON) -> Any:
    """A JSON object with some names given another value, left out, or added."""
    changed = st.dictionaries(st.sampled_from([*values, "other", ""]), others, max_size=3)
    without = st.sets(st.sampled_from([*values]), max_size=1)
    return st.builds(
        lambda new, gone: {k: v for k, v in (values | new).items() if k not in gone},
        *(changed, without),
    )


@st.composite
def damaged(draw: st.DrawFn, raw: bytes) -> bytes:
    """Bytes with some flipped, cut out, doubled or put in."""
    content = bytearray(raw)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(len(content) - 1, 0)))
        how = draw(st.sampled_from(["flip", "set", "cut", "end", "put", "double"]))
        size = draw(st.integers(1, 40))
        if how == "flip" and content:
            content[at] ^= 1 << draw(st.integers(0, 7))
        elif how == "set" and content:
            content[at] = draw(st.sampled_from([0, 1, 127, 128, 255]))
        elif how == "cut":
            del content[at : at + size]
        elif how == "end":
            del content[at:]
        elif how == "put":
            content[at:at] = draw(st.binary(max_size=20))
        else:
            content[at:at] = content[at : at + size]
    return bytes(content)
