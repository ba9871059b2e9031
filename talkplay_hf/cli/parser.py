"""The arguments of the `talkplay` command."""

import argparse
from collections.abc import Callable
from typing import NoReturn

from talkplay_hf import __version__
from talkplay_hf.cli import data, model


class Parser(argparse.ArgumentParser):
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


def make_parser() -> argparse.ArgumentParser:
    """The parser of the whole command line."""
    parser = Parser(
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
        data.run_world,
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
        data.run_import,
        "Make a catalog folder from a CSV or Parquet table.",
        "talkplay import songs.csv catalog --column title=song_name",
    )
    sub.add_argument("source", help="CSV or Parquet: one row per track, or per (track, playlist)")
    sub.add_argument("out", help="catalog folder to make")
    table_flags(sub)
    json_flag(sub)

    sub = command(
        "embed",
        data.run_embed,
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
        data.run_tokenize,
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
        data.run_synthesize,
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
        model.run_train,
        "Train a model from a recipe; further arguments override its keys.",
        "talkplay train --config recipes/quickstart/sft.yaml --output_dir model",
    )
    sub.add_argument("--config", required=True, help="the recipe, a YAML file")

    sub = command(
        "build",
        model.run_build,
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
        model.run_chat,
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
        model.run_evaluate,
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

    sub = command(
        "serve", model.run_serve, "Serve the chat page.", "talkplay serve my_recommender/model"
    )
    sub.add_argument("model", help="model folder or Hub id")
    sub.add_argument("--catalog", help="catalog folder with the audio clips")
    sub.add_argument("--host", default="127.0.0.1", help="address (default 127.0.0.1)")
    sub.add_argument("--port", type=int, default=7860, help="port (default 7860)")
    sub.add_argument("--open", action="store_true", help="open a browser")

    sub = command(
        "doctor", model.run_doctor, "Show versions, devices and missing extras.", "talkplay doctor"
    )
    json_flag(sub)
    return parser
