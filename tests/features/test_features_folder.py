"""The features folder: from a catalog, to disk and back."""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file
from saved_features import save_features

from talkplay_hf.catalog.schema import Catalog
from talkplay_hf.errors import ArtifactError, InputError
from talkplay_hf.features.embed import embed
from talkplay_hf.features.store import MODALITIES, ModalityVectors, load_features


def small() -> dict[str, ModalityVectors]:
    rng = np.random.default_rng(0)
    return {
        name: ModalityVectors(
            rng.standard_normal((4, 3)).astype(np.float32), np.array([True, True, False, True])
        )
        for name in MODALITIES
    }


def saved(folder: Path) -> Path:
    save_features(folder, list("abcd"), small())
    return folder


def test_round_trip(tmp_path: Path):
    track_ids, found = load_features(saved(tmp_path / "features"))
    assert track_ids == list("abcd")
    assert tuple(found) == MODALITIES
    for name, made in small().items():
        assert np.array_equal(found[name].vectors, made.vectors)
        assert np.array_equal(found[name].present, made.present)


def test_embed_writes_what_it_returns_and_is_deterministic(world: Catalog, tmp_path: Path):
    seen: list[tuple[str, int, int]] = []
    made = embed(world, tmp_path / "one", dim=8, progress=lambda *step: seen.append(step))
    embed(world, tmp_path / "two", dim=8)
    track_ids, found = load_features(tmp_path / "one")
    assert track_ids == world.track_ids
    for name in MODALITIES:
        assert np.array_equal(found[name].vectors, made[name].vectors)
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes(), path.name
    manifest = json.loads((tmp_path / "one" / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["made_from"] == {"catalog": world.fingerprint}
    assert seen[-1][1] == seen[-1][2]


@pytest.mark.parametrize("name", [f"{name}.safetensors" for name in MODALITIES[:2]]
                         + ["track_ids.json", "manifest.json"])  # fmt: skip
@pytest.mark.parametrize("damage", ["gone", "cut"])
def test_a_damaged_folder_is_refused(name: str, damage: str, tmp_path: Path):
    path = saved(tmp_path / "features") / name
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:9])
    with pytest.raises(ArtifactError, match="features"):
        load_features(tmp_path / "features")


@pytest.mark.parametrize("vectors", [np.zeros((4, 3)), np.zeros(4, dtype=np.float32)])
def test_vectors_of_another_kind_or_shape_are_refused(vectors: np.ndarray, tmp_path: Path):
    path = saved(tmp_path / "features") / "lyrics.safetensors"
    save_file({"vectors": vectors, "present": np.ones(4, dtype=bool)}, path)
    with pytest.raises(ArtifactError, match=r"lyrics\.safetensors: .* not F32 \[n, d\]"):
        load_features(tmp_path / "features")


@pytest.mark.parametrize("present", [2, 4, 5])
def test_a_file_whose_rows_do_not_fit_is_refused(present: int, tmp_path: Path):
    path = saved(tmp_path / "features") / "lyrics.safetensors"
    rows = 5 if present == 5 else 4
    vectors = np.zeros((rows, 3), dtype=np.float32)
    if present == 4:
        vectors[1] = np.nan
    save_file({"vectors": vectors, "present": np.ones(present, dtype=bool)}, path)
    with pytest.raises(ArtifactError, match=r"lyrics\.safetensors"):
        load_features(tmp_path / "features")


def test_values_that_are_not_finite_are_refused():
    for bad in (np.nan, np.inf):
        vectors = np.zeros((3, 2), dtype=np.float32)
        vectors[2, 1] = bad
        with pytest.raises(InputError, match="row 2"):
            ModalityVectors(vectors, np.ones(3, dtype=bool))
        ModalityVectors(vectors, np.array([True, True, False]))


def test_shapes_must_fit():
    with pytest.raises(InputError, match="do not fit"):
        ModalityVectors(np.zeros((3, 2), dtype=np.float32), np.ones(2, dtype=bool))
    with pytest.raises(InputError, match="do not fit"):
        ModalityVectors(np.zeros(3, dtype=np.float32), np.ones(3, dtype=bool))
