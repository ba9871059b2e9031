"""Item2vec, the playlist vectors of the paper: word2vec over playlists."""

import zlib
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from talkplay_hf.catalog.schema import Catalog
from talkplay_hf.catalog.splits import training_playlists
from talkplay_hf.errors import ConfigError, MissingExtraError
from talkplay_hf.features.cooccurrence import unit_rows
from talkplay_hf.features.shards import ShardedRun
from talkplay_hf.features.store import ModalityVectors, absent

MAX_WORDS = 10_000  # gensim cuts what is longer


@dataclass(frozen=True)
class Item2Vec:
    """Skip-gram with negative sampling over the training playlists (paper 4.1: 128-d).

    The method is that of Barkan and Koenigstein (2016).

    On one worker the same playlists give the same bytes. A track in no training playlist, or in
    none with another track, lacks the modality.

    Args:
        dim (`int`): Dimensions (paper: 128).
        window (`int` or `"whole"`): `"whole"` takes all other tracks of the playlist as context,
            as Barkan and Koenigstein do; a number takes those to each side, drawn from 1 to
            `window` as in word2vec, which is quicker and needs many more epochs.
        epochs (`int`): Passes over the playlists.
        negative (`int`): Negative samples a pair.
        sample (`float`): Threshold above which frequent tracks are thinned out; 0 keeps all.
        min_count (`int`): Tracks that occur less often are left out.
        workers (`int`): Threads; more than one makes the result differ from run to run.
    """

    modalities: ClassVar[tuple[str, ...]] = ("playlist",)

    dim: int = 128
    window: int | str = "whole"
    epochs: int = 20
    negative: int = 5
    sample: float = 1e-3
    min_count: int = 1
    workers: int = 1

    def __post_init__(self) -> None:
        if self.window != "whole" and not (isinstance(self.window, int) and self.window > 0):
            raise ConfigError(f"window is a positive number or 'whole', not {self.window!r}")

    def encode(self, catalog: Catalog, modality: str, run: ShardedRun) -> ModalityVectors:
        """The playlist vectors, `[n, dim]`, rows of length 1."""
        try:
            from gensim.models import Word2Vec
            from gensim.models.callbacks import CallbackAny2Vec
        except ImportError:
            raise MissingExtraError(
                "the encoder 'item2vec' needs the extra `features`: "
                "pip install 'talkplay-hf[features]'"
            ) from None
        train = training_playlists(catalog)
        train = train.select(train.lengths > 1)
        run.keep({}, seen=train.tracks())
        words = np.array([str(row) for row in range(len(catalog))], dtype=object)
        lists = [words[train[number]].tolist() for number in range(len(train))]
        counts = np.bincount(train.rows, minlength=len(catalog))
        if not (counts >= self.min_count).any() or not lists:
            return absent(len(catalog))

        class Progress(CallbackAny2Vec):  # type: ignore[misc]
            done = 0

            def on_epoch_end(self, model: Word2Vec) -> None:
                self.done += 1
                run.progress("item2vec: epochs", self.done, model.epochs)

        whole = self.window == "whole"
        model = Word2Vec(
            vector_size=self.dim,
            window=min(MAX_WORDS, int(train.lengths.max())) if whole else self.window,
            shrink_windows=not whole,
            sg=1,
            negative=self.negative,
            sample=self.sample,
            min_count=self.min_count,
            seed=run.seed,
            workers=self.workers,
            hashfxn=_hash,
        )
        model.build_vocab(lists)
        model.train(lists, total_examples=len(lists), epochs=self.epochs, callbacks=[Progress()])
        rows = np.array(model.wv.index_to_key, dtype=np.int64)
        vectors = np.zeros((len(catalog), self.dim), dtype=np.float32)
        vectors[rows] = unit_rows(model.wv.vectors)
        present = np.zeros(len(catalog), dtype=bool)
        present[rows] = True
        return ModalityVectors(vectors, present)


def _hash(word: str) -> int:
    """A hash that does not depend on `PYTHONHASHSEED`."""
    return zlib.crc32(word.encode())
