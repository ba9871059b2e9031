"""The page of a report: sections appear with their data, words follow figures, nothing is injected
and nothing is fetched."""

import json
import re
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_report import SYSTEMS, example, figure, made_report, said, track
from page_reader import PageReader, read_page

from talkplay_hf.evaluation.page.write import PLOTS, page_sections, write_report

TRICKY = (
    "<script>alert(1)</script>",
    '"><img src=https://example.org/x onerror=alert(1)>',
    "![x](https://example.org/x.png) [y](javascript:alert(1))",
    "</style></svg></title>{{ 7 * 7 }}{% raw %}",
    "a | b\n\n# c\n> d `e` *f* ~~g~~ $h$",
    "line\nbreak \x00\x1b[31m \ud800",
    "&amp; &lt;b&gt; ' \\",
    "folk " * 900,
)
SECTIONS = {
    "ranking": "ranking", "differences": "differences", "turns": "mrr_by_turn",
    "depth": "hit_curve", "slices": "slices", "fit": "fit", "examples": "examples",
    "replies": "replies", "lists": "lists", "matching": "matching", "codebooks": "codebooks",
    "training": "training",
}  # fmt: skip


def written(report: dict[str, Any], folder: Path) -> PageReader:
    write_report(report, folder)
    return read_page(folder / "index.html")


def single(differences: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """A report with these differences and systems of them."""
    systems = {"talkplay": 0.3} | dict.fromkeys(differences, 0.2)
    return made_report(systems, differences=differences)


def verdict_of(reader: PageReader) -> str:
    text = " ".join(reader.text.split())
    return text.partition("candidate tracks")[2].partition("Every system ranks")[0]


def test_every_section_is_there_with_all_data(tmp_path: Path) -> None:
    reader = written(made_report(), tmp_path)
    assert {*SECTIONS, "conditions"} <= reader.ids
    assert set(reader.links) == {*SECTIONS, "conditions"}
    assert {path.name for path in tmp_path.iterdir()} == {"index.html", "report.md", *PLOTS}


@pytest.mark.parametrize("section", [name for name in SECTIONS if name != "ranking"])
def test_a_section_without_data_is_left_out_and_all_others_stay(
    section: str, tmp_path: Path
) -> None:
    write_report(made_report(), tmp_path)
    reader = written(made_report(**{SECTIONS[section]: None}), tmp_path)
    assert set(reader.links) == {*SECTIONS, "conditions"} - {section}
    shown = set(re.findall(r"\]\((\w+\.svg)\)", (tmp_path / "report.md").read_text()))
    # plots of what is gone are gone
    assert shown == {path.name for path in tmp_path.glob("*.svg")}


def test_empty_tables_count_as_absent(tmp_path: Path) -> None:
    gone = ("differences", "fit", "mrr_by_turn", "hit_curve", "slices", "lists", "replies")
    reader = written(
        made_report(**{key: {} for key in gone}, examples=[], ranking_with_negatives={}), tmp_path
    )
    assert set(reader.links) == {"ranking", "matching", "codebooks", "training", "conditions"}


def test_a_model_that_is_not_there_is_said_to_be_missing(tmp_path: Path) -> None:
    report = made_report()
    for name in ("ranking", "ranking_with_negatives", "mrr_by_turn", "hit_curve", "lists", "fit"):
        del report[name]["talkplay"]
    for table in report["slices"].values():
        del table["talkplay"]
    report |= {"differences": {}, "ranking_options": {}, "replies": {}}
    del report["matching"], report["training"], report["codebooks"]
    report["examples"] = [example(answer={"track": None, "reply": "", "meets_request": None})]
    reader = written(report, tmp_path)
    assert "The model is not among the systems; the best of them is rerank" in reader.text
    assert {"ranking", "turns", "depth", "slices", "fit", "examples"} <= reader.ids


def test_a_report_of_one_system_and_one_conversation_can_be_written(tmp_path: Path) -> None:
    alone = {"talkplay": {"mrr": figure(0.5, None, 1)}}
    report = made_report(
        {"talkplay": 0.5},
        conversations=1,
        ranking=alone,
        mrr_by_turn={"talkplay": {"1": figure(0.5, None, 1)}},
        hit_curve={"talkplay": {"1": figure(0.0, None, 1), "10": figure(0.0, None, 1)}},
        slices={"warm": alone},
        fit=None,
    )
    text = verdict_of(written(report, tmp_path))
    assert "There is no baseline to compare the model with." in text
    assert "These are 1 conversation only" in text


@pytest.mark.parametrize(
    ("value", "half", "words"),
    [
        (0.1, 0.05, "The model wins against the baseline bm25 on MRR."),
        (0.1, 0.2, "The model is tied with the baseline bm25 on MRR."),
        (-0.1, 0.2, "The model is tied with the baseline bm25 on MRR."),
        (-0.1, 0.05, "The model loses to the baseline bm25 on MRR."),
        (0.1, 0.1, "The model is tied with the baseline bm25 on MRR."),
        (0.1, None, "The model is tied with the baseline bm25 on MRR."),
    ],
)
def test_the_verdict_is_a_win_or_a_loss_only_where_the_interval_is_clear_of_zero(
    value: float, half: float | None, words: str, tmp_path: Path
) -> None:
    reader = written(single({"bm25": {"mrr": figure(value, half)}}), tmp_path)
    assert words in verdict_of(reader)


@pytest.mark.parametrize(("p", "result"), [(0.049, "wins against"), (0.05, "is tied with")])
def test_a_difference_that_fails_its_test_is_a_tie(p: float, result: str, tmp_path: Path) -> None:
    # of few conversations an interval is too narrow, and the test is not
    reader = written(single({"bm25": {"mrr": figure(0.1) | {"p": p}}}), tmp_path)
    assert f"The model {result} the baseline bm25 on MRR." in verdict_of(reader)


def test_the_verdict_names_who_is_beaten_who_is_tied_and_who_wins(tmp_path: Path) -> None:
    differences = {
        "bm25": {"mrr": figure(0.1), "hit@1": figure(0.1)},
        "dense": {"mrr": figure(0.01), "hit@1": figure(0.1)},
        "rerank": {"mrr": figure(-0.1), "hit@1": figure(0.1)},
    }
    text = verdict_of(written(single(differences), tmp_path))
    assert "6 comparisons in all, the model wins 4, ties 1 and loses 1." in text
    assert "the model wins against bm25; is tied with dense; loses to rerank." in text
    assert "Hit@1 is 0.180 (0.160 to 0.200): the model wins against all 3 baselines." in text
    # what puts several rankings together is set apart
    assert "Without rerank" in text
    assert "there are 4 comparisons: the model wins 3 and ties 1." in text


def test_a_baseline_that_is_told_the_request_is_not_passed_over_in_silence(tmp_path: Path) -> None:
    reader = written(single({"filter": {"mrr": figure(-0.1)}}), tmp_path / "a")
    assert "filter is told the request as rules" in verdict_of(reader)
    reader = written(single({"bm25": {"mrr": figure(-0.1)}}), tmp_path / "b")
    assert "filter" not in verdict_of(reader)


def test_cells_of_differences_are_coloured_as_the_verdict_says(tmp_path: Path) -> None:
    sections = page_sections(
        single({"a": {"mrr": figure(0.1)}, "b": {"mrr": figure(0)}, "c": {"mrr": figure(-0.1)}})
    )
    table = next(one for one in sections if one.name == "differences").tables[0]
    assert {row[0].text: row[1].tone for row in table.rows} == {"a": "win", "b": "tie", "c": "loss"}


def test_the_fictional_catalog_and_a_small_pool_are_said(tmp_path: Path) -> None:
    reader = written(made_report(catalog_kind="demo world", candidates=300), tmp_path)
    text = verdict_of(reader)
    assert "fictional demo world: no figure here is a statement about real music" in text
    assert "100 of its 300 tracks are in every ranking" in text
    assert "fictional" not in verdict_of(written(made_report(), tmp_path))


def test_the_best_of_each_column_is_marked_and_equals_are_marked_alike(tmp_path: Path) -> None:
    tables = page_sections(made_report({"talkplay": 0.3, "bm25": 0.3, "dense": 0.1}))[0].tables
    best = {row[0].text: [cell.best for cell in row[1:]] for row in tables[0].rows}
    assert best == {"bm25": [True] * 6, "talkplay": [True] * 6, "dense": [False] * 6}


@pytest.mark.parametrize("text", TRICKY)
def test_text_of_users_and_catalogs_adds_no_markup(text: str, tmp_path: Path) -> None:
    odd = track(text, text, text, "folk")
    one = example(
        conversation=text,
        history=[said("user", text), said("music", text, odd), said("music", text)],
        truth={"track": odd, "reply": text},
        answer={"track": odd, "reply": text, "meets_request": False},
        others={"bm25": odd, text[:30]: odd},
    )
    plain = written(made_report(), tmp_path / "plain")
    report = made_report(examples=[one], catalog_kind=text, hashes={text[:30]: text})
    reader = written(report, tmp_path)
    assert reader.tags <= plain.tags
    markdown = (tmp_path / "report.md").read_text(encoding="utf-8")
    images = re.findall(r"(?<!\\)!\[", markdown)
    assert len(images) == len(PLOTS)
    assert not re.search(r"(?<!\\)\]\((?!\w+\.svg\))", markdown)
    assert not re.search(r"(?<!\\)<", markdown)
    assert "://" not in markdown


def test_names_of_systems_add_no_markup_to_charts(tmp_path: Path) -> None:
    names = {"talkplay": 0.3, "<b>&\"'": 0.2, "]]>--": 0.1}
    written(made_report(names), tmp_path)
    for path in tmp_path.glob("*.svg"):
        assert "b" not in {element.tag for element in ET.parse(path).iter()}


@settings(max_examples=15)
@given(text=st.text(max_size=60))
def test_any_text_gives_a_page_that_holds_it(
    text: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    one = example(history=[said("user", f"start {text} end")])
    gone = ("differences", "mrr_by_turn", "hit_curve", "slices", "fit", "matching", "training")
    report = made_report({"talkplay": 0.3}, examples=[one], **dict.fromkeys(gone))
    reader = written(report, tmp_path_factory.mktemp("page"))
    assert "start" in reader.text
    assert "end" in reader.text


def test_words_that_request_and_track_share_are_marked_and_no_others(tmp_path: Path) -> None:
    reader = written(made_report(), tmp_path)
    assert {word.lower() for word in reader.marked} == {"upbeat", "folk", "mellow"}
    # "mellow" is linked by what a rival would play only; with no rival it is not
    alone = written(made_report(examples=[example(others={})]), tmp_path / "alone")
    assert {word.lower() for word in alone.marked} == {"upbeat", "folk"}
    markdown = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert "more **upbeat** and **folk**-inspired, please" in markdown


def test_what_an_answer_is_is_told(tmp_path: Path) -> None:
    same = example(answer={**example()["truth"], "meets_request": None})
    wrong = example(answer={**example()["answer"], "meets_request": False})
    heads = []
    for one in (same, example(), wrong):
        page = written(made_report(examples=[one]), tmp_path).text
        told = page.partition("The model answers")[2].partition("The model minus")[0]
        heads.append(" ".join(told.split())[:40])
    assert heads[0].startswith("the same track Kettle Dance")
    assert heads[1].startswith("meets the request Hay & Thunder")
    assert heads[2].startswith("does not meet the request Hay")


def test_plots_are_well_formed_alone_and_have_alternative_texts(tmp_path: Path) -> None:
    reader = written(made_report(), tmp_path)
    assert len(reader.alts) == len(PLOTS)
    assert all(len(alt) > 20 for alt in reader.alts)
    for name in PLOTS:
        text = (tmp_path / name).read_text(encoding="utf-8")
        root = ET.fromstring(text)
        assert root.tag == "{http://www.w3.org/2000/svg}svg"
        assert root.attrib["aria-label"] in reader.alts
        assert "prefers-color-scheme:dark" in text
        assert "nan" not in text
        assert not re.search(r"url\(|@import|href", text)


def test_every_system_is_in_the_legend_with_a_look_of_its_own(tmp_path: Path) -> None:
    write_report(made_report(), tmp_path)
    root = ET.parse(tmp_path / "mrr_by_turn.svg").getroot()
    texts = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert set(SYSTEMS) <= set(texts)
    paths = [e.attrib for e in root.iter("{http://www.w3.org/2000/svg}path")]
    looks = {
        (e["class"], e.get("stroke-dasharray")) for e in paths if e["class"].startswith("c-line")
    }
    assert len(looks) == len(SYSTEMS)


def test_turn_numbers_that_few_conversations_reach_are_not_drawn(tmp_path: Path) -> None:
    by_turn = {
        name: {"1": figure(0.3, 0.1, 100), "2": figure(0.2, 0.1, 40), "3": figure(0.9, 0.1, 9)}
        for name in ("talkplay", "bm25")
    }
    write_report(made_report({"talkplay": 0.3, "bm25": 0.2}, mrr_by_turn=by_turn), tmp_path)
    assert "talkplay, 2: 0.200" in (tmp_path / "mrr_by_turn.svg").read_text()
    assert "talkplay, 3:" not in (tmp_path / "mrr_by_turn.svg").read_text()
    assert "turn 3 (n=9)" in (tmp_path / "report.md").read_text(encoding="utf-8")


def test_bars_of_matches_sum_to_all_samples(tmp_path: Path) -> None:
    write_report(made_report(), tmp_path)
    text = (tmp_path / "matching.svg").read_text(encoding="utf-8")
    shares = re.findall(r"<title>(\w+), [^:]*: ([\d.]+)%</title>", text)
    for constraint in ("none", "grammar", "catalog"):
        total = sum(float(share) for name, share in shares if name == constraint)
        assert total == pytest.approx(100, abs=0.5)


def test_the_same_report_gives_the_same_bytes_also_after_json(tmp_path: Path) -> None:
    report = made_report()
    write_report(report, tmp_path / "a")
    write_report(json.loads(json.dumps(report, sort_keys=True)), tmp_path / "b")
    files = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert files == sorted(path.name for path in (tmp_path / "b").iterdir())
    for name in files:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_conditions_are_in_the_page(tmp_path: Path) -> None:
    text = " ".join(written(made_report(), tmp_path).text.split())
    assert "the 39,471 tracks of the catalog, less those played before in the chat" in text
    assert "rankings are cut at 100" in text
    assert "31 negative, 4 not in catalog, 2 played before" in text
    assert "a" * 64 in text
    played = written(made_report(exclude_played=False), tmp_path).text
    assert "less those played before" not in played
