"""Starting the page: from a folder, the Hub, a Space, or nothing; and what a stranger may fetch."""

import http.client
import json
import os
import shutil
import socket
import subprocess
import sys
import urllib.request
import wave
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import urlsplit

import pytest
from safetensors.numpy import load_file, save_file
from talkplay_space import start
from talkplay_space.zero_gpu import LONGEST_SECONDS, on_zero_gpu, seconds

from talkplay_hf import TalkPlayError
from talkplay_hf.cli import main
from talkplay_hf.cli.demo import demo_model
from talkplay_hf.hub import files
from talkplay_hf.hub.space import write_space
from talkplay_hf.recommend.recommender import Recommender
from talkplay_hf.recommend.saving import save_model_folder
from talkplay_hf.tokens.takedown import remove_tracks

TINY = (
    *("--max_steps", "1"),
    *("--threads", "1"),
    *("--per_device_train_batch_size", "2"),
    *("--scratch_hidden_size", "32"),
    *("--scratch_layers", "1"),
    *("--disable_tqdm", "true"),
)


@pytest.fixture(scope="module")
def model(recommender: Recommender, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("root") / "model"
    save_model_folder(recommender.model, recommender.tokenizer, folder)
    # beside a catalog with one clip that the catalogue names, and a secret that nobody may fetch
    sound = folder.parent / "catalog" / "audio" / "a.wav"
    sound.parent.mkdir(parents=True)
    with wave.open(str(sound), "wb") as clip:
        clip.setparams((1, 2, 8000, 0, "NONE", ""))
        clip.writeframes(b"\0\0" * 800)
    (folder.parent / "secret.wav").write_bytes(sound.read_bytes())
    return folder


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def url(model: Path):
    app = start.serve([str(model)], audio=[str(model.parent / "catalog")], port=free_port())
    yield app.local_url
    app.close()


def ask(url: str, path: str, method: str = "GET") -> int:
    """The status for a path that is sent as it is written, which clients would tidy up."""
    address = urlsplit(url)
    with socket.create_connection((address.hostname, address.port), timeout=20) as line:
        host = f"{address.hostname}:{address.port}"
        text = f"{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
        line.sendall(text.encode("latin-1"))
        answer = http.client.HTTPResponse(line, method=method)
        answer.begin()
        return answer.status


def test_a_model_folder_is_served(url: str, recommender: Recommender):
    with urllib.request.urlopen(url) as page:
        assert page.status == 200
    with urllib.request.urlopen(f"{url}gradio_api/info") as answer:
        assert "/recommend" in json.load(answer)["named_endpoints"]


HOSTILE = [
    "/clips/..%2Fsecret.wav",
    "/clips/0/..%2Fsecret.wav",
    "/clips/-1/a.wav",
    "/clips/0/audio/a.wav",
    "/clips/99/..%2F..%2Fsecret.wav",
    "/clips/0/%2Fetc%2Fpasswd",
    "/clips/%2e%2e%2fsecret.wav",
    "/clips/..%252fsecret.wav",
    "/clips/../secret.wav",
    "/clips/....//secret.wav",
    "/clips/..%5csecret.wav",
    "/clips/%2Fetc%2Fpasswd",
    "/clips//etc/passwd",
    "/clips/file:///etc/passwd",
    "/clips/no-such-track",
    "/clips/",
    "/clips/%00",
    "/clips/a.wav%00.wav",
    "/clips/audio/a.wav",
    "/clips/C:%5Cwindows%5Cwin.ini",
    "/clips/%c0%ae%c0%ae%2fsecret.wav",
    "/../../../../etc/passwd",
    "//etc/passwd",
    "/%2e%2e/%2e%2e/etc/passwd",
    "/file=/etc/passwd",
    "/file/etc/passwd",
    "/gradio_api/file=/etc/passwd",
    "/gradio_api/file=../../etc/passwd",
    "/gradio_api/file=file:///etc/passwd",
    "/gradio_api/file=%2Fetc%2Fpasswd",
    "/gradio_api/file=//etc/passwd",
    "/gradio_api/file=/proc/self/environ",
    "/gradio_api/file={root}/secret.wav",
    "/gradio_api/file={root}/catalog/../secret.wav",
    "/gradio_api/file={root}/catalog/audio/a.wav",
    "/gradio_api/file={root}/model/config.json",
    "/gradio_api/file={root}/model/model.safetensors",
    "/gradio_api/file={root}%00.wav",
    "/gradio_api/file=http://127.0.0.1:1/secret",
    "/gradio_api/stream/..%2F..%2Fsecret.wav/a/b/playlist.m3u8",
    "/gradio_api/proxy=http://127.0.0.1:1/secret",
    "/static/..%2f..%2f..%2fetc/passwd",
    "/static/../../../etc/passwd",
    "/assets/%2e%2e/%2e%2e/%2e%2e/etc/passwd",
    "/svelte/../../etc/passwd",
    "/theme.css/../../etc/passwd",
    "/gradio_api/upload",
]


@pytest.mark.parametrize("path", HOSTILE)
def test_a_hostile_path_is_refused(url: str, model: Path, path: str):
    assert 400 <= ask(url, path.format(root=model.parent)) < 500


def test_the_same_paths_would_be_seen_to_succeed(url: str):
    assert ask(url, "/") == 200
    assert ask(url, "/config") == 200


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH"])
def test_nothing_is_written_to_the_server(url: str, method: str):
    assert 400 <= ask(url, "/clips/anything", method) < 500


def test_a_hub_id_is_fetched_and_served(hub, model: Path):
    hub.put("me/owls", {path.name: path.read_bytes() for path in model.iterdir()})
    app = start.serve(["me/owls"], port=free_port())
    try:
        assert ask(app.local_url, "/") == 200
    finally:
        app.close()
    assert hub.asked("me/owls.*model.safetensors")


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"models": "no/such-model"}, "no folder of this name is here"),
        ({"models": "{root}/catalog"}, r"has no config\.json"),
        ({"audio": "{root}/none"}, "there is no such folder of clips"),
        ({"audio": "datasets/me/none"}, "dataset repo me/none: is not on"),
        ({"audio": "{root} {root}"}, "more places of clips than models"),
        ({"catalogs": "{root}/catalog"}, "catalogue .*/catalog goes with no model here: .*codes"),
        ({"catalogs": "me/none"}, "catalogue me/none goes with no model here: .*is not on"),
        ({"mcp": True}, r"pip install 'talkplay-hf\[mcp\]'"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(hub, model: Path, given, reason):
    if "mcp" in given and find_spec("mcp"):
        pytest.skip("mcp is installed here, so its absence cannot be seen")
    wanted = {"models": [str(model)], "port": free_port()} | {
        name: value.format(root=model.parent).split() if isinstance(value, str) else value
        for name, value in given.items()
    }
    with pytest.raises(TalkPlayError, match=reason) as caught:
        start.serve(**wanted)
    assert "\n" not in str(caught.value)


def test_a_port_that_is_taken_is_named(url: str, model: Path):
    port = urlsplit(url).port
    with pytest.raises(TalkPlayError, match=f"127.0.0.1:{port}: the port is taken"):
        start.serve([str(model)], port=port)


def test_a_space_says_what_to_serve(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    asked: list[SimpleNamespace] = []

    def launch(models: list[str], **options) -> None:
        asked.append(SimpleNamespace(models=models, **options))

    monkeypatch.setattr(start, "launch", launch)
    space = write_space([str(model)], tmp_path / "space", title="Night owls")
    monkeypatch.setenv("GRADIO_SERVER_PORT", "7999")
    start.from_environment(space)
    monkeypatch.setenv("SPACE_ID", "me/owls")
    monkeypatch.setenv("TALKPLAY_MODEL", "me/other  me/third")
    monkeypatch.setenv("TALKPLAY_CATALOG", "me/more")
    monkeypatch.setenv("TALKPLAY_AUDIO", "datasets/me/songs")
    start.from_environment(space)
    at_home, on_hub = asked
    assert (at_home.models, at_home.catalogs) == ([str(space / "models/model")], [])
    assert at_home.audio == []
    assert (at_home.host, at_home.port, at_home.title) == ("127.0.0.1", 7999, "Night owls")
    assert (on_hub.models, on_hub.catalogs) == (["me/other", "me/third"], ["me/more"])
    assert on_hub.audio == ["datasets/me/songs"]
    assert on_hub.host == "0.0.0.0"


def test_a_space_without_a_model_says_where_to_put_it(tmp_path: Path):
    with pytest.raises(SystemExit, match="put a model folder there"):
        start.from_environment(tmp_path)


def test_without_a_model_the_demo_world_is_made_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    made = demo_model(tracks=20, conversations=10, overrides=TINY)
    assert made == tmp_path / "cache/talkplay_hf/demo/model"
    assert "made once" in capsys.readouterr().out
    before = (made / "model.safetensors").stat().st_mtime_ns
    assert demo_model() == made
    assert (made / "model.safetensors").stat().st_mtime_ns == before
    assert list((made.parent / "catalog" / "audio").glob("*.wav"))
    here = tmp_path / "demo" / "model"
    here.parent.mkdir()
    made.rename(here)
    assert demo_model() == Path("demo/model")


def test_clips_are_taken_from_the_catalog_beside_the_model(model: Path, tmp_path: Path):
    place = tmp_path / "model"
    place.mkdir()
    assert start.clips_folder(None, str(place)) == place
    (tmp_path / "catalog").mkdir()
    (tmp_path / "catalog" / "manifest.json").write_text("{}")
    assert start.clips_folder(None, str(place)) == tmp_path / "catalog"
    assert start.clips_folder(str(model), str(place)) == model
    assert start.clips_folder(None, "me/owls") is None


def test_the_command_takes_several_models_and_catalogues(
    model: Path, monkeypatch: pytest.MonkeyPatch
):
    asked: list[tuple[list[str], dict]] = []
    monkeypatch.setattr(start, "launch", lambda models, **options: asked.append((models, options)))
    command = ["serve", "a", "b", "--catalog", "c", "--catalog", "d", "--audio", "e"]
    assert main([*command, "--port", "7998", "--mcp"]) == 0
    ((models, options),) = asked
    assert models == ["a", "b"]
    assert (options["catalogs"], options["audio"]) == (["c", "d"], ["e"])
    assert options["mcp"]


@pytest.fixture(scope="module")
def smaller(model: Path) -> Path:
    """The model's folder with half of its catalogue."""
    out = model.parent / "smaller"
    remove_tracks(model, Recommender.from_pretrained(model).track_ids[::2], out)
    return out


def test_a_catalogue_goes_with_the_models_that_have_its_codebooks(
    model: Path, smaller: Path, tmp_path: Path
):
    other = tmp_path / "other"
    shutil.copytree(model, other)
    # codebooks that mean something else
    codebooks = load_file(other / "codebooks.safetensors")
    name = min(codebooks)
    save_file({**codebooks, name: codebooks[name] + 1}, other / "codebooks.safetensors")
    told = json.loads((other / "talkplay_config.json").read_text())
    told["codebook_hash"] = files.sha256_file(other / "codebooks.safetensors")
    (other / "talkplay_config.json").write_text(json.dumps(told))
    config = json.loads((other / "config.json").read_text())
    config.pop("talkplay_codebook_hash", None)
    (other / "config.json").write_text(json.dumps(config))
    (other / "manifest.json").unlink()
    served = start.load_all([str(model), str(other)], [str(smaller)])
    assert [(one.model, one.catalog) for one in served] == [
        ("model", "model"),
        ("model", "smaller"),
        ("other", "other"),
    ]
    assert len(served[1].recommender.track_ids) < len(served[0].recommender.track_ids)
    assert served[1].recommender.model is served[0].recommender.model
    with pytest.raises(TalkPlayError, match=r"smaller goes with no model here: .*codebooks"):
        start.load_all([str(other)], [str(smaller)])


class Gpu:
    """Stands for `spaces.GPU`: notes for how long each call asks."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def __call__(self, task, duration):
        def call(*args):
            self.asked.append(duration(*args) if callable(duration) else duration)
            return task(*args)

        return call


def test_zero_gpu_is_asked_for_as_long_as_an_answer_takes(
    recommender: Recommender, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    assert on_zero_gpu(recommender) is recommender
    gpu = Gpu()
    monkeypatch.setenv("SPACES_ZERO_GPU", "true")
    # found by name as the package of the Hub is
    (tmp_path / "spaces.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    import spaces

    monkeypatch.setattr(spaces, "GPU", gpu, raising=False)
    lent = on_zero_gpu(recommender)
    chat = "something calm"
    assert lent.chat(chat, seed=1, max_new_tokens=4) == recommender.chat(
        chat, seed=1, max_new_tokens=4
    )
    *_, last = lent.stream(chat, tracks=3, seed=1, max_new_tokens=4)
    assert len(last.tracks) == 3
    assert lent.rank(chat, 3)[0] == recommender.rank(chat, 3)[0]
    assert lent.track_ids == recommender.track_ids
    assert gpu.asked[:2] == [seconds(1, 4), seconds(3, 4)]
    assert seconds(1, 4) < seconds(3, 4) < seconds(3, 200) <= LONGEST_SECONDS == seconds(99, 9999)
    with pytest.raises(TalkPlayError, match="at least 1"):
        lent.chat(chat, tracks=0)
    with pytest.raises(TalkPlayError, match="k 0"):
        lent.rank(chat, 0)


@pytest.mark.slow
def test_a_written_space_runs_as_the_hub_runs_it(model: Path, tmp_path: Path):
    space = write_space([str(model)], tmp_path / "space")
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "app.py"],
        cwd=space,
        env={**os.environ, "GRADIO_SERVER_PORT": str(port), "SPACE_ID": "me/owls"},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert any("is ready" in line for line in process.stdout)
        assert ask(f"http://127.0.0.1:{port}", "/") == 200
    finally:
        process.terminate()
        process.wait()


@pytest.mark.slow
def test_an_mcp_client_gets_a_track(model: Path, recommender: Recommender):
    if find_spec("mcp") is None:
        pytest.skip("the package mcp is not installed: pip install 'talkplay-hf[mcp]'")
    import anyio
    from mcp import ClientSession
    from mcp.client.streamable_http import streamablehttp_client

    app = start.serve([str(model)], port=free_port(), mcp=True)

    async def call():
        async with (
            streamablehttp_client(f"{app.local_url}gradio_api/mcp/") as (read, write, _),
            ClientSession(read, write) as session,
        ):
            await session.initialize()
            (tool,) = (await session.list_tools()).tools
            answer = await session.call_tool(tool.name, {"message": "something calm"})
            refused = await session.call_tool(tool.name, {"message": " "})
            return tool, answer, refused

    try:
        tool, answer, refused = anyio.run(call)
    finally:
        app.close()
    assert tool.name == "recommend"
    assert {"message", "history", "model"} <= tool.inputSchema["properties"].keys()
    assert json.loads(answer.content[0].text)["tracks"][0]["track_id"] in recommender.track_ids
    assert not answer.isError
    assert refused.isError
