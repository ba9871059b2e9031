"""Requests have names, and the first track is what was asked for or not."""

import numpy as np
import pytest

from talkplay_hf.catalog.constraints import Constraint
from talkplay_hf.evaluation.metrics.requests import request_kind, top1_share

INF = np.inf


def test_top1_share_over_ties_and_empty_rankings() -> None:
    scores = np.array([[2.0, 2, 1], [1.0, 2, 1], [-INF, -INF, -INF]])
    wanted = np.array([[True, False, True], [True, False, True], [True, True, True]])
    assert top1_share(scores, wanted).tolist() == [0.5, 0, 0]


def test_request_kind() -> None:
    era = (Constraint("year", "ge", "1990"), Constraint("year", "lt", "2000"))
    assert request_kind(era) == "era"
    assert request_kind(era[:1]) == "newer or older"
    assert request_kind((Constraint("mood", "is", "x"),)) == "mood"
    assert request_kind((Constraint("mood", "is", "x"), Constraint("genre", "is", "y"))) == (
        "several"
    )
    both = (Constraint("artist", "is", "x"), Constraint("artist", "not", "y"))
    assert request_kind(both) == "not"
    assert request_kind(()) == ""


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        (("valence", "energy"), "mood"),
        (("energy",), "mood"),
        (("acousticness",), "sound"),
        (("danceability", "liveness"), "sound"),
        (("instrumentalness",), "sound"),
        (("instrument",), "sound"),
        (("theme",), "theme"),
        (("tempo",), "tempo"),
        (("energy", "acousticness"), "several"),
        (("valence", "tempo"), "several"),
    ],
)
def test_requests_by_descriptors_are_named_by_what_they_mean(
    fields: tuple[str, ...], kind: str
) -> None:
    assert request_kind([Constraint(name, "ge", "0.6") for name in fields]) == kind
