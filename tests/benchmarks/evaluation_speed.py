"""What the evaluation adds to the time of the model that it evaluates.

    python tests/benchmarks/evaluation_speed.py --turns 13000 --tracks 40000

A model that lists 100 tracks a turn at random and does nothing else, and a baseline whose scores
are random too, over turns with requests: the whole evaluation, and the time in the two themselves.
A real model takes tens of milliseconds a turn, so the harness should take far less.
"""

import argparse
import time
from collections.abc import Sequence
from typing import Any
from unittest.mock import patch

import numpy as np

from talkplay_hf.catalog.constraints import Constraint
from talkplay_hf.catalog.schema import Catalog, Conversation, Message, Playlist, Track
from talkplay_hf.evaluation import systems
from talkplay_hf.evaluation.evaluate import evaluate
from talkplay_hf.evaluation.metrics.ranking import FloatArray
from talkplay_hf.recommend.answers import Recommendation, ScoredTrack

LENGTH = 7
K = 100
WORDS = ("jazz", "rock", "folk", "pop", "soul", "blues", "metal", "disco")


class FakeModel:
    """Draws lists of tracks; `seconds` is what that took."""

    def __init__(self, tracks: list[Track]) -> None:
        self._tracks, self._rng = tracks, np.random.default_rng(0)
        self.seconds = 0.0

    def rank_batch(self, chats: Sequence[Any], **options: Any) -> list[list[ScoredTrack]]:
        started = time.process_time()
        lists = []
        for _ in chats:
            rows = self._rng.choice(len(self._tracks), K, replace=False).tolist()
            ranked = enumerate(self._tracks[row] for row in rows)
            lists.append([ScoredTrack(track, -float(at), ()) for at, track in ranked])
        self.seconds += time.process_time() - started
        return lists

    def chat_batch(self, chats: Sequence[Any], **options: Any) -> list[Recommendation]:
        started = time.process_time()
        answers = [Recommendation((self._tracks[0],), "", (), (), ()) for _ in chats]
        self.seconds += time.process_time() - started
        return answers


class FakeBaseline:
    """Scores of a table that was drawn once; `seconds` is what copying them took."""

    def __init__(self, tracks: int, *, tied: bool) -> None:
        rng = np.random.default_rng(0)
        self._table = np.zeros((64, tracks)) if tied else rng.random((64, tracks))
        self.seconds = 0.0

    def scores(self, histories: Sequence[Any]) -> FloatArray:
        started = time.process_time()
        scores = self._table[: len(histories)].copy()
        self.seconds += time.process_time() - started
        return scores


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=13_000)
    parser.add_argument("--tracks", type=int, default=40_000)
    parser.add_argument("--model-ms", type=float, default=50.0, help="a real model, a turn")
    args = parser.parse_args()
    tracks = [
        Track(f"t{i}", f"Title {i}", f"Artist {i % 999}", tags=(WORDS[i % 8],))
        for i in range(args.tracks)
    ]
    catalog = Catalog.from_tracks(tracks, [Playlist("p", tuple(t.track_id for t in tracks[:99]))])
    rng = np.random.default_rng(1)
    conversations = []
    for number in range(args.turns // LENGTH):
        messages = []
        for row in rng.choice(args.tracks, LENGTH, replace=False).tolist():
            wish = (Constraint("tags", "is", WORDS[row % 8]),)
            messages += [
                Message("user", f"play some {WORDS[row % 8]} " * 5, constraints=wish),
                Message("music", track_id=f"t{row}"),
                Message("assistant", "Here you are, something that you may like. " * 3),
            ]
        conversations.append(Conversation(f"c{number}", tuple(messages)))
    model = FakeModel(tracks)
    fakes = {
        "popularity": FakeBaseline(args.tracks, tied=False),
        "random": FakeBaseline(args.tracks, tied=True),
    }
    turns = LENGTH * len(conversations)
    print(f"{turns:,} turns, {args.tracks:,} tracks, top {K}; CPU seconds, one process\n")
    print("| systems | evaluation | in the systems | harness | harness a turn | "
          f"of a model of {args.model_ms:g} ms a turn |")  # fmt: skip
    print("|---|---|---|---|---|---|")
    with patch.object(systems, "make_baseline", lambda name, sources: fakes[name]):
        for name, whom, names in (
            ("model", model, ()),
            ("distinct scores", None, ("popularity",)),
            ("equal scores", None, ("random",)),
        ):
            model.seconds = fakes["popularity"].seconds = fakes["random"].seconds = 0.0
            started = time.process_time()
            evaluate(whom, conversations, catalog, baselines=names, k=K)  # type: ignore[arg-type]
            whole = time.process_time() - started
            inside = model.seconds + sum(fake.seconds for fake in fakes.values())
            each = (whole - inside) / turns * 1000
            print(
                f"| {name} | {whole:.1f} | {inside:.1f} | {whole - inside:.1f} | {each:.2f} ms | "
                f"{each / args.model_ms:.1%} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
