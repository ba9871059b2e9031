"""The `talkplay` command: one thin function a subcommand."""

import argparse
import os
import re
import sys
from collections.abc import Sequence

from talkplay_hf import __version__
from talkplay_hf.cli import catalog, conversation_sets, conversations, hub, model, tokens
from talkplay_hf.cli.arguments import Commands, Parser
from talkplay_hf.cli.conversations import Unfinished
from talkplay_hf.cli.show import close_bars
from talkplay_hf.errors import TalkPlayError, first_line
from talkplay_hf.evaluation.page.text import showable

_DISK_FULL = re.compile(r"os error (27|28|122)\b|No space left|File too large|quota exceeded")


def make_parser() -> argparse.ArgumentParser:
    """The parser of the whole command line."""
    parser = Parser(
        prog="talkplay", description="Turn a music catalogue into a conversational recommender."
    )
    parser.add_argument("--version", action="version", version=f"talkplay_hf {__version__}")
    commands = Commands(parser)
    for room in (catalog, conversations, conversation_sets, tokens, model, hub):
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

    def fail(message: object, status: int) -> int:
        # a message may quote a file of a stranger, which must not steer the terminal
        print(showable(f"talkplay {args.command}: {message}"), file=sys.stderr)
        return status

    try:
        try:
            args.run(args)
        finally:
            close_bars()
    except Unfinished as error:
        return fail(error, 3)
    except TalkPlayError as error:
        return fail(error, 2)
    except BrokenPipeError:  # the reader of our output has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        return fail(f"{where}{error.strerror or error}", 2)
    except Exception as error:
        # writers in other languages raise errors of their own when the disk is full
        if not _DISK_FULL.search(str(error)):
            raise
        return fail(f"cannot write: {first_line(error)}", 2)
    except KeyboardInterrupt:
        return fail("stopped", 130)
    return 0
