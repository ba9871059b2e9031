"""The walk over inverted lists in numba; it gives what the walk in numpy gives."""

import numba
import numpy as np

CHUNK = 4096


@numba.njit(nogil=True)  # type: ignore[untyped-decorator]
def walk(
    rows: np.ndarray,
    others: np.ndarray,
    wanted: np.ndarray,
    bounds: np.ndarray,
    shortest_first: np.ndarray,
    subsets: np.ndarray,
    need: int,
    whole: bool,
    listing: bool,
    allowed: np.ndarray,
    everyone: bool,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """Go through the subsets, best first, until there are enough tracks.

    Args:
        rows (`np.ndarray` of shape `[modalities, n]`, int32): Catalog rows, list after list.
        others (`np.ndarray` of shape `[modalities, modalities - 1, n]`, unsigned): The other codes
            of each track on the lists.
        wanted (`np.ndarray` of shape `[modalities]`, unsigned): The query.
        bounds (`np.ndarray` of shape `[modalities, 2]`, int64): First and end of the list of each
            modality; equal where it has none.
        shortest_first (`np.ndarray`, int64): The modalities with a list, by its length.
        subsets (`np.ndarray`, int64): Sets of modalities as bits, best first.
        need (`int`): How many tracks.
        whole (`bool`): Finish the last subset, otherwise stop at `need` tracks.
        listing (`bool`): Whether a whole list may be the answer without being copied.
        allowed (`np.ndarray` of shape `[n]`, bool): Only these tracks; not read if `everyone`.
        everyone (`bool`): All tracks are allowed.

    Returns:
        `tuple[np.ndarray, np.ndarray, np.ndarray, int]`: Rows found, the positions of their
        subsets, where the rows of each subset end, and -1; or nothing, one subset, nothing, and the
        modality whose whole list is the answer.
    """
    depth = len(wanted)
    lengths = bounds[:, 1] - bounds[:, 0]
    alive = 0
    offset = np.zeros(depth + 1, np.int64)
    for m in range(depth):
        alive |= (lengths[m] > 0) << m
        offset[m + 1] = offset[m] + lengths[m]
    marks = np.empty(offset[depth], np.uint8)
    done = np.zeros(depth, np.int64)
    out = np.empty(16, np.int32)
    groups = np.empty(len(subsets), np.int64)
    ends = np.empty(len(subsets), np.int64)
    found = 0
    total = 0
    for group in range(len(subsets)):
        subset = subsets[group]
        if subset & ~alive:
            continue
        m = 0
        for m in shortest_first:
            if subset >> m & 1:
                break
        first = bounds[m, 0]
        length = lengths[m]
        if listing and everyone and total == 0 and subset == 1 << m and length >= need:
            groups[0] = group
            return out[:0], groups[:1], ends[:0], m
        before = total
        for a in range(0, length, CHUNK):
            b = min(a + CHUNK, length)
            chunk = marks[offset[m] + a : offset[m] + b]
            if a == done[m]:
                chunk[:] = 1 << m
                for at in range(depth - 1):
                    other = at + (at >= m)
                    code = wanted[other]
                    bit = np.uint8(1 << other)
                    beside = others[m, at, first + a : first + b]
                    for t in range(b - a):
                        chunk[t] |= bit * np.uint8(beside[t] == code)
                done[m] = b
            hits = 0
            for t in range(b - a):
                hits += chunk[t] == subset
            if hits == 0:
                continue
            if total + hits > len(out):
                grown = np.empty(2 * (total + hits), np.int32)
                grown[:total] = out[:total]
                out = grown
            for t in range(b - a):
                if chunk[t] == subset:
                    row = rows[m, first + a + t]
                    if everyone or allowed[row]:
                        out[total] = row
                        total += 1
            if total >= need and not whole:
                total = need
                break
        if total > before:
            groups[found] = group
            ends[found] = total
            found += 1
            if total >= need:
                break
    return out[:total].copy(), groups[:found], ends[:found], -1
