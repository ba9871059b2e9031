"""The flat trie against a dictionary of prefixes."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from talkplay_hf.errors import ArtifactError, ConfigError, InputError
from talkplay_hf.tokens.index import CatalogIndex


@st.composite
def code_tables(draw: st.DrawFn) -> tuple[np.ndarray, list[int]]:
    """A table of codes with many duplicates, and the codebook sizes."""
    sizes = draw(st.lists(st.integers(1, 5), min_size=1, max_size=5))
    row = st.tuples(*(st.integers(0, size - 1) for size in sizes))
    rows = draw(st.lists(row, max_size=40))
    return np.array(rows, dtype=np.int32).reshape(-1, len(sizes)), sizes


def by_prefix(codes: np.ndarray, length: int) -> dict[tuple[int, ...], list[int]]:
    found: dict[tuple[int, ...], list[int]] = {}
    for row, code in enumerate(codes.tolist()):
        found.setdefault(tuple(code[:length]), []).append(row)
    return found


def tensor(prefixes: list[tuple[int, ...]], length: int) -> torch.Tensor:
    return torch.tensor(prefixes, dtype=torch.int64).reshape(len(prefixes), length)


def without_starts(index: CatalogIndex) -> CatalogIndex:
    """The same index with every level read off the keys."""
    index.starts = (None,) * index.depth
    return index


@settings(deadline=None, max_examples=60)
@given(code_tables())
def test_a_prefix_has_the_range_of_its_tracks(table: tuple[np.ndarray, list[int]]) -> None:
    codes, sizes = table
    index = CatalogIndex(codes, sizes)
    for length in range(len(sizes) + 1):
        known = by_prefix(codes, length)
        # codes beyond the codebooks on both sides
        every = [
            tuple(int(code) - 1 for code in one)
            for one in np.ndindex(*(size + 2 for size in sizes[:length]))
        ]
        first, end = index.ranges(tensor(every, length))
        for prefix, low, high in zip(every, first.tolist(), end.tolist(), strict=True):
            assert sorted(index.order[low:high].tolist()) == known.get(prefix, [])


@settings(deadline=None, max_examples=60)
@given(code_tables(), st.booleans())
def test_children_are_the_codes_that_go_on(table: tuple[np.ndarray, list[int]], kept: bool) -> None:
    codes, sizes = table
    index = CatalogIndex(codes, sizes) if kept else without_starts(CatalogIndex(codes, sizes))
    for level in range(len(sizes)):
        # twice each, and one that is none in between
        once = list(by_prefix(codes, level))
        prefixes = [*once, (sizes[0],) * level, *once] if level else once * 2
        row, code, first, end = index.children(level, *index.ranges(tensor(prefixes, level)))
        longer = by_prefix(codes, level + 1)
        got = [
            (at, one, sorted(index.order[low:high].tolist()))
            for at, one, low, high in zip(
                row.tolist(), code.tolist(), first.tolist(), end.tolist(), strict=True
            )
        ]
        assert got == [
            (at, tuple_[-1], longer[tuple_])
            for at, prefix in enumerate(prefixes)
            for tuple_ in sorted(longer)
            if tuple_[:-1] == prefix
        ]


@settings(deadline=None, max_examples=60)
@given(code_tables())
def test_a_mask_shows_the_codes_that_go_on(table: tuple[np.ndarray, list[int]]) -> None:
    codes, sizes = table
    index = CatalogIndex(codes, sizes)
    for level in range(len(sizes)):
        prefixes = [*by_prefix(codes, level), (sizes[0],) * level]
        mask = index.mask(tensor(prefixes, level))
        known = by_prefix(codes, level + 1)
        wanted = [[(*p, code) in known for code in range(sizes[level])] for p in prefixes]
        assert mask.tolist() == wanted


@settings(deadline=None, max_examples=30)
@given(code_tables())
def test_an_index_that_was_saved_is_the_same(
    tmp_path_factory: pytest.TempPathFactory, table: tuple[np.ndarray, list[int]]
) -> None:
    codes, sizes = table
    folder = tmp_path_factory.mktemp("index")
    index = CatalogIndex(codes, sizes)
    index.save(folder / "a")
    CatalogIndex(codes.copy(), sizes).save(folder / "b")
    assert (folder / "a").read_bytes() == (folder / "b").read_bytes()
    assert [path.name for path in folder.glob(".*")] == []
    loaded = CatalogIndex.load(folder / "a")
    assert loaded.sizes == tuple(sizes)
    assert loaded.fits(codes)
    assert torch.equal(loaded.keys, index.keys)
    prefixes = tensor(list(by_prefix(codes, len(sizes) - 1)), len(sizes) - 1)
    assert torch.equal(loaded.mask(prefixes), index.mask(prefixes))


def test_an_index_fits_its_own_codes_only(tmp_path: Path) -> None:
    codes = np.random.default_rng(0).integers(0, 4, (50, 3))
    index = CatalogIndex(codes, [4, 4, 4])
    assert index.fits(codes)
    changed = codes.copy()
    changed[7, 1] = (changed[7, 1] + 1) % 4
    swapped = codes.copy()
    swapped[[0, 1]] = swapped[[1, 0]]
    assert (swapped != codes).any()
    for other in (changed, swapped, codes[:-1], codes[:, :2]):
        assert not index.fits(other)
    for beyond in (-60, 50):
        index.position[7] = beyond
        assert not index.fits(codes)


def test_positions_are_the_inverse_of_the_order() -> None:
    index = CatalogIndex(np.random.default_rng(0).integers(0, 3, (60, 3)), [3, 3, 3])
    assert index.order[index.position].tolist() == list(range(60))


def test_tracks_of_one_tuple_come_by_row() -> None:
    index = CatalogIndex(np.zeros((2000, 3), dtype=np.int32), [4, 4, 4])
    assert index.order.tolist() == list(range(2000))


@pytest.mark.parametrize("skewed", [False, True])
@pytest.mark.parametrize("codes", [2, 30, 1024])
def test_an_index_takes_at_most_24_bytes_a_track(codes: int, skewed: bool) -> None:
    rng = np.random.default_rng(0)
    n = 20_000
    table = rng.zipf(1.2, (n, 5)) - 1 if skewed else rng.integers(0, codes, (n, 5))
    index = CatalogIndex(table.clip(max=codes - 1), [codes] * 5)
    assert index.nbytes <= 24 * n + 5 * 4


def test_a_level_that_is_not_kept_is_read_off_the_keys() -> None:
    """One prefix has more tracks than the codebook codes; the others of its level have one."""
    rng = np.random.default_rng(0)
    single = rng.permutation(64 * 64)[:3000]
    codes = np.stack([single // 64, single % 64, rng.integers(0, 64, 3000)], axis=1)
    many = np.stack([np.zeros((3000, 2)).T[0], np.zeros(3000), rng.integers(0, 50, 3000)], axis=1)
    table = np.concatenate([codes, many[:500]]).astype(np.int32)
    index = CatalogIndex(table, [64, 64, 64])
    assert index.starts[2] is None
    longer = by_prefix(table, 3)
    for prefix in [(0, 0), tuple(codes[5, :2].tolist())]:
        got = index.mask(tensor([prefix], 2))[0].nonzero()[:, 0].tolist()
        assert got == sorted(code[-1] for code in longer if code[:2] == prefix)


def test_62_bits_are_held_and_63_are_not() -> None:
    sizes = [2**31, 2**31]
    index = CatalogIndex(np.array([[2**31 - 1, 2**31 - 1], [0, 5]]), sizes)
    first, end = index.ranges(torch.tensor([[2**31 - 1, 2**31 - 1], [0, 5], [0, 6]]))
    assert (end - first).tolist() == [1, 1, 0]
    with pytest.raises(ConfigError, match="63 bits"):
        CatalogIndex(np.zeros((1, 2), dtype=np.int64), [2**31, 2**32])


@pytest.mark.parametrize("codes", [[[0, 2]], [[-1, 0]], [[0]], [0, 1]])
def test_codes_beyond_the_codebooks_are_refused(codes: list[list[int]]) -> None:
    with pytest.raises(InputError):
        CatalogIndex(np.array(codes), [2, 2])


@pytest.mark.parametrize("depth", [1, 5])
@pytest.mark.parametrize("tracks", [0, 1])
def test_codebooks_of_one_code_and_none_or_one_track(depth: int, tracks: int) -> None:
    index = CatalogIndex(np.zeros((tracks, depth), dtype=np.int32), [1] * depth)
    for level in range(depth):
        mask = index.mask(torch.zeros(2, level, dtype=torch.int64))
        assert mask.tolist() == [[tracks == 1]] * 2
    assert index.order.tolist() == list(range(tracks))


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "index.safetensors"
    index = CatalogIndex(np.zeros((9, 2), dtype=np.int32), [2, 2])
    index.save(path)
    whole = path.read_bytes()
    tensors = load_file(path)
    with pytest.raises(ArtifactError, match="absent"):
        CatalogIndex.load(tmp_path / "absent")
    for length in (0, 4, len(whole) - 3):
        path.write_bytes(whole[:length])
        with pytest.raises(ArtifactError, match="not a catalogue index"):
            CatalogIndex.load(path)
    save_file(tensors, path)
    with pytest.raises(ArtifactError, match="not a catalogue index"):
        CatalogIndex.load(path)
    facts = {"catalog_index": '{"format_version": 1, "sizes": [2, 2]}'}
    for name, other in [("order", tensors["order"][:-1].clone()), ("keys", tensors["keys"].int())]:
        save_file({**tensors, name: other}, path, metadata=facts)
        with pytest.raises(ArtifactError, match=name):
            CatalogIndex.load(path)
    facts["catalog_index"] = facts["catalog_index"].replace("1", "99")
    save_file(tensors, path, metadata=facts)
    with pytest.raises(ArtifactError, match="99"):
        CatalogIndex.load(path)
