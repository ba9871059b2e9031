"""Which simulator wrote something: one hash of all that decides its words.

A simulator that test conversations come from is frozen before anything is tuned on them. The hash
tells whether it still is: it stands in the manifest of the conversations, and anyone can compare it
with that of the simulator at hand.
"""

import io
import tokenize
from functools import cache
from pathlib import Path

from talkplay_hf.hub import files

_ROOM = Path(__file__).parent
# What says which constraints a track meets, and so what may be asked for.
_RULES = _ROOM.parents[1] / "catalog" / "constraints.py"
_STATEMENT_STARTS = (tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT)


@cache
def simulator_hash() -> str:
    """SHA-256 of the simulator.

    It covers the code of the simulator and of the constraints, with the default options, and the
    phrases of all languages. Comments, docstrings, blank lines and line ends do not change it; any
    other change of the text does, also one of its layout. It is the same on all machines and
    versions of Python. The options, the seed and the hash of the catalog, which decide the rest,
    are recorded beside it.
    """
    own = Path(__file__).name
    code = [path for path in _ROOM.glob("*.py") if path.name != own] + [_RULES]
    parts = {path.name: code_of(path.read_text(encoding="utf-8")) for path in code}
    books = (_ROOM / "phrases").glob("*.json")
    parts |= {path.name: path.read_text(encoding="utf-8") for path in books}
    return files.sha256_json(parts)


def code_of(source: str) -> str:
    """The text of a module without its comments, docstrings, blank lines and spaces at line ends.

    Only positions are taken from the tokenizer, since the tokens of an f-string are others in each
    version of Python.

    Args:
        source (`str`): The text, with `"\\n"` at line ends.
    """
    lines = source.split("\n")
    before = tokenize.NEWLINE
    found = []
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        is_docstring = token.type == tokenize.STRING and before in _STATEMENT_STARTS
        if is_docstring or token.type == tokenize.COMMENT:
            found.append((token.start, token.end))
        if token.type not in (tokenize.COMMENT, tokenize.NL):
            before = token.type
    for (first, start), (last, end) in reversed(found):
        lines[first - 1 : last] = [lines[first - 1][:start] + lines[last - 1][end:]]
    return "\n".join(line for line in map(str.rstrip, lines) if line)
