"""The card of a model: what its music tokens are and how it was trained."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from talkplay_hf.hub import files
from talkplay_hf.hub.markdown import cell, table

_TEMPLATE = Path(__file__).parent / "model_card.md"
TAGS = ("music", "recommendation", "conversational", "talkplay")


def model_card(
    title: str, config: Mapping[str, Any], report: Mapping[str, Any], *, tracks: int
) -> str:
    """The card of a model folder.

    Args:
        title (`str`): The name of the model.
        config (`Mapping[str, Any]`): What `talkplay_config.json` says: `base`, `modalities`,
            `codes`, `missing`.
        report (`Mapping[str, Any]`): What `training_report.json` says.
        tracks (`int`): How many tracks its catalogue has.

    Returns:
        `str`: Markdown with YAML front matter, the same for the same facts.
    """
    from huggingface_hub import ModelCard, ModelCardData

    base = str(config["base"])
    on_hub = _is_hub_name(base)
    data = ModelCardData(
        library_name="transformers",
        pipeline_tag="text-generation",
        tags=list(TAGS),
        base_model=base if on_hub else None,
    )
    modalities = zip(config["modalities"], config["codes"], strict=True)
    tokens = table(("modality", "codes"), [(name, f"{size:,}") for name, size in modalities])
    tokens += f"\n\nThe catalogue has {tracks:,} tracks. A modality that a track lacks: "
    tokens += "its likeliest code." if config["missing"] == "impute" else "a code of its own."
    card = ModelCard.from_template(
        data,
        template_path=str(_TEMPLATE),
        title=cell(" ".join(title.split())),
        tokens=tokens,
        training=_training(base if on_hub else Path(base).name, report),
    )
    return str(card.content).strip() + "\n"


def write_model_card(
    folder: str | Path,
    title: str,
    config: Mapping[str, Any],
    report: Mapping[str, Any],
    *,
    tracks: int,
) -> None:
    """Write the card of a model folder, see `model_card`."""
    files.write_text(Path(folder) / files.CARD, model_card(title, config, report, tracks=tracks))


def _is_hub_name(base: str) -> bool:
    # "owner/name", and no folder: "scratch" is neither
    parts = base.split("/")
    return (
        len(parts) == 2 and all(parts) and not Path(base).exists() and parts[0] not in (".", "..")
    )


def _training(base: str, report: Mapping[str, Any]) -> str:
    rows = [
        ("base", "a small Llama from scratch" if base == "scratch" else base),
        ("parameters", f"{report['parameters']:,}"),
        ("steps", f"{report['steps']:,}"),
        ("tokens seen", f"{report['tokens_seen']:,}"),
        ("precision", report["precision"]),
        ("seed", report["seed"]),
        *sorted((name, value) for name, value in report["arguments"].items() if value is not None),
    ]
    return table(("setting", "value"), [(name, f"{value}") for name, value in rows])
