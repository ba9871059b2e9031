"""What became of an answer of a language model: the turns that may be kept, or why none may."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Turn:
    """One turn of a conversation: the request, the track, the reply (paper 3.2).

    Args:
        user (`str`): What the user says.
        track_id (`str`): The track that is played.
        assistant (`str`): What the assistant says about it.
    """

    user: str
    track_id: str
    assistant: str


@dataclass(frozen=True)
class Problem:
    """Why an answer, or a turn of it, cannot be kept.

    Args:
        reason (`str`): A name that rates are reported by, such as `"unknown_track"`.
        detail (`str`): What is wrong and where, in words that a language model can be told.
    """

    reason: str
    detail: str


@dataclass(frozen=True)
class Verdict:
    """What became of an answer.

    Args:
        turns (`tuple[Turn, ...]`): The turns to keep; empty where the answer is refused.
        repairs (`tuple[str, ...]`): Names of what was mended, such as `"cut_off"`.
        problems (`tuple[Problem, ...]`): Why it is refused; empty where it is kept.
    """

    turns: tuple[Turn, ...] = ()
    repairs: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()

    @property
    def valid(self) -> bool:
        """Whether the answer may be kept, repaired or as it was."""
        return not self.problems
