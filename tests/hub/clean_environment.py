"""Virtual environments that have transformers, torch and pyarrow, and not this package."""

import os
import shutil
import subprocess
import sys
import venv
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

import pytest
from filelock import FileLock
from packaging.requirements import Requirement

REPOSITORY = Path(__file__).resolve().parents[2]
# kept from run to run: making one costs half a minute, most of it at the package registry
KEPT = REPOSITORY / ".pytest_cache" / "clean"


def clean_python(transformers: str) -> Path:
    """The interpreter of an environment with a version of transformers, made where there is none.

    torch and pyarrow are those of the running environment, through links; everything else comes
    from the package registry. Skips the test where that cannot be reached.

    Args:
        transformers (`str`): What versions will do, such as `"==4.57.*"`.
    """
    links = _links()
    place = KEPT / f"transformers{transformers.strip('=.*')}"
    wanted = f"transformers{transformers}\n{sys.version}\n{links.name}\n"
    python, made = place / "bin" / "python", place / "made.txt"
    KEPT.mkdir(parents=True, exist_ok=True)
    with FileLock(KEPT / f"{place.name}.lock"):
        if not made.exists() or made.read_text() != wanted:
            shutil.rmtree(place, ignore_errors=True)
            venv.create(place, symlinks=True)
            packages = next((place / "lib").glob("python*/site-packages"))
            (packages / "links.pth").write_text(f"{links}\n")
            _install(python, f"transformers{transformers}")
            made.write_text(wanted)
    return python


def clean_variables(home: Path, **more: str) -> dict[str, str]:
    """The environment variables of a process that knows nothing of this one's Hub settings."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "PYTHON", "TRANSFORM"))}
    return kept | {"HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1", "OMP_NUM_THREADS": "1"} | more


def _install(python: Path, requirement: str) -> None:
    pip = [sys.executable, "-m", "pip", "--python", str(python)]
    options = ["--quiet", "--no-input", "--disable-pip-version-check", "--retries", "1"]
    done = subprocess.run(
        [*pip, "install", *options, requirement], capture_output=True, text=True, check=False
    )
    if done.returncode and "connection broken" in done.stderr:
        pytest.skip(f"the package registry cannot be reached, so {requirement} is not installed")
    assert not done.returncode, done.stderr


def _links() -> Path:
    """A folder of links to torch, to pyarrow and to the packages that they need."""
    known = _with_needs(distribution("pyarrow"), _with_needs(distribution("torch"), {}))
    folder = KEPT / f"torch-{known['torch'].version}-pyarrow-{known['pyarrow'].version}"
    KEPT.mkdir(parents=True, exist_ok=True)
    with FileLock(KEPT / f"{folder.name}.lock"):
        # links to an environment that has moved lead nowhere
        if not (folder / "torch").exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            for package in known.values():
                for name in {file.parts[0] for file in package.files or ()} - {"..", "__pycache__"}:
                    source = Path(str(package.locate_file(name)))
                    # packages for GPUs share a folder, which no processor needs
                    if source.exists() and not (folder / name).exists():
                        (folder / name).symlink_to(source)
    return folder


def _with_needs(package: Distribution, known: dict[str, Distribution]) -> dict[str, Distribution]:
    known[package.name] = package
    for line in package.requires or ():
        need = Requirement(line)
        if need.name in known or (need.marker and not need.marker.evaluate({"extra": ""})):
            continue
        try:
            _with_needs(distribution(need.name), known)
        except PackageNotFoundError:
            continue
    return known
