"""What is served: models, each with the catalogues that it can choose from, by the names that the
page and the endpoint show."""

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from talkplay_space.answering import Conductor
from talkplay_space.conversation import Conversation, RefusedError
from talkplay_space.model_thread import ModelThread
from talkplay_space.settings import Choices
from talkplay_space.view import View
from talkplay_space.why import swap_menus

if TYPE_CHECKING:
    from talkplay_hf import Recommender

UNKNOWN_TRACK = "This conversation cannot be loaded: turn {} plays a track that {} not have."


@dataclass(frozen=True)
class Served:
    """A model with a catalogue, as it is told to the page.

    Args:
        model (`str`): The name of the model.
        catalog (`str`): The name of the catalogue.
        recommender (`Recommender`): Both.
        audio_root (`Path`, *optional*): The folder that the tracks' audio paths start from.
    """

    model: str
    catalog: str
    recommender: "Recommender"
    audio_root: Path | None = None


class Offer:
    """A model with a catalogue, and what the page makes of them.

    Args:
        served (`Served`): The two.
        number (`int`): Its place among all.
        thread (`ModelThread`): Where the models run.
    """

    def __init__(self, served: Served, number: int, thread: ModelThread) -> None:
        self.model, self.catalog = served.model, served.catalog
        self.recommender, self.audio_root = served.recommender, served.audio_root
        self.number = number
        self.view = View(served.recommender, served.audio_root, number)
        self.conductor = Conductor(served.recommender, thread)

    @property
    def choices(self) -> Choices:
        """What the controls can offer."""
        return Choices.of(self.recommender)

    @cached_property
    def menus(self) -> dict[str, Any]:
        """See `swap_menus`."""
        return swap_menus(self.recommender)

    def unknown(self, conversation: Conversation, before: "Offer | None" = None) -> int | None:
        """The first turn, from 1, that plays a track which the catalogue does not have.

        Args:
            conversation (`Conversation`): What was said and played.
            before (`Offer`, *optional*): What played it. A track is then the same one if title and
                artist are, too: two catalogues can both count from 1.
        """
        for number, turn in enumerate(conversation.turns, start=1):
            if not all(self._has(track_id, before) for track_id in turn.track_ids):
                return number
        return None

    def _has(self, track_id: str, before: "Offer | None") -> bool:
        if track_id not in self.recommender.catalog:
            return False
        if before is None:
            return True
        one, other = (offer.recommender.track(track_id) for offer in (self, before))
        return (one.title, one.artist) == (other.title, other.artist)


class Offers:
    """All that is served; one model runs at a time.

    Args:
        served (`Sequence[Served]`): Models with their catalogues, the default first. No two have
            both names in common.
        thread (`ModelThread`, *optional*): Where the models run.
    """

    def __init__(self, served: Sequence[Served], thread: ModelThread | None = None) -> None:
        self.thread = thread or ModelThread()
        self.all = [Offer(one, number, self.thread) for number, one in enumerate(served)]

    def __getitem__(self, number: int) -> Offer:
        return self.all[number]

    def __len__(self) -> int:
        return len(self.all)

    def __iter__(self) -> Iterator[Offer]:
        return iter(self.all)

    @property
    def models(self) -> list[str]:
        """The names of the models, the default first."""
        return list(dict.fromkeys(offer.model for offer in self.all))

    def catalogs(self, model: str) -> list[str]:
        """The names of the catalogues that a model can choose from, its default first."""
        return [offer.catalog for offer in self.all if offer.model == model]

    def find(self, model: object = None, catalog: object = None) -> Offer:
        """The offer of a model and a catalogue; what is not named is the first that fits.

        Args:
            model (`str`, *optional*): The name of a model.
            catalog (`str`, *optional*): The name of a catalogue.

        Raises:
            RefusedError: If there is none; names come from outside, so they may be anything.
        """
        for offer in self.all:
            if model in (None, offer.model) and catalog in (None, offer.catalog):
                return offer
        if model is not None and model not in self.models:
            raise RefusedError(f"There is no such model here; there are {_listed(self.models)}.")
        names = self.catalogs(str(model)) if model is not None else self._all_catalogs()
        of = "" if model is None else " for this model"
        raise RefusedError(f"There is no such catalogue here{of}; there are {_listed(names)}.")

    def fitting(
        self, conversation: Conversation, model: object, catalog: object, current: Offer
    ) -> Offer:
        """The offer to go on with, for a conversation that was kept or shared.

        Args:
            conversation (`Conversation`): What was said and played.
            model (`str`, *optional*): The name of the model that it was held with.
            catalog (`str`, *optional*): The name of its catalogue.
            current (`Offer`): What the page shows now. It is taken where the names are not served
                here or lack a track, else the first of the others that has all tracks.

        Raises:
            RefusedError: If a track is in no catalogue that can be taken.
        """
        try:
            named = current if model is None and catalog is None else self.find(model, catalog)
        except RefusedError:
            named = current
        for offer in (named, current, *self.all):
            if offer.unknown(conversation) is None:
                return offer
        does = "this catalogue does" if len(self) == 1 else "the catalogues here do"
        raise RefusedError(UNKNOWN_TRACK.format(named.unknown(conversation), does))

    def warm(self) -> None:
        """Read what the first visitors would wait for, between the turns of others."""
        for offer in self.all:
            for read in (offer.recommender.prepare, lambda offer=offer: offer.menus):

                def job(read: Callable[[], object] = read) -> Generator[None, None, None]:
                    yield read()  # type: ignore[misc]

                for _ in self.thread.run(job):
                    pass

    def _all_catalogs(self) -> list[str]:
        return list(dict.fromkeys(offer.catalog for offer in self.all))


def distinct_names(places: Sequence[str | Path]) -> list[str]:
    """A short name for each folder or repository: its last part, with as many parts before it as
    make it distinct, two at most, and else a number.

    Args:
        places (`Sequence[str]`): Folders and Hub ids.
    """
    parts = [_parts(place) for place in places]
    names = [""] * len(parts)
    for count in (1, 2, 3):
        told = ["/".join(one[-count:]) for one in parts]
        for place, name in enumerate(told):
            if not names[place] and told.count(name) == 1:
                names[place] = name
    for place, name in enumerate(names):
        if not name:
            first = "/".join(parts[place][-2:])
            tries = (first, *(f"{first} ({n})" for n in range(2, len(names) + 2)))
            names[place] = next(one for one in tries if one not in names)
    return names


def _parts(place: str | Path) -> tuple[str, ...]:
    """The parts of a path on one line, without what no name needs."""
    path = Path(place).resolve() if Path(place).is_dir() else Path(place)
    cleaned = [" ".join("".join(c for c in part if c.isprintable()).split()) for part in path.parts]
    return tuple(part[:60] for part in cleaned if part and part != path.anchor) or ("model",)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names)
