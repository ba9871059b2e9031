"""What the processors allow after any ids, against a plain state machine."""

from collections import Counter

import numpy as np
import pytest
import torch
from answers import PAD, ROWS, SIZES, TEXT, WORDS, Codes, block, legal_tokens
from hypothesis import example, given, settings
from hypothesis import strategies as st

from talkplay_hf.errors import ConfigError, NoTrackError
from talkplay_hf.recommend.grammar import CatalogLogitsProcessor, MusicGrammarLogitsProcessor
from talkplay_hf.tokens.allowed import Allowed
from talkplay_hf.tokens.index import CatalogIndex

codes_in_range = st.tuples(*(st.integers(0, size - 1) for size in SIZES))
pieces = st.one_of(
    codes_in_range.map(block),
    st.tuples(codes_in_range, st.integers(1, 4)).map(lambda cut: block(cut[0])[: cut[1]]),
    st.lists(st.sampled_from(TEXT), min_size=1, max_size=3),
    st.just([WORDS.end_of_turn]),
    st.lists(st.integers(0, ROWS - 1), min_size=1, max_size=4),
)
streams = st.lists(pieces, min_size=1, max_size=6).map(
    lambda parts: [one for part in parts for one in part]
)
catalogs = st.lists(codes_in_range, min_size=1, max_size=12)
places = st.sampled_from(["first", "anywhere"])


def batch(rows: list[list[int]]) -> torch.Tensor:
    width = max(map(len, rows))
    return torch.tensor([[PAD] * (width - len(row)) + row for row in rows])


def legal_rows(scores: torch.Tensor) -> list[set[int]]:
    return [set((row > -torch.inf).nonzero()[:, 0].tolist()) for row in scores]


@settings(deadline=None, max_examples=60)
@given(rows=st.lists(streams, min_size=1, max_size=5), tracks=st.integers(1, 3), place=places)
@example(rows=[[*block((0, 0, 0))[:2], WORDS.start]], tracks=1, place="first")
@example(rows=[[WORDS.start, 3]], tracks=1, place="anywhere")
@example(rows=[[WORDS.start, WORDS.offsets[n]] for n in (0, 1)], tracks=1, place="first")
def test_the_grammar_allows_what_the_state_machine_does(
    rows: list[list[int]], tracks: int, place: str
) -> None:
    processor = MusicGrammarLogitsProcessor(WORDS, tracks=tracks, place=place)
    scores = torch.randn(len(rows), ROWS)
    before = scores.clone()
    after = processor(batch(rows), scores)
    assert torch.equal(scores, before)
    assert legal_rows(after) == [legal_tokens(row, tracks=tracks, place=place) for row in rows]
    assert torch.equal(after[after > -torch.inf], scores[after > -torch.inf])
    again = MusicGrammarLogitsProcessor(WORDS, tracks=tracks, place=place, in_place=True)
    assert again(batch(rows), scores) is scores
    assert torch.equal(scores, after)


@settings(deadline=None, max_examples=80)
@given(
    rows=st.lists(streams, min_size=1, max_size=5),
    catalog=catalogs,
    tracks=st.integers(1, 3),
    place=places,
    data=st.data(),
)
def test_the_catalogue_allows_what_the_state_machine_does(
    rows: list[list[int]], catalog: list[Codes], tracks: int, place: str, data: st.DataObject
) -> None:
    # blocks of the catalogue, whole and cut, besides those of any codes
    known = st.tuples(st.sampled_from(catalog), st.integers(1, 5), st.integers(0, 2))
    for row in rows:
        for codes, cut, times in data.draw(st.lists(known, max_size=2)):
            row += block(codes) * times + block(codes)[:cut]
    index = CatalogIndex(np.array(catalog), SIZES)
    every = np.array(data.draw(st.lists(st.booleans(), min_size=12, max_size=12)))
    mask = every[: len(catalog)]
    allowed = None
    if mask.any() and data.draw(st.booleans()):
        allowed = Allowed.of(index, [mask])
    left = Counter(
        codes for codes, kept in zip(catalog, mask, strict=True) if kept or allowed is None
    )
    processor = CatalogLogitsProcessor(WORDS, index, tracks=tracks, place=place, allowed=allowed)
    scores = torch.randn(len(rows), ROWS)
    after = processor(batch(rows), scores)
    assert legal_rows(after) == [
        legal_tokens(row, tracks=tracks, place=place, catalog=left) for row in rows
    ]
    assert torch.equal(after[after > -torch.inf], scores[after > -torch.inf])
    again = CatalogLogitsProcessor(
        WORDS, index, tracks=tracks, place=place, allowed=allowed, in_place=True
    )
    assert again(batch(rows), scores) is scores
    assert torch.equal(scores, after)


@settings(deadline=None, max_examples=40)
@given(data=st.data(), tracks=st.integers(1, 2), each=st.integers(1, 3))
def test_each_chat_has_its_own_tracks(data: st.DataObject, tracks: int, each: int) -> None:
    catalog = data.draw(catalogs)
    index = CatalogIndex(np.array(catalog), SIZES)
    own = st.sets(st.integers(0, len(catalog) - 1), min_size=1)
    kept = data.draw(st.lists(own, min_size=2, max_size=3))
    masks = [np.isin(np.arange(len(catalog)), list(one)) for one in kept]
    processor = CatalogLogitsProcessor(
        WORDS, index, tracks=tracks, allowed=Allowed.of(index, masks)
    )
    rows = []
    for _ in range(len(kept) * each):
        codes = data.draw(st.sampled_from(catalog))
        rows.append([7, *(block(codes) * tracks)[: data.draw(st.integers(0, 5 * tracks))]])
    after = processor(batch(rows), torch.zeros(len(rows), ROWS))
    for number, (row, legal) in enumerate(zip(rows, legal_rows(after), strict=True)):
        left = Counter(catalog[at] for at in kept[number // each])
        assert legal == legal_tokens(row, tracks=tracks, place="first", catalog=left)


def test_a_tuple_is_played_as_often_as_it_has_tracks() -> None:
    index = CatalogIndex(np.array([[1, 1, 1], [1, 1, 1], [2, 0, 0]]), SIZES)
    processor = CatalogLogitsProcessor(WORDS, index, tracks=9)
    rows = [[7], [7, *block((1, 1, 1))], [7, *block((1, 1, 1)) * 2]]
    every = [*rows[2], *block((2, 0, 0))]
    opened = batch([[*row, WORDS.start] for row in rows])
    legal = legal_rows(processor(opened, torch.zeros(3, ROWS)))
    one, two = WORDS.offsets[0] + 1, WORDS.offsets[0] + 2
    assert legal == [{one, two}, {one, two}, {two}]
    # with nothing left to play, the answer goes on in text
    assert legal_rows(processor(batch([every]), torch.zeros(1, ROWS))) == [{*TEXT, 5}]


def test_only_whole_blocks_of_the_catalogue_count_as_played() -> None:
    index = CatalogIndex(np.array([[1, 1, 1], [1, 1, 4], [2, 0, 0]]), SIZES)
    processor = CatalogLogitsProcessor(WORDS, index, tracks=9)
    both = [*block((1, 1, 1)), *block((1, 1, 4)), WORDS.start]
    assert legal_rows(processor(batch([both]), torch.zeros(1, ROWS))) == [{WORDS.offsets[0] + 2}]
    # without its start, and with a token of another modality
    start, first, second, third, _ = block((1, 1, 0))
    torn = [7, *block((1, 1, 1))[1:], start, first, second, third - 1, WORDS.end]
    after = processor(batch([[*torn, start, first, second]]), torch.zeros(1, ROWS))
    assert legal_rows(after) == [{third + 1, third + 4}]


def test_a_chat_without_a_track_is_refused() -> None:
    index = CatalogIndex(np.array([[1, 1, 1], [2, 0, 0]]), SIZES)
    some, none = np.array([True, False]), np.zeros(2, dtype=bool)
    with pytest.raises(NoTrackError):
        CatalogLogitsProcessor(WORDS, index, allowed=Allowed.of(index, [some, none]))
    with pytest.raises(NoTrackError):
        CatalogLogitsProcessor(WORDS, CatalogIndex(np.zeros((0, 3), dtype=int), SIZES))


def test_rows_must_share_out_to_the_chats() -> None:
    index = CatalogIndex(np.array([[1, 1, 1], [2, 0, 0]]), SIZES)
    allowed = Allowed.of(index, [np.array([False, True]), np.array([True, False])])
    processor = CatalogLogitsProcessor(WORDS, index, allowed=allowed)
    with pytest.raises(ConfigError, match="3 rows"):
        processor(torch.full((3, 1), WORDS.start), torch.zeros(3, ROWS))
    # one block an answer, whichever it was
    scores = torch.zeros(2, ROWS)
    after = processor(batch([[7, *block((1, 1, 1))]] * 2), scores)
    assert legal_rows(after) == [{*TEXT, WORDS.end_of_turn}] * 2
    assert not scores.any()


def test_an_index_of_other_codebooks_is_refused() -> None:
    index = CatalogIndex(np.array([[1, 1, 1]]), (4, 3, 6))
    with pytest.raises(ConfigError, match=r"\(4, 3, 6\)"):
        CatalogLogitsProcessor(WORDS, index)


@pytest.mark.parametrize("tracks", [0, -1])
def test_no_track_at_all_is_refused(tracks: int) -> None:
    with pytest.raises(ConfigError, match=f"tracks {tracks}"):
        MusicGrammarLogitsProcessor(WORDS, tracks=tracks)


def test_an_unknown_place_is_refused() -> None:
    with pytest.raises(ConfigError, match="last"):
        MusicGrammarLogitsProcessor(WORDS, place="last")
