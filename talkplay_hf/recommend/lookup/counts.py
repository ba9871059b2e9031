"""How often generated codes match a track, and in what: the matching analysis (paper 5.2)."""

from dataclasses import dataclass

import numpy as np

from talkplay_hf.errors import InputError
from talkplay_hf.recommend.lookup.weighted import WeightedLookup


@dataclass(frozen=True)
class Split:
    """A count of warm tracks (seen in training) and one of cold tracks.

    Args:
        warm (`int`): How many are warm.
        cold (`int`): How many are cold.
    """

    warm: int
    cold: int

    @property
    def total(self) -> int:
        """Both together."""
        return self.warm + self.cold


@dataclass(frozen=True)
class MatchCounts:
    """What the tracks found for many queries have in common with them.

    Args:
        queries (`int`): Number of queries.
        exact (`Split`): Queries that found a track of the same codes.
        partial (`dict[tuple[int, ...], Split]`): By the modalities that match, best first: queries
            that found a track in no better way. Subsets that no query ended in are left out.
        none (`int`): Queries that share no code with any track.
        distinct (`Split`): Different tracks found.
        tracks (`Split`): Tracks of the catalogue.
    """

    queries: int
    exact: Split
    partial: dict[tuple[int, ...], Split]
    none: int
    distinct: Split
    tracks: Split


def count_matches(
    lookup: WeightedLookup,
    queries: np.ndarray,
    warm: np.ndarray,
    *,
    rng: np.random.Generator | None = None,
) -> MatchCounts:
    """Look up many queries, draw a track for each, and count.

    Args:
        lookup (`WeightedLookup`): The lookup.
        queries (`np.ndarray` of shape `[b, modalities]`, int): One query a row.
        warm (`np.ndarray` of shape `[n]`, bool): Whether each track was seen in training.
        rng (`np.random.Generator`, *optional*): Draws the track of each bucket, otherwise the
            first. Only whether it is warm depends on the draw.

    Raises:
        InputError: If an argument does not fit the lookup.
    """
    if warm.shape != (lookup.tracks,) or warm.dtype != bool:
        raise InputError(f"warm must be a bool a track, {lookup.tracks} of them")
    everything = lookup.subsets[0]
    found: dict[tuple[bool, tuple[int, ...]], list[int]] = {}
    none = 0
    for query in queries.tolist():
        match = lookup.find(query)
        row = match.draw(rng)
        if row is None:
            none += 1
        else:
            found.setdefault((match.exact, match.modalities), []).append(row)

    def split(rows: list[int] | np.ndarray) -> Split:
        seen = int(np.count_nonzero(warm[rows])) if len(rows) else 0
        return Split(seen, len(rows) - seen)

    every = [row for rows in found.values() for row in rows]
    return MatchCounts(
        queries=len(queries),
        exact=split(found.get((True, everything), [])),
        partial={
            subset: split(found[False, subset])
            for subset in lookup.subsets
            if (False, subset) in found
        },
        none=none,
        distinct=split(np.unique(every)),
        tracks=split(np.arange(lookup.tracks)),
    )
