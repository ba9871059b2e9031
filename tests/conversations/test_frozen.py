"""The hash of the simulator."""

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from shutil import copytree

import pytest

from talkplay_hf.cli import main
from talkplay_hf.conversations.dataset import load_conversations, save_conversations
from talkplay_hf.conversations.simulation import frozen
from talkplay_hf.conversations.simulation.frozen import code_of, simulator_hash
from talkplay_hf.hub import files

ROOM = Path(frozen.__file__).parent


@pytest.fixture
def room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of the simulator that may be changed."""
    copy = copytree(ROOM, tmp_path / "room")
    monkeypatch.setattr(frozen, "_ROOM", copy)
    simulator_hash.cache_clear()
    yield copy
    simulator_hash.cache_clear()


def hash_of_changed(path: Path, old: str, new: str) -> str:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    simulator_hash.cache_clear()
    return simulator_hash()


def test_a_copy_elsewhere_has_the_same_hash(room: Path) -> None:
    copied = simulator_hash()
    program = f"from {frozen.__name__} import simulator_hash; print(simulator_hash())"
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert told.stdout.decode().strip() == copied


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("listener.py", "0.15", "0.16"),
        ("options.py", "negative: float = 0.15", "negative: float = 0.2"),
        ("phrases/en.json", "the", "teh"),
        ("phrases/pt.json", "\n", ""),
    ],
)
def test_what_decides_the_words_changes_it(name: str, old: str, new: str, room: Path) -> None:
    before = simulator_hash()
    assert hash_of_changed(room / name, old, new) != before


def test_the_rules_of_constraints_change_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = simulator_hash()
    rules = tmp_path / frozen._RULES.name
    rules.write_text(frozen._RULES.read_text(encoding="utf-8") + "\nEXTRA = 1\n", encoding="utf-8")
    monkeypatch.setattr(frozen, "_RULES", rules)
    simulator_hash.cache_clear()
    changed = simulator_hash()
    simulator_hash.cache_clear()
    assert changed != before


def test_a_further_file_changes_it(room: Path) -> None:
    before = simulator_hash()
    (room / "more.py").write_text("MORE = 1\n", encoding="utf-8")
    simulator_hash.cache_clear()
    assert simulator_hash() != before


def test_docstrings_comments_and_line_ends_do_not_change_it(room: Path) -> None:
    before = simulator_hash()
    path = room / "listener.py"
    assert hash_of_changed(path, '"""', '"""Other words.\n\nAnd more. ') == before
    assert hash_of_changed(path, "\nclass ", "\n# a comment\n\n\nclass ") == before
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    simulator_hash.cache_clear()
    assert simulator_hash() == before


def test_only_comments_docstrings_and_blank_lines_are_taken_out() -> None:
    source = '''"""About
this."""
import re  # why

X = "# no comment"
Y = f"{X} # {len('a')}"


class A:
    """One."""

    Z = (
        """text
        of lines"""  # note
    )

    def f(self):
        "Two."
        return """kept"""
'''
    assert code_of(source).split("\n") == [
        "import re",
        'X = "# no comment"',
        "Y = f\"{X} # {len('a')}\"",
        "class A:",
        "    Z = (",
        '        """text',
        '        of lines"""',
        "    )",
        "    def f(self):",
        '        return """kept"""',
    ]


@pytest.mark.parametrize("path", sorted(ROOM.glob("*.py")), ids=lambda path: path.stem)
def test_what_is_left_of_a_module_is_its_code(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(
            node, clean=False
        ):
            del node.body[0]
    assert ast.dump(ast.parse(code_of(source))) == ast.dump(tree)


def test_the_conversations_record_it(
    world_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "talks"
    main(["synthesize", str(world_folder), str(out), "--count", "5", "--json"])
    assert json.loads(capsys.readouterr().out)["simulator"] == simulator_hash()
    manifest = files.read_manifest(out, "conversations")
    assert manifest["simulator"]["hash"] == simulator_hash()
    # those of another simulator are read as well
    save_conversations(out, load_conversations(out), {}, simulator={"hash": "0" * 64})
    assert len(load_conversations(out)) == 5
