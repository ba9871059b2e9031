"""Published conversations, matched to the tracks of a catalog.

The shapes that are read are described in `rows` (TalkPlayData-1 and -2) and in `cpcd`.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from talkplay_hf.catalog.leakage import HeldOut
from talkplay_hf.catalog.membership import membership
from talkplay_hf.catalog.schema import Catalog, Conversation, Message
from talkplay_hf.catalog.splits import SPLITS
from talkplay_hf.catalog.track_match import TrackIndex
from talkplay_hf.conversations.dataset import ConversationWriter
from talkplay_hf.conversations.published.cpcd import cpcd_conversation
from talkplay_hf.conversations.published.report import PublishedReport
from talkplay_hf.conversations.published.rows import (
    RowError,
    SourceConversation,
    SourceTurn,
    TrackRef,
    read_rows,
    source_hash,
    talkplay_conversation,
    track_names,
)
from talkplay_hf.errors import InputError

UNMATCHED = ("drop", "talk")
# Rows whose tracks are looked up together.
_ROWS = 1000
_EXAMPLES = 5


@dataclass(frozen=True)
class PublishedSet:
    """A published set: how its rows are read, and what its page says of it.

    Args:
        name (`str`): Its name.
        url (`str`): Where it is described.
        license (`str`, *optional*): The licence that its page states.
        language (`str`, *optional*): The language that its page states.
        split (`str`, *optional*): The split of its conversations, where not that of their file.
        unmatched (`str`): What becomes of turns whose tracks the catalog lacks, see
            `PublishedConversations`.
        liked (`bool`): Whether all tracks of a turn were liked by the user; those beyond the one
            that is played are then its further labels.
        read (`Callable`): Row and split of its file -> conversation.
    """

    name: str
    url: str
    license: str | None
    language: str | None
    split: str | None
    unmatched: str
    liked: bool
    read: Callable[[Mapping[str, Any], str | None], SourceConversation] = field(repr=False)


SETS = {
    "talkplaydata-1": PublishedSet(
        "TalkPlayData-1",
        "https://huggingface.co/datasets/talkpl-ai/TalkPlayData-1",
        license=None,
        language=None,
        split=None,
        unmatched="drop",
        liked=False,
        read=talkplay_conversation,
    ),
    "talkplaydata-2": PublishedSet(
        "TalkPlayData-2",
        "https://huggingface.co/datasets/talkpl-ai/TalkPlayData-2",
        license="cc-by-nc-nd-4.0",
        language="en",
        split=None,
        unmatched="drop",
        liked=False,
        read=talkplay_conversation,
    ),
    "cpcd": PublishedSet(
        "Conversational Playlist Curation Dataset",
        "https://github.com/google-research-datasets/cpcd",
        license="cc-by-4.0",
        language="en",
        split="test",
        unmatched="talk",
        liked=True,
        read=cpcd_conversation,
    ),
}


class PublishedConversations:
    """The conversations of a published set with the tracks of a catalog, read as a stream.

    A track is found by its id; else by title and artist, strictly and then loosely (see
    `TrackIndex`). Of several tracks of one name, the first of the catalog is taken. A turn gets one
    track, the first of its own that is found and was not played before. Where people liked several
    in a turn, the others are in `Message.liked`; see `cpcd`.

    A conversation gets the id of a playlist only if the catalog has one of that id and it holds at
    least half of the tracks. In train and validation it may then not be from a held-out playlist,
    nor play a cold track, so that `leakage.check_conversations` passes.

    Args:
        path (`str` or `Path`): A Parquet, JSONL or JSON file, or a folder with such files.
        catalog (`Catalog`): The catalog.
        format (`str`): A name in `SETS`, or `"auto"`: by the columns of the first row.
        tracks (`str` or `Path`, *optional*): A table of tracks (id, title, artist), for sets that
            name a track by an id that the catalog does not use.
        split (`str`, *optional*): The split of all conversations. By default that of their file or
            row, else `"train"`; for CPCD `"test"`, since people wrote it.
        unmatched (`str`, *optional*): What becomes of turns whose tracks the catalog lacks:
            `"drop"` leaves them out, and drops conversations that lose more than half of their
            turns with tracks; `"talk"` keeps the words without the music. By default `"talk"` for
            CPCD, so that a human dialogue stays whole, else `"drop"`, so that no reply speaks of a
            track that is not there.

    Raises:
        InputError: If the files cannot be read or are of no known set, or an option is unknown.
    """

    def __init__(
        self,
        path: str | Path,
        catalog: Catalog,
        *,
        format: str = "auto",
        tracks: str | Path | None = None,
        split: str | None = None,
        unmatched: str | None = None,
    ) -> None:
        if format != "auto" and format not in SETS:
            raise InputError(f"format {format!r} is unknown; use auto, {', '.join(SETS)}")
        if split is not None and split not in SPLITS:
            raise InputError(f"split {split!r} is unknown; use {', '.join(SPLITS)}")
        if unmatched is not None and unmatched not in UNMATCHED:
            raise InputError(f"unmatched {unmatched!r} is unknown; use {', '.join(UNMATCHED)}")
        self.path = Path(path)
        self.set = SETS[_format_of(self.path) if format == "auto" else format]
        self.catalog = catalog
        self.split = split or self.set.split
        self.unmatched = unmatched or self.set.unmatched
        self.report = self._new_report()
        self._names = {} if tracks is None else track_names(tracks)

    def __iter__(self) -> Iterator[Conversation]:
        self.report = report = self._new_report()
        finder = _Finder(self.catalog, self._names, report)
        gate = _Gate(self.catalog)
        seen: set[str] = set()
        rows = iter(read_rows(self.path))
        while batch := list(islice(rows, _ROWS)):
            read = list(self._read(batch))
            finder.look_up(
                ref for one in read for turn in one.turns for ref in turn.tracks + turn.disliked
            )
            for one in read:
                made = self._made(one, finder)
                if one.conversation_id in seen:
                    made = "duplicate_id"
                seen.add(one.conversation_id)
                if not isinstance(made, str):
                    made = gate.admit(made, one.playlist_id)
                if isinstance(made, str):
                    report.dropped[made] += 1
                    continue
                report.add(made)
                yield made

    def save(self, folder: str | Path, **facts: Any) -> PublishedReport:
        """Write the conversations to a folder as a stream, with the report in its card.

        Args:
            folder (`str` or `Path`): The conversations folder to make.
            facts: Further facts, see `cards.conversations_card`.

        Raises:
            ArtifactError: If the folder holds something else.
            InputError: If a file is damaged.
        """
        made_from = {"catalog": self.catalog.fingerprint, "source": source_hash(self.path)}
        with ConversationWriter(folder, made_from, **facts) as writer:
            for conversation in self:
                writer.add(conversation)
            writer.facts["published"] = self.report.to_dict()
        return self.report

    def _new_report(self) -> PublishedReport:
        return PublishedReport(self.set.name, self.set.url, self.set.license, self.unmatched)

    def _read(
        self, batch: Iterable[tuple[dict[str, Any] | None, str | None]]
    ) -> Iterator[SourceConversation]:
        for row, split in batch:
            self.report.rows += 1
            try:
                if row is None:
                    raise RowError("unreadable_row")
                yield self.set.read(row, split)
            except RowError as error:
                self.report.dropped[str(error)] += 1

    def _made(self, source: SourceConversation, finder: "_Finder") -> Conversation | str:
        """The conversation, or the reason why it is dropped."""
        counts = self.report.turns
        messages: list[Message] = []
        played: set[str] = set()
        unanswered: list[str] = []
        with_tracks = found = 0
        for turn in source.turns:
            counts["total"] += 1
            music, known = _music(turn, finder, played, self.set.liked)
            if turn.tracks or turn.disliked:
                with_tracks += 1
                what = "found" if music else "repeated" if known else "unmatched"
                counts["with_tracks"] += 1
                counts[what] += 1
                if music is None and self.unmatched == "drop":
                    continue
            else:
                counts["talk"] += 1
            if music is None and not turn.assistant:
                unanswered.append(turn.user)
                continue
            messages.append(Message("user", "\n".join([*unanswered, turn.user])))
            unanswered = []
            if music is not None:
                messages.append(music)
                played.add(str(music.track_id))
                found += 1
                given = len(turn.tracks) + len(turn.disliked)
                self.report.other_tracks += given - 1 - len(music.liked)
            if turn.assistant:
                messages.append(Message("assistant", turn.assistant))
        if not found:
            return "no_track"
        if self.unmatched == "drop" and 2 * found < with_tracks:
            return "few_turns"
        return Conversation(
            source.conversation_id,
            tuple(messages),
            split=self.split or source.split or "train",
            language=self.set.language,
            provenance=self.set.name,
            license=self.set.license,
        )


class _Finder:
    """Finds the tracks of a catalog, each only once."""

    def __init__(
        self, catalog: Catalog, names: Mapping[str, TrackRef], report: PublishedReport
    ) -> None:
        self._catalog = catalog
        self._names = names
        self._report = report
        self._index = TrackIndex(catalog.tracks)
        self._found: dict[TrackRef, str | None] = {}

    def __getitem__(self, ref: TrackRef) -> str | None:
        return self._found[ref]

    def look_up(self, refs: Iterable[TrackRef]) -> None:
        """Look up the tracks that were not met before."""
        new = [ref for ref in dict.fromkeys(refs) if ref not in self._found]
        counts = self._report.tracks
        counts["total"] += len(new)
        rows: dict[int, int] = {}
        ids = pa.array([ref.track_id for ref in new], pa.string())
        self._take(rows, self._index.by_id(ids), "by_id")
        named = [
            ref if ref.title and ref.artist else self._names.get(ref.track_id or "", ref)
            for ref in new
        ]
        titles = pa.array([ref.title for ref in named], pa.string())
        artists = pa.array([ref.artist for ref in named], pa.string())
        self._take(rows, self._index.by_name(titles, artists), "by_name")
        self._take(rows, self._index.by_name(titles, artists, loose=True), "by_loose_name")
        for at, ref in enumerate(new):
            self._found[ref] = self._catalog.track_ids[rows[at]] if at in rows else None
            if at not in rows:
                counts["unmatched"] += 1
                if len(self._report.unmatched_examples) < _EXAMPLES:
                    name = f"{named[at].title} by {named[at].artist}"
                    self._report.unmatched_examples.append(
                        name if named[at].title else str(ref.track_id)
                    )

    def _take(self, rows: dict[int, int], pairs: tuple[np.ndarray, np.ndarray], how: str) -> None:
        before = len(rows)
        for at, row in zip(*(part.tolist() for part in pairs), strict=True):
            rows.setdefault(at, row)
        self._report.tracks[how] += len(rows) - before


class _Gate:
    """Keeps what a catalog holds out apart from what trains."""

    def __init__(self, catalog: Catalog) -> None:
        self._held_out = HeldOut(catalog)
        self._lists = membership(catalog)
        ids: list[str] = catalog.playlists["playlist_id"].to_pylist()
        self._at = {playlist_id: at for at, playlist_id in enumerate(ids)}
        self._catalog = catalog

    def admit(self, one: Conversation, playlist_id: str | None) -> Conversation | str:
        """The conversation, with its playlist if that is known, or why it may not be in its split.

        Args:
            one (`Conversation`): The conversation.
            playlist_id (`str`, *optional*): The playlist that it says it was made from.
        """
        at = self._at.get(playlist_id or "")
        if at is not None:
            rows = [self._catalog.row(m.track_id) for m in one.messages if m.track_id is not None]
            if 2 * np.isin(rows, self._lists[at]).sum() >= len(rows):
                one = replace(one, playlist_id=playlist_id)
        leak = self._held_out.leak(one)
        return one if leak is None else leak.reason


def _music(
    turn: SourceTurn, finder: _Finder, played: set[str], all_liked: bool
) -> tuple[Message | None, bool]:
    """The music of a turn, and whether the catalog has any track of it."""
    source = "negative" if turn.disliked and not turn.tracks else None
    refs = turn.tracks or turn.disliked
    known = [*dict.fromkeys(found for ref in refs if (found := finder[ref]) is not None)]
    new = [track_id for track_id in known if track_id not in played]
    if not new:
        return None, bool(known)
    liked = tuple(new[1:]) if all_liked and turn.tracks else ()
    return Message("music", track_id=new[0], source=source, liked=liked), True


def _format_of(path: Path) -> str:
    row = next((row for row, _ in read_rows(path) if row is not None), {})
    if "turns" in row and "tracks" in row:
        return "cpcd"
    if "conversations" in row:
        return "talkplaydata-2" if "session_id" in row else "talkplaydata-1"
    raise InputError(
        f"{path}: of no known set (columns: {', '.join(map(str, row)) or 'none'}); name one with "
        f"format: {', '.join(SETS)}"
    )
