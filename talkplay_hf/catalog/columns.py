"""A user's table: reading it, and guessing what its columns mean."""

import csv
import gzip
import io
import json
import re
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from talkplay_hf.errors import InputError, first_line

# Standard name -> the names that tables use for it, best first; case and punctuation do not count.
TRACK_ALIASES = {
    "track_id": "track_id track_uri spotify_id song_id id uri isrc",
    "title": "title track_name track_title song_name song_title song track name",
    "artist": "artist track_artist artist_name artists artist_names performer",
    "album": "album album_name track_album_name album_title track_album",
    "release_date": "release_date track_album_release_date album_release_date track_release_date "
    "released date release_year year",
    "tags": "tags tag genres genre subgenres subgenre moods mood styles style track_genre "
    "artist_genres top_genre playlist_genre playlist_subgenre",
    "lyrics": "lyrics lyric track_lyrics lyrics_bow text",
    "caption": "caption track_caption",
    "popularity": "popularity track_popularity song_popularity play_count streams",
    "tempo": "tempo bpm",
    "key": "key musical_key track_key",
    "audio": "audio audio_path audio_file audio_url path file file_path file_name preview_url "
    "track_preview_url",
    "license": "license licence track_license license_url",
    "playlist_id": "playlist_id playlist_uri pid",
    "playlist_name": "playlist_name playlist_title playlist",
    "playlist_description": "playlist_description",
    "playlist_created_at": "playlist_created_at playlist_created playlist_date "
    "playlist_modified_at",
    "position": "position pos track_position playlist_position",
}
PLAYLIST_ALIASES = {
    "playlist_id": "playlist_id playlist_uri pid id uri",
    "playlist_name": "playlist_name playlist_title playlist name title",
    "playlist_description": "playlist_description description",
    "playlist_created_at": "playlist_created_at playlist_created playlist_date "
    "playlist_modified_at created_at created date modified_at",
    "track_ids": "track_ids tracks track_uris songs track_id track_uri spotify_id song_id",
    "position": "position pos track_position playlist_position",
}

CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")


@dataclass(frozen=True)
class Reject:
    """A row that was not taken: where it stands, why, and what it held (JSON)."""

    source: str
    row: int
    reason: str
    record: str


@dataclass(frozen=True)
class Source:
    """A table as it was found.

    Args:
        path (`Path`): The file.
        table (`pyarrow.Table`): Its columns; all of them text where the file is a CSV.
        rows (`Sequence[int]`): For each row of `table`, its number in the file, from 1. The header
            and blank lines do not count, and a record that spans lines counts once.
        rejects (`list[Reject]`): The rows that do not fit the header.
        typed (`bool`): Whether the column types are the file's own (Parquet).
    """

    path: Path
    table: pa.Table
    rows: Sequence[int]
    rejects: list[Reject]
    typed: bool

    @property
    def names(self) -> list[str]:
        """The column names."""
        names: list[str] = self.table.column_names
        return names

    def values(self, name: str) -> list[Any]:
        """A column as Python values.

        Raises:
            InputError: If the column holds what its type does not allow (a damaged file).
        """
        try:
            values: list[Any] = self.table[name].to_pylist()
        except (pa.ArrowException, ValueError, OverflowError) as error:
            raise InputError(
                f"{self.path}: column {name!r} cannot be read ({first_line(error)})"
            ) from None
        return values

    def reject(self, index: int, reason: str) -> Reject:
        """Describe a row of `table` that is not taken."""
        row = self.table.slice(index, 1)
        record = {}
        for name in self.names:
            try:
                record[name] = row[name][0].as_py()
            except (pa.ArrowException, ValueError, OverflowError):
                record[name] = None
        return Reject(self.path.name, self.rows[index], reason, record_text(record))


def record_text(record: Mapping[str, Any]) -> str:
    """A row as JSON text for `Reject.record`, long cells cut."""
    # Cells are cut, not the JSON text, so that it stays JSON.
    short = {
        name: value if value is None or isinstance(value, int | float) else str(value)[:200]
        for name, value in record.items()
    }
    return CONTROL.sub("", json.dumps(short, ensure_ascii=False))


def read_source(path: str | Path, encoding: str | None = None) -> Source:
    """Read a CSV (`.csv`, `.tsv`, either with `.gz`) or Parquet file.

    Args:
        path (`str` or `Path`): The file.
        encoding (`str`, *optional*): Encoding of a CSV; UTF-8 with or without BOM by default.

    Raises:
        InputError: If there is no such file, or it is empty, damaged or of another kind.
    """
    path = Path(path)
    if path.is_dir():
        raise InputError(f"{path}: is a folder; name a CSV or Parquet file")
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    name = path.name.lower()
    try:
        if name.endswith((".parquet", ".pq")):
            source = _read_parquet(path)
        elif name.endswith((".csv", ".tsv", ".csv.gz", ".tsv.gz")):
            source = _read_csv(path, encoding)
        else:
            raise InputError(f"{path}: must end in .csv, .tsv, .csv.gz, .tsv.gz or .parquet")
    except (OSError, EOFError, zlib.error, pa.ArrowException) as error:
        raise InputError(f"{path}: cannot be read ({first_line(error)})") from None
    twice = sorted(name for name, times in Counter(source.names).items() if times > 1)
    if twice:
        raise InputError(f"{path}: the column {twice[0]!r} stands twice; rename one of them")
    if not source.rows and not source.rejects:
        raise InputError(f"{path}: has no rows under its header; nothing to import")
    return source


def _read_parquet(path: Path) -> Source:
    if path.stat().st_size == 0:
        raise InputError(f"{path}: is empty")
    with pq.ParquetFile(path) as handle:
        table = handle.read()
    for index, column in enumerate(table.schema):
        values = table.column(index)
        if pa.types.is_timestamp(column.type):  # nanoseconds have no Python value
            values = values.cast(pa.timestamp("us", tz=column.type.tz), safe=False)
        elif pa.types.is_dictionary(column.type):
            values = values.cast(column.type.value_type)
        table = table.set_column(index, column.name, values)
    return Source(path, table, range(1, table.num_rows + 1), [], typed=True)


_MAGIC = {
    b"PK\x03\x04": "is a zip or Excel file, not a CSV; save the sheet as CSV",
    b"PAR1": "is a Parquet file; rename it to .parquet",
    b"\x1f\x8b": "is gzip-compressed; rename it to .csv.gz",
}


def _decode(path: Path, encoding: str | None) -> str:
    raw = path.read_bytes()
    if path.name.lower().endswith(".gz"):
        raw = gzip.decompress(raw)
    for magic, what in _MAGIC.items():
        if raw.startswith(magic):
            raise InputError(f"{path}: {what}")
    used = encoding or "utf-8"
    try:
        text = raw.decode("utf-8-sig" if used.lower() in ("utf-8", "utf8") else used)
        text.encode()  # some codecs let lone surrogates through
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        other = "utf-16" if raw[:2] in (b"\xff\xfe", b"\xfe\xff") else "latin-1"
        raise InputError(
            f"{path}: line {line}, byte {error.start}: is not {used} text; if it is text in "
            f"another encoding, name it, for instance --encoding {other}"
        ) from None
    except (ValueError, LookupError) as error:
        raise InputError(f"{path}: cannot be decoded as {used!r} ({first_line(error)})") from None
    return text


def _read_csv(path: Path, encoding: str | None) -> Source:
    lines = list(io.StringIO(_decode(path, encoding), newline=""))
    first = next((line for line in lines if line.strip()), "")
    if not first:
        raise InputError(f"{path}: is empty")
    limit = csv.field_size_limit(2**31 - 1)
    try:
        mark = "\t" if ".tsv" in path.name.lower() else _delimiter(first)
        return _parse_csv(path, lines, mark)
    except csv.Error as error:
        raise InputError(f"{path}: is not a CSV ({first_line(error)})") from None
    finally:
        csv.field_size_limit(limit)


def _delimiter(header: str) -> str:
    return max(",;\t|", key=lambda mark: len(next(csv.reader([header], delimiter=mark))))


def _parse_csv(path: Path, lines: list[str], mark: str) -> Source:
    reader = csv.reader(lines, delimiter=mark)
    header = next((cells for cells in reader if any(cell.strip() for cell in cells)), None)
    if header is None:
        raise InputError(f"{path}: is empty")
    names = [" ".join(CONTROL.sub("", cell).split()) for cell in header]
    names = [name or f"column_{number}" for number, name in enumerate(names, 1)]
    records: list[list[str]] = []
    rows: list[int] = []
    rejects: list[Reject] = []
    row, start = 0, reader.line_num
    for cells in reader:
        opened, start = start, reader.line_num
        if not any(cells):
            continue
        row += 1
        reason = ""
        if len(cells) != len(names):
            reason = f"the row has {len(cells)} cells, the header {len(names)}"
        if start == len(lines) and _is_unclosed(lines[opened:], mark):
            reason = f"the quote opened in line {opened + 1} is never closed"
        if reason:
            record = {f"cell_{number}": cell for number, cell in enumerate(cells[:100], 1)}
            rejects.append(Reject(path.name, row, reason, record_text(record)))
        else:
            records.append(cells)
            rows.append(row)
    columns = list(zip(*records, strict=True)) or [() for _ in names]
    arrays = [pa.array(column, pa.large_string()) for column in columns]
    return Source(path, pa.Table.from_arrays(arrays, names=names), rows, rejects, typed=False)


def _is_unclosed(lines: list[str], mark: str) -> bool:
    try:
        list(csv.reader(lines, delimiter=mark, strict=True))
    except csv.Error as error:
        return "unexpected end" in str(error)
    return False


def normal(name: str) -> str:
    """A column name without case, spaces and punctuation."""
    return "".join(letter for letter in name.casefold() if letter.isalnum())


def match_columns(
    source: Source, aliases: Mapping[str, str], overrides: Mapping[str, str]
) -> dict[str, list[str]]:
    """Say which columns of a table hold each standard column.

    Args:
        source (`Source`): The table.
        aliases (`Mapping[str, str]`): The names to guess by, best first, with spaces between.
        overrides (`Mapping[str, str]`): Standard name -> column of the table, instead of a guess;
            for `tags` several columns may stand, separated by commas. An empty string means that
            the table has no such column.

    Returns:
        `dict[str, list[str]]`: One column for each standard name found; for `tags` one or more.

    Raises:
        InputError: If an override names a column that the table lacks.
    """
    by_normal: dict[str, str] = {}
    for name in source.names:
        by_normal.setdefault(normal(name), name)
    chosen: dict[str, list[str]] = {}
    for standard, wanted in overrides.items():
        several = standard == "tags" and wanted not in source.names
        parts = wanted.split(",") if several else [wanted]
        chosen[standard] = []
        for part in filter(None, map(str.strip, parts)):
            column = part if part in source.names else by_normal.get(normal(part))
            if column is None:
                raise InputError(
                    f"{source.path}: has no column {part!r} for {standard}; "
                    f"it has {', '.join(source.names)[:1000]}"
                )
            chosen[standard].append(column)
    claimed = {column for columns in chosen.values() for column in columns}
    for standard, names in aliases.items():
        if standard in chosen:
            continue
        wanted_names = map(normal, names.split())
        found = [by_normal[name] for name in wanted_names if name in by_normal]
        found = [column for column in found if column not in claimed]
        if standard == "tags":
            found.sort(key=source.names.index)
        else:
            found = found[:1]
        chosen[standard] = found
        claimed.update(found)
    return {standard: chosen[standard] for standard in aliases if chosen[standard]}


def left_over(source: Source, columns: Mapping[str, list[str]]) -> list[str]:
    """The columns of a table that no standard column takes."""
    used = {name for names in columns.values() for name in names}
    return [name for name in source.names if name not in used]


def varies(source: Source, name: str, groups: Sequence[Sequence[int]]) -> bool:
    """Whether a column holds different values within a group of rows."""
    values = source.values(name)
    return any(len({repr(values[row]) for row in rows} - {"None"}) > 1 for rows in groups)
