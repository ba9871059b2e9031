"""What an import found and did."""

from dataclasses import asdict, dataclass, field, fields
from typing import Any

from talkplay_hf.catalog.import_audio import AUDIO_EXTENSIONS
from talkplay_hf.hub import files

_ON_THEIR_OWN = ("tracks", "playlists", "rows", "rejects", "held_out", "missing_audio")


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
        held_out (`int`): Playlists that validate or test, so that nothing trains on them.
        columns (`dict[str, list[str]]`): Standard column -> the columns of the table it came from.
        playlist_columns (`dict[str, list[str]]`): The same for the playlists table.
        extra (`list[str]`): Further columns of the tracks, kept as they are.
        playlist_extra (`list[str]`): Further columns of the playlists, kept as they are.
        dropped_columns (`list[str]`): Columns that were left out.
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
    columns: dict[str, list[str]] = field(default_factory=dict)
    playlist_columns: dict[str, list[str]] = field(default_factory=dict)
    extra: list[str] = field(default_factory=list)
    playlist_extra: list[str] = field(default_factory=list)
    dropped_columns: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON values."""
        return asdict(self)

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
        if self.held_out:
            lines.append(f"held out: {self.held_out:,} of {self.playlists:,} playlists")
        elif "split" in self.playlist_extra:
            lines.append("nothing is held out: the column split says train for every playlist")
        else:
            lines.append("nothing is held out: fewer than ten playlists (groups)")
        if self.missing_audio:
            lines.append(
                f"missing audio: {self.missing_audio:,} (no such file beside the table, or not "
                f"{', '.join(AUDIO_EXTENSIONS)})"
            )
        counts = [
            f"{entry.name.replace('_', ' ')} {getattr(self, entry.name):,}"
            for entry in fields(self)
            if entry.type is int and entry.name not in _ON_THEIR_OWN and getattr(self, entry.name)
        ]
        if counts:
            lines.append(f"counted: {', '.join(counts)}")
        if self.rejects:
            lines.append(f"rejected: {self.rejects:,} rows (see {files.REJECTS})")
        return "\n".join(lines)
