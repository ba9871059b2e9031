"""A Space: the chat page and a model as a folder that can be pushed to the Hub as it is."""

import importlib.metadata
import re
import shutil
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from talkplay_hf import __version__
from talkplay_hf.errors import InputError
from talkplay_hf.hub import files
from talkplay_hf.hub.cards.seal import seal
from talkplay_hf.hub.faults import Target, check_repo_id, explained, look
from talkplay_hf.hub.needed import DATASETS, NEEDED, matches
from talkplay_hf.hub.push import Pushed, push_folder
from talkplay_hf.hub.verify import verify_folder
from talkplay_hf.hub.wheel import PACKAGE, core_requirements, write_wheel

KIND = "space"
PAGE = ("app.py", "talkplay_space")
# ZeroGPU has these versions of Python only, and takes an older one for any other
PYTHON = {"cpu-basic": "3.11", "zero-a10g": "3.12.12"}
CPU_TORCH = "--extra-index-url https://download.pytorch.org/whl/cpu"
# files of an earlier push that a later one may delete
OWN = ("talkplay_hf-*.whl", "talkplay_space/*", "models/*", "catalogs/*", "audio/*")


def page_folder() -> Path:
    """The folder of the chat page: in the installed package, or in the source tree.

    Raises:
        InputError: If this installation has no chat page.
    """
    for folder in (PACKAGE / "_space", PACKAGE.parent / "space"):
        if (folder / "talkplay_space" / "start.py").is_file():
            return folder
    raise InputError("the chat page is not part of this installation; install talkplay-hf with pip")


def write_space(
    models: Sequence[str],
    out: str | Path,
    *,
    catalogs: Sequence[str] = (),
    audio: Sequence[str] = (),
    title: str = "TalkPlay",
    hardware: str = "cpu-basic",
) -> Path:
    """Write a folder that runs as a Space, and with `python app.py`.

    It holds the page, the wheel of this package, a README.md with the front matter that the Hub
    reads, and requirements.txt with the versions that are installed here. The build of a Space sees
    requirements.txt only, so the wheel is unpacked when the page starts.

    Args:
        models (`Sequence[str]`): Model folders, which are copied in below `models/`; or Hub ids,
            which the Space fetches while it is built. The first is the default.
        out (`str` or `Path`): The folder to write. A Space that is there already is replaced.
        catalogs (`Sequence[str]`): Other catalogues to choose from, with the codebooks of a model:
            tokenizer or model folders, which are copied in below `catalogs/`, or Hub ids.
        audio (`Sequence[str]`): For each model and then each catalogue, the catalog folder whose
            clips are copied in below `audio/`; or `datasets/owner/name`, which the Space fetches
            when it starts. Those that follow can be left out.
        title (`str`): The title of the Space.
        hardware (`str`): `"cpu-basic"` or `"zero-a10g"`, which is ZeroGPU.

    Returns:
        `Path`: `out`.

    Raises:
        InputError: If a model, a catalogue, the clips or the hardware cannot be used.
        ArtifactError: If a model is damaged, or `out` holds something else.
        HubError: If a model or a catalogue is neither a folder here nor on the Hub.
    """
    if hardware not in PYTHON:
        raise InputError(f"hardware {hardware!r}: must be one of {', '.join(PYTHON)}")
    if len(audio) > len(models) + len(catalogs):
        raise InputError(f"{audio[-1]}: more places of clips than models and catalogues")
    for place in models:
        _check(place, "model")
    for place in catalogs:
        _check(place, "tokenizer")
    clips = [_clips(place) for place in audio]
    with files.staged_folder(out, KIND) as aside:
        for name in PAGE:
            _copy(page_folder() / name, aside / name)
        write_wheel(aside)
        facts: dict[str, Any] = {
            "models": [_copy_in(one, aside / "models", "model") for one in models],
            "catalogs": [_copy_in(one, aside / "catalogs", "tokenizer") for one in catalogs],
            "audio": [
                _copy_files(place, aside / "audio", names) if names else place
                for place, names in zip(audio, clips, strict=True)
            ],
            "title": title,
        }
        repos = [place for place in (*models, *catalogs) if not Path(place).is_dir()]
        songs = [one.removeprefix(DATASETS) for one in audio if one.startswith(DATASETS)]
        front = _front_matter(repos, songs, title, hardware)
        files.write_text(aside / files.CARD, seal(front + _body(title)))
        files.write_text(aside / "requirements.txt", _requirements(hardware))
        # nothing is hashed: whoever owns the Space may change its page
        told = {"format_version": files.FORMAT_VERSION, "talkplay_hf": __version__, "kind": KIND}
        files.write_json(aside / files.MANIFEST, {**told, "files": {}, **facts})
    return Path(out)


def push_space(
    folder: str | Path,
    repo_id: str,
    *,
    private: bool | None = None,
    token: str | bool | None = None,
    message: str | None = None,
) -> Pushed:
    """Push a folder that `write_space` wrote, in one commit.

    The README.md of a Space that is new is replaced, since the Hub makes one; a later edit of it
    stays.

    Args:
        folder (`str` or `Path`): The folder.
        repo_id (`str`): The Space, as `owner/name`; made where there is none.
        private (`bool`, *optional*): Whether a new Space is private.
        token (`str` or `bool`, *optional*): A token of the Hub; the one of `hf auth login` when
            left out.
        message (`str`, *optional*): The first line of the commit.

    Returns:
        `Pushed`: The address and the commit.

    Raises:
        InputError: If the folder is no Space, or the name of the repo is impossible.
        HubError: If the Hub refuses or is out of reach.
    """
    from huggingface_hub import HfApi

    folder = Path(folder)
    if not folder.is_dir() or files.folder_kind(folder) != KIND:
        raise InputError(f"{folder}: is not a Space; write one with `talkplay space`")
    check_repo_id(repo_id)
    api = HfApi(token=token, library_name="talkplay_hf")
    with explained(Target(repo_id, KIND, push=True)):
        made = _is_new(api, repo_id)
    return push_folder(
        folder,
        repo_id,
        repo_type=KIND,
        private=private,
        token=token,
        message=message,
        overwrite_card=made,
        own=OWN,
    )


def _is_new(api: Any, repo_id: str) -> bool:
    """Whether a Space has no page yet: it does not exist, or nobody has pushed to it."""
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    if "/" not in repo_id:
        repo_id = f"{api.whoami()['name']}/{repo_id}"
    try:
        info = look(api, Target(repo_id, KIND, push=True))
    except RepositoryNotFoundError as error:
        if isinstance(error, GatedRepoError):
            raise
        return True
    return all(one.rfilename != PAGE[0] for one in info.siblings or ())


def _on_hub(repo_id: str, repo_type: str) -> None:
    from huggingface_hub import HfApi

    check_repo_id(repo_id)
    target = Target(repo_id, repo_type)
    with explained(target):
        look(HfApi(library_name="talkplay_hf"), target)


def _check(place: str, kind: str) -> None:
    """Check a folder, or that the Hub has such a repo."""
    if Path(place).is_dir():
        verify_folder(place, kind=kind)
    else:
        _on_hub(place, "model")


def _copy_in(place: str, room: Path, kind: str) -> str:
    """Copy a folder's files of a kind into a folder below `room`; gives its name in the Space. What
    is on the Hub stays there."""
    folder = Path(place)
    if not folder.is_dir():
        return place
    names = [path.name for path in sorted(folder.iterdir()) if path.is_file()]
    return _copy_files(folder, room, [name for name in names if matches(name, NEEDED[kind])])


def _copy_files(folder: str | Path, room: Path, names: Sequence[str]) -> str:
    """Copy some files into a folder of the same name below `room`, or of one beside it, for two
    that are called alike; gives its name in the Space."""
    own = Path(folder).resolve()
    plain = re.sub(r"[^\w.-]+", "-", own.name).strip("-.") or "one"
    first = re.sub(r"[^\w.-]+", "-", own.parent.name).strip("-.")
    tries = (plain, f"{first}-{plain}", *(f"{plain}-{number}" for number in range(2, 1000)))
    out = next(room / name for name in tries if not (room / name).exists())
    for name in names:
        _copy(Path(folder) / name, out / name)
    return f"{room.name}/{out.name}"


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", ".*"))
    else:
        shutil.copyfile(source, target)


def _clips(place: str) -> list[str]:
    """The sound files of a catalog that are in its folder; none of what is on the Hub.

    Raises:
        InputError: If it is no catalog folder, or has no clips.
        HubError: If the Hub does not have it.
    """
    import pyarrow.parquet as pq

    if place.startswith(DATASETS):
        _on_hub(place.removeprefix(DATASETS), "dataset")
        return []
    catalog = Path(place)
    tables = sorted(catalog.glob("tracks*.parquet"))
    if files.folder_kind(catalog) != "catalog" or not tables:
        raise InputError(f"{catalog}: is not a catalog folder, nor {DATASETS}owner/name")
    named: set[str] = set()
    for table in tables:
        if "audio" in pq.read_schema(table).names:
            named |= set(pq.read_table(table, columns=["audio"])["audio"].to_pylist())
    root = catalog.resolve()
    clips = sorted(
        name
        for name in named - {None}
        if not PurePosixPath(name).is_absolute()
        and (root / name).is_file()
        and (root / name).resolve().is_relative_to(root)
    )
    if not clips:
        raise InputError(f"{catalog}: has no clips to play; leave --audio out")
    return clips


def _front_matter(repos: Sequence[str], songs: Sequence[str], title: str, hardware: str) -> str:
    """The header of README.md that the Hub reads."""
    import yaml

    front: dict[str, Any] = {
        **{"title": title, "emoji": "🎧", "colorFrom": "purple", "colorTo": "indigo"},
        **{"sdk": "gradio", "sdk_version": importlib.metadata.version("gradio")},
        **{"python_version": PYTHON[hardware], "app_file": PAGE[0], "license": "apache-2.0"},
        "suggested_hardware": hardware,
        "short_description": "Ask for music in words and hear it",
        "tags": ["talkplay", "music", "recommendation", "mcp-server"],
    }
    if repos:
        front |= {"models": list(repos), "preload_from_hub": list(repos)}
    if songs:
        front["datasets"] = list(songs)
    text = yaml.safe_dump(front, sort_keys=False, allow_unicode=True, width=1000)
    return f"---\n{text}---\n"


def _body(title: str) -> str:
    """What README.md of the page says below its header."""
    text = (page_folder() / files.CARD).read_text(encoding="utf-8")
    body = re.sub(r"\A---\n.*?\n---\n", "", text, flags=re.DOTALL)
    heading = " ".join(title.split()) or "TalkPlay"
    return re.sub(r"\A\s*# .*", lambda _: f"\n# {heading}", body)


def _requirements(hardware: str) -> str:
    """The versions that are installed here; gradio is left to `sdk_version`."""
    names = [re.split(r"[^A-Za-z0-9_.-]", line, maxsplit=1)[0] for line in core_requirements()]
    pins = [
        f"{name}=={importlib.metadata.version(name).partition('+')[0]}"
        for name in names
        if name != "gradio"
    ]
    index = [CPU_TORCH] if hardware == "cpu-basic" else []
    return "\n".join([*index, *pins]) + "\n"
