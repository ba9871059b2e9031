"""This package as a wheel, made from what is installed or from the source tree."""

import base64
import hashlib
import importlib.metadata
import re
import tomllib
import zipfile
from pathlib import Path
from typing import Any

from talkplay_hf import __version__
from talkplay_hf.errors import InputError

NAME = "talkplay_hf"
PACKAGE = Path(__file__).parents[1]
# the first day that a zip can name, so that the same package gives the same bytes
DAY = (1980, 1, 1, 0, 0, 0)
INFO = f"{NAME}-{__version__}.dist-info"
TAGS = "Wheel-Version: 1.0\nGenerator: talkplay_hf\nRoot-Is-Purelib: true\nTag: py3-none-any\n"


def wheel_name() -> str:
    """The file name of the wheel of this version."""
    return f"{NAME}-{__version__}-py3-none-any.whl"


def write_wheel(folder: str | Path) -> Path:
    """Write this package as a wheel, without any tool that builds.

    The same package gives the same bytes.

    Args:
        folder (`str` or `Path`): Where to write it.

    Returns:
        `Path`: The wheel.

    Raises:
        InputError: If the package was installed in a way that leaves no description of it.
    """
    contents = {name: path.read_bytes() for name, path in _package_files().items()}
    contents |= {f"{INFO}/{name}": data for name, data in _info_files().items()}
    contents[f"{INFO}/WHEEL"] = TAGS.encode()
    record = "".join(
        f"{name},sha256={_digest(data)},{len(data)}\n" for name, data in sorted(contents.items())
    )
    contents[f"{INFO}/RECORD"] = f"{record}{INFO}/RECORD,,\n".encode()
    path = Path(folder) / wheel_name()
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as wheel:
        # what describes the package comes last, as the format recommends
        for name in sorted(contents, key=lambda name: (name.startswith(INFO), name)):
            entry = zipfile.ZipInfo(name, DAY)
            entry.external_attr = 0o100644 << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            wheel.writestr(entry, contents[name])
    return path


def core_requirements() -> list[str]:
    """What the package needs in any case, as requirements without extras."""
    project = _project()
    if project is not None:
        return [str(line) for line in project["dependencies"]]
    lines = _installed().requires or []
    return [line for line in lines if "extra ==" not in line]


def _package_files() -> dict[str, Path]:
    found = {NAME: PACKAGE}
    source = _pyproject()
    if source is not None:
        targets = source["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]
        found |= {inside: PACKAGE.parent / outside for outside, inside in targets.items()}
    files = {
        f"{inside}/{path.relative_to(root).as_posix()}" if path != root else inside: path
        for inside, root in found.items()
        for path in ([root] if root.is_file() else root.rglob("*"))
        if path.is_file()
    }
    return {
        name: path
        for name, path in files.items()
        if "__pycache__" not in path.parts and not path.name.startswith(".")
    }


def _info_files() -> dict[str, bytes]:
    """METADATA, entry points and licence."""
    project = _project()
    if project is not None:
        scripts = "".join(f"{name} = {call}\n" for name, call in project["scripts"].items())
        licences = {
            f"licenses/{name}": (PACKAGE.parent / name).read_bytes()
            for name in project["license-files"]
        }
        return {
            "METADATA": _metadata(project).encode(),
            "entry_points.txt": f"[console_scripts]\n{scripts}".encode(),
            **licences,
        }
    installed = _installed()
    found = {}
    for file in installed.files or ():
        folder, _, inside = file.as_posix().partition("/")
        if folder == INFO and (
            inside in ("METADATA", "entry_points.txt") or inside.startswith("licenses/")
        ):
            found[inside] = Path(str(installed.locate_file(file))).read_bytes()
    if "METADATA" not in found:
        raise InputError(
            f"{PACKAGE}: was installed without a description of it; install talkplay-hf with pip"
        )
    return found


def _metadata(project: dict[str, Any]) -> str:
    lines = [
        *("Metadata-Version: 2.4", f"Name: {project['name']}", f"Version: {__version__}"),
        *(f"Summary: {project['description']}", f"License-Expression: {project['license']}"),
        *(f"License-File: {name}" for name in project["license-files"]),
        *(f"Classifier: {one}" for one in project["classifiers"]),
        f"Requires-Python: {project['requires-python']}",
        *(f"Requires-Dist: {line}" for line in project["dependencies"]),
    ]
    for extra, needs in project.get("optional-dependencies", {}).items():
        lines.append(f"Provides-Extra: {extra}")
        for need in needs:
            need, _, marker = need.partition(";")
            where = f"({marker.strip()}) and " if marker else ""
            lines.append(f'Requires-Dist: {need.strip()} ; {where}extra == "{extra}"')
    readme = (PACKAGE.parent / project["readme"]).read_text(encoding="utf-8")
    return "\n".join([*lines, "Description-Content-Type: text/markdown", "", readme])


def _pyproject() -> dict[str, Any] | None:
    """The description in the source tree, if the package lies in one."""
    path = PACKAGE.parent / "pyproject.toml"
    if not path.is_file():
        return None
    found = tomllib.loads(path.read_text(encoding="utf-8"))
    name = str(found.get("project", {}).get("name", ""))
    return found if re.sub(r"[-_.]+", "_", name) == NAME else None


def _project() -> dict[str, Any] | None:
    source = _pyproject()
    return None if source is None else source["project"]


def _installed() -> importlib.metadata.Distribution:
    try:
        return importlib.metadata.distribution(NAME)
    except importlib.metadata.PackageNotFoundError:
        raise InputError(f"{PACKAGE}: is not installed; install talkplay-hf with pip") from None


def _digest(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
