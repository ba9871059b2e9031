"""A recommender without a model: answers at once, remembers what it was asked."""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np

from talkplay_hf import Catalog, Message, TalkPlayError, Track
from talkplay_hf.catalog.matcher import ConstraintMatcher
from talkplay_hf.errors import NoTrackError
from talkplay_hf.recommend.answers import Recommendation, ScoredTrack
from talkplay_hf.recommend.rule_set import RuleSet

EVIL = "<img src=x onerror=alert(1)> <|eot_id|>"
MODALITIES = ("playlist", "semantic", "metadata", "lyrics", "audio")
TRACKS = [
    Track(
        "t1",
        "Lanterns",
        "Nova Quill",
        "Tides",
        "2014-05-02",
        ("calm", "folk"),
        tempo=82.0,
        key="C major",
        audio="audio/a.wav",
        extra={"explicit": False, "duration_ms": 183_400},
    ),
    Track("t/2 ?", EVIL, "<script>x</script>", tags=("<b>",), extra={"explicit": None}),
    Track(
        "t3",
        "Ember\nRoad",
        '=HYPERLINK("https://example.com")',
        "Coal, Ash",
        "1999",
        ("upbeat", "rock"),
        tempo=150.0,
        audio="https://example.com/a b.mp3",
        extra={"explicit": True, "duration_ms": None},
    ),
    Track("t4", "Ünïcode 夜の歌 🎵", "Zoë", None, "1984-01", ("folk",), tempo=120.0),
]


class FakeRecommender:
    """Plays the first track that the rules and the chat leave; `boom` breaks it."""

    examples = ("Something calm", "Something fast")

    def __init__(self, tracks: list[Track] = TRACKS) -> None:
        self.catalog = Catalog.from_tracks(tracks)
        self.seen: list[tuple[list[Message], dict[str, Any]]] = []
        self.tokenizer = SimpleNamespace(
            config=SimpleNamespace(modalities=MODALITIES),
            has_control_tokens=lambda text: "<|" in text,
            defuse=lambda text: text.replace("<|", "< |"),
        )
        self._matcher = ConstraintMatcher(self.catalog)

    @property
    def track_ids(self) -> list[str]:
        return self.catalog.track_ids

    def track(self, track_id: str) -> Track:
        return self.catalog.track(track_id)

    def codes(self, track_id: str) -> tuple[int, ...]:
        row = self.catalog.row(track_id)
        return (row, row + 1, row + 2, row + 3, row + 4)

    def chat(self, chat: Any, **options: Any) -> Recommendation:
        *_, answer = self.stream(chat, **options)
        return answer

    def stream(self, chat: Any, **options: Any) -> Iterator[Recommendation]:
        self.seen.append((list(chat), options))
        text = chat[-1].content
        if "boom" in text:
            raise RuntimeError("a secret detail")
        if "unreadable" in text:
            raise TalkPlayError("a reason\nand a second line")
        if "endless" in text:
            raise TalkPlayError("the message is too long: 9 tokens, 8 fit before the answer")
        rows = np.flatnonzero(self._mask(chat, options))[: options.get("tracks", 1)]
        tracks = tuple(self.catalog.track_at(int(row)) for row in rows)
        codes = tuple(self.codes(track.track_id) for track in tracks)
        words = f"Here is {tracks[0].title}".split(" ")
        for count in range(len(words) + 1):
            yield Recommendation(
                tracks,
                " ".join(words[:count]),
                codes,
                tuple(-1.0 - n for n in range(len(tracks))),
                (MODALITIES,) * len(tracks),
                len(tracks),
            )

    def rank(self, chat: Any, k: int = 10, **options: Any) -> list[ScoredTrack]:
        rows = np.flatnonzero(self._mask(chat, options))[:k]
        tracks = [self.catalog.track_at(int(row)) for row in rows]
        return [
            ScoredTrack(track, -float(place), self.codes(track.track_id), MODALITIES)
            for place, track in enumerate(tracks)
        ]

    def look_up(self, codes: Any, k: int = 10) -> list[ScoredTrack]:
        if not 0 <= max(codes) < 1024:
            raise TalkPlayError(f"codes {codes}: out of range")
        return [ScoredTrack(self.catalog.track_at(0), 0.0, tuple(codes), MODALITIES[:1])][:k]

    def _mask(self, chat: Any, options: dict[str, Any]) -> np.ndarray:
        played = [self.catalog.row(m.track_id) for m in chat if m.role == "music"]
        found = RuleSet(self._matcher, options.get("rules", ())).mask(played)
        mask = np.ones(len(self.catalog), dtype=bool) if found is None else found.copy()
        if options.get("exclude_played", True):
            mask[played] = False
        if not mask.any():
            raise NoTrackError("every track of the catalogue was played already")
        return mask
