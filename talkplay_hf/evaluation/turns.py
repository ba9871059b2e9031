"""The turns of conversations that can be evaluated (paper 6)."""

from collections.abc import Sequence
from dataclasses import dataclass

from talkplay_hf.catalog.constraints import Constraint
from talkplay_hf.catalog.schema import Catalog, Conversation, Message


@dataclass(frozen=True)
class Turn:
    """One music message to be predicted.

    Args:
        conversation (`str`): The id of its conversation.
        number (`int`): Its place among the music messages of the conversation, from 1.
        history (`tuple[Message, ...]`): The messages before it; the last one is the user's.
        labels (`tuple[int, ...]`): The catalog rows of the right tracks: first the one that was
            played, then others that the listener liked as well.
        played (`tuple[int, ...]`): The catalog rows of the tracks played before it.
        negative (`bool`): Whether its track is from the negative set (paper A.1).
        reply (`str`): What the assistant says about the track in the conversation.
    """

    conversation: str
    number: int
    history: tuple[Message, ...]
    labels: tuple[int, ...]
    played: tuple[int, ...]
    negative: bool
    reply: str = ""

    @property
    def request(self) -> tuple[Constraint, ...]:
        """What the last user message asks for."""
        return self.history[-1].constraints


def collect_turns(
    conversations: Sequence[Conversation], catalog: Catalog, *, exclude_played: bool = True
) -> tuple[list[Turn], dict[str, int]]:
    """List the turns that can be evaluated, and count those that cannot.

    Args:
        conversations (`Sequence[Conversation]`): Where the turns come from.
        catalog (`Catalog`): The candidates.
        exclude_played (`bool`): Skip a turn whose track was played before in the dialogue, and
            leave such tracks out of the further labels of a turn.

    Returns:
        `tuple[list[Turn], dict[str, int]]`: The turns, and how many were skipped because there is
        no user message right before (`"no_request"`), the track is not in the catalog
        (`"not_in_catalog"`) or it was played before (`"played_before"`).
    """
    turns: list[Turn] = []
    skipped = {"no_request": 0, "not_in_catalog": 0, "played_before": 0}
    for conversation in conversations:
        messages = conversation.messages
        music = [i for i, message in enumerate(messages) if message.role == "music"]
        for number, i in enumerate(music, start=1):
            track_id = messages[i].track_id
            before = [messages[j].track_id for j in music[: number - 1]]
            if i == 0 or messages[i - 1].role != "user":
                skipped["no_request"] += 1
            elif track_id is None or track_id not in catalog:
                skipped["not_in_catalog"] += 1
            elif exclude_played and track_id in before:
                skipped["played_before"] += 1
            else:
                out = before if exclude_played else []
                liked = [t for t in messages[i].liked if t in catalog and t not in out]
                follows = messages[i + 1] if i + 1 < len(messages) else None
                turns.append(
                    Turn(
                        conversation=conversation.conversation_id,
                        number=number,
                        history=messages[:i],
                        labels=tuple(catalog.row(t) for t in dict.fromkeys([track_id, *liked])),
                        played=tuple(catalog.row(t) for t in before if t and t in catalog),
                        negative=messages[i].source == "negative",
                        reply=follows.content if follows and follows.role == "assistant" else "",
                    )
                )
    return turns, skipped
