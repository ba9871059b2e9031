"""Pieces of playlists: how they are cut, what they hold out, what they depend on."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from talkplay_hf.catalog.leakage import check_conversations
from talkplay_hf.catalog.schema import Catalog, Conversation, Message, Playlist, Track
from talkplay_hf.conversations.intents import taxonomy
from talkplay_hf.conversations.pieces import Piece, PieceOptions, cut_playlists
from talkplay_hf.errors import ConfigError, InputError


def tracks(count: int) -> list[Track]:
    """Tracks of three artists and four genres; tracks 0 and 1 are the same recording."""
    return [
        Track(
            f"t{n}",
            "Title 0" if n == 1 else f"Title {n}",
            f"Artist {0 if n < 2 else n % 3}",
            tags=(f"genre {n % 4}", "Music"),
        )
        for n in range(count)
    ]


def catalog_of(
    lists: Sequence[Sequence[str]], songs: list[Track], splits: Sequence[str] | None = None
) -> Catalog:
    playlists = [Playlist(f"list-{n}", tuple(ids)) for n, ids in enumerate(lists)]
    catalog = Catalog.from_tracks(songs, playlists)
    if splits is None:
        return catalog
    table = catalog.playlists.append_column("split", pa.array(splits, pa.string()))
    return Catalog(catalog.tracks, table)


def cut(catalog: Catalog, seed: int = 0, **options: object) -> list[Piece]:
    return list(cut_playlists(catalog, PieceOptions(**options), seed))  # type: ignore[arg-type]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.lists(st.integers(0, 44), min_size=1, max_size=60), min_size=1, max_size=5),
    st.integers(1, 20),
    st.integers(0, 5),
    st.sampled_from(["playlist", "shuffled"]),
    st.integers(0, 3),
)
def test_the_pieces_of_a_playlist_are_its_tracks_once_each_and_no_negative_is_one_of_them(
    lists: list[list[int]], size: int, negatives: int, order: str, seed: int
) -> None:
    # ids from t40 on are not in the catalog
    catalog = catalog_of([[f"t{n}" for n in one] for one in lists], tracks(40))
    pieces = cut(catalog, seed, size=size, negatives=negatives, order=order, fewest=1)
    assert len({piece.piece_id for piece in pieces}) == len(pieces)
    for number, one in enumerate(lists):
        known = list(dict.fromkeys(f"t{n}" for n in one if n < 40))
        mine = [piece for piece in pieces if piece.playlist_id == f"list-{number}"]
        cut_up = [track_id for piece in mine for track_id in piece.track_ids]
        assert cut_up == known if order == "playlist" else sorted(cut_up) == sorted(known)
        assert len(mine) == (max(1, int(len(known) / size + 0.5)) if known else 0)
        sizes = [len(piece.track_ids) for piece in mine]
        assert not sizes or max(sizes) - min(sizes) <= 1
        for piece in mine:
            assert len(set(piece.negative_ids)) == len(piece.negative_ids) <= negatives
            assert not set(piece.negative_ids) & set(known)
            if {"t0", "t1"} & set(known):
                assert not {"t0", "t1"} & set(piece.negative_ids)


def test_the_default_gives_as_many_pieces_as_the_paper_has_dialogues() -> None:
    rng = np.random.default_rng(0)
    lists = [[f"t{n}" for n in rng.permutation(300)[:64]] for _ in range(20)]
    pieces = cut(catalog_of(lists, tracks(300)))
    assert len(pieces) / len(lists) == 5
    assert 12 <= np.mean([len(piece.track_ids) for piece in pieces]) <= 14


def test_a_playlist_gives_the_same_pieces_whatever_else_is_cut() -> None:
    rng = np.random.default_rng(1)
    lists = [[f"t{n}" for n in rng.permutation(80)[:30]] for _ in range(8)]
    whole = catalog_of(lists, tracks(80))
    pieces = cut(whole, size=6)
    by_id = {piece.piece_id: piece for piece in pieces}
    backwards = Catalog(whole.tracks, whole.playlists.take(list(range(7, -1, -1))))
    assert cut(backwards, size=6) == pieces
    alone = Catalog(whole.tracks, whole.playlists.slice(3, 1))
    assert {one.piece_id: one for one in cut(alone, size=6)}.items() <= by_id.items()
    assert cut(whole, size=6, playlists=3) == pieces[: len(cut(whole, size=6, playlists=3))]
    few, more = cut(whole, size=6, pieces=2), cut(whole, size=6, pieces=3)
    assert len(few) == 16
    assert len(more) == 24
    assert {one.piece_id for one in few} < {one.piece_id for one in more}
    assert all(by_id[one.piece_id] == one for one in more)


def test_another_seed_draws_other_negatives_and_other_ids() -> None:
    catalog = catalog_of([[f"t{n}" for n in range(20)]], tracks(80))
    one, other = cut(catalog, seed=1), cut(catalog, seed=2)
    assert cut(catalog, seed=1) == one
    assert [piece.track_ids for piece in one] == [piece.track_ids for piece in other]
    assert [piece.negative_ids for piece in one] != [piece.negative_ids for piece in other]
    assert not {piece.piece_id for piece in one} & {piece.piece_id for piece in other}


def test_playlists_that_are_held_back_or_too_short_give_nothing() -> None:
    lists = [["t2", "t3"], ["t4", "t5"], ["t6", "t7"], ["t8", "t8"]]
    splits = ["train", "excluded", "challenge", "train"]
    pieces = cut(catalog_of(lists, tracks(40), splits))
    assert [piece.playlist_id for piece in pieces] == ["list-0"]


def test_no_cold_track_gets_into_what_trains_or_validates() -> None:
    # of 60 tracks, the last 30 are in the test playlist alone
    lists = [[f"t{n}" for n in range(2, 12)], [f"t{n}" for n in range(12, 30)]]
    lists.append([f"t{n}" for n in range(30, 60)])
    catalog = catalog_of(lists, tracks(60), ["train", "validation", "test"])
    pieces = [piece for seed in range(10) for piece in cut(catalog, seed, negatives=6)]
    check_conversations(
        catalog,
        [
            Conversation(
                piece.piece_id,
                tuple(
                    Message("music", track_id=one) for one in piece.track_ids + piece.negative_ids
                ),
                piece.playlist_id,
                piece.split,
            )
            for piece in pieces
        ],
    )
    assert all(len(piece.negative_ids) == 6 for piece in pieces)


def test_negatives_share_a_tag_or_the_artist_and_the_rarer_tag_more_often() -> None:
    songs = [
        Track(f"t{n}", f"Title {n}", f"Artist {n}", tags=("common", *(["rare"] * (n < 40))))
        for n in range(400)
    ] + [Track(f"u{n}", f"Other {n}", f"Other artist {n}", tags=("far",)) for n in range(400)]
    catalog = catalog_of([[f"t{n}" for n in range(5)]], songs)
    drawn = [one for seed in range(100) for one in cut(catalog, seed)[0].negative_ids]
    assert all(one.startswith("t") for one in drawn)
    rare = sum(int(one[1:]) < 40 for one in drawn) / len(drawn)
    # a tenth of those that share a tag have the rare one
    assert rare > 0.5


def test_without_tags_the_negatives_are_by_the_same_artist_and_then_at_random() -> None:
    songs = [Track(f"t{n}", f"Title {n}", "ABBA" if n % 2 else "Abba") for n in range(10)]
    songs += [Track(f"u{n}", f"Other {n}", f"Artist {n}") for n in range(50)]
    (piece,) = cut(catalog_of([["t0", "t1"]], songs))
    assert all(one.startswith("t") for one in piece.negative_ids)
    (piece,) = cut(catalog_of([["u0", "u1"]], songs))
    assert len(piece.negative_ids) == 4


def test_a_playlist_of_the_whole_catalog_has_no_negatives_and_nobody_rejects() -> None:
    catalog = catalog_of([[f"t{n}" for n in range(12)]], tracks(12))
    for seed in range(30):
        (piece,) = cut(catalog, seed)
        assert piece.negative_ids == ()
        assert not {"reject", "change"} & set(piece.intents)


def test_a_piece_gets_two_acts_and_two_topics_that_its_tracks_support() -> None:
    catalog = catalog_of([[f"t{n}" for n in range(30)]] * 40, tracks(40))
    kinds = {name: one.kind for name, one in taxonomy().items()}
    pieces = cut(catalog)
    seen = Counter(name for piece in pieces for name in piece.intents)
    for piece in pieces:
        assert piece.intents[0] == "open"
        assert [kinds[name] for name in piece.intents[1:]] == ["act", "act", "topic", "topic"]
        assert len(set(piece.intents)) == 5
    # tags, but no lyrics, dates, albums, tempo or popularity
    topics = {"track", "artist", "genre", "mood", "sound", "activity", "culture", "similar"}
    assert {name for name in seen if kinds[name] == "topic"} == topics


def test_every_intent_is_about_equally_frequent_where_all_is_known(world: Catalog) -> None:
    pieces = [piece for seed in range(25) for piece in cut(world, seed)]
    kinds = {name: one.kind for name, one in taxonomy().items() if name != "open"}
    for kind in ("act", "topic"):
        names = [name for name, its in kinds.items() if its == kind]
        counts = Counter(name for piece in pieces for name in piece.intents if name in names)
        assert set(counts) == set(names)
        assert max(counts.values()) < 1.4 * min(counts.values())


def test_ids_that_are_no_file_names_stay_apart_and_safe() -> None:
    songs = tracks(12)
    names = ["a/b", "a b", "a_b", "../..", "x" * 500, "x" * 499 + "y", "名前", "名詞"]
    playlists = [Playlist(name, ("t2", "t3", "t4")) for name in names]
    pieces = cut(Catalog.from_tracks(songs, playlists))
    ids = {piece.piece_id for piece in pieces}
    assert len(ids) == len(names)
    assert all(
        len(one) < 120 and one.isascii() and "/" not in one and " " not in one for one in ids
    )
    assert "a_b-0-0" in ids


def test_pieces_are_made_while_they_are_asked_for(world: Catalog) -> None:
    pieces = cut_playlists(world, PieceOptions(), 0)
    assert len(list(islice(pieces, 2))) == 2
    assert next(pieces).track_ids


def test_a_catalog_without_usable_playlists_is_refused_at_once() -> None:
    with pytest.raises(InputError, match="0 playlists"):
        cut_playlists(Catalog.from_tracks(tracks(5)), PieceOptions(), 0)
    catalog = catalog_of([["t1", "t2"]] * 2, tracks(5))
    table = catalog.playlists.take([0, 1, 0])
    with pytest.raises(InputError, match="row 2: playlist_id 'list-0' stands twice"):
        cut_playlists(Catalog(catalog.tracks, table), PieceOptions(), 0)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("size", 0), ("negatives", -1), ("order", "random"), ("playlists", 0), ("pieces", True),
        ("fewest", 0), ("size", 2.5),
    ],
)  # fmt: skip
def test_impossible_options_are_refused_by_name(name: str, value: object) -> None:
    with pytest.raises(ConfigError, match=name):
        replace(PieceOptions(), **{name: value})  # type: ignore[arg-type]


@pytest.mark.realdata
def test_real_playlists_are_cut_with_similar_negatives(real_data: Path) -> None:
    songs = pq.read_table(real_data / "corpus" / "tracks.parquet")
    lists = pq.read_table(real_data / "corpus" / "playlists.parquet")
    lists = lists.rename_columns({"tracks": "track_ids"})
    named = pc.and_(pc.is_valid(songs["title"]), pc.is_valid(songs["artist"]))
    catalog = Catalog(songs.filter(named), lists)
    pieces = cut(catalog, playlists=60)
    assert len({piece.playlist_id for piece in pieces}) == 60
    assert all(len(piece.negative_ids) == 4 for piece in pieces)
    assert all(len(piece.track_ids) <= 20 for piece in pieces)
