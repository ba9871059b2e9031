"""One table in a folder: `NAME.parquet`, or `NAME-00000-of-00003.parquet` where it is large.

Row groups are bounded in bytes of their Arrow data. So long lists of track ids never lie in one
group that cannot be read back (the offsets of its lists have 32 bits), the Hub's viewer shows any
row, and a stream starts after one group.
"""

import bisect
import contextlib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from talkplay_hf.errors import ArtifactError, first_line

# Size of a file from which on the next row group goes to another one.
MAX_SHARD_BYTES = 500_000_000
# Arrow data of a row group.
GROUP_BYTES = 64_000_000
# Rows of a row group; pyarrow's own bound.
GROUP_ROWS = 1 << 20


class TableWriter:
    """Writes one table as a stream, into as many files as it takes. A context manager.

    The files have names that start with a dot until the block ends, since only then it is known how
    many they are. Where it ends with an error they are removed.

    Args:
        folder (`Path`): The (staged) folder to write into.
        name (`str`): The name of the table, without `.parquet`.
        schema (`pa.Schema`): Its columns.
        max_bytes (`int`, *optional*): Bytes of a file from which on the next row group goes to
            another one; `MAX_SHARD_BYTES` when left out.
        group_bytes (`int`, *optional*): Most bytes of Arrow data of a row group, `GROUP_BYTES` when
            left out. A single row may be larger.
        group_rows (`int`): Most rows of a row group.
        options: Further arguments of `pyarrow.parquet.ParquetWriter`.
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        schema: pa.Schema,
        *,
        max_bytes: int | None = None,
        group_bytes: int | None = None,
        group_rows: int = GROUP_ROWS,
        **options: Any,
    ) -> None:
        self.folder, self.name, self.schema = folder, name, schema
        self.max_bytes = MAX_SHARD_BYTES if max_bytes is None else max_bytes
        self.group_bytes = GROUP_BYTES if group_bytes is None else group_bytes
        self.group_rows = group_rows
        self.rows = 0
        self._options = {"compression": "zstd", **options}
        self._aside: list[Path] = []
        self._stack = contextlib.ExitStack()
        self._open()

    def __enter__(self) -> "TableWriter":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.discard()

    def write(self, table: pa.Table) -> None:
        """Write further rows as one row group, or as several where they are too large for one.

        Args:
            table (`pa.Table`): Rows with the columns of the schema.

        Raises:
            pa.ArrowException: If the columns do not fit.
        """
        for group in _groups(table, self.group_bytes, self.group_rows):
            if self._sink.tell() >= self.max_bytes:
                self._stack.close()
                self._open()
            self._writer.write_table(group)
            self.rows += group.num_rows

    def close(self) -> None:
        """Finish the files and give them their names."""
        self._stack.close()
        count = len(self._aside)
        names = [f"{self.name}-{number:05d}-of-{count:05d}.parquet" for number in range(count)]
        if count == 1:
            names = [f"{self.name}.parquet"]
        for aside, name in zip(self._aside, names, strict=True):
            aside.replace(self.folder / name)

    def discard(self) -> None:
        """Remove what has no name yet: all of it, or nothing after `close`."""
        # a writer that cannot finish its file, on a full disk for instance
        with contextlib.suppress(OSError, pa.ArrowException):
            self._stack.close()
        for aside in self._aside:
            aside.unlink(missing_ok=True)

    def _open(self) -> None:
        aside = self.folder / f".{self.name}-{len(self._aside):05d}.parquet"
        self._aside.append(aside)
        self._sink = self._stack.enter_context(pa.OSFile(str(aside), "wb"))
        self._writer = self._stack.enter_context(
            pq.ParquetWriter(self._sink, self.schema, **self._options)
        )


def write_table(folder: Path, name: str, table: pa.Table, **options: Any) -> list[Path]:
    """Write a whole table into a (staged) folder, see `TableWriter`.

    Returns:
        `list[Path]`: The files.
    """
    with TableWriter(folder, name, table.schema, **options) as writer:
        writer.write(table)
    return table_paths(folder, name)


def table_paths(folder: str | Path, name: str) -> list[Path]:
    """The files of a table, in order.

    Args:
        folder (`str` or `Path`): The folder.
        name (`str`): The name of the table, without `.parquet`.

    Raises:
        ArtifactError: If there is none, one of several is missing, or files of two writings lie
            side by side.
    """
    folder = Path(folder)
    single = folder / f"{name}.parquet"
    shard = re.compile(re.escape(name) + r"-(\d{5})-of-(\d{5})\.parquet")
    found = {}
    for path in folder.glob("*.parquet"):
        if match := shard.fullmatch(path.name):
            found[int(match[1]), int(match[2])] = path
    totals = sorted({total for _, total in found})
    if len(totals) > 1 or (totals and single.exists()):
        names = [path.name for path in sorted(found.values())] + [single.name] * single.exists()
        raise ArtifactError(
            f"{folder}: holds the table {name!r} more than once ({', '.join(names)[:300]}); "
            "delete the files that do not belong to it"
        )
    if not totals:
        if not single.exists():
            raise ArtifactError(f"{folder}: holds no {single.name}")
        return [single]
    total = totals[0]
    missing = [number for number in range(total) if (number, total) not in found]
    if missing or len(found) != total:
        lost = [f"{name}-{number:05d}-of-{total:05d}.parquet" for number in missing]
        raise ArtifactError(
            f"{folder}: {', '.join(lost[:3]) or single.name} is missing, of the {total} files of "
            f"the table {name!r}; fetch or make the folder again"
        )
    return [found[number, total] for number in range(total)]


def read_table(folder: str | Path, name: str) -> pa.Table:
    """Read a whole table.

    Raises:
        ArtifactError: If a file is missing or damaged, or the files do not fit together.
    """
    paths = table_paths(folder, name)
    try:
        return pa.concat_tables([pq.read_table(path, partitioning=None) for path in paths])
    except (pa.ArrowException, OSError) as error:
        where = paths[0].parent
        raise ArtifactError(f"{where}: {name}: cannot be read ({first_line(error)})") from None


def read_schema(folder: str | Path, name: str) -> pa.Schema:
    """The columns of a table, as its first file has them.

    Raises:
        ArtifactError: If a file is missing or the first one is damaged.
    """
    path = table_paths(folder, name)[0]
    try:
        return pq.read_schema(path)
    except (pa.ArrowException, OSError) as error:
        raise ArtifactError(f"{path}: cannot be read ({first_line(error)})") from None


def iter_batches(
    folder: str | Path, name: str, rows: int, columns: Sequence[str] | None = None
) -> Iterator[pa.RecordBatch]:
    """Read a table piece by piece.

    Args:
        folder (`str` or `Path`): The folder.
        name (`str`): The name of the table.
        rows (`int`): Most rows of a piece.
        columns (`Sequence[str]`, *optional*): Only these columns, those of them that there are.

    Raises:
        ArtifactError: If a file is missing or damaged. Damage shows when it is reached.
    """
    for path in table_paths(folder, name):
        try:
            with pq.ParquetFile(path) as file:
                known = file.schema_arrow.names
                wanted = None if columns is None else [one for one in columns if one in known]
                # group by group: a batch over two groups of lists would hold both in memory
                for group in range(file.num_row_groups):
                    yield from file.iter_batches(rows, row_groups=[group], columns=wanted)
        except (pa.ArrowException, OSError) as error:
            raise ArtifactError(f"{path}: cannot be read ({first_line(error)})") from None


def _groups(table: pa.Table, most_bytes: int, most_rows: int) -> Iterator[pa.Table]:
    """Cut a table into row groups. One without rows is one group, which keeps its columns."""
    start, count = 0, table.num_rows
    if not count:
        yield table
    while start < count:
        longest = min(most_rows, count - start)
        first = start
        # the bytes of a slice grow with its rows
        size = bisect.bisect_right(
            range(1, longest + 1), most_bytes, key=lambda rows: table.slice(first, rows).nbytes
        )
        size = max(1, size)
        yield table.slice(start, size)
        start += size
