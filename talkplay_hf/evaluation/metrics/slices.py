"""Kinds of turns that are reported apart: what is right on average can be wrong for one of them."""

from collections.abc import Mapping, Sequence

import numpy as np

from talkplay_hf.catalog.membership import membership
from talkplay_hf.catalog.schema import Catalog
from talkplay_hf.catalog.splits import cold_tracks
from talkplay_hf.evaluation.metrics.ranking import BoolArray
from talkplay_hf.evaluation.turns import Turn


def turn_slices(
    turns: Sequence[Turn], catalog: Catalog, known: Mapping[str, BoolArray]
) -> dict[str, BoolArray]:
    """Which turns are of which kind.

    Args:
        turns (`Sequence[Turn]`): The turns.
        catalog (`Catalog`): The candidates, with their playlists: without a split no track is cold.
        known (`Mapping[str, numpy.ndarray]`): By modality, whether each track of the catalog has
            it, bool of shape `(tracks,)`.

    Returns:
        `dict[str, numpy.ndarray]`: Bool of shape `(turns,)` each. `"warm"`: the track that was
        played stands in a playlist of training or validation. `"cold"`: it stands in held-out ones
        alone (paper 3.3). `"in no playlist"`: it stands in none. `"missing: MODALITY"`: it lacks
        the modality. `"first turn"` and `"later turns"`: the place in the conversation.
        `"direction change"`: the track before was from the negative set, so that the listener now
        wants something else (paper A.1). A slice that would be empty is left out.
    """
    label = np.array([turn.labels[0] for turn in turns], dtype=np.int64)
    first = np.array([turn.number == 1 for turn in turns], dtype=bool)
    cold, listed = cold_tracks(catalog)[label], membership(catalog).tracks()[label]
    slices = {
        "warm": listed & ~cold,
        "cold": cold,
        "in no playlist": ~listed,
        **{f"missing: {modality}": ~has[label] for modality, has in known.items()},
        "first turn": first,
        "later turns": ~first,
        "direction change": np.array([_turns_away(turn) for turn in turns], dtype=bool),
    }
    return {name: found for name, found in slices.items() if found.any()}


def _turns_away(turn: Turn) -> bool:
    """Whether the last track before the turn is one that was played to be rejected."""
    before = [message for message in turn.history if message.role == "music"]
    return bool(before) and before[-1].source == "negative"
