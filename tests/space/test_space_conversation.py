"""What was said: turns, reactions, and the playlist that grows from them."""

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from talkplay_space.conversation import Conversation, Turn

from talkplay_hf import Message

IDS = [f"t{n}" for n in range(8)]


def talk(*plays: str | tuple[str, ...]) -> Conversation:
    """A conversation whose turn n says `n` and plays one track or several."""
    turns = [
        Turn(str(n), (play,) if isinstance(play, str) else play, reply=f"reply {n}")
        for n, play in enumerate(plays)
    ]
    return Conversation(tuple(turns))


def test_messages_are_user_music_assistant():
    assert talk("a", ("b", "c"), ()).messages("now") == [
        Message("user", "0"),
        Message("music", track_id="a"),
        Message("assistant", "reply 0"),
        Message("user", "1"),
        Message("music", track_id="b"),
        Message("music", track_id="c"),
        Message("assistant", "reply 1"),
        Message("user", "2"),
        Message("assistant", "reply 2"),
        Message("user", "now"),
    ]


def test_a_reaction_leads_the_next_message_only():
    conversation = talk("a", ("b", "c"), "d").with_reaction(0, "like").with_reaction(1, "skip")
    said = [message.content for message in conversation.messages("now") if message.role == "user"]
    assert said == ["0", "I like this one. 1", "Not these. 2", "now"]
    pending = conversation.with_reaction(2, "skip").messages("now")
    assert pending[-1].content == "Not this one. now"


def test_the_typed_text_stays_as_it_was():
    conversation = talk("a", "b").with_reaction(0, "like")
    assert [turn.text for turn in conversation.turns] == ["0", "1"]


def test_a_reaction_can_be_taken_back():
    conversation = talk("a", "b")
    assert conversation.with_reaction(0, "skip").with_reaction(0, None) == conversation


def test_what_does_not_exist_changes_nothing():
    conversation = talk("a", ())
    for n in (-1, 1, 2, 99):
        assert conversation.with_reaction(n, "like") == conversation
    assert conversation.moved("b", 1) == conversation
    assert conversation.without("b") == conversation
    assert Conversation().undone() == Conversation()


def test_playlist_leaves_out_what_was_skipped_or_removed():
    conversation = talk("a", "b", "c").with_reaction(1, "skip").without("c")
    assert conversation.playlist() == ("a",)
    assert conversation.played() == ("a", "b", "c")


def test_the_last_reaction_to_a_track_counts():
    conversation = talk("a", "b", "a").with_reaction(0, "skip")
    assert conversation.playlist() == ("a", "b")
    assert conversation.with_reaction(2, "skip").playlist() == ("b",)


def test_a_removed_track_that_is_played_again_is_back():
    conversation = talk("a", "b").without("a")
    assert conversation.with_turn(Turn("2", ("a",))).playlist() == ("a", "b")


def test_tracks_move_within_the_playlist():
    conversation = talk("a", "b", "c", "d")
    assert conversation.moved("d", -2).playlist() == ("a", "d", "b", "c")
    assert conversation.moved("a", 1).playlist() == ("b", "a", "c", "d")
    assert conversation.moved("a", 99).playlist() == ("b", "c", "d", "a")
    assert conversation.moved("c", -99).playlist() == ("c", "a", "b", "d")


def test_a_move_steps_over_what_is_not_shown():
    conversation = talk("a", "b", "c").with_reaction(1, "skip").moved("c", -1)
    assert conversation.playlist() == ("c", "a")
    assert conversation.with_reaction(1, None).playlist() == ("c", "b", "a")


def test_cut_forgets_what_followed():
    conversation = talk("a", "b", "c").moved("c", -2).without("b")
    cut = conversation.cut(1)
    assert [turn.text for turn in cut.turns] == ["0"]
    assert cut.playlist() == cut.order == ("a",)
    assert cut.removed == frozenset()
    assert conversation.cut(0) == Conversation()
    assert conversation.undone() == conversation.cut(2)


class Listening(RuleBasedStateMachine):
    """Any sequence of what a listener can do keeps the playlist whole."""

    def __init__(self) -> None:
        super().__init__()
        self.conversation = Conversation()

    @rule(tracks=st.lists(st.sampled_from(IDS), max_size=3, unique=True))
    def answer(self, tracks):
        self.conversation = self.conversation.with_turn(Turn("more", tuple(tracks)))

    @rule(n=st.integers(-2, 9), reaction=st.sampled_from([None, "like", "skip"]))
    def react(self, n, reaction):
        self.conversation = self.conversation.with_reaction(n, reaction)

    @rule(track_id=st.sampled_from(IDS), by=st.integers(-9, 9))
    def move(self, track_id, by):
        before = self.conversation.playlist()
        self.conversation = self.conversation.moved(track_id, by)
        after = self.conversation.playlist()
        assert sorted(after) == sorted(before)
        if track_id in before:
            place = min(max(before.index(track_id) + by, 0), len(before) - 1)
            assert after.index(track_id) == place
            assert [name for name in after if name != track_id] == [
                name for name in before if name != track_id
            ]

    @rule(track_id=st.sampled_from(IDS))
    def remove(self, track_id):
        before = self.conversation.playlist()
        self.conversation = self.conversation.without(track_id)
        assert self.conversation.playlist() == tuple(name for name in before if name != track_id)

    @rule(n=st.integers(-2, 9))
    def cut(self, n):
        self.conversation = self.conversation.cut(n)

    @rule()
    def undo(self):
        self.conversation = self.conversation.undone()

    @invariant()
    def playlist_holds_each_track_once_and_only_what_was_played(self):
        playlist, played = self.conversation.playlist(), self.conversation.played()
        assert len(set(playlist)) == len(playlist)
        assert set(playlist) <= set(played)
        assert len(set(played)) == len(played)
        assert self.conversation.removed <= set(played)
        assert set(self.conversation.order) <= set(played)


TestListening = Listening.TestCase


@given(st.lists(st.lists(st.sampled_from(IDS), max_size=3), max_size=6), st.integers(-3, 8))
def test_a_cut_conversation_is_one_that_never_went_on(plays, n):
    conversation = talk(*map(tuple, plays))
    assert conversation.cut(n) == talk(*map(tuple, plays[: max(n, 0)]))
