"""A conversation as JSON and as a link, and a playlist as M3U, CSV and JSPF.

What comes back may be anybody's: every part of it is checked, and codes, scores and matches are
never read from it. They are looked up in the catalogue.
"""

import base64
import binascii
import csv
import io
import json
import re
import unicodedata
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn, cast
from urllib.parse import quote

from talkplay_space.conversation import (
    MAX_CHARACTERS,
    MAX_TURNS,
    REACTION_WORDS,
    Conversation,
    Reaction,
    RefusedError,
    Turn,
    is_unicode,
)
from talkplay_space.settings import MAX_TRACKS, Settings

if TYPE_CHECKING:
    from talkplay_hf import Track

FORMAT = "talkplay-conversation"
VERSION = 1
# 50 turns with a message and a reply of 2,000 characters each, escaped, are not longer
MAX_BYTES = 4_000_000
# what servers and chat programs let pass in an address
MAX_LINK = 60_000
MAX_ID = 1_000
_PARTS = ("settings", "removed", "order", "model", "catalog")
_TOP = frozenset({"format", "version", "turns", *_PARTS})
_TURN = frozenset({"text", "tracks", "reply", "reaction"})
_BASE64 = re.compile(r"[A-Za-z0-9_-]*")
_NO_NAME = re.compile(r"^#|[/\\:]")
# how a spreadsheet knows a formula
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")

Codes = Callable[[str], Sequence[int]]


@dataclass(frozen=True)
class Shared:
    """What is shared.

    Args:
        conversation (`Conversation`): What was said and played. Read, its turns come without codes
            and scores, which belong to the catalogue, see `with_codes`; and its tracks may be
            unknown, see `Offers.fitting`.
        settings (`Settings`): How it was answered.
        model (`str`, *optional*): The name of the model that answered.
        catalog (`str`, *optional*): The name of its catalogue.
    """

    conversation: Conversation
    settings: Settings
    model: str | None = None
    catalog: str | None = None


def to_json(shared: Shared) -> str:
    """A conversation with its settings as JSON, the same text for the same conversation.

    Args:
        shared (`Shared`): The conversation.
    """
    return json.dumps(_plain(shared), ensure_ascii=False, indent=1) + "\n"


def from_json(text: str | bytes) -> Shared:
    """Read what `to_json` wrote, or anything else that somebody hands in.

    Args:
        text (`str` or `bytes`): The JSON.

    Raises:
        RefusedError: If it is not a conversation of this page.
    """
    if len(text) > MAX_BYTES:
        _refuse(f"it is larger than {MAX_BYTES // 1_000_000} MB")
    try:
        raw = text.decode("utf-8-sig") if isinstance(text, bytes) else text.removeprefix("\ufeff")
        data = json.loads(raw, parse_constant=_constant, object_pairs_hook=_distinct)
    except (ValueError, RecursionError):
        # a repeated name and NaN end here too
        _refuse("it is not valid JSON")
    return _read(data)


def to_link(shared: Shared) -> str:
    """A conversation with its settings as one word for an address: letters, digits, `-` and `_`.

    Args:
        shared (`Shared`): The conversation.

    Raises:
        RefusedError: If it is too long for a link.
    """
    plain = json.dumps(_plain(shared), ensure_ascii=False, separators=(",", ":"))
    packed = zlib.compress(plain.encode(), 9)
    link = base64.urlsafe_b64encode(packed).rstrip(b"=").decode()
    if len(link) > MAX_LINK:
        raise RefusedError("This conversation is too long for a link: please save it as a file.")
    return link


def from_link(link: str) -> Shared:
    """Read what `to_link` wrote, or anything else that stands in an address.

    Args:
        link (`str`): The word.

    Raises:
        RefusedError: If it is not a conversation of this page.
    """
    if len(link) > MAX_LINK:
        _refuse("the link is too long")
    if not _BASE64.fullmatch(link):
        _refuse("the link is damaged")
    unpacker = zlib.decompressobj()
    try:
        packed = base64.urlsafe_b64decode(link + "=" * (-len(link) % 4))
        # a few bytes can unpack to gigabytes
        plain = unpacker.decompress(packed, MAX_BYTES + 1)
    except (binascii.Error, zlib.error):
        _refuse("the link is damaged")
    if len(plain) > MAX_BYTES:
        _refuse(f"it is larger than {MAX_BYTES // 1_000_000} MB")
    if not unpacker.eof or unpacker.unused_data:
        _refuse("the link is damaged")
    return from_json(plain)


def with_codes(conversation: Conversation, codes: Codes) -> Conversation:
    """A conversation that was read, with the codes that the catalogue has for its tracks.

    Args:
        conversation (`Conversation`): As it was read.
        codes (`Callable[[str], Sequence[int]]`): The codes of a track, `Recommender.codes`.
    """
    turns = (
        Turn(
            turn.text,
            turn.track_ids,
            tuple(tuple(codes(track_id)) for track_id in turn.track_ids),
            turn.reply,
            turn.reaction,
        )
        for turn in conversation.turns
    )
    return Conversation(tuple(turns), conversation.removed, conversation.order)


def m3u(tracks: Iterable["Track"]) -> str:
    """A playlist as extended M3U in UTF-8. A track without an address gets a search line.

    Args:
        tracks (`Iterable[Track]`): The tracks, in order.
    """
    lines = ["#EXTM3U", "#EXTENC:UTF-8", "#PLAYLIST:TalkPlay"]
    for track in tracks:
        seconds = _milliseconds(track)
        length = -1 if seconds is None else round(seconds / 1000)
        artist, title = _line(track.artist), _line(track.title)
        lines.append(f"#EXTINF:{length},{artist} - {title}")
        if track.album:
            lines.append(f"#EXTALB:{_line(track.album)}")
        # neither a comment nor another place
        lines.append(_address(track) or _NO_NAME.sub("-", f"{artist} - {title}").lstrip())
    return "\n".join(lines) + "\n"


def csv_text(tracks: Iterable["Track"]) -> str:
    """A playlist as CSV (RFC 4180, UTF-8) with the columns that `talkplay import` reads.

    A cell that a spreadsheet would run as a formula is led by an apostrophe.

    Args:
        tracks (`Iterable[Track]`): The tracks, in order.
    """
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(
        ["track_id", "title", "artist", "album", "release_date", "tags", "tempo", "key"]
    )
    for track in tracks:
        cells = [
            *(track.track_id, track.title, track.artist, track.album, track.release_date),
            *("; ".join(track.tags), track.tempo, track.key),
        ]
        writer.writerow([_cell(cell) for cell in cells])
    return out.getvalue()


def jspf(tracks: Iterable["Track"]) -> str:
    """A playlist as JSPF, the JSON form of XSPF 1.

    Args:
        tracks (`Iterable[Track]`): The tracks, in order.
    """
    entries = []
    for number, track in enumerate(tracks, start=1):
        entry: dict[str, Any] = {"title": track.title, "creator": track.artist, "trackNum": number}
        address, length = _address(track), _milliseconds(track)
        if address:
            entry["location"] = [address]
        if track.album:
            entry["album"] = track.album
        if length is not None:
            entry["duration"] = length
        entries.append(entry)
    playlist = {"playlist": {"title": "TalkPlay", "creator": "talkplay_hf", "track": entries}}
    return json.dumps(playlist, ensure_ascii=False, indent=1) + "\n"


def _plain(shared: Shared) -> dict[str, Any]:
    turns, conversation = [], shared.conversation
    for turn in conversation.turns:
        plain: dict[str, Any] = {"text": turn.text, "tracks": list(turn.track_ids)}
        plain |= {"reply": turn.reply} if turn.reply else {}
        turns.append(plain | ({"reaction": turn.reaction} if turn.reaction else {}))
    data: dict[str, Any] = {"format": FORMAT, "version": VERSION, "turns": turns}
    parts = {
        "settings": shared.settings.to_dict(),
        "removed": sorted(conversation.removed),
        "order": list(conversation.order),
        "model": shared.model,
        "catalog": shared.catalog,
    }
    return data | {name: value for name, value in parts.items() if value}


def _read(data: Any) -> Shared:
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        _refuse("it is not a conversation of this page")
    if data.get("version") != VERSION or isinstance(data["version"], bool):
        _refuse(f"it has another version than {VERSION}")
    if not data.keys() <= _TOP:
        _refuse("it holds an unknown name")
    turns = data.get("turns")
    if not isinstance(turns, list) or len(turns) > MAX_TURNS:
        _refuse(f"it must hold a list of at most {MAX_TURNS} turns")
    read = tuple(_turn(number, turn) for number, turn in enumerate(turns, start=1))
    played = frozenset(name for turn in read for name in turn.track_ids)
    removed, order = (_played(name, data.get(name, []), played) for name in ("removed", "order"))
    settings = Settings.from_dict(data.get("settings", {}))
    names = [data.get(name) for name in ("model", "catalog")]
    if not all(name is None or (_is_text(name) and len(name) <= MAX_ID) for name in names):
        _refuse("the names of model and catalogue must be texts")
    return Shared(Conversation(read, frozenset(removed), order), settings, *names)


def _turn(number: int, turn: Any) -> Turn:
    if not isinstance(turn, dict) or not turn.keys() <= _TURN or "text" not in turn:
        _refuse(f"turn {number} must hold text, tracks, reply and reaction, and nothing else")
    text, tracks, reply = turn["text"], turn.get("tracks", []), turn.get("reply", "")
    if not _is_text(text) or not text.strip():
        _refuse(f"turn {number} needs a message of 1 to {MAX_CHARACTERS:,} characters")
    if not _is_text(reply):
        _refuse(f"turn {number} needs a reply of at most {MAX_CHARACTERS:,} characters")
    if not isinstance(tracks, list) or len(tracks) > MAX_TRACKS:
        _refuse(f"turn {number} must play a list of at most {MAX_TRACKS} tracks")
    if not all(isinstance(name, str) and len(name) <= MAX_ID for name in tracks):
        _refuse(f"the tracks of turn {number} must be ids")
    if len(set(tracks)) < len(tracks):
        _refuse(f"turn {number} plays a track twice")
    reaction = turn.get("reaction")
    if reaction is not None and (
        not isinstance(reaction, str) or reaction not in REACTION_WORDS or not tracks
    ):
        _refuse(f"the reaction of turn {number} must be {' or '.join(REACTION_WORDS)}, to a track")
    return Turn(text, tuple(tracks), reply=reply, reaction=cast(Reaction | None, reaction))


def _is_text(value: object) -> bool:
    return isinstance(value, str) and len(value) <= MAX_CHARACTERS and is_unicode(value)


def _played(name: str, ids: Any, played: frozenset[str]) -> tuple[str, ...]:
    if not isinstance(ids, list) or not all(isinstance(one, str) and one in played for one in ids):
        _refuse(f"{name} must be a list of tracks that were played")
    if len(set(ids)) < len(ids):
        _refuse(f"{name} has a track twice")
    return tuple(ids)


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The pairs as a dict; two readers could take a name that stands twice for different things."""
    read = dict(pairs)
    if len(read) < len(pairs):
        raise ValueError
    return read


def _constant(_: str) -> NoReturn:
    raise ValueError


def _refuse(reason: str) -> NoReturn:
    raise RefusedError(f"This conversation cannot be loaded: {reason}.")


def _line(text: str) -> str:
    """A text on one line, without the signs that break or turn it."""
    kept = "".join(" " if _breaks(letter) else letter for letter in text)
    return " ".join(kept.split())


def _breaks(letter: str) -> bool:
    return letter in "\u2028\u2029" or unicodedata.category(letter) in ("Cc", "Cs")


def _address(track: "Track") -> str:
    """Where on the net the track is; a path on the server is nobody's business."""
    audio = _line(track.audio or "")
    if not audio.startswith(("https://", "http://")):
        return ""
    return quote(audio, safe=":/?#[]@!$&'()*+,;=%~")


def _milliseconds(track: "Track") -> int | None:
    length = track.extra.get("duration_ms")
    if isinstance(length, bool) or not isinstance(length, int | float) or not 0 < length < 1e9:
        return None
    return round(length)


def _cell(value: object) -> str:
    text = "" if value is None else str(value)
    return f"'{text}" if text.lstrip(" \u00a0").startswith(_FORMULA) else text
