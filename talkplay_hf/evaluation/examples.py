"""A few turns in full, with what each system answers, in the manner of the paper's table 3."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from talkplay_hf.catalog.constraints import satisfied
from talkplay_hf.catalog.schema import Catalog, Message
from talkplay_hf.evaluation.outcomes import NONE, Outcomes
from talkplay_hf.evaluation.turns import Turn


@dataclass(frozen=True)
class Reply:
    """What the model answers in a chat.

    Args:
        row (`int`): The catalog row of the track that it plays, -1 where there is none.
        text (`str`): What it says.
    """

    row: int = NONE
    text: str = ""


def choose_examples(
    turns: Sequence[Turn], numbers: Sequence[int], count: int, seed: int
) -> list[int]:
    """Draw turns, one a conversation, negative ones left out.

    Args:
        turns (`Sequence[Turn]`): All turns.
        numbers (`Sequence[int]`): Which of them to draw from.
        count (`int`): How many at most.
        seed (`int`): Of the draw.

    Returns:
        `list[int]`: Their numbers, in order.
    """
    rng = np.random.default_rng((seed, 2))
    found: dict[str, int] = {}
    for number in rng.permutation(np.asarray(numbers, dtype=np.int64)).tolist():
        if len(found) < count:
            found.setdefault(turns[number].conversation, number)
    return sorted(found.values())


def choose_turns(numbers: Sequence[int], count: int, seed: int) -> list[int]:
    """Draw turns, all alike.

    Args:
        numbers (`Sequence[int]`): Which turns to draw from.
        count (`int`): How many at most.
        seed (`int`): Of the draw.

    Returns:
        `list[int]`: Their numbers, in order.
    """
    rng = np.random.default_rng((seed, 3))
    drawn = rng.choice(len(numbers), min(count, len(numbers)), replace=False)
    return sorted(numbers[at] for at in drawn)


def example(
    turn: Turn,
    catalog: Catalog,
    reply: Reply,
    others: Mapping[str, Outcomes],
    number: int,
) -> dict[str, Any]:
    """One turn as JSON values.

    Args:
        turn (`Turn`): The turn.
        catalog (`Catalog`): The candidates.
        reply (`Reply`): What the model answers.
        others (`Mapping[str, Outcomes]`): The baselines' outcomes on all turns.
        number (`int`): The place of the turn among them.
    """
    met = None
    if turn.request and reply.row != NONE:
        met = satisfied(turn.request, catalog.track_at(reply.row))
    return {
        "conversation": turn.conversation,
        "turn": turn.number,
        "history": [_message(message, catalog) for message in turn.history],
        "truth": {"track": _track(catalog, turn.labels[0]), "reply": turn.reply},
        "answer": {
            "track": _track(catalog, reply.row),
            "reply": reply.text,
            "meets_request": met,
        },
        "others": {
            name: _track(catalog, int(outcomes.top[number, 0])) for name, outcomes in others.items()
        },
    }


def _message(message: Message, catalog: Catalog) -> dict[str, Any]:
    known = message.track_id is not None and message.track_id in catalog
    row = catalog.row(message.track_id or "") if known else NONE
    return {"role": message.role, "content": message.content, "track": _track(catalog, row)}


def _track(catalog: Catalog, row: int) -> dict[str, Any] | None:
    if row == NONE:
        return None
    track = catalog.track_at(row)
    return {"title": track.title, "artist": track.artist, "tags": list(track.tags)}
