"""Which tracks stand in which playlists, as integers: small enough for a million playlists."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow.compute as pc
from scipy import sparse

from talkplay_hf.catalog.schema import Catalog


@dataclass(frozen=True)
class Membership:
    """The track rows of each playlist, in order, repeats included.

    Args:
        starts (`np.ndarray` of shape `[playlists + 1]`, int64): Where each playlist starts in
            `rows`.
        rows (`np.ndarray` of shape `[entries]`, int32): Catalog rows of the tracks.
        n_tracks (`int`): Tracks in the catalog.
    """

    starts: np.ndarray
    rows: np.ndarray
    n_tracks: int

    def __len__(self) -> int:
        return len(self.starts) - 1

    def __getitem__(self, playlist: int) -> np.ndarray:
        return self.rows[self.starts[playlist] : self.starts[playlist + 1]]

    @cached_property
    def lengths(self) -> np.ndarray:
        """Entries of each playlist, repeats included, as int64 `[playlists]`."""
        return np.diff(self.starts)

    def select(self, playlists: np.ndarray) -> "Membership":
        """The membership of some playlists only, by a mask or by positions."""
        chosen = np.arange(len(self))[playlists]
        lengths = self.lengths[chosen]
        starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        at = np.arange(starts[-1]) + np.repeat(self.starts[chosen] - starts[:-1], lengths)
        return Membership(starts, self.rows[at], self.n_tracks)

    def incidence(self) -> sparse.csr_matrix:
        """The matrix `[playlists, tracks]`, float32, 1 where a playlist holds a track."""
        data = np.ones(len(self.rows), dtype=np.float32)
        shape = (len(self), self.n_tracks)
        matrix = sparse.csr_matrix((data, self.rows, self.starts), shape=shape, copy=True)
        matrix.sum_duplicates()
        matrix.data[:] = 1
        return matrix

    def tracks(self, playlists: np.ndarray | None = None) -> np.ndarray:
        """Which tracks stand in any of the playlists, as a bool mask `[tracks]`.

        Args:
            playlists (`np.ndarray` of shape `[playlists]`, bool, *optional*): Which playlists to
                look at; all by default. Nothing is copied, unlike with `select`.
        """
        rows = self.rows if playlists is None else self.rows[np.repeat(playlists, self.lengths)]
        mask = np.zeros(self.n_tracks, dtype=bool)
        mask[rows] = True
        return mask


def membership(catalog: Catalog) -> Membership:
    """The membership of all playlists of a catalog, in table order; unknown tracks are left out."""
    lists = catalog.playlists["track_ids"]
    lengths = pc.fill_null(pc.list_value_length(lists), 0).to_numpy().astype(np.int64)
    flat = pc.list_flatten(lists)
    ids = catalog.tracks["track_id"].combine_chunks()
    found = pc.fill_null(pc.index_in(flat, value_set=ids), -1).to_numpy().astype(np.int32)
    known = found >= 0
    if not known.all():
        owner = np.repeat(np.arange(len(lengths)), lengths)
        lengths = np.bincount(owner[known], minlength=len(lengths))
        found = found[known]
    starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return Membership(starts, found, len(catalog))
