"""How a track is written as text, per modality, as named templates.

A template is a text with the names of columns in braces. A part in square brackets is left out
where the track lacks a column that it names; where a part outside brackets lacks one, the track
has no text, so the modality is missing.

`paper` renders a track for retrieval as footnote 2 of the paper does, and gives the other
modalities the plain text of what they are (the paper does not state those). `terms` is for
tf-idf: tags and artists are single terms, the words of each joined by underscores.
"""

import re
from collections.abc import Callable
from typing import Any

from talkplay_hf.catalog.schema import Catalog
from talkplay_hf.errors import ConfigError

TEMPLATES = {
    "semantic": {
        "paper": "{tags}",
        "caption": "[{tags}. ][{caption}]",
        "terms": "{tag_terms}",
        "terms-caption": "[{tag_terms} ][{caption}]",
    },
    "metadata": {
        "paper": "{title} by {artist}[ from {album}][ {year}]",
        "retrieval": "{title} by {artist}[ from {album}][ {tags}][ {year}]",
        "terms": "{title} {artist} {artist_term}[ {album}][ year_{year} decade_{decade}]",
    },
    "lyrics": {"paper": "{lyrics}", "terms": "{lyrics}"},
}


def _term(text: str) -> str:
    return "_".join(text.casefold().split())


# Fields beyond the columns: the column they come from, and how.
DERIVED: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "tags": ("tags", ", ".join),
    "tag_terms": ("tags", lambda tags: " ".join(map(_term, tags))),
    "artist_term": ("artist", lambda artist: "artist_" + _term(artist)),
    "decade": ("year", lambda year: year // 10),
}


def render_texts(catalog: Catalog, modality: str, template: str) -> list[str | None]:
    """One text a track, `None` where it lacks what the template needs.

    Args:
        catalog (`Catalog`): The catalog.
        modality (`str`): `"semantic"`, `"metadata"` or `"lyrics"`.
        template (`str`): The name of one of the modality's templates, or a template.

    Raises:
        ConfigError: If there is no such template.
        InputError: If a template names a column that the catalog does not have.
    """
    named = TEMPLATES[modality]
    if template not in named and not re.search(r"\{\w+\}", template):
        raise ConfigError(
            f"{modality}: no template {template!r}; there are {', '.join(named)}, or write one "
            "with columns in braces, such as '{title} by {artist}[ from {album}]'"
        )
    texts: list[list[str] | None] = [[] for _ in range(len(catalog))]
    for optional, required in re.findall(r"\[([^\]]*)\]|([^\[\]]+)", named.get(template, template)):
        pattern = optional or required
        names = re.findall(r"\{(\w+)\}", pattern)
        columns = [_values(catalog, name) for name in names]
        pieces = re.split(r"\{\w+\}", pattern)
        for row, parts in enumerate(texts):
            values = [column[row] for column in columns]
            if parts is None:
                continue
            if all(value not in (None, "") for value in values):
                parts.append(pieces[0])
                for value, piece in zip(values, pieces[1:], strict=True):
                    parts.append(f"{value}{piece}")
            elif not optional:
                texts[row] = None
    return ["".join(parts).strip() or None if parts else None for parts in texts]


def _values(catalog: Catalog, name: str) -> list[Any]:
    """A field of every track; `None` or empty text where it is missing."""
    source, make = DERIVED.get(name, (name, None))
    values = catalog.column(source)
    if make is not None:
        values = [make(value) if value else None for value in values]
    return [value.strip() if isinstance(value, str) else value for value in values]
