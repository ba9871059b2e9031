"""Conversations written by a language model (paper 3.2): asking and harvesting, apart.

Asking puts raw answers into the ledger. Harvesting reads them back, judges them and yields what may
be kept and what may not. It is a function of pieces, ledger and checks alone, so that the outcome
is the same bytes in whatever order the answers came and however often the asking was interrupted,
and better checks later cost no call.
"""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from talkplay_hf.catalog.schema import Catalog, Conversation, Track
from talkplay_hf.conversations.checks.answers import Limits, judge_answer, messages_of
from talkplay_hf.conversations.checks.verdict import Problem, Verdict
from talkplay_hf.conversations.dataset import ConversationWriter
from talkplay_hf.conversations.llm.faults import PromptFailedError
from talkplay_hf.conversations.llm.language_model import Answer, Chat, LanguageModel
from talkplay_hf.conversations.synthesis.ledger import Ledger, Record, answer_key, sha256_of
from talkplay_hf.conversations.synthesis.pieces import Piece
from talkplay_hf.conversations.synthesis.prompt import Prompt
from talkplay_hf.conversations.synthesis.report import NOT_ASKED, REFUSED, SynthesisReport
from talkplay_hf.errors import InputError, LanguageModelError, PromptRefusedError

ATTEMPTS = 3
CHARACTERS_PER_TOKEN = 4
LIMIT_NAMES = ("max_tokens", "max_completion_tokens")
TRACKS_IN_MEMORY = 20_000
# of the languages that a prompt asks for, those whose codes are known here
LANGUAGE_CODES = {
    "chinese": "zh", "dutch": "nl", "english": "en", "french": "fr", "german": "de", "hindi": "hi",
    "italian": "it", "japanese": "ja", "korean": "ko", "polish": "pl", "portuguese": "pt",
    "russian": "ru", "spanish": "es", "swedish": "sv", "turkish": "tr", "ukrainian": "uk",
}  # fmt: skip


@dataclass(frozen=True)
class Quarantined:
    """A piece without a conversation that may be kept.

    Args:
        piece_id (`str`): The piece.
        playlist_id (`str`, *optional*): The playlist that it was cut from.
        split (`str`): The split of that playlist.
        attempts (`int`): Answers that it got.
        reasons (`tuple[str, ...]`): Names of what is wrong with the last one.
        details (`tuple[str, ...]`): The same in words, one for each reason.
        answer (`str`, *optional*): The last answer; `None` where there is none.
    """

    piece_id: str
    playlist_id: str | None
    split: str
    attempts: int
    reasons: tuple[str, ...]
    details: tuple[str, ...]
    answer: str | None

    def to_row(self) -> dict[str, Any]:
        """The row of the quarantine."""
        return asdict(self) | {"reasons": [*self.reasons], "details": [*self.details]}


@dataclass(frozen=True)
class Asked:
    """How far the asking came.

    Args:
        finished (`int`): Pieces that need no further call: answered well, refused, or out of
            attempts.
        failed (`int`): Pieces whose call brought no answer, over and over; they may be asked again.
        failure (`str`, *optional*): What went wrong with the last of them.
        stopped (`LanguageModelError`, *optional*): Why it ended before the last piece.
    """

    finished: int
    failed: int = 0
    failure: str | None = None
    stopped: LanguageModelError | None = None


@dataclass(frozen=True)
class Estimate:
    """What asking will take, before anything is paid.

    Args:
        pieces (`int`): All pieces.
        finished (`int`): Those that take no further call.
        calls_at_least (`int`): Calls where every answer is good.
        calls_at_most (`int`): Calls where none is.
        prompt_tokens (`int`): Tokens of the chats of the fewest calls, at four characters each.
        answer_tokens (`int`): Most tokens of the answers of the fewest calls; 0 where the model
            has no such limit.
        example (`Chat`, *optional*): The chat of the first piece that is to be asked.
    """

    pieces: int = 0
    finished: int = 0
    calls_at_least: int = 0
    calls_at_most: int = 0
    prompt_tokens: int = 0
    answer_tokens: int = 0
    example: Chat | None = None


class Synthesis:
    """What makes conversations of pieces: a prompt, a language model, checks and a ledger.

    Args:
        catalog (`Catalog`): Has the tracks of the pieces.
        prompt (`Prompt`): What is asked.
        model (`LanguageModel`): Who is asked. Harvesting reads its name and parameters only.
        ledger (`Ledger`): Where the answers are.
        limits (`Limits`, *optional*): How long a conversation and its texts may be.
        attempts (`int`): How often a piece is asked at most: again with what was wrong.

    Raises:
        InputError: If `attempts` is below 1.
    """

    def __init__(
        self,
        catalog: Catalog,
        prompt: Prompt,
        model: LanguageModel,
        ledger: Ledger,
        *,
        limits: Limits | None = None,
        attempts: int = ATTEMPTS,
    ) -> None:
        if attempts < 1:
            raise InputError(f"attempts is {attempts}; a piece must be asked at least once")
        self.prompt, self.model, self.ledger = prompt, model, ledger
        self.limits = limits or Limits()
        self.attempts = attempts
        self._track = lru_cache(TRACKS_IN_MEMORY)(catalog.track)

    async def ask(
        self,
        pieces: Iterable[Piece],
        *,
        total: int = 0,
        progress: Callable[[str, int, int], None] | None = None,
    ) -> Asked:
        """Ask for every piece what the ledger does not hold, several at a time.

        Where the model cannot be asked any longer (a cap is reached, the service is gone), no
        further call is begun, those in flight are waited for and stored, and the reason is
        returned.

        Args:
            pieces (`Iterable[Piece]`): The pieces; read as they are needed.
            total (`int`): How many there are, for `progress`.
            progress (`Callable`, *optional*): Called with (what, done, total).
        """
        waiting = iter(pieces)
        errors: list[Exception] = []
        failures: list[str] = []
        finished = 0

        async def work() -> None:
            nonlocal finished
            for piece in waiting:
                try:
                    done = await self._ask(piece, errors)
                    finished += done
                except PromptFailedError as error:
                    failures.append(str(error))
                except Exception as error:
                    errors.append(error)
                if errors:
                    return
                if progress is not None:
                    progress("asking", finished + len(failures), total)
                await asyncio.sleep(0)  # a piece that the ledger settles would hold up the others

        await asyncio.gather(*(work() for _ in range(self.model.concurrency)))
        for error in errors:
            if not isinstance(error, LanguageModelError):
                raise error
        stopped = next((e for e in errors if isinstance(e, LanguageModelError)), None)
        return Asked(finished, len(failures), failures[-1] if failures else None, stopped)

    async def _ask(self, piece: Piece, errors: list[Exception]) -> bool:
        """Ask about one piece until it is finished, or another one met an error."""
        exchange = self.replay(piece)
        while self._calls_left(exchange) and not errors:
            key, chat = exchange.key(), exchange.chat()
            answer, refusal = Answer(""), None
            try:
                answer = await self.model.complete(chat, self.prompt.schema(piece))
            except PromptFailedError:
                raise
            except PromptRefusedError as error:
                refusal = str(error)
            record = Record(
                key=key,
                piece_id=piece.piece_id,
                attempt=len(exchange.records) + 1,
                model=self.model.name,
                parameters=dict(self.model.parameters),
                prompt=self.prompt.sha256,
                chat=sha256_of([dict(message) for message in chat]),
                text=answer.text,
                finish_reason=answer.finish_reason,
                prompt_tokens=answer.prompt_tokens,
                completion_tokens=answer.completion_tokens,
                refusal=refusal,
            )
            await self.ledger.store(record)
            exchange.take(record)
        return not self._calls_left(exchange)

    def replay(self, piece: Piece) -> "Exchange":
        """What was asked and answered about a piece so far, judged by today's checks."""
        ids = (*piece.track_ids, *piece.negative_ids)
        exchange = Exchange(self, piece, {track_id: self._track(track_id) for track_id in ids})
        while not exchange.settled:
            record = self.ledger.get(exchange.key())
            if record is None:
                break
            exchange.take(record)
        return exchange

    def harvest(
        self, pieces: Iterable[Piece], report: SynthesisReport
    ) -> Iterator[Conversation | Quarantined]:
        """Yield a conversation or a quarantined row for every piece, in their order.

        Args:
            pieces (`Iterable[Piece]`): The pieces.
            report (`SynthesisReport`): Counts what comes by; complete when all has.

        Raises:
            InputError: If a piece id stands twice.
        """
        seen: set[str] = set()
        for piece in pieces:
            if piece.piece_id in seen:
                raise InputError(f"the piece {piece.piece_id!r} stands twice")
            seen.add(piece.piece_id)
            exchange = self.replay(piece)
            left = self._calls_left(exchange)
            report.count(exchange.records, exchange.verdicts, finished=left == 0)
            yield exchange.outcome()

    def save(
        self,
        folder: str | Path,
        pieces: Iterable[Piece],
        made_from: Mapping[str, str],
        *,
        total: int = 0,
        progress: Callable[[str, int, int], None] | None = None,
        **facts: Any,
    ) -> SynthesisReport:
        """Harvest into a conversations folder, with the quarantine beside.

        Args:
            folder (`str` or `Path`): The folder to make.
            pieces (`Iterable[Piece]`): The pieces.
            made_from (`Mapping[str, str]`): SHA-256 of each input, by name.
            total (`int`): How many pieces there are, for `progress`.
            progress (`Callable`, *optional*): Called with (what, done, total).
            facts: Further JSON values for the manifest and the card.

        Raises:
            ArtifactError: If the folder holds something else.
        """
        report = SynthesisReport()
        generator = {
            "kind": "language model",
            "model": self.model.name,
            "parameters": dict(self.model.parameters),
            "prompt_sha256": self.prompt.sha256,
            "attempts": self.attempts,
            "limits": asdict(self.limits),
        }
        with ConversationWriter(folder, made_from, generator=generator, **facts) as writer:
            for outcome in self.harvest(pieces, report):
                if isinstance(outcome, Conversation):
                    writer.add(outcome)
                else:
                    writer.add_quarantined(outcome.to_row())
                if progress is not None:
                    progress("harvesting", report.pieces, total)
            written = writer.counts["conversations"] + writer.counts["quarantined"]
            if written != report.pieces:
                raise AssertionError(f"{report.pieces} pieces became {written} rows")
            writer.facts |= {"synthesis": report.to_dict(), "rejects": report.rejects()}
        return report

    def _calls_left(self, exchange: "Exchange") -> int:
        """How many calls a piece may still take."""
        return 0 if exchange.settled else max(0, self.attempts - len(exchange.records))

    def estimate(self, pieces: Iterable[Piece]) -> Estimate:
        """What asking will take: a bound on the calls, and a guess of the tokens."""
        every = finished = least = most = characters = 0
        example: Chat | None = None
        for piece in pieces:
            exchange = self.replay(piece)
            every += 1
            left = self._calls_left(exchange)
            if left == 0:
                finished += 1
                continue
            chat = exchange.chat()
            example = example or chat
            least += 1
            most += left
            characters += sum(len(message["content"]) for message in chat)
        limits = [self.model.parameters.get(name) for name in LIMIT_NAMES]
        return Estimate(
            pieces=every,
            finished=finished,
            calls_at_least=least,
            calls_at_most=most,
            prompt_tokens=characters // CHARACTERS_PER_TOKEN,
            answer_tokens=least * next((limit for limit in limits if limit), 0),
            example=example,
        )


class Exchange:
    """What was asked and answered about one piece."""

    def __init__(self, synthesis: Synthesis, piece: Piece, tracks: Mapping[str, Track]) -> None:
        self.piece = piece
        self.records: list[Record] = []
        self.verdicts: list[Verdict] = []
        self._synthesis = synthesis
        self._tracks = tracks
        self._first = synthesis.prompt.chat(piece, tracks)

    @property
    def settled(self) -> bool:
        """Whether no further answer is wanted: one may be kept, the model refused the prompt, or
        it says the same again and would for ever."""
        if not self.records:
            return False
        last, before = self.records[-1], self.records[-2:-1]
        greedy = self._synthesis.model.parameters.get("temperature") == 0
        repeats = greedy and [one.text for one in before] == [last.text]
        return self.verdicts[-1].valid or last.refusal is not None or repeats

    def key(self) -> str:
        """The key of the next answer."""
        model, attempt = self._synthesis.model, len(self.records) + 1
        return answer_key(self._first, model.name, model.parameters, self.piece.piece_id, attempt)

    def chat(self) -> Chat:
        """The chat that asks for the next answer: the first one, then with the last problems."""
        if not self.records:
            return self._first
        said, problems = readable(self.records[-1].text), self.verdicts[-1].problems
        return self._synthesis.prompt.again(self._first, said, problems, piece=self.piece)

    def take(self, record: Record) -> None:
        """Add an answer and judge it."""
        if record.refusal is not None:
            verdict = Verdict(problems=(Problem(REFUSED, readable(record.refusal)),))
        else:
            verdict = judge_answer(
                self._synthesis.prompt.with_ids(readable(record.text), self.piece),
                self.piece,
                self._tracks,
                self._synthesis.limits,
                finish_reason=record.finish_reason,
            )
        self.records.append(record)
        self.verdicts.append(verdict)

    def outcome(self) -> Conversation | Quarantined:
        """What became of the piece."""
        piece = self.piece
        if self.verdicts and self.verdicts[-1].valid:
            messages = messages_of(self.verdicts[-1].turns, piece)
            language = LANGUAGE_CODES.get(self._synthesis.prompt.options.language.casefold())
            return Conversation(piece.piece_id, messages, piece.playlist_id, piece.split, language)
        problems: tuple[Problem, ...] = (Problem(NOT_ASKED, "there is no answer about it yet"),)
        if self.verdicts:
            problems = self.verdicts[-1].problems
        return Quarantined(
            piece_id=piece.piece_id,
            playlist_id=piece.playlist_id,
            split=piece.split,
            attempts=len(self.records),
            reasons=tuple(problem.reason for problem in problems),
            details=tuple(problem.detail for problem in problems),
            answer=readable(self.records[-1].text) if self.records else None,
        )


def readable(text: str) -> str:
    """A text without halves of surrogate pairs, which neither a request nor a table can hold."""
    return text.encode("utf-8", "replace").decode("utf-8")
