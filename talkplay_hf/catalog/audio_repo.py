"""The clips of a catalog as they lie in a dataset repo: a Parquet table with an `Audio` column.

`load_dataset(repo, "audio")` reads it, with the sound as the `Audio` feature of `datasets`. The
catalog itself lies beside as it is.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from talkplay_hf.catalog.import_audio import AUDIO_EXTENSIONS, bring_files
from talkplay_hf.catalog.schema import TRACKS
from talkplay_hf.errors import ArtifactError, InputError
from talkplay_hf.hub import files, shards
from talkplay_hf.hub.packed import (
    PACKED,
    check_hash,
    copy_files,
    read_packed_manifest,
    write_packed_manifest,
)
from talkplay_hf.hub.verify import plain_name

KIND = "catalog"
AUDIO = "audio"
# What a row group holds at most: so much sound is held in memory, and read before a stream starts.
GROUP_BYTES, GROUP_ROWS = 32_000_000, 100
_TEXT = ("track_id", "title", "artist", "license")
_LARGEST = (1 << 31) - 1
_BATCH = 1024
# How `datasets` knows that a column is sound and no mere struct.
_FEATURES = {name: {"dtype": "string", "_type": "Value"} for name in _TEXT}
_FEATURES |= {AUDIO: {"_type": "Audio"}}
_SCHEMA = pa.schema(
    [
        *(pa.field(name, pa.string()) for name in _TEXT),
        pa.field(AUDIO, pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
    ],
    metadata={"huggingface": json.dumps({"info": {"features": _FEATURES}}, sort_keys=True)},
)


def pack_audio(folder: str | Path, out: str | Path) -> int:
    """Make the dataset repo of a catalog with its clips, atomically and clip by clip.

    Args:
        folder (`str` or `Path`): The catalog folder. Clips that are not files in it, such as URLs,
            are left out.
        out (`str` or `Path`): The folder to make: the files of the catalog, and the table `audio`
            as `hub.shards` writes it, with the columns `track_id`, `title`, `artist`, `license`
            and `audio` (the bytes of the file, and its path in the catalog folder).

    Returns:
        `int`: How many clips it holds.

    Raises:
        ArtifactError: If the folder is no catalog folder, packed already or damaged, or `out` is
            something else.
        InputError: If it has no clips, or one cannot be read or has 2 GiB or more.
    """
    folder = Path(folder)
    manifest = files.read_manifest(folder, KIND)
    if PACKED in manifest:
        raise ArtifactError(
            f"{folder}: is packed already, as it lies on the Hub; unpack it with "
            "talkplay_hf.catalog.audio_repo.unpack_audio"
        )
    with files.staged_folder(out, KIND) as aside:
        # neither bytes nor ids repeat, and their bounds tell nothing
        options = {"use_dictionary": False, "write_statistics": False}
        with shards.TableWriter(aside, AUDIO, _SCHEMA, **options) as writer:
            for rows in _groups(folder):
                writer.write(pa.Table.from_pylist(rows, schema=_SCHEMA))
        if not writer.rows:
            raise InputError(f"{folder}: has no audio files to pack")
        tables = shards.table_paths(aside, AUDIO)
        names = {*manifest["files"], files.CARD}
        found = {name: folder / name for name in names if (folder / name).is_file()}
        bring_files(found, aside, link=True)
        write_packed_manifest(aside, manifest, tables)
    return writer.rows


def unpack_audio(folder: str | Path, out: str | Path) -> int:
    """Make the catalog folder of a dataset repo again, with its clips, atomically.

    Args:
        folder (`str` or `Path`): The repo's files, as `pack_audio` makes them.
        out (`str` or `Path`): The catalog folder to make. Each clip gets the path that the catalog
            has for its track.

    Returns:
        `int`: How many clips there are.

    Raises:
        ArtifactError: If a file is missing or damaged, or a path leads out of the folder or is not
            that of an audio file. Nothing is written then.
    """
    folder = Path(folder)
    manifest, packed = read_packed_manifest(folder, KIND)
    paths = dict(_clip_paths(folder))
    for path in shards.table_paths(folder, AUDIO):
        check_hash(path, packed.get(path.name), folder)
    count = 0
    with files.staged_folder(out, KIND) as aside:
        copy_files(folder, manifest["files"], aside)
        for row in _iter_rows(folder):
            name = paths.get(row["track_id"])
            sound = row[AUDIO] or {}
            if name is None or sound.get("bytes") is None:
                raise ArtifactError(f"{folder}: {AUDIO}: {row['track_id']!r} has no clip to unpack")
            target = aside / plain_clip(name, folder)
            try:
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(sound["bytes"])
            except OSError as error:
                what = f"{name}: cannot be written ({error.strerror})"
                raise ArtifactError(f"{out}: {what}") from None
            count += 1
        for name in sorted(manifest["files"].keys() - {files.CARD}):
            check_hash(aside / name, manifest["files"][name], folder)
        files.write_json(aside / files.MANIFEST, manifest)
    return count


def plain_clip(name: str, where: Path) -> str:
    """The path of a clip in a catalog folder, if it stays inside and is that of an audio file.

    Raises:
        ArtifactError: If it is not.
    """
    plain = plain_name(name, where)
    hidden = any(part.startswith(".") for part in plain.split("/"))
    if hidden or not plain.lower().endswith(AUDIO_EXTENSIONS):
        raise ArtifactError(f"{where}: {name!r:.80} is not the name of an audio file")
    return plain


def _clip_paths(folder: Path) -> Iterator[tuple[str, str]]:
    """Track id and path of all clips that the catalog names."""
    for batch in shards.iter_batches(folder, TRACKS, 1 << 16, ["track_id", AUDIO]):
        for row in batch.to_pylist():
            if row.get(AUDIO) is not None:
                yield row["track_id"], row[AUDIO]


def _iter_rows(folder: Path) -> Iterator[dict[str, Any]]:
    # row by row, so that one clip is held twice and not a group of them
    for batch in shards.iter_batches(folder, AUDIO, 1, ["track_id", AUDIO]):
        for row in batch.to_pylist():
            if AUDIO not in row or "track_id" not in row:
                raise ArtifactError(f"{folder}: {AUDIO}: has not the columns track_id and audio")
            yield row


def _groups(folder: Path) -> Iterator[list[dict[str, Any]]]:
    """The rows of each row group."""
    rows: list[dict[str, Any]] = []
    held = 0
    inside = folder.resolve()
    for batch in shards.iter_batches(folder, TRACKS, _BATCH, [*_TEXT, AUDIO]):
        for row in batch.to_pylist():
            name = row.get(AUDIO)
            path = None if name is None or "://" in name else _file(inside, name)
            if path is None:
                continue
            try:
                if path.stat().st_size > _LARGEST:
                    raise InputError(f"{path}: has 2 GiB or more, which no row can hold; cut it")
                sound = path.read_bytes()
            except OSError as error:
                raise InputError(f"{path}: cannot be read ({error.strerror})") from None
            if rows and (held + len(sound) > GROUP_BYTES or len(rows) == GROUP_ROWS):
                yield rows
                rows, held = [], 0
            rows.append({**row, AUDIO: {"bytes": sound, "path": name}})
            held += len(sound)
    if rows:
        yield rows


def _file(folder: Path, name: str) -> Path | None:
    """The file of a clip, if it is one that lies in the folder, also when links are followed."""
    try:
        path = folder / plain_clip(name, folder)
        inside = path.is_file() and folder in path.resolve().parents
    except (ArtifactError, OSError):
        return None
    return path if inside else None
