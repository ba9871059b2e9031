"""Published conversation sets, matched to a catalog."""

import json
import tempfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from published_rows import import_conversations, jsonl

from talkplay_hf.catalog.leakage import check_conversations
from talkplay_hf.catalog.schema import Catalog, Message, Track
from talkplay_hf.conversations.dataset import load_conversations
from talkplay_hf.conversations.published.rows import TrackRef, track_of
from talkplay_hf.conversations.published.sets import PublishedConversations
from talkplay_hf.errors import InputError
from talkplay_hf.hub import files

IDS = ["0QPoBU27mAufLpou0WJwHf", "1dL3ikJKAKvYi8KQb3rw20", "2aaaaaaaaaaaaaaaaaaaaa"]
TRACKS = pa.table(
    {
        "track_id": [*IDS, "cold"],
        "title": ["First", "Second (feat. Guest)", "Third", "Cold"],
        "artist": ["Alpha", "Beta", "The Gammas", "Delta"],
    }
)
PLAYLISTS = pa.table(
    {
        "playlist_id": ["p-train", "p-test"],
        "track_ids": [IDS[:2], [IDS[2], "cold"]],
        "split": ["train", "test"],
    }
)
CATALOG = Catalog(TRACKS, PLAYLISTS)


def first_set(cid: str, *tracks: Any, pid: str = "1") -> dict[str, Any]:
    """A row of TalkPlayData-1, text before music."""
    messages: list[dict[str, Any]] = []
    for number, track in enumerate(tracks):
        messages += [
            {"role": "user", "content": f"ask {number}"},
            {"role": "assistant", "content": f"reply {number}"},
            {"role": "music", "content": track},
        ]
    return {"pid": pid, "cid": cid, "conversations": messages}


def second_set(session: str, *tracks: str) -> dict[str, Any]:
    """A row of TalkPlayData-2, music before text."""
    messages = []
    for number, track in enumerate(tracks, start=1):
        for role, content in (("user", "ask"), ("music", track), ("assistant", "reply")):
            about = {"thought": "hm", "turn_number": number}
            messages.append({"role": role, "content": content, **about})
    return {"session_id": session, "user_id": "7", "conversations": messages}


def played(one: Any) -> list[str]:
    return [m.track_id for m in one.messages if m.role == "music"]


def test_parquet_files_of_a_repo_are_read_with_their_splits(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (tmp_path / "README.md").write_text("a card", encoding="utf-8")
    for name, rows in {
        "train-00000-of-00002": [first_set("a", IDS[0], IDS[1])],
        "train-00001-of-00002": [first_set("b", IDS[1])],
        "test-00000-of-00001": [first_set("c", IDS[2])],
    }.items():
        pq.write_table(pa.Table.from_pylist(rows), data / f"{name}.parquet")
    kept, report = import_conversations(tmp_path, CATALOG)
    assert [(one.conversation_id, one.split) for one in kept] == [
        ("1-c", "test"), ("1-a", "train"), ("1-b", "train")
    ]  # fmt: skip
    assert report.source == "TalkPlayData-1"
    assert report.license is None


def test_music_comes_before_the_reply_whatever_the_order_in_the_source(tmp_path: Path) -> None:
    wanted = (
        Message("user", "ask 0"),
        Message("music", track_id=IDS[0]),
        Message("assistant", "reply 0"),
    )
    source = jsonl(tmp_path / "one.jsonl", first_set("a", IDS[0]))
    assert import_conversations(source, CATALOG)[0][0].messages == wanted


def test_thoughts_of_the_second_set_are_left_out(tmp_path: Path) -> None:
    source = jsonl(tmp_path / "two.jsonl", second_set("7__2011-12-26", IDS[0], IDS[1]))
    (one,), report = import_conversations(source, CATALOG)
    assert [m.content for m in one.messages] == ["ask", "", "reply"] * 2
    assert one.language == "en"
    assert (report.source, report.license) == ("TalkPlayData-2", "cc-by-nc-nd-4.0")


@pytest.mark.parametrize(
    "track",
    [
        f"spotify:track:{IDS[0]}",
        {"track_id": "other", "title": "FIRST", "artist": "alpha", "tag_list": ["x"]},
        json.dumps({"track_name": ["First"], "artist_name": ["Alpha"]}),
        "First by Alpha",
        '"First" by Alpha.',
    ],
)
def test_a_track_is_found_however_it_is_named(track: Any, tmp_path: Path) -> None:
    source = jsonl(tmp_path / "one.jsonl", first_set("a", track))
    assert played(import_conversations(source, CATALOG)[0][0]) == [IDS[0]]


def test_messages_may_be_json_text(tmp_path: Path) -> None:
    row = first_set("a", IDS[0])
    source = jsonl(
        tmp_path / "one.jsonl", {**row, "conversations": json.dumps(row["conversations"])}
    )
    assert played(import_conversations(source, CATALOG)[0][0]) == [IDS[0]]


def test_a_table_of_tracks_names_ids_that_the_catalog_does_not_use(tmp_path: Path) -> None:
    table = pa.table(
        {
            "track_id": ["u1", "u2", "u3"],
            "track_name": [["First"], ["Second"], ["Nowhere"]],
            "artist_name": [["Alpha", "Guest"], ["Beta"], ["Nobody"]],
        }
    )
    pq.write_table(table, tmp_path / "tracks.parquet")
    source = jsonl(tmp_path / "one.jsonl", first_set("a", "u1", "u2", "u3", "u4"))
    (one,), report = import_conversations(source, CATALOG, tracks=tmp_path / "tracks.parquet")
    assert played(one) == IDS[:2]
    assert report.to_dict()["tracks"] == {
        "by_id": 0, "by_loose_name": 2, "by_name": 0, "total": 4, "unmatched": 2
    }  # fmt: skip
    assert report.unmatched_examples == ["Nowhere by Nobody", "u4"]


def test_a_conversation_that_loses_more_than_half_of_its_turns_is_dropped(tmp_path: Path) -> None:
    half = first_set("half", IDS[0], "gone")
    less = first_set("less", IDS[0], "gone", "lost")
    kept, report = import_conversations(jsonl(tmp_path / "one.jsonl", half, less), CATALOG)
    assert [one.conversation_id for one in kept] == ["1-half"]
    assert dict(report.dropped) == {"few_turns": 1}
    assert "assistant" not in {m.role for m in kept[0].messages[3:]}


def test_what_trains_plays_no_cold_track_and_is_from_no_held_out_playlist(tmp_path: Path) -> None:
    rows = [
        first_set("cold", IDS[0], "cold"),
        first_set("held", IDS[2], pid="p-test"),
        first_set("own", IDS[0], pid="p-train"),
        first_set("chance", IDS[0], IDS[1], pid="p-test"),
    ]
    source = jsonl(tmp_path / "one.jsonl", *rows)
    kept, report = import_conversations(source, CATALOG, split="train")
    check_conversations(CATALOG, kept)
    assert {one.conversation_id: one.playlist_id for one in kept} == {
        "p-train-own": "p-train",
        # an id that happens to be one of the catalog's; its tracks say otherwise
        "p-test-chance": None,
    }
    assert dict(report.dropped) == {"cold_track": 1, "held_out_playlist": 1}
    assert len(import_conversations(source, CATALOG, split="test")[0]) == len(rows)


def test_rows_that_cannot_be_used_are_counted(tmp_path: Path) -> None:
    good = first_set("a", IDS[0])
    robot = {**good, "cid": "r", "conversations": [{"role": "robot", "content": "hi"}]}
    early = {**good, "cid": "e", "conversations": good["conversations"][1:]}
    mute = {**good, "cid": "m", "conversations": [{"role": "user", "content": " "}]}
    text = {**good, "conversations": "text"}
    rows = [good, good, robot, early, mute, {**good, "cid": None}, text, 7]
    source = jsonl(tmp_path / "one.jsonl", *rows)
    with source.open("a") as out:
        out.write('{"cid": "torn"\n')
    _, report = import_conversations(source, CATALOG)
    assert dict(report.dropped) == {
        "duplicate_id": 1, "unknown_role": 1, "no_request": 2, "no_id": 1, "no_messages": 1,
        "unreadable_row": 2,
    }  # fmt: skip
    assert report.rows == len(rows) + 1


def test_a_stream_can_be_saved_with_its_report_and_read_again(tmp_path: Path) -> None:
    found = PublishedConversations(
        jsonl(tmp_path / "two.jsonl", second_set("s", IDS[0]), second_set("t", "gone")), CATALOG
    )
    report = found.save(tmp_path / "talks", demo_world=False)
    assert load_conversations(tmp_path / "talks") == list(found)
    facts = files.read_manifest(tmp_path / "talks", "conversations")["published"]
    assert facts == report.to_dict()
    assert (facts["rows"], facts["conversations"]) == (2, 1)
    card = (tmp_path / "talks" / files.CARD).read_text(encoding="utf-8")
    assert "license: cc-by-nc-nd-4.0" in card
    assert "synthetic" not in card.split("---")[1]
    assert "no_track 1" in report.summary()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [({"format": "mpd"}, "mpd"), ({"split": "dev"}, "dev"), ({"unmatched": "keep"}, "keep")],
)
def test_an_unknown_option_is_refused(
    arguments: dict[str, str], words: str, tmp_path: Path
) -> None:
    source = jsonl(tmp_path / "one.jsonl", first_set("a", IDS[0]))
    with pytest.raises(InputError, match=words):
        import_conversations(source, CATALOG, **arguments)


def test_files_that_are_none_of_them_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        import_conversations(tmp_path / "absent.jsonl", CATALOG)
    with pytest.raises(InputError, match="holds no"):
        import_conversations(tmp_path, CATALOG)
    (tmp_path / "notes.txt").write_text("x", encoding="utf-8")
    with pytest.raises(InputError, match=r"notes\.txt"):
        import_conversations(tmp_path / "notes.txt", CATALOG)
    with pytest.raises(InputError, match="title, artist"):
        import_conversations(jsonl(tmp_path / "x.jsonl", {"title": 1, "artist": 2}), CATALOG)
    one = jsonl(tmp_path / "one.jsonl", first_set("a", IDS[0]))
    with pytest.raises(InputError, match=r"one\.jsonl: no row has a track id .*and an artist"):
        import_conversations(one, CATALOG, tracks=one)
    (tmp_path / "torn.parquet").write_bytes(b"PAR1 and then nothing")
    with pytest.raises(InputError, match=r"torn\.parquet"):
        import_conversations(tmp_path / "torn.parquet", CATALOG)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.sampled_from(IDS),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["role", "content", "track_id", "title", "artist", "user_query", "x"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)
names = ["cid", "pid", "session_id", "id", "split", "conversations", "turns", "tracks"]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.dictionaries(st.sampled_from(names), json_values, max_size=6), max_size=5),
    st.sampled_from(["talkplaydata-1", "talkplaydata-2", "cpcd"]),
)
def test_no_row_raises_and_none_is_lost(rows: list[dict[str, Any]], format: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        source = jsonl(Path(folder) / "rows.jsonl", *rows)
        kept, report = import_conversations(source, CATALOG, format=format)
    assert len(kept) == report.conversations
    assert report.conversations + report.dropped.total() == report.rows == len(rows)
    assert all(played(one) for one in kept)


def test_an_id_is_not_taken_for_a_name() -> None:
    assert track_of(IDS[1]) == TrackRef(IDS[1])
    assert track_of({"role": "music", "content": None, "track_id": "t"}) == TrackRef("t")
    assert track_of("Stand by Me by Ben E. King") == TrackRef(None, "Stand by Me", "Ben E. King")


def test_a_catalog_without_playlists_will_do(tmp_path: Path) -> None:
    catalog = Catalog.from_tracks([Track("t", "First", "Alpha")])
    source = jsonl(tmp_path / "one.jsonl", first_set("a", "t"))
    assert len(import_conversations(source, catalog)[0]) == 1
