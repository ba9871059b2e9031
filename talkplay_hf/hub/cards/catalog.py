"""The card of a catalog: its tracks and playlists, their columns and their licences."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from talkplay_hf.hub import files
from talkplay_hf.hub.cards import parts
from talkplay_hf.hub.cards.licenses import license_fields
from talkplay_hf.hub.cards.told import listing, mapping, read, told
from talkplay_hf.hub.markdown import cell, flat, table

_CONFIGS = ("tracks", "playlists", "audio")
# columns whose values are counted one by one
_COUNTED = ("license", "provenance")
_MOST_VALUES = 20
# what a manifest says that has a place of its own in the card
_PLACED = {
    "format_version", "talkplay_hf", "kind", "files", "made_from", "tracks", "playlists", "world",
    "license", "packed",
}  # fmt: skip


@dataclass(frozen=True)
class CatalogFacts:
    """What is known of a catalog folder.

    Args:
        repo_id (`str`, *optional*): Where it will be on the Hub.
        title (`str`): The title of the card.
        license (`str`, *optional*): The licence that was given.
        manifest (`Mapping[str, Any]`): Its manifest.
        paths (`Mapping[str, str]`): Path or pattern by table.
        rows (`Mapping[str, int]`): Rows by table.
        columns (`Sequence[tuple[str, str, int]]`): Name, type and number of values of each column
            of the tracks.
        values (`Mapping[str, Mapping[str, int]]`): Tracks by value, of the licences and origins.
        listed (`int`): Entries of all playlists.
    """

    repo_id: str | None
    title: str
    license: str | None
    manifest: Mapping[str, Any] = field(default_factory=dict)
    paths: Mapping[str, str] = field(default_factory=dict)
    rows: Mapping[str, int] = field(default_factory=dict)
    columns: Sequence[tuple[str, str, int]] = ()
    values: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    listed: int = 0

    @property
    def fictional(self) -> bool:
        """Whether it is the demo world."""
        return "world" in self.manifest


def catalog_facts(
    folder: Path, *, repo_id: str | None, license: str | None, title: str
) -> CatalogFacts:
    """Read the files of a catalog folder; what cannot be read is left out with a warning."""
    manifest = mapping(read(folder, files.MANIFEST))
    found = parts.tables(parts.file_names(folder))
    paths = {name: found[name] for name in _CONFIGS if name in found}
    given = license or manifest.get("license")
    return CatalogFacts(
        repo_id=repo_id,
        title=title,
        license=given if isinstance(given, str) else None,
        manifest=manifest,
        paths=paths,
        rows={name: told(_rows, folder, paths[name], otherwise=0) for name in paths},
        columns=told(_columns, folder, paths.get("tracks"), otherwise=[]),
        values={name: told(_values, folder, paths.get("tracks"), name, otherwise={})
                for name in _COUNTED},
        listed=told(_listed, folder, paths.get("playlists"), otherwise=0),
    )  # fmt: skip


def catalog_card(facts: CatalogFacts) -> str:
    """The card of a catalog folder.

    Args:
        facts (`CatalogFacts`): What is known.

    Returns:
        `str`: Sealed Markdown with YAML front matter, the same for the same facts.
    """
    from huggingface_hub import DatasetCardData

    configs: list[dict[str, Any]] = told(_configs, facts, otherwise=[])
    data = DatasetCardData(
        **told(_license, facts, otherwise=license_fields(None)),
        tags=["music", "recommendation", "talkplay", *(["synthetic"] if facts.fictional else [])],
        pretty_name=facts.title,
        size_categories=parts.size_category(facts.rows.get("tracks", 0)),
        configs=configs or None,
    )
    body = {name: told(make, facts, otherwise="") for name, make in _BODY.items()}
    return parts.render("catalog.md", data, title=cell(facts.title), **body)


def _shards(folder: Path, path: str) -> list[Path]:
    return sorted(folder.glob(path))


def _rows(folder: Path, path: str) -> int:
    return sum(pq.read_metadata(shard).num_rows for shard in _shards(folder, path))


def _columns(folder: Path, path: str | None) -> list[tuple[str, str, int]]:
    """Values of each column, from the statistics of the row groups, where they have any."""
    if path is None:
        return []
    found: dict[str, list[Any]] = {}
    for shard in _shards(folder, path):
        with pq.ParquetFile(shard) as file:
            schema = file.schema_arrow
            for name in schema.names:
                held = found.setdefault(name, [_type_name(schema.field(name).type), 0])
                # one column of one row group at a time: lyrics are long
                for group in range(file.num_row_groups):
                    column = file.read_row_group(group, columns=[name])[name]
                    held[1] += len(column) - column.null_count
    return [(name, kind, values) for name, (kind, values) in found.items()]


def _values(folder: Path, path: str | None, name: str) -> dict[str, int]:
    if path is None:
        return {}
    counts: dict[str, int] = {}
    for shard in _shards(folder, path):
        with pq.ParquetFile(shard) as file:
            if name not in file.schema_arrow.names:
                return {}
            for one in pc.value_counts(file.read(columns=[name])[name]).to_pylist():
                key = "not stated" if one["values"] is None else str(one["values"])
                counts[key] = counts.get(key, 0) + one["counts"]
    return dict(sorted(counts.items(), key=lambda one: (-one[1], one[0])))


def _listed(folder: Path, path: str | None) -> int:
    total = 0
    for shard in _shards(folder, path) if path is not None else []:
        with pq.ParquetFile(shard) as file:
            for group in range(file.num_row_groups):
                lists = file.read_row_group(group, columns=["track_ids"])["track_ids"]
                total += pc.sum(pc.list_value_length(lists)).as_py() or 0
    return total


def _type_name(kind: pa.DataType) -> str:
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return f"list of {kind.value_type}"
    return "audio" if pa.types.is_struct(kind) else str(kind)


def _configs(facts: CatalogFacts) -> list[dict[str, Any]]:
    configs = []
    for name, path in facts.paths.items():
        one: dict[str, Any] = {
            "config_name": name,
            "data_files": [{"split": "train", "path": path}],
        }
        configs.append(one | ({"default": True} if name == "tracks" else {}))
    return configs


def _license(facts: CatalogFacts) -> dict[str, Any]:
    return license_fields(facts.license)


def _summary(facts: CatalogFacts) -> str:
    return (
        f"A music catalogue for conversational recommendation: {facts.rows.get('tracks', 0):,} "
        f"tracks with what is known of them, and {facts.rows.get('playlists', 0):,} playlists."
    )


def _fiction(facts: CatalogFacts) -> str:
    return parts.FICTION if facts.fictional else ""


def _contents(facts: CatalogFacts) -> str:
    tracks, playlists = facts.rows.get("tracks", 0), facts.rows.get("playlists", 0)
    rows: list[tuple[str, Any]] = [("tracks", tracks), ("playlists", playlists)]
    if playlists:
        rows.append(("tracks a playlist, mean", f"{facts.listed / playlists:.1f}"))
    if "audio" in facts.rows:
        rows.append(("clips of sound", facts.rows["audio"]))
    return table(("what", "how many"), rows)


def _columns_table(facts: CatalogFacts) -> str:
    if not facts.columns:
        return ""
    tracks = facts.rows.get("tracks", 0)
    rows = [
        (name, kind, values, f"{values / tracks:.1%}" if tracks else "")
        for name, kind, values in facts.columns
    ]
    return "Columns of the tracks:\n\n" + table(("column", "type", "values", "share"), rows)


def _usage(facts: CatalogFacts) -> str:
    repo = parts.place(facts.repo_id)
    text = ["from datasets import load_dataset", ""]
    for name in facts.paths:
        text.append(f'{name} = load_dataset("{repo}", "{name}", split="train")')
    text += [f"print({name}[0])" for name in facts.paths if name != "audio"]
    code = "```python\n" + "\n".join(text) + "\n```"
    return code + (
        "\n\nThe split is called train because there is one table; which playlists train and test "
        "is no part of this dataset."
    )


def _made(facts: CatalogFacts) -> str:
    rest = {name: value for name, value in facts.manifest.items() if name not in _PLACED}
    world = mapping(facts.manifest.get("world"))
    rows = [(f"demo world / {name}", str(value)) for name, value in flat(world)]
    # Seeds and the like are no counts: without the commas of thousands.
    rows += [(name, str(one) if type(one) is int else one) for name, one in flat(rest)]
    rows += parts.made_rows(facts.manifest)
    return table(("what", "value"), rows) if rows else "Not stated."


def _limits(facts: CatalogFacts) -> str:
    said = []
    if facts.fictional:
        said.append("The catalogue is fictional: no figure on it is a statement about real music.")
    else:
        said.append(
            "What it says about a track is what its source says, mistakes included. A value that "
            "is missing is missing in the source, too."
        )
    said.append(
        "Playlists favour what is popular: what is recommended after them favours it as well."
    )
    return parts.lines(said)


def _licence(facts: CatalogFacts) -> str:
    given = cell(facts.license) if facts.license else "unknown, nobody has stated one"
    text = f"Licence of this dataset: {given}."
    for name, title in (
        ("license", "Licences of the tracks"),
        ("provenance", "Where the tracks come from"),
    ):
        counts = facts.values.get(name) or {}
        if set(counts) <= {"not stated"}:
            continue
        rows = list(counts.items())[:_MOST_VALUES]
        text += (
            f"\n\n{title}, as their column `{name}` has them:\n\n{table((name, 'tracks'), rows)}"
        )
        if len(counts) > len(rows):
            text += f"\n\nand {len(counts) - len(rows):,} more"
    return text


def _citation(facts: CatalogFacts) -> str:
    sources = listing(mapping(facts.manifest.get("import")).get("sources"))
    named = f" It was read from {cell(sources)}." if sources else ""
    return f"Cite the source of the catalogue.{named} The method is this paper's:\n\n" + (
        parts.CITATION
    )


_BODY = {
    "summary": _summary,
    "fiction": _fiction,
    "contents": _contents,
    "columns": _columns_table,
    "usage": _usage,
    "made": _made,
    "limits": _limits,
    "licence": _licence,
    "citation": _citation,
}
