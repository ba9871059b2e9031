"""Licences: their names on the Hub, and what those of well-known base models ask for."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

_TABLE = Path(__file__).parent / "base_licenses.json"
UNKNOWN = "unknown"


@dataclass(frozen=True)
class BaseRules:
    """What the licence of a family of base models asks of a model that is made from one.

    Args:
        family (`str`): Name of the family.
        models (`str`): Regular expression of the names of its models.
        license (`str`): The Hub's name of the licence.
        title (`str`): Its full name.
        link (`str`): Where it stands.
        built_with (`str`): Words to show with the model; empty where none are asked for.
        notice (`str`): Words that a copy of the model has to come with, or empty.
        name_begins (`str`): What the name of the model has to begin with, or empty.
    """

    family: str
    models: str
    license: str
    title: str
    link: str
    built_with: str = ""
    notice: str = ""
    name_begins: str = ""


def base_rules(base: str) -> BaseRules | None:
    """The rules of a base model.

    Args:
        base (`str`): Its id on the Hub, or the name of its folder.

    Returns:
        `BaseRules`: What is known, or `None`: then the licence of the base is to be read.
    """
    found = (one for one in _table()[1] if re.fullmatch(one.models, base, re.IGNORECASE))
    return next(found, None)


def name_problem(base: str, repo_id: str) -> str | None:
    """What is wrong with the name of a repo for a model that is made from a base.

    Args:
        base (`str`): The base model, see `base_rules`.
        repo_id (`str`): The repo, `"owner/name"` or `"name"`.

    Returns:
        `str`: One sentence, or `None` where no rule is known to be broken.
    """
    rules = base_rules(base)
    if rules is None or not rules.name_begins:
        return None
    name = repo_id.rpartition("/")[2]
    if _plain(name).startswith(_plain(rules.name_begins)):
        return None
    return (
        f"{repo_id}: the {rules.title} asks that the name of a model made from {base} begins with "
        f'"{rules.name_begins}"'
    )


def license_fields(license: Any) -> dict[str, Any]:
    """The front matter's fields of a licence.

    Args:
        license: A name that the Hub knows, in any case of letters; any other text is the name of a
            licence of its own, which the Hub wants as an id like `"my-license-1.0"`. `None` or an
            empty text: unknown.
    """
    text = " ".join(str(license or "").split()) or UNKNOWN
    if text.lower() in _table()[0]:
        return {"license": text.lower()}
    name = re.sub(r"[^a-z0-9.]+", "-", text.lower()).strip("-.")
    return {"license": "other"} | ({"license_name": name} if name else {})


def stated_license(front: Mapping[str, Any]) -> str | None:
    """The licence in the front matter of a card, unless it says that nobody gave one."""
    found = front.get("license_name") or front.get("license")
    return found if isinstance(found, str) and found not in (UNKNOWN, "other") else None


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9.]", "", name.lower())


@cache
def _table() -> tuple[frozenset[str], tuple[BaseRules, ...]]:
    table = json.loads(_TABLE.read_text(encoding="utf-8"))
    return frozenset(table["hub_ids"]), tuple(BaseRules(**one) for one in table["bases"])
