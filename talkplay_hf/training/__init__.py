"""Vocabulary growth, self-similarity, training data and supervised fine-tuning (paper 4.2, 4.3)."""
