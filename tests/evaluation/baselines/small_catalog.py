"""A catalog of three tracks, and words to ask for them with."""

from talkplay_hf.catalog.schema import Catalog, Message, Playlist, Track

SMALL = Catalog.from_tracks(
    [
        Track("t0", "Silver Harbour", "Mira Vale", album="Tides", tags=("folk", "calm")),
        Track("t1", "Neon Parade", "The Static", release_date="1987-03-01", tags=("synth",)),
        Track("t2", "Quiet Engine", "Mira Vale"),
    ],
    [
        Playlist("p0", ("t1", "t0")),
        Playlist("p1", ("t1", "gone")),
        Playlist("p2", ("t2", "t2", "t2")),
    ],
)


def user(text: str) -> tuple[Message, ...]:
    return (Message("user", text),)


def played(*track_ids: str, then: str = "another one") -> tuple[Message, ...]:
    """A history in which tracks were played, and that ends with a request."""
    turns: list[Message] = []
    for track_id in track_ids:
        turns += [
            Message("user", "play something"),
            Message("music", track_id=track_id),
            Message("assistant", "Here it is."),
        ]
    return (*turns, Message("user", then))
