"""Search the parsers by coverage with atheris; not part of the test suite.

    pip install atheris     # beside this package, on Linux
    python tests/fuzz/coverage_guided.py answers -runs=100000
    python tests/fuzz/coverage_guided.py --list

What follows the name of a target goes to libFuzzer: `-runs`, `-max_total_time`, a folder of inputs.
A target stops at the first input that raises anything but an error of ours, or takes 20 seconds.
`tests/fuzz/README.md` tells what was run and found.
"""

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "space"))

with atheris.instrument_imports(include=["talkplay_hf", "talkplay_space"]):
    from talkplay_space import sharing
    from talkplay_space.conversation import RefusedError

    from talkplay_hf.catalog.cells import Cells
    from talkplay_hf.catalog.columns import read_source
    from talkplay_hf.catalog.mpd import read_slice
    from talkplay_hf.catalog.playlist_files import read_playlist_file
    from talkplay_hf.conversations.checks.json_text import find_values
    from talkplay_hf.conversations.checks.parse import parse_answer
    from talkplay_hf.conversations.quality.judge import parse_ratings
    from talkplay_hf.errors import TalkPlayError
    from talkplay_hf.recommend.rules import parse_rule

FOLDER = Path(tempfile.mkdtemp(prefix="fuzz-"))


def text_of(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")


def file_of(raw: bytes, name: str) -> Path:
    path = FOLDER / name
    path.write_bytes(raw)
    return path


def answers(raw: bytes) -> None:
    text = text_of(raw)
    find_values(text)
    parse_answer(text)
    parse_ratings(text)


def rules(raw: bytes) -> None:
    rule = parse_rule(text_of(raw))
    parse_rule(str(rule))


def cells(raw: bytes) -> None:
    text, reader = text_of(raw), Cells()
    for read in (reader.text, reader.number, reader.date, reader.items, reader.artist, reader.key):
        read(text)
    reader.lyrics(text, bag=True)


def tables(raw: bytes) -> None:
    read_source(file_of(b"title,artist\n" + raw, "t.csv"))


def slices(raw: bytes) -> None:
    read_slice(file_of(raw, "mpd.slice.0-999.json"))


def playlists(raw: bytes) -> None:
    for name in ("a.m3u", "a.pls", "a.xspf"):
        try:
            file_of(raw, name)
            read_playlist_file(FOLDER, name)
        except TalkPlayError:
            continue


def shared(raw: bytes) -> None:
    for read in (sharing.from_json, lambda one: sharing.from_link(text_of(one))):
        try:
            read(raw)
        except RefusedError:
            continue


TARGETS: dict[str, Callable[[bytes], None]] = {
    one.__name__: one for one in (answers, rules, cells, tables, slices, playlists, shared)
}


def main() -> None:
    name = sys.argv[1] if len(sys.argv) > 1 else "--list"
    if name not in TARGETS:
        print("\n".join(TARGETS))
        return

    def one_input(raw: bytes) -> None:
        try:
            TARGETS[name](raw)
        except (TalkPlayError, RefusedError):
            return

    atheris.Setup([sys.argv[0], "-timeout=20", *sys.argv[2:]], one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
