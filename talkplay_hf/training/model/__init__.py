"""The model to train: a base, its grown vocabulary, adapters."""
