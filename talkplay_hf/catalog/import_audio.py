"""Audio files on their way into a catalog folder: finding, checking, naming, copying, linking."""

import contextlib
import hashlib
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path

from talkplay_hf.errors import InputError
from talkplay_hf.hub import files

AUDIO_FOLDER = "audio"
AUDIO_EXTENSIONS = (".wav", ".mp3", ".flac", ".ogg", ".m4a", ".opus")
_UNSAFE = re.compile(r"[^A-Za-z0-9_-]+")
_BLOCK = 1 << 16


def place_clip(cell: str, track_id: str, folder: Path) -> tuple[str, Path] | None:
    """Say where a clip that a table names belongs in a catalog folder.

    The name starts like the track id and ends with a hash of the id and the sound, so that no two
    tracks share one, and a catalog with another sound has another fingerprint.

    Args:
        cell (`str`): Path of the clip, absolute or relative to `folder`.
        track_id (`str`): The track it belongs to.
        folder (`Path`): The folder of the table.

    Returns:
        `tuple[str, Path]`: The path in the catalog folder and the file to copy, or `None` where
        there is no such file, it cannot be read, or its extension is not of `AUDIO_EXTENSIONS`.
    """
    path = folder / cell
    if path.suffix.lower() not in AUDIO_EXTENSIONS:
        return None
    try:
        if not path.is_file():
            return None
        return clip_name(track_id, files.sha256_file(path), path.suffix), path
    except (OSError, ValueError):  # not readable, or a name that no file can have
        return None


def clip_name(track_id: str, mark: str, extension: str) -> str:
    """The path of a clip in a catalog folder, safe whatever the track id is.

    Args:
        track_id (`str`): The track.
        mark (`str`): What stands for the sound: a hash of the file, or `sound_mark`.
        extension (`str`): The file's extension, with its dot.
    """
    digest = hashlib.sha256(f"{track_id}\x00{mark}".encode(errors="replace")).hexdigest()
    stem = _UNSAFE.sub("_", track_id).strip("_-")[:60] or "track"
    return f"{AUDIO_FOLDER}/{stem}-{digest[:16]}{extension.lower()}"


def bring_files(found: Mapping[str, Path], folder: Path, *, link: bool = False) -> None:
    """Bring clips and other files into a (staged) catalog folder.

    Args:
        found (`Mapping[str, Path]`): Path in the catalog folder -> the file.
        folder (`Path`): The catalog folder.
        link (`bool`): Whether a hard link will do where the file system has them. It takes no
            space, and what is later written into the file shows in the catalog folder too.

    Raises:
        InputError: If a file cannot be copied.
    """
    for parent in {(folder / name).parent for name in found}:
        parent.mkdir(parents=True, exist_ok=True)
    for name, path in found.items():
        target = folder / name
        if link:
            with contextlib.suppress(OSError):  # another file system, or one without links
                os.link(path.resolve(), target)
                continue
        try:
            shutil.copyfile(path, target)
        except OSError as error:
            raise InputError(f"{path}: cannot be copied ({error.strerror})") from None


def audio_paths(folder: Path, extensions: tuple[str, ...] = AUDIO_EXTENSIONS) -> list[str]:
    """The audio files under a folder, relative to it, with `/` between the parts, sorted.

    Hidden files and folders are left out, and links to folders are not followed.

    Raises:
        InputError: If there is no such folder.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder")
    found: list[str] = []
    for root, names, leaves in os.walk(folder):
        names[:] = [name for name in names if not name.startswith(".")]
        start = Path(root).relative_to(folder).as_posix()
        start = "" if start == "." else f"{start}/"
        found += [
            start + leaf
            for leaf in leaves
            if not leaf.startswith(".") and leaf.lower().endswith(extensions)
        ]
    return sorted(found)


def sound_mark(path: Path) -> str:
    """A mark of an audio file: SHA-256 of its size, its first and its last 64 KiB.

    It stands in for a hash of the whole where there may be millions of files. A change in the
    middle of a file that keeps its size goes unseen.

    Raises:
        InputError: If the file is empty, cannot be read, or does not start like a WAV, FLAC, Ogg,
            MP4 or MP3 file; the message is the reason alone.
    """
    try:
        with path.open("rb") as handle:
            head = handle.read(_BLOCK)
            size = handle.seek(0, os.SEEK_END)
            handle.seek(max(_BLOCK, size - _BLOCK))
            tail = handle.read()
    except OSError as error:
        raise InputError(f"the file cannot be read ({error.strerror})") from None
    if not size:
        raise InputError("the file is empty")
    if not _is_sound(head):
        raise InputError("the file is not audio (WAV, FLAC, Ogg, MP4 or MP3)")
    return hashlib.sha256(b"%d\x00" % size + head + tail).hexdigest()


def _is_sound(head: bytes) -> bool:
    if head[8:12] == b"WAVE" or head[4:8] == b"ftyp" or head.startswith((b"fLaC", b"OggS", b"ID3")):
        return True
    # The first frame of an MP3: eleven bits set, a version, layer III, a bit rate that exists.
    return re.search(rb"\xff[\xe2\xe3\xf2\xf3\xfa\xfb][\x10-\xef]", head) is not None
