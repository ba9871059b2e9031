"""The panel that says why: what it tells, that it is escaped, and that it reads aloud."""

import re
from collections.abc import Sequence
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from talkplay_space.why import MOST_CODES, Swap, swap_menus, swap_view, why_panel

from talkplay_hf import Recommender, TalkPlayError, Track
from talkplay_hf.recommend.answers import ScoredTrack
from talkplay_hf.recommend.explain import CodeMeaning, Explanation, FoundTrack

MODALITIES = ("playlist", "semantic", "metadata", "lyrics", "audio")
VOID = {"meta", "br", "input", "img", "link", "hr"}
EVIL = "\"><img src=x onerror='alert(1)'><script>x</script> <|eot_id|> &lt;b&gt; \u202eabc"
CALM = Track("t1", "Lanterns", "Nova Quill")
ROCK = Track("t2", "Ember Road", "Coal")


class Page(HTMLParser):
    """The elements of some HTML, as (tag, attributes, text inside), and that they nest."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None], list[str]]] = []
        self._open: list[int] = []
        self.feed(html)
        self.close()
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len({name for name, _ in attrs}) == len(attrs)
        self.elements.append((tag, dict(attrs), []))
        if tag not in VOID:
            self._open.append(len(self.elements) - 1)

    def handle_endtag(self, tag: str) -> None:
        assert self.elements[self._open.pop()][0] == tag

    def handle_data(self, data: str) -> None:
        for at in self._open:
            self.elements[at][2].append(data)

    def all(self, tag: str = "", **attrs: str) -> list[tuple[dict[str, str | None], str]]:
        wanted = {name.strip("_").replace("_", "-"): value for name, value in attrs.items()}
        return [
            (found, "".join(inside))
            for name, found, inside in self.elements
            if tag in ("", name)
            and all(value in (found.get(key) or "").split() for key, value in wanted.items())
        ]

    def text(self, **attrs: str) -> str:
        return " ".join(inside for _, inside in self.all(**attrs))


def meaning(modality: str, code: int = 3, **changes: Any) -> CodeMeaning:
    known: dict[str, Any] = {
        "modality": modality,
        "code": code,
        "token": f"<|{modality}-{code}|>",
        "tags": ("calm", "folk"),
        "neighbours": (ROCK,),
        "tracks": 7,
        "guessed": 0,
        "is_missing": False,
        "known": True,
    }
    return CodeMeaning(**(known | changes))


def explanation(*changed: CodeMeaning, **changes: Any) -> Explanation:
    others = {one.modality: one for one in changed}
    known: dict[str, Any] = {
        "codes": (3, 3, 3, 3, 3),
        "track": CALM,
        "meanings": tuple(others.get(name) or meaning(name) for name in MODALITIES),
        "matched": MODALITIES,
        "weight": 55,
        "total": 55,
        "exact": True,
        "equals": 1,
    }
    return Explanation(**(known | changes))


def scored(scores: Sequence[float]) -> list[ScoredTrack]:
    return [
        ScoredTrack(Track(f"t{n}", f"Song {n}", "Someone"), score, (0,) * 5)
        for n, score in enumerate(scores, start=1)
    ]


# --- the chips -------------------------------------------------------------------------------


def test_five_chips_say_what_each_token_stands_for() -> None:
    page = Page(why_panel(explanation()))
    chips = page.all("button", data_act="code")
    assert [one["data-modality"] for one, _ in chips] == list(MODALITIES)
    assert [one["data-code"] for one, _ in chips] == ["3"] * 5
    for name, (_, inside) in zip(MODALITIES, chips, strict=True):
        assert f"<|{name}-3|>" in inside
    heads = [inside for _, inside in page.all("span", class_="tp-code-name")]
    assert heads == [
        "Found in playlists with",
        "Tagged",
        "Named like",
        "Sings about",
        "Sounds like",
    ]
    gists = [inside for _, inside in page.all("span", class_="tp-code-tags")]
    named, sung = "Ember Road by Coal", "the same as Ember Road"
    assert gists == ["calm, folk", "calm, folk", named, sung, "calm, folk"]


@pytest.mark.parametrize("opened", [None, "lyrics", "no such modality"])
def test_only_the_opened_chip_shows_its_details(opened: str | None) -> None:
    page = Page(why_panel(explanation(), opened=opened))
    shown = {}
    for chip, _ in page.all("button", data_act="code"):
        details = page.all("div", id=str(chip["aria-controls"]))
        assert len(details) == 1
        shown[chip["data-modality"]] = "hidden" not in details[0][0]
        assert chip["aria-expanded"] == str(shown[chip["data-modality"]]).lower()
    assert [name for name, is_shown in shown.items() if is_shown] == (
        ["lyrics"] if opened == "lyrics" else []
    )


def test_details_name_neighbours_with_their_artists_and_count_the_tracks() -> None:
    page = Page(why_panel(explanation(meaning("audio", tracks=1_234, guessed=56))))
    inside = page.text(id="tp-why-4")
    assert "Shared by 1,234 tracks; for 56 of them it is a guess." in inside
    assert "Sound like it" in inside
    assert "Ember Road Coal" in inside
    assert "Shared by 7 tracks." in page.text(id="tp-why-0")


@pytest.mark.parametrize(
    ("changes", "note", "words"),
    [
        ({"known": True}, "", "Taken from the lyrics of this track."),
        ({"known": False}, "a guess", "does not know the lyrics of this track. This token is a"),
        ({"known": None}, "", "Whether the catalogue knows the lyrics of this track is not"),
        (
            {"known": False, "is_missing": True, "tags": (), "neighbours": ()},
            "no data",
            "does not know the lyrics of this track; this token says just that.",
        ),
        (
            {"known": None, "is_missing": True, "tags": (), "neighbours": ()},
            "no data",
            "stands for tracks of which the catalogue knows no lyrics.",
        ),
    ],
)
def test_where_a_token_comes_from_is_told_honestly(
    changes: dict[str, Any], note: str, words: str
) -> None:
    page = Page(why_panel(explanation(meaning("lyrics", **changes))))
    assert page.text(class_="tp-code-note") == note
    assert words in page.text(id="tp-why-3")
    assert ("Taken from" in page.text(id="tp-why-3")) == (changes["known"] is True)


# --- the lookup ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "Exact match of all five tokens."),
        ({"equals": 3}, "Exact match of all five tokens. 3 tracks have exactly these tokens."),
        (
            {"exact": False, "matched": ("playlist", "semantic"), "weight": 41},
            "Matched on playlists and tags: weight 41 of 55.",
        ),
        (
            {"exact": False, "matched": ("metadata", "lyrics", "audio"), "weight": 14, "equals": 2},
            "Matched on names, lyrics and sound: weight 14 of 55. 2 tracks match as well as that.",
        ),
        ({"exact": False, "matched": (), "weight": 0}, "It has none of these tokens."),
        (
            {"exact": False, "matched": (), "weight": 0, "track": None},
            "No track of the catalogue has any of these tokens.",
        ),
    ],
)
def test_how_the_lookup_matched_is_told_in_words(changes: dict[str, Any], words: str) -> None:
    page = Page(why_panel(explanation(**changes)))
    assert page.text(class_="tp-why-match") == words
    unmatched = [chip["data-modality"] for chip, _ in page.all("button", class_="is-unmatched")]
    assert unmatched == [n for n in MODALITIES if n not in changes.get("matched", MODALITIES)]
    notes = [inside for _, inside in page.all("span", class_="tp-code-note")]
    assert notes == ["not matched"] * len(unmatched)


# --- alternatives ----------------------------------------------------------------------------


def test_alternatives_show_their_share_of_the_best_and_the_number_in_a_title() -> None:
    page = Page(why_panel(explanation(), scored([-2.0, -2.6931471805599454, -40.0])))
    shares = page.all("span", class_="tp-bar-share")
    assert [inside for _, inside in shares] == ["100%", "50%", "under 1%"]
    assert [one["title"] for one, _ in shares] == [
        "log-probability -2.00",
        "log-probability -2.69",
        "log-probability -40.00",
    ]
    widths = [one["style"] for one, _ in page.all("span", class_="tp-bar-fill")]
    assert widths == ["width:100%", "width:50%", "width:1%"]
    current = page.all("li", aria_current="true")
    assert len(current) == 1
    assert "Song 1" in current[0][1]
    assert "this track" in current[0][1]


def test_a_track_that_was_named_does_not_flatten_the_others() -> None:
    page = Page(why_panel(explanation(), scored([9_998.0, -3.0, -3.0])))
    shares = page.all("span", class_="tp-bar-share")
    assert [inside for _, inside in shares] == ["100%", "100%", "100%"]
    assert "named in your message" in page.all("ol")[0][1]
    assert "9998" not in page.all("ol")[0][1]


@given(st.lists(st.floats(), max_size=4))
def test_no_score_breaks_a_bar(scores: list[float]) -> None:
    page = Page(why_panel(explanation(), scored(scores)))
    for bar, _ in page.all("span", class_="tp-bar-fill"):
        width = re.fullmatch(r"width:(\d+)%", str(bar["style"]))
        assert width
        assert 1 <= int(width[1]) <= 100


# --- swapping --------------------------------------------------------------------------------


def a_swap(**changes: Any) -> Swap:
    found = FoundTrack(ROCK, (3, 9, 3, 3, 3), ("playlist", "semantic"), 41)
    pair = (meaning("semantic"), meaning("semantic", 9, tags=("loud",), known=None))
    known: dict[str, Any] = {
        "before": (3,) * 5,
        "after": (3, 9, 3, 3, 3),
        "changes": (pair,),
        "found": (found,),
        "total": 55,
    }
    return Swap(**(known | changes))


def test_a_swap_shows_the_new_list_what_was_swapped_and_a_way_back() -> None:
    menus = {"semantic": [meaning("semantic", code) for code in (3, 5)]}
    page = Page(why_panel(explanation(), menus=menus, swap=a_swap(), opened="semantic"))
    inside = page.text(class_="tp-swapped")
    assert "<|semantic-3|> (calm, folk) was swapped for <|semantic-9|> (loud)." in inside
    assert "Ember Road Coal" in inside
    assert "same playlists and tags" in inside
    assert "41 of 55" in inside
    assert len(page.all("button", data_act="swap-back")) == 1
    chip = page.all("button", class_="is-swapped")
    assert [one["data-code"] for one, _ in chip] == ["9"]
    assert "swapped" in chip[0][1]
    # the code that was put in can be seen in the menu, though the menu does not have it
    options = page.all("option")
    assert [one["value"] for one, _ in options if "selected" in one] == ["9"]
    assert sorted(str(one["value"]) for one, _ in options) == ["3", "5", "9"]


def test_without_menus_nothing_can_be_swapped() -> None:
    page = Page(why_panel(explanation()))
    assert not page.all("select")
    assert not page.all("button", data_act="swap")
    assert not page.all("button", data_act="swap-back")


def test_a_swap_that_finds_nothing_says_so() -> None:
    page = Page(why_panel(explanation(), swap=a_swap(found=())))
    assert "No track of the catalogue has any of these tokens." in page.text(class_="tp-swapped")


def test_a_swap_back_to_the_same_tokens_says_so() -> None:
    page = Page(why_panel(explanation(), swap=a_swap(changes=(), after=(3,) * 5)))
    assert "These are the tokens of the track again." in page.text(class_="tp-swapped")
    assert not page.all("button", class_="is-swapped")


def test_the_menus_have_the_codes_of_the_most_tracks(recommender: Recommender) -> None:
    menus = swap_menus(recommender)
    assert list(menus) == list(MODALITIES)
    for modality, menu in menus.items():
        used = [one for one in recommender.codes_of(modality) if not one.is_missing]
        assert len(menu) == min(MOST_CODES, len(used))
        assert not any(one.is_missing for one in menu)


def test_a_real_swap_is_looked_up(recommender: Recommender) -> None:
    before = recommender.codes(recommender.track_ids[0])
    codes = [one.code for one in swap_menus(recommender)["playlist"] if one.code != before[0]]
    after = (codes[0], *before[1:])
    swap = swap_view(recommender, before, after, k=4)
    assert [(old.code, new.code) for old, new in swap.changes] == [(before[0], codes[0])]
    assert list(swap.found) == recommender.look_up(after, 4)
    assert swap.total == 55
    track_id = recommender.track_ids[0]
    html = why_panel(recommender.explain(before, track_id), swap=swap)
    for one in swap.found:
        assert one.track.title in Page(html).text(class_="tp-swapped")
    with pytest.raises(TalkPlayError):
        swap_view(recommender, before, (10**6, *before[1:]))


# --- safety and structure --------------------------------------------------------------------


def everything(text: str) -> str:
    """A panel with a text wherever the catalogue or the model can put one."""
    track = Track(text, text, text)
    evil = {"token": text, "tags": (text, text), "neighbours": (track,)}
    names = (text, *MODALITIES[1:])
    meanings = tuple(meaning(name, **evil) for name in names)
    told = explanation(
        meanings=meanings, track=track, matched=(text, "audio"), exact=False, weight=26
    )
    changed = (meanings[1], meaning("semantic", 9, **evil))
    found = (FoundTrack(track, (3,) * 5, (text,), 25),)
    alternatives = [replace(one, track=track) for one in scored([-1.0, -2.0])]
    menus = {name: [meaning(name, code, **evil) for code in range(3)] for name in names}
    swap = a_swap(changes=(changed,), found=found)
    return why_panel(told, alternatives, menus=menus, swap=swap, opened=text)


@given(st.one_of(st.just(EVIL), st.text(alphabet="<>\"'&;=/ abscriptonerror\u202e|-", min_size=1)))
def test_no_text_from_outside_becomes_a_tag_or_an_attribute(text: str) -> None:
    page, plain = Page(everything(text)), Page(everything("plain"))
    assert [tag for tag, *_ in page.elements] == [tag for tag, *_ in plain.elements]
    assert [set(attrs) for _, attrs, _ in page.elements] == [
        set(attrs) for _, attrs, _ in plain.elements
    ]
    assert not {"script", "img", "style", "iframe"} & {tag for tag, *_ in page.elements}
    assert not any(name.startswith("on") for _, attrs, _ in page.elements for name in attrs)


def test_the_panel_can_be_read_without_eyes() -> None:
    menus = {name: [meaning(name, code) for code in (3, 5)] for name in MODALITIES}
    page = Page(why_panel(explanation(), scored([-1.0]), menus=menus, swap=a_swap()))
    ids = [str(attrs["id"]) for _, attrs, _ in page.elements if "id" in attrs]
    assert len(ids) == len(set(ids))
    for _, attrs, _ in page.elements:
        for name in ("aria-controls", "aria-labelledby", "for"):
            assert attrs.get(name) is None or attrs[name] in ids
    for attrs, inside in page.all("button"):
        assert attrs["type"] == "button"
        assert inside.strip() or attrs.get("aria-label")
    labelled = {attrs["for"] for attrs, _ in page.all("label")}
    assert {attrs["id"] for attrs, _ in page.all("select")} == labelled
    levels = [int(tag[1]) for tag, *_ in page.elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 2
    assert all(after <= before + 1 for before, after in pairwise(levels))


def test_an_empty_panel_tells_how_to_fill_it() -> None:
    page = Page(why_panel(None))
    assert "Ask for music first" in page.text(class_="tp-empty")
    assert not page.all("button")
