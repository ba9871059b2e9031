"""BM25 finds words, and ties what it cannot tell apart."""

import sys

import numpy as np
import pytest
from small_catalog import SMALL, user

from talkplay_hf.catalog.schema import Catalog, Message, Track
from talkplay_hf.errors import MissingExtraError
from talkplay_hf.evaluation.baselines.base import BaselineSources
from talkplay_hf.evaluation.baselines.bm25 import BM25Ranker
from talkplay_hf.evaluation.baselines.registry import make_baseline
from talkplay_hf.evaluation.baselines.texts import chat_text, track_documents


def test_documents_leave_out_missing_fields() -> None:
    assert track_documents(SMALL) == [
        "Silver Harbour by Mira Vale from Tides folk calm",
        "Neon Parade by The Static synth 1987",
        "Quiet Engine by Mira Vale",
    ]


@pytest.mark.parametrize(
    ("query", "row"), [("play neon PARADE please", 1), ("something of 1987", 1), ("folk!", 0)]
)
def test_bm25_finds_title_year_and_tag(query: str, row: int) -> None:
    scores = BM25Ranker(SMALL).scores([user("no match here"), user(query)])
    assert scores[1].argmax() == row
    assert np.count_nonzero(scores[1]) == 1


def test_bm25_ties_what_it_cannot_tell_apart() -> None:
    scores = BM25Ranker(SMALL).scores([user(""), user("zzz unheard"), user("Mira")])
    assert not scores[:2].any()
    assert scores[2, 1] == 0
    assert (scores[2, [0, 2]] > 0).all()


def test_bm25_survives_a_catalog_without_words() -> None:
    catalog = Catalog.from_tracks([Track("a", "X", "Y")])
    assert BM25Ranker(catalog).scores([user("X by Y")]).tolist() == [[0.0]]


def test_the_last_turn_alone_forgets_what_was_said_before() -> None:
    history = (
        Message("system", "quiet"),
        Message("user", "synth"),
        Message("music", track_id="t1"),
        Message("assistant", "A parade."),
        Message("user", "folk"),
    )
    assert chat_text(history) == "synth\nA parade.\nfolk"
    assert chat_text(history, last_turn=True) == "folk"
    sources = BaselineSources(SMALL)
    whole = make_baseline("bm25", sources).scores([history])[0]
    last = make_baseline("bm25-last-turn", sources).scores([history])[0]
    assert (whole > 0).tolist() == [True, True, False]
    assert (last > 0).tolist() == [True, False, False]


def test_the_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bm25s", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'talkplay-hf\[eval\]'"):
        make_baseline("bm25", BaselineSources(SMALL))
