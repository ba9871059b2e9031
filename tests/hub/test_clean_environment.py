"""A model repository over HTTP in environments without this package: transformers read it."""

import json
import re
import subprocess
import sys
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from clean_environment import clean_python, clean_variables
from loopback import LoopbackHub
from transformers import LlamaConfig, LlamaForCausalLM

from talkplay_hf.catalog.schema import Catalog, Message
from talkplay_hf.hub import files
from talkplay_hf.recommend.recommender import Recommender
from talkplay_hf.recommend.saving import save_model_folder
from talkplay_hf.tokens.tokenizer import TalkPlayTokenizer, template_rows

pytestmark = pytest.mark.slow

REPO = "me/talkplay"
VERSIONS = ["==4.56.*", "==4.57.*", "==5.23.0"]
CLIENT = Path(__file__).with_name("plain_client.py")
TEXTS = [
    "",
    "something calm for the evening",
    "  two  spaces, a\ttab\nand a line ",
    "naïve café, Motörhead, 東京事変, 🎷🎺, عود",
    "1999-12-31 at 120 BPM, 50% louder?",
    "the tokens <start_of_music><|audio-1|><|lyrics-0|><end_of_music> as they are written",
]


@dataclass(frozen=True)
class Pushed:
    """A model repository with two commits, and the folder that the second was made from."""

    hub: LoopbackHub
    folder: Path
    tokenizer: TalkPlayTokenizer
    models: tuple[LlamaForCausalLM, LlamaForCausalLM]
    commits: tuple[str, str]
    chats: list[list[dict[str, Any]]]

    def run(self, python: Path | str, home: Path, job: dict[str, Any], **more: str) -> Any:
        """What the client finds out in an environment."""
        done = subprocess.run(
            [str(python), "-I", str(CLIENT)],
            input=json.dumps({"texts": TEXTS, "chats": self.chats} | job),
            env=clean_variables(home, HF_ENDPOINT=self.hub.url, **more),
            cwd=home,
            capture_output=True,
            text=True,
            check=False,
        )
        assert not done.returncode, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    def check(self, look: dict[str, Any], which: int) -> None:
        """Ids and logits must be those that this package gives."""
        assert look["texts"] == self.tokenizer(TEXTS)["input_ids"]
        for ids, found, logits in zip(self.ids, look["chats"], look["logits"], strict=True):
            assert found == ids
            with torch.inference_mode():
                ours = self.models[which](torch.tensor([ids])).logits[0, -1].numpy()
            np.testing.assert_allclose(np.array(logits), ours, rtol=1e-4, atol=1e-4)

    @property
    def ids(self) -> list[list[int]]:
        """The chats as this package reads them."""
        return [
            self.tokenizer.chat_ids(
                [Message(one["role"], one.get("content", "")) for one in chat],
                [one["codes"] for one in chat if one["role"] == "music"],
            )
            for chat in self.chats
        ]


def trained(
    model: LlamaForCausalLM, tokenizer: TalkPlayTokenizer, requests: list[str], codes: list[Any]
) -> LlamaForCausalLM:
    """A copy that has learned to answer each request with the track of some codes."""
    model = deepcopy(model).train()
    rows = []
    for request, block in zip(requests, codes, strict=True):
        asked = tokenizer.chat_ids([Message("user", request)], [])
        reply = tokenizer.encode("Here you are.", add_special_tokens=False)
        rows.append((asked, [*tokenizer.block_ids(block), *reply, tokenizer.eos_token_id]))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(60):
        for asked, answer in rows:
            labels = torch.tensor([[-100] * len(asked) + answer])
            model(torch.tensor([[*asked, *answer]]), labels=labels).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return model.eval()


def llama_3(config: LlamaConfig) -> LlamaForCausalLM:
    """A model of random weights with the positions of Llama 3.2, for which the versions of
    transformers have different names."""
    config = deepcopy(config)
    config.rope_parameters = {
        "rope_type": "llama3",
        "rope_theta": 500_000.0,
        "factor": 32.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64,
    }
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return LlamaForCausalLM(config).eval()


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


@pytest.fixture(scope="module")
def pushed(
    hub_server: LoopbackHub,
    tokenizer: TalkPlayTokenizer,
    recommender: Recommender,
    tmp_path_factory: pytest.TempPathFactory,
) -> Pushed:
    first_model = llama_3(recommender.model.config)
    folder = tmp_path_factory.mktemp("pushed") / "model"
    requests = recommender.examples
    codes = [recommender.codes(one) for one in recommender.track_ids[: len(requests)]]
    better = trained(first_model, tokenizer, requests, codes)
    played = [Message("user", requests[0]), Message("music"), Message("assistant", "Here it is.")]
    again = [*played, Message("user", "more like it"), *played[1:], Message("user", "and slower")]
    chats = [
        template_rows([Message("user", requests[0])], []),
        template_rows([Message("system", "Be brief."), Message("user", TEXTS[3])], []),
        template_rows(again, codes[:2]),
    ]
    hub_server.reset()
    commits = []
    for model in (first_model, better):
        save_model_folder(model, tokenizer, folder, repo_id=REPO)
        commits.append(hub_server.put(REPO, contents(folder), repo_type="model"))
    first, second = commits
    return Pushed(hub_server, folder, tokenizer, (first_model, better), (first, second), chats)


@dataclass(frozen=True)
class Plain:
    """An environment, its cache, and what the client found there in the order of the places."""

    python: Path
    home: Path
    version: str
    found: dict[str, Any]


@pytest.fixture(scope="module", params=VERSIONS)
def plain(
    request: pytest.FixtureRequest, pushed: Pushed, tmp_path_factory: pytest.TempPathFactory
) -> Plain:
    """What plain transformers make of the repository, its first commit, and the folder."""
    python = clean_python(request.param)
    home = tmp_path_factory.mktemp("home")
    blocks = re.findall(r"```python\n(.*?)```", pushed.hub.files(REPO)[files.CARD].decode(), re.S)
    (code,) = (block for block in blocks if "AutoModelForCausalLM" in block)
    assert f'"{REPO}"' in code
    places = [[REPO, None], [REPO, pushed.commits[0]], [str(pushed.folder), None]]
    found = pushed.run(python, home, {"places": places, "code": code})
    return Plain(python, home, request.param, found)


def test_the_environment_has_transformers_and_not_this_package(plain: Plain) -> None:
    assert plain.found["transformers"].startswith(plain.version.strip("=.*"))
    assert not plain.found["has the package"]


@pytest.mark.parametrize("place", [0, 2], ids=["hub", "folder"])
def test_ids_and_logits_are_ours(plain: Plain, pushed: Pushed, place: int) -> None:
    pushed.check(plain.found["looks"][place], 1)


def test_a_revision_is_that_commit(plain: Plain, pushed: Pushed) -> None:
    pushed.check(plain.found["looks"][1], 0)


def test_no_code_of_the_repository_is_run_or_asked_for(plain: Plain, pushed: Pushed) -> None:
    assert plain.found["modules of a repository"] == []
    names = [look["classes"] for look in plain.found["looks"]]
    assert {model for _, model in names} == {"LlamaForCausalLM"}
    assert not {name for name, _ in names if "TalkPlay" in name}
    assert not [name for name in pushed.hub.files(REPO) if name.endswith(".py")]


def test_the_code_in_the_card_names_a_track(plain: Plain, world: Catalog) -> None:
    printed = plain.found["printed"]
    tracks = [world.track(one) for one in world.track_ids]
    assert [one for one in tracks if f"{one.title} by {one.artist}\n" in printed], printed
    assert "Here you are." in printed


def test_what_was_loaded_once_loads_without_the_hub(plain: Plain, pushed: Pushed) -> None:
    places = [[REPO, None], [REPO, pushed.commits[0]]]
    asked = len(pushed.hub.requests)
    with pushed.hub.down():
        found = pushed.run(plain.python, plain.home, {"places": places}, HF_HUB_OFFLINE="1")
    pushed.check(found["looks"][0], 1)
    pushed.check(found["looks"][1], 0)
    assert len(pushed.hub.requests) == asked


def test_a_recommender_loads_over_http_in_a_process_of_its_own(
    pushed: Pushed, tmp_path: Path
) -> None:
    code = (
        "import json, sys; from talkplay_hf import Recommender\n"
        "answers = []\n"
        "for revision in sys.argv[2:]:\n"
        "    recommender = Recommender.from_pretrained(sys.argv[1], revision=revision)\n"
        "    answer = recommender.chat('calm', seed=1)\n"
        "    answers.append([[track.track_id for track in answer.tracks], answer.reply])\n"
        "print(json.dumps(answers))"
    )

    def answers(**more: str) -> Any:
        done = subprocess.run(
            [sys.executable, "-c", code, REPO, *pushed.commits],
            env=clean_variables(tmp_path, HF_ENDPOINT=pushed.hub.url, **more),
            capture_output=True,
            text=True,
            check=False,
        )
        assert not done.returncode, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    expected = []
    for model in pushed.models:
        ours = Recommender(model, pushed.tokenizer).chat("calm", seed=1)
        expected.append([[track.track_id for track in ours.tracks], ours.reply])
    assert answers() == expected
    with pushed.hub.down():
        assert answers(HF_HUB_OFFLINE="1") == expected
