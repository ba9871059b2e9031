"""Exact match, else the partial match with the largest sum of weights (paper 4.4)."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from talkplay_hf.errors import InputError
from talkplay_hf.recommend.lookup.postings import Groups, Postings, compiled_walk, keep_allowed
from talkplay_hf.recommend.values import whole_codes, whole_number
from talkplay_hf.tokens.index import CatalogIndex

MAX_MODALITIES = 8


@dataclass(frozen=True)
class Match:
    """The tracks that match a query best.

    Args:
        rows (`np.ndarray` of shape `[matches]`, int32): Catalog rows of the bucket, ascending.
        modalities (`tuple[int, ...]`): Which modalities match; all of them in an exact match.
        exact (`bool`): Whether all codes are equal.
    """

    rows: np.ndarray
    modalities: tuple[int, ...]
    exact: bool

    def draw(self, rng: np.random.Generator | None) -> int | None:
        """A random track of the bucket, its first without `rng`, or `None` where none matches."""
        if not len(self.rows):
            return None
        return int(self.rows[0 if rng is None else rng.integers(len(self.rows))])


@dataclass(frozen=True)
class Ranking:
    """The tracks around a query, best first.

    Args:
        rows (`np.ndarray` of shape `[found]`, int32): Catalog rows.
        groups (`np.ndarray` of shape `[found]`, int64): For each, the position in
            `WeightedLookup.subsets` of the modalities that match. Equal numbers are ties.
    """

    rows: np.ndarray
    groups: np.ndarray


class WeightedLookup:
    """Exact match, else the partial match with the largest sum of weights.

    The weights (25, 16, 9, 4, 1) tie: 25 = 16 + 9, and three sums more. Of two subsets with the
    same sum the one with the earliest modality wins, since the paper puts playlist co-occurrence
    first. A code that is reserved for "missing" never counts as a partial match.

    An exact match is one binary search in sorted keys. A partial match goes through the subsets of
    modalities, best first, and looks for the tracks of a subset in the shortest of its inverted
    lists. No query touches all tracks. With five codebooks of 256 to 65,535 codes the arrays take
    60 bytes a track beside those of the index; they are made for the first query without an exact
    match, since a model that is held to the catalogue asks none.

    Args:
        codes (`np.ndarray` of shape `[n, modalities]`, int): Codes of every track.
        sizes (`Sequence[int]`): Codebook size K per modality.
        weights (`Sequence[int]`): Weight per modality, positive.
        missing (`Sequence[int | None]`): The code reserved for "missing" per modality.
        index (`CatalogIndex`, *optional*): The index of the same codes, if there is one already.
        compiled (`bool`): Search with numba (extra `speed`), otherwise with numpy; the results are
            the same. Compiling takes seconds, once a process: it pays for many queries.

    Attributes:
        subsets (`tuple[tuple[int, ...], ...]`): Sets of modalities, best first. The first holds all
            of them: the exact match.

    Raises:
        ConfigError: If a code tuple does not fit the catalogue index.
        InputError: If the arguments do not fit each other.
        MissingExtraError: If `compiled` and numba is not installed.
    """

    def __init__(
        self,
        codes: np.ndarray,
        sizes: Sequence[int],
        weights: Sequence[int],
        missing: Sequence[int | None],
        *,
        index: CatalogIndex | None = None,
        compiled: bool = False,
    ) -> None:
        depth = len(sizes)
        if codes.ndim != 2 or not len(weights) == len(missing) == codes.shape[1] == depth:
            raise InputError("codes, sizes, weights and missing must be of the same modalities")
        if not 1 <= depth <= MAX_MODALITIES:
            raise InputError(f"{depth} modalities: the lookup takes 1 to {MAX_MODALITIES}")
        if min(weights) < 1:
            raise InputError(f"the weights {tuple(weights)} must be positive")
        if ((codes < 0) | (codes >= np.asarray(sizes))).any():
            raise InputError("a track has a code beyond the codebooks")
        self._sizes = tuple(int(size) for size in sizes)
        self._missing = tuple(missing)
        masks = sorted(range(1, 1 << depth), key=lambda mask: _place(mask, weights))
        self.subsets = tuple(tuple(m for m in range(depth) if mask >> m & 1) for mask in masks)
        self._index = CatalogIndex(codes, sizes) if index is None else index
        self._keys, self._order = self._index.keys.cpu().numpy(), self._index.order.cpu().numpy()
        self._order.flags.writeable = False
        self._codes, self._masks = codes, masks
        self._compiled = compiled_walk() if compiled else None

    @cached_property
    def _postings(self) -> Postings:
        # all modalities at once is the exact match, which the keys find
        return Postings(self._codes, self._sizes, self._masks[1:], self._compiled)

    @property
    def tracks(self) -> int:
        """Number of tracks n."""
        return len(self._order)

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays, those of the index among them."""
        return self._postings.nbytes + self._index.nbytes

    def find(self, query: Sequence[int], allowed: np.ndarray | None = None) -> Match:
        """The tracks that match a query best.

        Args:
            query (`Sequence[int]`): One code a modality.
            allowed (`np.ndarray` of shape `[n]`, bool, *optional*): Only these tracks.

        Raises:
            InputError: If the query has another length or a code out of range.
        """
        codes = self.check_query(query)
        return self._match(codes, self._exact(codes, allowed), allowed)

    def top(
        self,
        query: Sequence[int],
        k: int,
        allowed: np.ndarray | None = None,
        rng: np.random.Generator | None = None,
    ) -> Ranking:
        """The tracks around a query: the exact matches, then by falling sum of weights.

        Tracks that share no code with the query are not ranked, so there may be fewer than `k`.

        Args:
            query (`Sequence[int]`): One code a modality.
            k (`int`): How many tracks.
            allowed (`np.ndarray` of shape `[n]`, bool, *optional*): Only these tracks.
            rng (`np.random.Generator`, *optional*): Shuffles the tracks that tie; otherwise they
                come in the order of the catalog.

        Raises:
            InputError: If the query has another length or a code out of range, or `k` is below 1.
        """
        k = whole_number("k", k, 1)
        codes = self.check_query(query)
        exact = self._exact(codes, allowed)
        groups: Groups = [(0, exact)]
        if len(exact) < k:
            counted = self._counted(codes)
            # where a code means "missing", exact matches are partial ones too: take more, drop them
            again = len(exact) if len(counted) < len(codes) else 0
            found = self._postings.search(
                codes,
                counted,
                k - len(exact) + again,
                whole=rng is not None,
                fresh=not len(exact),
                allowed=allowed,
            )
            for group, rows in found:
                kept = rows[~np.isin(rows, exact)] if again else rows
                groups.append((group + 1, kept))
        parts = [rows if rng is None else rows[rng.permutation(len(rows))] for _, rows in groups]
        numbers = np.repeat([group for group, _ in groups], [len(rows) for _, rows in groups])
        return Ranking(np.concatenate(parts)[:k], numbers[:k])

    def check_query(self, query: Sequence[int]) -> list[int]:
        """A query as Python's whole numbers.

        Raises:
            InputError: If it has another length, or a code that is out of range or no whole number.
        """
        codes = whole_codes(query)
        if len(codes) != len(self._sizes) or not all(
            0 <= code < size for code, size in zip(codes, self._sizes, strict=True)
        ):
            raise InputError(f"codes {tuple(codes)!r:.200} do not fit the codebooks")
        return codes

    def _exact(self, query: list[int], allowed: np.ndarray | None) -> np.ndarray:
        key = self._index.key(query)
        first, end = np.searchsorted(self._keys, np.array([key, key + 1]))
        return keep_allowed(self._order[first:end], allowed)

    def _counted(self, query: list[int]) -> list[int]:
        return [m for m, code in enumerate(query) if code != self._missing[m]]

    def _match(self, query: list[int], exact: np.ndarray, allowed: np.ndarray | None) -> Match:
        if len(exact):
            return Match(exact, self.subsets[0], True)
        groups = self._postings.search(
            query, self._counted(query), 1, whole=True, fresh=True, allowed=allowed
        )
        if not groups:
            return Match(exact, (), False)
        group, rows = groups[0]
        return Match(rows, self.subsets[group + 1], False)


def _place(mask: int, weights: Sequence[int]) -> tuple[int, list[bool]]:
    """Where a set of modalities stands: by sum of weights, then the earliest modality."""
    bits = [bool(mask >> m & 1) for m in range(len(weights))]
    total = sum(weight for weight, bit in zip(weights, bits, strict=True) if bit)
    return -total, [not bit for bit in bits]
