"""Taking tracks out of a finished tokenizer or model folder."""

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from talkplay_hf.catalog.schema import PLAYLIST_SCHEMA, Catalog, Message
from talkplay_hf.cli import main
from talkplay_hf.errors import ArtifactError, InputError
from talkplay_hf.hub import files
from talkplay_hf.hub.verify import verify_folder
from talkplay_hf.recommend.recommender import Recommender
from talkplay_hf.tokens.build import KNOWN, read_known_codes, read_token_catalog
from talkplay_hf.tokens.config import TalkPlayConfig
from talkplay_hf.tokens.extend import add_tracks
from talkplay_hf.tokens.takedown import remove_tracks

Modalities = dict[str, tuple[np.ndarray, np.ndarray]]
some_rows = st.sets(st.integers(0, 59), min_size=1, max_size=59)
few = settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def holds(folder: Path, word: str) -> list[str]:
    """Files of a folder in which a word stands: in any cell of a table, or in the bytes."""
    found = []
    for path in sorted(folder.rglob("*")):
        # dictionaries and statistics of a Parquet file are bytes, too
        text = path.read_bytes().decode("utf-8", "replace") if path.is_file() else ""
        if path.suffix == ".parquet":
            text += json.dumps(pq.read_table(path).to_pylist(), default=str)
        if word in text:
            found.append(path.name)
    return found


@few
@given(rows=some_rows)
def test_no_file_names_a_removed_track(
    tokenizer_folder: Path, world: Catalog, tmp_path: Path, rows: set[int]
) -> None:
    gone = [world.track_ids[row] for row in sorted(rows)]
    counts = remove_tracks(tokenizer_folder, gone, tmp_path / "out")
    assert (counts["removed"], counts["left"]) == (len(rows), 60 - len(rows))
    assert [one for one in gone if holds(tmp_path / "out", one)] == []
    verify_folder(tmp_path / "out")
    tracks, codes = read_token_catalog(tmp_path / "out" / files.TOKEN_CATALOG)
    _, before = read_token_catalog(tokenizer_folder / files.TOKEN_CATALOG)
    keep = [row for row in range(60) if row not in rows]
    assert tracks.track_ids == [world.track_ids[row] for row in keep]
    np.testing.assert_array_equal(codes, before[keep])


@few
@given(rows=some_rows)
def test_what_was_added_and_removed_leaves_no_trace(
    tokenizer_folder: Path, world: Catalog, vectors: Modalities, tmp_path: Path, rows: set[int]
) -> None:
    chosen = sorted(rows)
    ids = [f"late-{row}" for row in chosen]
    table = world.tracks.take(chosen).set_column(0, "track_id", pa.array(ids))
    more = Catalog(table, PLAYLIST_SCHEMA.empty_table())
    add_tracks(
        tokenizer_folder, more, {n: (v[chosen], p[chosen]) for n, (v, p) in vectors.items()},
        tmp_path / "grown",
    )  # fmt: skip
    remove_tracks(tmp_path / "grown", ids, tmp_path / "back")
    before, after = contents(tokenizer_folder), contents(tmp_path / "back")
    for name in (files.TOKEN_CATALOG, files.CATALOG_INDEX, files.CODEBOOK_LABELS):
        assert after[name] == before[name], name
    assert json.loads(after[files.CODEBOOK_HEALTH]) == json.loads(before[files.CODEBOOK_HEALTH])


def test_codebooks_vocabulary_and_weights_keep_their_bytes(
    model_folder: Path, world: Catalog, tmp_path: Path
) -> None:
    remove_tracks(model_folder, world.track_ids[:20], tmp_path / "out")
    before, after = contents(model_folder), contents(tmp_path / "out")
    assert before.keys() == after.keys()
    same = {"model.safetensors", "config.json", "tokenizer.json", "codebooks.safetensors"}
    assert same <= {name for name in before if before[name] == after[name]}
    ours, theirs = (
        TalkPlayConfig.load(folder / files.TALKPLAY_CONFIG)
        for folder in (model_folder, tmp_path / "out")
    )
    assert theirs.codebook_hash == ours.codebook_hash
    assert theirs.catalog_hash == files.sha256_file(tmp_path / "out" / files.TOKEN_CATALOG)
    # another folder's weights must not change with this one's
    assert (tmp_path / "out" / "model.safetensors").stat().st_nlink == 1


def test_a_removed_track_is_never_recommended(model_folder: Path, world: Catalog) -> None:
    gone = set(world.track_ids[:40])
    (model_folder / "checkpoint-5").mkdir()
    (model_folder / "checkpoint-5" / "note.json").write_text(json.dumps(world.track_ids[:1]))
    weights = (model_folder / "model.safetensors").stat().st_ino
    remove_tracks(model_folder, gone, model_folder)
    assert not (model_folder / "checkpoint-5").exists()
    # in place, weights are not copied
    assert (model_folder / "model.safetensors").stat().st_ino == weights
    recommender = Recommender.from_pretrained(model_folder)
    found = recommender.rank([Message("user", "anything")], 60)
    assert {one.track.track_id for one in found} == set(world.track_ids[40:])
    with pytest.raises(InputError, match="no track"):
        recommender.track(world.track_ids[0])


def test_examples_that_name_what_is_gone_go_too(
    tokenizer_folder: Path, world: Catalog, tmp_path: Path
) -> None:
    folder = tmp_path / "tokenizer"
    shutil.copytree(tokenizer_folder, folder)
    track = world.track_at(0)
    others = [row for row in range(60) if world.track_at(row).artist == track.artist]
    assert len(others) > 1
    said = [f"play {track.title.upper()}!", f"songs by {track.artist}", f"x{track.title}x", "jazz"]
    files.write_json(folder / files.EXAMPLES, said)
    one = remove_tracks(folder, [track.track_id], tmp_path / "one")
    # other tracks still have the artist, and a part of a word is no title
    assert files.read_json(tmp_path / "one" / files.EXAMPLES) == said[1:]
    assert one["examples"] == 1
    remove_tracks(folder, [world.track_ids[row] for row in others], tmp_path / "all")
    assert files.read_json(tmp_path / "all" / files.EXAMPLES) == said[2:]


def test_a_file_that_still_names_the_track_is_told(
    tokenizer_folder: Path, world: Catalog, tmp_path: Path
) -> None:
    folder = tmp_path / "tokenizer"
    shutil.copytree(tokenizer_folder, folder)
    track = world.track_at(0)
    (folder / files.CARD).write_text(f"# My songs\n\nHear {track.title} first.\n")
    (folder / "notes").mkdir()
    (folder / "notes" / "seen.json").write_text(json.dumps({"id": track.track_id}))
    pq.write_table(pa.table({"of": [[track.track_id]]}), folder / "top.parquet")
    (folder / "other.json").write_text(json.dumps(world.track_ids[1]))
    counts = remove_tracks(folder, [track.track_id], tmp_path / "out")
    assert counts["mentions"] == ["README.md", "notes/seen.json", "top.parquet"]
    # what a person wrote is left to a person
    assert (tmp_path / "out" / files.CARD).read_text().startswith("# My songs")


def test_unknown_ids_are_named_and_nothing_is_written(
    tokenizer_folder: Path, world: Catalog, tmp_path: Path
) -> None:
    ids = [world.track_ids[0], *(f"nobody-{number}" for number in range(9))]
    with pytest.raises(InputError, match=r"'nobody-0'.*'nobody-4' and 4 more \(9 unknown\)"):
        remove_tracks(tokenizer_folder, ids, tmp_path / "out")
    with pytest.raises(InputError, match="no track would be left"):
        remove_tracks(tokenizer_folder, world.track_ids, tmp_path / "out")
    with pytest.raises(InputError, match="no track ids"):
        remove_tracks(tokenizer_folder, [], tmp_path / "out")
    assert list(tmp_path.iterdir()) == []
    counts = remove_tracks(tokenizer_folder, ids, tmp_path / "out", missing_ok=True)
    assert (counts["removed"], counts["unknown"], counts["left"]) == (1, 9, 59)
    again = remove_tracks(tmp_path / "out", ids, tmp_path / "out", missing_ok=True)
    assert (again["removed"], again["unknown"], again["left"]) == (0, 10, 59)


def test_which_codes_are_passed_on_stays_with_the_tracks(
    tokenizer_folder: Path, world: Catalog, tmp_path: Path
) -> None:
    remove_tracks(tokenizer_folder, world.track_ids[::2], tmp_path / "out")
    known = []
    for folder in (tokenizer_folder, tmp_path / "out"):
        path = folder / files.TOKEN_CATALOG
        assert KNOWN in pq.read_schema(path).names
        known.append(read_known_codes(path, read_token_catalog(path)[1]))
    assert not known[0].all()
    np.testing.assert_array_equal(known[1], known[0][1::2])


def test_a_category_of_removed_tracks_alone_is_not_kept_in_the_file(
    tokenizer_folder: Path, world: Catalog, tmp_path: Path
) -> None:
    folder = tmp_path / "tokenizer"
    shutil.copytree(tokenizer_folder, folder)
    table = pq.read_table(folder / files.TOKEN_CATALOG)
    labels = pa.array(["secret-label"] + ["other"] * 59).dictionary_encode()
    pq.write_table(table.append_column("shelf", labels), folder / files.TOKEN_CATALOG)
    remove_tracks(folder, world.track_ids[:1], tmp_path / "out")
    assert holds(tmp_path / "out", "secret-label") == []
    tracks, _ = read_token_catalog(tmp_path / "out" / files.TOKEN_CATALOG)
    assert tracks.column("shelf") == ["other"] * 59


def test_other_folders_are_refused(features_folder: Path, tokenizer_folder: Path, world: Catalog,
    tmp_path: Path) -> None:  # fmt: skip
    for folder in (features_folder, tmp_path / "nowhere"):
        with pytest.raises(ArtifactError, match="not a tokenizer or model folder"):
            remove_tracks(folder, world.track_ids[:1], tmp_path / "out")
    with pytest.raises(ArtifactError, match="is a features folder"):
        remove_tracks(tokenizer_folder, world.track_ids[:1], features_folder)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        (files.EXAMPLES, r"examples\.json: is not a list of texts"),
        (files.CODEBOOKS, r"has no codebooks\.safetensors"),
    ],
)
def test_a_damaged_folder_is_named_and_nothing_is_written(
    tokenizer_folder: Path, world: Catalog, tmp_path: Path, name: str, told: str
) -> None:
    folder = tmp_path / "tokenizer"
    shutil.copytree(tokenizer_folder, folder)
    (folder / name).unlink()
    if name == files.EXAMPLES:
        files.write_json(folder / name, {"not": "a list"})
    with pytest.raises(ArtifactError, match=told):
        remove_tracks(folder, world.track_ids[:1], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_command_takes_ids_from_options_and_a_file(
    tokenizer_folder: Path,
    features_folder: Path,
    world: Catalog,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    listed = tmp_path / "ids.txt"
    listed.write_text("\ufeff" + "\r\n".join(world.track_ids[1:3]) + "\n\n", encoding="utf-8")
    out = str(tmp_path / "out")
    call = ["remove", str(tokenizer_folder), out, "--track", world.track_ids[0]]
    assert main([*call, "--tracks-file", str(listed), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["kind"], told["removed"], told["left"]) == ("tokenizer", 3, 57)
    assert main(["remove", out, out, "--track", world.track_ids[3]]) == 0
    assert "removed 1 tracks, 56 left" in capsys.readouterr().out
    listed.write_bytes("Café".encode("latin-1"))
    for bad, said in (
        ([out, out], "--tracks-file"),
        ([out, out, "--tracks-file", str(listed)], "ids.txt: is not UTF-8 text; write one"),
        ([out, out, "--track", "nobody"], "'nobody'"),
        ([str(features_folder), out, "--track", "x"], "talkplay embed"),
        ([str(tmp_path), out, "--track", "x"], "is not a catalog"),
    ):
        assert main(["remove", *bad]) == 2
        assert said in capsys.readouterr().err
    assert main(["remove", out, out, "--track", "nobody", "--missing-ok"]) == 0
    assert "unknown ids: 1" in capsys.readouterr().out
