"""The README as a newcomer meets it."""

import re

from doc_blocks import ROOT, blocks, commands

README = ROOT / "README.md"


def test_the_first_command_comes_within_thirty_lines() -> None:
    lines = README.read_text(encoding="utf-8").splitlines()
    assert "```bash" in lines[:30]
    assert commands(blocks(README)[0].text)[0] == ["make", "demo"]


def test_it_can_be_read_in_one_sitting() -> None:
    assert len(README.read_text(encoding="utf-8").splitlines()) < 260


def test_pictures_have_words_for_those_who_do_not_see_them() -> None:
    pictures = re.findall(r"!\[([^\]]*)\]\(([^)]+)\)", README.read_text(encoding="utf-8"))
    assert {path for _, path in pictures} >= {
        "recipes/figures/page.png", "recipes/figures/pipeline.svg"
    }  # fmt: skip
    assert all(len(words) > 40 for words, _ in pictures)


def test_every_page_of_the_recipes_can_be_reached() -> None:
    text = README.read_text(encoding="utf-8")
    for page in ("catalogs.md", "evaluation.md", "python.md", "differences.md", "PAPER.md"):
        assert f"recipes/{page}" in text
