"""The commands about models: train, build, chat, serve, doctor."""

import argparse
import os
import sys
from pathlib import Path
from typing import Any

from talkplay_hf import __version__
from talkplay_hf.cli import arguments as take
from talkplay_hf.cli import evaluation
from talkplay_hf.cli.show import column_mapping, emit, progress_bars
from talkplay_hf.errors import InputError, TalkPlayError


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
    sub.add_argument("model", help="model folder or Hub id")
    sub.add_argument("--catalog", help="catalog folder with the audio clips")
    sub.add_argument("--host", default="127.0.0.1", help="address (default 127.0.0.1)")
    sub.add_argument("--port", type=int, default=7860, help="port (default 7860)")
    sub.add_argument("--open", action="store_true", help="open a browser")

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
    clips = f" --catalog {args.source}" if own else ""
    print(f"Done. Chat:  talkplay chat {paths.model}")
    print(f"      Serve: talkplay serve {paths.model}{clips}")


def run_chat(args: argparse.Namespace) -> None:
    """Answer one request, or chat."""
    from talkplay_hf.catalog.schema import Message
    from talkplay_hf.recommend.answers import Recommendation
    from talkplay_hf.recommend.recommender import Recommender

    recommender = Recommender.from_pretrained(args.model, int8=args.int8)
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
            "tracks": [
                {
                    "track_id": track.track_id,
                    "title": track.title,
                    "artist": track.artist,
                    "album": track.album,
                    "release_date": track.release_date,
                    "tags": list(track.tags),
                }
                for track in found.tracks
            ],
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
    import importlib.util

    from talkplay_hf.hub import files

    here = Path(__file__).parent.parent
    candidates = (here / "_space" / "app.py", here.parent / "space" / "app.py")
    path = next((path for path in candidates if path.exists()), None)
    if path is None:
        raise InputError("the chat page is not part of this installation")
    spec = importlib.util.spec_from_file_location("talkplay_space", path)
    assert spec is not None
    assert spec.loader is not None
    page = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = page
    spec.loader.exec_module(page)
    catalog = args.catalog
    if catalog is None and (Path(args.model).parent / "catalog" / files.MANIFEST).exists():
        catalog = str(Path(args.model).parent / "catalog")
    page.launch(args.model, catalog=catalog, host=args.host, port=args.port, open_browser=args.open)


def run_doctor(args: argparse.Namespace) -> None:
    """Say what is installed."""
    from importlib.metadata import PackageNotFoundError, version

    def installed(name: str) -> str | None:
        try:
            return version(name)
        except PackageNotFoundError:
            return None

    core = (
        "torch", "transformers", "trl", "datasets", "huggingface-hub", "accelerate", "gradio",
        "scikit-learn", "safetensors", "orjson",
    )  # fmt: skip
    extras = {
        "eval": ("bm25s",),
        "features": ("gensim", "sentence-transformers"),
        "audio": ("librosa", "soundfile", "soxr", "tinytag"),
        "plots": ("matplotlib",),
        "speed": ("numba",),
        "synthesis": ("datasketch", "gguf"),
        "lora": ("peft",),
        "tracking": ("trackio", "tensorboard"),
    }
    facts: dict[str, Any] = {
        "talkplay_hf": __version__,
        "python": sys.version.split()[0],
        "cpus": os.cpu_count(),
        "packages": {name: installed(name) for name in core},
        "extras": {
            extra: {name: installed(name) for name in names} for extra, names in extras.items()
        },
    }
    if facts["packages"]["torch"]:
        import torch

        facts["gpu"] = torch.cuda.get_device_name(0) if torch.cuda.is_available() else None
    lines = [f"talkplay_hf {__version__} on Python {facts['python']}, {facts['cpus']} CPUs"]
    lines += [f"{name}: {found or 'MISSING'}" for name, found in facts["packages"].items()]
    for extra, names in facts["extras"].items():
        for name, found in names.items():
            lines.append(f"{name}: {found or f'absent; pip install talkplay-hf[{extra}]'}")
    lines.append(f"GPU: {facts.get('gpu') or 'none, models run on the CPU'}")
    emit(facts, "\n".join(lines), args.json)
