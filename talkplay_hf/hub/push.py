"""A folder becomes one commit of a Hub repo."""

import hashlib
import json
import os
import re
import warnings
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from talkplay_hf.errors import HubError, InputError
from talkplay_hf.hub import files
from talkplay_hf.hub.cards.seal import is_ours
from talkplay_hf.hub.faults import (
    Target,
    check_repo_id,
    explain,
    explained,
    look,
    passing,
    retried,
)
from talkplay_hf.hub.needed import OWN, PICKLES, REPO_TYPES, matches
from talkplay_hf.hub.packed import PACKED
from talkplay_hf.hub.verify import verify_folder

if TYPE_CHECKING:
    from huggingface_hub import CommitInfo, HfApi
    from huggingface_hub.hf_api import RepoFile


@dataclass(frozen=True)
class Pushed:
    """What a push did.

    Args:
        url (`str`): The repo in a browser.
        commit (`str`): SHA of the commit; of the head where nothing had to change.
        pr_url (`str`, *optional*): The pull request, if one was opened.
        kept_card (`bool`): Whether the README.md on the Hub stayed, since a person edited it.
        left_out (`tuple[str, ...]`): Files and folders that are never pushed: hidden ones, pickles,
            checkpoints, the note of `talkplay build`.
    """

    url: str
    commit: str
    pr_url: str | None = None
    kept_card: bool = False
    left_out: tuple[str, ...] = ()


def push_folder(
    folder: str | Path,
    repo_id: str,
    *,
    repo_type: str,
    private: bool | None = None,
    token: str | bool | None = None,
    revision: str | None = None,
    create_pr: bool = False,
    message: str | None = None,
    card: str | None = None,
    overwrite_card: bool = False,
    own: Collection[str] = (),
) -> Pushed:
    """Commit a folder to a repo of the Hub, which is made where it does not exist.

    All goes into one commit, on the head that was looked at: if somebody else commits meanwhile,
    nothing is written. Files that the repo has already are not sent, and a push that changes
    nothing makes no commit. The README.md on the Hub stays where a person edited it.

    Args:
        folder (`str` or `Path`): The folder. What is never pushed is left out; see `Pushed`.
        repo_id (`str`): `owner/name`, or `name` for a repo of one's own.
        repo_type (`str`): `"model"`, `"dataset"` or `"space"`.
        private (`bool`, *optional*): Whether a repo that is made is private; by the owner's default
            where left out. With `True`, a repo that exists and is public is refused.
        token (`str` or `bool`, *optional*): A token with the write right; that of `hf auth login`
            where left out.
        revision (`str`, *optional*): The branch, made from the default branch where it does not
            exist; or `refs/pr/N`, an open pull request.
        create_pr (`bool`): Open a pull request instead, which takes no write right.
        message (`str`, *optional*): The commit's first line.
        card (`str`, *optional*): Text for README.md instead of the folder's.
        overwrite_card (`bool`): Replace the README.md on the Hub even where a person edited it.
        own (`Collection[str]`): Patterns of files that belong to this kind of artefact (see
            `talkplay_hf.hub.needed.OWN`): those on the Hub that the folder no longer has are
            deleted in the same commit, and so are those that the manifest of a dataset repo names.
            All others stay.

    Returns:
        `Pushed`: The address and the commit.

    Raises:
        InputError: If the name of the repo is impossible, or the folder cannot be pushed.
        ArtifactError: If a file is not the one that the folder's manifest names.
        HubError: If the Hub refuses, is out of reach, somebody else committed meanwhile, or a
            dataset repo holds another kind of artefact. No branch has changed then.
    """
    from huggingface_hub import HfApi

    folder = Path(folder)
    check_repo_id(repo_id)
    if revision is not None and re.fullmatch(r"[0-9a-f]{40}", revision):
        raise InputError(f"{revision}: is a commit; name a branch to push {repo_id} to")
    paths, left_out = files_to_push(folder)
    contents: dict[str, Path | bytes] = dict(paths)
    if card is not None:
        contents[files.CARD] = card.encode()
    if not contents:
        raise InputError(f"{folder}: holds no file that can be pushed to {repo_id}")
    verify_folder(folder)
    kind = files.folder_kind(folder)

    api = HfApi(token=token, library_name="talkplay_hf")
    target = Target(repo_id, repo_type, revision, push=True)
    with explained(target):
        if "/" not in repo_id:
            repo_id = f"{retried(api.whoami)['name']}/{repo_id}"
            target = Target(repo_id, repo_type, revision, push=True)
        head = _head(api, target, private, create_pr)
        remote = _tree(api, target, head)
        named = _named(api, target, head, remote, kind)
        same = files.CARD in contents and _is_there(contents[files.CARD], remote.get(files.CARD))
        kept = not (overwrite_card or same or files.CARD not in remote)
        # a tokenizer that is put beside a model has less to say
        beside = kind == "tokenizer" and "config.json" in remote
        kept = kept and (beside or _edited(api, target, head))
        if kept:
            contents.pop(files.CARD, None)
        changed = {
            path: new for path, new in contents.items() if not _is_there(new, remote.get(path))
        }
    gone = [path for path in remote if path in named or matches(path, own)]
    gone = [path for path in gone if path not in contents and path != files.CARD]
    if not changed and not gone:
        return Pushed(target.url, head, None, kept, left_out)
    commit, pr_url = _commit(api, target, head, contents, changed, gone, message, create_pr)
    return Pushed(target.url, commit, pr_url, kept, left_out)


def _commit(
    api: "HfApi",
    target: Target,
    head: str,
    contents: Mapping[str, Path | bytes],
    changed: Mapping[str, Path | bytes],
    gone: Collection[str],
    message: str | None,
    create_pr: bool,
) -> tuple[str, str | None]:
    """Write and delete files in one commit on a head, with a second try where the Hub hung up.

    Args:
        contents (`Mapping[str, Path | bytes]`): All files that are to be there.
        changed (`Mapping[str, Path | bytes]`): Those of them that are not there as they are.

    Returns:
        `tuple[str, str | None]`: SHA of the commit, and the address of the pull request.

    Raises:
        HubError: If the Hub refuses, or the branch has moved on.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    def commit() -> "CommitInfo":
        # an operation serves for one try
        operations: list[Any] = [
            CommitOperationAdd(path, new) for path, new in sorted(changed.items())
        ]
        operations += [CommitOperationDelete(path, is_folder=False) for path in sorted(gone)]
        with warnings.catch_warnings():
            # a model repo of ours holds catalog.parquet
            warnings.filterwarnings("ignore", "It seems that you are about to commit a data file")
            return api.create_commit(
                target.repo_id,
                operations,
                commit_message=message or "Upload with talkplay_hf",
                repo_type=target.repo_type,
                revision=target.revision,
                create_pr=create_pr,
                parent_commit=head,
            )

    try:
        made = commit()
    except Exception as error:
        # a second pull request would stand beside one that has landed
        if create_pr or not passing(error):
            raise HubError(explain(error, target)) from error
        with explained(target):
            landed = _landed(api, target, head, contents, gone)
            if landed is not None:
                return landed, None
            made = commit()
    return made.oid, made.pr_url


def push_saved(save: Callable[[Path], None], repo_id: str, *, kind: str, **options: Any) -> Pushed:
    """Push what has to be written to a folder first; an impossible name costs no writing.

    Args:
        save (`Callable`): Writes the folder.
        repo_id (`str`): As for `push_folder`.
        kind (`str`): `"model"` or `"tokenizer"`.
        options: Further arguments of `push_folder`.

    Returns and raises what `push_folder` does.
    """
    check_repo_id(repo_id)
    with TemporaryDirectory(prefix="talkplay-") as aside:
        folder = Path(aside) / repo_id.rpartition("/")[2]
        save(folder)
        return push_folder(folder, repo_id, repo_type=REPO_TYPES[kind], own=OWN[kind], **options)


def files_to_push(folder: Path) -> tuple[dict[str, Path], tuple[str, ...]]:
    """The files of a folder by their path in a repo, and what is left out.

    Raises:
        InputError: If there is no such folder, or a file in it cannot be read, is a link out of the
            folder, or has a name that repos do not allow.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder")
    root = folder.resolve()
    found: dict[str, Path] = {}
    left_out: list[str] = []
    for place, folders, names in os.walk(folder):
        here = Path(place)
        for name in sorted(folders):
            path = here / name
            if name.startswith(".") or name.startswith("checkpoint-"):
                folders.remove(name)
                left_out.append(f"{path.relative_to(folder).as_posix()}/")
            elif path.is_symlink():
                raise InputError(f"{path}: is a link to a folder; put a copy in its place")
        for name in sorted(names):
            path = here / name
            inside = path.relative_to(folder).as_posix()
            if name.startswith(".") or name == files.BUILD or path.suffix.lower() in PICKLES:
                left_out.append(inside)
                continue
            if not path.resolve().is_relative_to(root):
                raise InputError(f"{path}: is a link out of the folder; put a copy in its place")
            if not path.is_file() or not os.access(path, os.R_OK):
                raise InputError(f"{path}: is not a file that can be read")
            if not inside.isprintable() or "\\" in inside:
                raise InputError(f"{path}: rename it; repos of the Hub do not allow such names")
            found[inside] = path
    return found, tuple(sorted(left_out))


def _head(api: "HfApi", target: Target, private: bool | None, create_pr: bool) -> str:
    """The commit to build on; repo and branch are made where they do not exist."""
    from huggingface_hub.errors import (
        GatedRepoError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    repo_id, repo_type = target.repo_id, target.repo_type
    try:
        info = look(api, target)
    except RepositoryNotFoundError as error:
        if isinstance(error, GatedRepoError):
            raise
        sdk = "gradio" if repo_type == "space" else None
        retried(
            lambda: api.create_repo(
                repo_id, repo_type=repo_type, private=private, exist_ok=True, space_sdk=sdk
            )
        )
        info = look(api, target)
    if private and not info.private:
        raise HubError(
            f"{target}: exists and is public, and private=True does not change that. Make it "
            f"private at {target.url}/settings, or choose another name"
        )
    if target.revision is not None:
        try:
            info = look(api, target, target.revision)
        except RevisionNotFoundError:
            branch = target.revision
            if create_pr or branch.startswith("refs/"):
                raise
            retried(
                lambda: api.create_branch(
                    repo_id, repo_type=repo_type, branch=branch, exist_ok=True
                )
            )
            info = look(api, target, branch)
    if info.sha is None:
        raise HubError(f"{target}: the Hub does not say which commit it is at; try again")
    return info.sha


def _tree(api: "HfApi", target: Target, commit: str) -> "dict[str, RepoFile]":
    from huggingface_hub.hf_api import RepoFile

    entries = api.list_repo_tree(
        target.repo_id, repo_type=target.repo_type, revision=commit, recursive=True
    )
    return {entry.path: entry for entry in entries if isinstance(entry, RepoFile)}


def _named(
    api: "HfApi", target: Target, commit: str, remote: "Mapping[str, RepoFile]", kind: str | None
) -> set[str]:
    """The files that the manifest of a dataset repo names; none where it has none of ours.

    Raises:
        HubError: If it is the manifest of another kind than is to be pushed.
    """
    if target.repo_type != "dataset" or files.MANIFEST not in remote:
        return set()
    try:
        manifest = json.loads(_text(api, target, commit, files.MANIFEST))
    except (ValueError, RecursionError):
        return set()
    found = manifest.get("kind") if isinstance(manifest, dict) else None
    if kind is None or not isinstance(found, str) or REPO_TYPES.get(found) != "dataset":
        return set()
    if found != kind:
        raise HubError(
            f"{target}: holds {found}, which a push of {kind} would mix up; push to another repo"
        )
    tables = (manifest.get("files"), manifest.get(PACKED))
    return {name for table in tables if isinstance(table, dict) for name in table}


def _edited(api: "HfApi", target: Target, commit: str) -> bool:
    """Whether a person wrote the README.md of a commit, or edited ours."""
    text = _text(api, target, commit, files.CARD)
    return bool(text.strip()) and not is_ours(text)


def _text(api: "HfApi", target: Target, commit: str, name: str) -> str:
    """A text file of a commit."""
    with TemporaryDirectory() as cache:
        path = api.hf_hub_download(
            target.repo_id, name, repo_type=target.repo_type, revision=commit, cache_dir=cache
        )
        return Path(path).read_bytes().decode("utf-8", "replace")


def _is_there(new: Path | bytes, old: "RepoFile | None") -> bool:
    """Whether a file on the Hub is the same, by its size and its hash there."""
    size = len(new) if isinstance(new, bytes) else new.stat().st_size
    if old is None or old.size != size:
        return False
    if old.lfs is None:
        data = new if isinstance(new, bytes) else new.read_bytes()
        return git_hash(data) == old.blob_id
    if isinstance(new, bytes):
        return hashlib.sha256(new).hexdigest() == old.lfs.sha256
    return files.sha256_file(new) == old.lfs.sha256


def git_hash(data: bytes) -> str:
    """The name that git gives to the contents of a file."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


def _landed(
    api: "HfApi",
    target: Target,
    head: str,
    contents: Mapping[str, Path | bytes],
    gone: Collection[str],
) -> str | None:
    """After a commit whose answer was lost: the head, if it is what was to be committed; `None` if
    the branch has not moved.

    Raises:
        HubError: If it has moved to something else.
    """
    info = look(api, target, target.revision)
    if info.sha is None or info.sha == head:
        return None
    remote = _tree(api, target, info.sha)
    whole = all(_is_there(new, remote.get(path)) for path, new in contents.items())
    if whole and not remote.keys() & set(gone):
        return info.sha
    raise HubError(
        f"{target}: the connection broke off while committing, and the branch has moved on. Look "
        f"at {target.url}/commits/{target.revision or 'main'}, then push again"
    )
