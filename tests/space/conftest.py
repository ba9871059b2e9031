"""What the tests of the page share: `space/` on the path, and a recommender without a model.

The fixture `recommender` of the tests above is a real one, of random weights.
"""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "space"))

from fake_recommender import FakeRecommender


@pytest.fixture
def fake() -> FakeRecommender:
    return FakeRecommender()
