"""Catalogs to simulate conversations about, and what holds for every simulated conversation."""

from collections.abc import Iterator

import numpy as np

from talkplay_hf.catalog.constraints import satisfied
from talkplay_hf.catalog.schema import Catalog, Conversation, Message, Playlist, Track
from talkplay_hf.catalog.splits import playlist_splits


def spotify_like(count: int = 40) -> Catalog:
    """Tracks with numeric descriptors and tags, as a table of real songs has."""
    rng = np.random.default_rng(0)
    genres = ("pop", "rock", "latin")
    tracks = [
        Track(
            f"s{n}",
            f"Title{n} (feat. Someone)",
            f"Artist {n % 7}",
            release_date=f"{1975 + n}-0{1 + n % 9}",
            tags=(genres[n % 3], f"{genres[n % 3]} {n % 2}"),
            album=f"Record {n // 5}",
            popularity=float(n),
            tempo=float(rng.uniform(60, 200)),
            lyrics="ocean ocean waves" if n == 5 else None,
            extra={
                name: float(rng.random())
                for name in (
                    "valence", "energy", "danceability", "acousticness", "instrumentalness",
                    "liveness",
                )
            },
        )
        for n in range(count)
    ]  # fmt: skip
    lists = [
        Playlist(f"l{n}", tuple(f"s{i}" for i in rng.permutation(count)[:12])) for n in range(12)
    ]
    return Catalog.from_tracks(tracks, lists)


def bare(count: int = 20, *, playlists: bool = True) -> Catalog:
    """Nothing but ids, titles and artists."""
    tracks = [Track(f"b{n}", f"Name{n}", f"Singer {n % 4}") for n in range(count)]
    lists = [Playlist(f"l{n}", tuple(f"b{i}" for i in range(n, n + 6))) for n in range(12)]
    return Catalog.from_tracks(tracks, lists if playlists else [])


def turns(conversation: Conversation) -> Iterator[tuple[Message, Message, Message]]:
    messages = conversation.messages
    for at in range(0, len(messages), 3):
        user, music, assistant = messages[at : at + 3]
        yield user, music, assistant


def check(conversations: list[Conversation], catalog: Catalog) -> int:
    """What holds for every conversation; the number of negative tracks."""
    members = {p.playlist_id: set(p.track_ids) for p in catalog.iter_playlists()}
    splits = playlist_splits(catalog)
    negatives = 0
    for one in conversations:
        assert len(one.messages) % 3 == 0
        assert one.messages
        if one.playlist_id is not None:
            assert one.split == splits[one.playlist_id]
        played = []
        for user, music, assistant in turns(one):
            assert (user.role, music.role, assistant.role) == ("user", "music", "assistant")
            assert user.content
            assert assistant.content
            assert music.content == ""
            assert music.track_id is not None
            track = catalog.track(music.track_id)
            assert satisfied(user.constraints, track), (user, track)
            for text in (user.content, assistant.content):
                assert "{" not in text
                assert "  " not in text
                assert not text.startswith((" ", ",")), text
            if music.source == "playlist":
                played.append(music.track_id)
                if one.playlist_id is not None:
                    assert music.track_id in members[one.playlist_id]
            else:
                assert music.source == "negative"
                negatives += 1
                if one.playlist_id is not None:
                    assert music.track_id not in members[one.playlist_id]
        assert len(set(played)) == len(played)
        assert one.messages[-2].source == "playlist"
    return negatives
