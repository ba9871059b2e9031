"""The figures of a synthesis: what was kept, what was not and why, and what it cost."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from talkplay_hf.conversations.checks.verdict import NOT_ASKED, Turn, Verdict
from talkplay_hf.conversations.intents import detect_intents
from talkplay_hf.conversations.synthesis.ledger import Record

# kept conversations whose words are looked at for the intents that were asked for
INTENT_SAMPLE = 2_000


@dataclass
class SynthesisReport:
    """Counts of pieces by what became of them, over the answers that were used.

    Attributes:
        pieces (`int`): All pieces: those that are kept and those that are quarantined.
        kept (`int`): Pieces with a conversation.
        quarantined (`int`): Pieces without one.
        unfinished (`int`): Quarantined pieces that may still be asked.
        turns (`int`): Turns of the conversations.
        repaired (`int`): Conversations that were mended.
        repairs (`Counter[str]`): Conversations by what was mended.
        first_reasons (`Counter[str]`): Pieces by what was wrong with their first answer.
        refused (`Counter[str]`): Answers of any attempt by what was wrong with them.
        final_reasons (`Counter[str]`): Quarantined pieces by what is wrong with their last answer.
        attempts (`Counter[int]`): Pieces by how many answers they took.
        kept_at (`Counter[int]`): Conversations by the attempt that gave them.
        calls (`int`): Answers.
        prompt_tokens (`int`): Tokens of the chats, as far as the model said.
        completion_tokens (`int`): Tokens of the answers.
        intents_asked (`Counter[str]`): Of the first 2,000 conversations in English, those that were
            asked for an intent.
        intents_found (`Counter[str]`): Those of them whose user messages show it.
    """

    pieces: int = 0
    kept: int = 0
    quarantined: int = 0
    unfinished: int = 0
    turns: int = 0
    repaired: int = 0
    repairs: Counter[str] = field(default_factory=Counter)
    first_reasons: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    final_reasons: Counter[str] = field(default_factory=Counter)
    attempts: Counter[int] = field(default_factory=Counter)
    kept_at: Counter[int] = field(default_factory=Counter)
    calls: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    intents_asked: Counter[str] = field(default_factory=Counter)
    intents_found: Counter[str] = field(default_factory=Counter)

    def count(
        self, records: Sequence[Record], verdicts: Sequence[Verdict], *, finished: bool
    ) -> None:
        """Count a piece.

        Args:
            records (`Sequence[Record]`): Its answers.
            verdicts (`Sequence[Verdict]`): What became of each.
            finished (`bool`): Whether it will not be asked again.
        """
        self.pieces += 1
        self.attempts[len(records)] += 1
        self.calls += len(records)
        self.prompt_tokens += sum(record.prompt_tokens for record in records)
        self.completion_tokens += sum(record.completion_tokens for record in records)
        found = [{problem.reason for problem in verdict.problems} for verdict in verdicts]
        for reasons in found:
            self.refused.update(reasons)
        self.first_reasons.update(found[0] if found else ())
        if verdicts and verdicts[-1].valid:
            last = verdicts[-1]
            self.kept += 1
            self.kept_at[len(records)] += 1
            self.turns += len(last.turns)
            self.repaired += bool(last.repairs)
            self.repairs.update(set(last.repairs))
            return
        self.quarantined += 1
        self.unfinished += not finished
        self.final_reasons.update(found[-1] if found else {NOT_ASKED})

    def count_intents(self, asked: Sequence[str], turns: Sequence[Turn]) -> None:
        """Count which of the intents that a prompt asked for stand in the conversation it gave.

        Args:
            asked (`Sequence[str]`): The intents of the piece.
            turns (`Sequence[Turn]`): The turns of its conversation, in English.
        """
        if self.kept > INTENT_SAMPLE:
            return
        found: set[str] = set()
        for number, turn in enumerate(turns):
            found |= detect_intents(turn.user, first=number == 0)
        self.intents_asked.update(asked)
        self.intents_found.update(found.intersection(asked))

    @property
    def not_asked(self) -> int:
        """Pieces without an answer."""
        return self.attempts[0]

    def rejects(self) -> dict[str, int]:
        """Refused answers by reason, and all answers, as the card takes them."""
        return {name: self.refused[name] for name in sorted(self.refused)} | {"answers": self.calls}

    def to_dict(self) -> dict[str, Any]:
        """The counts as JSON values."""
        values: dict[str, Any] = {one.name: getattr(self, one.name) for one in fields(self)}
        for name, value in values.items():
            if isinstance(value, Counter):
                values[name] = {str(key): value[key] for key in sorted(value)}
        return values

    def to_text(self) -> str:
        """A summary to read."""
        asked = self.pieces - self.not_asked
        lines = [
            f"pieces       {self.pieces:,}",
            f"  kept       {self.kept:,} ({_share(self.kept, self.pieces)}), {self.turns:,} turns",
            f"  repaired   {self.repaired:,} of them",
            f"  quarantine {self.quarantined:,} ({_share(self.quarantined, self.pieces)})",
            f"calls        {self.calls:,}; {self.prompt_tokens:,} prompt tokens, "
            f"{self.completion_tokens:,} answer tokens",
        ]
        for attempt in sorted(self.kept_at):
            lines.append(f"kept at attempt {attempt}: {self.kept_at[attempt]:,}")
        for title, counts, of in (
            ("repairs", self.repairs, self.kept),
            ("problems of first answers", self.first_reasons, asked),
            ("reasons of the quarantine", self.final_reasons, self.pieces),
        ):
            if counts:
                lines.append(f"{title}:")
                ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
                lines += [f"  {name:18} {n:>8,}  {_share(n, of)}" for name, n in ordered]
        if self.intents_asked:
            asked_for, shown = self.intents_asked.total(), self.intents_found.total()
            lines.append(f"intents that were asked for and are found: {_share(shown, asked_for)}")
        return "\n".join(lines)


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.1%}" if whole else "0%"
