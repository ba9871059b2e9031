"""The command that writes conversations: synthesize."""

import argparse
import asyncio
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from talkplay_hf.cli import arguments as take
from talkplay_hf.cli.show import emit, progress_bars
from talkplay_hf.cli.writers import (
    COUNT,
    LEDGER_SUFFIX,
    SIMULATOR,
    SPENT_SUFFIX,
    WRITERS,
    given,
    model_options,
    writer_flags,
)
from talkplay_hf.errors import InputError, TalkPlayError

if TYPE_CHECKING:
    from talkplay_hf.conversations.llm.budget import Budget
    from talkplay_hf.conversations.llm.endpoint import EndpointOptions
    from talkplay_hf.conversations.llm.language_model import LanguageModel
    from talkplay_hf.conversations.llm.local_model import LocalOptions
    from talkplay_hf.conversations.pieces import Piece
    from talkplay_hf.conversations.synthesis.report import SynthesisReport
    from talkplay_hf.conversations.synthesis.synthesis import Asked, Synthesis


class Unfinished(TalkPlayError):
    """What could be done was done and written; the same command goes on from there."""


def add_commands(commands: take.Commands) -> None:
    """Add these commands."""
    sub = commands.add(
        "synthesize",
        run_synthesize,
        "Write conversations from the playlists of a catalog: by a simulator, or by a language "
        "model\nwhose every answer is stored, checked, and kept or put into quarantine.",
        "talkplay synthesize catalog conversations --count 12000\n"
        "  talkplay synthesize catalog conversations --writer endpoint --model my-model \\\n"
        "    --base-url http://localhost:8000/v1 --playlists 100 --dry-run",
    )
    sub.add_argument("catalog", help="catalog folder")
    sub.add_argument("out", help="conversations folder to make")
    sub.add_argument(
        "--writer",
        default=SIMULATOR,
        choices=WRITERS,
        help="who writes: the simulator, a language model behind an address, or one in this "
        "process (default simulator)",
    )
    sub.add_argument("--license", help="licence of the texts, such as cc-by-4.0")
    take.seed_flag(sub)
    take.json_flag(sub)
    sub.set_defaults(flags=writer_flags(sub))


def run_synthesize(args: argparse.Namespace) -> None:
    """Make a conversations folder."""
    from talkplay_hf.catalog.provenance import check_license

    check_license(args.license)
    for flags in args.flags:
        flags.refuse(args)
    if args.writer == SIMULATOR:
        _simulate(args)
    else:
        _ask(args)


def _simulate(args: argparse.Namespace) -> None:
    from talkplay_hf.catalog.provenance import license_fact
    from talkplay_hf.catalog.schema import Catalog
    from talkplay_hf.catalog.world import is_demo_world
    from talkplay_hf.conversations.dataset import ConversationWriter
    from talkplay_hf.conversations.simulation.frozen import simulator_hash
    from talkplay_hf.conversations.simulation.options import SimulatorOptions
    from talkplay_hf.conversations.simulation.simulator import iter_conversations

    catalog = Catalog.load(args.catalog)
    options = SimulatorOptions() if args.options is None else SimulatorOptions.load(args.options)
    options = replace(options, **given(args, title_share="--title-share"))
    if args.languages is not None:
        options = replace(options, languages=tuple(args.languages.split(",")))
    count = args.count or COUNT
    made_by = {"hash": simulator_hash(), "count": count, "seed": args.seed, **options.to_dict()}
    made = iter_conversations(
        catalog, count=count, options=options, seed=args.seed, progress=progress_bars()
    )
    with ConversationWriter(
        args.out,
        {"catalog": catalog.fingerprint},
        simulator=made_by,
        demo_world=is_demo_world(args.catalog),
        **license_fact(args.license),
    ) as writer:
        for conversation in made:
            writer.add(conversation)
    turns = sum(split["turns"] for split in writer.counts["splits"].values())
    emit(
        {"conversations": count, "turns": turns, "simulator": made_by["hash"]},
        f"{count:,} conversations, {turns:,} turns",
        args.json,
    )


def _ask(args: argparse.Namespace) -> None:
    from talkplay_hf.catalog.provenance import license_fact
    from talkplay_hf.catalog.schema import Catalog
    from talkplay_hf.catalog.world import is_demo_world
    from talkplay_hf.conversations.llm.budget import Budget
    from talkplay_hf.conversations.llm.language_model import NamedModel
    from talkplay_hf.conversations.pieces import PieceOptions, cut_playlists
    from talkplay_hf.conversations.synthesis.ledger import Ledger
    from talkplay_hf.conversations.synthesis.prompt import TURNS, Prompt, PromptOptions
    from talkplay_hf.conversations.synthesis.synthesis import Synthesis
    from talkplay_hf.hub import files

    if args.model is None:
        raise InputError(f"--writer {args.writer} needs a --model")
    who = model_options(args)
    files.check_target(args.out, "conversations")
    catalog = Catalog.load(args.catalog)
    options = PieceOptions(
        **given(
            args,
            size="--piece-size",
            negatives="--negatives",
            playlists="--playlists",
            pieces="--pieces",
        )
    )
    pieces = [*cut_playlists(catalog, options, args.seed)]
    told = given(args, language="--language", labels="--labels", turns="--turns", lyrics="--lyrics")
    if args.structured is not None:
        told["answer"] = TURNS
    prompt = Prompt.load(args.prompt, PromptOptions(**told))
    path = Path(args.ledger or f"{Path(args.out)}{LEDGER_SUFFIX}")
    if Path(args.out).resolve() in path.resolve().parents:
        raise InputError(f"{path}: a ledger inside {args.out} would be replaced with it; move it")
    with ExitStack() as stack:
        if args.dry_run and not path.exists():
            path = Path(stack.enter_context(tempfile.TemporaryDirectory()), "ledger")
        ledger = stack.enter_context(Ledger(path))
        for notice in ledger.notices:
            print(f"talkplay synthesize: {notice}", file=sys.stderr)
        model: LanguageModel = NamedModel(who.name, who.parameters)
        if not args.dry_run and args.max_calls != 0:
            spent = ledger.usage
            budget = Budget(
                args.max_calls,
                args.max_total_tokens,
                calls=spent.calls,
                tokens=spent.tokens,
                journal=f"{path}{SPENT_SUFFIX}",
            )
            model = _model(who, budget)
        synthesis = Synthesis(catalog, prompt, model, ledger, **given(args, attempts="--attempts"))
        if args.dry_run:
            _show_estimate(args, synthesis, pieces)
            return
        asked = _run(args, synthesis, pieces)
        if asked.stopped is not None and not len(ledger):
            raise asked.stopped
        report = synthesis.save(
            args.out,
            pieces,
            {"catalog": catalog.fingerprint, "prompt": prompt.sha256},
            progress=progress_bars(),
            total=len(pieces),
            pieces_cut=asdict(options) | {"seed": args.seed},
            demo_world=is_demo_world(args.catalog),
            **license_fact(args.license),
        )
    emit(report.to_dict(), report.to_text(), args.json)
    _check_finished(args, asked, report)


def _model(options: "EndpointOptions | LocalOptions", budget: "Budget") -> "LanguageModel":
    """The language model, ready to be asked."""
    from talkplay_hf.conversations.llm.endpoint import EndpointModel, EndpointOptions
    from talkplay_hf.conversations.llm.local_model import TransformersModel

    if isinstance(options, EndpointOptions):
        return EndpointModel(options, budget)
    return TransformersModel(options, budget)


def _run(args: argparse.Namespace, synthesis: "Synthesis", pieces: list["Piece"]) -> "Asked":
    """Ask; where that is interrupted, say how to go on."""
    from tqdm.auto import tqdm

    from talkplay_hf.conversations.synthesis.synthesis import Asked

    if args.max_calls == 0:
        return Asked(0)

    def show(asked: Asked) -> None:
        usage = synthesis.ledger.usage
        bar.set_postfix_str(
            f"kept {asked.kept:,}, {usage.calls:,} answers, {usage.tokens:,} tokens", refresh=False
        )
        bar.update(asked.finished + asked.failed - bar.n)

    try:
        with tqdm(
            total=len(pieces), desc="asking", file=sys.stderr, dynamic_ncols=True, disable=None
        ) as bar:
            return asyncio.run(synthesis.ask(pieces, progress=show))
    except KeyboardInterrupt:
        ledger = synthesis.ledger
        print(
            f"talkplay synthesize: {len(ledger):,} answers are safe in {ledger.path}; the same "
            "command goes on from there, and with --max-calls 0 it only harvests them",
            file=sys.stderr,
        )
        raise


def _check_finished(args: argparse.Namespace, asked: "Asked", report: "SynthesisReport") -> None:
    """Say why not every piece is finished, and how to go on.

    Raises:
        Unfinished: If one is not.
    """
    if not report.unfinished:
        return
    why = "no call was allowed (--max-calls 0)"
    if asked.failed:
        why = f"{asked.failed:,} pieces got no answer (the last: {asked.failure})"
    if asked.stopped is not None:
        why = str(asked.stopped).rstrip(".")
    finished = report.pieces - report.unfinished
    raise Unfinished(
        f"{why}. {finished:,} of {report.pieces:,} pieces are finished, and {args.out} holds what "
        "came of them; the same command goes on from there"
    )


def _show_estimate(args: argparse.Namespace, synthesis: "Synthesis", pieces: list["Piece"]) -> None:
    """Print what asking would take, and one prompt."""
    estimate = synthesis.estimate(pieces)
    text = (
        f"pieces         {estimate.pieces:,}, {estimate.finished:,} of them finished\n"
        f"calls          {estimate.calls_at_least:,} to {estimate.calls_at_most:,}\n"
        f"tokens         about {estimate.prompt_tokens:,} of prompts and at most "
        f"{estimate.answer_tokens:,} of answers, for the fewest calls\n"
    )
    for message in estimate.example or ():
        text += f"\n--- {message['role']} ---\n{message['content']}\n"
    emit(asdict(estimate), text.rstrip("\n"), args.json)
