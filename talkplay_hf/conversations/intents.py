"""What users ask for and how they react: a taxonomy, and finding its names in English text.

Music discovery dialogues are made of few kinds of user turns (Doh et al., 2024): a user opens,
asks for more of the same, adds or drops a condition, takes something back, accepts, rejects, and so
on (the *acts*), and what is asked for is about one or more of the *topics* (artist, mood, era,
...). The taxonomy stands in `intents.json`, each with the cues that it is found by. Prompts assign
intents, so that conversations differ; reports count them.
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from talkplay_hf.errors import InputError
from talkplay_hf.hub import files

ACT, TOPIC = "act", "topic"
_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*|&")
_LONGEST_TERM = 5
# what a first message can do, beside asking for the first track
_FIRST_ACTS = frozenset({"open", "greet", "thank", "correct"})
_REACTIONS = frozenset({"accept", "reject", "ask", "greet", "thank"})


@dataclass(frozen=True)
class Intent:
    """One kind of thing that a user says.

    Args:
        name (`str`): Its name, such as `"refine"` or `"era"`.
        kind (`str`): `"act"` for what the user does, `"topic"` for what a request is about.
        description (`str`): One line about it, as a language model is told.
        example (`str`): Something that a user may say.
        needs (`tuple[str, ...]`): For a topic: columns of the catalog, one of which a track must
            have so that it can be talked about in this way. Empty where every track will do.
    """

    name: str
    kind: str
    description: str
    example: str
    needs: tuple[str, ...] = ()


@cache
def taxonomy() -> Mapping[str, Intent]:
    """All intents by name: the acts, then the topics, in the order of the file."""
    return {
        name: Intent(name, kind, entry["description"], entry["example"], tuple(entry["needs"]))
        if kind == TOPIC
        else Intent(name, kind, entry["description"], entry["example"])
        for kind, entries in ((ACT, _book()["acts"]), (TOPIC, _book()["topics"]))
        for name, entry in entries.items()
    }


def detect_intents(
    text: str, *, first: bool, words: Mapping[str, Collection[str]] | None = None
) -> frozenset[str]:
    """Find what a user message does and is about, by cues of English.

    A first message always opens, and of the other acts it can only greet, thank or put itself
    right. A later one that asks for something, and shows no cue of how that stands to what came
    before, refines; so does one that only names a topic.

    Args:
        text (`str`): The message.
        first (`bool`): Whether it is the first user message of its conversation.
        words (`Mapping[str, Collection[str]]`, *optional*): Further words of topics, such as the
            tags of a catalog under `"genre"`: lower-case terms of at most 5 words, with single
            spaces and no punctuation. Sets are fastest.

    Returns:
        `frozenset[str]`: Names of the taxonomy; empty where nothing is found.

    Raises:
        InputError: If `words` names a topic that the taxonomy lacks.
    """
    for name in words or ():
        if name not in _book()["topics"]:
            raise InputError(f"words of {name!r}: must be one of {', '.join(_book()['topics'])}")
    text = text.replace("’", "'").replace("‘", "'")
    patterns, terms = _cues()
    found = {name for name, pattern in patterns.items() if pattern.search(text)}
    said = _terms_in(text)
    found |= {name for name, known in terms.items() if not said.isdisjoint(known)}
    found |= {name for name, known in (words or {}).items() if any(t in known for t in said)}
    acts = found & _book()["acts"].keys()
    topics = found - acts
    if first:
        return frozenset({"open"} | (acts & _FIRST_ACTS) | topics)
    if not acts - _REACTIONS and (_request().search(text) or (topics and not acts)):
        acts.add("refine")
    return frozenset(acts | topics)


@cache
def _book() -> dict[str, Any]:
    book: dict[str, Any] = files.read_json(Path(__file__).with_name("intents.json"))
    return book


def _pattern(cues: Collection[str]) -> re.Pattern[str]:
    return re.compile("|".join(f"(?:{cue})" for cue in cues), re.IGNORECASE)


@cache
def _request() -> re.Pattern[str]:
    return _pattern(_book()["requests"])


@cache
def _cues() -> tuple[dict[str, re.Pattern[str]], dict[str, frozenset[str]]]:
    """One pattern and one set of terms an intent, where it has any."""
    patterns, terms = {}, {}
    for name, entry in (_book()["acts"] | _book()["topics"]).items():
        if entry["cues"]:
            patterns[name] = _pattern(entry["cues"])
        if "words" in entry:
            terms[name] = frozenset(entry["words"])
    return patterns, terms


def _terms_in(text: str) -> set[str]:
    """All runs of up to five words of a text, in lower case, without punctuation."""
    said = [word.replace("'", "") for word in _WORD.findall(text.casefold())]
    return {
        " ".join(said[start : start + size])
        for size in range(1, _LONGEST_TERM + 1)
        for start in range(len(said) - size + 1)
    }
