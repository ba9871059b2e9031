"""The self-similarity loss (paper 4.3, Eq. 2)."""
