"""The text of tracks and of dialogues that retrieval baselines see (paper A.4)."""

import re

from talkplay_hf.catalog.schema import Catalog, release_year
from talkplay_hf.evaluation.baselines.base import History

_WORD = re.compile(r"[^\W_]+")


def track_documents(catalog: Catalog) -> list[str]:
    """The text that retrieval baselines see of each track; missing fields are left out."""
    names = ("title", "artist", "album", "tags", "release_date")
    documents = []
    for title, artist, album, tags, date in zip(*map(catalog.column, names), strict=True):
        year = release_year(date)
        parts = [f"{title} by {artist}", f"from {album}" if album else "", *(tags or ())]
        parts.append("" if year is None else str(year))
        documents.append(" ".join(part for part in parts if part))
    return documents


def chat_text(history: History, *, last_turn: bool = False, newest_first: bool = False) -> str:
    """The words of a dialogue: of user and assistant in order, or of the last user message."""
    if last_turn:
        return next((m.content for m in reversed(history) if m.role == "user"), "")
    said = [m.content for m in history if m.role in ("user", "assistant")]
    return "\n".join(reversed(said) if newest_first else said)


def words(text: str) -> list[str]:
    """The words of a text, in lower case."""
    return _WORD.findall(text.lower())
