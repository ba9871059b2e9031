"""Answering: turns of many listeners, one after the other, on one model."""

import logging
import secrets
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from talkplay_hf import TalkPlayError
from talkplay_hf.errors import NoTrackError, first_line
from talkplay_space.conversation import (
    MAX_CHARACTERS,
    MAX_TURNS,
    Conversation,
    RefusedError,
    Turn,
    is_unicode,
)
from talkplay_space.model_thread import Ahead, ModelThread
from talkplay_space.settings import MAX_SEED, Choices, Settings

if TYPE_CHECKING:
    from talkplay_hf import Recommendation, Recommender

logger = logging.getLogger(__name__)

APOLOGY = "Sorry, something went wrong while I was looking for music. Please try again."
EMPTY = "The message is empty: please say what you would like to hear."
TOO_LONG = f"That message is too long: please keep it under {MAX_CHARACTERS:,} characters."
UNREAD = "That message is longer than this model can read: please say it in fewer words."
TOO_MANY = f"This conversation has reached {MAX_TURNS} turns. Please start a new one."
NOT_TEXT = "That message holds characters that cannot be read as text."
NO_OTHER = (
    "Sorry, there is no other track for this: please loosen a rule or ask for something else."
)
NO_TURN = "There is no such turn in this conversation."
# seconds between two steps of a growing reply: each costs the server more than a word of a small
# model does
REPLY_EVERY = 0.1
_LOOSEN = {
    "year >=": "the first year",
    "year <=": "the last year",
    "tags is": "the tags",
    "not explicit": "the rule on explicit tracks",
    "artist at most": "the rule of one track an artist",
}

Stage = Literal["waiting", "track", "reply", "done", "problem"]


@dataclass(frozen=True)
class Step:
    """Where a turn stands.

    Args:
        conversation (`Conversation`): With the turn as far as it has come; with a problem, the
            conversation as it was before, so that nothing is lost.
        stage (`str`): `"waiting"` for the model, `"track"` once it has played, `"reply"` while the
            reply grows, `"done"` or `"problem"` at the end.
        problem (`str`, *optional*): One polite line on what is wrong.
        ahead (`int`): Turns that are answered before this one.
    """

    conversation: Conversation
    stage: Stage
    problem: str | None = None
    ahead: int = 0


class Conductor:
    """Runs the turns of many listeners on one recommender, first come, first served.

    It keeps nothing of a conversation: what a turn needs comes with it and goes back changed.

    Args:
        recommender (`Recommender`): The model with its catalogue.
        thread (`ModelThread`, *optional*): Where the model runs, if others run there too.
    """

    def __init__(self, recommender: "Recommender", thread: ModelThread | None = None) -> None:
        self.recommender = recommender
        self._model = thread or ModelThread()

    @property
    def choices(self) -> Choices:
        """What the controls can offer."""
        return Choices.of(self.recommender)

    def stream(self, conversation: Conversation, text: str, settings: Settings) -> Iterator[Step]:
        """Answer a message.

        Args:
            conversation (`Conversation`): What was said before.
            text (`str`): The message.
            settings (`Settings`): How to answer.

        Yields:
            `Step`: Whenever there is something new to show. The last one is `"done"` or
            `"problem"`; nothing is raised.
        """
        seed = secrets.randbelow(2**31) if settings.seed is None else settings.seed
        yield from self._answer(conversation, conversation, Turn(text, seed=seed), settings)

    def retry(self, conversation: Conversation, settings: Settings) -> Iterator[Step]:
        """Answer the last message once more: with another seed, and another track.

        What earlier tries played is left out until nothing else is left.

        Args:
            conversation (`Conversation`): What was said, the turn to answer anew included.
            settings (`Settings`): How to answer.

        Yields:
            `Step`: See `stream`.
        """
        if not conversation.turns:
            yield Step(conversation, "problem", NO_TURN)
            return
        last = conversation.turns[-1]
        tried = tuple(dict.fromkeys((*last.tried, *last.track_ids)))
        turn = Turn(last.text, seed=(last.seed + 1) % (MAX_SEED + 1), tried=tried)
        yield from self._answer(conversation, conversation.undone(), turn, settings, last.track_ids)

    def edit(
        self, conversation: Conversation, n: int, text: str, settings: Settings
    ) -> Iterator[Step]:
        """Say turn `n` anew; what followed it is cut off once there is an answer.

        Args:
            conversation (`Conversation`): What was said.
            n (`int`): The turn, counted from 0.
            text (`str`): What it says now.
            settings (`Settings`): How to answer.

        Yields:
            `Step`: See `stream`.
        """
        if not 0 <= n < len(conversation):
            yield Step(conversation, "problem", NO_TURN)
            return
        seed = secrets.randbelow(2**31) if settings.seed is None else settings.seed
        yield from self._answer(conversation, conversation.cut(n), Turn(text, seed=seed), settings)

    def alternatives(
        self, conversation: Conversation, n: int, settings: Settings, k: int = 5
    ) -> list[Any]:
        """What else could have been played in turn `n`, best first.

        Args:
            conversation (`Conversation`): What was said.
            n (`int`): The turn, counted from 0.
            settings (`Settings`): The rules.
            k (`int`): How many at most.

        Returns:
            `list[ScoredTrack]`: Without what the turn did play; empty where there is nothing.

        Raises:
            RefusedError: If there is no such turn, or the model failed.
        """
        if not 0 <= n < len(conversation):
            raise RefusedError(NO_TURN)
        turn = conversation.turns[n]
        messages = conversation.cut(n).messages(turn.text)

        def rank() -> Generator[Any, None, None]:
            wanted = k + len(turn.track_ids)
            yield from self.recommender.rank(messages, wanted, **settings.ranking())

        try:
            ranked = self._model.run(rank, later=True)
            found = [one for one in ranked if not isinstance(one, Ahead)]
        except TalkPlayError:
            return []
        except Exception:
            logger.exception("ranking alternatives failed")
            raise RefusedError(APOLOGY) from None
        return [one for one in found if one.track.track_id not in turn.track_ids][:k]

    def swap(
        self, codes: Sequence[int], modality: str, code: int, k: int = 10
    ) -> tuple[tuple[int, ...], list[Any]]:
        """Swap one of five codes and look up what the new block leads to.

        Args:
            codes (`Sequence[int]`): The five codes.
            modality (`str`): The modality of the code to swap.
            code (`int`): The code to put there.
            k (`int`): How many tracks at most.

        Returns:
            `tuple[tuple[int, ...], list]`: The new codes, and what `Recommender.look_up` gives.

        Raises:
            RefusedError: If there is no such modality or code.
        """
        modalities = tuple(self.recommender.tokenizer.config.modalities)
        whole = isinstance(code, int) and not isinstance(code, bool)
        if modality not in modalities or len(codes) != len(modalities) or not whole:
            raise RefusedError("There is no such token to swap.")
        new = list(codes)
        new[modalities.index(modality)] = code
        try:
            return tuple(new), list(self.recommender.look_up(tuple(new), k=k))
        except TalkPlayError as error:
            raise RefusedError(f"That token cannot be swapped: {first_line(error)[:300]}") from None

    def problem(self, before: Conversation, text: object, settings: Settings) -> str | None:
        """Why a message cannot be answered, in one line; `None` where it can.

        Args:
            before (`Conversation`): What was said before it.
            text (`object`): The message.
            settings (`Settings`): How to answer.
        """
        if len(before) >= MAX_TURNS:
            return TOO_MANY
        return text_problem(text) or settings.problem(self.choices)

    def _answer(
        self,
        whole: Conversation,
        before: Conversation,
        turn: Turn,
        settings: Settings,
        last: tuple[str, ...] = (),
    ) -> Iterator[Step]:
        """Answer a turn that follows `before`; a problem gives `whole` back as it was."""
        problem = self.problem(before, turn.text, settings)
        if problem is not None:
            yield Step(whole, "problem", problem)
            return
        turn = replace(turn, text=turn.text.strip())
        messages = before.messages(turn.text)

        def answers() -> Generator[tuple[Turn, "Recommendation"], None, None]:
            # once all has been tried, only the answer before is left out
            for tried in dict.fromkeys((turn.tried, last)):
                options = settings.options()
                if tried:
                    rows = tuple(map(self.recommender.catalog.row, tried))
                    options["rules"] = [*options["rules"], AnotherThan(rows)]
                asked = replace(turn, tried=tried)
                try:
                    for answer in self.recommender.stream(messages, seed=turn.seed, **options):
                        yield asked, answer
                    return
                except NoTrackError:
                    if tried == last:
                        raise

        shown = before.with_turn(turn)
        stage: Stage = "waiting"
        since = 0.0
        try:
            with closing(self._model.run(answers)) as steps:
                for found in steps:
                    if isinstance(found, Ahead):
                        yield Step(shown, "waiting", ahead=found.turns)
                        continue
                    asked, answer = found
                    shown = before.with_turn(_told(asked, answer))
                    stage = "reply" if answer.reply else "track" if answer.tracks else stage
                    if stage != "reply" or time.monotonic() - since >= REPLY_EVERY:
                        since = time.monotonic()
                        yield Step(shown, stage)
            yield Step(shown, "done")
            return
        except NoTrackError as error:
            problem = NO_OTHER if last else no_track(error, settings)
        except RefusedError as error:
            problem = str(error)
        except TalkPlayError as error:
            # a message of few letters can have many tokens, as in Japanese
            too_long = str(error).startswith("the message is too long")
            why = first_line(error)[:300]
            problem = UNREAD if too_long else f"Sorry, I cannot answer that: {why}"
        except Exception:
            # what the listener sees must not give away how the server is made
            logger.exception("a turn failed")
            problem = APOLOGY
        yield Step(whole, "problem", problem)


@dataclass(frozen=True)
class AnotherThan:
    """The rule that a track is another than some. It can be pickled, for a model in another
    process.

    Args:
        rows (`tuple[int, ...]`): Their catalogue rows.
    """

    rows: tuple[int, ...]

    def __call__(self, table: Any) -> np.ndarray:
        mask = np.ones(table.num_rows, dtype=bool)
        mask[list(self.rows)] = False
        return mask


def text_problem(text: object) -> str | None:
    """Why a text cannot be a message, in one line; `None` where it can."""
    if not isinstance(text, str) or not text.strip():
        return EMPTY
    if len(text) > MAX_CHARACTERS:
        return TOO_LONG
    return None if is_unicode(text) else NOT_TEXT


def no_track(error: TalkPlayError, settings: Settings) -> str:
    """The polite line for an error that says that no track is left: which rule to loosen."""
    said = str(error)
    for rule in map(str, settings.rules()):
        if f"rule {rule!r}" in said:
            name = next(name for start, name in _LOOSEN.items() if rule.startswith(start))
            return f"Sorry, no track is left to play: please loosen {name} ({rule})."
    if settings.no_repeats:
        return "Sorry, everything that fits was played already: please allow repeats."
    return "Sorry, no track fits that: please loosen a rule."


def quick_replies(conversation: Conversation, recommender: "Recommender") -> list[str]:
    """A few things to say next, as the last track and what was said of it suggest them.

    Args:
        conversation (`Conversation`): What was said.
        recommender (`Recommender`): Whose catalogue has the tracks.

    Returns:
        `list[str]`: At most five; empty where nothing was played last.
    """
    if not conversation.turns or not conversation.turns[-1].track_ids:
        return []
    turn = conversation.turns[-1]
    track = recommender.track(turn.track_ids[-1])
    choices = Choices.of(recommender)
    replies = ["Something different now." if turn.reaction == "skip" else "More like this, please."]
    tags = frozenset(tag.casefold() for tag in track.tags)
    if "upbeat" not in tags:
        replies.append("Something more upbeat.")
    if track.tempo is not None:
        fast = choices.tempo is not None and track.tempo > choices.tempo
        replies.append("Something slower." if fast else "Something faster.")
    if track.year is not None and choices.years is not None:
        first, last = choices.years
        if first < last:
            late = track.year - first >= last - track.year
            replies.append("Something older." if late else "Something newer.")
    if choices.artists > 1:
        replies.append("Something by a different artist.")
    return replies


def _told(turn: Turn, answer: "Recommendation") -> Turn:
    return replace(
        turn,
        track_ids=tuple(track.track_id for track in answer.tracks),
        codes=tuple(tuple(int(code) for code in block) for block in answer.codes),
        reply=answer.reply[:MAX_CHARACTERS],
        scores=tuple(float(score) for score in answer.scores),
        matched=tuple(tuple(names) for names in answer.matched),
    )
