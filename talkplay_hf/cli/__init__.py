"""The `talkplay` command: one thin function a subcommand."""

import argparse
import os
import sys
from collections.abc import Sequence

from talkplay_hf import __version__
from talkplay_hf.cli import catalog, conversation_sets, conversations, model, tokens
from talkplay_hf.cli.arguments import Commands, Parser
from talkplay_hf.cli.conversations import Unfinished
from talkplay_hf.cli.show import close_bars
from talkplay_hf.errors import TalkPlayError


def make_parser() -> argparse.ArgumentParser:
    """The parser of the whole command line."""
    parser = Parser(
        prog="talkplay", description="Turn a music catalogue into a conversational recommender."
    )
    parser.add_argument("--version", action="version", version=f"talkplay_hf {__version__}")
    commands = Commands(parser)
    for room in (catalog, conversations, conversation_sets, tokens, model):
        room.add_commands(commands)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Returns:
        `int`: The exit status: 0; 2 for bad input; 3 where something was written but more is to be
        done; 130 where it was interrupted.
    """
    parser = make_parser()
    args, rest = parser.parse_known_args(arguments)
    if rest and args.command not in ("train", "build"):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    args.overrides = rest
    try:
        try:
            args.run(args)
        finally:
            close_bars()
    except Unfinished as error:
        print(f"talkplay {args.command}: {error}", file=sys.stderr)
        return 3
    except TalkPlayError as error:
        print(f"talkplay {args.command}: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # the reader of our output has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        print(f"talkplay {args.command}: {where}{error.strerror or error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"talkplay {args.command}: stopped", file=sys.stderr)
        return 130
    return 0
