"""Rankings that are kept: what finds them again, and what must not."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from evaluated_catalog import answer

from talkplay_hf.catalog.schema import Catalog, Conversation, Message, Playlist, Track
from talkplay_hf.errors import InputError
from talkplay_hf.evaluation.baselines.base import BaselineSources
from talkplay_hf.evaluation.cache import catalog_hash, folder_hash, sources_identity
from talkplay_hf.evaluation.evaluate import evaluate
from talkplay_hf.evaluation.report import EvaluationReport
from talkplay_hf.recommend.answers import Recommendation, ScoredTrack
from talkplay_hf.recommend.options import RankingOptions
from talkplay_hf.recommend.recommender import Recommender

TRACKS = [Track(f"t{i}", f"Title {i}", "Someone") for i in range(8)]
LISTS = [Playlist("p0", ("t0", "t1")), Playlist("p1", ("t2",))]


class CountingModel:
    """Ranks every track by its row, and counts its calls."""

    calls = 0
    turns = 0

    def __init__(self, catalog: Catalog) -> None:
        self.catalog = catalog

    def rank_batch(self, chats: Sequence[Any], **options: Any) -> list[list[ScoredTrack]]:
        CountingModel.calls += 1
        CountingModel.turns += len(chats)
        tracks = [self.catalog.track_at(row) for row in range(len(self.catalog))]
        return [[ScoredTrack(t, float(-i), ()) for i, t in enumerate(tracks)] for _ in chats]

    def chat_batch(self, chats: Sequence[Any], **options: Any) -> list[Recommendation]:
        CountingModel.calls += 1
        return [answer([self.catalog.track_at(0)], "Hm, “yes”.") for _ in chats]


@pytest.fixture
def catalog() -> Catalog:
    return Catalog.from_tracks(TRACKS, LISTS)


@pytest.fixture
def conversations() -> list[Conversation]:
    return [
        Conversation(
            f"c{i}",
            (
                Message("user", f"request {i}"),
                Message("music", track_id=f"t{i % 8}"),
                Message("assistant", "Here."),
            ),
            playlist_id="p0",
        )
        for i in range(150)
    ]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"weights")
    (folder / "README.md").write_text("card")
    return folder


Run = Callable[..., tuple[EvaluationReport, int]]


@pytest.fixture
def run(
    monkeypatch: pytest.MonkeyPatch,
    catalog: Catalog,
    conversations: list[Conversation],
    model: Path,
    tmp_path: Path,
) -> Run:
    """Evaluate with a cache; the report, and how often the model was called."""
    monkeypatch.setattr(
        Recommender, "from_pretrained", lambda name, device=None: CountingModel(catalog)
    )

    def evaluated(**changes: Any) -> tuple[EvaluationReport, int]:
        options: dict[str, Any] = {
            "conversations": conversations,
            "catalog": catalog,
            "baselines": ("popularity",),
            "resamples": 20,
            "cache": tmp_path / "cache",
            **changes,
        }
        before = CountingModel.calls
        report = evaluate(model, **options)
        return report, CountingModel.calls - before

    return evaluated


def test_a_second_run_asks_nothing(run: Run) -> None:
    first, calls = run()
    assert calls > 0
    again, calls = run()
    assert calls == 0
    assert again == first
    assert run(cache=None)[0] == first


def test_nothing_is_loaded_for_what_is_kept(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    run()

    def never(*args: object, **options: object) -> None:
        raise AssertionError("something was loaded")

    monkeypatch.setattr(Recommender, "from_pretrained", never)
    monkeypatch.setattr("talkplay_hf.evaluation.systems.make_baseline", never)
    run()


@pytest.mark.parametrize(
    "change",
    [
        {"bootstrap_seed": 3},
        {"resamples": 30},
        {"baselines": ("popularity", "random")},
        {"baselines": ()},
    ],
)
def test_figures_and_baselines_may_change_without_the_model(run: Run, change: Any) -> None:
    run()
    report, calls = run(**change)
    assert calls == 0
    assert report == run(**change, cache=None)[0]


@pytest.mark.parametrize(
    "change",
    [{"k": 5}, {"seed": 1}, {"ranking": RankingOptions("exact")}, {"exclude_played": False}],
)
def test_other_options_are_other_rankings(run: Run, change: Any) -> None:
    run()
    assert run(**change)[1] > 0


def test_a_changed_model_is_asked_again_and_a_changed_card_is_not(run: Run, model: Path) -> None:
    run()
    (model / "README.md").write_text("figures")
    assert run()[1] == 0
    (model / "model.safetensors").write_bytes(b"Weights")
    assert run()[1] > 0


def test_a_changed_catalog_is_asked_again(run: Run) -> None:
    run()
    renamed = [replace(TRACKS[0], title="Another"), *TRACKS[1:]]
    assert run(catalog=Catalog.from_tracks(renamed, LISTS))[1] > 0


def test_changed_code_of_baselines_makes_them_again_and_not_the_model(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def kept(name: str) -> int:
        return len(list((tmp_path / "cache").glob(f"{name}-*/*.safetensors")))

    monkeypatch.setattr("talkplay_hf.evaluation.cache.CODE", tmp_path / "code")
    (tmp_path / "code" / "__pycache__").mkdir(parents=True)
    (tmp_path / "code" / "popularity.py").write_text("scores = 1")
    run()
    rankings, chunks = kept("talkplay"), kept("popularity")
    (tmp_path / "code" / "__pycache__" / "popularity.pyc").write_bytes(b"compiled")
    run()
    assert kept("popularity") == chunks
    (tmp_path / "code" / "popularity.py").write_text("scores = 2")
    assert run()[1] == 0
    assert (kept("talkplay"), kept("popularity")) == (rankings, 2 * chunks)


def test_more_conversations_ask_for_the_new_ones_alone(
    run: Run, conversations: list[Conversation]
) -> None:
    run(conversations=conversations[:128])
    before = CountingModel.turns
    run()
    assert CountingModel.turns - before == len(conversations) - 128
    changed = [*conversations]
    changed[0] = replace(changed[0], messages=(Message("user", "other"), *changed[0].messages[1:]))
    before = CountingModel.turns
    run(conversations=changed)
    assert CountingModel.turns - before == 64


def test_a_damaged_chunk_is_made_again(run: Run, tmp_path: Path) -> None:
    first, _ = run()
    kept = (tmp_path / "cache").glob("talkplay-*/000000-*.safetensors")
    # rankings are larger than answers
    chunk = max(kept, key=lambda path: path.stat().st_size)
    chunk.write_bytes(chunk.read_bytes()[:40])
    before = CountingModel.turns
    again, _ = run()
    assert CountingModel.turns - before == 64
    assert again == first


def test_an_object_cannot_be_cached(
    catalog: Catalog, conversations: list[Conversation], tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="folder or the Hub id"):
        evaluate(CountingModel(catalog), conversations, catalog, cache=tmp_path)  # type: ignore[arg-type]


def test_sources_are_told_apart_by_what_they_hold(catalog: Catalog, tmp_path: Path) -> None:
    folder = tmp_path / "features"
    folder.mkdir()
    (folder / "semantic.safetensors").write_bytes(b"1")
    plain = BaselineSources(catalog, features=folder)
    first = sources_identity(plain)
    assert sources_identity(replace(plain, device="cuda")) == first
    prompted = replace(plain, query_prompt="tests", encoder=str(tmp_path / "absent"))
    assert sources_identity(prompted)["query_prompt"] == "tests"
    others = [
        sources_identity(prompted),
        sources_identity(replace(plain, held_out=frozenset({"p0"}))),
        sources_identity(replace(plain, seed=1)),
        sources_identity(replace(plain, encoder="minilm")),
        sources_identity(replace(plain, conversations=(Conversation("c", ()),))),
        sources_identity(replace(plain, catalog=Catalog.from_tracks(TRACKS[1:]))),
    ]
    (folder / "semantic.safetensors").write_bytes(b"2")
    others.append(sources_identity(plain))
    assert all(one != first for one in others)


def test_hashes_know_content_not_place(catalog: Catalog, tmp_path: Path) -> None:
    catalog.save(tmp_path / "a")
    catalog.save(tmp_path / "b")
    loaded = [Catalog.load(tmp_path / name) for name in "ab"]
    assert catalog_hash(loaded[0]) == catalog_hash(loaded[1])
    assert folder_hash(tmp_path / "a") == folder_hash(tmp_path / "b")
    (tmp_path / "b" / "plot.png").write_bytes(b"")
    assert folder_hash(tmp_path / "a") == folder_hash(tmp_path / "b")
    (tmp_path / "b" / "more.json").write_bytes(b"")
    assert folder_hash(tmp_path / "a") != folder_hash(tmp_path / "b")


SCRIPT = """
import os, signal, sys
from talkplay_hf.catalog.schema import Catalog, Conversation, Message
from talkplay_hf.evaluation.evaluate import evaluate
from talkplay_hf.evaluation.baselines.popularity import RandomRanker

done = 0
scores = RandomRanker.scores

def slow(self, histories):
    global done
    done += len(histories)
    if sys.argv[3] == "die" and done > 100:
        os.kill(os.getpid(), signal.SIGKILL)
    return scores(self, histories)

RandomRanker.scores = slow
catalog = Catalog.load(sys.argv[1])
names = catalog.track_ids
talks = [
    Conversation(f"c{i}", (Message("user", "go"), Message("music", track_id=names[i % 5])))
    for i in range(150)
]
evaluate(None, talks, catalog, baselines=("random",), resamples=5, cache=sys.argv[2])
print(done)
"""


@pytest.mark.slow
def test_a_killed_run_goes_on_where_it_was(catalog: Catalog, tmp_path: Path) -> None:
    catalog.save(tmp_path / "catalog")

    def run(how: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", SCRIPT, tmp_path / "catalog", tmp_path / "cache", how]
        return subprocess.run(
            [*map(str, command)],
            capture_output=True,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            check=False,
        )

    assert run("die").returncode == -signal.SIGKILL
    after = run("live")
    assert after.returncode == 0, after.stderr
    assert int(after.stdout) == 150 - 64
