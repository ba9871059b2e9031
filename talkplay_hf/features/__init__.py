"""One vector per track and modality (paper 4.1, Item Embeddings)."""
