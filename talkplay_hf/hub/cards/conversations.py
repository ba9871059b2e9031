"""The card of conversations: what is in them, how they were made, what was refused."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from talkplay_hf.hub import files
from talkplay_hf.hub.cards import parts
from talkplay_hf.hub.cards.licenses import license_fields
from talkplay_hf.hub.cards.seal import is_ours
from talkplay_hf.hub.cards.told import count, mapping, told
from talkplay_hf.hub.markdown import cell, flat, natural, table

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
_OWN = {"format_version", "talkplay_hf", "kind", "files", "made_from"}
_PIECES = ("pieces", "kept", "repaired", "calls", "prompt_tokens", "completion_tokens")
# What `datasets` takes for the name of a split.
_SPLIT = re.compile(r"\w+(\.\w+)*")


def conversations_card(facts: Mapping[str, Any], *, repo_id: str | None = None) -> str:
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
            - `files` (mapping): SHA-256 of each file, to know the shards of the splits by; one file
              a split where it is left out.

            Any further fact is listed as it is.
        repo_id (`str`, *optional*): Where the folder will be on the Hub.

    Returns:
        `str`: Sealed Markdown with YAML front matter, the same for the same facts. A section whose
        facts are of a type that says nothing is left out with a warning.
    """

    origin = _origin(facts)
    published = facts.get("published")
    license_ = facts.get("license")
    if license_ is None and isinstance(published, Mapping):
        license_ = published.get("license")
    title = " ".join(str(facts.get("pretty_name") or "Music conversations").split())
    splits = _splits(facts)
    named = parts.place(repo_id)
    return parts.render(
        "conversations.md",
        _card_data(facts, title, license_, splits, origin),
        title=cell(title),
        summary=told(_summary, origin, published, otherwise=""),
        warning=_FICTION if facts.get("demo_world") else "",
        contents=told(_contents, facts, splits, otherwise=""),
        repo=named,
        first_split=next(iter(splits), "train"),
        quarantine=_QUARANTINE.replace(parts.PLACE, named) if facts.get("quarantined") else "",
        made=told(_made, facts, otherwise=""),
        rejects=told(_rejects, facts, otherwise=""),
        quality=told(_quality, facts.get("quality_text"), otherwise=""),
        limits=told(_limits_text, facts, origin, otherwise=""),
        licence=told(_licence, license_, facts.get("catalog_license"), origin, otherwise=""),
        citation=parts.CITATION,
    )


def _splits(facts: Mapping[str, Any]) -> dict[str, dict[str, int]]:
    """Counts of the splits, in their order; what cannot be the name of a split is none."""
    found = mapping(facts.get("splits"))
    return {
        name: {key: count(mapping(found[name]).get(key)) for key in ("conversations", "turns")}
        for name in split_order(found)
        if _SPLIT.fullmatch(name)
    }


def split_order(splits: Iterable[str]) -> list[str]:
    """Names of splits in the usual order: train, validation, test, then any others by name."""
    usual = ("train", "validation", "test")
    return sorted(splits, key=lambda name: (usual.index(name) if name in usual else 3, name))


def write_card(folder: str | Path, manifest: Mapping[str, Any]) -> None:
    """Write the card of a conversations folder, and its manifest with the hash of the card.

    A card that a person edited stays as it is.

    Args:
        folder (`str` or `Path`): The folder.
        manifest (`Mapping[str, Any]`): What its manifest says or is to say.
    """
    # As it comes back from the manifest, so that the same facts give the same card.
    facts = json.loads(json.dumps(manifest, sort_keys=True))
    path = Path(folder) / files.CARD
    if not path.exists() or is_ours(path.read_bytes().decode("utf-8", "replace")):
        files.write_text(path, conversations_card(facts))
    facts["files"][files.CARD] = files.sha256_file(path)
    files.write_json(Path(folder) / files.MANIFEST, facts)


def update_card(folder: str | Path, quality: Mapping[str, Any], text: str) -> None:
    """Put the figures of a quality report into the card and the manifest of a dataset folder.

    The card is written anew from the manifest, unless a person edited it. Each of the two files is
    replaced atomically; the identity of the folder (`files.content_hash`) stays the same.

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
    source = mapping(published)
    named = ", ".join(cell(source[name]) for name in ("source", "url") if source.get(name))
    return _SUMMARY[origin].replace("{source}", f" ({named})" if named else "")


def _card_data(
    facts: Mapping[str, Any],
    title: str,
    license_: Any,
    splits: Mapping[str, Any],
    origin: str,
) -> Any:
    from huggingface_hub import DatasetCardData

    tables = parts.tables(str(name) for name in mapping(facts.get("files")))
    configs: list[dict[str, Any]] = []
    if splits:
        paths = [{"split": name, "path": tables.get(name, f"{name}.parquet")} for name in splits]
        configs.append({"config_name": "default", "data_files": paths})
    if facts.get("quarantined"):
        name = files.QUARANTINE.removesuffix(".parquet")
        apart = [{"split": name, "path": tables.get(name, files.QUARANTINE)}]
        configs.append({"config_name": name, "data_files": apart})
    tags = list(parts.TAGS)
    if origin in ("simulator", "generator"):
        tags.append("synthetic")
    languages = parts.languages(mapping(facts.get("languages")))
    return DatasetCardData(
        **license_fields(license_),
        language=languages or None,
        task_categories=["text-generation"],
        tags=tags,
        pretty_name=title,
        size_categories=parts.size_category(count(facts.get("conversations"))),
        configs=configs or None,
    )


def _contents(facts: Mapping[str, Any], splits: Mapping[str, Mapping[str, int]]) -> str:
    if not splits:
        return "No conversations."
    rows = []
    for name, counts in splits.items():
        mean = counts["turns"] / max(1, counts["conversations"])
        rows.append((name, counts["conversations"], counts["turns"], round(mean, 2)))
    text = table(("split", "conversations", "turns with a track", "turns a conversation"), rows)
    languages = {name: count(of) for name, of in mapping(facts.get("languages")).items()}
    if languages:
        known = ", ".join(f"{cell(name)} ({of:,})" for name, of in languages.items())
        rest = count(facts.get("conversations")) - sum(languages.values())
        text += f"\n\nLanguages: {known}" + (f", not stated ({rest:,})." if rest else ".")
    return text


def _made(facts: Mapping[str, Any]) -> str:
    rest = {name: facts[name] for name in facts if name not in _PLACED | _OWN}
    # Seeds and the like are no counts: without the commas of thousands.
    rows = [(name, str(one) if type(one) is int else one) for name, one in flat(rest)]
    rows += parts.made_rows(facts)
    return table(("what", "value"), rows) if rows else "Not stated."


def _rejects(facts: Mapping[str, Any]) -> str:
    """What became of the answers of a language model: how many were kept, and what was wrong."""
    told_of = []
    synthesis = mapping(facts.get("synthesis"))
    if synthesis.get("pieces"):
        told_of.append(_pieces(synthesis))
    counts = mapping(facts.get("rejects"))
    answers = counts.pop("answers", None)
    apart = mapping(facts.get("quarantine_reasons"))
    quarantined = count(facts.get("quarantined"))
    if quarantined:
        told_of.append(
            f"`{files.QUARANTINE}` holds {quarantined:,} refused answers, the last one about each "
            "piece."
        )
    if counts or apart:
        told_of.append("One answer may have several reasons.")
        meanings = mapping(facts.get("reason_meanings"))
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
        told_of.append(table(head, rows))
    return "\n## Refused answers\n\n" + "\n\n".join(told_of) + "\n" if told_of else ""


def _pieces(synthesis: Mapping[str, Any]) -> str:
    """What became of the pieces of playlists, in a few sentences."""
    of = {name: count(synthesis.get(name)) for name in _PIECES}
    text = (
        f"Of {of['pieces']:,} pieces of playlists, {of['kept']:,} "
        f"({_percent(of['kept'], of['pieces'])}) became conversations, "
        f"{of['repaired']:,} of them mended. {of['calls']:,} answers took "
        f"{of['prompt_tokens']:,} tokens of prompts and {of['completion_tokens']:,} of "
        "answers."
    )
    for name, title in (("kept_at", "Which answer was kept"), ("repairs", "What was mended")):
        found = mapping(synthesis.get(name))
        shown = ", ".join(f"{cell(k)} ({count(found[k]):,})" for k in sorted(found, key=natural))
        text += f" {title}: {shown}." if found else ""
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


def _limits_text(facts: Mapping[str, Any], origin: str) -> str:
    return parts.lines(_limits(facts, origin))


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
