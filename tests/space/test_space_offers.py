"""Several models and catalogues on one page: choosing, sharing, and being forgotten."""

import json
import logging
from dataclasses import replace

import gradio as gr
import pytest
from fake_recommender import TRACKS
from hypothesis import given
from hypothesis import strategies as st
from talkplay_space import page as pages
from talkplay_space import sharing
from talkplay_space.conversation import Conversation, RefusedError, Turn
from talkplay_space.offers import Offers, Served, distinct_names
from talkplay_space.settings import Choices, Settings
from test_space_page import Visitor

from talkplay_hf import Track
from talkplay_hf.recommend.recommender import Recommender
from talkplay_hf.recommend.saving import save_model_folder
from talkplay_hf.tokens.takedown import remove_tracks


@pytest.fixture(scope="module")
def offers(recommender: Recommender, tmp_path_factory) -> Offers:
    """Two models, the first with its catalogue and with half of it. They share their weights."""
    folder = tmp_path_factory.mktemp("offers")
    save_model_folder(recommender.model, recommender.tokenizer, folder / "model")
    remove_tracks(folder / "model", recommender.track_ids[::2], folder / "half")
    half = recommender.with_catalog(folder / "half")
    served = [("owls", "owls", recommender), ("owls", "half", half), ("larks", "larks", half)]
    return Offers([Served(*one) for one in served])


@pytest.fixture
def visitor(offers: Offers) -> Visitor:
    return Visitor(pages.Page(offers))


def held(visitor: Visitor, offers: Offers, number: int) -> None:
    """Give the visitor a conversation with a track of one half of the catalogue or the other."""
    track_id = offers[0].recommender.track_ids[number]
    conversation = Conversation((Turn("calm", (track_id,), reply="Here"),))
    codes = offers[0].recommender.codes
    visitor.visit = pages.Visit(sharing.with_codes(conversation, codes))


# --- choosing --------------------------------------------------------------------------------


def test_a_conversation_stays_where_the_new_catalogue_has_its_tracks(visitor, offers):
    held(visitor, offers, 1)
    told = visitor.press("choose", model="owls", catalog="half")
    assert visitor.visit.offer == 1
    assert [turn.text for turn in visitor.conversation.turns] == ["calm"]
    assert visitor.conversation.turns[0].codes == (
        offers[1].recommender.codes(offers[0].recommender.track_ids[1]),
    )
    assert told["tell"] == "Now with the model “owls” and the catalogue “half”."
    assert told["next"]["act"] == "why"
    visitor.press(**told["next"])
    assert visitor.why.count('data-act="code"') == 5


def test_a_new_conversation_begins_where_a_track_is_missing_and_a_line_says_so(visitor, offers):
    held(visitor, offers, 0)
    told = visitor.press("choose", model="larks", catalog="owls")
    assert visitor.visit == pages.Visit(offer=2)
    assert "A new conversation begins" in told["tell"]
    assert told["code"] == ""
    assert f"{len(offers[2].recommender.track_ids)} tracks" in visitor.feed
    visitor.press("say", text="calm")
    assert visitor.conversation.turns[0].track_ids[0] in offers[2].recommender.track_ids


def test_a_track_of_the_same_id_and_another_name_is_another_one(fake):
    other = type(fake)([Track(one.track_id, "Else", one.artist) for one in TRACKS])
    here, there = Offers([Served("a", "a", fake), Served("a", "b", other)])
    conversation = Conversation((Turn("calm", ("t1",)),))
    assert there.unknown(conversation) is None
    assert there.unknown(conversation, here) == 1


def test_a_model_narrows_the_catalogues(visitor, offers):
    visitor.press("choose", model="larks", catalog="larks")
    assert 'value="half"' not in visitor.chooser
    assert 'id="tp-catalog"' in visitor.chooser
    visitor.press("choose", model="owls", catalog="larks")
    assert visitor.visit.offer == 0
    assert 'value="half"' in visitor.chooser


@pytest.mark.parametrize(
    "names",
    [
        {"model": "no", "catalog": "owls"},
        {"model": "owls", "catalog": "no"},
        {"model": ["owls"], "catalog": {}},
        {"model": 7, "catalog": "\ud800"},
        {},
    ],
)
def test_unknown_names_choose_nothing(visitor, offers, names):
    held(visitor, offers, 0)
    before = visitor.visit
    told = visitor.press("choose", **names)
    assert visitor.visit.offer == before.offer
    assert told.get("problem", "There is no such").startswith("There is no such")
    assert visitor.conversation == before.conversation


def test_values_that_no_longer_fit_are_dropped():
    chosen = Settings(2, year_from=1990, year_to=1999, tags=("jazz", "Folk"), explicit=False)
    late = Choices(years=(1995, 2020), all_tags=frozenset({"folk"}), explicit=True, artists=2)
    assert chosen.fitted(late) == Settings(
        2, year_from=1990, year_to=1999, tags=("Folk",), explicit=False
    )
    assert chosen.fitted(Choices(years=(2000, 2020))).year_to is None
    assert chosen.fitted(Choices(years=(1950, 1960))).year_from is None
    assert chosen.fitted(Choices()) == Settings(2)
    assert chosen.fitted(Choices()).problem(Choices()) is None


def test_the_controls_offer_what_the_chosen_catalogue_has(fake):
    bare = type(fake)([Track("a", "A", "One")])
    page = pages.Page(Offers([Served("m", "all", fake), Served("m", "bare", bare)]))
    visitor = Visitor(page)
    visitor.press("choose", model="m", catalog="bare")
    looks = visitor.loaded
    assert not any(looks[name]["visible"] for name in ("year_from", "tags", "explicit"))
    visitor.press("choose", model="m", catalog="all")
    assert visitor.loaded["year_from"]["placeholder"] == "1984"
    assert visitor.loaded["tags"]["choices"][0] == "folk"
    assert visitor.loaded["tags"]["visible"]


# --- sharing ---------------------------------------------------------------------------------


def test_a_link_brings_model_and_catalogue_along(visitor, offers):
    held(visitor, offers, 1)
    visitor.press("choose", model="owls", catalog="half")
    code = visitor.press("link")["code"]
    assert json.loads(visitor.press("export", format="json")["file"]["text"])["catalog"] == "half"
    other = Visitor(visitor.page)
    other.press("load", code=code)
    assert other.visit.offer == 1
    assert "selected>half" in other.chooser


@pytest.mark.parametrize(
    ("number", "names", "offer"),
    [
        (1, ("gone", "gone"), 2),
        (0, ("gone", "gone"), 0),
        (1, ("larks", None), 2),
        (0, ("larks", "larks"), 0),
        (1, (None, None), 2),
    ],
)
def test_a_link_of_elsewhere_falls_back_to_what_has_its_tracks(
    visitor, offers, number, names, offer
):
    visitor.visit = pages.Visit(offer=2)
    track_id = offers[0].recommender.track_ids[number]
    shared = sharing.Shared(Conversation((Turn("x", (track_id,)),)), Settings(), *names)
    told = visitor.press("load", code=sharing.to_link(shared))
    assert visitor.visit.offer == offer
    assert visitor.conversation.played() == (track_id,)
    now = (offers[offer].model, offers[offer].catalog)
    assert ("Now with" in told.get("tell", "")) is any(
        name not in (None, one) for name, one in zip(names, now, strict=True)
    )


def test_a_link_whose_tracks_nobody_has_is_refused(visitor):
    shared = sharing.Shared(Conversation((Turn("x", ("forged",)),)), Settings(), "owls", "half")
    told = visitor.press("load", code=sharing.to_link(shared))
    assert "turn 1 plays a track that the catalogues here do not have" in told["problem"]
    assert visitor.visit == pages.Visit()


# --- a visitor whom the server has forgotten -------------------------------------------------


@pytest.mark.parametrize(
    ("act", "data"),
    [
        ("say", {"text": "more"}),
        ("retry", {}),
        ("react", {"turn": 0, "reaction": "like"}),
        ("undo", {}),
        ("why", {"turn": 0, "place": 0}),
        ("export", {"format": "csv"}),
        ("choose", {"model": "owls", "catalog": "half"}),
    ],
)
def test_a_forgotten_conversation_is_asked_for_and_goes_on(visitor, offers, act, data):
    held(visitor, offers, 1)
    code = visitor.press("link")["code"]
    visitor.values[visitor.page.controls.names.index("tracks")] = 2
    visitor.visit = pages.Visit()
    told = visitor.press(act, shown=1, **data)
    assert told == {"n": 7, "forgotten": True}
    assert visitor.visit == pages.Visit()
    told = visitor.press("restore", code=code)
    assert told["turns"] == 1
    assert visitor.loaded["tracks"]["value"] == 2, "the controls must stay as they are"
    told = visitor.press(act, shown=1, again=True, **data)
    assert "problem" not in told
    assert visitor.conversation.turns or act == "undo"


def test_without_its_code_a_forgotten_conversation_ends_politely(visitor):
    told = visitor.press("say", text="more", shown=3, again=True)
    assert "no longer has this conversation" in told["problem"]
    assert (told["turns"], told["restore"]) == (0, "more")
    assert "problem" not in visitor.press("new", shown=3)


def test_the_model_that_the_page_shows_outlives_being_forgotten(visitor, offers):
    visitor.press("say", text="calm", shown=0, shows={"model": "larks", "catalog": "larks"})
    assert visitor.visit.offer == 2
    other = Visitor(visitor.page)
    told = other.press("say", text="calm", shown=0, shows={"model": "forged"})
    assert told["problem"].startswith("There is no such model here; there are owls, larks")


# --- names -----------------------------------------------------------------------------------


def test_names_are_short_and_distinct():
    assert distinct_names(["me/owls", "you/owls", "me/larks"]) == ["me/owls", "you/owls", "larks"]
    assert distinct_names(["a/model", "a/model"]) == ["a/model", "a/model (2)"]
    assert distinct_names(["runs/a\n b"]) == ["a b"]


@given(st.lists(st.text("ab/. \n", max_size=8), max_size=6))
def test_any_names_are_distinct(places):
    names = distinct_names(places)
    assert len(names) == len(places)
    assert len(set(names)) == len(names)
    assert all(name == " ".join(name.split()) and name for name in names)


def test_no_pair_is_found_that_is_not_served(offers):
    assert offers.find("larks").number == 2
    assert offers.find(catalog="half").number == 1
    for names in (("larks", "owls"), ("", ""), (None, [])):
        with pytest.raises(RefusedError, match="There is no such"):
            offers.find(*names)


def test_what_the_first_visitor_would_wait_for_is_read_before(fake, monkeypatch):
    done = []
    fake.prepare = lambda: done.append("names")
    monkeypatch.setattr("talkplay_space.offers.swap_menus", lambda _: done.append("menus") or {})
    Offers([Served("a", "a", fake)]).warm()
    assert done == ["names", "menus"]


# --- hostile acts ----------------------------------------------------------------------------

ACTS = (
    *("say", "retry", "edit", "why", "swap", "swap-back", "react", "move", "remove"),
    *("undo", "export", "link", "new", "load", "restore", "choose", "", None, 7, ["why"]),
)
HOSTILE = (
    *(None, True, -1, 0, 7, 10**30, 1e308, float("nan"), float("inf"), "", "x", "٣", "\ud800"),
    *("9" * 5000, "\u202e\x00", "demo-0000000", "<b>", [], [1], {}, {"a": [1]}, "x" * 70_000),
)
KEYS = ("text", "turn", "place", "track", "by", "reaction", "modality", "code", "format")


@pytest.fixture(scope="module")
def talked(offers: Offers) -> Visitor:
    visitor = Visitor(pages.Page(offers))
    held(visitor, offers, 1)
    return visitor


@pytest.mark.parametrize("act", ACTS, ids=repr)
def test_no_act_ends_in_an_apology_or_a_traceback(talked, act, caplog, monkeypatch):
    # what the model makes of texts is another matter
    monkeypatch.setattr(talked.page, "_steps", lambda *_: no_answer())
    page, visit = talked.page, replace(talked.visit, turn=0)
    with caplog.at_level(logging.WARNING):
        for value in HOSTILE:
            everything = dict.fromkeys((*KEYS, "n", "shown", "shows", "model", "catalog"), value)
            for data in ({}, everything, *({key: value} for key in KEYS)):
                every_way(page, {"n": 7, **data, "act": act}, visit, talked.values)
    assert not caplog.records


def no_answer():
    raise RefusedError("No answer here.")
    yield


def every_way(page, data, visit, values):
    event = gr.EventData(None, data)
    for handle in (page.act, page.open, lambda *given: list(page.turn(*given))[-1]):
        *shown, told, _ = handle(event, visit, *values)[:5]
        json.dumps([*shown, told], ensure_ascii=False).encode()
        assert told.get("problem") != pages.APOLOGY
        assert told.get("problem", "Well.").endswith(".")
