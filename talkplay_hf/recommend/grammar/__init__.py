"""Logits processors: well-formed music blocks, and blocks of the catalogue only (paper 4.4)."""

from talkplay_hf.recommend.grammar.catalog import CatalogLogitsProcessor
from talkplay_hf.recommend.grammar.processor import MusicGrammarLogitsProcessor
from talkplay_hf.recommend.grammar.vocabulary import MusicVocabulary

__all__ = ["CatalogLogitsProcessor", "MusicGrammarLogitsProcessor", "MusicVocabulary"]
