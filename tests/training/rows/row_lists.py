"""Training rows as lists in memory, to look at."""

from collections.abc import Iterable, Sequence
from typing import Any

from talkplay_hf.catalog.schema import Catalog, Conversation
from talkplay_hf.tokens.tokenizer import TalkPlayTokenizer
from talkplay_hf.training.rows.encode import (
    Codes,
    Row,
    RowReport,
    draw_continuations,
    encode_conversations,
    known_playlists,
)

Rows = dict[str, list[list[int]]]


def conversation_rows(
    conversations: Sequence[Conversation],
    tokenizer: TalkPlayTokenizer,
    codes: Codes,
    **options: Any,
) -> tuple[Rows, RowReport]:
    report = RowReport()
    return listed(encode_conversations(conversations, tokenizer, codes, report, **options)), report


def continuation_rows(
    catalog: Catalog, tokenizer: TalkPlayTokenizer, codes: Codes, **options: Any
) -> Rows:
    playlists = known_playlists(catalog, codes).get("train", [])
    return listed(draw_continuations(playlists, tokenizer, codes, RowReport(), **options))


def listed(made: Iterable[Row]) -> Rows:
    rows = list(made)
    return {
        "input_ids": [ids.tolist() for ids, _ in rows],
        "labels": [labels.tolist() for _, labels in rows],
    }
