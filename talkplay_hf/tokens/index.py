"""The catalogue as a flat trie over code tuples.

Tracks are sorted by their codes. The distinct prefixes of each length are *nodes*; the children of
a node are contiguous, so a level is three integer arrays and every step is a vectorised look-up.
"""

from collections.abc import Sequence

import numpy as np


class CatalogIndex:
    """A flat trie over the code tuples of a catalogue.

    Args:
        codes (`np.ndarray` of shape `[n, modalities]`, int): Codes of every track.
        sizes (`Sequence[int]`): Codebook size K per modality.

    Attributes:
        order (`np.ndarray` of shape `[n]`, int32): Track rows sorted by their codes.
        codes (`list[np.ndarray]`): Per level, the last code of each node.
        child_start (`list[np.ndarray]`): Per level, where the children of each node start in the
            next level, with one end mark. The children of the last level are positions in `order`.
    """

    def __init__(self, codes: np.ndarray, sizes: Sequence[int]) -> None:
        self.sizes = tuple(int(size) for size in sizes)
        self.depth = len(self.sizes)
        self.order = np.lexsort(codes.T[::-1]).astype(np.int32)
        ordered = codes[self.order]
        n = len(ordered)
        self.codes: list[np.ndarray] = []
        self.child_start: list[np.ndarray] = []
        changed = np.zeros(n, dtype=bool)
        starts: list[np.ndarray] = []
        for level in range(self.depth):
            changed[1:] |= ordered[1:, level] != ordered[:-1, level]
            changed[:1] = True
            starts.append(np.flatnonzero(changed).astype(np.int32))
            self.codes.append(ordered[starts[-1], level].astype(np.int32))
        for level in range(self.depth):
            below = starts[level + 1] if level + 1 < self.depth else np.arange(n, dtype=np.int32)
            first = np.searchsorted(below, starts[level]).astype(np.int32)
            self.child_start.append(np.append(first, np.int32(len(below))))
        self._track_start = starts
        # one sorted key per node: (parent, code), for a binary search among the children
        self._keys = []
        for level in range(self.depth):
            if level == 0:
                parent = np.zeros(len(self.codes[0]), dtype=np.int64)
            else:
                spans = np.diff(self.child_start[level - 1])
                parent = np.repeat(np.arange(len(spans), dtype=np.int64), spans)
            self._keys.append(parent * self.sizes[level] + self.codes[level])

    def step(self, level: int, nodes: np.ndarray, codes: np.ndarray) -> np.ndarray:
        """Follow one code from each node.

        Args:
            level (`int`): Level of the code, 0 for the first modality.
            nodes (`np.ndarray` of shape `[b]`, int): Nodes of the level above (0 for the root);
                -1 stays -1.
            codes (`np.ndarray` of shape `[b]`, int): The codes.

        Returns:
            `np.ndarray` of shape `[b]`, int64: The nodes reached, -1 where there is none.
        """
        keys = self._keys[level]
        legal = (nodes >= 0) & (codes >= 0) & (codes < self.sizes[level])
        wanted = np.where(legal, nodes.astype(np.int64) * self.sizes[level] + codes, -1)
        at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
        return np.where(keys[at] == wanted, at, -1)

    def find(self, prefixes: np.ndarray) -> np.ndarray:
        """The nodes of code prefixes.

        Args:
            prefixes (`np.ndarray` of shape `[b, length]`, int): Code prefixes.

        Returns:
            `np.ndarray` of shape `[b]`, int64: Nodes at that level, -1 where no track starts so.
        """
        nodes = np.zeros(len(prefixes), dtype=np.int64)
        for level in range(prefixes.shape[1]):
            nodes = self.step(level, nodes, prefixes[:, level])
        return nodes

    def children(self, level: int, nodes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The child nodes of several nodes.

        Args:
            level (`int`): Level of the children; their parents are the root (0) for level 0.
            nodes (`np.ndarray` of shape `[b]`, int): Parents; -1 has none.

        Returns:
            `tuple[np.ndarray, np.ndarray]`: For each child, the position of its parent in `nodes`,
            and its node.
        """
        if level == 0:
            first = np.zeros(len(nodes), dtype=np.int64)
            spans = np.where(nodes >= 0, len(self.codes[0]), 0)
        else:
            known = np.maximum(nodes, 0)
            first = self.child_start[level - 1][known].astype(np.int64)
            spans = np.where(nodes >= 0, self.child_start[level - 1][known + 1] - first, 0)
        parents = np.repeat(np.arange(len(nodes)), spans)
        ends = np.cumsum(spans)
        within = np.arange(int(spans.sum())) - np.repeat(ends - spans, spans)
        return parents, first[parents] + within

    def tracks(self, node: int) -> np.ndarray:
        """The rows of the tracks whose full tuple is this leaf node, as int32."""
        first, end = self.child_start[-1][node], self.child_start[-1][node + 1]
        return self.order[first:end]

    def alive(self, allowed: np.ndarray) -> list[np.ndarray]:
        """Which nodes lead to an allowed track.

        Args:
            allowed (`np.ndarray` of shape `[n]`, bool): Mask over tracks.

        Returns:
            `list[np.ndarray]`: One bool mask over nodes per level.
        """
        ordered = allowed[self.order]
        return [np.logical_or.reduceat(ordered, starts) for starts in self._track_start]
