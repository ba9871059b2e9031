"""The branches that are followed from the end of each prompt."""

from collections.abc import Sequence

import torch

from talkplay_hf.recommend.decoding.tree import TokenTree

# branches of a sequence in one forward pass: each has a row of a mask over all columns
FED_AT_A_TIME = 2048


def share_prefixes(
    prompts: Sequence[Sequence[int]],
) -> tuple[list[Sequence[int]], list[list[int]]]:
    """Group prompts that are prefixes of one another, such as the turns of a dialogue.

    Args:
        prompts (`Sequence[Sequence[int]]`): Token ids of each prompt.

    Returns:
        `tuple[list[Sequence[int]], list[list[int]]]`: The prompts that are no prefix of another,
        and for each the numbers of the prompts that are prefixes of it, itself among them.
    """
    order = sorted(range(len(prompts)), key=lambda number: tuple(prompts[number]), reverse=True)
    sequences: list[Sequence[int]] = []
    members: list[list[int]] = []
    for number in order:
        prompt = prompts[number]
        # in falling order a prompt comes right after those that it is a prefix of
        if sequences and list(sequences[-1][: len(prompt)]) == list(prompt):
            members[-1].append(number)
        else:
            sequences.append(prompt)
            members.append([number])
    return sequences, members


class Frontier:
    """Branches of prompts, all one token longer with each step.

    The prompts of a batch stand in a grid: one row a sequence of the tree, one column for each
    prompt that is a prefix of it; prompts that fill up a row are repeats and can be ignored.

    Args:
        tree (`TokenTree`): The sequences.
        lengths (`torch.Tensor` of shape `[rows, prompts]`, int64): Tokens of each prompt.
        hidden (`torch.Tensor` of shape `[rows, prompts, width]`): Hidden state at its last token.

    Attributes:
        hidden (`torch.Tensor` of shape `[rows, prompts, branches, width]`): Hidden states at the
            end of each branch.
        tokens (`torch.Tensor` of shape `[rows, prompts, branches, steps]`, int64): Its tokens.
        columns (`torch.Tensor` of shape `[rows, prompts, branches, fed]`, int64): Where the tree
            holds them, as far as they were fed.
    """

    def __init__(self, tree: TokenTree, lengths: torch.Tensor, hidden: torch.Tensor) -> None:
        self.tree = tree
        self.lengths = lengths
        self.hidden = hidden[:, :, None]
        shape = (*lengths.shape, 1, 0)
        self.tokens = torch.empty(shape, dtype=torch.int64, device=lengths.device)
        self.columns = torch.empty(shape, dtype=torch.int64, device=lengths.device)

    @classmethod
    def at(cls, tree: TokenTree, lengths: torch.Tensor, hidden: torch.Tensor) -> "Frontier":
        """The frontier at some prefixes of what was read.

        Args:
            tree (`TokenTree`): The sequences.
            lengths (`torch.Tensor` of shape `[rows, prompts]`, int64): Tokens of each prompt.
            hidden (`torch.Tensor` of shape `[rows, longest, width]`): What `TokenTree.read` gave.
        """
        last = (lengths - 1)[..., None].expand(-1, -1, hidden.shape[-1])
        return cls(tree, lengths, hidden.gather(1, last))

    @property
    def branches(self) -> int:
        """Number of branches of each prompt."""
        return int(self.tokens.shape[2])

    def choose(self, parents: torch.Tensor, tokens: torch.Tensor) -> None:
        """Replace the branches by continuations of them, which are not fed yet.

        Args:
            parents (`torch.Tensor` of shape `[rows, prompts, branches]`, int64): Which of the
                present branches each new one continues.
            tokens (`torch.Tensor` of the same shape, int64): The next token.
        """
        self.tokens = torch.cat([_take(self.tokens, parents), tokens[..., None]], dim=-1)
        self.columns = _take(self.columns, parents)

    def feed(self) -> torch.Tensor:
        """Feed the tokens that were chosen and not fed.

        Returns:
            `torch.Tensor` of shape `[rows, prompts, branches, tokens, width]`: Hidden state after
            each of them.
        """
        most = max(1, FED_AT_A_TIME // self.lengths.shape[1])
        parts = [
            self._feed_some(self.tokens[:, :, at : at + most], self.columns[:, :, at : at + most])
            for at in range(0, self.branches, most)
        ]
        hidden = torch.cat([states for states, _ in parts], dim=2)
        fed = torch.cat([columns for _, columns in parts], dim=2)
        self.hidden = hidden[..., -1, :]
        self.columns = torch.cat([self.columns, fed], dim=-1)
        return hidden

    def _feed_some(
        self, tokens: torch.Tensor, columns: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Feed some branches, given their tokens and columns: hidden states and new columns."""
        tree, (rows, prompts, branches, steps) = self.tree, tokens.shape
        done, used = columns.shape[-1], tree.columns
        count = steps - done
        visible = torch.arange(used, device=tree.device) < self.lengths[..., None]
        visible = visible[:, :, None].repeat(1, 1, branches, 1)
        visible.scatter_(-1, columns, True)
        positions = self.lengths[..., None] + torch.arange(done, steps, device=tree.device)
        hidden = tree.grow(
            tokens[..., done:].flatten(1),
            positions[:, :, None].expand(-1, -1, branches, -1).flatten(1),
            visible.flatten(1, 2).repeat_interleave(count, dim=1),
            chain=count,
        ).view(rows, prompts, branches, count, -1)
        fed = used + torch.arange(prompts * branches * count, device=tree.device)
        return hidden, fed.view(1, prompts, branches, count).expand(rows, -1, -1, -1)


def _take(values: torch.Tensor, parents: torch.Tensor) -> torch.Tensor:
    index = parents[..., None].expand(-1, -1, -1, values.shape[-1])
    return values.gather(2, index)
