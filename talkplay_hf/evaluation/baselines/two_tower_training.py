"""Fine-tune a text model on (dialogue, track) pairs with sentence-transformers' trainer."""

import math
import os
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from talkplay_hf.catalog.schema import Conversation
from talkplay_hf.errors import ConfigError, InputError, MissingExtraError
from talkplay_hf.evaluation.baselines.base import BaselineSources, set_apart
from talkplay_hf.evaluation.baselines.dense import TextIndex, load_encoder
from talkplay_hf.evaluation.baselines.texts import words
from talkplay_hf.evaluation.baselines.two_tower import BEFORE, KIND, MODEL, QueryTexts
from talkplay_hf.evaluation.turns import collect_turns
from talkplay_hf.hub import files

UNKNOWN = "[UNK]"
VALIDATION = 0.05  # of the playlists
FEWEST = 10  # playlists that are enough to stop by
MOST = 1_000  # pairs that are looked at to stop


@dataclass(frozen=True)
class TwoTowerOptions:
    """How the two-tower model is trained.

    Args:
        dim (`int`): Dimensions of word vectors; an encoder has its own.
        epochs (`int`): Passes over the pairs at most. It stops at the first epoch after which the
            right tracks of conversations of other playlists do not rank higher (MRR over the whole
            catalog; the loss among the tracks of a batch goes on falling long after that). With
            too few such playlists all epochs are run.
        batch_size (`int`): Pairs a step. Each pair has the other tracks of its batch and as many
            drawn from the catalog as negatives.
        learning_rate (`float`, *optional*): 5e-4 for word vectors and 2e-5 for an encoder when
            left out.
        scale (`float`): What cosines are multiplied by in the softmax.
        before (`float`): How long the vectors of words from before the last message are at the
            start, relative to those of the message.

    Raises:
        ConfigError: If a number is not above 0.
    """

    dim: int = 512
    epochs: int = 4
    batch_size: int = 512
    learning_rate: float | None = None
    scale: float = 20.0
    before: float = 0.1

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if value is not None and value <= 0:
                raise ConfigError(f"{name} {value}: must be above 0")


@dataclass(frozen=True)
class Pairs:
    """Training pairs: a query and the row of the track that was played after it."""

    queries: list[str]
    rows: list[int]


def train_two_tower(
    sources: BaselineSources, out: str | Path, options: TwoTowerOptions | None = None
) -> Path:
    """Train a two-tower model on the training conversations and write it to a folder.

    Without `sources.encoder` it is two tables of word vectors, one for dialogues and one for
    tracks (`StaticEmbedding`), which start out as the same random vectors scaled by inverse
    document frequency, so that before training they match words as a lexical retriever does. With
    an encoder, that is fine-tuned for both sides.

    Args:
        sources (`BaselineSources`): `conversations` is needed. Tracks of the negative set are no
            positives, and held-out playlists no source.
        out (`str` or `Path`): The folder to write.
        options (`TwoTowerOptions`, *optional*): How to train.

    Returns:
        `Path`: The folder.

    Raises:
        InputError: If fewer than two pairs can be learnt from, or several processes were started.
        ConfigError: If the encoder cannot be loaded.
        ArtifactError: If `out` holds something else.
        MissingExtraError: If sentence-transformers is not installed.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        # one that finds its share of the turns kept would not come, and the others would wait
        raise InputError(
            "the two-tower model, of the baselines 'two-tower' and 'rerank', is trained by one "
            "process, and several were started: start one, or leave these baselines out"
        )
    options = options or TwoTowerOptions()
    static = sources.encoder is None
    texts = QueryTexts(sources.catalog, marked=static)
    train, validation = set_apart(
        sources.training_conversations, np.random.default_rng(sources.seed), _to_stop_by
    )
    pairs, held = (_pairs(part, sources, texts) for part in (train, validation))
    if len(pairs.rows) < 2:
        raise InputError(
            "the two-tower baseline needs training conversations, and these have "
            f"{len(pairs.rows)} turns to learn from: give conversations of the split 'train'"
        )
    if sources.encoder is None:
        model = _word_vectors(pairs.queries, texts.documents, options, sources)
    else:
        model = load_encoder(sources.encoder, sources.device)
    found = _fit(model, pairs, held, texts.documents, options, sources)
    with files.staged_folder(out, KIND) as aside:
        model.save(str(aside / MODEL), create_model_card=False)
        files.write_manifest(
            aside,
            KIND,
            {"catalog": sources.catalog.fingerprint},
            marked=static,
            pairs=len(pairs.rows),
            validation_mrr=found,
            encoder=sources.encoder,
            seed=sources.seed,
            options=asdict(options),
        )
    return Path(out)


def _to_stop_by(playlists: int) -> int:
    """How many of so many playlists are held out from the training, to stop by."""
    share = int(VALIDATION * playlists)
    return share if share >= FEWEST else 0


def _pairs(
    conversations: Sequence[Conversation], sources: BaselineSources, texts: QueryTexts
) -> Pairs:
    turns, _ = collect_turns(conversations, sources.catalog)
    good = [(turn.history, label) for turn in turns if not turn.negative for label in turn.labels]
    return Pairs([texts(history) for history, _ in good], [row for _, row in good])


def _word_vectors(
    queries: list[str], documents: list[str], options: TwoTowerOptions, sources: BaselineSources
) -> Any:
    """Two tables of word vectors, at first alike."""
    import torch

    try:
        from sentence_transformers import SentenceTransformer
        from sentence_transformers.sentence_transformer.modules import Router, StaticEmbedding
    except ImportError:
        raise MissingExtraError(
            "the two-tower baseline needs sentence-transformers: "
            "pip install 'talkplay-hf[features]'"
        ) from None
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

    counts = Counter(word for text in documents for word in set(words(text)))
    asked = Counter(word for text in queries for word in text.split())
    known = {*counts, *(word for word, count in asked.items() if count > 1)}
    names = [UNKNOWN, *sorted(known - {UNKNOWN})]
    vocabulary = {word: number for number, word in enumerate(names)}
    draw = torch.Generator().manual_seed(sources.seed)
    vectors = torch.randn(len(names), options.dim, generator=draw) / math.sqrt(options.dim)
    vectors[0] = 0
    for word, number in vocabulary.items():
        plain = word.removeprefix(BEFORE)
        if plain != word and plain in vocabulary:
            vectors[number] = vectors[vocabulary[plain]] * options.before
    plain_counts = np.array([counts[word.removeprefix(BEFORE)] for word in names])
    idf = np.log((1 + len(documents)) / (1 + plain_counts))
    idf[plain_counts == 0] = 1.0
    vectors *= torch.from_numpy(idf / idf.max(initial=1.0)).float()[:, None]

    def tower() -> Any:
        tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=UNKNOWN))
        tokenizer.normalizer = normalizers.Lowercase()
        tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"\w+"), "removed", invert=True)
        return StaticEmbedding(tokenizer, embedding_weights=vectors.clone())

    router = Router.for_query_document([tower()], [tower()])
    return SentenceTransformer(modules=[router], device=sources.device)


def _mrr(model: Any, held: Pairs, documents: list[str]) -> float:
    """The mean reciprocal rank of the right tracks, as it stands now; ties have their mean rank."""
    index = TextIndex(model, documents)
    reciprocal = []
    for start in range(0, min(MOST, len(held.rows)), 64):
        part = slice(start, min(start + 64, MOST))
        scores, rows = index.cosines(held.queries[part]), held.rows[part]
        right = scores[np.arange(len(rows)), rows][:, None]
        better, tied = (scores > right).sum(axis=1), (scores == right).sum(axis=1)
        reciprocal += list(1 / (better + (tied + 1) / 2))
    return float(np.mean(reciprocal))


def _fit(
    model: Any,
    pairs: Pairs,
    held: Pairs,
    documents: list[str],
    options: TwoTowerOptions,
    sources: BaselineSources,
) -> list[float]:
    """Train the model in place, up to the epoch that is best on the held-out pairs.

    Returns:
        `list[float]`: The MRR on the held-out pairs, before the first epoch and after each.
    """
    from datasets import Dataset
    from sentence_transformers import (
        SentenceTransformerTrainer,
        SentenceTransformerTrainingArguments,
    )
    from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
    from transformers import PrinterCallback, TrainerCallback

    draw = np.random.default_rng(sources.seed)
    drawn = draw.integers(len(documents), size=len(pairs.rows))
    table = {
        "anchor": pairs.queries,
        "positive": [documents[row] for row in pairs.rows],
        "negative": [documents[row] for row in drawn],
    }

    class KeepBest(TrainerCallback):  # type: ignore[misc]
        """Stop after the first epoch that does not help, and know the weights before it."""

        def __init__(self) -> None:
            self.found: list[float] = []
            self.weights: dict[str, Any] | None = None

        def on_train_begin(self, args: Any, state: Any, control: Any, **others: Any) -> None:
            self.on_epoch_end(args, state, control)

        def on_epoch_end(self, args: Any, state: Any, control: Any, **others: Any) -> None:
            model.eval()
            self.found.append(_mrr(model, held, documents))
            model.train()
            if self.found[-1] > max(self.found[:-1], default=-1):
                self.weights = {n: value.clone() for n, value in model.state_dict().items()}
            else:
                control.should_training_stop = True

    # no card is written
    model.model_card_data.generate_widget_examples = False
    static = sources.encoder is None
    routes = {"anchor": "query", "positive": "document", "negative": "document"}
    keep = KeepBest()
    with tempfile.TemporaryDirectory() as folder:
        arguments = SentenceTransformerTrainingArguments(
            output_dir=folder,
            num_train_epochs=options.epochs,
            per_device_train_batch_size=options.batch_size,
            learning_rate=options.learning_rate or (5e-4 if static else 2e-5),
            warmup_steps=0.1,
            batch_sampler="no_duplicates",
            router_mapping=routes if static else None,
            save_strategy="no",
            logging_strategy="no",
            report_to="none",
            disable_tqdm=True,
            use_cpu=sources.device == "cpu",
            seed=sources.seed,
        )
        trainer = SentenceTransformerTrainer(
            model=model,
            args=arguments,
            train_dataset=Dataset.from_dict(table),
            loss=MultipleNegativesRankingLoss(model, scale=options.scale),
            callbacks=[keep] if held.rows else [],
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    if keep.weights is not None:
        model.load_state_dict(keep.weights)
    model.eval()
    return keep.found
