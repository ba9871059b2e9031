"""The commands about models: train, build, chat, serve, doctor."""

import argparse
import sys
from pathlib import Path
from typing import Any

from talkplay_hf.cli import arguments as take
from talkplay_hf.cli import evaluation
from talkplay_hf.cli.doctor import run_doctor
from talkplay_hf.cli.hub import served_flags
from talkplay_hf.cli.show import column_mapping, emit, progress_bars
from talkplay_hf.errors import TalkPlayError


def add_commands(commands: take.Commands) -> None:
    """Add these commands."""
    sub = commands.add(
        "train",
        run_train,
        "Train a model from a recipe; further arguments override its keys.",
        "talkplay train --config recipes/quickstart/sft.yaml --output_dir model",
    )
    sub.add_argument("--config", required=True, help="the recipe, a YAML file")

    sub = commands.add(
        "build",
        run_build,
        "Import, embed, converse, tokenize and train in one go.",
        "talkplay build songs.csv my_recommender",
    )
    sub.add_argument("source", help="CSV, Parquet or catalog folder")
    sub.add_argument("out", help="folder for everything")
    take.table_flags(sub)
    take.missing_flag(sub)
    sub.add_argument("--recipe", help="training recipe (default: the quickstart)")
    sub.add_argument("--base", default="scratch", help="base model (default: a small one)")
    sub.add_argument("--codes", type=take.COUNT, default=1024, help="codes per modality at most")
    sub.add_argument(
        "--conversations", type=take.COUNT, default=12_000, help="conversations (12000)"
    )
    take.seed_flag(sub)

    sub = commands.add(
        "chat",
        run_chat,
        "Chat in the terminal, or answer one request.",
        'talkplay chat model --once "play some slow jazz" --json',
    )
    sub.add_argument("model", help="model folder or Hub id")
    sub.add_argument(
        "--catalog",
        help="another catalogue with the model's codebooks: tokenizer or model folder, or Hub id",
    )
    sub.add_argument("--once", metavar="TEXT", help="answer this one request and end")
    sub.add_argument("--tracks", type=take.COUNT, default=1, help="tracks an answer (default 1)")
    sub.add_argument("--strategy", default="sample", choices=("sample", "rank"))
    sub.add_argument("--constraint", default="catalog", choices=("catalog", "grammar", "none"))
    take.rule_flag(sub)
    sub.add_argument(
        "--history", nargs="+", default=[], metavar="TRACK_ID", help="tracks heard before the chat"
    )
    sub.add_argument(
        "--names", action="store_true", help="choose among the tracks that the request names"
    )
    sub.add_argument("--int8", action="store_true", help="faster on a CPU, scores inexact")
    sub.add_argument("--seed", type=take.SEED, default=None, help="makes the answers repeatable")
    take.json_flag(sub)

    evaluation.add_commands(commands)

    sub = commands.add(
        "serve", run_serve, "Serve the chat page.", "talkplay serve my_recommender/model"
    )
    sub.add_argument(
        "models",
        nargs="*",
        metavar="model",
        help="model folder or Hub id, or several to choose from; when left out, the model of the "
        "demo world, which is made once in a few minutes",
    )
    served_flags(sub)
    sub.add_argument("--host", default="127.0.0.1", help="address (default 127.0.0.1)")
    sub.add_argument(
        "--port", type=take.whole_number(1, 65535), default=7860, help="port (default 7860)"
    )
    sub.add_argument("--open", action="store_true", help="open a browser")
    sub.add_argument(
        "--mcp", action="store_true", help="serve the endpoint as a tool for MCP clients too"
    )

    sub = commands.add(
        "doctor", run_doctor, "Show versions, devices and missing extras.", "talkplay doctor"
    )
    take.json_flag(sub)


def run_train(args: argparse.Namespace) -> None:
    """Train a model from a recipe."""
    from talkplay_hf.training.arguments import parse_recipe
    from talkplay_hf.training.sft import train

    recipe = parse_recipe(["--config", args.config, *args.overrides])
    out = train(*recipe, progress=progress_bars())
    print(f"{out}: trained. Chat with it: talkplay chat {out}")


def run_build(args: argparse.Namespace) -> None:
    """Run every stage."""
    from talkplay_hf.build import build

    paths = build(
        args.source,
        args.out,
        columns=column_mapping(args.column),
        playlists=args.playlists,
        encoding=args.encoding,
        recipe=args.recipe,
        base=args.base,
        codes=args.codes,
        missing=args.missing,
        conversations=args.conversations,
        overrides=args.overrides,
        seed=args.seed,
        progress=progress_bars(),
    )
    own = Path(args.source).is_dir() and Path(args.source).resolve() != paths.catalog.resolve()
    clips = f" --audio {args.source}" if own else ""
    print(f"Done. Chat:  talkplay chat {paths.model}")
    print(f"      Serve: talkplay serve {paths.model}{clips}")


def run_chat(args: argparse.Namespace) -> None:
    """Answer one request, or chat."""
    from talkplay_hf.catalog.schema import Message
    from talkplay_hf.recommend.answers import Recommendation
    from talkplay_hf.recommend.recommender import Recommender

    recommender = Recommender.from_pretrained(args.model, catalog=args.catalog, int8=args.int8)
    options = {
        "strategy": args.strategy,
        "constraint": args.constraint,
        "tracks": args.tracks,
        "rules": args.rule,
        "names": args.names,
    }
    said: list[Message] = []

    def answer(asked: str, live: bool = False) -> dict[str, Any]:
        chat = [*said, Message("user", asked)]
        shown = ""
        for found in recommender.stream(chat, history=args.history, seed=args.seed, **options):
            if live:
                text = show(facts(found))
                # a reply that ends is trimmed
                print(text[len(shown) :] if text.startswith(shown) else "", end="", flush=True)
                shown = max(shown, text, key=len)
        played = [Message("music", track_id=track.track_id) for track in found.tracks]
        said[:] = [*chat, *played, Message("assistant", found.reply)]
        return facts(found)

    def facts(found: Recommendation) -> dict[str, Any]:
        return {
            "tracks": [track.brief() for track in found.tracks],
            "reply": found.reply,
            "codes": [list(codes) for codes in found.codes],
            "scores": list(found.scores),
        }

    def show(value: dict[str, Any]) -> str:
        lines = [
            f"♪ {track['title']} – {track['artist']} [{', '.join(track['tags'][:4])}]"
            for track in value["tracks"]
        ]
        return "\n".join([*lines, value["reply"]])

    if args.once is not None:
        value = answer(args.once)
        emit(value, show(value), args.json)
        return
    print("Ask for music; an empty line or Ctrl-D ends the chat.")
    while True:
        try:
            text = input("> ").strip()
        except (EOFError, KeyboardInterrupt):
            return
        if not text:
            return
        try:
            value = answer(text, live=not args.json)
        except TalkPlayError as error:
            print(error)
            continue
        if args.json:
            emit(value, "", True)
        else:
            print()


def run_serve(args: argparse.Namespace) -> None:
    """Serve the chat page."""
    from importlib import import_module

    from talkplay_hf.cli.demo import demo_model
    from talkplay_hf.hub.space import page_folder

    sys.path.insert(0, str(page_folder()))
    start = import_module("talkplay_space.start")
    start.launch(
        args.models or [str(demo_model())],
        catalogs=args.catalog,
        audio=args.audio,
        host=args.host,
        port=args.port,
        open_browser=args.open,
        mcp=args.mcp,
    )
