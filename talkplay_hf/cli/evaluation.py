"""The command that evaluates: a model beside baselines, as text, JSON and a report folder."""

import argparse
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from talkplay_hf.cli import arguments as take
from talkplay_hf.cli.show import emit
from talkplay_hf.errors import InputError

if TYPE_CHECKING:
    from talkplay_hf.catalog.schema import Catalog, Conversation
    from talkplay_hf.evaluation.baselines.base import BaselineSources

NO_MODEL = "none"
REPORT = "report.json"


def add_commands(commands: take.Commands) -> None:
    """Add this command."""
    sub = commands.add(
        "evaluate",
        run_evaluate,
        "Rank held-out conversations beside baselines, and write a report.",
        "talkplay evaluate out/model out/conversations --catalog out/catalog --report report",
    )
    sub.add_argument(
        "model", help=f'model folder or Hub id; "{NO_MODEL}" evaluates the baselines alone'
    )
    sub.add_argument("conversations", help="conversations folder")
    sub.add_argument("--catalog", required=True, help="catalog folder")
    sub.add_argument("--split", default="test", help="which conversations (default test)")
    sub.add_argument("--limit", type=take.COUNT, help="conversations at most")
    sub.add_argument(
        "--k", type=take.COUNT, default=100, help="depth of the rankings (default 100)"
    )
    sub.add_argument(
        "--strategy",
        default="beam",
        choices=("beam", "exact", "sampling", "expansion"),
        help="how the model ranks (default beam)",
    )
    sub.add_argument(
        "--constraint",
        default="catalog",
        choices=("catalog", "grammar", "none"),
        help="what a block of music tokens may be (default catalog)",
    )
    sub.add_argument(
        "--names",
        action="store_true",
        help="rank the tracks first that the request names, by artist, title or album",
    )
    sub.add_argument(
        "--baseline",
        nargs="+",
        metavar="NAME",
        help='baselines to compare with, or "all" with a source at hand (default: those that need '
        "no further source); an unknown name lists them",
    )
    sub.add_argument(
        "--encoder", metavar="ID", help="sentence-transformers model of the dense baselines"
    )
    sub.add_argument(
        "--query-prompt",
        default="",
        metavar="TEXT",
        help="what that model wants before a query, such as an instruction",
    )
    sub.add_argument("--features", metavar="DIR", help="features folder, for baselines by sound")
    sub.add_argument(
        "--two-tower", metavar="DIR", help="a trained two-tower model (default: train one)"
    )
    sub.add_argument(
        "--train-conversations",
        metavar="DIR",
        help="conversations folder whose train split baselines learn from (default: the same)",
    )
    sub.add_argument(
        "--negatives",
        action="store_true",
        help="give the ranking figures a second time with the turns of the negative set",
    )
    for name, metavar, text in (
        ("--matching", "N", "also sample N answers with and without constraint and count matches"),
        (
            "--replies",
            "N",
            "also write replies to N turns and see whether they are about the track",
        ),
    ):
        sub.add_argument(name, type=take.whole_number(0), default=0, metavar=metavar, help=text)
    sub.add_argument("--cache", metavar="DIR", help="keep rankings here, and go on from them")
    sub.add_argument("--report", metavar="DIR", help="write the report to this folder, with plots")
    sub.add_argument("--out", help="write the report as JSON to this file")
    sub.add_argument(
        "--card",
        metavar="NAME",
        help="put the figures into the card of the model folder, as of the dataset of this name",
    )
    take.seed_flag(sub)
    sub.add_argument(
        "--bootstrap-seed", type=take.SEED, help="seed of intervals and tests (default: --seed)"
    )
    take.json_flag(sub)


def run_evaluate(args: argparse.Namespace) -> None:
    """Print the figures of a model, and write them down."""
    from talkplay_hf.catalog.schema import Catalog, Conversation
    from talkplay_hf.catalog.world import is_demo_world
    from talkplay_hf.conversations.dataset import load_conversations
    from talkplay_hf.evaluation.evaluate import DEFAULT_BASELINES, evaluate
    from talkplay_hf.evaluation.model_index import add_results
    from talkplay_hf.hub import files
    from talkplay_hf.recommend.options import RankingOptions

    _check_arguments(args)
    ranking = RankingOptions(args.strategy, args.constraint, names=args.names)
    catalog = Catalog.load(args.catalog)
    demo = is_demo_world(args.catalog)
    conversations = load_conversations(args.conversations, [args.split])
    if not conversations:
        raise InputError(
            f"{args.conversations}: has no conversations of the split {args.split}; name another "
            "with --split, or make more: talkplay synthesize --count"
        )
    names = tuple(args.baseline or DEFAULT_BASELINES)
    # the train split is read only where something may learn from it
    learnt: tuple[Conversation, ...] = ()
    if not set(names) <= set(DEFAULT_BASELINES):
        learnt = tuple(
            load_conversations(args.train_conversations or args.conversations, ["train"])
        )
    if set(names) == {"all"}:
        names = _with_a_source(args, learnt)
    report = evaluate(
        None if args.model == NO_MODEL else args.model,
        conversations,
        catalog,
        limit=args.limit,
        k=args.k,
        seed=args.seed,
        bootstrap_seed=args.bootstrap_seed,
        baselines=names,
        sources=_sources(args, catalog, learnt),
        include_negative=args.negatives,
        ranking=ranking,
        replies=args.replies,
        cache=args.cache,
    )
    if os.environ.get("RANK", "0") != "0":
        return
    report = replace(report, catalog_kind="demo world" if demo else "catalog")
    text = report.summary()
    if args.matching:
        from talkplay_hf.evaluation.matching import matching
        from talkplay_hf.recommend.recommender import Recommender

        found = matching(
            Recommender.from_pretrained(args.model),
            conversations,
            samples=args.matching,
            seed=args.seed,
            catalog=catalog,
        )
        report = replace(report, matching=found.to_dict())
        text += "\n" + found.summary() + "\n"
    value = report.to_dict()
    if args.out:
        files.write_json(args.out, value)
    if args.report:
        _write_report(args.report, value)
        text += f"\n{args.report}: the report, as a page: {Path(args.report) / 'index.html'}\n"
    if args.card:
        add_results(args.model, value, args.card)
        text += f"\n{Path(args.model) / files.CARD}: has the figures\n"
    note = "\nThe catalogue is the fictional demo world: no statement about real music." * demo
    emit(value, text + note, args.json)


def _with_a_source(args: argparse.Namespace, learnt: "tuple[Conversation, ...]") -> tuple[str, ...]:
    """The baselines that have what they are made from."""
    from talkplay_hf.evaluation.baselines.registry import BASELINES

    lacks_source = {
        "dense": args.encoder is None,
        "dense-last-turn": args.encoder is None,
        "clap": args.features is None,
        "two-tower": not learnt and args.two_tower is None,
        "rerank": not learnt,
    }
    return tuple(name for name in BASELINES if not lacks_source.get(name))


def _sources(
    args: argparse.Namespace, catalog: "Catalog", learnt: "tuple[Conversation, ...]"
) -> "BaselineSources | None":
    """What baselines are made from, or `None` where nothing but the catalog is needed."""
    if not (learnt or args.encoder or args.features or args.two_tower):
        return None
    from talkplay_hf.evaluation.baselines.base import BaselineSources
    from talkplay_hf.features.shards import Processes

    return BaselineSources(
        catalog,
        conversations=learnt,
        features=Path(args.features) if args.features else None,
        seed=args.seed,
        encoder=args.encoder,
        query_prompt=args.query_prompt,
        two_tower=Path(args.two_tower) if args.two_tower else None,
        device=Processes().device,
    )


def _check_arguments(args: argparse.Namespace) -> None:
    """Refuse what has no model to be about, or cannot be written to, before the work is done.

    Raises:
        InputError: If a model is needed and none is named, or a target cannot be written to.
        ArtifactError: If the report would replace something else.
    """
    from talkplay_hf.evaluation.model_index import dataset_type
    from talkplay_hf.hub import files

    if args.model == NO_MODEL and (args.matching or args.replies or args.card):
        raise InputError("--matching, --replies and --card are about a model; name one")
    if args.card:
        dataset_type(args.card)
        folder = Path(args.model)
        if not (folder / files.CARD).is_file() and files.folder_kind(folder) != "model":
            raise InputError(
                f"{folder}: is no model folder and has no {files.CARD} to put the figures into"
            )
    if args.out and Path(args.out).is_dir():
        raise InputError(f"{args.out}: is a folder; name a file to write the report to")
    if args.report:
        files.check_target(args.report, "report")
    for target in filter(None, (args.out, args.report)):
        folder = next(path for path in Path(target).absolute().parents if path.exists())
        if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
            raise InputError(f"{target}: {folder} is not a folder that can be written to")


def _write_report(out: str, report: dict[str, Any]) -> None:
    from talkplay_hf.evaluation.page.write import write_report
    from talkplay_hf.hub import files

    with files.staged_folder(out, "report") as aside:
        files.write_json(aside / REPORT, report)
        write_report(report, aside)
        made_from = {name: value for name, value in report["hashes"].items() if value}
        files.write_manifest(aside, "report", made_from)
