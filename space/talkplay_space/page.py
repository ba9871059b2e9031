"""The page: what happens when something is pressed.

The conversation lives in the state of the browser's session. `page.js` reports what is pressed
through one hidden component, the bridge, as an event with data; its value answers: see there.
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import gradio as gr

from talkplay_hf import TalkPlayError
from talkplay_space import frame, html, sharing
from talkplay_space.answering import APOLOGY, Step
from talkplay_space.controls import Controls
from talkplay_space.conversation import Conversation, RefusedError, is_unicode
from talkplay_space.offers import Offer, Offers
from talkplay_space.settings import Settings
from talkplay_space.view import END
from talkplay_space.why import Swap, swap_view, why_panel

if TYPE_CHECKING:
    from talkplay_hf import ScoredTrack

logger = logging.getLogger(__name__)

ALTERNATIVES = 5
FILES = {
    "m3u": ("talkplay.m3u8", "audio/x-mpegurl", sharing.m3u),
    "csv": ("talkplay.csv", "text/csv", sharing.csv_text),
    "jspf": ("talkplay.jspf", "application/json", sharing.jspf),
}
UNKNOWN = "This page does not know what was pressed: please reload it."
NAMES = ("model", "catalog")
NO_TRACK = "There is no such track in this conversation."
NOT_LISTED = "This track is not in the playlist any more."
FORGOTTEN = "The server no longer has this conversation: please say that again in a new one."


@dataclass(frozen=True)
class Visit:
    """What the page of one visitor shows.

    Args:
        conversation (`Conversation`): What was said and played.
        offer (`int`): The model and the catalogue that it is held with, see `Offers`.
        turn (`int`, *optional*): The turn whose track is explained.
        place (`int`): The track of the turn.
        swapped (`tuple[int, ...]`, *optional*): The codes after the swaps so far.
        others (`tuple[ScoredTrack, ...]`): What else the turn could have played.
    """

    conversation: Conversation = field(default_factory=Conversation)
    offer: int = 0
    turn: int | None = None
    place: int = 0
    swapped: tuple[int, ...] | None = None
    others: tuple["ScoredTrack", ...] = ()


class ForgottenError(RefusedError):
    """The page shows a conversation that the server has no longer; the browser has it."""


class Page:
    """What the page does.

    Args:
        offers (`Offers`): What is served.
    """

    def __init__(self, offers: Offers) -> None:
        self.offers = offers
        self.controls = Controls([offer.choices for offer in offers])

    def turn(self, event: gr.EventData, visit: Visit, *values: Any) -> Iterator[tuple[Any, ...]]:
        """Answer a message, anew or once more; yields feed, playlist, why, bridge and visit."""
        data = _data(event)
        said = data.get("text", "")
        restore = {} if data.get("act") == "retry" or not _is_text(said) else {"restore": said}
        try:
            visit = self._resumed(data, visit)
            settings = self.controls.settings(values)
            yield from self._turn(data, visit, settings)
        except Exception as error:
            yield self._refused(data, visit, error, **restore)

    def act(self, event: gr.EventData, visit: Visit, *values: Any) -> tuple[Any, ...]:
        """Do what needs no answer of the model; gives feed, playlist, why, bridge and visit."""
        data = _data(event)
        try:
            # what is shown does not matter to a new conversation
            visit = self._resumed(data | {"shown": 0} if data.get("act") == "new" else data, visit)
            return self._act(data, visit, self.controls.settings(values))
        except Exception as error:
            return self._refused(data, visit, error)

    def open(self, event: gr.EventData, visit: Visit, *values: Any) -> tuple[Any, ...]:
        """Load a conversation from a link or from JSON, bring back one that the server has
        forgotten, or choose another model or catalogue; gives what `act` gives, the choice of a
        model, and the values of all controls."""
        data, act, note = _data(event), _data(event).get("act"), ""
        offer = self.offers[visit.offer]
        try:
            if act == "choose":
                settings = self.controls.settings(values)
                offer, conversation, note = self._chosen(self._resumed(data, visit), data)
            else:
                shared = _read(data)
                offer = self.offers.fitting(
                    shared.conversation, shared.model, shared.catalog, offer
                )
                conversation, settings = shared.conversation, shared.settings
                if act == "restore":
                    settings = self.controls.settings(values)
                elif shared.model not in (None, offer.model) or (
                    shared.catalog not in (None, offer.catalog)
                ):
                    # what it was held with is not served, or lacks a track
                    note = f"The conversation is loaded. {self._now_with(offer)}"
            conversation = sharing.with_codes(conversation, offer.recommender.codes)
        except Exception as error:
            # a link that cannot be read is not tried again with the next reload
            kept = {} if visit.conversation.turns or act == "choose" else {"code": ""}
            refused = self._refused(data, visit, error, **kept)
            return *refused, self.chooser(self.offers[visit.offer]), *self.controls.unchanged()
        settings = settings.fitted(offer.choices)
        visit = Visit(conversation, offer.number)
        told: dict[str, Any] = {}
        if act != "restore":
            told = {"tell": note} if note else {"say": "The conversation is loaded."}
        told |= self._kept(visit, settings) | self._last_why(visit)
        told |= {"shows": {"model": offer.model, "catalog": offer.catalog}}
        why = gr.skip() if "next" in told else frame.why_empty()
        shown = self._shown(data, visit, told, why=why)
        return *shown, self.chooser(offer), *self.controls.values(settings, offer.choices)

    def chooser(self, offer: Offer) -> str:
        """The choice of a model and a catalogue, as HTML."""
        catalogs = self.offers.catalogs(offer.model)
        return frame.chooser(self.offers.models, offer.model, catalogs, offer.catalog)

    def _chosen(self, visit: Visit, data: dict[str, Any]) -> tuple[Offer, Conversation, str]:
        """The offer that was chosen, what of the conversation goes on, and a line that says so."""
        now = self.offers[visit.offer]
        model, catalog = data.get("model"), data.get("catalog")
        if model != now.model and catalog not in self.offers.catalogs(str(model)):
            # with another model comes its own catalogue
            catalog = None
        offer = self.offers.find(model, catalog)
        words = self._now_with(offer)
        if offer.unknown(visit.conversation, now) is None:
            return offer, visit.conversation, words
        why = "since this catalogue does not have all tracks of the one before"
        return offer, Conversation(), f"{words} A new conversation begins, {why}."

    def _now_with(self, offer: Offer) -> str:
        if len(self.offers.models) > 1:
            return f"Now with the model “{offer.model}” and the catalogue “{offer.catalog}”."
        return f"Now with the catalogue “{offer.catalog}”."

    def _resumed(self, data: dict[str, Any], visit: Visit) -> Visit:
        """The visit that an event belongs to.

        The server keeps the visits of those who came last, so one can be gone while its page is
        still open. What the page shows comes with each event.

        Raises:
            RefusedError: If it is gone, or the page shows a model that is not served.
        """
        if visit.conversation.turns:
            return visit
        if data.get("shown"):
            raise (RefusedError if data.get("again") else ForgottenError)(FORGOTTEN)
        shows = data.get("shows")
        if isinstance(shows, dict):
            visit = replace(visit, offer=self.offers.find(*map(shows.get, NAMES)).number)
        return visit

    def _turn(
        self, data: dict[str, Any], visit: Visit, settings: Settings
    ) -> Iterator[tuple[Any, ...]]:
        view = self.offers[visit.offer].view
        done: list[str] | None = None
        step = None
        for step in self._steps(data, visit, settings):
            if step.stage in ("done", "problem"):
                break
            if done is None:
                done = view.turns(step.conversation, len(step.conversation) - 1)
            yield [*done, view.running(step), END], *[gr.skip()] * 4
        if step is None or step.stage == "problem":
            raise RefusedError((step and step.problem) or APOLOGY)
        visit = Visit(step.conversation, visit.offer)
        last = step.conversation.turns[-1]
        told = {"say": view.spoken(last), **self._kept(visit, settings)}
        if last.track_ids:
            told["next"] = {"act": "why", "turn": len(step.conversation) - 1, "place": 0}
        yield self._shown(data, visit, told, why=gr.skip() if last.track_ids else frame.why_empty())

    def _steps(self, data: dict[str, Any], visit: Visit, settings: Settings) -> Iterator[Step]:
        act, said, conversation = data.get("act"), data.get("text", ""), visit.conversation
        conductor = self.offers[visit.offer].conductor
        if act == "retry":
            return conductor.retry(conversation, settings)
        if act == "edit":
            return conductor.edit(conversation, _whole(data, "turn"), said, settings)
        return conductor.stream(conversation, said, settings)

    def _act(self, data: dict[str, Any], visit: Visit, settings: Settings) -> tuple[Any, ...]:
        act, before = data.get("act"), visit.conversation
        told: dict[str, Any] = {}
        if act in ("why", "swap", "swap-back"):
            return self._why(data, visit, settings)
        if act == "export":
            return _only(data, visit, file=self._file(str(data.get("format")), visit, settings))
        if act == "link":
            return _only(data, visit, **self._kept(visit, settings))
        if act == "new":
            visit, told["say"] = Visit(offer=visit.offer), "A new conversation."
        elif act == "undo":
            visit = Visit(before.undone(), visit.offer)
            told = {"say": "The last turn is undone.", **self._last_why(visit)}
            if before.turns:
                told["restore"] = before.turns[-1].text
        elif act == "react":
            visit, told = self._react(data, visit)
        elif act == "move":
            track_id, by = _listed(data, before), _whole(data, "by")
            visit = replace(visit, conversation=before.moved(track_id, by))
            place = visit.conversation.playlist().index(track_id) + 1
            told = {"say": f"Moved to place {place}.", "focus": _focus(data, "track", "by")}
        elif act == "remove":
            visit = replace(visit, conversation=before.without(_listed(data, before)))
            told = {"say": "Removed from the playlist.", "focus": {"act": "remove"}}
        else:
            raise RefusedError(UNKNOWN)
        told |= self._kept(visit, settings)
        why = frame.why_empty() if visit.turn is None and "next" not in told else gr.skip()
        return self._shown(data, visit, told, why=why)

    def _react(self, data: dict[str, Any], visit: Visit) -> tuple[Visit, dict[str, Any]]:
        n, reaction = _whole(data, "turn"), data.get("reaction")
        turns = visit.conversation.turns
        if reaction not in ("like", "skip") or not 0 <= n < len(turns):
            raise RefusedError("There is no such turn in this conversation.")
        chosen = None if turns[n].reaction == reaction else reaction
        visit = replace(visit, conversation=visit.conversation.with_reaction(n, chosen))
        words = {"like": "Liked", "skip": "Skipped, and out of the playlist", None: "Taken back"}
        say = f"{words[chosen]}. Your next message will start from that."
        return visit, {"say": say, "focus": _focus(data, "turn", "reaction")}

    def _why(self, data: dict[str, Any], visit: Visit, settings: Settings) -> tuple[Any, ...]:
        """The panel on one track, after a swap where there was one."""
        act = data.get("act")
        if act == "why":
            visit = replace(
                visit, turn=_whole(data, "turn"), place=_whole(data, "place"), swapped=None
            )
        elif act == "swap-back":
            visit = replace(visit, swapped=None)
        offer = self.offers[visit.offer]
        n, turns = visit.turn, visit.conversation.turns
        if n is None or not 0 <= n < len(turns) or not 0 <= visit.place < len(turns[n].track_ids):
            raise RefusedError(NO_TRACK)
        track_id, codes = turns[n].track_ids[visit.place], turns[n].codes[visit.place]
        if act == "why":
            others = offer.conductor.alternatives(visit.conversation, n, settings, ALTERNATIVES)
            visit = replace(visit, others=tuple(others))
        swap: Swap | None = None
        opened: str | None = None
        told: dict[str, Any] = {}
        if act == "swap":
            opened = str(data.get("modality"))
            now = visit.swapped or codes
            after, _ = offer.conductor.swap(now, opened, _whole(data, "code"))
            swap = swap_view(offer.recommender, codes, after)
            visit = replace(visit, swapped=after)
            told = {"say": f"After the swap: {len(swap.found)} tracks.", "show": ".tp-swapped"}
        elif act == "swap-back":
            told["say"] = "Back to the tokens of the track."
        panel = why_panel(
            offer.recommender.explain(codes, track_id),
            visit.others,
            menus=offer.menus,
            swap=swap,
            opened=opened,
        )
        return gr.skip(), gr.skip(), panel, _told(data, told), visit

    def _file(self, kind: str, visit: Visit, settings: Settings) -> dict[str, str]:
        if kind == "json":
            text = sharing.to_json(self._shared(visit, settings))
            return {"name": "talkplay.json", "type": "application/json", "text": text}
        if kind not in FILES:
            raise RefusedError("The playlist can be saved as M3U, CSV and JSPF.")
        name, mime, write = FILES[kind]
        tracks = map(self.offers[visit.offer].recommender.track, visit.conversation.playlist())
        return {"name": name, "type": mime, "text": write(tracks)}

    def _shared(self, visit: Visit, settings: Settings) -> sharing.Shared:
        offer = self.offers[visit.offer]
        return sharing.Shared(visit.conversation, settings, offer.model, offer.catalog)

    def _last_why(self, visit: Visit) -> dict[str, Any]:
        """That the page asks next why the last track was played."""
        played = [n for n, turn in enumerate(visit.conversation.turns) if turn.track_ids]
        return {"next": {"act": "why", "turn": played[-1], "place": 0}} if played else {}

    def _kept(self, visit: Visit, settings: Settings) -> dict[str, Any]:
        """What the browser keeps of the conversation, for a link and for a reload."""
        if not visit.conversation.turns:
            return {"code": ""}
        try:
            return {"code": sharing.to_link(self._shared(visit, settings))}
        except RefusedError as error:
            return {"code": "", "note": str(error)}

    def _shown(
        self, data: dict[str, Any], visit: Visit, told: dict[str, Any], *, why: Any
    ) -> tuple[Any, ...]:
        view = self.offers[visit.offer].view
        told["turns"] = len(visit.conversation)
        return (
            view.feed(visit.conversation),
            view.playlist(visit.conversation),
            why,
            _told(data, told),
            visit,
        )

    def _refused(
        self, data: dict[str, Any], visit: Visit, error: Exception, **told: Any
    ) -> tuple[Any, ...]:
        if isinstance(error, ForgottenError):
            return _only(data, visit, forgotten=True)
        problem = str(error)
        if not isinstance(error, TalkPlayError):
            # what the listener sees must not give away how the server is made
            logger.error("something on the page failed", exc_info=error)
            problem = APOLOGY
        view = self.offers[visit.offer].view
        feed = view.turns(visit.conversation) or [view.welcome()]
        told |= {"problem": problem, "turns": len(visit.conversation)}
        shown = [*feed, html.problem_block(problem), END]
        return shown, gr.skip(), gr.skip(), _told(data, told), gr.skip()


def _data(event: gr.EventData) -> dict[str, Any]:
    """What the page reports; it comes from outside, so it may be anything."""
    return event._data if isinstance(event._data, dict) else {}


def _told(data: dict[str, Any], told: dict[str, Any]) -> dict[str, Any]:
    """What the page is told in answer to an event, which it knows by its number."""
    number = data.get("n")
    return {"n": number if isinstance(number, int | float) else None, **told}


def _read(data: dict[str, Any]) -> sharing.Shared:
    if "code" in data:
        return sharing.from_link(str(data["code"]))
    return sharing.from_json(str(data.get("text", "")))


def _listed(data: dict[str, Any], conversation: Conversation) -> str:
    """The track of the playlist that was pressed."""
    track_id = data.get("track")
    if not isinstance(track_id, str) or track_id not in conversation.playlist():
        raise RefusedError(NOT_LISTED)
    return track_id


def _is_text(value: object) -> bool:
    """Whether a value is a text that can be sent back."""
    return isinstance(value, str) and is_unicode(value)


def _whole(data: dict[str, Any], name: str) -> int:
    try:
        return int(data.get(name, ""))
    except (TypeError, ValueError, OverflowError):
        raise RefusedError(UNKNOWN) from None


def _focus(data: dict[str, Any], *names: str) -> dict[str, Any]:
    """The button that was pressed, for the page to find again after it is drawn anew."""
    return {name: data.get(name) for name in ("act", *names)}


def _only(data: dict[str, Any], visit: Visit, **told: Any) -> tuple[Any, ...]:
    return gr.skip(), gr.skip(), gr.skip(), _told(data, told), visit
