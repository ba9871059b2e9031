"""Another catalogue under the same model."""

import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import LlamaForCausalLM

from talkplay_hf.catalog.schema import Catalog, Message
from talkplay_hf.catalog.world import make_world
from talkplay_hf.cli import main
from talkplay_hf.errors import ArtifactError
from talkplay_hf.features.embed import embed
from talkplay_hf.hub import files
from talkplay_hf.recommend.recommender import Recommender
from talkplay_hf.tokenizing import encode_tokenizer, make_tokenizer
from talkplay_hf.tokens.build import read_token_catalog, write_token_catalog
from talkplay_hf.tokens.swap import swap_catalog
from talkplay_hf.tokens.takedown import remove_tracks
from talkplay_hf.tokens.tokenizer import SIDE_FILES, TalkPlayTokenizer

REQUEST = [Message("user", "some music please")]


@pytest.fixture(scope="module")
def other(features_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Another world of 30 tracks, and its features from the encoders of the first."""
    root = tmp_path_factory.mktemp("other")
    world = make_world(root / "catalog", tracks=30, seed=9, audio=False)
    table = world.tracks
    ids = [f"other-{one}" for one in world.track_ids]
    renamed = Catalog(
        table.set_column(0, table.schema.field(0), [ids]), world.playlists.slice(0, 0)
    )
    renamed.save(root / "named")
    embed(Catalog.load(root / "named"), root / "features", like=features_folder)
    return root / "named", root / "features"


@pytest.fixture(scope="module")
def other_folder(
    other: tuple[Path, Path], tokenizer_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The other world with codes of the first one's codebooks."""
    folder = tmp_path_factory.mktemp("other") / "tokenizer"
    encode_tokenizer(Catalog.load(other[0]), other[1], tokenizer_folder, folder)
    return folder


def fresh(folder: Path) -> TalkPlayTokenizer:
    tokenizer: TalkPlayTokenizer = TalkPlayTokenizer.from_pretrained(folder)
    return tokenizer


def side_files(tokenizer: TalkPlayTokenizer) -> dict[str, str | None]:
    return {key: tokenizer.init_kwargs.get(key) for key in SIDE_FILES}


def test_after_a_swap_only_tracks_of_the_other_catalogue_are_recommended(
    tiny_model: LlamaForCausalLM,
    tokenizer_folder: Path,
    other_folder: Path,
    other: tuple[Path, Path],
) -> None:
    tokenizer = fresh(tokenizer_folder)
    ids = tokenizer.chat_ids(REQUEST, [])
    swap_catalog(tokenizer, other_folder)
    assert tokenizer.chat_ids(REQUEST, []) == ids
    recommender = Recommender(tiny_model, tokenizer)
    theirs = set(Catalog.load(other[0]).track_ids)
    assert set(recommender.track_ids) == theirs
    assert {one.track.track_id for one in recommender.rank(REQUEST, 30)} == theirs
    for seed in range(5):
        assert recommender.chat(REQUEST, seed=seed).tracks[0].track_id in theirs
    assert recommender.examples == files.read_json(other_folder / files.EXAMPLES) != []


@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.sets(st.integers(0, 29), max_size=29), seed=st.integers(0, 1000))
def test_a_part_of_another_catalogue_is_a_catalogue_too(
    tiny_model: LlamaForCausalLM,
    tokenizer_folder: Path,
    other_folder: Path,
    tmp_path: Path,
    rows: set[int],
    seed: int,
) -> None:
    ids = [f"other-demo-{row:07d}" for row in rows]
    remove_tracks(other_folder, [*ids, "nobody"], tmp_path / "part", missing_ok=True)
    tokenizer = fresh(tokenizer_folder)
    swap_catalog(tokenizer, tmp_path / "part")
    played = Recommender(tiny_model, tokenizer).chat(REQUEST, seed=seed).tracks[0].track_id
    assert played.startswith("other-")
    assert played not in ids


def test_swapping_to_itself_changes_nothing(tokenizer_folder: Path, tmp_path: Path) -> None:
    tokenizer = fresh(tokenizer_folder)
    before, config = side_files(tokenizer), tokenizer.config
    swap_catalog(tokenizer, tokenizer_folder)
    assert (side_files(tokenizer), tokenizer.config) == (before, config)
    swapped, plain = tmp_path / "1" / "saved", tmp_path / "2" / "saved"
    tokenizer.save_pretrained(swapped)
    fresh(tokenizer_folder).save_pretrained(plain)
    for path in sorted(plain.iterdir()):
        assert (swapped / path.name).read_bytes() == path.read_bytes(), path.name


def test_a_swap_back_and_forth_ends_where_it_began(
    tokenizer_folder: Path, other_folder: Path
) -> None:
    tokenizer = fresh(tokenizer_folder)
    before, config = side_files(tokenizer), tokenizer.config
    swap_catalog(tokenizer, other_folder)
    assert side_files(tokenizer) != before
    swap_catalog(tokenizer, tokenizer_folder)
    assert (side_files(tokenizer), tokenizer.config) == (before, config)


def test_the_config_names_the_new_catalogue_and_keeps_the_weights_of_the_lookup(
    tokenizer_folder: Path, other_folder: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "other"
    shutil.copytree(other_folder, folder)
    path = folder / files.TALKPLAY_CONFIG
    values = files.read_json(path) | {"lookup_weights": [1, 1, 1, 1, 1], "base": "somebody/else"}
    files.write_json(path, values)
    tokenizer = fresh(tokenizer_folder)
    assert tokenizer.config.catalog_hash != values["catalog_hash"]  # read once before the swap
    swap_catalog(tokenizer, folder)
    assert tokenizer.config.catalog_hash == values["catalog_hash"]
    assert tokenizer.config.made_from == values["made_from"]
    assert tokenizer.config.lookup_weights == (25, 16, 9, 4, 1)
    assert tokenizer.config.base == "scratch"
    tokenizer.save_pretrained(tmp_path / "saved")
    assert fresh(tmp_path / "saved").config == tokenizer.config


@pytest.mark.parametrize(
    "name", [files.CATALOG_INDEX, files.CODEBOOK_LABELS, files.CODEBOOK_HEALTH, files.EXAMPLES]
)
def test_what_the_other_folder_lacks_is_not_taken_from_the_old_one(
    tiny_model: LlamaForCausalLM,
    tokenizer_folder: Path,
    other_folder: Path,
    tmp_path: Path,
    name: str,
) -> None:
    folder = tmp_path / "other"
    shutil.copytree(other_folder, folder)
    (folder / name).unlink()
    tokenizer = fresh(tokenizer_folder)
    swap_catalog(tokenizer, folder)
    recommender = Recommender(tiny_model, tokenizer)
    assert len(recommender.rank(REQUEST, 30)) == 30
    assert name != files.EXAMPLES or recommender.examples == []
    tokenizer.save_pretrained(tmp_path / "saved")
    assert not (tmp_path / "saved" / name).exists()


def test_other_codebooks_are_refused_by_name(
    world: Catalog, features_folder: Path, tokenizer_folder: Path, tmp_path: Path
) -> None:
    make_tokenizer(world, features_folder, tmp_path / "foreign", missing="reserve", seed=5)
    tokenizer = fresh(tokenizer_folder)
    before = side_files(tokenizer)
    with pytest.raises(ArtifactError) as refused:
        swap_catalog(tokenizer, tmp_path / "foreign")
    theirs = files.read_json(tmp_path / "foreign" / files.TALKPLAY_CONFIG)["codebook_hash"]
    for part in (
        str(tmp_path / "foreign"),
        theirs[:12],
        str(tokenizer_folder),
        tokenizer.config.codebook_hash[:12],
        "talkplay tokenize NEW_CATALOG NEW_FEATURES OUT --codebooks MODEL",
    ):
        assert part in str(refused.value)
    assert side_files(tokenizer) == before


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"modalities": ["semantic", "playlist", "metadata", "lyrics", "audio"]}, "modalities is"),
        ({"codes": [2, 2, 2, 2, 2]}, "codes is"),
        ({"missing": "impute"}, "missing is impute"),
    ],
)
def test_codes_that_are_read_in_another_way_are_refused(
    tokenizer_folder: Path,
    other_folder: Path,
    tmp_path: Path,
    change: dict[str, object],
    said: str,
) -> None:
    folder = tmp_path / "other"
    shutil.copytree(other_folder, folder)
    path = folder / files.TALKPLAY_CONFIG
    path.write_text(json.dumps(files.read_json(path) | change))
    with pytest.raises(ArtifactError, match=said):
        swap_catalog(fresh(tokenizer_folder), folder)


def test_damage_is_named_and_changes_nothing(
    tokenizer_folder: Path, other_folder: Path, tmp_path: Path
) -> None:
    tokenizer = fresh(tokenizer_folder)
    before = side_files(tokenizer)

    def broken(name: str, content: bytes | None) -> Path:
        folder = tmp_path / f"{len(list(tmp_path.iterdir()))}"
        shutil.copytree(other_folder, folder)
        (folder / name).unlink()
        if content is not None:
            (folder / name).write_bytes(content)
        return folder

    whole = (other_folder / files.TOKEN_CATALOG).read_bytes()
    codebooks = (other_folder / files.CODEBOOKS).read_bytes()
    for name, content, said in (
        (files.TOKEN_CATALOG, None, "has no catalog.parquet"),
        (files.TOKEN_CATALOG, whole[: len(whole) // 2], r"catalog\.parquet: cannot be read"),
        (files.TOKEN_CATALOG, b"", r"catalog\.parquet: cannot be read"),
        (files.TALKPLAY_CONFIG, None, "not a tokenizer or model folder"),
        (files.TALKPLAY_CONFIG, b"{", "not valid JSON"),
        (files.CODEBOOKS, codebooks[:-1] + b"\0", r"codebooks\.safetensors.*is not the file"),
    ):
        folder = broken(name, content)
        with pytest.raises(ArtifactError, match=said):
            swap_catalog(tokenizer, folder)
    assert side_files(tokenizer) == before
    # without codebooks of its own the hash in the config speaks for the folder
    swap_catalog(tokenizer, broken(files.CODEBOOKS, None))
    assert tokenizer.side_file("codebooks_file").parent == tokenizer_folder


def test_codes_beyond_the_codebooks_are_refused(
    tokenizer_folder: Path, other_folder: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "other"
    shutil.copytree(other_folder, folder)
    catalog, codes = read_token_catalog(folder / files.TOKEN_CATALOG)
    for wrong, said in (
        (codes + 4096, "beyond the codebooks"),
        (codes[:, :4], "4 codes a track, not 5"),
        (codes - np.max(codes) - 1, "beyond the codebooks"),
    ):
        write_token_catalog(catalog, wrong, folder / files.TOKEN_CATALOG)
        with pytest.raises(ArtifactError, match=rf"catalog\.parquet: has (codes )?{said}"):
            swap_catalog(fresh(tokenizer_folder), folder)


def test_a_swapped_tokenizer_still_travels_in_a_pickle(
    tokenizer_folder: Path, other_folder: Path
) -> None:
    tokenizer = fresh(tokenizer_folder)
    swap_catalog(tokenizer, other_folder)
    again = pickle.loads(pickle.dumps(tokenizer))
    assert again.side_file("token_catalog_file").parent == other_folder
    assert again.config == tokenizer.config


def test_a_folder_without_codes_is_refused_with_what_to_do(
    tokenizer_folder: Path, other: tuple[Path, Path], tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    for folder, what in (
        (other[0], "is a catalog folder"),
        (other[1], "is a features folder"),
        (tmp_path / "empty", "has no talkplay_config.json"),
    ):
        with pytest.raises(ArtifactError, match=rf"{folder}: {what}.*--codebooks MODEL"):
            swap_catalog(fresh(tokenizer_folder), folder)


def test_an_unknown_key_in_the_config_is_told_with_its_file(
    tokenizer_folder: Path, other_folder: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(other_folder, tmp_path / "other"))
    path = folder / files.TALKPLAY_CONFIG
    files.write_json(path, files.read_json(path) | {"colour": "red"})
    with pytest.raises(ArtifactError, match=rf"{path}: unknown key colour"):
        swap_catalog(fresh(tokenizer_folder), folder)


def test_a_catalogue_made_by_the_command_goes_under_the_model(
    model_folder: Path,
    other: tuple[Path, Path],
    other_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    call = ["tokenize", str(other[0]), str(other[1]), str(tmp_path / "out")]
    assert main([*call, "--codebooks", str(model_folder), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["tracks"] == 30
    made = (tmp_path / "out" / files.TOKEN_CATALOG).read_bytes()
    assert made == (other_folder / files.TOKEN_CATALOG).read_bytes()
    recommender = Recommender.from_pretrained(model_folder, catalog=tmp_path / "out")
    assert recommender.chat(REQUEST, seed=0).tracks[0].track_id.startswith("other-")
    for more, said in (
        (["--codebooks", str(model_folder), "--seed", "3"], "--codebooks fits nothing again"),
        (["--codebooks", str(model_folder), "--recode"], "only goes with --add"),
    ):
        assert main([*call, *more]) == 2
        assert said in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main([*call, "--codebooks", str(model_folder), "--add", str(model_folder)])
    assert "not allowed with" in capsys.readouterr().err


def test_features_of_other_encoders_are_refused(
    world: Catalog, other: tuple[Path, Path], tokenizer_folder: Path, tmp_path: Path
) -> None:
    catalog = Catalog.load(other[0])
    embed(catalog, tmp_path / "features", dim=16)
    with pytest.raises(ArtifactError, match="was not made like the features"):
        encode_tokenizer(catalog, tmp_path / "features", tokenizer_folder, tmp_path / "out")
