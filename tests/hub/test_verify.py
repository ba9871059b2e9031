"""Files are compared with their manifest, and names that strangers give stay in their folder."""

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file

from talkplay_hf.errors import ArtifactError
from talkplay_hf.hub import files, verify


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("tracks.parquet", "playlists.parquet"):
        (tmp_path / name).write_bytes(name.encode() * 100)
    files.write_text(tmp_path / files.CARD, "a card")
    files.write_manifest(tmp_path, "catalog", {})
    return tmp_path


def flip(path: Path, at: int = 7) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(bytes(content))


def test_a_folder_as_it_was_made_passes(folder: Path) -> None:
    verify.verify_folder(folder)
    verify.verify_folder(folder, kind="catalog")
    verify.verify_folder(folder, ["tracks.parquet"])
    assert verify.damaged_files(folder) == []


def test_one_flipped_bit_is_found_and_the_file_named(folder: Path) -> None:
    flip(folder / "playlists.parquet")
    assert verify.damaged_files(folder) == ["playlists.parquet"]
    with pytest.raises(ArtifactError, match=r"playlists\.parquet: is not the file"):
        verify.verify_folder(folder)
    verify.verify_folder(folder, ["tracks.parquet"])
    flip(folder / "tracks.parquet")
    with pytest.raises(ArtifactError, match=r"the same holds for tracks\.parquet"):
        verify.verify_folder(folder)


def test_an_edited_card_does_not_count(folder: Path) -> None:
    files.write_text(folder / files.CARD, "a card that somebody edited")
    verify.verify_folder(folder)


def test_a_file_that_was_not_fetched_is_passed_over_unless_it_is_asked_for(folder: Path) -> None:
    (folder / "playlists.parquet").unlink()
    verify.verify_folder(folder)
    with pytest.raises(ArtifactError, match=r"has no playlists\.parquet"):
        verify.verify_folder(folder, ["playlists.parquet"])


def test_another_kind_is_refused_by_name(folder: Path) -> None:
    with pytest.raises(ArtifactError, match="is a catalog folder; a features folder"):
        verify.verify_folder(folder, kind="features")


def test_a_folder_without_a_manifest_passes_and_one_that_is_not_there_does_not(
    folder: Path,
) -> None:
    (folder / files.MANIFEST).unlink()
    flip(folder / "tracks.parquet")
    verify.verify_folder(folder)
    with pytest.raises(ArtifactError, match="no such folder"):
        verify.verify_folder(folder / "none")


def test_what_a_model_cannot_do_without_is_named(tmp_path: Path) -> None:
    files.write_json(tmp_path / "config.json", {})
    with pytest.raises(ArtifactError, match=r"has no tokenizer\.json"):
        verify.verify_folder(tmp_path, kind="model")


@pytest.mark.parametrize("kind", ["tokenizer", "model"])
def test_a_model_serves_as_a_tokenizer(tmp_path: Path, kind: str) -> None:
    for name in verify.REQUIRED["model"]:
        files.write_json(tmp_path / name, {})
    if kind == "tokenizer":
        (tmp_path / "config.json").unlink()
    files.refresh_manifest(tmp_path)
    verify.verify_folder(tmp_path, kind="tokenizer")


@pytest.mark.parametrize(
    "manifest",
    [
        "[]",
        "{",
        '{"format_version": 1}',
        '{"format_version": 9, "files": {}}',
        '{"format_version": 1, "files": []}',
        '{"format_version": 1, "files": {"a": 1}}',
        '{"format_version": 1, "files": {"../a": "0"}}',
        '{"format_version": 1, "files": {"/etc/passwd": "0"}}',
        "[" * 100_000,
    ],
)
def test_a_damaged_manifest_is_named(folder: Path, manifest: str) -> None:
    (folder / files.MANIFEST).write_text(manifest, encoding="utf-8")
    with pytest.raises(ArtifactError, match=r"manifest\.json"):
        verify.verify_folder(folder)


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "../a", "a/../b", "/a", "a//b", "a\\b", "C:a", "C:\\a", "a\0b", "a/", 3, None],
)
def test_a_name_that_leads_out_of_the_folder_is_refused(name: object) -> None:
    with pytest.raises(ArtifactError, match=r"index\.json: .* is not the name of a file"):
        verify.plain_name(name, "index.json")


@given(st.text(max_size=12) | st.lists(st.sampled_from(["..", ".", "a", "", "b"])).map("/".join))
def test_what_passes_as_a_name_stays_in_the_folder(name: str) -> None:
    try:
        passed = verify.plain_name(name, "index.json")
    except ArtifactError:
        return
    home = Path("/home/of/files")
    assert home in (home / passed).parents
    assert (home / passed).parts == (*home.parts, *name.split("/"))


def test_forms_are_read_from_the_header_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_file({"x": np.zeros((2, 3), np.float32), "y": np.zeros(4, np.int64)}, path)
    forms = verify.tensor_forms(path)
    assert forms == {"x": ("F32", (2, 3)), "y": ("I64", (4,))}
    assert [form.floating for form in forms.values()] == [True, False]


def header(values: object, data: bytes = b"\0" * 24) -> bytes:
    text = values if isinstance(values, bytes) else json.dumps(values).encode()
    return len(text).to_bytes(8, "little") + text + data


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x08",
        (1 << 60).to_bytes(8, "little") + b"{}",
        (200 << 20).to_bytes(8, "little") + b"{}",
        header(b"no json"),
        header([]),
        header({"x": {"dtype": "F32", "shape": [6], "data_offsets": [0, 20]}}),
        header({"x": {"dtype": "F32", "shape": [600], "data_offsets": [0, 2400]}}),
        header({"x": {"dtype": "F99", "shape": [6], "data_offsets": [0, 24]}}),
        header({"x": {"dtype": "F32", "shape": [-6], "data_offsets": [0, 24]}}),
        header({"x": {"dtype": "F32", "shape": [6], "data_offsets": [24, 0]}}),
        header({"x": {"dtype": "F32", "shape": [1 << 62, 6], "data_offsets": [0, 24]}}),
        header({"x": {"dtype": "F32", "shape": [5], "data_offsets": [0, 20]}}),
        pickle.dumps({"x": [1.0] * 100}),
    ],
)
def test_what_is_not_a_whole_safetensors_file_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(content)
    with pytest.raises(ArtifactError, match=r"a\.safetensors"):
        verify.tensor_forms(path)
    with pytest.raises(ArtifactError, match=r"b\.safetensors: no such file"):
        verify.tensor_forms(tmp_path / "b.safetensors")


def test_what_is_not_parquet_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    for content in (b"", b"PAR1PAR1", pickle.dumps([1])):
        path.write_bytes(content)
        with pytest.raises(ArtifactError, match=r"a\.parquet"):
            verify.parquet_columns(path)


def test_a_json_file_larger_than_any_can_be_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    with path.open("wb") as file:
        file.truncate(verify.MAX_JSON_BYTES + 1)
    with pytest.raises(ArtifactError, match=r"a\.json: has 268,435,457 bytes"):
        verify.read_object(path)
