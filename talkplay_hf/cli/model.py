"""The commands about models: train, build, chat, evaluate, serve, doctor."""

import argparse
import os
import sys
from pathlib import Path
from typing import Any

from talkplay_hf import __version__
from talkplay_hf.cli.show import column_mapping, emit, progress_bars
from talkplay_hf.errors import InputError, TalkPlayError


def run_train(args: argparse.Namespace) -> None:
    """Train a model from a recipe."""
    from talkplay_hf.training.sft import parse_recipe, train

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
    from talkplay_hf.recommend.recommender import Recommender

    recommender = Recommender.from_pretrained(args.model)
    options = {"strategy": args.strategy, "constraint": args.constraint, "tracks": args.tracks}
    history: list[Message] = []

    def answer(text: str) -> dict[str, Any]:
        chat = [*history, Message("user", text)]
        found = recommender.chat(chat, seed=args.seed, **options)
        played = [Message("music", track_id=track.track_id) for track in found.tracks]
        history[:] = [*chat, *played, Message("assistant", found.reply)]
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
            value = answer(text)
        except TalkPlayError as error:
            print(error)
            continue
        emit(value, show(value), args.json)


def run_evaluate(args: argparse.Namespace) -> None:
    """Print the figures of a model."""
    from talkplay_hf.catalog.schema import Catalog
    from talkplay_hf.conversations.dataset import load_conversations
    from talkplay_hf.evaluation.evaluate import evaluate
    from talkplay_hf.evaluation.matching import matching
    from talkplay_hf.hub import files
    from talkplay_hf.recommend.recommender import Recommender

    if args.out:
        out = Path(args.out).absolute()
        folder = next(path for path in out.parents if path.exists())
        if out.is_dir():
            raise InputError(f"{args.out}: is a folder; name a file to write the report to")
        if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
            raise InputError(f"{args.out}: {folder} is not a folder that can be written to")
    catalog = Catalog.load(args.catalog)
    demo = "world" in files.read_manifest(args.catalog, "catalog")
    conversations = load_conversations(args.conversations, [args.split])
    if not conversations:
        raise InputError(f"{args.conversations}: has no conversations of the split {args.split}")
    recommender = Recommender.from_pretrained(args.model)
    report = evaluate(
        recommender,
        conversations,
        catalog,
        limit=args.limit,
        k=args.k,
        seed=args.seed,
        include_negative=args.negatives,
    )
    value, text = report.to_dict(), report.summary()
    value["catalog_kind"] = "demo world" if demo else "catalog"
    if args.matching:
        found = matching(recommender, conversations, samples=args.matching, seed=args.seed)
        value["matching"] = found.to_dict()
        text += "\n" + found.summary() + "\n"
    if args.out:
        files.write_json(args.out, value)
    note = "\nThe catalogue is the fictional demo world: no statement about real music." * demo
    emit(value, text + note, args.json)


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
        "scikit-learn", "safetensors",
    )  # fmt: skip
    extras = {"eval": ("bm25s",)}
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
