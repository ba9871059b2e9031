"""Draws from a nucleus: the right tokens, as often as they should be, each row on its own."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from talkplay_hf.recommend.decoding.nucleus import MOST_PROBABLE, draw


def nucleus(logits: np.ndarray, temperature: float, top_p: float) -> dict[int, float]:
    """Probabilities of the tokens of a nucleus, from sorting them all."""
    scaled = logits.astype(np.float64) / temperature
    weights = np.exp(scaled - scaled.max())
    weights /= weights.sum()
    order = np.argsort(-weights, kind="stable")
    count = int(np.searchsorted(np.cumsum(weights[order]), top_p - 1e-12)) + 1
    kept = [token for token in order[:count].tolist() if weights[token] > 0]
    total = weights[kept].sum()
    return {token: float(weights[token] / total) for token in kept}


def draws(
    logits: np.ndarray, count: int, temperature: float = 1.0, top_p: float = 1.0, seed: int = 0
) -> list[int]:
    chance = torch.from_numpy(np.random.default_rng(seed).random(count))
    rows = torch.from_numpy(logits.astype(np.float32)).expand(count, -1)
    return draw(rows, chance, temperature=temperature, top_p=top_p).tolist()


def random_logits(size: int, spread: float, seed: int = 0) -> np.ndarray:
    return (np.random.default_rng(seed).normal(size=size) * spread).astype(np.float32)


@pytest.mark.parametrize("size", [5, 300, 1000])
@pytest.mark.parametrize(("top_p", "temperature"), [(0.3, 0.5), (0.9, 1.0), (1.0, 2.0)])
def test_draws_are_as_frequent_as_they_are_probable(
    size: int, top_p: float, temperature: float
) -> None:
    logits = random_logits(size, 1.5)
    wanted = nucleus(logits, temperature, top_p)
    count = 2000
    counts = np.bincount(draws(logits, count, temperature, top_p), minlength=size)
    assert set(np.flatnonzero(counts)) <= set(wanted)
    common = [token for token, share in wanted.items() if share * count >= 8]
    observed = [*counts[common], count - counts[common].sum()]
    expected = [wanted[token] * count for token in common]
    expected.append(count - sum(expected))
    if expected[-1] < 8:
        observed[-2:], expected[-2:] = [sum(observed[-2:])], [sum(expected[-2:])]
    if len(expected) > 1:
        assert chisquare(observed, expected).pvalue > 1e-3


def test_the_nucleus_can_be_wider_than_what_is_looked_at_first() -> None:
    logits = random_logits(1500, 0.1)
    wanted = nucleus(logits, 1.0, 0.9)
    assert len(wanted) > 4 * MOST_PROBABLE
    found = {token for seed in range(4) for token in draws(logits, 2000, 1.0, 0.9, seed)}
    assert found <= set(wanted)
    assert len(found) > 0.98 * len(wanted)


@settings(max_examples=60, deadline=None)
@given(
    size=st.integers(1, 700),
    spread=st.floats(0.0, 12.0),
    top_p=st.floats(0.01, 1.0),
    temperature=st.floats(0.1, 5.0),
    banned=st.floats(0.0, 0.95),
    seed=st.integers(0, 10_000),
)
def test_any_row_is_drawn_from_its_nucleus_whatever_is_beside_it(
    size: int, spread: float, top_p: float, temperature: float, banned: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(6, size)).astype(np.float32)
    # narrow and wide rows, some of them with many equal scores, as half precision gives them
    logits *= np.array([0, spread, spread, 0.1, 0.1, 30], dtype=np.float32)[:, None]
    logits[2:4] = np.round(logits[2:4], 1)
    keep = rng.integers(size)
    ban = rng.random(logits.shape) < banned
    ban[:, keep] = False
    logits[ban] = -np.inf
    chance = torch.from_numpy(rng.random(6))
    rows = torch.from_numpy(logits)
    found = draw(rows, chance, temperature=temperature, top_p=top_p)
    for row in range(6):
        alone = draw(
            rows[row : row + 1], chance[row : row + 1], temperature=temperature, top_p=top_p
        )
        assert int(alone) == int(found[row])
        assert np.isfinite(logits[row, int(alone)])
        # no token outside is more probable than one that can be drawn
        inside = nucleus(logits[row], temperature, top_p)
        assert logits[row, int(alone)] >= min(logits[row, token] for token in inside) - 1e-4


@pytest.mark.parametrize("chance", [0.0, 0.5, 1 - 2**-53])
@pytest.mark.parametrize("top_p", [1e-9, 0.5, 1.0])
def test_what_is_banned_is_never_drawn(chance: float, top_p: float) -> None:
    logits = torch.full((1, 1000), -torch.inf)
    logits[0, [3, 999]] = torch.tensor([1.0, 2.0])
    token = int(draw(logits, torch.tensor([chance]).double(), temperature=1.0, top_p=top_p))
    assert token in ((999,) if top_p < 0.7 or chance < 0.7 else (3,))
