"""The package is built, looked into, installed beside nothing of the source tree, and used."""

import csv
import hashlib
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

from talkplay_hf import __version__

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parent.parent
WHEEL = f"talkplay_hf-{__version__}-py3-none-any.whl"
SOURCES = (
    *("talkplay_hf", "space", "recipes", "tests", "pyproject.toml", "README.md", "LICENSE"),
    *("constraints.txt", "Makefile", "CITATION.cff", "CHANGELOG.md", "CONTRIBUTING.md"),
    "SECURITY.md",
)
NO_CACHES = shutil.ignore_patterns("__pycache__", ".*")


def run(*words: object, folder: Path, **variables: str) -> str:
    """What a command prints; where it fails, that is the message."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "HF_"))}
    done = subprocess.run(
        [str(word) for word in words], cwd=folder, env=kept | variables, capture_output=True,
        text=True, timeout=300, check=False,
    )  # fmt: skip
    if done.returncode and "connection broken" in done.stderr:
        pytest.skip("the package registry cannot be reached, so nothing is there to build with")
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


@pytest.fixture(scope="module")
def builder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment that builds and checks packages."""
    place = tmp_path_factory.mktemp("builder")
    venv.create(place, symlinks=True)
    python = place / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", python, "--disable-pip-version-check"]
    run(*pip, "install", "--quiet", "--retries", "1", "build", "hatchling", "twine", folder=place)
    return python


@pytest.fixture(scope="module")
def built(builder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist and, in `direct` and `from-sdist`, a wheel each."""
    place = tmp_path_factory.mktemp("built")
    source = place / "source"
    source.mkdir()
    for name in SOURCES:
        path = ROOT / name
        if path.is_dir():
            shutil.copytree(path, source / name, ignore=NO_CACHES)
        else:
            shutil.copy(path, source / name)
    make = [builder, "-m", "build", "--no-isolation"]
    run(*make, "--sdist", "--outdir", place, source, folder=place)
    run(*make, "--wheel", "--outdir", place / "direct", source, folder=place)
    (packed,) = place.glob("*.tar.gz")
    with tarfile.open(packed) as archive:
        archive.extractall(place / "unpacked", filter="data")
    (unpacked,) = (place / "unpacked").iterdir()
    run(*make, "--wheel", "--outdir", place / "from-sdist", unpacked, folder=place)
    return place


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_the_sdist_builds_the_same_wheel(built: Path) -> None:
    assert sha256(built / "direct" / WHEEL) == sha256(built / "from-sdist" / WHEEL)


def test_the_registry_would_take_both(builder: Path, built: Path) -> None:
    (packed,) = built.glob("*.tar.gz")
    check = [builder, "-m", "twine", "check", "--strict"]
    assert run(*check, packed, built / "direct" / WHEEL, folder=built).count("PASSED") == 2


def test_the_wheel_holds_the_package_and_no_tests_or_data(built: Path) -> None:
    with zipfile.ZipFile(built / "direct" / WHEEL) as wheel:
        names = wheel.namelist()
        sizes = [entry.file_size for entry in wheel.infolist()]
    roots = {name.split("/")[0] for name in names}
    assert roots == {"talkplay_hf", f"talkplay_hf-{__version__}.dist-info"}
    kinds = {Path(name).suffix for name in names if name.startswith("talkplay_hf/")}
    assert kinds == {".py", ".typed", ".json", ".jinja", ".md", ".yaml", ".css", ".js"}
    assert not [name for name in names if "test" in Path(name).name or "measured" in name]
    assert {"talkplay_hf/py.typed", "talkplay_hf/_recipes/quickstart/sft.yaml"} <= set(names)
    there = {
        f"talkplay_hf/{path.relative_to(ROOT / 'talkplay_hf').as_posix()}"
        for path in (ROOT / "talkplay_hf").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert there <= set(names)
    assert sum(sizes) < 5_000_000


def test_it_installs_and_works_from_another_folder(built: Path, tmp_path: Path) -> None:
    place = tmp_path / "environment"
    venv.create(place, symlinks=True)
    packages = next((place / "lib").glob("python*/site-packages"))
    # what the package needs, without the source tree, whose own line is in a .pth file there
    (packages / "needs.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    pip = [sys.executable, "-m", "pip", "--python", place / "bin" / "python"]
    wheel = built / "direct" / WHEEL
    run(*pip, "install", "--quiet", "--no-deps", "--no-index", wheel, folder=tmp_path)
    python, talkplay = place / "bin" / "python", place / "bin" / "talkplay"
    where = run(python, "-c", "import talkplay_hf; print(talkplay_hf.__file__)", folder=tmp_path)
    assert Path(where.strip()).is_relative_to(place)
    assert "usage: talkplay" in run(talkplay, "--help", folder=tmp_path)
    rows = [["title", "artist", "playlist"], *([f"S{n}", f"B{n % 3}", n % 4] for n in range(20))]
    with (tmp_path / "songs.csv").open("w", newline="") as handle:
        csv.writer(handle).writerows(rows)
    run(talkplay, "world", "world", "--tracks", "20", "--no-audio", folder=tmp_path)
    run(talkplay, "import", "songs.csv", "catalog", folder=tmp_path)
    for folder in ("world", "catalog"):
        facts = json.loads(run(talkplay, "stats", folder, "--json", folder=tmp_path))
        assert facts["tracks"] == 20
    recipe = "from talkplay_hf.build import quickstart_recipe as r; print(r())"
    assert Path(run(python, "-c", recipe, folder=tmp_path).strip()).is_relative_to(place)
