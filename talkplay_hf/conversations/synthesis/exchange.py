"""What was asked and answered about one piece, and what became of it."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from talkplay_hf.catalog.schema import Conversation, Track
from talkplay_hf.conversations.checks.answers import Limits, judge_answer, messages_of
from talkplay_hf.conversations.checks.verdict import NOT_ASKED, REFUSED, Problem, Verdict
from talkplay_hf.conversations.llm.language_model import Chat, LanguageModel
from talkplay_hf.conversations.pieces import Piece
from talkplay_hf.conversations.synthesis.ledger import Record, answer_key
from talkplay_hf.conversations.synthesis.prompt import Prompt

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


class Exchange:
    """What was asked and answered about one piece."""

    def __init__(
        self,
        piece: Piece,
        tracks: Mapping[str, Track],
        prompt: Prompt,
        model: LanguageModel,
        limits: Limits,
    ) -> None:
        self.piece = piece
        self.records: list[Record] = []
        self.verdicts: list[Verdict] = []
        self._tracks, self._prompt, self._model, self._limits = tracks, prompt, model, limits
        self._first = prompt.chat(piece, tracks)

    @property
    def valid(self) -> bool:
        """Whether the last answer may be kept."""
        return bool(self.verdicts) and self.verdicts[-1].valid

    @property
    def settled(self) -> bool:
        """Whether no further answer is wanted: one may be kept, the model refused the prompt, or
        it says the same again and would for ever."""
        if not self.records:
            return False
        last, before = self.records[-1], self.records[-2:-1]
        greedy = self._model.parameters.get("temperature") == 0
        repeats = greedy and [one.text for one in before] == [last.text]
        return self.valid or last.refusal is not None or repeats

    def key(self) -> str:
        """The key of the next answer."""
        model, attempt = self._model, len(self.records) + 1
        return answer_key(self._first, model.name, model.parameters, self.piece.piece_id, attempt)

    def chat(self) -> Chat:
        """The chat that asks for the next answer: the first one, then with the last problems."""
        if not self.records:
            return self._first
        said, problems = readable(self.records[-1].text), self.verdicts[-1].problems
        return self._prompt.again(self._first, said, problems, self.piece)

    def take(self, record: Record) -> None:
        """Add an answer and judge it."""
        if record.refusal is not None:
            verdict = Verdict(problems=(Problem(REFUSED, readable(record.refusal)),))
        else:
            verdict = judge_answer(
                self._prompt.with_ids(readable(record.text), self.piece),
                self.piece,
                self._tracks,
                self._limits,
                finish_reason=record.finish_reason,
                template=self._prompt.template,
            )
        self.records.append(record)
        self.verdicts.append(verdict)

    def outcome(self) -> Conversation | Quarantined:
        """What became of the piece."""
        piece = self.piece
        if self.valid:
            messages = messages_of(self.verdicts[-1].turns, piece)
            language = LANGUAGE_CODES.get(self._prompt.options.language.casefold())
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
