"""Adding tracks to a finished tokenizer or model folder."""

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from talkplay_hf.catalog.schema import MODALITIES, PLAYLIST_SCHEMA, Catalog, Message
from talkplay_hf.cli import main
from talkplay_hf.errors import ArtifactError, InputError
from talkplay_hf.hub import files
from talkplay_hf.hub.verify import verify_folder
from talkplay_hf.recommend.recommender import Recommender
from talkplay_hf.tokenizing import make_tokenizer
from talkplay_hf.tokens.build import KNOWN, read_known_codes, read_token_catalog
from talkplay_hf.tokens.config import TalkPlayConfig
from talkplay_hf.tokens.extend import add_tracks, encode_catalog
from talkplay_hf.tokens.tokenizer import TalkPlayTokenizer

Modalities = dict[str, tuple[np.ndarray, np.ndarray]]
CHANGED = {
    files.TOKEN_CATALOG,
    files.CATALOG_INDEX,
    files.TALKPLAY_CONFIG,
    files.CODEBOOK_HEALTH,
    files.CODEBOOK_LABELS,
    files.MANIFEST,
    files.CARD,
}


def part(catalog: Catalog, vectors: Modalities, rows: list[int]) -> tuple[Catalog, Modalities]:
    """Some tracks of a catalog under new ids, and their vectors."""
    table = catalog.tracks.take(rows)
    ids = [f"new-{one}" for one in table["track_id"].to_pylist()]
    table = table.set_column(0, "track_id", pa.array(ids))
    chosen = {name: (v[rows], p[rows]) for name, (v, p) in vectors.items()}
    return Catalog(table, PLAYLIST_SCHEMA.empty_table(), fingerprint="f" * 64), chosen


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_twins_of_old_tracks_get_their_codes_and_nothing_else_changes(
    tokenizer_folder: Path, world: Catalog, vectors: Modalities, tmp_path: Path
) -> None:
    rows = list(range(5, 25))
    more, chosen = part(world, vectors, rows)
    report = add_tracks(tokenizer_folder, more, chosen, tmp_path / "out")
    assert (report["added"], report["updated"], report["health"]["tracks"]) == (20, 0, 80)
    tracks, codes = read_token_catalog(tmp_path / "out" / files.TOKEN_CATALOG)
    _, old_codes = read_token_catalog(tokenizer_folder / files.TOKEN_CATALOG)
    assert tracks.track_ids == world.track_ids + more.track_ids
    np.testing.assert_array_equal(codes[:60], old_codes)
    np.testing.assert_array_equal(codes[60:], old_codes[rows])
    assert tracks.column("title")[60:] == more.column("title")
    before, after = contents(tokenizer_folder), contents(tmp_path / "out")
    assert before.keys() == after.keys()
    assert {name for name in before if before[name] != after[name]} == CHANGED
    config = TalkPlayConfig.load(tmp_path / "out" / files.TALKPLAY_CONFIG)
    assert config.catalog_hash == files.sha256_file(tmp_path / "out" / files.TOKEN_CATALOG)
    assert (
        config.codebook_hash
        == TalkPlayConfig.load(tokenizer_folder / files.TALKPLAY_CONFIG).codebook_hash
    )


def test_health_counts_the_new_tracks_and_keeps_what_training_told(
    tokenizer_folder: Path, world: Catalog, vectors: Modalities, tmp_path: Path
) -> None:
    more, chosen = part(world, vectors, [0] * 1 + [1, 2])
    add_tracks(tokenizer_folder, more, chosen, tmp_path / "out")
    before = files.read_json(tokenizer_folder / files.CODEBOOK_HEALTH)
    after = files.read_json(tmp_path / "out" / files.CODEBOOK_HEALTH)
    assert (before["tracks"], after["tracks"]) == (60, 63)
    assert after["largest_bucket"] >= 2
    for name in MODALITIES:
        assert after["modalities"][name]["training"] == before["modalities"][name]["training"]


def test_an_id_that_is_there_keeps_its_codes_and_takes_new_metadata(
    tokenizer_folder: Path, world: Catalog, vectors: Modalities, tmp_path: Path
) -> None:
    ids = [world.track_ids[3], "fresh"]
    table = pa.table(
        {
            "track_id": ids,
            "title": ["Renamed", "Fresh"],
            "artist": ["A", "B"],
            "brightness": [0.5, 1.5],
        }
    )
    catalog = Catalog(table, PLAYLIST_SCHEMA.empty_table())
    chosen = {name: (v[[9, 10]], p[[9, 10]]) for name, (v, p) in vectors.items()}
    report = add_tracks(tokenizer_folder, catalog, chosen, tmp_path / "out")
    assert (report["added"], report["updated"]) == (1, 1)
    tracks, codes = read_token_catalog(tmp_path / "out" / files.TOKEN_CATALOG)
    _, old_codes = read_token_catalog(tokenizer_folder / files.TOKEN_CATALOG)
    np.testing.assert_array_equal(codes, old_codes[[*range(60), 10]])
    renamed = tracks.track(ids[0])
    assert renamed.title == "Renamed"
    # the new table says nothing of albums or tags: the old values stay
    assert (renamed.album, renamed.tags) == (world.track_at(3).album, world.track_at(3).tags)
    assert tracks.column("brightness") == [None] * 3 + [0.5] + [None] * 56 + [1.5]
    assert tracks.track("fresh").extra["explicit"] is None


@pytest.fixture(scope="module")
def imputing_folder(
    world: Catalog, features_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    folder = tmp_path_factory.mktemp("imputing") / "tokenizer"
    make_tokenizer(world, features_folder, folder, missing="impute")
    return folder


def test_missing_codes_are_imputed_from_what_the_codebooks_were_fitted_on(
    imputing_folder: Path, world: Catalog, vectors: Modalities, tmp_path: Path
) -> None:
    more, chosen = part(world, vectors, list(range(10)))
    chosen["playlist"] = (chosen["playlist"][0], np.zeros(10, dtype=bool))
    add_tracks(imputing_folder, more, chosen, tmp_path / "once")
    path = tmp_path / "once" / files.TOKEN_CATALOG
    _, codes = read_token_catalog(path)
    known = read_known_codes(path, codes)
    assert known[:60, 0].any()
    assert not known[60:].any()
    assert set(codes[60:, 0].tolist()) <= set(codes[:60][known[:60, 0], 0].tolist())
    # tracks added in two goes get what they get in one: added ones are no donors
    first, first_vectors = part(world, chosen_of(vectors), list(range(5)))
    then, then_vectors = part(world, chosen_of(vectors), list(range(5, 10)))
    add_tracks(imputing_folder, first, first_vectors, tmp_path / "half")
    add_tracks(tmp_path / "half", then, then_vectors, tmp_path / "half")
    _, twice = read_token_catalog(tmp_path / "half" / files.TOKEN_CATALOG)
    np.testing.assert_array_equal(codes, twice)


def chosen_of(vectors: Modalities) -> Modalities:
    values, present = vectors["playlist"]
    return vectors | {"playlist": (values, np.zeros_like(present))}


def test_missing_modalities_get_the_reserved_code(
    tokenizer_folder: Path, world: Catalog, vectors: Modalities, tmp_path: Path
) -> None:
    more, chosen = part(world, chosen_of(vectors), [0, 1])
    # a modality that no new track has may come with any width
    chosen["playlist"] = (np.zeros((2, 1), dtype=np.float32), np.zeros(2, dtype=bool))
    add_tracks(tokenizer_folder, more, chosen, tmp_path / "out")
    _, codes = read_token_catalog(tmp_path / "out" / files.TOKEN_CATALOG)
    config = TalkPlayConfig.load(tokenizer_folder / files.TALKPLAY_CONFIG)
    assert codes[60:, 0].tolist() == [config.missing_code(0)] * 2


def test_a_model_folder_recommends_the_new_tracks(
    model_folder: Path,
    world: Catalog,
    vectors: Modalities,
    tmp_path: Path,
) -> None:
    (model_folder / "checkpoint-5").mkdir()
    (model_folder / "checkpoint-5" / "optimizer.bin").write_bytes(b"heavy")
    more, chosen = part(world, vectors, [0, 1, 2])
    add_tracks(model_folder, more, chosen, tmp_path / "grown")
    assert not (tmp_path / "grown" / "checkpoint-5").exists()
    weights = "model.safetensors"
    assert (tmp_path / "grown" / weights).read_bytes() == (model_folder / weights).read_bytes()
    recommender = Recommender.from_pretrained(tmp_path / "grown")
    assert len(recommender.catalog) == 63
    answer = recommender.chat([Message("user", "something new")], seed=0)
    assert answer.tracks


def test_in_place_and_the_same_bytes_each_time(
    tokenizer_folder: Path, world: Catalog, vectors: Modalities, tmp_path: Path
) -> None:
    more, chosen = part(world, vectors, [4, 5])
    # the card has the name of the folder
    place, aside = tmp_path / "1" / "grown", tmp_path / "2" / "grown"
    shutil.copytree(tokenizer_folder, place)
    add_tracks(place, more, chosen, place)
    add_tracks(tokenizer_folder, more, chosen, aside)
    assert contents(place) == contents(aside)


def test_a_damaged_health_report_is_named(
    tokenizer_folder: Path, world: Catalog, vectors: Modalities, tmp_path: Path
) -> None:
    shutil.copytree(tokenizer_folder, tmp_path / "old")
    (tmp_path / "old" / files.CODEBOOK_HEALTH).write_text("[]", encoding="utf-8")
    more, chosen = part(world, vectors, [4, 5])
    with pytest.raises(ArtifactError, match=r"codebook_health\.json: is not a codebook health"):
        add_tracks(tmp_path / "old", more, chosen, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_vectors_of_other_encoders_are_refused(
    tokenizer_folder: Path, world: Catalog, vectors: Modalities, tmp_path: Path
) -> None:
    more, chosen = part(world, vectors, [0, 1])
    values, present = chosen["semantic"]
    wide = chosen | {"semantic": (np.hstack([values, values]), present)}
    with pytest.raises(ArtifactError, match=r"semantic.*--like FEATURES"):
        add_tracks(tokenizer_folder, more, wide, tmp_path / "out")
    with pytest.raises(InputError, match="another catalog"):
        add_tracks(tokenizer_folder, world, chosen, tmp_path / "out")
    del chosen["audio"]
    with pytest.raises(InputError, match="'audio'"):
        add_tracks(tokenizer_folder, more, chosen, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_column_of_another_kind_is_named(
    tokenizer_folder: Path, world: Catalog, vectors: Modalities, tmp_path: Path
) -> None:
    more, chosen = part(world, vectors, [0])
    at = more.tracks.column_names.index("explicit")
    for values in ([["a", "list"]], [1], ["yes"]):
        table = more.tracks.set_column(at, "explicit", pa.array(values))
        odd = Catalog(table, PLAYLIST_SCHEMA.empty_table())
        with pytest.raises(InputError, match="'explicit'"):
            add_tracks(tokenizer_folder, odd, chosen, tmp_path / "out")


def test_other_folders_and_foreign_codebooks_are_refused(
    tokenizer_folder: Path, features_folder: Path, world: Catalog, vectors: Modalities,
    tmp_path: Path,
) -> None:  # fmt: skip
    more, chosen = part(world, vectors, [0])
    for folder in (features_folder, tmp_path / "nowhere"):
        with pytest.raises(ArtifactError, match="not a tokenizer or model folder"):
            add_tracks(folder, more, chosen, tmp_path / "out")
    with pytest.raises(ArtifactError, match="is a features folder"):
        add_tracks(tokenizer_folder, more, chosen, features_folder)
    shutil.copytree(tokenizer_folder, tmp_path / "foreign")
    path = tmp_path / "foreign" / files.TALKPLAY_CONFIG
    values = json.loads(path.read_text()) | {"codebook_hash": "0" * 64}
    path.write_text(json.dumps(values))
    with pytest.raises(ArtifactError, match="is not the file that"):
        add_tracks(tmp_path / "foreign", more, chosen, tmp_path / "out")


def test_a_folder_without_the_column_of_known_codes_can_still_grow(
    imputing_folder: Path, world: Catalog, vectors: Modalities, tmp_path: Path
) -> None:
    old = tmp_path / "old"
    shutil.copytree(imputing_folder, old)
    table = pq.read_table(old / files.TOKEN_CATALOG)
    assert KNOWN in table.column_names
    pq.write_table(table.drop_columns([KNOWN]), old / files.TOKEN_CATALOG)
    more, chosen = part(world, chosen_of(vectors), [0, 1])
    add_tracks(old, more, chosen, tmp_path / "out")
    tracks, codes = read_token_catalog(tmp_path / "out" / files.TOKEN_CATALOG)
    assert len(tracks) == len(codes) == 62
    assert KNOWN not in tracks.tracks.column_names


def test_whole_numbers_and_fractions_of_one_column_meet(
    tokenizer_folder: Path, world: Catalog, vectors: Modalities, tmp_path: Path
) -> None:
    more, chosen = part(world, vectors, [0])
    whole = Catalog(more.tracks.append_column("plays", pa.array([7])), more.playlists)
    add_tracks(tokenizer_folder, whole, chosen, tmp_path / "out")
    other, chosen = part(world, vectors, [1])
    half = Catalog(other.tracks.append_column("plays", pa.array([0.5])), other.playlists)
    add_tracks(tmp_path / "out", half, chosen, tmp_path / "out")
    # a column without values has no kind, whatever its type
    last, chosen = part(world, vectors, [2])
    empty = Catalog(last.tracks.append_column("plays", pa.nulls(1, pa.string())), last.playlists)
    add_tracks(tmp_path / "out", empty, chosen, tmp_path / "out")
    tracks, _ = read_token_catalog(tmp_path / "out" / files.TOKEN_CATALOG)
    assert tracks.column("plays") == [None] * 60 + [7.0, 0.5, None]


def test_old_tracks_get_new_codes_only_when_asked(
    tokenizer_folder: Path, world: Catalog, vectors: Modalities, tmp_path: Path
) -> None:
    _, before = read_token_catalog(tokenizer_folder / files.TOKEN_CATALOG)
    # tracks 3 and 4 come with the vectors of others
    catalog = Catalog(world.tracks.take([3, 4]), PLAYLIST_SCHEMA.empty_table())
    chosen = {name: (v[[30, 41]], p[[30, 41]]) for name, (v, p) in vectors.items()}
    report = add_tracks(tokenizer_folder, catalog, chosen, tmp_path / "out", recode=True)
    assert (report["added"], report["updated"]) == (0, 2)
    path = tmp_path / "out" / files.TOKEN_CATALOG
    tracks, after = read_token_catalog(path)
    assert tracks.track_ids == world.track_ids
    np.testing.assert_array_equal(after[[3, 4]], before[[30, 41]])
    rest = [row for row in range(60) if row not in (3, 4)]
    np.testing.assert_array_equal(after[rest], before[rest])
    # a code that the codebooks were not fitted with is no longer passed on
    assert not read_known_codes(path, after)[[3, 4]].any()
    # the labels of the codes name tracks that have them
    for label in pq.read_table(tmp_path / "out" / files.CODEBOOK_LABELS).to_pylist():
        held = after[:, MODALITIES.index(label["modality"])] == label["code"]
        assert label["tracks"] == held.sum()
        assert all(held[world.row(one)] for one in label["examples"])


@pytest.mark.parametrize("missing", ["reserve", "impute"])
def test_the_same_catalog_gets_the_same_codes_from_finished_codebooks(
    tokenizer_folder: Path,
    imputing_folder: Path,
    world: Catalog,
    vectors: Modalities,
    tmp_path: Path,
    missing: str,
) -> None:
    folder = {"reserve": tokenizer_folder, "impute": imputing_folder}[missing]
    encode_catalog(folder, world, vectors, tmp_path / "out")
    for name in (files.TOKEN_CATALOG, files.CATALOG_INDEX, files.CODEBOOK_LABELS, files.CODEBOOKS):
        assert (tmp_path / "out" / name).read_bytes() == (folder / name).read_bytes(), name
    assert files.read_json(tmp_path / "out" / files.EXAMPLES) == []
    assert TalkPlayTokenizer.from_pretrained(tmp_path / "out").get_vocab() == (
        TalkPlayTokenizer.from_pretrained(folder).get_vocab()
    )


def test_another_catalog_stands_alone_and_without_weights(
    model_folder: Path,
    tokenizer_folder: Path,
    world: Catalog,
    vectors: Modalities,
    tmp_path: Path,
) -> None:
    more, chosen = part(world, vectors, list(range(7, 20)))
    report = encode_catalog(
        model_folder, more, chosen, tmp_path / "out", examples=["Something slow"]
    )
    out = tmp_path / "out"
    assert files.folder_kind(out) == "tokenizer"
    assert not list(out.glob("model*"))
    assert report["tracks"] == 13
    tracks, codes = read_token_catalog(out / files.TOKEN_CATALOG)
    _, old = read_token_catalog(tokenizer_folder / files.TOKEN_CATALOG)
    assert tracks.track_ids == more.track_ids
    np.testing.assert_array_equal(codes, old[7:20])
    labelled = pq.read_table(out / files.CODEBOOK_LABELS)["examples"].to_pylist()
    assert {one for ids in labelled for one in ids} <= set(more.track_ids)
    ours, theirs = (TalkPlayConfig.load(f / files.TALKPLAY_CONFIG) for f in (tokenizer_folder, out))
    assert theirs.codebook_hash == ours.codebook_hash
    assert theirs.catalog_hash == files.sha256_file(out / files.TOKEN_CATALOG)
    assert theirs.made_from["catalog"] == more.fingerprint
    assert files.read_json(out / files.EXAMPLES) == ["Something slow"]
    verify_folder(out)


def test_a_catalog_of_its_own_passes_its_codes_on(
    imputing_folder: Path, world: Catalog, vectors: Modalities, tmp_path: Path
) -> None:
    more, chosen = part(world, vectors, list(range(30)))
    encode_catalog(imputing_folder, more, chosen, tmp_path / "own")
    path = tmp_path / "own" / files.TOKEN_CATALOG
    _, codes = read_token_catalog(path)
    # this world has no audio
    assert read_known_codes(path, codes).any(axis=0).tolist() == [True] * 4 + [False]
    late, late_vectors = part(world, chosen_of(vectors), [40])
    late = Catalog(
        late.tracks.set_column(0, "track_id", pa.array(["late"])), PLAYLIST_SCHEMA.empty_table()
    )
    add_tracks(tmp_path / "own", late, late_vectors, tmp_path / "own")
    _, grown = read_token_catalog(path)
    assert grown[30, 0] in set(codes[:, 0].tolist())
    # what was added there is no part of a third catalog; the encoders are still the first one's
    encode_catalog(tmp_path / "own", more, chosen, tmp_path / "third")
    origins = [
        TalkPlayConfig.load(folder / files.TALKPLAY_CONFIG).made_from
        for folder in (imputing_folder, tmp_path / "own", tmp_path / "third")
    ]
    assert ["added" in one for one in origins] == [False, True, False]
    assert len({one["features"] for one in origins}) == 1


def test_an_empty_catalog_or_other_vectors_get_no_codes(
    tokenizer_folder: Path, world: Catalog, vectors: Modalities, tmp_path: Path
) -> None:
    none = Catalog(world.tracks.slice(0, 0), PLAYLIST_SCHEMA.empty_table())
    with pytest.raises(InputError, match="no tracks"):
        encode_catalog(tokenizer_folder, none, vectors, tmp_path / "out")
    more, chosen = part(world, vectors, [0, 1])
    values, present = chosen["lyrics"]
    chosen["lyrics"] = (np.hstack([values, values]), present)
    with pytest.raises(ArtifactError, match=r"lyrics.*dimensions"):
        encode_catalog(tokenizer_folder, more, chosen, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_folder_that_lacks_a_file_gives_no_codes(
    tokenizer_folder: Path, world: Catalog, vectors: Modalities, tmp_path: Path
) -> None:
    shutil.copytree(tokenizer_folder, tmp_path / "old")
    (tmp_path / "old" / "tokenizer.json").unlink()
    more, chosen = part(world, vectors, [0, 1])
    with pytest.raises(ArtifactError, match=r"old: has no tokenizer\.json"):
        encode_catalog(tmp_path / "old", more, chosen, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_command_gives_new_codes_when_asked(
    tokenizer_folder: Path,
    world_folder: Path,
    features_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    call = ["tokenize", str(world_folder), str(features_folder)]
    for name, flags in (("kept", []), ("recoded", ["--recode"])):
        out = tmp_path / name
        assert main([*call, str(out), "--add", str(tokenizer_folder), *flags]) == 0
        assert "added 0 tracks, updated 60" in capsys.readouterr().out
        _, codes = read_token_catalog(out / files.TOKEN_CATALOG)
        assert read_known_codes(out / files.TOKEN_CATALOG, codes).any() == (name == "kept")
