"""Conversations written by a language model: pieces, prompt, ledger (paper 3.2, A.1)."""
