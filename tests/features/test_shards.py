"""Shards of an embedding run: resumed, damaged, mixed up, shared, and what fails in them."""

import os
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

import numpy as np
import pytest
from accelerate import PartialState
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from sharded_run import lengths, make_run

from talkplay_hf.errors import ArtifactError, ConfigError, InputError, LeakageError
from talkplay_hf.features import shards
from talkplay_hf.features.shards import Processes, ShardedRun

N = 45  # six shards of eight, the last one short
TEXTS = [None if row % 7 == 3 else "la " * (row % 5) + str(row) for row in range(N)]


class Killed(BaseException):
    """The process dies here."""


class DiesBeforeTheMerge(Processes):
    def wait(self) -> None:
        raise Killed


class OneOf(Processes):
    """One of several processes, run after the others."""

    def __init__(self, rank: int, count: int) -> None:
        super().__init__("cpu")
        self._rank, self._count = rank, count

    @property
    def rank(self) -> int:
        return self._rank

    @property
    def count(self) -> int:
        return self._count

    def wait(self) -> None:
        if self._rank:
            raise Killed


@pytest.fixture(autouse=True, scope="module")
def _small_shards() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shards, "SHARD_TRACKS", 8)
        yield


def merged(run: ShardedRun) -> bytes:
    run.map_tracks(TEXTS, lengths, batch_size=3)
    assert run.on_disk is not None
    return run.on_disk[1].read_bytes()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, _small_shards: None) -> bytes:
    return merged(make_run(tmp_path_factory.mktemp("whole"), N))


def shard_files(work: Path) -> list[Path]:
    return sorted(work.glob("shards-*/0*.safetensors"))


@settings(max_examples=25, deadline=None)
@given(gone=st.sets(st.integers(0, 5)), cut=st.sets(st.integers(0, 5)),
       flipped=st.sets(st.integers(0, 5)), in_vectors=st.booleans())  # fmt: skip
def test_any_subset_of_finished_shards_gives_the_same_bytes(
    gone: set[int], cut: set[int], flipped: set[int], in_vectors: bool, whole: bytes
):
    # the vectors come first in a shard, the mask last
    at = -20 if in_vectors else -1
    with TemporaryDirectory() as folder:
        work = Path(folder)
        with pytest.raises(Killed):
            merged(killed_run(work))
        found = shard_files(work)
        assert len(found) == 6
        for number in cut:
            found[number].write_bytes(found[number].read_bytes()[:-5])
        for number in flipped - cut:
            content = bytearray(found[number].read_bytes())
            content[at] ^= 1
            found[number].write_bytes(content)
        for number in gone:
            found[number].unlink()
        encoded: list[str] = []

        def counted(batch: list[str]) -> np.ndarray:
            encoded.extend(batch)
            return lengths(batch)

        run = make_run(work, N)
        run.map_tracks(TEXTS, counted, batch_size=3)
        assert run.on_disk is not None
        assert run.on_disk[1].read_bytes() == whole
        again = {row // 8 for row, text in enumerate(TEXTS) if text in encoded}
        assert again == gone | cut | flipped


def killed_run(work: Path) -> ShardedRun:
    run = make_run(work, N)
    run.processes = DiesBeforeTheMerge("cpu")
    return run


@pytest.mark.parametrize("calls", [1, 4, 11])
def test_a_run_that_dies_in_a_batch_goes_on_with_the_same_bytes(
    calls: int, tmp_path: Path, whole: bytes
):
    left = calls

    def dies(batch: list[str]) -> np.ndarray:
        nonlocal left
        left -= 1
        if left < 0:
            raise Killed
        return lengths(batch)

    with pytest.raises(Killed):
        make_run(tmp_path, N).map_tracks(TEXTS, dies, batch_size=3)
    assert merged(make_run(tmp_path, N)) == whole


def test_processes_that_share_the_shards_give_the_same_bytes(tmp_path: Path, whole: bytes):
    taken = []
    for rank in (2, 1):
        run = make_run(tmp_path, N)
        run.processes = OneOf(rank, 3)
        with pytest.raises(Killed):
            merged(run)
        taken.append([int(path.stem) for path in shard_files(tmp_path)])
    assert taken == [[2, 5], [1, 2, 4, 5]]
    run = make_run(tmp_path, N)
    run.processes = OneOf(0, 3)
    assert merged(run) == whole


def test_the_merged_file_is_plain_safetensors_and_lies_on_disk(tmp_path: Path):
    run = make_run(tmp_path, N)
    made = run.map_tracks(TEXTS, lengths)
    assert isinstance(made.vectors, np.memmap)
    assert run.on_disk is not None
    with safe_open(run.on_disk[1], framework="numpy") as handle:
        vectors, present = handle.get_tensor("vectors"), handle.get_tensor("present")
    assert present.tolist() == [text is not None for text in TEXTS]
    assert np.array_equal(vectors[present], lengths([text for text in TEXTS if text is not None]))
    assert not vectors[~present].any()
    assert np.array_equal(made.vectors, vectors)
    assert not shard_files(tmp_path)


def test_other_inputs_do_not_meet_old_shards(tmp_path: Path):
    make_run(tmp_path, N).map_tracks(TEXTS, lengths)
    made = make_run(tmp_path, N).map_tracks(["same"] * N, lengths)
    assert (made.vectors == made.vectors[0]).all()


def test_shards_of_two_models_are_refused_with_both_names(tmp_path: Path):
    with pytest.raises(Killed):
        merged(killed_run(tmp_path))
    wrong = shard_files(tmp_path)[3]
    wrong.unlink()

    def wider(batch: list[str]) -> np.ndarray:
        return np.ones((len(batch), 5), np.float32)

    with pytest.raises(ArtifactError, match=r"00000\.safetensors has 3 .*00003\.safetensors has 5"):
        make_run(tmp_path, N).map_tracks(TEXTS, wider, batch_size=3)


def test_no_track_with_the_modality(tmp_path: Path):
    made = make_run(tmp_path, N).map_tracks([None] * N, lengths)
    assert made.vectors.shape == (N, 1)
    assert not made.present.any()


def unreadable(text: str) -> str:
    if text.endswith("12"):
        raise InputError("a broken file")
    if text.endswith("20"):
        raise FileNotFoundError("no such file")
    return text


def nan_for_30(batch: list[str]) -> np.ndarray:
    vectors = lengths(batch)
    vectors[[text.endswith("30") for text in batch]] = np.nan
    return vectors


def test_tracks_that_fail_are_named_and_counted_and_the_rest_goes_on(tmp_path: Path):
    for _ in range(2):  # the second time from the finished shards
        run = make_run(tmp_path, N)
        made = run.map_tracks(TEXTS, nan_for_30, load=unreadable, batch_size=3)
        assert [(failure.row, failure.track_id) for failure in run.failures] == [
            (12, "t12"), (20, "t20"), (30, "t30"),
        ]  # fmt: skip
        assert [failure.reason for failure in run.failures] == [
            "a broken file", "no such file", "the vector has a value that is not finite",
        ]  # fmt: skip
        missing = {row for row, text in enumerate(TEXTS) if text is None} | {12, 20, 30}
        assert set(np.flatnonzero(~made.present)) == missing
        assert np.isfinite(made.vectors).all()


@pytest.mark.parametrize("finished_before", [False, True])
def test_a_run_that_stops_names_the_track(finished_before: bool, tmp_path: Path):
    if finished_before:
        make_run(tmp_path, N).map_tracks(TEXTS, lengths, load=unreadable)
    with pytest.raises(InputError, match=r"'t12' \(row 12\): a broken file"):
        make_run(tmp_path, N, stop=True).map_tracks(TEXTS, lengths, load=unreadable)


def test_an_encoder_that_loses_rows_is_refused(tmp_path: Path):
    with pytest.raises(InputError, match="of 3 tracks"):
        make_run(tmp_path, N).map_tracks(TEXTS, lambda batch: lengths(batch)[1:], batch_size=3)


def test_inputs_for_other_tracks_are_refused(tmp_path: Path):
    with pytest.raises(InputError, match=f"semantic: 3 inputs for {N} tracks"):
        make_run(tmp_path, N).map_tracks(TEXTS[:3], lengths)


def test_a_fit_on_a_held_out_track_is_refused(tmp_path: Path):
    fit_on = np.ones(5, dtype=bool)
    fit_on[[2, 4]] = False
    run = make_run(tmp_path, 5, fit_on=fit_on)
    run.keep({"mean": np.zeros(3)}, seen=np.array([True, True, False, False, False]))
    assert run.seen is not None
    assert run.seen.sum() == 2
    with pytest.raises(LeakageError, match="2 held-out tracks, the first is 't2' in row 2"):
        run.keep({"mean": np.zeros(3)}, seen=np.ones(5, dtype=bool))


@pytest.mark.parametrize(
    ("alone", "message"),
    [
        (False, "speaks of 2 processes, .*unset WORLD_SIZE"),
        (True, "2 processes were started but 1"),
    ],
)
def test_processes_that_cannot_meet_are_refused(
    alone: bool, message: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(PartialState, "_shared_state", {})
    with patch.dict(os.environ):
        if alone:  # this process has begun as the only one
            PartialState(cpu=True)
        os.environ["WORLD_SIZE"] = "2"
        with pytest.raises(ConfigError, match=message):
            Processes("cpu")


def test_a_device_that_is_not_there_is_refused():
    with pytest.raises(ConfigError, match="device 'tpu9' cannot be used"):
        _ = Processes("tpu9").device
