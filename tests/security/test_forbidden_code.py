"""What must not stand in the code: ways to run what strangers wrote, and secrets."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
PLACES = ("talkplay_hf", "space", "recipes")
UNPICKLERS = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
RUNNERS = {"eval", "exec", "compile", "__import__"}
SHELLS = {"os.system", "os.popen", "pty.spawn", "commands.getoutput"}
PROCESSES = {"run", "call", "check_call", "check_output", "Popen", "getoutput", "getstatusoutput"}
UNSAFE_YAML = {"load_all", "unsafe_load", "unsafe_load_all", "full_load", "full_load_all"}
# XML that is read with the standard library has to be checked for entities first; see the module
XML_READERS = {"talkplay_hf/catalog/playlist_files.py"}
SWITCHES = ("trust_remote_code", "allow_pickle", "allow_unsafe", "shell")
# the user's own choice, off by default; and a model of the paper that has no other way
BY_CHOICE = {
    ("talkplay_hf/features/sentences.py", "trust_remote_code"),
    ("recipes/encoders/nv_embed_v2.py", "trust_remote_code"),
}
# the modules are named in a table of ours, never by input
DYNAMIC_IMPORTS = {
    "talkplay_hf/__init__.py",
    "talkplay_hf/features/encoders.py",
    "talkplay_hf/cli/doctor.py",
}
SECRET = re.compile(
    r"\b(hf_[A-Za-z0-9]{20,}|sk-[A-Za-z0-9_-]{20,}|gh[pousr]_[A-Za-z0-9]{30,}"
    r"|AKIA[0-9A-Z]{16}|xox[baprs]-[A-Za-z0-9-]{10,})|-----BEGIN [A-Z ]*PRIVATE KEY"
)


def sources() -> list[Path]:
    found = [path for place in PLACES for path in (REPOSITORY / place).rglob("*.py")]
    assert len(found) > 200
    return sorted(found)


def dotted(node: ast.AST) -> str:
    """`a.b.c` of a name or attribute, else what stands at its end."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return "?"


def is_true(node: ast.AST | None) -> bool:
    return isinstance(node, ast.Constant) and node.value is True


def is_false(node: ast.AST | None) -> bool:
    return isinstance(node, ast.Constant) and node.value is False


def is_off(node: ast.AST | None) -> bool:
    return isinstance(node, ast.Constant) and node.value in (False, None)


def is_text(node: ast.AST | None) -> bool:
    return isinstance(node, ast.JoinedStr) or (
        isinstance(node, ast.Constant) and isinstance(node.value, str)
    )


def is_narrowing(node: ast.AST) -> bool:
    """`x is not None`, which tells the type checker what is known already."""
    return isinstance(node, ast.Compare) and [type(one) for one in node.ops] == [ast.IsNot]


def names_of(tree: ast.Module) -> dict[str, str]:
    """What the imported names of a module stand for."""
    names: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {one.asname or one.name.split(".")[0]: one.name for one in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {one.asname or one.name: f"{node.module}.{one.name}" for one in node.names}
    return names


def forbidden(text: str, where: str = "") -> Iterator[str]:
    """What is forbidden in a source, each with its line."""
    tree = ast.parse(text)
    names = names_of(tree)
    for node in ast.walk(tree):
        line = getattr(node, "lineno", 0)
        if isinstance(node, ast.Import | ast.ImportFrom):
            modules = [one.name for one in node.names]
            if isinstance(node, ast.ImportFrom):
                modules = [node.module or ""]
            for module in modules:
                if module.split(".")[0] in UNPICKLERS:
                    yield f"{line}: import of {module}"
                if module.startswith("xml.") and where not in XML_READERS:
                    yield f"{line}: import of {module}"
        elif isinstance(node, ast.Assert) and not is_narrowing(node.test):
            yield f"{line}: assert, which python -O leaves out"
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            if SECRET.search(node.value):
                yield f"{line}: a secret"
        elif isinstance(node, ast.AnnAssign | ast.Assign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            for target in targets:
                named = isinstance(target, ast.Name) and target.id in SWITCHES
                if named and node.value is not None and not is_off(node.value):
                    yield f"{line}: {dotted(target)} is on by default"
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield from _defaults(node)
        elif isinstance(node, ast.Call):
            yield from _call(node, names, where)


def _defaults(node: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[str]:
    given = [*node.args.posonlyargs, *node.args.args]
    pairs = list(zip(reversed(given), reversed(node.args.defaults), strict=False))
    pairs += [
        (one, default)
        for one, default in zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True)
        if default is not None
    ]
    for one, default in pairs:
        if one.arg in SWITCHES and not is_off(default):
            yield f"{default.lineno}: {one.arg} is on by default"
        if one.arg == "weights_only" and not is_true(default):
            yield f"{default.lineno}: weights_only is off by default"


def _call(node: ast.Call, names: dict[str, str], where: str) -> Iterator[str]:
    line, said = node.lineno, dotted(node.func)
    head, _, rest = said.partition(".")
    full = ".".join(filter(None, (names.get(head, head), rest)))
    last = full.rpartition(".")[2]
    options = {one.arg: one.value for one in node.keywords}
    if said in RUNNERS or full in {f"builtins.{name}" for name in RUNNERS}:
        yield f"{line}: {said}()"
    constant = bool(node.args) and isinstance(node.args[0], ast.Constant)
    if last == "import_module" and not constant and where not in DYNAMIC_IMPORTS:
        yield f"{line}: import_module()"
    if full == "torch.load" and not is_true(options.get("weights_only")):
        yield f"{line}: torch.load without weights_only=True"
    if full in ("pandas.read_pickle", "numpy.lib.format.read_array", "jsonpickle.decode"):
        yield f"{line}: {full}()"
    if full.startswith("yaml."):
        loader = options.get("Loader") or (node.args[1] if len(node.args) > 1 else None)
        safe = loader is not None and dotted(loader).rpartition(".")[2] in (
            "SafeLoader",
            "CSafeLoader",
        )
        if last in UNSAFE_YAML or (last == "load" and not safe):
            yield f"{line}: {full}() that makes any object"
    if full in SHELLS or (full.startswith("os.") and last.startswith(("exec", "spawn"))):
        yield f"{line}: {full}()"
    if full.startswith("subprocess.") and last in PROCESSES and node.args and is_text(node.args[0]):
        yield f"{line}: {full}() of one text"
    if full in ("tempfile.mktemp", "os.tempnam", "os.tmpnam"):
        yield f"{line}: {full}()"
    for name in SWITCHES:
        if name in options and not is_off(options[name]) and (where, name) not in BY_CHOICE:
            yield f"{line}: {name}="
    if "verify" in options and is_false(options["verify"]) and _goes_out(full):
        yield f"{line}: verify=False"
    if "use_safetensors" in options and is_false(options["use_safetensors"]):
        yield f"{line}: use_safetensors=False"
    if full == "ssl._create_unverified_context" or last == "disable_warnings":
        yield f"{line}: {full}()"
    if last == "Environment" and full.startswith("jinja2.") and where.startswith("space"):
        yield f"{line}: jinja2.Environment, which is no sandbox"


def _goes_out(name: str) -> bool:
    head = name.partition(".")[0]
    return head in ("httpx", "httpx2", "requests", "urllib3", "aiohttp", "ssl") or (
        name.rpartition(".")[2] in ("Client", "AsyncClient", "Session", "get", "post", "request")
    )


def test_nothing_forbidden_stands_in_the_code() -> None:
    found = [
        f"{path.relative_to(REPOSITORY)}:{one}"
        for path in sources()
        for one in forbidden(
            path.read_text(encoding="utf-8"), path.relative_to(REPOSITORY).as_posix()
        )
    ]
    assert found == []


def test_no_file_holds_a_secret() -> None:
    endings = {".py", ".md", ".yaml", ".yml", ".json", ".js", ".css", ".toml", ".txt", ".jinja"}
    for place in PLACES:
        for path in (REPOSITORY / place).rglob("*"):
            if path.suffix in endings and path.is_file():
                found = SECRET.search(path.read_text(encoding="utf-8"))
                assert found is None, f"{path}: {found[0][:12] if found else ''}..."


@pytest.mark.parametrize(
    "code",
    [
        "import pickle",
        "from dill import loads",
        "import joblib as j",
        "import torch\ntorch.load('x')",
        "import torch as t\nt.load('x', weights_only=False)",
        "from torch import load\nload('x')",
        "def f(weights_only=False): ...",
        "eval('1')",
        "exec(text)",
        "compile('1', '', 'eval')",
        "__import__('os')",
        "import importlib\nimportlib.import_module(name)",
        "import yaml\nyaml.load(text)",
        "import yaml\nyaml.load(text, Loader=yaml.Loader)",
        "from yaml import unsafe_load\nunsafe_load(text)",
        "import subprocess\nsubprocess.run(['ls'], shell=True)",
        "import subprocess as s\ns.run('ls')",
        "from subprocess import Popen\nPopen(f'ls {x}')",
        "import os\nos.system('ls')",
        "from os import system\nsystem('ls')",
        "import os\nos.execv('/bin/sh', [])",
        "AutoModel.from_pretrained(x, trust_remote_code=True)",
        "AutoModel.from_pretrained(x, trust_remote_code=value)",
        "def f(*, trust_remote_code=True): ...",
        "class A:\n    trust_remote_code: bool = True",
        "import numpy as np\nnp.load(x, allow_pickle=True)",
        "import tempfile\ntempfile.mktemp()",
        "from tempfile import mktemp\nmktemp()",
        "assert x > 0, 'must be positive'",
        "import httpx2\nhttpx2.get(url, verify=False)",
        "import httpx2\nhttpx2.AsyncClient(verify=False)",
        "token = 'hf_" + "a" * 34 + "'",
        "import xml.sax",
        "AutoModel.from_pretrained(x, use_safetensors=False)",
    ],
)
def test_what_is_forbidden_is_found(code: str) -> None:
    assert list(forbidden(code))


@pytest.mark.parametrize(
    "code",
    [
        "import torch\ntorch.load('x', weights_only=True)",
        "import yaml\nyaml.safe_load(text)",
        "import yaml\nyaml.load(text, Loader=yaml.SafeLoader)",
        "import subprocess\nsubprocess.run(['ls', x])",
        "model.eval()",
        "model.to(device).eval()",
        "assert self.index is not None",
        "import re\nre.compile('a')",
        "torch.compile(model)",
        "verify_folder(folder, verify=False)",
        "AutoModel.from_pretrained(x, trust_remote_code=False)",
    ],
)
def test_what_is_harmless_passes(code: str) -> None:
    assert list(forbidden(code)) == []
