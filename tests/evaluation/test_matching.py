"""The rates of the matching analysis, reckoned by hand."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from talkplay_hf.catalog.schema import Catalog, Conversation, Message
from talkplay_hf.catalog.splits import cold_tracks
from talkplay_hf.errors import InputError
from talkplay_hf.evaluation.matching import matching
from talkplay_hf.recommend.answers import Recommendation
from talkplay_hf.recommend.recommender import Recommender

CODES = {"t0": (0, 0), "t1": (1, 1), "t2": (1, 1), "t3": (2, 0)}
CONVERSATION = Conversation(
    "c0",
    (
        Message("user", "play jazz"),
        Message("music", track_id="t0"),
        Message("assistant", "Here it is."),
        Message("user", "another"),
    ),
)


def found(codes: tuple[int, ...], *modalities: str) -> Recommendation:
    return Recommendation((), "", (codes,), (0.0,), (modalities,), blocks=1)


EXACT = ("audio", "lyrics")
UNMATCHED = Recommendation((), "", (), (), (), blocks=1)
ANSWERS = {
    "catalog": [found((0, 0), *EXACT)],
    "grammar": [
        found((0, 0), *EXACT),
        found((0, 1), "audio"),
        found((1, 1), *EXACT),
        found((1, 1), *EXACT),
    ],
    "none": [
        found((0, 0), *EXACT),
        UNMATCHED,
        Recommendation((), "", (), (), (), malformed=1),
        Recommendation((), "only words", (), (), ()),
    ],
}


@dataclass
class FakeRecommender:
    """Gives the answers of each constraint in turn, over and over."""

    answers: dict[str, Iterator[Recommendation]]
    calls: list[dict[str, Any]] = field(default_factory=list)
    prompts: list[Sequence[Message]] = field(default_factory=list)

    @property
    def track_ids(self) -> list[str]:
        return list(CODES)

    def codes(self, track_id: str) -> tuple[int, ...]:
        return CODES[track_id]

    def chat(self, chat: Sequence[Message], **options: Any) -> Recommendation:
        self.prompts.append(chat)
        self.calls.append(options)
        return next(self.answers[options["constraint"]])


@pytest.fixture
def fake() -> FakeRecommender:
    return FakeRecommender({name: itertools.cycle(found) for name, found in ANSWERS.items()})


def test_rates_by_hand(fake: FakeRecommender) -> None:
    report = matching(fake, [CONVERSATION], samples=4, seed=3)  # type: ignore[arg-type]
    # Without constraint: one exact match, one block that is well-formed and matches nothing.
    assert report.well_formed == {"catalog": 1, "grammar": 1, "none": 0.5}
    assert report.exact == {"catalog": 1, "grammar": 0.75, "none": 0.25}
    # First codes 0, 0, 1, 1 and second codes 0, 1, 1, 1: (0, 0) by 1/2 * 1/4, (1, 1) by 1/2 * 3/4,
    # (2, 0) never; two tracks that share (1, 1) count once.
    assert report.independent == pytest.approx(1 / 8 + 3 / 8)
    assert report.samples == 4
    assert "independent marginals" in report.summary()
    assert report.to_dict().keys() == {
        *("samples", "seed", "well_formed", "exact", "independent", "matches")
    }
    assert not report.matches


def test_every_user_message_is_a_prompt(fake: FakeRecommender) -> None:
    matching(fake, [CONVERSATION], samples=3, seed=3)  # type: ignore[arg-type]
    assert [len(prompt) for prompt in fake.prompts] == [1, 4, 1] * 3
    assert [call["seed"] for call in fake.calls] == [3, 4, 5] * 3
    assert not any(call["exclude_played"] for call in fake.calls)


def test_without_a_user_message_there_is_nothing_to_sample(fake: FakeRecommender) -> None:
    alone = Conversation("c0", (Message("music", track_id="t0"),))
    with pytest.raises(InputError, match="no user message"):
        matching(fake, [alone])  # type: ignore[arg-type]


def test_matches_are_told_apart_by_modalities_and_by_warm_and_cold(
    recommender: Recommender, world: Catalog, conversations: list[Conversation]
) -> None:
    report = matching(recommender, conversations, samples=40, seed=1, catalog=world)
    cold = int(cold_tracks(world).sum())
    for constraint, found in report.matches.items():
        assert found["tracks"] == {"warm": len(world) - cold, "cold": cold}
        assert sum(found["exact"].values()) == pytest.approx(report.exact[constraint] * 40)
        partial = sum(sum(split.values()) for split in found["partial"].values())
        assert sum(found["exact"].values()) + partial + found["none"] == found["queries"]
    assert sum(report.matches["catalog"]["exact"].values()) == 40
    # random weights hardly hit a track by chance
    names = set(" + ".join(report.matches["grammar"]["partial"]).split(" + "))
    assert names <= set(recommender.tokenizer.config.modalities)
    assert names
    assert "in part, by" in report.summary()
