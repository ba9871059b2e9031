"""From a chat, or a listening history, to the ids that a model reads."""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from talkplay_hf.catalog.schema import ROLES, Catalog, Message
from talkplay_hf.errors import InputError
from talkplay_hf.recommend.values import check_texts
from talkplay_hf.tokens.tokenizer import TalkPlayTokenizer, continuation_frame

Chat = str | Sequence[Message | Mapping[str, Any]]
CodesOf = Callable[[str], Sequence[int]]


def read_chat(chat: Chat, catalog: Catalog, history: Sequence[str] = ()) -> list[Message]:
    """Check a chat and turn it into messages.

    Args:
        chat (`str` or `Sequence`): One request, or messages (`Message` or dicts with `role`,
            `content`, `track_id`) that end with the user's.
        catalog (`Catalog`): What can have been played.
        history (`Sequence[str]`): Ids of tracks that were listened to before the chat.

    Raises:
        InputError: If a role is unknown, a track is not in the catalogue, or the last message is
            not the user's.
    """
    if isinstance(chat, Mapping) or not isinstance(chat, Iterable):
        raise InputError(f"chat {chat!r:.60}: must be a text or a sequence of messages")
    check_texts("history", history)
    heard = [Message("music", track_id=track_id) for track_id in history]
    for number, message in enumerate(heard):
        if not _knows(catalog, message.track_id):
            raise InputError(
                f"history {number}: the catalogue has no track {message.track_id!r:.80}"
            )
    messages = []
    for number, item in enumerate([Message("user", chat)] if isinstance(chat, str) else chat):
        if isinstance(item, Message):
            message = item
        elif isinstance(item, Mapping) and set(item) <= {"role", "content", "track_id"}:
            message = Message(
                item.get("role") or "", item.get("content") or "", item.get("track_id")
            )
        else:
            raise InputError(f"message {number}: needs role and content or track_id")
        if message.role not in ROLES:
            raise InputError(f"message {number}: unknown role {message.role!r:.60}")
        if not isinstance(message.content, str) or not _is_unicode(message.content):
            raise InputError(f"message {number}: the content is not text")
        if message.role == "music" and not _knows(catalog, message.track_id):
            raise InputError(
                f"message {number}: the catalogue has no track {message.track_id!r:.80}"
            )
        if message.role == "system" and number:
            raise InputError(f"message {number}: a system message can only come first")
        messages.append(message)
    if not messages or messages[-1].role != "user":
        raise InputError("the last message of a chat must be the user's")
    first = 1 if messages[0].role == "system" else 0
    return [*messages[:first], *heard, *messages[first:]]


def chat_prompt(
    messages: Sequence[Message], tokenizer: TalkPlayTokenizer, codes_of: CodesOf, limit: int
) -> list[int]:
    """Ids of a chat up to where the model answers; the oldest turns give way if it is too long.

    Args:
        messages (`Sequence[Message]`): The chat.
        tokenizer (`TalkPlayTokenizer`): The tokenizer.
        codes_of (`Callable[[str], Sequence[int]]`): The codes of a track id.
        limit (`int`): Tokens that fit.

    Raises:
        InputError: If the last message alone does not fit.
    """
    system = [message for message in messages[:1] if message.role == "system"]
    roles = [message.role for message in messages]
    # what was heard before the chat gives way track by track
    talk = roles.index("user")
    later = range(len(system) + 1, len(messages))
    starts = [at for at in later if roles[at] == "user" or (roles[at] == "music" and at < talk)]
    starts = [len(system), *starts]

    def without(turns: int) -> list[int]:
        kept = [*system, *messages[starts[turns] :]]
        codes = [codes_of(m.track_id or "") for m in kept if m.role == "music"]
        return tokenizer.chat_ids(kept, codes)

    ids = without(0)
    if len(ids) > limit:
        # a halving search, so that a long history does not cost one encoding a turn
        drop = bisect_left(
            range(len(starts)), True, lo=1, key=lambda turns: len(without(turns)) <= limit
        )
        ids = without(min(drop, len(starts) - 1))
    if len(ids) > limit:
        raise InputError(
            f"the message is too long: {len(ids)} tokens, {max(limit, 0)} fit before the answer"
        )
    return ids


def playlist_prompt(
    track_ids: Sequence[str],
    catalog: Catalog,
    tokenizer: TalkPlayTokenizer,
    codes_of: CodesOf,
    limit: int,
) -> list[int]:
    """Ids of a playlist up to where the model goes on with it, as playlists are trained (4.3).

    The oldest tracks give way if it is too long.

    Args:
        track_ids (`Sequence[str]`): The tracks so far.
        catalog (`Catalog`): What can have been played.
        tokenizer (`TalkPlayTokenizer`): The tokenizer.
        codes_of (`Callable[[str], Sequence[int]]`): The codes of a track id.
        limit (`int`): Tokens that fit.

    Raises:
        InputError: If there is no track, a track is not in the catalogue, or not even the last
            one fits.
    """
    if isinstance(track_ids, str | bytes) or not isinstance(track_ids, Sequence) or not track_ids:
        raise InputError("continuing a playlist needs the ids of one or more tracks")
    for number, track_id in enumerate(track_ids):
        if not _knows(catalog, track_id):
            raise InputError(f"track {number}: the catalogue has no track {track_id!r:.60}")
    before = continuation_frame(tokenizer)[0].tolist()
    room = (limit - len(before)) // (len(tokenizer.config.codes) + 2)
    if room < 1:
        raise InputError(f"the playlist is too long: {max(limit, 0)} tokens fit, not one track")
    blocks = [tokenizer.block_ids(codes_of(track_id)) for track_id in track_ids[-room:]]
    return [*before, *(token for block in blocks for token in block)]


def _knows(catalog: Catalog, track_id: object) -> bool:
    return isinstance(track_id, str) and track_id in catalog


def _is_unicode(text: str) -> bool:
    """Whether a text can be encoded: JSON can bring half of a surrogate pair."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
