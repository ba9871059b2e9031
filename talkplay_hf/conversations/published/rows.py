"""Rows of published conversation datasets, read into one form.

What is known of TalkPlayData, from the pages of both sets on the Hub and code that reads them; the
files themselves were not at hand when this was written:

- TalkPlayData-1 (`talkpl-ai/TalkPlayData-1`, first published as `talkplay-db-v1`; the set of the
  paper): columns `pid`, `cid`, `conversations`, a list of `role` and `content`; splits `train`
  (532,627) and `test` (1,000) in files such as `data/train-00000-of-00003.parquet`. The columns and
  splits are stated on its page. That `content` of a `music` message is a Spotify track id is what
  other programs take it for; the page does not say so. Text may stand before the music (A.1) or
  after it.
- TalkPlayData-2 (`talkpl-ai/TalkPlayData-2`): columns `session_id`, `user_id`, `session_date`,
  `user_profile`, `conversation_goal`, `conversations`, a list of `role`, `content`, `thought` and
  `turn_number`, and `goal_progress_assessments`; splits `train` (15,199) and `test` (1,000); eight
  turns in the order user, music, assistant; `content` of music is a Spotify track id of 22
  characters. All of it is stated or shown on its page. Thoughts, profiles, goals and assessments
  are not read.

Since it is not certain, the reader takes more: messages as a list or as its JSON text, under any of
a few names, and music as an id, as an object with `track_id`, `title` and `artist`, as its JSON
text, or as `title by artist`.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from talkplay_hf.catalog.columns import CONTROL
from talkplay_hf.errors import InputError, first_line
from talkplay_hf.hub import files

_ENDINGS = (".parquet", ".jsonl", ".json")
_SPLIT_NAME = re.compile(r"(train|test|validation|valid|val|dev)(?![a-z])", re.IGNORECASE)
_SAME_AS_VALIDATION = {"valid", "val", "dev"}
_IDS = ("session_id", "cid", "conversation_id", "id")
_MESSAGES = ("conversations", "messages", "conversation")
_TRACK_IDS = ("track_id", "spotify_id", "id", "uri", "track_uri")
_TITLES = ("title", "track_name", "track_title", "name", "track_titles")
_ARTISTS = ("artist", "artist_name", "artists", "track_artists", "artist_names")


class TrackRef(NamedTuple):
    """A track as a dataset names it: by id, by title and artist, or by both."""

    track_id: str | None = None
    title: str | None = None
    artist: str | None = None


@dataclass(frozen=True)
class SourceTurn:
    """One turn of a published conversation.

    Args:
        user (`str`): What the user says.
        assistant (`str`): What the system says; may be empty.
        tracks (`tuple[TrackRef, ...]`): Tracks that were played, or that the user liked.
        disliked (`tuple[TrackRef, ...]`): Tracks that the user did not like.
    """

    user: str
    assistant: str
    tracks: tuple[TrackRef, ...] = ()
    disliked: tuple[TrackRef, ...] = ()


@dataclass(frozen=True)
class SourceConversation:
    """One published conversation.

    Args:
        conversation_id (`str`): Its id there.
        turns (`tuple[SourceTurn, ...]`): Its turns.
        split (`str`, *optional*): Its split there.
        playlist_id (`str`, *optional*): The playlist that it says it was made from.
    """

    conversation_id: str
    turns: tuple[SourceTurn, ...]
    split: str | None = None
    playlist_id: str | None = None


class RowError(ValueError):
    """A row that cannot be read; the message is the name that it is counted under."""


def read_rows(path: str | Path) -> Iterator[tuple[dict[str, Any] | None, str | None]]:
    """Read the rows of a dataset, file after file in the order of their names.

    Args:
        path (`str` or `Path`): A Parquet, JSONL or JSON file, or a folder with such files.

    Returns:
        `Iterator[tuple[dict | None, str | None]]`: Each row, or `None` for a line that is not a
        JSON object, with the split that its file is named after, if it is.

    Raises:
        InputError: If there is no such file, or a file is damaged or of another kind.
    """
    return ((row, _split_of(one)) for one in _files(Path(path)) for row in _file_rows(one))


def source_hash(path: str | Path) -> str:
    """SHA-256 that identifies the files that `read_rows` reads."""
    return files.sha256_json([files.sha256_file(one) for one in _files(Path(path))])


def talkplay_conversation(row: Mapping[str, Any], split: str | None) -> SourceConversation:
    """A row of TalkPlayData-1 or -2, or of the same shape.

    A user message begins a turn; the music and the reply that follow belong to it, in any order.

    Args:
        row (`Mapping[str, Any]`): The row.
        split (`str`, *optional*): The split that its file is named after.

    Raises:
        RowError: If the row has no id or no messages, a message has another role, or something is
            played or said before the first request.
    """
    name = text_of(_first(row, _IDS))
    messages = _parsed(_first(row, _MESSAGES))
    if not name:
        raise RowError("no_id")
    if not isinstance(messages, list) or not messages:
        raise RowError("no_messages")
    turns: list[dict[str, Any]] = []
    for message in messages:
        if not isinstance(message, Mapping):
            raise RowError("no_messages")
        role = message.get("role")
        if role == "user":
            turns.append({"user": text_of(message.get("content")), "assistant": [], "tracks": []})
        elif role not in ("music", "assistant"):
            raise RowError("unknown_role")
        elif not turns:
            raise RowError("no_request")
        elif role == "music":
            turns[-1]["tracks"].append(track_of(message))
        else:
            turns[-1]["assistant"].append(text_of(message.get("content")))
    if not all(turn["user"] for turn in turns):
        raise RowError("no_request")
    playlist_id = text_of(row.get("pid"))
    # `cid` may count within a playlist
    own = f"{playlist_id}-{name}" if playlist_id else name
    return SourceConversation(
        own,
        tuple(
            SourceTurn(turn["user"], "\n".join(turn["assistant"]), tuple(turn["tracks"]))
            for turn in turns
        ),
        split or _known_split(row.get("split")),
        playlist_id or None,
    )


def track_of(value: Any) -> TrackRef:
    """A track from what a dataset says about it: an id, an object, JSON text or `title by artist`.

    Args:
        value (`Any`): The value, or a music message that holds it in `content` or `track_id`.
    """
    if isinstance(value, Mapping) and "role" in value:
        content = value.get("content")
        value = content if content else {name: value.get(name) for name in _TRACK_IDS[:1]}
    if isinstance(value, str):
        value = _parsed(value)
    if isinstance(value, Mapping):
        track_id = _first(value, _TRACK_IDS)
        title, artist = joined(_first(value, _TITLES)), joined(_first(value, _ARTISTS))
        return TrackRef(None if track_id is None else text_of(joined(track_id)), title, artist)
    text = text_of(value)
    # ids have no spaces
    if " by " in text:
        title, _, artist = text.rpartition(" by ")
        return TrackRef(None, title.strip("\"'“” *"), artist.strip("\"'“” *."))
    return TrackRef(text or None)


def track_names(path: str | Path) -> dict[str, TrackRef]:
    """Read a table of tracks: id -> track, such as the track metadata beside TalkPlayData.

    Args:
        path (`str` or `Path`): A Parquet, JSONL or JSON file, or a folder, with a track id, a title
            and an artist a row.

    Raises:
        InputError: If no row has all three.
    """
    refs = [track_of(row) for row, _ in read_rows(path) if row is not None]
    named = {ref.track_id: ref for ref in refs if ref.track_id and ref.title and ref.artist}
    if not named:
        raise InputError(
            f"{path}: no row has a track id ({', '.join(_TRACK_IDS)}), a title "
            f"({', '.join(_TITLES)}) and an artist ({', '.join(_ARTISTS)})"
        )
    return named


def text_of(value: Any) -> str:
    """A value as text without control characters and without space at the ends."""
    return "" if value is None else CONTROL.sub("", str(value)).strip()


def listed(value: Any) -> list[Any]:
    """A list as it is, and nothing where there is none."""
    return list(value) if isinstance(value, list | tuple) else []


def joined(value: Any) -> str | None:
    """A text, or the texts of a list with commas between; `None` where there is none."""
    parts = value if isinstance(value, list | tuple) else [value]
    return ", ".join(text for text in map(text_of, parts) if text) or None


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        # What the Hub or this package writes beside the rows is none of them.
        found = [one for one in path.rglob("*") if one.suffix in _ENDINGS and _is_data(one, path)]
        if not found:
            raise InputError(f"{path}: holds no {', '.join(_ENDINGS)} file")
    elif not path.is_file():
        raise InputError(f"{path}: no such file")
    elif path.suffix not in _ENDINGS:
        raise InputError(f"{path}: must end in {', '.join(_ENDINGS)}, or be a folder")
    else:
        found = [path]
    return sorted(found)


def _is_data(path: Path, folder: Path) -> bool:
    inside = path.relative_to(folder)
    return not any(part.startswith(".") for part in inside.parts) and path.name not in (
        "manifest.json",
        "dataset_infos.json",
        "quarantine.parquet",
    )


def _split_of(path: Path) -> str | None:
    found = _SPLIT_NAME.match(path.name) or _SPLIT_NAME.match(path.parent.name)
    return _known_split(found.group(1)) if found else None


def _known_split(name: Any) -> str | None:
    text = str(name).lower()
    text = "validation" if text in _SAME_AS_VALIDATION else text
    return text if text in ("train", "validation", "test") else None


def _file_rows(path: Path) -> Iterator[dict[str, Any] | None]:
    try:
        if path.suffix == ".parquet":
            with pq.ParquetFile(path) as file:
                for batch in file.iter_batches(1000):
                    yield from batch.to_pylist()
            return
        with path.open(encoding="utf-8-sig") as lines:
            if path.suffix == ".json":
                value = json.load(lines)
                rows = value if isinstance(value, list) else [value]
                yield from (row if isinstance(row, dict) else None for row in rows)
                return
            for line in lines:
                if line.strip():
                    row = _parsed(line)
                    yield row if isinstance(row, dict) else None
    except (pa.ArrowException, OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: cannot be read ({first_line(error)})") from None


def _first(row: Mapping[str, Any], names: tuple[str, ...]) -> Any:
    return next((row[name] for name in names if row.get(name) is not None), None)


def _parsed(value: Any) -> Any:
    """JSON text as what it holds; anything else as it is."""
    if isinstance(value, str) and value.lstrip()[:1] in ("[", "{"):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value
    return value
