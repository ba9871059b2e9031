"""A Space folder holds all that it needs, and goes to the Hub as it is."""

import json
import shutil
import subprocess
import sys
import venv
import zipfile
from importlib.metadata import version
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from talkplay_hf import __version__
from talkplay_hf.cli import main
from talkplay_hf.errors import ArtifactError, HubError, InputError
from talkplay_hf.hub import files
from talkplay_hf.hub import space as hub_space
from talkplay_hf.hub import wheel as hub_wheel
from talkplay_hf.hub.cards.seal import is_ours
from talkplay_hf.hub.space import page_folder, push_space, write_space
from talkplay_hf.hub.wheel import wheel_name, write_wheel
from talkplay_hf.recommend.recommender import Recommender
from talkplay_hf.recommend.saving import save_model_folder

REPO = "me/night-owls"


@pytest.fixture(scope="module")
def model(recommender: Recommender, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made") / "model"
    save_model_folder(recommender.model, recommender.tokenizer, folder)
    (folder / "notes.txt").write_text("of the one who trained it")
    return folder


@pytest.fixture(scope="module")
def space(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_space(
        [str(model)], tmp_path_factory.mktemp("spaces") / "space", title="Night: owls"
    )


def names(folder: Path) -> set[str]:
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}


def front_matter(text: str) -> dict:
    return yaml.safe_load(text.split("---\n")[1])


def test_the_folder_holds_page_wheel_and_model(space: Path, model: Path):
    held = names(space)
    page = {f"talkplay_space/{name}" for name in names(page_folder() / "talkplay_space")}
    page = {name for name in page if "__pycache__" not in name}
    assert {"app.py", "README.md", "requirements.txt", "manifest.json", wheel_name()} <= held
    assert page <= held
    assert (space / "models/model/config.json").read_bytes() == (model / "config.json").read_bytes()
    assert not [name for name in held if "__pycache__" in name or "notes" in name]


def test_the_front_matter_is_what_was_tested(space: Path):
    front = front_matter((space / "README.md").read_text())
    assert front["title"] == "Night: owls"
    assert front["sdk"] == "gradio"
    assert front["sdk_version"] == version("gradio")
    assert front["app_file"] == "app.py"
    assert isinstance(front["python_version"], str)
    assert len(front["short_description"]) <= 60
    assert not {"models", "preload_from_hub", "datasets"} & front.keys()
    assert "\n# Night: owls\n" in (space / "README.md").read_text()


def test_the_requirements_are_pinned_and_leave_out_gradio_and_the_wheel(space: Path):
    index, *pins = (space / "requirements.txt").read_text().splitlines()
    assert index.startswith("--extra-index-url")
    assert f"transformers=={version('transformers')}" in pins
    assert f"torch=={version('torch').partition('+')[0]}" in pins
    # the build of a Space sees no other file than requirements.txt
    assert not [pin for pin in pins if pin.startswith("gradio") or "talkplay" in pin]


def test_zero_gpu_gets_its_python_and_a_torch_with_cuda(model: Path, tmp_path: Path):
    space = write_space([str(model)], tmp_path / "space", hardware="zero-a10g")
    front = front_matter((space / "README.md").read_text())
    assert (front["python_version"], front["suggested_hardware"]) == ("3.12.12", "zero-a10g")
    assert "cpu" not in (space / "requirements.txt").read_text()


def test_the_same_model_gives_the_same_bytes(space: Path, model: Path, tmp_path: Path):
    again = write_space([str(model)], tmp_path / "space", title="Night: owls")
    for name in names(space):
        assert (space / name).read_bytes() == (again / name).read_bytes(), name


def test_a_space_is_written_over_a_space_and_over_nothing_else(model: Path, tmp_path: Path):
    out = write_space([str(model)], tmp_path / "space")
    write_space([str(model)], out, title="Again")
    assert front_matter((out / "README.md").read_text())["title"] == "Again"
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "diary.txt").write_text("x")
    with pytest.raises(ArtifactError, match="not one of ours"):
        write_space([str(model)], tmp_path / "mine")
    assert names(tmp_path / "mine") == {"diary.txt"}


def test_clips_of_the_catalog_come_along_and_no_other_file(model: Path, tmp_path: Path):
    catalog = tmp_path / "catalog"
    (catalog / "audio").mkdir(parents=True)
    (tmp_path / "secret.wav").write_bytes(b"secret")
    for name in ("a.wav", "b.wav", "unnamed.wav"):
        (catalog / "audio" / name).write_bytes(name.encode())
    audio = [
        "audio/a.wav",
        "audio/b.wav",
        "../secret.wav",
        "https://x.org/c.wav",
        "/etc/hosts",
        None,
    ]
    pq.write_table(pa.table({"audio": audio}), catalog / "tracks.parquet")
    files.write_manifest(catalog, "catalog", {})
    space = write_space([str(model)], tmp_path / "space", audio=[str(catalog)])
    assert names(space / "audio/catalog") == {"audio/a.wav", "audio/b.wav"}
    assert json.loads((space / "manifest.json").read_text())["audio"] == ["audio/catalog"]


def test_what_cannot_be_used_is_said_before_anything_is_written(
    model: Path, world_folder: Path, tmp_path: Path
):
    out = tmp_path / "space"
    with pytest.raises(InputError, match="has no clips"):
        write_space([str(model)], out, audio=[str(world_folder)])
    with pytest.raises(InputError, match="is not a catalog folder"):
        write_space([str(model)], out, audio=[str(model)])
    with pytest.raises(InputError, match=r"c: more places of clips than models"):
        write_space([str(model)], out, audio=["datasets/a/b", "c"])
    with pytest.raises(InputError, match="hardware 'mainframe'"):
        write_space([str(model)], out, hardware="mainframe")
    with pytest.raises(ArtifactError, match=r"has no config\.json"):
        write_space([str(world_folder)], out)
    with pytest.raises(InputError, match="not the name of a Hub repo"):
        write_space([str(tmp_path / "none")], out)
    assert list(tmp_path.iterdir()) == []


def test_a_model_and_a_catalog_on_the_hub_are_named_and_not_copied(hub, tmp_path: Path):
    hub.put("me/songs-model", {"config.json": b"{}"})
    hub.put("me/songs", {"tracks.parquet": b"x"}, repo_type="dataset")
    space = write_space(["me/songs-model"], tmp_path / "space", audio=["datasets/me/songs"])
    front = front_matter((space / "README.md").read_text())
    assert front["models"] == front["preload_from_hub"] == ["me/songs-model"]
    assert front["datasets"] == ["me/songs"]
    told = json.loads((space / "manifest.json").read_text())
    assert (told["models"], told["audio"]) == (["me/songs-model"], ["datasets/me/songs"])
    assert not (space / "models").exists()
    with pytest.raises(HubError, match="no folder of this name is here"):
        write_space(["me/none"], tmp_path / "other")


def test_several_models_and_catalogues_are_copied_by_name(
    model: Path, tokenizer_folder: Path, tmp_path: Path
):
    twin = tmp_path / "twin" / "model"
    shutil.copytree(model, twin)
    space = write_space([str(model), str(twin)], tmp_path / "s", catalogs=[str(tokenizer_folder)])
    told = json.loads((space / "manifest.json").read_text())
    assert told["models"] == ["models/model", "models/twin-model"]
    assert told["catalogs"] == [f"catalogs/{tokenizer_folder.name}"]
    for place in (*told["models"], *told["catalogs"]):
        assert (space / place / "catalog.parquet").is_file()
    assert not (space / told["catalogs"][0] / "model.safetensors").exists()
    with pytest.raises(ArtifactError, match=r"has no"):
        write_space([str(model)], tmp_path / "t", catalogs=[str(tmp_path / "twin")])


def test_a_push_makes_a_gradio_space_with_our_front_matter(hub, space: Path):
    # the Hub puts a README.md into a new Space
    def made(reply):
        hub.put(REPO, {"README.md": "---\ntitle: Night Owls\nsdk: gradio\n---\n"}, "space")
        return reply

    hub.fault("POST", "/api/repos/create", edit=made)
    pushed = push_space(space, REPO)
    (asked,) = hub.asked("/api/repos/create", "POST")
    assert json.loads(asked.body)["sdk"] == "gradio"
    assert pushed.url == f"{hub.url}/spaces/{REPO}"
    there = hub.files(REPO, "space")
    assert there.keys() == names(space)
    assert all(data == (space / name).read_bytes() for name, data in there.items())


def test_a_second_push_keeps_an_edited_readme_and_removes_old_files(
    hub, space: Path, model: Path, tmp_path: Path
):
    push_space(space, REPO)
    own = {"README.md": "---\ntitle: Mine\n---\n", "talkplay_hf-0.0.1-py3-none-any.whl": b"old"}
    hub.put(REPO, {**own, "talkplay_space/old.py": b"", "notes.txt": b"mine"}, "space")
    pushed = push_space(write_space([str(model)], tmp_path / "space", title="New"), REPO)
    there = hub.files(REPO, "space")
    assert pushed.kept_card
    assert there["README.md"] == own["README.md"].encode()
    assert there["notes.txt"] == b"mine"
    assert not {"talkplay_space/old.py", "talkplay_hf-0.0.1-py3-none-any.whl"} & there.keys()
    hub.put(REPO, {"README.md": (space / "README.md").read_bytes()}, "space")
    assert is_ours((space / "README.md").read_text())
    assert not push_space(tmp_path / "space", REPO).kept_card


def test_only_a_space_is_pushed_as_one(hub, model: Path):
    with pytest.raises(InputError, match="is not a Space"):
        push_space(model, REPO)


def test_the_command_writes_and_pushes(hub, model: Path, tmp_path: Path, capsys):
    out = tmp_path / "space"
    assert main(["space", str(model), str(out), "--push", REPO, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["url"] == f"{hub.url}/spaces/{REPO}"
    assert hub.files(REPO, "space").keys() == names(out)
    assert main(["space", str(model), str(tmp_path / "b"), "--push", "a b"]) == 2
    assert "not the name of a Hub repo" in capsys.readouterr().err
    assert not (tmp_path / "b").exists()


def test_the_wheel_installs_into_an_empty_environment(tmp_path: Path):
    wheel = write_wheel(tmp_path)
    assert wheel.name == f"talkplay_hf-{__version__}-py3-none-any.whl"
    venv.create(tmp_path / "empty", symlinks=True)
    python = tmp_path / "empty" / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet"]
    subprocess.run([*pip, "--no-deps", "--no-index", str(wheel)], check=True, cwd=tmp_path)
    code = (
        "import importlib.metadata as m, pathlib, talkplay_hf as t;"
        "root = pathlib.Path(t.__file__).parent;"
        "print(t.__version__, m.version('talkplay-hf'), (root / '_space/app.py').is_file(),"
        "(root / '_recipes/quickstart/sft.yaml').is_file(), len(m.requires('talkplay-hf')) > 10)"
    )
    done = subprocess.run(
        [python, "-I", "-c", code], check=True, capture_output=True, text=True, cwd=tmp_path
    )
    assert done.stdout.split() == [__version__, __version__, "True", "True", "True"]
    assert (tmp_path / "empty" / "bin" / "talkplay").is_file()


def test_an_installed_package_makes_the_same_wheel_of_itself(tmp_path: Path):
    wheel = write_wheel(tmp_path)
    with zipfile.ZipFile(wheel) as packed:
        packed.extractall(tmp_path / "installed")
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]);"
        "from talkplay_hf.hub.wheel import write_wheel; print(write_wheel(sys.argv[2]))"
    )
    (tmp_path / "again").mkdir()
    command = [sys.executable, "-I", "-S", "-c", code]
    subprocess.run([*command, tmp_path / "installed", tmp_path / "again"], check=True)
    assert (tmp_path / "again" / wheel.name).read_bytes() == wheel.read_bytes()


def test_an_installation_that_lacks_a_part_makes_no_space(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    package = tmp_path / "talkplay_hf"
    for module in (hub_space, hub_wheel):
        monkeypatch.setattr(module, "PACKAGE", package)
    with pytest.raises(InputError, match="the chat page is not part of this installation"):
        page_folder()
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    with pytest.raises(InputError, match=f"{package}: is not installed; install"):
        write_wheel(tmp_path)
    (tmp_path / f"talkplay_hf-{__version__}.dist-info").mkdir()
    with pytest.raises(InputError, match=f"{package}: was installed without a description"):
        write_wheel(tmp_path)
    assert not list(tmp_path.glob("*.whl"))


def test_without_the_package_the_page_takes_the_wheel_of_its_folder(space: Path, tmp_path: Path):
    code = (
        "import sys; from pathlib import Path; sys.path.insert(0, sys.argv[1]);"
        "from talkplay_space.start import unpack_wheel; unpack_wheel(Path(sys.argv[2]));"
        "import talkplay_hf; print(talkplay_hf.__version__, talkplay_hf.__file__)"
    )
    command = [sys.executable, "-I", "-S", "-c", code]
    done = subprocess.run([*command, space, space], check=True, capture_output=True, text=True)
    found, place = done.stdout.split()
    assert found == __version__
    assert "talkplay-packages-" in place
    done = subprocess.run([*command, space, tmp_path], check=False, capture_output=True, text=True)
    assert done.returncode == 1
    assert "talkplay_hf is not installed" in done.stderr
