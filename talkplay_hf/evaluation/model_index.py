"""The figures of an evaluation in a model card, as the Hub reads them (`model-index`)."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from talkplay_hf.errors import ArtifactError, InputError, first_line
from talkplay_hf.evaluation.report import MODEL
from talkplay_hf.hub import files
from talkplay_hf.hub.cards import write_card
from talkplay_hf.hub.cards.seal import is_ours, seal

if TYPE_CHECKING:
    from huggingface_hub import EvalResult

TASK_TYPE = "text-generation"
TASK_NAME = "Conversational music recommendation"
METRICS = {
    "mrr": "MRR",
    "hit@1": "Hit@1",
    "hit@10": "Hit@10",
    "hit@100": "Hit@100",
    "ndcg@10": "nDCG@10",
    "ndcg@20": "nDCG@20",
}


def eval_results(report: Mapping[str, Any], dataset_name: str) -> "list[EvalResult]":
    """The model's figures of a report as results of the Hub.

    The metrics are those of the ranking and, where the conversations state requests, the request
    fit over all of them. The 95 % interval, the number of turns and the best of the baselines are
    arguments of each metric, and the interval is in its name, too. Pool, depth and hashes are
    arguments of the dataset.

    Args:
        report (`Mapping[str, Any]`): What `EvaluationReport.to_dict` gives.
        dataset_name (`str`): What the conversations are called. Results of different names stand
            beside each other in a card.

    Raises:
        InputError: If the report has no figures of the model, or the name has no letter or digit.
    """
    from huggingface_hub import EvalResult

    table: Mapping[str, Mapping[str, Any]] = report.get("ranking") or {}
    if MODEL not in table:
        raise InputError("the report: has no figures of the model, so no card can show them")
    dataset: dict[str, Any] = {
        "task_type": TASK_TYPE,
        "task_name": TASK_NAME,
        "dataset_type": dataset_type(dataset_name),
        "dataset_name": " ".join(dataset_name.split()),
        "dataset_args": _conditions(report),
    }
    figures = {
        metric: {system: held[metric] for system, held in table.items() if metric in held}
        for metric in METRICS
    }
    fit: Mapping[str, Mapping[str, Any]] = report.get("fit") or {}
    figures["request_fit"] = {s: fit[s]["all"] for s in table if "all" in fit.get(s, {})}
    return [
        EvalResult(
            **dataset,
            metric_type=metric,
            metric_value=round(systems[MODEL]["value"], 6),
            metric_name=_name(METRICS.get(metric, "Request fit"), systems[MODEL]),
            metric_args=_arguments(systems),
        )
        for metric, systems in figures.items()
        if MODEL in systems
    ]


def add_results(model_folder: str | Path, report: Mapping[str, Any], dataset_name: str) -> None:
    """Put the figures of a report into the card of a model.

    Earlier results of the same dataset name are replaced, all others are kept. A card that was
    generated is generated anew with the table of the figures; in one that a person wrote or edited,
    every word below the front matter is kept. A model folder without a card gets one.

    Args:
        model_folder (`str` or `Path`): The model's folder.
        report (`Mapping[str, Any]`): What `EvaluationReport.to_dict` gives.
        dataset_name (`str`): What the conversations are called.

    Raises:
        ArtifactError: If the folder has no card, or its front matter cannot be read.
        InputError: As `eval_results` does.
    """
    from huggingface_hub import ModelCard

    path = Path(model_folder) / files.CARD
    results = eval_results(report, dataset_name)
    if not path.exists() and files.folder_kind(Path(model_folder)) == "model":
        write_card(model_folder)
    try:
        # line ends stay as they are
        text = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise ArtifactError(
            f"{path}: no such file; write the model's card first, then add the figures to it"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ArtifactError(f"{path}: cannot be read ({first_line(error)})") from None
    # without front matter the library warns and starts one, and a list or a text in its place or
    # broken YAML is an error
    with_front = text if text.startswith("---") else "---\n{}\n---\n" + text
    try:
        card = ModelCard(with_front)
    except Exception as error:
        raise ArtifactError(
            f"{path}: its front matter cannot be read ({first_line(error)}); mend it first"
        ) from None
    # the library types it as the data of any card
    data: Any = card.data
    kind = results[0].dataset_type
    others = [one for one in data.eval_results or [] if one.dataset_type != kind]
    data.eval_results = [*others, *results]
    data.model_name = data.model_name or Path(model_folder).resolve().name
    if not is_ours(text):
        files.write_text(path, str(card))
        return
    files.write_text(path, seal(str(card)))
    if files.folder_kind(Path(model_folder)) == "model":
        write_card(model_folder)


def dataset_type(name: str) -> str:
    """What the Hub tells results apart by, for the name of a dataset.

    Raises:
        InputError: If the name has no letter or digit.
    """
    kind = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    if not kind:
        raise InputError(f"dataset name {name!r}: needs a letter (a to z) or a digit")
    return kind


def _conditions(report: Mapping[str, Any]) -> dict[str, Any]:
    names = ("catalog_kind", "conversations", "turns", "candidates", "k", "exclude_played", "seed")
    found = {name: report[name] for name in names if report.get(name) is not None}
    hashes = {name: value for name, value in (report.get("hashes") or {}).items() if value}
    return found | ({"sha256": hashes} if hashes else {})


def _name(metric: str, figure: Mapping[str, Any]) -> str:
    if figure.get("low") is None or figure.get("high") is None:
        return metric
    return f"{metric} (95 % interval {figure['low']:.3f} to {figure['high']:.3f})"


def _arguments(systems: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    ours = systems[MODEL]
    found: dict[str, Any] = {"turns": ours["n"]}
    if ours.get("low") is not None and ours.get("high") is not None:
        found |= {"low": round(ours["low"], 6), "high": round(ours["high"], 6)}
    others = {name: one["value"] for name, one in systems.items() if name != MODEL}
    if others:
        best = max(sorted(others), key=lambda name: others[name])
        found |= {"best_baseline": best, "best_baseline_value": round(others[best], 6)}
    return found
