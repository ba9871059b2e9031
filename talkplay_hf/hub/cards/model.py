"""The card of a model or a tokenizer: its music tokens, its training, its figures, its limits."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from talkplay_hf.hub.cards import parts
from talkplay_hf.hub.cards.licenses import base_rules, license_fields
from talkplay_hf.hub.cards.model_facts import CURVES, SCRATCH, ModelFacts, is_hub_name
from talkplay_hf.hub.cards.told import count, mapping, number, texts, told
from talkplay_hf.hub.markdown import cell, flat, table

_REQUEST = "Play some slow jazz"
_WIDGETS = 6
# what of the last losses is worth a row
_LOSSES = (
    ("train", "loss", "training loss"),
    ("eval", "conversations_loss", "validation loss of the conversations"),
    ("eval", "conversations_loss_music", "of these, of the music tokens"),
    ("eval", "conversations_loss_text", "of these, of the replies"),
    ("eval", "playlists_loss", "validation loss of the playlists"),
)


def model_card(facts: ModelFacts) -> str:
    """The card of a model or tokenizer folder.

    Args:
        facts (`ModelFacts`): What is known. A section whose facts are damaged is left out with a
            warning.

    Returns:
        `str`: Sealed Markdown with YAML front matter, the same for the same facts.
    """
    from huggingface_hub import ModelCardData

    front: dict[str, Any] = {
        name: told(make, facts, otherwise=None) for name, make in _FRONT.items()
    }
    front |= told(_license, facts, otherwise=license_fields(None))
    results: dict[str, Any] = {"eval_results": list(facts.results), "model_name": facts.title}
    data = ModelCardData(
        library_name="transformers",
        tags=list(parts.TAGS),
        **{name: value for name, value in front.items() if value},
        **(results if facts.results else {}),
    )
    body = {name: told(make, facts, otherwise="") for name, make in _BODY.items()}
    return parts.render("model.md", data, title=cell(facts.title), **body)


def _pipeline_tag(facts: ModelFacts) -> str | None:
    return "text-generation" if facts.is_model else None


def _base_model(facts: ModelFacts) -> str | None:
    return facts.base if facts.base and is_hub_name(facts.base) else None


def _datasets(facts: ModelFacts) -> list[str]:
    return list(facts.datasets)


def _language(facts: ModelFacts) -> list[str]:
    return parts.languages(facts.languages)


def _widget(facts: ModelFacts) -> list[dict[str, Any]]:
    if not facts.is_model:
        return []
    return [
        {"messages": [{"role": "user", "content": text}], "example_title": text[:60]}
        for text in facts.examples[:_WIDGETS]
    ]


def _license(facts: ModelFacts) -> dict[str, Any]:
    rules = base_rules(facts.base or "")
    if facts.license is None and rules is not None:
        return license_fields(rules.license)
    return license_fields(facts.license)


def _summary(facts: ModelFacts) -> str:
    tracks = f" of {facts.catalog.tracks:,} tracks" if facts.catalog.tracks is not None else ""
    if not facts.is_model:
        return (
            "A tokenizer for conversational music recommendation: the vocabulary of "
            f"{_base_name(facts)}, grown by music tokens, with the codebooks behind them and a "
            f"catalogue{tracks} in these tokens. It has no weights."
        )
    return (
        f"A conversational music recommender, made from {_base_name(facts)}: a language model "
        "whose vocabulary holds music tokens. It answers a chat turn by writing the tokens of a "
        f"track, which a lookup maps to the catalogue{tracks} in this repo, and then a reply."
    )


def _base_name(facts: ModelFacts) -> str:
    if facts.base == SCRATCH:
        return "a small Llama from scratch" if facts.is_model else "a BPE from scratch"
    return cell(facts.base) if facts.base else "a base that is not stated"


def _fiction(facts: ModelFacts) -> str:
    return parts.FICTION if facts.fictional else ""


def _usage(facts: ModelFacts) -> str:
    request = parts.quoted(facts.examples[0] if facts.examples else _REQUEST, _REQUEST)
    repo = parts.place(facts.repo_id)
    if facts.is_model:
        return parts.fill("model_usage.md", repo=repo, request=request)
    codes = [int(code) for code in facts.catalog.codes] or [0] * len(facts.modalities)
    return parts.fill("tokenizer_usage.md", repo=repo, request=request, codes=codes)


def _tokens(facts: ModelFacts) -> str:
    health = mapping(facts.health.get("modalities"))
    if not health:
        text = table(("modality", "codes"), facts.modalities)
    else:
        rows = []
        for name, size in facts.modalities:
            found = mapping(health.get(name))
            trained = mapping(found.get("training"))
            used = number(found.get("used"))
            rows.append(
                (
                    name,
                    size,
                    _shown(used),
                    _shown(None if used is None else size - used),
                    _shown(number(found.get("perplexity")), ",.1f"),
                    _shown(number(found.get("largest_share")), ".1%"),
                    _shown(number(found.get("explained")), ".1%"),
                    _shown(number(trained.get("never"))),
                )
            )
        head = ("modality", "codes", "used", "dead", "perplexity", "largest code", "explained",
                "never trained")  # fmt: skip
        text = table(head, rows)
        text += (
            "\n\nUsed: codes that a track has. Perplexity: how many codes it would be if all were "
            "as frequent. Largest code: share of the tracks that have the most frequent one. "
            "Explained: share of the variance of the vectors that the codes keep. Never trained: "
            "codes of no track of a training playlist."
        )
    return "\n\n".join([text, *_collisions(facts)])


def _collisions(facts: ModelFacts) -> Iterator[str]:
    tracks = facts.catalog.tracks
    distinct = number(facts.health.get("distinct_tuples"))
    rate, most = number(facts.health.get("collision_rate")), facts.health.get("largest_bucket")
    line = f"The catalogue has {tracks:,} tracks." if tracks is not None else ""
    if distinct is not None and rate is not None:
        line += (
            f" They have {distinct:,} different blocks of tokens; {rate:.1%} of the tracks share "
            f"theirs with another, at most {count(most):,} tracks have the same."
        )
    missing = facts.config.get("missing")
    if missing in ("impute", "reserve"):
        how = "its likeliest code" if missing == "impute" else "a code of its own"
        line += f" A modality that a track lacks has {how}."
    if line:
        yield line.strip()


def _training(facts: ModelFacts) -> str:
    report = facts.report
    if not report:
        return ""
    rows: list[tuple[str, Any]] = [("base", _base_name(facts))]
    if texts([report.get("base_revision")]):
        rows.append(("revision of the base", report["base_revision"]))
    for name, title in (
        ("parameters", "parameters"),
        ("trained_parameters", "parameters trained"),
        ("steps", "steps"),
        ("tokens_seen", "tokens seen"),
    ):
        if number(report.get(name)) is not None:
            rows.append((title, report[name]))
    rows += [one for one in flat(mapping(report.get("optimization"))) if one[1] is not None]
    rows += [(name, report[name]) for name in ("precision", "seed") if report.get(name) is not None]
    arguments = flat(mapping(report.get("arguments")))
    rows += [(name, value) for name, value in arguments if value is not None]
    best = mapping(report.get("best"))
    if number(best.get("step")) is not None and texts([best.get("metric")]):
        rows.append(("weights of step", f"{best['step']:,}, the best by {best['metric']}"))
    last = mapping(report.get("last"))
    for where, name, title in _LOSSES:
        value = number(mapping(last.get(where)).get(name))
        rows += [(f"{title}, last", f"{value:.4f}")] if value is not None else []
    text = table(("setting", "value"), [(name, _plain(value)) for name, value in rows])
    return text + (f"\n\n![Losses by step]({CURVES})" if facts.has_curves else "")


def _plain(value: Any) -> Any:
    # small figures in full: a learning rate is no rounded count
    return f"{value}" if isinstance(value, float) else value


def _figures(facts: ModelFacts) -> str:
    by_dataset: dict[str, list[Any]] = {}
    for one in facts.results:
        by_dataset.setdefault(str(one.dataset_name), []).append(one)
    return "\n\n".join(_dataset_figures(name, found) for name, found in by_dataset.items())


def _dataset_figures(name: str, results: Sequence[Any]) -> str:
    rows = []
    for one in results:
        told_of = mapping(one.metric_args)
        low, high = number(told_of.get("low")), number(told_of.get("high"))
        metric = str(one.metric_name or one.metric_type).partition(" (95 %")[0]
        rows.append(
            (
                metric,
                _shown(number(one.metric_value), ".4f"),
                f"{low:.4f} to {high:.4f}" if low is not None and high is not None else "",
                _shown(number(told_of.get("turns"))),
                told_of.get("best_baseline") or "",
                _shown(number(told_of.get("best_baseline_value")), ".4f"),
            )
        )
    head = ("metric", "value", "95 % interval", "turns", "best baseline", "its value")
    return f"### {cell(name)}\n\n{_conditions(results[0])}{table(head, rows)}"


def _conditions(result: Any) -> str:
    args = mapping(result.dataset_args)
    said = []
    if number(args.get("candidates")) is not None:
        said.append(f"{args['candidates']:,} candidate tracks")
    if number(args.get("conversations")) is not None:
        said.append(f"{args['conversations']:,} conversations")
    if isinstance(args.get("exclude_played"), bool):
        said.append("played tracks are " + ("left out" if args["exclude_played"] else "kept"))
    if args.get("catalog_kind") == "demo world":
        said.append("the catalogue is the fictional demo world")
    text = "; ".join(said)
    return f"{text[0].upper()}{text[1:]}.\n\n" if text else ""


def _data(facts: ModelFacts) -> str:
    data = mapping(facts.report.get("data"))
    rows = []
    for split in ("train", "validation"):
        found = mapping(data.get(split))
        for part in ("conversations", "playlists"):
            one = mapping(found.get(part))
            if one:
                rows.append((split, part, *(count(one.get(n)) for n in _ROWS)))
    text = table(("split", "rows of", "rows", "tokens", "tokens with loss"), rows) if rows else ""
    made = parts.made_rows({"made_from": facts.config.get("made_from")})
    if texts([data.get("fingerprint")]):
        made.append(("fingerprint of the training rows", data["fingerprint"]))
    if made:
        text += "\n\n" + table(("what", "value"), made)
    if facts.datasets:
        text += "\n\nDatasets: " + ", ".join(map(cell, facts.datasets)) + "."
    return text.strip()


_ROWS = ("rows", "tokens", "label_tokens")


def _limits(facts: ModelFacts) -> str:
    return parts.lines(_limit_lines(facts))


def _limit_lines(facts: ModelFacts) -> Iterator[str]:
    if facts.fictional:
        yield "The catalogue is fictional: no figure on it is a statement about real music."
    yield "It knows the catalogue that it was made for, and no track beside."
    if facts.is_model:
        yield "What is said about a track is generated and can be wrong."
        yield (
            "Tracks that stand in many playlists are seen more often in training, and are "
            "recommended more often."
        )
    if facts.catalog.cold:
        yield (
            f"{facts.catalog.cold:,} of the tracks are cold: no training playlist holds them, so "
            "their playlist token says less."
        )
    if facts.is_model:
        known = ", ".join(map(cell, _language(facts)))
        yield (
            f"It was trained on conversations in {known}, and is not expected to work in others."
            if known
            else "It answers best in the language of the conversations that it was trained on."
        )
        if facts.results:
            yield "Figures hold for the conversations and the catalogue they were measured on."
        else:
            yield "Nothing is stated here about how well it recommends: it has not been measured."


def _licence(facts: ModelFacts) -> str:
    what = "model" if facts.is_model else "tokenizer"
    said = []
    rules = base_rules(facts.base or "")
    if facts.license is not None:
        said.append(f"Licence of this {what}: {cell(facts.license)}.")
    elif rules is None:
        said.append(f"Licence of this {what}: unknown, nobody has stated one.")
    else:
        said.append(f"Licence of this {what}: that of its base.")
    if rules is not None:
        said.append(
            f"It is made from {cell(facts.base)}, so the terms of the "
            f"[{rules.title}]({rules.link}) hold for it as well."
        )
    elif facts.base not in (None, SCRATCH):
        said.append(f"It is made from {cell(facts.base)}: see the licence of {cell(facts.base)}.")
    text = " ".join(said)
    if rules is not None and rules.built_with:
        text += f"\n\n**{rules.built_with}**"
    if rules is not None and rules.notice:
        text += f"\n\n{rules.notice}"
    if rules is not None and rules.name_begins:
        text += (
            f"\n\nThe name of a model that is made from this one has to begin with "
            f'"{rules.name_begins}", too.'
        )
    return text + "\n\n" + _catalog_licence(facts.catalog.licenses)


def _catalog_licence(licenses: Mapping[str, int]) -> str:
    if not licenses:
        return (
            "The catalogue in this repo quotes titles, artists and other metadata. Their licence "
            "is not stated: see the source of the catalogue."
        )
    shown = sorted(licenses.items(), key=lambda one: (-one[1], one[0]))[:10]
    named = ", ".join(f"{cell(name)} ({tracks:,} tracks)" for name, tracks in shown)
    more = f" and {len(licenses) - len(shown):,} more" if len(licenses) > len(shown) else ""
    return f"Licences of the tracks, as the catalogue has them: {named}{more}."


def _citation(facts: ModelFacts) -> str:
    return f"The method is that of this paper:\n\n{parts.CITATION}"


def _versions(facts: ModelFacts) -> str:
    found = {
        "talkplay_hf": facts.config.get("talkplay_hf"),
        "transformers": facts.transformers.get("transformers_version"),
        **mapping(facts.report.get("versions")),
    }
    return ", ".join(f"{cell(name)} {cell(found[name])}" for name in found if found[name])


def _shown(value: int | float | None, form: str = ",") -> str:
    return "" if value is None else format(value, form)


_FRONT: dict[str, Callable[[ModelFacts], Any]] = {
    "pipeline_tag": _pipeline_tag,
    "base_model": _base_model,
    "datasets": _datasets,
    "language": _language,
    "widget": _widget,
}
_BODY = {
    "summary": _summary,
    "fiction": _fiction,
    "usage": _usage,
    "tokens": _tokens,
    "training": _training,
    "figures": _figures,
    "data": _data,
    "limits": _limits,
    "licence": _licence,
    "citation": _citation,
    "versions": _versions,
}
