"""The code blocks of the documents, and the commands in them."""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CARDS = ROOT / "talkplay_hf" / "hub" / "cards"
PAGES = (
    *(ROOT / f"{name}.md" for name in ("README", "CONTRIBUTING", "CHANGELOG", "SECURITY")),
    ROOT / "space" / "README.md",
    ROOT / "tests" / "README.md",
    *sorted((ROOT / "recipes").rglob("*.md")),
)
_BLOCK = re.compile(r"^(`{3,})([^\n`]*)\n(.*?)^\1[ ]*$", re.DOTALL | re.MULTILINE)
_ASSIGNED = re.compile(r"[A-Z][A-Z0-9_]*=.*")


@dataclass(frozen=True)
class Block:
    """A fenced block of a page; `number` counts the blocks of its language there, from 0."""

    page: Path
    number: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.where} {self.language} {self.number}"

    @property
    def where(self) -> str:
        return self.page.relative_to(ROOT).as_posix()


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page, in order."""
    found: list[Block] = []
    for _, language, text in _BLOCK.findall(page.read_text(encoding="utf-8")):
        number = sum(block.language == language.strip() for block in found)
        found.append(Block(page, number, language.strip(), text))
    return found


def all_blocks(*languages: str) -> list[Block]:
    """The blocks of all pages in these languages; all of them where none is named."""
    return [
        block
        for page in PAGES
        for block in blocks(page)
        if not languages or block.language in languages
    ]


def commands(text: str) -> list[list[str]]:
    """The words of each command of a shell block, without comments, assignments and `…`."""
    found = []
    for line in text.replace("\\\n", " ").splitlines():
        words = [word for word in shlex.split(line, comments=True) if word not in ("…", "&")]
        while words and _ASSIGNED.fullmatch(words[0]):
            words.pop(0)
        if words:
            found.append(words)
    return found


def talkplay_words(words: list[str]) -> list[str] | None:
    """What `talkplay` gets from a command, also under accelerate or torchrun; else `None`."""
    if words[0].rpartition("/")[2] == "talkplay":
        return words[1:]
    if words[:2] == ["accelerate", "launch"] or words[0] == "torchrun":
        at = words.index("-m")
        if words[at + 1] == "talkplay_hf.cli":
            return words[at + 2 :]
        assert words[at + 1] == "talkplay_hf.training", words
        return ["train", *words[at + 2 :]]
    return None
