"""A sentence-transformers model of a few fixed word vectors, saved to a folder."""

from pathlib import Path

import numpy as np
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import StaticEmbedding
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

# words of one line mean the same
MEANINGS = (
    ("silver", "folk", "acoustic", "gentle"),
    ("neon", "synth", "electronic", "eighties"),
    ("quiet", "engine", "mechanical"),
)


def save_encoder(folder: Path) -> str:
    """A model that knows `MEANINGS`; all other words mean nothing, and `prefer` means the last."""
    vocabulary = {"[UNK]": 0}
    vectors = [np.zeros(3)]
    for axis, group in enumerate((*MEANINGS[:2], (*MEANINGS[2], "prefer"))):
        for word in group:
            vocabulary[word] = len(vectors)
            vectors.append(np.eye(3)[axis])
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"\w+"), "removed", invert=True)
    weights = np.array(vectors, dtype=np.float32)
    model = SentenceTransformer(modules=[StaticEmbedding(tokenizer, embedding_weights=weights)])
    model.save(str(folder), create_model_card=False)
    return str(folder)
