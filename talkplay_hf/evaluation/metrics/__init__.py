"""What is measured about a ranking, a set of lists and the replies (paper 6.1)."""
