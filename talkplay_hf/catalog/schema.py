"""The shared dataclasses: `Track`, `Playlist`, `Message`, `Conversation`, and the `Catalog` folder.

A catalog folder holds `tracks.parquet`, `playlists.parquet` and a manifest; a large table is in
several files, see `hub.shards`. Nulls mean *missing modality*. Columns beyond the standard ones
(numeric audio descriptors, flags such as `explicit`) are kept as they came.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from talkplay_hf.catalog.constraints import Constraint
from talkplay_hf.errors import InputError, first_line
from talkplay_hf.hub import files, shards

TRACK_SCHEMA = pa.schema(
    [
        pa.field("track_id", pa.string(), nullable=False),
        pa.field("title", pa.string(), nullable=False),
        pa.field("artist", pa.string(), nullable=False),
        pa.field("album", pa.string()),
        pa.field("release_date", pa.string()),
        pa.field("tags", pa.list_(pa.string())),
        pa.field("lyrics", pa.string()),
        pa.field("caption", pa.string()),
        pa.field("popularity", pa.float64()),
        pa.field("tempo", pa.float64()),
        pa.field("key", pa.string()),
        pa.field("audio", pa.string()),
        pa.field("license", pa.string()),
    ]
)
PLAYLIST_SCHEMA = pa.schema(
    [
        pa.field("playlist_id", pa.string(), nullable=False),
        pa.field("name", pa.string()),
        pa.field("description", pa.string()),
        pa.field("created_at", pa.string()),
        pa.field("track_ids", pa.list_(pa.string()), nullable=False),
    ]
)
# the tables of a catalog folder
TRACKS, PLAYLISTS = Path(files.TRACKS).stem, Path(files.PLAYLISTS).stem
# the order of the paper (4.1)
MODALITIES = ("playlist", "semantic", "metadata", "lyrics", "audio")
ROLES = ("system", "user", "music", "assistant")


@dataclass(frozen=True)
class Track:
    """One track. Only `track_id`, `title` and `artist` are required.

    Args:
        track_id (`str`): Its id, unique in the catalog.
        title (`str`): Its title.
        artist (`str`): Its artist or artists, as one string.
        album (`str`, *optional*): Its album.
        release_date (`str`, *optional*): ISO date or a part of it (`"1999"`, `"1999-05"`).
        tags (`tuple[str, ...]`): Semantic tags (genre, mood, ...).
        lyrics (`str`, *optional*): Its lyrics.
        caption (`str`, *optional*): A sentence about how it sounds.
        popularity (`float`, *optional*): Any scale; larger is more popular.
        tempo (`float`, *optional*): Beats per minute.
        key (`str`, *optional*): Musical key, such as `"G# minor"`.
        audio (`str`, *optional*): Path (relative to the catalog folder) or URL of its sound.
        license (`str`, *optional*): Its licence.
        extra (`Mapping[str, Any]`): The columns beyond these.
    """

    track_id: str
    title: str
    artist: str
    album: str | None = None
    release_date: str | None = None
    tags: tuple[str, ...] = ()
    lyrics: str | None = None
    caption: str | None = None
    popularity: float | None = None
    tempo: float | None = None
    key: str | None = None
    audio: str | None = None
    license: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)

    @property
    def year(self) -> int | None:
        """The release year, or `None` where the date is missing or has no year."""
        return release_year(self.release_date)

    def brief(self) -> dict[str, Any]:
        """What an answer says of the track, as JSON values."""
        names = ("track_id", "title", "artist", "album", "release_date")
        return {name: getattr(self, name) for name in names} | {"tags": list(self.tags)}

    def get(self, name: str) -> Any:
        """The value of a column by name: a standard one, `year`, or an extra one; else `None`."""
        if name in _TRACK_FIELDS:
            return getattr(self, name)
        return self.extra.get(name)


_TRACK_FIELDS = frozenset([*TRACK_SCHEMA.names, "year"])


def release_year(release_date: str | None) -> int | None:
    """The year of an ISO date or a bare year, or `None` where it has none."""
    head = (release_date or "")[:4]
    return int(head) if len(head) == 4 and head.isascii() and head.isdigit() else None


@dataclass(frozen=True)
class Playlist:
    """One playlist: an ordered list of track ids, some of which may be outside the catalog."""

    playlist_id: str
    track_ids: tuple[str, ...]
    name: str | None = None
    description: str | None = None
    created_at: str | None = None


@dataclass(frozen=True)
class Message:
    """One message of a conversation (paper A.2).

    Args:
        role (`str`): `"system"`, `"user"`, `"music"` or `"assistant"`.
        content (`str`): The text; empty for music.
        track_id (`str`, *optional*): For music: the track that is played.
        source (`str`, *optional*): For music: `"playlist"`, or `"negative"` for a track that the
            user is about to reject (the negative set of paper A.1), or `"catalog"` for one that is
            introduced whether or not a playlist has it.
        constraints (`tuple[Constraint, ...]`): For a user message: what it asks for, readable by
            a machine.
        intents (`tuple[str, ...]`): For a user message: what the writer was to make it say and do,
            by the names of the intent taxonomy.
        liked (`tuple[str, ...]`): For music: further tracks that the user liked in the same turn,
            none of them played in it or before. Labels of the evaluation: they are not played, and
            neither the training of a language model nor a prompt holds them.
    """

    role: str
    content: str = ""
    track_id: str | None = None
    source: str | None = None
    constraints: tuple[Constraint, ...] = ()
    intents: tuple[str, ...] = ()
    liked: tuple[str, ...] = ()


@dataclass(frozen=True)
class Conversation:
    """A dialogue in turns of user, music, assistant (paper 3.2).

    Args:
        conversation_id (`str`): Its id, unique in a dataset.
        messages (`tuple[Message, ...]`): What was said and played.
        playlist_id (`str`, *optional*): The playlist that it was made from.
        split (`str`): `"train"`, `"validation"` or `"test"`: that of its playlist.
        language (`str`, *optional*): The language of its text, such as `"en"`, where it is known.
        provenance (`str`, *optional*): How it was made: `"simulator"`, the name of a language model
            or of a published set.
        license (`str`, *optional*): The licence of its text.
    """

    conversation_id: str
    messages: tuple[Message, ...]
    playlist_id: str | None = None
    split: str = "train"
    language: str | None = None
    provenance: str | None = None
    license: str | None = None


class Catalog:
    """Tracks and playlists as two Arrow tables, with look-ups by id.

    Args:
        tracks (`pyarrow.Table`): The columns of `TRACK_SCHEMA`, then any others.
        playlists (`pyarrow.Table`): The columns of `PLAYLIST_SCHEMA`.
        root (`Path`, *optional*): The folder that relative audio paths start from.
        fingerprint (`str`, *optional*): SHA-256 that identifies the content on disk.

    Raises:
        InputError: If a required column is missing or null, or a track id stands twice.
    """

    def __init__(
        self,
        tracks: pa.Table,
        playlists: pa.Table,
        *,
        root: Path | None = None,
        fingerprint: str = "",
    ) -> None:
        self.tracks = _conform(tracks, TRACK_SCHEMA, "tracks")
        self.playlists = _conform(playlists, PLAYLIST_SCHEMA, "playlists")
        self.root = root
        self.fingerprint = fingerprint
        if len(self._rows) != self.tracks.num_rows:
            seen: set[str] = set()
            for row, track_id in enumerate(self.track_ids):
                if track_id in seen:
                    raise InputError(f"tracks: row {row}: track_id {track_id!r} stands twice")
                seen.add(track_id)

    @classmethod
    def from_tracks(cls, tracks: list[Track], playlists: list[Playlist] | None = None) -> "Catalog":
        """Build a catalog in memory from dataclasses."""
        rows = [
            {name: getattr(track, name) for name in TRACK_SCHEMA.names} | dict(track.extra)
            for track in tracks
        ]
        for row in rows:
            row["tags"] = list(row["tags"]) or None
        lists = [
            {name: getattr(playlist, name) for name in PLAYLIST_SCHEMA.names}
            for playlist in playlists or []
        ]
        extra = sorted({name for row in rows for name in row} - set(TRACK_SCHEMA.names))
        columns = {name: [row.get(name) for row in rows] for name in extra}
        table = pa.Table.from_pylist(rows, schema=TRACK_SCHEMA)
        for name, values in columns.items():
            table = table.append_column(name, pa.array(values))
        return cls(table, pa.Table.from_pylist(lists, schema=PLAYLIST_SCHEMA))

    def with_tables(
        self, *, tracks: pa.Table | None = None, playlists: pa.Table | None = None
    ) -> "Catalog":
        """The catalog with another table of tracks or playlists; audio paths start where they did.

        What it then holds is on no disk, so it has no fingerprint.
        """
        return Catalog(
            self.tracks if tracks is None else tracks,
            self.playlists if playlists is None else playlists,
            root=self.root,
        )

    @classmethod
    def load(cls, folder: str | Path) -> "Catalog":
        """Read a catalog folder.

        Raises:
            ArtifactError: If the folder is not a catalog folder, or a file in it is missing or
                damaged.
        """
        folder = Path(folder)
        manifest = files.read_manifest(folder, "catalog")
        tracks = shards.read_table(folder, TRACKS)
        playlists = shards.read_table(folder, PLAYLISTS)
        return cls(tracks, playlists, root=folder, fingerprint=files.content_hash(manifest))

    def write(self, folder: Path) -> None:
        """Write the two tables into a (staged) folder; the manifest is the caller's."""
        shards.write_table(folder, TRACKS, self.tracks)
        shards.write_table(folder, PLAYLISTS, self.playlists)

    def save(self, folder: str | Path, made_from: Mapping[str, str] | None = None) -> None:
        """Write a catalog folder atomically."""
        with files.staged_folder(folder, "catalog") as aside:
            self.write(aside)
            self.write_manifest(aside, made_from or {})

    def write_manifest(self, folder: Path, made_from: Mapping[str, str], **facts: Any) -> None:
        """Write the manifest of a (staged) catalog folder."""
        counts = {"tracks": len(self), "playlists": self.playlists.num_rows}
        files.write_manifest(folder, "catalog", made_from, **counts, **facts)

    def __len__(self) -> int:
        return int(self.tracks.num_rows)

    def __contains__(self, track_id: object) -> bool:
        return track_id in self._rows

    @cached_property
    def track_ids(self) -> list[str]:
        """All track ids, in the order of the table."""
        ids: list[str] = self.tracks["track_id"].to_pylist()
        return ids

    @cached_property
    def _rows(self) -> dict[str, int]:
        return {track_id: row for row, track_id in enumerate(self.track_ids)}

    def row(self, track_id: str) -> int:
        """The row of a track id.

        Raises:
            InputError: If the catalog has no such track.
        """
        try:
            return self._rows[track_id]
        except (KeyError, TypeError):
            raise InputError(f"the catalog has no track {track_id!r:.80}") from None

    def track(self, track_id: str) -> Track:
        """The track with this id."""
        return self.track_at(self.row(track_id))

    def track_at(self, row: int) -> Track:
        """The track in this row."""
        values = self.tracks.slice(row, 1).to_pylist()[0]
        standard = {name: values.pop(name) for name in TRACK_SCHEMA.names}
        standard["tags"] = tuple(standard["tags"] or ())
        return Track(**standard, extra=values)

    def column(self, name: str) -> list[Any]:
        """A column as Python values, in track order; `year` is derived from `release_date`.

        Raises:
            InputError: If the table has no such column.
        """
        if name == "year":
            return [release_year(date) for date in self.column("release_date")]
        if name not in self.tracks.column_names:
            raise InputError(
                f"the catalog has no column {name!r}; it has {', '.join(self.tracks.column_names)}"
            )
        values: list[Any] = self.tracks[name].to_pylist()
        return values

    @property
    def extra_columns(self) -> list[str]:
        """Names of the columns beyond the standard ones."""
        return [name for name in self.tracks.column_names if name not in TRACK_SCHEMA.names]

    def iter_playlists(self) -> Iterator[Playlist]:
        """All playlists, in the order of the table."""
        for batch in self.playlists.select(PLAYLIST_SCHEMA.names).to_batches(max_chunksize=4096):
            for row in batch.to_pylist():
                row["track_ids"] = tuple(row["track_ids"] or ())
                yield Playlist(**row)


def with_column(table: pa.Table, name: str, values: pa.Array | pa.ChunkedArray) -> pa.Table:
    """A table with a column under a name: in place of the one that has it, or behind all others."""
    if name in table.column_names:
        return table.set_column(table.column_names.index(name), name, values)
    return table.append_column(name, values)


def _conform(table: pa.Table, schema: pa.Schema, what: str) -> pa.Table:
    """Cast the standard columns, add absent optional ones as nulls, and put them first."""
    columns = {}
    for column in schema:
        if column.name not in table.column_names:
            if not column.nullable:
                raise InputError(f"{what}: the column {column.name!r} is missing")
            columns[column.name] = pa.nulls(table.num_rows, column.type)
            continue
        try:
            values = table[column.name].cast(column.type)
        except pa.ArrowException as error:
            raise InputError(f"{what}: the column {column.name!r}: {first_line(error)}") from None
        if not column.nullable and values.null_count:
            row = pc.index(pc.is_null(values.combine_chunks()), True).as_py()
            raise InputError(f"{what}: row {row}: {column.name} is missing")
        columns[column.name] = values
    for name in table.column_names:
        columns.setdefault(name, table[name])
    return pa.table(columns)
