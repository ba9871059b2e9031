"""The Conversational Playlist Curation Dataset (Chaganty et al., 2023) as conversations.

Two people build a playlist: one asks, the other searches and offers tracks, and the first likes or
dislikes each. A line of its files is a conversation: `id`, `turns` (`user_query`,
`system_response`, `search_queries`, `search_results`, `liked_results`, `disliked_results`),
`tracks` (YouTube id -> `track_titles`, `track_artists`, `track_release_titles`) and
`goal_playlist`, all tracks that were liked.

How it becomes turns of user, music, assistant:

- The music of a turn is one of the tracks that the user liked in it, 4.6 on average where there are
  any. Those found by a search of the same turn come first, then those that an earlier search had
  found and that were only rated in this turn (about one in eight); else the order is that of the
  ids, which means nothing. The first that the catalog holds and that was not played before is
  taken; the others of that kind are kept as its further liked tracks, and all that are left are
  counted.
- A turn in which nothing was liked, but something was disliked, gets a disliked track in the same
  way, with the source `"negative"`. The dislike is a click: the next message may or may not put it
  into words. Where something was liked as well, the disliked tracks are left out, since the user
  goes on from the liked ones.
- A turn without either is talk (a greeting, a question back, thanks) and stays without music.
- What the user says without an answer and without a track moves to the head of the next message.
"""

from collections.abc import Mapping
from typing import Any

from talkplay_hf.conversations.published.rows import (
    RowError,
    SourceConversation,
    SourceTurn,
    TrackRef,
    joined,
    listed,
    text_of,
)


def cpcd_conversation(row: Mapping[str, Any], split: str | None) -> SourceConversation:
    """A row of CPCD.

    Args:
        row (`Mapping[str, Any]`): The row.
        split (`str`, *optional*): The split that its file is named after. It is of the people who
            talk and says nothing about the playlists of a catalog.

    Raises:
        RowError: If the row has no id, no turns, or a turn without a request.
    """
    name = text_of(row.get("id"))
    if not name:
        raise RowError("no_id")
    turns, tracks = row.get("turns"), row.get("tracks") or {}
    if not isinstance(turns, list) or not turns or not isinstance(tracks, Mapping):
        raise RowError("no_messages")
    made = []
    for turn in turns:
        if not isinstance(turn, Mapping):
            raise RowError("no_messages")
        user = text_of(turn.get("user_query"))
        if not user:
            raise RowError("no_request")
        searches = listed(turn.get("search_results"))
        found = {text_of(one) for results in searches for one in listed(results)}
        made.append(
            SourceTurn(
                user,
                text_of(turn.get("system_response")),
                _refs(turn.get("liked_results"), found, tracks),
                _refs(turn.get("disliked_results"), found, tracks),
            )
        )
    return SourceConversation(name, tuple(made), split)


def _refs(ids: Any, found: set[str], tracks: Mapping[str, Any]) -> tuple[TrackRef, ...]:
    ordered = sorted(map(text_of, listed(ids)), key=lambda track_id: track_id not in found)
    return tuple(_ref(track_id, tracks) for track_id in ordered)


def _ref(track_id: str, tracks: Mapping[str, Any]) -> TrackRef:
    about = tracks.get(track_id)
    if not isinstance(about, Mapping):
        return TrackRef(track_id or None)
    return TrackRef(track_id, joined(about.get("track_titles")), joined(about.get("track_artists")))
