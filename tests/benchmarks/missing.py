"""Compare ways to invent the code of a missing modality with the code that was hidden.

    talkplay import tracks.parquet CATALOG --playlists playlists.parquet
    talkplay embed CATALOG FEATURES
    python tests/benchmarks/missing.py FEATURES --seeds 0 1 2

A tenth of the tracks that have a modality lose its vector. A codebook is fitted on the rest, the
codes of the tenth are invented by each rule, and compared with the codes that the hidden vectors
have in that codebook. `right` is the share of exact codes, `cosine` that of the invented code's
centroid with the hidden vector, `perplexity` that of the invented codes. Intervals are of a
bootstrap over the hidden tracks of all seeds; `over old` is the paired difference in `right`.
"""

import argparse
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

from talkplay_hf.features.store import load_features
from talkplay_hf.tokens import missing
from talkplay_hf.tokens.codebooks import Codebook, fit_codebook
from talkplay_hf.tokens.missing import draw_donors, similarities, unit_rows, vote

OLD = "nearest by vectors"
Arrays = dict[str, np.ndarray]


class Hidden:
    """One modality with a tenth of its vectors hidden."""

    def __init__(
        self,
        vectors: list[np.ndarray],
        present: list[np.ndarray],
        books: list[Codebook],
        m: int,
        seed: int,
    ) -> None:
        rng = np.random.default_rng(seed)
        has = np.flatnonzero(present[m])
        self.hidden = np.sort(rng.choice(has, len(has) // 10, replace=False))
        left = present[m].copy()
        left[self.hidden] = False
        self.book = fit_codebook(vectors[m], left, reserve=False, seed=seed)
        self.donors = draw_donors(left, seed)
        self.given = self.book.encode(vectors[m], self.donors)
        self.truth = self.book.encode(vectors[m], self.hidden)
        self.target = unit_rows(vectors[m][self.hidden])
        others = [j for j in range(len(vectors)) if j != m]
        self.vectors = [vectors[j] for j in others]
        self.present = [present[j] for j in others]
        self.books = [books[j] for j in others]
        self.own = vectors[m]
        self.rng = rng

    def by_vectors(self) -> Arrays:
        """The rule that compares whole vectors, and a vote in the same similarity."""
        parts = [np.where(p[:, None], unit_rows(v), 0) for v, p in self._others()]
        joint = np.concatenate(parts, axis=1)
        donors = joint[self.donors]
        found: dict[str, list[np.ndarray]] = {OLD: [], "vote of 10 by vectors": []}
        for start in range(0, len(self.hidden), 256):
            similarity = joint[self.hidden[start : start + 256]] @ donors.T
            found[OLD].append(self.given[similarity.argmax(axis=1)])
            found["vote of 10 by vectors"].append(vote(similarity, self.given))
        return {name: np.concatenate(codes) for name, codes in found.items()}

    def by_codes(self) -> Arrays:
        """Donors known by their codes: the nearest, a plain majority of ten, the weighted vote."""
        codes = np.stack(
            [b.encode(v, self.donors) for b, v in zip(self.books, self.vectors, strict=True)],
            axis=1,
        )
        known = np.stack([p[self.donors] for p in self.present], axis=1)
        centroids = [book.centroids for book in self.books]
        found: dict[str, list[np.ndarray]] = {
            "nearest by codes": [],
            "majority of 10 by codes": [],
            "impute (vote of 10 by codes)": [],
        }
        for _, similarity in similarities(self.hidden, self._others(), centroids, codes, known):
            tenth = -np.partition(-similarity, 9, axis=1)[:, 9:10]
            rows = (
                self.given[similarity.argmax(axis=1)],
                vote((similarity >= tenth).astype(np.float32), self.given),
                vote(similarity, self.given),
            )
            for name, row in zip(found, rows, strict=True):
                found[name].append(row)
        return {name: np.concatenate(rows) for name, rows in found.items()}

    def by_regression(self) -> Arrays:
        """Ridge regression from the other vectors, then the centroid nearest by angle."""
        flags = [p[:, None].astype(np.float32) for p in self.present]
        parts = [np.where(p[:, None], unit_rows(v), 0) for v, p in self._others()]
        x = np.concatenate([*parts, *flags], axis=1).astype(np.float64)
        y = self.own[self.donors].astype(np.float64)
        inputs = x[self.donors]
        centre, level = inputs.mean(axis=0), y.mean(axis=0)
        gram = (inputs - centre).T @ (inputs - centre) + np.eye(x.shape[1])
        weights = np.linalg.solve(gram, (inputs - centre).T @ (y - level))
        predicted = (x[self.hidden] - centre) @ weights + level
        near = unit_rows(predicted) @ unit_rows(self.book.centroids).T
        return {"ridge regression": near.argmax(axis=1)}

    def by_chance(self) -> Arrays:
        """The most frequent code, and a random one."""
        n = len(self.hidden)
        return {
            "most frequent": np.full(n, np.bincount(self.given).argmax()),
            "random": self.rng.integers(0, len(self.book.centroids), n),
        }

    def cosine(self, codes: np.ndarray) -> np.ndarray:
        """Cosine of the codes' centroids with the hidden vectors."""
        return np.einsum("nd,nd->n", unit_rows(self.book.centroids)[codes], self.target)

    def _others(self) -> list[tuple[np.ndarray, np.ndarray]]:
        return list(zip(self.vectors, self.present, strict=True))


def perplexity(codes: np.ndarray) -> float:
    p = np.unique(codes, return_counts=True)[1] / len(codes)
    return float(np.exp(-(p * np.log(p)).sum()))


def interval(values: np.ndarray, draws: int = 1000) -> str:
    """The mean of `[n]` with its 95 % bootstrap interval."""
    rng = np.random.default_rng(0)
    means = [values[rng.integers(0, len(values), len(values))].mean() for _ in range(draws)]
    low, high = np.quantile(means, [0.025, 0.975])
    return f"{values.mean():.3f} [{low:.3f}, {high:.3f}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("features", help="features folder")
    parser.add_argument("--modalities", nargs="+", default=["playlist", "semantic", "lyrics"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--donors", type=int, default=missing.MOST_DONORS)
    args = parser.parse_args()
    missing.MOST_DONORS = args.donors
    _, modalities = load_features(args.features)
    names = list(modalities)
    vectors = [np.array(m.vectors) for m in modalities.values()]
    present = [np.array(m.present) for m in modalities.values()]
    books = [
        fit_codebook(v, p, reserve=False, seed=0) for v, p in zip(vectors, present, strict=True)
    ]
    for name in args.modalities:
        right: dict[str, list[np.ndarray]] = {}
        cosine: dict[str, list[np.ndarray]] = {}
        spread: dict[str, list[float]] = {}
        for seed in args.seeds:
            case = Hidden(vectors, present, books, names.index(name), seed)
            found = case.by_vectors() | case.by_codes() | case.by_regression() | case.by_chance()
            for rule, codes in (found | {"the hidden codes": case.truth}).items():
                right.setdefault(rule, []).append((codes == case.truth).astype(float))
                cosine.setdefault(rule, []).append(case.cosine(codes))
                spread.setdefault(rule, []).append(perplexity(codes))
        n = sum(map(len, right[OLD]))
        print(
            f"\n{name}: K = {case.book.size}, n = {n:,} hidden in {len(args.seeds)} seeds, "
            f"{len(case.donors):,} donors"
        )
        print(f"{'':30}{'right':>22}{'over old':>25}{'cosine':>22}{'perplexity':>12}")
        for rule in right:
            exact = np.concatenate(right[rule])
            over = interval(exact - np.concatenate(right[OLD])) if rule != OLD else ""
            near = interval(np.concatenate(cosine[rule]))
            print(
                f"{rule:30}{interval(exact):>22}{over:>25}{near:>22}{np.mean(spread[rule]):12.0f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
