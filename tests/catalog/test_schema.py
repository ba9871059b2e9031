"""The catalog folder and the shared dataclasses."""

from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from talkplay_hf.catalog.schema import (
    PLAYLIST_SCHEMA,
    TRACK_SCHEMA,
    Catalog,
    Playlist,
    Track,
    release_year,
)
from talkplay_hf.errors import ArtifactError, InputError

NO_PLAYLISTS = PLAYLIST_SCHEMA.empty_table()


def table(**columns: list[object]) -> pa.Table:
    base: dict[str, list[object]] = {
        "track_id": ["a", "b", "c"],
        "title": ["A", "B", "C"],
        "artist": ["x", "y", "z"],
    }
    return pa.table(base | columns)


@pytest.mark.parametrize("name", ["track_id", "title", "artist"])
def test_required_columns(name: str):
    with pytest.raises(InputError, match=f"{name}.*missing"):
        Catalog(table().drop_columns(name), NO_PLAYLISTS)


@pytest.mark.parametrize("name", ["playlist_id", "track_ids"])
def test_required_playlist_columns(name: str):
    lists = pa.table({"playlist_id": ["p"], "track_ids": [["a"]]}).drop_columns(name)
    with pytest.raises(InputError, match=f"playlists.*{name}"):
        Catalog(table(), lists)


def test_a_null_title_is_told_with_its_row():
    with pytest.raises(InputError, match="row 2: title is missing"):
        Catalog(table(title=["A", "B", None]), NO_PLAYLISTS)


def test_a_duplicate_id_is_told_with_its_row():
    with pytest.raises(InputError, match="row 2: track_id 'a' stands twice"):
        Catalog(table(track_id=["a", "b", "a"]), NO_PLAYLISTS)


def test_a_column_of_the_wrong_type_is_named():
    with pytest.raises(InputError, match="tempo"):
        Catalog(table(tempo=["fast", "slow", "120"]), NO_PLAYLISTS)


def test_absent_columns_are_null_and_extra_columns_are_kept():
    catalog = Catalog(table(energy=[0.1, None, 0.3], explicit=[True, False, None]), NO_PLAYLISTS)
    assert catalog.tracks.column_names == [*TRACK_SCHEMA.names, "energy", "explicit"]
    assert catalog.extra_columns == ["energy", "explicit"]
    assert catalog.column("album") == [None] * 3
    track = catalog.track("c")
    assert track.get("energy") == 0.3
    assert track.get("explicit") is None
    assert track.get("nothing like it") is None
    assert track.tags == ()


def test_unknown_tracks_and_columns_are_input_errors():
    catalog = Catalog(table(), NO_PLAYLISTS)
    assert "a" in catalog
    assert "q" not in catalog
    with pytest.raises(InputError, match="'q'"):
        catalog.track("q")
    with pytest.raises(InputError, match=r"'valence'.*title"):
        catalog.column("valence")


@pytest.mark.parametrize(
    ("date", "year"),
    [
        ("1999", 1999),
        ("1999-05", 1999),
        ("2020-02-29", 2020),
        (None, None),
        ("", None),
        ("99", None),
        ("May 1999", None),
        ("19x9", None),
        ("１９９９", None),
    ],
)
def test_release_year(date: str | None, year: int | None):
    assert release_year(date) == year
    catalog = Catalog.from_tracks([Track("a", "A", "x", release_date=date)])
    assert catalog.column("year") == [year]
    assert catalog.track("a").get("year") == year


def test_save_and_load(tmp_path: Path):
    tracks = [
        Track("a", "A", "x", tags=("jazz", "slow"), tempo=90.0, extra={"mood": "calm"}),
        Track("b", "B", "y", lyrics="la la", extra={"mood": None, "loud": True}),
    ]
    lists = [Playlist("p", ("b", "a", "gone"), name="Both"), Playlist("q", ())]
    catalog = Catalog.from_tracks(tracks, lists)
    catalog.save(tmp_path / "catalog", {"source": "f" * 64})
    loaded = Catalog.load(tmp_path / "catalog")
    assert loaded.tracks.equals(catalog.tracks)
    assert [loaded.track_at(row) for row in range(2)] == [
        Track("a", "A", "x", tags=("jazz", "slow"), tempo=90.0,
              extra={"loud": None, "mood": "calm"}),
        Track("b", "B", "y", lyrics="la la", extra={"loud": True, "mood": None}),
    ]  # fmt: skip
    assert list(loaded.iter_playlists()) == lists
    assert loaded.root == tmp_path / "catalog"
    assert len(loaded.fingerprint) == 64


def test_the_fingerprint_is_of_the_content(tmp_path: Path):
    found = []
    for name, title in (("one", "A"), ("two", "A"), ("three", "B")):
        Catalog.from_tracks([Track("a", title, "x")]).save(tmp_path / name)
        found.append(Catalog.load(tmp_path / name).fingerprint)
    assert found[0] == found[1] != found[2]


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.text(min_size=1),
            st.text(),
            st.lists(st.text(), min_size=1, max_size=3),
            st.none() | st.floats(allow_nan=False),
        ),
        max_size=6,
        unique_by=lambda row: row[0],
    )
)
def test_any_track_comes_back(
    tmp_path_factory: pytest.TempPathFactory,
    rows: list[tuple[str, str, list[str], float | None]],
):
    tracks = [Track(i, title, title[::-1], tags=tuple(tags), tempo=t) for i, title, tags, t in rows]
    folder = tmp_path_factory.mktemp("any") / "catalog"
    Catalog.from_tracks(tracks).save(folder)
    loaded = Catalog.load(folder)
    assert [loaded.track(track.track_id) for track in tracks] == tracks


@pytest.mark.parametrize("name", ["tracks.parquet", "playlists.parquet", "manifest.json"])
@pytest.mark.parametrize("damage", ["gone", "cut"])
def test_a_damaged_folder_is_refused(name: str, damage: str, tmp_path: Path):
    folder = tmp_path / "catalog"
    Catalog.from_tracks([Track("a", "A", "x")]).save(folder)
    path = folder / name
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:30])
    with pytest.raises(ArtifactError, match="catalog"):
        Catalog.load(folder)
