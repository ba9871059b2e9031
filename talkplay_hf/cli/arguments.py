"""The pieces that the command line is put together from."""

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from talkplay_hf.recommend.rules import Rule


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        """Print one line and exit with status 2."""
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


class Commands:
    """The subcommands of a parser.

    Args:
        parser (`argparse.ArgumentParser`): The parser that they belong to.
    """

    def __init__(self, parser: argparse.ArgumentParser) -> None:
        self._commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(
        self, name: str, run: Callable[[argparse.Namespace], None], text: str, example: str
    ) -> argparse.ArgumentParser:
        """Add a command with an example in its help."""
        sub: argparse.ArgumentParser = self._commands.add_parser(
            name,
            help=text,
            description=text,
            epilog=f"example:\n  {example}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        sub.set_defaults(run=run)
        return sub


def whole_number(low: int, high: int | None = None) -> Callable[[str], int]:
    """An argument type: a whole number in a range."""

    def read(text: str) -> int:
        value = int(text)
        if value < low or (high is not None and value > high):
            most = "" if high is None else f" and at most {high}"
            raise argparse.ArgumentTypeError(f"{value} is out of range: at least {low}{most}")
        return value

    read.__name__ = "whole number"
    return read


def count_or_share(text: str) -> int | float:
    """An argument type: a whole number, or a share such as 0.1."""
    return int(text) if text.isdecimal() else float(text)


count_or_share.__name__ = "number or share"
SEED = whole_number(0, 2**32 - 1)
COUNT = whole_number(1)


def json_flag(sub: argparse.ArgumentParser) -> None:
    """Add `--json`."""
    sub.add_argument("--json", action="store_true", help="print JSON for machines")


def seed_flag(sub: argparse.ArgumentParser) -> None:
    """Add `--seed`."""
    sub.add_argument("--seed", type=SEED, default=0, help="seed (default 0)")


def on_error_flag(sub: argparse.ArgumentParser) -> None:
    """Add `--on-error`."""
    sub.add_argument(
        "--on-error",
        default="skip",
        choices=("skip", "stop"),
        help="count what is bad and go on, or stop at the first (default skip)",
    )


def missing_flag(sub: argparse.ArgumentParser) -> None:
    """Add `--missing`."""
    from talkplay_hf.tokens.config import DEFAULT_MISSING, MISSING_POLICIES

    sub.add_argument(
        "--missing",
        default=DEFAULT_MISSING,
        choices=MISSING_POLICIES,
        help="what a track without a modality gets: a code of its own, or the likeliest by the "
        f"other modalities (default {DEFAULT_MISSING})",
    )


def rule_flag(sub: argparse.ArgumentParser) -> None:
    """Add `--rule`, which gives a list of rules."""
    sub.add_argument(
        "--rule",
        type=_rule,
        action="append",
        default=[],
        metavar="RULE",
        help="only tracks that fit, such as 'year >= 1990', 'tags is jazz', 'artist not NAME', "
        "'not explicit' or 'artist at most 2'; may be repeated, and all must hold",
    )


def _rule(text: str) -> "Rule":
    from talkplay_hf.errors import InputError
    from talkplay_hf.recommend.rules import parse_rule

    try:
        return parse_rule(text)
    except InputError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def table_flags(sub: argparse.ArgumentParser) -> None:
    """Add what the reading of a table takes."""
    sub.add_argument("--playlists", help="a second table of playlists")
    sub.add_argument(
        "--column",
        action="append",
        metavar="NAME=COLUMN",
        help="which column of the table is NAME (title, artist, ...); may be repeated",
    )
    sub.add_argument("--encoding", help="encoding of a CSV (default UTF-8)")
