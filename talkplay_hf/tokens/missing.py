"""What a track without a modality gets: a code of its own, or one voted by similar tracks.

The paper does not say. With `"reserve"` the last code of a codebook stands for "missing". With
`"impute"` the code comes from tracks that have the modality and look alike in the others. They are
known by their codes alone, so that no two sets of vectors need to stand in memory, and tracks can
be added when the vectors of the old ones are gone.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np

MOST_DONORS = 50_000
NEIGHBOURS = 10
HOLES = 256


def impute(
    codes: np.ndarray,
    holes: np.ndarray,
    modalities: Sequence[tuple[np.ndarray, np.ndarray]],
    centroids: Sequence[np.ndarray],
    donor_codes: np.ndarray,
    donor_known: np.ndarray,
    *,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Fill the missing codes of some tracks in place, by the vote of similar donors.

    The similarity of a track to a donor is the sum, over the modalities that both have, of the
    cosine between the track's vector and the centroid of the donor's code. The ten most similar
    donors that have the missing modality vote for their codes, each with its similarity as weight.
    Of equal votes the code of the most similar donor wins. A track that is like no donor gets the
    donors' most frequent code, and code 0 stands where no donor has the modality.

    Args:
        codes (`np.ndarray` of shape `[n, modalities]`, int32): Codes of the tracks, filled in
            place where a row of `holes` lacks a modality.
        holes (`np.ndarray` of shape `[holes]`, int): Rows to look at.
        modalities (`Sequence[tuple]`): `(vectors [n, d], present [n])` per modality.
        centroids (`Sequence[np.ndarray]`): Centroids `[clusters, d]` per modality.
        donor_codes (`np.ndarray` of shape `[donors, modalities]`, int): Codes of the donors.
        donor_known (`np.ndarray` of shape `[donors, modalities]`, bool): Which of these codes come
            from a vector of the donor's own; the others are never passed on.
        seed (`int`): Seed of the draw where there are more than 50,000 donors.
        progress (`Callable`, *optional*): Called with (tracks done, tracks).
    """
    wanting = [holes[~present[holes]] for _, present in modalities]
    total, done = sum(map(len, wanting)), 0
    for m, rows in enumerate(wanting):
        donors = draw_donors(donor_known[:, m], seed)
        if not len(donors):
            codes[rows, m] = 0
            continue
        given = donor_codes[donors, m]
        frequent = np.bincount(given).argmax()
        others = [j for j in range(len(modalities)) if j != m]
        for block, similarity in similarities(
            rows,
            [modalities[j] for j in others],
            [centroids[j] for j in others],
            donor_codes[donors][:, others],
            donor_known[donors][:, others],
        ):
            codes[block, m] = np.where(
                similarity.max(axis=1) > 0, vote(similarity, given), frequent
            )
            done += len(block)
            if progress is not None:
                progress(done, total)


def draw_donors(known: np.ndarray, seed: int) -> np.ndarray:
    """The rows that a mask `[n]` marks, in order; a seeded draw of 50,000 where there are more."""
    donors = np.flatnonzero(known)
    if len(donors) > MOST_DONORS:
        donors = np.random.default_rng(seed).choice(donors, MOST_DONORS, replace=False)
        donors.sort()
    return donors


def similarities(
    rows: np.ndarray,
    modalities: Sequence[tuple[np.ndarray, np.ndarray]],
    centroids: Sequence[np.ndarray],
    donor_codes: np.ndarray,
    donor_known: np.ndarray,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """How alike tracks and donors are, see `impute`.

    Yields:
        `tuple[np.ndarray, np.ndarray]`: Some of the rows, and their similarity to every donor,
        float32 `[block, donors]`; the array is used again for the next block.
    """
    tables, columns = [], []
    for m, book in enumerate(centroids):
        # one more column, all zero, for donors without the modality
        tables.append(np.vstack([unit_rows(book), np.zeros((1, book.shape[1]), np.float32)]).T)
        columns.append(np.where(donor_known[:, m], donor_codes[:, m], len(book)).astype(np.intp))
    whole = np.empty((HOLES, len(donor_codes)), dtype=np.float32)
    part = np.empty_like(whole)
    for start in range(0, len(rows), HOLES):
        block = rows[start : start + HOLES]
        summed, gathered = whole[: len(block)], part[: len(block)]
        summed[:] = 0
        for (vectors, present), table, column in zip(modalities, tables, columns, strict=True):
            has = np.flatnonzero(present[block])
            if not len(has):
                continue
            cosine = np.zeros((len(block), table.shape[1]), dtype=np.float32)
            cosine[has] = unit_rows(np.asarray(vectors[block[has]])) @ table
            np.take(cosine, column, axis=1, out=gathered, mode="clip")
            summed += gathered
        yield block, summed


def vote(similarity: np.ndarray, given: np.ndarray) -> np.ndarray:
    """The code that the most similar donors vote for.

    Args:
        similarity (`np.ndarray` of shape `[block, donors]`, float32): Similarity to every donor.
        given (`np.ndarray` of shape `[donors]`, int): The code of each donor.

    Returns:
        `np.ndarray` of shape `[block]`, int: One code a row.
    """
    import torch

    # several times as fast as a partition in numpy
    best = torch.topk(torch.from_numpy(similarity), min(NEIGHBOURS, similarity.shape[1]), dim=1)
    weight, ballots = best.values.numpy(), given[best.indices.numpy()]
    agree = ballots[:, :, None] == ballots[:, None, :]
    votes = (agree * np.maximum(weight, 0)[:, None, :]).sum(axis=2)
    chosen: np.ndarray = np.take_along_axis(ballots, votes.argmax(axis=1)[:, None], axis=1)[:, 0]
    return chosen


def unit_rows(vectors: np.ndarray) -> np.ndarray:
    """Scale the rows of `[n, d]` to length 1 (zero rows stay zero), as float32."""
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(norms, 1e-12), dtype=np.float32)
