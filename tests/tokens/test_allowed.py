"""Which tracks chats may be given, against masks."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from talkplay_hf.errors import InputError
from talkplay_hf.tokens import allowed as module
from talkplay_hf.tokens.allowed import Allowed
from talkplay_hf.tokens.index import CatalogIndex

SIZES = [3, 4, 3]


def make_index(seed: int, n: int) -> CatalogIndex:
    codes = np.random.default_rng(seed).integers(0, SIZES, (n, 3)).astype(np.int32)
    return CatalogIndex(codes, SIZES)


def check(index: CatalogIndex, allowed: Allowed, masks: list[np.ndarray]) -> None:
    """Assert that an `Allowed` says what masks say, in every range."""
    order = index.order.numpy()
    assert allowed.chats == len(masks)
    assert allowed.totals().tolist() == [int(mask.sum()) for mask in masks]
    at = [
        (chat, first, end)
        for chat in range(len(masks))
        for first in range(index.tracks + 1)
        for end in range(first, index.tracks + 1)
    ]
    counts = allowed.counts(*torch.tensor(at, dtype=torch.int64).reshape(-1, 3).T)
    wanted = [np.count_nonzero(masks[chat][order[first:end]]) for chat, first, end in at]
    assert counts.tolist() == wanted
    for chat, first, end in at[:: max(1, len(at) // 40)]:
        rows = np.sort(order[first:end])
        assert allowed.tracks(chat, first, end).tolist() == rows[masks[chat][rows]].tolist()
    for level in range(index.depth):
        prefixes = np.array(list(np.ndindex(*SIZES[:level]))).reshape(
            math.prod(SIZES[:level]), level
        )
        chats = torch.arange(len(masks)).repeat_interleave(len(prefixes))
        every = torch.from_numpy(np.tile(prefixes, (len(masks), 1)))
        got = index.mask(every, allowed, chats)
        for chat, prefix, row in zip(chats.tolist(), every.tolist(), got.tolist(), strict=True):
            longer = torch.tensor([[*prefix, code] for code in range(SIZES[level])])
            first, end = index.ranges(longer)
            assert row == [
                bool(masks[chat][order[low:high]].any())
                for low, high in zip(first.tolist(), end.tolist(), strict=True)
            ]


@settings(deadline=None, max_examples=25)
@given(data=st.data(), n=st.integers(0, 12), few=st.sampled_from([0.0, 0.3, 1.0]))
def test_masks_are_kept_however_they_are_stored(data: st.DataObject, n: int, few: float) -> None:
    index = make_index(data.draw(st.integers(0, 99)), n)
    kinds = data.draw(st.lists(st.sampled_from([None, 0.1, 0.9]), min_size=1, max_size=4))
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    masks = [None if kind is None else rng.random(n) < kind for kind in kinds]
    masks.append(masks[0])
    before, module.FEW = module.FEW, few
    try:
        allowed = Allowed.of(index, masks)
    finally:
        module.FEW = before
    whole = np.ones(n, dtype=bool)
    check(index, allowed, [whole if mask is None else mask for mask in masks])


def test_a_mask_must_be_one_flag_a_track() -> None:
    index = make_index(0, 10)
    for mask in (np.ones(9, dtype=bool), np.ones(10)):
        with pytest.raises(InputError, match="10 tracks"):
            Allowed.of(index, [mask])
