"""Shared fixtures: one small demo world and everything that is made from it, once a session."""

import os
import signal
import sys

sys.path.insert(0, f"{__file__.rpartition('/')[0]}/hub")
sys.path.insert(0, f"{__file__.rpartition('/')[0]}/fault/no_network")

import no_network
from loopback_environment import ENVIRONMENT, HUB_PORT

# only the fixture `hub` goes online, to a Hub on a loopback port of this process alone
os.environ.update(ENVIRONMENT)
os.environ["OMP_NUM_THREADS"] = "1"
# no other machine is reached, nor by the processes that tests start
os.environ[no_network.VARIABLE] = "1"
os.environ["PYTHONPATH"] = os.pathsep.join(
    filter(None, (no_network.FOLDER, os.environ.get("PYTHONPATH")))
)
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# workers that fill one cache of numba at the same time can leave it broken
os.environ["NUMBA_CACHE_DIR"] = (
    f"{__file__.rpartition('/')[0]}/../.pytest_cache/numba/"
    + os.environ.get("PYTEST_XDIST_WORKER", "main")
)

import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from hypothesis import HealthCheck, settings
from loopback import LoopbackHub
from transformers import LlamaForCausalLM

from talkplay_hf.catalog.schema import Catalog, Conversation
from talkplay_hf.catalog.world import make_world
from talkplay_hf.conversations.dataset import save_conversations
from talkplay_hf.conversations.simulation.simulator import simulate
from talkplay_hf.features.embed import embed
from talkplay_hf.recommend.recommender import Recommender
from talkplay_hf.tokenizing import make_tokenizer
from talkplay_hf.tokens.tokenizer import TalkPlayTokenizer
from talkplay_hf.training.model.base import scratch_model
from talkplay_hf.training.model.vocabulary import grow_vocabulary

torch.set_num_threads(1)
# an interrupt ends a command, also where the tests run in the background and would not hear it
signal.signal(signal.SIGINT, signal.default_int_handler)
# no property test fails because the machine is busy
settings.register_profile(
    "unhurried", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("unhurried")

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(autouse=True)
def offline(request: pytest.FixtureRequest) -> Iterator[None]:
    """No test of the default suite reaches another machine; slow ones may ask the registry of
    packages."""
    slow = request.node.get_closest_marker("slow") is not None
    os.environ[no_network.VARIABLE] = "0" if slow else "1"
    no_network.attempts.clear()
    yield
    assert no_network.attempts == []


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real music data that `TALKPLAY_TEST_DATA` names."""
    folder = Path(os.environ.get("TALKPLAY_TEST_DATA") or REPOSITORY.parent / "shared" / "data")
    if not folder.is_dir():
        pytest.skip(f"no real data: {folder} is not there; name a folder in TALKPLAY_TEST_DATA")
    return folder


@pytest.fixture(scope="session")
def hub_server() -> Iterator[LoopbackHub]:
    server = LoopbackHub(HUB_PORT)
    server.home = os.environ["HF_HOME"]
    server.start()
    yield server
    server.stop()


@pytest.fixture
def hub(hub_server: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> LoopbackHub:
    """An empty Hub that the clients of this process go to, with an empty cache. What the clients
    would wait between two tries is in `hub.waits`; nothing sleeps."""
    import datasets.config
    import huggingface_hub.constants
    from huggingface_hub import file_download
    from huggingface_hub.utils import _http

    from talkplay_hf.hub import faults

    hub_server.reset()
    shutil.rmtree(hub_server.home, ignore_errors=True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    clock = SimpleNamespace(sleep=hub_server.waits.append, time=time.time)
    for module in (_http, file_download, faults):
        monkeypatch.setattr(module, "time", clock)
    return hub_server


@pytest.fixture(scope="session")
def world_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The catalog folder of a demo world of 60 tracks, without audio."""
    folder = tmp_path_factory.mktemp("world") / "catalog"
    make_world(folder, tracks=60, audio=False)
    return folder


@pytest.fixture(scope="session")
def world(world_folder: Path) -> Catalog:
    return Catalog.load(world_folder)


@pytest.fixture(scope="session")
def audio_world(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    """A demo world of 12 tracks with rendered audio."""
    folder = tmp_path_factory.mktemp("audio-world") / "catalog"
    make_world(folder, tracks=12, audio=True)
    return Catalog.load(folder)


@pytest.fixture(scope="session")
def features_folder(world: Catalog, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("features") / "features"
    embed(world, folder)
    return folder


@pytest.fixture(scope="session")
def conversations(world: Catalog) -> list[Conversation]:
    return simulate(world, count=40)


@pytest.fixture(scope="session")
def conversations_folder(
    conversations: list[Conversation], world: Catalog, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    folder = tmp_path_factory.mktemp("conversations") / "conversations"
    save_conversations(folder, conversations, {"catalog": world.fingerprint})
    return folder


@pytest.fixture(scope="session")
def tokenizer_folder(
    world: Catalog,
    features_folder: Path,
    conversations_folder: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """A tokenizer folder on a small byte-level BPE, with a code reserved for "missing", which is
    the policy that the later stages have to know of. Copy it before changing it."""
    folder = tmp_path_factory.mktemp("tokenizer") / "tokenizer"
    make_tokenizer(
        world, features_folder, folder, conversations=conversations_folder, missing="reserve"
    )
    return folder


@pytest.fixture(scope="session")
def tokenizer(tokenizer_folder: Path) -> TalkPlayTokenizer:
    return TalkPlayTokenizer.from_pretrained(tokenizer_folder)


@pytest.fixture(scope="session")
def tiny_model(tokenizer: TalkPlayTokenizer) -> LlamaForCausalLM:
    """A Llama of random weights with the grown vocabulary. Copy it before changing it."""
    model = scratch_model(tokenizer, hidden_size=32, layers=2, heads=2, seed=0)
    grow_vocabulary(model, tokenizer)
    return model.eval()


@pytest.fixture(scope="session")
def recommender(tiny_model: LlamaForCausalLM, tokenizer: TalkPlayTokenizer) -> Recommender:
    return Recommender(tiny_model, tokenizer)
