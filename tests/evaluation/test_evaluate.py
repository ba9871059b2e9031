"""A whole evaluation on a catalog small enough to reckon by hand."""

import json
import re
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
from evaluated_catalog import (
    GENRE,
    JAZZ,
    ROCK,
    FakeRecommender,
    dialogue,
    evaluated_catalog,
    run,
    small_conversations,
    wanted,
)

from talkplay_hf.catalog.schema import Catalog, Conversation, Track
from talkplay_hf.errors import InputError
from talkplay_hf.evaluation.baselines.base import BaselineSources, Ranker
from talkplay_hf.evaluation.baselines.registry import make_baseline
from talkplay_hf.evaluation.evaluate import evaluate
from talkplay_hf.recommend.options import BEAM_WIDTH, RankingOptions


@pytest.fixture
def catalog() -> Catalog:
    return evaluated_catalog()


@pytest.fixture
def conversations() -> list[Conversation]:
    return small_conversations()


def test_a_perfect_recommender_gets_one_everywhere(
    catalog: Catalog, conversations: list[Conversation]
) -> None:
    report = run(lambda m: [(wanted(m), 0.0)], conversations, catalog)
    assert report.turns == 4
    assert report.conversations == 2
    assert report.candidates == 5
    for metric in ("mrr", "hit@1", "hit@10", "hit@100"):
        figure = report.ranking["talkplay"][metric]
        assert (figure.value, figure.low, figure.high, figure.n) == (1, 1, 1, 4)
    for system in ("talkplay", "talkplay-chat", "label"):
        assert {kind: f.value for kind, f in report.fit[system].items()} == {
            "all": 1,
            "macro": 1,
            "era": 1,
            "genre": 1,
        }
    assert [figure.value for figure in report.mrr_by_turn["talkplay"].values()] == [1, 1]


def test_a_wrong_recommender_gets_zero(catalog: Catalog, conversations: list[Conversation]) -> None:
    wrong = {"t0": "t3", "t2": "t4", "t4": "t3", "t1": "t3"}
    report = run(lambda m: [(wrong[wanted(m)], 0.0)], conversations, catalog)
    assert all(figure.value == 0 for figure in report.ranking["talkplay"].values())
    assert report.fit["talkplay"]["all"].value == 0
    assert report.fit["talkplay-chat"]["all"].value == 0
    assert report.differences["random"]["hit@1"].value < 0


def test_fit_and_chance_by_hand(catalog: Catalog, conversations: list[Conversation]) -> None:
    # Always t0 before t2: fits ROCK; for JAZZ t0 was played, so t2 leads; fits the nineties.
    report = run(lambda m: [("t0", 1.0), ("t2", 0.0)], conversations, catalog)
    fit = {system: {k: f.value for k, f in kinds.items()} for system, kinds in report.fit.items()}
    assert fit["talkplay"] == {"all": 1, "macro": 1, "era": 1, "genre": 1}
    # The sampled answer is taken as given: t0 again, which is not jazz.
    assert fit["talkplay-chat"]["genre"] == 0.5
    # ROCK 2 of 5; JAZZ 2 of the 4 not yet played; the nineties 3 of 5.
    assert fit["chance"] == pytest.approx(
        {"all": (0.4 + 0.5 + 0.6) / 3, "macro": (0.45 + 0.6) / 2, "era": 0.6, "genre": 0.45}
    )
    assert fit["random"] == fit["chance"]
    assert report.fit["talkplay"]["all"].n == 3
    assert report.differences["random"]["fit"].value == pytest.approx(1 - 0.5)


def test_ties_of_the_model_share_the_ranks(
    catalog: Catalog, conversations: list[Conversation]
) -> None:
    report = run(lambda m: [("t0", 0.0), ("t2", 0.0)], conversations[:1], catalog)
    # Turn 1: t0 tied with t2. Turn 2: t0 was played, so t2 stands alone.
    assert report.mrr_by_turn["talkplay"][1].value == 0.75
    assert report.mrr_by_turn["talkplay"][2].value == 1
    assert report.ranking["talkplay"]["hit@1"].value == 0.75


def test_chance_has_its_exact_figures(catalog: Catalog, conversations: list[Conversation]) -> None:
    report = run(lambda m: [], conversations, catalog)
    assert report.ranking["random"]["hit@1"].value == pytest.approx((1 / 5 + 1 / 4) / 2)
    assert report.ranking["talkplay"]["mrr"].value == 0  # an empty list is not chance


def test_popularity_never_counts_the_playlists_under_test(
    catalog: Catalog, conversations: list[Conversation]
) -> None:
    # Of p0 (under test) and p1 only p1 counts, and it holds t4, the label of one turn in four.
    report = run(lambda m: [], conversations, catalog)
    first = report.mrr_by_turn["popularity"][1].value
    assert report.ranking["popularity"]["hit@1"].value == pytest.approx((1 + 0 + 0 + 1 / 4) / 4)
    assert first == pytest.approx((1 + (1 / 2 + 1 / 3 + 1 / 4 + 1 / 5) / 4) / 2)
    sources = BaselineSources(catalog, held_out=frozenset({"p1"}))
    hidden = run(lambda m: [], conversations, catalog, sources=sources)
    assert hidden.ranking["popularity"] == hidden.ranking["random"]


def test_played_tracks_are_never_ranked(
    catalog: Catalog, conversations: list[Conversation]
) -> None:
    everything = [(t, float(-i)) for i, t in enumerate(GENRE)]
    out = run(lambda m: everything, conversations[:1], catalog)
    assert [f.value for f in out.mrr_by_turn["talkplay"].values()] == [1, 1 / 2]
    kept = run(lambda m: everything, conversations[:1], catalog, exclude_played=False)
    assert kept.mrr_by_turn["talkplay"][2].value == pytest.approx(1 / 3)
    assert "less those played before" in out.summary()
    assert "less those played before" not in kept.summary()


@pytest.mark.parametrize("exclude_played", [True, False])
def test_the_model_has_the_same_candidates_as_the_baselines(
    exclude_played: bool, catalog: Catalog, conversations: list[Conversation]
) -> None:
    model = FakeRecommender(catalog, lambda m: [(wanted(m), 0.0)])
    evaluate(model, conversations, catalog, baselines=(), exclude_played=exclude_played)
    assert len(model.seeds) == 3
    assert model.excluded == {exclude_played}


def test_the_report_tells_how_the_model_ranks(
    catalog: Catalog, conversations: list[Conversation]
) -> None:
    report = run(lambda m: [], conversations, catalog)
    assert report.to_dict()["ranking_options"]["beam_width"] == BEAM_WIDTH
    assert f"talkplay ranks by beam search of width {BEAM_WIDTH}" in report.summary()
    assert run(lambda m: [], conversations, catalog, k=999).ranking_options["beam_width"] == 999


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (RankingOptions("exact"), "ranks exactly"),
        (RankingOptions("exact", names=True), "tracks that the request names come first"),
        (RankingOptions("sampling", "grammar", draws=7), "7 blocks sampled at temperature 1"),
        (RankingOptions("expansion", "none"), "one block sampled at temperature 1, top-p 0.9 with"),
    ],
)
def test_the_model_ranks_as_it_is_told(
    options: RankingOptions, said: str, catalog: Catalog, conversations: list[Conversation]
) -> None:
    model = FakeRecommender(catalog, lambda m: [])
    report = evaluate(model, conversations, catalog, seed=5, baselines=(), ranking=options)
    assert said in report.summary()
    assert model.options["strategy"] == report.ranking_options["strategy"] == options.strategy
    assert model.options["constraint"] == options.constraint
    assert model.options["names"] == options.names
    assert model.ranking_seeds == [5, 6, 7, 8]


def test_the_model_is_asked_for_k_tracks(
    catalog: Catalog, conversations: list[Conversation]
) -> None:
    model = FakeRecommender(catalog, lambda m: [(wanted(m), 0.0)])
    report = evaluate(model, conversations, catalog, k=2, baselines=(), resamples=5, seed=7)
    assert model.asked == [2, 2, 2, 2]
    assert model.seeds == [7, 8, 9]  # one sampled answer for each turn with constraints
    assert list(report.ranking["talkplay"]) == ["mrr", "hit@1"]


def test_a_rank_beyond_k_is_not_found_for_any_system(
    catalog: Catalog, conversations: list[Conversation]
) -> None:
    everything = [(t, float(-i)) for i, t in enumerate(GENRE)]
    report = run(lambda m: everything, conversations[1:], catalog, k=1)
    assert report.ranking["talkplay"]["mrr"].value == 0  # t4 stands fifth, t1 second
    assert report.ranking["random"]["mrr"].value == pytest.approx((1 / 5 + 1 / 4) / 2)


def test_negative_turns_are_apart_unless_asked_for(catalog: Catalog) -> None:
    conversations = [
        dialogue("c0", ("t0", "playlist", ROCK), ("t1", "negative", ROCK)),
        dialogue("c1", ("t2", "playlist", JAZZ)),
    ]
    only_t0 = run(lambda m: [("t0", 0.0)], conversations, catalog)
    both = run(lambda m: [("t0", 0.0)], conversations, catalog, include_negative=True)
    assert only_t0.skipped["negative"] == both.skipped["negative"] == 1
    assert only_t0.ranking == both.ranking
    assert only_t0.fit == both.fit
    assert only_t0.ranking_with_negatives == {}
    assert both.ranking["talkplay"]["mrr"].value == pytest.approx(1 / 2)
    assert both.ranking_with_negatives["talkplay"]["mrr"].value == pytest.approx(1 / 3)


def test_report_is_json_and_reproducible(
    catalog: Catalog, conversations: list[Conversation]
) -> None:
    first = run(lambda m: [("t0", 0.0)], conversations, catalog, baselines=("bm25",))
    again = run(lambda m: [("t0", 0.0)], conversations, catalog, baselines=("bm25",))
    assert first == again
    values = json.loads(json.dumps(first.to_dict(), allow_nan=False))
    assert set(values["ranking"]["bm25"]["mrr"]) == {"value", "low", "high", "n"}
    assert set(values["mrr_by_turn"]["talkplay"]) == {"1", "2"}
    assert values["skipped"]["negative"] == 0


def test_summary_is_an_aligned_table(catalog: Catalog, conversations: list[Conversation]) -> None:
    report = run(lambda m: [(wanted(m), 0.0)], conversations, catalog)
    text = report.summary()
    assert "4 turns of 2 conversations" in text
    assert "the 5 tracks of the catalog" in text
    tables = {}
    for block in text.strip().split("\n\n")[1:]:
        lines = block.splitlines()
        assert len({len(line) for line in lines}) == 1
        assert len(lines[0]) <= 140
        tables[re.split(r"\s{2,}", lines[0])[0]] = lines
    assert list(tables) == [
        "ranking",
        "talkplay minus",
        "request fit of the first track",
        "request fit by kind",
        "MRR by turn",
        "MRR by kind of turn",
        "hit curve",
        "the lists",
    ]
    assert [line.split()[0] for line in tables["ranking"][1:]] == list(report.ranking)
    assert "1.000 [1.000, 1.000]" in tables["ranking"][1]
    assert tables["hit curve"][1].split() == ["talkplay", *["1.000"] * 7]


def test_without_constraints_there_is_no_fit(catalog: Catalog) -> None:
    report = run(lambda m: [], [dialogue("c0", ("t0", "playlist", ()))], catalog)
    assert report.fit == {}
    assert "request fit" not in report.summary()
    assert report.ranking["random"]["mrr"].low is None  # one conversation: no interval


def test_bad_arguments_are_refused(catalog: Catalog, conversations: list[Conversation]) -> None:
    for options, message in [
        ({"limit": 0}, "limit 0"),
        ({"k": 0}, "k 0"),
        ({"resamples": 0}, "resamples 0"),
        ({"seed": -1}, "seed -1"),
        ({"bootstrap_seed": -1}, "bootstrap_seed -1"),
        ({"replies": -1}, "replies -1"),
        ({"examples": -1}, "examples -1"),
        ({"baselines": ("telepathy",)}, "'telepathy'"),
    ]:
        with pytest.raises(InputError, match=message):
            run(lambda m: [], conversations, catalog, **options)
    with pytest.raises(InputError, match=r"no turn .* not_in_catalog: 1"):
        run(lambda m: [], [dialogue("c0", ("x", "playlist", ()))], catalog)
    assert run(lambda m: [], conversations, catalog, limit=1).conversations == 1


def test_bad_arguments_are_refused_before_the_model_ranks(
    catalog: Catalog, conversations: list[Conversation]
) -> None:
    model = FakeRecommender(catalog, lambda m: [])
    with pytest.raises(InputError, match="resamples 0"):
        evaluate(model, conversations, catalog, resamples=0)
    assert model.asked == []


def test_baselines_never_learn_from_the_conversations_under_test(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    # of no playlist, so that holding out playlists does not hold them out
    tested, other = (
        replace(dialogue("c0", (track, "playlist", ())), playlist_id=None, split="train")
        for track in ("t0", "t1")
    )
    seen: list[BaselineSources] = []

    def make(name: str, sources: BaselineSources) -> Ranker:
        seen.append(sources)
        return make_baseline(name, sources)

    monkeypatch.setattr("talkplay_hf.evaluation.systems.make_baseline", make)
    sources = BaselineSources(catalog, conversations=(replace(tested, conversation_id="x"), other))
    evaluate(None, [tested], catalog, baselines=("random",), sources=sources)
    assert [source.training_conversations for source in seen] == [(other,)]


def test_a_model_of_another_catalog_is_refused(
    catalog: Catalog, conversations: list[Conversation]
) -> None:
    other = Catalog.from_tracks([Track("zz", "Z", "Z")])
    model = FakeRecommender(other, lambda m: [("zz", 0.0)])
    with pytest.raises(InputError, match="no track 'zz'"):
        evaluate(model, conversations, catalog, baselines=())


def test_more_turns_than_one_chunk_holds(catalog: Catalog) -> None:
    # The label is found, and fits, in the last quarter alone: the order of turns must survive.
    early = [dialogue(f"a{i}", ("t0", "playlist", JAZZ)) for i in range(75)]
    late = [dialogue(f"b{i}", ("t2", "playlist", JAZZ)) for i in range(25)]
    report = run(lambda m: [(wanted(m), 0.0)], early + late, catalog, baselines=())
    assert report.turns == report.fit["talkplay"]["all"].n == 100
    assert report.ranking["talkplay"]["hit@1"].value == 1
    for system in ("talkplay", "talkplay-chat", "label"):
        assert report.fit[system]["all"].value == 0.25


def test_no_answer_is_sampled_for_negative_turns(catalog: Catalog) -> None:
    model = FakeRecommender(catalog, lambda m: [(wanted(m), 0.0)])
    conversation = dialogue("c0", ("t1", "negative", ROCK), ("t0", "playlist", ROCK))
    evaluate(model, [conversation], catalog, baselines=(), include_negative=True)
    assert len(model.asked) == 2
    assert len(model.seeds) == 1


def test_a_folder_is_loaded(
    catalog: Catalog,
    conversations: list[Conversation],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    loaded = []

    class Recommender:
        @classmethod
        def from_pretrained(cls, name: str, device: str | None) -> FakeRecommender:
            loaded.append(name)
            return FakeRecommender(catalog, lambda m: [(wanted(m), 0.0)])

    module = ModuleType("talkplay_hf.recommend.recommender")
    module.Recommender = Recommender  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "talkplay_hf.recommend.recommender", module)
    report = evaluate(tmp_path, conversations, catalog, baselines=())
    assert loaded == [str(tmp_path)]
    assert report.ranking["talkplay"]["mrr"].value == 1
