"""What the tests of training share."""

from dataclasses import replace
from pathlib import Path

import pytest

from talkplay_hf.catalog.schema import Catalog, Conversation
from talkplay_hf.conversations.dataset import save_conversations
from talkplay_hf.tokens.build import read_token_catalog
from talkplay_hf.tokens.tokenizer import TalkPlayTokenizer


@pytest.fixture(scope="session")
def codes(tokenizer: TalkPlayTokenizer) -> dict[str, list[int]]:
    """The five codes of each track of the small world."""
    known, values = read_token_catalog(tokenizer.side_file("token_catalog_file"))
    return dict(zip(known.track_ids, values.tolist(), strict=True))


@pytest.fixture(scope="session")
def talks(
    conversations: list[Conversation], world: Catalog, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A folder of sixteen conversations, four of them to validate on."""
    some = [one for one in conversations if one.split == "train"][:16]
    some = [
        replace(one, split="validation" if number < 4 else "train")
        for number, one in enumerate(some)
    ]
    folder = tmp_path_factory.mktemp("talks") / "conversations"
    save_conversations(folder, some, {"catalog": world.fingerprint})
    return folder
