"""The recipes and the commands in the documents: they must stay what the package takes."""

import re
import shlex
from pathlib import Path

import pytest
import yaml

from talkplay_hf.cli import make_parser
from talkplay_hf.features.encoders import make_encoder

ROOT = Path(__file__).resolve().parent.parent
ENCODERS = sorted(ROOT.glob("recipes/**/encoders*.yaml"))
PAGES = [ROOT / "README.md", *sorted(ROOT.glob("recipes/**/*.md"))]
CODE = re.compile(r"```bash\n(.*?)```|`(talkplay [^`]+)`", re.DOTALL)


def commands() -> list[str]:
    """Every `talkplay` command line in the pages."""
    found = []
    for page in PAGES:
        for block, inline in CODE.findall(page.read_text(encoding="utf-8")):
            text = block.replace("\\\n", " ") or " ".join(inline.split())
            for line in text.splitlines():
                start = re.search(r"(?:^|/|-m )talkplay(?:_hf\.cli)? (?=[a-z])", line.strip())
                if start:
                    found.append(line.strip()[start.end() :].partition(" #")[0])
    return found


@pytest.mark.parametrize("path", ENCODERS, ids=lambda path: path.name)
def test_every_encoder_config_is_valid(path: Path):
    config = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert config
    for modality, part in config.items():
        make_encoder(modality, part)


def test_the_pages_have_commands():
    assert len(commands()) > 20


@pytest.mark.parametrize("command", sorted(set(commands())))
def test_every_command_in_the_pages_is_one(command: str):
    words = [word for word in shlex.split(command) if word != "…"]
    if len(words) == 1 or words[1:] == ["--like"]:
        assert words[0] in make_parser().format_help()
        return
    args, rest = make_parser().parse_known_args(words)
    assert not rest or args.command in ("train", "build")
