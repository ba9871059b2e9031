"""Turns in full, with the words that link request and track marked, after the paper's Table 3."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from talkplay_hf.evaluation.page.blocks import Example, Marked, Said, Section, Shown
from talkplay_hf.evaluation.page.text import clean

TAGS = 8
_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)?")
# Words that say nothing about which music is meant.
_COMMON_WORDS = (
    "a about all also am an and another any anything are as at be been but by can could do does "
    "don't for from get give go good great had has have hear help here how i i'd i'll i'm if in "
    "into is it it's just know let let's like listen looking love make maybe me more music my new "
    "no not now of off on one or other out play playlist please really similar so some something "
    "song songs sound sounding sounds such thanks that that's the them then there these they this "
    "those to too track tracks up very want was we what what's where which who why will with would "
    "yes you your artist album title"
)
_COMMON = frozenset(_COMMON_WORDS.split())


def examples_section(report: Mapping[str, Any]) -> Section | None:
    """The examples of a report, or `None` if it has none."""
    found = report.get("examples") or ()
    if not found:
        return None
    return Section(
        "examples",
        "Examples",
        "What was said and played, what came next in the conversation, what the model answers, and "
        "what the other systems would play. A word is marked where the listener and a track share "
        "it.",
        examples=[_example(one) for one in found],
    )


def _example(one: Mapping[str, Any]) -> Example:
    history = one["history"]
    truth, answer = one["truth"], one["answer"]
    others = one.get("others") or {}
    asked = _stems(m.get("content") or "" for m in history if m["role"] == "user")
    offered = [truth.get("track"), answer.get("track"), *others.values()]
    shared = asked & _stems(words for track in offered if track for words in _texts(track))
    right = truth.get("track") is not None and truth["track"] == answer.get("track")
    return Example(
        name=f"{clean(str(one['conversation']), 80)}, turn {one['turn']}",
        history=[_said(message, shared) for message in history],
        truth=_turn(truth, shared),
        answer=_turn(answer, shared),
        meets=answer.get("meets_request"),
        right=right,
        others=[(name, _shown(track, shared)) for name, track in sorted(others.items()) if track],
    )


def _turn(turn: Mapping[str, Any], shared: frozenset[str]) -> Sequence[Said]:
    said = []
    if turn.get("track"):
        said.append(Said("music", track=_shown(turn["track"], shared)))
    if turn.get("reply"):
        said.append(Said("assistant", marked(turn["reply"], shared)))
    return said


def _said(message: Mapping[str, Any], shared: frozenset[str]) -> Said:
    if message["role"] == "music":
        track = message.get("track") or {"title": message.get("content") or "?"}
        return Said("music", track=_shown(track, frozenset()))
    # what is marked is what the listener asked for, and what the tracks on offer have of it
    words = shared if message["role"] == "user" else frozenset[str]()
    return Said(message["role"], marked(message.get("content") or "", words))


def _shown(track: Mapping[str, Any], shared: frozenset[str]) -> Shown:
    tags = list(track.get("tags") or ())
    # the tags that were asked for first, so that they are not among those left out
    tags.sort(key=lambda tag: not _stems([str(tag)]) & shared)
    return Shown(
        marked(str(track.get("title") or "?"), shared, 200),
        marked(str(track.get("artist") or ""), shared, 200),
        [marked(str(tag), shared, 40) for tag in tags[:TAGS]],
    )


def _texts(track: Mapping[str, Any]) -> list[str]:
    return [str(track.get("title") or ""), str(track.get("artist") or ""),
            *map(str, track.get("tags") or ())]  # fmt: skip


def _stem(word: str) -> str:
    word = word.casefold().replace("’", "'")
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word


_COMMON_STEMS = frozenset(map(_stem, _COMMON)) | _COMMON


def _stems(texts: Iterable[str]) -> frozenset[str]:
    """The words of texts that say something, without case and plural s."""
    found = {_stem(word) for text in texts for word in _WORD.findall(text)}
    return frozenset(word for word in found if len(word) > 1) - _COMMON_STEMS


def marked(text: str, words: frozenset[str], longest: int = 1_500) -> Marked:
    """Cut a text into pieces, of which those that are among the words are marked.

    Args:
        text (`str`): The text.
        words (`frozenset[str]`): What is marked, without case and plural s.
        longest (`int`): Characters to keep.

    Returns:
        `Sequence[tuple[str, bool]]`: Pieces and whether each is marked; together they are the text.
    """
    text = clean(text, longest)
    pieces: list[tuple[str, bool]] = []
    end = 0
    for match in _WORD.finditer(text):
        if _stem(match[0]) in words:
            pieces += [(text[end : match.start()], False), (match[0], True)]
            end = match.end()
    pieces.append((text[end:], False))
    return [piece for piece in pieces if piece[0]]
