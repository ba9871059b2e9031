"""The commands on finished conversations: report on them, import published ones."""

import argparse
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from talkplay_hf.cli import arguments as take
from talkplay_hf.cli.show import emit, progress_bars
from talkplay_hf.cli.writers import SPENT_SUFFIX
from talkplay_hf.errors import InputError

if TYPE_CHECKING:
    from talkplay_hf.catalog.schema import Catalog

JUDGE_LEDGER_SUFFIX = ".judge.jsonl"
_PLAIN: dict[str, Any] = {"max_tokens": 500, "temperature": 0.0}
_REASONING: dict[str, Any] = {"max_tokens": 8000, "max_tokens_field": "max_completion_tokens"}


def add_commands(commands: take.Commands) -> None:
    """Add these commands."""
    sub = commands.add(
        "report",
        run_report,
        "Measure conversations: lengths, vocabulary, diversity, intents, modalities, what was\n"
        "refused. The figures go into the folder's card.",
        "talkplay report conversations --catalog catalog --page conversations.html",
    )
    sub.add_argument("conversations", help="conversations folder")
    sub.add_argument("--catalog", help="their catalog folder, to compare texts with tracks")
    sub.add_argument("--page", metavar="HTML", help="write a page of conversations to read")
    sub.add_argument(
        "--judge", metavar="MODEL", help="have this language model rate a sample of them"
    )
    sub.add_argument("--judge-base-url", metavar="URL", help="an OpenAI-compatible server")
    sub.add_argument("--judge-provider", metavar="NAME", help="a provider of the Hub")
    sub.add_argument(
        "--judge-api-key-env", metavar="VARIABLE", help="environment variable that holds the key"
    )
    sub.add_argument(
        "--judge-reasons",
        action="store_true",
        default=None,
        help="the judge is a reasoning model: give it room for its thoughts, and no temperature",
    )
    sub.add_argument(
        "--judge-sample", type=take.COUNT, metavar="N", help="conversations to rate (default 100)"
    )
    sub.add_argument(
        "--judge-max-calls",
        type=take.whole_number(0),
        metavar="N",
        help="cap on calls, with retries and those of earlier runs",
    )
    take.seed_flag(sub)
    take.json_flag(sub)

    sub = commands.add(
        "import-conversations",
        run_import,
        "Take conversations that others published (CPCD, TalkPlayData-1 and -2) and match their\n"
        "tracks with a catalog.",
        "talkplay import-conversations cpcd_train.jsonl catalog conversations",
    )
    sub.add_argument("source", help="a Parquet, JSONL or JSON file, or a folder of such files")
    sub.add_argument("catalog", help="catalog folder")
    sub.add_argument("out", help="conversations folder to make")
    sub.add_argument(
        "--format",
        default="auto",
        choices=("auto", "cpcd", "talkplaydata-1", "talkplaydata-2"),
        help="which set it is (default: by its columns)",
    )
    sub.add_argument(
        "--tracks", metavar="TABLE", help="id, title and artist of tracks that come by id"
    )
    sub.add_argument(
        "--split",
        choices=("train", "validation", "test"),
        help="the split of all of them (default: that of the file, else train; CPCD: test)",
    )
    sub.add_argument(
        "--unmatched",
        choices=("drop", "talk"),
        help="turns whose tracks the catalog lacks: leave them out, or keep the words "
        "(default: talk for CPCD, else drop)",
    )
    take.json_flag(sub)


def run_report(args: argparse.Namespace) -> None:
    """Measure conversations."""
    from talkplay_hf.catalog.schema import Catalog
    from talkplay_hf.conversations.dataset import iter_conversations, load_quarantine
    from talkplay_hf.conversations.quality.page import write_page
    from talkplay_hf.conversations.quality.report import quality_report
    from talkplay_hf.conversations.quality.text import judge_text, quality_text
    from talkplay_hf.hub import cards, files

    given = [name for name in vars(args) if name.startswith("judge_")]
    given = [name for name in given if getattr(args, name) is not None]
    if args.judge is None and given:
        raise InputError(f"--{given[0].replace('_', '-')} needs a --judge MODEL")
    manifest = files.read_manifest(args.conversations, "conversations")
    catalog = None if args.catalog is None else Catalog.load(args.catalog)
    report = quality_report(
        iter_conversations(args.conversations),
        catalog,
        seed=args.seed,
        synthesis=manifest.get("synthesis"),
        progress=progress_bars(),
    )
    judged = None if args.judge is None else _judge(args, catalog)
    if args.page is not None:
        write_page(
            args.page,
            iter_conversations(args.conversations),
            catalog,
            report,
            quarantine=load_quarantine(args.conversations),
            judge=judged,
            seed=args.seed,
        )
    text = quality_text(report)
    if judged is not None:
        report = report | {"judge": judged}
        text = f"{text}\n{judge_text(judged)}"
    cards.update_card(args.conversations, report, text)
    emit(report, text, args.json)


def _judge(args: argparse.Namespace, catalog: "Catalog | None") -> dict[str, Any]:
    """Have a language model rate conversations; its answers are kept beside the folder."""
    from talkplay_hf.conversations.dataset import iter_conversations
    from talkplay_hf.conversations.llm.budget import Budget
    from talkplay_hf.conversations.llm.endpoint import EndpointModel, EndpointOptions
    from talkplay_hf.conversations.quality.judge import SAMPLE, judge_conversations
    from talkplay_hf.conversations.synthesis.ledger import Ledger, RecordedModel

    options = EndpointOptions(
        args.judge,
        base_url=args.judge_base_url,
        provider=args.judge_provider,
        key_variable=args.judge_api_key_env,
        **(_REASONING if args.judge_reasons else _PLAIN),
    )
    with ExitStack() as stack:
        path = f"{Path(args.conversations)}{JUDGE_LEDGER_SUFFIX}"
        ledger = stack.enter_context(Ledger(path))
        budget = Budget(
            args.judge_max_calls, calls=ledger.usage.calls, journal=f"{path}{SPENT_SUFFIX}"
        )
        model = EndpointModel(options, budget)
        return judge_conversations(
            iter_conversations(args.conversations),
            catalog,
            RecordedModel(model, ledger, "judge"),
            sample=args.judge_sample or SAMPLE,
            seed=args.seed,
            progress=progress_bars(),
        )


def run_import(args: argparse.Namespace) -> None:
    """Import published conversations."""
    from talkplay_hf.catalog.schema import Catalog
    from talkplay_hf.conversations.published.sets import PublishedConversations

    published = PublishedConversations(
        args.source,
        Catalog.load(args.catalog),
        format=args.format,
        tracks=args.tracks,
        split=args.split,
        unmatched=args.unmatched,
    )
    report = published.save(args.out)
    emit(report.to_dict(), report.summary(), args.json)
