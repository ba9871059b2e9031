"""A Hub repo becomes a folder: what is needed of one commit, with its hashes checked."""

import glob
import logging
import re
import shutil
from collections.abc import Collection
from pathlib import Path

from talkplay_hf.errors import ArtifactError, HubError
from talkplay_hf.hub import files
from talkplay_hf.hub.faults import Target, check_repo_id, explain, explained, look, passing, retried
from talkplay_hf.hub.needed import NEEDED, PICKLES, REPO_TYPES, matches
from talkplay_hf.hub.packed import PACKED
from talkplay_hf.hub.push import git_hash
from talkplay_hf.hub.verify import damaged_files, manifest_files, verify_folder

log = logging.getLogger(__name__)


def fetch(
    repo_id: str,
    *,
    repo_type: str,
    allow: Collection[str],
    revision: str | None = None,
    token: str | bool | None = None,
    cache_dir: str | Path | None = None,
    local_files_only: bool = False,
    verify: bool = True,
) -> Path:
    """Bring files of a repo into the cache of the Hub, and check their hashes.

    All files are of one commit. What the cache holds is not sent again, a download that breaks off
    is resumed, and a file that comes damaged is fetched once more. Where the Hub is out of reach,
    the cache is used.

    Args:
        repo_id (`str`): `owner/name`.
        repo_type (`str`): `"model"` or `"dataset"`.
        allow (`Collection[str]`): Patterns of the files to fetch (`fnmatch`; see
            `talkplay_hf.hub.needed`). Pickles never are.
        revision (`str`, *optional*): Branch, tag, SHA of a commit or `refs/pr/N`.
        token (`str` or `bool`, *optional*): For private and gated repos; that of `hf auth login`
            where left out.
        cache_dir (`str` or `Path`, *optional*): Another cache than that of the Hub's clients.
        local_files_only (`bool`): Use the cache alone.
        verify (`bool`): Refuse files that came as the Hub has them, but are not those that the
            manifest of the repo names.

    Returns:
        `Path`: The folder in the cache. It may hold more of the repo than was asked for, and its
        files may be links: read it, and do not change it.

    Raises:
        InputError: If the name of the repo is impossible.
        HubError: If the repo cannot be had, or a file is still damaged after a second download.
    """
    from huggingface_hub import is_offline_mode

    check_repo_id(repo_id)
    target = Target(repo_id, repo_type, revision)
    cached = local_files_only or is_offline_mode()
    outage = None if cached else _outage(target, token)
    cached = cached or outage is not None
    try:
        folder = _download(target, allow, token, cache_dir, cached)
    except HubError as error:
        raise (HubError(explain(outage, target)) if outage is not None else error) from error
    if not _wanted(folder, allow):
        raise HubError(f"{target}: holds no file that is needed here ({_some(allow)})")
    bad, changed = _compare(folder, allow, target)
    if bad and not cached:
        log.warning("%s: %s came damaged, fetching again", target, ", ".join(bad))
        with explained(target):
            for name in bad:
                (folder / name).unlink()
        escaped = [glob.escape(name) for name in bad]
        _download(target, escaped, token, cache_dir, cached, again=folder.name)
        bad, changed = _compare(folder, allow, target, fresh=True)
    if bad:
        way = "go online to fetch it again" if cached else "try again, or tell the repo's owner"
        raise HubError(
            f"{target}: {bad[0]} is not what its hash on the Hub tells ({folder}); {way}"
        )
    if changed and verify:
        raise HubError(
            f"{target}: {changed[0]} is not the file that {files.MANIFEST} names: it was changed "
            "on the Hub by hand, or damaged before it was pushed. Use another revision, push the "
            "folder again, or load it as it is with verify=False"
        )
    return folder


def pull_folder(
    repo_id: str,
    out: str | Path,
    *,
    kind: str,
    allow: Collection[str] | None = None,
    revision: str | None = None,
    token: str | bool | None = None,
    cache_dir: str | Path | None = None,
    local_files_only: bool = False,
) -> Path:
    """Copy what is needed of a repo into a folder of its own.

    Args:
        repo_id (`str`): `owner/name`.
        out (`str` or `Path`): The folder to make. One that is not empty is replaced only if it is
            an artefact of the same kind, and holds no folder (clips, checkpoints) that the repo
            does not bring. It is seen only once it is complete.
        kind (`str`): `"model"`, `"tokenizer"`, `"catalog"`, `"conversations"` or `"features"`.
        allow (`Collection[str]`, *optional*): Patterns of the files to copy; what the kind needs
            where left out.
        revision, token, cache_dir, local_files_only: See `fetch`.

    Returns:
        `Path`: `out`.

    Raises:
        InputError: If the name of the repo is impossible.
        ArtifactError: If `out` holds something else, or the repo holds another kind.
        HubError: See `fetch`.
    """
    out = Path(out)
    check_repo_id(repo_id)
    files.check_target(out, kind)
    allow = NEEDED[kind] if allow is None else tuple(allow)
    target = Target(repo_id, REPO_TYPES[kind], revision)
    folder = fetch(
        repo_id,
        repo_type=target.repo_type,
        allow=allow,
        revision=revision,
        token=token,
        cache_dir=cache_dir,
        local_files_only=local_files_only,
    )
    found = files.folder_kind(folder)
    if found != kind and not (kind == "tokenizer" and found == "model"):
        raise ArtifactError(f"{target}: holds {found or 'nothing of ours'}; {kind} was expected")
    try:
        verify_folder(folder, (), kind)  # the hashes are checked
    except ArtifactError as error:
        raise HubError(f"{target}: {error}") from error
    if kind == "model" and not any(folder.glob("model*.safetensors")):
        raise HubError(f"{target}: has no weights as safetensors, and no others are read")
    names = _wanted(folder, allow)
    brought = {name.partition("/")[0] for name in names if "/" in name}
    there = {path.name for path in out.iterdir() if path.is_dir()} if out.is_dir() else set()
    lost = min(there - brought, default=None)
    if lost is not None:
        raise ArtifactError(
            f"{out}: holds the folder {lost}, which is not among what was fetched of {target} and "
            "would be lost; name a new folder, or delete that one first"
        )
    try:
        with files.staged_folder(out, kind) as aside:
            for name in names:
                (aside / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(folder / name, aside / name)
            _fit_manifest(aside, kind)
    except OSError as error:
        error.filename = error.filename or str(out)
        raise HubError(explain(error, target)) from error
    return out


def kind_of(
    repo_id: str,
    *,
    revision: str | None = None,
    token: str | bool | None = None,
    cache_dir: str | Path | None = None,
    local_files_only: bool = False,
    dataset: bool = False,
) -> str:
    """Which kind of artefact a repo holds, from its small files.

    Model repos are looked at first, or not at all with `dataset`.

    Raises:
        HubError: If there is no such repo, or it holds none of our kinds.
    """
    refused: list[HubError] = []
    for repo_type in ("dataset",) if dataset else ("model", "dataset"):
        try:
            folder = fetch(
                repo_id,
                repo_type=repo_type,
                allow=(files.MANIFEST, files.TALKPLAY_CONFIG, "config.json"),
                revision=revision,
                token=token,
                cache_dir=cache_dir,
                local_files_only=local_files_only,
            )
        except HubError as error:
            refused.append(error)
            continue
        kind = files.folder_kind(folder)
        if kind is not None and REPO_TYPES.get(kind) == repo_type:
            return kind
        refused.append(HubError(f"{repo_type} repo {repo_id}: holds no artefact of this package"))
    # that there is no model of this name says less than why the dataset cannot be had
    told = next((one for one in refused if not _is_absence(one)), None)
    if told is not None or dataset:
        raise told or refused[0]
    raise HubError(f"{repo_id}: no model or dataset of this name is there. {refused[0]}")


def _is_absence(error: HubError) -> bool:
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    cause = error.__cause__
    return isinstance(cause, RepositoryNotFoundError) and not isinstance(cause, GatedRepoError)


def _fit_manifest(folder: Path, kind: str) -> None:
    """Let the manifest of a copy name no weights or clips that were left on the Hub."""
    path = folder / files.MANIFEST
    if not path.exists():
        return
    manifest = files.read_json(path)
    fitting = dict(manifest)
    tables = manifest.get(PACKED)
    if not isinstance(tables, dict) or not any((folder / name).is_file() for name in tables):
        fitting.pop(PACKED, None)
    if kind in ("model", "tokenizer"):
        named = manifest["files"]
        fitting["kind"] = kind
        fitting["files"] = {name: named[name] for name in named if (folder / name).is_file()}
    if fitting != manifest:
        files.write_json(path, fitting)


def _outage(target: Target, token: str | bool | None) -> Exception | None:
    """Ask the Hub once for the commit, and return why it is out of reach, if it is. Without this,
    the clients would try for half a minute before they look into the cache.

    Raises:
        HubError: If the Hub answers that there is no such thing, or not for this token.
    """
    from huggingface_hub import HfApi

    with explained(target):
        try:
            look(HfApi(token=token, library_name="talkplay_hf"), target, target.revision)
        except Exception as error:
            if not passing(error):
                raise
            log.warning("%s: the Hub is out of reach, looking into the cache", target)
            return error
    return None


def _download(
    target: Target,
    allow: Collection[str],
    token: str | bool | None,
    cache_dir: str | Path | None,
    cached: bool,
    again: str | None = None,
) -> Path:
    """The folder of a commit in the cache; `again`: the commit whose files to fetch anew."""
    from huggingface_hub import snapshot_download

    with explained(target):
        return Path(
            retried(
                lambda: snapshot_download(
                    target.repo_id,
                    repo_type=target.repo_type,
                    revision=again or target.revision,
                    cache_dir=cache_dir,
                    token=token,
                    local_files_only=cached,
                    allow_patterns=list(allow),
                    ignore_patterns=[f"*{suffix}" for suffix in sorted(PICKLES)],
                    force_download=again is not None,
                    library_name="talkplay_hf",
                )
            )
        )


def _wanted(folder: Path, allow: Collection[str]) -> list[str]:
    """The files of a folder that fit the patterns, by their path in it."""
    names = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return sorted(
        name for name in names if matches(name, allow) and Path(name).suffix.lower() not in PICKLES
    )


def _compare(
    folder: Path, allow: Collection[str], target: Target, fresh: bool = False
) -> tuple[list[str], list[str]]:
    """Find the files whose contents are not what the Hub's hash says, by which the cache names
    them, and those that are, but are not what the manifest names.

    A file that the manifest names with the right hash needs no second look. Where the cache names
    files by no hash (it has no links), one that the manifest does not name is taken for damaged,
    unless it has just come anew (`fresh`).

    Raises:
        HubError: If the manifest came whole and cannot be used.
    """
    wanted = _wanted(folder, allow)
    named: Collection[str] = ()
    suspects: Collection[str] = ()
    unfit = None
    try:
        named = manifest_files(folder)
        suspects = damaged_files(folder, wanted)
    except ArtifactError as error:
        unfit = error
    damaged, changed = [], []
    for name in wanted:
        if name in suspects or name not in named or name == files.CARD:
            right = _is_its_hash(folder / name)
            if right is False or (right is None and name in suspects and not fresh):
                damaged.append(name)
            elif name in suspects:
                changed.append(name)
    if unfit is not None and not damaged:
        raise HubError(f"{target}: {unfit}") from unfit
    return damaged, changed


def _is_its_hash(path: Path) -> bool | None:
    """Whether a file in the cache has the hash that the cache names it by: SHA-256 for large files,
    git's SHA-1 for others. `None` where it is named by something else."""
    blob = path.resolve()
    if blob.parent.name == "blobs" and re.fullmatch(r"[0-9a-f]{64}", blob.name):
        return files.sha256_file(blob) == blob.name
    if blob.parent.name == "blobs" and re.fullmatch(r"[0-9a-f]{40}", blob.name):
        return git_hash(blob.read_bytes()) == blob.name
    return None


def _some(names: Collection[str]) -> str:
    return ", ".join(list(names)[:4]) + (", ..." if len(names) > 4 else "")
