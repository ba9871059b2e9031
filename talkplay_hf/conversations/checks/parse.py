"""From the raw text of a language model to a list of messages (paper A.1, A.2).

Whatever comes is read or refused with a reason: nothing raises, and nothing is guessed.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from talkplay_hf.conversations.checks.json_text import MAX_CHARACTERS, Found, find_values
from talkplay_hf.conversations.checks.verdict import Problem

READ_REPAIRS: dict[str, str] = {
    "around": "words or a Markdown fence around the list are left out",
    "thoughts": "a block of thoughts before the list is left out",
    "commas": "a comma too many or too few",
    "quotes": "other quotes than JSON's, or quotes in a text that were not escaped",
    "brackets": "a list without its closing bracket",
    "line_breaks": "line breaks in a text that were not escaped",
    "escapes": "escapes that JSON does not know",
    "wrapped": "a list in an object, in lists of turns, or objects without a list",
    "said_twice": "the same list was given more than once",
    "role_names": "other names for the roles or keys, with the same meaning",
    "more_keys": "keys beside role and content are left out",
    "track_fields": "the track stands under a key of its own, in an object or in a list of one",
    "cut_off": "the answer was cut; the turns that were complete are kept",
}
_ROLES = {
    "user": "user", "human": "user", "listener": "user",
    "assistant": "assistant", "ai": "assistant", "bot": "assistant", "model": "assistant",
    "music": "music", "track": "music", "song": "music",
}  # fmt: skip
_ROLE_KEYS = ("role", "from")
_TEXT_KEYS = ("content", "value", "text", "message")
_TRACK_KEYS = ("track_id", "id", "trackid")
# a message outside of all lists that could be read
_MESSAGE = re.compile(r"[\"'“](?:role|content)[\"'”]\s{0,9}:")
_BETWEEN = " \t\r\n,;\ufeff"
_THOUGHTS = re.compile(r"^[\s\ufeff]*<(think|thinking|thought|reasoning)>")


@dataclass(frozen=True)
class Said:
    """One message as a language model wrote it.

    Args:
        role (`str`): `"user"`, `"music"` or `"assistant"`.
        content (`str`): The text; for music, what is to name the track.
        beside (`str`): For music, what else the message says about the track.
    """

    role: str
    content: str
    beside: str = ""


@dataclass(frozen=True)
class Parsed:
    """What could be read of an answer.

    Args:
        messages (`tuple[Said, ...]`): The messages, in their order.
        repairs (`frozenset[str]`): Names of what was mended.
        problems (`tuple[Problem, ...]`): Why it cannot be used, if so.
    """

    messages: tuple[Said, ...] = ()
    repairs: frozenset[str] = frozenset()
    problems: tuple[Problem, ...] = ()


def parse_answer(text: str) -> Parsed:
    """Read the messages of an answer.

    Takes a JSON list of `role` and `content`, or `{"turns": [...]}` with the roles as keys; also in
    a fence, between prose, inside an object, as JSON lines, as a Python literal, or cut in the
    middle. Two different lists are refused: one may be a draft, and nothing says which.

    Args:
        text (`str`): The answer, as it came.
    """
    if len(text) > MAX_CHARACTERS:
        detail = f"the answer has {len(text):,} characters; {MAX_CHARACTERS:,} are read at most"
        return _refused("unparsable", detail)
    repairs = set()
    if thoughts := _THOUGHTS.match(text):
        end = text.rfind(f"</{thoughts.group(1)}>")
        if end < 0:
            return _refused("unparsable", "the answer ends before its thoughts do")
        text = text[end + len(thoughts.group(1)) + 3 :]
        repairs.add("thoughts")
    found = find_values(text)
    groups = sorted(_groups(text, found), key=lambda group: group.start)
    if not groups:
        return _refused("unparsable", "no JSON list of objects with role and content was found")
    if any(group.items != groups[0].items for group in groups[1:]):
        detail = f"there are {len(groups)} different lists of messages; one is wanted"
        return _refused("two_lists", detail)
    group = groups[0]
    repairs |= group.repairs
    if len(groups) > 1:
        repairs.add("said_twice")
    if any(one.cut for one in groups):
        repairs.add("cut_off")
    edges = [0, *(edge for one in groups for edge in (one.start, one.end)), len(text)]
    around = [text[edges[n] : edges[n + 1]] for n in range(0, len(edges), 2)]
    if any(part.strip(_BETWEEN) for part in around):
        repairs.add("around")
    before, after = around[0].rstrip(), around[-1].lstrip(_BETWEEN)
    torn = group.lines and (before.endswith(("[", "}", '"', ",")) or after.startswith(("]", "{")))
    if torn or any(_MESSAGE.search(part) for part in around):
        return _refused("unparsable", "a part of the list of messages cannot be read as JSON")
    messages: list[Said] = []
    problems: list[Problem] = []
    for number, item in enumerate(group.items, 1):
        outcome = list(_said(item, repairs))
        for one in outcome:
            if isinstance(one, Said):
                messages.append(one)
            else:
                problems.append(Problem(one[0], f"message {number}: {one[1]}"))
    return Parsed(tuple(messages), frozenset(repairs), tuple(problems))


def _refused(reason: str, detail: str) -> Parsed:
    return Parsed(problems=(Problem(reason, detail),))


@dataclass
class _Group:
    """Values of a text that make one list of messages."""

    items: list[Any]
    start: int
    end: int
    cut: bool
    repairs: set[str]
    lines: bool = False


def _groups(text: str, found: list[Found]) -> Iterator[_Group]:
    """The lists of messages among the values; objects that follow one another make one list."""
    lines: _Group | None = None
    for one in found:
        value = one.value
        if isinstance(value, dict) and _is_message(value):
            if lines is not None and not text[lines.end : one.start].strip(_BETWEEN + "`"):
                lines.items.append(value)
                lines.end, lines.cut = one.end, one.cut
                lines.repairs |= one.repairs
                continue
            if lines is not None:
                yield lines
            lines = _Group([value], one.start, one.end, one.cut, one.repairs | {"wrapped"}, True)
            continue
        if lines is not None and one.cut and not isinstance(value, (dict, list)):
            lines.cut, lines.end = True, one.end
            continue
        parts = value.values() if isinstance(value, dict) else [value]
        for part in parts:
            items, wrapped = _items(part)
            if items:
                repairs = set(one.repairs)
                turns = all(isinstance(item, dict) and _is_turn(item) for item in items)
                as_asked = turns and isinstance(value, dict) and set(value) == {"turns"}
                if not as_asked and (wrapped or turns or part is not value):
                    repairs.add("wrapped")
                yield _Group(items, one.start, one.end, one.cut, repairs)
    if lines is not None:
        yield lines


def _items(value: Any) -> tuple[list[Any], bool]:
    """The messages in a value, and whether they were wrapped in more than one list."""
    if isinstance(value, dict):
        inside = [_items(part)[0] for part in value.values() if isinstance(part, list)]
        lists = [items for items in inside if items]
        return (lists[0], True) if len(lists) == 1 else ([], False)
    if not isinstance(value, list):
        return [], False
    if all(isinstance(part, list) for part in value):
        flat = [item for part in value for item in part]
        return (flat, True) if any(map(_is_message, flat)) else ([], False)
    # an object with a list in it stands for a turn
    if all(isinstance(part, dict) and not _is_message(part) for part in value):
        turns = [_items(part)[0] for part in value]
        if all(turns):
            return [item for turn in turns for item in turn], True
    return (value, False) if any(map(_is_message, value)) else ([], False)


def _is_message(value: Any) -> bool:
    if not isinstance(value, dict):
        return False
    keys = {_plain(key) for key in value}
    return bool(keys & set(_ROLE_KEYS)) or _is_turn(value)


def _is_turn(value: dict[str, Any]) -> bool:
    """Whether the roles are the keys: `{"user": ..., "music": ..., "assistant": ...}`."""
    roles = [_ROLES.get(_plain(key)) for key in value]
    return "user" in roles and "assistant" in roles


def _plain(name: Any) -> str:
    return name.strip().lower() if isinstance(name, str) else ""


def _said(item: Any, repairs: set[str]) -> Iterator[Said | tuple[str, str]]:
    """The messages of one item of the list, or a reason and its words."""
    if not isinstance(item, dict):
        yield "bad_message", "it is not an object with role and content"
        return
    if not any(_plain(key) in _ROLE_KEYS for key in item):
        if not _is_turn(item):
            yield "bad_message", "it has no role"
            return
        for key, value in item.items():
            if _plain(key) in _ROLES:
                yield from _said({"role": key, "content": value}, repairs)
            else:
                repairs.add("more_keys")
        return
    fields: dict[str, Any] = {}
    for key, value in item.items():
        name = _plain(key)
        kind = next(
            (kind for kind, names in _KINDS if name in names), "more" if value is not None else ""
        )
        if kind == "more":
            repairs.add("more_keys")
        elif kind and kind in fields and fields[kind] != value:
            yield "bad_message", f"it has two values for its {kind}"
            return
        elif kind:
            fields[kind] = value
        if kind in ("role", "content") and key != kind:
            repairs.add("role_names")
    yield from _message(fields, repairs)


_KINDS = (("role", _ROLE_KEYS), ("content", _TEXT_KEYS), ("track", _TRACK_KEYS))


def _message(fields: dict[str, Any], repairs: set[str]) -> Iterator[Said | tuple[str, str]]:
    name = fields.get("role")
    role = _ROLES.get(_plain(name))
    if role is None:
        yield "unknown_role", f"its role is {str(name)[:40]!r}; user, assistant or music is wanted"
        return
    if role != name:
        repairs.add("role_names")
    content, track = fields.get("content"), fields.get("track")
    if role == "music":
        yield from _music(content, track, repairs)
        return
    if not isinstance(content, str):
        what = "has no content" if content is None else "has content that is not text"
        yield "bad_message", f"the {role} message {what}"
        return
    yield Said(role, content)
    if track is not None:
        if role == "user":
            yield "bad_message", "a user message names a track"
            return
        yield from _music(None, track, repairs)


def _music(content: Any, track: Any, repairs: set[str]) -> Iterator[Said | tuple[str, str]]:
    """Music messages: one a track, so that several are noticed later."""
    if track is not None or not isinstance(content, str):
        repairs.add("track_fields")
    beside = ""
    if track is not None:
        beside = content if isinstance(content, str) else ""
        content = track
    for one in content if isinstance(content, list) and content else [content]:
        if isinstance(one, dict):
            ids = [value for key, value in one.items() if _plain(key) in _TRACK_KEYS]
            one = ids[0] if len(ids) == 1 else None
        if isinstance(one, int) and not isinstance(one, bool):
            one = str(one)
        if isinstance(one, str):
            yield Said("music", one, beside)
        else:
            yield "bad_message", "the music message has no track id"
