"""Compare a trained model with the expected figures of its recipe.

python recipes/check.py recipes/quickstart demo/model evaluation.json

Exit status: 0 if every figure is within its tolerance, 1 if one is not, 2 if there is nothing to
compare or the input cannot be read. It needs the standard library alone.

A recipe's folder holds `expected.json`:

    {
      "format_version": 1,
      "recipe": "quickstart",           name of the folder
      "hardware": "…",                  what the figures were measured on
      "data": "…",                      and from which data
      "seeds": [0, 1, 2],               of the runs behind the figures
      "measured": true,                 false where nobody has run it: then "reason" says why,
      "figures": {                      and there are no seeds and no figures
        "sft.yaml": [                   by file, since a recipe may have several
          {
            "name": "MRR",
            "file": "evaluation",       or "report": the model's training_report.json
            "key": "ranking.talkplay.mrr.value",      keys from the outside in
            "value": 0.262,             mean over the seeds
            "tolerance": 0.05           most absolute difference of a run of any seed
          }
        ]
      }
    }

`evaluation` is what `talkplay evaluate … --out evaluation.json` writes.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

EXPECTED = "expected.json"
REPORT = "training_report.json"


class BadInputError(Exception):
    """There is nothing to compare, or it cannot be read; the message says what and where."""


def read(path: Path) -> dict[str, Any]:
    """A JSON object from a file."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except OSError:
        raise BadInputError(f"{path}: cannot be read") from None
    except ValueError as error:
        raise BadInputError(f"{path}: is not JSON ({error})") from None
    if not isinstance(value, dict):
        raise BadInputError(f"{path}: is not a JSON object")
    return value


def expected_figures(recipe: Path) -> list[dict[str, Any]]:
    """The figures of a recipe, which is a folder or one of its YAML files."""
    folder, name = (recipe, "sft.yaml") if recipe.is_dir() else (recipe.parent, recipe.name)
    expected = read(folder / EXPECTED)
    if not expected["measured"]:
        raise BadInputError(f"{folder}: not measured: {expected['reason']}")
    if name not in expected["figures"]:
        known = ", ".join(expected["figures"])
        raise BadInputError(f"{folder / EXPECTED}: has no figures of {name}, but of {known}")
    figures: list[dict[str, Any]] = expected["figures"][name]
    return figures


def look_up(value: Any, key: str, path: Path) -> float:
    """A number by its dotted key."""
    for part in key.split("."):
        if not isinstance(value, dict) or part not in value:
            raise BadInputError(f"{path}: has no {key}")
        value = value[part]
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise BadInputError(f"{path}: {key} is no number")
    return float(value)


def check(recipe: Path, model: Path, evaluation: Path | None) -> tuple[str, bool]:
    """The table of the comparison, and whether all figures are within tolerance.

    Figures of an evaluation that is not given are left out.
    """
    paths = {"report": model / REPORT, "evaluation": evaluation}
    rows = [("figure", "expected", "found", "")]
    within = True
    values: dict[str, dict[str, Any]] = {}
    for figure in expected_figures(recipe):
        path = paths[figure["file"]]
        wanted = f"{figure['value']:.4g} ± {figure['tolerance']:.4g}"
        if path is None:
            rows.append((figure["name"], wanted, "-", "no evaluation given"))
            continue
        if figure["file"] not in values:
            values[figure["file"]] = read(path)
        found = look_up(values[figure["file"]], figure["key"], path)
        # not the other way round: NaN is outside
        good = abs(found - figure["value"]) <= figure["tolerance"]
        within = within and good
        rows.append((figure["name"], wanted, f"{found:.4g}", "" if good else "OUTSIDE"))
    if not values:
        raise BadInputError(f"{recipe}: its figures are of an evaluation; name its JSON file too")
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    return "\n".join(lines), within


def main() -> int:
    made = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("recipe", type=Path, help="recipe folder, or the YAML file that was trained")
    made.add_argument("model", type=Path, help="model folder")
    made.add_argument("evaluation", type=Path, nargs="?", help="JSON of talkplay evaluate --out")
    args = made.parse_args()
    try:
        table, within = check(args.recipe, args.model, args.evaluation)
    except BadInputError as error:
        print(error, file=sys.stderr)
        return 2
    print(table)
    return 0 if within else 1


if __name__ == "__main__":
    sys.exit(main())
