"""The card of a features folder: one vector per track and modality, and what made them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from talkplay_hf.hub import files
from talkplay_hf.hub.cards import parts
from talkplay_hf.hub.cards.licenses import license_fields
from talkplay_hf.hub.cards.told import mapping, number, read, told
from talkplay_hf.hub.markdown import cell, flat, table


@dataclass(frozen=True)
class FeaturesFacts:
    """What is known of a features folder.

    Args:
        repo_id (`str`, *optional*): Where it will be on the Hub.
        title (`str`): The title of the card.
        license (`str`, *optional*): The licence that was given.
        manifest (`Mapping[str, Any]`): Its manifest.
        paths (`Mapping[str, str]`): Path or pattern by modality, of the Parquet tables.
    """

    repo_id: str | None
    title: str
    license: str | None
    manifest: Mapping[str, Any] = field(default_factory=dict)
    paths: Mapping[str, str] = field(default_factory=dict)

    @property
    def modalities(self) -> dict[str, dict[str, Any]]:
        """What the manifest says of each modality."""
        found = mapping(self.manifest.get("modalities"))
        return {name: mapping(value) for name, value in found.items()}


def features_facts(
    folder: Path, *, repo_id: str | None, license: str | None, title: str
) -> FeaturesFacts:
    """Read the files of a features folder, packed for the Hub or not."""
    manifest = mapping(read(folder, files.MANIFEST))
    found = parts.tables(parts.file_names(folder))
    # a folder may hold other tables beside the vectors
    known = mapping(manifest.get("modalities")) or found
    paths = {name: path for name, path in found.items() if name in known}
    return FeaturesFacts(repo_id, title, license, manifest, paths)


def features_card(facts: FeaturesFacts) -> str:
    """The card of a features folder.

    Args:
        facts (`FeaturesFacts`): What is known.

    Returns:
        `str`: Sealed Markdown with YAML front matter, the same for the same facts.
    """
    from huggingface_hub import DatasetCardData

    tracks = told(_tracks, facts, otherwise=0)
    configs = [
        {"config_name": name, "data_files": [{"split": "train", "path": path}]}
        for name, path in facts.paths.items()
    ]
    data = DatasetCardData(
        **license_fields(facts.license),
        tags=["music", "recommendation", "embeddings", "talkplay"],
        pretty_name=facts.title,
        size_categories=parts.size_category(tracks) if tracks else None,
        configs=configs or None,
    )
    body = {name: told(make, facts, otherwise="") for name, make in _BODY.items()}
    return parts.render("features.md", data, title=cell(facts.title), **body)


def _tracks(facts: FeaturesFacts) -> int:
    """The most tracks that a modality has a vector of: no more is said about how many there are."""
    present = [number(one.get("present")) or 0 for one in facts.modalities.values()]
    return int(max(present, default=0))


def _summary(facts: FeaturesFacts) -> str:
    return (
        "Vectors of the tracks of a music catalogue, one per track and modality: what the "
        "codebooks of music tokens are fitted on."
    )


def _contents(facts: FeaturesFacts) -> str:
    rows = [
        (
            name,
            _encoder(one),
            number(one.get("dim")),
            number(one.get("present")),
            number(one.get("failures")),
        )
        for name, one in facts.modalities.items()
    ]
    head = ("modality", "encoder", "dimensions", "tracks that have it", "failures")
    return table(head, rows) if rows else "Modalities are not stated."


def _encoder(modality: Mapping[str, Any]) -> Any:
    encoder = mapping(modality.get("encoder"))
    named = (encoder.get(key) for key in ("model", "encoder"))
    return next((one for one in named if isinstance(one, str)), "not stated")


def _usage(facts: FeaturesFacts) -> str:
    if not facts.paths:
        return (
            "```python\nfrom talkplay_hf.features.store import load_features\n\n"
            'track_ids, modalities = load_features("path/or/repo")\n```'
        )
    name = next(iter(facts.paths))
    return (
        "```python\nfrom datasets import load_dataset\n\n"
        f'{name} = load_dataset("{parts.place(facts.repo_id)}", "{name}", split="train")\n'
        f"print({name}[0])\n```\n\n"
        "Each modality is a configuration of its own."
    )


def _made(facts: FeaturesFacts) -> str:
    options = mapping(facts.manifest.get("options"))
    rows = [(name, str(one) if type(one) is int else one) for name, one in flat(options)]
    for name, one in facts.modalities.items():
        told_of = {key: value for key, value in one.items() if key in ("encoder", "fitted_on")}
        rows += [
            (label, str(value) if type(value) is int else value)
            for label, value in flat(told_of, name)
        ]
    rows += parts.made_rows(facts.manifest)
    return table(("what", "value"), rows) if rows else "Not stated."


def _limits(facts: FeaturesFacts) -> str:
    return parts.lines(
        [
            "A track that lacks a modality has no vector of it.",
            "Vectors of different folders are comparable only where the same encoders made them "
            "with the same fit.",
        ]
    )


def _licence(facts: FeaturesFacts) -> str:
    given = cell(facts.license) if facts.license else "unknown, nobody has stated one"
    return (
        f"Licence of this dataset: {given}. The vectors are derived from a catalogue and from the "
        "encoders named above, so see their licences as well."
    )


def _citation(facts: FeaturesFacts) -> str:
    return f"The method is that of this paper:\n\n{parts.CITATION}"


_BODY = {
    "summary": _summary,
    "contents": _contents,
    "usage": _usage,
    "made": _made,
    "limits": _limits,
    "licence": _licence,
    "citation": _citation,
}
