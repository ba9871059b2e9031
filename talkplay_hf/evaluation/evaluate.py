"""Run a recommender and the baselines over the turns of conversations, and report (paper 6).

A turn is one music message: what was said and played before it is the history, its track is the
label. Every system ranks the same pool of candidates, is cut at the same depth and is scored on
the same turns, so that differences between systems can be paired.
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from talkplay_hf.catalog.constraints import Constraint, satisfied
from talkplay_hf.catalog.matcher import ConstraintMatcher
from talkplay_hf.catalog.schema import Catalog, Conversation, Message
from talkplay_hf.errors import InputError
from talkplay_hf.evaluation.baselines import (
    BASELINES,
    ModelRanker,
    Ranker,
    RankingModel,
    make_baseline,
)
from talkplay_hf.evaluation.metrics import (
    BoolArray,
    ClusterBootstrap,
    Figure,
    FloatArray,
    label_ranks,
    ranking_metrics,
    request_kind,
    top1_share,
)
from talkplay_hf.recommend.options import RankingOptions

MODEL = "talkplay"
CHAT = "talkplay-chat"
CHANCE = "chance"
LABEL = "label"
# The kinds of request that the macro mean of the request fit is over, as far as they occur. A
# follow-up such as "more like this" counts under the field that it demands, too.
MACRO_KINDS = ("artist", "era", "genre", "mood", "tags")

Table = dict[str, dict[str, Figure]]


@dataclass(frozen=True)
class Turn:
    """One music message to be predicted.

    Args:
        conversation (`str`): The id of its conversation.
        number (`int`): Its place among the music messages of the conversation, from 1.
        history (`tuple[Message, ...]`): The messages before it; the last one is the user's.
        label (`int`): The catalog row of its track.
        played (`tuple[int, ...]`): The catalog rows of the tracks played before it.
        negative (`bool`): Whether its track is from the negative set (paper A.1).
    """

    conversation: str
    number: int
    history: tuple[Message, ...]
    label: int
    played: tuple[int, ...]
    negative: bool

    @property
    def request(self) -> tuple[Constraint, ...]:
        """What the last user message asks for."""
        return self.history[-1].constraints


def collect_turns(
    conversations: Sequence[Conversation], catalog: Catalog, *, exclude_played: bool = True
) -> tuple[list[Turn], dict[str, int]]:
    """List the turns that can be evaluated, and count those that cannot.

    Args:
        conversations (`Sequence[Conversation]`): Where the turns come from.
        catalog (`Catalog`): The candidates.
        exclude_played (`bool`): Skip a turn whose track was played before in the dialogue.

    Returns:
        `tuple[list[Turn], dict[str, int]]`: The turns, and how many were skipped because there is
        no user message right before (`"no_request"`), the track is not in the catalog
        (`"not_in_catalog"`) or it was played before (`"played_before"`).
    """
    turns: list[Turn] = []
    skipped = {"no_request": 0, "not_in_catalog": 0, "played_before": 0}
    for conversation in conversations:
        messages = conversation.messages
        music = [i for i, message in enumerate(messages) if message.role == "music"]
        for number, i in enumerate(music, start=1):
            track_id = messages[i].track_id
            before = [messages[j].track_id for j in music[: number - 1]]
            if i == 0 or messages[i - 1].role != "user":
                skipped["no_request"] += 1
            elif track_id is None or track_id not in catalog:
                skipped["not_in_catalog"] += 1
            elif exclude_played and track_id in before:
                skipped["played_before"] += 1
            else:
                turns.append(
                    Turn(
                        conversation=conversation.conversation_id,
                        number=number,
                        history=messages[:i],
                        label=catalog.row(track_id),
                        played=tuple(catalog.row(t) for t in before if t and t in catalog),
                        negative=messages[i].source == "negative",
                    )
                )
    return turns, skipped


def evaluate(
    model: str | Path | RankingModel,
    conversations: Sequence[Conversation],
    catalog: Catalog,
    *,
    limit: int | None = None,
    k: int = 100,
    seed: int = 0,
    baselines: Sequence[str] = BASELINES,
    held_out: Collection[str] = (),
    exclude_played: bool = True,
    include_negative: bool = False,
    resamples: int = 1_000,
    ranking: RankingOptions | None = None,
) -> "EvaluationReport":
    """Compare a recommender with baselines on every turn of the conversations (paper 6).

    Args:
        model (`str`, `Path` or `Recommender`): The recommender, or where to load it from.
        conversations (`Sequence[Conversation]`): The held-out conversations.
        catalog (`Catalog`): The candidates: all of its tracks.
        limit (`int`, *optional*): Use only the first so many conversations.
        k (`int`): How deep every system is ranked; the label beyond counts as not found.
        seed (`int`): Of the intervals and of the sampled chat answers.
        baselines (`Sequence[str]`): Which of `BASELINES` to compare with.
        held_out (`Collection[str]`): Ids of playlists that no baseline may learn from, besides
            those that `conversations` were made from and those that do not train by the catalog's
            split, which none ever does.
        exclude_played (`bool`): Take tracks already played in the dialogue out of every system's
            candidates. A turn whose label was played before is then skipped and counted.
        include_negative (`bool`): Give the ranking figures a second time with the turns whose
            track is from the negative set. All other figures are without them.
        resamples (`int`): How many bootstrap resamples the intervals are made from.
        ranking (`RankingOptions`, *optional*): How the model ranks; by default as
            `Recommender.rank` does.

    Raises:
        InputError: If an argument cannot be used or no turn is left to evaluate.
        MissingExtraError: If a baseline needs a package that is not installed.
    """
    if limit is not None and limit < 1:
        raise InputError(f"limit {limit}: must be at least 1")
    if k < 1:
        raise InputError(f"k {k}: must be at least 1")
    hidden = {c.playlist_id for c in conversations if c.playlist_id is not None} | set(held_out)
    turns, skipped = collect_turns(conversations[:limit], catalog, exclude_played=exclude_played)
    counted = [turn for turn in turns if include_negative or not turn.negative]
    plain = np.array([not turn.negative for turn in counted], dtype=bool)
    if not plain.any():
        why = ", ".join(f"{name}: {count}" for name, count in skipped.items())
        raise InputError(f"no turn of the conversations can be evaluated (skipped: {why})")
    rankers = {name: make_baseline(name, catalog, hidden) for name in baselines}
    recommender = _load(model)
    how = ranking or RankingOptions()
    how = replace(how, beam_width=max(k, how.beam_width))
    model_ranker = ModelRanker(
        recommender, catalog, k, exclude_played=exclude_played, seed=seed, options=how
    )
    rankers = {MODEL: model_ranker, **rankers}
    measured, fit = _run(recommender, rankers, counted, catalog, k, seed, exclude_played)

    every = ClusterBootstrap([t.conversation for t in counted], resamples=resamples, seed=seed)
    usual = [turn for turn in counted if not turn.negative]
    interval = ClusterBootstrap([t.conversation for t in usual], resamples=resamples, seed=seed)
    values = {s: {m: v[plain] for m, v in metrics.items()} for s, metrics in measured.items()}
    fit = {system: column[plain] for system, column in fit.items()}
    asks = np.array([bool(turn.request) for turn in usual])
    kinds = [request_kind(turn.request) for turn in usual]
    differences: Table = {
        name: {m: interval.difference(v, values[name][m]) for m, v in values[MODEL].items()}
        for name in baselines
    }
    if asks.any():
        for name in baselines:
            differences[name]["fit"] = interval.difference(fit[MODEL], fit[name], asks)
    numbers = [turn.number for turn in usual]
    return EvaluationReport(
        conversations=interval.clusters,
        turns=len(usual),
        candidates=len(catalog),
        k=k,
        ranking_options=asdict(how),
        seed=seed,
        resamples=resamples,
        exclude_played=exclude_played,
        skipped={**skipped, "negative": sum(turn.negative for turn in turns)},
        ranking=_figures(interval, values),
        ranking_with_negatives=_figures(every, measured) if include_negative else {},
        differences=differences,
        fit=_fit_figures(interval, fit, asks, kinds) if asks.any() else {},
        mrr_by_turn={name: interval.by_turn(m["mrr"], numbers) for name, m in values.items()},
    )


def _load(model: str | Path | RankingModel) -> RankingModel:
    if not isinstance(model, str | Path):
        return model
    from talkplay_hf.recommend.recommender import Recommender

    recommender: RankingModel = Recommender.from_pretrained(str(model))
    return recommender


def _run(
    model: RankingModel,
    rankers: Mapping[str, Ranker],
    turns: Sequence[Turn],
    catalog: Catalog,
    k: int,
    seed: int,
    exclude_played: bool,
) -> tuple[dict[str, dict[str, FloatArray]], dict[str, FloatArray]]:
    """Each system's metrics on each turn, and its request fit (NaN where nothing is asked for)."""
    matcher = ConstraintMatcher(catalog)
    parts: dict[str, list[dict[str, FloatArray]]] = {name: [] for name in rankers}
    fit = {name: np.full(len(turns), np.nan) for name in (*rankers, CHAT, CHANCE, LABEL)}
    # Dense scores of a chunk stay within about 32 MiB whatever the size of the catalog.
    size = int(np.clip(4_000_000 // len(catalog), 1, 32))
    with tqdm(total=len(turns), desc="turns", disable=None) as bar:
        for start in range(0, len(turns), size):
            chunk = turns[start : start + size]
            labels = [turn.label for turn in chunk]
            out = np.zeros((len(chunk), len(catalog)), dtype=bool)
            if exclude_played:
                for row, turn in enumerate(chunk):
                    out[row, list(turn.played)] = True
            asking = [row for row, turn in enumerate(chunk) if turn.request]
            wanted = np.array([matcher.mask(chunk[row].request) for row in asking], dtype=bool)
            at = start + np.array(asking, dtype=np.int64)
            for name, ranker in rankers.items():
                scores = ranker.scores([turn.history for turn in chunk])
                scores[out] = -np.inf
                parts[name].append(ranking_metrics(label_ranks(scores, labels), k))
                if asking:
                    fit[name][at] = top1_share(scores[asking], wanted)
            if asking:
                fit[CHANCE][at] = top1_share(np.where(out[asking], -np.inf, 0.0), wanted)
                fit[LABEL][at] = wanted[np.arange(len(asking)), np.array(labels)[asking]]
            answered = [int(i) for i in at if not turns[i].negative]
            answers = model.chat_batch(
                [list(turns[i].history) for i in answered],
                seeds=[seed + i for i in answered],
                exclude_played=exclude_played,
                max_new_tokens=0,
            )
            for i, answer in zip(answered, answers, strict=True):
                fit[CHAT][i] = bool(answer.tracks) and satisfied(
                    turns[i].request, catalog.track(answer.tracks[0].track_id)
                )
            bar.update(len(chunk))
    ranking = {
        name: {metric: np.concatenate([part[metric] for part in found]) for metric in found[0]}
        for name, found in parts.items()
    }
    return ranking, fit


def _figures(interval: ClusterBootstrap, values: dict[str, dict[str, FloatArray]]) -> Table:
    return {
        name: {metric: interval.figure(value) for metric, value in metrics.items()}
        for name, metrics in values.items()
    }


def _fit_figures(
    interval: ClusterBootstrap, fit: dict[str, FloatArray], asks: BoolArray, kinds: list[str]
) -> Table:
    groups = {kind: np.array(kinds) == kind for kind in sorted(set(kinds) - {""})}
    macro = [group for kind, group in groups.items() if kind in MACRO_KINDS] or [*groups.values()]
    return {
        name: {
            "all": interval.figure(values, asks),
            "macro": interval.macro(values, macro),
            **{kind: interval.figure(values, group) for kind, group in groups.items()},
        }
        for name, values in fit.items()
    }


@dataclass(frozen=True)
class EvaluationReport:
    """Every figure of an evaluation, with the conditions that it holds under.

    Args:
        conversations (`int`): How many conversations have a turn that counts.
        turns (`int`): How many turns count.
        candidates (`int`): How many tracks the catalog has.
        k (`int`): The depth at which every ranking is cut.
        ranking_options (`dict[str, Any]`): How the model ranks, see `RankingOptions`.
        seed (`int`): The seed of intervals and sampled answers.
        resamples (`int`): How many bootstrap resamples the intervals are made from.
        exclude_played (`bool`): Whether tracks already played were taken out of the candidates.
        skipped (`dict[str, int]`): How many turns were left out, by reason.
        ranking (`dict[str, dict[str, Figure]]`): By system, then metric.
        ranking_with_negatives (`dict[str, dict[str, Figure]]`): The same over all turns, those of
            the negative set among them; empty unless asked for.
        differences (`dict[str, dict[str, Figure]]`): Model minus baseline on the same turns: by
            baseline, then metric, `"fit"` being the request fit over all requests.
        fit (`dict[str, dict[str, Figure]]`): The share of requests whose every constraint the
            first track meets: by system, then `"all"`, `"macro"` (the mean over the kinds of
            `MACRO_KINDS`), and each kind of request. Further systems are `"talkplay-chat"` (a
            sampled answer, as given), `"chance"` (any candidate) and `"label"` (the track of the
            conversation). Empty where no message carries constraints.
        mrr_by_turn (`dict[str, dict[int, Figure]]`): By system, then turn number (figure 3).
    """

    conversations: int
    turns: int
    candidates: int
    k: int
    ranking_options: dict[str, Any]
    seed: int
    resamples: int
    exclude_played: bool
    skipped: dict[str, int]
    ranking: Table
    ranking_with_negatives: Table
    differences: Table
    fit: Table
    mrr_by_turn: dict[str, dict[int, Figure]]

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON values; every figure is `{value, low, high, n}`."""
        report = asdict(self)
        report["mrr_by_turn"] = {
            name: {str(number): figure for number, figure in by_turn.items()}
            for name, by_turn in report["mrr_by_turn"].items()
        }
        return report

    def summary(self) -> str:
        """The report as aligned text tables."""
        played = " less those played before in the dialogue" if self.exclude_played else ""
        skipped = Counter({name.replace("_", " "): n for name, n in self.skipped.items() if n})
        left_out = ", ".join(f"{n:,} {name}" for name, n in skipped.items()) or "none"
        if self.ranking_with_negatives:
            left_out += " (negative ones have a table of their own)"
        sections = [
            f"{self.turns:,} turns of {self.conversations:,} conversations; seed {self.seed}\n"
            f"candidates: the {self.candidates:,} tracks of the catalog{played}\n"
            f"ranks beyond {self.k} count as not found; ties count at their expected value\n"
            f"{MODEL} ranks {_how(self.ranking_options)}\n"
            f"turns left out: {left_out}\n"
            f"in brackets: 95 % intervals, {self.resamples:,} resamples of conversations",
            _render("ranking", self.ranking),
            _render("ranking, negative turns included", self.ranking_with_negatives),
            _render(f"{MODEL} minus baseline, paired", self.differences),
            _render("request fit of the first track", self.fit),
            _render(
                "MRR by turn",
                {
                    name: {f"turn {number}": figure for number, figure in by_turn.items()}
                    for name, by_turn in self.mrr_by_turn.items()
                },
            ),
        ]
        return "\n\n".join(section for section in sections if section) + "\n"


def _how(options: Mapping[str, Any]) -> str:
    """How the model ranks, in words."""
    sampled = f"at temperature {options['temperature']:g}, top-p {options['top_p']:g}"
    constraint = {
        "catalog": "within the catalog",
        "grammar": "among all well-formed blocks, looked up",
        "none": "without constraint, looked up",
    }[options["constraint"]]
    return {
        "beam": f"by beam search of width {options['beam_width']:,} {constraint}",
        "exact": "exactly: every track by the probability of its five tokens",
        "sampling": f"{options['draws']:,} blocks sampled {sampled} {constraint}",
        "expansion": f"what matches one block sampled {sampled} {constraint}",
    }[options["strategy"]]


def _render(title: str, table: Table) -> str:
    """A table as text: systems down; figures across, each column headed by name and n."""
    if not table:
        return ""
    columns = next(iter(table.values()))
    rows = [[title, *(f"{name} (n={figure.n:,})" for name, figure in columns.items())]]
    for system, figures in table.items():
        rows.append([system, *(_text(figure) for figure in figures.values())])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for first, *rest in rows:
        cells = [cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True)]
        lines.append("  ".join([first.ljust(widths[0]), *cells]))
    return "\n".join(lines)


def _text(figure: Figure) -> str:
    if figure.low is None or figure.high is None:
        return f"{figure.value:.3f} [-, -]"
    return f"{figure.value:.3f} [{figure.low:.3f}, {figure.high:.3f}]"
