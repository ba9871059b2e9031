"""How far embeddings keep the geometry of the centroids."""

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from talkplay_hf.training.similarity.geometry import geometry
from talkplay_hf.training.similarity.loss import ModalityTarget


def cosines(rows: torch.Tensor) -> torch.Tensor:
    unit = torch.nn.functional.normalize(rows, dim=1)
    return unit @ unit.T


def random_rows(k: int, d: int, seed: int) -> torch.Tensor:
    return torch.randn(k, d, generator=torch.Generator().manual_seed(seed))


def test_embeddings_with_the_geometry_of_the_centroids_score_one():
    centroids = random_rows(30, 8, 0)
    rotation, _ = torch.linalg.qr(random_rows(8, 8, 1))
    lengths = 0.5 + torch.rand(30, 1, generator=torch.Generator().manual_seed(2))
    weight = torch.cat([random_rows(4, 8, 3), lengths * centroids @ rotation])
    found = geometry(weight, [ModalityTarget("audio", 4, cosines(centroids))])
    assert found["spearman"] == pytest.approx(1, abs=1e-3)
    assert found["overlap_at_10"] == pytest.approx(1, abs=0.01)


def test_opposite_cosines_score_minus_one():
    similarity = cosines(random_rows(30, 40, 0))
    # minus the cosines, with a diagonal large enough for them to be products of some rows
    values, vectors = torch.linalg.eigh(5 * torch.eye(30) - similarity)
    rows = vectors * values.clamp_min(0).sqrt()
    assert geometry(rows, [ModalityTarget("audio", 0, similarity)])["spearman"] == pytest.approx(
        -1, abs=1e-3
    )


def test_the_figures_are_those_of_the_definitions():
    centroids, weight = random_rows(25, 6, 0), random_rows(25, 7, 1)
    a, b = cosines(centroids).numpy(), cosines(weight).numpy()
    found = geometry(weight, [ModalityTarget("audio", 0, torch.from_numpy(a))])
    pairs = np.triu_indices(25, 1)
    assert found["spearman"] == pytest.approx(spearmanr(a[pairs], b[pairs]).statistic, abs=1e-9)
    shared = 0
    for code in range(25):
        near = [
            set(sorted(set(range(25)) - {code}, key=lambda other: -one[code, other])[:10])
            for one in (a, b)
        ]
        shared += len(near[0] & near[1])
    assert found["overlap_at_10"] == pytest.approx(shared / 250)


def test_the_mean_is_over_modalities_and_each_is_named():
    first, second = random_rows(20, 6, 0), random_rows(30, 6, 1)
    weight = torch.cat([first, random_rows(30, 6, 2)])
    targets = [
        ModalityTarget("playlist", 0, cosines(first)),
        ModalityTarget("audio", 20, cosines(second)),
    ]
    found = geometry(weight, targets)
    assert set(found) == {
        f"{figure}{of}"
        for figure in ("spearman", "overlap_at_10")
        for of in ("", "_playlist", "_audio")
    }
    for figure in ("spearman", "overlap_at_10"):
        assert found[f"{figure}_playlist"] == pytest.approx(1)
        assert found[figure] == pytest.approx((1 + found[f"{figure}_audio"]) / 2)


def test_equal_embeddings_rank_nothing():
    target = ModalityTarget("audio", 0, cosines(random_rows(20, 6, 0)))
    assert geometry(torch.ones(20, 5), [target])["spearman"] == 0.0


def test_codes_without_a_second_pair_are_left_out():
    targets = [
        ModalityTarget("lyrics", 0, cosines(random_rows(2, 6, 0))),
        ModalityTarget("audio", 2, cosines(random_rows(20, 6, 1))),
    ]
    found = geometry(random_rows(22, 6, 2), targets)
    assert "spearman_lyrics" not in found
    assert found["spearman"] == found["spearman_audio"]
    assert geometry(random_rows(22, 6, 2), targets[:1]) == {}
