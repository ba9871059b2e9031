"""Reading JSON out of what a language model wrote around, into and instead of it.

A reader of our own: libraries that mend JSON make something of any text, of prose and of two lists
as well. Here each repair has a name, and what could mean two things is not read at all.
"""

import json
import re
from dataclasses import dataclass, field
from typing import Any

# far beyond any conversation within the limits; past it, reading would cost for nothing
MAX_CHARACTERS = 300_000
_MAX_FAILURES = 32
_MAX_DEPTH = 6
_START = re.compile(
    r"""\[\s*(?=[\[{\]]|["']?[\w.-]{0,40}["']?\s*,\s*[\[{])|\{\s*(?:"[^"\n]{1,40}"|'[^'\n]{1,40}'|“[^”\n]{1,40}”|\w{1,40})\s*:"""
)
_SPACE = re.compile(r"[\s\ufeff]*")
_WORD = re.compile(r"[^\s\[\]{}:,\"'“”]+")
_NUMBER = re.compile(r"-?\d{1,30}(\.\d{1,30})?([eE][+-]?\d{1,3})?")
_CONSTANTS = {
    "true": True, "false": False, "null": None, "True": True, "False": False, "None": None,
}  # fmt: skip
_STRINGS = {
    '"': re.compile(r'"([^"\\]*(?:\\.[^"\\]*)*)"', re.DOTALL),
    "'": re.compile(r"'([^'\\]*(?:\\.[^'\\]*)*)'", re.DOTALL),
    "“": re.compile(r"“([^“”\\]*(?:\\.[^“”\\]*)*)[”“]", re.DOTALL),
}
# where a string ends that holds its own quotes: the object ends, or the next key begins
_ENDS = {
    '"': re.compile(r'"(?=\s*(?:\}|,\s*"\w{1,20}"\s*:))'),
    "'": re.compile(r"'(?=\s*(?:\}|,\s*['\"]\w{1,20}['\"]\s*:))"),
    "“": re.compile(r"[”“](?=\s*(?:\}|,\s*[“”]\w{1,20}[”“]\s*:))"),
}
_ESCAPE = re.compile(r"\\(u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|x[0-9a-fA-F]{2}|.)", re.DOTALL)
_ESCAPED = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", "\n": ""}


@dataclass
class Found:
    """A value in a text.

    Args:
        value (`Any`): A list or dict of texts, numbers, lists and dicts.
        start (`int`): Where it begins.
        end (`int`): Where the text after it begins.
        cut (`bool`): Whether the text ends within it; then it holds what was complete.
        repairs (`set[str]`): What was mended in it.
    """

    value: Any
    start: int
    end: int
    cut: bool = False
    repairs: set[str] = field(default_factory=set)


def find_values(text: str) -> list[Found]:
    """Find the JSON lists and objects in a text, as far as they can be read.

    The time is linear in the length of the text: only so many beginnings that lead nowhere are
    tried.

    Args:
        text (`str`): At most `MAX_CHARACTERS` characters.
    """
    found: list[Found] = []
    position = failures = 0
    while failures < _MAX_FAILURES and (start := _START.search(text, position)):
        reader = _Reader(text, start.start())
        try:
            value = reader.value(0)
        except _UnreadableError:
            position, failures = start.start() + 1, failures + 1
            continue
        position = reader.position
        found.append(Found(value, start.start(), position, reader.cut, reader.repairs))
    return found


class _UnreadableError(Exception):
    """What stands here is not JSON, nor anything that surely means it."""


_PARTIAL = object()  # stands for a value that the end of the text cut


class _Reader:
    """Reads one value from a position on, in one pass."""

    def __init__(self, text: str, position: int) -> None:
        self.text = text
        self.position = position
        self.cut = False
        self.repairs: set[str] = set()

    def peek(self) -> str:
        """The next character that is not white space; empty at the end of the text."""
        space = _SPACE.match(self.text, self.position)
        assert space is not None
        self.position = space.end()
        return self.text[self.position : self.position + 1]

    def value(self, depth: int) -> Any:
        if depth > _MAX_DEPTH:
            raise _UnreadableError
        mark = self.peek()
        if mark == "[":
            return self.items(depth)
        if mark == "{":
            return self.object(depth)
        if mark in _STRINGS:
            return self.string()
        if mark == "":
            self.cut = True
            return _PARTIAL
        word = self.word()
        if word in _CONSTANTS:
            return _CONSTANTS[word]
        if _NUMBER.fullmatch(word):
            return int(word) if word.lstrip("-").isdigit() else float(word)
        if self.peek() == "":
            self.cut = True
            return _PARTIAL
        raise _UnreadableError

    def items(self, depth: int) -> list[Any]:
        items: list[Any] = []
        self.position += 1
        comma = True
        while True:
            mark = self.peek()
            if mark == "":
                self.cut = True
                return items
            if mark == "]":
                if comma and items:
                    self.repairs.add("commas")
                self.position += 1
                return items
            if mark == ",":
                if comma:
                    raise _UnreadableError
                comma = True
                self.position += 1
                continue
            if not comma:
                if mark not in "[{":
                    # the list ends without its bracket, and prose or a fence goes on
                    self.repairs.add("brackets")
                    return items
                self.repairs.add("commas")
            item = self.value(depth + 1)
            if item is not _PARTIAL:
                items.append(item)
            if self.cut:
                return items
            comma = False

    def object(self, depth: int) -> Any:
        pairs: dict[str, Any] = {}
        self.position += 1
        comma = True
        while True:
            mark = self.peek()
            if mark == "}":
                if comma and pairs:
                    self.repairs.add("commas")
                self.position += 1
                return pairs
            if mark == "," and not comma:
                comma = True
                self.position += 1
                continue
            if mark and not comma:
                raise _UnreadableError
            key: Any = self.key() if mark else _PARTIAL
            mark = self.peek()
            if mark == ":":
                self.position += 1
                value = self.value(depth + 1)
                if isinstance(value, list) or not self.cut:
                    if key in pairs:
                        raise _UnreadableError
                    pairs[key] = value
            elif mark:
                raise _UnreadableError
            else:
                self.cut = True
            if self.cut:
                # a message that is cut is dropped; an object around a list keeps the list
                return pairs if any(isinstance(one, list) for one in pairs.values()) else _PARTIAL
            comma = False

    def key(self) -> Any:
        if self.text[self.position] in _STRINGS:
            return self.string()
        self.repairs.add("quotes")
        return self.word()

    def word(self) -> str:
        word = _WORD.match(self.text, self.position)
        if word is None or len(word.group()) > 40:
            raise _UnreadableError
        self.position = word.end()
        return word.group()

    def string(self) -> Any:
        start, quote = self.position, self.text[self.position]
        if quote != '"':
            self.repairs.add("quotes")
        whole = _STRINGS[quote].match(self.text, start)
        if whole is None:
            self.cut = True
            self.position = len(self.text)
            return _PARTIAL
        self.position = whole.end()
        if self.peek() in ("", ",", ":", "]", "}"):
            return self.decoded(whole.group(1), quote)
        # quotes within the text that were not escaped
        end = _ENDS[quote].search(self.text, whole.end() - 1)
        if end is None:
            raise _UnreadableError
        self.repairs.add("quotes")
        self.position = end.end()
        return self.decoded(self.text[start + 1 : end.start()], quote)

    def decoded(self, body: str, quote: str) -> str:
        if "\\" not in body:
            if "\n" in body:
                self.repairs.add("line_breaks")
            return body
        if quote == '"':
            try:
                return str(json.loads(f'"{body}"'))
            except ValueError:
                self.repairs.add("escapes")
        text = _ESCAPE.sub(_unescaped, body)
        # two escapes can be the halves of one character
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")


def _unescaped(match: re.Match[str]) -> str:
    code = match.group(1)
    if len(code) > 1:
        number = int(code[1:], 16)
        return chr(number) if number <= 0x10FFFF else match.group()
    return _ESCAPED.get(code, code)
