"""The card of an artefact folder of any kind, from the files in it."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from talkplay_hf.errors import ArtifactError
from talkplay_hf.hub import files
from talkplay_hf.hub.cards import parts
from talkplay_hf.hub.cards.catalog import catalog_card, catalog_facts
from talkplay_hf.hub.cards.conversations import conversations_card
from talkplay_hf.hub.cards.features import features_card, features_facts
from talkplay_hf.hub.cards.licenses import license_fields
from talkplay_hf.hub.cards.model import model_card
from talkplay_hf.hub.cards.model_facts import model_facts
from talkplay_hf.hub.cards.seal import is_ours
from talkplay_hf.hub.cards.told import mapping, read
from talkplay_hf.hub.markdown import cell

_DATASETS = ("catalog", "features", "conversations")


def card(
    folder: str | Path,
    *,
    repo_id: str | None = None,
    license: str | None = None,
    title: str | None = None,
    datasets: Sequence[str] = (),
) -> str:
    """The card of a folder, from what its files say.

    Args:
        folder (`str` or `Path`): A model, tokenizer, catalog, features or conversations folder.
        repo_id (`str`, *optional*): Where it will be on the Hub; the code in the card loads it
            from there.
        license (`str`, *optional*): The Hub's name of its licence, or another text. Left out: what
            the folder or the card that is there says; for a model whose base is well known, the
            licence of the base.
        title (`str`, *optional*): The title. Left out: the name of the repo or of the folder.
        datasets (`Sequence[str]`): For a model: datasets of the Hub that it was trained on.

    Returns:
        `str`: Sealed Markdown with YAML front matter, the same for the same facts. A fact that
        cannot be read is left out with a warning.

    Raises:
        ArtifactError: If the folder is none of ours.
    """
    folder = Path(folder)
    kind = files.folder_kind(folder)
    if kind not in ("model", "tokenizer", *_DATASETS):
        raise ArtifactError(f"{folder}: is no artefact folder, so there is nothing to say about it")
    name = parts.title_of(folder, repo_id, title)
    try:
        text = _card_of(kind, folder, repo_id, license, name, title, datasets)
        _check(kind, text)
        return text
    except Exception as error:
        warnings.warn(f"{folder}: has a minimal card ({error!r:.300})", stacklevel=2)
        return _minimal(kind, name, license)


def write_card(
    folder: str | Path,
    *,
    repo_id: str | None = None,
    license: str | None = None,
    title: str | None = None,
) -> bool:
    """Write the card of a folder, see `card`. One that a person wrote or edited is left alone.

    Returns:
        `bool`: Whether it was written.

    Raises:
        ArtifactError: If the folder is none of ours.
    """
    path = Path(folder) / files.CARD
    if path.exists():
        try:
            if not is_ours(path.read_text(encoding="utf-8")):
                return False
        except (OSError, UnicodeDecodeError):
            # nothing of ours is like that
            return False
    text = card(folder, repo_id=repo_id, license=license, title=title)
    files.write_text(path, text)
    return True


def _card_of(
    kind: str,
    folder: Path,
    repo_id: str | None,
    license: str | None,
    title: str,
    given: str | None,
    datasets: Sequence[str],
) -> str:
    if kind == "catalog":
        return catalog_card(catalog_facts(folder, repo_id=repo_id, license=license, title=title))
    if kind == "features":
        return features_card(features_facts(folder, repo_id=repo_id, license=license, title=title))
    if kind == "conversations":
        facts = mapping(read(folder, files.MANIFEST))
        facts["license"] = license or facts.get("license")
        facts["pretty_name"] = given or facts.get("pretty_name") or (repo_id and title)
        return conversations_card(facts, repo_id=repo_id)
    return model_card(
        model_facts(
            folder,
            is_model=kind == "model",
            repo_id=repo_id,
            license=license,
            title=title,
            datasets=datasets,
        )
    )


def _check(kind: str, text: str) -> None:
    """Parse a card as the Hub's client does.

    Raises:
        ValueError: If it cannot be written as UTF-8, or its front matter is none.
    """
    from huggingface_hub import DatasetCard, ModelCard

    text.encode()
    (DatasetCard if kind in _DATASETS else ModelCard)(text)


def _minimal(kind: str, title: str, license: str | None) -> str:
    from huggingface_hub import DatasetCardData, ModelCardData

    make: Any = DatasetCardData if kind in _DATASETS else ModelCardData
    safe = title.encode("utf-8", "replace").decode()
    named = (license or "").encode("utf-8", "replace").decode()
    extra: dict[str, Any] = {} if kind in _DATASETS else {"library_name": "transformers"}
    data = make(**license_fields(named), tags=list(parts.TAGS), **extra)
    summary = f"A {kind} folder of the package talkplay_hf. What its files say cannot be read."
    return parts.render("minimal.md", data, title=cell(safe), summary=summary)
