"""What the files of a model or tokenizer folder say, for its card."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.compute as pc
import pyarrow.parquet as pq

from talkplay_hf.hub import files
from talkplay_hf.hub.cards.licenses import stated_license
from talkplay_hf.hub.cards.told import listing, mapping, number, read, texts, told

if TYPE_CHECKING:
    from huggingface_hub import EvalResult

SCRATCH = "scratch"
REPORT = "training_report.json"
CURVES = "training_curves.png"
# how the demo world names the licence of its tracks
_NOT_REAL = "not real music"
_REPO = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)


@dataclass(frozen=True)
class TokenCatalog:
    """What `catalog.parquet` counts.

    Args:
        tracks (`int`, *optional*): Its tracks; `None` where it cannot be read.
        cold (`int`): Tracks that stand in no training playlist.
        licenses (`Mapping[str, int]`): Tracks by licence.
        codes (`Sequence[int]`): The codes of its first track.
    """

    tracks: int | None = None
    cold: int = 0
    licenses: Mapping[str, int] = field(default_factory=dict)
    codes: Sequence[int] = ()


@dataclass(frozen=True)
class ModelFacts:
    """What is known of a model or tokenizer folder. Values are as the files have them, unchecked.

    Args:
        is_model (`bool`): Whether it has weights.
        repo_id (`str`, *optional*): Where it will be on the Hub.
        title (`str`): The title of the card.
        license (`str`, *optional*): The licence that was given, now or in the card that is there.
        datasets (`Sequence[str]`): Datasets of the Hub that it was trained on.
        config (`Mapping[str, Any]`): `talkplay_config.json`.
        report (`Mapping[str, Any]`): `training_report.json`.
        health (`Mapping[str, Any]`): `codebook_health.json`.
        transformers (`Mapping[str, Any]`): `config.json`.
        examples (`Sequence[str]`): `examples.json`.
        catalog (`TokenCatalog`): `catalog.parquet`.
        results (`Sequence[EvalResult]`): The results in the card that is there.
        languages (`Sequence[str]`): Of the conversations that it was trained on, as the report or
            the card that is there names them.
        has_curves (`bool`): Whether there is a picture of the losses.
    """

    is_model: bool
    repo_id: str | None
    title: str
    license: str | None = None
    datasets: Sequence[str] = ()
    config: Mapping[str, Any] = field(default_factory=dict)
    report: Mapping[str, Any] = field(default_factory=dict)
    health: Mapping[str, Any] = field(default_factory=dict)
    transformers: Mapping[str, Any] = field(default_factory=dict)
    examples: Sequence[str] = ()
    catalog: TokenCatalog = field(default_factory=TokenCatalog)
    results: "Sequence[EvalResult]" = ()
    languages: Sequence[str] = ()
    has_curves: bool = False

    @property
    def base(self) -> str | None:
        """The base model: its id on the Hub, the name of its folder, or `"scratch"`."""
        found = texts([self.report.get("base_model"), self.config.get("base")])
        named = next((name for name in found if is_hub_name(name)), None)
        return named or (Path(found[0]).name or None if found else None)

    @property
    def fictional(self) -> bool:
        """Whether the tracks, or those that it was measured on, are the demo world's."""
        kinds = [mapping(one.dataset_args).get("catalog_kind") for one in self.results]
        return "demo world" in kinds or any(_NOT_REAL in name for name in self.catalog.licenses)

    @property
    def modalities(self) -> list[tuple[str, int | float]]:
        """Name and number of codes of each modality, in the order of the tokens."""
        sizes = [number(size) or 0 for size in listing(self.config.get("codes"))]
        return list(zip(texts(self.config.get("modalities")), sizes, strict=False))


def model_facts(
    folder: Path,
    *,
    is_model: bool,
    repo_id: str | None,
    license: str | None,
    title: str,
    datasets: Sequence[str],
) -> ModelFacts:
    """Read the files of a folder; what cannot be read is left out with a warning."""
    standing = told(_standing_card, folder, otherwise=None)
    before = mapping(standing.to_dict()) if standing is not None else {}
    report = mapping(read(folder, REPORT))
    return ModelFacts(
        is_model=is_model,
        repo_id=repo_id,
        title=title,
        license=license or stated_license(before),
        datasets=[
            name
            for name in list(datasets) or texts(before.get("datasets"))
            if _REPO.fullmatch(name)
        ],
        config=mapping(read(folder, files.TALKPLAY_CONFIG)),
        report=report,
        health=mapping(read(folder, files.CODEBOOK_HEALTH)),
        transformers=mapping(read(folder, "config.json")),
        examples=texts(read(folder, files.EXAMPLES)),
        catalog=told(_token_catalog, folder, otherwise=TokenCatalog()),
        results=list(getattr(standing, "eval_results", None) or ()),
        languages=texts(mapping(report.get("data")).get("languages"))
        or texts(before.get("language")),
        has_curves=(folder / CURVES).is_file(),
    )


def is_hub_name(base: str) -> bool:
    """Whether a name is that of a repo, `"owner/name"`, and not of a folder here."""
    return _REPO.fullmatch(base) is not None and not Path(base).exists()


def _standing_card(folder: Path) -> Any:
    """The front matter of the card that is there, or `None`."""
    from huggingface_hub import ModelCard

    path = folder / files.CARD
    if not path.is_file():
        return None
    text = path.read_text(encoding="utf-8-sig")
    # the library starts a front matter where there is none, and warns
    return ModelCard(text).data if text.startswith("---") else None


def _token_catalog(folder: Path) -> TokenCatalog:
    path = folder / files.TOKEN_CATALOG
    if not path.is_file():
        return TokenCatalog()
    with pq.ParquetFile(path) as file:
        names = file.schema_arrow.names
        table = file.read(columns=[name for name in ("cold", "license") if name in names])
        rows = file.metadata.num_rows
        first = next(file.iter_batches(1, columns=["codes"]), None) if "codes" in names else None
    licenses = {}
    if "license" in table.schema.names:
        found = pc.value_counts(table["license"]).to_pylist()
        licenses = {str(one["values"]): one["counts"] for one in found if one["values"] is not None}
    return TokenCatalog(
        tracks=rows,
        cold=pc.sum(table["cold"]).as_py() or 0 if "cold" in table.schema.names else 0,
        licenses=dict(sorted(licenses.items())),
        codes=first["codes"][0].as_py() if first is not None and len(first) else (),
    )
