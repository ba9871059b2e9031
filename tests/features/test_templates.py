"""Tracks as text."""

import pytest

from talkplay_hf.catalog.schema import Catalog, Track
from talkplay_hf.errors import ConfigError, InputError
from talkplay_hf.features.templates import TEMPLATES, render_texts

FULL = Track("a", "Starlight", "Muse", album="Black Holes", release_date="2006-07-03",
             tags=("Alternative Rock", "space"), lyrics="Far away\n", caption="Driving bass.",
             tempo=121.5)  # fmt: skip
BARE = Track("b", "...Baby", "Britney")
CATALOG = Catalog.from_tracks([FULL, BARE])


@pytest.mark.parametrize(
    ("modality", "template", "full", "bare"),
    [
        ("semantic", "paper", "Alternative Rock, space", None),
        ("semantic", "caption", "Alternative Rock, space. Driving bass.", None),
        ("semantic", "terms", "alternative_rock space", None),
        ("semantic", "terms-caption", "alternative_rock space Driving bass.", None),
        ("metadata", "paper", "Starlight by Muse from Black Holes 2006", "...Baby by Britney"),
        (
            "metadata",
            "retrieval",
            "Starlight by Muse from Black Holes Alternative Rock, space 2006",
            "...Baby by Britney",
        ),
        (
            "metadata",
            "terms",
            "Starlight Muse artist_muse Black Holes year_2006 decade_200",
            "...Baby Britney artist_britney",
        ),
        ("lyrics", "paper", "Far away", None),
        ("metadata", "{artist}: {title}[ at {tempo} bpm]", "Muse: Starlight at 121.5 bpm",
         "Britney: ...Baby"),
    ],
)  # fmt: skip
def test_a_template_leaves_out_what_a_track_lacks(
    modality: str, template: str, full: str, bare: str | None
):
    assert render_texts(CATALOG, modality, template) == [full, bare]


def test_a_caption_alone_is_semantic_text():
    only = Catalog.from_tracks([Track("a", "A", "x", caption="A calm piano.")])
    assert render_texts(only, "semantic", "caption") == ["A calm piano."]
    assert render_texts(only, "semantic", "paper") == [None]


def test_braces_in_the_text_of_a_track_stay():
    odd = Catalog.from_tracks([Track("a", "{artist} [live]", "x")])
    assert render_texts(odd, "metadata", "paper") == ["{artist} [live] by x"]


def test_every_text_modality_has_the_paper_and_the_terms():
    assert all({"paper", "terms"} <= set(named) for named in TEMPLATES.values())


def test_an_unknown_template_or_column_is_refused_by_name():
    with pytest.raises(ConfigError, match="no template 'papr'; there are paper, caption"):
        render_texts(CATALOG, "semantic", "papr")
    with pytest.raises(ConfigError, match=r"no template '\{title'"):
        render_texts(CATALOG, "semantic", "{title")
    with pytest.raises(InputError, match="no column 'bpm'"):
        render_texts(CATALOG, "semantic", "{bpm}")
