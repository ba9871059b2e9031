"""The sound of a track: sent by track id, so no folder is opened and no path leaves the server."""

import mimetypes
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse
from starlette.routing import Route

from talkplay_hf import TalkPlayError

if TYPE_CHECKING:
    from talkplay_hf import Track
    from talkplay_space.offers import Offers


def clip_path(track: "Track", audio_root: Path | None) -> Path | None:
    """The track's sound file, or `None` unless it is an audio file inside `audio_root`."""
    if audio_root is None or not track.audio:
        return None
    try:
        root = audio_root.resolve()
        path = (root / track.audio).resolve()
        inside = path.is_relative_to(root) and path.is_file()
    except (OSError, ValueError):
        return None
    is_audio = (mimetypes.guess_type(path.name)[0] or "").startswith("audio/")
    return path if inside and is_audio else None


def clip_address(track: "Track", audio_root: Path | None, number: int = 0) -> str | None:
    """Where the page finds the track's sound, relative to itself; `None` where there is none.

    Args:
        track (`Track`): The track.
        audio_root (`Path`, *optional*): The folder that its audio path starts from.
        number (`int`): The place of its catalogue among all that are served.
    """
    if clip_path(track, audio_root) is None:
        return None
    return f"clips/{number}/{quote(track.track_id, safe='')}"


def clip_route(offers: "Offers") -> Route:
    """The route that sends the sound of a track of a catalogue, and nothing else."""

    def clip(request: Request) -> FileResponse:
        number, track_id = request.path_params["number"], request.path_params["track_id"]
        try:
            offer = offers[number]
            track = offer.recommender.track(track_id)
        except (TalkPlayError, IndexError):
            raise HTTPException(404) from None
        path = clip_path(track, offer.audio_root)
        if path is None:
            raise HTTPException(404)
        return FileResponse(path)

    return Route("/clips/{number:int}/{track_id:path}", clip)
