"""From five codes back to real tracks (paper 4.4)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from talkplay_hf.errors import InputError


@dataclass(frozen=True)
class Match:
    """The tracks that match a query best.

    Args:
        rows (`np.ndarray` of shape `[matches]`, int64): Catalog rows of the bucket, ascending.
        modalities (`tuple[int, ...]`): Which modalities match; all of them in an exact match.
        exact (`bool`): Whether all five codes are equal.
    """

    rows: np.ndarray
    modalities: tuple[int, ...]
    exact: bool

    def draw(self, rng: np.random.Generator | None) -> int | None:
        """A random track of the bucket, its first without `rng`, or `None` where none matches."""
        if not len(self.rows):
            return None
        return int(self.rows[0 if rng is None else rng.integers(len(self.rows))])


class WeightedLookup:
    """Exact match, else the partial match with the largest sum of weights.

    The weights (25, 16, 9, 4, 1) tie: 25 = 16 + 9, and three sums more. Of two subsets with the
    same sum the one with the earliest modality wins, since the paper puts playlist co-occurrence
    first. A code that is reserved for "missing" never counts as a partial match.

    Args:
        codes (`np.ndarray` of shape `[n, modalities]`, int): Codes of every track.
        sizes (`Sequence[int]`): Codebook size K per modality.
        weights (`Sequence[int]`): Weight per modality.
        missing (`Sequence[int | None]`): The code reserved for "missing" per modality.
    """

    def __init__(
        self,
        codes: np.ndarray,
        sizes: Sequence[int],
        weights: Sequence[int],
        missing: Sequence[int | None],
    ) -> None:
        self._depth = codes.shape[1]
        self._missing = tuple(missing)
        # weight first, then one bit a modality, the earliest the highest
        shift = 1 << self._depth
        self._gain = np.array(
            [weight * shift + (1 << (self._depth - 1 - m)) for m, weight in enumerate(weights)],
            dtype=np.int64,
        )
        self._tracks = len(codes)
        self._codes = codes
        self._postings = []
        for m, size in enumerate(sizes):
            order = np.argsort(codes[:, m], kind="stable")
            starts = np.searchsorted(codes[order, m], np.arange(size + 1))
            self._postings.append((order, starts))

    def find(self, query: Sequence[int], allowed: np.ndarray | None = None) -> Match:
        """The tracks that match a query best.

        Args:
            query (`Sequence[int]`): One code a modality.
            allowed (`np.ndarray` of shape `[n]`, bool, *optional*): Only these tracks.

        Raises:
            InputError: If the query has another length or a code out of range.
        """
        lists = []
        for m, code in enumerate(query):
            if m >= self._depth or not 0 <= code < len(self._postings[m][1]) - 1:
                raise InputError(f"codes {tuple(query)} do not fit the codebooks")
            order, starts = self._postings[m]
            rows = order[starts[code] : starts[code + 1]]
            lists.append(rows if allowed is None else rows[allowed[rows]])
        if len(lists) != self._depth:
            raise InputError(f"codes {tuple(query)} do not fit the codebooks")
        shortest = min(lists, key=len)
        exact = shortest[(self._codes[shortest] == np.asarray(query)).all(axis=1)]
        if len(exact):
            return Match(np.sort(exact), tuple(range(self._depth)), True)
        counted = [m for m, code in enumerate(query) if code != self._missing[m]]
        rows = np.concatenate([lists[m] for m in counted] or [np.empty(0, dtype=np.int64)])
        if not len(rows):
            return Match(np.empty(0, dtype=np.int64), (), False)
        gains = np.concatenate([np.full(len(lists[m]), self._gain[m]) for m in counted])
        unique, inverse = np.unique(rows, return_inverse=True)
        score = np.zeros(len(unique), dtype=np.int64)
        np.add.at(score, inverse, gains)
        best = int(score.max())
        bits = best & ((1 << self._depth) - 1)
        modalities = tuple(m for m in range(self._depth) if bits >> (self._depth - 1 - m) & 1)
        return Match(unique[score == best], modalities, False)
