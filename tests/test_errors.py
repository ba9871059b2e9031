"""Errors are one family, each says what is wrong in a line, and extras are named alike."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

import talkplay_hf
from talkplay_hf import errors
from talkplay_hf.cli.doctor import EXTRAS
from talkplay_hf.errors import TalkPlayError, first_line
from talkplay_hf.hub import files

ROOT = Path(talkplay_hf.__file__).parent
FAMILY = {
    name
    for name, value in vars(errors).items()
    if isinstance(value, type) and issubclass(value, TalkPlayError)
}


@cache
def raises() -> list[tuple[str, ast.Call]]:
    """Where the package raises an error of the family, and how."""
    found = []
    for path in sorted(ROOT.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
                called = getattr(node.exc.func, "id", getattr(node.exc.func, "attr", ""))
                if called in FAMILY:
                    found.append((f"{path.relative_to(ROOT)}:{node.lineno}", node.exc))
    return found


def texts(call: ast.Call) -> str:
    """The fixed parts of a message, with `{}` for what is filled in."""
    parts = [
        str(node.value)
        for node in ast.walk(call)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]
    return " ".join(parts)


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (OSError("\n no such file\nand a long story"), "no such file"),
        (ValueError(), "ValueError"),
        (OSError("  \n "), "OSError"),
    ],
)
def test_an_error_is_told_in_a_line_even_where_it_says_nothing(error: Exception, line: str) -> None:
    assert first_line(error) == line


def test_there_are_many_and_each_has_a_message() -> None:
    found = raises()
    assert len(found) > 600
    for where, call in found:
        assert call.args, where
        if isinstance(call.args[0], ast.Constant):
            assert len(str(call.args[0].value)) > 10, where


def test_messages_are_one_line_and_do_not_shout() -> None:
    for where, call in raises():
        text = texts(call)
        assert "\n" not in text, where
        assert "!" not in text.replace("<!--", ""), where


def test_missing_extras_say_what_to_type_in_a_form_that_every_shell_takes() -> None:
    named = set()
    for where, call in raises():
        text = texts(call)
        for quote, extra in re.findall(r"pip install ('?)talkplay-hf\[(\w+)\]", text):
            assert quote, where
            named.add(extra)
        if getattr(call.func, "id", "") == "MissingExtraError":
            assert "talkplay-hf[" in text or "{" in ast.unparse(call), where
    assert {"eval", "features", "audio", "plots", "lora", "synthesis"} <= named <= set(EXTRAS)


@pytest.mark.parametrize("kind", files.MAKERS)
def test_a_folder_that_is_none_of_a_kind_says_what_makes_one(kind: str, tmp_path: Path) -> None:
    wanted = f"make one with `talkplay {files.MAKERS[kind]}`"
    with pytest.raises(errors.ArtifactError, match=wanted):
        files.read_manifest(tmp_path / "gone", kind)
    with pytest.raises(errors.ArtifactError, match=wanted):
        files.read_manifest(tmp_path, kind)
    files.write_manifest(tmp_path, "something", {})
    with pytest.raises(errors.ArtifactError, match=f"is a something folder.*{wanted}"):
        files.read_manifest(tmp_path, kind)
