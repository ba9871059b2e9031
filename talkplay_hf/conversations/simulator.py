"""A seeded simulator that writes conversations from playlists, without any language model.

Each turn asks for the next track of a piece of a playlist, by what is true of that track: by
artist, genre, mood, era, tempo, lyrics theme, sound, in relation to the last track (more like this,
faster, older, not this artist), or after rejecting a track from outside the playlist (the negative
set of paper A.1). A request carries its constraints in machine-readable form, and the next track
meets them; a lyrics theme taken from words carries none.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from talkplay_hf.catalog.constraints import Constraint, satisfied
from talkplay_hf.catalog.schema import Catalog, Conversation, Message, Track
from talkplay_hf.catalog.splits import SPLITS, cold_tracks, playlist_splits
from talkplay_hf.conversations.attributes import Attribute, AttributeReader
from talkplay_hf.errors import InputError

TURNS = (1, 6)
ATTRIBUTES_PER_REQUEST = (0.5, 0.35, 0.15)
KIND_WEIGHTS = {
    "artist": 2.6, "genre": 1.0, "mood": 1.0, "era": 2.6, "tempo": 0.6, "theme": 0.5, "sound": 0.6,
}  # fmt: skip
NEGATIVE_SHARE = 0.15
RELATIVE_SHARE, RELATIVE_AFTER_REJECTION = 0.35, 0.6
REACTION_SHARE = 0.35
NEGATIVE_TRIES = 12
ALL_LOWER_SHARE, CARELESS_SHARE = 0.08, 0.35
SESSION_SIZE = 16
LONGEST = 120


@cache
def phrase_book() -> dict[str, Any]:
    """The phrases of the simulator, by use."""
    text = (Path(__file__).parent / "phrases.json").read_text(encoding="utf-8")
    book: dict[str, Any] = json.loads(text)
    return book


def simulate(
    catalog: Catalog,
    *,
    count: int = 3000,
    turns: tuple[int, int] = TURNS,
    title_share: float = 1.0,
    seed: int = 0,
    progress: Callable[[str, int, int], None] | None = None,
) -> list[Conversation]:
    """Write conversations from the playlists of a catalog.

    Playlists take turns; each conversation is about a random contiguous piece of one, and has the
    split of its playlist. The negative set of a request is every track outside the playlist that
    meets the request too; in conversations that train or validate, none of them is cold (paper
    3.3). A catalog without playlists gets sessions of tracks that have an attribute in common; they
    all train.

    Args:
        catalog (`Catalog`): The catalog.
        count (`int`): Number of conversations.
        turns (`tuple[int, int]`): Fewest and most tracks of a playlist in one conversation.
        title_share (`float`): Share of the replies that name the title beside the artist. A small
            model cannot learn every title by heart and would name wrong ones.
        seed (`int`): The same seed gives the same conversations.
        progress (`Callable`, *optional*): Called with (what, done, total).

    Raises:
        InputError: If the catalog is empty.
    """
    splits = playlist_splits(catalog)
    playlists: list[tuple[str | None, tuple[str, ...]]] = []
    for playlist in catalog.iter_playlists():
        known = tuple(track_id for track_id in playlist.track_ids if track_id in catalog)
        if known and splits[playlist.playlist_id] in SPLITS:
            playlists.append((playlist.playlist_id, known))
    if not len(catalog):
        raise InputError("the catalog has no track to converse about")
    writer = _Writer(catalog, title_share)
    rng = np.random.default_rng(seed)
    if not playlists:
        playlists = [(None, session) for session in writer.sessions(rng)]
    order = rng.permutation(len(playlists))
    every, warm = np.arange(len(catalog)), np.flatnonzero(~cold_tracks(catalog))
    conversations = []
    for number in range(count):
        playlist_id, known = playlists[int(order[number % len(order)])]
        split = splits[playlist_id] if playlist_id is not None else "train"
        negatives = every if split == "test" else warm
        messages = tuple(writer.write(known, turns, negatives, rng))
        conversations.append(
            Conversation(
                conversation_id=f"sim-{seed}-{number:07d}",
                playlist_id=playlist_id,
                split=split,
                messages=messages,
            )
        )
        if progress is not None and (number % 100 == 99 or number + 1 == count):
            progress("writing conversations", number + 1, count)
    return conversations


def suggest_openers(catalog: Catalog, *, count: int = 6, seed: int = 0) -> list[str]:
    """A few opening requests that fit a catalog, for a demo page."""
    writer = _Writer(catalog)
    rng = np.random.default_rng(seed)
    openers: dict[str, None] = {}
    for row in rng.permutation(len(catalog))[: 4 * count]:
        attributes = writer.pick(writer.attributes(catalog.track_ids[row]), rng)
        if attributes:
            openers[f"Play {writer.noun_phrase(attributes, rng)}"] = None
    return list(openers)[:count]


class _Writer:
    """Writes one conversation at a time."""

    def __init__(self, catalog: Catalog, title_share: float = 1.0) -> None:
        self._catalog = catalog
        self._title_share = title_share
        self._book = phrase_book()
        self._reader = AttributeReader(catalog, frozenset(self._book["moods"]))
        self._tracks: dict[str, Track] = {}
        self._attributes: dict[str, list[Attribute]] = {}

    def track(self, track_id: str) -> Track:
        if track_id not in self._tracks:
            self._tracks[track_id] = self._catalog.track(track_id)
        return self._tracks[track_id]

    def attributes(self, track_id: str) -> list[Attribute]:
        if track_id not in self._attributes:
            self._attributes[track_id] = self._reader.read(self.track(track_id))
        return self._attributes[track_id]

    def sessions(self, rng: np.random.Generator) -> list[tuple[str, ...]]:
        """Groups of tracks that share an attribute, in place of playlists."""
        groups: dict[tuple[str, str], list[str]] = {}
        for track_id in self._catalog.track_ids:
            for attribute in self.attributes(track_id):
                groups.setdefault((attribute.kind, attribute.value), []).append(track_id)
        found = []
        for group in groups.values():
            for _ in range(0, len(group), SESSION_SIZE):
                rows = rng.permutation(len(group))[:SESSION_SIZE]
                found.append(tuple(group[row] for row in rows))
        return found

    def write(
        self,
        playlist: Sequence[str],
        turns: tuple[int, int],
        negatives: np.ndarray,
        rng: np.random.Generator,
    ) -> Iterator[Message]:
        """Write the messages of a conversation about a piece of a playlist.

        The negative set is drawn from the rows `negatives`.
        """
        size = min(len(playlist), int(rng.integers(turns[0], turns[1] + 1)))
        start = int(rng.integers(0, len(playlist) - size + 1))
        piece = list(dict.fromkeys(playlist[start : start + size]))
        last: Track | None = None
        rejected = False
        for track_id in piece:
            if rng.random() < NEGATIVE_SHARE:
                request = self._request(track_id, last, rng)
                negative = self._negative(request.constraints, playlist, negatives, rng)
                if negative is not None:
                    yield request
                    yield Message("music", track_id=negative.track_id, source="negative")
                    yield self._reply(negative, request, rng, after_rejection=rejected)
                    last, rejected = negative, True
            request = self._request(track_id, last, rng, rejected=rejected)
            yield request
            yield Message("music", track_id=track_id, source="playlist")
            yield self._reply(self.track(track_id), request, rng, after_rejection=rejected)
            last, rejected = self.track(track_id), False

    def _negative(
        self,
        constraints: Sequence[Constraint],
        playlist: Sequence[str],
        negatives: np.ndarray,
        rng: np.random.Generator,
    ) -> Track | None:
        """A random track outside the playlist that meets the same request, if one turns up."""
        if not len(negatives):
            return None
        ids = self._catalog.track_ids
        outside = set(playlist)
        for row in negatives[rng.integers(len(negatives), size=NEGATIVE_TRIES)]:
            if ids[row] not in outside and satisfied(constraints, self.track(ids[row])):
                return self.track(ids[row])
        return None

    def _request(
        self,
        track_id: str,
        last: Track | None,
        rng: np.random.Generator,
        *,
        rejected: bool = False,
    ) -> Message:
        target = self.track(track_id)
        text: str | None = None
        constraints: tuple[Constraint, ...] = ()
        if last is not None and rng.random() < (
            RELATIVE_AFTER_REJECTION if rejected else RELATIVE_SHARE
        ):
            text, constraints = self._relative(target, last, rejected, rng)
        if text is None:
            picked = self.pick(self.attributes(track_id), rng)
            if last is not None and not rejected and rng.random() < 0.25:
                text, constraints = self._keep_but(last, picked, track_id, rng)
            if text is None:
                pattern = self._choose("openers" if last is None else "follow_ups", rng)
                phrase = self.noun_phrase(picked, rng)
                text = pattern.format(np=phrase, context=self._choose("contexts", rng))
                constraints = tuple(c for attribute in picked for c in attribute.constraints)
        if rejected:
            text = f"{self._choose('rejections', rng)} {text}"
        elif last is not None and rng.random() < REACTION_SHARE:
            text = f"{self._choose('reactions', rng)} {text}"
        return Message("user", self._typed(text, rng), constraints=constraints)

    def _relative(
        self, target: Track, last: Track, rejected: bool, rng: np.random.Generator
    ) -> tuple[str | None, tuple[Constraint, ...]]:
        """A request in relation to the last track that is true of the target."""
        options: list[tuple[str, tuple[Constraint, ...]]] = []
        words = {"artist": last.artist[:LONGEST]}
        mine = {c for a in self.attributes(target.track_id) for c in a.constraints}
        theirs = self.attributes(last.track_id)
        if target.tempo is not None and last.tempo is not None:
            if target.tempo > 1.08 * last.tempo:
                options.append(("faster", (Constraint("tempo", "gt", f"{last.tempo:g}"),)))
            elif target.tempo < last.tempo / 1.08:
                options.append(("slower", (Constraint("tempo", "lt", f"{last.tempo:g}"),)))
        if target.year is not None and last.year is not None:
            if target.year >= last.year + 4:
                options.append(("newer", (Constraint("year", "gt", f"{last.year}"),)))
            elif target.year <= last.year - 4:
                options.append(("older", (Constraint("year", "lt", f"{last.year}"),)))
        genres = [a for a in theirs if a.kind == "genre" and a.constraints]
        shared = [a for a in genres if set(a.constraints) <= mine]
        if target.artist.casefold() != last.artist.casefold():
            options.append(("not_artist", (Constraint("artist", "not", last.artist),)))
        elif not rejected:
            options.append(("same_artist", (Constraint("artist", "is", last.artist),)))
        if genres and not shared:
            attribute = genres[0]
            words["genre"] = attribute.value
            (constraint,) = attribute.constraints
            options.append(("not_genre", (Constraint(constraint.field, "not", constraint.value),)))
        if shared and not rejected:
            demand = tuple(c for attribute in shared[:1] for c in attribute.constraints)
            options += [("similar", demand)] * 2
        if not options:
            return None, ()
        name, constraints = options[int(rng.integers(len(options)))]
        return self._choose(name, rng).format(**words), constraints

    def _keep_but(
        self, last: Track, picked: Sequence[Attribute], track_id: str, rng: np.random.Generator
    ) -> tuple[str | None, tuple[Constraint, ...]]:
        """Keep the last track's genre, change its mood or tempo."""
        mine = self.attributes(track_id)
        theirs = self.attributes(last.track_id)
        kept = [a for a in theirs if a.kind == "genre" and a in mine]
        changed = [a for a in mine if a.kind in ("mood", "tempo") and a not in theirs]
        if not kept or not changed:
            return None, ()
        change = changed[int(rng.integers(len(changed)))]
        pattern = self._choose("keep_but", rng)
        text = pattern.format(keep=kept[0].value, change=self._say(change, rng))
        return text, kept[0].constraints + change.constraints

    def pick(self, attributes: Sequence[Attribute], rng: np.random.Generator) -> list[Attribute]:
        """Draw one to three attributes of different kinds."""
        count = 1 + int(rng.choice(len(ATTRIBUTES_PER_REQUEST), p=ATTRIBUTES_PER_REQUEST))
        picked: list[Attribute] = []
        left = list(attributes)
        while left and len(picked) < count:
            weights = np.array([KIND_WEIGHTS[a.kind] for a in left])
            chosen = left[int(rng.choice(len(left), p=weights / weights.sum()))]
            picked.append(chosen)
            left = [a for a in left if a.kind != chosen.kind]
        return picked

    def noun_phrase(
        self, attributes: Sequence[Attribute], rng: np.random.Generator, *, one: bool | None = None
    ) -> str:
        """Say several attributes as one phrase, such as "slow jazz from the 90s".

        Args:
            attributes (`Sequence[Attribute]`): At most one of each kind.
            rng (`np.random.Generator`): Draws the words.
            one (`bool`, *optional*): Speak of one track ("a slow jazz tune"), of music ("slow jazz
                music"), or of either when left out.
        """
        one = bool(rng.random() < 0.5) if one is None else one
        words = {a.kind: self._say(a, rng) for a in attributes}
        front = [words[kind] for kind in ("tempo", "mood") if kind in words]
        sound = next((a.value for a in attributes if a.kind == "sound"), None)
        if sound in self._book["sounds"]:
            front.append(words.pop("sound"))
        if "genre" in words:
            if "era" in words and rng.random() < 0.3:
                front.append(words.pop("era"))
            front.append(words["genre"])
        if one:
            phrase = " ".join([*front, self._choose("nouns", rng)])
            phrase = f"{'an' if phrase[0].casefold() in 'aeiou' else 'a'} {phrase}"
        elif "genre" in words:
            noun = self._choose("mass_nouns", rng)
            phrase = " ".join([*front, noun] if rng.random() < 0.3 else front)
            phrase = f"some {phrase}" if rng.random() < 0.4 else phrase
        elif front and rng.random() < 0.5:
            phrase = f"something {' '.join(front)}"
        else:
            phrase = " ".join(["some", *front, self._choose("mass_nouns", rng)])
        for kind, joint in (("artist", "by"), ("era", "from the"), ("theme", "about")):
            if kind in words:
                phrase += f" {joint} {words[kind]}"
        return f"{phrase} with {words['sound']}" if "sound" in words else phrase

    def _reply(
        self,
        track: Track,
        request: Message,
        rng: np.random.Generator,
        *,
        after_rejection: bool = False,
    ) -> Message:
        """Name the track and describe it, by what was asked for where that can be said."""
        known = [a for a in self.attributes(track.track_id) if a.kind != "artist"]
        asked = [a for a in known if a.constraints and set(a.constraints) <= {*request.constraints}]
        described = self.pick(asked or known, rng)
        desc = self.noun_phrase(described, rng, one=True) if described else "a good fit"
        name = "replies" if rng.random() < self._title_share else "replies_untitled"
        pattern = self._choose(f"{name}_after_rejection" if after_rejection else name, rng)
        text = pattern.format(title=track.title[:LONGEST], artist=track.artist[:LONGEST], desc=desc)
        return Message("assistant", text)

    def _typed(self, text: str, rng: np.random.Generator) -> str:
        """Write a request as people type: with or without capitals and a full stop."""
        care = rng.random()
        if care < ALL_LOWER_SHARE:
            return text.lower().rstrip(".!")
        if care < CARELESS_SHARE:
            return text[:1].lower() + text[1:].rstrip(".!")
        return text[:1].upper() + text[1:]

    def _say(self, attribute: Attribute, rng: np.random.Generator) -> str:
        if attribute.kind == "era":
            year = int(attribute.value)
            short = f"{year % 100:02d}s" if 1930 <= year < 2000 else f"{year}s"
            return short if rng.random() < 0.6 else f"{year}s"
        table = {"mood": "moods", "tempo": "tempos", "sound": "sounds"}.get(attribute.kind)
        options = self._book[table].get(attribute.value) if table else None
        if options:
            return str(options[int(rng.integers(len(options)))])
        return attribute.value[:LONGEST]

    def _choose(self, name: str, rng: np.random.Generator) -> str:
        options: list[str] = self._book[name]
        return options[int(rng.integers(len(options)))]
