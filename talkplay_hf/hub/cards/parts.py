"""What cards of several kinds have in common."""

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from jinja2 import Template

from talkplay_hf.hub import files
from talkplay_hf.hub.cards.seal import seal

TAGS = ("music", "recommendation", "conversational", "talkplay")
PLACE = "path/or/repo"
_REPO_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9._-]+)?")
_SHARD = re.compile(r"(.+?)(-[0-9]{5}-of-[0-9]{5})?\.parquet")
_SIZES = (
    (1_000, "n<1K"),
    (10_000, "1K<n<10K"),
    (100_000, "10K<n<100K"),
    (1_000_000, "100K<n<1M"),
    (10_000_000, "1M<n<10M"),
)
FICTION = (
    "**The catalogue is fictional.** Its artists, titles and playlists were made by a program: no "
    "figure on it is a statement about real music."
)
CITATION = """```bibtex
@article{doh2025talkplay,
  title   = {TalkPlay: Multimodal Music Recommendation with Large Language Models},
  author  = {Doh, Seunghoon and Choi, Keunwoo and Nam, Juhan},
  journal = {arXiv preprint arXiv:2502.13713},
  year    = {2025},
  url     = {https://arxiv.org/abs/2502.13713}
}
```"""


def render(template: str, card_data: Any, **parts: str) -> str:
    """A sealed card from a template of this folder.

    Args:
        template (`str`): The name of the file.
        card_data (`CardData`): The front matter.
        parts: What stands in the body.
    """
    text = fill(template, card_data=card_data.to_yaml(), **parts)
    # a section that is absent leaves blank lines behind
    return seal(re.sub(r"\n{3,}", "\n\n", text).strip() + "\n")


def fill(template: str, **parts: Any) -> str:
    """A template of this folder with its parts."""
    text = (Path(__file__).parent / template).read_text(encoding="utf-8")
    return str(Template(text).render(**parts)).strip()


def place(repo_id: str | None) -> str:
    """What the code in a card loads: the repo, or a place to fill in."""
    return repo_id if repo_id and _REPO_ID.fullmatch(repo_id) else PLACE


def quoted(text: str, otherwise: str) -> str:
    """A text as a literal of Python that can stand in a code block, or another text."""
    # marks that turn the direction of the text around would make code look like other code
    usable = text.isprintable() and 0 < len(text) <= 200
    return json.dumps(text if usable else otherwise, ensure_ascii=False)


def lines(items: Iterable[str]) -> str:
    """A list in Markdown."""
    return "\n".join(f"- {item}" for item in items)


def languages(names: Iterable[str]) -> list[str]:
    """Names of languages as the Hub takes them: ISO 639 alone, `"en"` for `"en-US"`."""
    found = (re.fullmatch(r"([a-z]{2,3})(-[A-Za-z0-9]+)*", name) for name in names)
    return sorted({match[1] for match in found if match})


def size_category(rows: int) -> list[str]:
    """The Hub's name for a number of rows."""
    return [next((name for most, name in _SIZES if rows < most), "10M<n<100M")]


def tables(names: Iterable[str]) -> dict[str, str]:
    """The Parquet tables among file names, each with the path that `load_dataset` finds it by.

    Args:
        names (`Iterable[str]`): Names of files. A table is one file, `NAME.parquet`, or
            shards, `NAME-00000-of-00003.parquet`.

    Returns:
        `dict[str, str]`: Path or pattern by name of the table, in the order of names.
    """
    found: dict[str, str] = {}
    for path in sorted(names):
        match = _SHARD.fullmatch(path)
        if match is not None:
            found[match[1]] = f"{match[1]}-*-of-*.parquet" if match[2] else path
    return dict(sorted(found.items()))


def file_names(folder: Path) -> list[str]:
    """The names of the files of a folder, hidden ones aside."""
    return [path.name for path in folder.glob("[!.]*") if path.is_file()]


def made_rows(manifest: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Where an artefact comes from: hashes of what it was made from, and the package's version."""
    made_from = manifest.get("made_from")
    made_from = made_from if isinstance(made_from, Mapping) else {}
    rows = [(f"SHA-256 of the {name}", sha) for name, sha in sorted(made_from.items())]
    if manifest.get("talkplay_hf"):
        rows.append(("talkplay_hf", manifest["talkplay_hf"]))
    return rows


def title_of(folder: Path, repo_id: str | None, title: str | None) -> str:
    """The title of a card: as given, or the name of the repo or of the folder."""
    given = title or (repo_id or "").rpartition("/")[2] or folder.resolve().name
    return " ".join(given.split()) or files.CARD
