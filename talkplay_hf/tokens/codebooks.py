"""K-means codebooks, one per modality (paper 4.1, Quantization)."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning

MAX_CODES = 1024
TRACKS_PER_CODE = 8
FEWEST_CODES = 8
BLOCK = 65_536


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

    def encode(self, vectors: np.ndarray) -> np.ndarray:
        """The nearest centroid of each row of `[n, d]`, as int32 `[n]`."""
        codes = np.empty(len(vectors), dtype=np.int32)
        half_norms = 0.5 * (self.centroids**2).sum(axis=1)
        for start in range(0, len(vectors), BLOCK):
            block = vectors[start : start + BLOCK]
            codes[start : start + BLOCK] = (block @ self.centroids.T - half_norms).argmax(axis=1)
        return codes


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
    vectors: np.ndarray, present: np.ndarray, *, limit: int = MAX_CODES, reserve: bool, seed: int
) -> Codebook:
    """Fit the codebook of one modality.

    Args:
        vectors (`np.ndarray` of shape `[n, d]`, float32): One row a track.
        present (`np.ndarray` of shape `[n]`, bool): Which tracks have the modality; only they are
            clustered.
        limit (`int`): Upper bound of K.
        reserve (`bool`): Whether the last code is kept for "missing".
        seed (`int`): Seed of k-means++.
    """
    found = vectors[present]
    distinct = len(np.unique(found, axis=0)) if len(found) < BLOCK else len(found)
    size = choose_size(len(found), distinct, limit=limit)
    clusters = min(size - 1 if reserve else size, max(1, distinct))
    if not len(found):
        return Codebook(np.zeros((clusters, vectors.shape[1]), dtype=np.float32), size)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        kmeans = KMeans(clusters, n_init=4 if clusters <= 128 else 1, random_state=seed).fit(found)
    return Codebook(kmeans.cluster_centers_.astype(np.float32), size)


def encode_tracks(
    codebooks: Sequence[Codebook],
    modalities: Sequence[tuple[np.ndarray, np.ndarray]],
    *,
    missing: str,
) -> np.ndarray:
    """The codes of every track.

    Args:
        codebooks (`Sequence[Codebook]`): One per modality.
        modalities (`Sequence[tuple]`): `(vectors [n, d], present [n])` per modality.
        missing (`str`): `"reserve"` or `"impute"`, see `TalkPlayConfig`.

    Returns:
        `np.ndarray` of shape `[n, modalities]`, int32.
    """
    columns = [
        np.where(present, book.encode(vectors), np.int32(book.size - 1))
        for book, (vectors, present) in zip(codebooks, modalities, strict=True)
    ]
    codes = np.stack(columns, axis=1).astype(np.int32)
    if missing == "impute":
        _impute(codes, modalities)
    return codes


def _impute(codes: np.ndarray, modalities: Sequence[tuple[np.ndarray, np.ndarray]]) -> None:
    """Fill missing codes in place from the track nearest by cosine over the shared modalities."""
    parts = []
    for vectors, present in modalities:
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        parts.append(np.where(present[:, None], vectors / np.maximum(norms, 1e-12), 0))
    joint = np.concatenate(parts, axis=1).astype(np.float32)
    original = codes.copy()
    for m, (_, present) in enumerate(modalities):
        donors, holes = np.flatnonzero(present), np.flatnonzero(~present)
        if not len(donors):
            codes[holes, m] = 0
            continue
        for start in range(0, len(holes), 1024):
            block = holes[start : start + 1024]
            nearest = donors[(joint[block] @ joint[donors].T).argmax(axis=1)]
            codes[block, m] = original[nearest, m]


def health(codes: np.ndarray, sizes: Sequence[int], names: Sequence[str]) -> dict[str, Any]:
    """How well the codes are used.

    Args:
        codes (`np.ndarray` of shape `[n, modalities]`, int): Codes of all tracks.
        sizes (`Sequence[int]`): K per modality.
        names (`Sequence[str]`): Modality names.

    Returns:
        `dict[str, Any]`: Per modality the used codes, perplexity and share of the largest code;
        over all, the distinct tuples, the largest bucket, and the share of tracks that share their
        tuple with another.
    """
    report: dict[str, Any] = {"modalities": {}}
    for m, (name, size) in enumerate(zip(names, sizes, strict=True)):
        counts = np.bincount(codes[:, m], minlength=size)
        p = counts[counts > 0] / counts.sum()
        report["modalities"][name] = {
            "codes": int(size),
            "used": int((counts > 0).sum()),
            "perplexity": float(np.exp(-(p * np.log(p)).sum())),
            "largest_share": float(p.max()),
        }
    _, bucket = np.unique(codes, axis=0, return_counts=True)
    report |= {
        "tracks": len(codes),
        "distinct_tuples": len(bucket),
        "largest_bucket": int(bucket.max()),
        "collision_rate": float(bucket[bucket > 1].sum() / len(codes)),
    }
    return report


def label_codes(
    codes: np.ndarray,
    names: Sequence[str],
    tags: Sequence[Sequence[str]],
    track_ids: Sequence[str],
    popularity: np.ndarray,
    progress: Callable[[str, int, int], None] | None = None,
) -> list[Mapping[str, Any]]:
    """What each used code stands for: its most over-represented tags and most popular tracks."""
    vocabulary = {tag: i for i, tag in enumerate(sorted({t for row in tags for t in row}))}
    words = list(vocabulary)
    overall = np.zeros(max(1, len(vocabulary)))
    for row in tags:
        for tag in row:
            overall[vocabulary[tag]] += 1
    overall /= len(tags)
    rows: list[Mapping[str, Any]] = []
    for m, name in enumerate(names):
        order = np.argsort(codes[:, m], kind="stable")
        used, starts = np.unique(codes[order, m], return_index=True)
        for code, members in zip(used, np.split(order, starts[1:]), strict=True):
            counts = np.zeros_like(overall)
            for track in members:
                for tag in tags[track]:
                    counts[vocabulary[tag]] += 1
            share = counts / len(members)
            # share times lift: common in the cluster and rarer outside
            score = np.where(share > 0, share * np.log1p(share / np.maximum(overall, 1e-9)), 0)
            top = [words[i] for i in np.argsort(-score, kind="stable")[:5] if score[i] > 0]
            best = members[np.argsort(-popularity[members], kind="stable")[:3]]
            rows.append(
                {
                    "modality": name,
                    "code": int(code),
                    "tracks": len(members),
                    "tags": top,
                    "examples": [track_ids[i] for i in best],
                }
            )
        if progress is not None:
            progress("naming codes", m + 1, len(names))
    return rows
