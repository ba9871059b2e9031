"""What an import found and did."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from talkplay_hf.catalog.audio_files import AudioReport
from talkplay_hf.catalog.import_audio import AUDIO_EXTENSIONS
from talkplay_hf.catalog.join_report import JoinReport
from talkplay_hf.catalog.report_text import count_lines, count_names, values_of
from talkplay_hf.catalog.splits import SplitReport
from talkplay_hf.hub import files

_ON_THEIR_OWN = ("tracks", "playlists", "rows", "rejects", "held_out", "missing_audio")
_OF_FOLDERS_ON_THEIR_OWN = (
    "files",
    "tracks",
    "playlists",
    "rejects",
    "held_out",
    "unknown_artists",
)


@dataclass(frozen=True)
class ImportReport:
    """What an import found and did.

    Args:
        sources (`list[str]`): Names of the files read.
        tracks (`int`): Tracks in the catalog.
        playlists (`int`): Playlists in the catalog.
        rows (`int`): Rows of the tracks table: `tracks + merged` + its rejected rows.
        rejects (`int`): Rows of either table that were not taken.
        merged (`int`): Rows that repeat a track of an earlier row and were joined to it.
        conflicts (`int`): Those of them with another title or artist; the first row's were kept.
        duplicate_pairs (`int`): Times that a track stood in a playlist again; it was kept once.
        generated_ids (`int`): Tracks without an id, named after a hash of title and artist.
        cut (`int`): Texts that were cut to the longest allowed.
        control_like (`int`): Tracks with text that looks like a control token; it was kept.
        control_characters (`int`): Control characters removed from cells.
        unreadable (`int`): Cells without the number or date that was needed; they became null.
        unknown_playlist_tracks (`int`): Entries of playlists that are no track here; left out.
        dropped_playlists (`int`): Playlists that had no track here.
        missing_audio (`int`): Paths of audio without a readable audio file; they became null.
        held_out (`int`): Playlists that do not train.
        split (`SplitReport`, *optional*): How the playlists were split.
        columns (`dict[str, list[str]]`): Standard column -> the columns of the table it came from.
        playlist_columns (`dict[str, list[str]]`): The same for the playlists table.
        extra (`list[str]`): Further columns of the tracks, kept as they are.
        playlist_extra (`list[str]`): Further columns of the playlists, kept as they are.
        dropped_columns (`list[str]`): Columns that were left out.
        enriched (`list[JoinReport | AudioReport]`): What joined tables and a folder of audio files
            brought.
    """

    sources: list[str]
    tracks: int = 0
    playlists: int = 0
    rows: int = 0
    rejects: int = 0
    merged: int = 0
    conflicts: int = 0
    duplicate_pairs: int = 0
    generated_ids: int = 0
    cut: int = 0
    control_like: int = 0
    control_characters: int = 0
    unreadable: int = 0
    unknown_playlist_tracks: int = 0
    dropped_playlists: int = 0
    missing_audio: int = 0
    held_out: int = 0
    split: SplitReport | None = None
    columns: dict[str, list[str]] = field(default_factory=dict)
    playlist_columns: dict[str, list[str]] = field(default_factory=dict)
    extra: list[str] = field(default_factory=list)
    playlist_extra: list[str] = field(default_factory=list)
    dropped_columns: list[str] = field(default_factory=list)
    enriched: Sequence[JoinReport | AudioReport] = ()

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON values."""
        return _values(self)

    def summary(self) -> str:
        """The report in a few lines for a person."""
        lines = [
            f"{self.tracks:,} tracks and {self.playlists:,} playlists from {self.rows:,} rows of "
            f"{' and '.join(self.sources)}"
        ]
        for title, mapping in (("columns", self.columns), ("playlists", self.playlist_columns)):
            if mapping:
                pairs = (f"{name} <- {' + '.join(found)}" for name, found in mapping.items())
                lines.append(f"{title}: {', '.join(pairs)}")
        for title, names in (
            ("also kept", self.extra),
            ("also kept of playlists", self.playlist_extra),
            ("left out", self.dropped_columns),
        ):
            if names:
                lines.append(f"{title}: {', '.join(names)}")
        if self.split is not None:
            lines.append(self.split.summary())
        if self.missing_audio:
            lines.append(
                f"missing audio: {self.missing_audio:,} (no such file beside the table, or not "
                f"{', '.join(AUDIO_EXTENSIONS)})"
            )
        lines += count_lines(self, count_names(self, without=_ON_THEIR_OWN))
        if self.rejects:
            lines.append(f"rejected: {self.rejects:,} rows (see {files.REJECTS})")
        return "\n".join([*lines, *(report.summary() for report in self.enriched)])


@dataclass(frozen=True)
class AudioFolderReport:
    """What the import of a folder of audio files found and did.

    Args:
        source (`str`): Name of the folder.
        files (`int`): Audio files in it: `tracks` + the rejected ones.
        tracks (`int`): Tracks in the catalog.
        playlists (`int`): Playlists in the catalog: `playlist_files + folder_playlists`.
        playlist_files (`int`): Those that come from M3U, PLS and XSPF files.
        folder_playlists (`int`): Those that are the tracks of a sub-folder.
        titles_from_tags (`int`): Tracks whose title stands in the file's tags; the others' come
            from file names.
        artists_from_tags (`int`): The same for artists; the others' come from names of files and
            folders.
        unknown_artists (`int`): Tracks of which neither tells the artist.
        unknown_playlist_tracks (`int`): Entries of playlist files that are no track here; left out.
        dropped_playlists (`int`): Playlist files with no track here.
        duplicate_pairs (`int`): Times that a track stood in a playlist again; it was kept once.
        cut (`int`): Texts that were cut to the longest allowed.
        control_like (`int`): Tracks with text that looks like a control token; it was kept.
        control_characters (`int`): Control characters removed from tags and names.
        unreadable (`int`): Dates and tempi in tags that are none; they became null.
        rejects (`int`): Audio and playlist files that cannot be read.
        held_out (`int`): Playlists that do not train.
        split (`SplitReport`, *optional*): How the playlists were split.
        tags_read (`bool`): Whether tags and durations were read (extra `audio`).
        extra (`list[str]`): Columns beyond the standard ones.
        enriched (`list[JoinReport | AudioReport]`): What joined tables brought.
    """

    source: str
    files: int = 0
    tracks: int = 0
    playlists: int = 0
    playlist_files: int = 0
    folder_playlists: int = 0
    titles_from_tags: int = 0
    artists_from_tags: int = 0
    unknown_artists: int = 0
    unknown_playlist_tracks: int = 0
    dropped_playlists: int = 0
    duplicate_pairs: int = 0
    cut: int = 0
    control_like: int = 0
    control_characters: int = 0
    unreadable: int = 0
    rejects: int = 0
    held_out: int = 0
    split: SplitReport | None = None
    tags_read: bool = True
    extra: list[str] = field(default_factory=list)
    enriched: Sequence[JoinReport | AudioReport] = ()

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON values."""
        return _values(self)

    def summary(self) -> str:
        """The report in a few lines for a person."""
        lines = [
            f"{self.tracks:,} tracks and {self.playlists:,} playlists from {self.files:,} audio "
            f"files of {self.source}"
        ]
        if self.extra:
            lines.append(f"also kept: {', '.join(self.extra)}")
        if not self.tags_read:
            lines.append("tags were not read: pip install 'talkplay-hf[audio]'")
        if self.unknown_artists:
            lines.append(
                f"artist unknown: {self.unknown_artists:,} tracks; tag the files, or name them "
                "Artist/Album/NN Title or Artist - Title"
            )
        if self.split is not None:
            lines.append(self.split.summary())
        lines += count_lines(self, count_names(self, without=_OF_FOLDERS_ON_THEIR_OWN))
        if self.rejects:
            lines.append(f"rejected: {self.rejects:,} files (see {files.REJECTS})")
        return "\n".join([*lines, *(report.summary() for report in self.enriched)])


def _values(report: ImportReport | AudioFolderReport) -> dict[str, Any]:
    values = values_of(report, without="enriched")
    values["split"] = None if report.split is None else report.split.to_dict()
    return values | {"enriched": [one.to_dict() for one in report.enriched]}
