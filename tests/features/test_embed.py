"""The embedding run: encoders by config, files of vectors, an earlier space, kills, processes."""

import json
import math
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import slow_lengths
from saved_features import save_features

from talkplay_hf.catalog.schema import MODALITIES, Catalog, Playlist, Track
from talkplay_hf.catalog.splits import cold_tracks
from talkplay_hf.errors import ArtifactError, ConfigError, InputError, LeakageError
from talkplay_hf.features.embed import embed
from talkplay_hf.features.fitted import check_fitted, fitted_on
from talkplay_hf.features.shards import Processes
from talkplay_hf.features.store import absent, load_features

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
        ({"config": {"lyrics": 5}}, "lyrics: an encoder is a name or a mapping"),
        ({"config": {"lyrics": ["tfidf-svd"]}}, "lyrics: an encoder is a name or a mapping"),
        ({"config": {"lyrics": {"encoder": ["x"]}}}, r"unknown encoder \['x'\]"),
        ({"config": {"lyrics": {"dim": "big"}}}, "dim is 'big'; it must be int"),
        ({"config": {"lyrics": {"dim": 3.5}}}, "dim is 3.5; it must be int"),
        ({"config": {"lyrics": {"dim": 0}}}, "dim is 0; it must be at least 1"),
        ({"config": {"lyrics": {"template": 5}}}, "template is 5; it must be str"),
        ({"config": {"audio": {"encoder": "clap", "batch_size": 0}}}, "must be at least 1"),
        ({"config": {"audio": {"encoder": "clap", "clip_start": [1]}}}, "must be str or float"),
        ({"config": {"audio": {"encoder": "clap", "clip_seconds": "x"}}}, "float or null"),
        ({"config": {"audio": {"encoder": "clap", "clip_seconds": math.inf}}}, "must be finite"),
        ({"config": {"playlist": {"encoder": "item2vec", "window": True}}}, "int or str"),
        ({"config": {"playlist": {"encoder": "item2vec", "epochs": 0}}}, "at least 1"),
        ({"config": {"playlist": {"encoder": "item2vec", "window": "all"}}}, "number or 'whole'"),
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
    fits = [manifest(tmp_path / name)["modalities"]["lyrics"] for name in ("old", "new", "again")]
    assert fits[0]["fitted_on"] == fits[1]["fitted_on"] == fits[2]["fitted_on"]  # type: ignore[index]
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
        assert found["fitted_on"].items() >= fitted_on(~cold, ~cold).items()  # type: ignore[index]
        warm = manifest(tmp_path / "warm")["modalities"][modality]
        assert warm["fitted_on"] != found["fitted_on"]  # type: ignore[index]
    check_fitted(tmp_path / "out", catalog)
    check_fitted(tmp_path / "warm", made)
    with pytest.raises(LeakageError, match="was not fitted on the warm tracks"):
        check_fitted(tmp_path / "warm", catalog)
    embed(catalog, tmp_path / "like", like=tmp_path / "warm")
    embed(catalog, tmp_path / "again", like=tmp_path / "like")
    for folder in ("like", "again"):
        with pytest.raises(LeakageError, match="was not fitted on the warm tracks"):
            check_fitted(tmp_path / folder, catalog)


def test_other_held_out_playlists_are_a_leak_though_no_track_is_cold(tmp_path: Path):
    made = small()

    def split(*labels: str) -> Catalog:
        table = made.playlists.append_column("split", pa.array(labels))
        return Catalog(made.tracks, table)

    before = split("train", "train", "train", "test", "train", "train")
    after = split("test", "train", "train", "train", "train", "train")
    assert not cold_tracks(before).any()
    assert not cold_tracks(after).any()
    embed(before, tmp_path / "out", dim=4)
    check_fitted(tmp_path / "out", before)
    with pytest.raises(LeakageError, match="playlist was fitted on other training playlists"):
        check_fitted(tmp_path / "out", after)
    check_fitted(tmp_path / "out", made)  # nothing is held out, nothing can leak


def test_a_killed_run_does_not_go_on_with_what_another_earlier_folder_knew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    small().save(tmp_path / "all")
    every = Catalog.load(tmp_path / "all")
    few = Catalog.from_tracks([every.track("t0"), every.track("t1")])
    known = embed(every, tmp_path / "one", dim=4)["playlist"].present
    embed(few, tmp_path / "two", like=tmp_path / "one")

    def dies(*arguments: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("talkplay_hf.features.embed._assemble", dies)
        with pytest.raises(KeyboardInterrupt):
            embed(every, tmp_path / "out", like=tmp_path / "two")
    made = embed(every, tmp_path / "out", like=tmp_path / "one")
    assert known.sum() > 2
    assert np.array_equal(made["playlist"].present, known)


@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_bytes(b"no tensors")])
def test_an_earlier_folder_whose_fitted_encoder_is_damaged_is_refused(
    damage: Callable[[Path], object], tmp_path: Path
):
    embed(small(), tmp_path / "old", dim=4)
    damage(tmp_path / "old" / "semantic.encoder.safetensors")
    with pytest.raises(ArtifactError, match=r"semantic\.encoder\.safetensors: is not the file"):
        embed(small(), tmp_path / "new", like=tmp_path / "old")
    assert [path.name for path in tmp_path.iterdir()] == ["old"]


def test_a_folder_that_does_not_say_how_it_was_made_is_refused(tmp_path: Path):
    made, absent_one = small(), absent(12)
    save_features(tmp_path / "bare", made.track_ids, dict.fromkeys(MODALITIES, absent_one))
    with pytest.raises(ArtifactError, match="bare: does not say how it was made; embed it again"):
        embed(made, tmp_path / "new", like=tmp_path / "bare")
    with pytest.raises(ArtifactError, match="bare: does not say how it was made; embed it again"):
        check_fitted(tmp_path / "bare", made)
    assert [path.name for path in tmp_path.iterdir()] == ["bare"]


def test_an_empty_catalog_is_refused(tmp_path: Path):
    with pytest.raises(InputError, match="no tracks"):
        embed(Catalog.from_tracks([]), tmp_path / "out")
    assert not any(tmp_path.iterdir())


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


class OneOfTwo(Processes):
    """One of two processes that are threads; the second is late after every meeting."""

    meeting = threading.Barrier(2, timeout=20)
    here = threading.local()

    @property
    def rank(self) -> int:
        return int(self.here.rank)

    @property
    def count(self) -> int:
        return 2

    def wait(self) -> None:
        self.meeting.wait()
        time.sleep(0.1 * self.rank)


def test_no_process_clears_away_what_another_still_reads(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    run_here(saved, tmp_path / "one")
    monkeypatch.setattr("talkplay_hf.features.embed.Processes", OneOfTwo)

    def process(rank: int) -> None:
        OneOfTwo.here.rank = rank
        config = {"lyrics": "slow-lengths"}
        embed(Catalog.load(saved), tmp_path / "two", config=config, dim=8)

    monkeypatch.setattr("talkplay_hf.features.shards.SHARD_TRACKS", 8)
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(process, (0, 1)))
    same_files(tmp_path / "two", tmp_path / "one")


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
