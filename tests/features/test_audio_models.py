"""Audio vectors by CLAP and by librosa."""

from pathlib import Path

import numpy as np
import pytest
from encoded import catalog_of, encoded
from tiny_audio_models import save_clap

from talkplay_hf.catalog.schema import Catalog
from talkplay_hf.errors import ConfigError
from talkplay_hf.features.clap import Clap
from talkplay_hf.features.librosa_audio import LibrosaDescriptors
from talkplay_hf.features.store import ModalityVectors

soundfile = pytest.importorskip("soundfile")


@pytest.fixture(scope="module")
def clap_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_clap(tmp_path_factory.mktemp("clap"))


@pytest.fixture(scope="module")
def music(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    """Noise, two chords, one broken file, one file that is not there, one track without a file."""
    folder = tmp_path_factory.mktemp("music")
    rng = np.random.default_rng(0)
    time = np.arange(22_050 * 12) / 22_050
    soundfile.write(folder / "noise.flac", 0.2 * rng.standard_normal(len(time)), 22_050)
    for name, tonic in (("one.mp3", 220.0), ("two.ogg", 222.0)):
        chord = sum(np.sin(2 * np.pi * tonic * step * time) for step in (1, 1.26, 1.5))
        pulse = 0.2 * chord * (1 - time * 2 % 1)
        soundfile.write(folder / name, np.stack([pulse, pulse], axis=1), 22_050)
    (folder / "broken.mp3").write_bytes(b"nothing to hear" * 50)
    return catalog_of(
        folder, ["noise.flac", "one.mp3", "two.ogg", "broken.mp3", "gone.wav", None, "http://a/b"]
    )


def check(encoder: Clap | LibrosaDescriptors, music: Catalog, width: int) -> ModalityVectors:
    made, run = encoded(encoder, music)
    assert made.vectors.shape == (7, width)
    assert made.present.tolist() == [True, True, True, False, False, False, False]
    broken, gone = run.failures
    assert (broken.row, gone.row) == (3, 4)
    assert "broken.mp3" in broken.reason
    assert "gone.wav" in gone.reason
    noise, one, two = made.vectors[:3]
    assert np.linalg.norm(one - two) < np.linalg.norm(one - noise)
    return made


def test_clap_hears_files_of_any_format_and_counts_bad_ones(clap_folder: Path, music: Catalog):
    made = check(Clap(model=str(clap_folder)), music, 16)
    assert np.allclose(np.linalg.norm(made.vectors[:3], axis=1), 1, atol=1e-5)


def test_clap_vectors_do_not_depend_on_chance_or_on_the_batch(clap_folder: Path, music: Catalog):
    made = [
        encoded(Clap(model=str(clap_folder), batch_size=size), music)[0].vectors
        for size in (1, 3, 3)
    ]
    assert np.allclose(made[0], made[1], atol=1e-5)
    assert np.array_equal(made[1], made[2])


def test_a_fused_clap_draws_nothing_at_random(tmp_path: Path, music: Catalog):
    encoder = Clap(model=str(save_clap(tmp_path, fusion=True)))
    one, two = (encoded(encoder, music)[0].vectors for _ in range(2))
    assert np.array_equal(one, two)
    assert one[:3].any()


def test_a_clap_model_that_is_not_there_is_named(tmp_path: Path, music: Catalog):
    with pytest.raises(ConfigError, match="none"):
        encoded(Clap(model=str(tmp_path / "none")), music)


def test_an_impossible_clip_is_refused(clap_folder: Path, music: Catalog):
    with pytest.raises(ConfigError, match="'end'"):
        encoded(Clap(model=str(clap_folder), clip_start="end"), music)


def test_librosa_descriptors_are_standardised_as_before(music: Catalog):
    pytest.importorskip("librosa")
    made = check(LibrosaDescriptors(), music, 112)
    _, run = encoded(LibrosaDescriptors(), music)
    assert np.allclose(made.vectors[:3].mean(axis=0), 0, atol=1e-4)
    assert music.root is not None
    one = catalog_of(music.root, ["one.mp3"])
    again, _ = encoded(LibrosaDescriptors(), one, earlier=run.kept)
    assert np.allclose(again.vectors[0], made.vectors[1], atol=1e-4)
