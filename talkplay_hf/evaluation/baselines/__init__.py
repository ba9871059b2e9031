"""What the model is compared with: rankers of all tracks after a dialogue (paper 6.2, A.4)."""
