"""`push` and `pull`: any folder of this package as a repository on the Hub, and back."""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from talkplay_hf.catalog.import_audio import AUDIO_FOLDER, bring_files
from talkplay_hf.errors import ArtifactError, HubError, InputError
from talkplay_hf.hub import files
from talkplay_hf.hub.cards import card, name_problem
from talkplay_hf.hub.cards.licenses import stated_license
from talkplay_hf.hub.cards.seal import is_ours
from talkplay_hf.hub.faults import check_repo_id
from talkplay_hf.hub.needed import DATASETS, NEEDED, OWN, PAPERS, REPO_TYPES
from talkplay_hf.hub.packed import PACKED
from talkplay_hf.hub.pull import fetch, kind_of, pull_folder
from talkplay_hf.hub.push import Pushed, push_folder
from talkplay_hf.hub.verify import manifest_files


@dataclass(frozen=True)
class PushedFolder(Pushed):
    """What a push of a folder did.

    Args:
        kind (`str`): What was pushed: `"model"`, `"tokenizer"`, `"catalog"`, `"conversations"` or
            `"features"`.
        warnings (`tuple[str, ...]`): What the one who pushed should know, such as a rule of the
            base model's licence about names.
    """

    kind: str = ""
    warnings: tuple[str, ...] = ()


def push(
    folder: str | Path,
    repo_id: str,
    *,
    private: bool | None = None,
    token: str | bool | None = None,
    revision: str | None = None,
    create_pr: bool = False,
    commit_message: str | None = None,
    license: str | None = None,
    title: str | None = None,
    audio: bool = False,
    overwrite_card: bool = False,
) -> PushedFolder:
    """Push a folder to the Hub in one commit, with a card.

    Models and tokenizers become model repos; catalogs, conversations and features dataset repos
    that `datasets.load_dataset` reads.

    Args:
        folder (`str` or `Path`): The folder.
        repo_id (`str`): The repo, such as `"me/my-recommender"`; made where there is none.
        private (`bool`, *optional*): Whether a new repo is private.
        token (`str` or `bool`, *optional*): A token of the Hub; the one of `hf auth login` when
            left out.
        revision (`str`, *optional*): The branch, made where there is none; `main` when left out.
        create_pr (`bool`): Open a pull request instead.
        commit_message (`str`, *optional*): The first line of the commit.
        license (`str`, *optional*): The licence for the card, such as `"cc-by-4.0"`.
        title (`str`, *optional*): The title of the card; the name of the repo when left out.
        audio (`bool`): Of a catalog: push its clips too, as a table with an `Audio` column. Without
            it the repo has no clips, also where an earlier push brought some.
        overwrite_card (`bool`): Replace a `README.md` on the Hub that a person edited.

    Returns:
        `PushedFolder`: The addresses, and whether the card on the Hub was kept.

    Raises:
        InputError: If the folder is none of ours, or an option does not belong to its kind.
        ArtifactError: If a file of the folder is damaged.
        HubError: If the Hub refuses, is out of reach, somebody else committed meanwhile, or the
            repo is a dataset of another kind. No branch has changed then.
    """
    folder = Path(folder)
    check_repo_id(repo_id)
    kind = files.folder_kind(folder) if folder.is_dir() else None
    if kind not in REPO_TYPES:
        raise InputError(
            f"{folder}: is no model, tokenizer, catalog, conversations or features folder"
        )
    if audio and kind != "catalog":
        raise InputError(f"{folder}: is a {kind} folder; only a catalog has audio to push")
    for name in sorted({files.CARD, *manifest_files(folder)}):
        path = folder / name
        if name != files.CARD and not path.is_file():
            raise ArtifactError(f"{folder}: has no {name}, which {files.MANIFEST} names")
        # what is staged is copied, so that push_folder sees no links
        if not path.resolve().is_relative_to(folder.resolve()):
            raise InputError(f"{path}: is a link out of the folder; put a copy in its place")
    with tempfile.TemporaryDirectory(prefix="talkplay-") as aside:
        staged = _staged(folder, kind, Path(aside) / folder.resolve().name, audio)
        license = license or _license_there(repo_id, REPO_TYPES[kind], revision, token)
        pushed = push_folder(
            staged,
            repo_id,
            repo_type=REPO_TYPES[kind],
            private=private,
            token=token,
            revision=revision,
            create_pr=create_pr,
            message=commit_message,
            card=_card(staged, repo_id, license, title),
            overwrite_card=overwrite_card,
            own=OWN.get(kind, ()),
        )
    left_out = () if pushed.left_out == () else (f"left out: {', '.join(pushed.left_out)}",)
    warnings = (*left_out, *_warnings(folder, kind, repo_id))
    return PushedFolder(**vars(pushed), kind=kind, warnings=warnings)


def pull(
    repo: str,
    out: str | Path,
    *,
    revision: str | None = None,
    token: str | bool | None = None,
    cache_dir: str | Path | None = None,
    local_files_only: bool = False,
    audio: bool = False,
    weights: bool = True,
) -> Path:
    """Fetch a repo of the Hub into a folder.

    Only what is needed comes, all of one commit, and its hashes are checked. What the cache of the
    Hub's client holds is not sent again, and a download that broke off goes on where it was.

    Args:
        repo (`str`): The repo, such as `"me/my-recommender"`. Where a model and a dataset have the
            same name, this is the model, and `"datasets/me/my-recommender"` the dataset.
        out (`str` or `Path`): The folder to make. An older one of the same kind is replaced,
            unless it holds a folder (clips, checkpoints) that the repo does not bring. It is seen
            only once it is complete.
        revision (`str`, *optional*): Branch, tag, commit or `refs/pr/N`.
        token (`str` or `bool`, *optional*): For private and gated repos.
        cache_dir (`str` or `Path`, *optional*): Another cache than that of the Hub's client.
        local_files_only (`bool`): Use the cache alone.
        audio (`bool`): Of a catalog: its clips too, from a table or as files.
        weights (`bool`): Of a model: its weights. Without them it is a tokenizer folder.

    Returns:
        `Path`: `out`.

    Raises:
        InputError: If an option does not belong to the kind of the repo.
        ArtifactError: If `out` holds something else, or the repo is damaged.
        HubError: If the repo cannot be had.
    """
    repo_id = repo.removeprefix(DATASETS)
    how: dict[str, Any] = {
        "revision": revision,
        "token": token,
        "cache_dir": cache_dir,
        "local_files_only": local_files_only,
    }
    kind = kind_of(repo_id, dataset=repo != repo_id, **how)
    if audio and kind != "catalog":
        raise InputError(f"{repo}: holds a {kind}; only a catalog has audio to pull")
    if not weights and kind not in ("model", "tokenizer"):
        raise InputError(f"{repo}: holds a {kind}, which has no weights to leave out")
    files.check_target(out, "tokenizer" if not weights else kind)
    if kind == "features" or audio:
        allow = NEEDED[kind]
        found = fetch(repo_id, repo_type="dataset", allow=allow, **how)
        if kind == "catalog" and PACKED not in files.read_json(found / files.MANIFEST):
            if not (found / AUDIO_FOLDER).is_dir():
                raise InputError(f"{repo}: has no audio; pull it without")
            return pull_folder(repo_id, out, kind=kind, **how)
        try:
            _unpack(kind)(found, out)
        except ArtifactError as error:
            raise HubError(f"{repo}: {error}") from error
        return Path(out)
    if kind == "catalog":
        tables = ("tracks*.parquet", "playlists*.parquet", files.REJECTS, files.MANIFEST)
        return pull_folder(repo_id, out, kind=kind, allow=(*tables, *PAPERS), **how)
    if kind == "model" and weights:
        # what its card is written from, when the copy is pushed again
        papers = (files.TRAINING_REPORT, files.PICTURES)
        return pull_folder(repo_id, out, kind=kind, allow=(*NEEDED[kind], *papers), **how)
    return pull_folder(repo_id, out, kind="tokenizer" if not weights else kind, **how)


def _staged(folder: Path, kind: str, aside: Path, audio: bool) -> Path:
    """The folder as it is to lie in the repo."""
    if kind == "features":
        from talkplay_hf.features.repo import pack_features

        pack_features(folder, aside)
        return aside
    if audio:
        from talkplay_hf.catalog.audio_repo import pack_audio

        pack_audio(folder, aside)
        return aside
    if kind == "catalog":
        # not its clips, of which there can be as many as tracks
        named = {*manifest_files(folder), files.MANIFEST, files.CARD}
        found = {name: folder / name for name in named if (folder / name).is_file()}
        aside.mkdir()
        bring_files(found, aside, link=True)
        return aside
    return folder


def _unpack(kind: str) -> Callable[[Path, str | Path], Any]:
    if kind == "features":
        from talkplay_hf.features.repo import unpack_features

        return unpack_features
    from talkplay_hf.catalog.audio_repo import unpack_audio

    return unpack_audio


def _card(folder: Path, repo_id: str, license: str | None, title: str | None) -> str:
    """The card for the repo; one that a person wrote stays as it is."""
    try:
        text = (folder / files.CARD).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        text = ""
    if text.strip() and not is_ours(text):
        return text
    return card(folder, repo_id=repo_id, license=license, title=title)


def _license_there(
    repo_id: str, repo_type: str, revision: str | None, token: str | bool | None
) -> str | None:
    """The licence that our card on the Hub states, so that it need not be given at every push."""
    from huggingface_hub import RepoCard

    try:
        there = fetch(
            repo_id, repo_type=repo_type, allow=(files.CARD,), revision=revision, token=token
        )
        text = (there / files.CARD).read_text(encoding="utf-8")
        front: Any = RepoCard(text).data
        return stated_license(front.to_dict()) if is_ours(text) else None
    except (HubError, OSError, ValueError):
        return None


def _warnings(folder: Path, kind: str, repo_id: str) -> tuple[str, ...]:
    if kind != "model":
        return ()
    base = str(files.read_json(folder / files.TALKPLAY_CONFIG).get("base", ""))
    problem = name_problem(base, repo_id)
    return () if problem is None else (problem,)
