"""How much texts differ: distinct n-grams and near-duplicates."""

import re
from array import array
from collections.abc import Iterable
from typing import Any

import numpy as np

from talkplay_hf.errors import InputError, MissingExtraError

THRESHOLD = 0.8
SHINGLE = 3
ALIKE = 32
BANDS, ROWS = 16, 8
PERMUTATIONS = BANDS * ROWS
"""Bands of rows of a signature: a pair of similarity s is proposed with probability
1 - (1 - s ** 8) ** 16, which is 0.95 for 0.8 and 0.9999 for 0.9."""

_WORD = re.compile(r"\w+(?:['’]\w+)*")


def words(text: str) -> list[str]:
    """The words of a text without regard to case, in order; punctuation is left out."""
    return _WORD.findall(text.casefold())


class WordTable:
    """Texts as numbers of words, kept small so that a whole corpus fits into memory.

    N-grams never reach from one text into the next.
    """

    def __init__(self) -> None:
        self._ids: dict[str, int] = {}
        self._tokens = array("I")
        self._lengths = array("I")

    def add(self, text: str) -> int:
        """Take in a text, and return how many words it has."""
        ids = self._ids
        found = words(text)
        self._tokens.extend([ids.setdefault(word, len(ids)) for word in found])
        self._lengths.append(len(found))
        return len(found)

    @property
    def vocabulary(self) -> int:
        """Distinct words."""
        return len(self._ids)

    @property
    def total(self) -> int:
        """All words."""
        return len(self._tokens)

    def grams(self, n: int) -> tuple[np.ndarray, np.ndarray]:
        """The n-grams of all texts, numbered so that equal ones have equal numbers.

        Args:
            n (`int`): Words in an n-gram.

        Returns:
            `np.ndarray` of shape `[grams]`, int64: the numbers, dense from 0, text by text; and
            `np.ndarray` of shape `[texts + 1]`, int64: where each text begins, and the last ends.

        Raises:
            InputError: If `n` is not positive.
        """
        if n < 1:
            raise InputError(f"{n}-grams: n must be 1 or more")
        tokens = np.array(self._tokens, dtype=np.int64)
        lengths = np.array(self._lengths, dtype=np.int64)
        grams, base = tokens, max(1, self.vocabulary)
        for size in range(2, n + 1):
            # numbered anew at each size, so that the keys never pass 64 bits
            grams = grams[:-1] * base + tokens[size - 1 :]
            grams = np.unique(grams, return_inverse=True)[1]
        ends = np.repeat(np.cumsum(lengths), lengths)[: len(grams)]
        grams = grams[np.arange(len(grams)) + n <= ends]
        starts = np.concatenate([[0], np.cumsum(np.maximum(lengths - n + 1, 0))])
        return np.unique(grams, return_inverse=True)[1].astype(np.int64), starts

    def distinct(self, n: int) -> float | None:
        """Distinct n-grams over all n-grams (Li et al., 2016); `None` where there is none."""
        grams, _ = self.grams(n)
        return (int(grams.max()) + 1) / len(grams) if len(grams) else None


def distinct_n(texts: Iterable[str], n: int) -> float | None:
    """Distinct word n-grams over all word n-grams of some texts (Li et al., 2016).

    It falls as texts are added, so compare only samples of one size.

    Args:
        texts (`Iterable[str]`): The texts; no n-gram reaches from one into the next.
        n (`int`): Words in an n-gram.

    Returns:
        `float` above 0 and up to 1, or `None` where no text has `n` words.

    Raises:
        InputError: If `n` is not positive.
    """
    table = WordTable()
    for text in texts:
        table.add(text)
    return table.distinct(n)


def near_duplicates(texts: Iterable[str], *, seed: int = 0) -> np.ndarray:
    """For each text, another one that is nearly the same, if there is any.

    Two texts are near-duplicates if the Jaccard similarity of their sets of word 3-grams is at
    least 0.8, or if they have the same words in the same order. MinHash of 128 permutations with
    locality-sensitive hashing (Broder, 1997) proposes pairs, and the true similarity of each is
    computed, so that none is wrong; one in twenty of the pairs at the threshold is missed, and
    hardly any above 0.9. A text that has a partner and 32 earlier ones proposed is itself not
    proposed to later ones.

    The rate to report is the share of texts that have a partner: `(partners >= 0).mean()`.

    Args:
        texts (`Iterable[str]`): The texts.
        seed (`int`): Draws the hash functions.

    Returns:
        `np.ndarray` of shape `[texts]`, int64: the position of a near-duplicate, -1 without one.

    Raises:
        MissingExtraError: If `datasketch` is not installed.
    """
    minhash_class, index_class = _datasketch()
    table = WordTable()
    first: dict[tuple[str, ...], int] = {}
    same = []
    for at, text in enumerate(texts):
        same.append(first.setdefault(tuple(words(text)), at))
        table.add(text if same[at] == at else "")
    del first
    grams, starts = table.grams(SHINGLE)
    rng = np.random.default_rng(seed)
    count = int(grams.max()) + 1 if len(grams) else 0
    hashes = rng.integers(1 << 32, size=count, dtype=np.uint64)
    index = index_class(num_perm=PERMUTATIONS, params=(BANDS, ROWS))
    signature = minhash_class(num_perm=PERMUTATIONS, seed=int(rng.integers(1 << 31)), hashfunc=int)
    partners = np.full(len(same), -1, dtype=np.int64)

    def pair(one: int, other: int) -> None:
        partners[one] = other if partners[one] < 0 else partners[one]
        partners[other] = one if partners[other] < 0 else partners[other]

    def shingles(at: int) -> set[int]:
        return set(grams[starts[at] : starts[at + 1]].tolist())

    for at, earlier in enumerate(same):
        if earlier != at:
            pair(at, earlier)
            continue
        mine = shingles(at)
        if not mine:
            continue
        signature.clear()
        signature.update_batch(hashes[list(mine)].tolist())
        proposed = sorted(index.query(signature))
        for other in proposed:
            if partners[at] >= 0 and partners[other] >= 0:
                continue
            theirs = shingles(other)
            both = len(theirs & mine)
            if both >= THRESHOLD * (len(theirs) + len(mine) - both):
                pair(at, other)
        # of thousands that are alike a few stand for all, or the time grows with their square
        if len(proposed) < ALIKE or partners[at] < 0:
            index.insert(at, signature, check_duplication=False)
    return partners


def _datasketch() -> tuple[Any, Any]:
    """The classes `MinHash` and `MinHashLSH` of `datasketch`."""
    try:
        from datasketch import MinHash, MinHashLSH
    except ImportError:
        raise MissingExtraError(
            "near-duplicates need the package datasketch; "
            "install it with `pip install 'talkplay-hf[synthesis]'`"
        ) from None
    return MinHash, MinHashLSH
