"""Table 1 against a recount that shares no code with it."""

import json
import string
import warnings
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from mpd_slices import challenge_playlist, playlist, write_challenge, write_slice, write_slices

from talkplay_hf.catalog.mpd_import import import_mpd
from talkplay_hf.catalog.schema import Catalog, Conversation, Message, Playlist, Track
from talkplay_hf.catalog.splits import SplitOptions, cold_tracks, playlist_splits
from talkplay_hf.catalog.statistics import PAPER, table_1

KEYS = [
    "playlists",
    "tracks",
    "mean_tracks",
    "warm_tracks",
    "cold_tracks",
    "vocabulary",
    "sparsity",
]


def title_words(title: str | None) -> list[str]:
    marks = set(".,/#!$%^*;:{}=_`~()@")
    return "".join(" " if mark in marks else mark for mark in (title or "").lower()).split()


def recount(lists: list[tuple[str | None, list[str]]], others: list[list[str]]) -> dict[str, Any]:
    """The figures of some playlists; `others` are the track lists that make a track warm."""
    tracks = {track for _, one in lists for track in one}
    warm = {track for one in others for track in one}
    cells = len(lists) * len(tracks)
    return {
        "playlists": len(lists),
        "tracks": len(tracks),
        "mean_tracks": sum(len(one) for _, one in lists) / len(lists) if lists else None,
        "warm_tracks": len([track for track in tracks if track in warm]),
        "cold_tracks": len([track for track in tracks if track not in warm]),
        "vocabulary": len({word for title, _ in lists for word in title_words(title)}),
        "sparsity": 1 - sum(len(set(one)) for _, one in lists) / cells if cells else None,
    }


def recount_all(rows: list[tuple[str, str | None, list[str]]]) -> dict[str, Any]:
    """The figures of playlists given as (split, title, track ids)."""
    chosen = [(title, one) for split, title, one in rows if split != "challenge"]
    rest = [(title, one) for split, title, one in rows if split not in ("test", "challenge")]
    test = [(title, one) for split, title, one in rows if split == "test"]
    others = [one for _, one in rest]
    return {
        **recount(chosen, others),
        "train": recount(rest, others),
        "test": recount(test, others),
    }


def without_extras(values: dict[str, Any]) -> dict[str, Any]:
    return {name: one for name, one in values.items() if name not in ("excluded", "conversations")}


ROWS = [
    ("train", "Chill Mix", ["a", "b", "a"]),
    ("train", "chill_mix!!", ["b", "c"]),
    ("validation", None, ["d"]),
    ("excluded", "  ", ["e", "f", "g"]),
    ("test", "(New) rock & roll", ["a", "e", "h", "h", "i"]),
    ("challenge", "hidden words", ["a", "j"]),
]


def catalog(rows: list[tuple[str, str | None, list[str]]]) -> Catalog:
    tracks = [Track(name, name, "x") for name in string.ascii_lowercase]
    playlists = [Playlist(f"p{n}", tuple(ids), name) for n, (_, name, ids) in enumerate(rows)]
    made = Catalog.from_tracks(tracks, playlists)
    splits = pa.array([split for split, _, _ in rows], pa.string())
    return Catalog(made.tracks, made.playlists.append_column("split", splits))


def test_a_small_catalog_by_hand():
    values = table_1(catalog(ROWS)).to_dict()
    assert list(values)[:7] == KEYS
    assert {key: values[key] for key in KEYS} == {
        "playlists": 5,
        "tracks": 9,
        "mean_tracks": 14 / 5,
        "warm_tracks": 7,
        "cold_tracks": 2,
        "vocabulary": 6,
        "sparsity": 1 - 12 / 45,
    }
    assert values["test"] == {
        "playlists": 1,
        "tracks": 4,
        "mean_tracks": 5.0,
        "warm_tracks": 2,
        "cold_tracks": 2,
        "vocabulary": 4,
        "sparsity": 0.0,
    }
    assert values["train"]["playlists"] == 4
    # "e" stands in the excluded playlist and in no other of the rest.
    assert values["excluded"] == {"playlists": 1, "unseen_tracks": 1}
    assert without_extras(values) == recount_all(ROWS)


def read_slices(folder: Path) -> list[dict[str, Any]]:
    paths = sorted(folder.glob("*.json"))
    return [one for path in paths for one in json.loads(path.read_bytes())["playlists"]]


@pytest.mark.parametrize("options", [SplitOptions(test=60), SplitOptions(method="random")])
def test_a_recount_of_slices_agrees_exactly(tmp_path: Path, options: SplitOptions):
    write_slices(tmp_path / "mpd", slices=2, playlists=300)
    titles = ["90's  R&B", "(GYM)_2017!", "", "~~~", None]
    odd = [playlist(5000 + n, [n, n, 3], name=name) for n, name in enumerate(titles)]
    write_slice(tmp_path / "mpd", odd, 5000)
    write_challenge(tmp_path / "mpd", [challenge_playlist(1_000_001, [(0, 1), (3, 999)])])
    import_mpd(tmp_path / "mpd", tmp_path / "catalog", split=options, workers=1)
    made = Catalog.load(tmp_path / "catalog")
    by_id = playlist_splits(made)
    rows = [
        (by_id[str(one["pid"])], one.get("name"), [track["track_uri"] for track in one["tracks"]])
        for one in read_slices(tmp_path / "mpd")
    ]
    assert len(rows) == 606
    assert {split for split, _, _ in rows} >= {"train", "validation", "test", "challenge"}
    values = table_1(made).to_dict()
    assert without_extras(values) == recount_all(rows)
    assert values["cold_tracks"] > 0
    of_test = {track for split, _, one in rows if split == "test" for track in one}
    trained = {track for split, _, one in rows if split in ("train", "validation") for track in one}
    assert values["test"]["cold_tracks"] + values["excluded"]["unseen_tracks"] == len(
        of_test - trained
    )


def talk(split: str, playlist_id: str | None, *turns: tuple[str, str, str]) -> Conversation:
    messages = [Message("system", "words that do not count")]
    for query, track_id, response in turns:
        messages += [Message("user", query), Message("music", track_id=track_id)]
        messages.append(Message("assistant", response))
    return Conversation(f"{split}-{playlist_id}", tuple(messages), playlist_id, split)


def test_conversations_are_counted_by_split():
    conversations = [
        talk("train", "p0", ("Play rock!", "a", "Here's ROCK"), ("don't -- stop", "b", "ok, ok")),
        talk("train", "p0", ("rock", "b", "Don’t")),
        talk("validation", "p2", ("more", "d", "yes")),
        talk("test", None, ("été 99", "h", "")),
        talk("excluded", "p3", ("never counted", "f", "at all")),
    ]
    values = table_1(catalog(ROWS), iter(conversations)).to_dict()["conversations"]
    assert values["train"] == {
        "playlists": 2,
        "dialogues": 3,
        "tracks": 3,
        # play rock here's don't stop ok don’t more yes
        "vocabulary": 9,
        "mean_turns": 4 / 3,
        "mean_query_words": 7 / 4,
        "mean_response_words": 6 / 4,
    }
    assert values["test"] == {
        "playlists": 0,
        "dialogues": 1,
        "tracks": 1,
        "vocabulary": 2,
        "mean_turns": 1.0,
        "mean_query_words": 2.0,
        "mean_response_words": 0.0,
    }


def test_the_papers_own_numbers_give_its_sparsity():
    """In the paper 1 - mean tracks / tracks; the test figure is 0.998495 before rounding."""
    for column in (PAPER["train"], PAPER["test"]):
        of_its_own = 1 - column["mean_tracks"] / column["tracks"]
        assert of_its_own == pytest.approx(column["sparsity"], abs=1e-5)
        assert column["tracks"] == column["warm_tracks"] + (column["cold_tracks"] or 0)


@pytest.mark.parametrize("rows", [[], [("train", None, [])], [("challenge", "x", ["a"])]])
def test_nothing_to_count_gives_zeros_and_nulls(rows: list[tuple[str, str | None, list[str]]]):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        table = table_1(catalog(rows), [])
        values = json.loads(json.dumps(table.to_dict(), allow_nan=False))
    assert without_extras(values) == recount_all(rows)
    assert values["test"] == {**dict.fromkeys(KEYS, 0), "mean_tracks": None, "sparsity": None}
    assert values["conversations"]["test"]["mean_turns"] is None
    assert "-" in table.to_text()
    assert "-" in table.to_markdown()


def test_a_catalog_without_a_split_trains_as_a_whole():
    rows = [("train", title, ids) for _, title, ids in ROWS]
    made = catalog(rows)
    unsplit = Catalog(made.tracks, made.playlists.drop_columns("split"))
    assert without_extras(table_1(unsplit).to_dict()) == recount_all(rows)


def test_the_text_shows_the_paper_beside_the_catalog():
    lines = table_1(catalog(ROWS), []).to_text().splitlines()
    row = next(line for line in lines if line.startswith("# of average"))
    assert row.split()[-4:] == ["2.25", "5.00", "63.73", "59.41"]
    row = next(line for line in lines if line.startswith("# of cold"))
    assert row.split()[-4:] == ["-", "2", "-", "2,357"]
    assert any(line.startswith("# of dialogues") and "532,627" in line for line in lines)
    assert lines[-1].startswith("Of the training playlists, 1 are near-duplicates")


def test_the_markdown_is_one_table():
    lines = table_1(catalog(ROWS[:3])).to_markdown().splitlines()
    assert {line.count("|") for line in lines} == {6}
    assert lines[0].startswith("|  | Training | Evaluation |")
    assert not any("dialogues" in line for line in lines)


def test_cold_tracks_of_the_table_are_those_that_are_marked(world: Catalog):
    values = table_1(world).to_dict()
    assert values["cold_tracks"] == values["test"]["cold_tracks"] == cold_tracks(world).sum()
    splits = playlist_splits(world)
    rows = [
        (splits[one.playlist_id], one.name, list(one.track_ids)) for one in world.iter_playlists()
    ]
    assert without_extras(values) == recount_all(rows)
