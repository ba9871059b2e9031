"""More about the tracks of a catalog: joined tables and folders of audio files."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from talkplay_hf.catalog.audio_files import AudioReport, find_audio, with_clips
from talkplay_hf.catalog.columns import Reject
from talkplay_hf.catalog.import_audio import bring_files
from talkplay_hf.catalog.import_entries import check_on_error, write_rejects
from talkplay_hf.catalog.join import join_table
from talkplay_hf.catalog.join_report import JoinReport
from talkplay_hf.catalog.provenance import check_license, license_fact, with_license
from talkplay_hf.catalog.schema import PLAYLIST_SCHEMA, TRACKS, Catalog
from talkplay_hf.errors import InputError
from talkplay_hf.hub import files, shards

_OWN_FACTS = ("format_version", "talkplay_hf", "kind", "made_from", "files")


@dataclass(frozen=True)
class Enriched:
    """A catalog that has grown.

    Args:
        catalog (`Catalog`): The catalog.
        reports (`list[JoinReport | AudioReport]`): What each table and folder brought.
        clips (`dict[str, Path]`): Path in the catalog folder -> audio file to link there.
        made_from (`dict[str, str]`): SHA-256 of each table and of each folder's clips.
    """

    catalog: Catalog
    reports: list[JoinReport | AudioReport] = field(default_factory=list)
    clips: dict[str, Path] = field(default_factory=dict)
    made_from: dict[str, str] = field(default_factory=dict)

    @property
    def rejects(self) -> list[Reject]:
        """The rows and files that were not taken."""
        return [one for report in self.reports for one in report.rejected]


def enrich(
    catalog: Catalog,
    *,
    join: Sequence[str | Path] | str | Path = (),
    audio_dir: str | Path | None = None,
    columns: Mapping[str, str] | None = None,
    encoding: str | None = None,
    license: str | None = None,
    on_error: str = "skip",
) -> Enriched:
    """Bring joined tables, in order, and then audio files to a catalog.

    Args:
        catalog (`Catalog`): The catalog; it stays as it is.
        join (`Sequence[str | Path]`): Tables of further columns, see `join_table`.
        audio_dir (`str` or `Path`, *optional*): A folder of audio files, see `find_audio`.
        columns (`Mapping[str, str]`, *optional*): Standard column -> column of the joined tables,
            where the guess is wrong.
        encoding (`str`, *optional*): Encoding of joined CSVs; UTF-8 by default.
        license (`str`, *optional*): The licence of tracks that have none after that.
        on_error (`str`): `"skip"` to count bad rows and files and go on, `"stop"` to raise at the
            first.

    Raises:
        InputError: If a table or folder cannot be used, or as `on_error` says.
    """
    check_on_error(on_error)
    check_license(license)
    tables = _as_tables(join)
    reports: list[JoinReport | AudioReport] = []
    made_from = {}
    for number, table in enumerate(tables, 1):
        catalog, joined = join_table(
            catalog, table, columns=columns, encoding=encoding, on_error=on_error
        )
        reports.append(joined)
        made_from[f"join_{number}"] = files.sha256_file(table)
    clips: dict[str, Path] = {}
    if audio_dir is not None:
        found, report = find_audio(audio_dir, catalog, on_error=on_error)
        catalog = with_clips(catalog, found)
        clips = dict(found.values())
        reports.append(report)
        made_from["audio_dir_1"] = files.sha256_json(sorted(clips))
    if license is not None:
        catalog = with_license(catalog, license)
    return Enriched(catalog, reports, clips, made_from)


def _files_of(folder: Path) -> dict[str, Path]:
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path for path in paths}


def enrich_folder(
    folder: str | Path,
    out: str | Path | None = None,
    *,
    join: Sequence[str | Path] | str | Path = (),
    audio_dir: str | Path | None = None,
    columns: Mapping[str, str] | None = None,
    encoding: str | None = None,
    license: str | None = None,
    on_error: str = "skip",
) -> list[JoinReport | AudioReport]:
    """Bring joined tables and audio files to a catalog folder, atomically.

    The table of tracks, `rejects.parquet` and the manifest are written anew. Everything else in the
    folder stays, by hard link where that can be, so that playlists of any size are not loaded.

    Args:
        folder (`str` or `Path`): The catalog folder.
        out (`str` or `Path`, *optional*): The catalog folder to make; by default `folder` itself.
        join, audio_dir, columns, encoding, license, on_error: See `enrich`.

    Returns:
        `list[JoinReport | AudioReport]`: What each table and the folder brought, in order.

    Raises:
        InputError: If a table or folder cannot be used, or as `on_error` says.
        ArtifactError: If `folder` is no catalog folder, a file in it is damaged, or `out` is
            something else. After an error both folders are as they were.
    """
    folder = Path(folder)
    manifest = files.read_manifest(folder, "catalog")
    out = folder if out is None else Path(out)
    if out.resolve() != folder.resolve():
        check_sources(out, join=join, audio_dir=folder)
        files.check_target(out, "catalog")
    check_sources(folder, audio_dir=audio_dir)
    check_sources(out, audio_dir=audio_dir)
    tracks = shards.read_table(folder, TRACKS)
    enriched = enrich(
        Catalog(tracks, PLAYLIST_SCHEMA.empty_table(), root=folder),
        join=join,
        audio_dir=audio_dir,
        columns=columns,
        encoding=encoding,
        license=license,
        on_error=on_error,
    )
    made_from = dict(manifest["made_from"])
    for name, digest in enriched.made_from.items():
        made_from[_next_name(name, made_from)] = digest
    facts = {name: value for name, value in manifest.items() if name not in _OWN_FACTS}
    facts["enriched"] = [*facts.get("enriched", []), *to_facts(enriched)]
    facts |= license_fact(license)
    anew = {files.MANIFEST, *(path.name for path in shards.table_paths(folder, TRACKS))}
    found = {**enriched.clips, **_files_of(folder)}  # a clip of the same name is the same
    kept = {name: path for name, path in found.items() if name not in anew}
    with files.staged_folder(out, "catalog") as aside:
        bring_files(kept, aside, link=True)
        shards.write_table(aside, TRACKS, enriched.catalog.tracks)
        write_rejects(aside, enriched.rejects)
        files.write_manifest(aside, "catalog", made_from, **facts)
    return enriched.reports


def to_facts(enriched: Enriched) -> list[dict[str, Any]]:
    """The reports as they stand in a manifest, under `enriched`."""
    return [report.to_dict() for report in enriched.reports]


def check_sources(
    out: str | Path,
    *,
    tables: Sequence[str | Path] = (),
    join: Sequence[str | Path] | str | Path = (),
    audio_dir: str | Path | None = None,
) -> None:
    """Refuse sources that are not there, or that the making of a catalog folder would destroy.

    Args:
        out (`str` or `Path`): The catalog folder.
        tables (`Sequence[str | Path]`): Tables to read.
        join (`Sequence[str | Path]`): Tables to join.
        audio_dir (`str` or `Path`, *optional*): A folder of audio files.

    Raises:
        InputError: If there is no such table or folder, or a table lies in `out`, or the audio
            files in or around it.
    """
    outer = Path(out).resolve()
    for path in (*tables, *_as_tables(join)):
        if not Path(path).exists():
            raise InputError(f"{path}: no such file")
        if outer in Path(path).resolve().parents:
            raise InputError(f"{path}: lies in {out}, which would be replaced; name another folder")
    if audio_dir is not None:
        inner = Path(audio_dir).resolve()
        if not inner.is_dir():
            raise InputError(f"{audio_dir}: no such folder")
        if inner == outer or inner in outer.parents or outer in inner.parents:
            raise InputError(
                f"{audio_dir}: the catalog folder {out} lies in it or around it; move one"
            )


def _as_tables(join: Sequence[str | Path] | str | Path) -> list[str | Path]:
    """The tables to join, where a single one may be named without a list around it."""
    return [join] if isinstance(join, str | Path) else list(join)


def _next_name(name: str, taken: Mapping[str, str]) -> str:
    start, _, number = name.rpartition("_")
    count = int(number)
    while f"{start}_{count}" in taken:
        count += 1
    return f"{start}_{count}"
