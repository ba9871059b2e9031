"""The health report: its figures, its table and its picture."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from talkplay_hf.catalog.schema import MODALITIES, Catalog, Playlist, Track
from talkplay_hf.errors import MissingExtraError
from talkplay_hf.hub import files
from talkplay_hf.tokens.health import (
    distortion,
    health,
    health_text,
    plot_health,
    training_counts,
)


def test_health_of_an_example_reckoned_by_hand() -> None:
    codes = np.array([[0, 0], [0, 0], [1, 0], [2, 0]])
    report = health(codes, [4, 2], ["playlist", "audio"], training=np.array([9, 3, 8, 0]))
    playlist, audio = report["modalities"]["playlist"], report["modalities"]["audio"]
    assert (playlist["codes"], playlist["used"], playlist["largest_share"]) == (4, 3, 0.5)
    # entropy of (1/2, 1/4, 1/4) is 1.5 bits
    assert playlist["perplexity"] == pytest.approx(2**1.5)
    assert (audio["used"], audio["largest_share"]) == (1, 1.0)
    assert audio["perplexity"] == pytest.approx(1.0)
    assert (report["tracks"], report["distinct_tuples"], report["largest_bucket"]) == (4, 3, 2)
    assert report["collision_rate"] == 0.5
    assert report["bucket_sizes"] == [[1, 2], [2, 1]]
    # tokens of the first modality occur 12, 8, 0 and 0 times
    assert playlist["training"] == {
        "min": 0,
        "median": 4.0,
        "max": 12,
        "never": 2,
        "below_10": 3,
        "histogram": [2, 0, 0, 0, 2],
    }


def test_distortion_is_measured_against_random_codes_and_the_mean() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(500, 6)).astype(np.float32) + 100
    centroids = vectors[:16]
    rows = np.arange(0, 500, 2)
    codes = rng.integers(0, 16, size=500)
    found = distortion(vectors, rows, codes, centroids)
    x = vectors[rows].astype(np.float64)
    to_all = ((x[:, None] - centroids[None].astype(np.float64)) ** 2).sum(axis=2)
    inertia = to_all[np.arange(len(rows)), codes[rows]].mean()
    assert found["inertia"] == pytest.approx(inertia, rel=1e-5)
    assert found["random_inertia"] == pytest.approx(to_all.mean(), rel=1e-5)
    variance = ((x - x.mean(axis=0)) ** 2).sum(axis=1).mean()
    assert found["explained"] == pytest.approx(1 - inertia / variance, rel=1e-4)
    assert distortion(vectors, rows[:0], codes, centroids) == {"fitted_on": 0}


def test_training_counts_leave_held_out_playlists_aside_and_count_repeats() -> None:
    tracks = [Track(name, name, "artist") for name in "abcd"]
    catalog = Catalog.from_tracks(
        tracks, [Playlist("1", ("a", "b", "a", "nowhere")), Playlist("2", ("c", "a"))]
    )
    counts = training_counts(catalog)
    assert counts is not None
    assert counts.tolist() == [3, 1, 1, 0]
    table = catalog.playlists.append_column("split", [["train", "test"]])
    counts = training_counts(Catalog(catalog.tracks, table))
    assert counts is not None
    assert counts.tolist() == [2, 1, 0, 0]
    assert training_counts(Catalog.from_tracks(tracks)) is None


def test_the_folder_of_a_world_reports_everything(tokenizer_folder: Path) -> None:
    report = files.read_json(tokenizer_folder / files.CODEBOOK_HEALTH)
    text = health_text(report)
    assert [line.split()[0] for line in text.splitlines()[2:-1]] == list(MODALITIES)
    for name, values in report["modalities"].items():
        if name != "audio":  # this world has no sound
            assert 0 < values["explained"] <= 1
            assert values["inertia"] < values["random_inertia"]
        assert sum(values["training"]["histogram"]) == values["codes"]
        line = next(line for line in text.splitlines() if line.startswith(name))
        assert str(values["training"]["max"]) in line.split()
    assert sum(size * count for size, count in report["bucket_sizes"]) == report["tracks"]


def test_modalities_of_another_version_come_last() -> None:
    report = health(np.zeros((3, 3), dtype=int), [2, 2, 2], ["taste", "audio", "playlist"])
    lines = health_text(report).splitlines()[1:-1]
    assert [line.split()[0] for line in lines] == ["playlist", "audio", "taste"]


def test_the_table_does_without_what_is_not_known() -> None:
    report = health(np.array([[0], [1]]), [2], ["audio"], distortions=[{}])
    text = health_text(json.loads(json.dumps(report)))
    assert "training" not in text
    assert "-" in text.splitlines()[1].split()


@pytest.mark.parametrize("trained", [True, False])
def test_the_picture_is_drawn_and_the_same_each_time(tmp_path: Path, trained: bool) -> None:
    pytest.importorskip("matplotlib")
    codes = np.random.default_rng(0).integers(0, 4, size=(90, 2))
    training = np.arange(90) * 40 if trained else None
    report = health(codes, [4, 8], ["playlist", "audio"], training=training)
    for name in ("one.png", "two.png"):
        plot_health(report, tmp_path / name)
    one, two = ((tmp_path / name).read_bytes() for name in ("one.png", "two.png"))
    assert one.startswith(b"\x89PNG")
    assert one == two


def test_without_matplotlib_the_extra_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    report = health(np.array([[0], [1]]), [2], ["audio"])
    with pytest.raises(MissingExtraError, match=r"talkplay-hf\[plots\]"):
        plot_health(report, tmp_path / "plot.png")
