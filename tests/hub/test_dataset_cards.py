"""Cards of catalogs and features: counts, columns, licences, and configurations that load."""

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from huggingface_hub import DatasetCard

from talkplay_hf.catalog.schema import Catalog, Playlist, Track
from talkplay_hf.catalog.world import make_world
from talkplay_hf.features.repo import pack_features
from talkplay_hf.hub.cards import card
from talkplay_hf.hub.cards.parts import tables


def catalog_of(folder: Path, tracks: list[Track], playlists: list[list[str]]) -> Path:
    lists = [Playlist(str(number), tuple(ids)) for number, ids in enumerate(playlists)]
    Catalog.from_tracks(tracks, lists).save(folder, {"source": "5" * 64})
    return folder


def track(track_id: str, license: str | None = None, **extra: Any) -> Track:
    return Track(track_id, "T", "A", license=license, extra=extra)


def test_a_catalog_is_counted(tmp_path: Path) -> None:
    rows = [
        track("a", license="CC-BY-4.0", provenance="sheet one", explicit=True),
        track("b", license="CC-BY-4.0", provenance="sheet two", explicit=None),
        track("c", license="CC0 | mine", provenance="sheet one", explicit=None),
    ]
    text = card(catalog_of(tmp_path / "songs", rows, [["a", "b"], ["a", "b", "c"]]))
    for line in (
        "# songs",
        "3 tracks with what is known of them, and 2 playlists",
        "| tracks a playlist, mean | 2.5 |",
        "| title | string | 3 | 100.0% |",
        "| lyrics | string | 0 | 0.0% |",
        "| explicit | bool | 1 | 33.3% |",
        "| CC-BY-4.0 | 2 |",
        "| CC0 \\| mine | 1 |",
        "| sheet one | 2 |",
        f"| SHA-256 of the source | {'5' * 64} |",
        "Licence of this dataset: unknown",
    ):
        assert line in text
    assert "fictional" not in text


def test_a_catalog_without_licences_claims_none(tmp_path: Path) -> None:
    folder = catalog_of(tmp_path / "songs", [track("a")], [])
    text = card(folder)
    assert "Licences of the tracks" not in text
    assert DatasetCard(text).data.license == "unknown"
    assert DatasetCard(card(folder, license="CC-BY-4.0")).data.license == "cc-by-4.0"


def test_the_demo_world_is_named_as_fictional(tmp_path: Path) -> None:
    make_world(tmp_path / "world", tracks=10, audio=False)
    text = card(tmp_path / "world")
    assert "**The catalogue is fictional.**" in text
    assert "synthetic" in DatasetCard(text).data.tags


def configs(text: str) -> dict[str, str]:
    found = DatasetCard(text).data.to_dict()["configs"]
    return {one["config_name"]: one["data_files"][0]["path"] for one in found}


def test_tracks_are_the_default_and_shards_are_found(tmp_path: Path) -> None:
    folder = catalog_of(tmp_path / "songs", [track("a"), track("b")], [["a", "b"]])
    whole = card(folder)
    assert configs(whole) == {"tracks": "tracks.parquet", "playlists": "playlists.parquet"}
    assert DatasetCard(whole).data.to_dict()["configs"][0]["default"] is True
    table = pq.read_table(folder / "tracks.parquet")
    for n in range(2):
        pq.write_table(table.slice(n, 1), folder / f"tracks-0000{n}-of-00002.parquet")
    (folder / "tracks.parquet").unlink()
    clips = pa.table({"track_id": ["a"], "audio": [{"bytes": b"", "path": "a.wav"}]})
    pq.write_table(clips, folder / "audio.parquet")
    sharded = card(folder)
    assert configs(sharded) == {
        "tracks": "tracks-*-of-*.parquet", "playlists": "playlists.parquet",
        "audio": "audio.parquet",
    }  # fmt: skip
    assert "| clips of sound | 1 |" in sharded
    # the same tracks, however they are cut
    columns = "Columns of the tracks:"
    assert (
        sharded.partition(columns)[2].partition("##")[0]
        == (whole.partition(columns)[2].partition("##")[0])
    )


def test_tables_are_told_from_their_shards_and_from_other_files() -> None:
    found = tables(
        ["test.parquet", "test2-00000-of-00002.parquet", "test2-00001-of-00002.parquet",
         "README.md", "a-b.parquet"]
    )  # fmt: skip
    assert found == {
        "a-b": "a-b.parquet", "test": "test.parquet", "test2": "test2-*-of-*.parquet",
    }  # fmt: skip


def test_packed_features_have_a_configuration_a_modality(
    features_folder: Path, tmp_path: Path
) -> None:
    pack_features(features_folder, tmp_path / "packed")
    text = card(tmp_path / "packed", repo_id="me/vectors")
    assert set(configs(text)) == {"playlist", "semantic", "metadata", "lyrics", "audio"}
    manifest = json.loads((features_folder / "manifest.json").read_text(encoding="utf-8"))
    lyrics = manifest["modalities"]["lyrics"]
    assert f"| lyrics | tfidf-svd | {lyrics['dim']} | {lyrics['present']} | 0 |" in text
    assert 'load_dataset("me/vectors"' in text


def test_features_that_are_not_packed_have_no_configuration(features_folder: Path) -> None:
    text = card(features_folder)
    assert "configs" not in DatasetCard(text).data.to_dict()
    assert "load_features" in text


def test_conversations_are_named_after_their_repo(
    conversations_folder: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "talks"
    shutil.copytree(conversations_folder, folder)
    text = card(folder, repo_id="me/talks", license="cc-by-4.0")
    data = DatasetCard(text).data
    assert (data.pretty_name, data.license) == ("talks", "cc-by-4.0")
    assert 'load_dataset("me/talks")' in text
    assert (folder / "README.md").read_text(encoding="utf-8") == card(folder)


@pytest.mark.parametrize("name", ["songs", "songs\n---\n# x"])
def test_a_title_is_one_line(tmp_path: Path, name: str) -> None:
    folder = catalog_of(tmp_path / "folder", [track("a")], [])
    text = card(folder, title=name)
    assert DatasetCard(text).data.pretty_name == " ".join(name.split())
    assert sum(line.startswith("# ") for line in text.splitlines()) == 1
