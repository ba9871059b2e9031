"""What a report holds beyond the ranking: labels, curves, slices, lists, replies, examples."""

from typing import Any

import numpy as np
import pytest
from evaluated_catalog import (
    GENRE,
    JAZZ,
    FakeRecommender,
    dialogue,
    evaluated_catalog,
    run,
    small_conversations,
    wanted,
)

from talkplay_hf.catalog.schema import Catalog, Conversation, Message
from talkplay_hf.errors import InputError
from talkplay_hf.evaluation.evaluate import evaluate


@pytest.fixture
def catalog() -> Catalog:
    return evaluated_catalog()


@pytest.fixture
def conversations() -> list[Conversation]:
    return small_conversations()


def test_a_baseline_that_is_named_twice_counts_once(
    catalog: Catalog, conversations: list[Conversation]
) -> None:
    report = evaluate(None, conversations, catalog, baselines=("random", "random"), resamples=20)
    assert list(report.ranking) == ["random"]


def test_baselines_are_evaluated_without_a_model(
    catalog: Catalog, conversations: list[Conversation]
) -> None:
    report = evaluate(None, conversations, catalog, baselines=("random", "bm25"), resamples=20)
    with_model = run(lambda m: [], conversations, catalog, baselines=("random", "bm25"))
    assert list(report.ranking) == ["random", "bm25"]
    assert report.differences == {}
    assert set(report.fit) == {"random", "bm25", "chance", "label"}
    assert report.hashes["model"] is None
    assert report.ranking_options == {}
    assert "talkplay" not in report.summary()
    means = {name: figure.value for name, figure in report.ranking["bm25"].items()}
    assert means == {name: f.value for name, f in with_model.ranking["bm25"].items()}
    assert report.examples[0]["answer"] == {"track": None, "reply": "", "meets_request": None}
    with pytest.raises(InputError, match="nothing to evaluate"):
        evaluate(None, conversations, catalog, baselines=())


def test_any_liked_track_is_right(catalog: Catalog) -> None:
    music = Message("music", track_id="t0", source="playlist", liked=("t3", "t1"))
    conversation = Conversation("c0", (Message("user", "please"), music), playlist_id="p0")
    report = run(lambda m: [("t4", 3.0), ("t3", 2.0), ("t1", 1.0)], [conversation], catalog)
    found = {name: figure.value for name, figure in report.ranking["talkplay"].items()}
    assert found["mrr"] == pytest.approx(1 / 2)
    assert (found["hit@1"], found["hit@10"]) == (0, 1)
    # of three right tracks two are found, at the second and third place
    ideal = 1 + 1 / np.log2(3) + 1 / 2
    assert found["ndcg@10"] == pytest.approx((1 / np.log2(3) + 1 / 2) / ideal)
    # chance: the first of three right ones among five
    first = 3 / 5 + 2 / 5 * 3 / 4 / 2 + 2 / 5 * 1 / 4 / 3
    assert report.ranking["random"]["mrr"].value == pytest.approx(first)


def test_the_hit_curve_rises_to_the_hits(
    catalog: Catalog, conversations: list[Conversation]
) -> None:
    everything = [(t, float(-i)) for i, t in enumerate(GENRE)]
    report = run(lambda m: everything, conversations, catalog, k=5)
    curve = {level: figure.value for level, figure in report.hit_curve["talkplay"].items()}
    # the labels stand at 1, 2 (after t0 is gone), 5 and 2
    assert curve == {1: 0.25, 2: 0.75, 5: 1.0}
    assert curve[1] == report.ranking["talkplay"]["hit@1"].value


def test_differences_have_a_p(catalog: Catalog) -> None:
    many = [dialogue(f"c{i}", ("t2", "playlist", JAZZ)) for i in range(20)]
    better = run(lambda m: [(wanted(m), 0.0)], many, catalog, resamples=200)
    assert better.differences["random"]["mrr"].p == pytest.approx(1 / 201)
    same = run(lambda m: [(t, 0.0) for t in GENRE], many, catalog, resamples=200)
    assert same.differences["random"]["mrr"].p == 1
    assert "*" in better.summary().split("talkplay minus")[1].split("request fit")[0]


def test_slices_hold_the_turns_of_their_kind(
    catalog: Catalog, conversations: list[Conversation]
) -> None:
    report = run(lambda m: [("t0", 1.0)], conversations, catalog)
    first, later = report.slices["first turn"], report.slices["later turns"]
    assert (first["talkplay"]["mrr"].value, later["talkplay"]["mrr"].value) == (0.5, 0)
    assert first["random"]["mrr"].n + later["random"]["mrr"].n == report.turns


def test_lists_of_one_track_cover_one_track(
    catalog: Catalog, conversations: list[Conversation]
) -> None:
    report = run(lambda m: [("t3", 1.0)], conversations, catalog)
    assert report.lists["talkplay"]["coverage@10"] == pytest.approx(1 / 5)
    assert report.lists["talkplay"]["gini@10"] == pytest.approx(1 - 1 / 5)
    assert report.lists["random"]["coverage@10"] == 1
    assert "talkplay" not in run(lambda m: [], conversations, catalog).lists


def test_lists_are_as_long_as_the_rankings_are_deep(
    catalog: Catalog, conversations: list[Conversation]
) -> None:
    lists = run(lambda m: [("t3", 1.0)], conversations[:1], catalog, k=1).lists
    assert set(lists["talkplay"]) == {"coverage@1", "gini@1", "popularity_rank@1", "artists@1"}
    # one track for each of two turns, as the model has, not the whole ranking
    assert lists["popularity"]["coverage@1"] <= 2 / 5


def test_replies_are_measured_on_request(
    catalog: Catalog, conversations: list[Conversation]
) -> None:
    model = FakeRecommender(catalog, lambda m: [(wanted(m), 0.0)])
    options: dict[str, Any] = {"baselines": (), "examples": 0, "resamples": 20, "seed": 5}
    assert evaluate(model, conversations, catalog, **options).replies == {}
    assert model.replied == []
    report = evaluate(model, conversations, catalog, replies=3, **options)
    assert len(set(model.replied)) == 3
    assert set(model.replied) < {5, 6, 7, 8}
    assert set(report.replies) == {"talkplay", "label"}
    assert report.replies["talkplay"]["title"].n == 3
    # "Here is t0." against three times "Here it is."
    ours, theirs = report.replies["talkplay"], report.replies["label"]
    assert ours["distinct-1"] > theirs["distinct-1"]


def test_examples_are_turns_of_different_conversations(
    catalog: Catalog, conversations: list[Conversation]
) -> None:
    report = run(lambda m: [("t2", 0.0)], conversations, catalog, baselines=("popularity",))
    assert {one["conversation"] for one in report.examples} == {"c0", "c1"}
    again = run(lambda m: [("t2", 0.0)], conversations, catalog, baselines=("popularity",))
    assert again.examples == report.examples
    assert len(run(lambda m: [], conversations, catalog, examples=1).examples) == 1
    one = next(one for one in report.examples if one["conversation"] == "c1")
    asked = one["history"][-1]["content"]
    assert one["truth"]["track"]["title"] == f"Title {asked.removeprefix('please, ')}"
    assert one["truth"]["reply"] == "Here it is."
    assert one["answer"]["track"]["title"] == "Title t2"
    assert one["answer"]["reply"] == f"Here is {asked.removeprefix('please, ')}."
    if one["turn"] == 1:
        assert one["others"]["popularity"]["title"] == "Title t4"
    fits = {"t4": True, "t1": None}  # t2 is of the nineties; t1 is asked for without a constraint
    assert one["answer"]["meets_request"] == fits[asked.removeprefix("please, ")]


def test_another_bootstrap_seed_moves_the_intervals_alone(
    catalog: Catalog, conversations: list[Conversation]
) -> None:
    many = [*conversations, dialogue("c2", ("t3", "playlist", JAZZ))]
    first = run(lambda m: [("t0", 0.0)], many, catalog).to_dict()
    other = run(lambda m: [("t0", 0.0)], many, catalog, bootstrap_seed=1).to_dict()
    assert (first["seed"], first["bootstrap_seed"], other["bootstrap_seed"]) == (0, 0, 1)
    ours, theirs = first["ranking"]["talkplay"]["mrr"], other["ranking"]["talkplay"]["mrr"]
    assert ours["value"] == theirs["value"]
    assert ours["low"] != theirs["low"] or ours["high"] != theirs["high"]
    assert first["examples"] == other["examples"]
