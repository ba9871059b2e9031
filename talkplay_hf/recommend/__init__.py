"""Grammar, catalogue constraint, ranking, lookup and the recommender (paper 4.4)."""
