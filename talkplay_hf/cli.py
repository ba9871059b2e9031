"""The `talkplay` command: one thin function a subcommand."""

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from talkplay_hf import __version__
from talkplay_hf.errors import InputError, TalkPlayError

_BARS: dict[str, Any] = {}


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


def _number(low: int, high: int | None = None) -> Callable[[str], int]:
    """An argument type: a whole number in a range."""

    def read(text: str) -> int:
        value = int(text)
        if value < low or (high is not None and value > high):
            most = "" if high is None else f" and at most {high}"
            raise argparse.ArgumentTypeError(f"{value} is out of range: at least {low}{most}")
        return value

    read.__name__ = "whole number"
    return read


_SEED = _number(0, 2**32 - 1)
_COUNT = _number(1)


def _progress() -> Callable[[str, int, int], None]:
    """A progress bar per activity, on stderr; none where that is not a terminal."""
    from tqdm.auto import tqdm

    bars = _BARS

    def show(what: str, done: int, total: int) -> None:
        bar = bars.get(what)
        if bar is None:
            bar = bars[what] = tqdm(
                total=total, desc=what, file=sys.stderr, dynamic_ncols=True, disable=None
            )
        bar.update(done - bar.n)
        if done >= total:
            bar.close()

    return show


def _emit(value: Any, text: str, as_json: bool) -> None:
    print(json.dumps(value, ensure_ascii=False, indent=2) if as_json else text)


def _columns(pairs: Sequence[str] | None) -> dict[str, str]:
    columns = {}
    for pair in pairs or ():
        name, equals, column = pair.partition("=")
        if not equals:
            raise InputError(f"--column {pair}: write it as standard_name=column_of_the_table")
        columns[name] = column
    return columns


def _world(args: argparse.Namespace) -> None:
    from talkplay_hf.catalog.world import make_world

    catalog = make_world(
        args.out, tracks=args.tracks, seed=args.seed, audio=args.audio, progress=_progress()
    )
    facts = {"tracks": len(catalog), "playlists": catalog.playlists.num_rows, "audio": args.audio}
    _emit(
        facts,
        f"{args.out}: a fictional catalogue of {facts['tracks']:,} tracks and "
        f"{facts['playlists']:,} playlists",
        args.json,
    )


def _import(args: argparse.Namespace) -> None:
    from talkplay_hf.catalog.importer import import_table

    report = import_table(
        args.source,
        args.out,
        playlists=args.playlists,
        columns=_columns(args.column),
        encoding=args.encoding,
    )
    _emit(report.to_dict(), report.summary(), args.json)


def _embed(args: argparse.Namespace) -> None:
    from talkplay_hf.catalog.schema import Catalog
    from talkplay_hf.features.embed import embed

    made = embed(
        Catalog.load(args.catalog), args.out, dim=args.dim, seed=args.seed, progress=_progress()
    )
    facts = {
        name: {"dimensions": m.vectors.shape[1], "present": int(m.present.sum())}
        for name, m in made.items()
    }
    lines = [
        f"{name}: {v['present']:,} tracks, {v['dimensions']} dimensions"
        for name, v in facts.items()
    ]
    _emit(facts, "\n".join(lines), args.json)


def _tokenize(args: argparse.Namespace) -> None:
    from talkplay_hf.build import health_line, make_tokenizer
    from talkplay_hf.catalog.schema import Catalog

    report = make_tokenizer(
        Catalog.load(args.catalog),
        args.features,
        args.out,
        base=args.base,
        conversations=args.conversations,
        codes=args.codes,
        missing=args.missing,
        seed=args.seed,
        progress=_progress(),
    )
    _emit(report, health_line(report), args.json)


def _synthesize(args: argparse.Namespace) -> None:
    from talkplay_hf.catalog.schema import Catalog
    from talkplay_hf.conversations.dataset import save_conversations
    from talkplay_hf.conversations.simulator import simulate

    catalog = Catalog.load(args.catalog)
    made = simulate(
        catalog,
        count=args.count,
        title_share=args.title_share,
        seed=args.seed,
        progress=_progress(),
    )
    save_conversations(
        args.out,
        made,
        {"catalog": catalog.fingerprint},
        simulator={"count": args.count, "seed": args.seed, "title_share": args.title_share},
    )
    turns = sum(message.role == "music" for one in made for message in one.messages)
    facts = {"conversations": len(made), "turns": turns}
    _emit(facts, f"{len(made):,} conversations, {turns:,} turns", args.json)


def _train(args: argparse.Namespace) -> None:
    from talkplay_hf.training.sft import parse_recipe, train

    recipe = parse_recipe(["--config", args.config, *args.overrides])
    out = train(*recipe, progress=_progress())
    print(f"{out}: trained. Chat with it: talkplay chat {out}")


def _build(args: argparse.Namespace) -> None:
    from talkplay_hf.build import build

    paths = build(
        args.source,
        args.out,
        columns=_columns(args.column),
        playlists=args.playlists,
        encoding=args.encoding,
        recipe=args.recipe,
        base=args.base,
        codes=args.codes,
        missing=args.missing,
        conversations=args.conversations,
        overrides=args.overrides,
        seed=args.seed,
        progress=_progress(),
    )
    own = Path(args.source).is_dir() and Path(args.source).resolve() != paths.catalog.resolve()
    clips = f" --catalog {args.source}" if own else ""
    print(f"Done. Chat:  talkplay chat {paths.model}")
    print(f"      Serve: talkplay serve {paths.model}{clips}")


def _chat(args: argparse.Namespace) -> None:
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
        _emit(value, show(value), args.json)
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
        _emit(value, show(value), args.json)


def _evaluate(args: argparse.Namespace) -> None:
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
    _emit(value, text + note, args.json)


def _serve(args: argparse.Namespace) -> None:
    import importlib.util

    from talkplay_hf.hub import files

    here = Path(__file__).parent
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


def _doctor(args: argparse.Namespace) -> None:
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
    _emit(facts, "\n".join(lines), args.json)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="talkplay", description="Turn a music catalogue into a conversational recommender."
    )
    parser.add_argument("--version", action="version", version=f"talkplay_hf {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(
        name: str, run: Callable[[argparse.Namespace], None], text: str, example: str
    ) -> argparse.ArgumentParser:
        sub = commands.add_parser(
            name,
            help=text,
            description=text,
            epilog=f"example:\n  {example}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        sub.set_defaults(run=run)
        return sub

    def json_flag(sub: argparse.ArgumentParser) -> None:
        sub.add_argument("--json", action="store_true", help="print JSON for machines")

    def seed_flag(sub: argparse.ArgumentParser) -> None:
        sub.add_argument("--seed", type=_SEED, default=0, help="seed (default 0)")

    def missing_flag(sub: argparse.ArgumentParser) -> None:
        sub.add_argument(
            "--missing",
            default="reserve",
            choices=("reserve", "impute"),
            help="what a track without a modality gets (default: a reserved code)",
        )

    def table_flags(sub: argparse.ArgumentParser) -> None:
        sub.add_argument("--playlists", help="a second table of playlists")
        sub.add_argument(
            "--column",
            action="append",
            metavar="NAME=COLUMN",
            help="which column of the table is NAME (title, artist, ...); may be repeated",
        )
        sub.add_argument("--encoding", help="encoding of a CSV (default UTF-8)")

    sub = command(
        "world",
        _world,
        "Write the demo world: a fictional, freely licensed catalogue with sound.",
        "talkplay world demo/world --tracks 300",
    )
    sub.add_argument("out", help="catalog folder to make")
    sub.add_argument("--tracks", type=int, default=300, help="number of tracks (default 300)")
    sub.add_argument("--no-audio", dest="audio", action="store_false", help="render no clips")
    seed_flag(sub)
    json_flag(sub)

    sub = command(
        "import",
        _import,
        "Make a catalog folder from a CSV or Parquet table.",
        "talkplay import songs.csv catalog --column title=song_name",
    )
    sub.add_argument("source", help="CSV or Parquet: one row per track, or per (track, playlist)")
    sub.add_argument("out", help="catalog folder to make")
    table_flags(sub)
    json_flag(sub)

    sub = command(
        "embed",
        _embed,
        "Compute one vector per track and modality.",
        "talkplay embed catalog features",
    )
    sub.add_argument("catalog", help="catalog folder")
    sub.add_argument("out", help="features folder to make")
    sub.add_argument("--dim", type=_COUNT, default=128, help="dimensions at most (default 128)")
    seed_flag(sub)
    json_flag(sub)

    sub = command(
        "tokenize",
        _tokenize,
        "Fit codebooks and grow a tokenizer by music tokens.",
        "talkplay tokenize catalog features tokenizer --conversations conversations",
    )
    sub.add_argument("catalog", help="catalog folder")
    sub.add_argument("features", help="features folder")
    sub.add_argument("out", help="tokenizer folder to make")
    sub.add_argument(
        "--base", default="scratch", help="base model to grow (default: a small one from scratch)"
    )
    sub.add_argument(
        "--conversations", help="conversations whose text a tokenizer from scratch learns"
    )
    sub.add_argument(
        "--codes", type=_COUNT, default=1024, help="codes per modality at most (default 1024)"
    )
    missing_flag(sub)
    seed_flag(sub)
    json_flag(sub)

    sub = command(
        "synthesize",
        _synthesize,
        "Write conversations from the playlists of a catalog.",
        "talkplay synthesize catalog conversations --count 12000",
    )
    sub.add_argument("catalog", help="catalog folder")
    sub.add_argument("out", help="conversations folder to make")
    sub.add_argument("--count", type=_COUNT, default=12_000, help="conversations (default 12000)")
    sub.add_argument(
        "--title-share",
        type=float,
        default=1.0,
        help="share of the replies that name the title (default 1; 0 for a small model)",
    )
    seed_flag(sub)
    json_flag(sub)

    sub = command(
        "train",
        _train,
        "Train a model from a recipe; further arguments override its keys.",
        "talkplay train --config recipes/quickstart/sft.yaml --output_dir model",
    )
    sub.add_argument("--config", required=True, help="the recipe, a YAML file")

    sub = command(
        "build",
        _build,
        "Import, embed, converse, tokenize and train in one go.",
        "talkplay build songs.csv my_recommender",
    )
    sub.add_argument("source", help="CSV, Parquet or catalog folder")
    sub.add_argument("out", help="folder for everything")
    table_flags(sub)
    missing_flag(sub)
    sub.add_argument("--recipe", help="training recipe (default: the quickstart)")
    sub.add_argument("--base", default="scratch", help="base model (default: a small one)")
    sub.add_argument("--codes", type=_COUNT, default=1024, help="codes per modality at most")
    sub.add_argument("--conversations", type=_COUNT, default=12_000, help="conversations (12000)")
    seed_flag(sub)

    sub = command(
        "chat",
        _chat,
        "Chat in the terminal, or answer one request.",
        'talkplay chat model --once "play some slow jazz" --json',
    )
    sub.add_argument("model", help="model folder or Hub id")
    sub.add_argument("--once", metavar="TEXT", help="answer this one request and end")
    sub.add_argument("--tracks", type=_COUNT, default=1, help="tracks an answer (default 1)")
    sub.add_argument("--strategy", default="sample", choices=("sample", "rank"))
    sub.add_argument("--constraint", default="catalog", choices=("catalog", "grammar", "none"))
    sub.add_argument("--seed", type=_SEED, default=None, help="makes the answers repeatable")
    json_flag(sub)

    sub = command(
        "evaluate",
        _evaluate,
        "Rank held-out conversations beside random, popularity and BM25.",
        "talkplay evaluate out/model out/conversations --catalog out/catalog",
    )
    sub.add_argument("model", help="model folder or Hub id")
    sub.add_argument("conversations", help="conversations folder")
    sub.add_argument("--catalog", required=True, help="catalog folder")
    sub.add_argument("--split", default="test", help="which conversations (default test)")
    sub.add_argument("--limit", type=_COUNT, help="conversations at most")
    sub.add_argument("--k", type=_COUNT, default=100, help="depth of the rankings (default 100)")
    sub.add_argument(
        "--negatives",
        action="store_true",
        help="give the ranking figures a second time with the turns of the negative set",
    )
    sub.add_argument(
        "--matching",
        type=_number(0),
        default=0,
        metavar="N",
        help="also sample N answers with and without constraint and count matches",
    )
    sub.add_argument("--out", help="write the report as JSON to this file")
    seed_flag(sub)
    json_flag(sub)

    sub = command("serve", _serve, "Serve the chat page.", "talkplay serve my_recommender/model")
    sub.add_argument("model", help="model folder or Hub id")
    sub.add_argument("--catalog", help="catalog folder with the audio clips")
    sub.add_argument("--host", default="127.0.0.1", help="address (default 127.0.0.1)")
    sub.add_argument("--port", type=int, default=7860, help="port (default 7860)")
    sub.add_argument("--open", action="store_true", help="open a browser")

    sub = command(
        "doctor", _doctor, "Show versions, devices and missing extras.", "talkplay doctor"
    )
    json_flag(sub)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the exit status."""
    parser = _parser()
    args, rest = parser.parse_known_args(arguments)
    if rest and args.command not in ("train", "build"):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    args.overrides = rest
    try:
        try:
            args.run(args)
        finally:
            while _BARS:
                _BARS.popitem()[1].close()
    except TalkPlayError as error:
        print(f"talkplay {args.command}: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        print(f"talkplay {args.command}: {where}{error.strerror or error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"talkplay {args.command}: stopped", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
