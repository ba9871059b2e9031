"""Which tracks of a catalog meet constraints: `satisfied`, a column at a time."""

from collections.abc import Iterable
from functools import cache, cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from scipy import sparse

from talkplay_hf.catalog.constraints import COMPARE, Constraint, number_of, texts_of
from talkplay_hf.catalog.schema import Catalog, release_year

BoolArray = NDArray[np.bool_]
# up to so many distinct values, their tracks are marked value by value
FEW = 64


class ConstraintMatcher:
    """Which tracks of a catalog meet constraints, with the same meaning as `satisfied`.

    A column is read once, when it is first asked for, into its distinct values and the tracks that
    hold each of them.

    Args:
        catalog (`Catalog`): The catalog.
    """

    def __init__(self, catalog: Catalog) -> None:
        self.catalog = catalog
        self._column = cache(self._read_column)

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """The columns that a constraint can be about: those of the table, and `year`."""
        return tuple(dict.fromkeys([*self.catalog.tracks.column_names, "year"]))

    def mask(self, constraints: Iterable[Constraint]) -> BoolArray:
        """Which tracks meet all constraints: `np.ndarray` of shape `[n]`, bool."""
        mask = np.ones(len(self.catalog), dtype=bool)
        for constraint in constraints:
            mask &= self._meeting(constraint)
        return mask

    def holding(self, field: str, texts: Iterable[str]) -> BoolArray:
        """Which tracks have one of several texts in a column, regardless of case.

        Args:
            field (`str`): A column of the catalog; none is met in one that it does not have.
            texts (`Iterable[str]`): The texts.

        Returns:
            `np.ndarray` of shape `[n]`, bool.
        """
        column = self._column(field)
        return column.tracks_of(column.spelled(texts))

    def distinct(self, field: str) -> list[Any]:
        """The distinct values of a column (for lists: of their items), without missing ones."""
        return [value for value in self._column(field).values if value is not None]

    def _meeting(self, constraint: Constraint) -> BoolArray:
        if constraint.op in ("is", "not"):
            met = self.holding(constraint.field, [constraint.value])
            return met if constraint.op == "is" else ~met
        column = self._column(constraint.field)
        # a missing number is NaN, which compares as false
        met = COMPARE[constraint.op](column.numbers, number_of(constraint.value))
        return column.tracks_of(np.flatnonzero(met))

    def _read_column(self, name: str) -> "_Column":
        table = self.catalog.tracks
        if name == "year":
            dates, rows = _encode(table["release_date"])
            years = pa.array([release_year(date) for date in dates], pa.int32())
            return _Column(years.take(rows))
        if name not in table.column_names:
            return _Column(pa.nulls(len(table)))
        return _Column(table[name])


class _Column:
    """A column turned over: its distinct values, and the tracks that hold each of them."""

    def __init__(self, column: pa.Array | pa.ChunkedArray) -> None:
        self._tracks = len(column)
        items, owners = _flatten(column)
        self._listed = owners is not None
        self.values, codes = _encode(items)
        if owners is None:
            owners = np.arange(self._tracks)
        valid = np.asarray(codes.is_valid())
        counts = np.bincount(owners[valid], minlength=self._tracks)
        held = np.asarray(codes.drop_null())
        # a sparse matrix of tracks by values, turned from rows to columns by a counting sort
        by_track = sparse.csr_array(
            (np.ones(len(held), dtype=bool), held, np.append(0, np.cumsum(counts))),
            shape=(self._tracks, len(self.values)),
        )
        by_value = by_track.tocsc()
        self._starts, self._rows = by_value.indptr, by_value.indices

    @cached_property
    def numbers(self) -> NDArray[np.float64]:
        """Each distinct value as a number, else NaN; a list is none whatever it holds."""
        found = [None if self._listed else number_of(value) for value in self.values]
        return np.array(found, dtype=np.float64)

    @cached_property
    def _texts(self) -> tuple[pa.Array, NDArray[np.int64]]:
        texts, codes = [], []
        for code, value in enumerate(self.values):
            for text in texts_of(value):
                texts.append(_key(text))
                codes.append(code)
        return pa.array(texts, pa.large_binary()), np.array(codes, dtype=np.int64)

    def spelled(self, texts: Iterable[str]) -> NDArray[np.int64]:
        """The codes of the values that one of the texts names."""
        known, codes = self._texts
        wanted = pa.array([_key(text.casefold()) for text in texts], pa.large_binary())
        named: NDArray[np.int64] = codes[np.asarray(pc.is_in(known, value_set=wanted))]
        return named

    def tracks_of(self, codes: NDArray[np.int64]) -> BoolArray:
        """Which tracks hold one of the values: `np.ndarray` of shape `[n]`, bool."""
        mask = np.zeros(self._tracks, dtype=bool)
        if len(codes) <= FEW:
            for code in codes:
                mask[self._rows[self._starts[code] : self._starts[code + 1]]] = True
        else:
            met = np.zeros(len(self.values), dtype=bool)
            met[codes] = True
            mask[self._rows[np.repeat(met, np.diff(self._starts))]] = True
        return mask


def _flatten(
    column: pa.Array | pa.ChunkedArray,
) -> tuple[pa.Array | pa.ChunkedArray, NDArray[np.int64] | None]:
    """The items of a column of lists (of lists) and the row of each; others as they are."""
    owners: NDArray[np.int64] | None = None
    while _is_list(column.type):
        array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
        parents = np.asarray(pc.list_parent_indices(array))
        owners = parents if owners is None else owners[parents]
        column = pc.list_flatten(array)
    return column, owners


def _is_list(kind: pa.DataType) -> bool:
    types = pa.types
    return bool(types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind))


def _encode(column: pa.Array | pa.ChunkedArray) -> tuple[list[Any], pa.Array]:
    """Distinct values, and which of them stands in each row (null where missing)."""
    try:
        encoded = column.dictionary_encode()
    except pa.ArrowNotImplementedError:  # structs and maps: each row is a value of its own
        return column.to_pylist(), pa.array(np.arange(len(column), dtype=np.int32))
    if isinstance(encoded, pa.ChunkedArray):
        encoded = encoded.combine_chunks()
    return encoded.dictionary.to_pylist(), encoded.indices


def _key(text: str) -> bytes:
    # an argument of the command line can hold half of a surrogate pair
    return text.encode("utf-8", "surrogatepass")
