"""talkplay_hf: turn any music catalogue into a conversational recommender.

After *TalkPlay: Multimodal Music Recommendation with Large Language Models* (arXiv 2502.13713v1).
The public names are loaded on first use, so that importing the package loads neither torch nor
gradio.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_PUBLIC = {
    "Catalog": "talkplay_hf.catalog.schema",
    "CatalogLogitsProcessor": "talkplay_hf.recommend.grammar",
    "Constraint": "talkplay_hf.catalog.constraints",
    "Conversation": "talkplay_hf.catalog.schema",
    "Message": "talkplay_hf.catalog.schema",
    "Recommendation": "talkplay_hf.recommend.answers",
    "Recommender": "talkplay_hf.recommend.recommender",
    "MusicGrammarLogitsProcessor": "talkplay_hf.recommend.grammar",
    "SelfSimilarityCallback": "talkplay_hf.training.similarity.callback",
    "TalkPlayError": "talkplay_hf.errors",
    "TalkPlayTokenizer": "talkplay_hf.tokens.tokenizer",
    "Track": "talkplay_hf.catalog.schema",
    "pull": "talkplay_hf.repos",
    "push": "talkplay_hf.repos",
    "register": "talkplay_hf.recommend.pipeline",
}

__all__ = ["__version__", *sorted(_PUBLIC)]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        value = getattr(import_module(_PUBLIC[name]), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
