"""Inverted lists: the tracks of each code, with their other codes beside them.

The other codes are stored in the order of the list, so that comparing them with a query reads
memory in sequence. Looking them up by catalog row would be a jump per track.
"""

from collections.abc import Callable, Sequence
from importlib import import_module
from itertools import pairwise
from typing import Any

import numpy as np

from talkplay_hf.errors import MissingExtraError

CHUNK = 65_536

Groups = list[tuple[int, np.ndarray]]


class Postings:
    """For every modality, the catalog rows in the order of its codes.

    Args:
        codes (`np.ndarray` of shape `[n, modalities]`, int): Codes of every track.
        sizes (`Sequence[int]`): Codebook size K per modality.
        subsets (`Sequence[int]`): Sets of modalities, best first, as bits (1 for the first
            modality, 2 for the second, and so on).
        compiled (`Callable`, *optional*): The walk in numba, see `compiled_walk`, otherwise that in
            numpy; the results are the same.
    """

    def __init__(
        self,
        codes: np.ndarray,
        sizes: Sequence[int],
        subsets: Sequence[int],
        compiled: Callable[..., Any] | None,
    ) -> None:
        n, self._depth = codes.shape
        # the largest value of the type is no code, so it matches no track
        kind = np.min_scalar_type(max(sizes))
        self._nothing = int(np.iinfo(kind).max)
        columns = np.ascontiguousarray(codes.T, dtype=kind)
        self._rows = np.empty((self._depth, n), dtype=np.int32)
        self._others = np.empty((self._depth, self._depth - 1, n), dtype=kind)
        self._starts = []
        for m, size in enumerate(sizes):
            order = np.argsort(columns[m], kind="stable")
            self._rows[m] = order
            for at, other in enumerate(self._beside(m)):
                self._others[m, at] = columns[other][order]
            counts = np.bincount(columns[m], minlength=size)
            self._starts.append([0, *np.cumsum(counts).tolist()])
        self._rows.flags.writeable = False
        bits = [[[1 << other] for other in self._beside(m)] for m in range(self._depth)]
        self._bits = np.array(bits, dtype=np.uint8).reshape(self._depth, self._depth - 1, 1)
        self._subsets = tuple(subsets)
        self._compiled = compiled
        self._masks = np.array(subsets, dtype=np.int64)

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays."""
        return self._rows.nbytes + self._others.nbytes

    def search(
        self,
        query: Sequence[int],
        counted: Sequence[int],
        need: int,
        *,
        whole: bool,
        fresh: bool,
        allowed: np.ndarray | None,
    ) -> Groups:
        """The tracks that share codes with a query, those of the best subset first.

        Args:
            query (`Sequence[int]`): One code a modality.
            counted (`Sequence[int]`): The modalities that may match.
            need (`int`): How many tracks are wanted.
            whole (`bool`): Finish the last subset, otherwise stop at `need` tracks.
            fresh (`bool`): Whether no track matches exactly, or none of those is allowed.
            allowed (`np.ndarray` of shape `[n]`, bool, *optional*): Only these tracks.

        Returns:
            `list[tuple[int, np.ndarray]]`: The position of a subset in `subsets`, and the catalog
            rows (int32, ascending) that match in just these modalities; at least one row each.
        """
        wanted = np.full(self._depth, self._nothing, dtype=self._others.dtype)
        spans = {}
        for m in counted:
            first, end = self._starts[m][query[m]], self._starts[m][query[m] + 1]
            if first < end:
                wanted[m] = query[m]
                spans[m] = (first, end)
        shortest_first = sorted(spans, key=lambda m: (spans[m][1] - spans[m][0], m))
        walk = self._walk if self._compiled is None else self._walk_compiled
        return walk(wanted, spans, shortest_first, need, whole, whole and fresh, allowed)

    def _beside(self, m: int) -> list[int]:
        return [other for other in range(self._depth) if other != m]

    def _walk(
        self,
        wanted: np.ndarray,
        spans: dict[int, tuple[int, int]],
        shortest_first: list[int],
        need: int,
        whole: bool,
        listing: bool,
        allowed: np.ndarray | None,
    ) -> Groups:
        alive = sum(1 << m for m in spans)
        marks = _Marks(self._others, self._bits, wanted)
        groups: Groups = []
        total = 0
        for group, subset in enumerate(self._subsets):
            if subset & ~alive:
                continue
            # a track that matches in the subset is in each of its lists: the shortest will do
            m = next(m for m in shortest_first if subset >> m & 1)
            first, end = spans[m]
            if listing and not total and subset == 1 << m:
                # no better subset has a track, so nothing on this list matches elsewhere
                parts = [keep_allowed(self._rows[m, first:end], allowed)]
            else:
                parts = []
                left = need - total
                for a in range(first, end, CHUNK):
                    b = min(a + CHUNK, end)
                    found, has = marks.of(m, a, b)
                    if subset in has:
                        part = keep_allowed(self._rows[m, a:b][found == subset], allowed)
                        parts.append(part if whole else part[:left])
                        left -= len(part)
                        if left <= 0 and not whole:
                            break
            rows = parts[0] if len(parts) == 1 else np.concatenate(parts) if parts else None
            if rows is not None and len(rows):
                groups.append((group, rows))
                total += len(rows)
                if total >= need:
                    break
        return groups

    def _walk_compiled(
        self,
        wanted: np.ndarray,
        spans: dict[int, tuple[int, int]],
        shortest_first: list[int],
        need: int,
        whole: bool,
        listing: bool,
        allowed: np.ndarray | None,
    ) -> Groups:
        assert self._compiled is not None
        bounds = np.zeros((self._depth, 2), dtype=np.int64)
        for m, span in spans.items():
            bounds[m] = span
        everyone = allowed is None
        mask = np.empty(0, dtype=np.bool_) if allowed is None else allowed
        rows, groups, ends, listed = self._compiled(
            self._rows,
            self._others,
            wanted,
            bounds,
            np.array(shortest_first, dtype=np.int64),
            self._masks,
            need,
            whole,
            listing,
            mask,
            everyone,
        )
        if listed >= 0:
            first, end = spans[listed]
            return [(int(groups[0]), self._rows[listed, first:end])]
        return [
            (group, rows[a:b])
            for group, (a, b) in zip(groups.tolist(), pairwise([0, *ends.tolist()]), strict=True)
        ]


class _Marks:
    """The subset that each track of a list matches in, made a piece at a time."""

    def __init__(self, others: np.ndarray, bits: np.ndarray, wanted: np.ndarray) -> None:
        self._others = others
        self._bits = bits
        self._wanted = wanted
        self._made: dict[tuple[int, int], tuple[np.ndarray, bytes]] = {}

    def of(self, m: int, first: int, end: int) -> tuple[np.ndarray, bytes]:
        """The subsets at these positions of a list, as an array and as bytes to look in."""
        made = self._made.get((m, first))
        if made is None:
            beside = np.delete(self._wanted, m)[:, None]
            equal = (self._others[m, :, first:end] == beside).view(np.uint8)
            marks = np.bitwise_or.reduce(equal * self._bits[m], axis=0)
            marks |= np.uint8(1 << m)
            made = self._made[m, first] = (marks, marks.tobytes())
        return made


def keep_allowed(rows: np.ndarray, allowed: np.ndarray | None) -> np.ndarray:
    """The rows that a mask allows; all of them without a mask."""
    return rows if allowed is None else rows[allowed[rows]]


def compiled_walk() -> Callable[..., Any]:
    """The walk over the lists in numba.

    Raises:
        MissingExtraError: If numba is not installed.
    """
    try:
        import_module("numba")
    except ImportError:
        raise MissingExtraError(
            "the compiled lookup needs numba: pip install 'talkplay-hf[speed]'"
        ) from None
    walk: Callable[..., Any] = import_module("talkplay_hf.recommend.lookup.compiled").walk
    return walk
