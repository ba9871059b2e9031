"""A seeded simulator that writes conversations from playlists, without any language model.

Each turn asks for the next track of a piece of a playlist, by what is true of that track, or for a
track from outside the playlist that the user then rejects (the negative set of paper A.1). A
request carries its constraints in machine-readable form, and the next track meets them; a lyrics
theme taken from words carries none.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from random import Random

import numpy as np

from talkplay_hf.catalog.schema import Catalog, Conversation, Message, Track
from talkplay_hf.catalog.splits import SPLITS, cold_tracks, playlist_splits
from talkplay_hf.conversations.simulation.attributes import Attribute
from talkplay_hf.conversations.simulation.introductions import Introductions
from talkplay_hf.conversations.simulation.listener import Listener
from talkplay_hf.conversations.simulation.onwards import CORRECTABLE
from talkplay_hf.conversations.simulation.options import SimulatorOptions
from talkplay_hf.conversations.simulation.phrasing import Phrasing
from talkplay_hf.conversations.simulation.replies import Presenter, Reply
from talkplay_hf.conversations.simulation.surroundings import Surroundings, TrackFacts
from talkplay_hf.errors import InputError

SESSION_SIZE = 16
PLAIN_KINDS = {"artist": 1.0, "genre": 1.0, "mood": 1.0, "era": 1.0, "tempo": 1.0}
REDRAWS = 20
WHO_SHARE = 0.35
Progress = Callable[[str, int, int], None]


def simulate(
    catalog: Catalog,
    *,
    count: int = 3000,
    options: SimulatorOptions | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> list[Conversation]:
    """Write conversations from the playlists of a catalog, see `iter_conversations`."""
    return list(
        iter_conversations(catalog, count=count, options=options, seed=seed, progress=progress)
    )


def iter_conversations(
    catalog: Catalog,
    *,
    count: int = 3000,
    options: SimulatorOptions | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Iterator[Conversation]:
    """Write conversations from the playlists of a catalog, one at a time.

    Playlists take turns; each conversation is about a random contiguous piece of one, and has the
    split of its playlist. The negative set of a track is every track outside the playlist that has
    something in common with it; in conversations that train or validate, none of them is cold
    (paper 3.3). A catalog without playlists gets sessions of tracks that have an attribute in
    common; they all train. Between them stand the introductions that the options ask for, of all
    tracks in turn. A conversation whose words are those of an earlier one is drawn anew, up
    to 20 times: a catalog of a few tracks with nothing known about them has no more to say.

    Args:
        catalog (`Catalog`): The catalog.
        count (`int`): Number of conversations.
        options (`SimulatorOptions`, *optional*): What happens in them how often.
        seed (`int`): The same seed gives the same conversations.
        progress (`Callable`, *optional*): Called with (what, done, total).

    Raises:
        InputError: If the catalog is empty.
    """
    options = options or SimulatorOptions()
    facts = TrackFacts(catalog)
    rng = Random(f"order-{seed}")
    playlists = _playlists(catalog) or [(None, "train", s) for s in _sessions(facts, rng)]
    rng.shuffle(playlists)
    every, warm = range(len(catalog)), np.flatnonzero(~cold_tracks(catalog)).tolist()
    introductions = Introductions(
        facts, every if options.introduce_cold else warm, Random(f"introductions-{seed}")
    )
    seen: set[bytes] = set()
    for number in range(count):
        introduced = int(number * options.introductions)
        introduces = int((number + 1) * options.introductions) > introduced
        playlist_id, split, playlist = (
            (None, "train", ()) if introduces else playlists[(number - introduced) % len(playlists)]
        )
        others = every if split == "test" else warm
        for attempt in range(REDRAWS):
            rng = Random(f"{seed}-{number}-{attempt}")
            language = options.languages[int(rng.random() * len(options.languages))]
            phrasing = Phrasing(
                language,
                rng,
                options.variety,
                held_out=options.held_out_phrases,
                test=split == "test",
            )
            if introduces:
                messages = introductions.write(phrasing, rng)
            else:
                messages = _Writer(facts, phrasing, options, playlist, others, rng).write()
            text = "\n".join(message.content for message in messages)
            mark = blake2b(text.encode(), digest_size=12).digest()
            if mark not in seen:
                break
        seen.add(mark)
        yield Conversation(
            conversation_id=f"sim-{seed}-{number:07d}",
            playlist_id=playlist_id,
            split=split,
            messages=messages,
            language=language,
        )
        if progress is not None and (number % 100 == 99 or number + 1 == count):
            progress("writing conversations", number + 1, count)


def suggest_openers(catalog: Catalog, *, count: int = 6, seed: int = 0) -> list[str]:
    """A few opening requests that fit a catalog, for a demo page, in plain words."""
    facts = TrackFacts(catalog)
    rng = Random(f"openers-{seed}")
    rows = rng.sample(range(len(catalog)), min(4 * count, len(catalog)))
    phrasing = Phrasing("en", rng, variety=0.0)
    options = SimulatorOptions(conditions=(0.5, 0.5), kinds=PLAIN_KINDS)
    listener = Listener(facts, phrasing, options, Surroundings(facts, (), (), rng), rng)
    openers: dict[str, None] = {}
    for row in rows:
        attributes = listener.pick(facts.attributes(catalog.track_ids[row]))
        if attributes:
            openers[f"Play {phrasing.noun_phrase(attributes)}"] = None
    return list(openers)[:count]


def _playlists(catalog: Catalog) -> list[tuple[str | None, str, tuple[str, ...]]]:
    """The playlists of a split with their tracks that the catalog has."""
    if not len(catalog):
        raise InputError("the catalog has no track to converse about")
    splits = playlist_splits(catalog)
    found: list[tuple[str | None, str, tuple[str, ...]]] = []
    for playlist in catalog.iter_playlists():
        known = tuple(track_id for track_id in playlist.track_ids if track_id in catalog)
        split = splits[playlist.playlist_id]
        if known and split in SPLITS:
            found.append((playlist.playlist_id, split, known))
    return found


def _sessions(facts: TrackFacts, rng: Random) -> list[tuple[str, ...]]:
    """Groups of tracks that share an attribute, in place of playlists."""
    groups: dict[tuple[str, str], list[str]] = {}
    for track_id in facts.catalog.track_ids:
        for attribute in facts.attributes(track_id):
            groups.setdefault((attribute.kind, attribute.value), []).append(track_id)
    return [
        tuple(rng.sample(group, min(SESSION_SIZE, len(group))))
        for group in groups.values()
        for _ in range(0, len(group), SESSION_SIZE)
    ]


@dataclass(frozen=True)
class _Step:
    """A track to play, what may be asked about it, and the slip that it is due to."""

    track: Track
    source: str
    about: list[Attribute]
    slip: Attribute | None = None


class _Writer:
    """Writes one conversation: plans what is played, then has it asked for and presented."""

    def __init__(
        self,
        facts: TrackFacts,
        phrasing: Phrasing,
        options: SimulatorOptions,
        playlist: Sequence[str],
        others: Sequence[int],
        rng: Random,
    ) -> None:
        self._facts = facts
        self._options = options
        self._playlist = playlist
        self._rng = rng
        self._surroundings = Surroundings(facts, playlist, others, rng)
        self._listener = Listener(facts, phrasing, options, self._surroundings, rng)
        self._presenter = Presenter(phrasing, options, rng)

    def write(self) -> tuple[Message, ...]:
        """The messages of the conversation."""
        listener, presenter = self._listener, self._presenter
        messages: list[Message] = []
        steps = self._plan()
        reply: Reply | None = None
        named = True
        for number, step in enumerate(steps):
            track, last = step.track, listener.last
            question = self._question(reply, named) if reply and last else None
            request = listener.request(
                track,
                step.about,
                unwanted=step.source == "negative",
                slip=step.slip,
                question=question,
            )
            if question is not None and last is not None:
                known = self._facts.attributes(last.track_id)
                request.picked_up.append(presenter.answer(question, last, known))
            # nobody asks who that was after asking for somebody
            follows = (
                number + 1 < len(steps)
                and step.source == "playlist"
                and "artist" not in request.topics
            )
            named = not (follows and self._rng.random() < WHO_SHARE * self._options.question)
            known = self._facts.attributes(track.track_id)
            reply = presenter.reply(track, known, request, named=named)
            messages += (
                listener.write(request),
                Message("music", track_id=track.track_id, source=step.source),
                reply.message,
            )
            listener.last, listener.rejects = track, step.source == "negative"
        return tuple(messages)

    def _question(self, reply: Reply, named: bool) -> str | None:
        """What the user asks about the last track, if anything."""
        if not named:
            return "who"
        last = self._listener.last
        if last is None or self._listener.rejects or self._rng.random() >= self._options.question:
            return None
        known = self._facts.attributes(last.track_id)
        questions = self._presenter.questions(last, known, reply)
        return self._rng.choice(questions) if questions else None

    def _plan(self) -> list[_Step]:
        """A random contiguous piece of the playlist, with rejected tracks before some of it."""
        rng, playlist = self._rng, self._playlist
        size = min(len(playlist), rng.randint(*self._options.turns))
        start = rng.randint(0, len(playlist) - size)
        steps: list[_Step] = []
        outside = set(playlist)
        for track_id in dict.fromkeys(playlist[start : start + size]):
            track = self._facts.track(track_id)
            if rng.random() < self._options.negative:
                rejected = self._rejected(track, outside)
                if rejected is not None:
                    steps.append(rejected)
                    outside.add(rejected.track.track_id)
            steps.append(_Step(track, "playlist", self._facts.attributes(track_id)))
        return steps

    def _rejected(self, target: Track, outside: set[str]) -> _Step | None:
        """A track from the negative set of the target, asked for by what the two share."""
        found = self._surroundings.negative(target, outside)
        if found is None:
            return None
        track, shared = found
        slip = None
        if self._rng.random() < self._options.correction:
            slips = self._slips(track, target)
            slip = self._rng.choice(slips) if slips else None
        return _Step(track, "negative", shared, slip)

    def _slips(self, track: Track, target: Track) -> list[Attribute]:
        """What a user could have asked for by a slip: true of one track, not of the other."""
        kinds = {a.kind for a in self._facts.attributes(target.track_id) if a.constraints}
        return [
            a
            for a in self._facts.attributes(track.track_id)
            if a.kind in CORRECTABLE and a.kind in kinds and a.constraints and not a.met_by(target)
        ]
