"""A features folder as Parquet tables, and back."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from datasets import load_dataset
from hypothesis import given, settings
from hypothesis import strategies as st
from saved_features import save_features

from talkplay_hf.catalog.schema import MODALITIES, Catalog
from talkplay_hf.errors import ArtifactError
from talkplay_hf.features import repo
from talkplay_hf.features.embed import embed
from talkplay_hf.features.repo import pack_features, unpack_features
from talkplay_hf.features.store import ModalityVectors, load_features
from talkplay_hf.hub import files, shards


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def random_vectors(n: int, d: int, present: np.ndarray) -> ModalityVectors:
    vectors = np.random.default_rng(0).standard_normal((n, d)).astype(np.float32)
    vectors[::2] *= np.float32(-0.0)
    vectors[~present] = 0
    return ModalityVectors(vectors, present)


def small_folder(folder: Path, n: int = 10, d: int = 3) -> Path:
    made = random_vectors(n, d, np.arange(n) % 3 > 0)
    save_features(folder, [f"t{i}" for i in range(n)], dict.fromkeys(MODALITIES, made))
    return folder


def test_a_features_folder_comes_back_byte_for_byte(features_folder: Path, tmp_path: Path) -> None:
    pack_features(features_folder, tmp_path / "repo")
    assert not (tmp_path / "repo" / "lyrics.safetensors").exists()
    unpack_features(tmp_path / "repo", tmp_path / "back")
    assert contents(tmp_path / "back") == contents(features_folder)


def test_unpacked_features_place_new_tracks_as_the_first_ones_do(
    world: Catalog, features_folder: Path, tmp_path: Path
) -> None:
    pack_features(features_folder, tmp_path / "repo")
    unpack_features(tmp_path / "repo", tmp_path / "back")
    embed(world, tmp_path / "like", like=tmp_path / "back")
    first, again = (load_features(path)[1] for path in (features_folder, tmp_path / "like"))
    np.testing.assert_allclose(again["metadata"].vectors, first["metadata"].vectors, atol=1e-5)


@settings(max_examples=25)
@given(st.lists(st.booleans(), min_size=1, max_size=40), st.integers(1, 7), st.integers(4, 200))
def test_any_vectors_come_back(
    tmp_path_factory: pytest.TempPathFactory, present: list[bool], width: int, group: int
) -> None:
    folder = tmp_path_factory.mktemp("features")
    made = random_vectors(len(present), width, np.array(present))
    ids = [f"é{i}" for i in range(len(present))]
    save_features(folder / "in", ids, dict.fromkeys(MODALITIES, made))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(repo, "GROUP_BYTES", group)
        patch.setattr(shards, "MAX_SHARD_BYTES", 1000)
        pack_features(folder / "in", folder / "repo")
        unpack_features(folder / "repo", folder / "back")
    assert contents(folder / "back") == contents(folder / "in")


def test_datasets_reads_a_modality_with_nulls_for_absent_tracks(tmp_path: Path) -> None:
    pack_features(small_folder(tmp_path / "in"), tmp_path / "repo")
    found = load_dataset(
        "parquet",
        data_files=str(tmp_path / "repo" / "lyrics*.parquet"),
        split="train",
        cache_dir=str(tmp_path / "cache"),
    ).with_format("numpy")
    made = load_features(tmp_path / "in")[1]["lyrics"]
    assert list(found["track_id"]) == [f"t{i}" for i in range(10)]
    assert found.features["vector"].length == 3
    for row, vector in enumerate(found["vector"]):
        if made.present[row]:
            np.testing.assert_array_equal(vector, made.vectors[row])
        else:
            assert vector is None


def test_rows_of_absent_tracks_come_back_as_zeros_with_a_manifest_that_fits(tmp_path: Path) -> None:
    made = random_vectors(6, 2, np.arange(6) > 2)
    made.vectors[0] = 7
    save_features(tmp_path / "in", list("abcdef"), dict.fromkeys(MODALITIES, made))
    pack_features(tmp_path / "in", tmp_path / "repo")
    unpack_features(tmp_path / "repo", tmp_path / "back")
    assert not load_features(tmp_path / "back")[1]["audio"].vectors[0].any()
    named = files.read_manifest(tmp_path / "back", "features")["files"]
    for name, sha in named.items():
        assert files.sha256_file(tmp_path / "back" / name) == sha


def test_a_damaged_features_folder_is_not_packed(tmp_path: Path) -> None:
    path = small_folder(tmp_path / "in") / "audio.safetensors"
    data = bytearray(path.read_bytes())
    data[-30] ^= 1
    path.write_bytes(data)
    with pytest.raises(ArtifactError, match=r"audio\.safetensors"):
        pack_features(tmp_path / "in", tmp_path / "repo")
    assert not (tmp_path / "repo").exists()


def test_what_is_packed_or_unpacked_already_is_refused(tmp_path: Path) -> None:
    pack_features(small_folder(tmp_path / "in"), tmp_path / "repo")
    with pytest.raises(ArtifactError, match=r"repo: is packed already, .*unpack it with"):
        pack_features(tmp_path / "repo", tmp_path / "again")
    with pytest.raises(ArtifactError, match="nothing to unpack"):
        unpack_features(tmp_path / "in", tmp_path / "back")


def test_vectors_without_dimensions_are_not_packed(tmp_path: Path) -> None:
    made = random_vectors(2, 0, np.ones(2, dtype=bool))
    save_features(tmp_path / "in", ["a", "b"], dict.fromkeys(MODALITIES, made))
    with pytest.raises(ArtifactError, match=r"in/playlist\.safetensors: has vectors of 0 dimens"):
        pack_features(tmp_path / "in", tmp_path / "repo")
    assert not (tmp_path / "repo").exists()


def changed(change: Callable[[pa.Table], pa.Table]) -> Callable[[Path], None]:
    """What writes the audio table of a repo anew, with a change."""

    def spoil(folder: Path) -> None:
        table = shards.read_table(folder, "audio")
        (folder / "audio.parquet").unlink()
        shards.write_table(folder, "audio", change(table))

    return spoil


def other_vector(table: pa.Table) -> pa.Table:
    rows = table.to_pylist()
    rows[1]["vector"][0] += 1
    return table.from_pylist(rows, schema=table.schema)


def other_ids(table: pa.Table) -> pa.Table:
    return table.set_column(0, "track_id", table["track_id"].take([1, 0, *range(2, 10)]))


def of_width(table: pa.Table, width: int) -> pa.Table:
    vectors = pa.array([[]] * len(table), pa.list_(pa.float32(), width))
    return table.set_column(1, "vector", vectors)


def no_order(folder: Path) -> None:
    (folder / "track_ids.json").unlink()


def no_list(folder: Path) -> None:
    files.write_json(folder / "track_ids.json", {"t0": 0})


def outside(folder: Path) -> None:
    manifest = json.loads((folder / files.MANIFEST).read_text())
    manifest["files"]["../stolen"] = "0" * 64
    files.write_json(folder / files.MANIFEST, manifest)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (changed(other_vector), r"audio\.safetensors is not the file"),
        (changed(other_ids), "row 0: is not as track_ids"),
        (changed(lambda table: table.slice(0, 9)), "has 9 rows"),
        (changed(lambda table: table.select(["track_id"])), "columns track_id and vector"),
        (changed(lambda table: of_width(table, 0)), "columns track_id and vector"),
        (changed(lambda table: of_width(table.slice(0, 0), (1 << 31) - 1)), "columns track_id"),
        (no_order, r"track_ids\.json: no such file"),
        (no_list, r"track_ids\.json: is not a list of track ids"),
        (outside, "stolen"),
    ],
)
def test_a_spoilt_repo_is_refused_and_nothing_is_written(
    spoil: Callable[[Path], None], message: str, tmp_path: Path
) -> None:
    pack_features(small_folder(tmp_path / "in"), tmp_path / "repo")
    spoil(tmp_path / "repo")
    with pytest.raises(ArtifactError, match=message):
        unpack_features(tmp_path / "repo", tmp_path / "back")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "repo"]
