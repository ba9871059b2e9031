"""Every code block of the documents is checked, and none can be added that nothing looks at.

Shell blocks are parsed here, command by command, and run by `test_docs_run.py`; Python, CSV and
YAML blocks are run here. The code of the cards is run by `tests/hub/test_card_code.py`.
"""

import ast
import csv
import io
import re
import tomllib
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from doc_blocks import CARDS, PAGES, ROOT, Block, all_blocks, commands, talkplay_words
from transformers import LlamaForCausalLM

from talkplay_hf.catalog.importer import import_table
from talkplay_hf.catalog.schema import MODALITIES, Catalog
from talkplay_hf.cli import make_parser
from talkplay_hf.features.encoders import make_encoder
from talkplay_hf.tokens.tokenizer import TalkPlayTokenizer
from talkplay_hf.training.arguments import parse_recipe

# what these blocks stand for is run there, since they take a server or a package of their own
ELSEWHERE = {
    "recipes/serving/README.md python 0": "tests/recipes/test_serving.py",
    "space/README.md python 0": "tests/space/test_space_api.py",
}
# programs of others: what is named is known to exist, and is not started by tests
FOREIGN = {"vllm", "llama-server", "source", "hf", "cd"}
MOST_OF_A_PICTURE = 300_000
_LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")


def pip_install(words: list[str]) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = set(project["optional-dependencies"])
    names = [word for word in words[2:] if not word.startswith("-")]
    assert words[1] == "install"
    assert names
    for name in names:
        own = re.fullmatch(r"(?:\.|talkplay-hf)\[([a-z,]+)\]", name)
        if own:
            assert set(own.group(1).split(",")) <= extras, name
        elif name.endswith(".txt"):
            assert (ROOT / name).is_file(), name
        else:
            assert re.fullmatch(r"[A-Za-z0-9._-]+(\[[a-z]+\])?", name), name


def make(words: list[str]) -> None:
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    assert set(words[1:]) <= set(targets)


def script(words: list[str]) -> None:
    """A Python script of the project: it is there, and knows the flags that it is given."""
    path = ROOT / words[0]
    assert path.is_file(), words[0]
    source = path.read_text("utf-8")
    common = path.with_name("common.py")
    if common.exists():
        source += common.read_text("utf-8")
    for word in words[1:]:
        if word.startswith("--"):
            assert f'"{word}"' in source, f"{words[0]} {word}"


def python(words: list[str]) -> None:
    if words[1] == "-m":
        assert words[2] in ("venv", "pytest", "pip", "build", "llama_cpp.server"), words
        return
    script(words[1:])


def uv(words: list[str]) -> None:
    assert words[1] == "run"
    inside = words[2] if "/" in words[2] else f"recipes/encoders/{words[2]}"
    script([inside, *words[3:]])


def understood(words: list[str]) -> None:
    """Fail where a command is none that this project or a known program takes."""
    program = words[0].rpartition("/")[2]
    ours = talkplay_words(words)
    if ours is not None:
        if "--config_file" in words:
            assert (ROOT / words[words.index("--config_file") + 1]).is_file()
        args, rest = make_parser().parse_known_args(ours)
        assert not rest or args.command in ("train", "build")
        if args.command == "train":
            config = [ROOT / args.config, *rest]
            parse_recipe(["--config", *map(str, config), "--use_cpu", "true"])
        return
    known: dict[str, Callable[[list[str]], None]] = {
        "pip": pip_install, "make": make, "python": python, "python3": python, "uv": uv,
        "bash": lambda words: script(words[1:]), "pytest": lambda words: None,
    }  # fmt: skip
    if program not in FOREIGN:
        assert program in known, f"nothing knows how to check `{' '.join(words)}`"
        known[program](words)


def test_every_block_names_a_language_that_something_checks() -> None:
    assert len(all_blocks()) > 40
    for block in all_blocks():
        assert block.language in ("bash", "python", "csv", "yaml", "text"), block


@pytest.mark.parametrize("block", all_blocks("bash"), ids=str)
def test_every_command_is_understood(block: Block, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert commands(block.text)
    for words in commands(block.text):
        understood(words)


@pytest.mark.parametrize(
    "line",
    [
        "talkplay sing",
        "talkplay embed catalog features --no-such-flag 1",
        "accelerate launch --config_file recipes/accelerate/no.yaml -m talkplay_hf.cli embed a b",
        "talkplay train --config recipes/quickstart/sft.yaml --no_such_key 1",
        "pip install 'talkplay-hf[no-such-extra]'",
        "make coffee",
        "python recipes/no_such_script.py",
        "python recipes/check.py --no-such-flag",
        "uv run no_such_script.py CATALOG out.parquet",
        "frobnicate --all",
    ],
)
def test_a_command_that_is_none_is_seen(line: str) -> None:
    with pytest.raises((AssertionError, SystemExit, ValueError)):
        understood(commands(line)[0])


@pytest.fixture
def beside_a_model(
    tiny_model: LlamaForCausalLM,
    tokenizer: TalkPlayTokenizer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Path:
    """The working folder, with a tiny model in `demo/model`."""
    tiny_model.save_pretrained(tmp_path / "demo" / "model")
    tokenizer.save_pretrained(tmp_path / "demo" / "model")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def python_blocks() -> list[Any]:
    """Those of the README at every run, the others with the slow tests."""
    return [
        pytest.param(block, marks=[] if block.where == "README.md" else pytest.mark.slow)
        for block in all_blocks("python")
        if str(block) not in ELSEWHERE
    ]


@pytest.mark.usefixtures("beside_a_model")
@pytest.mark.parametrize("block", python_blocks(), ids=str)
def test_python_runs_as_it_stands(block: Block) -> None:
    names: dict[str, Any] = {}
    exec(compile(block.text, str(block), "exec"), names)
    if "chat" in names and "answer" in names:
        assert names["answer"].tracks


def test_what_is_run_elsewhere_is_code_and_its_test_is_there() -> None:
    there = {str(block): block for block in all_blocks("python")}
    for name, test in ELSEWHERE.items():
        ast.parse(there[name].text)
        assert (ROOT / test).is_file()


def test_the_code_of_the_cards_is_in_the_pages_that_their_test_runs() -> None:
    pages = {
        path.name for path in CARDS.glob("*.md") if "```python" in path.read_text(encoding="utf-8")
    }
    assert pages == {"conversations.md", "model_usage.md", "tokenizer_usage.md"}
    for page in CARDS.glob("*.md"):
        kinds = re.findall(r"^```(\w+)", page.read_text(encoding="utf-8"), re.MULTILINE)
        assert set(kinds) <= {"python"}, page.name


@pytest.mark.parametrize("block", all_blocks("csv"), ids=str)
def test_tables_can_be_imported_without_a_word_about_columns(block: Block, tmp_path: Path) -> None:
    table = tmp_path / "songs.csv"
    table.write_text(block.text, encoding="utf-8")
    import_table(table, tmp_path / "catalog")
    catalog = Catalog.load(tmp_path / "catalog")
    rows = list(csv.DictReader(io.StringIO(block.text)))
    assert len(catalog) == len({row["track_id"] for row in rows})
    assert len(catalog.playlists) == len({row["playlist_name"] for row in rows})


@pytest.mark.parametrize("block", all_blocks("yaml"), ids=str)
def test_encoder_configs_are_valid(block: Block) -> None:
    config = yaml.safe_load(block.text)
    assert set(config) <= set(MODALITIES)
    for modality, part in config.items():
        make_encoder(modality, part)


@pytest.mark.parametrize("block", all_blocks("text"), ids=str)
def test_text_blocks_are_tokens_of_a_track_or_the_map_of_rooms(block: Block) -> None:
    if block.where == "README.md":
        assert re.findall(r"<\|(\w+)-\d+\|>", block.text) == list(MODALITIES)
    else:
        assert block.where == "CONTRIBUTING.md"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page: Path) -> None:
    for link in _LINK.findall(page.read_text(encoding="utf-8")):
        if link.startswith(("http://", "https://")):
            continue
        name, _, heading = link.partition("#")
        target = page.parent / name if name else page
        assert target.exists(), link
        if heading:
            text = (target / "README.md" if target.is_dir() else target).read_text("utf-8")
            headings = {
                re.sub(r"[^\w -]", "", line.lstrip("# ").lower()).replace(" ", "-")
                for line in text.splitlines()
                if line.startswith("#")
            }
            assert heading in headings, link


def test_pages_of_the_recipes_are_in_their_index() -> None:
    index = (ROOT / "recipes" / "README.md").read_text(encoding="utf-8")
    for page in (ROOT / "recipes").rglob("*.md"):
        name = page.relative_to(ROOT / "recipes").as_posix()
        assert name == "README.md" or f"({name})" in index, name


def test_pictures_are_small_and_drawings_are_sound() -> None:
    pictures = list((ROOT / "recipes" / "figures").iterdir())
    assert {path.suffix for path in pictures} == {".png", ".svg"}
    for path in pictures:
        assert path.stat().st_size <= MOST_OF_A_PICTURE
        if path.suffix == ".svg":
            root = ET.fromstring(path.read_text(encoding="utf-8"))
            assert root.find("{http://www.w3.org/2000/svg}title") is not None
            # GitHub shows no script and nothing from elsewhere
            assert not re.search(r"<script|href=|@import|url\((?!#)", path.read_text("utf-8"))
