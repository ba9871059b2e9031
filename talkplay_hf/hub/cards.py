"""Cards: the README of a repo, filled from what is known about it."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from talkplay_hf.hub import files
from talkplay_hf.hub.markdown import cell, flat, natural, table

_TEMPLATE = Path(__file__).parent / "conversations_card.md"
# Facts with a place of their own in the card; the others are listed under "How it was made".
_PLACED = {
    "conversations",
    "splits",
    "languages",
    "quarantined",
    "quarantine_reasons",
    "reason_meanings",
    "rejects",
    "synthesis",
    "quality",
    "quality_text",
    "license",
    "catalog_license",
    "pretty_name",
    "demo_world",
}
# What a manifest says about itself.
_OWN = {"format_version", "talkplay_hf", "kind", "files"}
_PIECES = ("pieces", "kept", "repaired", "calls", "prompt_tokens", "completion_tokens")
_SIZES = (
    (1_000, "n<1K"),
    (10_000, "1K<n<10K"),
    (100_000, "10K<n<100K"),
    (1_000_000, "100K<n<1M"),
    (10_000_000, "1M<n<10M"),
)
_LICENSE_ID = re.compile(r"[a-z0-9][a-z0-9.+-]*")


def conversations_card(facts: Mapping[str, Any]) -> str:
    """The card of a conversations folder.

    Args:
        facts (`Mapping[str, Any]`): JSON values. The writer of the folder counts
            `conversations` (`int`), `splits` (split -> `conversations`, `turns`, `messages`),
            `languages` (language -> conversations), `quarantined` (`int`),
            `quarantine_reasons` (reason -> refused answers that it was found in) and
            `reason_meanings` (reason -> what it means). All others are optional:

            - `simulator`, `generator` or `published` (mappings or texts): how the conversations
              were made: by templates, by a language model (its `model`, `prompt_sha256`,
              `parameters`, `seed`, ...), or taken from a published set (its `source`, `license`,
              `url`).
            - `rejects` (mapping): how many answers were refused, by reason, with the number of
              answers under `answers` if rates are to be shown.
            - `synthesis` (mapping): what became of the pieces of playlists that a language model
              was asked about.
            - `quality_text` (`str`): the figures of a quality report, as lines of text.
            - `license` (`str`): licence of the texts; `catalog_license` (`str`): licence of the
              catalog that they are about. Nothing is claimed where they are not given.
            - `pretty_name` (`str`): the title.
            - `demo_world` (`bool`): whether the catalog is the fictional one.
            - `made_from` (mapping): SHA-256 of each input.

            Any further fact is listed as it is.

    Returns:
        `str`: Markdown with YAML front matter, the same for the same facts.
    """
    from huggingface_hub import DatasetCard

    origin = _origin(facts)
    published = facts.get("published")
    license_ = facts.get("license")
    if license_ is None and isinstance(published, Mapping):
        license_ = published.get("license")
    title = " ".join(str(facts.get("pretty_name") or "Music conversations").split())
    found: Mapping[str, Mapping[str, int]] = facts.get("splits") or {}
    splits = {name: found[name] for name in split_order(found)}
    card = DatasetCard.from_template(
        _card_data(facts, title, license_, splits, origin),
        template_path=str(_TEMPLATE),
        title=cell(title),
        summary=_summary(origin, published),
        warning=_FICTION if facts.get("demo_world") else "",
        contents=_contents(facts, splits),
        first_split=next(iter(splits), "train"),
        quarantine=_QUARANTINE if facts.get("quarantined") else "",
        made=_made(facts),
        rejects=_rejects(facts),
        quality=_quality(facts.get("quality_text")),
        limits="\n".join(f"- {line}" for line in _limits(facts, origin)),
        licence=_licence(license_, facts.get("catalog_license"), origin),
    )
    # A section that is absent leaves blank lines behind.
    return re.sub(r"\n{3,}", "\n\n", str(card.content)).strip() + "\n"


def split_order(splits: Iterable[str]) -> list[str]:
    """Names of splits in the usual order: train, validation, test, then any others by name."""
    usual = ("train", "validation", "test")
    return sorted(splits, key=lambda name: (usual.index(name) if name in usual else 3, name))


def write_card(folder: str | Path, manifest: Mapping[str, Any]) -> None:
    """Write the card of a conversations folder, and its manifest with the hash of the card.

    Args:
        folder (`str` or `Path`): The folder.
        manifest (`Mapping[str, Any]`): What its manifest says or is to say.
    """
    # As it comes back from the manifest, so that the same facts give the same card.
    facts = json.loads(json.dumps(manifest, sort_keys=True))
    path = Path(folder) / files.CARD
    files.write_text(path, conversations_card(facts))
    facts["files"][files.CARD] = files.sha256_file(path)
    files.write_json(Path(folder) / files.MANIFEST, facts)


def update_card(folder: str | Path, quality: Mapping[str, Any], text: str) -> None:
    """Put the figures of a quality report into the card and the manifest of a dataset folder.

    The card is written anew from the manifest, so that what was edited in it by hand is lost. Each
    of the two files is replaced atomically; the identity of the folder (`files.content_hash`) stays
    the same.

    Args:
        folder (`str` or `Path`): A conversations folder.
        quality (`Mapping[str, Any]`): The figures, as JSON values, for the manifest.
        text (`str`): The figures as lines of text, for the card.

    Raises:
        ArtifactError: If it is no conversations folder.
    """
    manifest = files.read_manifest(folder, "conversations")
    write_card(folder, manifest | {"quality": dict(quality), "quality_text": text})


def _origin(facts: Mapping[str, Any]) -> str:
    for name in ("published", "generator", "simulator"):
        if facts.get(name):
            is_template = name == "generator" and _names_simulator(facts[name])
            return "simulator" if is_template else name
    return "unknown"


def _names_simulator(generator: Any) -> bool:
    kind = generator.get("kind") if isinstance(generator, Mapping) else generator
    return kind == "simulator"


_SUMMARY = {
    "simulator": "Conversations in which a listener asks for music and gets one track after "
    "another. They are synthetic: templates wrote them from the playlists and the metadata of a "
    "catalog, without a language model.",
    "generator": "Conversations in which a listener asks for music and gets one track after "
    "another. They are synthetic: a language model wrote them from the playlists and the metadata "
    "of a catalog, and each was checked before it was kept.",
    "published": "Conversations in which a listener asks for music, taken from a published dataset"
    "{source} and matched to the tracks of another catalog.",
    "unknown": "Conversations in which a listener asks for music and gets one track after another.",
}
_FICTION = (
    "**The catalog is fictional.** Its artists, titles and playlists were made by a program. These "
    "conversations say nothing about real music."
)
_QUARANTINE = """
Answers of the language model that were refused are kept apart, with the reasons. They are not part
of the splits:

```python
quarantine = load_dataset("path/or/repo", "quarantine")
```
"""


def _summary(origin: str, published: Any) -> str:
    told = published if isinstance(published, Mapping) else {}
    named = ", ".join(cell(told[name]) for name in ("source", "url") if told.get(name))
    return _SUMMARY[origin].replace("{source}", f" ({named})" if named else "")


def _card_data(
    facts: Mapping[str, Any],
    title: str,
    license_: Any,
    splits: Mapping[str, Any],
    origin: str,
) -> Any:
    from huggingface_hub import DatasetCardData

    configs: list[dict[str, Any]] = []
    if splits:
        paths = [{"split": name, "path": f"{name}.parquet"} for name in splits]
        configs.append({"config_name": "default", "data_files": paths})
    if facts.get("quarantined"):
        apart = [{"split": "quarantine", "path": files.QUARANTINE}]
        configs.append({"config_name": "quarantine", "data_files": apart})
    tags = ["music", "recommendation", "conversational", "talkplay"]
    if origin in ("simulator", "generator"):
        tags.append("synthetic")
    # The Hub knows licences by short names; any other text is one of its own.
    license_id = " ".join(str(license_ or "unknown").split())
    named: dict[str, Any] = {}
    if not _LICENSE_ID.fullmatch(license_id):
        license_id, named = "other", {"license_name": license_id}
    count = int(facts.get("conversations") or 0)
    return DatasetCardData(
        license=license_id,
        language=sorted(facts.get("languages") or ()) or None,
        task_categories=["text-generation"],
        tags=tags,
        pretty_name=title,
        size_categories=[next((name for most, name in _SIZES if count < most), "10M<n<100M")],
        configs=configs or None,
        **named,
    )


def _contents(facts: Mapping[str, Any], splits: Mapping[str, Mapping[str, int]]) -> str:
    if not splits:
        return "No conversations."
    rows = []
    for name, counts in splits.items():
        mean = counts["turns"] / max(1, counts["conversations"])
        rows.append((name, counts["conversations"], counts["turns"], round(mean, 2)))
    text = table(("split", "conversations", "turns with a track", "turns a conversation"), rows)
    languages = facts.get("languages") or {}
    if languages:
        known = ", ".join(f"{cell(name)} ({count:,})" for name, count in languages.items())
        rest = int(facts.get("conversations") or 0) - sum(languages.values())
        text += f"\n\nLanguages: {known}" + (f", not stated ({rest:,})." if rest else ".")
    return text


def _made(facts: Mapping[str, Any]) -> str:
    told = {name: facts[name] for name in facts if name not in _PLACED | _OWN}
    made_from = told.pop("made_from", None) or {}
    # Seeds and the like are no counts: without the commas of thousands.
    rows = [(name, str(one) if type(one) is int else one) for name, one in flat(told)]
    rows += ((f"SHA-256 of the {name}", sha) for name, sha in made_from.items())
    if "talkplay_hf" in facts:
        rows.append(("talkplay_hf", facts["talkplay_hf"]))
    return table(("what", "value"), rows) if rows else "Not stated."


def _rejects(facts: Mapping[str, Any]) -> str:
    """What became of the answers of a language model: how many were kept, and what was wrong."""
    parts = []
    synthesis, rejects = facts.get("synthesis"), facts.get("rejects")
    if isinstance(synthesis, Mapping) and synthesis.get("pieces"):
        parts.append(_pieces(synthesis))
    counts = dict(rejects) if isinstance(rejects, Mapping) else {}
    answers = counts.pop("answers", None)
    quarantined, apart = facts.get("quarantined") or 0, facts.get("quarantine_reasons") or {}
    if quarantined:
        parts.append(
            f"`{files.QUARANTINE}` holds {quarantined:,} refused answers, the last one about each "
            "piece."
        )
    if counts or apart:
        parts.append("One answer may have several reasons.")
        meanings = facts.get("reason_meanings") or {}
        rows = [
            (
                name,
                meanings.get(name, ""),
                counts.get(name, 0),
                _percent(counts.get(name, 0), answers),
                apart.get(name, 0),
                _percent(apart.get(name, 0), quarantined),
            )
            for name in sorted({*counts, *apart})
        ]
        head = ("reason", "meaning", "all answers", "share", "quarantine", "share")
        parts.append(table(head, rows))
    return "\n## Refused answers\n\n" + "\n\n".join(parts) + "\n" if parts else ""


def _pieces(synthesis: Mapping[str, Any]) -> str:
    """What became of the pieces of playlists, in a few sentences."""
    count = {name: int(synthesis.get(name) or 0) for name in _PIECES}
    text = (
        f"Of {count['pieces']:,} pieces of playlists, {count['kept']:,} "
        f"({_percent(count['kept'], count['pieces'])}) became conversations, "
        f"{count['repaired']:,} of them mended. {count['calls']:,} answers took "
        f"{count['prompt_tokens']:,} tokens of prompts and {count['completion_tokens']:,} of "
        "answers."
    )
    for name, title in (("kept_at", "Which answer was kept"), ("repairs", "What was mended")):
        if of := synthesis.get(name):
            counts = ", ".join(f"{cell(key)} ({of[key]:,})" for key in sorted(of, key=natural))
            text += f" {title}: {counts}."
    return text


def _percent(part: int, whole: int | None) -> str:
    return f"{part / whole:.2%}" if whole else ""


def _quality(text: Any) -> str:
    """The figures of a report, as the report writes them."""
    if not isinstance(text, str) or not text.strip():
        return ""
    longest = max(map(len, re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"\n## Quality\n\n{fence}text\n{text.rstrip()}\n{fence}\n"


def _limits(facts: Mapping[str, Any], origin: str) -> Iterator[str]:
    if origin in ("simulator", "generator"):
        yield (
            "The conversations are synthetic. No listener said any of it, and how often something "
            "is asked for here says nothing about how often people ask for it."
        )
    if origin == "generator":
        yield (
            "What a language model says about a track may be wrong, although the checks hold it to "
            "the tracks that it was given. Its biases are in the texts."
        )
    if origin == "published":
        yield (
            "Tracks that the catalog lacks are missing, so a conversation may have fewer tracks "
            "here than in its source."
        )
        published = facts["published"]
        others = published.get("other_tracks") if isinstance(published, Mapping) else None
        if others:
            yield (
                "A turn has one track here, also where it has several in the source: "
                f"{cell(others)} further tracks are left out."
            )
    if facts.get("demo_world"):
        yield "The catalog is fictional: no figure on it is a statement about real music."
    else:
        yield "The conversations hold what the catalog says about its tracks, its mistakes too."
    yield "A model that is trained on them prefers the artists and styles that the catalog holds."


def _licence(license_: Any, catalog: Any, origin: str) -> str:
    texts = cell(license_) if license_ else "unknown, not stated by whoever made this dataset"
    of = cell(catalog) if catalog else "unknown, see the source of the catalog"
    text = (
        f"Texts: {texts}. Catalog: {of}. The texts quote titles, artists and other metadata of the "
        "catalog, so its terms matter for their use as well."
    )
    if origin == "published" and "-nd" in str(license_ or ""):
        text += (
            " The licence of the source does not allow changed copies to be shared, and this is "
            "one: keep it to yourself, or ask its owner."
        )
    return text
