"""What holds for the package as a whole: who imports whom, public names, forbidden calls."""

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import talkplay_hf

ROOT = Path(talkplay_hf.__file__).parent
MODULES = sorted(ROOT.rglob("*.py"))
ROOMS = ("hub", "catalog", "features", "tokens", "conversations", "training", "recommend")
ALLOWED: dict[str, set[str]] = {
    "hub": set(),
    "catalog": {"hub"},
    "features": {"catalog", "hub"},
    "tokens": {"catalog", "hub"},
    "conversations": {"catalog", "hub"},
    "training": {"tokens", "conversations", "catalog", "hub"},
    "recommend": {"tokens", "catalog", "hub"},
    "evaluation": set(ROOMS) - {"training"},
}
MAY_IMPORT_ALL = {"cli", "build", "repos", "tokenizing"}
OPEN_TO_ALL = {"errors", "talkplay_hf"}


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def room_of(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def own_imports(tree: ast.AST) -> set[str]:
    """Dotted names of ours that a module imports, at any depth; `talkplay_hf` for its own names."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            if node.module == "talkplay_hf":
                for alias in node.names:
                    inside = (ROOT / alias.name).is_dir() or (ROOT / f"{alias.name}.py").exists()
                    found.add(f"talkplay_hf.{alias.name}" if inside else "talkplay_hf")
            else:
                found.add(node.module)
    return {name for name in found if name.split(".")[0] == "talkplay_hf"}


def rooms_imported(tree: ast.AST) -> set[str]:
    return {name.split(".")[1] if "." in name else name for name in own_imports(tree)}


def test_every_room_is_in_the_table():
    rooms = {path.name for path in ROOT.iterdir() if (path / "__init__.py").exists()}
    assert rooms == set(ALLOWED) | {"cli"}


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_rooms_import_only_what_the_table_allows(path: Path):
    room = room_of(path)
    imported = rooms_imported(tree_of(path)) - {room} - OPEN_TO_ALL
    if room in ALLOWED:
        assert imported <= ALLOWED[room]
    elif room not in MAY_IMPORT_ALL:
        assert imported == set()  # the package itself and errors


def test_the_import_reader_sees_imports_inside_functions_and_of_every_kind():
    source = (
        "import talkplay_hf.catalog.schema\n"
        "from talkplay_hf import __version__\n"
        "def f():\n"
        "    from talkplay_hf.hub import files\n"
        "    from talkplay_hf import tokens\n"
    )
    assert rooms_imported(ast.parse(source)) == {"catalog", "talkplay_hf", "hub", "tokens"}


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_are_absolute_and_by_name(path: Path):
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}"
            assert all(alias.name != "*" for alias in node.names), f"line {node.lineno}"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_nothing_runs_foreign_code(path: Path):
    """No pickle, eval, exec, shell or remote code."""
    for node in ast.walk(tree_of(path)):
        where = f"line {getattr(node, 'lineno', 0)}"
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = {alias.name for alias in node.names} | {getattr(node, "module", None) or ""}
            roots = {name.split(".")[0] for name in names}
            assert not roots & {"pickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}, (
                where
            )
        if isinstance(node, ast.Call):
            called = getattr(node.func, "id", None)
            assert called not in ("eval", "exec", "compile", "__import__"), where
            on_torch = isinstance(node.func, ast.Attribute) and (
                getattr(node.func.value, "id", "") == "torch" and node.func.attr == "load"
            )
            assert not on_torch, where
            on_os = isinstance(node.func, ast.Attribute) and node.func.attr in ("system", "popen")
            assert not on_os, where
            for keyword in node.keywords:
                if keyword.arg in ("shell", "allow_pickle"):
                    assert getattr(keyword.value, "value", None) is False, where
                if keyword.arg == "trust_remote_code":  # a constant, or what the user said
                    asked = ast.unparse(keyword.value)
                    assert asked in ("False", "self.trust_remote_code"), where
        if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == "trust_remote_code":
            assert node.value is not None, where
            assert ast.unparse(node.value) == "False", where


def undocumented(tree: ast.Module) -> list[str]:
    missing = []

    def visit(node: ast.AST, prefix: str) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                if child.name.startswith("_"):
                    continue
                name = f"{prefix}{child.name}"
                inherited = isinstance(child, ast.FunctionDef) and any(
                    getattr(d, "id", "") in ("override", "overload") for d in child.decorator_list
                )
                if not inherited and not ast.get_docstring(child):
                    missing.append(name)
                if isinstance(child, ast.ClassDef):
                    visit(child, f"{name}.")

    visit(tree, "")
    return missing


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_everything_public_has_a_docstring(path: Path):
    tree = tree_of(path)
    if path.name != "__main__.py" or tree.body:
        assert ast.get_docstring(tree)
    assert undocumented(tree) == []


def test_the_public_names_resolve_and_are_few():
    assert 1 < len({*talkplay_hf.__all__} - {"__version__"}) <= 15
    assert len(set(talkplay_hf.__all__)) == len(talkplay_hf.__all__)
    for name in talkplay_hf.__all__:
        value = getattr(talkplay_hf, name)
        assert value is not None
        if name != "__version__":
            assert value.__name__ == name
            assert importlib.import_module(value.__module__).__dict__[name] is value
    assert set(dir(talkplay_hf)) == set(talkplay_hf.__all__)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="NoSuchName"):
        _ = talkplay_hf.NoSuchName


def loaded_by(statement: str) -> set[str]:
    code = f"import sys\n{statement}\nprint('\\n'.join(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=60
    )
    return {name.split(".")[0] for name in done.stdout.split()}


@pytest.mark.parametrize("statement", ["import talkplay_hf", "import talkplay_hf.cli"])
def test_plain_imports_are_light(statement: str):
    heavy = {"torch", "transformers", "gradio", "trl", "sklearn", "datasets", "pyarrow", "numba"}
    assert not heavy & loaded_by(statement)


def test_catalogs_need_no_language_model():
    statement = "from talkplay_hf import Catalog, Constraint, Conversation, Message, Track"
    assert not {"torch", "transformers", "gradio"} & loaded_by(statement)
