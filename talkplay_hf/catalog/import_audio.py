"""The clips that a user's table names: found beside the table, copied into the catalog folder."""

import hashlib
import re
import shutil
from collections.abc import Mapping
from pathlib import Path

from talkplay_hf.errors import InputError
from talkplay_hf.hub import files

AUDIO_FOLDER = "audio"
AUDIO_EXTENSIONS = (".wav", ".mp3", ".flac", ".ogg", ".m4a")
_UNSAFE = re.compile(r"[^A-Za-z0-9_-]+")


def place_clip(cell: str, track_id: str, folder: Path) -> tuple[str, Path] | None:
    """Say where a clip belongs in a catalog folder.

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
    extension = path.suffix.lower()
    if extension not in AUDIO_EXTENSIONS:
        return None
    try:
        if not path.is_file():
            return None
        digest = hashlib.sha256(f"{track_id}\x00{files.sha256_file(path)}".encode()).hexdigest()
    except (OSError, ValueError):  # not readable, or a name that no file can have
        return None
    stem = _UNSAFE.sub("_", track_id).strip("_-")[:60] or "track"
    return f"{AUDIO_FOLDER}/{stem}-{digest[:16]}{extension}", path


def copy_clips(clips: Mapping[str, Path], folder: Path) -> None:
    """Copy clips into a (staged) catalog folder.

    Args:
        clips (`Mapping[str, Path]`): Path in the catalog folder -> the file to copy.
        folder (`Path`): The catalog folder.

    Raises:
        InputError: If a file cannot be copied.
    """
    for name, path in clips.items():
        target = folder / name
        target.parent.mkdir(exist_ok=True)
        try:
            shutil.copyfile(path, target)
        except OSError as error:
            raise InputError(f"{path}: cannot be copied ({error.strerror})") from None
