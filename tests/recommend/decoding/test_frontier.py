"""Prompts that are prefixes of one another are found, and branches follow their own tokens."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_decoders import VOCABULARY, random_prompt, tiny_decoder

from talkplay_hf.recommend.decoding import frontier as frontier_module
from talkplay_hf.recommend.decoding.frontier import Frontier, share_prefixes
from talkplay_hf.recommend.decoding.tree import TokenTree

tokens = st.lists(st.integers(0, 2), min_size=1, max_size=6)


def starts_with(sequence: list[int], prompt: list[int]) -> bool:
    return sequence[: len(prompt)] == prompt


@given(prompts=st.lists(tokens, max_size=12))
def test_every_prompt_belongs_to_one_sequence_that_it_is_a_prefix_of(
    prompts: list[list[int]],
) -> None:
    sequences, members = share_prefixes(prompts)
    assert sorted(number for row in members for number in row) == list(range(len(prompts)))
    for sequence, row in zip(sequences, members, strict=True):
        assert sequence in prompts
        assert all(starts_with(list(sequence), prompts[number]) for number in row)


@given(prompts=st.lists(tokens, max_size=12))
def test_no_sequence_is_a_prefix_of_another(prompts: list[list[int]]) -> None:
    sequences, _ = share_prefixes(prompts)
    for one, first in enumerate(sequences):
        for two, second in enumerate(sequences):
            assert one == two or not starts_with(list(second), list(first))


@given(turns=st.lists(tokens, min_size=1, max_size=8), data=st.data())
def test_all_turns_of_a_dialogue_make_one_sequence(
    turns: list[list[int]], data: st.DataObject
) -> None:
    prompts = list(itertools.accumulate(turns))
    shuffled = data.draw(st.permutations(prompts))
    sequences, members = share_prefixes(shuffled)
    assert sequences == [prompts[-1]]
    assert len(members) == 1


@pytest.mark.parametrize("fed", [frontier_module.FED_AT_A_TIME, 4])
def test_branches_of_several_prompts_see_only_their_own_past(
    fed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frontier_module, "FED_AT_A_TIME", fed)
    model = tiny_decoder()
    rng = np.random.default_rng(0)
    dialogue = random_prompt(rng, 6) + random_prompt(rng, 5)
    other = random_prompt(rng, 8)
    tree = TokenTree(model)
    hidden = tree.read([dialogue, other])
    prompts = [[dialogue[:6], dialogue], [other, other]]
    lengths = torch.tensor([[6, 11], [8, 8]])
    frontier = Frontier.at(tree, lengths, hidden)
    for level in range(4):
        shape = (2, 2, 3)
        parents = torch.from_numpy(rng.integers(0, frontier.branches, shape))
        chosen = VOCABULARY.offsets[level] + torch.from_numpy(rng.integers(0, 12, shape))
        frontier.choose(parents, chosen)
        # the second and third token are fed together
        if level != 1:
            states = frontier.feed()
            assert states.shape[:4] == (*shape, 2 if level == 2 else 1)
            assert torch.equal(states[..., -1, :], frontier.hidden)
    assert frontier.columns.shape == frontier.tokens.shape
    head = model.get_output_embeddings()
    for row in range(2):
        for column in range(2):
            for branch in range(3):
                ids = prompts[row][column] + frontier.tokens[row, column, branch].tolist()
                with torch.no_grad():
                    wanted = model(torch.tensor([ids])).logits[0, -1]
                    found = head(frontier.hidden[row, column, branch])
                torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-4)
