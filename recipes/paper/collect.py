"""Take from a report what the ledger of the paper reads, into recipes/paper/measured.

    talkplay evaluate run/model run/conversations --catalog run/catalog --out run/eval.json
    python recipes/paper/collect.py run/eval.json corpus \
        --about "27,082 real tracks, Llama of 4 layers from scratch" \
        --command "talkplay evaluate run/model run/conversations --catalog run/catalog"
    python recipes/paper/ledger.py

A report is what `talkplay evaluate` or `talkplay stats --json` writes, or the training_report.json
of a model folder, of which the curves are kept as their first, lowest and last values. It needs the
standard library alone.
"""

import argparse
import json
import re
import sys
from pathlib import Path
from typing import Any

MEASURED = Path(__file__).resolve().parent / "measured"
FORMAT_VERSION = 1
DIGITS = 6
# parts of an evaluation that no claim reads: they name tracks, tell of the training, or are long
LEFT_OUT = ("examples", "training", "codebooks", "slices", "hit_curve", "ranking_with_negatives")
CURVES = {
    "conversations": "eval_conversations_loss",
    "playlists": "eval_playlists_loss",
    "train_conversations": "loss_conversations",
    "self_similarity": "self_similarity",
    "eval_self_similarity": "eval_self_similarity",
    "spearman": "eval_spearman",
    "overlap_at_10": "eval_overlap_at_10",
}
# steps that are averaged for the last value of a curve that is logged batch by batch
NOISY, MEAN_OF = "train_conversations", 5


def excerpt(report: dict[str, Any], steps: int | None = None) -> dict[str, Any]:
    """What is kept of a report.

    Args:
        report (`dict[str, Any]`): An evaluation, a training report, or the figures of a catalog.
        steps (`int`, *optional*): The steps of a training that count; all by default.

    Raises:
        ValueError: If it is none of them.
    """
    if "ranking" in report:
        return {name: value for name, value in report.items() if name not in LEFT_OUT}
    if "sparsity" in report:
        return report
    if "log" in report:
        log = [entry for entry in report["log"] if steps is None or entry["step"] <= steps]
        made = {name: curve(log, key, name == NOISY) for name, key in CURVES.items()}
        last = max((entry["step"] for entry in log), default=0)
        return {"seed": report["seed"], "steps": last, **made}
    raise ValueError("is no evaluation, no figures of a catalog and no training report")


def curve(log: list[dict[str, Any]], key: str, noisy: bool) -> dict[str, Any] | None:
    """First, lowest, highest and last value of a figure, with the step of the lowest."""
    points = [(entry["step"], float(entry[key])) for entry in log if key in entry]
    if not points:
        return None
    values = [value for _, value in points]
    step, lowest = min(points, key=lambda point: point[1])
    last = values[-MEAN_OF:] if noisy else values[-1:]
    return {
        "first": values[0],
        "lowest": lowest,
        "lowest_step": step,
        "highest": max(values),
        "last": sum(last) / len(last),
    }


def rounded(value: Any) -> Any:
    """The same value with fewer digits."""
    if isinstance(value, float):
        return round(value, DIGITS) if abs(value) >= 1e-3 else float(f"{value:.{DIGITS}g}")
    if isinstance(value, dict):
        return {name: rounded(one) for name, one in value.items()}
    if isinstance(value, list):
        return [rounded(one) for one in value]
    return value


def text(value: Any) -> str:
    """JSON with the innermost objects on one line."""
    return re.sub(
        r"\{[^{}\[\]]*\}",
        lambda found: " ".join(found.group().split()),
        json.dumps(value, indent=1, ensure_ascii=False, sort_keys=True),
    )


def main() -> int:
    made = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("report", type=Path, help="JSON file of a report")
    made.add_argument("name", help="name of the file in recipes/paper/measured, without .json")
    made.add_argument("--about", required=True, help="data, model and seed, for the page")
    made.add_argument("--command", required=True, help="the command that made the report")
    made.add_argument("--steps", type=int, help="the steps of a training that count")
    args = made.parse_args()
    try:
        report = json.loads(args.report.read_text(encoding="utf-8"))
        kept = excerpt(report, args.steps)
    except (OSError, ValueError) as error:
        print(f"{args.report}: {error}", file=sys.stderr)
        return 2
    value = {
        "format_version": FORMAT_VERSION,
        "about": args.about,
        "command": args.command,
        "figures": rounded(kept),
    }
    out = MEASURED / f"{args.name}.json"
    out.write_text(text(value) + "\n", encoding="utf-8")
    print(out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
