"""Exact ranking of a catalogue by the probability of its code tuples (paper 4.4).

A prefix of a code tuple is at least as likely as whatever begins with it. So prefixes are expanded
from the most likely one down, and none that is less likely than the last track of the list.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from transformers import PreTrainedModel

from talkplay_hf.errors import ConfigError
from talkplay_hf.recommend.decoding.beams import RankedCodes
from talkplay_hf.recommend.decoding.frontier import share_prefixes
from talkplay_hf.recommend.decoding.tree import TokenTree
from talkplay_hf.recommend.grammar import MusicVocabulary
from talkplay_hf.tokens.allowed import Allowed
from talkplay_hf.tokens.index import CatalogIndex

# log-probabilities this close are ties
TIE = 1e-4
# prefixes that are expanded in one forward pass
ROWS_AT_A_TIME = 256
# keys and values of expanded prefixes that may be held at a time
BYTES_OF_ANCESTORS = 1 << 30


@dataclass(frozen=True)
class ExactRanking(RankedCodes):
    """The most likely code tuples of a catalogue, in falling order of score.

    Args:
        expanded (`int`): Prefixes after which the model was asked for the next code, the empty one
            among them.
    """

    codes: np.ndarray
    scores: np.ndarray
    expanded: int


def rank_exactly(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    vocabulary: MusicVocabulary,
    index: CatalogIndex,
    *,
    k: int | None,
    allowed: Allowed | None = None,
    rows: int = ROWS_AT_A_TIME,
) -> list[ExactRanking]:
    """The tuples of the `k` most likely tracks after each prompt, among all of the catalogue.

    A tuple that several allowed tracks share counts as that many, and all tuples that score at
    most `TIE` less than that of the `k`-th track are there. Prompts that are prefixes of one
    another (all turns of a dialogue) are read together.

    How much is expanded depends on the model: every prefix that is more likely than the `k`-th
    track. That is little of the trie where a model is sure of itself, most of it where all tracks
    are about as likely. The list does not depend on it, the time does.

    Args:
        model (`PreTrainedModel`): A model for which `why_unsupported` says nothing.
        prompts (`Sequence[Sequence[int]]`): Ids up to `<start_of_music>`, which they end with.
        vocabulary (`MusicVocabulary`): Where the music tokens stand.
        index (`CatalogIndex`): The catalogue, on the device of the model.
        k (`int`, *optional*): How many tracks; `None` scores every allowed track.
        allowed (`Allowed`, *optional*): Only these tracks, one chat a prompt.
        rows (`int`): Prefixes that are expanded in one forward pass.

    Returns:
        `list[ExactRanking]`: One a prompt.

    Raises:
        ConfigError: If `k` or `rows` is not positive.
    """
    found: list[ExactRanking | None] = [None] * len(prompts)
    for sequence, members in zip(*share_prefixes(prompts), strict=True):
        tree = TokenTree(model)
        hidden = tree.read([sequence])[0]
        # the longest comes first: what it has more of is forgotten for the next
        for number in members:
            length = len(prompts[number])
            tree.forget(length)
            found[number] = rank_here(
                tree,
                hidden[length - 1],
                vocabulary,
                index,
                k=k,
                allowed=allowed,
                chat=number,
                rows=rows,
            )
    return [one for one in found if one is not None]


def rank_here(
    tree: TokenTree,
    hidden: torch.Tensor,
    vocabulary: MusicVocabulary,
    index: CatalogIndex,
    *,
    k: int | None,
    allowed: Allowed | None = None,
    chat: int = 0,
    rows: int = ROWS_AT_A_TIME,
) -> ExactRanking:
    """`rank_exactly` after the one sequence that a tree holds, which it is left with.

    Args:
        tree (`TokenTree`): What was read, up to `<start_of_music>`.
        hidden (`torch.Tensor` of shape `[width]`): Hidden state at its last token.
        vocabulary (`MusicVocabulary`): Where the music tokens stand.
        index (`CatalogIndex`): The catalogue, on the device of the model.
        k (`int`, *optional*): How many tracks; `None` scores every allowed track.
        allowed (`Allowed`, *optional*): Only these tracks.
        chat (`int`): Which chat of `allowed` this is.
        rows (`int`): Prefixes that are expanded in one forward pass.

    Raises:
        ConfigError: If `k` or `rows` is not positive.
    """
    if k is not None and k < 1:
        raise ConfigError(f"k {k}: rank at least one track")
    if rows < 1:
        raise ConfigError(f"rows {rows}: expand at least one prefix at a time")
    search = _Search(tree, vocabulary, index, k, allowed, chat, rows)
    expanded = search.run(hidden)
    best = search.leaves.scores.argsort(descending=True, stable=True)
    codes, scores = search.leaves.codes[best].cpu().numpy(), search.leaves.scores[best]
    return ExactRanking(codes, scores.cpu().numpy(), expanded)


@dataclass
class _Nodes:
    """Nodes of one level of the trie: what they score, their tracks, and how they are reached."""

    scores: torch.Tensor  # [nodes], float64
    spans: torch.Tensor  # [nodes, 2], first and end in the index
    codes: torch.Tensor  # [nodes, level]
    slots: torch.Tensor  # [nodes, level - 1], where their ancestors are held

    def __len__(self) -> int:
        return len(self.scores)

    def __getitem__(self, which: torch.Tensor) -> "_Nodes":
        return _Nodes(self.scores[which], self.spans[which], self.codes[which], self.slots[which])

    def __add__(self, other: "_Nodes") -> "_Nodes":
        if not len(self) or not len(other):
            return self if len(self) else other
        return _Nodes(
            torch.cat([self.scores, other.scores]),
            torch.cat([self.spans, other.spans]),
            torch.cat([self.codes, other.codes]),
            torch.cat([self.slots, other.slots]),
        )

    @classmethod
    def none(cls, level: int, device: torch.device) -> "_Nodes":
        def whole(*shape: int) -> torch.Tensor:
            return torch.zeros(shape, dtype=torch.int64, device=device)

        slots = whole(0, max(level - 1, 0))
        return cls(whole(0).double(), whole(0, 2), whole(0, level), slots)


class _Ancestors:
    """Keys and values of expanded nodes, out of the way of those that do not descend from them."""

    def __init__(self, tree: TokenTree, at_least: int) -> None:
        layers = tree.cache.layers
        _, heads, _, width = layers[0].keys.shape
        self._shape = (len(layers), 2, heads, width)
        column = int(np.prod(self._shape)) * layers[0].keys.element_size()
        self._most = BYTES_OF_ANCESTORS // column
        self._held = layers[0].keys.new_empty(at_least, *self._shape)
        self.free = torch.arange(at_least, device=tree.device)

    def reclaim(self, slots: Sequence[torch.Tensor]) -> None:
        """Free all slots but these."""
        unused = torch.ones(len(self._held), dtype=torch.bool, device=self.free.device)
        for one in slots:
            unused[one.flatten()] = False
        self.free = unused.nonzero()[:, 0]

    def enlarge(self) -> None:
        """Double the number of slots, as far as memory is granted."""
        have = len(self._held)
        more = min(have, self._most - have)
        if more > 0:
            self._held = torch.cat([self._held, self._held.new_empty(more, *self._shape)])
            added = torch.arange(have, have + more, device=self.free.device)
            self.free = torch.cat([self.free, added])

    def lend(self, tree: TokenTree, slots: torch.Tensor) -> None:
        """Append columns to those of a tree."""
        columns = self._held[slots].permute(1, 2, 3, 0, 4)[:, :, None]
        for layer, (keys, values) in zip(tree.cache.layers, columns, strict=True):
            layer.keys = torch.cat([layer.keys, keys], dim=2)
            layer.values = torch.cat([layer.values, values], dim=2)

    def take(self, tree: TokenTree, first: int, end: int) -> torch.Tensor:
        """Hold columns of a tree; returns their slots."""
        slots, self.free = self.free[: end - first], self.free[end - first :]
        for number, layer in enumerate(tree.cache.layers):
            self._held[slots, number, 0] = layer.keys[0, :, first:end].transpose(0, 1)
            self._held[slots, number, 1] = layer.values[0, :, first:end].transpose(0, 1)
        return slots


class _Search:
    """Best-first search for the tuples of the `k` most likely tracks after one prompt."""

    def __init__(
        self,
        tree: TokenTree,
        vocabulary: MusicVocabulary,
        index: CatalogIndex,
        k: int | None,
        allowed: Allowed | None,
        chat: int,
        rows: int,
    ) -> None:
        self.tree, self.index, self.allowed = tree, index, allowed
        self.k, self.chat, self.rows = k, chat, rows
        self.offsets = vocabulary.offsets
        self.prompt = tree.columns
        # at level l the nodes that were reached and are not expanded
        self.open = [_Nodes.none(level, tree.device) for level in range(index.depth)]
        self.leaves = _Nodes.none(index.depth, tree.device)
        # nothing below this score is of any use
        self.floor = -torch.inf
        # in the order of depth no more than this many slots are taken
        self.reserve = 2 * index.depth * rows
        self.ancestors = _Ancestors(tree, self.reserve)

    def run(self, hidden: torch.Tensor) -> int:
        """Search from the hidden state after the prompt; returns how many nodes were expanded."""
        root = _Nodes.none(0, self.tree.device)
        root.scores = root.scores.new_zeros(1)
        root.spans = root.spans.new_tensor([[0, self.index.tracks]])
        root.codes, root.slots = root.codes.new_zeros(1, 0), root.slots.new_zeros(1, 0)
        self._expand([root], hidden[None])
        expanded = 1
        while batch := self._choose(min(self.rows, max(8, expanded))):
            self._expand(*self._feed(batch))
            expanded += sum(map(len, batch))
        return expanded

    def _choose(self, most: int) -> list[_Nodes]:
        """Take the most likely open nodes, or the deepest ones where memory is short."""
        self.open = [nodes[nodes.scores >= self.floor] for nodes in self.open]
        if len(self.ancestors.free) < self.reserve:
            self.ancestors.reclaim([nodes.slots for nodes in self.open])
        if len(self.ancestors.free) < self.reserve and self.k is not None:
            self.ancestors.enlarge()
        by_depth = self.k is None or len(self.ancestors.free) < self.reserve
        scores = torch.cat([nodes.scores for nodes in self.open])
        if by_depth:
            chosen = self._deepest(most)
        else:
            chosen = torch.zeros_like(scores, dtype=torch.bool)
            chosen[scores.topk(min(most, len(scores))).indices] = True
        sizes = [len(nodes) for nodes in self.open]
        batch = []
        for level, which in enumerate(torch.split(chosen, sizes)):
            if which.any():
                batch.append(self.open[level][which])
                self.open[level] = self.open[level][~which]
        return batch

    def _deepest(self, most: int) -> torch.Tensor:
        chosen = []
        for nodes in reversed(self.open):
            which = torch.zeros_like(nodes.scores, dtype=torch.bool)
            which[nodes.scores.topk(min(most, len(nodes))).indices] = True
            most -= min(most, len(nodes))
            chosen.append(which)
        return torch.cat(chosen[::-1])

    def _feed(self, batch: list[_Nodes]) -> tuple[list[_Nodes], torch.Tensor]:
        """Feed the last token of nodes; returns them with their own slots, and hidden states."""
        tree, prompt = self.tree, self.prompt
        slots = torch.cat([nodes.slots.flatten() for nodes in batch])
        used, places = torch.unique(slots, return_inverse=True)
        self.ancestors.lend(tree, used)
        rows = sum(map(len, batch))
        visible = torch.zeros(rows, tree.columns, dtype=torch.bool, device=tree.device)
        visible[:, :prompt] = True
        tokens, positions = [], []
        row = at = 0
        for nodes in batch:
            count, level = nodes.codes.shape
            mine = places[at : at + nodes.slots.numel()].view(count, level - 1)
            visible[row : row + count].scatter_(1, prompt + mine, True)
            tokens.append(nodes.codes[:, -1] + self.offsets[level - 1])
            positions.append(torch.full_like(tokens[-1], prompt + level - 1))
            row, at = row + count, at + nodes.slots.numel()
        hidden = tree.grow(torch.cat(tokens)[None], torch.cat(positions)[None], visible[None])[0]
        column = prompt + len(used)
        fed = []
        for nodes in batch:
            count, level = nodes.codes.shape
            own = nodes.slots.new_zeros(count)
            # the children of the last inner level are leaves, which are not fed
            if level + 1 < self.index.depth:
                own = self.ancestors.take(tree, column, column + count)
            column += count
            slots = torch.cat([nodes.slots, own[:, None]], dim=1)
            fed.append(_Nodes(nodes.scores, nodes.spans, nodes.codes, slots))
        tree.forget(prompt)
        return fed, hidden

    def _expand(self, batch: list[_Nodes], hidden: torch.Tensor) -> None:
        """Add the children of nodes, given the hidden states after them."""
        start = self.offsets[0]
        log_probs = self.tree.log_probs(hidden, start, self.offsets[-1])
        at = 0
        for nodes in batch:
            level = nodes.codes.shape[1]
            first = self.offsets[level] - start
            end = self.offsets[level + 1] - start
            children = self._children(nodes, log_probs[at : at + len(nodes), first:end])
            at += len(nodes)
            if level + 1 < self.index.depth:
                self.open[level + 1] += children
            else:
                self._finish(children)

    def _children(self, nodes: _Nodes, log_probs: torch.Tensor) -> _Nodes:
        level = nodes.codes.shape[1]
        row, code, first, end = self.index.children(level, nodes.spans[:, 0], nodes.spans[:, 1])
        scores = nodes.scores[row] + log_probs[row, code]
        good = scores >= self.floor
        if self.allowed is not None:
            good &= self._tracks(first, end) > 0
        row, code, first, end = row[good], code[good], first[good], end[good]
        return _Nodes(
            scores[good],
            torch.stack([first, end], dim=1),
            torch.cat([nodes.codes[row], code[:, None]], dim=1),
            nodes.slots[row],
        )

    def _tracks(self, first: torch.Tensor, end: torch.Tensor) -> torch.Tensor:
        if self.allowed is None:
            return end - first
        return self.allowed.counts(torch.full_like(first, self.chat), first, end)

    def _finish(self, leaves: _Nodes) -> None:
        """Add leaves, and raise the floor to the score of the `k`-th track."""
        self.leaves += leaves
        if self.k is None:
            return
        scores, order = self.leaves.scores.sort(descending=True, stable=True)
        spans = self.leaves.spans[order]
        enough = self._tracks(spans[:, 0], spans[:, 1]).cumsum(0) >= self.k
        if enough.any():
            self.floor = float(scores[enough.int().argmax()]) - TIE
            self.leaves = self.leaves[self.leaves.scores >= self.floor]
