"""Which tracks each of several chats may be given, counted over ranges of the catalogue index."""

from collections.abc import Sequence

import numpy as np
import torch

from talkplay_hf.errors import InputError
from talkplay_hf.tokens.index import CatalogIndex

# a mask that takes away at most this share of the tracks is kept as a list of them
FEW = 1 / 64


class Allowed:
    """The tracks that each of several chats may be given.

    Made by `of`. Chats that share a mask share one running count over the positions
    of the index; tracks that a chat alone must not be given are a sorted list.

    Attributes:
        chats (`int`): Number of chats.
    """

    def __init__(
        self,
        index: CatalogIndex,
        table_of: Sequence[int],
        masks: Sequence[np.ndarray],
        banned: Sequence[np.ndarray],
    ) -> None:
        """Use `of`.

        Args:
            index (`CatalogIndex`): The catalogue.
            table_of (`Sequence[int]`): Which mask holds for each chat.
            masks (`Sequence[np.ndarray]`): Masks over catalog rows; none where all are allowed.
            banned (`Sequence[np.ndarray]`): Per chat, catalog rows that its mask allows and that it
                must not be given.
        """
        n = index.tracks
        self.chats = len(table_of)
        self._stride = n + 1
        self._order = index.order
        device = index.device
        upto = torch.zeros(len(masks), n + 1, dtype=torch.int32)
        for table, mask in zip(upto, masks, strict=True):
            np.cumsum(mask[index.order.cpu().numpy()], out=table.numpy()[1:])
        self._upto = upto.to(device)
        self._table = torch.tensor(table_of, dtype=torch.int64, device=device)
        sizes = [len(rows) for rows in banned]
        rows = torch.from_numpy(np.concatenate([np.empty(0, dtype=np.int64), *banned])).to(device)
        chat = torch.repeat_interleave(
            torch.arange(self.chats, device=device), torch.tensor(sizes, device=device)
        )
        self._banned = torch.unique(chat * self._stride + index.position[rows])

    @classmethod
    def of(cls, index: CatalogIndex, masks: Sequence[np.ndarray | None]) -> "Allowed":
        """The tracks that masks allow.

        Args:
            index (`CatalogIndex`): The catalogue.
            masks (`Sequence[np.ndarray | None]`): Per chat, a mask over catalog rows, bool `[n]`;
                `None` allows all. Chats may share one.

        Raises:
            InputError: If a mask is not one value a track.
        """
        distinct = {id(mask): mask for mask in masks if mask is not None}
        if not distinct:
            return cls(index, [0] * len(masks), [], [np.empty(0, dtype=np.int64)] * len(masks))
        for mask in distinct.values():
            if mask.shape != (index.tracks,) or mask.dtype != bool:
                raise InputError(
                    f"a mask of {mask.dtype} and shape {mask.shape}: must be bool, one value for "
                    f"each of {index.tracks} tracks"
                )
        everything = np.ones(index.tracks, dtype=bool)
        most = FEW * index.tracks
        heavy = [mask for mask in distinct.values() if np.count_nonzero(~mask) > most]
        # chats under the same rules differ in what they have played
        together = np.logical_or.reduce(heavy) if heavy else everything
        tables: dict[int, np.ndarray] = {}
        own: dict[int, np.ndarray] = {}
        for key, mask in distinct.items():
            bases = (base for base in (everything, together) if (base & ~mask).sum() <= most)
            tables[key] = next(bases, mask)
            own[key] = np.flatnonzero(~mask & tables[key])
        kept = [tables.get(id(mask), everything) for mask in masks]
        banned = [own.get(id(mask), np.empty(0, dtype=np.int64)) for mask in masks]
        if all(table is everything for table in kept):
            return cls(index, [0] * len(masks), [], banned)
        shared = {id(table): table for table in kept}
        at = {key: number for number, key in enumerate(shared)}
        return cls(index, [at[id(table)] for table in kept], list(shared.values()), banned)

    def to(self, device: torch.device | str) -> "Allowed":
        """The same on a device; itself where it is there already."""
        if self._banned.device == torch.device(device):
            return self
        moved = object.__new__(type(self))
        moved.chats, moved._stride = self.chats, self._stride
        moved._order, moved._upto = self._order.to(device), self._upto.to(device)
        moved._table, moved._banned = self._table.to(device), self._banned.to(device)
        return moved

    def counts(self, chats: torch.Tensor, first: torch.Tensor, end: torch.Tensor) -> torch.Tensor:
        """How many tracks in ranges of positions are allowed.

        Args:
            chats (`torch.Tensor` of shape `[b]`, int64): The chat of each range.
            first (`torch.Tensor` of shape `[b]`, int64): First position of each range.
            end (`torch.Tensor` of shape `[b]`, int64): Its end.

        Returns:
            `torch.Tensor` of shape `[b]`, int64.
        """
        if len(self._upto):
            base = self._table[chats] * self._stride
            upto = self._upto.view(-1)
            found = (upto[base + end] - upto[base + first]).long()
        else:
            found = end - first
        if len(self._banned):
            base = chats * self._stride
            low, high = torch.searchsorted(self._banned, torch.stack([base + first, base + end]))
            found = found - (high - low)
        return found

    def totals(self) -> torch.Tensor:
        """How many tracks each chat may be given, int64 `[chats]`."""
        chats = torch.arange(self.chats, device=self._banned.device)
        first = torch.zeros_like(chats)
        return self.counts(chats, first, first + self._stride - 1)

    def tracks(self, chat: int, first: int, end: int) -> np.ndarray:
        """The allowed tracks of one chat in a range of positions.

        Args:
            chat (`int`): The chat.
            first (`int`): First position.
            end (`int`): Its end.

        Returns:
            `np.ndarray` of shape `[found]`, int64: Catalog rows, ascending.
        """
        kept = torch.ones(max(end - first, 0), dtype=torch.bool, device=self._banned.device)
        if len(self._upto):
            upto = self._upto[self._table[chat], first : end + 1]
            kept = upto[1:] > upto[:-1]
        low = chat * self._stride
        bounds = torch.tensor([low + first, low + end], device=self._banned.device)
        begin, stop = torch.searchsorted(self._banned, bounds).tolist()
        kept[self._banned[begin:stop] - low - first] = False
        rows = self._order[first:end][kept].cpu().numpy().astype(np.int64)
        return np.asarray(np.sort(rows))
