"""The rules that a conversation of a language model must keep (paper 3.2, A.1)."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from talkplay_hf.catalog.name_words import keys_of
from talkplay_hf.catalog.schema import Message, Track
from talkplay_hf.conversations.checks.parse import READ_REPAIRS, Said, parse_answer
from talkplay_hf.conversations.checks.reply_claims import ReplyReader
from talkplay_hf.conversations.checks.text_leaks import find_leaks, names_in, telling_ids
from talkplay_hf.conversations.checks.verdict import Problem, Turn, Verdict
from talkplay_hf.conversations.pieces import Piece, check_count
from talkplay_hf.errors import ConfigError

REPAIRS: dict[str, str] = {
    **READ_REPAIRS,
    "id_form": "a track id with a prefix, quotes, a link or words around it",
    "title_for_id": "a title instead of an id, which only one track of the piece has",
    "incomplete_end": "a last turn without a track or a reply is left out",
    "ends_on_negative": "last turns that play an unwanted track are left out",
}
_WORDS = re.compile(r"[^\W_]+")
# more than these tell a model nothing new
_MAX_PROBLEMS = 12
# fewer words in a row can be those of a template by chance
_FEWEST_COPIED = 5
_SHORT_TEXT = 40
_MOST_ID_TEXT = 300
_ID_FORM = re.compile(
    r"^(?:spotify:track:|(?:https?://)?open\.spotify\.com/track/|track_id:\s*|id:\s*)"
)
_INCOMPLETE = (["user"], ["user", "music"], ["user", "assistant"])


@dataclass(frozen=True)
class Limits:
    """How long a conversation and its texts may be.

    Args:
        min_turns (`int`): Fewest turns.
        max_turns (`int`): Most turns.
        min_user (`int`): Fewest characters of a user text.
        max_user (`int`): Most characters of a user text.
        min_reply (`int`): Fewest characters of a reply.
        max_reply (`int`): Most characters of a reply.
        max_same (`int`): How often one short text may be said in a conversation.

    Raises:
        ConfigError: If a value is impossible.
    """

    min_turns: int = 1
    max_turns: int = 40
    min_user: int = 2
    max_user: int = 600
    min_reply: int = 5
    max_reply: int = 1000
    max_same: int = 2

    def __post_init__(self) -> None:
        for name in self.__dataclass_fields__:
            check_count(name, getattr(self, name), 1)
        for name in ("turns", "user", "reply"):
            low, high = getattr(self, f"min_{name}"), getattr(self, f"max_{name}")
            if low > high:
                raise ConfigError(f"min_{name} is {low}, more than max_{name}, which is {high}")


def judge_answer(
    text: str,
    piece: Piece,
    tracks: Mapping[str, Track],
    limits: Limits,
    *,
    finish_reason: str | None = None,
    template: str = "",
) -> Verdict:
    """Read, mend and check the answer of a language model.

    What is mended cannot mean anything else: marks of the format, the form of an id, an incomplete
    last turn. An answer that breaks a rule is refused whole, also where its first turns would do,
    so that the model is asked again instead of being cut short. Never raises, whatever the text.

    Args:
        text (`str`): The answer, as it came.
        piece (`Piece`): What the conversation is about.
        tracks (`Mapping[str, Track]`): The tracks of the piece by id, negative set included.
        limits (`Limits`): How long a conversation and its texts may be.
        finish_reason (`str`, *optional*): Why the model ended; after `"length"` an incomplete last
            turn counts as cut off.
        template (`str`): The template of the prompt. No text may be a sentence of its rules or of
            its example.

    Returns:
        `Verdict`: The turns to keep and what was mended, or the problems.
    """
    parsed = parse_answer(text)
    repairs = set(parsed.repairs)
    if finish_reason == "length" and parsed.messages:
        repairs.add("cut_off")
    if parsed.problems:
        return Verdict(problems=parsed.problems[:_MAX_PROBLEMS])
    ids = _Ids(piece, tracks)
    turns, problems = _turns(parsed.messages, ids, repairs)
    if not turns and not problems:
        problems.append(Problem("no_turns", "there is no turn of a user text, a track and a reply"))
    if not problems:
        problems += _repeated_tracks(turns)
        problems += _length_problems(turns, limits)
        problems += _repetitions(turns, limits)
        problems += _text_problems(turns, ids, limits)
        problems += _copies(turns, template)
    while turns and not problems and turns[-1].track_id in ids.negative:
        turns.pop()
        repairs.add("ends_on_negative")
    if not problems:
        problems += _missing(turns, ids, limits)
    if problems:
        return Verdict(problems=tuple(dict.fromkeys(problems))[:_MAX_PROBLEMS])
    return Verdict(tuple(turns), tuple(name for name in REPAIRS if name in repairs))


class _Ids:
    """The ids of a piece, and which id a text stands for."""

    def __init__(self, piece: Piece, tracks: Mapping[str, Track]) -> None:
        self.playlist = dict.fromkeys(piece.track_ids)
        self.negative = frozenset(piece.negative_ids) - frozenset(piece.track_ids)
        self.tracks = {
            one: tracks[one] for one in (*piece.track_ids, *piece.negative_ids) if one in tracks
        }
        self.known = frozenset(self.playlist) | self.negative

    def resolve(self, text: str, repairs: set[str]) -> str | None:
        """The id that a text surely stands for; `None` where there is none."""
        if text in self.known:
            return text
        bare = _ID_FORM.sub("", text.strip(" \t\r\n\"'`<>[](){}.,")).partition("?si=")[0]
        if bare in self.known:
            repairs.add("id_form")
            return bare
        inside = {one for one in re.split(r"[^\w-]+", text) if len(one) >= 8 and one in self.known}
        if len(inside) == 1 and len(text) <= _MOST_ID_TEXT:
            repairs.add("id_form")
            return inside.pop()
        if len(text) > _MOST_ID_TEXT or inside:
            return None
        words = keys_of(text)
        named = [one for one, track in self.tracks.items() if words and words in _whole(track)]
        if len(named) == 1:
            repairs.add("title_for_id")
            return named[0]
        return None


def _whole(track: Track) -> set[tuple[str, ...]]:
    """The whole title of a track, alone and with its artist."""
    title, artist = keys_of(track.title), keys_of(track.artist)
    return {title, (*title, "by", *artist), (*title, *artist), (*artist, *title)}


def _turns(
    messages: Sequence[Said], ids: _Ids, repairs: set[str]
) -> tuple[list[Turn], list[Problem]]:
    """Messages as turns; an incomplete last turn is left out."""
    problems: list[Problem] = []
    turns: list[Turn] = []
    groups: list[list[Said]] = []
    for message in messages:
        if message.role == "user" or not groups:
            groups.append([])
        groups[-1].append(message)
    for number, group in enumerate(groups, 1):
        roles = [one.role for one in group]
        music = [one for one in group if one.role == "music"]
        if roles in (["user", "music", "assistant"], ["user", "assistant", "music"]):
            track = _track(music[0], number, ids, repairs, problems)
            texts = [one.content.strip() for one in group if one.role != "music"]
            turns.append(Turn(texts[0], track, texts[1]))
        elif len(music) > 1 and roles.count("assistant") < 2:
            detail = f"turn {number} plays {len(music)} tracks; one is wanted"
            problems.append(Problem("several_tracks", detail))
        elif number == len(groups) and roles in _INCOMPLETE:
            repairs.add("incomplete_end")
        else:
            detail = (
                f"turn {number} is {', '.join(roles)}; a turn is one user text, one track and one "
                "reply"
            )
            problems.append(Problem("wrong_order", detail))
    return turns, problems


def _track(
    message: Said, number: int, ids: _Ids, repairs: set[str], problems: list[Problem]
) -> str:
    track = ids.resolve(message.content, repairs)
    if track is not None and message.beside in ids.known and message.beside != track:
        problems.append(Problem("several_tracks", f"turn {number} names two tracks; one is wanted"))
    if track is None:
        shown = ascii(message.content[:40])
        detail = f"turn {number} plays {shown}, which is no id of the playlist or the negative set"
        problems.append(Problem("unknown_track", detail))
    return track or ""


def _repeated_tracks(turns: Sequence[Turn]) -> Iterator[Problem]:
    seen: dict[str, int] = {}
    for number, turn in enumerate(turns, 1):
        before = seen.setdefault(turn.track_id, number)
        if before != number:
            detail = f"turn {number} plays {turn.track_id!r} again, after turn {before}"
            yield Problem("repeated_track", detail)


def _missing(turns: Sequence[Turn], ids: _Ids, limits: Limits) -> Iterator[Problem]:
    if 0 < len(turns) < limits.min_turns:
        yield Problem("too_few_turns", f"{len(turns)} turns; {limits.min_turns} is the least")
    used = sum(turn.track_id in ids.playlist for turn in turns)
    of = len(ids.playlist)
    if 2 * used < of:
        detail = f"{used} of the playlist's {of} tracks are played; at least half must be"
        yield Problem("too_few_tracks", detail)


def _length_problems(turns: Sequence[Turn], limits: Limits) -> Iterator[Problem]:
    if len(turns) > limits.max_turns:
        yield Problem("too_many_turns", f"{len(turns)} turns; {limits.max_turns} is the most")
    for number, turn in enumerate(turns, 1):
        for who, text, least, most in (
            ("user text", turn.user, limits.min_user, limits.max_user),
            ("reply", turn.assistant, limits.min_reply, limits.max_reply),
        ):
            what = f"the {who} of turn {number} has {len(text)} characters"
            if not text:
                yield Problem("empty_text", f"the {who} of turn {number} is empty")
            elif len(text) < least:
                yield Problem("text_too_short", f"{what}; {least} is the least")
            elif len(text) > most:
                yield Problem("text_too_long", f"{what}; {most} is the most")


def _repetitions(turns: Sequence[Turn], limits: Limits) -> Iterator[Problem]:
    """A short text may come back ("Next, please"), a long one not."""
    for who, texts in (
        ("user text", [turn.user for turn in turns]),
        ("reply", [turn.assistant for turn in turns]),
    ):
        for text, count in Counter(" ".join(keys_of(one)) for one in texts).items():
            if count > (limits.max_same if len(text) < _SHORT_TEXT else 1):
                yield Problem("repeated_text", f"the {who} {text[:60]!r} comes {count} times")


def _text_problems(turns: Sequence[Turn], ids: _Ids, limits: Limits) -> Iterator[Problem]:
    telling, names = telling_ids(ids.tracks), names_in(ids.tracks)
    reader = ReplyReader(ids.tracks.values())
    heard: list[str] = []
    said: list[str] = []
    for number, turn in enumerate(turns, 1):
        heard.append(turn.track_id)
        said.append(turn.user)
        if len(turn.user) > limits.max_user or len(turn.assistant) > limits.max_reply:
            continue
        for who, text in (("user text", turn.user), ("reply", turn.assistant)):
            for leak in find_leaks(text, telling, names):
                yield Problem(leak.reason, f"the {who} of turn {number} {leak.detail}")
        known = [one for one in heard if one in ids.tracks]
        title = reader.wrong_name(turn.assistant, known, said)
        if title is not None:
            detail = (
                f"the reply of turn {number} names {title[:60]!a}, which is neither the track "
                "it plays nor one that was played before"
            )
            yield Problem("wrong_title", detail)


def _copies(turns: Sequence[Turn], template: str) -> Iterator[Problem]:
    told = _told(template)
    for number, turn in enumerate(turns, 1):
        for who, text in (("user text", turn.user), ("reply", turn.assistant)):
            words = _plain(text)
            if len(words.split()) >= _FEWEST_COPIED and words in told:
                detail = f"the {who} of turn {number} is copied from the rules or their example"
                yield Problem("copied_prompt", f"{detail}; say something else")


@lru_cache(maxsize=8)
def _told(template: str) -> str:
    """The words of a template, which is the same for every answer of a run."""
    return _plain(template)


def _plain(text: str) -> str:
    """The words of a text, with a space before and after each."""
    return " ".join(["", *_WORDS.findall(text.casefold()), ""])


def messages_of(turns: Sequence[Turn], piece: Piece) -> tuple[Message, ...]:
    """The messages of a conversation, the track before the reply (paper A.2).

    Args:
        turns (`Sequence[Turn]`): The turns.
        piece (`Piece`): What the conversation is about; it tells where each track came from.
    """
    messages = []
    for turn in turns:
        source = "playlist" if turn.track_id in piece.track_ids else "negative"
        messages += [
            Message("user", turn.user),
            Message("music", track_id=turn.track_id, source=source),
            Message("assistant", turn.assistant),
        ]
    return tuple(messages)
