"""A generated card is told from one that somebody has touched."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from talkplay_hf.hub.cards.seal import is_ours, seal

TEXT = "---\nlicense: mit\n---\n\n# A\n\nwords\n"


@given(st.text(st.characters(codec="utf-8")))
def test_what_is_sealed_is_ours_and_sealing_again_changes_nothing(text: str) -> None:
    sealed = seal(text)
    assert is_ours(sealed)
    assert seal(sealed) == sealed


@given(st.integers(0, len(TEXT.rstrip()) - 1), st.sampled_from("xyz#<"))
def test_any_changed_letter_breaks_the_seal(at: int, letter: str) -> None:
    sealed = seal(TEXT)
    if sealed[at] != letter:
        assert not is_ours(sealed[:at] + letter + sealed[at + 1 :])


@pytest.mark.parametrize("text", ["", TEXT, "<!-- talkplay_hf card -->", seal(TEXT) + "more\n"])
def test_what_has_no_seal_at_its_end_is_not_ours(text: str) -> None:
    assert not is_ours(text)


def test_line_ends_of_another_system_break_no_seal() -> None:
    assert is_ours(seal(TEXT).replace("\n", "\r\n"))
    assert is_ours("\ufeff" + seal(TEXT))
    assert is_ours(seal(TEXT) + "\n\n")


def test_the_seal_is_no_part_of_what_a_page_shows() -> None:
    sealed = seal(TEXT)
    assert sealed.startswith(TEXT)
    assert sealed[len(TEXT) :].strip().startswith("<!--")
    assert sealed.endswith("-->\n")
