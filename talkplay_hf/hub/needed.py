"""Which files of a repo are needed, and which belong to us, by kind of artefact."""

import fnmatch
from collections.abc import Iterable

from talkplay_hf.hub import files

# what goes with every copy
PAPERS = (files.CARD, "LICENSE*", "NOTICE*")
_TOKENIZER = (
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja"),
    *("added_tokens.json", "vocab.json", "merges.txt", files.TALKPLAY_CONFIG, files.CODEBOOKS),
    *(files.TOKEN_CATALOG, files.CATALOG_INDEX, files.CODEBOOK_LABELS, files.CODEBOOK_HEALTH),
    *(files.EXAMPLES, files.MANIFEST),
)
_WEIGHTS = (
    *("model.safetensors", "model.safetensors.index.json"),
    "model-?????-of-?????.safetensors",
)
TOKENIZER = (*_TOKENIZER, *PAPERS)
MODEL = ("config.json", "generation_config.json", *_WEIGHTS, *TOKENIZER)

# what a program needs to work with the artefact
NEEDED: dict[str, tuple[str, ...]] = {
    "model": MODEL,
    "tokenizer": TOKENIZER,
    "catalog": ("*.parquet", files.MANIFEST, "audio/*", *PAPERS),
    "conversations": ("*.parquet", files.MANIFEST, *PAPERS),
    "features": ("*.parquet", "*.safetensors", "*.json", *PAPERS),
}
# what a push to a model repo may delete, because the folder that is pushed no longer has it; in
# dataset repos, that is what the manifest there names
OWN: dict[str, tuple[str, ...]] = {
    "model": (*_WEIGHTS, *_TOKENIZER),
    "tokenizer": _TOKENIZER,
}
REPO_TYPES = {
    "model": "model",
    "tokenizer": "model",
    "catalog": "dataset",
    "conversations": "dataset",
    "features": "dataset",
}
# how the Hub writes that a name is that of a dataset
DATASETS = "datasets/"
# loading a file of such a name can run code
PICKLES = frozenset(
    (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib", ".dill", ".h5", ".keras")
)


def matches(path: str, patterns: Iterable[str]) -> bool:
    """Whether a path in a repo fits one of the patterns.

    A pattern without a slash is for files at the top only, one with a slash for the whole path.
    """
    return any(
        fnmatch.fnmatchcase(path, pattern)
        for pattern in patterns
        if ("/" in pattern) or "/" not in path
    )
