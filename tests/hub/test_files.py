"""Artefacts are never seen half-written, and are refused by name where they do not fit."""

import json
from pathlib import Path

import pytest

from talkplay_hf.errors import ArtifactError
from talkplay_hf.hub import files


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def make(out: Path, text: str) -> None:
    with files.staged_folder(out, "catalog") as aside:
        files.write_json(aside / files.MANIFEST, {"kind": "catalog", "text": text})
        (aside / "inner").mkdir()
        (aside / "inner" / "part").write_text(text, encoding="utf-8")


def test_a_staged_folder_appears_only_when_it_is_complete(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "out"
    with files.staged_folder(out, "catalog") as aside:
        (aside / "part").write_text("x", encoding="utf-8")
        assert not out.exists()
    assert names(out) == ["part"]
    assert names(out.parent) == ["out"]


def fail_while_writing(out: Path) -> None:
    with files.staged_folder(out, "catalog") as aside:
        (aside / "half").write_text("x", encoding="utf-8")
        raise RuntimeError("stop")


def test_an_error_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError):
        fail_while_writing(tmp_path / "out")
    assert names(tmp_path) == []


def test_an_error_leaves_the_old_folder_as_it_was(tmp_path: Path) -> None:
    make(tmp_path / "out", "old")
    with pytest.raises(RuntimeError):
        fail_while_writing(tmp_path / "out")
    assert files.read_json(tmp_path / "out" / files.MANIFEST)["text"] == "old"
    assert names(tmp_path) == ["out"]


def test_a_failed_rename_brings_the_old_folder_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    make(out, "old")
    rename = Path.rename

    def failing(self: Path, target: Path) -> Path:
        if Path(target) == out and self.name != ".old":
            raise OSError("disk trouble")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", failing)
    monkeypatch.setattr(files, "exchange", lambda one, other: False)
    with pytest.raises(OSError, match="disk trouble"):
        make(out, "new")
    assert (out / "inner" / "part").read_text(encoding="utf-8") == "old"
    assert names(tmp_path) == ["out"]


def test_an_own_folder_is_replaced_whole(tmp_path: Path) -> None:
    make(tmp_path / "out", "old")
    (tmp_path / "out" / "left over").write_text("x", encoding="utf-8")
    make(tmp_path / "out", "new")
    assert names(tmp_path / "out") == ["inner", files.MANIFEST]
    assert (tmp_path / "out" / "inner" / "part").read_text(encoding="utf-8") == "new"
    assert names(tmp_path) == ["out"]


def test_an_empty_folder_may_be_written_to(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    make(tmp_path / "out", "new")
    assert files.MANIFEST in names(tmp_path / "out")


def test_a_foreign_folder_or_a_file_is_refused(tmp_path: Path) -> None:
    foreign = tmp_path / "photos"
    foreign.mkdir()
    (foreign / "cat.jpg").write_bytes(b"cat")
    with pytest.raises(ArtifactError, match=r"photos.*not empty"):
        make(foreign, "new")
    assert names(foreign) == ["cat.jpg"]
    with pytest.raises(ArtifactError, match="is a file"):
        make(foreign / "cat.jpg", "new")
    assert (foreign / "cat.jpg").read_bytes() == b"cat"


@pytest.mark.parametrize("kind", ["features", "conversations", "tokenizer", "model"])
def test_an_artefact_is_never_replaced_by_one_of_another_kind(tmp_path: Path, kind: str) -> None:
    make(tmp_path / "out", "old")
    with (
        pytest.raises(ArtifactError, match=f"is a catalog folder.*{kind}"),
        files.staged_folder(tmp_path / "out", kind),
    ):
        pass
    assert files.MANIFEST in names(tmp_path / "out")


def test_a_tokenizer_never_replaces_a_model(tmp_path: Path) -> None:
    (tmp_path / files.TALKPLAY_CONFIG).write_text("{}", encoding="utf-8")
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")
    with pytest.raises(ArtifactError, match="is a model folder"):
        files.check_target(tmp_path, "tokenizer")
    files.check_target(tmp_path, "model")


def test_write_text_replaces_or_leaves_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "new" / "note.txt"
    files.write_text(path, "eins ü")
    files.write_text(path, "zwei ü")
    assert path.read_text(encoding="utf-8") == "zwei ü"

    def failing(descriptor: int) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(files.os, "fsync", failing)
    with pytest.raises(OSError, match="disk full"):
        files.write_text(path, "drei")
    assert path.read_text(encoding="utf-8") == "zwei ü"
    assert names(path.parent) == ["note.txt"]


def test_json_has_the_same_bytes_whatever_the_order(tmp_path: Path) -> None:
    files.write_json(tmp_path / "a.json", {"x": 1, "y": ["é"]})
    files.write_json(tmp_path / "b.json", {"y": ["é"], "x": 1})
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    assert files.read_json(tmp_path / "a.json") == {"x": 1, "y": ["é"]}
    assert files.sha256_json({"x": 1, "y": 2}) == files.sha256_json({"y": 2, "x": 1})


@pytest.mark.parametrize("content", [b"{", b"\xff\xfe\x00", b""])
def test_a_damaged_json_file_is_an_artefact_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(ArtifactError, match=r"a\.json"):
        files.read_json(tmp_path / "a.json")


def test_an_unreadable_json_file_is_an_artefact_error(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="no such file"):
        files.read_json(tmp_path / "none.json")
    with pytest.raises(ArtifactError, match="cannot be read"):
        files.read_json(tmp_path)


def test_a_manifest_records_the_files_and_comes_back(tmp_path: Path) -> None:
    (tmp_path / "part").write_bytes(b"abc")
    written = files.write_manifest(tmp_path, "catalog", {"source": "0" * 64}, tracks=3)
    assert written["files"] == {"part": files.sha256_file(tmp_path / "part")}
    read = files.read_manifest(tmp_path, "catalog")
    assert read == written
    assert read["tracks"] == 3
    assert read["made_from"] == {"source": "0" * 64}


def test_a_manifest_of_another_kind_is_refused_by_name(tmp_path: Path) -> None:
    files.write_manifest(tmp_path, "features", {})
    with pytest.raises(ArtifactError, match=r"is a features folder; a catalog folder"):
        files.read_manifest(tmp_path, "catalog")


def test_a_folder_without_a_manifest_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=f"holds no {files.MANIFEST}"):
        files.read_manifest(tmp_path, "catalog")
    with pytest.raises(ArtifactError, match="no such folder"):
        files.read_manifest(tmp_path / "none", "catalog")
    (tmp_path / files.MANIFEST).write_text("[]", encoding="utf-8")
    with pytest.raises(ArtifactError, match="a catalog folder was expected"):
        files.read_manifest(tmp_path, "catalog")


def test_only_the_manifest_of_a_tokenizer_or_model_is_written_anew(tmp_path: Path) -> None:
    before = files.write_manifest(tmp_path, "features", {})
    with pytest.raises(ArtifactError, match="is not a tokenizer or model folder"):
        files.refresh_manifest(tmp_path)
    assert files.read_manifest(tmp_path, "features") == before


@pytest.mark.parametrize("version", [0, files.FORMAT_VERSION + 1, None, "1"])
def test_another_format_version_is_refused_by_name(tmp_path: Path, version: object) -> None:
    files.write_manifest(tmp_path, "catalog", {})
    manifest = files.read_json(tmp_path / files.MANIFEST) | {"format_version": version}
    (tmp_path / files.MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")
    with pytest.raises(ArtifactError, match=f"format_version {version}"):
        files.read_manifest(tmp_path, "catalog")


@pytest.mark.parametrize("listed", [None, [], "tracks.parquet"])
def test_a_manifest_without_files_has_no_identity(listed: object) -> None:
    with pytest.raises(ArtifactError, match="must list its files"):
        files.content_hash({"files": listed})
