"""The catalogue as a flat trie over code tuples, in a few sorted arrays.

The codes of a track are packed into one integer, so that the tracks that share a prefix stand next
to each other in sorted order. A node of the trie is then a range of positions, found by a binary
search, and every step over many nodes is a few vectorised operations.
"""

import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from talkplay_hf.errors import ArtifactError, ConfigError, InputError, first_line
from talkplay_hf.hub import files

if TYPE_CHECKING:
    from talkplay_hf.tokens.allowed import Allowed

MAX_BITS = 62
# a deep level has almost a node a track; its nodes are read off the keys instead of being kept
KEPT_SHARE = 0.7
# positions kept over all levels, and bytes of the table of pairs, by track: with them the index has
# 24 bytes a track at most
KEPT, PAIRS = 1.7, 1.1


class CatalogIndex:
    """A flat trie over the code tuples of a catalogue (paper 4.4).

    At most 24 bytes a track, whatever the codes are.

    Args:
        codes (`np.ndarray` of shape `[n, modalities]`, int): Codes of every track.
        sizes (`Sequence[int]`): Codebook size K per modality.

    Attributes:
        sizes (`tuple[int, ...]`): Codebook size per modality.
        depth (`int`): Number of modalities.
        tracks (`int`): Number of tracks n.
        keys (`torch.Tensor` of shape `[n]`, int64): Packed codes in sorted order.
        order (`torch.Tensor` of shape `[n]`, int32): Catalog row at each position; tracks of one
            tuple by ascending row.
        position (`torch.Tensor` of shape `[n]`, int32): Position of each catalog row.
        starts (`tuple[torch.Tensor | None, ...]`): Per level, where its nodes begin, int32, with
            one end mark; `None` for a level that is read off the keys.

    Raises:
        ConfigError: If a code tuple does not fit 62 bits.
        InputError: If the codes are not a table of codes of these codebooks.
    """

    def __init__(self, codes: np.ndarray, sizes: Sequence[int]) -> None:
        self._shape(sizes)
        if codes.ndim != 2 or codes.shape[1] != self.depth:
            raise InputError(f"codes of shape {codes.shape}: must be [tracks, {self.depth}]")
        if ((codes < 0) | (codes >= np.asarray(self.sizes))).any():
            raise InputError(f"there are codes beyond the codebooks {self.sizes}")
        self.keys, order = torch.sort(torch.from_numpy(self.pack(codes)), stable=True)
        self.order = order.int()
        self.position = torch.empty_like(self.order)
        self.position[order] = torch.arange(len(order), dtype=torch.int32)
        self.starts = self._starts(self.keys.numpy())

    def _shape(self, sizes: Sequence[int]) -> None:
        self.sizes = tuple(int(size) for size in sizes)
        self.depth = len(self.sizes)
        bits = [(size - 1).bit_length() for size in self.sizes]
        if sum(bits) > MAX_BITS:
            raise ConfigError(
                f"codebooks of {self.sizes} codes need {sum(bits)} bits a track; the catalogue "
                f"index holds {MAX_BITS}"
            )
        # how far left the code of each level stands in a key
        self._shifts = [sum(bits[level + 1 :]) for level in range(self.depth)]
        self._bits = bits
        self._limits = torch.tensor(self.sizes)
        self._shift_row = torch.tensor(self._shifts)

    def pack(self, codes: np.ndarray) -> np.ndarray:
        """The keys of code tuples.

        Args:
            codes (`np.ndarray` of shape `[b, modalities]`, int): Codes within the codebooks.

        Returns:
            `np.ndarray` of shape `[b]`, int64.
        """
        keys = np.zeros(len(codes), dtype=np.int64)
        for level, bits in enumerate(self._bits):
            keys <<= bits
            keys |= codes[:, level]
        return keys

    def key(self, codes: Sequence[int]) -> int:
        """The key of one code tuple; of a prefix, the first that a track below it can have."""
        return sum(code << by for code, by in zip(codes, self._shifts, strict=False))

    def _starts(self, keys: np.ndarray) -> tuple[torch.Tensor | None, ...]:
        n = len(keys)
        budget = KEPT * n
        starts: list[torch.Tensor | None] = []
        for shift in self._shifts:
            prefix = keys >> shift
            found = np.flatnonzero(np.append(n > 0, prefix[1:] != prefix[:-1])[:n])
            kept = len(found) <= min(KEPT_SHARE * n, budget)
            if kept:
                budget -= len(found)
                found = np.append(found, n)
            starts.append(torch.from_numpy(found.astype(np.int32)) if kept else None)
        return tuple(starts)

    @property
    def tracks(self) -> int:
        """Number of tracks n."""
        return len(self.keys)

    @property
    def device(self) -> torch.device:
        """Where the arrays are."""
        return self.keys.device

    @property
    def nbytes(self) -> int:
        """Size of all arrays, in bytes."""
        pairs = 0 if self._pairs is None else self._pairs.nbytes
        return pairs + sum(tensor.nbytes for tensor in self._tensors().values())

    def _tensors(self) -> dict[str, torch.Tensor]:
        levels = {f"starts.{m}": kept for m, kept in enumerate(self.starts) if kept is not None}
        return {"keys": self.keys, "order": self.order, "position": self.position, **levels}

    @cached_property
    def _pairs(self) -> torch.Tensor | None:
        """Which second codes follow each first one, bool; `None` where it would be too large.

        Below a frequent first code stand hundreds of second ones, and nothing finds them as fast.
        """
        if self.depth < 2 or self.sizes[0] * self.sizes[1] > PAIRS * self.tracks:
            return None
        pairs = torch.unique_consecutive(self.keys >> self._shifts[1])
        table = torch.zeros(self.sizes[:2], dtype=torch.bool, device=self.device)
        table[pairs >> self._bits[1], pairs & ((1 << self._bits[1]) - 1)] = True
        return table

    @classmethod
    def _from(cls, tensors: dict[str, torch.Tensor], sizes: Sequence[int]) -> "CatalogIndex":
        index = cls.__new__(cls)
        index._shape(sizes)
        index.keys, index.order = tensors["keys"], tensors["order"]
        index.position = tensors["position"]
        index.starts = tuple(tensors.get(f"starts.{m}") for m in range(index.depth))
        index._limits = index._limits.to(index.device)
        index._shift_row = index._shift_row.to(index.device)
        return index

    def to(self, device: torch.device | str) -> "CatalogIndex":
        """The same index on a device; itself where it is there already."""
        if self.device == torch.device(device):
            return self
        return self._from({k: v.to(device) for k, v in self._tensors().items()}, self.sizes)

    def save(self, path: str | Path) -> None:
        """Write the index to a safetensors file; the same codes give the same bytes."""
        path = Path(path)
        # one entry, since several would be written in no fixed order
        facts = {"format_version": files.FORMAT_VERSION, "sizes": self.sizes}
        tensors = {name: tensor.cpu() for name, tensor in self._tensors().items()}
        aside = path.with_name(f".{path.name}.aside")
        try:
            save_file(tensors, aside, metadata={"catalog_index": json.dumps(facts)})
            files.put_in_place(aside, path)
        except BaseException:
            aside.unlink(missing_ok=True)
            raise

    @classmethod
    def load(cls, path: str | Path) -> "CatalogIndex":
        """Map an index file into memory; nothing is read before it is used.

        Raises:
            ArtifactError: If the file is missing, damaged or of another format version.
        """
        try:
            with safe_open(path, framework="pt") as handle:
                facts = json.loads((handle.metadata() or {})["catalog_index"])
                tensors = {name: handle.get_tensor(name) for name in handle.keys()}  # noqa: SIM118
            files.check_format_version(Path(path), facts)
            index = cls._from(tensors, facts["sizes"])
        except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
            raise ArtifactError(f"{path}: is not a catalogue index ({first_line(error)})") from None
        types = {"keys": torch.int64}
        for name, tensor in tensors.items():
            whole = tensor.shape == index.keys.shape or name.startswith("starts.")
            if tensor.dtype != types.get(name, torch.int32) or tensor.ndim != 1 or not whole:
                raise ArtifactError(f"{path}: {name} does not belong to a catalogue index")
        return index

    def fits(self, codes: np.ndarray) -> bool:
        """Whether this is the index of these codes.

        Args:
            codes (`np.ndarray` of shape `[n, modalities]`, int): Codes of every track.
        """
        if codes.shape != (self.tracks, self.depth):
            return False
        position, rows = self.position.cpu().numpy(), np.arange(self.tracks)
        if self.tracks and not 0 <= position.min() <= position.max() < self.tracks:
            return False
        keys, order = self.keys.cpu().numpy(), self.order.cpu().numpy()
        return bool((order[position] == rows).all() and (keys[position] == self.pack(codes)).all())

    def ranges(self, prefixes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The positions of the tracks that begin with code prefixes.

        Args:
            prefixes (`torch.Tensor` of shape `[b, level]`, int64): Code prefixes.

        Returns:
            `tuple[torch.Tensor, torch.Tensor]`: First position and end, int64 `[b]`; equal where no
            track begins so.
        """
        b, level = prefixes.shape
        if not level:
            first = torch.zeros(b, dtype=torch.int64, device=self.device)
            return first, torch.full_like(first, self.tracks)
        step = 1 << self._shifts[level - 1]
        if b == 1:
            # one row is a matter of microseconds, which a dozen small operations would double
            codes = prefixes[0].tolist()
            legal = all(0 <= code < size for code, size in zip(codes, self.sizes, strict=False))
            low_key = self.key(codes)
            bounds = [[low_key], [low_key + step]] if legal else [[0], [0]]
            first, end = torch.searchsorted(self.keys, torch.tensor(bounds, device=self.device))
            return first, end
        known = ((prefixes >= 0) & (prefixes < self._limits[:level])).all(1)
        low = (prefixes << self._shift_row[:level]).sum(1)
        first, end = torch.searchsorted(self.keys, torch.stack([low, low + step]))
        return first, torch.where(known, end, first)

    def children(
        self, level: int, first: torch.Tensor, end: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """The child nodes of several nodes.

        Args:
            level (`int`): Level of the children: 0 under the root, whose range is `[0, n)`.
            first (`torch.Tensor` of shape `[b]`, int64): First position of each node.
            end (`torch.Tensor` of shape `[b]`, int64): Its end; a node without tracks has no child.

        Returns:
            `tuple` of four `torch.Tensor` of shape `[c]`, int64: For each child which node it
            belongs to, its code, its first position and its end; by node, then by ascending code.
        """
        starts = self.starts[level]
        if starts is None:
            return self._children_of_keys(level, first, end)
        if len(first) == 1:
            bounds = torch.cat([first, end]).int()
            low_at, high_at = torch.searchsorted(starts, bounds).tolist()
            edges = starts[low_at : high_at + 1].long()
            begin, stop = edges[:-1], edges[1:]
            return torch.zeros_like(begin), self._code(level, self.keys[begin]), begin, stop
        low, high = torch.searchsorted(starts, torch.stack([first, end]).int(), out_int32=False)
        row, at = _expand(low, high)
        begin = starts[at].long()
        return row, self._code(level, self.keys[begin]), begin, starts[at + 1].long()

    def _code(self, level: int, keys: torch.Tensor) -> torch.Tensor:
        return (keys >> self._shifts[level]) & ((1 << self._bits[level]) - 1)

    def _children_of_keys(
        self, level: int, first: torch.Tensor, end: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Children where their starts are not kept: scan a node's tracks, or try every code."""
        size, last = self.sizes[level], max(self.tracks - 1, 0)
        if len(first) == 1 and 0 < (span := int(end) - int(first)) <= size:
            code = self._code(level, self.keys[int(first) : int(end)])
            begin, stop = first, end
            if span > 1:
                new = torch.cat([code[:1] >= 0, code[1:] != code[:-1]]).nonzero()[:, 0]
                code, begin = code[new], new + first
                stop = torch.cat([begin[1:], end])
            return torch.zeros_like(code), code, begin, stop
        wide = end - first > size
        row, at = _expand(torch.zeros_like(first), (end - first).clamp(max=size))
        begin = first[row] + at
        tried = None
        if bool(wide.any()):
            tried = wide[row]
            above = self._shifts[level] + self._bits[level]
            stem = (self.keys[first.clamp(max=last)] >> above) << above
            wanted = stem[row] + (at << self._shifts[level])
            begin = torch.where(tried, torch.searchsorted(self.keys, wanted), begin)
        keys = self.keys[begin.clamp(max=last)]
        code = self._code(level, keys)
        before = self.keys[(begin - 1).clamp(min=0, max=last)]
        kept = (begin == first[row]) | (
            keys >> self._shifts[level] != before >> self._shifts[level]
        )
        if tried is not None:
            kept &= ~tried | ((code == at) & (begin < end[row]))
        row, code, begin = row[kept], code[kept], begin[kept]
        stop = end[row]
        same = row[1:] == row[:-1]
        stop[:-1] = torch.where(same, begin[1:], stop[:-1])
        return row, code, begin, stop

    def mask(
        self,
        prefixes: torch.Tensor,
        allowed: "Allowed | None" = None,
        chats: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """The next codes that lead to an allowed track.

        Args:
            prefixes (`torch.Tensor` of shape `[b, level]`, int64): Code prefixes, one length.
            allowed (`Allowed`, *optional*): Only these tracks; all when left out.
            chats (`torch.Tensor` of shape `[b]`, int64, *optional*): Whose allowed tracks hold for
                each prefix; those of chat 0 when left out.

        Returns:
            `torch.Tensor` of shape `[b, sizes[level]]`, bool: Not to be written to.
        """
        b, level = prefixes.shape
        if level:
            return self._mask(level, *self.ranges(prefixes), allowed, chats)
        # the root is the same for all prefixes of a chat
        number = 1 if allowed is None else allowed.chats
        everyone = torch.arange(number, device=self.device)
        roots = self._mask(0, *self.ranges(prefixes.new_empty(number, 0)), allowed, everyone)
        return roots[:1].expand(b, -1) if chats is None or number == 1 else roots[chats]

    def _mask(
        self,
        level: int,
        first: torch.Tensor,
        end: torch.Tensor,
        allowed: "Allowed | None",
        chats: torch.Tensor | None,
    ) -> torch.Tensor:
        mask = torch.zeros(len(first), self.sizes[level], dtype=torch.bool, device=self.device)
        pairs = self._pairs if level == 1 else None
        if allowed is None:
            if pairs is not None:
                known = (end > first)[:, None]
                return known & pairs[self._code(0, self.keys[first.clamp(max=self.tracks - 1)])]
            low, high = (int(first), int(end)) if len(first) == 1 else (0, self.tracks)
            if len(first) == 1 and high - low <= self.sizes[level]:
                # every track names its code, which saves finding out where the nodes begin
                mask[0, self._code(level, self.keys[low:high])] = True
                return mask
            row, code, _, _ = self.children(level, first, end)
            mask.view(-1).index_fill_(0, row * self.sizes[level] + code, True)
            return mask
        if chats is None:
            chats = torch.zeros_like(first)
        if len(first) == 1:
            row, code, begin, stop = self.children(level, first, end)
            left = allowed.counts(chats.expand(len(code)), begin, stop)
            mask[0, code] = left > 0
            return mask
        left = allowed.counts(chats, first, end)
        if pairs is not None:
            whole = ((left == end - first) & (left > 0)).nonzero()[:, 0]
            mask[whole] = pairs[self._code(0, self.keys[first[whole]])]
            end = end.index_copy(0, whole, first[whole])
        row, code, begin, stop = self.children(level, first, torch.where(left > 0, end, first))
        # under a node that has lost no track every child is allowed
        mask.view(-1).index_fill_(0, row * self.sizes[level] + code, True)
        doubtful = (left < end - first)[row].nonzero()[:, 0]
        row, code = row[doubtful], code[doubtful]
        mask[row, code] = allowed.counts(chats[row], begin[doubtful], stop[doubtful]) > 0
        return mask


def _expand(low: torch.Tensor, high: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Every number of several ranges, and which range it is of."""
    counts = high - low
    row = torch.repeat_interleave(counts)
    shift = low - counts.cumsum(0) + counts
    return row, shift[row] + torch.arange(len(row), device=low.device)
