"""What became of the rows of a published set of conversations."""

from collections import Counter
from dataclasses import dataclass, field, fields
from typing import Any

from talkplay_hf.catalog.schema import Conversation

_TRACKS = ("total", "by_id", "by_name", "by_loose_name", "unmatched")
_TURNS = (
    "total",
    "with_tracks",
    "found",
    "repeated",
    "unmatched",
    "talk",
    "kept",
    "negative",
    "several",
)


@dataclass
class PublishedReport:
    """What became of the rows of a published set.

    Args:
        source (`str`): Its name.
        url (`str`): Where it is described.
        license (`str`, *optional*): The licence that its page states.
        unmatched (`str`): What became of turns whose tracks the catalog lacks: `"drop"` or
            `"talk"`.
        rows (`int`): Its rows: `conversations` and all of `dropped`.
        conversations (`int`): Conversations that were kept.
        splits (`dict[str, int]`): Split -> kept conversations.
        dropped (`dict[str, int]`): Reason -> rows that were not: `unreadable_row`, `no_id`,
            `no_messages`, `unknown_role`, `no_request` (something is played or said before the
            first request, or a request is empty), `duplicate_id`, `no_track` (none is in the
            catalog), `few_turns` (more than half of its turns with tracks would go),
            `held_out_playlist` and `cold_track` (see `leakage.HeldOut`).
        tracks (`dict[str, int]`): How the distinct tracks of all rows were found: `total`, `by_id`,
            `by_name`, `by_loose_name`, `unmatched`.
        turns (`dict[str, int]`): The turns of all readable rows: `total`; `with_tracks`, of which
            `found` have one in the catalog, `repeated` only ones that were played before, and
            `unmatched` none; `talk` have none in the source. `kept` are the turns with a track of
            the conversations that were kept, `negative` those of them with a disliked one,
            `several` those with further liked ones.
        liked_tracks (`int`): These further liked tracks, once a turn.
        other_tracks (`int`): Tracks of turns with one that is played, that are neither that one nor
            among the further liked ones.
        unmatched_examples (`list[str]`): The first tracks that the catalog lacks.
    """

    source: str
    url: str
    license: str | None
    unmatched: str
    rows: int = 0
    conversations: int = 0
    splits: Counter[str] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)
    tracks: Counter[str] = field(default_factory=lambda: Counter(dict.fromkeys(_TRACKS, 0)))
    turns: Counter[str] = field(default_factory=lambda: Counter(dict.fromkeys(_TURNS, 0)))
    liked_tracks: int = 0
    other_tracks: int = 0
    unmatched_examples: list[str] = field(default_factory=list)

    def add(self, made: Conversation) -> None:
        """Count a conversation that is kept."""
        music = [message for message in made.messages if message.role == "music"]
        self.conversations += 1
        self.splits[made.split] += 1
        self.turns["kept"] += len(music)
        self.turns["negative"] += sum(message.source == "negative" for message in music)
        self.turns["several"] += sum(bool(message.liked) for message in music)
        self.liked_tracks += sum(len(message.liked) for message in music)

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON values."""
        values = {one.name: getattr(self, one.name) for one in fields(self)}
        return {
            name: dict(sorted(value.items())) if isinstance(value, Counter) else value
            for name, value in values.items()
        }

    def summary(self) -> str:
        """The report in a few lines for a person."""
        tracks, turns = self.tracks, self.turns
        found = tracks["total"] - tracks["unmatched"]
        splits = ", ".join(f"{name} {count:,}" for name, count in sorted(self.splits.items()))
        lines = [
            f"{self.source}: {self.conversations:,} of {self.rows:,} conversations kept"
            f"{_share(self.conversations, self.rows)}{f': {splits}' if splits else ''}",
            f"tracks in the catalog: {found:,} of {tracks['total']:,}"
            f"{_share(found, tracks['total'])}: {tracks['by_id']:,} by id, {tracks['by_name']:,} "
            f"by title and artist, {tracks['by_loose_name']:,} loosely so",
            f"turns with one of them: {turns['found']:,} of {turns['with_tracks']:,}"
            f"{_share(turns['found'], turns['with_tracks'])}, in kept conversations "
            f"{turns['kept']:,} ({turns['negative']:,} with a disliked track, {turns['several']:,} "
            f"with further liked ones); turns of talk {turns['talk']:,}",
        ]
        if self.dropped:
            counts = (f"{reason} {count:,}" for reason, count in sorted(self.dropped.items()))
            lines.append(f"dropped: {', '.join(counts)}")
        if self.unmatched_examples:
            lines.append(f"no such track: {'; '.join(self.unmatched_examples)}")
        return "\n".join(lines)


def _share(part: int, whole: int) -> str:
    return f" ({part / whole:.1%})" if whole else ""
