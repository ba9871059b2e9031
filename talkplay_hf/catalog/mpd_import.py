"""From the Million Playlist Dataset to a catalog folder.

The files are read side by side into parts, which lie in a work folder beside the target, so that an
import that was stopped goes on where it was. The parts are then merged in order. The catalog is the
same byte for byte however many processes read and however often the import was stopped.
"""

import contextlib
import multiprocessing
import os
import shutil
import threading
from collections.abc import Generator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from functools import partial
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

from talkplay_hf.catalog.columns import Reject
from talkplay_hf.catalog.import_entries import check_on_error
from talkplay_hf.catalog.mpd import CHALLENGE_FILE, COUNTED, find_files
from talkplay_hf.catalog.mpd_merge import Merge, Progress
from talkplay_hf.catalog.mpd_parts import make_part, part_record
from talkplay_hf.catalog.provenance import check_license, license_fact
from talkplay_hf.catalog.report_text import count_lines
from talkplay_hf.catalog.splits import CHALLENGE, LABELS, SplitOptions, SplitReport
from talkplay_hf.errors import InputError, TalkPlayError
from talkplay_hf.hub import files
from talkplay_hf.hub.held import held

_REJECTED = ("rejected_playlists", "rejected_entries", "broken_files")


@dataclass(frozen=True)
class MpdReport:
    """What an import of the Million Playlist Dataset found and did.

    Args:
        files (`int`): Files read: slices and the challenge set.
        tracks (`int`): Tracks in the catalog.
        playlists (`int`): Playlists in the catalog, those of the challenge set included.
        entries (`int`): Entries of all playlists, repeats included.
        rejects (`int`): Rows of the table of rejects: `rejected_playlists + rejected_entries +
            broken_files`.
        rejected_playlists (`int`): Playlists that were not taken.
        rejected_entries (`int`): Entries of playlists that were not taken.
        broken_files (`int`): Files that could not be read to their end.
        unknown_dates (`int`): Playlists without a date that can be one; theirs is null.
        unreadable (`int`): Other values of a wrong type; they became null.
        control_characters (`int`): Control characters removed from text.
        cut (`int`): Texts that were cut to the longest allowed.
        cold_tracks (`int`): Tracks that stand only in playlists that test.
        split (`SplitReport`, *optional*): How the playlists were split; `None` where there is only
            a challenge set.
        splits (`dict[str, int]`): Playlists by split.
    """

    files: int
    tracks: int
    playlists: int
    entries: int
    rejects: int
    rejected_playlists: int
    rejected_entries: int
    broken_files: int
    unknown_dates: int
    unreadable: int
    control_characters: int
    cut: int
    cold_tracks: int
    split: SplitReport | None
    splits: dict[str, int]

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON values."""
        return asdict(self)

    def summary(self) -> str:
        """The report in a few lines for a person."""
        lines = [
            f"{self.tracks:,} tracks and {self.playlists:,} playlists with {self.entries:,} "
            f"entries from {self.files:,} files",
        ]
        if self.split is not None:
            lines.append(self.split.summary())
        if CHALLENGE in self.splits:
            lines.append(f"challenge set: {self.splits[CHALLENGE]:,} playlists")
        lines.append(f"cold tracks: {self.cold_tracks:,}")
        counted = ("unknown_dates", "unreadable", "control_characters", "cut")
        lines += count_lines(self, counted)
        if self.rejects:
            lines.append(
                f"rejected: {self.rejected_playlists:,} playlists, {self.rejected_entries:,} "
                f"entries, {self.broken_files:,} files that break off (see {files.REJECTS})"
            )
        return "\n".join(lines)


def import_mpd(
    source: str | Path,
    out: str | Path,
    *,
    split: SplitOptions | None = None,
    license: str | None = None,
    workers: int | None = None,
    on_error: str = "skip",
    progress: Progress | None = None,
) -> MpdReport:
    """Make a catalog folder from the Million Playlist Dataset (paper 3.1).

    Playlists keep all their entries in order, repeats included. Track ids are the URIs without
    `spotify:track:`; a track's text is that of its first appearance. Dates are those of
    `modified_at`. Playlists have the further columns `normalized_name`, `num_followers`,
    `num_edits`, `collaborative`, `num_holdouts` (of the challenge set) and `split` (`"challenge"`
    for the challenge set); tracks have `duration_ms`, `artist_id`, `album_id` and `cold`. The
    column `provenance` of both names the file.

    With more than one worker the reading is done by new processes that import the main module: in
    a script, call this below `if __name__ == "__main__":`.

    Args:
        source (`str` or `Path`): A folder with `mpd.slice.*.json` files, or with a folder `data`
            that has them; a `challenge_set.json` beside them is taken too. Or the path of a
            `challenge_set.json` alone.
        out (`str` or `Path`): The catalog folder to make. The parts lie in `.<out>.parts` beside
            it until it is made.
        split (`SplitOptions`, *optional*): How to split the playlists.
        license (`str`, *optional*): The licence of the tracks.
        workers (`int`, *optional*): Processes that read; by default one a CPU. 1 reads in this
            process.
        on_error (`str`): `"skip"` writes what cannot be taken to `rejects.parquet` and goes on,
            `"stop"` raises at the first of it.
        progress (`Callable[[str, int, int], None]`, *optional*): Called with what is being done,
            how many files are done, and how many there are.

    Returns:
        `MpdReport`: The counts.

    Raises:
        InputError: If there is no such file, no playlist in any, or one cannot be read; with
            `on_error="stop"` also at the first thing that cannot be taken.
        ArtifactError: If `out` is a file, a folder with something else in it, or being written by
            another process.
    """
    out = Path(out)
    check_on_error(on_error)
    if workers is not None and workers < 1:
        raise InputError(f"workers is {workers}; use at least 1")
    check_license(license)
    paths = _files(Path(source), out)
    files.check_target(out, "catalog")
    options = split or SplitOptions()
    progress = progress or (lambda what, done, total: None)
    work = out.parent / f".{out.name}.parts"
    with held(out):
        work.mkdir(parents=True, exist_ok=True)
        parts = []
        with contextlib.closing(_read_all(paths, work, workers or os.cpu_count() or 1)) as read:
            for done, (path, part) in enumerate(zip(paths, read, strict=True), 1):
                if on_error == "stop":
                    _stop_at(path, part_record(part).rejects)
                parts.append(part)
                progress("reading", done, len(paths))
        merge = Merge(parts)
        for done, path in enumerate(paths, 1):
            merge.add_next()
            if on_error == "stop":
                _stop_at(path, merge.doubles[-1])
            progress("merging", done, len(paths))
        if not merge.n_playlists:
            numbers = range(len(parts))
            first = next((one for number in numbers for one in merge.rejects(number)), None)
            reason = f" (row {first.row} of {first.source}: {first.reason})" if first else ""
            shutil.rmtree(work)
            raise InputError(f"{source}: has no playlist that can be taken{reason}")
        labels, cold, drawn = merge.split(options)
        splits = {label: int((labels == label).sum()) for label in LABELS}
        report = MpdReport(
            files=len(paths),
            tracks=merge.n_tracks,
            playlists=merge.n_playlists,
            entries=merge.n_entries,
            rejects=sum(merge.counts[name] for name in _REJECTED),
            cold_tracks=int(cold.sum()),
            split=drawn,
            splits={label: count for label, count in splits.items() if count},
            **{name: merge.counts[name] for name in COUNTED},
        )
        with files.staged_folder(out, "catalog") as aside:
            merge.write(aside, labels, cold, progress, license)
            digests = [part_record(part).sha256 for part in parts]
            names = [path.name for path in paths]
            counts = {"tracks": report.tracks, "playlists": report.playlists}
            facts = {"import": report.to_dict(), "options": {"split": asdict(options)}}
            facts |= license_fact(license)
            made_from = {"source": files.sha256_json([*zip(names, digests, strict=True)])}
            files.write_manifest(aside, "catalog", made_from, **counts, **facts)
        shutil.rmtree(work)
    return report


def _stop_at(path: Path, rejects: list[Reject]) -> None:
    for reject in rejects[:1]:
        raise InputError(f"{path}: row {reject.row}: {reject.reason}")


def _files(source: Path, out: Path) -> list[Path]:
    if not source.exists():
        raise InputError(f"{source}: no such file or folder")
    if out.resolve() in (source.resolve(), *source.resolve().parents):
        raise InputError(f"{source}: lies in {out}, which would be replaced; name another folder")
    paths = find_files(source)
    if not paths:
        raise InputError(
            f"{source}: holds neither mpd.slice.*.json files nor a {CHALLENGE_FILE}, and no folder "
            "data that does; name the folder of the Million Playlist Dataset"
        )
    return paths


def _read_all(paths: list[Path], work: Path, workers: int) -> Generator[Path, None, None]:
    """Make the part of each file, in order."""
    read = partial(make_part, work=work)
    workers = min(workers, len(paths))
    if workers == 1:
        yield from map(read, paths)
        return
    context = multiprocessing.get_context("spawn")
    try:
        with ProcessPoolExecutor(workers, context, initializer=_end_with_parent) as pool:
            yield from pool.map(read, paths)
    except BrokenProcessPool:
        raise TalkPlayError(
            f"a process that reads slices was ended from outside, perhaps for want of memory; "
            f"import again with fewer than {workers} workers: what was read is kept in {work}"
        ) from None


def _end_with_parent() -> None:
    """End this process when the one that started it is gone, even by SIGKILL."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
