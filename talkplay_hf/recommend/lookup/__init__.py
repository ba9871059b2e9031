"""From five codes back to real tracks (paper 4.4)."""

from talkplay_hf.recommend.lookup.weighted import Match, Ranking, WeightedLookup

__all__ = ["Match", "Ranking", "WeightedLookup"]
