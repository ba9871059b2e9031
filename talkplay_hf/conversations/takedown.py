"""Taking conversations about tracks out of a conversations folder."""

import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from talkplay_hf.catalog.schema import Conversation
from talkplay_hf.catalog.takedown import refuse_unknown
from talkplay_hf.conversations.dataset import (
    ConversationWriter,
    iter_conversations,
    load_quarantine,
)
from talkplay_hf.errors import InputError
from talkplay_hf.hub import files

# what the writer counts itself, and figures of conversations that are no longer all there
_RECOMPUTED = (
    *("format_version", "talkplay_hf", "kind", "made_from", "files"),
    *("conversations", "splits", "languages", "quarantined", "quarantine_reasons"),
    *("reason_meanings", "quality", "quality_text"),
)
_WORD = re.compile(r"[^\s\"'\[\]{}(),<>\\]+")


def remove_from_conversations(
    folder: str | Path,
    track_ids: Iterable[str],
    out: str | Path,
    *,
    missing_ok: bool = False,
) -> dict[str, Any]:
    """Take the conversations that play a track, or name it as liked, out of a folder.

    They are dropped whole, since what is said later in them may be about the track. Refused answers
    that hold an id go too. Card and counts are written anew, and the figures of an earlier quality
    report are left out. Text that names a track which its conversation does not play is not
    found.

    A takedown reaches what is written from now on. What was pushed to the Hub before stays in the
    history of the repository until that is squashed (`HfApi.super_squash_history`), and weights
    that were trained on the conversations still know what they say.

    Args:
        folder (`str` or `Path`): The conversations folder.
        track_ids (`Iterable[str]`): The tracks.
        out (`str` or `Path`): The folder to write; may be the same folder.
        missing_ok (`bool`): Pass over ids that no conversation has.

    Returns:
        `dict[str, Any]`: How many of the tracks were found (`removed`) and not (`unknown`), how
        many conversations are `left`, and how many went, by split (`conversations`) and of the
        refused answers (`quarantined`).

    Raises:
        ArtifactError: If `folder` is no conversations folder or damaged, or `out` something else.
        InputError: If no conversation has an id, or none would be left. Nothing is written then.
    """
    folder = Path(folder)
    wanted = list(dict.fromkeys(track_ids))
    if not wanted:
        raise InputError("no track ids were given, so nothing can be removed")
    gone, found = set(wanted), set[str]()
    dropped: Counter[str] = Counter()
    quarantined = 0
    manifest = files.read_manifest(folder, "conversations")
    facts = {name: value for name, value in manifest.items() if name not in _RECOMPUTED}
    with ConversationWriter(out, manifest["made_from"], **facts) as writer:
        for one in iter_conversations(folder):
            named = _tracks(one) & gone
            if named:
                dropped[one.split] += 1
                found |= named
            else:
                writer.add(one)
        for row in load_quarantine(folder):
            texts = [row["answer"], *(row["details"] or ())]
            words = {word.rstrip(".:;!?") for text in texts for word in _WORD.findall(text or "")}
            if words & gone:
                quarantined += 1
                found |= words & gone
            else:
                writer.add_quarantined(row)
        unknown = [one for one in wanted if one not in found]
        if unknown and not missing_ok:
            refuse_unknown(unknown, folder)
        left = writer.counts["conversations"]
        if not left:
            raise InputError(f"{folder}: no conversation would be left; delete the folder instead")
    return {
        "removed": len(found),
        "unknown": len(unknown),
        "left": left,
        "conversations": dict(sorted(dropped.items())),
        "quarantined": quarantined,
    }


def _tracks(conversation: Conversation) -> set[str]:
    """The tracks that a conversation plays or names as liked."""
    return {
        one
        for message in conversation.messages
        for one in (message.track_id, *message.liked)
        if one is not None
    }
