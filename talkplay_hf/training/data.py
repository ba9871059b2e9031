"""Training rows: conversations and playlist continuations as token ids with labels (paper 4.3)."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from talkplay_hf.catalog.schema import Catalog, Conversation, Message
from talkplay_hf.catalog.splits import playlist_splits
from talkplay_hf.errors import InputError
from talkplay_hf.tokens.tokenizer import TalkPlayTokenizer, template_rows

IGNORED = -100
CONTINUATION_TRACKS = (4, 24)
Rows = dict[str, list[list[int]]]


@dataclass(frozen=True)
class RowReport:
    """What became of the conversations.

    Args:
        rows (`int`): Training rows.
        shortened (`int`): Conversations that lost their oldest turns to fit.
        dropped (`int`): Conversations of which not even the last turn fits.
        defused (`int`): Messages in which a control or music token was spelled out.
        label_tokens (`int`): Tokens that count for the loss.
    """

    rows: int
    shortened: int
    dropped: int
    defused: int
    label_tokens: int


def conversation_rows(
    conversations: Sequence[Conversation],
    tokenizer: TalkPlayTokenizer,
    codes: Mapping[str, Sequence[int]],
    *,
    max_length: int = 1024,
    train_on_negatives: bool = False,
    progress: Callable[[str, int, int], None] | None = None,
) -> tuple[Rows, RowReport]:
    """Encode conversations; the loss is on replies and music tokens only.

    A conversation that is too long loses its oldest turns, never part of a music block.

    Args:
        conversations (`Sequence[Conversation]`): The conversations.
        tokenizer (`TalkPlayTokenizer`): The tokenizer.
        codes (`Mapping[str, Sequence[int]]`): The five codes of each track id.
        max_length (`int`): Tokens a row at most (paper: 1024).
        train_on_negatives (`bool`): Whether music from the negative set counts for the loss, as in
            section 3.2 of the paper; by default the model is not taught to play what is rejected.
        progress (`Callable`, *optional*): Called with (what, done, total).

    Returns:
        `tuple[Rows, RowReport]`: `input_ids` and `labels`, and what became of the conversations.

    Raises:
        InputError: If a conversation plays a track that the tokenizer does not know, or nothing in
            it counts for the loss.
    """
    rows: Rows = {"input_ids": [], "labels": []}
    shortened = dropped = defused = label_tokens = 0
    for number, conversation in enumerate(conversations):
        messages = []
        for message in conversation.messages:
            content = message.content
            if content and tokenizer.has_control_tokens(content):
                defused += 1
                content = tokenizer.defuse(content)
            messages.append(Message(message.role, content, message.track_id, message.source))
        where = conversation.conversation_id
        ids, labels = _encode(messages, tokenizer, codes, where, train_on_negatives)
        while len(ids) > max_length:
            messages = _without_oldest_turn(messages)
            if not messages:
                break
            ids, labels = _encode(messages, tokenizer, codes, where, train_on_negatives)
        if not messages:
            dropped += 1
            continue
        shortened += len(messages) < len(conversation.messages)
        counted = sum(label != IGNORED for label in labels)
        if not counted:
            raise InputError(
                f"conversation {where!r}: nothing in it counts for the loss (no assistant or music "
                "message to learn from)"
            )
        label_tokens += counted
        rows["input_ids"].append(ids)
        rows["labels"].append(labels)
        if progress is not None and (number % 200 == 199 or number + 1 == len(conversations)):
            progress("encoding conversations", number + 1, len(conversations))
    report = RowReport(len(rows["input_ids"]), shortened, dropped, defused, label_tokens)
    return rows, report


def _encode(
    messages: Sequence[Message],
    tokenizer: TalkPlayTokenizer,
    codes: Mapping[str, Sequence[int]],
    where: str,
    train_on_negatives: bool,
) -> tuple[list[int], list[int]]:
    blocks = []
    for message in messages:
        if message.role == "music":
            if message.track_id is None or message.track_id not in codes:
                raise InputError(
                    f"conversation {where!r}: track {message.track_id!r} is not in the token "
                    "catalog; the conversations belong to another catalog"
                )
            blocks.append(codes[message.track_id])
    rows = template_rows(messages, blocks)
    for row, message in zip(rows, messages, strict=True):
        if message.source == "negative" and not train_on_negatives:
            row["train"] = False
    return _labelled(rows, tokenizer)


def _labelled(
    rows: list[dict[str, Any]], tokenizer: TalkPlayTokenizer
) -> tuple[list[int], list[int]]:
    encoded = tokenizer.apply_chat_template(
        rows, return_dict=True, return_assistant_tokens_mask=True
    )
    ids: list[int] = encoded["input_ids"]
    mask = encoded["assistant_masks"]
    return ids, [token if on else IGNORED for token, on in zip(ids, mask, strict=True)]


def _without_oldest_turn(messages: list[Message]) -> list[Message]:
    """Drop everything before the second user message, but keep a system message."""
    users = [at for at, message in enumerate(messages) if message.role == "user"]
    if len(users) < 2:
        return []
    kept = messages[:1] if messages[0].role == "system" else []
    return kept + messages[users[1] :]


def continuation_rows(
    catalog: Catalog,
    tokenizer: TalkPlayTokenizer,
    codes: Mapping[str, Sequence[int]],
    *,
    label_tokens: int,
    max_length: int = 1024,
    split: str = "train",
    seed: int = 0,
) -> Rows:
    """Playlist continuation (paper 4.3): music messages only, labels after a random offset.

    Pieces of random playlists of one split are drawn until they have enough label tokens.

    Args:
        catalog (`Catalog`): The catalog with its playlists.
        tokenizer (`TalkPlayTokenizer`): The tokenizer.
        codes (`Mapping[str, Sequence[int]]`): The five codes of each track id.
        label_tokens (`int`): Tokens that should count for the loss, in all.
        max_length (`int`): Tokens a row at most.
        split (`str`): Which playlists.
        seed (`int`): Seed of the draw.

    Returns:
        `Rows`: `input_ids` and `labels`.
    """
    splits = playlist_splits(catalog)
    playlists = []
    for playlist in catalog.iter_playlists():
        known = [track_id for track_id in playlist.track_ids if track_id in codes]
        if splits[playlist.playlist_id] == split and len(known) >= 2:
            playlists.append(known)
    rows: Rows = {"input_ids": [], "labels": []}
    if not playlists:
        return rows
    rng = np.random.default_rng(seed)
    block = len(tokenizer.config.codes) + 2
    frame, _ = _labelled(template_rows([Message("music")], [[0] * (block - 2)]), tokenizer)
    longest = (max_length - len(frame)) // block + 1
    if longest < 2:
        raise InputError(f"max_length {max_length} has no room for two tracks")
    counted = 0
    while counted < label_tokens:
        known = playlists[int(rng.integers(len(playlists)))]
        size = min(len(known), longest, int(rng.integers(*CONTINUATION_TRACKS)))
        start = int(rng.integers(0, len(known) - size + 1))
        piece = known[start : start + size]
        offset = int(rng.integers(1, size))
        messages = template_rows([Message("music")] * size, [codes[track] for track in piece])
        for message in messages[:offset]:
            message["train"] = False
        ids, labels = _labelled(messages, tokenizer)
        counted += sum(label != IGNORED for label in labels)
        rows["input_ids"].append(ids)
        rows["labels"].append(labels)
    return rows
