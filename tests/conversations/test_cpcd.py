"""CPCD: human dialogues become turns of a catalog, and nothing is lost without being counted."""

from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from published_rows import import_conversations, jsonl

from talkplay_hf.catalog.leakage import check_conversations
from talkplay_hf.catalog.schema import Catalog, Track

NAMES = {
    "y1": ("Billie Jean", ["Michael Jackson"]),
    "y2": ("Hey Ya!", ["Outkast"]),
    "y3": ("Monalisa", ["Lojay", "Sarz"]),
    "y4": ("Nowhere", ["Nobody"]),
    "y5": ("Take On Me (Remaster)", ["a-ha"]),
}
CATALOG = Catalog.from_tracks(
    [
        Track("c1", "Billie Jean", "Michael Jackson"),
        Track("c2", "Hey Ya", "OutKast"),
        Track("c3", "Monalisa", "Lojay, Sarz"),
        Track("c5", "Take On Me", "A-ha"),
    ]
)


def turn(
    user: str,
    assistant: str = "Here you are.",
    liked: tuple[str, ...] = (),
    disliked: tuple[str, ...] = (),
    found: tuple[str, ...] = (),
) -> dict[str, Any]:
    return {
        "user_query": user,
        "system_response": assistant,
        "search_queries": ["q"] if found else [],
        "search_results": [list(found)] if found else [],
        "liked_results": list(liked),
        "disliked_results": list(disliked),
    }


def row(name: str, *turns: dict[str, Any]) -> dict[str, Any]:
    tracks = {
        track_id: {
            "track_ids": track_id,
            "track_titles": title,
            "track_artists": artists,
            "track_release_titles": "An Album",
        }
        for track_id, (title, artists) in NAMES.items()
    }
    liked = [one for made in turns for one in made["liked_results"]]
    return {"id": name, "turns": list(turns), "tracks": tracks, "goal_playlist": liked}


def texts(conversation: Any) -> list[tuple[str, str]]:
    return [(m.role, m.track_id or m.content) for m in conversation.messages]


def test_a_turn_plays_the_first_liked_track_that_the_catalog_holds(tmp_path: Path) -> None:
    source = jsonl(
        tmp_path / "cpcd_train.jsonl", row("a", turn("pop", "Sure.", ("y4", "y1", "y2")))
    )
    (one,), report = import_conversations(source, CATALOG)
    assert texts(one) == [("user", "pop"), ("music", "c1"), ("assistant", "Sure.")]
    assert one.messages[1].source is None
    assert (one.conversation_id, one.language, one.playlist_id) == ("a", "en", None)
    assert report.other_tracks == 1
    assert report.license == "cc-by-4.0"


def liked(conversation: Any) -> list[tuple[str, ...]]:
    return [m.liked for m in conversation.messages if m.role == "music"]


def test_further_liked_tracks_of_the_catalog_are_kept_each_once(tmp_path: Path) -> None:
    turns = (
        turn("pop", liked=("y1",)),
        turn("more", liked=("y1", "y2", "y4", "y5", "y5"), disliked=("y3",)),
    )
    source = jsonl(tmp_path / "c.jsonl", row("a", *turns))
    (one,), report = import_conversations(source, CATALOG)
    assert [m.track_id for m in one.messages if m.role == "music"] == ["c1", "c2"]
    assert liked(one) == [(), ("c5",)]
    assert (report.turns["several"], report.liked_tracks) == (1, 1)
    assert "1 with further liked ones" in report.summary()


def test_a_rejected_track_has_no_further_liked_ones(tmp_path: Path) -> None:
    source = jsonl(tmp_path / "c.jsonl", row("a", turn("pop", disliked=("y1", "y2"))))
    (one,), _ = import_conversations(source, CATALOG)
    assert liked(one) == [()]


def test_a_track_that_was_found_in_the_same_turn_comes_before_one_found_earlier(
    tmp_path: Path,
) -> None:
    asked = turn("more of this", liked=("y1", "y2"), found=("y2", "y3"))
    (one,), _ = import_conversations(jsonl(tmp_path / "c.jsonl", row("a", asked)), CATALOG)
    assert one.messages[1].track_id == "c2"


def test_names_match_strictly_then_loosely(tmp_path: Path) -> None:
    turns = (turn("one", liked=("y2",)), turn("two", liked=("y3",)), turn("three", liked=("y5",)))
    _, report = import_conversations(jsonl(tmp_path / "c.jsonl", row("a", *turns)), CATALOG)
    assert report.to_dict()["tracks"] == {
        "by_id": 0, "by_loose_name": 1, "by_name": 2, "total": 3, "unmatched": 0
    }  # fmt: skip


def test_a_turn_in_which_all_was_disliked_plays_a_rejected_track(tmp_path: Path) -> None:
    rejected = turn("pop", "These?", disliked=("y1",))
    mixed = turn("not those", "These then.", liked=("y2",), disliked=("y3",))
    source = jsonl(tmp_path / "c.jsonl", row("a", rejected, mixed))
    (one,), report = import_conversations(source, CATALOG)
    music = [(m.track_id, m.source) for m in one.messages if m.role == "music"]
    assert music == [("c1", "negative"), ("c2", None)]
    assert report.turns["negative"] == 1


def test_a_disliked_track_does_not_stand_in_for_liked_ones_that_the_catalog_lacks(
    tmp_path: Path,
) -> None:
    turns = (turn("pop", liked=("y4",), disliked=("y1",)), turn("soul", liked=("y2",)))
    (one,), report = import_conversations(jsonl(tmp_path / "c.jsonl", row("a", *turns)), CATALOG)
    assert [m.track_id for m in one.messages if m.role == "music"] == ["c2"]
    assert report.turns["unmatched"] == 1


def test_talk_stays_and_unanswered_words_move_to_the_next_message(tmp_path: Path) -> None:
    turns = (
        turn("Hi", "What would you like?"),
        turn("Pop", ""),
        turn("From the 80s", "Done.", ("y5",)),
        turn("Thanks", ""),
    )
    (one,), report = import_conversations(jsonl(tmp_path / "c.jsonl", row("a", *turns)), CATALOG)
    assert texts(one) == [
        ("user", "Hi"),
        ("assistant", "What would you like?"),
        ("user", "Pop\nFrom the 80s"),
        ("music", "c5"),
        ("assistant", "Done."),
    ]
    assert report.turns["talk"] == 3


def test_turns_without_a_known_track_stay_as_talk_or_go(tmp_path: Path) -> None:
    turns = (turn("pop", "A.", ("y1",)), turn("rare", "B.", ("y4",)), turn("soul", "C.", ("y2",)))
    source = jsonl(tmp_path / "c.jsonl", row("a", *turns))
    (whole,), _ = import_conversations(source, CATALOG)
    assert ("assistant", "B.") in texts(whole)
    (cut,), report = import_conversations(source, CATALOG, unmatched="drop")
    assert [text for role, text in texts(cut) if role != "music"] == ["pop", "A.", "soul", "C."]
    assert report.turns["kept"] == 2


def test_a_track_is_not_played_twice(tmp_path: Path) -> None:
    turns = (turn("pop", liked=("y1",)), turn("again", liked=("y1",)))
    (one,), report = import_conversations(jsonl(tmp_path / "c.jsonl", row("a", *turns)), CATALOG)
    assert sum(m.role == "music" for m in one.messages) == 1
    assert report.turns["repeated"] == 1


def test_what_is_dropped_is_counted_by_reason(tmp_path: Path) -> None:
    good = row("good", turn("pop", liked=("y1",)))
    many_lost = row("few", turn("a", liked=("y1",)), *(turn("b", liked=("y4",)),) * 2)
    rows = [
        good, good, many_lost, row("lost", turn("a", liked=("y4",))), row("empty"), [1],
        row("mute", turn("", liked=("y1",))), {**good, "id": None},
    ]  # fmt: skip
    kept, report = import_conversations(
        jsonl(tmp_path / "c.jsonl", *rows), CATALOG, unmatched="drop"
    )
    assert [one.conversation_id for one in kept] == ["good"]
    assert dict(report.dropped) == {
        "duplicate_id": 1, "few_turns": 1, "no_track": 1, "no_messages": 1, "unreadable_row": 1,
        "no_request": 1, "no_id": 1,
    }  # fmt: skip
    assert report.rows == len(rows) == report.conversations + report.dropped.total()


def test_human_dialogues_are_for_testing_unless_told_otherwise(tmp_path: Path) -> None:
    source = jsonl(tmp_path / "cpcd_train.jsonl", row("a", turn("pop", liked=("y1",))))
    assert import_conversations(source, CATALOG)[0][0].split == "test"
    assert import_conversations(source, CATALOG, split="train")[0][0].split == "train"


def check_liked(conversations: list[Any], catalog: Catalog) -> None:
    """Further liked tracks are of the catalog, each once a turn, and none was played by then."""
    for one in conversations:
        played: set[str | None] = set()
        for message in one.messages:
            played |= {message.track_id} if message.role == "music" else set()
            assert all(track_id in catalog for track_id in message.liked)
            assert not played & set(message.liked)
            assert len(set(message.liked)) == len(message.liked)


@pytest.mark.realdata
def test_the_real_dialogues_meet_the_real_catalog(real_data: Path) -> None:
    source = real_data / "cpcd" / "cpcd_train.jsonl"
    tracks = pq.read_table(
        real_data / "corpus" / "tracks.parquet", columns=["track_id", "title", "artist"]
    )
    tracks = tracks.filter(pc.is_valid(tracks["title"]))
    catalog = Catalog(tracks, Catalog.from_tracks([]).playlists)
    kept, report = import_conversations(source, catalog)
    check_conversations(catalog, kept)
    assert report.rows == 400
    assert report.tracks["total"] == 7527
    assert 0.25 < 1 - report.tracks["unmatched"] / report.tracks["total"] < 0.35
    assert report.conversations > 330
    music = [m.track_id for one in kept for m in one.messages if m.role == "music"]
    assert len(music) == report.turns["kept"] > 1000
    assert all(track_id in catalog for track_id in music)
    check_liked(kept, catalog)
    assert report.turns["several"] / report.turns["kept"] > 0.6
    assert report.liked_tracks > report.turns["kept"]
