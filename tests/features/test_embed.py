"""The embedding run: encoders by config, files of vectors, an earlier space, kills, processes."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import slow_lengths

from talkplay_hf.catalog.schema import MODALITIES, Catalog, Playlist, Track
from talkplay_hf.catalog.splits import cold_tracks
from talkplay_hf.errors import ConfigError, InputError, LeakageError
from talkplay_hf.features.embed import check_fitted, embed, fitted_on
from talkplay_hf.features.store import load_features

SCRIPT = Path(slow_lengths.__file__)
WORDS = ["rain", "river", "sea", "sky", "night", "love", "dance", "guitar", "piano", "calm"]


def manifest(folder: Path) -> dict[str, dict[str, object]]:
    facts: dict[str, dict[str, object]] = json.loads(
        (folder / "manifest.json").read_text(encoding="utf-8")
    )
    return facts


def small(n: int = 12) -> Catalog:
    return Catalog.from_tracks(
        [
            Track(f"t{row}", f"Title {row}", "x", tags=(WORDS[row % 5], WORDS[row % 3]),
                  lyrics=f"{WORDS[row % 7]} {WORDS[row % 4]}",
                  extra={"energy": row / n, "valence": (row % 3) / 3})
            for row in range(n)
        ],
        [Playlist(f"p{k}", tuple(f"t{row}" for row in range(k % 3, n, 3))) for k in range(6)],
    )  # fmt: skip


def same_files(one: Path, two: Path) -> None:
    names = sorted(path.name for path in one.iterdir())
    assert names == sorted(path.name for path in two.iterdir())
    for name in names:
        assert (one / name).read_bytes() == (two / name).read_bytes(), name


def test_an_encoder_by_config_and_what_failed(tmp_path: Path):
    config = {"lyrics": {"encoder": "slow-lengths", "bad": "rain rain"}}
    made = embed(small(), tmp_path / "out", config=config, dim=4)
    assert made["lyrics"].vectors.shape == (12, 3)
    assert made["lyrics"].present.tolist() == [row not in (0,) for row in range(12)]
    facts = manifest(tmp_path / "out")["modalities"]["lyrics"]
    assert facts == {
        "encoder": {"encoder": "slow-lengths", "bad": "rain rain"},
        "dim": 3, "present": 11, "failures": 1, "fitted_on": None,
    }  # fmt: skip
    assert pq.read_table(tmp_path / "out" / "failures.parquet").to_pylist() == [
        {"modality": "lyrics", "row": 0, "track_id": "t0", "reason": "has 'rain rain'"}
    ]
    with pytest.raises(InputError, match=r"lyrics: track 't0' \(row 0\): has 'rain rain'"):
        embed(small(), tmp_path / "stopped", config=config, on_error="stop")
    assert not (tmp_path / "stopped").exists()


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"config": {"sound": "librosa"}}, "'sound' is no modality"),
        ({"config": {"lyrics": "tf-idf"}}, "unknown encoder 'tf-idf'; there are ppmi-svd"),
        ({"config": {"lyrics": "ppmi-svd"}}, "'ppmi-svd' is for playlist"),
        ({"config": {"lyrics": {"rank": 3}}}, "no option 'rank'; it has dim, max_features"),
        ({"config": {"lyrics": {}}, "vectors": {"lyrics": "x.npy"}}, "choose one"),
        ({"on_error": "ignore"}, "'skip' or 'stop'"),
    ],
)
def test_a_mistake_in_the_options_shows_at_once(
    options: dict[str, object], complaint: str, tmp_path: Path
):
    with pytest.raises(ConfigError, match=complaint):
        embed(small(), tmp_path / "out", **options)  # type: ignore[arg-type]
    assert not any(tmp_path.iterdir())


def test_vectors_from_a_file(tmp_path: Path):
    rows = {"track_id": ["t3", "t1", "gone", "t1"],
            "vector": pa.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0], [7.0, 8.0]])}  # fmt: skip
    pq.write_table(pa.table(rows), tmp_path / "audio.parquet")
    made = embed(small(), tmp_path / "out", vectors={"audio": tmp_path / "audio.parquet"})
    assert np.flatnonzero(made["audio"].present).tolist() == [1, 3]
    assert made["audio"].vectors[[1, 3]].tolist() == [[3.0, 4.0], [1.0, 2.0]]
    facts = manifest(tmp_path / "out")
    assert facts["modalities"]["audio"]["unknown"] == 1  # type: ignore[index]
    assert facts["modalities"]["audio"]["failures"] == 1  # type: ignore[index]
    assert len(str(facts["made_from"]["vectors.audio"])) == 64


def test_new_tracks_land_in_the_space_of_an_earlier_folder(tmp_path: Path):
    old = small()
    first = embed(old, tmp_path / "old", dim=4)
    new = Track("new", "Title 3", "x", tags=("sky", "rain"), lyrics="sky sky",
                extra={"energy": 3 / 12, "valence": 0.0})  # fmt: skip
    grown = Catalog.from_tracks([new, *(old.track(i) for i in old.track_ids)])
    made = embed(grown, tmp_path / "new", like=tmp_path / "old")
    for modality in MODALITIES:
        assert np.allclose(made[modality].vectors[1:], first[modality].vectors, atol=1e-6), modality
    assert not made["playlist"].present[0]
    for modality in ("semantic", "metadata", "audio"):
        assert np.allclose(made[modality].vectors[0], first[modality].vectors[3], atol=1e-6)
    again = embed(grown, tmp_path / "again", like=tmp_path / "new")
    assert np.array_equal(again["semantic"].vectors, made["semantic"].vectors)
    assert manifest(tmp_path / "new")["modalities"]["lyrics"]["fitted_on"] is None  # type: ignore[index]
    with pytest.raises(ConfigError, match="leave the config out"):
        embed(grown, tmp_path / "x", like=tmp_path / "old", config={"lyrics": "tfidf-svd"})


def test_the_manifest_proves_that_no_fit_saw_a_cold_track(tmp_path: Path):
    made = small()
    table = made.playlists.append_column("split", pa.array(["train", "train", "test"] * 2))
    catalog = Catalog(made.tracks, table)
    cold = cold_tracks(catalog)
    assert cold.sum() == 4
    embed(catalog, tmp_path / "out", dim=4)
    embed(made, tmp_path / "warm", dim=4)
    for modality in ("playlist", "semantic", "metadata", "lyrics"):
        found = manifest(tmp_path / "out")["modalities"][modality]
        assert found["fitted_on"] == fitted_on(~cold, ~cold)  # type: ignore[index]
        warm = manifest(tmp_path / "warm")["modalities"][modality]
        assert warm["fitted_on"] != found["fitted_on"]  # type: ignore[index]
    check_fitted(tmp_path / "out", catalog)
    check_fitted(tmp_path / "warm", made)
    with pytest.raises(LeakageError, match="was not fitted on the warm tracks"):
        check_fitted(tmp_path / "warm", catalog)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    tracks = [Track(f"t{n}", "T", "x", lyrics=f"line {n}" if n % 6 else None) for n in range(60)]
    Catalog.from_tracks(tracks).save(tmp_path / "catalog")
    return tmp_path / "catalog"


def command(*words: object) -> list[str]:
    return [sys.executable, str(SCRIPT), *map(str, words)]


def test_a_run_that_was_killed_goes_on_with_the_same_bytes(saved: Path, tmp_path: Path):
    out = tmp_path / "out"
    with subprocess.Popen(command(saved, out, 0.3)) as process:
        while len(list(tmp_path.glob(".out.shards/lyrics-*/shards-*/0*.safetensors"))) < 2:
            assert process.poll() is None, "it ended before it could be killed"
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
    assert not out.exists()
    assert len(list(tmp_path.glob(".out.shards/lyrics-*/shards-*/0*.safetensors"))) < 8
    run_here(saved, out)
    run_here(saved, tmp_path / "whole")
    same_files(out, tmp_path / "whole")
    assert not list(tmp_path.glob(".*shards"))


def run_here(saved: Path, out: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("talkplay_hf.features.shards.SHARD_TRACKS", 8)
        embed(Catalog.load(saved), out, config={"lyrics": "slow-lengths"}, dim=8)


@pytest.mark.slow
def test_two_processes_make_the_bytes_of_one(saved: Path, tmp_path: Path):
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2",
              "--master_port", "29517"]  # fmt: skip
    subprocess.run(
        [*launch, str(SCRIPT), str(saved), str(tmp_path / "two"), "0"],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        check=True,
    )
    run_here(saved, tmp_path / "one")
    same_files(tmp_path / "two", tmp_path / "one")
    assert load_features(tmp_path / "two")[1]["lyrics"].present.sum() == 50
    assert not list(tmp_path.glob(".*shards"))
