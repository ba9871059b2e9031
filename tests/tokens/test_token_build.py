"""From features to a tokenizer folder."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from talkplay_hf.catalog.schema import Catalog
from talkplay_hf.catalog.splits import cold_tracks
from talkplay_hf.errors import ArtifactError, InputError
from talkplay_hf.features.store import load_features
from talkplay_hf.hub import files
from talkplay_hf.tokenizing import make_tokenizer
from talkplay_hf.tokens.bpe import train_bpe
from talkplay_hf.tokens.build import (
    KNOWN,
    load_base_tokenizer,
    load_centroids,
    read_known_codes,
    read_token_catalog,
    tokenize,
    write_token_catalog,
)
from talkplay_hf.tokens.codebooks import Codebook
from talkplay_hf.tokens.config import MODALITIES, TalkPlayConfig


def test_token_catalog_round_trip(world: Catalog, tmp_path: Path) -> None:
    codes = np.random.default_rng(0).integers(0, 9, size=(len(world), 5)).astype(np.int32)
    write_token_catalog(world, codes, tmp_path / "catalog.parquet")
    tracks, read = read_token_catalog(tmp_path / "catalog.parquet")
    np.testing.assert_array_equal(read, codes)
    assert tracks.track_ids == world.track_ids
    for name in ("title", "artist", "tags", "release_date", "explicit"):
        assert tracks.column(name) == world.column(name)
    # heavy text stays out of what goes to the Hub with the model
    assert set(tracks.column("lyrics")) == {None}


def test_a_damaged_token_catalog_is_refused(world: Catalog, tmp_path: Path) -> None:
    path = tmp_path / "catalog.parquet"
    with pytest.raises(ArtifactError, match=r"catalog\.parquet"):
        read_token_catalog(path)
    pq.write_table(world.tracks, path)
    with pytest.raises(ArtifactError, match="codes"):
        read_token_catalog(path)
    ragged = pa.array([[0, 1]] * (len(world) - 1) + [[0]])
    pq.write_table(world.tracks.append_column("codes", ragged), path)
    with pytest.raises(ArtifactError, match="cannot be read"):
        read_token_catalog(path)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ArtifactError, match="cannot be read"):
        read_token_catalog(path)


@pytest.mark.parametrize("known", [True, [True] * 4, ["yes"] * 5, [1] * 5, 1, None], ids=str)
def test_damaged_marks_of_known_codes_are_refused(
    world: Catalog, tmp_path: Path, known: object
) -> None:
    path, codes = tmp_path / "catalog.parquet", np.zeros((len(world), 5), dtype=np.int32)
    write_token_catalog(world, codes, path)
    pq.write_table(pq.read_table(path).append_column(KNOWN, pa.array([known] * 60)), path)
    assert len(read_token_catalog(path)[1]) == len(world)
    with pytest.raises(ArtifactError, match=r"catalog\.parquet: codes_known is not one true or"):
        read_known_codes(path, codes)


def test_the_folder_agrees_with_itself(
    tokenizer_folder: Path, features_folder: Path, world: Catalog
) -> None:
    config = TalkPlayConfig.load(tokenizer_folder / files.TALKPLAY_CONFIG)
    assert config.codebook_hash == files.sha256_file(tokenizer_folder / files.CODEBOOKS)
    assert config.catalog_hash == files.sha256_file(tokenizer_folder / files.TOKEN_CATALOG)
    tracks, codes = read_token_catalog(tokenizer_folder / files.TOKEN_CATALOG)
    assert tracks.track_ids == world.track_ids
    centroids = load_centroids(tokenizer_folder / files.CODEBOOKS)
    _, features = load_features(features_folder)
    for m, (name, size) in enumerate(zip(MODALITIES, config.codes, strict=True)):
        present = features[name].present
        nearest = Codebook(centroids[name], size).encode(features[name].vectors)
        np.testing.assert_array_equal(codes[present, m], nearest[present])
        assert (codes[~present, m] == config.missing_code(m)).all()
    report = files.read_json(tokenizer_folder / files.CODEBOOK_HEALTH)
    assert report["distinct_tuples"] == len(np.unique(codes, axis=0))


def test_the_same_input_gives_the_same_bytes(
    world: Catalog, features_folder: Path, tmp_path: Path
) -> None:
    folders = [tmp_path / name / "tokenizer" for name in ("one", "two")]
    for folder in folders:
        make_tokenizer(world, features_folder, folder, seed=3)
    one, two = ({p.name: p.read_bytes() for p in folder.iterdir()} for folder in folders)
    assert one == two


def test_features_of_another_catalog_are_refused(
    audio_world: Catalog, features_folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(ArtifactError, match="other tracks"):
        make_tokenizer(audio_world, features_folder, tmp_path / "out")
    _, features = load_features(features_folder)
    with pytest.raises(InputError, match="another catalog"):
        tokenize(
            audio_world,
            {name: (m.vectors, m.present) for name, m in features.items()},
            tmp_path / "out",
            base=train_bpe(["text"]),
            base_name="scratch",
        )
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("option", "said"), [({"codes": 48}, "48"), ({"codes": 1}, "1"), ({"missing": "no"}, "'no'")]
)
def test_an_option_out_of_range_is_refused(
    world: Catalog, features_folder: Path, tmp_path: Path, option: dict[str, object], said: str
) -> None:
    with pytest.raises(InputError, match=said):
        make_tokenizer(world, features_folder, tmp_path / "out", **option)  # type: ignore[arg-type]
    assert not (tmp_path / "out").exists()


def test_a_base_that_cannot_be_loaded_is_named(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="nowhere"):
        load_base_tokenizer(str(tmp_path / "nowhere"))


@pytest.mark.parametrize("missing", ["reserve", "impute"])
def test_no_codebook_and_no_imputed_code_depends_on_a_cold_track(
    world: Catalog, features_folder: Path, tmp_path: Path, missing: str
) -> None:
    # one playlist is held out: what stands in no other is cold
    split = pa.array(["test"] + ["train"] * (world.playlists.num_rows - 1))
    playlists = world.playlists
    if "split" in playlists.column_names:
        playlists = playlists.drop_columns("split")
    few = playlists.append_column("split", split).slice(0, 4)
    catalog = Catalog(world.tracks, few)
    cold = cold_tracks(catalog)
    assert 0 < cold.sum() < len(world)
    _, features = load_features(features_folder)
    given = {name: (np.array(m.vectors), np.array(m.present)) for name, m in features.items()}
    holes = np.arange(len(world)) % 3 == 0
    given["semantic"][1][holes] = False
    rng = np.random.default_rng(0)
    other = {
        name: (np.where(cold[:, None], rng.normal(size=v.shape), v).astype(np.float32), p)
        for name, (v, p) in given.items()
    }
    codes = []
    for name, vectors in (("given", given), ("other", other)):
        report = tokenize(
            catalog,
            vectors,
            tmp_path / name,
            base=train_bpe(["text"]),
            base_name="scratch",
            missing=missing,
        )
        assert report["modalities"]["metadata"]["fitted_on"] == (~cold).sum()
        codes.append(read_token_catalog(tmp_path / name / files.TOKEN_CATALOG)[1])
    one, two = (files.sha256_file(tmp_path / n / files.CODEBOOKS) for n in ("given", "other"))
    assert one == two
    np.testing.assert_array_equal(codes[0][~cold], codes[1][~cold])
    assert not np.array_equal(codes[0][cold], codes[1][cold])
