"""How requests are named in a report, and how often the first track is one that was asked for."""

from collections.abc import Sequence

import numpy as np

from talkplay_hf.catalog.constraints import Constraint
from talkplay_hf.evaluation.metrics.ranking import BoolArray, FloatArray

# requests for one thing that is told by the bounds of several columns
KIND_FIELDS = {
    "mood": {"valence", "energy"},
    "sound": {"acousticness", "danceability", "instrumentalness", "liveness", "instrument"},
}


def top1_share(scores: FloatArray, wanted: BoolArray) -> FloatArray:
    """The chance that the top-ranked track of each turn is a wanted one, ties shuffled.

    Args:
        scores (`numpy.ndarray` of shape `(turns, tracks)`, float64): As for `label_ranks`.
        wanted (`numpy.ndarray` of shape `(turns, tracks)`, bool): Which tracks are wanted.

    Returns:
        `numpy.ndarray` of shape `(turns,)`, float64: The share of wanted tracks among those with
        the highest score; 0 where no track is ranked.
    """
    top = (scores == scores.max(axis=1, keepdims=True)) & (scores > -np.inf)
    hits = np.count_nonzero(top & wanted, axis=1)
    share: FloatArray = hits / np.maximum(np.count_nonzero(top, axis=1), 1)
    return share


def request_kind(request: Sequence[Constraint]) -> str:
    """The name under which a request is reported.

    Its field where it has one (a decade is `"era"`), `"mood"` or `"sound"` where it is about
    columns of `KIND_FIELDS` only, `"not"` where it excludes something, `"newer or older"` where it
    bounds the year on one side, `"several"` where it has several other fields.
    """
    names = {constraint.field for constraint in request}
    if any(constraint.op == "not" for constraint in request):
        return "not"
    for kind, fields in KIND_FIELDS.items():
        if names and names <= fields:
            return kind
    if len(names) > 1:
        return "several"
    if names == {"year"}:
        return "era" if len(request) == 2 else "newer or older"
    return next(iter(names), "")
