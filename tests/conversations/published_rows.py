"""Files of published sets, and all conversations of one at once, to look at."""

import json
from pathlib import Path
from typing import Any

from talkplay_hf.catalog.schema import Catalog, Conversation
from talkplay_hf.conversations.published.report import PublishedReport
from talkplay_hf.conversations.published.sets import PublishedConversations


def jsonl(path: Path, *rows: Any) -> Path:
    """Write a line of JSON a row."""
    path.write_text("".join(json.dumps(one) + "\n" for one in rows), encoding="utf-8")
    return path


def import_conversations(
    path: Path, catalog: Catalog, **options: Any
) -> tuple[list[Conversation], PublishedReport]:
    """The conversations of a file or folder, and what became of all its rows."""
    found = PublishedConversations(path, catalog, **options)
    return list(found), found.report
