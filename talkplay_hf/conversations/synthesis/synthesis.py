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

from talkplay_hf.catalog.schema import Catalog, Conversation
from talkplay_hf.conversations.checks.answers import Limits
from talkplay_hf.conversations.dataset import ConversationWriter
from talkplay_hf.conversations.llm.budget import TOKENS_PER_CHARACTER
from talkplay_hf.conversations.llm.faults import PromptFailedError
from talkplay_hf.conversations.llm.language_model import Answer, Chat, LanguageModel
from talkplay_hf.conversations.pieces import Piece
from talkplay_hf.conversations.synthesis.exchange import Exchange, Quarantined
from talkplay_hf.conversations.synthesis.ledger import Ledger, Record, sha256_of
from talkplay_hf.conversations.synthesis.prompt import Prompt
from talkplay_hf.conversations.synthesis.report import SynthesisReport
from talkplay_hf.errors import InputError, LanguageModelError, PromptRefusedError

ATTEMPTS = 3
FILTERED = "content_filter"
LIMIT_NAMES = ("max_tokens", "max_completion_tokens")
TRACKS_IN_MEMORY = 20_000


@dataclass(frozen=True)
class Asked:
    """How far the asking came.

    Args:
        finished (`int`): Pieces that need no further call: answered well, refused, or out of
            attempts.
        kept (`int`): Those of them that were answered well.
        failed (`int`): Pieces whose call brought no answer, over and over; they may be asked again.
        failure (`str`, *optional*): What went wrong with the last of them.
        stopped (`LanguageModelError`, *optional*): Why it ended before the last piece.
    """

    finished: int
    kept: int = 0
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
        progress: Callable[[Asked], None] | None = None,
    ) -> Asked:
        """Ask for every piece what the ledger does not hold, several at a time.

        Where the model cannot be asked any longer (a cap is reached, the service is gone), no
        further call is begun, those in flight are waited for and stored, and the reason is
        returned.

        Args:
            pieces (`Iterable[Piece]`): The pieces; read as they are needed.
            progress (`Callable`, *optional*): Called after every piece with how far it came.
        """
        waiting = iter(pieces)
        errors: list[Exception] = []
        failures: list[str] = []
        finished = kept = 0

        def so_far(stopped: LanguageModelError | None = None) -> Asked:
            failure = failures[-1] if failures else None
            return Asked(finished, kept, len(failures), failure, stopped)

        async def work() -> None:
            nonlocal finished, kept
            for piece in waiting:
                try:
                    exchange = await self._ask(piece, errors)
                    finished += not self._calls_left(exchange)
                    kept += exchange.valid
                except PromptFailedError as error:
                    failures.append(str(error))
                except Exception as error:
                    errors.append(error)
                if errors:
                    return
                if progress is not None:
                    progress(so_far())
                await asyncio.sleep(0)  # a piece that the ledger settles would hold up the others

        await asyncio.gather(*(work() for _ in range(self.model.concurrency)))
        for error in errors:
            if not isinstance(error, LanguageModelError):
                raise error
        return so_far(next((e for e in errors if isinstance(e, LanguageModelError)), None))

    async def _ask(self, piece: Piece, errors: list[Exception]) -> Exchange:
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
                if not self.ledger.answered_by(self.model.name):
                    # more likely a server that is not set up well than this one prompt
                    raise PromptFailedError(str(error)) from None
                refusal = str(error)
            if answer.finish_reason == FILTERED:
                refusal = "the answer was filtered"
            record = Record(
                key=key,
                piece_id=piece.piece_id,
                attempt=len(exchange.records) + 1,
                model=self.model.name,
                parameters=dict(self.model.parameters),
                prompt=self.prompt.sha256,
                chat=sha256_of([dict(message) for message in chat]),
                refusal=refusal,
                **asdict(answer),
            )
            await self.ledger.store(record)
            exchange.take(record)
        return exchange

    def replay(self, piece: Piece) -> Exchange:
        """What was asked and answered about a piece so far, judged by today's checks."""
        ids = (*piece.track_ids, *piece.negative_ids)
        tracks = {track_id: self._track(track_id) for track_id in ids}
        exchange = Exchange(piece, tracks, self.prompt, self.model, self.limits)
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
            outcome = exchange.outcome()
            if isinstance(outcome, Conversation) and outcome.language == "en":
                report.count_intents(piece.intents, exchange.verdicts[-1].turns)
            yield outcome

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

    def _calls_left(self, exchange: Exchange) -> int:
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
            prompt_tokens=int(characters * TOKENS_PER_CHARACTER),
            answer_tokens=least * next((limit for limit in limits if limit), 0),
            example=example,
        )
