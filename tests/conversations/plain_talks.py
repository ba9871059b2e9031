"""Small conversations of known content about the tracks of a catalog."""

from talkplay_hf.catalog.schema import Catalog, Conversation, Message


def plain_talks(catalog: Catalog, count: int, turns: int = 3) -> list[Conversation]:
    """Conversations that differ, each of `turns` turns about tracks that follow each other."""
    talks = []
    for number in range(count):
        messages: list[Message] = []
        for turn in range(1 + number % turns):
            track = catalog.track_at((number * turns + turn) % len(catalog))
            ask = f"Song number {number} please, take {turn}, from {track.year}."
            reply = f"Here is {track.title} by {track.artist}, {' and '.join(track.tags[:2])}."
            messages += [
                Message("user", ask),
                Message("music", track_id=track.track_id, source="playlist"),
                Message("assistant", reply),
            ]
        talks.append(Conversation(f"talk-{number:03d}", tuple(messages)))
    return talks
