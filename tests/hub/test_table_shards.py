"""A table in one file or several, with row groups of a bounded size."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from talkplay_hf.errors import ArtifactError
from talkplay_hf.hub import shards
from talkplay_hf.hub.shards import TableWriter, iter_batches, read_table, table_paths, write_table

SCHEMA = pa.schema([("name", pa.string()), ("ids", pa.list_(pa.string()))])


def lists(*lengths: int) -> pa.Table:
    """A table with lists of these lengths."""
    rows = [{"name": f"n{n}", "ids": ["0123456789"] * size} for n, size in enumerate(lengths)]
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def group_sizes(path: Path) -> list[int]:
    meta = pq.read_metadata(path)
    return [meta.row_group(number).num_rows for number in range(meta.num_row_groups)]


def test_a_small_table_is_one_file_as_pyarrow_writes_it(tmp_path: Path) -> None:
    table = lists(*range(200))
    assert write_table(tmp_path, "t", table) == [tmp_path / "t.parquet"]
    pq.write_table(table, tmp_path / "plain", compression="zstd")
    assert (tmp_path / "t.parquet").read_bytes() == (tmp_path / "plain").read_bytes()


def test_a_table_without_rows_keeps_its_columns(tmp_path: Path) -> None:
    write_table(tmp_path, "t", lists())
    assert read_table(tmp_path, "t").schema == SCHEMA
    assert list(iter_batches(tmp_path, "t", 10)) == []


def test_a_large_table_is_several_files_in_order(tmp_path: Path) -> None:
    table = lists(*[3] * 500)
    paths = write_table(tmp_path, "t", table, max_bytes=600, group_bytes=2000)
    assert len(paths) > 2
    count = len(paths)
    assert names(tmp_path) == [f"t-{n:05d}-of-{count:05d}.parquet" for n in range(count)]
    assert table_paths(tmp_path, "t") == paths
    assert read_table(tmp_path, "t").equals(table)
    batches = [*iter_batches(tmp_path, "t", 7)]
    assert max(map(len, batches)) == 7
    assert pa.Table.from_batches(batches).equals(table)


def test_the_bound_of_a_file_is_that_of_the_module(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards, "MAX_SHARD_BYTES", 600)
    monkeypatch.setattr(shards, "GROUP_BYTES", 2000)
    assert len(write_table(tmp_path, "t", lists(*[3] * 500))) > 2


def test_long_lists_lie_in_row_groups_of_their_own(tmp_path: Path) -> None:
    write_table(tmp_path, "t", lists(*[1] * 50, 400, 400, *[1] * 50), group_bytes=2000)
    assert [size for size in group_sizes(tmp_path / "t.parquet") if size == 1] == [1, 1]


@settings(max_examples=50)
@given(
    st.lists(st.lists(st.integers(0, 60), max_size=30), max_size=5),
    st.integers(1, 3000),
    st.integers(1, 3000),
)
def test_what_is_written_comes_back_and_no_group_is_too_large(
    tmp_path_factory: pytest.TempPathFactory,
    pieces: list[list[int]],
    max_bytes: int,
    group_bytes: int,
) -> None:
    folder = tmp_path_factory.mktemp("table")
    tables = [lists(*piece) for piece in pieces]
    bounds: Any = {"max_bytes": max_bytes, "group_bytes": group_bytes, "group_rows": 9}
    with TableWriter(folder, "t", SCHEMA, **bounds) as writer:
        for table in tables:
            writer.write(table)
    whole = pa.concat_tables([lists(), *tables])
    found = read_table(folder, "t")
    assert found.equals(whole)
    assert writer.rows == len(whole)
    start = 0
    for path in table_paths(folder, "t"):
        for size in group_sizes(path):
            assert size <= 9
            assert size <= 1 or whole.slice(start, size).combine_chunks().nbytes <= group_bytes + 8
            start += size
    assert start == len(whole)


def test_the_same_rows_give_the_same_files(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        write_table(tmp_path / name, "t", lists(*[3] * 500), max_bytes=600, group_bytes=2000)
    for path in table_paths(tmp_path / "one", "t"):
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()


def fail_while_writing(folder: Path) -> None:
    with TableWriter(folder, "t", SCHEMA, max_bytes=10) as writer:
        writer.write(lists(1, 2))
        writer.write(lists(1, 2))
        raise RuntimeError("stop")


def test_an_error_leaves_no_file_behind(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError):
        fail_while_writing(tmp_path)
    assert names(tmp_path) == []


@pytest.fixture
def sharded(tmp_path: Path) -> Path:
    with TableWriter(tmp_path, "t", SCHEMA, max_bytes=10) as writer:
        for number in range(3):
            writer.write(lists(number))
    return tmp_path


def test_a_missing_file_is_named(sharded: Path) -> None:
    (sharded / "t-00001-of-00003.parquet").unlink()
    with pytest.raises(ArtifactError, match=r"t-00001-of-00003\.parquet is missing"):
        read_table(sharded, "t")


def test_a_table_that_is_not_there_is_named(tmp_path: Path) -> None:
    (tmp_path / "tracks-00000-of-00001.parquet").touch()
    with pytest.raises(ArtifactError, match=r"holds no t\.parquet"):
        table_paths(tmp_path, "t")


@pytest.mark.parametrize("other", ["t.parquet", "t-00000-of-00002.parquet"])
def test_files_of_two_writings_are_refused(sharded: Path, other: str) -> None:
    write_table(sharded, "other", lists(1))
    (sharded / "other.parquet").rename(sharded / other)
    with pytest.raises(ArtifactError, match="more than once"):
        table_paths(sharded, "t")


def test_names_that_start_alike_are_other_tables(sharded: Path) -> None:
    write_table(sharded, "t-more", lists(1))
    assert len(table_paths(sharded, "t")) == 3
    assert len(table_paths(sharded, "t-more")) == 1


@pytest.mark.parametrize(
    "read", [read_table, lambda folder, name: list(iter_batches(folder, name, 10))]
)
def test_a_damaged_file_is_refused(sharded: Path, read: Callable[[Path, str], object]) -> None:
    path = sharded / "t-00002-of-00003.parquet"
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(ArtifactError, match="cannot be read"):
        read(sharded, "t")


def test_files_with_other_columns_are_refused(sharded: Path) -> None:
    pq.write_table(pa.table({"x": [1]}), sharded / "t-00002-of-00003.parquet")
    with pytest.raises(ArtifactError, match="t: cannot be read"):
        read_table(sharded, "t")
