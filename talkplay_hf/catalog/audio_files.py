"""The audio files of a folder, matched to the tracks of a catalog."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from talkplay_hf.catalog.audio_names import AudioName, can_read_tags, possible_names, read_tags
from talkplay_hf.catalog.columns import Reject
from talkplay_hf.catalog.import_audio import audio_paths, clip_name, sound_mark
from talkplay_hf.catalog.report_text import values_of
from talkplay_hf.catalog.schema import Catalog, with_column
from talkplay_hf.catalog.track_match import TrackIndex, name_keys
from talkplay_hf.errors import InputError

BLOCK = 100_000  # files whose names are looked up at a time
_HOW = ("by_id", "by_name", "by_tags")
_LEFT = {
    "duplicates": "of tracks with a clip already",
    "ambiguous": "that fit several tracks",
    "unmatched": "of no track here",
    "unreadable": "that cannot be read",
}


@dataclass(frozen=True)
class AudioReport:
    """Which tracks the files of a folder belong to.

    Args:
        source (`str`): Name of the folder.
        files (`int`): Audio files in it: the sum of the seven counts that follow.
        by_id (`int`): Files named after the id of a track.
        by_name (`int`): Files whose name and folders give title and artist of a track.
        by_tags (`int`): Files whose own tags do.
        duplicates (`int`): Files of tracks that have a clip already.
        ambiguous (`int`): Files that fit several tracks.
        unmatched (`int`): Files of no track here.
        unreadable (`int`): Files that are empty, no audio or cannot be read.
        tags_read (`bool`): Whether the files' tags could be read (extra `audio`).
        without_audio (`int`): Tracks that have no audio after all.
        rejected (`list[Reject]`): The files that were not taken, with the reason; the row is the
            file's number in alphabetical order.
    """

    source: str
    files: int = 0
    by_id: int = 0
    by_name: int = 0
    by_tags: int = 0
    duplicates: int = 0
    ambiguous: int = 0
    unmatched: int = 0
    unreadable: int = 0
    tags_read: bool = True
    without_audio: int = 0
    rejected: list[Reject] = field(default_factory=list, repr=False)

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON values, without the list of files."""
        return values_of(self, without="rejected")

    def summary(self) -> str:
        """The report in a few lines for a person."""
        lines = [
            f"audio from {self.source}: {self.files:,} files, {self.by_id:,} by id, "
            f"{self.by_name:,} by name, {self.by_tags:,} by their tags; "
            f"{self.without_audio:,} tracks have no audio"
        ]
        counts = [
            f"{getattr(self, name):,} {what}" for name, what in _LEFT.items() if getattr(self, name)
        ]
        if counts:
            lines.append(f"files not taken: {', '.join(counts)} (see rejects.parquet)")
            examples = (f"{json.loads(r.record)['file']}: {r.reason}" for r in self.rejected[:3])
            lines.append(f"for instance {'; '.join(examples)}")
        if not self.tags_read and self.unmatched:
            lines.append("the files' tags were not read: pip install 'talkplay-hf[audio]'")
        return "\n".join(lines)


def find_audio(
    folder: str | Path, catalog: Catalog, *, on_error: str = "skip"
) -> tuple[dict[int, tuple[str, Path]], AudioReport]:
    """Match the audio files under a folder to the tracks of a catalog.

    A file belongs to the track whose id it is named after; else to the one with the title and
    artist that its name and folders give (`Artist - Title`, or `NN Title` in `Artist/Album`), and
    of several to the one on that album; else to the one that the tags inside it name. Titles and
    artists are compared as `join_table` does. Of several files for a track the best match, then the
    first by name, is taken. A track that has a file keeps it; a URL gives way to a file.

    Args:
        folder (`str` or `Path`): The folder; `AUDIO_EXTENSIONS` count, hidden files do not.
        catalog (`Catalog`): The catalog.
        on_error (`str`): `"skip"` to count files that cannot be read and go on, `"stop"` to raise.

    Returns:
        `tuple[dict[int, tuple[str, Path]], AudioReport]`: For each row of the catalog that gets a
        clip its path in the catalog folder and the file, and what was found. The path is named
        after the track and `sound_mark`.

    Raises:
        InputError: If there is no such folder, or a file cannot be read with `on_error="stop"`.
    """
    search = _Search(Path(folder), catalog, on_error == "stop")
    search.match()
    return search.place()


class _Search:
    """One folder: for each file the row of its track, or -1, and how that was found."""

    def __init__(self, folder: Path, catalog: Catalog, stop: bool) -> None:
        self.folder, self.catalog, self.stop = folder, catalog, stop
        self.paths = audio_paths(folder)
        self.index = TrackIndex(catalog.tracks)
        self.row = np.full(len(self.paths), -1)
        self.how = np.zeros(len(self.paths), dtype=np.int64)
        self.several: dict[int, list[int]] = {}
        self.marks: dict[int, str] = {}
        self.broken: dict[int, str] = {}

    def match(self) -> None:
        """Find the tracks by id, by name, by tags."""
        stems = [plain(path.rpartition("/")[2].rpartition(".")[0]) for path in self.paths]
        files, rows = self.index.by_id(pa.array(stems, pa.large_string()))
        self.row[files] = rows
        left = np.flatnonzero(self.row < 0).tolist()
        for start in range(0, len(left), BLOCK):
            names = [
                (file, name)
                for file in left[start : start + BLOCK]
                for name in possible_names(self.paths[file])
            ]
            self._look_up(names, how=1)
        if not can_read_tags():
            return
        tagged = []
        for file in np.flatnonzero(self.row < 0).tolist():
            if not self._can_read(file):
                continue
            try:
                tags = read_tags(self.folder / self.paths[file])
            except InputError as error:
                self._break(file, str(error))
                continue
            if "title" in tags and "artist" in tags:
                tagged.append((file, AudioName(tags["title"], tags["artist"], tags.get("album"))))
        self._look_up(tagged, how=2)

    def _look_up(self, names: Sequence[tuple[int, AudioName]], how: int) -> None:
        """Look names up, exactly first; for each file the first name that is known decides."""
        for loose in (False, True):
            asked = [pair for pair in names if self.row[pair[0]] < 0]
            titles = _texts([name.title for _, name in asked])
            artists = _texts([name.artist for _, name in asked])
            at, rows = self.index.by_name(titles, artists, loose=loose)
            if not len(at):
                continue
            albums = _texts([asked[n][1].album for n in at])
            theirs = self.catalog.tracks["album"].take(pa.array(rows))
            same = pc.fill_null(pc.equal(name_keys(albums), name_keys(theirs)), False)
            hits: dict[int, tuple[int, list[tuple[int, bool]]]] = {}
            for n, row, on_album in zip(at.tolist(), rows.tolist(), same.to_pylist(), strict=True):
                deciding, found = hits.setdefault(asked[n][0], (n, []))
                if deciding == n:
                    found.append((row, on_album))
            for file, (_, found) in hits.items():
                fitting = [row for row, on_album in found if on_album] or [row for row, _ in found]
                if len(fitting) == 1:
                    self.row[file], self.how[file] = fitting[0], how
                    self.several.pop(file, None)
                else:
                    self.several.setdefault(file, fitting)

    def _can_read(self, file: int) -> bool:
        try:
            self.marks[file] = sound_mark(self.folder / self.paths[file])
        except InputError as error:
            self._break(file, str(error))
        return file in self.marks

    def _break(self, file: int, reason: str) -> None:
        if self.stop:
            raise InputError(f"{self.folder / self.paths[file]}: {reason}")
        self.broken[file] = reason

    def place(self) -> tuple[dict[int, tuple[str, Path]], AudioReport]:
        """Give each track its best file, and report."""
        ids, held = self.catalog.track_ids, self.catalog.column("audio")
        taken = {row for row, audio in enumerate(held) if audio and "://" not in audio}
        clips: dict[int, tuple[str, Path]] = {}
        counts = dict.fromkeys((*_HOW, *_LEFT), 0)
        reasons: dict[int, str] = {}
        for file in np.argsort(self.how, kind="stable").tolist():
            row, path = int(self.row[file]), self.paths[file]
            if row in taken:
                counts["duplicates"] += 1
                reasons[file] = f"the track {ids[row][:100]!r} has a clip already"
            elif file in self.broken or (file not in self.marks and not self._can_read(file)):
                counts["unreadable"] += 1
                reasons[file] = self.broken[file]
            elif row >= 0:
                counts[_HOW[self.how[file]]] += 1
                taken.add(row)
                name = clip_name(ids[row], self.marks[file], Path(path).suffix)
                clips[row] = (name, self.folder / path)
            elif file in self.several:
                counts["ambiguous"] += 1
                some = ", ".join(repr(ids[one][:60]) for one in self.several[file][:5])
                reasons[file] = f"fits {len(self.several[file])} tracks: {some}"
            else:
                counts["unmatched"] += 1
                reasons[file] = "fits no track by its id, name or tags"
        rejected = [
            file_reject(self.folder, file + 1, reasons[file], self.paths[file])
            for file in sorted(reasons)
        ]
        with_audio = sum(audio is not None for audio in held)
        with_audio += sum(held[row] is None for row in clips)
        report = AudioReport(
            source=self.folder.name,
            files=len(self.paths),
            **counts,
            tags_read=can_read_tags(),
            without_audio=len(held) - with_audio,
            rejected=rejected,
        )
        return clips, report


def with_clips(catalog: Catalog, clips: dict[int, tuple[str, Path]]) -> Catalog:
    """The catalog with the paths of clips in its column `audio`.

    Args:
        catalog (`Catalog`): The catalog; it stays as it is.
        clips (`dict[int, tuple[str, Path]]`): What `find_audio` returned.
    """
    audio = catalog.column("audio")
    for row, (name, _) in clips.items():
        audio[row] = name
    tracks = with_column(catalog.tracks, "audio", pa.array(audio, pa.string()))
    return catalog.with_tables(tracks=tracks)


def plain(text: str) -> str:
    """A file name as text: bytes of it that are no UTF-8 become question marks."""
    return text.encode(errors="replace").decode()


def _texts(values: list[str | None]) -> pa.Array:
    return pa.array([value and plain(value) for value in values], pa.large_string())


def file_reject(folder: Path, number: int, reason: str, path: str) -> Reject:
    """Describe a file of a folder that is not taken."""
    record = json.dumps({"file": plain(path)}, ensure_ascii=False)
    return Reject(plain(folder.name), number, reason, record)
