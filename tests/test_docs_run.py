"""The shell blocks of the documents are run, page by page, on a tiny world with small numbers."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from doc_blocks import PAGES, ROOT, blocks, commands
from doc_world import World, writer
from loopback import LoopbackHub

pytestmark = pytest.mark.slow
RUN = [page for page in PAGES if any(block.language == "bash" for block in blocks(page))]


@pytest.fixture
def doc_world(tmp_path: Path, hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("builtins.input", lambda prompt="": "")
    with writer() as server:
        yield World(tmp_path, server, hub)


@pytest.mark.parametrize("page", RUN, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_the_commands_of_a_page_run_in_their_order(page: Path, doc_world: World) -> None:
    asked = [words for block in blocks(page) if block.language == "bash"
             for words in commands(block.text)]  # fmt: skip
    for words in asked:
        doc_world.run_words(words)
    # scripts of the tests are run by tests of their own, or by hand
    asked = [words for words in asked if not words[1:2] or not words[1].startswith("tests/")]
    ours = [words for words in asked if "talkplay" in " ".join(words[:8])]
    assert len(doc_world.ran) >= len([words for words in ours if words[0] not in ("pip", "vllm")])
