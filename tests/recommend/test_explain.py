"""What codes stand for, how they led to a track, and what is around them."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import LlamaForCausalLM

from talkplay_hf.catalog.schema import Catalog
from talkplay_hf.errors import ArtifactError, InputError
from talkplay_hf.hub import files
from talkplay_hf.recommend.explain import Explanation
from talkplay_hf.recommend.recommender import Recommender
from talkplay_hf.tokenizing import make_tokenizer
from talkplay_hf.tokens.build import KNOWN
from talkplay_hf.tokens.tokenizer import TalkPlayTokenizer
from talkplay_hf.training.model.base import scratch_model
from talkplay_hf.training.model.vocabulary import grow_vocabulary

MODALITIES = ("playlist", "semantic", "metadata", "lyrics", "audio")
WEIGHTS = (25, 16, 9, 4, 1)


def all_codes(recommender: Recommender) -> np.ndarray:
    return np.array([recommender.codes(track_id) for track_id in recommender.track_ids])


def own(recommender: Recommender, track_id: str, k: int = 5) -> Explanation:
    return recommender.explain(recommender.codes(track_id), track_id, k=k)


def matched(recommender: Recommender, block: Sequence[int], row: int) -> tuple[str, ...]:
    """The modalities in which a track matches, by the words of the paper."""
    codes = recommender.codes(recommender.track_ids[row])
    if codes == tuple(block):
        return MODALITIES
    config = recommender.tokenizer.config
    return tuple(
        name
        for m, name in enumerate(MODALITIES)
        if codes[m] == block[m] and block[m] != config.missing_code(m)
    )


def weight(names: Sequence[str]) -> int:
    return sum(w for w, name in zip(WEIGHTS, MODALITIES, strict=True) if name in names)


@pytest.fixture
def folder(tokenizer_folder: Path, tmp_path: Path) -> Path:
    """A tokenizer folder that may be changed."""
    return Path(shutil.copytree(tokenizer_folder, tmp_path / "tokenizer"))


def load(model: LlamaForCausalLM, folder: Path) -> Recommender:
    return Recommender(model, TalkPlayTokenizer.from_pretrained(folder, verify=False))


# --- one track -------------------------------------------------------------------------------


def test_a_track_with_its_own_codes_is_an_exact_match(recommender: Recommender) -> None:
    for track_id in recommender.track_ids[:10]:
        codes = recommender.codes(track_id)
        explained = own(recommender, track_id)
        assert explained.track == recommender.track(track_id)
        assert explained.codes == codes
        assert explained.exact
        assert explained.matched == MODALITIES
        assert explained.weight == explained.total == sum(WEIGHTS)
        assert explained.equals == (all_codes(recommender) == codes).all(axis=1).sum()
        assert [one.modality for one in explained.meanings] == list(MODALITIES)
        assert [one.code for one in explained.meanings] == list(codes)
        assert [one.token for one in explained.meanings] == [
            recommender.tokenizer.convert_ids_to_tokens(i)
            for i in recommender.tokenizer.block_ids(codes)[1:-1]
        ]


def test_neighbours_share_the_code_and_the_most_popular_come_first(
    recommender: Recommender,
) -> None:
    codes = all_codes(recommender)
    for row, track_id in enumerate(recommender.track_ids[:15]):
        for m, meaning in enumerate(own(recommender, track_id, k=4).meanings):
            rows = np.flatnonzero(codes[:, m] == codes[row, m])
            assert meaning.tracks == len(rows)
            if meaning.is_missing:
                continue
            tracks = [recommender.track(recommender.track_ids[at]) for at in rows if at != row]
            tracks.sort(key=lambda one: -(one.popularity or 0))
            assert list(meaning.neighbours) == tracks[:4]


@pytest.mark.parametrize("known", [(), (-1.0, -2.0)])
def test_tracks_without_popularity_come_last_in_the_order_of_the_catalogue(
    tiny_model: LlamaForCausalLM, folder: Path, known: tuple[float, ...]
) -> None:
    path = folder / files.TOKEN_CATALOG
    table = pq.read_table(path)
    values = [*known] + [None] * (table.num_rows - 2 * len(known)) + [*known]
    at = table.column_names.index("popularity")
    column = pa.array(values, pa.float64())
    pq.write_table(table.set_column(at, "popularity", column), path)
    recommender = load(tiny_model, folder)
    for track_id in recommender.track_ids[:10]:
        for meaning in own(recommender, track_id, k=60).meanings:
            rows = [recommender.track_ids.index(one.track_id) for one in meaning.neighbours]
            assert rows == sorted(rows, key=lambda row: (-(values[row] or -9), row))


def test_a_track_that_differs_in_a_missing_code_is_no_exact_match(
    tiny_model: LlamaForCausalLM, folder: Path
) -> None:
    path = folder / files.TOKEN_CATALOG
    table = pq.read_table(path)
    codes = table["codes"].to_pylist()
    reserved = codes[0][3] = load(tiny_model, folder).tokenizer.config.missing_code(3)
    # two like the first, but with lyrics
    codes[1] = codes[2] = [*codes[0][:3], 0, codes[0][4]]
    assert reserved
    column = pa.array(codes, table["codes"].type)
    at = table.column_names.index("codes")
    pq.write_table(table.set_column(at, "codes", column), path)
    recommender = load(tiny_model, folder)
    explained = recommender.explain(codes[0], recommender.track_ids[1])
    assert explained.matched == MODALITIES[:3]
    alike = sum(one[:3] == codes[0][:3] and one != codes[0] for one in codes)
    assert alike >= 2
    assert (explained.exact, explained.equals, explained.weight) == (False, alike, 50)


def test_another_track_than_the_exact_one_says_in_what_it_matches(
    recommender: Recommender,
) -> None:
    block = recommender.codes(recommender.track_ids[0])
    everyone = [matched(recommender, block, row) for row in range(len(recommender.track_ids))]
    for row, track_id in enumerate(recommender.track_ids):
        explained = recommender.explain(block, track_id)
        assert explained.matched == everyone[row]
        assert explained.weight == weight(everyone[row])
        assert explained.exact == (everyone[row] == MODALITIES)
        assert explained.equals == (everyone.count(everyone[row]) if everyone[row] else 0)
        for meaning in explained.meanings:
            m = MODALITIES.index(meaning.modality)
            # nothing is said of data that led to another code
            assert (meaning.known is None) == (recommender.codes(track_id)[m] != block[m])


def test_without_a_track_the_best_match_is_told(recommender: Recommender) -> None:
    block = recommender.codes(recommender.track_ids[3])
    explained = recommender.explain(block, k=2)
    assert explained.track is None
    assert explained.exact
    assert all(one.known is None for one in explained.meanings)
    assert all(len(one.neighbours) <= 2 for one in explained.meanings)


# --- missing and guessed codes ---------------------------------------------------------------


def test_the_code_of_missing_stands_for_nothing_else(recommender: Recommender) -> None:
    codes = all_codes(recommender)
    reserved = recommender.tokenizer.config.missing_code(3)
    rows = np.flatnonzero(codes[:, 3] == reserved)
    assert 0 < len(rows) < len(codes)
    for row, track_id in enumerate(recommender.track_ids):
        lyrics = own(recommender, track_id).meanings[3]
        if row in rows:
            assert lyrics.is_missing
            assert (lyrics.known, lyrics.tags, lyrics.neighbours) == (False, (), ())
            assert lyrics.tracks == len(rows)
        else:
            assert not lyrics.is_missing
            assert lyrics.known is True
        assert lyrics.guessed == 0


@pytest.fixture(scope="module")
def imputed_folder(
    world: Catalog,
    features_folder: Path,
    conversations_folder: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    folder = tmp_path_factory.mktemp("imputed") / "tokenizer"
    make_tokenizer(
        world, features_folder, folder, conversations=conversations_folder, missing="impute"
    )
    return folder


@pytest.fixture(scope="module")
def imputed_model(imputed_folder: Path) -> LlamaForCausalLM:
    tokenizer = TalkPlayTokenizer.from_pretrained(imputed_folder)
    model = scratch_model(tokenizer, hidden_size=32, layers=1, heads=2, seed=0)
    grow_vocabulary(model, tokenizer)
    return model


@pytest.fixture
def imputed_copy(imputed_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(imputed_folder, tmp_path / "imputed"))


def with_known(folder: Path, known: np.ndarray | None) -> None:
    """Write which codes are known, or that it is not recorded."""
    path = folder / files.TOKEN_CATALOG
    table = pq.read_table(path).drop_columns([KNOWN])
    if known is not None:
        column = pa.FixedSizeListArray.from_arrays(pa.array(known.ravel()), known.shape[1])
        table = table.append_column(KNOWN, column)
    pq.write_table(table, path)


def test_an_imputed_code_is_told_to_be_a_guess(
    imputed_model: LlamaForCausalLM, imputed_copy: Path
) -> None:
    recommender = load(imputed_model, imputed_copy)
    codes = all_codes(recommender)
    known = np.ones(codes.shape, dtype=bool)
    known[::3, 3] = False  # no lyrics
    known[5] = False  # a track that the codebooks have not seen
    with_known(imputed_copy, known)
    recommender = load(imputed_model, imputed_copy)
    for row, track_id in enumerate(recommender.track_ids):
        meanings = own(recommender, track_id, k=60).meanings
        expected = [None] * 5 if row == 5 else [True, True, True, row % 3 != 0, True]
        assert [one.known for one in meanings] == expected
        assert not any(one.is_missing for one in meanings)
        lyrics = meanings[3]
        with_code = np.flatnonzero(codes[:, 3] == codes[row, 3])
        assert lyrics.guessed == np.count_nonzero((with_code % 3 == 0) & (with_code != 5))
        # those with lyrics of their own are shown first
        rows = [recommender.track_ids.index(one.track_id) for one in lyrics.neighbours]
        guesses = [at % 3 == 0 and at != 5 for at in rows]
        assert guesses == sorted(guesses)


def test_nothing_is_claimed_that_the_folder_does_not_record(
    imputed_model: LlamaForCausalLM, imputed_copy: Path
) -> None:
    with_known(imputed_copy, None)
    recommender = load(imputed_model, imputed_copy)
    for track_id in recommender.track_ids[:5]:
        assert {one.known for one in own(recommender, track_id).meanings} == {None}
        assert {one.guessed for one in own(recommender, track_id).meanings} == {0}


# --- tags ------------------------------------------------------------------------------------


def test_tags_are_those_of_the_folder(tiny_model: LlamaForCausalLM, folder: Path) -> None:
    path = folder / files.CODEBOOK_LABELS
    rows = pq.read_table(path).to_pylist()
    for row in rows:
        row["tags"] = [f"{row['modality']} of {row['code']}"]
    pq.write_table(pa.Table.from_pylist(rows), path)
    recommender = load(tiny_model, folder)
    for meaning in own(recommender, recommender.track_ids[0]).meanings:
        expected = () if meaning.is_missing else (f"{meaning.modality} of {meaning.code}",)
        assert meaning.tags == expected


def test_tags_are_counted_where_the_folder_has_none(
    tiny_model: LlamaForCausalLM, recommender: Recommender, folder: Path
) -> None:
    (folder / files.CODEBOOK_LABELS).unlink()
    counted = load(tiny_model, folder)
    assert any(one.tags for one in counted.codes_of("semantic"))
    for modality in MODALITIES:
        assert counted.codes_of(modality) == recommender.codes_of(modality)


@pytest.mark.parametrize("damage", ["not parquet", "no tags"])
def test_damaged_labels_are_named(tiny_model: LlamaForCausalLM, folder: Path, damage: str) -> None:
    path = folder / files.CODEBOOK_LABELS
    if damage == "not parquet":
        path.write_text("nothing")
    else:
        pq.write_table(pq.read_table(path).drop_columns(["tags"]), path)
    recommender = load(tiny_model, folder)
    with pytest.raises(ArtifactError, match=files.CODEBOOK_LABELS):
        recommender.codes_of("semantic")


# --- codes in use ----------------------------------------------------------------------------


def test_the_codes_of_a_modality_are_those_in_use(recommender: Recommender) -> None:
    codes = all_codes(recommender)
    for m, modality in enumerate(MODALITIES):
        menu = recommender.codes_of(modality)
        used, counts = np.unique(codes[:, m], return_counts=True)
        assert [one.code for one in menu] == used.tolist()
        assert [one.tracks for one in menu] == counts.tolist()
        assert {one.modality for one in menu} == {modality}
        assert not any(one.neighbours for one in menu)


# --- looking up ------------------------------------------------------------------------------


@settings(max_examples=80)
@given(st.data())
def test_a_block_finds_exact_matches_then_those_of_the_largest_weight(
    recommender: Recommender, data: st.DataObject
) -> None:
    codes = all_codes(recommender)
    # codes of tracks, each modality from another one, so that something matches
    rows = data.draw(st.lists(st.integers(0, len(codes) - 1), min_size=5, max_size=5))
    block = [int(codes[row, m]) for m, row in enumerate(rows)]
    k = data.draw(st.integers(1, 70))
    everyone = [matched(recommender, block, row) for row in range(len(codes))]
    around = [row for row, names in enumerate(everyone) if names]

    def place(row: int) -> tuple[bool, int, list[bool], int]:
        exact = tuple(codes[row]) == tuple(block)
        absent = [name not in everyone[row] for name in MODALITIES]
        return not exact, -weight(everyone[row]), absent, row

    expected = sorted(around, key=place)[:k]
    found = recommender.look_up(block, k)
    assert [one.track.track_id for one in found] == [recommender.track_ids[r] for r in expected]
    assert [one.matched for one in found] == [everyone[row] for row in expected]
    assert [one.weight for one in found] == [weight(everyone[row]) for row in expected]
    assert [one.codes for one in found] == [tuple(codes[row].tolist()) for row in expected]


def test_a_swapped_token_shows_another_list(recommender: Recommender) -> None:
    block = list(recommender.codes(recommender.track_ids[0]))
    before = recommender.look_up(block)
    menu = [one for one in recommender.codes_of("playlist") if not one.is_missing]
    block[0] = next(one.code for one in menu if one.code != block[0])
    after = recommender.look_up(block)
    assert before[0].matched == MODALITIES
    assert [one.track for one in after] != [one.track for one in before]
    assert any("playlist" in one.matched for one in after)


# --- what is refused, and JSON ---------------------------------------------------------------


@pytest.mark.parametrize(
    "block",
    [
        (),
        (0, 0, 0, 0),
        (0,) * 6,
        (0, 0, 0, 0, 10_000),
        (-1, 0, 0, 0, 0),
        (0.5, 0, 0, 0, 0),
        "01234",
    ],
)
def test_codes_that_do_not_fit_are_refused(recommender: Recommender, block: Sequence[int]) -> None:
    with pytest.raises(InputError, match="codes"):
        recommender.explain(block)
    with pytest.raises(InputError, match="codes"):
        recommender.look_up(block)


def test_what_does_not_exist_is_refused(recommender: Recommender) -> None:
    block = recommender.codes(recommender.track_ids[0])
    with pytest.raises(InputError, match="no track 'nobody'"):
        recommender.explain(block, "nobody")
    with pytest.raises(InputError, match="must be one of playlist, semantic"):
        recommender.codes_of("smell")
    with pytest.raises(InputError, match="k -1"):
        recommender.explain(block, k=-1)
    with pytest.raises(InputError, match="k 0"):
        recommender.look_up(block, 0)


def test_everything_goes_into_json(recommender: Recommender) -> None:
    track_id = recommender.track_ids[1]
    explained = own(recommender, track_id)
    written = json.loads(json.dumps(explained.to_dict()))
    assert written["track"]["track_id"] == track_id
    assert [one["token"] for one in written["meanings"]] == [m.token for m in explained.meanings]
    assert written["meanings"][1]["neighbours"][0] == {
        "track_id": explained.meanings[1].neighbours[0].track_id,
        "title": explained.meanings[1].neighbours[0].title,
        "artist": explained.meanings[1].neighbours[0].artist,
    }
    found = json.loads(json.dumps(recommender.look_up(explained.codes, 1)[0].to_dict()))
    assert found["weight"] == 55
    assert found["matched"] == list(MODALITIES)
