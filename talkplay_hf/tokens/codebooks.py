"""K-means codebooks, one per modality (paper 4.1, Quantization)."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy import sparse

from talkplay_hf.tokens.kmeans import count_distinct, kmeans, nearest
from talkplay_hf.tokens.missing import impute

MAX_CODES = 1024
TRACKS_PER_CODE = 8
FEWEST_CODES = 8
# Tracks that K-means looks at for each code: more of them move the centroids by next to nothing.
FITTED_PER_CODE = 256
# small codebooks depend on their start, and are quick to fit again
SMALL, RESTARTS = 128, 4


@dataclass(frozen=True)
class Codebook:
    """The centroids of one modality.

    Args:
        centroids (`np.ndarray` of shape `[clusters, d]`, float32): Cluster centres; `clusters` is
            K, or K-1 where the last code is reserved for a missing modality.
        size (`int`): K, the number of codes.
    """

    centroids: np.ndarray
    size: int

    def encode(self, vectors: np.ndarray, rows: np.ndarray | None = None) -> np.ndarray:
        """The nearest centroid of each row of `[n, d]`, or of some rows, as int32.

        Raises:
            InputError: If the vectors have other dimensions than the centroids.
        """
        return nearest(vectors, self.centroids, rows=rows)[0]


def choose_size(present: int, distinct: int, *, limit: int = MAX_CODES) -> int:
    """K for a modality: a power of two, at most `limit` and the number of distinct vectors, and at
    most an eighth of the tracks that have the modality (but 8 codes for the smallest catalogues, so
    that their tracks can be told apart); at least 2.

    Args:
        present (`int`): Tracks that have the modality.
        distinct (`int`): Distinct vectors among them.
        limit (`int`): Upper bound (paper: 1024).
    """
    most = max(2, min(limit, max(FEWEST_CODES, present // TRACKS_PER_CODE), distinct))
    return 1 << (most.bit_length() - 1)


def fit_codebook(
    vectors: np.ndarray,
    present: np.ndarray,
    *,
    fit_on: np.ndarray | None = None,
    limit: int = MAX_CODES,
    reserve: bool,
    seed: int,
    progress: Callable[[int, int], None] | None = None,
) -> Codebook:
    """Fit the codebook of one modality.

    K-means looks at a seeded draw of 256 tracks a code where there are more.

    Args:
        vectors (`np.ndarray` of shape `[n, d]`, float32): One row a track, in memory or mapped.
        present (`np.ndarray` of shape `[n]`, bool): Which tracks have the modality; only they are
            clustered.
        fit_on (`np.ndarray` of shape `[n]`, bool, *optional*): Which tracks may be seen; all when
            left out. Cold tracks must not (paper 3.3).
        limit (`int`): Upper bound of K.
        reserve (`bool`): Whether the last code is kept for "missing".
        seed (`int`): Seed of k-means++.
        progress (`Callable`, *optional*): Called with (passes done, passes at most).
    """
    rows = np.flatnonzero(present if fit_on is None else present & fit_on)
    distinct = count_distinct(vectors, rows, limit)
    size = choose_size(len(rows), distinct, limit=limit)
    clusters = min(size - 1 if reserve else size, max(1, distinct))
    if not len(rows):
        return Codebook(np.zeros((clusters, vectors.shape[1]), dtype=np.float32), size)
    if len(rows) > FITTED_PER_CODE * clusters:
        drawn = np.random.default_rng(seed).choice(
            len(rows), FITTED_PER_CODE * clusters, replace=False
        )
        rows = rows[np.sort(drawn)]
    runs = [
        kmeans(vectors, clusters, rows=rows, seed=seed + 1000 * run, progress=progress)
        for run in range(RESTARTS if clusters <= SMALL else 1)
    ]
    return Codebook(min(runs, key=lambda run: run.inertia).centroids, size)


def encode_tracks(
    codebooks: Sequence[Codebook],
    modalities: Sequence[tuple[np.ndarray, np.ndarray]],
    *,
    missing: str,
    fit_on: np.ndarray | None = None,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> np.ndarray:
    """The codes of every track.

    Args:
        codebooks (`Sequence[Codebook]`): One per modality.
        modalities (`Sequence[tuple]`): `(vectors [n, d], present [n])` per modality.
        missing (`str`): `"reserve"` or `"impute"`, see `TalkPlayConfig`.
        fit_on (`np.ndarray` of shape `[n]`, bool, *optional*): Which tracks may pass their codes
            on to others; all when left out.
        seed (`int`): Seed of the draw of donors, see `impute`.
        progress (`Callable`, *optional*): Called with (tracks done, tracks) while imputing.

    Returns:
        `np.ndarray` of shape `[n, modalities]`, int32.
    """
    n = len(modalities[0][1])
    codes = np.empty((n, len(codebooks)), dtype=np.int32)
    for m, (book, (vectors, present)) in enumerate(zip(codebooks, modalities, strict=True)):
        rows = np.flatnonzero(present)
        codes[:, m] = book.size - 1
        codes[rows, m] = book.encode(vectors, rows)
    if missing == "impute":
        known = known_codes([present for _, present in modalities], fit_on)
        centroids = [book.centroids for book in codebooks]
        impute(
            codes, np.arange(n), modalities, centroids, codes.copy(), known,
            seed=seed, progress=progress,
        )  # fmt: skip
    return codes


def known_codes(presents: Sequence[np.ndarray], fit_on: np.ndarray | None) -> np.ndarray:
    """Which codes come from a vector that the codebooks may see, as bool `[n, modalities]`."""
    known = np.stack(presents, axis=1)
    return known if fit_on is None else known & fit_on[:, None]


def label_codes(
    codes: np.ndarray,
    names: Sequence[str],
    tags: pa.Array | pa.ChunkedArray,
    track_ids: Sequence[str],
    popularity: np.ndarray,
    progress: Callable[[str, int, int], None] | None = None,
) -> list[Mapping[str, Any]]:
    """What each used code stands for: its most over-represented tags and most popular tracks.

    Args:
        codes (`np.ndarray` of shape `[n, modalities]`, int): Codes of all tracks.
        names (`Sequence[str]`): Modality names.
        tags (`pyarrow.Array` of `list[str]`): Tags of each track.
        track_ids (`Sequence[str]`): Ids of the tracks.
        popularity (`np.ndarray` of shape `[n]`, float): Popularity of the tracks.
        progress (`Callable`, *optional*): Called with (what, done, total).
    """
    n = len(codes)
    holds, words = _tag_matrix(tags)
    overall = np.asarray(holds.sum(axis=0)).ravel() / max(1, n)
    rows: list[Mapping[str, Any]] = []
    for m, name in enumerate(names):
        order = np.lexsort((-popularity, codes[:, m]))
        used, starts, sizes = np.unique(codes[order, m], return_index=True, return_counts=True)
        one_hot = sparse.csr_matrix(
            (np.ones(n, dtype=np.float32), order, np.append(starts, n)), shape=(len(used), n)
        )
        counts = (one_hot @ holds).tocsr()
        counts.sort_indices()
        share = counts.data / np.repeat(sizes, np.diff(counts.indptr))
        # share times lift: common in the cluster and rarer outside
        score = share * np.log1p(share / overall[counts.indices])
        for i, code in enumerate(used):
            at = slice(counts.indptr[i], counts.indptr[i + 1])
            top = counts.indices[at][np.argsort(-score[at], kind="stable")[:5]]
            best = order[starts[i] : starts[i] + min(3, sizes[i])]
            rows.append(
                {
                    "modality": name,
                    "code": int(code),
                    "tracks": int(sizes[i]),
                    "tags": [words[j] for j in top],
                    "examples": [track_ids[j] for j in best],
                }
            )
        if progress is not None:
            progress("naming codes", m + 1, len(names))
    return rows


def _tag_matrix(tags: pa.Array | pa.ChunkedArray) -> tuple[sparse.csr_matrix, list[str]]:
    """How often each track has each tag `[n, tags]`, and the tags in alphabetical order."""
    lengths = pc.fill_null(pc.list_value_length(tags), 0).to_numpy()
    flat = pc.list_flatten(tags)
    words = sorted(pc.unique(flat.drop_null()).to_pylist())
    found = pc.index_in(flat, value_set=pa.array(words, flat.type))
    known = found.is_valid().to_numpy(zero_copy_only=False)
    owner = np.repeat(np.arange(len(lengths)), lengths)[known]
    columns = found.drop_null().to_numpy()
    ones = np.ones(len(owner), dtype=np.float32)
    return sparse.csr_matrix((ones, (owner, columns)), shape=(len(lengths), len(words))), words
