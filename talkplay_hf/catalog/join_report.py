"""What a joined table brought."""

from dataclasses import dataclass, field
from typing import Any

from talkplay_hf.catalog.columns import Reject
from talkplay_hf.catalog.report_text import count_lines, values_of


@dataclass(frozen=True)
class JoinReport:
    """What a joined table brought.

    Args:
        source (`str`): Name of the table.
        rows (`int`): Its rows: `by_id + by_name + by_loose_name + unmatched + rejects`.
        by_id (`int`): Rows whose track id is in the catalog.
        by_name (`int`): Further rows whose title and artist are.
        by_loose_name (`int`): Further rows whose title and artist are, but for guests and editions
            in the title and for artists after the first.
        unmatched (`int`): Rows of no track here.
        unmatched_examples (`list[str]`): The first of them.
        rejects (`int`): Rows with neither an id nor a title and artist, or that do not fit the
            header.
        tracks (`int`): Tracks that at least one row speaks of.
        filled (`dict[str, int]`): Column of the catalog -> tracks that got a value.
        columns (`dict[str, list[str]]`): Standard column -> the columns of the table it came from.
        extra (`dict[str, str]`): Column of the table -> the further column of the catalog.
        dropped_columns (`list[str]`): Columns that were left out.
        cut (`int`): Texts that were cut to the longest allowed.
        control_characters (`int`): Control characters removed from cells.
        unreadable (`int`): Cells without the number or date that was needed; they brought nothing.
        audio_paths (`int`): Paths of audio files; they brought nothing, only URLs do.
        rejected (`list[Reject]`): The rejected rows.
    """

    source: str
    rows: int = 0
    by_id: int = 0
    by_name: int = 0
    by_loose_name: int = 0
    unmatched: int = 0
    unmatched_examples: list[str] = field(default_factory=list)
    rejects: int = 0
    tracks: int = 0
    filled: dict[str, int] = field(default_factory=dict)
    columns: dict[str, list[str]] = field(default_factory=dict)
    extra: dict[str, str] = field(default_factory=dict)
    dropped_columns: list[str] = field(default_factory=list)
    cut: int = 0
    control_characters: int = 0
    unreadable: int = 0
    audio_paths: int = 0
    rejected: list[Reject] = field(default_factory=list, repr=False)

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON values, without the rejected rows themselves."""
        return values_of(self, without="rejected")

    def summary(self) -> str:
        """The report in a few lines for a person."""
        lines = [
            f"joined {self.source}: {self.rows:,} rows, {self.by_id:,} by id, {self.by_name:,} by "
            f"title and artist, {self.by_loose_name:,} loosely so, speak of {self.tracks:,} tracks"
        ]
        if self.filled:
            pairs = (f"{name} {count:,}" for name, count in self.filled.items())
            lines.append(f"tracks filled: {', '.join(pairs)}")
        else:
            lines.append("tracks filled: none")
        renamed = [f"{theirs} -> {ours}" for theirs, ours in self.extra.items() if theirs != ours]
        if renamed:
            lines.append(f"renamed: {', '.join(renamed)}")
        if self.dropped_columns:
            lines.append(f"left out: {', '.join(self.dropped_columns)}")
        if self.unmatched:
            examples = "; ".join(self.unmatched_examples)
            lines.append(f"no such track: {self.unmatched:,} rows ({examples})")
        counted = ("cut", "control_characters", "unreadable", "audio_paths")
        lines += count_lines(self, counted)
        if self.rejects:
            lines.append(f"rejected: {self.rejects:,} rows")
        return "\n".join(lines)
