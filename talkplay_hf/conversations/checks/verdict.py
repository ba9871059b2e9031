"""What became of an answer of a language model: the turns that may be kept, or why none may."""

from dataclasses import dataclass

# these are no verdict on an answer, but say why there is none
REFUSED, NOT_ASKED = "refused_by_model", "not_asked"
REASONS: dict[str, str] = {
    "unparsable": "no list of messages can be read from the answer",
    "two_lists": "the answer holds two different lists, and nothing says which one counts",
    "bad_message": "an item of the list has no role, no content, or content that is not text",
    "unknown_role": "a role is none of user, assistant and music",
    "no_turns": "there is no complete turn",
    "wrong_order": "a turn is not one user text with one reply and one track after it",
    "several_tracks": "a turn plays more than one track",
    "unknown_track": "a track is neither of the playlist nor of the negative set",
    "repeated_track": "a track is played twice",
    "too_few_tracks": "less than half of the playlist's tracks are played",
    "too_few_turns": "there are fewer turns than the limits ask for",
    "too_many_turns": "there are more turns than the limits allow",
    "empty_text": "a text is empty",
    "text_too_short": "a text is shorter than the limits ask for",
    "text_too_long": "a text is longer than the limits allow",
    "leaked_id": "a text holds a track id",
    "leaked_token": "a text holds a control or music token",
    "leaked_format": "a text holds a role name, a piece of JSON or a placeholder",
    "leaked_prompt": "a text holds words of the prompt that only its writer knows",
    "copied_prompt": "a text is a sentence of the prompt's rules or of its example",
    "control_characters": "a text holds characters that cannot be shown",
    "wrong_title": "a reply names a track that is neither the one played nor an earlier one",
    "repeated_text": "the same words come again and again",
    REFUSED: "the model or its provider would not answer the prompt",
    NOT_ASKED: "no answer has come yet",
}
"""What each reason means."""


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
