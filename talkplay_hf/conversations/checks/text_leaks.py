"""What must not stand in a text of a conversation: ids, tokens, formats, words of the prompt."""

import re
import unicodedata
import zlib
from collections.abc import Iterable, Mapping

from talkplay_hf.catalog.schema import Track
from talkplay_hf.conversations.checks.verdict import Problem

# the length of a Spotify id, give or take a digit lost
_ID = re.compile(r"(?<![0-9A-Za-z])(?=[0-9A-Za-z]*\d)(?=[0-9A-Za-z]*[A-Za-z])[0-9A-Za-z]{20,24}\b")
_LINK = re.compile(r"spotify:|open\.spotify\.com|\btrack[_ ]?ids?\b", re.IGNORECASE)
_TOKEN = re.compile(
    r"<\|[^|<>]{0,60}\|?>|\|>|</?(?:start|end)_of_\w{1,20}>|\[/?INST\]|<</?SYS>>"
    r"|</?(?:s|bos|eos|pad|unk|think|user|assistant|music|system|im_start|im_end|tool_call)>",
    re.IGNORECASE,
)
_FORMAT = re.compile(
    r"^\W{0,4}(?:user|assistant|music|system|human|ai|bot|role|content)\W{0,3}:"
    r"|[\"']\s*(?:role|content|track_id)\s*[\"']\s*:|[\[{]\s*[{\"]\s*[\"']?\w+[\"']?\s*:|\}\s*,\s*\{|```"
    r"|[\[{<](?:(?:track|song|artist|album)[ _]?(?:name|title|id|here)|insert\b[^\]}>\n]{0,60}"
    r"|your [^\]}>\n]{0,60}|rest of [^\]}>\n]{0,60}|title|artist|genre|name)[\]}>]",
    re.IGNORECASE | re.MULTILINE,
)
_PROMPT = re.compile(
    r"\bnegative[ _]sets?\b|\bpseudo[ _]captions?\b|\b(?:tempo|key) estimates?\b"
    r"|\b(?:provided|given) (?:playlist|track list|tracklist|metadata)\b|\bmusic playlist:"
    r"|^\W*music playlist\W*$"
    r"|\bmetadata:|\bjson\b|\bas an ai (?:language )?model\b|\bpopularity: ?\d",
    re.IGNORECASE,
)
# a text of this length that shrinks this much says one thing over and over
_LOOP_CHARACTERS, _LOOP_RATIO = 200, 5
_HIDDEN = frozenset(["Cc", "Cs", "Co"])
_BREAKS = frozenset("\n\t\r")
_BAD = frozenset("\ufffd\ufeff\u2028\u2029\u202a\u202b\u202c\u202d\u202e")


def names_in(tracks: Mapping[str, Track]) -> str:
    """Titles and artists of tracks, a line each.

    Args:
        tracks (`Mapping[str, Track]`): Tracks by id.
    """
    return "\n".join(f"{track.title}\n{track.artist}" for track in tracks.values())


def telling_ids(tracks: Mapping[str, Track]) -> tuple[str, ...]:
    """The ids that a text cannot hold by chance: no words, no plain numbers, no part of a name.

    Args:
        tracks (`Mapping[str, Track]`): Tracks by id.
    """
    names = names_in(tracks)
    return tuple(
        one
        for one in tracks
        if len(one) >= 5
        and any(char.isdigit() for char in one)
        and (len(one) >= 8 or not one.isdigit())
        and one not in names
    )


def find_leaks(text: str, ids: Iterable[str], names: str = "") -> list[Problem]:
    """What must not stand in a text.

    Args:
        text (`str`): What a user or an assistant says.
        ids (`Iterable[str]`): Ids that it may not hold, from `telling_ids`.
        names (`str`): Names that it may hold, hidden characters of theirs too, from `names_in`.
    """
    problems = []
    if not text.isascii() or not text.isprintable():
        shown = next((char for char in text if _hidden(char) and char not in names), None)
        if shown is not None:
            detail = f"holds the character {shown!a}, which cannot be shown"
            problems.append(Problem("control_characters", detail))
    held = next((one for one in ids if one in text), None)
    if held is None and (found := _ID.search(text) or _LINK.search(text)):
        held = found.group()
    if held is not None:
        problems.append(Problem("leaked_id", f"holds {held[:40]!a}; no text may hold a track id"))
    for reason, pattern, what in (
        ("leaked_token", _TOKEN, "control tokens"),
        ("leaked_format", _FORMAT, "role names, JSON or placeholders"),
        ("leaked_prompt", _PROMPT, "words about this task"),
    ):
        if leak := pattern.search(text):
            problems.append(Problem(reason, f"holds {_short(leak)}; no text may hold {what}"))
    if len(text) >= _LOOP_CHARACTERS:
        raw = text.encode("utf-8", "replace")
        if len(raw) > _LOOP_RATIO * len(zlib.compress(raw)):
            problems.append(Problem("repeated_text", "says the same again and again"))
    return problems


def _short(match: re.Match[str]) -> str:
    return ascii(match.group().strip()[:40])


def _hidden(char: str) -> bool:
    if char in _BREAKS:
        return False
    return char in _BAD or (not char.isprintable() and unicodedata.category(char) in _HIDDEN)
