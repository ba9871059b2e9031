"""Run a recommender and the baselines over the turns of conversations, and report (paper 6).

A turn is one music message: what was said and played before it is the history, its track is the
label. Every system ranks the same pool of candidates, is cut at the same depth and is scored on
the same turns, so that differences between systems can be paired.
"""

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from talkplay_hf.catalog.schema import Catalog, Conversation
from talkplay_hf.errors import InputError
from talkplay_hf.evaluation.baselines.base import BaselineSources, RankingModel
from talkplay_hf.evaluation.baselines.popularity import plays
from talkplay_hf.evaluation.baselines.registry import BASELINES
from talkplay_hf.evaluation.cache import catalog_hash, conversations_hash, sources_identity
from talkplay_hf.evaluation.examples import Reply, choose_examples, choose_turns, example
from talkplay_hf.evaluation.figures import Figures, reply_figures
from talkplay_hf.evaluation.metrics.lists import list_metrics
from talkplay_hf.evaluation.metrics.slices import turn_slices
from talkplay_hf.evaluation.outcomes import Outcomes
from talkplay_hf.evaluation.report import CHANCE, CHAT, LABEL, MODEL, EvaluationReport
from talkplay_hf.evaluation.run import Task, run_tasks
from talkplay_hf.evaluation.systems import ModelSource, Systems, check_cached, read_replies
from talkplay_hf.evaluation.turns import collect_turns
from talkplay_hf.features.shards import Processes
from talkplay_hf.hub import files
from talkplay_hf.recommend.options import REPLY_TOKENS, RankingOptions

# those that need nothing but the catalog
DEFAULT_BASELINES = (
    "random",
    "popularity",
    "last-track",
    "bm25",
    "bm25-last-turn",
    "hybrid",
    "filter",
)
EXAMPLES = 12
SPOKEN = "talkplay-replies"


def evaluate(
    model: str | Path | RankingModel | None,
    conversations: Sequence[Conversation],
    catalog: Catalog,
    *,
    limit: int | None = None,
    k: int = 100,
    seed: int = 0,
    bootstrap_seed: int | None = None,
    baselines: Sequence[str] = DEFAULT_BASELINES,
    sources: BaselineSources | None = None,
    exclude_played: bool = True,
    include_negative: bool = False,
    resamples: int = 1_000,
    ranking: RankingOptions | None = None,
    replies: int = 0,
    examples: int = EXAMPLES,
    cache: str | Path | None = None,
) -> EvaluationReport:
    """Compare a recommender with baselines on every turn of the conversations (paper 6).

    Processes that `accelerate launch` or `torchrun` started share the turns; each of them gets the
    whole report, which is the same however many they are.

    Args:
        model (`str`, `Path` or `Recommender`, *optional*): The recommender, or its folder or Hub
            id. `None` evaluates the baselines alone.
        conversations (`Sequence[Conversation]`): The held-out conversations.
        catalog (`Catalog`): The candidates: all of its tracks.
        limit (`int`, *optional*): Use only the first so many conversations.
        k (`int`): How deep every system is ranked; the label beyond counts as not found.
        seed (`int`): Of all that systems draw: sampled answers, the order of ties in lists, the
            choice of examples.
        bootstrap_seed (`int`, *optional*): Of intervals and tests; `seed` when left out.
        baselines (`Sequence[str]`): Which of `BASELINES` to compare with.
        sources (`BaselineSources`, *optional*): What baselines may learn from, besides the
            playlists of the catalog. `conversations` and the playlists that they were made from
            are always held out, and so are playlists that do not train by the catalog's split.
        exclude_played (`bool`): Take tracks already played in the dialogue out of every system's
            candidates. A turn whose label was played before is then skipped and counted.
        include_negative (`bool`): Give the ranking figures a second time with the turns whose
            track is from the negative set. All other figures are without them.
        resamples (`int`): How many bootstrap resamples the intervals are made from.
        ranking (`RankingOptions`, *optional*): How the model ranks; by default as
            `Recommender.rank` does.
        replies (`int`): On how many turns the model's replies are measured.
        examples (`int`): How many turns the report shows in full.
        cache (`str` or `Path`, *optional*): A folder where rankings and answers are kept, so that a
            second run with the same model, catalog, turns and options needs no model.

    Raises:
        InputError: If an argument cannot be used or no turn is left to evaluate.
        MissingExtraError: If a baseline needs a package that is not installed.
    """
    _check_least(1, limit=limit, k=k, resamples=resamples)
    _check_least(0, seed=seed, bootstrap_seed=bootstrap_seed, replies=replies, examples=examples)
    baselines = list(dict.fromkeys(baselines))
    for name in baselines:
        if name not in BASELINES:
            raise InputError(f"baseline {name!r}: must be one of {', '.join(BASELINES)}")
    if model is None and not baselines:
        raise InputError("there is nothing to evaluate: give a model or a baseline")
    turns, skipped = collect_turns(conversations[:limit], catalog, exclude_played=exclude_played)
    counted = [turn for turn in turns if include_negative or not turn.negative]
    plain = np.array([not turn.negative for turn in counted], dtype=bool)
    if not plain.any():
        why = ", ".join(f"{name}: {count}" for name, count in skipped.items())
        raise InputError(f"no turn of the conversations can be evaluated (skipped: {why})")

    processes = Processes()
    systems = Systems(catalog, seed, exclude_played, catalog_hash(catalog) if cache else "")
    tasks: list[Task] = []
    everything = range(len(counted))
    usual = np.flatnonzero(plain).tolist()
    asked = [number for number in usual if counted[number].request]
    shown = choose_examples(counted, usual, examples, seed)
    source = None if model is None else ModelSource(model, processes)
    how = ranking or RankingOptions()
    how = replace(how, beam_width=max(k, how.beam_width))
    spoken = choose_turns(usual, replies, seed)
    told = sorted({*shown, *spoken})
    if source is not None:
        if cache:
            check_cached(source)
        tasks.append(systems.ranking(MODEL, everything, source, k, how))
        tasks.append(systems.answers(CHAT, asked, source, 0))
        tasks.append(systems.answers(SPOKEN, told, source, REPLY_TOKENS))
    learn = _sources(sources, catalog, conversations, seed)
    identity = sources_identity(learn) if cache else {}
    tasks += [systems.baseline(one, everything, learn, identity, processes) for one in baselines]
    done = run_tasks(tasks, counted, cache=Path(cache) if cache else None, processes=processes)

    names = [MODEL, *baselines] if source is not None else baselines
    outcomes = {name: Outcomes.join(done[name]) for name in names}
    said: dict[int, Reply] = {}
    fit = {name: found.fit for name, found in outcomes.items()}
    if source is not None:
        said = dict(zip(told, read_replies(done[SPOKEN]), strict=True))
        fit[CHAT] = systems.reply_fit(counted, asked, read_replies(done[CHAT]))
    fit[CHANCE], fit[LABEL] = systems.reference_fit(counted)
    others = {name: outcomes[name] for name in baselines}
    figures = Figures(
        [counted[number] for number in usual],
        {name: found.select(plain) for name, found in outcomes.items()},
        {name: values[plain] for name, values in fit.items()},
        k=k,
        resamples=resamples,
        seed=seed if bootstrap_seed is None else bootstrap_seed,
    )
    popularity, artists = plays(learn), np.array(catalog.column("artist"))
    return EvaluationReport(
        conversations=figures.conversations,
        turns=len(usual),
        candidates=len(catalog),
        k=k,
        ranking_options={} if source is None else asdict(how),
        seed=seed,
        bootstrap_seed=figures.seed,
        resamples=resamples,
        exclude_played=exclude_played,
        skipped={**skipped, "negative": sum(turn.negative for turn in turns)},
        hashes={
            "model": None if source is None else source.hash,
            "catalog": catalog.fingerprint or catalog_hash(catalog),
            "conversations": conversations_hash(conversations[:limit]),
        },
        ranking=figures.ranking,
        ranking_with_negatives=figures.with_all(counted, outcomes) if include_negative else {},
        differences=figures.differences(MODEL, baselines) if source is not None else {},
        fit=figures.fit,
        mrr_by_turn=figures.mrr_by_turn,
        hit_curve=figures.hit_curve,
        slices=figures.slices(
            turn_slices(figures.turns, catalog, {} if source is None else source.known(catalog))
        ),
        lists={
            name: list_metrics(found.top[plain, :k], popularity, artists)
            for name, found in outcomes.items()
            if (found.top[plain] >= 0).any()
        },
        replies={}
        if source is None
        else reply_figures(
            [counted[number] for number in spoken],
            [said[number] for number in spoken],
            catalog,
            resamples=resamples,
            seed=figures.seed,
        ),
        examples=[
            example(counted[number], catalog, said.get(number, Reply()), others, number)
            for number in shown
        ],
        training=None if source is None else source.side_file(files.TRAINING_REPORT),
        codebooks=None if source is None else source.side_file(files.CODEBOOK_HEALTH),
    )


def _check_least(least: int, **numbers: int | None) -> None:
    for name, number in numbers.items():
        if number is not None and number < least:
            raise InputError(f"{name} {number}: must be at least {least}")


def _sources(
    sources: BaselineSources | None,
    catalog: Catalog,
    conversations: Sequence[Conversation],
    seed: int,
) -> BaselineSources:
    """The sources, of this catalog, without the playlists and conversations under test."""
    hidden = frozenset(c.playlist_id for c in conversations if c.playlist_id is not None)
    if sources is None:
        return BaselineSources(catalog, hidden, seed=seed)
    # a conversation of no playlist is known by what was said
    tested = {c.messages for c in conversations}
    learn = tuple(c for c in sources.conversations if c.messages not in tested)
    held_out = sources.held_out | hidden
    return replace(sources, catalog=catalog, held_out=held_out, conversations=learn)
