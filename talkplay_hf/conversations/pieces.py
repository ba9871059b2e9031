"""Pieces of playlists: what one conversation is about, with its negative set (paper 3.2, A.1).

The paper does not say how a playlist is cut. Its table 1 has 532,627 dialogues from 116,136
playlists of 63.73 tracks on average: 4.59 pieces a playlist, of about 14 tracks each. With at least
half of a piece recommended (A.1), that is the 7 turns a dialogue which the paper reports. So pieces
are of about 14 consecutive tracks here; that is our reading.
"""

import hashlib
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from talkplay_hf.catalog.membership import membership
from talkplay_hf.catalog.schema import Catalog
from talkplay_hf.catalog.splits import SPLITS, cold_tracks, split_labels
from talkplay_hf.catalog.track_match import name_keys
from talkplay_hf.conversations.intents import ACT, TOPIC, taxonomy
from talkplay_hf.errors import ConfigError, InputError

ORDERS = ("playlist", "shuffled")
ACTS_PER_PIECE = 2
TOPICS_PER_PIECE = 2
# acts that need a track which the user does not want
_NEED_NEGATIVES = frozenset({"reject", "change"})
_TRIES = 30
_LONGEST_ID = 80


@dataclass(frozen=True)
class Piece:
    """What one conversation is about.

    Args:
        piece_id (`str`): Its id, which the conversation takes over.
        track_ids (`tuple[str, ...]`): The tracks to recommend, each once.
        negative_ids (`tuple[str, ...]`): Similar tracks that the user does not want (paper A.1).
        playlist_id (`str`, *optional*): The playlist that it was cut from.
        split (`str`): The split of that playlist.
        intents (`tuple[str, ...]`): What the user should say and do in it, by the names of the
            intent taxonomy.
    """

    piece_id: str
    track_ids: tuple[str, ...]
    negative_ids: tuple[str, ...] = ()
    playlist_id: str | None = None
    split: str = "train"
    intents: tuple[str, ...] = ()


@dataclass(frozen=True)
class PieceOptions:
    """How playlists are cut into pieces.

    Args:
        size (`int`): About how many tracks a piece has: a playlist of n tracks gives n / size
            pieces, rounded, but at least one, whose sizes differ by one at most.
        order (`str`): `"playlist"`: consecutive tracks of the playlist; `"shuffled"`: its tracks
            in a random order.
        negatives (`int`): Tracks in the negative set of a piece.
        playlists (`int`, *optional*): Most playlists to cut; all by default. A larger number adds
            to the playlists that a smaller one took.
        pieces (`int`, *optional*): Most pieces of one playlist, drawn at random; all by default. A
            larger number adds to those that a smaller one took.
        fewest (`int`): Playlists with fewer tracks in the catalog are left out.

    Raises:
        ConfigError: If a value is impossible.
    """

    size: int = 14
    order: str = "playlist"
    negatives: int = 4
    playlists: int | None = None
    pieces: int | None = None
    fewest: int = 2

    def __post_init__(self) -> None:
        if self.order not in ORDERS:
            raise ConfigError(f"order {self.order!r}: must be one of {ORDERS}")
        for name, least in (("size", 1), ("negatives", 0), ("fewest", 1)):
            check_count(name, getattr(self, name), least)
        for name in ("playlists", "pieces"):
            if getattr(self, name) is not None:
                check_count(name, getattr(self, name), 1)


def check_count(name: str, value: object, least: int) -> None:
    """Refuse an option that is no whole number, or too small a one.

    Raises:
        ConfigError: If it is.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ConfigError(f"{name} {value!r}: must be a whole number of at least {least}")


def cut_playlists(catalog: Catalog, options: PieceOptions, seed: int) -> Iterator[Piece]:
    """Cut the playlists of a catalog into pieces, each with a negative set and intents.

    Playlists come in an order drawn by the seed and their ids. What a piece is depends on the seed
    and its own playlist alone, not on the other playlists, their order or how many are taken, so
    that a job can grow without changing what is done. Playlists of the splits `challenge` and
    `excluded` are left out, and of a playlist the ids that the catalog lacks and repeats.

    *Negative set*: tracks outside the whole playlist that share a tag or the artist with a track of
    the piece, drawn at random: a track of the piece, one of its tags or its artist (the rarer, the
    likelier: by the logarithm of inverse frequency), a track that has it too. None is the same
    recording as a track of the playlist (equal title and artist, see `name_keys`), and in pieces
    that train or validate none is cold (paper 3.3). Where nothing similar is found, as in a catalog
    without tags by artists of one track each, any other track is drawn. A small catalog may give
    fewer than asked for.

    *Intents*: `open`, two more acts (`reject` and `change` only where there is a negative set) and
    two topics, each drawn with equal chances among those that the piece supports: a topic that
    needs lyrics, dates, ... is drawn where at least two tracks have them (one, in a piece of one).

    Args:
        catalog (`Catalog`): The catalog; with its split, if it has one.
        options (`PieceOptions`): How to cut.
        seed (`int`): The same seed gives the same pieces.

    Returns:
        `Iterator[Piece]`: The pieces, made while they are asked for.

    Raises:
        InputError: If the catalog has no playlist of a split that is used, or two of one id.
    """
    ids: list[str] = catalog.playlists["playlist_id"].to_pylist()
    used = np.flatnonzero(np.isin(split_labels(catalog), SPLITS)).tolist()
    if not used:
        raise InputError(
            f"the catalog has {len(ids)} playlists, and none of {', '.join(SPLITS)} to cut; import "
            "playlists with the tracks, or draw the split again"
        )
    if len(set(ids)) < len(ids):
        seen: set[str] = set()
        for row, playlist_id in enumerate(ids):
            if playlist_id in seen:
                raise InputError(f"playlists: row {row}: playlist_id {playlist_id!r} stands twice")
            seen.add(playlist_id)
    return _cut(catalog, options, seed, sorted(used, key=lambda row: _number(seed, ids[row])))


def _cut(catalog: Catalog, options: PieceOptions, seed: int, order: list[int]) -> Iterator[Piece]:
    ids: list[str] = catalog.playlists["playlist_id"].to_pylist()
    track_ids = catalog.track_ids
    splits = split_labels(catalog)
    lists = membership(catalog)
    similar = _SimilarTracks(catalog)
    intents = _IntentDraw(catalog)
    taken = 0
    for playlist in order:
        if taken == options.playlists:
            return
        playlist_id, split = ids[playlist], str(splits[playlist])
        rows = np.array(list(dict.fromkeys(lists[playlist].tolist())), dtype=np.int64)
        if len(rows) < options.fewest:
            continue
        taken += 1
        whole = frozenset(rows.tolist())
        rng = np.random.default_rng(_number(seed, playlist_id, "cut"))
        if options.order == "shuffled":
            rows = rng.permutation(rows)
        parts = np.array_split(rows, max(1, math.floor(len(rows) / options.size + 0.5)))
        for number in sorted(rng.permutation(len(parts))[: options.pieces].tolist()):
            rng = np.random.default_rng(_number(seed, playlist_id, str(number)))
            part = parts[number]
            negatives = similar.draw(part, whole, options.negatives, split != "test", rng)
            yield Piece(
                piece_id=f"{_safe(playlist_id)}-{seed}-{number}",
                track_ids=tuple(track_ids[row] for row in part.tolist()),
                negative_ids=tuple(track_ids[row] for row in negatives),
                playlist_id=playlist_id,
                split=split,
                intents=intents.draw(part, bool(negatives), rng),
            )


def _number(seed: int, *names: str) -> int:
    """A number that stands for a seed and names, the same on every machine."""
    text = "\n".join([str(seed), *names])
    return int.from_bytes(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:16])


def _safe(playlist_id: str) -> str:
    """A playlist id as a part of a file name or URL; unequal ids stay unequal."""
    safe = re.sub(r"[^A-Za-z0-9._-]", "_", playlist_id)[:_LONGEST_ID]
    return safe if safe == playlist_id else f"{safe}.{_number(0, playlist_id) % 16**8:08x}"


class _SimilarTracks:
    """Draws tracks that share a tag or the artist, through the tracks of each tag and artist."""

    def __init__(self, catalog: Catalog) -> None:
        count = len(catalog)
        self._cold = cold_tracks(catalog)
        titles, artists = (name_keys(catalog.tracks[name]) for name in ("title", "artist"))
        line = pa.scalar("\n", pa.large_string())
        self._recordings = _codes(pc.binary_join_element_wise(titles, artists, line))
        by_artist = _codes(artists)
        tags = catalog.tracks["tags"].combine_chunks()
        owners = pc.list_parent_indices(tags).to_numpy().astype(np.int64)
        texts = pc.utf8_lower(pc.fill_null(pc.list_flatten(tags), ""))
        named = pc.not_equal(texts, "").to_numpy(zero_copy_only=False)
        by_tag = _codes(texts)
        n_values = int(by_tag.max(initial=-1)) + 1 + int(by_artist.max()) + 1
        pairs = np.concatenate(
            [
                owners[named] * n_values + by_tag[named],
                (np.arange(count) + 1) * n_values - 1 - by_artist,
            ]
        )
        owners, self._values = np.divmod(np.unique(pairs), n_values)
        sizes = np.bincount(self._values, minlength=n_values)
        # a tag of one track leads nowhere
        weights = np.where(sizes > 1, np.log(1 + count / np.maximum(sizes, 1)), 0)[self._values]
        self._weights = np.concatenate([[0.0], np.cumsum(weights)])
        self._starts = np.searchsorted(owners, np.arange(count + 1))
        self._tracks = owners[np.argsort(self._values, kind="stable")]
        self._value_starts = np.concatenate([[0], np.cumsum(sizes)])

    def draw(
        self,
        piece: np.ndarray,
        playlist: frozenset[int],
        count: int,
        warm: bool,
        rng: np.random.Generator,
    ) -> list[int]:
        """Draw rows of tracks for a piece of a playlist, in constant time for each."""
        banned = set(playlist)
        recordings = set(self._recordings[np.fromiter(playlist, np.int64)].tolist())
        drawn: list[int] = []
        for tried in range(2 * _TRIES * count):
            if len(drawn) == count:
                break
            if tried < _TRIES * count:
                row = self._similar(piece, rng)
            else:
                row = int(rng.integers(len(self._cold)))
            if row is None or row in banned or (warm and self._cold[row]):
                continue
            recording = int(self._recordings[row])
            if recording not in recordings:
                drawn.append(row)
                banned.add(row)
                recordings.add(recording)
        return drawn

    def _similar(self, piece: np.ndarray, rng: np.random.Generator) -> int | None:
        """A track that shares something with a track of the piece, or `None` this time."""
        track = piece[rng.integers(len(piece))]
        start, end = self._starts[track], self._starts[track + 1]
        low, high = self._weights[start], self._weights[end]
        if not high > low:
            return None
        at = np.searchsorted(self._weights[start : end + 1], rng.uniform(low, high), side="right")
        value = self._values[start + min(int(at) - 1, end - start - 1)]
        first, last = self._value_starts[value], self._value_starts[value + 1]
        return int(self._tracks[rng.integers(first, last)])


class _IntentDraw:
    """Draws what the user of a piece says and does."""

    def __init__(self, catalog: Catalog) -> None:
        intents = taxonomy().values()
        self._acts = [one.name for one in intents if one.kind == ACT and one.name != "open"]
        self._topics = [one.name for one in intents if one.kind == TOPIC]
        every = np.ones(len(catalog), dtype=bool)
        self._supports = np.stack(
            [
                np.any([_has(catalog.tracks[column]) for column in one.needs], axis=0)
                if one.needs
                else every
                for one in intents
                if one.kind == TOPIC
            ]
        )

    def draw(self, piece: np.ndarray, negatives: bool, rng: np.random.Generator) -> tuple[str, ...]:
        acts = [name for name in self._acts if negatives or name not in _NEED_NEGATIVES]
        enough = self._supports[:, piece].sum(axis=1) >= min(2, len(piece))
        topics = [name for name, fine in zip(self._topics, enough, strict=True) if fine]
        return (
            "open",
            *(acts[at] for at in sorted(rng.permutation(len(acts))[:ACTS_PER_PIECE])),
            *(topics[at] for at in sorted(rng.permutation(len(topics))[:TOPICS_PER_PIECE])),
        )


def _codes(texts: pa.Array) -> np.ndarray:
    """A number for each text, the same for equal ones, int64."""
    codes: np.ndarray = texts.dictionary_encode().indices.to_numpy().astype(np.int64)
    return codes


def _has(column: pa.ChunkedArray) -> np.ndarray:
    """Which tracks have a value in a column: no null, no empty text, no empty list."""
    if pa.types.is_list(column.type):
        there = pc.greater(pc.list_value_length(column), 0)
    elif pa.types.is_string(column.type):
        there = pc.not_equal(pc.utf8_trim_whitespace(column), "")
    else:
        there = pc.is_valid(column)
    found: np.ndarray = pc.fill_null(there, False).to_numpy()
    return found
