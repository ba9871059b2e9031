"""The command that writes conversations: synthesize."""

import argparse
import asyncio
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from talkplay_hf.cli import arguments as take
from talkplay_hf.cli.show import emit, progress_bars
from talkplay_hf.errors import InputError, TalkPlayError

if TYPE_CHECKING:
    from talkplay_hf.conversations.llm.budget import Budget
    from talkplay_hf.conversations.llm.language_model import LanguageModel
    from talkplay_hf.conversations.synthesis.pieces import Piece
    from talkplay_hf.conversations.synthesis.report import SynthesisReport
    from talkplay_hf.conversations.synthesis.synthesis import Asked, Synthesis

SIMULATOR, ENDPOINT, LOCAL = WRITERS = ("simulator", "endpoint", "transformers")
COUNT = 12_000
LEDGER_SUFFIX = ".ledger.jsonl"


class Unfinished(TalkPlayError):
    """What could be done was done and written; the same command goes on from there."""


class _Flags:
    """Flags of some of the writers. None has a default: what is not given is left to the library,
    and what is given to a writer that has no use for it is refused."""

    def __init__(self, sub: argparse.ArgumentParser, *writers: str) -> None:
        self.writers = writers
        self.names: list[str] = []
        self._group = sub.add_argument_group(f"with --writer {' or '.join(writers)}")

    def add(self, flag: str, **details: Any) -> None:
        self._group.add_argument(flag, default=None, **details)
        self.names.append(flag)

    def refuse(self, args: argparse.Namespace) -> None:
        """Refuse the flags that the writer has no use for."""
        for flag in self.names:
            if args.writer not in self.writers and _value(args, flag) is not None:
                wanted = " or ".join(self.writers)
                raise InputError(f"{flag} is for --writer {wanted}, not {args.writer}")


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
    take.seed_flag(sub)
    take.json_flag(sub)

    one = _Flags(sub, SIMULATOR)
    one.add("--count", type=take.COUNT, metavar="N", help=f"conversations (default {COUNT})")
    one.add(
        "--languages", metavar="CODES", help="languages to write in, such as en,ko (default en)"
    )
    one.add(
        "--title-share",
        type=float,
        metavar="SHARE",
        help="share of the replies that name the title (default 1; 0 for a small model)",
    )

    one.add("--options", metavar="FILE", help="YAML file of further options of the simulator")

    models = _Flags(sub, ENDPOINT, LOCAL)
    models.add("--model", metavar="NAME", help="the model's name, or its folder (required)")
    models.add("--playlists", type=take.COUNT, metavar="N", help="most playlists (default all)")
    models.add(
        "--piece-size",
        type=take.COUNT,
        metavar="N",
        help="about how many tracks of a playlist one conversation is about",
    )
    models.add("--pieces", type=take.COUNT, metavar="N", help="most pieces of one playlist")
    models.add(
        "--negatives",
        type=take.whole_number(0),
        metavar="N",
        help="tracks that the user is not to want",
    )
    models.add("--language", help="language of the conversations, in English (default English)")
    models.add(
        "--labels",
        choices=("id", "number"),
        help="how a prompt names tracks: by id, or by short numbers, which small models copy "
        "better (default id)",
    )
    models.add("--turns", type=take.COUNT, metavar="N", help="most turns to ask for")
    models.add(
        "--lyrics", type=take.whole_number(0), metavar="N", help="most characters of lyrics a track"
    )
    models.add("--prompt", metavar="FILE", help="a prompt in place of the built-in one")
    models.add("--max-tokens", type=take.COUNT, metavar="N", help="most tokens of an answer")
    models.add("--temperature", type=float, metavar="T", help="sampling temperature")
    models.add(
        "--concurrency",
        type=take.COUNT,
        metavar="N",
        help="most requests at a time, or chats in a batch",
    )
    models.add(
        "--attempts", type=take.COUNT, metavar="N", help="most answers for a piece (default 3)"
    )
    models.add(
        "--max-calls",
        type=take.whole_number(0),
        metavar="N",
        help="cap on calls, those in the ledger included; 0 only harvests the ledger",
    )
    models.add(
        "--max-total-tokens",
        type=take.COUNT,
        metavar="N",
        help="cap on tokens of prompts and answers, those in the ledger included",
    )
    models.add(
        "--ledger", metavar="FILE", help=f"where raw answers are kept (default OUT{LEDGER_SUFFIX})"
    )
    models.add(
        "--dry-run",
        action="store_true",
        help="say what asking would take and show one prompt; ask nothing",
    )

    endpoint = _Flags(sub, ENDPOINT)
    endpoint.add(
        "--base-url",
        metavar="URL",
        help="an OpenAI-compatible server (default: the providers of the Hugging Face Hub)",
    )
    endpoint.add("--provider", metavar="NAME", help="which of the providers (default auto)")
    endpoint.add(
        "--api-key-env",
        metavar="VARIABLE",
        help="environment variable that holds the key (default: the Hugging Face token, sent to "
        "Hugging Face alone)",
    )
    endpoint.add(
        "--structured",
        choices=("json_schema", "json_object"),
        help="hold the model to the form of an answer and to the tracks of its piece, where the "
        "server can: json_schema as OpenAI has it, json_object as llama-cpp-python has it",
    )
    endpoint.add("--timeout", type=float, metavar="SECONDS", help="most time for one answer")

    local = _Flags(sub, LOCAL)
    local.add("--revision", metavar="NAME", help="branch, tag or commit of the model on the Hub")
    local.add("--gguf-file", metavar="NAME", help="a GGUF file of the model to take weights from")
    local.add("--device", help="where the model runs (default: a GPU, else the CPU)")
    sub.set_defaults(flags=(one, models, endpoint, local))


def run_synthesize(args: argparse.Namespace) -> None:
    """Make a conversations folder."""
    for flags in args.flags:
        flags.refuse(args)
    if args.writer == SIMULATOR:
        _simulate(args)
    else:
        _ask(args)


def _value(args: argparse.Namespace, flag: str) -> Any:
    return getattr(args, flag.removeprefix("--").replace("-", "_"))


def _given(args: argparse.Namespace, **flags: str) -> dict[str, Any]:
    """The flags that were given, by the names that the library has for them."""
    values = {name: _value(args, flag) for name, flag in flags.items()}
    return {name: value for name, value in values.items() if value is not None}


def _simulate(args: argparse.Namespace) -> None:
    from talkplay_hf.catalog.schema import Catalog
    from talkplay_hf.conversations.dataset import ConversationWriter
    from talkplay_hf.conversations.simulation.options import SimulatorOptions
    from talkplay_hf.conversations.simulation.simulator import iter_conversations

    catalog = Catalog.load(args.catalog)
    options = SimulatorOptions() if args.options is None else SimulatorOptions.load(args.options)
    options = replace(options, **_given(args, title_share="--title-share"))
    if args.languages is not None:
        options = replace(options, languages=tuple(args.languages.split(",")))
    count = args.count or COUNT
    made_by = {"count": count, "seed": args.seed} | asdict(options)
    made = iter_conversations(
        catalog, count=count, options=options, seed=args.seed, progress=progress_bars()
    )
    with ConversationWriter(
        args.out, {"catalog": catalog.fingerprint}, simulator=made_by
    ) as writer:
        for conversation in made:
            writer.add(conversation)
    turns = sum(split["turns"] for split in writer.counts["splits"].values())
    emit(
        {"conversations": count, "turns": turns},
        f"{count:,} conversations, {turns:,} turns",
        args.json,
    )


def _ask(args: argparse.Namespace) -> None:
    from talkplay_hf.catalog.schema import Catalog
    from talkplay_hf.conversations.llm.budget import Budget
    from talkplay_hf.conversations.synthesis.ledger import Ledger
    from talkplay_hf.conversations.synthesis.pieces import PieceOptions, cut_playlists
    from talkplay_hf.conversations.synthesis.prompt import TURNS, Prompt, PromptOptions
    from talkplay_hf.conversations.synthesis.synthesis import Synthesis
    from talkplay_hf.hub import files

    if args.model is None:
        raise InputError(f"--writer {args.writer} needs a --model")
    files.check_target(args.out, "conversations")
    catalog = Catalog.load(args.catalog)
    options = PieceOptions(
        **_given(
            args,
            size="--piece-size",
            negatives="--negatives",
            playlists="--playlists",
            pieces="--pieces",
        )
    )
    pieces = [*cut_playlists(catalog, options, args.seed)]
    told = _given(
        args, language="--language", labels="--labels", turns="--turns", lyrics="--lyrics"
    )
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
        spent = ledger.usage
        budget = Budget(
            args.max_calls, args.max_total_tokens, calls=spent.calls, tokens=spent.tokens
        )
        synthesis = Synthesis(
            catalog, prompt, _model(args, budget), ledger, **_given(args, attempts="--attempts")
        )
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
        )
    emit(report.to_dict(), report.to_text(), args.json)
    _check_finished(args, asked, report)


def _model(args: argparse.Namespace, budget: "Budget") -> "LanguageModel":
    """The language model of the flags."""
    given = _given(
        args,
        model="--model",
        max_tokens="--max-tokens",
        temperature="--temperature",
        concurrency="--concurrency",
    )
    if args.writer == ENDPOINT:
        from talkplay_hf.conversations.llm.endpoint import EndpointModel, EndpointOptions

        given |= _given(
            args,
            base_url="--base-url",
            provider="--provider",
            key_variable="--api-key-env",
            structured="--structured",
            timeout="--timeout",
        )
        return EndpointModel(EndpointOptions(**given), budget)
    from talkplay_hf.conversations.llm.local_model import LocalOptions, TransformersModel

    given |= _given(args, revision="--revision", gguf_file="--gguf-file", device="--device")
    return TransformersModel(LocalOptions(**given), budget)


def _run(args: argparse.Namespace, synthesis: "Synthesis", pieces: list["Piece"]) -> "Asked":
    """Ask; where that is interrupted, say how to go on."""
    from talkplay_hf.conversations.synthesis.synthesis import Asked

    if args.max_calls == 0:
        return Asked(0)
    try:
        return asyncio.run(synthesis.ask(pieces, total=len(pieces), progress=progress_bars()))
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
