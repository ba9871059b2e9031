"""Training rows: conversations and playlist continuations as token ids with labels (paper 4.3)."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, pairwise
from typing import Any

import numpy as np
from transformers.utils.chat_template_utils import render_jinja_template

from talkplay_hf.catalog.schema import Catalog, Conversation, Message
from talkplay_hf.catalog.splits import playlist_splits
from talkplay_hf.errors import InputError
from talkplay_hf.tokens.tokenizer import (
    HEADER_STYLES,
    TalkPlayTokenizer,
    continuation_frame,
    template_rows,
)

IGNORED = -100
# the sets of rows, and what the values of their column `part` mean
PARTS = ("conversations", "playlists")
CONTINUATION_TRACKS = (4, 24)
# conversations that are rendered and tokenized at a time
BATCH = 256

Codes = Mapping[str, Sequence[int]]
# ids and labels of one row, int32
Row = tuple[np.ndarray, np.ndarray]


@dataclass
class RowReport:
    """What became of the conversations or playlists; filled while rows are made.

    Args:
        rows (`int`): Training rows.
        shortened (`int`): Conversations that lost their oldest turns to fit.
        dropped (`int`): Conversations of which not even the last turn fits, or in which nothing
            that fits counts for the loss.
        defused (`int`): Messages in which a control or music token was spelled out.
        label_tokens (`int`): Tokens that count for the loss.
        tokens (`int`): All tokens.
        longest (`int`): Tokens of the longest row.
    """

    rows: int = 0
    shortened: int = 0
    dropped: int = 0
    defused: int = 0
    label_tokens: int = 0
    tokens: int = 0
    longest: int = 0

    def add(self, row: Row) -> None:
        """Count a row."""
        ids, labels = row
        self.rows += 1
        self.label_tokens += int((labels != IGNORED).sum())
        self.tokens += len(ids)
        self.longest = max(self.longest, len(ids))


def encode_conversations(
    conversations: Iterable[Conversation],
    tokenizer: TalkPlayTokenizer,
    codes: Codes,
    report: RowReport,
    *,
    max_length: int = 1024,
    train_on_negatives: bool = False,
) -> Iterator[Row]:
    """Encode conversations as a stream; the loss is on replies and music tokens only.

    A conversation that is too long loses its oldest turns, never part of a music block.

    Args:
        conversations (`Iterable[Conversation]`): The conversations; `BATCH` of them are held.
        tokenizer (`TalkPlayTokenizer`): The tokenizer.
        codes (`Mapping[str, Sequence[int]]`): The five codes of each track id.
        report (`RowReport`): Counts what becomes of them.
        max_length (`int`): Tokens a row at most (paper: 1024).
        train_on_negatives (`bool`): Whether music from the negative set counts for the loss, as in
            section 3.2 of the paper; by default the model is not taught to play what is rejected.

    Yields:
        `tuple[np.ndarray, np.ndarray]`: Ids and labels of a row, int32 `[tokens]`.

    Raises:
        InputError: If a conversation plays a track that the tokenizer does not know, or nothing in
            it counts for the loss; those of the latter kind are counted first and refused after
            the last row.
    """
    template = str(tokenizer.chat_template)
    opening = next(parts[0] for parts in HEADER_STYLES.values() if parts[0] in template)
    header = int(tokenizer.convert_tokens_to_ids(opening))
    # up to the system message: some bases begin with this token as well
    before = int((continuation_frame(tokenizer)[0] == header).sum()) - 1
    stream = iter(conversations)
    silent: list[str] = []
    while batch := list(islice(stream, BATCH)):
        chats = [_chat(one, tokenizer, codes, report, train_on_negatives) for one in batch]
        for one, ids, labels in zip(batch, *_encode(chats, tokenizer), strict=True):
            if not (labels != IGNORED).any():
                silent.append(one.conversation_id)
                continue
            headers = np.flatnonzero(ids == header)[before:]
            start, rest = _cut(one, len(ids), headers, max_length)
            if start < rest:
                keep = np.r_[0:start, rest : len(ids)]
                ids, labels = ids[keep], labels[keep]
                if not (labels != IGNORED).any():
                    report.dropped += 1
                    continue
                report.shortened += 1
            report.add((ids, labels))
            yield ids, labels
    if silent:
        more = f" (and {len(silent) - 1} more conversations)" if len(silent) > 1 else ""
        raise InputError(
            f"conversation {silent[0]!r}{more}: nothing in it counts for the loss (no assistant "
            "or music message to learn from)"
        )


def _chat(
    one: Conversation,
    tokenizer: TalkPlayTokenizer,
    codes: Codes,
    report: RowReport,
    train_on_negatives: bool,
) -> list[dict[str, Any]]:
    """A conversation as the chat template takes it, control tokens in its text defused."""
    messages, blocks = [], []
    for message in one.messages:
        content = message.content
        if content and tokenizer.has_control_tokens(content):
            report.defused += 1
            content = tokenizer.defuse(content)
        messages.append(Message(message.role, content))
        if message.role == "music":
            if message.track_id is None or message.track_id not in codes:
                raise InputError(
                    f"conversation {one.conversation_id!r}: track {message.track_id!r} is not in "
                    "the token catalog; the conversations belong to another catalog"
                )
            blocks.append(codes[message.track_id])
    chat = template_rows(messages, blocks)
    if not train_on_negatives:
        for row, message in zip(chat, one.messages, strict=True):
            if message.source == "negative":
                row["train"] = False
    return chat


def _encode(
    chats: list[list[dict[str, Any]]], tokenizer: TalkPlayTokenizer
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Ids and labels of chats, int32."""
    # the template cannot write a chat without messages, in which there is nothing to learn
    chats = [chat or template_rows([Message("user")], []) for chat in chats]
    texts, answers = render_jinja_template(
        chats, chat_template=tokenizer.chat_template, return_assistant_tokens_mask=True
    )
    # in a batch, the tokenizer uses all cores
    encoded = tokenizer(texts, add_special_tokens=False, return_offsets_mapping=True)
    rows, marked = [], []
    found = (encoded["input_ids"], encoded["offset_mapping"], answers)
    for one, offsets, spans in zip(*found, strict=True):
        ids = np.array(one, dtype=np.int32)
        labels = np.full_like(ids, IGNORED)
        # all tokens that begin in an answer: a last sign of several tokens (an emoji) is one of
        # them, which the mask of `apply_chat_template` cuts after its first token
        starts = [start for start, _ in offsets]
        for begin, end in np.searchsorted(starts, spans).tolist():
            labels[begin:end] = ids[begin:end]
        rows.append(ids)
        marked.append(labels)
    return rows, marked


def _cut(one: Conversation, length: int, headers: np.ndarray, most: int) -> tuple[int, int]:
    """What to leave out of a row: its oldest turns, from after the system message.

    A header starts with a special token, before which the tokenizer always splits: what follows is
    encoded the same whatever stood before.

    Args:
        one (`Conversation`): The conversation.
        length (`int`): Tokens of the row.
        headers (`np.ndarray`): Where the headers after the system message are.
        most (`int`): Tokens that fit.

    Returns:
        `tuple[int, int]`: From where to where; equal if the row fits, to the end if nothing does.

    Raises:
        InputError: If a text has become a header.
    """
    roles = [message.role for message in one.messages]
    turns = roles[1:] if roles[0] == "system" else roles
    opening = [role for before, role in pairwise(["", *turns]) if _opens_header(before, role)]
    if len(headers) != len(opening):
        raise InputError(
            f"conversation {one.conversation_id!r}: a text in it is read as a control token by "
            "this tokenizer"
        )
    if length <= most:
        return 0, 0
    start = int(headers[0])
    later = headers[[role == "user" for role in opening]][1:]
    fits = later[start + length - later <= most]
    return start, int(fits[0]) if len(fits) else length


def _opens_header(before: str, role: str) -> bool:
    """Whether a message opens a header in the chat template; an answer goes on in that of music."""
    answers = ("music", "assistant")
    return role not in answers or before not in answers or before == role == "assistant"


def known_playlists(catalog: Catalog, codes: Codes) -> dict[str, list[np.ndarray]]:
    """The playlists that can be continued: those of at least two known tracks.

    Args:
        catalog (`Catalog`): The catalog with its playlists.
        codes (`Mapping[str, Sequence[int]]`): The five codes of each track id.

    Returns:
        `dict[str, list[np.ndarray]]`: By split, for each playlist its known tracks by their place
        in `codes`, int32.
    """
    splits = playlist_splits(catalog)
    place = {track_id: at for at, track_id in enumerate(codes)}
    playlists: dict[str, list[np.ndarray]] = {}
    for playlist in catalog.iter_playlists():
        known = [place[track_id] for track_id in playlist.track_ids if track_id in place]
        if len(known) >= 2:
            split = splits[playlist.playlist_id]
            playlists.setdefault(split, []).append(np.array(known, dtype=np.int32))
    return playlists


def draw_continuations(
    playlists: Sequence[np.ndarray],
    tokenizer: TalkPlayTokenizer,
    codes: Codes,
    report: RowReport,
    *,
    label_tokens: int,
    max_length: int = 1024,
    seed: int = 0,
) -> Iterator[Row]:
    """Draw playlist continuations as a stream (paper 4.3): music messages only.

    Labels start after a random offset. Pieces of random playlists are drawn until they have enough
    label tokens; the last one ends where they have.

    Args:
        playlists (`Sequence[np.ndarray]`): See `known_playlists`; without any there are no rows.
        tokenizer (`TalkPlayTokenizer`): The tokenizer.
        codes (`Mapping[str, Sequence[int]]`): The five codes of each track id.
        report (`RowReport`): Counts the rows.
        label_tokens (`int`): Tokens that should count for the loss, in all.
        max_length (`int`): Tokens a row at most.
        seed (`int`): Seed of the draw.

    Yields:
        `tuple[np.ndarray, np.ndarray]`: Ids and labels of a row, int32 `[tokens]`.

    Raises:
        InputError: If two tracks do not fit.
    """
    if not playlists:
        return
    before, after = continuation_frame(tokenizer)
    width = len(tokenizer.config.codes) + 2
    longest = most_tracks(tokenizer, max_length)
    blocks = np.empty((len(codes), width), dtype=np.int32)
    blocks[:, 0], blocks[:, -1] = tokenizer.start_of_music_id, tokenizer.end_of_music_id
    blocks[:, 1:-1] = np.array(list(codes.values())) + tokenizer.code_offsets[:-1]
    rng = np.random.default_rng(seed)
    left = label_tokens
    while left > 0:
        known = playlists[int(rng.integers(len(playlists)))]
        size = min(len(known), longest, int(rng.integers(*CONTINUATION_TRACKS)))
        start = int(rng.integers(0, len(known) - size + 1))
        offset = int(rng.integers(1, size))
        # the end of turn counts as well
        size = min(size, offset + max(1, -(-(left - 1) // width)))
        ids = np.concatenate([before, blocks[known[start : start + size]].ravel(), after])
        labels = np.full_like(ids, IGNORED)
        counts = slice(len(before) + offset * width, len(before) + size * width + 1)
        labels[counts] = ids[counts]
        left -= counts.stop - counts.start
        report.add((ids, labels))
        yield ids, labels


def most_tracks(tokenizer: TalkPlayTokenizer, max_length: int) -> int:
    """The tracks of the longest continuation that fits.

    Raises:
        InputError: If there is no room for two.
    """
    frame = sum(map(len, continuation_frame(tokenizer)))
    tracks = (max_length - frame) // (len(tokenizer.config.codes) + 2)
    if tracks < 2:
        raise InputError(f"max_length {max_length} has no room for two tracks")
    return tracks
