"""Codebooks, the music tokenizer, its chat template and the catalogue index (paper 4.1, A.3)."""
