"""Which turns of conversations can be evaluated, and what is right in each."""

import pytest

from talkplay_hf.catalog.schema import Catalog, Conversation, Message, Track
from talkplay_hf.evaluation.turns import collect_turns


@pytest.fixture
def catalog() -> Catalog:
    return Catalog.from_tracks([Track(f"t{i}", f"Title {i}", "Someone") for i in range(5)])


def dialogue(*turns: tuple[str, str]) -> Conversation:
    """A conversation of (track, source) turns."""
    messages = []
    for number, (track_id, source) in enumerate(turns):
        messages += [
            Message("user", f"please, {track_id}"),
            Message("music", track_id=track_id, source=source),
            Message("assistant", f"Reply {number}."),
        ]
    return Conversation("c0", tuple(messages))


def test_skipped_turns_are_counted(catalog: Catalog) -> None:
    conversation = dialogue(
        ("t0", "playlist"),
        ("t0", "playlist"),
        ("elsewhere", "playlist"),
        ("t1", "negative"),
        ("t2", "playlist"),
    )
    alone = Conversation("c1", (Message("music", track_id="t3"),))
    turns, skipped = collect_turns([conversation, alone], catalog)
    assert [(t.number, t.labels, t.negative) for t in turns] == [
        (1, (0,), False),
        (4, (1,), True),
        (5, (2,), False),
    ]
    assert turns[-1].played == (0, 0, 1)
    assert skipped == {"no_request": 1, "not_in_catalog": 1, "played_before": 1}
    turns, skipped = collect_turns([conversation], catalog, exclude_played=False)
    assert len(turns) == 4
    assert skipped["played_before"] == 0


def test_a_turn_knows_what_was_said_before_and_after(catalog: Catalog) -> None:
    conversation = dialogue(("t0", "playlist"), ("t1", "playlist"))
    first, second = collect_turns([conversation], catalog)[0]
    assert [m.role for m in second.history] == ["user", "music", "assistant", "user"]
    assert (first.reply, second.reply) == ("Reply 0.", "Reply 1.")
    silent = Conversation("c1", conversation.messages[:2])
    assert collect_turns([silent], catalog)[0][0].reply == ""


def test_liked_tracks_are_labels_after_the_played_one(catalog: Catalog) -> None:
    liked = ("t3", "t1", "elsewhere", "t3", "t0")
    messages = (
        Message("user", "please"),
        Message("music", track_id="t0"),
        Message("user", "more"),
        Message("music", track_id="t1", liked=liked),
    )
    conversation = Conversation("c0", messages)
    assert collect_turns([conversation], catalog)[0][1].labels == (1, 3)
    # t0 was played before, so that it is a label only where it is a candidate
    kept, _ = collect_turns([conversation], catalog, exclude_played=False)
    assert kept[1].labels == (1, 3, 0)
