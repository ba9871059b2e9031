"""How well the right track is found: metrics, baselines and the report about both (paper 5, 6)."""
