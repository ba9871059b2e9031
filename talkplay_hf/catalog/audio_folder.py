"""From a folder of audio files to a catalog folder."""

import hashlib
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from talkplay_hf.catalog.audio_files import file_reject, plain
from talkplay_hf.catalog.audio_names import (
    can_read_tags,
    folders,
    name_of,
    read_tags,
    starts_with_number,
    stem,
)
from talkplay_hf.catalog.cells import Cells
from talkplay_hf.catalog.columns import Reject
from talkplay_hf.catalog.enrich import check_sources, enrich, to_facts
from talkplay_hf.catalog.import_audio import (
    AUDIO_EXTENSIONS,
    audio_paths,
    bring_files,
    clip_name,
    sound_mark,
)
from talkplay_hf.catalog.import_entries import (
    check_on_error,
    cut_texts,
    is_control_like,
    union,
    write_rejects,
)
from talkplay_hf.catalog.import_report import AudioFolderReport
from talkplay_hf.catalog.leakage import split_checked
from talkplay_hf.catalog.playlist_files import PLAYLIST_EXTENSIONS, read_playlist_file
from talkplay_hf.catalog.provenance import PROVENANCE, license_fact, with_provenance
from talkplay_hf.catalog.schema import PLAYLIST_SCHEMA, TRACK_SCHEMA, Catalog
from talkplay_hf.catalog.splits import SplitOptions
from talkplay_hf.errors import InputError, MissingExtraError
from talkplay_hf.hub import files

UNKNOWN_ARTIST = "Unknown artist"
_EXTRA = (
    pa.field("duration_s", pa.float64()),
    pa.field("isrc", pa.string()),
    pa.field("language", pa.string()),
)
_KEY = re.compile(r"([A-Ga-g])([#b♯♭]?)\s*(m|min|minor|maj|major)?", re.IGNORECASE)


def is_audio_folder(path: str | Path) -> bool:
    """Whether a path is a folder with audio files in it, and neither one of slices of the Million
    Playlist Dataset nor one that this package made."""
    folder = Path(path)
    if not folder.is_dir() or files.folder_kind(folder) or any(folder.glob("mpd.slice.*.json")):
        return False
    return any(
        one.suffix.lower() in AUDIO_EXTENSIONS and one.is_file() for one in folder.rglob("*.*")
    )


def import_audio_folder(
    source: str | Path,
    out: str | Path,
    *,
    join: Sequence[str | Path] | str | Path = (),
    join_columns: Mapping[str, str] | None = None,
    encoding: str | None = None,
    split: SplitOptions | None = None,
    license: str | None = None,
    on_error: str = "skip",
) -> AudioFolderReport:
    """Make a catalog folder from a folder of audio files, one track a file.

    Title, artist, album, date, genre (as tags), lyrics, tempo, key and licence come from the tags
    inside the files where the extra `audio` is installed. What they lack comes from the names:
    `Artist/Album/NN Title`, `Artist - Album/NN Title` or `Artist - Title`. A track id is a hash of
    the file's relative path. Playlists are the M3U, PLS and XSPF files in the folder; a sub-folder
    with at least two tracks and no such file in it is a playlist too. The column `source` of the
    playlists says which: `m3u`, `pls`, `xspf` or `folder`. The column `provenance` of tracks and
    playlists holds the path in `source`. The files come into the catalog folder by hard link, or
    copied where that cannot be.

    Args:
        source (`str` or `Path`): The folder; hidden files in it do not count.
        out (`str` or `Path`): The catalog folder to make, outside of `source`.
        join (`Sequence[str | Path]`): Tables of further columns, see `join_table`.
        join_columns (`Mapping[str, str]`, *optional*): Standard column -> column of the joined
            tables, where the guess is wrong.
        encoding (`str`, *optional*): Encoding of joined CSVs; UTF-8 by default.
        split (`SplitOptions`, *optional*): How to split the playlists.
        license (`str`, *optional*): The licence of tracks whose files and tables say none.
        on_error (`str`): `"skip"` to reject files that cannot be read and go on, `"stop"` to raise
            at the first.

    Returns:
        `AudioFolderReport`: The counts.

    Raises:
        InputError: If there is no such folder, or no audio file in it that can be read, or as
            `on_error` says.
        MissingExtraError: If names do not tell the artist of every file and the package that reads
            tags is not installed.
        ArtifactError: If `out` is a file, or a folder with something else in it.
    """
    check_on_error(on_error)
    check_sources(out, join=join, audio_dir=source)
    files.check_target(out, "catalog")
    run = _AudioImport(Path(source), on_error == "stop")
    run.read_tracks()
    run.read_playlists()
    catalog = Catalog(run.track_table(), run.playlist_table())
    extra = len(catalog.extra_columns)
    catalog, drawn = split_checked(catalog, split)  # its own columns stand behind
    catalog = Catalog(
        with_provenance(catalog.tracks, list(map(plain, run.tracks))), catalog.playlists
    )
    enriched = enrich(
        catalog,
        join=join,
        columns=join_columns,
        encoding=encoding,
        license=license,
        on_error=on_error,
    )
    catalog = enriched.catalog
    report = AudioFolderReport(
        source=run.folder.name,
        files=len(run.paths),
        tracks=len(catalog),
        playlists=catalog.playlists.num_rows,
        control_like=sum(is_control_like(values) for values in run.tracks.values()),
        control_characters=run.cells.control_characters,
        unreadable=run.cells.unreadable,
        rejects=len(run.rejects),
        held_out=catalog.playlists.num_rows - drawn.counts.get("train", 0),
        split=drawn,
        tags_read=run.with_tags,
        extra=catalog.extra_columns[:extra],
        enriched=enriched.reports,
        **run.counts,
    )
    facts = report.to_dict()
    facts.pop("enriched")
    with files.staged_folder(out, "catalog") as aside:
        catalog.write(aside)
        bring_files(run.clips, aside, link=True)
        write_rejects(aside, [*run.rejects, *enriched.rejects])
        catalog.write_manifest(
            aside,
            {"source": files.sha256_json(run.made_from)} | enriched.made_from,
            **{"import": facts, "enriched": to_facts(enriched)},
            **license_fact(license),
        )
    return report


@dataclass(frozen=True)
class _Playlist:
    """A playlist in the making."""

    playlist_id: str
    name: str
    track_ids: list[str]
    source: str
    provenance: str


class _AudioImport:
    """One folder: its tracks by relative path, and its playlists."""

    def __init__(self, folder: Path, stop: bool) -> None:
        self.folder, self.stop = folder, stop
        self.with_tags = can_read_tags()
        self.cells = Cells()
        self.paths = audio_paths(folder)
        if not self.paths:
            raise InputError(f"{folder}: holds no audio files ({', '.join(AUDIO_EXTENSIONS)})")
        self.tracks: dict[str, dict[str, Any]] = {}
        self.order: dict[str, tuple[int, int, str]] = {}
        self.clips: dict[str, Path] = {}
        self.lists: list[_Playlist] = []
        self.rejects: list[Reject] = []
        self.made_from: list[list[str]] = []
        self.counts: Counter[str] = Counter()

    def read_tracks(self) -> None:
        """Read all audio files."""
        together = defaultdict(list)
        for path in self.paths:
            together[path.rpartition("/")[0]].append(starts_with_number(stem(path)))
        for number, path in enumerate(self.paths, 1):
            beside = together[path.rpartition("/")[0]]
            try:
                mark = sound_mark(self.folder / path)
                tags = read_tags(self.folder / path) if self.with_tags else {}
            except InputError as error:
                self._reject(number, path, error)
                continue
            values = self._values(path, tags, numbered=len(beside) > 1 and all(beside))
            values["audio"] = clip_name(values["track_id"], mark, Path(path).suffix)
            self.tracks[path] = values
            self.order[path] = (tags.get("disc") or 0, tags.get("track") or 0, path)
            self.clips[values["audio"]] = self.folder / path
            self.made_from.append([plain(path), mark])
        if not self.tracks:
            reasons = "; ".join(f"{one.record}: {one.reason}" for one in self.rejects[:3])
            raise InputError(f"{self.folder}: no audio file can be read ({reasons})")
        unknown = [path for path, one in self.tracks.items() if one["artist"] == UNKNOWN_ARTIST]
        if unknown and not self.with_tags:
            raise MissingExtraError(
                f"{self.folder}: the names of {len(unknown)} files do not tell the artist, for "
                f"instance {plain(unknown[0])}; to read the tags inside them: "
                "pip install 'talkplay-hf[audio]'"
            )

    def _reject(self, number: int, path: str, error: InputError) -> None:
        if self.stop:
            raise InputError(f"{self.folder / path}: {error}")
        self.rejects.append(file_reject(self.folder, number, str(error), path))

    def _values(self, path: str, tags: Mapping[str, Any], *, numbered: bool) -> dict[str, Any]:
        """The columns of one track."""
        text = self.cells.text
        said = name_of(plain(path), numbered=numbered)
        title, artist = text(tags.get("title")), text(tags.get("artist"), literal=True)
        self.counts["titles_from_tags"] += title is not None
        self.counts["artists_from_tags"] += artist is not None
        artist = artist or text(said.artist, literal=True)
        self.counts["unknown_artists"] += artist is None
        tempo = self.cells.number(tags.get("tempo"))
        values: dict[str, Any] = {
            "track_id": _hashed("t", path),
            "title": title or text(said.title, literal=True) or "Untitled",
            "artist": artist or UNKNOWN_ARTIST,
            "album": text(tags.get("album")) or text(said.album),
            "release_date": self.cells.date(tags.get("release_date")),
            "tags": union(
                (), [tag for cell in tags.get("tags", ()) for tag in self.cells.items(cell)]
            ),
            "lyrics": self.cells.lyrics(tags.get("lyrics")),
            "tempo": tempo if tempo and tempo > 0 else None,
            "key": _key(text(tags.get("key"))),
            "license": text(tags.get("license")),
            "isrc": text(tags.get("isrc")),
            "language": text(tags.get("language")),
        }
        if "duration_s" in tags:
            values["duration_s"] = round(float(tags["duration_s"]), 3)
        self.counts["cut"] += cut_texts(values)
        return values

    def read_playlists(self) -> None:
        """Read the playlist files, and take sub-folders without one as playlists."""
        exact = {_nfc(path): one["track_id"] for path, one in self.tracks.items()}
        folded = {path.casefold(): track_id for path, track_id in exact.items()}
        with_list = set()
        found = audio_paths(self.folder, PLAYLIST_EXTENSIONS)
        for number, path in enumerate(found, len(self.paths) + 1):
            try:
                read = read_playlist_file(self.folder, path)
            except InputError as error:
                self._reject(number, path, error)
                continue
            track_ids: list[str] = []
            for entry in map(_nfc, read.entries):
                track_id = exact.get(entry) or folded.get(entry.casefold())
                if track_id is None:
                    self.counts["unknown_playlist_tracks"] += 1
                elif track_id in track_ids:
                    self.counts["duplicate_pairs"] += 1
                else:
                    track_ids.append(track_id)
            if not track_ids:
                self.counts["dropped_playlists"] += 1
                continue
            self.counts["playlist_files"] += 1
            with_list.add("/".join(folders(path)))
            kind = Path(path).suffix.lower().removeprefix(".").replace("m3u8", "m3u")
            name = self.cells.text(plain(read.name), literal=True) or "Untitled"
            self.lists.append(_Playlist(_hashed("p", path), name, track_ids, kind, plain(path)))
            self.made_from.append([plain(path), files.sha256_file(self.folder / path)])
        self.lists += self._folder_lists(with_list)

    def _folder_lists(self, with_list: set[str]) -> Iterator[_Playlist]:
        members = defaultdict(list)
        for path in self.tracks:
            members["/".join(folders(path))].append(path)
        for folder, paths in members.items():
            if not folder or folder in with_list or len(paths) < 2:
                continue
            self.counts["folder_playlists"] += 1
            paths.sort(key=self.order.__getitem__)
            albums = {self.tracks[path]["album"] for path in paths}
            name = albums.pop() if len(albums) == 1 else plain(folder.rpartition("/")[2])
            track_ids = [self.tracks[path]["track_id"] for path in paths]
            playlist_id = _hashed("p", f"{folder}/")
            yield _Playlist(playlist_id, name or folder, track_ids, "folder", plain(folder))

    def track_table(self) -> pa.Table:
        """The tracks, in order of their paths."""
        schema = pa.schema([*TRACK_SCHEMA, *_EXTRA])
        table = pa.Table.from_pylist(list(self.tracks.values()), schema=schema)
        empty = [one.name for one in _EXTRA if table[one.name].null_count == len(table)]
        return table.drop_columns(empty)

    def playlist_table(self) -> pa.Table:
        """The playlists, those of files first."""
        extra = [pa.field(name, pa.string()) for name in ("source", PROVENANCE)]
        schema = pa.schema([*PLAYLIST_SCHEMA, *extra])
        return pa.Table.from_pylist([asdict(one) for one in self.lists], schema=schema)


def _nfc(path: str) -> str:
    return unicodedata.normalize("NFC", path)


def _hashed(prefix: str, path: str) -> str:
    digest = hashlib.sha256(_nfc(path).encode(errors="surrogateescape")).hexdigest()
    return prefix + digest[:20]


def _key(text: str | None) -> str | None:
    """A key as tags write it (`F#m`, `Bb`) as `F# minor` or `Bb major`; else as it is."""
    found = None if text is None else _KEY.fullmatch(text)
    if found is None:
        return text
    accidental = found[2].replace("♯", "#").replace("♭", "b").lower()
    mode = found[3] or ""
    minor = mode == "m" or mode.lower().startswith("min")
    return f"{found[1].upper()}{accidental} {'minor' if minor else 'major'}"
