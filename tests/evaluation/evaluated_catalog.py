"""A catalog small enough to reckon by hand, and a recommender that does as it is told."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from talkplay_hf.catalog.constraints import Constraint
from talkplay_hf.catalog.schema import Catalog, Conversation, Message, Playlist, Track
from talkplay_hf.evaluation.evaluate import evaluate
from talkplay_hf.evaluation.report import EvaluationReport
from talkplay_hf.recommend.answers import Recommendation, ScoredTrack
from talkplay_hf.recommend.options import REPLY_TOKENS

GENRE = {"t0": "rock", "t1": "rock", "t2": "jazz", "t3": "jazz", "t4": "folk"}
YEAR = {"t0": "1991", "t1": "2005", "t2": "1992", "t3": "2006", "t4": "1993"}


def evaluated_catalog() -> Catalog:
    tracks = [
        Track(t, f"Title {t}", "Someone", release_date=YEAR[t], extra={"genre": GENRE[t]})
        for t in GENRE
    ]
    return Catalog.from_tracks(tracks, [Playlist("p0", ("t0", "t2")), Playlist("p1", ("t4",))])


def dialogue(name: str, *turns: tuple[str, str, tuple[Constraint, ...]]) -> Conversation:
    """A conversation of (track, source, constraints) turns from playlist p0."""
    messages = []
    for track_id, source, constraints in turns:
        messages += [
            Message("user", f"please, {track_id}", constraints=constraints),
            Message("music", track_id=track_id, source=source),
            Message("assistant", "Here it is."),
        ]
    return Conversation(name, tuple(messages), playlist_id="p0", split="test")


JAZZ = (Constraint("genre", "is", "jazz"),)
ROCK = (Constraint("genre", "is", "rock"),)
NINETIES = (Constraint("year", "ge", "1990"), Constraint("year", "lt", "2000"))


def small_conversations() -> list[Conversation]:
    return [
        dialogue("c0", ("t0", "playlist", ROCK), ("t2", "playlist", JAZZ)),
        dialogue("c1", ("t4", "playlist", NINETIES), ("t1", "playlist", ())),
    ]


@dataclass
class FakeRecommender:
    """Ranks what `pick` lists for the last user message, each place by its score."""

    catalog: Catalog
    pick: Callable[[Sequence[Message]], list[tuple[str, float]]]
    asked: list[int] = field(default_factory=list)
    seeds: list[int] = field(default_factory=list)
    replied: list[int] = field(default_factory=list)
    excluded: set[bool] = field(default_factory=set)
    ranking_seeds: list[int] = field(default_factory=list)
    options: dict[str, Any] = field(default_factory=dict)

    def rank_batch(
        self,
        chats: list[list[Message]],
        *,
        k: int,
        exclude_played: bool,
        seeds: list[int],
        **options: Any,
    ) -> list[list[ScoredTrack]]:
        assert all(messages[-1].role == "user" for messages in chats)
        self.asked += [k] * len(chats)
        self.ranking_seeds += seeds
        self.options = options
        self.excluded.add(exclude_played)
        return [
            [ScoredTrack(self.catalog.track(t), score, ()) for t, score in self.pick(messages)]
            for messages in chats
        ]

    def chat_batch(
        self,
        chats: list[list[Message]],
        *,
        seeds: list[int],
        exclude_played: bool,
        max_new_tokens: int,
    ) -> list[Recommendation]:
        assert max_new_tokens in (0, REPLY_TOKENS)
        if max_new_tokens:
            self.replied += seeds
        else:
            self.seeds += seeds
        self.excluded.add(exclude_played)
        return [
            answer(
                [self.catalog.track(t) for t, _ in self.pick(messages)[:1]],
                f"Here is {wanted(messages)}." if max_new_tokens else "",
            )
            for messages in chats
        ]


def answer(tracks: Sequence[Track], reply: str) -> Recommendation:
    return Recommendation(tuple(tracks), reply, (), (), ())


def wanted(messages: Sequence[Message]) -> str:
    return messages[-1].content.removeprefix("please, ")


def run(
    pick: Callable[[Sequence[Message]], list[tuple[str, float]]],
    conversations: list[Conversation],
    catalog: Catalog,
    **options: object,
) -> EvaluationReport:
    options = {"resamples": 50, "baselines": ("random", "popularity"), **options}
    return evaluate(FakeRecommender(catalog, pick), conversations, catalog, **options)  # type: ignore[arg-type]
