"""What the page shows of a conversation, as HTML."""

from pathlib import Path
from typing import TYPE_CHECKING

from talkplay_space import frame, html
from talkplay_space.answering import Step, quick_replies
from talkplay_space.clips import clip_address
from talkplay_space.conversation import Conversation, Turn

if TYPE_CHECKING:
    from talkplay_hf import Recommender, Track

MAX_EXAMPLES = 4
# what `page.js` scrolls to
END = '<div class="tp-end"></div>'


class View:
    """Turns a conversation into what is shown of it.

    Args:
        recommender (`Recommender`): Whose catalogue has the tracks.
        audio_root (`Path`, *optional*): The folder that the tracks' audio paths start from.
        number (`int`): The place of the catalogue among all that are served, for its clips.
    """

    def __init__(
        self, recommender: "Recommender", audio_root: Path | None = None, number: int = 0
    ) -> None:
        self.recommender = recommender
        self.audio_root = audio_root
        self.number = number

    def feed(self, conversation: Conversation) -> list[str]:
        """The blocks of the conversation, or the welcome."""
        if not conversation.turns:
            return [self.welcome()]
        replies = quick_replies(conversation, self.recommender)
        turns = self.turns(conversation)
        return [*turns, html.quick_replies(replies), END]

    def welcome(self) -> str:
        """What a first visit shows."""
        examples = self.recommender.examples[:MAX_EXAMPLES]
        return frame.welcome(examples, len(self.recommender.track_ids))

    def playlist(self, conversation: Conversation) -> str:
        """The panel of the playlist."""
        tracks = [self.recommender.track(track_id) for track_id in conversation.playlist()]
        return frame.playlist_panel(
            tracks,
            [self.recommender.codes(track.track_id) for track in tracks],
            clips=[self._clip(track) is not None for track in tracks],
        )

    def turns(self, conversation: Conversation, count: int | None = None) -> list[str]:
        """A block for each of the first `count` turns, or for all."""
        chips = self._chips(conversation)
        final = len(conversation) - 1
        return [
            html.turn_block(turn, n, self._cards(turn, n), led=chips[n], last=n == final)
            for n, turn in enumerate(conversation.turns[:count])
        ]

    def running(self, step: Step) -> str:
        """The block of the turn that is being answered."""
        n = len(step.conversation) - 1
        turn = step.conversation.turns[n]
        led = self._chips(step.conversation)[n]
        return html.running_block(turn, n, self._cards(turn, n), led=led, ahead=step.ahead)

    def _chips(self, conversation: Conversation) -> list[str]:
        titles = {name: self.recommender.track(name).title for name in conversation.played()}
        return html.reaction_chips(conversation, titles)

    def _cards(self, turn: Turn, n: int) -> list[str]:
        return [self._card(track_id, n, place) for place, track_id in enumerate(turn.track_ids)]

    def _card(self, track_id: str, n: int, place: int) -> str:
        track = self.recommender.track(track_id)
        why = html.button("why", "Why this?", picture="why", kind="soft", turn=n, place=place)
        codes = self.recommender.codes(track_id)
        return html.track_card(track, codes, clip=self._clip(track), why=why)

    def _clip(self, track: "Track") -> str | None:
        return clip_address(track, self.audio_root, self.number)

    def spoken(self, turn: Turn) -> str:
        """An answer as a screen reader tells it."""
        tracks = [self.recommender.track(track_id) for track_id in turn.track_ids]
        names = "; ".join(f"{track.title} by {track.artist}" for track in tracks)
        return f"{names}. {turn.reply}" if names else turn.reply
