"""The page: everything is escaped, nothing is fetched, and what should be on it is."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from page_reader import PageReader, read_page
from plain_talks import plain_talks

from talkplay_hf.catalog.schema import Catalog, Conversation, Message, Track
from talkplay_hf.conversations.quality.page import write_page
from talkplay_hf.conversations.quality.report import quality_report
from talkplay_hf.errors import InputError

TRICKY = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "</style></head>{{ 7 * 7 }}{% raw %}",
    "مرحبا \u202e right to left",
    "w" * 5000,
    "line\nbreak \x00\x1b[31m \ud800",
    "&amp; &lt;b&gt; ' ` \\",
)


def read(path: Path) -> PageReader:
    return read_page(path, unread=("style", "title"))


@pytest.fixture(scope="module")
def report(world: Catalog) -> dict[str, Any]:
    return quality_report(plain_talks(world, 20), world)


def test_the_page_shows_conversations_tracks_and_figures(
    world: Catalog, report: dict[str, Any], tmp_path: Path
):
    talks = plain_talks(world, 20)
    write_page(tmp_path / "page.html", talks, world, report, title="Small talks", count=6)
    page = read(tmp_path / "page.html")
    shown = [one for one in talks if f"{one.conversation_id}train" in page.text]
    assert len(shown) == page.classes.count("talk") == 6
    for message in (message for one in shown for message in one.messages):
        if message.track_id is None:
            assert message.content in page.text
        else:
            track = world.track(message.track_id)
            assert f"{track.title}{track.artist}" in page.text
            assert track.album is None or track.album in page.text
    assert "Small talks" in page.text
    assert "20conversations" in page.text.replace("\n", "")
    assert "refused" not in page.text
    assert "svg" in page.tags


def test_the_same_input_gives_the_same_bytes(
    world: Catalog, report: dict[str, Any], tmp_path: Path
):
    pages = []
    for seed in (0, 0, 1):
        write_page(tmp_path / "p.html", plain_talks(world, 20), world, report, count=3, seed=seed)
        pages.append((tmp_path / "p.html").read_bytes())
    assert pages[0] == pages[1] != pages[2]


@pytest.mark.parametrize("text", TRICKY)
def test_tricky_texts_stay_texts(text: str, report: dict[str, Any], tmp_path: Path):
    clean = text.encode("utf-8", "replace").decode()  # as Arrow would have it
    track = Track("t", clean, clean, album=clean, tags=(clean,), key=clean)
    one = Conversation(
        text,
        (
            Message("system", text),
            Message("user", text),
            Message("music", track_id="t", source="negative"),
            Message("assistant", text),
            Message("music", track_id=text),
        ),
        playlist_id=text,
        split="train",
        language=text,
    )
    row = {"piece_id": text, "reasons": [text], "details": [text], "answer": text}
    judge = {
        "model": text,
        "judged": 1,
        "scale": [1, 5],
        "scores": {"overall": {"mean": 3.0, "low": 2.0, "high": 4.0}},
    }
    catalog = Catalog.from_tracks([track])
    page_of = tmp_path / "page.html"
    write_page(page_of, [one], catalog, report, quarantine=[row], judge=judge, title=text)
    page = read(page_of)
    if len(text) < 100 and text.isprintable():
        assert page.text.count(text) >= 10
    assert "not in the catalog" in page.text


@given(text=st.text(max_size=60))
@settings(
    deadline=None,
    max_examples=25,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_any_text_leaves_the_page_whole(text: str, report: dict[str, Any], tmp_path: Path):
    one = Conversation(text, (Message("user", text), Message("music", track_id=text)))
    write_page(tmp_path / "page.html", [one], None, report, title=text)
    assert read(tmp_path / "page.html").classes.count("talk") == 1


def test_negative_tracks_and_both_kinds_of_intents_are_marked(
    world: Catalog, report: dict[str, Any], tmp_path: Path
):
    track_id = world.track_ids[0]
    one = Conversation(
        "c",
        (
            Message("user", "zzz", intents=("open", "mood")),
            Message("music", track_id=track_id, source="negative"),
            Message("assistant", "Here."),
            Message("user", "Thanks, now some jazz."),
            Message("music", track_id=track_id, source="playlist"),
            Message("assistant", "Here."),
        ),
    )
    write_page(tmp_path / "page.html", [one], world, report)
    page = read(tmp_path / "page.html")
    assert page.classes.count("negative") == 1
    assert page.text.count("negative set") == 1
    foreign = dataclasses.replace(one, language="fr")
    write_page(tmp_path / "fr.html", [foreign], world, report)
    assert page.classes.count("found") >= 2
    assert read(tmp_path / "fr.html").classes.count("found") == 0


def test_refused_answers_stand_with_their_reasons(
    world: Catalog, report: dict[str, Any], tmp_path: Path
):
    rows = [
        {
            "piece_id": f"piece-{n}",
            "reasons": ["refused_by_model"],
            "details": ["no list"],
            "answer": a,
        }
        for n, a in enumerate(["Sure! [", None] * 10)
    ]
    path = tmp_path / "page.html"
    write_page(path, plain_talks(world, 3), world, report, quarantine=rows)
    page = read(path)
    assert "12 of 20 refused answers" in page.text
    assert page.text.count("refused_by_model") == 12
    assert "the model or its provider would not answer" in path.read_text(encoding="utf-8")
    assert page.text.count("Sure! [") == 6
    assert "piece-11" in page.text
    assert "piece-12" not in page.text


def test_rates_and_ratings_are_drawn_where_there_are_any(world: Catalog, tmp_path: Path):
    talks = plain_talks(world, 4)
    synthesis = {"pieces": 4, "kept": 3, "calls": 5, "attempts": {"1": 4}}
    synthesis |= {"first_reasons": {"wrong_title": 1}}
    judge = {
        "model": "a judge",
        "judged": 4,
        "scale": [1, 5],
        "scores": {"relevance": {"mean": 4.5, "low": 4.0, "high": 4.75}},
    }
    report = quality_report(talks, world, synthesis=synthesis)
    write_page(tmp_path / "page.html", talks, world, report, judge=judge)
    text = read(tmp_path / "page.html").text
    assert "75.0 %" in text
    assert "wrong title" in text
    assert "Rated by a judge" in text
    assert "4.50" in text


def test_an_empty_dataset_has_a_page(tmp_path: Path):
    write_page(tmp_path / "page.html", [], None, quality_report([]))
    assert "0 conversations" in read(tmp_path / "page.html").text


def test_showing_nothing_is_refused(world: Catalog, report: dict[str, Any], tmp_path: Path):
    with pytest.raises(InputError):
        write_page(tmp_path / "page.html", [], world, report, count=0)
    assert not (tmp_path / "page.html").exists()
